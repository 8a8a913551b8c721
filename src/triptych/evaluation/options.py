"""Options of scoring saved maps, of the function and of the command line: light enough to show help at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ScoreOptions:
    """Options of `triptych score` besides the two folders.

    Args:
        protocol: Line of papers whose definitions count, or a boundary protocol (docs/protocols.md).
        task: Tasks to score; all that have a sub-folder by default.
        dataset: nyuv2, pascal-context or bsds500: sets maxDist, the recipe of boundary ground truth and the classes.
        split: Split of a dataset with a dataset.toml; test by default.
        classes: Number of classes of semseg.
        max_dist: Matching radius of boundaries as a fraction of the image diagonal.
        ground_truth: How boundary ground truth is prepared: as stored, thinned, or the outline of a map of labels.
        depth_scale: Metres per unit of integer depth files; 0.001 for 16 bit by default.
        prediction_depth_scale: Metres per unit of the predictions' depth files, floats too, where it is another one
            than that of the ground truth. Refused where the two are far apart, unless both scales are given.
        label_offset: Added to stored class ids of the ground truth, of semseg and human_parts alike: -1 where 0 means
            unlabelled. Where the tasks differ, score them one by one (--task).
        prediction_offset: Added to stored class ids of the predictions, likewise.
        normals_axes: Where components of the ground truth's normals point, such as right forward up; without it right
            down forward, what triptych predicts, and refused where others agree far better with the predictions.
        prediction_normals_axes: The same of the predictions.
        key: Entry of .npz and .mat files that have several.
        partial: Score what is there although predictions are missing.
        ci: Bootstrap resamples of the images for 95 % intervals; 0 computes none.
        group: Images that resamples keep together, as they are alike: those of one folder, or of one of the blocks of
            time that its frames are divided into. By default what a dataset.toml says, else none (file).
        out: JSON to write, with the values of every image; metric sums per image go beside it.
        overwrite: Replace existing files.
        threads: Threads; one per processor by default.
    """

    protocol: Literal[
        "survey", "atrc", "invpt", "densemtl", "densemtl-video", "bsds", "seism", "seism-nonms", "pixel-f1"
    ]
    task: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""
    classes: int = 0
    max_dist: float | None = None
    ground_truth: Literal["stored", "thin", "outline"] | None = None
    depth_scale: float = 0.0
    prediction_depth_scale: float = 0.0
    label_offset: int = 0
    prediction_offset: int = 0
    normals_axes: tuple[str, str, str] | None = None
    prediction_normals_axes: tuple[str, str, str] | None = None
    key: str = ""
    partial: bool = False
    ci: int = 0
    group: Literal["file", "folder", "time"] | None = None
    out: Path | None = None
    overwrite: bool = False
    threads: int = 0
