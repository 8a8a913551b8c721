"""Strips: maps from top to bottom have the values of the whole image at once, whatever the options."""

import numpy as np
import pytest
import torch
from networks import TASKS, local_model
from PIL import Image

from triptych.data.photos import StoredPhoto, read_image, read_image_size, read_orientation, read_photo
from triptych.data.pictures import open_picture
from triptych.prediction.predictor import Predictor
from triptych.prediction.strips import (
    Batch,
    Photos,
    Resized,
    joined,
    resize,
    resized_strips,
    split_strips,
    tiled_strips,
)


@pytest.mark.parametrize("size", [(75, 93), (9, 50), (140, 31)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (32, 40)},
        {"tile": 24, "overlap": 0.9},
        {"tile": 24, "flip": True, "scales": (1.0, 0.5, 1.3)},
        {"shorter_side": 20, "flip": True},
        {"shorter_side": 200, "tile": 64, "scales": (1.0, 0.3)},
    ],
)
def test_strips_have_the_values_of_the_whole_image(size, options):
    predictor, image = Predictor(local_model(), **options), torch.rand(2, 3, *size)
    whole = predictor.predict(image)
    strips = list(predictor.strips(Batch(image), rows=7))
    assert max(strip["depth"].shape[-2] for strip in strips) <= 7
    found = joined(strips)
    for name in TASKS:
        if "shorter_side" in options or "scales" in options:
            close = torch.isclose(found[name].float(), whole[name].float(), atol=2e-5, rtol=1e-4)
            assert close.float().mean() > 0.999, name  # two classes may be equally likely
        else:  # a sigmoid rounds differently at the ends of a vector
            torch.testing.assert_close(found[name], whole[name], atol=1e-6, rtol=1e-6)


def test_blended_tiles_are_those_of_sums_over_the_whole_image():
    """An independent form: all windows added to maps of the whole image, then divided."""
    from triptych.prediction.strips import coverage, windows

    image, tile, overlap = torch.rand(1, 3, 75, 93), (32, 40), 0.3

    def forward(window):
        return {"a": window * torch.linspace(1, 2, window.shape[-2])[:, None]}

    rows, columns = windows(75, 32, overlap), windows(93, 40, overlap)
    total = torch.zeros(1, 3, 75, 93)
    for top, row in rows:
        for left, column in columns:
            window = (..., slice(top, top + 32), slice(left, left + 40))
            total[window] += forward(image[window])["a"] * (row[:, None] * column)
    expected = total / (coverage(rows, 75)[:, None] * coverage(columns, 93))
    for strip_rows in (None, 1, 5):
        assert torch.equal(joined(tiled_strips(Batch(image), forward, tile, overlap, strip_rows))["a"], expected)


@pytest.mark.parametrize("wanted", [(40, 17), (7, 9), (1, 1), (93, 200), (61, 50)])
@pytest.mark.parametrize("strip", [1, 4, 60])
def test_resizing_by_strips_is_resizing(wanted, strip):
    image = torch.rand(1, 3, 60, 50)
    source = Resized(Batch(image), wanted)
    rows = [source.rows(top, min(top + strip, wanted[0])) for top in range(0, wanted[0], strip)]
    torch.testing.assert_close(torch.cat(rows, dim=-2), resize(image, wanted, antialias=True), atol=1e-5, rtol=0)
    maps = joined(resized_strips(split_strips([{"a": image}], strip), 60, wanted, rows=3))["a"]
    torch.testing.assert_close(maps, resize(image, wanted), atol=1e-5, rtol=0)


def test_photographs_give_rows_of_what_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("triptych.data.photos.STRIP", 10)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png", transparency=3)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 255).save(tmp_path / "deep.png")
    assert read_photo(tmp_path / "turned.png").orientation == 6
    for name in ("turned", "palette", "deep"):
        photo, whole = read_photo(tmp_path / f"{name}.png"), read_image(tmp_path / f"{name}.png")
        assert photo.size == tuple(whole.shape[-2:])
        rows = Photos([photo, photo])
        assert torch.equal(torch.cat([rows.rows(0, 4), rows.rows(4, photo.size[0])], dim=-2), torch.stack([whole] * 2))
        expected = np.rint(whole.numpy().transpose(1, 2, 0) * 255)
        np.testing.assert_array_equal(photo.bytes(0, len(expected)), expected)
        np.testing.assert_array_equal(photo.bytes(0, len(expected), 2), expected[::2, ::2])
    np.testing.assert_array_equal(read_photo(tmp_path / "turned.png").bytes(0, 5), np.rot90(pixels, -1))
    assert StoredPhoto.checked(pixels / 255).largest == 1


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_the_limit_holds_for_arrays_and_is_raised_for_them(suffix, tmp_path, monkeypatch):
    """Of three 32-bit floats a pixel, and the header of an archive's member."""
    path, pixels = tmp_path / f"a.{suffix}", np.zeros((20, 30, 3), np.float32)
    np.save(path, pixels) if suffix == "npy" else np.savez(path, image=pixels)
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "599")
    with pytest.raises(ValueError, match=rf"a\.{suffix} .*more than 7\.19e-06; .*raise the limit with --max-pixels"):
        read_image(path)
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "620")
    assert read_image(path).shape == (3, 20, 30)


def test_pictures_that_threads_open_at_once_leave_pillows_limit_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    first, second = open_picture(path), open_picture(path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert read_image(path).shape == (3, 20, 30)
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_limit_of_pixels_for_all_verbs(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow would warn, and refuse from 200 on
    assert read_image(path).shape == (3, 20, 30)
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "599")
    for read in (read_image, read_photo, read_image_size, read_orientation):
        with pytest.raises(ValueError, match=rf"a\.{suffix} .*20x30 pixels, more than 0\.000599 million.*--max-pixels"):
            read(path)
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "600")
    assert read_image_size(path) == (20, 30)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="TRIPTYCH_MAX_PIXELS is 'many'; give a number"):
        read_image(path)
