"""The verb `score`, light enough to show its help at once."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

Protocol = Literal[
    "survey", "atrc", "invpt", "densemtl", "densemtl-video", "bsds", "seism", "seism-nonms", "pixel-f1"
]  # the keys of scoring.rules.RULES, which takes seconds to import


def score(
    predictions: Positional[Path],
    targets: Positional[Path],
    protocol: Literal[
        "survey", "atrc", "invpt", "densemtl", "densemtl-video", "bsds", "seism", "seism-nonms", "pixel-f1"
    ],
    task: tuple[str, ...] = (),
    dataset: Literal["", "nyuv2", "pascal-context", "bsds500"] = "",
    split: str = "test",
    classes: int = 0,
    max_dist: float | None = None,
    ground_truth: Literal["stored", "thin", "outline"] | None = None,
    depth_scale: float = 0.0,
    label_offset: int = 0,
    prediction_offset: int = 0,
    key: str = "",
    partial: bool = False,
    ci: int = 0,
    out: Path | None = None,
    html: Path | None = None,
    overwrite: bool = False,
    threads: int = 0,
) -> None:
    """Score maps that any code base saved, under the protocol of the table they are compared with.

    Args:
        predictions: Folder with one sub-folder of maps per task, or with the maps of the one --task.
        targets: Folder of the ground truth, laid out likewise, or a dataset with a dataset.toml.
        protocol: Line of papers whose definitions count, or a boundary protocol (docs/protocols.md).
        task: Tasks to score; all that have a sub-folder by default.
        dataset: Sets maxDist, the recipe of boundary ground truth and the number of classes.
        split: Split of a dataset with a dataset.toml.
        classes: Number of classes of semseg.
        max_dist: Matching radius of boundaries as a fraction of the image diagonal.
        ground_truth: How boundary ground truth is prepared: as stored, thinned, or the outline of a map of labels.
        depth_scale: Metres per unit of integer depth files; 0.001 for 16 bit by default.
        label_offset: Added to stored class ids of the ground truth: -1 where 0 means unlabelled.
        prediction_offset: Added to stored class ids of the predictions.
        key: Entry of .npz and .mat files that have several.
        partial: Score what is there although predictions are missing.
        ci: Bootstrap resamples of the images for 95 % intervals; 0 computes none.
        out: JSON to write, with the values of every image; metric sums per image go beside it.
        html: Page to write, with curves and the worst images.
        overwrite: Replace existing files.
        threads: Threads; one per processor by default.
    """
    from triptych.evaluation.offline import require_new
    from triptych.evaluation.offline import score as run

    require_new(html, overwrite)
    result = run(
        predictions,
        targets,
        protocol=protocol,
        task=task,
        dataset=dataset,
        split=split,
        classes=classes,
        max_dist=max_dist,
        ground_truth=ground_truth,
        depth_scale=depth_scale,
        label_offset=label_offset,
        prediction_offset=prediction_offset,
        key=key,
        partial=partial,
        ci=ci,
        out=out,
        overwrite=overwrite,
        threads=threads,
    )
    if html is not None:
        from triptych.report.scores import write_page

        write_page(result, html)
