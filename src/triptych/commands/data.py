"""The verbs `triptych data init`, `show`, `doctor`, `prepare` and `label`.

Nothing heavy is imported before one of them runs.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from triptych.commands.verbs import Device, Group, Verb
from triptych.recipes.option_words import read_options


def data_init(folder: Positional[Path], force: bool = False) -> None:
    """Describe a folder of your own data: write its dataset.toml from what it finds, with the reason for each guess.

    Args:
        folder: Folder that holds images and labels in sub-folders.
        force: Write a new one where there is one; the old one becomes dataset.toml.old.
    """
    from triptych.folders.writing import write_descriptor
    from triptych.lookup import one_line
    from triptych.terminal import as_word

    path, guess = write_descriptor(folder, force=force)
    print(f"wrote {path}")
    for line in guess.evidence:
        print(one_line(f"  {line}"))
    for reason in guess.left_out:
        print(one_line(f"  left out: {reason}"))
    for doubt in guess.checks:
        print(one_line(f"  CHECK: {doubt}"))
    print(f"next: triptych data doctor {as_word(folder)}")
    print(
        f"then: triptych train folder --recipe.data.root {as_word(folder)} --recipe.model.backbone dinov2_small "
        "--recipe.model.weights timm --recipe.model.freeze backbone --out runs/mine (heads on a frozen trunk, a cheap "
        "start with few labels; the licence of its weights is Apache-2.0)"
    )


def data_show(
    dataset: Positional[str],
    out: Path = Path("contact_sheet.png"),
    split: str = "train",
    count: int = 6,
    width: int = 240,
    root: str = "",
    options: tuple[str, ...] = (),
    overlay: bool = False,
    keys: tuple[str, ...] = (),
    least_confident: str = "",
    overwrite: bool = False,
) -> None:
    """Look at a dataset: a picture of some images beside all their labels, with legends.

    Args:
        dataset: Name of a dataset, the folder of one, or a dataset.toml.
        out: Picture to write.
        split: Split to show; `all` shows every image of a folder.
        count: Number of images, spread evenly over the split.
        width: Width of one map in pixels.
        root: Folder of the files, instead of the one that the dataset.toml names, or of a named dataset.
        options: Keyword arguments of a published dataset, such as classes=13, as in training (data.options).
        overlay: Draw the labels over the images: edges that do not meet are seen at once.
        keys: Images to show, by their names without suffix, instead of some that are spread evenly.
        least_confident: Task: show the images of whose pseudo-labels the teacher was least sure.
        overwrite: Replace the picture if it exists.
    """
    from triptych.doctor.sheet import draw_dataset

    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists and is not overwritten; pass --overwrite or another --out.")
    found = _open_dataset(dataset, root, split, **read_options(options))
    if least_confident:
        keys = (*keys, *_least_confident(found, least_confident, max(1, count)))
    sheet = draw_dataset(found, keys=keys, count=count, width=width, overlay=overlay)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    print(f"{found.name}, split {split}: {len(keys) or min(count, len(found))} of {len(found)} images in {out}")


def _least_confident(dataset: Any, task: str, count: int) -> list[str]:
    """Keys of the images whose pseudo-labels have the lowest confidence of the teacher."""
    from triptych.datasets.folder import Folder
    from triptych.lookup import named_choice
    from triptych.prediction.pseudo_labels import rank_confidence

    named_choice("task of this dataset", task, dict(dataset.tasks))
    ranked = rank_confidence(dataset, task) if isinstance(dataset, Folder) and task in dataset.pseudo else []
    if not ranked:
        raise ValueError(
            f"{dataset.name} has no pseudo-labels of {task} whose confidence is known in split {dataset.split}; "
            "`triptych data label --min-confidence` notes it."
        )
    return [key for key, _, _ in ranked[:count]]


def data_doctor(
    folder: Positional[Path],
    dataset: str = "",
    root: str = "",
    options: tuple[str, ...] = (),
    fast: bool = False,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
    examples: int = 5,
    threads: int = 0,
    class_weights: bool = False,
    fix: bool = False,
    yes: bool = False,
) -> None:
    """Check a dataset: read every file, and say what is wrong, where, and how to fix it.

    Published datasets are recognized, and their variant with its pitfalls is named. The exit code is 0 where the data
    can be trained on, 1 where an error has to be fixed first.

    Args:
        folder: Folder of a published dataset, of your own data with a dataset.toml, or such a file.
        dataset: Name of the dataset, where it is not recognized.
        root: Folder of the files, instead of the one that the dataset.toml names.
        options: Keyword arguments of a published dataset, such as classes=13, as in training (data.options).
        fast: Read 50 samples of each split instead of all.
        json_file: Also write the report as JSON.
        examples: How many files to name per kind of finding; the JSON names all.
        threads: How many files are read at once; 0 takes one per core.
        class_weights: Also print weights of classes by median frequency, of the split train.
        fix: Change the dataset.toml where that resolves findings and touches no label: the difference is shown, and
            written once you say so; the old file is kept.
        yes: Write it without asking.
    """
    from triptych.doctor.examine import examine
    from triptych.doctor.report import Report, describe, describe_weights
    from triptych.files import check_target, write_named

    def look() -> Report:
        with _progress_bars() as show:
            limit = 50 if fast else 0
            return examine(
                folder,
                dataset=dataset,
                root=root,
                options=read_options(options),
                limit=limit,
                num_threads=threads,
                progress=show,
            )

    if json_file is not None:
        check_target(json_file, "give --json another file")
    report = look()
    if fix and _mend(folder, report, root, ask=not yes):
        report = look()  # the folder is examined again to see what was fixed
    try:
        if json_file is not None:
            write_named(json_file, report.to_json())
    finally:  # shown even where the file cannot be written
        print(describe(report, examples=examples))
        if class_weights:
            print(describe_weights(report))
    if report.num_errors:
        raise SystemExit(1)


def _mend(folder: Path, report: Any, root: str, *, ask: bool) -> bool:
    """Show the change of `--fix` and write it if confirmed; returns whether it was written."""
    from triptych.doctor.mend import plan_mending
    from triptych.lookup import one_line, printable

    plan = plan_mending(folder, report.findings, root=root)
    for reason in plan.left:
        print(one_line(f"not fixed: {reason}"))
    if not plan.difference:
        print("nothing in the descriptor to fix")
        return False
    print(printable(plan.difference.replace("\r\n", "\n")))
    if ask and not sys.stdin.isatty():
        print("not written: --yes writes it")
        return False
    if ask and input(f"write {plan.path}? [y/N] ").strip().lower() not in ("y", "yes"):
        return False
    kept = plan.write()
    print(f"wrote {plan.path}" + (f", the old one is {kept}" if kept else ""))
    return True


def data_prepare(
    dataset: Positional[str],
    out: Path,
    root: str = "",
    tasks: tuple[str, ...] = (),
    split: tuple[str, ...] = ("train",),
    options: tuple[str, ...] = (),
    overwrite: bool = False,
    threads: int = 0,
) -> None:
    """Write a dataset in a form that is read many times faster: labels decoded and derived once, with checksums.

    Train on it with `--recipe.data.dataset prepared --recipe.data.root OUT`. The same command again resumes an
    interrupted preparation, verifies what exists, and repairs what is damaged.

    Args:
        dataset: Name of a dataset, or the folder of one.
        out: Folder to write to, one sub-folder per split.
        root: Folder of the dataset's files.
        tasks: Tasks to write, in this order; all of them if left out.
        split: Splits to write.
        options: Keyword arguments of a named dataset, such as classes=13.
        overwrite: Prepare anew what is there: another dataset, other tasks, files that changed since, or what an
            older version wrote.
        threads: How many files are written at once; 0 takes one per core.
    """
    from triptych.prepared.write import prepare
    from triptych.terminal import as_word, say

    for name in split:
        source = _open_dataset(dataset, root, name, **read_options(options), **({"tasks": tasks} if tasks else {}))
        with _progress_bars() as show:
            done = prepare(
                source,
                out,
                split=name,
                tasks=tasks,
                overwrite=overwrite,
                num_threads=threads,
                progress=partial(show, name),
            )
        kept = f", {done.kept} of them were there" if done.kept else ""
        say(f"{done.folder}: {done.records} records{kept}, {done.size / 1e6:.1f} MB")
    print(f"train with: --recipe.data.dataset prepared --recipe.data.root {as_word(out)}")


def data_label(
    folder: Positional[Path],
    teacher: str,
    tasks: tuple[str, ...],
    min_confidence: float | None = None,
    class_map: tuple[str, ...] = (),
    events_from: tuple[str, ...] = (),
    split: str = "train",
    root: str = "",
    shorter_side: int | None = None,
    overwrite: bool = False,
    device: Device = "auto",
) -> None:
    """Let a trained network label the images of a folder that have no label: pseudo-labels, to train on.

    They lie in FOLDER/pseudo and are noted in dataset.toml with teacher, hash and date. A real label always takes
    precedence, and scores never use them as ground truth. The same command again resumes where it was interrupted.

    Args:
        folder: Folder of your own data with a dataset.toml, or such a file.
        teacher: Run folder, a file of `triptych export`, or hf:NAME, a model of transformers for semantic segmentation
            or depth in metres (hf:FOLDER: one that lies here).
        tasks: Tasks to label; the network has to predict them.
        min_confidence: Pixels of less confidence, 0 to 1, get no label; takes six more passes. 0 labels all, and says
            which images the network is least sure of.
        class_map: Classes of the teacher that have another name in the folder, as couch=sofa, or none, as couch=.
        events_from: Probability from which on a pixel is a boundary or a salient thing, as boundary=0.9; by default
            as many pixels of the labelled images reach it as their labels have.
        split: Split to label; `all` labels every image, and takes the labelled ones from validation and test.
        root: Folder of the files, instead of the one that the dataset.toml names; pseudo-labels lie in its pseudo/.
        shorter_side: Height or width, whichever is less, that the network works at; by default the images' own.
        overwrite: Begin anew where there are pseudo-labels of another teacher, or made with other options; those of all
            splits are moved aside (FOLDER/pseudo/TASK.old), and so is the old dataset.toml.
        device: Where to run.
    """
    from triptych.lookup import one_line
    from triptych.prediction.labelling import label_folder

    wrong = [word for word in class_map if "=" not in word]
    if wrong:
        raise ValueError(f"class_map has '{wrong[0]}'; write TEACHER=OWN, such as couch=sofa, or couch= for no label.")
    classes = {old: new for old, _, new in (word.partition("=") for word in class_map)}
    result = label_folder(
        folder,
        teacher,
        tasks,
        split=split,
        root=root,
        min_confidence=min_confidence,
        class_map=classes,
        events_from=read_options(events_from, tables_allowed=False),
        shorter_side=shorter_side,
        overwrite=overwrite,
        device=device,
    )
    for note in result.notes:
        print(one_line(f"CHECK: {note}"))
    for path in result.replaced:
        print(one_line(f"what was replaced is kept: {path}"))
    for name in tasks:
        print(
            f"{name}: {result.written[name]} images pseudo-labelled, {result.kept[name]} were before, "
            f"{result.real[name]} have a label of their own"
            + (f"; events from a probability of {result.events_from[name]:g} on" if name in result.events_from else "")
        )
        for path, confidence in result.least_confident.get(name, []):
            print(one_line(f"  least sure: {path} ({confidence:.2f})"))


def _open_dataset(dataset: str, root: str, split: str, **options: Any) -> Any:
    """Open a dataset by name, or the one in a folder: a published or prepared one, or the user's own."""
    from triptych.datasets import open_configured
    from triptych.datasets.recognizing import locate_dataset

    name, place, files = locate_dataset(dataset, root)
    return open_configured(name, place, split, files | options)


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function `show(name, done, total)` that draws one progress bar per name, on a terminal only."""
    from triptych.terminal import progress_bar

    bars: dict[str, Any] = {}
    with progress_bar() as progress:

        def show(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done)

        yield show


DATA = Group(
    "init, show, doctor, prepare, label: describe, look at, check, prepare and pseudo-label datasets",
    {
        "init": Verb(data_init),
        "show": Verb(data_show),
        "doctor": Verb(data_doctor),
        "prepare": Verb(data_prepare),
        "label": Verb(data_label),
    },
)
