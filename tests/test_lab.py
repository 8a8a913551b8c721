"""The frame of the studies: rows, pinned source, statistics against other routes, sentences by rule."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from test_studies import ROOT, load

load("trunks")  # puts `lab` where it can be imported
from lab import decisions, gains, inference, learned, rows, running, source, verdicts  # noqa: E402
from lab.study import Study, digest  # noqa: E402

PRIMARY = ("P1", "P2", "P3", "P4")
APART = ("C - A", "H - A")


def row(arm: str = "A", seed: int = 0, commit: str = "abc", recipe: str = "r", **scores: float) -> rows.Row:
    return rows.Row(arm, seed, recipe, commit, scores or {"depth": 0.5})


# Statistics


@pytest.mark.parametrize("seed", range(3))
def test_paired_is_scipys_test(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.4, 1.0, 12)
    found, oracle = inference.paired(values.tolist()), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-10)
    for share, interval in ((0.90, found.interval90), (0.95, found.interval95)):
        expected = oracle.confidence_interval(share)
        assert interval == pytest.approx([expected.low, expected.high])


def test_within_a_point_is_two_one_sided_tests() -> None:
    for values in np.random.default_rng(0).normal(0.3, 1.2, (40, 10)):
        low = stats.ttest_1samp(values, -1, alternative="greater").pvalue
        high = stats.ttest_1samp(values, 1, alternative="less").pvalue
        assert inference.paired(values.tolist()).within(1.0) == (max(low, high) < 0.05)


def test_holm_steps_down_by_hand() -> None:
    """Compared one after the other with 5 % / 4, / 3, / 2, / 1, and no further than the first that fails."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        values = dict(zip("abcd", generator.uniform(0, 0.08, 4), strict=True))
        rejected, left = set(), 4
        for name in sorted(values, key=values.__getitem__):
            if values[name] > 0.05 / left:
                break
            rejected.add(name)
            left -= 1
        adjusted = inference.holm(values)
        assert {name for name, p in adjusted.items() if p <= 0.05} == rejected
        assert all(adjusted[name] >= values[name] for name in values)


def test_one_seed_is_no_test() -> None:
    with pytest.raises(ValueError, match="two seeds"):
        inference.paired([1.0])


def test_a_share_has_fiellers_interval() -> None:
    """At its ends the paired t test of parts less share times whole has a p of 5 %, between them more."""
    generator = np.random.default_rng(4)
    for _ in range(20):
        wholes = generator.normal(3, 0.8, 8)
        parts = 0.4 * wholes + generator.normal(0, 0.7, 8)
        share, low, high = inference.ratio(parts.tolist(), wholes.tolist())
        assert low < share < high
        assert share == pytest.approx(parts.mean() / wholes.mean())
        ends, inside = (
            [stats.ttest_1samp(parts - r * wholes, 0).pvalue for r in each]
            for each in ((low, high), np.linspace(low, high, 12)[1:-1])
        )
        assert ends == pytest.approx([0.05, 0.05])
        assert min(inside) > 0.05
    with pytest.raises(ValueError, match="no interval"):
        inference.ratio([1.0, 2.0, 3.0], [-1.0, 0.5, 1.0])


def test_every_contrast_has_one_sentence() -> None:
    """Better and worse by p after correction, the other way round for the other sign; a margin by the 90 % interval."""
    for mean, deviation, word in (
        (2, 1, "better"), (-2, 1, "worse"), (0.2, 0.8, "differ by less"), (0.2, 5, "not told apart"),
    ):  # fmt: skip
        contrast = contrasts({"M": mean}, deviation=deviation)["M"]
        text = verdicts.sentence("a", "b", contrast, unit="points", margin=1.0)
        assert word in text
        bare = verdicts.sentence("a", "b", contrast, unit="points")
        assert bare == ("a and b are not told apart" if word == "differ by less" else text)
    several = contrasts(dict.fromkeys("PQRS", 0.45))
    assert several["P"].p < 0.05 < several["P"].adjusted
    text = verdicts.account(
        dict.fromkeys("PQRS", ("a", "b")), several, {"c - d": contrasts({"x": -1})["x"]}, {}, unit="u"
    )
    assert text.count(" and b are not told apart") == 4
    assert text.split("Apart, uncorrected:")[1].count("c is worse than d by 1.00 u") == 1


def test_a_cell_has_learned_from_a_quarter_of_the_way() -> None:
    arms = {
        "constant": {0: {"depth": 1.0, "semseg": 0.0}},
        "good": {0: {"depth": 0.6, "semseg": 0.4}, 1: {"depth": 0.6, "semseg": 0.4}},
        "weak": {0: {"depth": 0.91, "semseg": 0.1}},
        "one": {0: {"semseg": 0.09}},
    }
    assert learned.best(arms, ("depth", "semseg")) == {"depth": 0.6, "semseg": 0.4}
    text = learned.scores_table(arms, ("depth", "semseg"))
    assert "| weak | 1 | (0.91) | 0.1 |" in text
    assert "| one | 1 |  | (0.09) |" in text
    assert "They are 2 of 5." in text
    same = {"depth": 0.5}
    assert not learned.has_learned("depth", 0.1, constant=same, goal=same)


def test_gain_is_signed_by_what_is_better() -> None:
    alone = {"semseg": 0.2, "normals": 30.0, "boundary": 0.4, "depth": 0.8}
    better = {"semseg": 0.22, "normals": 27.0, "boundary": 0.44, "depth": 0.72}
    assert gains.gain(better, alone, gains.FOUR) == pytest.approx(10)
    assert gains.gain(alone, better, gains.FOUR) < 0
    scores = {"A": {0: alone, 1: alone}, "D": {0: better, 1: alone}, "E": {0: alone}}
    assert gains.differences(scores, "D", "E", gains.FOUR, alone="A") == pytest.approx([10])


def test_which_way_is_better_is_what_the_metrics_say() -> None:
    from triptych.datasets.rooms import rooms_tasks

    metrics = {name: task.metric() for name, task in rooms_tasks().items()}
    assert {name: metric.better[metric.primary] for name, metric in metrics.items()} == gains.HIGHER


# Sentences


def contrasts(means: dict[str, float], *, seeds: int = 24, deviation: float = 1.0) -> dict[str, inference.Contrast]:
    """Contrasts with exactly these means and this deviation over seeds."""
    shape = np.random.default_rng(5).normal(size=seeds)
    shape = (shape - shape.mean()) / shape.std(ddof=1) * deviation
    return inference.declared({name: (shape + mean).tolist() for name, mean in means.items()})


def held(primary: dict[str, float], apart: tuple[float, float] = (0.0, 0.0), deviation: float = 1.0) -> set[str]:
    found = decisions.sentences(
        contrasts(primary, deviation=deviation), contrasts(dict(zip(APART, apart, strict=True)), deviation=deviation)
    )
    return {sentence for sentence, holds in found.items() if holds}


def of(*means: float) -> dict[str, float]:
    return dict(zip(PRIMARY, means, strict=True))


def test_sentences_follow_their_rules() -> None:
    helps, small = "geometry helps", "geometry is worth less than a point here"
    unused, shipped = "the learned density does not use it", "the shipped branch helps by being 3D"
    assert held(of(3, 3, 3, 3)) == {helps, shipped}
    assert held(of(3, 3, 3, 0)) == {helps, unused}
    assert held(of(0, 0, 0, 0)) == {small}
    assert held(of(3, 3, 0.3, 0)) == set()  # a perceptron that is told depth does as well
    assert held(of(3, 3, -3, 0)) == set()
    assert held(of(0, 0, 0, 0), deviation=4.0) == set()  # a wide interval supports nothing
    assert held(of(0.7, 0.7, 0.7, 0.0), deviation=0.5) == {helps, small, unused}  # small, and there
    assert held(of(0, 0, 0, 3)) == {small, shipped}
    assert held(of(3, 3, 3, 0.5), deviation=0.5) == {helps, shipped}  # small, and there: it is not said to go unused
    assert held(of(0, 0, 0, 0), (3, 0)) == {small, "the branch helps", "the paper's sign pattern"}
    assert held(of(0, 0, 0, 0), (3, 3)) == {small, "the branch helps"}


def test_what_no_rule_decides_is_not_told_apart() -> None:
    wide = contrasts(of(0.5, 0.5, 0.5, 0.5), deviation=5.0)
    text = decisions.verdict(wide, contrasts(dict.fromkeys(APART, 0.0), deviation=5.0))
    assert text.count("Not told apart") == 4
    text = decisions.verdict(contrasts(of(3, 3, 3, 0)), contrasts({"C - A": 3.0, "H - A": 0.0}))
    assert "Geometry helps." in text
    assert "The branch helps; the paper's sign pattern." in text
    assert "Below 0: none." in text
    text = decisions.verdict(contrasts(of(0, 0, -3, 3)), contrasts({"C - A": -3.0, "H - A": 0.0}))
    assert "The shipped branch helps by being 3D." in text
    assert "Below 0: P3, C - A." in text


def test_rules_are_calibrated() -> None:
    """Where nothing is there, no positive sentence in more than 5 % of studies (of all four together); where geometry
    is worth two points, nearly always; 24 seeds, contrasts that share an arm as P1 to P4 do.
    """
    generator, studies = np.random.default_rng(7), 600

    def share(effect: float) -> dict[str, float]:
        counts: dict[str, float] = {}
        for _ in range(studies):
            arms = {name: generator.normal(0, 1.0, 24) for name in "CDEFG"}
            arms["D"] = arms["D"] + effect
            pairs = {"P1": "DE", "P2": "DF", "P3": "DG", "P4": "CF"}
            primary = inference.declared({name: arms[one] - arms[other] for name, (one, other) in pairs.items()})
            apart = {name: inference.paired(generator.normal(0, 1, 24)) for name in APART}
            found = decisions.sentences(primary, apart)
            found["any contrast"] = any(each.above for each in primary.values())
            for sentence, holds in found.items():
                counts[sentence] = counts.get(sentence, 0) + holds / studies
        return counts

    nothing, two = share(0.0), share(2.0)
    assert nothing["any contrast"] < 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5
    assert nothing["geometry helps"] < 0.02
    assert nothing["the branch helps"] < 0.025 + 3 * (0.025 / studies) ** 0.5
    assert two["geometry helps"] > 0.95
    assert two["geometry is worth less than a point here"] < 0.01


# Rows


def test_rows_come_back_in_order_and_count_as_done(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows.append(path, row("A", 0, depth=0.1))
    rows.append(path, row("B", 0, depth=0.2))
    assert [each.arm for each in rows.read(path)] == ["A", "B"]
    assert rows.by_seed(rows.read(path), "B") == {0: {"depth": 0.2}}
    with pytest.raises(ValueError, match="already"):
        rows.append(path, row("A", 0, depth=0.3))
    assert rows.read(tmp_path / "none.jsonl") == []


def test_rows_of_two_commits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows.append(path, row("A", 0, commit="a" * 40))
    rows.append(path, row("A", 1, commit="b" * 40))
    with pytest.raises(ValueError, match=r"rows of two commits \(aaaaaaa, bbbbbbb\)") as caught:
        rows.read(path)
    assert "\n" not in str(caught.value)


def test_rows_of_another_study_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows.append(path, row("A", 0, commit="abc1", recipe="r1"))
    assert len(rows.read_declared(path, "abc", {"A": "r1"})) == 1
    with pytest.raises(ValueError, match="pinned to def"):
        rows.read_declared(path, "def")
    with pytest.raises(ValueError, match="run as r1, the study declares r2"):
        rows.read_declared(path, "abc", {"A": "r2"})
    with pytest.raises(ValueError, match="no such arm"):
        rows.read_declared(path, "abc", {"B": "r1"})


def test_a_number_that_is_not_finite_makes_no_row(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="depth is not finite"):
        rows.append(tmp_path / "x.jsonl", row(depth=float("nan")))
    assert not (tmp_path / "x.jsonl").exists()


def test_raises_for_a_damaged_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows.append(path, row())
    path.write_text(path.read_text() + '{"arm": "B"\n')
    with pytest.raises(ValueError, match="line 2"):
        rows.read(path)


def test_digest_tells_settings_apart() -> None:
    assert digest({"a": (1, 2)}) == digest({"a": [1, 2]})
    assert digest({"a": 1}) != digest({"a": 2})


# Jobs


def test_seeds_come_before_arms() -> None:
    study = Study("s", "", dict, {"A": (0, 1, 2), "B": (0, 1)}, lambda *_: {})
    assert study.jobs() == [("A", 0), ("B", 0), ("A", 1), ("B", 1), ("A", 2)]


STUDY = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.path.append({studies!r})
from lab.running import main
from lab.study import Study

import beside

def score(settings, seed, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tries = folder / "tries"
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if settings["fails"] >= len(tries.read_text()):
        raise RuntimeError("a machine stumbled")
    return {{"depth": settings["depth"] + seed + beside.MORE}}

FAILS = {{"good": 0, "stumbles": 1, "bad": 9}}
arms = lambda: {{name: {{"depth": i + 1, "fails": fails}} for i, (name, fails) in enumerate(FAILS.items())}}
study = Study("toy", {commit!r}, arms, {{"good": (0, 1), "stumbles": (0,), "bad": (0,)}}, score)
main(study, lambda found: str(len(found)))
"""


@pytest.fixture(scope="module")
def worktree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clean repository with a package `triptych`, and its commit."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "src" / "triptych").mkdir(parents=True)
    (folder / "src" / "triptych" / "__init__.py").write_text("")
    (folder / "studies").mkdir()
    (folder / "studies" / "beside.py").write_text("MORE = 0\n")
    shutil.copytree(ROOT / "studies" / "lab", folder / "studies" / "lab")
    (folder / ".gitignore").write_text("__pycache__\n")

    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        return subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "Begin")
    return folder, git("rev-parse", "HEAD")


def start(study: Path, worktree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = [
        "--source",
        str(worktree),
        "--out",
        str(study.parent / "runs"),
        "--results",
        str(study.parent / "results"),
        "--niceness",  # jobs of the lowest priority would wait for the tests beside them
        "0",
    ]
    return subprocess.run([sys.executable, str(study), *words, *places], capture_output=True, text=True)


@pytest.mark.slow
def test_a_study_runs_repeats_and_goes_on(tmp_path: Path, worktree: tuple[Path, str]) -> None:
    folder, commit = worktree
    study = tmp_path / "toy.py"
    study.write_text(STUDY.format(studies=str(ROOT / "studies"), commit=commit[:7]))
    (tmp_path / "beside.py").write_text("MORE = 10\n")  # what lies beside the study's file is not its source
    first = start(study, folder, "run")
    assert first.returncode == 1
    assert "1 jobs failed: bad, seed 0" in first.stderr
    path = tmp_path / "results" / "toy.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["arm"], each["seed"], each["scores"]["depth"]) for each in found] == [
        ("good", 0, 1),
        ("stumbles", 0, 2),  # failed once, repeated with its seed
        ("good", 1, 2),
    ]
    assert {each["commit"] for each in found} == {commit}
    again = start(study, folder, "run")
    assert "3 rows are there, 1 jobs to do" in again.stdout
    assert path.read_text().count("\n") == 3
    assert start(study, folder, "table").stdout.strip() == "3"
    other = tmp_path / "other.py"
    other.write_text(STUDY.format(studies=str(ROOT / "studies"), commit="0" * 7))
    refused = start(other, folder, "run")
    assert "the study is pinned to 0000000" in refused.stderr
    (folder / "src" / "triptych" / "new.py").write_text("")
    refused = start(study, folder, "run")
    (folder / "src" / "triptych" / "new.py").unlink()
    assert "has changes" in refused.stderr


def test_an_import_from_elsewhere_is_refused(worktree: tuple[Path, str]) -> None:
    with pytest.raises(ValueError, match="triptych is imported from"):
        source.check_import(worktree[0])
    source.check_import(ROOT)


def test_a_source_older_than_the_frame_runs_with_this_one(
    tmp_path: Path, worktree: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trunks are pinned to such a commit: it has studies, and no frame."""
    old, new = tmp_path / "old", worktree[0]
    shutil.copytree(new, old, ignore=shutil.ignore_patterns("lab", ".git"))
    (old / "studies" / "grid.py").write_text("raise ImportError('of an older frame')\n")
    assert source.search_path(new).split(os.pathsep) == [f"{new}/src", f"{new}/studies"]
    assert source.search_path(old).split(os.pathsep) == [f"{old}/src", str(ROOT / "studies")]
    monkeypatch.setitem(sys.modules, "triptych", SimpleNamespace(__file__=str(old / "src/triptych/__init__.py")))
    source.check_import(old)


def test_source_at_another_commit_is_refused(worktree: tuple[Path, str]) -> None:
    folder, commit = worktree
    assert source.check_source(folder, commit[:9]) == commit
    with pytest.raises(ValueError, match="pinned to no commit"):
        source.check_source(folder, "")
    with pytest.raises(ValueError, match="no worktree"):
        source.check_source(folder.parent, commit)


@pytest.mark.parametrize(
    "name",
    ["field_numbers", "trunks", "lab.study", "lab.inference", "lab.gains", "lab.verdicts", "lab.learned"],
)
def test_examples_run(name: str) -> None:
    import doctest
    import importlib

    # doctest looks a function's module up by name, and another test may have imported it as a sibling.
    module = importlib.import_module(name) if "." in name else sys.modules.get(name) or load(name)
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_results_are_those_of_the_checkout() -> None:
    assert running.ROOT == ROOT
