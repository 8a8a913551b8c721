"""The verb `score`, light enough to show its help at once."""

from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from triptych.evaluation.options import ScoreOptions


def score(
    predictions: Positional[Path],
    targets: Positional[Path],
    options: OmitArgPrefixes[ScoreOptions],
    html: Path | None = None,
) -> None:
    """Score maps that any code base saved, under the protocol of the table they are compared with.

    Args:
        predictions: Folder with one sub-folder of maps per task, or with the maps of the one --task.
        targets: Folder of the ground truth, laid out likewise, or a dataset with a dataset.toml.
        options: What is scored, by which rules, and what is written.
        html: Page to write, with curves and the worst images.
    """
    from triptych.evaluation.offline import require_new
    from triptych.evaluation.offline import score as run

    require_new(html, options.overwrite)
    result = run(predictions, targets, **vars(options))
    if html is not None:
        from triptych.report.scores import write_page

        write_page(result, html)
