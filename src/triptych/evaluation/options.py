"""Options of scoring saved maps, of the function and of the command line: light enough to show help at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ScoreOptions:
    """What `triptych score` can be told beside the two folders."""

    protocol: Literal[
        "survey", "atrc", "invpt", "densemtl", "densemtl-video", "bsds", "seism", "seism-nonms", "pixel-f1"
    ]
    """Line of papers whose definitions count, or a boundary protocol (docs/protocols.md)."""
    task: tuple[str, ...] = ()
    """Tasks to score; all that have a sub-folder by default."""
    dataset: str = ""
    """nyuv2, pascal-context or bsds500: sets maxDist, the recipe of boundary ground truth and the number of classes."""
    split: str = "test"
    """Split of a dataset with a dataset.toml."""
    classes: int = 0
    """Number of classes of semseg."""
    max_dist: float | None = None
    """Matching radius of boundaries as a fraction of the image diagonal."""
    ground_truth: Literal["stored", "thin", "outline"] | None = None
    """How boundary ground truth is prepared: as stored, thinned, or the outline of a map of labels."""
    depth_scale: float = 0.0
    """Metres per unit of integer depth files; 0.001 for 16 bit by default."""
    label_offset: int = 0
    """Added to stored class ids of the ground truth: -1 where 0 means unlabelled."""
    prediction_offset: int = 0
    """Added to stored class ids of the predictions."""
    key: str = ""
    """Entry of .npz and .mat files that have several."""
    partial: bool = False
    """Score what is there although predictions are missing."""
    ci: int = 0
    """Bootstrap resamples of the images for 95 % intervals; 0 computes none."""
    out: Path | None = None
    """JSON to write, with the values of every image; metric sums per image go beside it."""
    overwrite: bool = False
    """Replace existing files."""
    threads: int = 0
    """Threads; one per processor by default."""
