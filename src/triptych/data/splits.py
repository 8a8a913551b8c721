"""Names of the splits of a dataset."""

ALL = "all"
"""The split that holds every image."""
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst"),
}
"""Names of the folders and lists of each split."""
SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
