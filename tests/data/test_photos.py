"""One reader of photographs for every verb: all modes, number types and orientations give the same image everywhere."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from torch import Tensor
from triptych_runtime.pictures import read_picture

from triptych.app.pictures import Limits
from triptych.app.pictures import read_picture as read_sent
from triptych.data.arrays import read_array
from triptych.data.cameras import UPRIGHT_MATRICES, turn_intrinsics
from triptych.data.errors import DataError, UnreadableFileError
from triptych.data.files import match_files, walk_files
from triptych.data.photos import read_image, read_image_size, read_orientation, read_photo, read_sparse, to_image_tensor
from triptych.data.pictures import ORIENTATION
from triptych.data.predicted import find_images
from triptych.datasets import open_dataset
from triptych.datasets.folder import Folder
from triptych.folders.camera_files import CameraFiles
from triptych.prepared.records import pack_sample, unpack_sample
from triptych.types import Sample

HEIGHT, WIDTH = 4, 6
COLORS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = COLORS[..., 0]
DEEP = COLORS.astype(np.uint16) * 257


def turned(orientation: int, suffix: str, mode: str = "RGB") -> tuple[str, Callable[[Path], None], np.ndarray]:
    """A picture whose pixels are stored so that EXIF's `orientation` turns them to `COLORS`; lossless."""
    stored = Image.fromarray(DEEP[..., 0]) if mode == "I;16" else Image.fromarray(COLORS).convert(mode)
    expected = np.repeat(GREY[..., None], 3, -1) if mode == "I;16" else np.asarray(stored.convert("RGB"))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions
    if orientation in undo:
        stored = stored.transpose(Image.Transpose(undo[orientation]))

    def save(path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored.save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))

    return f"turned{orientation}-{mode.replace(';', '')}{suffix}", save, expected / 255


def saved(name: str, image: Image.Image, expected: np.ndarray) -> tuple[str, Callable[[Path], None], np.ndarray]:
    return name, image.save, expected


def stored(name: str, array: np.ndarray, expected: np.ndarray) -> tuple[str, Callable[[Path], None], np.ndarray]:
    return name, lambda path: np.save(path, array), expected


def write_pgm(path: Path) -> None:
    path.write_bytes(b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + DEEP[..., 0].astype(">u2").tobytes())


def write_deep_png(path: Path) -> None:
    from deep_png import save_deep_png

    save_deep_png(path, DEEP)


def write_12_bits(path: Path) -> None:
    """A TIFF of 12 bits, two pixels in three bytes: 16 times the bytes, and their upper half below."""
    values = GREY.astype(int) << 4 | GREY >> 4
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8).tobytes()
    tags = [
        (256, WIDTH),
        (257, HEIGHT),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, HEIGHT),
        (279, len(packed)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    path.write_bytes(head + packed + struct.pack("<H", len(tags)) + entries + bytes(4))


def palette(transparent: bool) -> Image.Image:
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([200, 0, 0, 0, 100, 0, 0, 0, 50, 7, 8, 9])
    if transparent:
        image.info["transparency"] = b"\x00\xff"
    return image


PALETTE = np.array([[200, 0, 0], [0, 100, 0], [0, 0, 50], [7, 8, 9]])[GREY % 4] / 255
THREE = np.repeat(GREY[..., None], 3, -1) / 255
ONE_BIT = np.repeat((GREY > 127)[..., None], 3, -1).astype(float)
FILES = [
    saved("plain.png", Image.fromarray(COLORS), COLORS / 255),
    saved("plain.bmp", Image.fromarray(COLORS), COLORS / 255),
    saved("plain.ppm", Image.fromarray(COLORS), COLORS / 255),
    saved("grey.png", Image.fromarray(GREY), THREE),
    saved("alpha.png", Image.fromarray(np.dstack([COLORS, GREY])), COLORS / 255),
    saved("grey-alpha.png", Image.fromarray(np.dstack([GREY, GREY]), "LA"), THREE),
    saved("palette.png", palette(False), PALETTE),
    saved("palette-alpha.png", palette(True), PALETTE),
    saved("bits.png", Image.fromarray(GREY > 127), ONE_BIT),
    saved("deep.png", Image.fromarray(DEEP[..., 0]), THREE),
    saved("deep.tif", Image.fromarray(DEEP[..., 0]), THREE),
    ("deep.pgm", write_pgm, THREE),
    ("12bits.tif", write_12_bits, (GREY.astype(int) << 4 | GREY >> 4)[..., None].repeat(3, -1) / 4095),
    ("deep-colors.png", write_deep_png, COLORS / 255),
    saved("float.tif", Image.fromarray((GREY / 255).astype(np.float32)), THREE),
    saved("cmyk.tif", Image.fromarray(np.dstack([255 - COLORS, 0 * GREY]), "CMYK"), COLORS / 255),
    *(turned(orientation, ".png") for orientation in range(2, 9)),
    *(turned(orientation, ".tif") for orientation in (3, 6)),
    *(turned(6, ".tif", mode) for mode in ("L", "I;16", "RGBA", "CMYK", "P")),
    *(turned(orientation, ".webp") for orientation in (6, 7)),
    stored("bytes.npy", COLORS, COLORS / 255),
    stored("planes.npy", COLORS.transpose(2, 0, 1), COLORS / 255),
    stored("planes_alpha.npy", np.dstack([COLORS, COLORS[..., 0]]).transpose(2, 0, 1), COLORS / 255),
    stored("grey.npy", GREY, THREE),
    stored("deep.npy", DEEP.astype(">u2"), COLORS / 255),
    stored("half.npy", (COLORS / 255).astype(np.float16), (COLORS / 255).astype(np.float16)),
    stored("double.npy", COLORS / 255, COLORS / 255),
]


def by_folder(path: Path) -> Tensor:
    text = f'[images]\nfiles = "{{key}}{path.suffix}"\n[camera]\nfov = 60.0\n'
    (path.parent / "dataset.toml").write_text(text)
    return Folder(path.parent, split="all")[0].image


def by_doctor(path: Path) -> Tensor:
    dataset = Folder(path.parent, split="all")
    return dataset.photo(dataset.keys[0])


def by_images(path: Path) -> Tensor:
    return open_dataset("images", path.parent)[0].image


def by_predict(path: Path) -> Tensor:
    ((_, found),) = find_images([path])
    return read_image(found)


def by_pillow(path: Path) -> Tensor:
    with Image.open(path) as image:
        return to_image_tensor(image)


def by_preparing(path: Path) -> Tensor:
    return unpack_sample(pack_sample(Sample(by_folder(path), {}, "a"), []), []).image


VERBS = {
    "train": by_folder,
    "doctor": by_doctor,
    "adapt": by_images,
    "predict": by_predict,
    "call": to_image_tensor,
    "call with a picture": by_pillow,
    "prepare": by_preparing,
}


@pytest.mark.parametrize(("name", "save", "expected"), FILES, ids=[name for name, _, _ in FILES])
def test_all_verbs_read_the_same_image(
    name: str, save: Callable[[Path], None], expected: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(path)
    for verb, read in VERBS.items():
        if path.suffix == ".npy" and verb in ("adapt", "call with a picture"):
            continue  # arrays in a folder of pictures may be labels, and Pillow opens none
        if name == "deep-colors.png" and verb == "call with a picture":
            continue  # Pillow has dropped the lower byte
        if name.startswith("turned6") and name.endswith(".tif") and verb == "call with a picture":
            continue  # Pillow itself scrambles these where it is given a path
        image = read(path)
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-6, err_msg=f"{verb} of {name}")
    assert read_image_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (COLORS.astype(np.float32), r"run from 1 to 248; float images lie in \[0, 1\]: divide by 255"),
        (np.where(COLORS > 99, np.nan, 0), "run from nan to nan"),
        (COLORS.astype(np.int64), "are int64 from 1 to 248, which is not the range of that type; save them as uint8"),
        (DEEP.astype(np.int32), "are int32 from"),
        (COLORS.astype(np.int16) - 5, "from -4 to"),
        (COLORS.astype(complex), "are complex128"),
        (COLORS[..., :2], r"shape \(4, 6, 2\); an image is \(height, width, 3\)"),
    ],
)
def test_raises_for_numbers_that_are_no_image(values: np.ndarray, message: str, tmp_path: Path) -> None:
    """Not read as black, as integers of 32 bits divided by two billions would be."""
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read_image(tmp_path / "a.npy")
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'} cannot be read")
    with pytest.raises(DataError, match=message):
        to_image_tensor(values)


def test_integers_of_all_bits_are_divided_by_the_largest() -> None:
    wide = COLORS.astype(np.uint32) * (2**32 // 255)
    np.testing.assert_allclose(to_image_tensor(wide).permute(1, 2, 0), COLORS / 255, atol=1e-6)


def test_a_picture_of_32_bits_is_refused_or_scaled(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableFileError, match=r"int32 from 1 to 248, which is not"):
        read_image(tmp_path / "a.tif")


def test_wide_tiffs_are_colors_only_where_they_say_so(tmp_path: Path) -> None:
    """CMYK is converted as of 8 bits; colors that are not converted, and bands of a satellite, are refused."""
    tifffile = pytest.importorskip("tifffile")
    inks, four = np.dstack([65535 - DEEP, 0 * DEEP[..., 0]]), np.dstack([DEEP, DEEP[..., 0]])
    for number, (values, told, extra, found) in enumerate(
        (
            (inks, "separated", None, COLORS / 255),
            (DEEP, "cielab", None, "colors are CIELAB; save it as RGB"),
            (DEEP, "minisblack", None, COLORS / 255),
            (four, "rgb", ["unassalpha"], COLORS / 255),
            (four, "minisblack", None, "four bands and says no color of them"),
            (four, "minisblack", [0, 0, "unassalpha"], COLORS / 255),
            ((four // 257).astype(np.uint8), "minisblack", None, "four bands and says no color of them"),
        )
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, values, photometric=told, planarconfig="contig", extrasamples=extra, metadata=None)
        if isinstance(found, str):
            for read in (read_image, read_image_size):
                with pytest.raises(UnreadableFileError, match=found):
                    read(path)
        else:
            np.testing.assert_allclose(read_image(path).permute(1, 2, 0), found, atol=1e-6)
            assert read_image_size(path) == (HEIGHT, WIDTH)


def test_the_runtime_turns_what_the_predictor_turns(tmp_path: Path) -> None:
    """A file and a picture that Pillow opened, whatever EXIF says: upright, and equal in both packages."""
    for orientation, suffix in [*((number, ".png") for number in range(1, 9)), (6, ".tif")]:
        name, save, _ = turned(orientation, suffix)
        save(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            for picture in (tmp_path / name, opened):
                np.testing.assert_array_equal(read_picture(picture), COLORS)
                np.testing.assert_allclose(to_image_tensor(picture).permute(1, 2, 0) * 255, COLORS, atol=1e-3)
    name, save, expected = turned(6, ".tif", "L")
    save(tmp_path / name)
    np.testing.assert_allclose(read_picture(tmp_path / name) / 255, expected)
    write_12_bits(tmp_path / "12.tif")
    np.testing.assert_allclose(
        read_picture(tmp_path / "12.tif"), read_image(tmp_path / "12.tif").permute(1, 2, 0), atol=1e-6
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".pgm"])
def test_no_file_starts_another_program_whatever_its_name_says(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **options: started.append(given))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\nshowpage\n%%EOF\n"
    (path := tmp_path / f"a{suffix}").write_bytes(script)
    for read in (read_array, read_photo, read_image, read_image_size, read_picture, to_image_tensor):
        with pytest.raises(ValueError, match=r"cannot be read.*cannot identify image file"):
            read(path)
    with pytest.raises(DataError, match="no picture that can be read"):
        read_sent(script, Limits())
    assert not started


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM"])
def test_the_app_reads_every_format_that_it_names(kind: str, tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "a", kind)
    picture, size = read_sent((tmp_path / "a").read_bytes(), Limits())
    assert size == (HEIGHT, WIDTH)
    torch.testing.assert_close(picture[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]), atol=0.01, rtol=0)


@pytest.mark.parametrize("orientation", sorted(UPRIGHT_MATRICES))
def test_cameras_turn_with_the_pixels(orientation: int, tmp_path: Path) -> None:
    """A point of the scene projects to the pixel that it had, wherever that one has gone."""
    name, save, _ = turned(orientation, ".png")
    save(tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        size = (picture.height, picture.width)
    focal = np.array([[5.0, 0, 2.25], [0, 7.0, 1.5], [0, 0, 1]])
    turned_to = turn_intrinsics(focal, orientation, (HEIGHT, WIDTH))
    matrix = np.array(UPRIGHT_MATRICES[orientation](*size))
    point = np.array([0.2, -0.3, 2.0])
    pixel = focal @ point / point[2]
    there = matrix @ pixel
    moved = np.array([*(matrix[:, :2] @ point[:2]), point[2]])
    np.testing.assert_allclose((turned_to @ moved / moved[2])[:2], there)
    marked = np.zeros(size)
    marked[1, 3] = 1
    from triptych.data.photos import UPRIGHT

    row, column = np.argwhere(UPRIGHT[orientation](marked))[0]
    assert (matrix @ [3.5, 1.5, 1]).tolist() == [column + 0.5, row + 0.5]
    assert read_orientation(tmp_path / name) == orientation


def test_a_folder_turns_its_camera(tmp_path: Path) -> None:
    name, save, _ = turned(6, ".png")
    save(tmp_path / name)
    (tmp_path / "dataset.toml").write_text('[images]\nfiles = "{key}.png"\n[camera]\nintrinsics = [5, 7, 1.5, 2.25]\n')
    camera = Folder(tmp_path, split="all")[0].camera
    assert camera is not None
    assert camera.intrinsics.tolist() == [[7, 0, 3.75], [0, 5, 1.5], [0, 0, 1]]
    fov = CameraFiles(fov=90.0).camera((HEIGHT, WIDTH), None, orientation=6)
    assert fov is not None
    assert fov.intrinsics[0, 0] == 2  # half the width of 4 at which it is stored


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_turns_image_and_camera_and_says_so(orientation: int, tmp_path: Path) -> None:
    from triptych.doctor.file_checks import ImageFile, check_orientation

    tifffile = pytest.importorskip("tifffile")
    paths = [tmp_path / f"turned{suffix}" for suffix in (".png", ".jpg", ".tif", ".tiff")]
    for path in paths[:-1]:
        turned(orientation, path.suffix)[1](path)
    with Image.open(paths[0]) as picture:
        wide = np.asarray(picture).astype(np.uint16) * 257
    tag = (ORIENTATION, "H", 1, orientation, True)
    tifffile.imwrite(paths[-1], wide, photometric="rgb", extratags=[tag], metadata=None)
    cameras, said = [], []
    for path in paths:
        (tmp_path / "dataset.toml").write_text(
            f'[images]\nfiles = "{{key}}{path.suffix}"\n[camera]\nintrinsics = [5, 7, 1.5, 2.25]\n'
        )
        sample, photo = Folder(tmp_path, split="all")[0], read_photo(path)
        if path.suffix != ".jpg":
            np.testing.assert_allclose(sample.image.permute(1, 2, 0), COLORS / 255, atol=1e-6)
        assert read_image_size(path) == photo.size == (HEIGHT, WIDTH)
        assert read_orientation(path) == photo.orientation == read_sparse(path, 2)[0].orientation == orientation
        assert sample.camera is not None
        cameras.append(sample.camera.intrinsics.tolist())
        said.append([problem.text for problem in check_orientation(ImageFile(path, photo, lambda p=photo: p))])
    assert cameras == cameras[:1] * 4
    assert said == said[:1] * 4
    assert len(said[0]) == (orientation > 1)


def test_one_walk_for_all_verbs(tmp_path: Path) -> None:
    for name in ("b/2.jfif", "b/1.pgm", "a.JPG", "._a.jpg", ".ipynb_checkpoints/a.jpg", "b/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_pgm(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "b/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again.pgm").symlink_to(tmp_path / "b/1.pgm")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    names = ["a.JPG", "again.pgm", "self.png", "b/1.pgm", "b/2.jfif", "b/note.txt"]
    assert [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path)] == names
    (tmp_path / "self.png").unlink()
    assert sorted(name for name, _ in find_images([tmp_path])) == ["a", "again", "b/1", "b/2"]
    images = open_dataset("images", tmp_path)
    assert [images.key(index) for index in range(len(images))] == ["a.JPG", "again.pgm", "b/1.pgm", "b/2.jfif"]
    with pytest.raises(ValueError, match=r"pipe.png is neither a file nor a folder"):
        find_images([tmp_path / "pipe.png"])


def test_a_folder_is_found_by_its_own_name_and_not_by_a_link_beside_it(tmp_path: Path) -> None:
    for name in ("images/v3/a.png", "images/z/b.png", "elsewhere/v1/c.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    links = {"images/current": "v3", "images/v3/all": "../z", "images/more": "../elsewhere", "elsewhere/best": "v1"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target, target_is_directory=True)
    found = match_files(tmp_path, "images/{key}.png")
    assert sorted(found) == ["more/v1/c", "v3/a", "z/b"]
    assert set(walk_files(tmp_path / "images")) == set(found.values())


def test_a_link_to_a_store_beside_it_is_matched_by_the_links_name(tmp_path: Path) -> None:
    for name in ("store/a_rgb/1.png", "b/rgb/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rgb").symlink_to("../store/a_rgb", target_is_directory=True)
    (tmp_path / "a/up").symlink_to("..", target_is_directory=True)
    assert sorted(match_files(tmp_path, "{scene}/rgb/{key}.png")) == ["a/1", "b/2"]
    assert sorted(match_files(tmp_path, "{key}.png")) == ["b/rgb/2", "store/a_rgb/1"]


def test_a_folder_that_may_not_be_listed_is_an_error_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.png", "b/2.png", "lost+found/3.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    scan = os.scandir

    def refuse(folder: str) -> object:
        if Path(folder).name in ("b", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"folder .*/b cannot be listed \(Permission denied\); .*pattern"):
        match_files(tmp_path, "{key}.png")
    with pytest.warns(UserWarning, match=r"folder .*/b cannot be listed \(Permission denied\): its files are left out"):
        assert list(walk_files(tmp_path)) == [tmp_path / "a/1.png"]
    assert list(match_files(tmp_path, "a/{key}.png")) == ["1"]


def test_errors_of_data_travel_between_processes() -> None:
    import pickle

    error = UnreadableFileError("a.png is cut", "copy it again", missing=True)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (UnreadableFileError, "a.png is cut; copy it again.")
    assert (again.text, again.cure, again.missing) == ("a.png is cut", "copy it again", True)


def test_an_error_of_data_keeps_its_cure_when_more_is_said_of_it() -> None:
    inner = DataError("it has values like 7; 9", "list them in invalid")
    outer = DataError.about("label a.png", inner)
    assert (outer.text, outer.cure) == ("label a.png: it has values like 7; 9", "list them in invalid")
    assert str(DataError.about("label a.png", ValueError("it is empty."))) == "label a.png: it is empty."


@pytest.mark.parametrize("size", [(48, 64), (47, 61), (1, 3), (5, 2)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "turned.jpg", "grey.png", "a.npy"])
def test_sparse_pixels_are_those_of_the_whole(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    pixels, path = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), tmp_path / name
    if name == "a.npy":
        np.save(path, pixels)
    else:
        image = Image.fromarray(pixels).convert("L" if name == "grey.png" else "RGB")
        exif = Image.Exif()
        exif[274] = 6 if name == "turned.jpg" else 1
        image.save(path, exif=exif)
    whole = read_photo(path)
    for step in (1, 2, 4, 5):
        few, found = read_sparse(path, step)
        assert found == whole.size
        np.testing.assert_array_equal(few.values, whole.values[::step, ::step])
        assert (few.orientation, few.largest) == (whole.orientation, whole.largest)


def test_a_shrunk_jpeg_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    slope = np.add.outer(np.arange(90), np.arange(121)).astype(np.uint8)
    Image.fromarray(np.stack([slope] * 3, -1)).save(path, quality=95)
    few, size = read_sparse(path, 4, shrunk=True)
    assert (few.size, size) == ((23, 31), (90, 121))
    every = read_sparse(path, 4)[0].values.astype(int)
    assert np.abs(few.values[:22, :30] - every[:22, :30]).mean() < 8
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(UnreadableFileError, match="truncated"):
        read_sparse(path, 4, shrunk=True)
