"""What `triptych new` writes passes the checks, stands on the page, and is found once it is installed; what is wrong
fails them.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from plugin_files import as_in_a_new_process
from torch import nn

import triptych
from triptych.__main__ import main
from triptych.extending import checks, dataset_checks
from triptych.extending.new import KINDS, new_package
from triptych.metrics.values import ValuesMetric
from triptych.tasks import Task, depth, normals, regression, semseg
from triptych.tasks.error_maps import ErrorMap
from triptych.tasks.task import keep, keep_rotation

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"decoder": "add-up", "task": "shade", "dataset": "discs", "regularizer": "smooth"}


@pytest.fixture(autouse=True)
def apart() -> Iterator[None]:
    with as_in_a_new_process():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_the_checks(kind: str, tmp_path: Path, monkeypatch, capsys) -> None:
    name = f"some-{kind}"
    assert main(["new", kind, name, "--out", str(tmp_path)]) == 0
    monkeypatch.syspath_prepend(tmp_path / f"triptych-{name}")
    module = f"triptych_some_{kind}"
    assert f"triptych check {module}" in capsys.readouterr().out
    assert main(["check", module]) == 0
    found = capsys.readouterr().out
    assert "FAILED" not in found
    assert found.count("\nok") >= 3
    assert main(["new", kind, name, "--out", str(tmp_path)]) == 2  # nothing is overwritten
    del sys.modules[module]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_what_is_written(kind: str, tmp_path: Path) -> None:
    package = new_package(kind, EXAMPLES[kind], tmp_path)
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert (package / f"{package.name.replace('-', '_')}.py").read_text(encoding="utf-8").strip() in page


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("decoder", "invpt", "there is a decoder 'invpt' already"),
        ("task", "human-parts", "there is a task 'human_parts' already"),
        ("task", "regression", "there is a task 'regression' already"),
        ("decoder", "mtan", "there is a decoder 'mtan' already"),
        ("decoder", "none", "'none' is a word of Python or PyTorch"),
        ("task", "class", "'class' is a word of Python or PyTorch"),
        ("task", "values", "'values' is a word of Python or PyTorch"),
        ("decoder", "My Decoder", "'My Decoder' is no name; write small letters"),
        ("decoders", "mine", "unknown kind of part 'decoders'; did you mean 'decoder'"),
    ],
)
def test_names_that_cannot_be_are_refused(kind: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        new_package(kind, name, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_installed_package_needs_no_option(tmp_path: Path) -> None:
    package = new_package("decoder", "found-by-name", tmp_path)
    site = tmp_path / "site"
    words = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(package)]
    subprocess.run([sys.executable, "-m", *words], check=True, cwd=tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT / 'src'}"}
    for words in (
        ["-m", "triptych", "list", "plugins"],
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)],
    ):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "decoders found-by-name" in done.stdout or "6 passed" in done.stdout


# What is wrong is found


def problems(kind: str, name: str) -> list[str]:
    """The checks of a registered part that do not hold."""
    found = []
    for check in checks.CHECKS[kind]:
        try:
            check(name, "")
        except Exception as error:
            found.append(f"{check.__name__}: {error}")
    return found


def unmasked(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (raw - target).abs().nanmean()


def test_a_loss_that_is_not_masked_fails() -> None:
    triptych.register("tasks", "leaky", lambda: regression("leaky", loss=unmasked))
    found = problems("tasks", "leaky")
    assert any("ignores_missing_labels" in one and "not 0" in one for one in found), found


def test_a_task_that_no_file_gives_back_fails() -> None:
    triptych.register("tasks", "unmade", lambda: "no task")
    triptych.register("tasks", "renamed", lambda: replace(regression("heat"), constructor=""))
    assert any("unmade() is 'no task', no triptych.Task" in one for one in problems("tasks", "unmade"))
    assert any("is_stored: unknown task 'heat'" in one for one in problems("tasks", "renamed"))


def test_an_error_that_cannot_be_drawn_fails() -> None:
    error = ErrorMap("error", lambda prediction, target: prediction - target)
    triptych.register("tasks", "flow", lambda: replace(regression("flow", 2), error=error))
    assert any("its error map (error) is (2, 37, 50)" in one for one in problems("tasks", "flow"))


def test_raw_maps_that_are_called_what_they_are_not_fail() -> None:
    triptych.register("tasks", "log_depth", lambda: replace(depth(), name="log_depth", decode=torch.exp))
    assert any("raw_form is 'physical', and decoding" in one for one in problems("tasks", "log_depth"))


class Worst(triptych.Metric):
    """The largest error, which is no sum."""

    primary = "worst"
    better: ClassVar = {"worst": False, "gain": True}

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("worst")

    def update(self, prediction, target) -> None:
        error = (prediction - target)[triptych.valid_pixels(target)].abs()
        self.worst = max(self.worst, error.max(), key=float) if len(error) else self.worst

    def compute(self) -> dict[str, float]:
        return {"worst": float(self.worst), "gain": float(3 - self.worst)}


class Gain(Worst):
    """Below 0, which nothing compares."""

    primary = "gain"

    def update(self, prediction, target) -> None:
        self.worst = self.worst + triptych.valid_pixels(target).sum()


def test_a_metric_that_evaluation_would_compute_otherwise_fails() -> None:
    triptych.register("tasks", "worst", lambda: replace(regression("worst"), metric=Worst))
    triptych.register("tasks", "gain", lambda: replace(regression("gain"), metric=Gain))
    assert any("of its images one by one: states are added up" in one for one in problems("tasks", "worst"))
    assert any("'gain' is -3697: below 0 needs `below_zero`" in one for one in problems("tasks", "gain"))


class Undefined(ValuesMetric):
    """Beside its errors a number that random labels do not have."""

    better: ClassVar = {**ValuesMetric.better, "undefined": True}

    def compute(self) -> dict[str, float]:
        return super().compute() | {"undefined": float("nan")}


def test_a_second_number_that_is_not_defined_is_no_fault() -> None:
    triptych.register("tasks", "undefined", lambda: replace(regression("undefined"), metric=Undefined))
    assert not any("is_scored" in one for one in problems("tasks", "undefined"))


class Cracks(triptych.DenseDataset):
    """A class map of two classes by one logit."""

    name = "cracks"

    def __init__(self, root: str = "", *, split: str = "train") -> None:
        self.tasks: dict[str, Task] = {"semseg": replace(semseg(["sound", "crack"]), channels=1)}

    def __len__(self) -> int:
        return 1

    def key(self, index: int) -> str:
        return "a"

    def __getitem__(self, index: int) -> triptych.Sample:
        return triptych.Sample(torch.rand(3, 2, 4), {"semseg": torch.arange(8).view(2, 4) % 2}, "a")


def test_ids_are_those_of_the_classes_and_not_of_channels() -> None:
    triptych.register("datasets", "cracks", Cracks)
    dataset_checks.has_targets("cracks", "")


def test_an_argument_that_is_not_stored_fails() -> None:
    def forgetful(*, gain: float = 1.0) -> Task:
        return replace(regression("forgetful", loss=lambda raw, target: gain * raw.sum()), constructor="forgetful")

    triptych.register("tasks", "forgetful", forgetful)
    assert any("with gain=2.0 task 'forgetful' cannot be rebuilt" in one for one in problems("tasks", "forgetful"))


def test_directions_that_do_not_turn_and_lengths_that_do_not_shrink_fail() -> None:
    triptych.register("tasks", "stiff", lambda: replace(normals(), name="stiff", mirror=keep))
    triptych.register("tasks", "fixed", lambda: replace(normals(), name="fixed", rotate=keep_rotation))
    triptych.register("tasks", "rigid", lambda: replace(depth(), name="rigid", scales_with_zoom=False))
    for name, said in (("stiff", "negate the x"), ("fixed", "does not turn"), ("rigid", "do not shrink")):
        assert any("targets_move" in one and said in one for one in problems("tasks", name)), name


class Idle(triptych.Decoder):
    """Has a layer that nothing depends on, batch statistics in evaluation, and maps of two channels."""

    def __init__(self, channels, *, strides, tasks) -> None:
        super().__init__(channels, strides=strides, tasks=tasks)
        self.idle = nn.Linear(2, 2)
        self.head = nn.Conv2d(channels[0], 2, 1)

    def forward(self, features):
        raw = self.head(features[0])
        return [{name: raw - raw.mean(dim=0) for name in self.tasks}]


def test_a_decoder_that_does_not_what_it_should_fails() -> None:
    triptych.register("decoders", "idle", Idle)
    found = "\n".join(problems("decoders", "idle"))
    assert "the raw map of semseg is (2, 2, 37, 50), not (2, 4, 37, 50)" in found
    assert "learns_every_part" in found
    assert "sees_single_images" in found


class Careless(triptych.DenseDataset):
    """Draws anew whenever it is read, in units of 255, under one key."""

    name = "careless"

    def __init__(self, root: str = "", *, split: str = "train") -> None:
        self.tasks: dict[str, Task] = {"depth": depth()}

    def __len__(self) -> int:
        return 3

    def key(self, index: int) -> str:
        return "a"

    def __getitem__(self, index: int) -> triptych.Sample:
        return triptych.Sample(255 * torch.rand(3, 4, 4), {"depth": torch.rand(4, 4)}, "a")


def test_a_dataset_is_opened_anew_by_each_check(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mended.py").write_text(
        f"import triptych\nfrom {__name__} import Cracks\n\nLENGTH = 0\n\nclass Mended(Cracks):\n"
        "    def __init__(self, root: str = '', *, split: str = 'train') -> None:\n"
        "        super().__init__(root, split=split)\n        self.length = LENGTH\n\n"
        "    def __len__(self) -> int:\n        return self.length\n\n"
        "triptych.register('datasets', 'mended', Mended)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for length, said in ((0, "ValueError: it is empty."), (1, "")):
        found = triptych.check_plugin("mended")
        assert {one.problem for one in found if one.property.startswith("It has samples")} == {said}
        sys.modules["mended"].LENGTH = length + 1
    del sys.modules["mended"]


def test_checks_leave_the_random_numbers_alone(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "chance.py").write_text(
        "import triptych\n\nclass Chance(triptych.Regularizer):\n    pass\n\n"
        "triptych.register('regularizers', 'chance', Chance)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = torch.get_rng_state()
    assert triptych.check_plugin("chance")
    assert torch.equal(torch.get_rng_state(), before)
    del sys.modules["chance"]


def test_a_careless_dataset_fails_everywhere() -> None:
    triptych.register("datasets", "careless", Careless)
    found = "\n".join(problems("datasets", "careless"))
    for sentence in (
        "two samples have one key",
        r"a: the image lies in \[",
        r"a: the target of depth is \(4, 4\), not \(1, 4, 4\)",
        "differs when it is read again",
        "has no fingerprint",
        "split 'no-such-split' is opened; triptych.named_choice",
    ):
        assert re.search(sentence, found), found


class Views(Cracks):
    """Photographs with cameras and a frame before each, of which the first has none; tests spoil some of it."""

    spoilt: ClassVar[dict[str, object]] = {}

    def __init__(self, root: str = "", *, split: str = "train", neighbor_frames: tuple[int, ...] = ()) -> None:
        super().__init__(root, split=split)
        self.offsets = neighbor_frames

    def __len__(self) -> int:
        return 3

    def key(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> triptych.Sample:
        bare = replace(super().__getitem__(index), key=str(index), camera=triptych.Camera(torch.eye(3), torch.eye(4)))
        there = triptych.as_neighbor(replace(bare, targets={}), -1)
        views = [there if index else triptych.missing_view(bare, offset) for offset in self.offsets]
        spoilt = {"view": lambda view: view, "views": lambda views: views, **self.spoilt}
        return replace(bare, neighbors=tuple(spoilt["views"]([spoilt["view"](view) for view in views])))


MATRIX, POSE = torch.eye(3), torch.eye(4)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({}, ""),
        ({"view": lambda view: replace(view, camera=triptych.Camera(torch.ones(3), POSE))}, "intrinsics are (3,)"),
        ({"view": lambda view: replace(view, camera=triptych.Camera(MATRIX, MATRIX))}, "the pose is (3, 3)"),
        ({"view": lambda view: replace(view, camera=triptych.Camera(MATRIX, 2 * POSE))}, "is no rigid motion"),
        ({"view": lambda view: replace(view, camera=None)}, "or less of a camera than the sample"),
        ({"view": lambda view: replace(view, image=torch.rand(3, 4, 4))}, "is (3, 4, 4); give its size"),
        ({"view": lambda view: replace(view, extras={})}, "triptych.as_neighbor"),
        ({"views": lambda views: views[: int(views[0].image.isfinite().all())]}, "samples have 0 or 1 neighbors"),
        ({"view": lambda view: replace(view, targets={"a": POSE} if view.key else {})}, "has other targets"),
    ],
)
def test_cameras_and_neighbors_are_looked_at(spoilt: dict[str, object], said: str, monkeypatch) -> None:
    monkeypatch.setattr(Views, "spoilt", spoilt)
    triptych.register("datasets", "views", Views)
    found = problems("datasets", "views")
    assert any(one.startswith("has_cameras") and said in one for one in found) == bool(said), found


def test_a_dataset_without_a_name_has_that_of_its_class() -> None:
    assert type("Nameless", (triptych.DenseDataset,), {})().name == "Nameless"


def test_options_that_may_be_given_by_their_place_fail() -> None:
    class Placed(Cracks):
        def __init__(self, root: str = "", split: str = "train", gain: float = 1.0) -> None:
            super().__init__(root, split=split)

    triptych.register("datasets", "placed", Placed)
    assert any("'split' may be given by its place, and is no option" in one for one in problems("datasets", "placed"))


class Aloof(triptych.Regularizer):
    """A term of chance, of a task that there is not."""

    def __init__(self, channels, *, strides, tasks, weight: float = 1.0) -> None:
        super().__init__()

    def forward(self, output, sample):
        return {"heat": torch.rand(())}


def test_a_regularizer_of_chance_fails() -> None:
    triptych.register("regularizers", "aloof", Aloof)
    found = "\n".join(problems("regularizers", "aloof"))
    assert "it returns heat, which is no task" in found
    assert "its terms depend on nothing that is trained" in found
    assert "it draws from torch's own random numbers" in found


@pytest.mark.parametrize("name", ["boundary", "depth", "human_parts", "normals", "saliency", "semseg"])
def test_tasks_of_the_library_pass(name: str) -> None:
    assert problems("tasks", name) == []


@pytest.mark.parametrize("name", ["fcn", "pad-net"])
def test_decoders_of_the_library_pass(name: str) -> None:
    assert problems("decoders", name) == []


@pytest.mark.parametrize("name", ["auxiliary-heads", "second-heads", "triplane", "triplane-cross-view"])
def test_regularizers_of_the_library_pass(name: str) -> None:
    """Also one that needs a second view, and one that copies the decoder."""
    assert problems("regularizers", name) == []
