"""The verbs `triptych data init`, `show` and `doctor`. Nothing heavy is imported before one of them runs."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional


def data_init(folder: Positional[Path], force: bool = False) -> None:
    """Describe a folder of your own data: write its dataset.toml from what it finds, with the reason for each guess.

    Args:
        folder: Folder that holds images and labels in sub-folders.
        force: Write a new one where there is one; the old one becomes dataset.toml.old.
    """
    from triptych.datasets.guessing import init_folder

    path, doubts = init_folder(folder, force=force)
    print(f"wrote {path}")
    for doubt in doubts:
        print(f"  check {doubt}")
    print(f"next: triptych data doctor {folder}")


def data_show(
    dataset: Positional[str],
    out: Path = Path("contact_sheet.png"),
    split: str = "train",
    count: int = 6,
    width: int = 240,
    root: str = "",
    overwrite: bool = False,
) -> None:
    """Look at a dataset: a picture of some images beside all their labels, with legends.

    Args:
        dataset: Folder with a dataset.toml, such a file, or the name of a dataset.
        out: Picture to write.
        split: Split to show; `all` shows every image of a folder.
        count: Number of images, spread evenly over the split.
        width: Width of one map in pixels.
        root: Folder of the files, instead of the one that the dataset.toml names, or of a named dataset.
        overwrite: Replace the picture if it exists.
    """
    from triptych.dataset_sheet import draw_dataset
    from triptych.datasets import DATASETS
    from triptych.datasets.folder import Folder
    from triptych.types import named_choice

    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists and is not overwritten; pass --overwrite or another --out.")
    if dataset.endswith(".toml") or Path(dataset).is_dir():
        found: Any = Folder(dataset, split=split, root=root)
    else:
        others = {name: build for name, build in DATASETS.items() if name != "folder"}
        found = named_choice("dataset, and no folder,", dataset, others)(root, split=split)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_dataset(found, count=count, width=width).save(out)
    print(f"{found.name}, split {split}: {min(count, len(found))} of {len(found)} images in {out}")


def data_doctor(
    folder: Positional[Path],
    root: str = "",
    fast: bool = False,
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    examples: int = 5,
    threads: int = 0,
) -> None:
    """Check your own data: read every file, and say what is wrong, where, and how to mend it.

    The exit code is 0 where the data can be trained on, 1 where an error has to be mended first.

    Args:
        folder: Folder with a dataset.toml, or such a file.
        root: Folder of the files, instead of the one that the dataset.toml names.
        fast: Read 50 samples of each split instead of all.
        json: Also write the report as JSON.
        examples: How many files to name per kind of finding; the JSON names all.
        threads: How many files are read at once; 0 takes one per core.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from triptych.datasets.doctor import describe, examine

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        bars: dict[str, TaskID] = {}

        def show(split: str, done: int, total: int) -> None:
            if split not in bars:
                bars[split] = bar.add_task(split, total=total)
            bar.update(bars[split], completed=done)

        report = examine(folder, root=root, limit=50 if fast else 0, num_threads=threads, progress=show)
    if json is not None:
        json.write_text(report.to_json(), encoding="utf-8")
    print(describe(report, examples=examples))
    if report.num_errors:
        raise SystemExit(1)


DATA_VERBS = {"init": data_init, "show": data_show, "doctor": data_doctor}
"""The verbs of `triptych data`."""
