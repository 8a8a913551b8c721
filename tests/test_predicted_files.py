"""Predicting many files, and large ones: strips, batches, resuming, damage."""

import errno
import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from networks import TASKS, Formula, local_model, read_ply, write_images
from PIL import Image

from triptych.data.predicted import find_images
from triptych.datasets.images import Images
from triptych.prediction import image_files
from triptych.prediction.calibration import Scale
from triptych.prediction.outputs import predict_images
from triptych.prediction.predictor import Predictor
from triptych.prediction.record import Record
from triptych.prediction.strip_files import ArrayFile, write_png
from triptych.tasks import depth, regression

SEVEN = TASKS | {"heat": regression("heat"), "albedo": regression("albedo", 3)}


def quiet(line):
    pass


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def predictor():
    return Predictor(local_model(SEVEN), tile=16)


@pytest.mark.parametrize("overlay", [False, True])
def test_files_of_strips_are_those_of_whole_maps(tmp_path, monkeypatch, predictor, overlay):
    folder = write_images(tmp_path / "images", [(40, 33), (24, 50)])
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(3).integers(0, 256, (30, 21, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "turned.png", exif=exif)
    options = {"intrinsics": (30, 30, 16, 16), "color_by": "depth", "overlay": overlay, "log": quiet}
    lines: list[str] = []
    predict_images(predictor, [folder], tmp_path / "whole", **options | {"log": lines.append})
    assert lines[0].startswith("no maps of heat, which have no limits")
    monkeypatch.setattr(image_files, "STRIP", 100)
    monkeypatch.setattr(image_files, "DECODED", 100)
    predict_images(predictor, [folder], tmp_path / "strips", **options)
    whole, strips = contents(tmp_path / "whole"), contents(tmp_path / "strips")
    assert list(whole) == list(strips)
    assert len(whole) == 1 + 3 * (6 + 5 + 6 + 2)
    for name in whole:
        first, second = tmp_path / "whole" / name, tmp_path / "strips" / name
        if name.endswith(".npy"):  # a sigmoid rounds differently at the ends of a vector
            np.testing.assert_allclose(np.load(second), np.load(first), rtol=1e-6, atol=1e-6)
            assert np.load(first).dtype == np.load(second).dtype
        elif name.endswith(".png"):
            a, b = (np.asarray(Image.open(path)).astype(np.int64) for path in (first, second))
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1
            assert (a != b).mean() < 1e-3
        elif name.endswith(".ply"):
            a, b = (np.array([tuple(row.values()) for row in read_ply(path)]) for path in (first, second))
            np.testing.assert_allclose(b, a, atol=1e-5)


def test_panels_and_points_of_large_images_are_thinned_and_said(tmp_path, monkeypatch, predictor):
    folder, lines = write_images(tmp_path / "images", [(41, 33)]), []
    options = {"intrinsics": (30, 30, 16, 16), "products": ("arrays", "panels", "points")}
    predict_images(predictor, [folder], tmp_path / "whole", log=quiet, **options)
    monkeypatch.setattr(image_files, "MOST_DRAWN", 500)
    monkeypatch.setattr(image_files, "MOST_POINTS", 200)
    monkeypatch.setattr(image_files, "STRIP", 99)
    result = predict_images(predictor, [folder], tmp_path / "thin", log=lines.append, **options)
    told = "panels show one of 2x2 pixels and points show one of 3x3 pixels"
    assert result.reduced == {"0": told}
    assert lines[0] == f"0: {told}"
    predict_images(predictor, [folder], tmp_path / "thin", log=quiet, resume=True, **options)
    assert json.loads((tmp_path / "thin/predictions.json").read_text())["reduced"] == {"0": told}
    whole = {tuple(row.values()) for row in read_ply(tmp_path / "whole/points/0.ply")}
    thin = [tuple(row.values()) for row in read_ply(tmp_path / "thin/points/0.ply")]
    depth = np.load(tmp_path / "thin/arrays/depth/0.npy")[0, ::3, ::3]
    assert len(thin) == (depth > 0).sum() > 10
    rows = np.array(sorted(whole))
    for point in thin:  # a point of the whole cloud, up to rounding, with its color and normal
        assert np.abs(rows - np.array(point)).max(axis=1).min() < 1e-4
    np.testing.assert_array_equal(
        np.load(tmp_path / "thin/arrays/semseg/0.npy"), np.load(tmp_path / "whole/arrays/semseg/0.npy")
    )


def test_values_that_maps_have_no_room_for_are_counted(tmp_path):
    tasks = {"depth": depth(), "height": regression("height", limits=(0.0, 50.0))}
    predictor, lines = Predictor(Formula(tasks, **dict.fromkeys(tasks, lambda image: 100 * image[:, :1]))), []
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.full((4, 6), 255 * np.arange(6) / 5, np.uint8)).save(folder / f"{i}.png")
    predict_images(predictor, [folder], tmp_path / "out", products=("maps",), log=lines.append)
    assert lines[0].startswith("16 values of depth are outside 0 to 65.535, which is all that maps hold")
    assert lines[1].startswith("24 values of height are outside 0 to 50,")
    metres = np.asarray(Image.open(tmp_path / "out/maps/depth/0.png"))[0]
    assert metres.tolist() == [0, 20000, 40000, 60000, 0, 0]


def test_images_of_one_size_go_in_batches(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", [(9, 13), (20, 11), (9, 13), (9, 13), (20, 11)])
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    (folder / "gone.png").symlink_to("nowhere.png")
    whole = (folder / "2.png").read_bytes()
    predictor, shapes = Predictor(local_model()), []
    predict_images(predictor, [folder], tmp_path / "single", on_bad_sample="skip", log=quiet)
    forward = predictor.model.forward

    def noted(image):
        shapes.append(tuple(image.shape))
        return forward(image)

    monkeypatch.setattr(predictor.model, "forward", noted)
    (folder / "2.png").write_bytes(whole[:-30] + bytes(30))  # its header says its size
    result = predict_images(predictor, [folder], tmp_path / "batch", batch=2, on_bad_sample="skip", log=quiet)
    assert list(result.skipped) == ["2", "broken", "gone"]
    assert sorted(result.written) == ["0", "1", "3", "4"]
    assert sorted(shapes) == [(1, 3, 9, 13), (1, 3, 9, 13), (2, 3, 20, 11)]
    for name in ("0", "1", "3", "4"):
        for path in (tmp_path / "batch/arrays").glob(f"*/{name}.npy"):
            expected = np.load(tmp_path / "single" / path.relative_to(tmp_path / "batch"))
            np.testing.assert_allclose(np.load(path), expected, atol=1e-5)


def test_a_rerun_resumes_and_does_not_redo(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", [(9, 13)] * 4)
    predictor, out, lines = Predictor(local_model()), tmp_path / "out", []
    draw = image_files.draw_panel
    drawn = []

    def fail_at_third(*arguments, **options):
        drawn.append(None)
        if len(drawn) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return draw(*arguments, **options)

    monkeypatch.setattr(image_files, "draw_panel", fail_at_third)
    with pytest.raises(
        OSError, match=r"cannot write .*2\.png \(No space left on device\).*go on with resume"
    ) as raised:
        predict_images(predictor, [folder], out, log=quiet)
    assert "\n" not in str(raised.value)
    assert not [path for path in out.rglob(".*")]  # nothing half written
    assert not (out / "arrays/depth/2.npy").exists()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    (out / "arrays/depth/.3.npy.4194304.partial").touch()  # of a process that was killed
    with pytest.raises(FileExistsError, match=r"go on with resume \(--resume\), or pass overwrite"):
        predict_images(predictor, [folder], out, log=quiet)
    result = predict_images(predictor, [folder], out, resume=True, log=lines.append)
    assert (list(result.kept), list(result.written)) == (["0", "1"], ["2", "3"])
    assert lines[-1].startswith(f"predicted 2 of 4 images into {out}, 2 finished before (")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(json.loads((out / "predictions.json").read_text())["images"]) == ["0", "1", "2", "3"]
    assert not [path for path in out.rglob(".*")]
    predict_images(predictor, [folder], tmp_path / "at once", log=quiet)
    assert contents(out).keys() == contents(tmp_path / "at once").keys()
    for name, content in contents(tmp_path / "at once").items():
        assert contents(out)[name] == content, name


def test_resuming_does_not_mix_two_networks(tmp_path):
    folder, out = write_images(tmp_path / "images"), tmp_path / "out"
    predictor = Predictor(local_model())
    predict_images(predictor, [folder / "0.png"], out, log=quiet)
    with pytest.raises(ValueError, match=r"not made by this network with these options \(flip differ\)"):
        predict_images(Predictor(predictor.model, flip=True), [folder], out, resume=True, log=quiet)
    with pytest.raises(ValueError, match=r"\(overlay differ\)"):
        predict_images(predictor, [folder], out, overlay=True, resume=True, log=quiet)
    calibrated = Predictor(predictor.model, calibration={"depth": Scale(2.0)})
    with pytest.raises(ValueError, match=r"\(calibration differ\)"):
        predict_images(calibrated, [folder], out, resume=True, log=quiet)
    predict_images(calibrated, [folder / "0.png"], tmp_path / "calibrated", log=quiet)
    with pytest.raises(ValueError, match=r"\(calibration differ\)"):  # which is known from before alone
        predict_images(predictor, [folder], tmp_path / "calibrated", resume=True, log=quiet)
    with pytest.raises(ValueError, match=r"\(weights differ\)"):
        predict_images(Predictor(local_model()), [folder], out, resume=True, log=quiet)
    (out / "predictions.json").unlink()
    with pytest.raises(ValueError, match=r"predictions\.json was not made by this network"):
        predict_images(predictor, [folder], out, resume=True, log=quiet)
    assert list(predict_images(predictor, [folder], out, overwrite=True, log=quiet).written) == ["0", "1"]
    assert list(predict_images(predictor, [folder], out, resume=True, log=quiet).kept) == ["0", "1"]


def test_images_whose_paths_join_to_one_name_are_apart_in_a_batch(tmp_path):
    """a/b and a-b; maps that are drawn and not kept lie in files of their own meanwhile."""
    images = write_images(tmp_path / "made", [(9, 13), (9, 13)])
    (tmp_path / "images/a").mkdir(parents=True)
    (images / "0.png").rename(tmp_path / "images/a/b.png")
    (images / "1.png").rename(tmp_path / "images/a-b.png")
    predictor = Predictor(local_model())
    for batch in (1, 2):
        options = {"products": ("pictures",), "batch": batch, "log": quiet}
        predict_images(predictor, [tmp_path / "images"], tmp_path / str(batch), **options)
    single, together = (contents(tmp_path / each / "pictures/semseg") for each in "12")
    assert single == together
    assert len(set(single.values())) == 2


def test_images_are_kept_by_their_bytes_not_by_their_name(tmp_path):
    """Another image of the same name, and one that was edited, are refused and never recorded as what was predicted."""
    first, out = write_images(tmp_path / "a"), tmp_path / "out"
    other = write_images(tmp_path / "b", [(20, 20), (20, 11)])
    predictor, drawn = Predictor(local_model()), ("arrays", "maps", "pictures", "panels")
    predict_images(predictor, [first], out, products=drawn, fov=60.0, log=quiet)
    before = contents(out)
    for options in ({"products": drawn, "resume": True}, {"resume": True}, {"products": ("points",)}):
        with pytest.raises(ValueError, match=rf"0 in {out} was made from {first}/0\.png, and this call names {other}"):
            predict_images(predictor, [other], out, fov=60.0, log=quiet, **options)
    assert contents(out) == before
    moved = first.rename(tmp_path / "moved")
    kept = predict_images(predictor, [moved], out, products=drawn, fov=60.0, resume=True, log=quiet).kept
    assert list(kept) == ["0", "1"]
    assert contents(out) == before
    (moved / "1.png").write_bytes((other / "0.png").read_bytes())
    predict_images(predictor, [other / "1.png"], tmp_path / "edited", log=quiet)
    (other / "1.png").write_bytes((other / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"1\.png, which has changed since; choose another folder, or pass overwrite"):
        predict_images(predictor, [other / "1.png"], tmp_path / "edited", resume=True, log=quiet)
    predict_images(predictor, [other / "0.png"], out, overwrite=True, products=("arrays",), fov=60.0, log=quiet)
    left = {path.parent.name for path in out.rglob("0.*")}
    assert left == set(TASKS), "maps, pictures and panels of the other image are still there"
    assert json.loads((out / "predictions.json").read_text())["images"] == {
        "1": str(first / "1.png"),
        "0": str(other / "0.png"),
    }


def test_a_folder_never_holds_maps_of_two_networks(tmp_path):
    """However few images and products the second is asked for, and though the first was killed."""
    folder, out = write_images(tmp_path / "images", [(9, 13)] * 3), tmp_path / "out"
    predict_images(Predictor(local_model()), [folder], out, fov=60.0, log=quiet)
    record = json.loads((out / "predictions.json").read_text())
    del record["images"]["2"]
    (out / "predictions.json").write_text(json.dumps(record | {"waiting": ["2"]}))
    (out / "panels/mine.txt").touch()
    predict_images(Predictor(local_model()), [folder / "1.png"], out, products=("maps",), overwrite=True, log=quiet)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        *sorted(f"maps/{task}/1.png" for task in TASKS),
        "panels/mine.txt",
        "predictions.json",
    ]


def test_the_record_tells_what_is_finished_while_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("triptych.prediction.outputs.SECONDS_PER_RECORD", 0.0)
    folder, out, told = write_images(tmp_path / "images"), tmp_path / "out", []
    predictor = Predictor(local_model())
    forward = predictor.model.forward

    def noted(image):
        record = json.loads((out / "predictions.json").read_text())
        told.append((list(record["images"]), record["waiting"]))
        return forward(image)

    monkeypatch.setattr(predictor.model, "forward", noted)
    predict_images(predictor, [folder], out, log=quiet)
    assert told == [([], ["0", "1"]), (["0"], ["1"])]
    assert json.loads((out / "predictions.json").read_text())["waiting"] == []


def test_no_image_is_recorded_before_its_files_are_on_the_disk(tmp_path, monkeypatch):
    """As the record is: else a loss of power leaves it with names of empty files."""
    folder, flushed, write = write_images(tmp_path / "images"), set(), Record.write
    monkeypatch.setattr("triptych.prediction.outputs.SECONDS_PER_RECORD", 0.0)
    monkeypatch.setattr("triptych.prediction.outputs.flush", flushed.add)

    def noted(record, out):
        assert flushed >= {path for path in out.rglob("*.*") for name in record.images if path.stem == name}
        write(record, out)

    monkeypatch.setattr(Record, "write", noted)
    result = predict_images(Predictor(local_model()), [folder], tmp_path / "out", log=quiet)
    assert flushed >= {path for paths in result.written.values() for path in paths}


def test_what_predict_made_is_no_photograph(tmp_path, monkeypatch):
    monkeypatch.chdir(write_images(tmp_path / "images"))
    predictor = Predictor(local_model())
    for out in ("predictions", "."):
        for _ in range(2):
            result = predict_images(predictor, ["."], out, overwrite=True, log=quiet)
            assert list(result.written) == ["0", "1"]
    assert len(Images(".")) == 2
    assert list(dict(find_images(["predictions/pictures/semseg"]))) == ["0", "1"]  # asked for by name
    with pytest.raises(
        ValueError, match=r"its \d+ pictures were made by `triptych predict` .*; give the folder of the"
    ):
        find_images(["predictions"])


def test_photographs_in_folders_that_are_called_as_those_of_predictions_stay(tmp_path):
    names = ["panels/c", "pictures/a", "pictures/semsegs/b"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 9), "gray").save(tmp_path / f"{name}.png")
    predictor = Predictor(local_model())
    for resume in (False, True):
        result = predict_images(predictor, [tmp_path], tmp_path, resume=resume, log=quiet)
        assert [*result.written, *result.kept] == names
    assert len(Images(tmp_path)) == len(names)


def test_a_record_of_an_older_version_goes_on_by_path(tmp_path):
    folder, out = write_images(tmp_path / "images"), tmp_path / "out"
    predictor = Predictor(local_model())
    predict_images(predictor, [folder / "0.png"], out, log=quiet)
    record = json.loads((out / "predictions.json").read_text())
    del record["sha256"], record["waiting"]
    (out / "predictions.json").write_text(json.dumps(record))
    assert list(predict_images(predictor, [folder], out, resume=True, log=quiet).kept) == ["0"]


@pytest.mark.parametrize("part", [{"images": 3}, {"skipped": [1]}, {"reduced": None}, {"products": 5}])
def test_a_record_of_another_shape_is_no_record(tmp_path, part):
    folder, out, predictor = write_images(tmp_path / "images"), tmp_path / "out", Predictor(local_model())
    predict_images(predictor, [folder / "0.png"], out, log=quiet)
    record = json.loads((out / "predictions.json").read_text())
    (out / "predictions.json").write_text(json.dumps(record | part))
    with pytest.raises(ValueError, match=r"predictions\.json was not made by this network"):
        predict_images(predictor, [folder / "1.png"], out, log=quiet)
    predict_images(predictor, [folder / "1.png"], out, overwrite=True, log=quiet)


def test_a_record_grows_and_is_not_replaced_unasked(tmp_path):
    folder, out = write_images(tmp_path / "images"), tmp_path / "out"
    predictor = Predictor(local_model())
    mirrored = Predictor(predictor.model, flip=True)

    def recorded():
        return list(json.loads((out / "predictions.json").read_text())["images"])

    predict_images(predictor, [folder / "0.png"], out, log=quiet)
    predict_images(predictor, [folder / "1.png"], out, products=("maps",), log=quiet)
    assert recorded() == ["0", "1"]
    predict_images(predictor, [folder / "1.png"], out, overwrite=True, log=quiet)
    assert recorded() == ["0", "1"]
    before = contents(out)
    with pytest.raises(ValueError, match=r"\(flip differ\), so that this call would mix two"):
        predict_images(mirrored, [write_images(tmp_path / "others", [(20, 20)] * 3) / "2.png"], out, log=quiet)
    assert contents(out) == before
    predict_images(mirrored, [folder / "1.png"], out, overwrite=True, log=quiet)
    assert recorded() == ["1"]


def test_calls_side_by_side_list_all_their_images(tmp_path, monkeypatch):
    """Two GPUs that share the images and the folder: neither erases what the other has recorded."""
    folder, out = write_images(tmp_path / "images"), tmp_path / "out"
    predictor = Predictor(local_model())
    forward = predictor.model.forward

    def beside(image):
        monkeypatch.setattr(predictor.model, "forward", forward)
        predict_images(predictor, [folder / "1.png"], out, log=quiet)
        return forward(image)

    monkeypatch.setattr(predictor.model, "forward", beside)
    predict_images(predictor, [folder / "0.png"], out, log=quiet)
    record = json.loads((out / "predictions.json").read_text())
    assert sorted(record["images"]) == sorted(record["sha256"]) == ["0", "1"]
    assert not record["waiting"]
    assert sorted(predict_images(predictor, [folder], out, resume=True, log=quiet).kept) == ["0", "1"]


def test_progress_is_told_without_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr("triptych.prediction.outputs.SECONDS_PER_LINE", 0.0)
    lines = []
    predict_images(Predictor(local_model()), [write_images(tmp_path / "images")], tmp_path / "out", log=lines.append)
    assert any(line.startswith("1 of 2 images, ") and line.endswith(" images per second") for line in lines)
    assert lines[-1].endswith(" per second)")


def test_memory_that_ran_out_says_what_to_lower(tmp_path, monkeypatch):
    def fail(image):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.\nSee documentation")

    predictor = Predictor(local_model())
    monkeypatch.setattr(predictor.model, "forward", fail)
    with pytest.raises(
        MemoryError, match=r"memory ran out \(.*--tile 512.*--batch, now 3.*--shorter-side\.$"
    ) as raised:
        predict_images(predictor, [write_images(tmp_path / "images")], tmp_path / "out", batch=3, log=quiet)
    assert "\n" not in str(raised.value)


def test_other_errors_of_a_network_pass(tmp_path, monkeypatch):
    predictor = Predictor(local_model())
    monkeypatch.setattr(predictor.model, "forward", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_images(predictor, [write_images(tmp_path / "images")], tmp_path / "out", log=quiet)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(11, 7), (11, 7, 3), (1, 1)])
def test_pictures_in_strips_are_exact(tmp_path, dtype, shape):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    path = tmp_path / "a.png"
    write_png(path, shape[:2], (values[top : top + 3] for top in range(0, shape[0], 3)))
    header = struct.unpack(">IIBB", path.read_bytes()[16:26])
    assert header == (shape[1], shape[0], 8 * dtype().itemsize, 2 if len(shape) == 3 else 0)
    if not (dtype == np.uint16 and len(shape) == 3):  # which Pillow reads in 8 bits
        with Image.open(path) as image:
            image.verify()
        np.testing.assert_array_equal(np.asarray(Image.open(path)), values)
    else:
        from triptych.data.arrays import read_array

        np.testing.assert_array_equal(read_array(path), values)


def test_arrays_in_strips_are_what_numpy_saves(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 11, 7)).astype(np.float32)
    np.save(tmp_path / "whole.npy", values)
    with ArrayFile(tmp_path / "strips.npy", values.shape, values.dtype) as stored:
        for top in (8, 4, 0):  # in any order
            stored.write(top, values[:, top : top + 4])
        np.testing.assert_array_equal(np.concatenate(list(stored.strips(20)), axis=-2), values)
        np.testing.assert_array_equal(stored.rows(2, 9, 3), values[:, 2:9:3, ::3])
    assert zlib.crc32((tmp_path / "strips.npy").read_bytes()) == zlib.crc32((tmp_path / "whole.npy").read_bytes())


def test_parts_of_a_map_are_drawn_like_the_whole():
    values = np.random.default_rng(0).normal(2, 2, (1, 40, 30)).astype(np.float32)
    values[0, :5] = np.nan
    for task in (TASKS["depth"], SEVEN["heat"]):
        drawn = task.drawn_like([values[:, :20], values[:, 20:]])
        np.testing.assert_array_equal(drawn.colorize(values[:, 7:9]), task.colorize(values)[7:9])
    near, far = (TASKS["depth"].fit_colors([values]) or {}).values()
    known = values[np.isfinite(values) & (values > 0)].astype(np.float64)
    np.testing.assert_allclose([near, far], np.percentile(known, (2, 98)), rtol=1e-12)
    nothing = np.full((1, 3, 4), np.nan, np.float32)
    assert (TASKS["depth"].drawn_like([nothing]).colorize(nothing) == 0).all()


HOSTILE = ["<img src=x onerror=alert(1)>", "$(reboot)", "'\"", "%s{0}", "a\nb"]
NAMES = [*HOSTILE, "-rf", "a b", "né", "a..b", "x" * 251, "a.png", "a\x1b]0;b\x07"]


def test_files_of_hostile_names_are_predicted_and_told_in_one_line(tmp_path, capsys):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    pixels = np.zeros((5, 7, 3), np.uint8)
    for name in NAMES:
        Image.fromarray(pixels).save(folder / f"{name}.png")
    with open(os.path.join(os.fsencode(folder), b"\xff\xfe.png"), "wb") as file:
        file.write((folder / "a b.png").read_bytes())
    with open(os.path.join(os.fsencode(folder), b"damaged\n\x1b[2J\xff.png"), "wb") as file:
        file.write(b"")
    predictor = Predictor(local_model())
    result = predict_images(predictor, [folder], out, on_bad_sample="skip")
    assert set(result.written) == {*NAMES, os.fsdecode(b"\xff\xfe")}
    assert list(result.skipped) == [os.fsdecode(b"damaged\n\x1b[2J\xff")]
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith("skipped: ")
    assert "\\x1b[2J\\udcff" in told[0]
    for name in NAMES:
        assert (out / "arrays" / "depth" / f"{name}.npy").is_file()
    manifest = json.loads((out / "predictions.json").read_text())
    assert set(manifest["images"]) == set(result.written)
    assert set(predict_images(predictor, [folder / "-rf.png"], out, resume=True, log=quiet).kept) == {"-rf"}
