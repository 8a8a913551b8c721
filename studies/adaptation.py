"""Adapting from the first look of the rooms to the second without its labels, and depth from video without labels.

python studies/adaptation.py run --out runs       # trains and scores; goes on where it stopped
python studies/adaptation.py adabn --out runs     # every finished run again with the target's batch norm statistics
python studies/adaptation.py report --out runs    # docs/study-adaptation.md, results/study-adaptation.json
python studies/adaptation.py table                # that table, from results/study-adaptation.json alone

Every network is scored on the target's test rooms. `source only` never saw the target, `oracle` was trained on the
target's labels. `statistics only` sees the target's images and learns nothing from them: running statistics of its
norms are of both domains, as those of every adapter's network. `METHOD + adabn` is the network of a finished run with
the statistics of the target alone: what a method gains there, its weights have learned.

The question: what does a method gain beyond `statistics only` (`METHOD + adabn` beyond `statistics only + adabn`)?
Paired over seeds, Student's t, Holm over all methods, networks and tasks of the table at 5 %. The share of the gap that
a method closes is its mean gain over `source only` by the oracle's, with Fieller's 95 % interval over seeds; none is
given unless the gap's own interval lies above `LEAST_GAP`. Intervals over images are beside, and decide nothing.

Runs lie in the frame of `grid.py`, whose jobs are not pinned to a commit: those that made them are in the JSON. The
recorded rows of DenseMTL are of a configuration whose deepest map reached hardly any output (widths 24, 16, 12, 8, 8,
rates 6 and 12 and 18, dropout); a new run has that of the recipes on rooms, and goes to another `--out`.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import grid
import paired
from arms import SIZE, base
from lab.inference import Contrast, declared, ratio
from lab.inference import paired as paired_test

from triptych.adaptation import ADAPTERS
from triptych.evaluation.run import evaluate_run
from triptych.recipes.config import AdaptationConfig, Options, Recipe
from triptych.recipes.rooms import PYRAMID
from triptych.training.adapted_run import adapt_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "study-adaptation.json"
SEEDS = range(8)
"""Three, of the recorded rows, tell a difference only if it is 17 times its deviation (Holm over 40); eight, twice."""
SPLIT = "target-test"
TASKS = ("semseg", "depth")
AFTER = " + adabn"
NETWORKS: dict[str, Options] = {"vanilla": {}, "densemtl": PYRAMID}
"""Networks, and options of their decoders that differ from `arms.METHODS`."""
REFERENCE = "statistics only"
SIGNS = {"semseg": 1, "depth": -1}
"""Whether the score of a task is better when higher."""
LEAST_GAP = {"semseg": 0.005, "depth": 0.05}
"""What the gap's 95 % interval has to lie above: half a hundredth of mIoU, 5 cm."""
Pairs = Mapping[str, Mapping[str, Any]]
"""Comparisons with `source only` of one network, by the name of the other arm (`paired.compare`)."""
LEARNING = tuple(name for name in ADAPTERS if name != "adabn")
"""Methods that train weights. What `adabn` makes of a run, `source only + adabn` is."""
ADAPTER_OPTIONS: dict[str, Options] = {"advent-mt": {"width": 16}}


def arms_of(method: str) -> dict[str, Recipe]:
    """Source only, every adapter, one of weight 0 and the oracle, on one architecture."""
    plain = base(method)
    options = {**plain.model.decoder_options, **NETWORKS[method]}
    plain = replace(plain, model=replace(plain.model, decoder_options=options))
    data = replace(plain.data, tasks=TASKS, val_split="", test_split=SPLIT)
    target = AdaptationConfig(dataset="rooms", dataset_options={"size": SIZE, "look": "b"})
    source = replace(
        plain,
        description=f"Adaptation on generated rooms: {method}, source only.",
        data=data,
        adaptation=target,
        training=replace(plain.training, evaluate_every=0),
    )
    found = {"source only": source}
    for name in LEARNING:
        config = replace(target, name=name, options=ADAPTER_OPTIONS.get(name, {}))
        found[name] = replace(source, description=f"{source.description[:-13]} {name}.", adaptation=config)
    found["statistics only"] = replace(
        source,
        description=f"{source.description[:-13]} statistics only.",
        adaptation=replace(target, name="min-ent", options={"weight": 0.0}),
    )
    seen = replace(data, options={**data.options, "look": "b"})
    found["oracle"] = replace(source, description=f"{source.description[:-13]} oracle.", data=seen)
    return {f"adaptation/{method}/{name}": recipe for name, recipe in found.items()}


def study_jobs() -> list[grid.Job]:
    """Seed by seed, both architectures."""
    return grid.jobs_of(arms_of("vanilla") | arms_of("densemtl"), SEEDS, [SPLIT])


def score_after_adabn(
    arms: Mapping[str, Recipe], out: Path, *, seeds: Iterable[int] = SEEDS, device: str = "cpu"
) -> int:
    """Adapt and score every scored run of `arms` that this was not done to; returns how many there were.

    The run of an arm and a seed becomes one of the arm `<arm> + adabn`. Those that `adabn` trained are what it would
    make of them already.
    """
    done = 0
    for seed in seeds:
        for arm, recipe in arms.items():
            run, new = grid.folder(out, arm, seed), grid.folder(out, arm + AFTER, seed)
            scores = f"evaluation-{SPLIT}.json"
            if recipe.adaptation.name == "adabn" or not (run / scores).is_file() or (new / scores).is_file():
                continue
            if not (new / "model.safetensors").is_file():
                adapt_run(run, replace(recipe.adaptation, name="adabn", options={}), new, device=device)
            evaluate_run(new, split=SPLIT, device=device, constant=False, progress=False)
            done += 1
    return done


def gains(pair: Mapping[str, Any], task: str) -> dict[int, float]:
    """By seed, how much better an arm is than `source only`."""
    numbers = pair["tasks"][task]
    return {
        seed: SIGNS[task] * (other - low)
        for seed, other, low in zip(pair["seeds"], numbers["other"], numbers["baseline"], strict=True)
    }


def beyond(content: Mapping[str, Pairs]) -> dict[tuple[str, str, str], Contrast]:
    """By network, training and task, what a method gains beyond `statistics only`; corrected for the number of all."""
    differences = {}
    for network, pairs in content.items():
        for name, pair in pairs.items():
            after = AFTER if name.endswith(AFTER) else ""
            if name.removesuffix(AFTER) not in LEARNING or REFERENCE + after not in pairs:
                continue
            for task in TASKS:
                found, least = gains(pair, task), gains(pairs[REFERENCE + after], task)
                both = [found[seed] - least[seed] for seed in found if seed in least]
                if len(both) > 1:
                    differences[network, name, task] = both
    return declared(differences)


def closed(pair: Mapping[str, Any], oracle: Mapping[str, Any], task: str) -> tuple[float, float, float] | None:
    """The share of the gap to the oracle that was closed, percent, with its interval; `None` where the gap itself is
    not told.
    """
    found, tops = gains(pair, task), gains(oracle, task)
    both = [seed for seed in found if seed in tops]
    whole = [tops[seed] for seed in both]
    if len(both) < 2 or paired_test(whole).interval95[0] <= LEAST_GAP[task]:
        return None
    return ratio([100 * found[seed] for seed in both], whole)


def table(content: Mapping[str, Pairs]) -> str:
    """Scores, what is gained beyond the norms, and shares of the gap."""
    gained, lines = beyond(content), []
    for network, pairs in content.items():
        for name, pair in pairs.items():
            cells = []
            for task in TASKS:
                numbers = pair["tasks"][task]
                low, high = numbers["interval"]
                share = closed(pair, pairs["oracle"], task) if "oracle" in pairs else None
                told = gained.get((network, name, task))
                cells += [
                    grid.mean_and_deviation(numbers["other"], digits=3),
                    "–" if name == "source only" else f"{numbers['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                    "–" if name in ("source only", "oracle") or share is None else _share(*share),
                    "–" if told is None else _gain(told),
                ]
            lines.append([network, name, str(len(pair["seeds"])), *cells])
    header = ["network", "training", "seeds"]
    for task, metric in (("semseg", "mIoU ↑"), ("depth", "rmse ↓")):
        header += [
            f"{task} {metric}",
            "difference [95 % over images]",
            "gap closed [95 % over seeds]",
            "better than the norms alone by [95 % over seeds], p",
        ]
    least = min((each.adjusted for each in gained.values()), default=1.0)
    told = sum(each.above or each.below for each in gained.values())
    note = f"Of {len(gained)} differences from the norms alone {told} are told apart (Holm; least p {least:.2f})."
    return f"{grid.markdown_table(header, lines)}\n\n{note}"


def _share(share: float, low: float, high: float) -> str:
    return f"{share:.0f} % [{low:.0f}, {high:.0f}]"


def _gain(contrast: Contrast) -> str:
    low, high = contrast.interval95
    return f"{contrast.mean:+.3f} [{low:+.3f}, {high:+.3f}], {contrast.adjusted:.2f}"


def report(out: Path) -> None:
    """Write the table and the JSON from the runs that are there, which are all of one commit."""
    made = grid.commits(out, [arm for network in NETWORKS for arm in arms_of(network)], SEEDS)
    if len(made) > 1:
        sys.exit(
            f"{out} has runs of {len(made)} commits ({', '.join(each[:7] for each in made)}); numbers of different "
            "code must not meet in one table: run into another --out."
        )
    content: dict[str, Any] = {}
    for network in NETWORKS:
        source = f"adaptation/{network}/source only"
        arms = [each for arm in arms_of(network) for each in (arm, arm + AFTER)]
        pairs = {arm.rsplit("/", 1)[1]: paired.compare(out, source, arm, SEEDS, SPLIT) for arm in arms}
        content[network] = {name: pair for name, pair in pairs.items() if pair is not None}
    grid.replace_section(ROOT / "docs" / "study-adaptation.md", "adaptation", table(content))
    grid.write_results(
        RESULTS,
        {
            "command": "python studies/adaptation.py run && python studies/adaptation.py report",
            "data": "generated rooms, look a to look b, 64 x 80, test rooms of look b",
            "commits": made,
            "pairs": content,
        },
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["table"]:
        print(table(json.loads(RESULTS.read_text(encoding="utf-8"))["pairs"]))
    elif sys.argv[1:2] == ["adabn"]:
        parser = argparse.ArgumentParser(description=score_after_adabn.__doc__)
        parser.add_argument("--out", type=Path, default=Path("runs/studies"))
        found = parser.parse_args(sys.argv[2:])
        print(f"{score_after_adabn(arms_of('vanilla') | arms_of('densemtl'), found.out)} runs adapted and scored")
    else:
        grid.run_study(__doc__, study_jobs, report)
