"""Generated scenes on disk: written whole, checked, resumed, the same bits from any number of threads."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from triptych.datasets.rooms import Rooms
from triptych.rooms import generation
from triptych.rooms.generation import GENERATOR, SceneSettings, render_scene

OPTIONS = {"size": (18, 24), "scenes": 4, "views": 1, "progress": False}
PINNED = {"a": ("d29043d122236033", "4730893e3a519762"), "b": ("6ae336534ef60859", "e20819cb32b20ddc")}
"""SHA-256 of labels and pictures of the first training scene at 24x32, 2 views of 2 frames, per look."""


@pytest.fixture
def forbidden(monkeypatch):
    """Rendering is an error."""

    def fail(settings, number):
        raise AssertionError(f"rendered scene {number}")

    def forbid():
        monkeypatch.setattr(generation, "render_scene", fail)

    return forbid


def digests(look):
    records = render_scene(SceneSettings("train", (24, 32), look, 2, 2, 0, False), 0)
    planes = [name for name in records.dtype.names if name not in ("image", "checksum")]
    labels = hashlib.sha256(b"".join(records[name].tobytes() for name in planes)).hexdigest()
    return labels[:16], hashlib.sha256(records["image"].tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("look", ["a", "b"])
def test_bits_are_pinned(look):
    assert digests(look) == PINNED[look], "the bits changed: raise GENERATOR and pin the new ones"


@pytest.mark.slow
def test_a_processor_without_vector_instructions_makes_the_same_bits(tmp_path):
    plain = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX",
        "TRIPTYCH_CACHE": str(tmp_path),
    }
    here = str(Path(__file__).parent)
    command = f"import sys; sys.path.insert(0, {here!r}); import test_generation as test; print(test.digests('a'))"
    done = subprocess.run(
        [sys.executable, "-c", command], env={**os.environ, **plain}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(PINNED["a"])


def test_threads_do_not_change_a_bit(tmp_path):
    one, many = Rooms(tmp_path / "one", workers=1, **OPTIONS), Rooms(tmp_path / "many", workers=4, **OPTIONS)
    assert one.files == many.files
    assert one.fingerprint() == many.fingerprint()


def test_a_second_opening_renders_nothing(tmp_path, forbidden):
    first = Rooms(tmp_path, **OPTIONS)
    forbidden()
    again = Rooms(tmp_path, **OPTIONS)
    assert torch.equal(first[2].image, again[2].image)
    assert Rooms(tmp_path, **{**OPTIONS, "scenes": 2}).num_scenes == 2


def test_the_manifest_holds_settings_and_checksums(tmp_path):
    dataset = Rooms(tmp_path, **OPTIONS)
    manifest = json.loads((dataset.folder / "manifest.json").read_text())
    assert manifest["settings"]["generator"] == GENERATOR
    assert manifest["settings"]["look"] == "a"
    assert sorted(manifest["scenes"]) == [f"scene-{n:05d}.npy" for n in range(4)]
    for name, digest in manifest["scenes"].items():
        assert hashlib.sha256((dataset.folder / name).read_bytes()).hexdigest() == digest
    assert sorted(path.name for path in dataset.folder.iterdir()) == ["manifest.json", *sorted(manifest["scenes"])]


def test_scene_files_are_plain_numpy_files(tmp_path):
    dataset = Rooms(tmp_path, **OPTIONS)
    records = np.load(dataset.folder / "scene-00001.npy", mmap_mode="r")
    assert np.array_equal(records[0]["depth"], dataset[1].targets["depth"][0])


def test_missing_scenes_are_added(tmp_path, monkeypatch):
    Rooms(tmp_path, **{**OPTIONS, "scenes": 2})
    rendered = []
    render = generation.render_scene
    monkeypatch.setattr(generation, "render_scene", lambda *a: rendered.append(a[1]) or render(*a))
    dataset = Rooms(tmp_path, **OPTIONS)
    assert sorted(rendered) == [2, 3]
    (dataset.folder / "scene-00000.npy").unlink()
    Rooms(tmp_path, **OPTIONS)
    assert sorted(rendered) == [0, 2, 3]


def test_a_killed_generation_resumes_with_what_is_sound(tmp_path, monkeypatch):
    reference = Rooms(tmp_path / "reference", **OPTIONS)
    render, rendered = generation.render_scene, []

    def die_at_two(settings, number):
        if number == 2:
            raise KeyboardInterrupt
        return render(settings, number)

    monkeypatch.setattr(generation, "render_scene", die_at_two)
    monkeypatch.setattr(os, "getpid", lambda: 4)  # begin at scene 0
    with pytest.raises(KeyboardInterrupt):
        Rooms(tmp_path / "killed", workers=1, **OPTIONS)
    folder = tmp_path / "killed" / reference.folder.name
    assert not (folder / "manifest.json").exists()
    left = sorted(path.name for path in folder.iterdir())
    assert "scene-00000.npy" in left
    assert "scene-00002.npy" not in left
    # The disk lost the end of one file, and a bit of another, when the machine went down.
    (folder / "scene-00000.npy").write_bytes((folder / "scene-00000.npy").read_bytes()[:-100])
    _flip_a_byte(folder / "scene-00001.npy")
    monkeypatch.setattr(generation, "render_scene", lambda s, n: rendered.append(n) or render(s, n))
    dataset = Rooms(tmp_path / "killed", **OPTIONS)
    assert {0, 1, 2} <= set(rendered)
    assert dataset.files == reference.files
    assert len([dataset[index] for index in range(len(dataset))]) == len(reference)


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(bytes(content))


def test_raises_for_a_damaged_file(tmp_path):
    dataset = Rooms(tmp_path, **OPTIONS)
    path = dataset.folder / "scene-00003.npy"
    _flip_a_byte(path)
    dataset[0]
    with pytest.raises(ValueError, match=r"scene-00003.npy is damaged: frame 0 .* delete it"):
        dataset[3]
    path.unlink()
    with pytest.raises(ValueError, match=r"scene-00003\.npy is missing"):
        dataset[3]
    assert Rooms(tmp_path, **OPTIONS).files == dataset.files
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"scene-00003.npy is damaged: it has \d+ bytes, not \d+"):
        Rooms(tmp_path, **OPTIONS)


def test_a_folder_that_cannot_be_written_gets_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write generated scenes to .*file.* set TRIPTYCH_CACHE, or root=,"):
        Rooms(tmp_path / "file", **OPTIONS)


def test_a_full_disk_gets_one_line_and_leaves_no_half_files(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        Rooms(tmp_path, **OPTIONS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_complete_scenes_are_read_from_a_folder_that_cannot_be_written(tmp_path, monkeypatch, forbidden):
    Rooms(tmp_path, **OPTIONS)
    forbidden()
    monkeypatch.setattr(generation, "write_manifest", lambda *a: pytest.fail("wrote a manifest"))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert Rooms(tmp_path, **OPTIONS)[0].image.shape == (3, 18, 24)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    dataset = Rooms(**OPTIONS)
    assert dataset.folder.parent == tmp_path / "rooms"


def test_progress_is_one_line_without_a_terminal(tmp_path, capsys):
    dataset = Rooms(tmp_path, **{**OPTIONS, "progress": True})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "rooms: 4 frames in" in captured.err
    assert str(dataset.folder) in captured.err
