"""What datasets share: the base class, loading, files and photographs, lists of names, frames of videos, cameras."""
