"""Training in processes of their own: two of them (DDP, FSDP) equal one, and signals from outside."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from training.tiny import RECIPE, change

from triptych import machine, processes
from triptych.evaluation.run import evaluate_run
from triptych.machine import accelerated
from triptych.recipes.config import (
    AdaptationConfig,
    OptimizerConfig,
    Options,
    Recipe,
    RegularizerConfig,
    Value,
    to_json,
)
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

if sys.platform != "win32":
    import fcntl
    import termios

pytestmark = pytest.mark.slow

SCRIPT = str(Path(__file__).parent / "tiny.py")
NUMBERS = (
    *("loss", "losses", "weighted", "labelled", "metrics", "adaptation", "adapter"),
    *("gradient_norm", "regularizer_gradient_norm"),
)


def start(run: Path, recipe: Recipe | None, *options: str, processes: int = 1, **variables: str) -> subprocess.Popen:
    words = [sys.executable]
    if processes > 1:
        words += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words += [SCRIPT, str(run), *options]
    if recipe is not None:
        path = run.with_suffix(".json")
        path.write_text(to_json(recipe))
        words += ["--recipe", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors
    return out, errors


def last(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(run)[-1] / f"{name}.safetensors")


def records(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in NUMBERS if key in line} for line in lines]


def assert_equal_runs(ours: Path, theirs: Path) -> None:
    for name in ("model", "average"):
        first, second = last(ours, name), last(theirs, name)
        for key, value in second.items():
            torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)
    for first, second in zip(records(ours), records(theirs), strict=True):
        for key, value in second.items():
            assert first[key] is value or first[key] == pytest.approx(value, rel=1e-4), key


TWO = change(
    RECIPE,
    data__batch_size=2,
    data__options={"unlabelled": ("depth",), "every": 5},
    data__transform="none",
    model__backbone_options={"norm": False},
    model__decoder_options={"intermediate": True},
    data__auxiliary_tasks=("normals",),
    optimizer__name="sgd",
    optimizer__lr=0.01,
    schedule__steps=4,
    training__accumulate=2,
    training__ema=0.9,
)
BRANCH: Options = {"width": 8, "plane_channels": 4, "hidden": 6, "num_samples": 4}
"""A small regularizer, which renders by numba on a CPU."""

TEACHER: Options = {"teachers": ("stairs",), "teacher_weights": ("random",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the other processes have: another number of threads adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad", "one-task"])
def test_two_processes_equal_one_with_twice_the_batch(weighting: str, folder: Path) -> None:
    """Also where one of them has no label of a task: losses are means over the pixels of both."""
    recipe = change(TWO, weighting__name=weighting, data__options={"unlabelled": ("depth",), "every": 3})
    process = start(folder / f"ddp-{weighting}", recipe, processes=2)
    one = train(change(recipe, data__batch_size=4), folder / f"one-{weighting}", device="cpu", progress=False)
    finish(process)
    assert_equal_runs(folder / f"ddp-{weighting}", one)
    facts = json.loads((folder / f"ddp-{weighting}" / "environment.json").read_text())["starts"][0]
    assert (facts["processes"], facts["images_per_step"], facts["sharded"]) == (2, 8, False)


def test_a_batch_without_labels_in_one_process_stalls_nothing(folder: Path) -> None:
    finish(start(folder / "partly", TWO, processes=2))
    train_lines = [line for line in records(folder / "partly") if "labelled" in line and "loss" in line]
    assert train_lines[-1]["labelled"]["depth"] < train_lines[-1]["labelled"]["semseg"]


@pytest.mark.parametrize("sharded", ["false", "true"])
def test_mtpsl_waits_for_no_process_without_a_pair(sharded: str, folder: Path) -> None:
    """With one label per image each process has pairs of other tasks, or none."""
    options: Options = {"widths": (4, 6)}
    more = {"length": 24}  # of 12 images none keeps its classes
    recipe = change(TWO, data__options=more, data__label_setting="one", regularizer__name="mtpsl")
    run = folder / f"mtpsl-{sharded}"
    finish(start(run, change(recipe, regularizer__options=options), processes=2, ACCELERATE_USE_FSDP=sharded))
    trained = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["penalties"] > 0 for line in trained if line["kind"] == "train")


ALONE: dict[str, dict[str, object]] = {
    "distill": {"regularizer": RegularizerConfig(name="distill", options=TEACHER)},
    "one-task": {"weighting__name": "one-task"},
    "uncertainty": {
        "weighting__name": "uncertainty",
        "optimizer": OptimizerConfig(name="adamw", lr=1e-3, decay_norms=False),
    },
}


@pytest.mark.parametrize("name", ALONE)
def test_two_shards_learn_as_one_process(name: str, folder: Path) -> None:
    """By SGD with momentum, of which torch has no fused form for shards, and by AdamW, whose fused form takes no shards
    together with whole parameters.
    """
    recipe = change(TWO, data__options={}, **ALONE[name])
    process = start(folder / f"shards-{name}", recipe, processes=2, ACCELERATE_USE_FSDP="true")
    one = train(change(recipe, data__batch_size=4), folder / f"single-{name}", device="cpu", progress=False)
    finish(process)
    assert_equal_runs(folder / f"shards-{name}", one)


def test_evaluation_by_two_processes_gives_the_same_numbers(folder: Path) -> None:
    run = folder / "evaluated"
    train(change(TWO, data__options={}), run, device="cpu", progress=False)
    evaluate_run(run, device="cpu", progress=False)
    once = json.loads((run / "evaluation-test.json").read_text())
    sums = load_file(run / "evaluation-test.safetensors")
    finish(start(run, None, "--evaluate", processes=2))
    assert json.loads((run / "evaluation-test.json").read_text()) == once
    again = load_file(run / "evaluation-test.safetensors")
    assert all(torch.equal(again[name], value) for name, value in sums.items())


def test_sharded_training_equals_one_process_and_resumes_exactly(folder: Path) -> None:
    """FSDP: parameters, optimizer memory and averages are shards; checkpoints hold them whole. Network and regularizer
    are clipped by their whole norms, and the regularizer draws for all images together.
    """
    recipe = change(
        TWO,
        data__options={},
        optimizer__name="adamw",
        optimizer__lr=1e-3,
        optimizer__clip_norm=0.5,
        regularizer=RegularizerConfig(name="triplane", options=BRANCH),
    )
    one = train(change(recipe, data__batch_size=4), folder / "adamw", device="cpu", progress=False)
    run, broken = folder / "fsdp", folder / "fsdp-broken"
    finish(start(run, recipe, processes=2, ACCELERATE_USE_FSDP="true"))
    assert json.loads((run / "environment.json").read_text())["starts"][0]["sharded"] is True
    assert_equal_runs(run, one)
    shutil.copytree(run, broken)
    shutil.rmtree(list_checkpoints(broken)[-1])
    finish(start(broken, recipe, "--resume", processes=2, ACCELERATE_USE_FSDP="true"))
    for name in ("model", "average", "optimizer"):
        first, second = last(broken, name), last(run, name)
        assert all(torch.equal(first[key], second[key]) for key in second)
    assert records(broken) == records(run)


ADAPTED = change(
    TWO,
    data__options={},
    adaptation=AdaptationConfig(dataset="rectangles", split="other", optimizer=OptimizerConfig(name="sgd", lr=0.01)),
)
ADAPTERS: dict[str, dict[str, Value]] = {
    "advent-mt": {"width": 4, "weight": 0.1},
    "dacs": {"threshold": 0.3},
    "depth-mix": {"threshold": 0.3},
}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_adapt_as_one_with_twice_the_batch(name: str, folder: Path) -> None:
    """Ranges of depth, shares of sure pixels, mirroring, mixing and colours are those of all processes together."""
    recipe = change(ADAPTED, adaptation__name=name, adaptation__options=ADAPTERS[name])
    process = start(folder / f"two-{name}", recipe, processes=2)
    one = train(change(recipe, data__batch_size=4), folder / f"whole-{name}", device="cpu", progress=False)
    finish(process)
    assert_equal_runs(folder / f"two-{name}", one)
    first, second = last(folder / f"two-{name}", "adapter"), last(one, "adapter")
    for key, value in second.items():
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-6)


def test_adaptation_of_shards_is_refused(folder: Path) -> None:
    recipe = change(ADAPTED, adaptation__name="min-ent")
    process = start(folder / "shards", recipe, processes=2, ACCELERATE_USE_FSDP="true")
    errors = process.communicate(timeout=180)[1]
    assert process.returncode != 0
    assert "adaptation 'min-ent' needs whole parameters, FSDP shards them; start with DDP" in errors


def test_resuming_with_other_processes_is_refused(folder: Path) -> None:
    recipe = change(TWO, data__options={})
    finish(start(folder / "fewer", recipe, processes=2))
    shutil.rmtree(list_checkpoints(folder / "fewer")[-1])
    with pytest.raises(ValueError, match="written by 2 processes, now there are 1"):
        train(recipe, folder / "fewer", resume=True, device="cpu", progress=False)


SLOW = change(RECIPE, schedule__steps=40, data__options={"slow": 0.02}, data__num_workers=1, training__log_every=1)


def wait_for_steps(run: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("one_thread")
def test_a_signal_from_outside_saves_and_the_resumed_run_is_the_same(number: int, folder: Path) -> None:
    """The whole process group is signalled, as a terminal or a batch system does: workers with it."""
    run = folder / f"signal-{number}"
    words = [sys.executable, SCRIPT, str(run), "--recipe", str(folder / "slow.json")]
    (folder / "slow.json").write_text(to_json(SLOW))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_steps(run, process)
    os.killpg(process.pid, number)
    out, errors = finish(process, code=128 + number)
    assert "go on with --resume" in out
    assert errors == ""
    stopped = int(list_checkpoints(run)[-1].name)
    assert 0 < stopped < 40
    train(SLOW, run, resume=True, device="cpu", progress=False)
    whole = folder / "slow"
    if not whole.exists():
        train(SLOW, whole, device="cpu", progress=False)
    assert records(run) == records(whole)
    first, second = last(run, "model"), last(whole, "model")
    assert all(torch.equal(first[key], second[key]) for key in second)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
@pytest.mark.parametrize("before", [None, signal.SIG_IGN])
def test_a_terminal_that_closes_saves_and_stops_nothing_under_nohup(before: object, folder: Path) -> None:
    run = folder / f"terminal-{before is not None}"
    steps = 4000 if before is None else 40  # more than are made before the terminal closes, on however busy a machine
    recipe = change(SLOW, training__checkpoint_every=0, training__evaluate_every=0, schedule__steps=steps)
    (folder / "terminal.json").write_text(to_json(recipe))
    here, there = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(there, termios.TIOCSCTTY, 0)
        if before is not None:
            signal.signal(signal.SIGHUP, before)

    words = [sys.executable, SCRIPT, str(run), "--recipe", str(folder / "terminal.json")]
    process = subprocess.Popen(
        words, stdin=there, stdout=there, stderr=there, start_new_session=True, preexec_fn=take_terminal
    )
    os.close(there)
    os.set_blocking(here, False)
    try:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
            with suppress(BlockingIOError):
                os.read(here, 1 << 16)  # a terminal that nobody reads makes who writes to it wait
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.close(here)
        assert process.wait(timeout=120) == (128 + signal.SIGHUP if before is None else 0)
    finally:
        process.kill()
    step = int(list_checkpoints(run)[-1].name)
    assert 0 < step < steps if before is None else step == steps
    assert ("go on with --resume" in (run / "log.txt").read_text()) == (before is None)


def test_a_killed_process_ends_the_others_and_the_resumed_run_is_the_same(folder: Path) -> None:
    """torchrun stops what is left; the same command with --resume goes on from the last checkpoint."""
    recipe = change(SLOW, data__batch_size=2, schedule__steps=12, training__checkpoint_every=2)
    whole, run = folder / "unharmed", folder / "killed"
    finish(start(whole, recipe, processes=2))
    process = start(run, recipe, processes=2)
    while not list_checkpoints(run) if run.is_dir() else True:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    workers = [child for child in psutil.Process(process.pid).children() if SCRIPT in child.cmdline()]
    workers[-1].kill()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert int(list_checkpoints(run)[-1].name) < 12
    finish(start(run, recipe, "--resume", processes=2))
    assert records(run) == records(whole)
    first, second = last(run, "model"), last(whole, "model")
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_a_signal_to_every_process_of_torchrun_saves(folder: Path) -> None:
    """As batch systems and shutdowns do it: torchrun passes its own on, so that the others get it twice."""
    run = folder / "all-signalled"
    recipe = change(SLOW, data__batch_size=2, training__checkpoint_every=0, training__evaluate_every=0)
    process = start(run, recipe, processes=2)
    wait_for_steps(run, process)
    torchrun = psutil.Process(process.pid)
    for each in (*torchrun.children(recursive=True), torchrun):
        each.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode != 0
    assert [int(each.name) in range(1, 40) for each in list_checkpoints(run)] == [True], errors
    assert "go on with --resume" in (run / "log.txt").read_text()


def test_a_second_signal_leaves_at_once(folder: Path) -> None:
    run = folder / "twice"
    recipe = change(SLOW, data__options={"slow": 5.0}, data__num_workers=0, training__log_every=1, data__batch_size=1)
    process = start(run, recipe)
    wait_for_steps(run, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(machine.SAME_SIGNAL + 0.2)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - begin < 2
    assert process.returncode == -signal.SIGTERM
    assert not list_checkpoints(run)


@pytest.mark.parametrize("weighting", ["fixed", "pcgrad"])
def test_compiled_training_computes_the_same(weighting: str, folder: Path) -> None:
    """In another process, where annotations are not checked: the compiler cannot follow the checks."""
    recipe = change(TWO, data__options={}, weighting__name=weighting)
    eager = train(recipe, folder / f"eager-{weighting}", device="cpu", progress=False)
    run = folder / f"compiled-{weighting}"
    finish(start(run, change(recipe, training__compile=True)))
    assert_equal_runs(run, eager)
    assert set(load_file(run / "model.safetensors")) == set(load_file(eager / "model.safetensors"))


def test_a_callers_own_group_and_accelerator_stay(tmp_path: Path) -> None:
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        own = Accelerator(cpu=True, mixed_precision="bf16")
        with accelerated("cpu"):
            pass
        assert distributed.is_initialized()
        assert own.mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        distributed.destroy_process_group()


def test_a_group_that_was_left_outlives_the_models_that_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reducer that is the last to hold a gloo group ends it under the interpreter's lock, and may wait for ever; and
    the process gives the group's threads time to let go before it ends.
    """
    at_the_end: list[tuple] = []
    monkeypatch.setattr(processes, "_LEFT", [])
    monkeypatch.setattr(processes.atexit, "register", lambda *call: at_the_end.append(call))
    distributed = torch.distributed
    try:
        with accelerated("cpu"):
            distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
            group = distributed.group.WORLD
        assert [group] == processes._LEFT
        assert at_the_end == [(time.sleep, processes._LETTING_GO)]
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
