"""Predictor: any size in, the same size out; tiles, flips, scales, files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from triptych.backbones.base import Backbone
from triptych.decoders.base import Decoder
from triptych.image_files import find_images, read_image, to_image_tensor
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import Predictor, _windows
from triptych.tasks import boundary, depth, normals, semseg

TASKS = {task.name: task for task in (semseg(["a", "b", "c"]), depth(), normals(), boundary())}


class Pixels(Backbone):
    channels, strides = (3,), (1,)

    def forward(self, image):
        return [image]


class Local(Decoder):
    """One 5 x 5 convolution per task with zero padding: the receptive field reaches two pixels."""

    def __init__(self, channels, *, strides, tasks):
        super().__init__(channels, strides=strides, tasks=tasks)
        self.heads = nn.ModuleDict({name: nn.Conv2d(3, task.channels, 5, padding=2) for name, task in tasks.items()})
        self.drop = nn.Dropout(0.5)

    def forward(self, features):
        return [{name: head(self.drop(features[0])) for name, head in self.heads.items()}]


def local_model(tasks=TASKS):
    return MultiTaskModel(Pixels(), Local((3,), strides=(1,), tasks=tasks))


class Formula(nn.Module):
    """A model whose raw maps are given functions of the image: known to be equivariant, or known not to be."""

    def __init__(self, tasks, **formulas):
        super().__init__()
        self.tasks, self.formulas = tasks, formulas

    def forward(self, image):
        from triptych.types import Output

        return Output({name: formula(image) for name, formula in self.formulas.items()}, [], [])


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
    maps = Predictor(model, tile=(24, 32)).predict(torch.rand(1, 3, 50, 20))
    assert set(sizes) == {(24, 32)}
    assert maps["depth"].shape == (1, 1, 50, 20)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 57, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_windows_cover_every_pixel(length, overlap):
    total = np.zeros(max(length, 32))
    for start, weight in _windows(len(total), 32, overlap):
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


def test_bf16_is_close_and_returns_float32():
    model, image = local_model(), torch.rand(1, 3, 16, 16)
    exact, rounded = (Predictor(model, precision=precision).predict(image)["boundary"] for precision in ("no", "bf16"))
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0)
    assert not torch.equal(rounded, exact)


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


def test_orientation_depth_and_alpha_of_files(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = read_image(tmp_path / "turned.png")
    assert turned.shape == (3, 6, 4)
    assert turned[:, :3].min() == 1
    assert turned[:, 3:].max() == 0
    Image.fromarray(np.full((2, 2), 32768, np.uint16)).save(tmp_path / "deep.png")
    torch.testing.assert_close(read_image(tmp_path / "deep.png"), torch.full((3, 2, 2), 32768 / 65535))
    Image.fromarray(np.full((2, 2, 4), 128, np.uint8)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png").shape == (3, 2, 2)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.full((4, 4, 3), 200.0), torch.zeros(4, 4, 3)],
)
def test_wrong_arrays_are_named(image):
    with pytest.raises(ValueError, match="image"):
        to_image_tensor(image)


def test_files_are_found_in_order_and_problems_are_one_line(tmp_path):
    for name in ("b.png", "a.jpg", "deep/a.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [name for name, _ in find_images([tmp_path])] == ["a", "b", "deep/a"]
    (tmp_path / "empty").mkdir()
    for sources, message in {
        (tmp_path / "empty",): "has no images",
        (tmp_path / "none.png",): "no image or folder",
        (tmp_path / "note.txt",): "not named like an image",
        (tmp_path / "a.jpg", tmp_path / "deep/a.png"): "same name",
        (): "no images given",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            find_images(sources)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"b\.png cannot be read"):
        read_image(tmp_path / "b.png")
