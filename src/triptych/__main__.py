"""The command line: a dict from verb to function.

A verb is a typed function whose docstring is its help; tyro makes the options from the signature. Nothing heavy is
imported before a verb runs.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from triptych.choices import named_choice
from triptych.data import DATA_VERBS
from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe, from_json
from triptych.scoring.command import score

Device = Literal["auto", "cpu", "cuda", "mps"]


def demo(out: Path = Path("runs/demo"), overwrite: bool = False, device: Device = "auto") -> None:
    """Generate rooms, train a small network on six tasks, score it, predict, and write a page to look at: minutes on
    a CPU.

    Args:
        out: Run folder to create.
        overwrite: Replace the run folder if it exists.
        device: Where to run.
    """
    from triptych.demo import run_demo

    run_demo(out, overwrite=overwrite, device=device)


def train(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    device: Device = "auto",
) -> None:
    """Train a recipe into a run folder. `triptych train RECIPE --out RUN`, where RECIPE is a name or a recipe.json.

    Args:
        recipe: Every field of the recipe can be overridden.
        out: Run folder to create.
        resume: Go on from the last checkpoint of the run folder.
        overwrite: Replace the run folder if it exists.
        device: Where to run; under torchrun or accelerate launch each process takes its own.
    """
    from triptych.training.loop import train as run_training

    run_training(recipe, out, resume=resume, overwrite=overwrite, device=device)


def evaluate(
    run: Positional[Path],
    split: str = "",
    single_task: tuple[Path, ...] = (),
    limit: int = 0,
    report: bool = True,
    device: Device = "auto",
) -> None:
    """Score a run on a split: one table, one JSON and the report page in the run folder.

    Args:
        run: Run folder.
        split: Split to score; the recipe's test split by default. target-SPLIT is of the domain it adapts to.
        single_task: Run folders of single-task networks to compute delta_mtl against.
        limit: Score at most this many images; 0 scores all.
        report: Write report.html.
        device: Where to run.
    """
    from triptych.evaluation import evaluate_run
    from triptych.run_report import report_run

    evaluate_run(run, split=split, single_task=single_task, limit=limit, device=device)
    if report and os.environ.get("RANK", "0") == "0":
        print(f"page to look at: {report_run(run, split=split, device=device)}")


def predict(
    run: Positional[str],
    images: Positional[tuple[Path, ...]] = (),
    out: Path = Path("predictions"),
    products: tuple[Literal["arrays", "maps", "pictures", "panels", "points"], ...] = (
        "arrays",
        "maps",
        "pictures",
        "panels",
        "points",
    ),
    shorter_side: int = 0,
    tile: int = 0,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    fov: float = 0.0,
    intrinsics: tuple[float, ...] = (),
    color_by: str = "image",
    precision: Literal["no", "bf16", "fp16"] = "no",
    overwrite: bool = False,
    on_bad_sample: Literal["raise", "skip"] = "raise",
    render: bool = False,
    device: Device = "auto",
) -> None:
    """Predict images of any size: arrays, colour pictures and, where the camera is known, point clouds.

    Args:
        run: Run folder, or a name on the Hugging Face hub.
        images: Image files or folders; with --render they may be left out, and the test split is shown.
        out: Folder to write to.
        products: What to write: .npy arrays, maps as PNG (depth in 16-bit millimetres), pictures, panels, point clouds.
        shorter_side: Resize images to this shorter side for the network, and the maps back; 0 leaves them.
        tile: Side of square tiles in pixels for large images; 0 predicts the whole image at once.
        flip: Average with the mirrored image.
        scales: Average over these image scales.
        fov: Horizontal field of view in degrees, for point clouds.
        intrinsics: fx, fy, cx, cy in pixels, for point clouds.
        color_by: The map that colours the points: image, or a task.
        precision: Number format of the network.
        overwrite: Replace existing predictions.
        on_bad_sample: What an unreadable image does.
        render: Also write report.html with what the 3D-aware regularizer of the run renders: every task, the density's
            depth and opacity, and the view of cameras that stand aside.
        device: Where to run.
    """
    from triptych.prediction import Predictor
    from triptych.prediction_files import predict_images

    if not images and not render:
        raise ValueError("no images to predict; name files or folders (with --render the test split is shown instead).")
    predictor = Predictor.from_pretrained(
        run,
        tile=tile or None,
        flip=flip,
        scales=scales,
        shorter_side=shorter_side or None,
        precision=precision,
        device=device,
    )
    if render:
        from triptych.rendered import render_run

        camera: dict[str, Any] = {"fov": fov or None, "intrinsics": intrinsics or None}
        render_run(predictor, Path(run), images, out, overwrite=overwrite, **camera)
    if not images:
        return
    predict_images(
        predictor,
        images,
        out,
        products=products,
        color_by=color_by,
        fov=fov or None,
        intrinsics=intrinsics or None,
        overwrite=overwrite,
        on_bad_sample=on_bad_sample,
    )


def convert(
    family: Positional[str],
    checkpoint: Positional[Path],
    out: Path,
    tasks: tuple[str, ...] = (),
    auxiliary_tasks: tuple[str, ...] = (),
    classes: int = 0,
    overwrite: bool = False,
) -> None:
    """Turn a published checkpoint into a run folder, with a report of every tensor.

    Args:
        family: Code base: atrc, densemtl, invpt, survey.
        checkpoint: File of tensors (.pth, .pkl, .ckpt, .safetensors); no code in it is run.
        out: Run folder to create.
        tasks: Tasks of the network in the order of training; by default those that the tensors name.
        auxiliary_tasks: Tasks that only intermediate predictions have.
        classes: Classes of semseg; by default 40 (NYUv2), or 21 with human parts or saliency (PASCAL-Context).
        overwrite: Replace a folder that exists.
    """
    from triptych.conversion.run_folder import REPORT_FILE, convert_file

    report = convert_file(
        family,
        checkpoint,
        out,
        tasks=tasks,
        auxiliary_tasks=auxiliary_tasks,
        classes=classes,
        overwrite=overwrite,
    )
    print(report.summary)
    print(f"every tensor: {out / REPORT_FILE}")


def compare(
    runs: Positional[tuple[Path, ...]],
    split: str = "test",
    baseline: tuple[Path, ...] = (),
    single_task: tuple[Path, ...] = (),
    out: Path | None = None,
) -> None:
    """Compare runs: means over seeds, paired differences per image, delta_mtl, and what differs between the recipes.

    Args:
        runs: Run folders that `triptych evaluate` scored, or JSON files that `triptych score --out` wrote.
        split: Which evaluation to compare.
        baseline: Runs to compare the others with; the first of `runs` by default.
        single_task: Run folders of single-task networks for delta_mtl.
        out: JSON file to write the comparison to.
    """
    if runs and all(path.suffix == ".json" for path in runs):
        from rich.console import Console

        from triptych.scoring.compare import compare_scores, comparison_table

        first, *others = (*baseline, *runs)
        for other in others:
            Console().print(comparison_table(compare_scores(first, other), first.stem, other.stem))
        return
    from triptych.comparison import compare_runs

    compare_runs(runs, split=split, baseline=baseline, single_task=single_task, out=out)


def list_names(
    kind: Annotated[Positional[str], tyro.conf.arg(metavar="KIND")] = "",
) -> None:
    """List what can be named in a recipe.

    Args:
        kind: One of recipes, datasets, tasks, transforms, backbones, decoders, architectures, regularizers,
        weightings, adapters; all of them if left out.
    """
    from triptych.assemble import list_registries

    list_registries(kind)


VERBS: dict[str, Any] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "score": score,
    "compare": compare,
    "convert": convert,
    "data": DATA_VERBS,
    "list": list_names,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0, 2 for a mistake in what was asked, 1 for a mistake of ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        _run(words)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:  # the edge: whatever happens below becomes one line and an exit code
        if debug:
            raise
        expected = isinstance(error, ValueError | TypeError | OSError | ImportError | ArithmeticError | LookupError)
        mark = "error" if expected else f"internal error ({type(error).__name__})"
        print(f"{mark}: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2 if expected else 1
    return 0


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_overview("triptych", VERBS))
        return
    if words[0] == "--version":
        from triptych import __version__

        print(__version__)
        return
    verb, rest, name = named_choice("verb", words[0], VERBS), words[1:], f"triptych {words[0]}"
    if isinstance(verb, dict):
        if not rest or rest[0] in ("-h", "--help"):
            print(_overview(name, verb))
            return
        verb, rest, name = named_choice(f"{words[0]} verb", rest[0], verb), rest[1:], f"{name} {rest[0]}"
    if verb is train:
        if not rest or rest[0] in ("-h", "--help"):
            print("usage: triptych train RECIPE --out RUN [options]\n\nRecipes (or the path of a recipe.json):")
            print(_recipes())
            return
        recipe, rest = _find_recipe(rest[0]), rest[1:]
        tyro.cli(_with_recipe(recipe), prog=name, args=rest)
        return
    tyro.cli(verb, prog=name, args=rest)


def _overview(name: str, verbs: dict[str, Any]) -> str:
    rows = [f"usage: {name} VERB [options]", "", "verbs:"]
    for verb, function in verbs.items():
        if isinstance(function, dict):
            text = f"{', '.join(function)}: describe, look at, check and prepare datasets"
        else:
            text = (function.__doc__ or "").strip().splitlines()[0]
        rows.append(f"  {verb:<10} {text}")
    rows += ["", f"`{name} VERB --help` shows the options of one verb; --debug shows tracebacks."]
    return "\n".join(rows)


def _recipes() -> str:
    return "\n".join(
        f"  {name:<28} {recipe.description.splitlines()[0] if recipe.description else ''}"
        for name, recipe in sorted(RECIPES.items())
    )


def _find_recipe(name: str) -> Recipe:
    if name.endswith(".json"):
        try:
            return from_json(Path(name).read_text())
        except FileNotFoundError:
            raise ValueError(
                f"recipe file {name} does not exist; give a recipe.json, or a name from `triptych list recipes`."
            ) from None
    return named_choice("recipe", name, RECIPES)


def _with_recipe(default: Recipe) -> Callable[..., None]:
    def chosen(
        out: Path, recipe: Recipe = default, resume: bool = False, overwrite: bool = False, device: Device = "auto"
    ) -> None:
        train(recipe, out, resume, overwrite, device)

    chosen.__doc__ = train.__doc__
    return chosen


if __name__ == "__main__":
    sys.exit(main())
