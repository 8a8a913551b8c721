"""What splits of a dataset are called."""

ALL = "all"
"""The split that holds every image."""
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
"""What folders and lists of each split are called."""
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
