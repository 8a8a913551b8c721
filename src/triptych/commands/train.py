"""The verbs `triptych demo` and `train`."""

from collections.abc import Sequence
from pathlib import Path

from triptych.commands.verbs import HELP, Device, Verb, parse
from triptych.plugins.loading import load_installed
from triptych.recipes import RECIPES, load_recipe
from triptych.recipes.config import Recipe
from triptych.recipes.fields import override
from triptych.recipes.published import PUBLISHED


def demo(out: Path = Path("runs/demo"), overwrite: bool = False, device: Device = "auto") -> None:
    """Train a small network on generated rooms, score it, predict, and write a page to look at: minutes on a CPU.

    Args:
        out: Run folder to create.
        overwrite: Replace the run folder if it exists.
        device: Where to run.
    """
    from triptych.demo import run_demo

    run_demo(out, overwrite=overwrite, device=device)


def train(
    recipe: Recipe,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: Device = "auto",
    dry_run: bool = False,
) -> None:
    """Train a recipe into a run folder. `triptych train RECIPE --out RUN`, where RECIPE is a name or a recipe.json.

    Args:
        recipe: Every field of the recipe can be overridden.
        out: Run folder to create.
        resume: Go on from the last checkpoint of the run folder.
        overwrite: Replace the run folder if it exists.
        device: Where to run; under torchrun or accelerate launch each process takes its own.
        dry_run: Take three steps, write nothing, and print parameters, time, memory, disk, images and labels.
    """
    if dry_run:
        from rich.console import Console

        from triptych.training.rehearsal import rehearsal_table, rehearse

        Console().print(rehearsal_table(rehearse(recipe, device=device)))
        return
    if out is None:
        raise ValueError("--out is missing; name the run folder to create (or --dry-run to write none).")
    from triptych.training.loop import train as run_training

    run_training(recipe, out, resume=resume, overwrite=overwrite, device=device)


class TrainVerb(Verb):
    """`train`, whose first word names the recipe: its fields are the defaults of the options."""

    def run(self, words: Sequence[str], name: str) -> None:
        """Train the recipe that the first word names, or show all of them."""
        if not words or words[0] in HELP:
            print(f"usage: {name} RECIPE --out RUN [options]\n\nRecipes (or the path of a recipe.json):\n{_recipes()}")
            return
        default = load_recipe(words[0])

        def run_recipe(
            out: Path | None = None,
            recipe: Recipe = default,
            resume: bool = False,
            overwrite: bool = False,
            device: Device = "auto",
            dry_run: bool = False,
        ) -> None:
            self.function(override(default, recipe), out, resume, overwrite, device, dry_run)

        published = f"\n\n    {PUBLISHED[words[0]].describe()}" if words[0] in PUBLISHED else ""
        first, rest = (self.function.__doc__ or "").split("\n\n", 1)
        run_recipe.__doc__ = f"{first}{published}\n\n{rest}"
        parse(run_recipe, words[1:], f"{name} {words[0]}")


def _recipes() -> str:
    load_installed()
    return "\n".join(
        f"  {name:<28} {recipe.description.splitlines()[0] if recipe.description else ''}"
        + (f"\n{'':<31}{PUBLISHED[name].describe()}" if name in PUBLISHED else "")
        for name, recipe in sorted(RECIPES.items())
    )
