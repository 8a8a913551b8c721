"""Files that are not whole by their own account."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from damaged_labels import FORMATS, STORED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from triptych.data.arrays import read_array
from triptych.data.integrity import find_damage

TOLD = {".png", ".jpg", ".gif", ".webp", ".bmp", ".pgm", ".tif", ".tiff", ".mat", ".h5"}
"""Suffixes of formats that say where they end."""


def write(folder: Path, name: str) -> Path:
    form = FORMATS[name]
    path = folder / f"a{form.suffix}"
    form.write(path, STORED[form.task](form))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_whole_and_cut_ones_are_not(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    assert find_damage(path) == ""
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    if path.suffix in TOLD:
        assert find_damage(path)
    else:  # the reader sees it
        with pytest.raises(OSError, match=path.name):
            read_array(path)


@pytest.mark.parametrize("name", ["BMP", "PGM", "TIFF", "HDF5", "MATLAB", "npy", "PFM"])
def test_bytes_put_in_are_told(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[:-700] + b"\1\2\3" + content[-700:])
    told = find_damage(path)
    if not told:
        with pytest.raises(OSError, match=path.name):
            read_array(path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(place=st.integers(8, 10**6), bit=st.integers(0, 7))
def test_no_bit_of_a_png_changes_unseen(tmp_path: Path, place: int, bit: int) -> None:
    path = write(tmp_path, "PNG of 16 bits")
    content = bytearray(path.read_bytes())
    content[8 + place % (len(content) - 8)] ^= 1 << bit
    path.write_bytes(bytes(content))
    assert find_damage(path)


def test_a_content_of_another_format_than_the_name_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, "JPEG")
    path.rename(tmp_path / "a.png")
    assert "its content is JPEG" in find_damage(tmp_path / "a.png")


def test_a_directory_of_tiff_that_leads_back_to_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0")
    assert find_damage(path) == ""


@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_is_not_of_it(tmp_path: Path, progressive: bool) -> None:
    """Phones put a video behind a photograph; its bytes are any, and hide no end that is missing."""
    path, colors = tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    Image.fromarray(colors).save(path, progressive=progressive, restart_marker_blocks=1, comment=b"\xff\xd9\xff\xda")
    content, video = path.read_bytes(), b"\0\0\0\x18ftypmp42\xff\xda\xff\xd9\xff\xda\0"
    path.write_bytes(content + video)
    assert find_damage(path) == ""
    path.write_bytes(content[:-9] + content)  # cut inside of its last scan
    assert find_damage(path)
    for cut in range(4, len(content), 23):
        path.write_bytes(content[:cut] + video)
        assert find_damage(path), cut
        path.write_bytes(content[:cut])
        assert find_damage(path), cut


@pytest.mark.parametrize("big", [False, True])
def test_directories_inside_of_a_page_are_of_the_file(tmp_path: Path, big: bool) -> None:
    """Pyramids of a TIFF, and EXIF: bytes that are missing or left over are told there, too."""
    path, largest = tmp_path / "a.tif", np.arange(32 * 48).reshape(32, 48).astype(np.uint16)
    with tifffile.TiffWriter(path, byteorder=">" if big else "<") as file:
        file.write(largest, subifds=2)
        for step in (2, 4):
            file.write(largest[::step, ::step], subfiletype=1)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + bytes(99)
    Image.fromarray(largest).save(tmp_path / "b.tif", exif=exif)
    for whole in (path, tmp_path / "b.tif"):
        content = whole.read_bytes()
        assert find_damage(whole) == ""
        for changed in (content[:-40], content + bytes(40)):
            whole.write_bytes(changed)
            assert "its header speaks of" in find_damage(whole) or "cannot be followed" in find_damage(whole)


def test_portable_maps_keep_their_numbers(tmp_path: Path) -> None:
    """Pillow stretches what has another largest value than its type."""
    stored = np.array([[0, 7, 20], [1, 2, 3]])
    (tmp_path / "a.pgm").write_bytes(b"P5\n# ids\n3 2\n20\n" + stored.astype(np.uint8).tobytes())
    (tmp_path / "b.pgm").write_bytes(b"P5 3 2 9000\n" + (stored * 400).astype(">u2").tobytes())
    (tmp_path / "c.pgm").write_text("P2\n3 2\n20\n0 7 20\n1 2 3\n")
    (tmp_path / "d.ppm").write_bytes(b"P6 2 1 20\n" + stored.astype(np.uint8).tobytes())
    (tmp_path / "e.pgm").write_text("P2\n3 2\n20\n" + "1 " * 7)
    with pytest.raises(OSError, match="it holds more than 6 numbers"):
        read_array(tmp_path / "e.pgm")
    for name in ("a", "c"):
        np.testing.assert_array_equal(read_array(tmp_path / f"{name}.pgm"), stored)
    np.testing.assert_array_equal(read_array(tmp_path / "b.pgm"), stored * 400)
    np.testing.assert_array_equal(read_array(tmp_path / "d.ppm"), stored.reshape(1, 2, 3))


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_pictures_in_a_row_are_named(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.fromarray(np.full((9, 9), value, np.uint8)) for value in (3, 200))
    first.save(tmp_path / f"one{suffix}")
    first.save(tmp_path / f"two{suffix}", save_all=True, append_images=[second])
    assert find_damage(tmp_path / f"one{suffix}") == ""
    assert "several pictures" in find_damage(tmp_path / f"two{suffix}")
