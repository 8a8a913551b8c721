"""Export: files that agree with torch, or no files at all."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import torch
from export_runs import save_run
from PIL import Image
from torch import nn
from torch.nn import functional as F
from training.tiny import RECIPE, SIZE, Heads, Stairs, change
from triptych_runtime import FileError, Network
from triptych_runtime.__main__ import main as runtime_main
from triptych_runtime.pictures import read_picture, resize_picture
from unchecked import shapes_unchecked

import triptych
from triptych import assemble
from triptych.__main__ import main
from triptych.data.photos import to_image_tensor
from triptych.datasets.folder import Folder
from triptych.decoders.base import Decoder
from triptych.evaluation.scored_runs import group_runs, read_scored_run, recipe_differences
from triptych.evaluation.scores import read_run_scores
from triptych.export import export_run, exported_program
from triptych.export.onnx_file import last_nodes, open_onnx, quantize, write_onnx
from triptych.export.program import EXTRA, DeployedModel, Program, decoded_maps, open_archive, write_package
from triptych.export.proof import EXACT, Tolerances, compare, measure_difference, measure_loss, proof_sizes
from triptych.export.run import TARGETS, read_samples, summarize
from triptych.files import hash_file, partial_path
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import Predictor, pretrained
from triptych.prediction.calibration import Scale, write_calibration
from triptych.prediction.labelling import label_folder
from triptych.tasks import boundary, depth, normals, saliency, semseg
from triptych.types import Sample

TASKS = {task.name: task for task in (semseg(3), depth(loss="log-l1"), normals(), boundary(), saliency())}


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """The tracer's sizes are no plain integers."""
    with shapes_unchecked():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what it was trained on, in two starts."""
    folder = save_run(tmp_path_factory.mktemp("runs") / "run")
    train = {"name": "rectangles", "images": 9, "pseudo": {"depth": {"teacher": "/home/someone/secret", "images": 2}}}
    starts = [{"data": {"train": train | {"images": 5}}}, {"data": {"train": train, "target": {"name": "other"}}}]
    (folder / "environment.json").write_text(json.dumps({"starts": starts}))
    return folder


@pytest.fixture(scope="module")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of fixed size, of the run's three tasks."""
    return export_run(run, tmp_path_factory.mktemp("files") / "model.onnx").path


@pytest.fixture(scope="module")
def free_file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw maps at any size."""
    return export_run(run, tmp_path_factory.mktemp("free") / "raw.onnx", dynamic=True, outputs="raw").path


def photograph(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        np.testing.assert_allclose(ours[name], value, atol=1e-5)


def test_the_file_predicts_what_the_run_predicts(run: Path, file: Path) -> None:
    expected = Predictor.load(run)(photograph())
    close(Predictor.load(file)(photograph()), expected)
    close(Network(file)(photograph()), expected)


def test_free_sizes_tiles_and_flips_work_from_the_file(run: Path, free_file: Path) -> None:
    for options in ({}, {"tile": (40, 48), "flip": True}, {"shorter_side": 50, "scales": (1.0, 1.5)}):
        expected = Predictor.load(run, **options)(photograph((61, 75)))
        close(Predictor.load(free_file, **options)(photograph((61, 75))), expected)


def test_files_label_like_the_run_and_decoded_ones_have_no_confidence(run: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(photograph()).save(tmp_path / "images/a.png")
    (tmp_path / "dataset.toml").write_text(
        '[images]\nfiles = "images/{key}.png"\n[tasks.normals]\nfiles = "normals/{key}.npy"\n'
    )
    with pytest.raises(ValueError, match="file is of decoded maps"):
        label_folder(tmp_path, str(file), ("normals",), split="all", min_confidence=0.5)
    label_folder(tmp_path, str(file), ("normals",), split="all")
    dataset = Folder(tmp_path, split="all")
    assert dataset.descriptor.pseudo["normals"].sha256 == hash_file(file)
    np.testing.assert_allclose(dataset[0].targets["normals"], Predictor.load(run)(photograph())["normals"], atol=1e-5)
    with pytest.raises(ValueError, match="sha256 differ"):
        label_folder(tmp_path, str(run), ("normals",), split="all")


def test_bytes_in_give_what_floats_give(run: Path, tmp_path: Path) -> None:
    done = export_run(run, tmp_path / "bytes.onnx", uint8=True)
    assert onnx.load(done.path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    close(Network(done.path)(photograph()), Predictor.load(run)(photograph()))


def test_the_same_values_are_an_image_at_every_end(run: Path, file: Path) -> None:
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    for predict in (Predictor.load(run).predict, Predictor.load(file).predict, lambda x: Network(file).run(x.numpy())):
        whole, scaled = predict(image), predict(image / 255)
        for name, values in whole.items():
            np.testing.assert_allclose(values, scaled[name], atol=1e-6)
        for wrong in (image.float(), image / 255 - 0.1, image / torch.nan):
            with pytest.raises(ValueError, match=r"image values run from .* in \[0, 1\]: divide by 255"):
                predict(wrong)
        with pytest.raises(ValueError, match="int64; give uint8, or floats in"):
            predict(image.long())


def test_the_description_is_in_the_file_and_beside_it(run: Path, file: Path) -> None:
    beside = json.loads(file.with_name("model.onnx.json").read_text())
    assert Network(file).metadata == beside
    assert [entry["name"] for entry in beside["maps"]] == ["semseg", "semseg_probability", "depth", "normals"]
    assert [entry["holds"] for entry in beside["maps"]] == [
        "class ids",
        "probability of the class",
        "distance along the camera's axis",
        "unit vectors (x right, y down, z forward)",
    ]
    assert [entry["kind"] for entry in beside["maps"]] == ["labels", "probability", "length", "direction"]
    assert beside["tasks"][0]["classes"] == ["0", "1", "2", "3"]
    assert beside["maps"][2]["unit"] == "m"
    assert beside["weights_sha256"] == hash_file(run / "model.safetensors")
    assert beside["proof"]["images"] == ["val-0", "val-1", "val-2", "val-3"]
    assert all(task["difference"] < 1e-5 for task in beside["proof"]["tasks"].values())
    assert beside["versions"]["triptych"] == triptych.__version__


def test_probabilities_belong_to_the_class_ids(run: Path, file: Path) -> None:
    maps, raw = Network(file)(photograph()), {}
    model, _ = pretrained.load_model(run)
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        raw = model(image).predictions["semseg"].softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(maps["semseg_probability"][0], raw.max(axis=0), atol=1e-6)
    np.testing.assert_array_equal(maps["semseg"], raw.argmax(axis=0))


def test_an_archive_holds_the_program_and_its_description(run: Path, tmp_path: Path) -> None:
    done = export_run(run, tmp_path / "model.pt2", dynamic=True)
    extra = {EXTRA: ""}
    torch.export.load(str(done.path), extra_files=extra)
    assert json.loads(extra[EXTRA])["weights_sha256"] == hash_file(run / "model.safetensors")
    image = torch.rand(1, 3, 50, 47)
    maps = open_archive(done.path, ("depth",))(image)
    np.testing.assert_allclose(maps["depth"], Predictor.load(run).predict(image)["depth"], atol=1e-5)
    with pytest.raises(FileNotFoundError, match="a run folder is needed here; give the run it was made from"):
        Predictor.load(done.path)  # a zip file, which no unpacking makes a run folder


class Sick(nn.Module):
    """A model whose file is wrong in one task."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.tasks = model, model.tasks

    def forward(self, image: torch.Tensor):
        output = self.model(image)
        off = 0.1 if torch.compiler.is_exporting() else 0.0
        return output._replace(predictions=output.predictions | {"depth": output.predictions["depth"] + off})


@pytest.mark.parametrize("words", [(), ("--precision", "fp16", "--max-loss", "100")])
def test_a_task_that_disagrees_is_named_and_no_file_is_left(
    words: tuple[str, ...],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With fewer bits, too: what they may change is no excuse for another program."""
    sick = Sick(pretrained.load_model(run)[0])
    # The traced program is that of the sick network; torch runs it without the fault.
    monkeypatch.setattr("triptych.export.run.DeployedModel", lambda model, **options: DeployedModel(model, **options))
    monkeypatch.setattr("triptych.export.run.exported_program", lambda model, *a, **k: exported_program(sick, *a, **k))
    assert main(["export", str(run), "--to", str(tmp_path / "model.onnx"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "depth differs by" in error
    assert "semseg" not in error
    assert list(tmp_path.iterdir()) == []


def test_every_task_decodes_in_the_graph(tmp_path: Path) -> None:
    backbone = Stairs()
    model = MultiTaskModel(backbone, Heads(backbone.channels, strides=backbone.strides, tasks=TASKS))
    program = exported_program(model, (32, 40))
    write_onnx(program, tmp_path / "model.onnx")
    image = torch.rand(1, 3, 32, 40)
    maps = open_onnx(tmp_path / "model.onnx", program.names)(image)
    for name, value in Predictor(model).predict(image).items():
        assert measure_difference(maps[name], value) < 1e-5


def test_differences_of_numbers_ids_and_nothing() -> None:
    assert measure_difference(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -5.0])) == pytest.approx(0.2)
    assert measure_difference(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 5])) == 0.25
    assert measure_difference(torch.tensor([torch.nan]), torch.tensor([1.0])) == torch.inf
    assert measure_difference(torch.tensor([1.0]), torch.tensor([torch.inf])) == torch.inf
    assert measure_difference(torch.ones(1, 2), torch.ones(2)) == torch.inf


def test_a_prediction_against_itself_is_perfect_where_the_metric_has_a_perfect_number() -> None:
    generator = torch.Generator().manual_seed(0)
    for name, best in (("semseg", ("mIoU", 1.0)), ("depth", ("rmse", 0.0)), ("normals", ("mErr", 0.0))):
        task = TASKS[name]
        decoded = task.decode(torch.randn(1, task.channels, 12, 16, generator=generator))
        metric = task.metric()
        metric.update(decoded, task.to_target(decoded))
        assert metric.compute()[best[0]] == pytest.approx(best[1])


def test_three_sizes_of_which_one_is_no_multiple() -> None:
    for size in ((96, 128), (448, 576), (64, 64), (40, 50)):
        sizes = proof_sizes(size, 32, smallest=33)
        assert len(set(sizes)) == 3
        assert sizes[0] == size
        assert all(side % 32 for side in sizes[2])
        assert min(min(pair) for pair in sizes) >= 33


def test_scores_of_a_file_are_not_taken_for_those_of_the_next(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(file.read_bytes())
    words = ["evaluate", str(tmp_path / "model.onnx"), "--split", "val", "--limit", "1", "--no-report"]
    assert main(words) == 0
    assert main(words) == 0
    change_metadata(file, tmp_path / "model.onnx", versions={})
    capsys.readouterr()
    assert main(words) == 2
    assert "model.onnx.results holds scores of another file" in capsys.readouterr().err
    assert main([*words[:1], str(file), *words[2:], "--confidence"]) == 2
    said = capsys.readouterr()
    assert "this file is of decoded maps or of one size" in said.err
    assert "mIoU" not in said.out  # nothing was scored


def test_wrong_requests_are_one_line(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "is.onnx").touch()
    cases = {
        ("--to", str(tmp_path / "a.onx")): "unknown kind of file '.onx'; did you mean '.onnx'?",
        ("--to", str(tmp_path / "no" / "a.onnx")): "does not exist",
        ("--to", str(tmp_path / "is.onnx")): "exists and is not overwritten",
        ("--to", str(tmp_path / "a.onnx"), "--size", "0", "40"): "give height and width",
        ("--to", str(tmp_path / "a.onnx"), "--images", "-1"): "images is -1; give how many",
        ("--to", str(tmp_path / "a.onnx"), "--dynamic", "--size", "4", "40"): "5 pixels or more",
        ("--to", str(tmp_path / "a.onnx"), "--calibrate", str(tmp_path)): "is to calibrate int8, and the precision is",
        ("--to", str(tmp_path / "a.onnx"), "--calibrate", str(run), "--precision", "int8"): "has no images",
    }
    for words, told in cases.items():
        assert main(["export", str(run), *words]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_a_package_that_is_missing_is_named_with_the_way_to_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triptych_runtime", None)
    with shapes_unchecked(), pytest.raises(ImportError, match="extra 'export', triptych_runtime is missing: "):
        export_run(run, tmp_path / "model.onnx", size=SIZE, images=1)


def test_no_space_is_told_before_the_work(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="MB left, exporting takes up to"):
        export_run(run, tmp_path / "model.onnx")
    free = iter([10**12, 1000])  # the disk fills while the file is written
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": next(free)})())
    monkeypatch.setattr("triptych.export.run.exported_program", lambda *a, **k: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(OSError, match="MB left, exporting takes up to"):
        export_run(run, tmp_path / "model.pt2", images=1)


def test_what_killed_exports_left_is_deleted_by_the_next(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.onnx", "model.onnx2", "other"):
        left = partial_path(tmp_path / name)
        left.with_name(left.name.replace(f"-{os.getpid()}", "-4194305")).mkdir()  # of a process that is dead
    monkeypatch.setattr("triptych.export.run.exported_program", lambda *words, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_run(run, tmp_path / "model.onnx", images=1)
    assert sorted(path.name.rsplit(".", 2)[0] for path in tmp_path.iterdir()) == [".model.onnx2", ".other"]


def test_an_export_that_ends_between_its_files_leaves_no_description_of_another(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, beside = tmp_path / "model.pt2", tmp_path / "model.pt2.json"
    for file in (path, beside):
        file.write_text("{}")
    monkeypatch.setattr("triptych.export.run.write_json", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_run(run, path, images=1, overwrite=True)
    assert path.stat().st_size > 1000
    assert not beside.exists()


def test_reports_weights_that_onnx_cannot_hold(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, ".onnx", replace(TARGETS[".onnx"], largest=100.0))
    with pytest.raises(ValueError, match=r"files hold at most .* GB; export to \.pt2"):
        export_run(run, tmp_path / "model.onnx")


def test_the_time_is_that_of_the_files_size_and_adapters_alone_are_exported_whole(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = pretrained.load_model(run)
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    (alone / "model.safetensors").write_bytes(b"x")
    (alone / "model.safetensors").rename(alone / "adapters.safetensors")
    timed = []
    monkeypatch.setattr(pretrained, "load_model", lambda folder, **options: loaded)
    monkeypatch.setattr("triptych.export.run.measure_seconds", lambda call, image: timed.append(image.shape) or 1.0)
    done = export_run(alone, tmp_path / "model.pt2", dynamic=True, size=(40, 56), images=1)
    assert timed == [(1, 3, 40, 56)] * 2
    assert done.weights_bytes > 1000
    assert json.loads(done.description.read_text())["weights_sha256"] == hash_file(alone / "adapters.safetensors")


def change_metadata(file: Path, out: Path, **changes: object) -> Path:
    model = onnx.load(file)
    stored = json.loads(model.metadata_props[0].value) | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"triptych": json.dumps({k: v for k, v in stored.items() if v is not None})})
    onnx.save(model, out)
    return out


def test_reports_files_that_are_no_exports(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    foreign = onnx.load(file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    cases = [
        (tmp_path / "text.onnx", "cannot be opened as ONNX"),
        (tmp_path / "foreign.onnx", "is no export of Triptych"),
        (change_metadata(file, tmp_path / "new.onnx", format=9), "has format 9, this version reads format 1"),
        (change_metadata(file, tmp_path / "cut.onnx", maps=None), "its description has no maps"),
        (
            change_metadata(file, tmp_path / "sizeless.onnx", input={"name": "image"}),
            r"has no input\.type, input\.size",
        ),
        (change_metadata(file, tmp_path / "number.onnx", input=3), r"has no input\.name"),
        (change_metadata(file, tmp_path / "unnamed.onnx", maps=[{"kind": "length"}]), r"has no maps\.name"),
    ]
    for path, told in cases:
        for load in (Network, Predictor.load):
            with pytest.raises(FileError, match=told) as caught:
                load(path)
            assert "\n" not in str(caught.value)
    maps = [entry | {"name": entry["name"] + "x"} for entry in Network(file).metadata["maps"]]
    with pytest.raises(FileError, match=r"has no map depthx, normalsx, .* which it describes"):
        Network(change_metadata(file, tmp_path / "others.onnx", maps=maps))
    for name in ("", "/tmp/x", "a/b", "..\\b", "a\x1b]0;b\x07", 3):
        named = change_metadata(file, tmp_path / "named.onnx", maps=[maps[0] | {"name": name}])
        with pytest.raises(FileError, match="maps are written to files of their names"):
            Network(named)
    with pytest.raises(FileError, match="no recipe, outputs"):
        Predictor.load(change_metadata(file, tmp_path / "bare.onnx", recipe=None, outputs=None))
    with pytest.raises(ValueError, match="holds a whole network; leave out trunk"):
        Predictor.load(file, trunk="trunk.safetensors")
    with pytest.raises(FileNotFoundError, match="no file"):
        Network(tmp_path / "nothing.onnx")
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)  # names of files are not looked for there
    with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.onnx; check the path"):
        Predictor.from_pretrained(tmp_path / "nothing.onnx")


def test_reports_sizes_and_views_that_a_file_does_not_allow(file: Path, free_file: Path) -> None:
    with pytest.raises(ValueError, match=r"takes images of 32 x 48, this one has 40 x 48"):
        Predictor.load(file)(photograph((40, 48)))
    with pytest.raises(ValueError, match=r"images are uint16; give uint8, or floats in \[0, 1\]"):
        Network(file).run(np.zeros((1, 3, *SIZE), np.uint16))
    with pytest.raises(ValueError, match=r"is run by onnxruntime on the CPU, and device is cuda"):
        Predictor.load(file, device="cuda")
    with pytest.raises(ValueError, match="from 5 x 5 on"):
        Predictor.load(free_file)(photograph((4, 48)))
    for options in ({"tile": 32}, {"flip": True}, {"scales": (0.5,)}, {"shorter_side": 32}):
        with pytest.raises(ValueError, match="--outputs raw"):
            Predictor.load(file, **options)


def test_a_file_of_one_size_takes_others_resized(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(photograph((40, 60))).save(tmp_path / "photo.png")
    words = ["predict", str(file), str(tmp_path / "photo.png"), "--products", "arrays", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "resize it (predict --resize, in Python resize=True)" in capsys.readouterr().err
    assert main([*words, "--resize"]) == 0
    assert main(["predict", str(run), *words[2:], "--resize", "--overwrite"]) == 2
    assert "--resize has no effect" in capsys.readouterr().err
    for name, expected in Network(file)(tmp_path / "photo.png", resize=True).items():
        if not name.endswith("_probability"):
            stored = np.load(tmp_path / f"out/arrays/{name}/photo.npy")
            assert stored.shape == expected.shape
            assert np.isclose(stored, expected, atol=1e-4).mean() > 0.99, name


def test_a_file_of_another_size_than_its_images_says_so_and_is_scored_on_them_resized(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match=r"split have 32 x 48 pixels, and the file takes 24 x 40 alone.* --size 32 48"):
        file = export_run(run, tmp_path / "small.onnx", size=(24, 40)).path
    assert main(["evaluate", str(file), "--split", "val", "--no-report"]) == 0
    assert "images of other sizes than 24 x 40 were resized to it" in capsys.readouterr().out
    found = json.loads((tmp_path / "small.onnx.results/evaluation-val.json").read_text())["metrics"]["depth"]
    model, recipe = pretrained.load_model(run)
    metric, predictor = model.tasks["depth"].metric(), Predictor.load(file, resize=True)
    for sample in read_samples(recipe, model, 5):
        metric.update(predictor.predict(sample.image)["depth"], sample.targets["depth"])
    assert found == pytest.approx({name: float(value) for name, value in metric.compute().items()}, rel=1e-5)


def test_a_file_keeps_its_precision_and_is_no_run_to_save(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="copy the file, or save the run it was made from"):
        Predictor.load(file).save_pretrained(tmp_path / "saved")
    Predictor.load(file, precision="auto")
    with pytest.raises(ValueError, match=r"exported with \(fp32\), and precision is bf16; leave it out"):
        Predictor.load(file, precision="bf16")


def test_the_verbs_work_from_the_file(run: Path, file: Path, tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "photo.png")
    assert main(["predict", str(file), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]) == 0
    stored = np.load(tmp_path / "out/arrays/depth/photo.npy")
    np.testing.assert_allclose(stored, Predictor.load(run)(photograph())["depth"], atol=1e-5)


def test_a_file_is_scored_like_its_run_with_a_page(run: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--split", "val", "--no-report"]) == 0
    assert main(["evaluate", str(file), "--split", "val"]) == 0
    ours, theirs = (
        json.loads((folder / "evaluation-val.json").read_text())["metrics"]
        for folder in (run, file.with_name("model.onnx.results"))
    )
    for task, numbers in theirs.items():
        assert ours[task] == pytest.approx(numbers, rel=1e-4)
    assert "mIoU" in (file.with_name("model.onnx.results") / "report.html").read_text()
    data = read_scored_run(run, "val").data
    told = read_scored_run(file.with_name("model.onnx.results"), "val").data
    assert told == data | {"trained on train.pseudo.depth.teacher": "secret"}
    assert told["trained on train.images"] == 9
    capsys.readouterr()
    assert main(["compare", str(run), str(file)]) == 0
    assert "model.onnx.results minus run" in capsys.readouterr().out
    assert main(["compare", str(run), str(file.with_name("none.onnx"))]) == 2
    assert "no file" in capsys.readouterr().err


def test_files_that_were_made_otherwise_are_no_seeds_of_one_another(run: Path, file: Path, tmp_path: Path) -> None:
    """They share a recipe but for the seed, and form a group only where they were exported alike."""
    assert main(["evaluate", str(file), "--split", "val", "--limit", "1", "--overwrite", "--no-report"]) == 0
    folders = {}
    scale, data = {"factor": 2.0, "power": 1.0}, {"train.pseudo.depth.images": 7}
    exports = {
        "a": {},
        "half": {"precision": "fp16"},
        "scaled": {"calibration": {"depth": scale}},
        "raw": {"outputs": "raw"},
        "later": {"data": data},
        "b": {},
        "scaled-b": {"calibration": {"depth": scale | {"factor": 3.0}}},  # of its own network
        "raw-b": {"outputs": "raw", "calibration": {"depth": scale}},  # which is not in raw maps
    }
    for seed, (name, told) in enumerate(exports.items()):
        folders[name] = shutil.copytree(file.with_name("model.onnx.results"), tmp_path / name)
        for path, changed in (("recipe.json", {"seed": seed}), ("network.json", told)):
            content = json.loads((folders[name] / path).read_text())
            (folders[name] / path).write_text(json.dumps(content | changed))
    groups = group_runs([read_scored_run(folder, "val") for folder in folders.values()])
    assert [[member.path.name for member in group.runs] for group in groups] == [
        ["a", "b"],
        ["half"],
        ["scaled", "scaled-b"],
        ["raw", "raw-b"],
        ["later"],
    ]
    found = recipe_differences(groups)
    assert found["exported as precision"] == ["fp32", "fp16", "fp32", "fp32", "fp32"]
    assert found["exported as calibration"] == ["none", "none", "depth", "none", "none"]
    assert found["trained on train.pseudo.depth.images"] == [2, 2, 2, 2, 7]
    folders = {name: folders[name] for name in ("a", "b", "half")}
    (folders["b"] / "network.json").write_text(json.dumps({"sha256": "0" * 64}))  # as older versions wrote it
    groups = group_runs([read_scored_run(folder, "val") for folder in folders.values()])
    assert [len(group.runs) for group in groups] == [1, 1, 1]


def test_a_file_that_was_not_scored_is_named_and_gets_no_folder(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unscored = tmp_path / "new.onnx"
    unscored.write_bytes(file.read_bytes())
    assert main(["compare", str(unscored)]) == 2
    assert f"{unscored} was not scored" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"new\.onnx was not scored on val"):
        read_run_scores(unscored, "val")
    assert list(tmp_path.iterdir()) == [unscored]


def test_a_received_run_is_scored_and_exported_with_the_data_that_are_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for split in ("train", "val"):
        for name in ("images", "depth"):
            (there / name / split).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(photograph()).save(there / f"images/{split}/{i}.png")
            np.save(there / f"depth/{split}/{i}.npy", np.full(SIZE, 2.0 + i, np.float32))
    (there / "dataset.toml").write_text(
        '[images]\nfiles = "images/{split}/{key}.png"\n[tasks.depth]\nfiles = "depth/{split}/{key}.npy"\n'
    )
    recipe = change(
        RECIPE,
        data__dataset="folder",
        data__root=str(there),
        data__tasks=("depth",),
        data__val_split="val",
        data__test_split="val",
    )
    tasks, _ = assemble.build_tasks(recipe, assemble.build_dataset(recipe, "val"))
    run = pretrained.save_folder(tmp_path / "run", assemble.build_model(recipe, tasks), recipe)
    stored = (run / "recipe.json").read_bytes()
    there.rename(here)
    commands = [["evaluate", str(run)], ["export", str(run), "--to", str(tmp_path / "model.onnx"), "--images", "1"]]
    for words in commands:
        assert main(words) == 2
        assert f"'{there}' does not exist; give the folder" in (told := capsys.readouterr().err)
        assert "--root" in told
        assert main([*words, "--root", str(here)]) == 0
    assert (run / "recipe.json").read_bytes() == stored
    assert (run / "evaluation-val.json").is_file()
    assert main(["evaluate", str(tmp_path / "model.onnx"), "--root", str(here)]) == 0


def test_the_runtime_writes_arrays_and_resizes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(photograph((64, 96))).save(tmp_path / "photo.png")
    words = [str(file), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    assert runtime_main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert runtime_main([*words, "--resize"]) == 0
    labels, vectors = (np.load(tmp_path / f"out/photo_{name}.npy") for name in ("semseg", "normals"))
    assert labels.shape == (64, 96)
    assert labels.dtype == np.int64
    capsys.readouterr()
    assert runtime_main([*words, "--resize"]) == 2
    assert "exists; choose another folder (--out), or pass --overwrite" in capsys.readouterr().err
    assert runtime_main([*words, "--resize", "--overwrite"]) == 0
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1, atol=1e-5)
    assert runtime_main([str(file)]) == 0
    assert "depth" in capsys.readouterr().out
    maps = [entry | {"unit": "m\x1b]0;title\x07"} for entry in Network(file).metadata["maps"]]
    assert runtime_main([str(change_metadata(file, tmp_path / "told.onnx", maps=maps))]) == 0
    assert "\x1b" not in capsys.readouterr().out
    (tmp_path / "b").mkdir()
    assert runtime_main([*words[:2], str(tmp_path / "b/photo.jpg"), *words[2:], "--resize"]) == 2
    assert "several images are called photo" in capsys.readouterr().err
    assert runtime_main([*words[:3], str(tmp_path / "photo.png"), "--resize"]) == 2
    assert "photo_semseg.npy cannot be written (" in capsys.readouterr().err


def test_the_runtime_resizes_as_the_task_says(file: Path, tmp_path: Path) -> None:
    maps = [entry | {"interpolation": "nearest"} for entry in Network(file).metadata["maps"]]
    nearest = Network(change_metadata(file, tmp_path / "nearest.onnx", maps=maps))
    picture = photograph((64, 96))
    own = nearest(resize_picture(picture, SIZE))["depth"]
    np.testing.assert_array_equal(nearest(picture, resize=True)["depth"], own.repeat(2, axis=1).repeat(2, axis=2))
    told = {entry["name"]: entry["interpolation"] for entry in Network(file).metadata["maps"]}
    assert {name: told[name] for name in TASKS if name in told} == {
        name: TASKS[name].interpolation for name in TASKS if name in told
    }


def test_the_runtime_reads_grey_of_any_depth_or_says_that_it_cannot(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 12).reshape(3, 4)
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "deep.pgm").write_bytes(b"P5 4 3 65535\n" + (ramp * 65535).astype(">u2").tobytes())
    for name in ("deep.png", "float.tif", "deep.pgm"):
        np.testing.assert_allclose(read_picture(tmp_path / name)[..., 1], ramp, atol=2e-5)
    for wrong in ((ramp * 70000).astype(np.int32), (ramp * 255).astype(np.int32), (ramp * 255).astype(np.float32)):
        Image.fromarray(wrong).save(tmp_path / "wrong.tif")
        for picture in (tmp_path / "wrong.tif", Image.fromarray(wrong)):
            with pytest.raises(ValueError, match="in \\[0, 1\\]"):
                read_picture(picture)
    tifffile.imwrite(tmp_path / "white.tif", (ramp * 65535).astype(np.uint16), photometric="miniswhite")
    for read in (read_picture, to_image_tensor):
        with pytest.raises(ValueError, match=r"0 is white \(MinIsWhite\)"):
            read(tmp_path / "white.tif")
    with pytest.raises(ValueError, match="array of int64; give uint8"):
        read_picture(np.full((2, 2, 3), 255))


def test_a_comparison_names_worse_scores() -> None:
    """A file that is near in numbers and worse on the labels is found by its score."""
    task = semseg(2)
    raw = torch.zeros(1, 2, 8, 8)
    raw[:, 1, :4] = 1e-6
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, :4] = 1
    sample = Sample(torch.rand(1, 3, 8, 8), {"semseg": target}, ("one",))
    proof = compare(
        lambda image: {"semseg": torch.zeros(1, 2, 8, 8)},
        lambda image: {"semseg": raw},
        {"semseg": task},
        [sample],
        [(8, 8)],
        replace(EXACT, difference=2.0),
        decoded=False,
    )
    assert any("mIoU on the labels" in problem for problem in proof.problems)
    assert proof.tasks["semseg"].loss == pytest.approx(0.75)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("wrong", [(8, 12), (16, 12)])
def test_fewer_bits_are_measured_at_every_size_and_without_labels(wrong: tuple[int, int], labelled: bool) -> None:
    """A file that says 50 m where torch says 2 m is found at whichever size it does, whether or not there is truth."""
    truth = torch.full((1, 1, 8, 12), 2.1 if labelled else torch.nan)

    def predict(image: torch.Tensor, there: float) -> dict[str, torch.Tensor]:
        return {"depth": torch.full((1, 1, *image.shape[-2:]), there if tuple(image.shape[-2:]) == wrong else 2.0)}

    for metres, is_wrong in ((50.0, True), (2.02, False)):
        proof = compare(
            lambda image, metres=metres: predict(image, metres),
            lambda image: predict(image, 2.0),
            {"depth": depth()},
            [Sample(torch.rand(1, 3, 8, 12), {"depth": truth}, ("one",))],
            [[8, 12], [16, 12]],
            Tolerances(torch.inf, torch.inf, 0.05),
        )
        assert len(proof.problems) == is_wrong
        assert all(problem.startswith("depth") for problem in proof.problems)
        assert (proof.tasks["depth"].unlabelled is None) == labelled
        assert bool(proof.tasks["depth"].scores) == labelled
    assert measure_loss(torch.nan, 0.5, better=True) == measure_loss(0.1, 0.0, better=False) == torch.inf


def test_no_tolerance_lets_nan_pass() -> None:
    """As float16 makes where it overflows: of the probability no metric is taken."""
    ids, sure = torch.zeros(1, 8, 8, dtype=torch.int64), torch.ones(1, 1, 8, 8)
    proof = compare(
        lambda image: {"semseg": ids, "semseg_probability": sure * torch.nan},
        lambda image: {"semseg": ids, "semseg_probability": sure},
        {"semseg": semseg(2)},
        [Sample(torch.rand(1, 3, 8, 8), {"semseg": ids}, ("one",))],
        [(8, 8)],
        Tolerances(torch.inf, torch.inf, 0.05),
    )
    assert proof.problems == ("semseg has values that are no numbers, or maps of another size or type",)


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)).save(
            folder / f"{number:02d}.png"
        )
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_are_measured_on_the_labels(run: Path, tmp_path: Path, precision: str) -> None:
    done = export_run(
        run,
        tmp_path / "model.onnx",
        precision=precision,
        max_loss=10.0,
        calibrate=write_images(tmp_path / "images", 32) if precision == "int8" else None,
    )
    assert json.loads(done.description.read_text())["precision"] == precision
    exact, reduced = Predictor.load(run)(photograph()), Predictor.load(done.path)(photograph())
    assert 1e-6 < np.abs(reduced["normals"] - exact["normals"]).mean() < 0.02
    assert done.proof.tasks["depth"].scores["rmse"][0] != done.proof.tasks["depth"].scores["rmse"][1]
    graph = onnx.load(done.path).graph
    assert {entry.domain for entry in onnx.load(done.path).opset_import} == {node.domain for node in graph.node}
    kept = {node.name for node in last_nodes(onnx.load(done.path)) if node.op_type == "Conv"}
    assert len(kept) == 3
    quantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    int8 = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in quantized]  # its weights
    assert len(int8) == (1 if precision == "int8" else 0)
    assert not kept & {node.name for node in int8}
    named = json.loads(done.description.read_text())["float_layers"]
    assert set(named) == (kept if precision == "int8" else set())
    assert ("layers in float32: 3 (float_layers of model.onnx.json)" in summarize(done)) == (precision == "int8")


def test_int8_rounds_nothing_after_the_last_layers(tmp_path: Path) -> None:
    """Neither the resize of their maps nor the arithmetic of decoding: metres of a disparity came in 256 steps."""
    torch.manual_seed(0)
    backbone, tasks = Stairs(), {"depth": depth(loss="disparity")}
    model = MultiTaskModel(backbone, Heads(backbone.channels, strides=backbone.strides, tasks=tasks))
    program, images = exported_program(model, SIZE), torch.rand(2, 1, 3, *SIZE)
    write_onnx(program, tmp_path / "fp32.onnx")
    assert len(quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", list(images.numpy()))) == 1
    exact, found = (
        open_onnx(tmp_path / f"{name}.onnx", ("depth",))(images[0])["depth"].unique() for name in ("fp32", "int8")
    )
    assert len(found) > 0.5 * len(exact) > 256


def test_calibration_sees_images_of_the_whole_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = write_images(tmp_path / "images", 40), []
    monkeypatch.setattr("triptych.export.run.MOST", 32)

    def quantize_and_look(source: Path, path: Path, images: list[np.ndarray]) -> tuple[str, ...]:
        seen.extend(images)
        return quantize(source, path, images)

    monkeypatch.setattr("triptych.export.run.quantize", quantize_and_look)
    done = export_run(run, tmp_path / "m.onnx", precision="int8", calibrate=folder, max_loss=10.0)
    assert len(seen) == 32
    for name in ("00", "38"):
        photo = to_image_tensor(folder / f"{name}.png").numpy()
        assert any(np.allclose(image[0], photo) for image in seen)
    assert "calibrated on 32 of 40 images in " in summarize(done)


def test_a_scale_for_another_camera_changes_no_score(run: Path, tmp_path: Path) -> None:
    """The labels are of the camera of training: compared with them, scaled metres hide what fewer bits cost."""
    model, recipe = pretrained.load_model(run)
    torch.nn.init.constant_(model.decoder.heads["depth"].bias, 2.0)
    scaled = pretrained.save_folder(tmp_path / "run", model, recipe)
    write_calibration(scaled, {"depth": Scale(2.0, 1.5)}, hash_file(scaled / "model.safetensors"), {})
    done = export_run(scaled, tmp_path / "scaled.onnx")
    own, found = Predictor.load(scaled, calibrated=False), Predictor.load(done.path)
    np.testing.assert_allclose(2 * own(photograph())["depth"] ** 1.5, found(photograph())["depth"], rtol=1e-4)
    metric = model.tasks["depth"].metric()
    for sample in read_samples(recipe, model, 4):
        metric.update(own.predict(sample.image)["depth"], sample.targets["depth"])
    for name, value in metric.compute().items():
        assert done.proof.tasks["depth"].scores[name] == pytest.approx((value, value), rel=1e-4)


def test_only_scores_of_classes_have_a_probability() -> None:
    """Ordinal classes: the id counts the logits above 0, and no softmax of these is a probability of the class."""
    ordinal = replace(semseg(4), channels=3, raw_form="encoded", decode=lambda raw: (raw > 0).sum(dim=1))
    assert set(decoded_maps("semseg", ordinal, torch.full((1, 3, 1, 1), -9.0))) == {"semseg"}


def test_a_file_that_scores_worse_than_allowed_is_not_written(run: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 32)
    with pytest.raises(ValueError, match="on the labels is"):
        export_run(run, tmp_path / "m.onnx", precision="int8", calibrate=images, max_loss=-1.0)
    assert not (tmp_path / "m.onnx").exists()


def test_reports_precisions_that_cannot_be(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--max-loss 0\.05 is for fp16 and int8, and the precision is fp32"):
        export_run(run, tmp_path / "m.onnx", max_loss=0.05)
    with pytest.raises(ValueError, match=r"unknown precision of model\.pt2 'int8'"):
        export_run(run, tmp_path / "model.pt2", precision="int8")
    with pytest.raises(ValueError, match="give 32 to 128"):
        export_run(run, tmp_path / "model.onnx", precision="int8")


class Odd(Decoder):
    """Calls what ONNX does not know."""

    def forward(self, features):
        return [{"depth": torch.special.scaled_modified_bessel_k0(features[0].mean(dim=1, keepdim=True).exp())}]


def test_an_operation_that_onnx_lacks_is_one_line(tmp_path: Path) -> None:
    model = MultiTaskModel(Stairs(), Odd((8, 16), strides=(2, 4), tasks={"depth": TASKS["depth"]}))
    with pytest.raises(ValueError, match="ONNX has no form for an operation of this network"):
        write_onnx(exported_program(model, (32, 40)), tmp_path / "model.onnx")


def test_names_that_a_kind_of_file_cannot_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a task is called image, and so is the input of ONNX files"):
        write_onnx(Program(None, ("image",), torch.zeros(1)), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="a task is called 'near, far', and packages list"):
        write_package(Program(None, ("near, far",), torch.zeros(1)), tmp_path / "model.aoti.pt2")


class SplitsAndStacks(torch.nn.Module):
    """Parts of a weight, and several matrices at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 5, 1, 1))
        self.stack = torch.nn.Parameter(torch.randn(3, 6, 5))
        self.last = torch.nn.Conv2d(15, 2, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        first, second = self.weight.split([3, 2], dim=1)
        maps = F.conv2d(image, first) + F.conv2d(image[:, :2], second)
        rows = torch.cat([maps, maps[:, :2]], dim=1).flatten(2).transpose(1, 2)  # (B, places, 6)
        stacked = (rows[:, None] @ self.stack).transpose(2, 3).flatten(1, 2)
        return {"depth": self.last(stacked.unflatten(2, image.shape[2:]))}


def test_split_weights_are_constants_and_stacked_ones_stay_in_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, images = SplitsAndStacks().eval(), torch.rand(4, 1, 3, 8, 8)
    with torch.no_grad():
        exported = torch.export.export(network, (images[0],))
    write_onnx(Program(exported, ("depth",), images[0]), tmp_path / "fp32.onnx")
    nodes = onnx.load(tmp_path / "fp32.onnx").graph.node
    assert not {"Split", "SplitToSequence", "SequenceAt"} & {node.op_type for node in nodes}
    kept = quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", list(images.numpy()))
    assert len(kept) == 2
    with torch.no_grad():
        expected = network(images[0])["depth"]
    for name, tolerance in (("fp32", 1e-5), ("int8", 0.05)):
        found = open_onnx(tmp_path / f"{name}.onnx", ("depth",))(images[0])["depth"]
        assert measure_difference(found, expected) < tolerance


def test_int8_takes_norms_into_the_convolutions_before_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = [torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1)]
    network, images = torch.nn.Sequential(*parts), torch.rand(4, 1, 3, 8, 8)
    network(images[:, 0])  # in training: statistics that are not the first ones
    with torch.no_grad():
        exported = torch.export.export(network.eval(), (images[0],))
    write_onnx(Program(exported, ("depth",), images[0]), tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", list(images.numpy()))
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}


def test_a_network_of_one_size_says_why(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stairs, "one_size", "its stairs have as many steps as the image")
    with pytest.raises(ValueError, match="one size alone: its stairs have"):
        export_run(run, tmp_path / "model.onnx", dynamic=True)
