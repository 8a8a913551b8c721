"""Predictor: any size in, the same size out; tiles, flips, scales, files."""

import json
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event, current_thread, main_thread

import numpy as np
import pytest
import torch
from networks import TASKS, Formula, local_model, read_ply, write_images
from PIL import Image
from torch import nn
from unchecked import shapes_unchecked

from triptych.assemble import create_model, scored_size
from triptych.augmentation.presets import TRANSFORMS, build_transform
from triptych.data.cameras import intrinsics_from_field_of_view, intrinsics_matrix
from triptych.data.photos import read_image, to_image_tensor
from triptych.data.predicted import find_images
from triptych.drawing.panels import overlay_map
from triptych.prediction import predictor as prediction
from triptych.prediction.confidence import Confident
from triptych.prediction.outputs import advise_size, predict_images
from triptych.prediction.point_cloud import backproject, write_points
from triptych.prediction.predictor import Predictor
from triptych.prediction.pretrained import save_folder
from triptych.prediction.strips import Batch, resize, windows
from triptych.recipes.config import DataConfig, ModelConfig, Recipe
from triptych.tasks import boundary, depth, normals, regression, semseg
from triptych.tasks.stored import tasks_from_json, write_tasks
from triptych.types import Sample


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (64, 17)])
@pytest.mark.parametrize(
    "options", [{}, {"tile": (24, 40)}, {"flip": True, "scales": (0.5, 1.0, 1.3)}, {"shorter_side": 20, "tile": 16}]
)
def test_maps_have_the_images_own_size(size, options, device):
    predictor = Predictor(local_model(), device=device, **options)
    maps = predictor(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert list(maps) == list(TASKS)
    assert maps["semseg"].shape == size
    assert maps["semseg"].dtype == np.int64
    for name, channels in {"depth": 1, "normals": 3, "boundary": 1}.items():
        assert maps[name].shape == (channels, *size)
        assert maps[name].dtype == np.float32
        assert np.isfinite(maps[name]).all()
    np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=0), 1, atol=1e-4)


def test_tiles_equal_the_whole_image_for_a_local_model():
    """The unused quarter of the overlap (4 of 16 pixels) covers the receptive field, so nothing of the tiling is
    seen.
    """
    model, image = local_model(), torch.rand(2, 3, 75, 93)
    whole, tiled = Predictor(model).predict(image), Predictor(model, tile=(32, 40), overlap=0.4).predict(image)
    for name in TASKS:
        torch.testing.assert_close(tiled[name], whole[name], atol=1e-4, rtol=1e-4)
    # Without overlap the zero padding at inner edges must show, or the comparison above says nothing.
    seams = Predictor(model, tile=(32, 40), overlap=0.0).predict(image)
    assert (seams["depth"] - whole["depth"]).abs().max() > 1e-2


def test_every_pass_sees_exactly_the_tile():
    sizes = []
    model = Formula(
        {"depth": TASKS["depth"]}, depth=lambda image: (sizes.append(tuple(image.shape[-2:])), image[:, :1])[1]
    )
    image = torch.rand(1, 3, 50, 20)
    maps = Predictor(model, tile=(24, 32)).predict(image)
    assert set(sizes) == {(24, 32)}
    torch.testing.assert_close(maps["depth"], image[:, :1])  # blended, and cropped back from 32 columns


@pytest.mark.parametrize("length", [1, 31, 32, 33, 57, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_windows_cover_every_pixel(length, overlap):
    total = np.zeros(max(length, 32))
    for start, weight in windows(len(total), 32, overlap):
        assert 0 <= start <= len(total) - 32
        total[start : start + 32] += weight.numpy()
    assert (total > 0.4).all()


def test_flip_mirrors_normals_and_leaves_an_equivariant_model_alone():
    def equivariant(image):
        difference = image[..., 2:] - image[..., :-2]
        return torch.cat([nn.functional.pad(difference, (1, 1))[:, :1], image[:, 1:] + 0.5], dim=1)

    tasks = {"normals": TASKS["normals"]}
    image = torch.rand(1, 3, 9, 14)
    model = Formula(tasks, normals=equivariant)
    torch.testing.assert_close(Predictor(model, flip=True).predict(image), Predictor(model).predict(image))
    # A constant x is what no mirror-equivariant model says: averaging must cancel it.
    constant = Formula(tasks, normals=lambda image: torch.ones_like(image))
    predicted = Predictor(constant, flip=True).predict(image)["normals"]
    torch.testing.assert_close(predicted[:, 0], torch.zeros(1, 9, 14))
    torch.testing.assert_close(predicted[:, 1], torch.full((1, 9, 14), 0.5**0.5))


def _swap(ids):
    return torch.where(ids == 1, 2, torch.where(ids == 2, 1, ids))


def _scores(ids):
    return 9.0 * nn.functional.one_hot(ids, 3).permute(2, 0, 1)[None]


def _encoded(angles):
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def _angles(raw):
    return torch.atan2(raw[:, 1:], raw[:, :1])


HANDS = replace(semseg(["none", "a", "b"]), name="hands", mirror=_swap)
COMPASS = replace(
    regression("compass"), channels=2, decode=_angles, mirror=torch.neg, raw_form="encoded", encode=_encoded
)


@pytest.mark.parametrize(
    ("task", "raw_of", "target"),
    [
        (HANDS, _scores, torch.arange(15).view(3, 5) % 3),
        (COMPASS, _encoded, torch.linspace(-1.4, 1.4, 15).view(1, 3, 5)),
    ],
    ids=["classes", "angles"],
)
def test_a_network_that_knows_what_a_mirror_does_is_not_changed_by_flips(task, raw_of, target):
    """Whose targets' values a mirror changes, and its raw maps are something else than values."""
    ramp = torch.linspace(0, 1, 5).expand(1, 3, 3, 5)

    def right(image):
        is_mirrored = image[0, 0, 0, 0] > image[0, 0, 0, -1]
        return raw_of(task.mirror(target).flip(-1) if is_mirrored else target)

    predictor = Predictor(Formula({task.name: task}, **{task.name: right}), flip=True, scales=(1.0, 1.0))
    maps = Confident(predictor).predict(ramp)
    torch.testing.assert_close(maps.pop(task.name)[0], target)
    assert all(confidence.min() > 0.9 for confidence in maps.values())


def test_a_network_of_one_size_resizes_decoded_maps_as_their_task_says():
    tasks = {"heat": regression("heat"), "kinds": replace(regression("kinds"), interpolation="nearest")}
    model = Formula(tasks, heat=lambda image: image[:, :1], kinds=lambda image: image[:, :1])
    model.fixed_size = (2, 2)
    ramp = torch.linspace(0, 1, 4).expand(1, 3, 4, 4)
    maps = Predictor(model, resize=True).predict(ramp)
    assert [len(maps[name][0, 0, 0].unique()) for name in tasks] == [4, 2]


@pytest.mark.parametrize("inverse", [False, True])
def test_scales_undo_the_zoom_in_metres(inverse):
    """A model that reads depth from apparent size must agree with itself at every scale, whether it outputs metres or
    their inverse.
    """

    def reciprocal(values):
        return 1 / values

    task = replace(depth(), decode=reciprocal) if inverse else depth()

    def apparent(image):
        metres = torch.full_like(image[:, :1], 200 / image.shape[-1])  # falls as the image grows
        return reciprocal(metres) if inverse else metres

    model = Formula({"depth": task}, depth=apparent)
    image = torch.rand(1, 3, 20, 40)
    predicted = Predictor(model, scales=(0.5, 1.0, 2.0)).predict(image)["depth"]
    torch.testing.assert_close(predicted, torch.full_like(predicted, 5.0))


def test_predicting_leaves_the_training_state_alone():
    model = local_model().train()
    model.decoder.heads.eval()  # a frozen part stays as it was
    first, second = (Predictor(model).predict(torch.ones(1, 3, 8, 8)) for _ in range(2))
    torch.testing.assert_close(first, second)  # dropout was off
    assert model.training
    assert model.decoder.drop.training
    assert not model.decoder.heads.training
    assert not first["depth"].requires_grad


def test_predictions_that_overlap_are_all_in_evaluation_mode():
    """Those of strips that are begun at once, and of threads; the caller's modes are its own in between."""
    model, image = local_model().train(), Batch(torch.ones(1, 3, 32, 8))
    predictor = Predictor(model, tile=8, overlap=0.0)
    whole = predictor.predict(image.rows(0, 32))["depth"]
    short, long = predictor.strips(Batch(torch.ones(1, 3, 8, 8)), rows=8), predictor.strips(image, rows=8)
    strips = [next(long)]
    assert model.training
    assert len([*short]) == 1
    strips += [*long]
    torch.testing.assert_close(torch.cat([strip["depth"] for strip in strips], dim=2), whole)

    waits, ends = Event(), Event()

    def hold(module, inputs):
        if current_thread() is not main_thread():
            waits.set()
            ends.wait(10)

    model.decoder.register_forward_pre_hook(hold)
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(predictor.predict, image.rows(0, 8))
        waits.wait(10)
        predictor.predict(image.rows(0, 8))
        ends.set()
        torch.testing.assert_close(begun.result()["depth"], whole[:, :, :8])
    assert model.training


def test_bf16_is_close_and_returns_float32():
    model, image = local_model(), torch.rand(1, 3, 16, 16)
    exact, rounded = (Predictor(model, precision=precision).predict(image)["boundary"] for precision in ("no", "bf16"))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0)
    assert not torch.equal(rounded, exact)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64])
def test_images_have_the_number_type_of_the_network(dtype, weights):
    """NumPy's fractions are doubles."""
    predictor = Predictor(local_model().to(weights))
    image = torch.randint(0, 2, (1, 3, 20, 24)).to(torch.uint8)
    expected = predictor.predict((image / 255 if dtype == torch.uint8 else image).to(weights))
    found = predictor.predict(image.to(dtype))
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    assert predictor.raw(image.to(dtype)).keys() == expected.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, "overlap"),
        ({"scales": ()}, "scales"),
        ({"tile": 0}, "tile"),
        ({"precision": "bf6"}, "did you mean 'bf16'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(local_model(), **options)


def test_images_of_every_kind_agree(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    expected = torch.from_numpy(pixels.transpose(2, 0, 1) / 255).float()
    for image in (
        pixels,
        pixels / 255,
        Image.fromarray(pixels),
        expected,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
    ):
        torch.testing.assert_close(to_image_tensor(image), expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.full((4, 4, 3), 200.0), torch.zeros(4, 4, 3)],
)
def test_raises_for_wrong_arrays(image):
    with pytest.raises(ValueError, match="image"):
        to_image_tensor(image)


@pytest.mark.parametrize("data", [b"", bytearray(b"\x89PNG"), BytesIO(b"")])
def test_files_in_memory_are_refused_with_the_way_to_read_them(data):
    with shapes_unchecked(), pytest.raises(TypeError, match=r"image is a [A-Za-z]+; give .*Image\.open\(io\.BytesIO\("):
        Predictor(local_model())(data)


def test_files_are_found_in_order_and_problems_are_one_line(tmp_path):
    for name in ("b.png", "a.jpg", "deep/a.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [name for name, _ in find_images([tmp_path])] == ["a", "b", "deep/a"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone/IMG_2.dng").write_bytes(b"")
    (tmp_path / "IMG_1.HEIC").write_bytes(b"")
    for sources, message in {
        (tmp_path / "empty",): "has no images",
        (tmp_path / "none.png",): "no image or folder",
        (tmp_path / "note.txt",): "not named like an image",
        (tmp_path / "IMG_1.HEIC",): r"IMG_1\.HEIC is a photograph in a format that is not read; convert it to JPEG",
        (tmp_path / "phone",): r"phone has no images: 1 photographs in .* are not read, such as .*IMG_2\.dng; convert",
        (tmp_path / "a.jpg", tmp_path / "deep/a.png"): "same name",
        (): "no images given",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            find_images(sources)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"b\.png cannot be read"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_names_that_one_file_would_have_are_refused(system, tmp_path, monkeypatch):
    """Files of macOS and Windows are found by names of any case and form of Unicode."""
    monkeypatch.setattr(sys, "platform", system)
    for first, second in (("IMG_1", "img_1"), ("caf\u00e9", "cafe\u0301")):
        paths = [tmp_path / f"a/{first}.jpg", tmp_path / f"b/{second}.jpg"]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        if system == "linux":
            assert find_images(paths) == [(path.stem, path) for path in paths]
        else:
            with pytest.raises(ValueError, match="have the same name here, so their predictions would too"):
                find_images(paths)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_files_hold_what_the_predictor_returned(tmp_path):
    folder, lines = write_images(tmp_path / "images"), []
    predictor = Predictor(local_model())
    result = predict_images(predictor, [folder], tmp_path / "out", fov=60.0, log=lines.append)
    assert list(result.written) == ["0", "1"]
    for name in ("0", "1"):
        maps = predictor(folder / f"{name}.png")
        for task, values in maps.items():
            np.testing.assert_array_equal(np.load(tmp_path / f"out/arrays/{task}/{name}.npy"), values)
            assert pixels(tmp_path / f"out/pictures/{task}/{name}.png").shape == (*values.shape[-2:], 3)
        labels = pixels(tmp_path / f"out/maps/semseg/{name}.png")
        np.testing.assert_array_equal(labels, maps["semseg"])
        millimetres = pixels(tmp_path / f"out/maps/depth/{name}.png")
        assert millimetres.dtype == np.uint16
        np.testing.assert_allclose(millimetres / 1000, maps["depth"][0].clip(0), atol=5.1e-4)
        assert pixels(tmp_path / f"out/panels/{name}.png").shape[1] > 640
        assert (tmp_path / f"out/points/{name}.ply").is_file()
    assert set(result.written["0"]) == {path for path in (tmp_path / "out").rglob("0.*") if path.is_file()}
    assert json.loads((tmp_path / "out/predictions.json").read_text())["tasks"]["semseg"]["classes"] == ["a", "b", "c"]
    assert len(lines) == 1
    assert lines[0].startswith(f"predicted 2 of 2 images into {tmp_path / 'out'} (")


def test_only_chosen_products_are_written(tmp_path):
    folder = write_images(tmp_path / "images")
    predict_images(
        Predictor(local_model()), [folder / "0.png"], tmp_path / "out", products=("maps",), log=lambda line: None
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["maps", "predictions.json"]


def test_the_record_says_how_maps_become_values_again(tmp_path):
    tasks = {task.name: task for task in (regression("heat", limits=(-4.0, 6.0)), depth(), normals(), boundary())}
    formulas = {
        "heat": lambda image: 10 * image[:, :1] - 4,
        "depth": lambda image: 5 * image[:, :1],
        "normals": lambda image: image - 0.5,
        "boundary": lambda image: image[:, :1],
    }
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor, out = Predictor(Formula(tasks, **formulas)), tmp_path / "out"
    predict_images(predictor, [tmp_path / "a.png"], out, products=("maps",), log=lambda line: None)
    told = json.loads((out / "predictions.json").read_text())["tasks"]
    maps = {name: np.asarray(Image.open(out / f"maps/{name}/a.png")).astype(float) for name in tasks}
    low, high = told["heat"]["limits"]
    assert told["heat"]["maps"] == "limits[0] to limits[1] as 0 to 65535"
    assert {name: told[name]["maps"] for name in ("depth", "boundary")} == {
        "depth": "millimetres; 0 is no value",
        "boundary": "probability times 255, rounded down",
    }
    assert "127.5 (n + 1)" in told["normals"]["maps"]
    values = predictor(image)
    np.testing.assert_allclose(low + maps["heat"] / 65535 * (high - low), values["heat"][0], atol=1e-3)
    np.testing.assert_allclose(maps["depth"] / 1000, values["depth"][0], atol=6e-4)
    np.testing.assert_allclose(maps["normals"].transpose(2, 0, 1) / 127.5 - 1, values["normals"], atol=4e-3)
    np.testing.assert_allclose(maps["boundary"] / 255, values["boundary"][0], atol=4e-3)
    assert {name: told[name]["kind"] for name in tasks} == {name: task.kind for name, task in tasks.items()}


def trained_by(transform):
    return Recipe(data=replace(Recipe().data, transform=transform))


@pytest.mark.parametrize(
    ("size", "options", "factor"),
    [((500, 300), {}, "3.1"), ((20, 40), {}, "0.21"), ((96, 300), {}, None), ((500, 300), {"shorter_side": 96}, None)],
)
def test_images_far_from_the_size_of_training_are_named_once(tmp_path, size, options, factor):
    write_images(tmp_path / "photos", (size, size))
    said = []
    predictor = Predictor(local_model(), recipe=trained_by("densemtl-video"), **options)  # trained on 96 x 128
    predict_images(predictor, [tmp_path / "photos"], tmp_path / "out", products=("maps",), log=said.append)
    advice = [line for line in said if "--shorter-side 96" in line]
    assert len(advice) == (factor is not None)
    if factor is not None:
        assert (
            f"has {size[0]} x {size[1]} pixels, and the network was trained on 96 x 128: things may look" in advice[0]
        )
        assert f"look {factor} times as large" in advice[0]
        predictor.is_decoded = True  # a file whose maps are not resized
        assert "--shorter-side 96" in advise_size(predictor, "0", size)
        assert "of a run or of a file of --outputs raw" in advise_size(predictor, "0", size)


def test_files_of_several_pictures_are_named(tmp_path):
    """Of a scan, a stack or an animation the first picture alone is predicted."""
    pages = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "blue")]
    pages[0].save(tmp_path / "one.tif")
    for suffix in ("gif", "png", "tif", "webp"):
        pages[0].save(tmp_path / f"in_{suffix}.{suffix}", save_all=True, append_images=pages[1:])
    said = []
    predict_images(Predictor(local_model()), [tmp_path], tmp_path / "out", products=("maps",), log=said.append)
    named = [line for line in said if "of which the first alone is read; save the others as files" in line]
    assert [Path(line.partition(":")[0]).stem for line in named] == ["in_gif", "in_png", "in_tif", "in_webp"]
    assert sum("it holds 3 pages" in line for line in named) == 1


def test_what_was_trained_on_stretched_images_is_shown_such(tmp_path):
    """A street of 1024 x 2048 is twice as large as the network knows it: exactly, and it is said."""
    recipe = Recipe(data=DataConfig(transform="densemtl", size=(12, 24)))
    seen = []
    model = Formula({"heat": regression("heat")}, heat=lambda image: seen.append(image) or image[:, :1])
    image = torch.rand(1, 3, 24, 48)
    assert "stretched to 12 x 24: --resize" in advise_size(Predictor(model, recipe=recipe), "street", (24, 48))
    assert advise_size(Predictor(model, recipe=recipe), "street", (12, 24)) == ""
    stretching = Predictor(model, recipe=recipe, resize=True)
    assert advise_size(stretching, "street", (24, 48)) == ""
    assert stretching.predict(image)["heat"].shape == (1, 1, 24, 48)
    stretched = build_transform("densemtl", size=(12, 24), tasks={}, train=False)(
        Sample(image[0], {}), np.random.default_rng(0)
    ).image
    torch.testing.assert_close(seen[-1][0], stretched)
    assert stretching.raw(image) is None  # its maps are of another size
    assert torch.equal(stretching.raw(seen[-1])["heat"], seen[-1][:, :1])
    cropped = Predictor(model, recipe=replace(recipe, data=DataConfig(size=(12, 24))), resize=True)
    assert torch.equal(cropped.predict(image)["heat"], image[:, :1])
    assert "crops of 12 x 24" in advise_size(Predictor(model, recipe=cropped.recipe), "street", (24, 48))


def test_images_that_a_file_of_one_size_sees_otherwise_are_named():
    model = Formula({"heat": regression("heat")}, heat=lambda image: image[:, :1])
    model.fixed_size = (96, 128)

    def advised(transform, size):
        return advise_size(Predictor(model, recipe=trained_by(transform), resize=True), "photo", size)

    for transform in ("default", "densemtl-video", "densemtl"):  # cut, resized and stretched to 96 x 128
        assert (scored_size(trained_by(transform), "train") == "native") == (transform == "default")
        assert advised(transform, (120, 160)) == advised(transform, (96, 128)) == ""
        assert ("0.032 times as large" in advised(transform, (3000, 4000))) == (transform == "default")
        assert ("0.42 times as wide" in advised(transform, (96, 308))) == (transform != "densemtl")
    assert "--size 3000 4000" in advised("default", (3000, 4000))


def test_confidence_is_of_the_images_that_the_network_sees():
    recipe = Recipe(data=DataConfig(transform="densemtl", size=(12, 24)))
    model = Formula({"depth": depth()}, depth=lambda image: image[:, :1] + 0.1 * image.shape[-1])
    image = torch.rand(1, 3, 24, 48)
    maps = Confident(Predictor(model, recipe=recipe, resize=True)).predict(image)
    assert maps["depth_confidence"].shape == (1, 1, 24, 48)
    small = Confident(Predictor(model)).predict(resize(image, (12, 24), antialias=True))["depth_confidence"]
    torch.testing.assert_close(maps["depth_confidence"], resize(small, (24, 48)))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_size_of_crops_is_no_size_to_resize_photographs_to(transform):
    resizes = scored_size(trained_by(transform), "train") != "native"
    advice = advise_size(Predictor(local_model(), recipe=trained_by(transform)), "photo.jpg", (3000, 4000))
    assert ("--shorter-side 96" in advice) == resizes
    assert ("crops of 96 x 128" in advice) == (not resizes)


def test_maps_are_drawn_over_the_image(tmp_path):
    folder, predictor = write_images(tmp_path / "images"), Predictor(local_model())
    chosen = {"products": ("pictures", "panels"), "log": lambda line: None}
    predict_images(predictor, [folder / "0.png"], tmp_path / "plain", **chosen)
    predict_images(predictor, [folder / "0.png"], tmp_path / "over", overlay=True, **chosen)
    image, labels = pixels(folder / "0.png"), predictor(folder / "0.png")["semseg"]
    over = pixels(tmp_path / "over/pictures/semseg/0.png")
    np.testing.assert_array_equal(over, overlay_map(predictor.tasks["semseg"], image, labels))
    panels = [pixels(tmp_path / f"{name}/panels/0.png") for name in ("plain", "over")]
    assert (panels[0] != panels[1]).any()


def test_nothing_is_overwritten_or_half_done(tmp_path):
    folder, predictor = write_images(tmp_path / "images"), Predictor(local_model())
    out = tmp_path / "out"
    predict_images(predictor, [folder / "1.png"], out, log=lambda line: None)
    before = (out / "arrays/depth/1.npy").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match=r"exists and \d+ more; .*overwrite"):
        predict_images(predictor, [folder], out, log=lambda line: None)
    assert not (out / "arrays/depth/0.npy").exists()  # checked before the first image
    assert (out / "arrays/depth/1.npy").stat().st_mtime_ns == before
    predict_images(predictor, [folder], out, overwrite=True, log=lambda line: None)
    assert (out / "arrays/depth/0.npy").exists()


def test_a_damaged_image_stops_or_is_named(tmp_path):
    folder, predictor, lines = write_images(tmp_path / "images"), Predictor(local_model()), []
    whole = (folder / "0.png").read_bytes()
    (folder / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"0\.png cannot be read as an image"):
        predict_images(predictor, [folder], tmp_path / "strict", log=lines.append)
    result = predict_images(predictor, [folder], tmp_path / "out", on_bad_sample="skip", log=lines.append)
    assert list(result.written) == ["1"]
    assert "0.png cannot be read" in result.skipped["0"]
    assert lines[0].startswith("skipped: ")
    assert "1 of 2" in lines[1]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to .*choose another output folder") as caught:
        predict_images(Predictor(local_model()), [write_images(tmp_path / "images")], tmp_path / "file/out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fov": 180.0}, "field of view"),
        ({"fov": 60.0, "intrinsics": (1, 1, 1, 1)}, "one of them"),
        ({"intrinsics": (500, 500, 320)}, "fx, fy, cx, cy"),
        ({"intrinsics": (0, 500, 320, 240)}, "above 0"),
        ({"products": ("array",)}, "did you mean 'arrays'"),
        ({"color_by": "semsge"}, "did you mean 'semseg'"),
        ({"on_bad_sample": "ignore"}, "skip"),
    ],
)
def test_wrong_options_are_named_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        predict_images(Predictor(local_model()), [write_images(tmp_path / "images")], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_points_need_depth(tmp_path):
    predictor = Predictor(local_model({"semseg": TASKS["semseg"]}))
    with pytest.raises(ValueError, match="point clouds need depth"):
        predict_images(predictor, [write_images(tmp_path / "images")], tmp_path / "out", fov=60.0)


def test_points_lie_on_the_plane_that_was_seen(tmp_path):
    """A tilted plane n . X = d, seen through a known camera: every point written must satisfy its equation, and
    project to its pixel.
    """
    height, width = 12, 17
    focal_x, focal_y, centre_x, centre_y = 20.0, 24.0, 7.25, 6.5
    normal, distance = np.array([0.2, -0.4, 0.8]), 3.0
    depth_map = np.array(
        [
            [
                distance / (normal @ [(u + 0.5 - centre_x) / focal_x, (v + 0.5 - centre_y) / focal_y, 1])
                for u in range(width)
            ]
            for v in range(height)
        ]
    )
    depth_map[3, 5] = np.nan
    depth_map[4, 6] = -1.0
    colors = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    points = backproject(depth_map, intrinsics_matrix((focal_x, focal_y, centre_x, centre_y)))
    normals = np.broadcast_to(-normal / np.linalg.norm(normal), points.shape)
    assert write_points(tmp_path / "plane.ply", [(points, colors, normals)]) == height * width - 2
    rows = read_ply(tmp_path / "plane.ply")
    pixels = [(v, u) for v in range(height) for u in range(width) if (v, u) not in {(3, 5), (4, 6)}]
    for row, (v, u) in zip(rows, pixels, strict=True):
        point = np.array([row["x"], row["y"], row["z"]])
        assert normal @ point == pytest.approx(distance, rel=1e-5)
        assert focal_x * row["x"] / row["z"] + centre_x == pytest.approx(u + 0.5, abs=1e-4)
        assert focal_y * row["y"] / row["z"] + centre_y == pytest.approx(v + 0.5, abs=1e-4)
        assert [row["red"], row["green"], row["blue"]] == colors[v, u].tolist()
        assert row["nz"] < 0  # towards the camera


def test_field_of_view_reaches_the_edges_of_the_image():
    """At 90 degrees, the ray through the left edge of the left column has x = -z."""
    points = backproject(np.ones((4, 8)), intrinsics_from_field_of_view((4, 8), 90.0))
    np.testing.assert_allclose(points[0, [0, -1], 0], [-7 / 8, 7 / 8])
    np.testing.assert_allclose(points[[0, -1], 0, 1], [-3 / 8, 3 / 8])


def run_folder(tmp_path):
    tasks = {task.name: task for task in (semseg(["wall", "floor"]), depth())}
    recipe = Recipe(model=ModelConfig(backbone="resnet18", decoder="fcn", decoder_options={"width": 8}))
    model = create_model("fcn", backbone="resnet18", tasks=tasks, decoder_options={"width": 8})
    return Predictor(model, recipe=recipe).save_pretrained(tmp_path / "network"), model


def test_saved_equals_loaded(tmp_path):
    folder, model = run_folder(tmp_path)
    image = torch.rand(1, 3, 45, 70)
    loaded = Predictor.from_pretrained(folder, flip=True)
    torch.testing.assert_close(loaded.predict(image), Predictor(model, flip=True).predict(image), rtol=0, atol=0)
    assert loaded.tasks["semseg"].classes == ("wall", "floor")
    assert "wall, floor" in (folder / "README.md").read_text()
    again = loaded.save_pretrained(tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="not empty"):
        loaded.save_pretrained(tmp_path / "again")


def test_a_network_that_replaces_another_does_it_in_one_step(tmp_path, monkeypatch):
    """Half of each would load, and give other numbers."""
    folder, model = run_folder(tmp_path)
    (folder / "mine.txt").write_text("not a network's")
    recipe = Recipe(model=Predictor.load(folder).recipe.model, seed=5)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*words):
        raise OSError("No space left")

    with monkeypatch.context() as patch:
        patch.setattr("triptych.prediction.pretrained.save_tensors", fail)
        with pytest.raises(OSError, match="No space left"):
            save_folder(folder, model, recipe, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_folder(folder, model, recipe, overwrite=True)
    assert Predictor.load(folder).recipe.seed == 5
    assert {path.name for path in folder.iterdir()} == set(before)
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def test_a_network_saved_into_a_run_that_is_worked_in_leaves_the_rest_alone(tmp_path, monkeypatch):
    folder, model = run_folder(tmp_path)
    (folder / "checkpoints").mkdir()
    folder.chmod(0o700)
    recipe = Recipe(model=Predictor.load(folder).recipe.model, seed=5)
    monkeypatch.chdir(folder)
    renames = Path.replace

    def kill(path, *words):
        if path.name == "tasks.json":
            raise KeyboardInterrupt
        return renames(path, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            save_folder(Path(), model, recipe, overwrite=True)
    assert (folder / "checkpoints").is_dir()
    save_folder(Path(), model, recipe, overwrite=True)
    assert Path("checkpoints").is_dir()
    assert Predictor.load(folder).recipe.seed == 5
    assert folder.stat().st_mode & 0o777 == 0o700


def test_one_file_holds_the_network_in_half_precision(tmp_path):
    folder, model = run_folder(tmp_path)
    image = torch.rand(1, 3, 45, 70)
    file = Predictor.load(folder).save_pretrained(tmp_path / "network.zip")
    loaded = Predictor.from_pretrained(file, flip=True)
    half = deepcopy(model)
    half.load_state_dict({n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()})
    torch.testing.assert_close(loaded.predict(image), Predictor(half, flip=True).predict(image), rtol=0, atol=0)
    weights = (folder / "model.safetensors").stat().st_size
    assert weights / 2 < file.stat().st_size < weights / 2 + 20_000
    again = loaded.save_pretrained(tmp_path / "again.zip")
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(again) as other:
        assert "wall, floor" in archive.read("README.md").decode()
        assert archive.read("model.safetensors") == other.read("model.safetensors")
    with pytest.raises(FileExistsError, match=r"again\.zip exists"):
        loaded.save_pretrained(again)
    with torch.no_grad():
        next(loaded.model.parameters()).flatten()[0] = 1e6
    with pytest.raises(ValueError, match="more than float16 holds"):
        loaded.save_pretrained(tmp_path / "large.zip")
    assert not (tmp_path / "large.zip").exists()


@pytest.mark.parametrize(
    ("entries", "compression", "message"),
    [
        (["recipe.json", "../evil.py"], zipfile.ZIP_STORED, r"it holds \.\./evil\.py"),
        (["recipe.json", "tasks.json"], zipfile.ZIP_DEFLATED, r"recipe\.json \(compressed\)"),
        (["recipe.json"], zipfile.ZIP_STORED, r"it has no tasks\.json"),
    ],
)
def test_a_strange_file_is_refused_unread(tmp_path, entries, compression, message):
    path = tmp_path / "network.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in entries:
            archive.writestr(name, "{}")
    with pytest.raises(ValueError, match=message):
        Predictor.load(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="cannot be read"):
        Predictor.load(path)
    assert not (tmp_path / "evil.py").exists()


def test_an_encrypted_file_is_refused_unread(tmp_path):
    path = tmp_path / "network.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("recipe.json", "tasks.json"):
            archive.writestr(name, "{}")
    stored = path.read_bytes()
    for start, before in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flags of an entry and of its line in the list
        parts = stored.split(start)
        stored = start.join([parts[0], *(part[: before - 4] + b"\1" + part[before - 3 :] for part in parts[1:])])
    path.write_bytes(stored)
    with pytest.raises(ValueError, match=r"it holds recipe\.json \(encrypted\)"):
        Predictor.load(path)


def test_a_folder_that_does_not_fit_is_one_line(tmp_path):
    folder, _ = run_folder(tmp_path)
    write_tasks(folder / "tasks.json", {"semseg": semseg(3), "depth": depth()})
    with pytest.raises(ValueError, match=r"does not fit this model: .* of another shape, such as .*semseg") as caught:
        Predictor.load(folder)
    assert "\n" not in str(caught.value)
    write_tasks(folder / "tasks.json", {"depth": depth()})
    with pytest.raises(ValueError, match="unknown to the model"):
        Predictor.load(folder)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        Predictor.load(folder)
    (folder / "tasks.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tasks\.json"):
        Predictor.load(folder)


def test_raises_for_tasks_of_unknown_names_and_options():
    with pytest.raises(ValueError, match="unknown task 'heat'"):
        tasks_from_json('{"tasks": [{"name": "heat", "options": {}}]}')
    with pytest.raises(ValueError, match="its arguments are"):
        tasks_from_json('{"tasks": [{"name": "depth", "options": {"bins": 3}}]}')


def test_memory_is_returned_when_the_size_changes(monkeypatch):
    returned, counts = [], []
    monkeypatch.setattr(prediction, "return_freed_memory", lambda: returned.append(None))
    predictor = Predictor(local_model())
    for size in ((16, 16), (16, 16), (24, 16), (24, 16), (16, 16)):
        predictor.predict(torch.rand(1, 3, *size))
        counts.append(len(returned))
    assert counts == [1, 1, 2, 2, 3]


def test_freed_memory_is_kept_over_many_images(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr("triptych.prediction.outputs.keep_freed_memory", lambda: kept.append(None))
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    predict_images(Predictor(local_model()), [tmp_path / "a.png"], tmp_path / "out", log=lambda line: None)
    assert kept
