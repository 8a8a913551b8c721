"""Maps in other formats, texts in other encodings, names in other forms of Unicode, splits of videos."""

import ast
import importlib.util
import struct
import time
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from triptych.assemble import build_dataset
from triptych.data.arrays import read_array
from triptych.data.errors import UnreadableFileError
from triptych.data.files import list_split_folders, match_files
from triptych.data.limits import MAX_PIXELS
from triptych.data.lists import read_text
from triptych.data.photos import read_image
from triptych.datasets.folder import Folder
from triptych.folders.camera_files import CameraFiles
from triptych.labels.base import Encoding
from triptych.labels.classes import Labels
from triptych.labels.depth import Depth
from triptych.labels.masks import BoundaryMask, SaliencyMask
from triptych.labels.normals import Normals
from triptych.labels.values import Values
from triptych.recipes.config import DataConfig, Recipe, read_recipe, to_json

DEPTH = np.arange(12, dtype=np.float32).reshape(3, 4) + 0.5
TOML = '[images]\nfiles = "images/{key}.png"\n[tasks.depth]\nfiles = "depth/{key}.*"\n'


def write_pfm(path: Path, array: np.ndarray, order: str = "<f4") -> None:
    kind = b"PF" if array.ndim == 3 else b"Pf"
    scale = b"-1.0" if order == "<f4" else b"1.0"
    head = b"%s\n%d %d\n%s\n" % (kind, array.shape[1], array.shape[0], scale)
    path.write_bytes(head + array[::-1].astype(order).tobytes())


def photos(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = root / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((3, 4, 3), i, np.uint8)).save(path)


@pytest.mark.parametrize("order", ["<f4", ">f4"])
def test_portable_float_maps(tmp_path: Path, order: str) -> None:
    for array in (DEPTH, np.stack([DEPTH, DEPTH + 1, -DEPTH], -1)):
        write_pfm(tmp_path / "a.pfm", array, order)
        np.testing.assert_array_equal(read_array(tmp_path / "a.pfm"), array)
    (tmp_path / "a.pfm").write_bytes((tmp_path / "a.pfm").read_bytes()[:-8])
    with pytest.raises(OSError, match=r"a\.pfm cannot be read: it holds 34 numbers for 3x4x3; it was cut"):
        read_array(tmp_path / "a.pfm")


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["left/depth"] = DEPTH
        file["confidence"] = DEPTH * 0
    np.testing.assert_array_equal(read_array(tmp_path / "a.h5", key="left/depth"), DEPTH)
    with pytest.raises(OSError, match="set key to one of confidence, left"):
        read_array(tmp_path / "a.h5")
    with pytest.raises(OSError, match="is a group, no array; set key to the path of an array"):
        read_array(tmp_path / "a.h5", key="left")


def test_openexr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exr = pytest.importorskip("OpenEXR")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with exr.File(header, {"Z": DEPTH}) as file:
        file.write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(read_array(tmp_path / "a.exr"), DEPTH)
    (tmp_path / "b.exr").write_bytes(b"v/1\x01")
    with pytest.raises(OSError, match=r"b\.exr cannot be read"):
        read_array(tmp_path / "b.exr")
    monkeypatch.setenv(MAX_PIXELS, str(DEPTH.size // 3 - 1))  # of 12 bytes
    with pytest.raises(OSError, match=r"a\.exr cannot be read: it would take .* GB of memory, more than"):
        read_array(tmp_path / "a.exr")


def test_float_tiff_with_colors(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    normals = np.stack([DEPTH, -DEPTH, DEPTH * 0], -1)
    tifffile.imwrite(tmp_path / "a.tif", normals, photometric="rgb")
    np.testing.assert_array_equal(read_array(tmp_path / "a.tif"), normals)


def test_formats_are_labels_of_folders(tmp_path: Path) -> None:
    photos(tmp_path, "a")
    (tmp_path / "depth").mkdir()
    write_pfm(tmp_path / "depth/a.pfm", DEPTH)
    (tmp_path / "dataset.toml").write_text(TOML)
    np.testing.assert_array_equal(Folder(tmp_path, split="all")[0].targets["depth"][0], DEPTH)


def test_names_are_compared_in_one_form_of_unicode(tmp_path: Path) -> None:
    for folder, form in (("images", "NFC"), ("depth", "NFD")):
        path = tmp_path / folder / f"{unicodedata.normalize(form, 'kéy')}.png"
        path.parent.mkdir()
        Image.fromarray(np.full((3, 4), 7, np.uint8)).save(path)
    assert match_files(tmp_path, "images/{key}.png").keys() == match_files(tmp_path, "depth/{key}.png").keys()


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_folders_are_found_in_any_form_of_unicode(tmp_path: Path, stored: str, written: str) -> None:
    """Whatever was copied from a Mac has accents of their own, and what is typed has none."""
    for split in ("été", "hiver"):
        path = tmp_path / unicodedata.normalize(stored, f"données/{split}/kéy.png")
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((3, 4), 7, np.uint8)).save(path)
    pattern, split = (unicodedata.normalize(written, text) for text in ("données/{split}/{key}.*", "été"))
    assert list(match_files(tmp_path, pattern, split)) == ["kéy"]
    assert len(list_split_folders(tmp_path, pattern)) == 2
    (tmp_path / "train.txt").write_text(unicodedata.normalize(written, "données/été/kéy.png"), encoding="utf-8")
    described = f'[splits]\ntrain = "train.txt"\n[images]\nfiles = "{pattern.replace("{split}", split)}"\n'
    (tmp_path / "dataset.toml").write_text(described + '[tasks.depth]\nfiles = "depth/{key}.png"\n', encoding="utf-8")
    assert Folder(tmp_path, split="train").keys == ["kéy"]


def test_marks_of_utf8_are_left_out_and_other_encodings_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa\nb\n")
    assert read_text(path) == "a\nb\n"
    path.write_bytes(b"a\nk\xe9y\n")
    with pytest.raises(ValueError, match=r"list\.txt is not UTF-8: line 2 holds the byte 0xe9; save it as UTF-8"):
        read_text(path)
    photos(tmp_path, "a", "b")
    (tmp_path / "dataset.toml").write_bytes(b"\xef\xbb\xbf" + f'[splits]\ntrain = "list.txt"\n{TOML}'.encode())
    path.write_bytes(b"\xef\xbb\xbfb\n")
    assert Folder(tmp_path).keys == ["b"]
    path.write_bytes(b"\n# none\n")
    with pytest.raises(ValueError, match=r"split list .*list\.txt is empty; name one image per line"):
        Folder(tmp_path)


def test_marks_of_utf8_are_left_out_of_cameras_and_recipes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf# fx fy cx cy\r\n20 21 8 6\r\n")
    camera = CameraFiles(files="{key}.txt").camera((12, 16), tmp_path / "a.txt")
    assert camera is not None
    assert camera.intrinsics.tolist() == [[20, 0, 8], [0, 21, 6], [0, 0, 1]]
    (tmp_path / "recipe.json").write_bytes(b"\xef\xbb\xbf" + to_json(Recipe()).encode())
    assert read_recipe(tmp_path / "recipe.json") == Recipe()


def test_one_folder_cannot_be_split_by_folders(tmp_path: Path) -> None:
    photos(tmp_path, *(f"video/{i}" for i in range(40)))
    text = f'group = "folder"\n[splits]\nval = 0.25\n{TOML}'
    (tmp_path / "dataset.toml").write_text(text)
    with pytest.raises(ValueError, match=r"group = 'folder' gives 1 groups for 2 splits; group = 'time' takes blocks"):
        Folder(tmp_path)
    (tmp_path / "dataset.toml").write_text(text.replace('"folder"', '"time"'))
    train, val = ({int(key.rpartition("/")[2]) for key in Folder(tmp_path, split=s).keys} for s in ("train", "val"))
    assert len(val) == 10
    assert train | val == set(range(40))
    assert all(frame ^ 1 in val for frame in val)  # two frames of a block stay together


def test_the_files_of_a_description_may_lie_elsewhere(tmp_path: Path) -> None:
    photos(tmp_path / "photos", "a")
    (tmp_path / "mine.toml").write_text(TOML.replace("[tasks", "[camera]\nfov = 60.0\n[tasks"))
    data = DataConfig(dataset="folder", root=str(tmp_path / "mine.toml"), options={"root": str(tmp_path / "photos")})
    assert len(build_dataset(Recipe(data=data), "all")) == 1
    with pytest.raises(ValueError, match="dataset 'images' has no option 'root'"):
        build_dataset(Recipe(data=replace(data, dataset="images")), "train")


def test_keys_of_scenes_and_keys_without_folders(tmp_path: Path) -> None:
    for name in ("a/rgb/1.png", "b/c/rgb/1.png", "rgb/1.png", "2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / name)
    assert list(match_files(tmp_path, "{scene}/rgb/{key}.*")) == ["a/1", "b/c/1"]
    assert list(match_files(tmp_path, "{name}.*")) == ["2"]
    assert list(match_files(tmp_path, "{key}.*")) == ["2", "a/rgb/1", "b/c/rgb/1", "rgb/1"]
    for pattern in ("{key}/{name}.*", "{scene}/{scene}/{key}.*", "{scene}/x.png"):
        with pytest.raises(ValueError, match=r"has no \{key\} or several"):
            match_files(tmp_path, pattern)


def test_lists_name_images_by_paths_and_beside_their_labels(tmp_path: Path) -> None:
    photos(tmp_path, "a b", "c", "d")
    (tmp_path / "depth").mkdir()
    for name in ("a b", "c", "d"):
        np.save(tmp_path / f"depth/{name}.npy", DEPTH)
    (tmp_path / "train.txt").write_text("a b\n/home/x/images/c.png depth/c.npy\nd.png,7\n")
    (tmp_path / "val.txt").write_text("images/e.png\n")
    (tmp_path / "dataset.toml").write_text('[splits]\ntrain = "train.txt"\nval = "val.txt"\n' + TOML)
    assert Folder(tmp_path).keys == ["a b", "c", "d"]
    with pytest.raises(ValueError, match=r"names 'images/e.png', but .* has no such image"):
        Folder(tmp_path, split="val")


def test_tiff_of_wide_colors_is_read_whole(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = np.arange(36, dtype=np.uint16).reshape(3, 4, 3)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb")
    np.testing.assert_array_equal(read_array(tmp_path / "a.tif"), stored)


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
def test_the_byte_order_of_a_file_makes_no_difference(tmp_path: Path, suffix: str) -> None:
    """ImageJ saves TIFFs of 16 bits with the upper byte first."""
    mask, path = np.array([[0, 65535, 65535], [0, 0, 65535]], ">u2"), tmp_path / f"a{suffix}"
    if suffix == ".tif":
        Image.frombytes("I;16B", (3, 2), mask.tobytes()).save(path)
    else:
        (np.save if suffix == ".npy" else np.savez)(path, mask)
    assert read_array(path).dtype == np.uint16
    assert target_of(SaliencyMask(), path).tolist() == [[0, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    "stored", [np.array([[-20, 5, 100], [-128, 0, 127]], np.int8), np.array([[4294967295, 7]], np.uint32)]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_a_tiff_keep_their_sign(tmp_path: Path, stored: np.ndarray, order: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", byteorder=order)
    found = read_array(tmp_path / "a.tif")
    assert found.dtype == stored.dtype
    assert found.tolist() == stored.tolist()


SHADES = np.array([0, 90, 160, 255], np.uint8)
COLORS = np.array([[0, 0, 0], [128, 128, 255], [128, 255, 128], [255, 120, 120]], np.uint8)
LISTED = tuple((red, green, blue) for red, green, blue in COLORS.tolist())
PLACES = np.random.default_rng(0).integers(0, 4, (5, 6))
CLEAR = PLACES == 2


def indexed(order: np.ndarray, colors: np.ndarray) -> Image.Image:
    """`colors[PLACES]` as a picture whose palette has the colors in another order."""
    picture = Image.frombytes("P", PLACES.shape[::-1], np.argsort(order)[PLACES].astype(np.uint8).tobytes())
    picture.putpalette(np.broadcast_to(colors[order].reshape(4, -1), (4, 3)).tobytes())
    return picture


def target_of(encoding: Encoding, path: Path) -> np.ndarray:
    return encoding.decode(encoding.read(path), None).numpy()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_quantities_are_what_a_palette_shows_in_whatever_order(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(SHADES[PLACES]).save(tmp_path / "grey.png")
    Image.fromarray(COLORS[PLACES]).save(tmp_path / "colors.png")
    path = tmp_path / f"a{suffix}"
    for order in (np.array([3, 0, 2, 1]), np.array([1, 3, 0, 2])):
        for name, colors, encodings in (
            ("grey", SHADES, (SaliencyMask(), BoundaryMask(), Depth(scale=0.02), Values(), Values(invalid=(90,)))),
            ("colors", COLORS, (Normals(), Values(channels=3), Labels(classes=4, colors=LISTED))),
        ):
            indexed(order, colors).save(path)
            for encoding in encodings:
                np.testing.assert_array_equal(target_of(encoding, path), target_of(encoding, tmp_path / f"{name}.png"))
        np.testing.assert_array_equal(target_of(Labels(classes=4), path), np.argsort(order)[PLACES])
        # Colors where one number is expected are those of ids, as of VOC and DAVIS: 255 is void.
        for encoding in (SaliencyMask(threshold=1, invalid=(3,)), Depth(), Values()):
            indices = tmp_path / "indices.png"
            Image.fromarray(np.argsort(order)[PLACES].astype(np.uint8)).save(indices)
            np.testing.assert_array_equal(target_of(encoding, path), target_of(encoding, indices))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_mask_without_an_object_is_read_as_its_neighbors_are(tmp_path: Path, suffix: str) -> None:
    """Red on white, as ids: a file of which only white is used has the same palette."""
    for drawn in (np.zeros((4, 6), np.uint8), np.eye(4, 6, dtype=np.uint8)):
        picture = Image.fromarray(drawn).convert("P")
        picture.putpalette([255, 255, 255, 200, 0, 0])
        picture.save(tmp_path / f"a{suffix}")
        assert target_of(SaliencyMask(threshold=1), tmp_path / f"a{suffix}").tolist() == drawn.tolist()


def test_wide_labels_that_a_tag_turns_are_refused(tmp_path: Path) -> None:
    """Nothing turns their pixels, and nobody could turn the vectors: upside down they have the size of their image."""
    tifffile = pytest.importorskip("tifffile")
    stored = np.full((3, 4, 3), 40000, np.uint16)
    for turned in (1, 3, 6):
        tags = [(274, "H", 1, turned, True)]
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", metadata=None, extratags=tags)
        if turned == 1:
            np.testing.assert_array_equal(Normals().read(tmp_path / "a.tif"), stored)
        else:
            with pytest.raises(UnreadableFileError, match=f"orientation is {turned}.*save it upright"):
                Normals().read(tmp_path / "a.tif")


@pytest.mark.parametrize(("code", "name"), [(5, "LZW"), (7, "JPEG"), (50000, "ZSTD")])
def test_a_compression_of_wide_colors_names_the_package_that_reads_it(tmp_path: Path, code: int, name: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs is installed")
    tifffile.imwrite(tmp_path / "a.tif", np.ones((6, 9, 3), np.uint16), photometric="rgb")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[259].overwrite(code)
    with pytest.raises(
        ValueError, match=rf"compressed by {name}, .* imagecodecs; python -m pip install .* imagecodecs"
    ):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1"])
def test_a_file_of_grey_colors_alone_is_one_of_colors(tmp_path: Path, mode: str) -> None:
    """As tools save maps without an object, to shrink them; white is a color that no class has."""
    encoding = Labels(classes=2, colors=((0, 0, 0), (128, 0, 0)))
    grey = np.array([[0, 0, 255], [0, 255, 0]], np.uint8)
    Image.fromarray(grey).convert("RGB").convert(mode).save(tmp_path / "a.png")
    assert target_of(encoding, tmp_path / "a.png").tolist() == [[0, 0, 255], [0, 255, 0]]
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=0)
    assert (target_of(encoding, tmp_path / "a.png") == 255).all()
    Image.fromarray(grey // 255).save(tmp_path / "a.png")  # ids
    with pytest.raises(ValueError, match="it is grey, with values 1 that no class has in colors"):
        target_of(encoding, tmp_path / "a.png")


def test_transparent_pixels_have_no_label_however_that_is_stored(tmp_path: Path) -> None:
    """In a channel, beside a palette, as one index, shade or color."""
    alpha = np.where(CLEAR, 0, 255).astype(np.uint8)
    by_color = Labels(classes=4, colors=LISTED)
    usual = np.arange(4)
    for name, encoding, picture, options in (
        ("a.png", by_color, Image.fromarray(np.dstack([COLORS[PLACES], alpha])), {}),
        ("b.png", by_color, indexed(usual, COLORS), {"transparency": 2}),
        ("c.png", by_color, indexed(usual, COLORS), {"transparency": bytes([255, 9, 0, 255])}),
        ("d.png", by_color, Image.fromarray(COLORS[PLACES]), {"transparency": tuple(COLORS[2].tolist())}),
        ("e.gif", by_color, indexed(usual, COLORS), {"transparency": 2}),
        ("f.png", Labels(classes=4), indexed(usual, COLORS), {"transparency": bytes([255, 9, 0])}),
        ("g.png", Labels(classes=4), Image.fromarray(PLACES.astype(np.uint8)), {"transparency": 2}),
        ("h.png", Labels(classes=4), Image.fromarray(PLACES.astype(np.uint16)), {"transparency": 2}),
        ("i.png", Labels(classes=4, channel=0), Image.fromarray(np.dstack([PLACES.astype(np.uint8), alpha])), {}),
    ):
        picture.save(tmp_path / name, **options)
        expected = np.where(CLEAR, 255, PLACES)
        np.testing.assert_array_equal(target_of(encoding, tmp_path / name), expected, name)
    Image.fromarray(np.dstack([SHADES[PLACES], alpha])).save(tmp_path / "j.png")
    indexed(usual, SHADES).save(tmp_path / "k.png", transparency=2)
    Image.fromarray(SHADES[PLACES]).save(tmp_path / "l.png", transparency=160)
    for name, channel in (("j.png", 0), ("k.png", -1), ("l.png", -1)):
        for encoding in (SaliencyMask(channel=channel), Depth(channel=channel), Values(channel=channel)):
            target = target_of(encoding, tmp_path / name).reshape(PLACES.shape).astype(float)
            known = (target != 255 if isinstance(encoding, SaliencyMask) else np.isfinite(target)) | (
                SHADES[PLACES] == 0
            )
            np.testing.assert_array_equal(known, ~CLEAR, name)


@pytest.mark.parametrize(("bits", "byte", "mark"), [(1, 0x40, 1), (2, 0x60, 2), (4, 0x52, 2)])
def test_a_transparent_shade_of_few_bits_is_found(tmp_path: Path, bits: int, byte: int, mark: int) -> None:
    """The second pixel of two has it; Pillow stretches the pixels and not the mark."""
    head = struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"tRNS", struct.pack(">H", mark)), (b"IDAT", zlib.compress(bytes([0, byte])))]
    chunks = [
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in (*parts, (b"IEND", b""))
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert np.isnan(target_of(Values(), tmp_path / "a.png")).tolist() == [[[False, True]]]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_of_arrays_are_parsed_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """NumPy parses them with `ast`, which threads of CPython 3.11 must not share: whole files could not be read."""
    write = np.save if suffix == ".npy" else np.savez
    for i in range(4):
        write(tmp_path / f"{i}{suffix}", np.full((3, 4), i))
    inside, most, parse = 0, 0, ast.literal_eval

    def slow(text: str) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: read_array(tmp_path / f"{i}{suffix}")[0, 0], range(4)))
    assert (found, most) == ([0, 1, 2, 3], 1)
