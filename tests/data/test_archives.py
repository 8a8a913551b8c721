"""Files inside zip archives and PNGs of 16 bits per channel are read exactly; damaged ones are named."""

import multiprocessing
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from deep_png import encode_deep_png, save_deep_png
from PIL import Image

from triptych.data import archives
from triptych.data.archives import list_archive, read_bytes
from triptych.data.arrays import read_array, read_size
from triptych.data.errors import UnreadableFileError
from triptych.data.photos import read_image


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Twenty pictures whose value is their number, stored and deflated in turn."""
    path = tmp_path / "pictures_trainval.zip"
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("licence.txt", "ours")
        file.mkdir("train/")
        for number in range(20):
            buffer = BytesIO()
            Image.fromarray(np.full((30, 40 + number, 3), number, np.uint8)).save(buffer, "png")
            kind = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            file.writestr(f"train/{number:02d}.png", buffer.getvalue(), kind)
            file.writestr(f"train/{number:02d}.txt", random.bytes(20_000))  # more than a read takes at once
    return path


def number_of(path: Path) -> tuple[int, int]:
    return int(read_array(path).max()), read_size(path)[1]


def test_paths_go_through_archives(archive: Path) -> None:
    names = [f"train/{number:02d}.{suffix}" for number in range(20) for suffix in ("png", "txt")]
    assert list_archive(archive) == ["licence.txt", *names]
    assert read_bytes(archive / "licence.txt") == b"ours"
    assert number_of(archive / "train/07.png") == (7, 47)
    assert read_image(archive / "train/07.png").unique().tolist() == pytest.approx([7 / 255])
    folder = archive.parent / "unpacked.zip"  # a folder may be called so too
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"plain")
    assert read_bytes(folder / "a.txt") == b"plain"


def test_a_member_is_not_unpacked_into_any_amount_of_memory(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 19_999)
    with pytest.raises(UnreadableFileError, match=r"07\.txt would take 2e-05 GB of memory, more than 2e-05; unpack"):
        read_bytes(archive / "train/07.txt")
    assert number_of(archive / "train/07.png") == (7, 47)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_threads_and_forked_processes_read_at_once(archive: Path) -> None:
    paths = [archive / f"train/{number:02d}.png" for number in range(20)] * 4
    expected = [(number, 40 + number) for number in range(20)] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(number_of, paths)) == expected
    file = archives._open_archive(archive, archives.file_version(archive)).fp
    assert file is not None
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    with multiprocessing.get_context("fork").Pool(2) as processes:  # they inherit the open archive
        assert processes.map(number_of, paths, chunksize=1) == expected
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == position  # and leave its one position alone
    assert pickle.loads(pickle.dumps(paths[0])) == paths[0]


def test_an_archive_that_replaces_another_is_read(archive: Path) -> None:
    assert read_bytes(archive / "licence.txt") == b"ours"
    other = archive.with_name("other.zip")
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("licence.txt", "theirs")
    other.replace(archive)
    assert read_bytes(archive / "licence.txt") == b"theirs"
    assert list_archive(archive) == ["licence.txt"]


def test_raises_for_damaged_archives(archive: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pictures_trainval.zip has no member 'train/99.png'"):
        read_image(archive / "train/99.png")
    whole = archive.read_bytes()
    cut = archive.with_name("cut.zip")
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"cut.zip is not a whole zip archive .* download it again"):
        list_archive(cut)
    with pytest.raises(OSError, match=r"cut.zip/train/01.png cannot be read: damaged in its archive"):
        read_image(cut / "train/01.png")
    flipped = archive.with_name("flipped.zip")
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo("train/04.png").header_offset + 60
    flipped.write_bytes(whole[:start] + bytes(byte ^ 255 for byte in whole[start : start + 8]) + whole[start + 8 :])
    with pytest.raises(OSError, match=r"train/04.png cannot be read: damaged in its archive .*CRC"):
        read_image(flipped / "train/04.png")
    assert number_of(flipped / "train/05.png") == (5, 45)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("filters", [(0, 1, 2, 3, 4), (4,), (3,)], ids=str)
def test_colour_pngs_of_16_bits_are_exact(tmp_path: Path, channels: int, filters: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(channels).integers(0, 65536, (23, 17, channels)).astype(np.uint16)
    pixels[:5] //= 4096  # as labels are: small numbers, zero in the upper byte
    path = tmp_path / "deep.png"
    path.write_bytes(encode_deep_png(pixels, filters=filters, chunk=500))
    found = read_array(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)
    assert read_size(path) == (23, 17)


def test_other_pngs_are_read_as_before(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_array(tmp_path / "grey.png"), values)
    eight = (values[..., None] // np.array([256, 300, 400])).astype(np.uint8)
    Image.fromarray(eight).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_array(tmp_path / "colour.png"), eight)
    save_deep_png(tmp_path / "alpha.png", np.stack([values, values], -1))
    with pytest.raises(OSError, match=r"alpha.png cannot be read: PNG of 16 bits with transparency"):
        read_array(tmp_path / "alpha.png")


def test_raises_for_a_damaged_deep_png(tmp_path: Path) -> None:
    data = encode_deep_png(np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16))
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"cut.png cannot be read"):
        read_array(tmp_path / "cut.png")
