"""The shuffled split of the published SYNTHIA and Virtual KITTI 2 loaders: for comparison with their numbers only."""

import random
import warnings
from collections.abc import Sequence

from triptych.datasets.splits import ALL

PAPER_CODE = "paper-code"
SEED = 42


def take_paper_code(keys: Sequence[str], split: str, *, name: str) -> list[str]:
    """Keys of `split` ("train", "val" or "all") as DenseMTL's loaders take them, with a warning.

    The sorted files are shuffled with seed 42 and the first 80 % taken for training, then shuffled anew from the
    running random state and the last 20 % taken for validation: four of five validation images are training images
    (348 of 426 for Virtual KITTI 2, 1506 of 1880 for SYNTHIA). Their loaders list files in the order of the file
    system, so the images are not exactly theirs, but as many.
    """
    generator = random.Random(SEED)
    shuffled = sorted(keys)
    generator.shuffle(shuffled)
    training = shuffled[: int(0.8 * len(keys))]
    shuffled = sorted(keys)
    generator.shuffle(shuffled)
    validation = shuffled[int(0.8 * len(keys)) :]
    leaked = len(set(training) & set(validation))
    warnings.warn(
        f"split '{PAPER_CODE}' of {name} leaks: {leaked} of its {len(validation)} validation images are training "
        "images; use it only to compare with numbers that were published with it.",
        stacklevel=3,
    )
    return sorted({"train": training, "val": validation, ALL: list(keys)}[split])
