"""Numbers of the pages, computed again from the files in `results/`, by code that shares nothing with what wrote them.

python studies/recompute.py    # ends with 1 and names the sentence where a page says something else

Each entry is a page, the words around a number as the page has them with `{}` where numbers stand, and what these are.
"""

import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOUR = ["semseg", "depth", "normals", "boundary"]
SIX = ["semseg", "human_parts", "saliency", "normals", "depth", "boundary"]
T9 = 2.2621571628
"""Student's t of 9 degrees of freedom at 97.5 %, from a table."""
T4 = 2.7764451052
T7 = 2.3646242516
T3 = 3.1824463053
T2 = 4.3026527297


def points(row: dict, tasks: list[str]) -> dict[int, float]:
    """Signed relative differences of one comparison in percent, by seed."""
    found = {}
    for i, seed in enumerate(row["seeds"]):
        total = 0.0
        for name in tasks:
            before, after = row["tasks"][name]["baseline"][i], row["tasks"][name]["other"][i]
            total += (after - before) / before * (-1.0 if name in ("normals", "depth") else 1.0)
        found[seed] = 100 * total / len(tasks)
    return found


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    return math.sqrt(sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1))


def ends(values: list[float]) -> tuple[str, str]:
    half = {10: T9, 5: T4}[len(values)] * deviation(values) / math.sqrt(len(values))
    return f"{mean(values) - half:+.1f}", f"{mean(values) + half:+.1f}"


def main_row(title: str) -> dict:
    return json.loads((ROOT / "results" / "study-3d.json").read_text(encoding="utf-8"))["main"][title]


def alone(title: str, tasks: list[str]) -> list[str]:
    values = list(points(main_row(title), tasks).values())
    return [f"{mean(values):+.2f}", f"{deviation(values):.2f}", *ends(values)]


def against(control: str, tasks: list[str]) -> list[str]:
    one, other = points(main_row("vanilla"), tasks), points(main_row(f"vanilla, {control}"), tasks)
    values = [one[seed] - other[seed] for seed in one if seed in other]
    return [f"{mean(values) + 0.0:+.2f}".replace("-0.00", "+0.00"), *ends(values)]


def share() -> list[str]:
    parts = [mean(list(points(main_row("vanilla"), [name]).values())) / 6 for name in ("human_parts", "saliency")]
    return [f"{sum(parts):.2f}"]


def halves() -> list[str]:
    values = list(points(main_row("vanilla"), SIX).values())
    return [text for part in (values[:5], values[5:]) for text in (f"{mean(part):+.1f}", f"{deviation(part):.1f}")]


def normals() -> list[str]:
    values = list(points(main_row("vanilla"), ["normals"]).values())
    return [f"{mean(values):.2f}", *ends(values)]


def short(title: str) -> list[str]:
    values = list(points(main_row(title), SIX).values())
    return [f"{mean(values):+.1f}", f"{deviation(values):.1f}"]


def known(arm: str, name: str) -> list[float]:
    """R2 of a density, or of the network's depth, after 2,000 steps, by seed."""
    text = (ROOT / "results" / "fog.jsonl").read_text(encoding="utf-8")
    found = {row["seed"]: row["scores"] for row in map(json.loads, text.splitlines()) if row["arm"] == arm}
    return [found[seed][f"2000/{name}/R2"] for seed in sorted(found)]


def three_seeds(values: list[float]) -> list[str]:
    """Mean and 95 % interval."""
    center = mean(values)
    half = T2 * math.sqrt(sum((value - center) ** 2 for value in values) / 2 / 3)
    assert len(values) == 3
    return [f"{value:.2f}" for value in (center, center - half, center + half)]


def surface() -> list[str]:
    """Means over seeds: of the density that all tasks share, and of the network's depth."""
    return [f"{mean(known('surface (exp)', name)):.2f}" for name in ("shared", "network")]


def over_old(arm: str, name: str) -> list[str]:
    """The paired gain over the old density of depth, with its 95 % interval."""
    return three_seeds([a - b for a, b in zip(known(arm, name), known("old", "depth"), strict=True)])


def sharper(arm: str) -> list[str]:
    """Entropy less that of the dullest weights after 2,000 steps, with its 95 % interval over seeds."""
    text = (ROOT / "results" / "sharpness.jsonl").read_text(encoding="utf-8")
    return three_seeds(
        [row["scores"]["2000/shared"] for row in map(json.loads, text.splitlines()) if row["arm"] == arm]
    )


def over_alone(
    study: str, arm: str, alone: str, seeds: range, t: float, *, than: str = "", without: str = ""
) -> list[float]:
    """Points on NYUv2's four tasks (`without` one of them) over the network alone (more `than` another arm has), with
    their 95 % interval over seeds.
    """
    text = (ROOT / "results" / f"{study}.jsonl").read_text(encoding="utf-8")
    scores = {(row["arm"], row["seed"]): row["scores"] for row in map(json.loads, text.splitlines())}
    values = []
    for seed in seeds:
        before, after, other = scores[alone, seed], scores[arm, seed], scores[than or alone, seed]
        signs = {"semseg": 1, "boundary": 1, "normals": -1, "depth": -1}
        signs.pop(without, None)
        values.append(100 * mean([sign * (after[name] - other[name]) / before[name] for name, sign in signs.items()]))
    half = t * deviation(values) / math.sqrt(len(values))
    return [mean(values), mean(values) - half, mean(values) + half]


def geometry(arm: str, than: str = "A", *, without: str = "") -> list[str]:
    """One arm of D1 less another, over eight seeds."""
    found = over_alone("geometry", arm, "A", range(8), T7, than=than, without=without)
    return [f"{value:+.2f}" for value in found]


def true_depth(*, over: str) -> str:
    """What rendering with true depth differs by from another arm, depth left out."""
    return geometry("D", over, without="depth")[0]


def above_alone() -> list[str]:
    """Arms of D1 over the network alone, depth left out: one sample, second heads, true depth, the shipped branch."""
    return [value for arm in "FHDC" for value in geometry(arm, without="depth")]


def preset_rows() -> dict[str, dict[int, dict[str, float]]]:
    found: dict[str, dict[int, dict[str, float]]] = {}
    for line in (ROOT / "results" / "preset.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["arm"], {})[row["seed"]] = row["scores"]
    return found


def preset_gain() -> list[str]:
    """Of the chosen preset over the old density."""
    return [f"{over_alone('preset', 'surface (exp)', 'old', range(200, 212), T7)[0]:.2f}"]


def duller_than_fog() -> list[str]:
    """Entropy less that of a fog of the same opacity, of both densities of `surface` after training."""
    rows = preset_rows()
    return [
        f"{mean([row['after/excess'] for row in rows[name].values()]):+.2f}"
        for name in ("surface (exp)", "surface (softplus)")
    ]


def gap() -> list[str]:
    """What the labels that are missing cost, over four seeds."""
    return [f"{value:.1f}" for value in over_alone("missing", "oracle", "masks", range(500, 504), T3)]


def pseudo_labels() -> list[str]:
    """How much worse pseudo-labels are than masks, over five seeds."""
    middle, low, high = over_alone("missing", "pseudo", "masks", range(500, 505), T4)
    return [f"{-value:.1f}" for value in (middle, high, low)]


def cvm(arm: str) -> list[str]:
    """Points of an arm of CvM over the network on the same images."""
    return [f"{value:.2f}" for value in over_alone("cvm", arm, "frames", range(400, 404), T3)]


def cvm_more(arm: str, than: str) -> list[str]:
    """What one arm of CvM has more than another, in points over the network on the same images."""
    return [f"{value:+.2f}" for value in over_alone("cvm", arm, "frames", range(400, 404), T3, than=than)]


def bench_rows() -> dict[tuple[str, int], dict[str, float]]:
    text = (ROOT / "results" / "bench.jsonl").read_text(encoding="utf-8")
    return {(row["arm"], row["seed"]): row["scores"] for row in map(json.loads, text.splitlines())}


def bench_more(arm: str, than: str) -> list[str]:
    """Points on NYUv2's four tasks, over single-task networks of the same seed, of a method more than another."""
    rows, values = bench_rows(), []
    for seed in range(3):
        parts = []
        for name in FOUR:
            alone = rows[f"single {name}", seed][name]
            more = (rows[arm, seed][name] - rows[than, seed][name]) / alone
            parts.append(100 * more * (-1 if name in ("normals", "depth") else 1))
        values.append(mean(parts))
    half = T2 * deviation(values) / math.sqrt(3)
    return [f"{value:.1f}" for value in (mean(values), mean(values) - half, mean(values) + half)]


def bench_normals() -> list[str]:
    """Degrees by which DenseMTL's normals are behind the plain network's, with their interval over seeds."""
    rows = bench_rows()
    values = [rows["densemtl", seed]["normals"] - rows["vit", seed]["normals"] for seed in range(3)]
    center, low, high = map(float, three_seeds(values))
    return [f"{center:.2f}", f"{low:+.2f}", f"{high:+.2f}"]


def bench_parts() -> list[str]:
    """Human parts of fcn and atrc, means of three seeds, and the constant predictor's."""
    rows = bench_rows()
    means = [mean([rows[arm, seed]["human_parts"] for seed in range(3)]) for arm in ("fcn", "atrc")]
    return [f"{value:.3f}" for value in (*means, rows["constant", 0]["human_parts"])]


def bench_alpha() -> list[str]:
    rows = bench_rows()
    values = [rows["densemtl", seed]["mean alpha"] for seed in range(3)]
    return [f"{mean(values):.3f}", f"{deviation(values):.3f}"]


def look(training: str, task: str, state: str = "") -> list[float]:
    """Scores of the vanilla network's training on the second look, by seed."""
    text = (ROOT / "results" / "second-look.jsonl").read_text(encoding="utf-8")
    rows = {row["seed"]: row for row in map(json.loads, text.splitlines()) if row["arm"] == f"vanilla, {training}"}
    return [rows[seed]["scores"][f"{task}{state}"] for seed in sorted(rows)]


def nearer(training: str, state: str = "") -> list[str]:
    """Metres by which depth is better than that of the norms alone, with the interval over eight seeds."""
    pairs = zip(look("statistics only", "depth", state), look(training, "depth", state), strict=True)
    values = [before - after for before, after in pairs]
    half = T7 * deviation(values) / math.sqrt(len(values))
    assert len(values) == 8
    return [f"{value:.3f}" for value in (mean(values), mean(values) - half, mean(values) + half)]


def closed_by_adabn() -> list[str]:
    """Shares of the gap that AdaBN of the network alone closes, percent: segmentation, depth."""
    found = []
    for task in ("semseg", "depth"):
        low, after, top = (
            mean(look(training, task, state))
            for training, state in (("source only", ""), ("source only", " after adabn"), ("oracle", ""))
        )
        found.append(f"{100 * (after - low) / (top - low):.0f}")
    return found


def constant_weight() -> list[str]:
    return short("vanilla, constant weight")


def multi_adds() -> list[str]:
    with (ROOT / "results" / "models-speed.csv").open(encoding="utf-8") as file:
        cases = {row["case"]: row for row in csv.DictReader(file)}
    row = cases["invpt/vit_large_patch16_384/448x576"]
    return [f"{float(row['parameters']) / 1e6:.2f}", f"{float(row['gmacs']):.1f}"]


STUDY = "docs/study-3d.md"
MISSING = "docs/study-missing.md"
MODELS = "docs/models.md"
ADAPTATION = "docs/study-adaptation.md"
NUMBERS: list[tuple[str, str, Callable[[], list[str]]]] = [
    (
        STUDY,
        "| 3D branch over the network alone | {} ± {} ({} to {}) | {} ± {} ({} to {}) |",
        lambda: alone("vanilla", SIX) + alone("vanilla", FOUR),
    ),
    (
        STUDY,
        "| 3D branch less one sample per ray | {} ({} to {}) | {} ({} to {}) |",
        lambda: against("one sample", SIX) + against("one sample", FOUR),
    ),
    (
        STUDY,
        "| 3D branch less a 2D decoder | {} ({} to {}) | {} ({} to {}) |",
        lambda: against("2D decoder", SIX) + against("2D decoder", FOUR),
    ),
    (
        STUDY,
        "| 3D branch less auxiliary heads | {} ({} to {}) | {} ({} to {}) |",
        lambda: against("auxiliary heads", SIX) + against("auxiliary heads", FOUR),
    ),
    (
        STUDY,
        "shuffled depth {} ({} to {}) on six tasks ({}, {} to {}, on four), and less uniform weights {} ({} to {})",
        lambda: against("shuffled depth", SIX) + against("shuffled depth", FOUR) + against("uniform weights", FOUR),
    ),
    (
        STUDY,
        "rendering with true depth differs by {}, {} and {} points from another image's depth, from one sample and",
        lambda: [true_depth(over=arm) for arm in "EFG"],
    ),
    (STUDY, "P4 is {} (95 % {} to {}; Holm's", lambda: geometry("C", "F")),
    (STUDY, "the branch less the network alone is {} ({} to {}), the old", lambda: geometry("C")),
    (STUDY, "the old branch {} ({} to {}), a second copy", lambda: geometry("B")),
    (STUDY, "a second copy of the heads {} ({} to {});", lambda: geometry("H")),
    (STUDY, "the branch less that copy is **below 0**, {} ({} to {};", lambda: geometry("C", "H")),
    (
        STUDY,
        "one sample {} ({} to {}), second heads {} ({} to {}), true depth {} ({} to {}); the shipped branch is {} "
        "({} to {}).",
        above_alone,
    ),
    (STUDY, "**surface: {} points better**", preset_gain),
    (
        STUDY,
        "the exponential is *duller* ({}, an opaque fog ends at once) and could not be chosen, softplus ({})",
        duller_than_fog,
    ),
    (STUDY, "human parts and saliency make {};", share),
    (STUDY, "Normals gain {} % ({} to {})", normals),
    (STUDY, "the vanilla network has {} ± {}, on the last five {} ± {}.", halves),
    (STUDY, "DenseMTL {} ± {}, InvPT {} ± {}", lambda: short("densemtl") + short("invpt")),
    (STUDY, "PAD-Net {} ± {}, MTI-Net {} ± {}", lambda: short("pad-net") + short("mti-net")),
    (STUDY, "At the constant weight of the paper: {} ± {} on", constant_weight),
    (STUDY, "explains {} where the network's own depth explains {},", surface),
    (STUDY, "{} ({} to {}) more than the old one", lambda: over_old("surface (exp)", "shared")),
    (STUDY, "over the old one, {}, has a 95 % interval of {} to {} over", lambda: over_old("exp", "depth")),
    (STUDY, "{} ({} to {}) with the exponential,", lambda: sharper("surface (exp)")),
    (STUDY, "{} ({} to {}) with softplus;", lambda: sharper("surface (softplus)")),
    (MISSING, "all six costs {} points here (95 % {} to {}; four", gap),
    (MISSING, "hurt**, by {} points ({} to {}).", pseudo_labels),
    (MISSING, "without it**: +{} points (95 % +{} to +{};", lambda: cvm("true")),
    (MISSING, "matches nothing gains**: +{} points ({} to {};", lambda: cvm("single")),
    (MISSING, "branch beside the network alone {} points ({} to {}),", lambda: cvm_more("branch", "alone")),
    (MISSING, "beside CvM {} ({} to {})", lambda: cvm_more("both", "true")),
    (MISSING, "twice the images {} ({} to {}),", lambda: cvm_more("frames", "alone")),
    (MISSING, "Three neighbors have {} points ({} to {}).", lambda: cvm_more("more", "true")),
    (ADAPTATION, "(`dacs`) after AdaBN, {} m better (95 % {} to {};", lambda: nearer("dacs", " after adabn")),
    (ADAPTATION, "(`depth-mix`) as trained, {} m ({} to {}; p", lambda: nearer("depth-mix")),
    (ADAPTATION, "after AdaBN is not told ({}, {} to {}).", lambda: nearer("depth-mix", " after adabn")),
    (ADAPTATION, "{} % (30 to 47) in segmentation and {} % (36 to 50) in depth", closed_by_adabn),
    (MODELS, "plain network, by {} points ({} to {}) from stride 32 to 8", lambda: bench_more("vit, stride 8", "vit")),
    (MODELS, "FCN and ATRC have {} and {} in human parts, where a constant has {}", bench_parts),
    (MODELS, "DenseMTL's normals are {} degrees ({} to {}) behind the plain network's", bench_normals),
    (MODELS, "Mean |alpha| is {} ± {} after", bench_alpha),
    (MODELS, "| invpt, vit_large_patch16_384, 448x576 | cpu, channels first, eager | {} | {} |", multi_adds),
]


def wrong() -> list[str]:
    """The sentences that a page does not have with the numbers that the results give."""
    found = []
    for page, words, numbers in NUMBERS:
        sentence = words.format(*numbers())
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        if " ".join(sentence.split()) not in text:
            found.append(f"{page}: {sentence}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(wrong()) or 0)
