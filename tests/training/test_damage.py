"""Runs that were killed or damaged: resumed to equal bits, or refused in one line that names the file."""

import ctypes
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from training.tiny import RECIPE, change
from workers import look_often

from triptych.evaluation.run import evaluate_run
from triptych.files import (
    check_signed,
    checksum,
    exchange,
    partial_path,
    read_tensors,
    remove_partials,
    save_tensors,
    sign,
    write_text,
    written_whole,
)
from triptych.machine import peak_memory, restart_peak_memory
from triptych.prediction.predictor import Predictor
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train

SHORT = change(RECIPE, schedule__steps=4, data__val_split="", training__evaluate_every=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(SHORT, tmp_path_factory.mktemp("run") / "run", device="cpu", progress=False)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def resume(folder: Path, recipe=SHORT) -> Path:
    return train(recipe, folder, resume=True, device="cpu", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--first", "1"], ["--first", "2", "--validation"], ["--first", "3", "--overwrite"]])
def test_a_run_that_is_killed_at_a_file_operation_resumes_to_equal_bits(words: list[str], tmp_path: Path) -> None:
    """Every fifth operation; without `--stride`, the script does all of them."""
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path), "--stride", "5", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    last = done.stdout.splitlines()[-1]
    assert last.endswith("operations, 0 differ"), done.stdout + done.stderr
    assert int(last.split()[0]) > 40


def test_resuming_deploys_what_a_kill_prevented(run: Path, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    resume(copy)
    assert (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    save_tensors(copy / "model.safetensors", {"stale": torch.zeros(1)})
    (copy / "tasks.json").write_text("{")
    resume(copy)
    assert (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (copy / "tasks.json").read_bytes() == (run / "tasks.json").read_bytes()


def test_resuming_deploys_the_best_weights_again(tmp_path: Path) -> None:
    recipe = change(RECIPE, schedule__steps=4, training__evaluate_every=2, training__checkpoint_every=2)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    path = run / "model.safetensors"
    whole = path.read_bytes()
    for content in (None, whole[: len(whole) // 2], (list_checkpoints(run)[0] / "optimizer.safetensors").read_bytes()):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        resume(run, recipe)
        assert path.read_bytes() == whole


def test_weights_that_are_nowhere_are_said(tmp_path: Path) -> None:
    """The best are of step 2, since nothing changes after it, and the only checkpoint is of step 4."""
    constant = {"model__backbone_options": {"norm": False}, "optimizer__lr": 1e-30}
    recipe = change(RECIPE, schedule__steps=4, training__evaluate_every=2, training__checkpoint_every=4, **constant)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    whole = (run / "model.safetensors").read_bytes()
    resume(run, recipe)
    assert (run / "model.safetensors").read_bytes() == whole
    (run / "model.safetensors").unlink()
    resume(run, recipe)
    said = "not of step 2, the best so far, and no checkpoint has those weights: those of step 4 are deployed"
    assert said in (run / "log.txt").read_text()
    assert Predictor.load(run)


def test_weights_of_another_evaluation_than_the_best_are_not_kept(tmp_path: Path) -> None:
    """As an evaluation deploys them whose steps are lost: on a GPU it may score otherwise the second time."""
    recipe = change(RECIPE, schedule__steps=4, training__evaluate_every=1, training__checkpoint_every=4)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    last = list_checkpoints(run)[-1]
    content = check_signed(json.loads((last / "state.json").read_text()))
    content["best"] |= {"step": 3, "weights": "00000000"}
    (last / "state.json").write_text(json.dumps(sign(content)))
    resume(run, recipe)
    assert "not of step 3, the best so far" in (run / "log.txt").read_text()
    deployed, trained = read_tensors(run / "model.safetensors"), read_tensors(last / "model.safetensors")
    assert checksum(deployed) == checksum(trained)


@pytest.mark.parametrize("lost", ["folder", "content"])
def test_raises_where_every_checkpoint_is_lost(lost: str, copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    for folder in (copy / "checkpoints").iterdir():
        shutil.rmtree(folder)
        if lost == "content":
            folder.mkdir()
    with pytest.raises(ValueError, match=r"none of its checkpoints is there or whole; copy .*checkpoints again"):
        resume(copy)
    assert (copy / "model.safetensors").read_bytes() == weights


def test_raises_where_the_only_checkpoint_of_a_run_is_lost(tmp_path: Path) -> None:
    """Without an interval a signal saves it; weights of an evaluation are there."""
    recipe = change(RECIPE, schedule__steps=3, training__evaluate_every=1, training__checkpoint_every=0)
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ValueError, match=r"none of its checkpoints is there or whole"):
        resume(run, recipe)


def test_an_empty_checkpoint_folder_is_left_out_and_said(run: Path, copy: Path) -> None:
    last = list_checkpoints(copy)[-1]
    for path in last.iterdir():
        path.unlink()
    resume(copy)
    assert f"checkpoint {last} is incomplete and left out" in (copy / "log.txt").read_text()
    assert (copy / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert (last / "state.json").is_file()


@pytest.mark.parametrize("name", ["optimizer", "weighting", "generators", "model", "adapter_optimizer"])
def test_raises_for_a_checkpoint_without_one_of_its_files(name: str, copy: Path) -> None:
    """Some have files that others do not: those that it was written with count."""
    last = list_checkpoints(copy)[-1]
    content = check_signed(json.loads((last / "state.json").read_text()))
    content["files"].setdefault(name, checksum({}))
    (last / "state.json").write_text(json.dumps(sign(content)))
    (last / f"{name}.safetensors").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=rf"{last.name} has no {name}\.safetensors; copy it again, or delete"):
        resume(copy)


def test_a_checkpoint_under_another_name_is_refused_or_no_checkpoint(copy: Path) -> None:
    last = list_checkpoints(copy)[-1]
    shutil.copytree(last, copy / "checkpoints/00000009")
    shutil.copytree(last, copy / "checkpoints/00000009.old")
    with pytest.raises(ValueError, match=r"00000009 is of step 4; give its folder that name, or delete it"):
        resume(copy)
    (copy / "checkpoints/00000009").rename(copy / "checkpoints/9 (copy)")
    resume(copy)


def mutate(path: Path, generator: random.Random) -> None:
    """Change, cut or empty a file."""
    content = bytearray(path.read_bytes())
    kind = generator.choice(["byte", "byte", "byte", "cut", "empty", "other encoding"])
    if kind == "byte":
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "other encoding":
        content[generator.randrange(len(content))] = 0xFF
    else:
        content = content[: generator.randrange(len(content)) if kind == "cut" else 0]
    path.write_bytes(content)


def one_line_about(error: BaseException, path: Path) -> bool:
    return "\n" not in str(error) and (path.name in str(error) or path.parent.name in str(error))


def loaded(folder: Path, image: torch.Tensor) -> tuple[dict, Exception | None]:
    """What a network in a folder predicts, or why it was not read."""
    try:
        return Predictor.load(folder)(image), None
    except (ValueError, FileNotFoundError) as error:
        return {}, error


@pytest.mark.parametrize("name", ["model.safetensors", "recipe.json", "tasks.json", "resolved.json"])
def test_raises_for_a_damaged_file_of_a_network(name: str, run: Path, copy: Path) -> None:
    image, generator = torch.rand(3, 32, 48), random.Random(name)
    expected = Predictor.load(run)(image)
    for _ in range(25):
        shutil.copy(run / name, copy / name)
        mutate(copy / name, generator)
        found, error = loaded(copy, image)
        if error is not None:
            assert one_line_about(error, copy / name), f"{name}: {error}"
        elif name.endswith(".safetensors"):
            assert all((found[task] == expected[task]).all() for task in expected)


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (2000, r"recipe\.json: it asks for .* at least 144\d{6} numbers, where \d{4} are stored"),
        (300_000, "too large|asks"),
    ],
)
def test_a_received_network_that_is_far_too_large_takes_no_memory(width: int, says: str, copy: Path) -> None:
    recipe = json.loads((copy / "recipe.json").read_text())
    recipe["model"] |= {"decoder": "four-level", "decoder_options": {"width": width}}
    (copy / "recipe.json").write_text(json.dumps(recipe))
    (copy / "resolved.json").unlink()
    restart_peak_memory()
    before = peak_memory()
    with pytest.raises((ValueError, MemoryError), match=says):
        Predictor.load(copy)
    if before is not None:
        assert peak_memory() - before < 1e8


def test_raises_for_weights_that_are_no_numbers(copy: Path) -> None:
    tensors = read_tensors(copy / "model.safetensors")
    tensors["decoder.heads.depth.bias"] += torch.nan
    save_tensors(copy / "model.safetensors", tensors)
    with pytest.raises(ValueError, match=r"model\.safetensors holds NaN in 1 tensors, such as decoder\.heads\.depth"):
        Predictor.load(copy)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors", "generators.safetensors"])
def test_raises_for_a_damaged_file_of_a_checkpoint(name: str, run: Path, copy: Path) -> None:
    generator, last = random.Random(name), list_checkpoints(copy)[-1]
    for _ in range(12):
        shutil.copy(list_checkpoints(run)[-1] / name, last / name)
        mutate(last / name, generator)
        with pytest.raises(ValueError) as raised:
            resume(copy)
        assert one_line_about(raised.value, last / name), f"{name}: {raised.value}"


def test_raises_for_a_damaged_environment(run: Path, copy: Path) -> None:
    for text in ("", "{", "[]", '{"starts": []}', '{"starts": [3]}', '{"starts": [{"data": {"train": 3}}]}'):
        (copy / "environment.json").write_text(text)
        with pytest.raises(ValueError, match=r"environment\.json is damaged .*move it away"):
            resume(copy)
    (copy / "environment.json").unlink()
    resume(copy)
    assert len(json.loads((copy / "environment.json").read_text())["starts"]) == 1


def test_files_have_the_modes_of_the_umask(run: Path) -> None:
    os.umask(mask := os.umask(0))
    for path in run.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), written_whole(path) as partial:
        partial.write_text("half of it is not ASCII: \u00bd", encoding="ascii")
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_texts_keep_their_line_ends_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows writes a line end of its own for each, unless it is told otherwise."""
    plain = Path.write_text

    def windows(path: Path, text: str, encoding=None, errors=None, newline=None) -> int:
        return plain(path, text, encoding, errors, newline="\r\n" if newline is None else newline)

    monkeypatch.setattr(Path, "write_text", windows)
    write_text(tmp_path / "dataset.toml", "a\r\nb\n")
    assert (tmp_path / "dataset.toml").read_bytes() == b"a\r\nb\n"


def test_partial_files_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for process in (dead.stdout.strip(), str(os.getppid())):
        (tmp_path / f".model.safetensors.{process}.partial").touch()
    (tmp_path / ".00000002.partial").mkdir()  # of an earlier version
    partial_path(tmp_path / "recipe.json").touch()
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f".model.safetensors.{os.getppid()}.partial"]


def test_what_another_thread_writes_is_its_own(tmp_path: Path) -> None:
    """It is not taken for that of a dead process, nor written by two at once."""
    with ThreadPoolExecutor(1) as pool, written_whole(tmp_path / "a.json") as mine:
        other = pool.submit(partial_path, tmp_path / "a.json").result()
        assert other != mine
        other.touch()
        remove_partials(tmp_path)
        assert other.exists()
        mine.touch()
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


WRITER = """
import os, signal, sys, time, torch
from pathlib import Path
from triptych.files import read_tensors, remove_partials, save_tensors, written_whole

path = Path(sys.argv[1])
for wait in (0.0, 0.003, 0.01, 0.02, 0.03):
    path.unlink(missing_ok=True)
    process = os.fork()
    while process == 0:
        with written_whole(path) as partial:
            save_tensors(partial, {"a": torch.zeros(4_000_000)})
    while not path.exists():
        time.sleep(0.001)
    time.sleep(wait)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    remove_partials(path.parent)
    read_tensors(path)
"""
"""Processes that are killed while they write a file again and again."""


def test_tensors_that_a_kill_cut_off_leave_nothing_that_stays(tmp_path: Path) -> None:
    """Not what the library of these files begins under a name of its own."""
    path = tmp_path / "model.safetensors"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, timeout=120, env=environment)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_tensors_are_read_back_whatever_their_type(tmp_path: Path) -> None:
    types = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
    tensors = {str(kind): torch.ones(3, 2).to(kind) for kind in types} | {
        "empty": torch.zeros(0),
        "one": torch.tensor(1),
    }
    shared = torch.arange(4.0)
    tensors |= {"shared": shared, "again": shared, "turned": torch.rand(3, 2).T}
    save_tensors(tmp_path / "a.safetensors", tensors)
    found = read_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert checksum(found) == checksum(tensors)


def test_memory_that_runs_out_in_training_says_what_to_lower(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("triptych.training.loop.take_step", fail)
    recipe = change(SHORT, schedule__name="constant", schedule__warmup_steps=0)
    with pytest.raises(
        MemoryError, match=r"^memory ran out \(.*\); lower data\.num_workers and go on with --resume"
    ) as raised:
        train(recipe, copy.with_name("other"), device="cpu", progress=False)
    assert "\n" not in str(raised.value)
    assert str(raised.value) in (copy.with_name("other") / "log.txt").read_text()


def test_a_killed_data_worker_ends_a_training_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker kills itself while the loop is somewhere else; what was saved resumes."""
    look_often(monkeypatch)
    recipe = change(SHORT, data__num_workers=1, data__options={"fatal": (7,)}, training__checkpoint_every=1)
    with pytest.raises(OSError, match=r"^one of 1 data workers was ended \(SIGKILL\), .*goes on \(--resume\), "):
        train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert "data workers was ended" in (tmp_path / "run/log.txt").read_text()


def test_scores_that_cannot_be_written_are_told_before_any_work(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("triptych.files.tempfile.TemporaryFile", read_only)
    monkeypatch.setattr("triptych.evaluation.run.open_scored_split", lambda *words: pytest.fail("it began"))
    with pytest.raises(OSError, match=r"cannot write to .*run \(Read-only file system\); .*copy it to where"):
        evaluate_run(copy, device="cpu", progress=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        evaluate_run(copy.with_name("none"), device="cpu")
    assert not copy.with_name("none").exists()


def test_a_full_disk_names_the_file_that_it_has_no_room_for(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*recipe\.json'"),
        written_whole(tmp_path / "recipe.json"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_name_that_looks_like_markup_is_shown_as_it_stands(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy.rename(copy.with_name("[red] a"))
    monkeypatch.chdir(copy.parent)
    left = Path("[red] a/.evaluation-test.json.partial")  # by an evaluation that was killed
    left.touch()
    evaluate_run(Path("[red] a"), device="cpu", constant=False)
    assert "[red] a: test" in capsys.readouterr().out
    assert not left.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("window", 3), ("best", [1]), ("best", {}), ("optimizer", {"a.b": 1}), ("seconds", "x"), ("unknown", 1)],
)
def test_raises_for_a_state_of_another_shape(key: str, value: object, copy: Path) -> None:
    """Of an earlier version, which had no checksum, or of somebody who edits it."""
    last = list_checkpoints(copy)[-1]
    content = json.loads((last / "state.json").read_text())
    del content["crc32"]
    (last / "state.json").write_text(json.dumps(content))
    resume(copy)
    (last / "state.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(ValueError, match=rf"{last.name} .*delete it to go on from an older checkpoint") as raised:
        resume(copy)
    assert "\n" not in str(raised.value)


def test_a_parameter_that_the_code_renamed_is_named_with_its_new_name(copy: Path) -> None:
    last = list_checkpoints(copy)[-1]
    path = last / "optimizer.safetensors"
    moved = ((name.replace("depth.bias", "depth.shift"), value) for name, value in read_tensors(path).items())
    content = json.loads((last / "state.json").read_text())
    del content["crc32"]
    content["files"]["optimizer"] = save_tensors(path, dict(moved))
    (last / "state.json").write_text(json.dumps(content))
    head = r"objective\.model\.decoder\.heads\.depth"
    with pytest.raises(ValueError, match=rf"of {head}\.shift, not in this network \(there is {head}\.bias, of which"):
        resume(copy)


def test_raises_for_a_whole_file_of_another_checkpoint(copy: Path) -> None:
    before, last = list_checkpoints(copy)
    shutil.copy(before / "optimizer.safetensors", last / "optimizer.safetensors")
    with pytest.raises(ValueError, match=rf"{last.name}/optimizer\.safetensors is not the file .* beside state\.json"):
        resume(copy)


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_raises_for_a_log_that_is_a_link(name: str, copy: Path, tmp_path: Path) -> None:
    """A run that somebody sent must not write to a file of ours."""
    (copy / name).unlink()
    (copy / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match=rf"{name} is a link to .*mine, which would be written to"):
        resume(copy)
    assert not (tmp_path / "mine").exists()


def test_folders_that_are_exchanged_in_three_steps_are_swept_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system has no single step (macOS, Windows); a step that fails is taken back."""
    folder = tmp_path / "run"
    beside = partial_path(folder)
    for path in (folder, beside):
        path.mkdir()
        (path / "name").write_text(path.name)
    rename, steps = Path.rename, []

    def swept(path: Path, target: Path) -> Path:
        steps.append(path.name)
        if len(steps) == 2:
            raise OSError("busy")
        rename(path, target)
        child = os.fork()
        if child == 0:
            remove_partials(tmp_path)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        return target

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: None)
    monkeypatch.setattr(Path, "rename", swept)
    with pytest.raises(OSError, match="busy"):
        exchange(beside, folder)
    assert (folder / "name").read_text() == "run"
    exchange(beside, folder)
    assert [(path / "name").read_text() for path in (beside, folder)] == ["run", beside.name]
    assert len(list(tmp_path.iterdir())) == 2


def test_partial_files_of_other_machines_go_when_nothing_changes(tmp_path: Path) -> None:
    """A folder that several machines see: their numbers of processes say nothing here."""
    old, new = (tmp_path / f".{name}.txt.00000000-1.partial" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    remove_partials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [new.name]


def test_a_name_may_be_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u65e5" * 85):
        with written_whole(tmp_path / name) as partial:
            partial.write_text("whole")
    assert sorted(len(os.fsencode(path.name)) for path in tmp_path.iterdir()) == [255, 255]
