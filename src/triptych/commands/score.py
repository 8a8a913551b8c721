"""The verb `triptych score`, light enough to show its help at once."""

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from triptych.commands.verbs import Device, Verb, parse
from triptych.evaluation.options import ScoreOptions

TEMPORAL = "--temporal"


class ScoreVerb(Verb):
    """`score`, or with `--temporal` the function `temporal`, which has its own options."""

    def run(self, words: Sequence[str], name: str) -> None:
        """Run `score`, or `temporal` where the words contain `--temporal`."""
        if TEMPORAL in words:
            parse(temporal, [word for word in words if word != TEMPORAL], f"{name} {TEMPORAL}")
        else:
            super().run(words, name)


def score(
    predictions: Positional[Path],
    targets: Positional[Path],
    options: OmitArgPrefixes[ScoreOptions],
    html: Path | None = None,
) -> None:
    """Score maps that any code base saved, under the protocol of the table they are compared with.

    `triptych score --temporal --help`: how well the maps of neighboring frames agree instead.

    Args:
        predictions: Folder with one sub-folder of maps per task, or with the maps of the one --task.
        targets: Folder of the ground truth, laid out likewise, or a dataset with a dataset.toml.
        options: What is scored, by which rules, and what is written.
        html: Page to write, with curves and the worst images.
    """
    from triptych.evaluation.offline import score as run
    from triptych.files import require_new

    require_new(html, options.overwrite)
    result = run(predictions, targets, **vars(options))
    if html is not None:
        from triptych.report.scores import write_page

        write_page(result, html)


def temporal(
    predictions: Positional[Path],
    frames: Positional[Path | None] = None,
    task: tuple[str, ...] = (),
    classes: int = 0,
    depth_scale: float = 0.0,
    key: str = "",
    root: str = "",
    split: str = "",
    limit: int = 0,
    out: Path | None = None,
    overwrite: bool = False,
    device: Device = "auto",
) -> None:
    """Score how well the maps of neighboring frames agree, by known motion or by optical flow; no labels are needed.

    Args:
        predictions: Run folder, exported file, or folder of maps by task.
        frames: Folder of the frames; may be left out for a run, whose own dataset is taken then.
        task: Tasks to score; all by default.
        classes: Number of classes of semseg in saved maps.
        depth_scale: Metres per unit of integer depth files; 0.001 for 16 bit by default.
        key: Entry of .npz and .mat files that have several.
        root: Folder of a run's dataset, where it moved since training.
        split: Split of a run's dataset; its test split by default.
        limit: On how many frames of a run's dataset; 0 takes all.
        out: JSON to write.
        overwrite: Replace an existing file.
        device: Where to run.
    """
    from triptych.evaluation.temporal import score_temporal

    score_temporal(
        predictions,
        frames,
        task=task,
        classes=classes,
        depth_scale=depth_scale,
        key=key,
        root=root,
        split=split,
        limit=limit,
        out=out,
        overwrite=overwrite,
        device=device,
    )
