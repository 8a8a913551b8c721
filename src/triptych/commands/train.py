"""The verbs `triptych demo`, `train` and `sweep`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.commands.verbs import HELP, Device, Verb, parse
from triptych.plugins.loading import load_installed
from triptych.recipes import RECIPES, load_recipe
from triptych.recipes.config import Recipe
from triptych.recipes.option_words import override
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
        resume: Resume from the last checkpoint of the run folder.
        overwrite: Replace the run folder if it exists.
        device: Where to run; under torchrun or accelerate launch each process takes its own.
        dry_run: Take three steps, write nothing, and print parameters, time, memory, disk, images and labels.
    """
    if dry_run:
        from triptych.terminal import terminal
        from triptych.training.rehearsal import rehearsal_table, rehearse

        terminal().print(rehearsal_table(rehearse(recipe, device=device)))
        return
    if out is None:
        raise ValueError("--out is missing; name the run folder to create (or --dry-run to write none).")
    from triptych.training.loop import train as run_training

    run_training(recipe, out, resume=resume, overwrite=overwrite, device=device)


def sweep(
    recipe: Recipe,
    out: Path,
    over: tuple[str, ...],
    samples: int = 0,
    seeds: tuple[int, ...] = (),
    device: Device = "auto",
) -> None:
    """Train a recipe with several values of its fields, and print one table. `triptych sweep RECIPE --over NAME=A,B`.

    The same command resumes an interrupted sweep. Values are compared on the validation split.

    Args:
        recipe: Every field of the recipe can be overridden.
        out: Folder to create; a run folder for each combination and seed, and sweep.json.
        over: Fields and their values, as optimizer.lr=1e-4,1e-3 weighting.weights.depth=0.5,1,2 (every combination) or
            optimizer.lr=1e-5..1e-2 (with --samples).
        samples: Draw that many combinations at random; 0 trains all.
        seeds: Train each combination with these seeds; by default the recipe's.
        device: Where to run.
    """
    from triptych.terminal import terminal
    from triptych.training.sweep import sweep as run_sweep
    from triptych.training.sweep import sweep_table

    terminal().print(sweep_table(run_sweep(recipe, out, over, samples=samples, seeds=seeds, device=device)))


@dataclass(frozen=True)
class RecipeVerb(Verb):
    """A verb whose first word names the recipe: its fields are the defaults of the options."""

    usage: str

    def run(self, words: Sequence[str], name: str) -> None:
        """Run the function on the recipe that the first word names, or show all of them."""
        if not words or words[0] in HELP:
            summary = (self.function.__doc__ or "").partition("\n")[0]
            shown = f"`{name} RECIPE --help`, such as `{name} folder --help`, shows these options and every field."
            rows = "Recipes (or the path of a recipe.json):"
            print(f"usage: {name} RECIPE {self.usage} [options]\n\n{summary}\n{shown}\n\n{rows}\n{_recipes()}")
            return
        default = load_recipe(words[0])

        @functools.wraps(self.function)
        def run_recipe(*, recipe: Recipe, **options: Any) -> None:
            self.function(override(default, recipe), **options)

        published = f"\n\n    {PUBLISHED[words[0]].describe()}" if words[0] in PUBLISHED else ""
        first, _, rest = (self.function.__doc__ or "").partition("\n\n")
        run_recipe.__doc__ = f"{first}{published}\n\n{rest}"
        parse(functools.partial(run_recipe, recipe=default), words[1:], f"{name} {words[0]}")


def _recipes() -> str:
    load_installed()
    return "\n".join(
        f"  {name:<28} {recipe.description.splitlines()[0] if recipe.description else ''}"
        + (f"\n{'':<31}{PUBLISHED[name].describe()}" if name in PUBLISHED else "")
        for name, recipe in sorted(RECIPES.items())
    )
