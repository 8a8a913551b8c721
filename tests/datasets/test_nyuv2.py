"""NYU Depth v2 from any of its archives becomes the same samples."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from indoor_scene import angles, see_room
from PIL import Image
from shared import shared_path

from triptych.data.arrays import read_array
from triptych.data.lists import packaged_lines
from triptych.data.subset import find_shared
from triptych.datasets.labelled_file import LabelledFile
from triptych.datasets.nyuv2 import NYUv2
from triptych.labels.derived import normals_from_depth
from triptych.labels.normals import DIRECTIONS
from triptych.labels.tables import NAMES_13, NAMES_40, UNUSED, class_space, fine_names
from triptych.types import IGNORE

SIZE = (96, 128)
TRAIN, HELD_OUT, TEST = ("0003", "0004", "0005"), ("0010", "0011"), ("0001", "0002")
FRAMES = (*TRAIN, *HELD_OUT, *TEST)
SCALE = SIZE[0] / 480
# Pixel centres at integer + 0.5; the toolbox counts them from 1.
MATRIX = np.array([[518.8579 * SCALE, 0, 325.08245 * SCALE], [0, 519.46961 * SCALE, 253.23617 * SCALE], [0, 0, 1]])
DEPTH, NORMALS, PLANE = see_room(MATRIX, SIZE)
FOLDERS = ("NYUD_MT", "NYUDv2", "NYUD_MT_ASTMT")
AXES = {
    "NYUD_MT": ("right", "up", "backward"),
    "NYUDv2": ("right", "forward", "up"),
    "NYUD_MT_ASTMT": ("left", "down", "forward"),
    "MTAN": ("right", "up", "forward"),
}


def photo(key: str) -> np.ndarray:
    """A smooth picture, so that JPEG keeps it, different for every frame."""
    picture = np.repeat(np.linspace(0, 200, SIZE[1])[None], SIZE[0], 0)[..., None] * [1.0, 0.8, 0.5]
    return (picture + int(key)).astype(np.uint8)


def classes_of(key: str) -> np.ndarray:
    """Class ids of the 40, another one for each plane and frame; a corner is unlabelled."""
    labels = (PLANE * 7 + int(key)) % 40
    labels[:4, :6] = IGNORE
    return labels


def depth_of(key: str) -> np.ndarray:
    """Metres; 0 where nothing was measured."""
    depth = DEPTH.astype(np.float32) * (1 + int(key) / 100)
    depth[-3:, -5:] = 0
    return depth


def stored_normals(axes: tuple[str, str, str]) -> np.ndarray:
    stored = np.stack([DIRECTIONS[axis][1] * NORMALS[..., DIRECTIONS[axis][0]] for axis in axes], -1)
    stored[40:44, 60:70] = 0
    return stored.astype(np.float32)


def edges() -> np.ndarray:
    edges = np.zeros(SIZE, np.uint8)
    edges[:-1] = PLANE[1:] != PLANE[:-1]
    return edges


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {path.parent.name: array})
    else:
        Image.fromarray(array).save(path, **({"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}))


def write_folders(root: Path, name: str) -> Path:
    picture, table, vectors, lines = {
        "NYUD_MT": (".jpg", (".png", ".npy"), ".npy", ".npy"),
        "NYUDv2": (".png", (".png", ".npy"), ".png", ".png"),
        "NYUD_MT_ASTMT": (".jpg", (".mat", ".mat"), ".jpg", ".png"),
    }[name]
    normals = stored_normals(AXES[name])
    quantised = np.where(np.abs(normals).sum(-1, keepdims=True) > 0, np.rint((normals + 1) * 127.5), 127).astype(
        np.uint8
    )
    for key in FRAMES:
        labels = classes_of(key)
        save(root / f"images/{key}{picture}", photo(key))
        save(root / f"segmentation/{key}{table[0]}", np.where(labels == IGNORE, 0, labels + 1).astype(np.uint8))
        save(root / f"depth/{key}{table[1]}", depth_of(key))
        save(root / f"normals/{key}{vectors}", normals if vectors == ".npy" else quantised)
        save(root / f"edge/{key}{lines}", edges() if lines == ".npy" else edges() * 255)
    (root / "gt_sets").mkdir()
    (root / "gt_sets/train.txt").write_text("\n".join((*TRAIN, *HELD_OUT)) + "\n")
    (root / "gt_sets/val.txt").write_text("\n".join(TEST))
    return root


def write_arrays(root: Path) -> Path:
    """288x384 arrays in floats, numbered from 0 in the order of the official lists."""
    for part, keys in (("train", packaged_lines("nyuv2_train")[:9]), ("val", TEST)):
        for number, key in enumerate(keys):
            labels = np.where(classes_of(key) == IGNORE, -1, classes_of(key) % 13)
            save(root / f"{part}/image/{number}.npy", photo(key) / 255)
            save(root / f"{part}/label/{number}.npy", labels.astype(np.float64))
            save(root / f"{part}/depth/{number}.npy", depth_of(key)[..., None])
            save(root / f"{part}/normal/{number}.npy", stored_normals(AXES["MTAN"]))
    return root


def write_official(
    root: Path, *, names: list[str] | None = None, scenes: list[str] | None = None, frames: int = 14
) -> Path:
    """MATLAB 7.3: HDF5 after 512 bytes, axes reversed, names as references to arrays of character codes."""
    root.mkdir(parents=True, exist_ok=True)
    keys = [f"{number + 1:04d}" for number in range(frames)]
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = np.stack([photo(key).transpose(2, 1, 0) for key in keys])
        file["depths"] = np.stack([depth_of(key).T for key in keys])
        file["rawDepths"] = np.stack([np.where(PLANE == 2, 0, depth_of(key)).T for key in keys]).astype(np.float32)
        file["labels"] = np.stack([fine_of(key).T for key in keys]).astype(np.uint16)
        for entry, texts in {"names": names or fine_names(), **({"scenes": scenes} if scenes else {})}.items():
            stored = [
                file.create_dataset(f"#refs#/{entry}{n}", data=np.array([[ord(letter)] for letter in text], np.uint16))
                for n, text in enumerate(texts)
            ]
            file.create_dataset(entry, data=[[one.ref for one in stored]], dtype=h5py.ref_dtype)
    return root


def fine_of(key: str) -> np.ndarray:
    """Labels of the 894, from 1; 0 is unlabelled; around 255, which is no class id here."""
    labels = PLANE * 150 + 250 + int(key)
    labels[:4, :6] = 0
    return labels


def write(root: Path, name: str) -> Path:
    if name in FOLDERS:
        return write_folders(root, name)
    return {"MTAN": write_arrays, "official": write_official}[name](root)


def read(root: Path, **options: Any) -> NYUv2:
    return NYUv2(root, **{"allow_missing": True, **options})


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("nyuv2")
    return {name: write(top / name, name) for name in NYUv2.variants}


@pytest.mark.parametrize("name", list(NYUv2.variants))
def test_every_variant_gives_the_same_sample(archives: dict[str, Path], name: str) -> None:
    dataset = read(archives[name])
    assert dataset.variant.name == name
    assert list(dataset.tasks) == ["semseg", "depth", "normals", "boundary"]
    sample = dataset[0]
    assert Path(str(sample.key)).name == ("0" if name == "MTAN" else "0003")
    assert np.abs(sample.image.numpy() * 255 - photo("0003").transpose(2, 0, 1)).max() < (3 if "MT" in name else 1e-3)
    if name in FOLDERS:
        np.testing.assert_array_equal(sample.targets["semseg"].numpy(), classes_of("0003"))
        np.testing.assert_array_equal(sample.targets["boundary"][0].numpy(), edges())
    depth = depth_of("0003")
    np.testing.assert_allclose(sample.targets["depth"][0].numpy(), np.where(depth > 0, depth, np.nan), rtol=1e-6)
    assert sample.camera is not None
    np.testing.assert_allclose(sample.camera.intrinsics.numpy(), MATRIX, rtol=1e-5)


@pytest.mark.parametrize("name", list(NYUv2.variants))
def test_normals_agree_with_the_depth(archives: dict[str, Path], name: str) -> None:
    """Whatever axes an archive has; the true normals are those of the planes."""
    dataset = read(archives[name])
    assert dataset.normals_axes == AXES.get(name)
    sample = dataset[1]
    assert sample.camera is not None
    normals = sample.targets["normals"]
    lengths = normals.norm(dim=0)
    torch.testing.assert_close(lengths[lengths.isfinite()], torch.ones_like(lengths[lengths.isfinite()]))
    derived = normals_from_depth(sample.targets["depth"], sample.camera, reach=1)
    tolerance = {"NYUDv2": 0.6, "NYUD_MT_ASTMT": 2.0}.get(name, 0.1)  # 8 bits, and JPEG on top
    assert np.median(angles(normals.numpy(), derived.numpy())) < tolerance
    assert np.median(angles(normals.numpy(), NORMALS.transpose(2, 0, 1))) < tolerance
    if name in ("NYUD_MT", "NYUDv2", "MTAN"):
        assert normals[:, 40:44, 60:70].isnan().all()
        assert normals.isfinite().all(0).sum() == lengths.numel() - 40


@pytest.mark.parametrize("name", list(NYUv2.variants))
def test_splits_hold_out_training_frames(archives: dict[str, Path], name: str) -> None:
    splits = {split: read(archives[name], split=split).keys for split in ("train", "val", "trainval", "test")}
    assert sorted(splits["train"] + splits["val"]) == sorted(splits["trainval"])
    assert not set(splits["trainval"]) & set(splits["test"])
    opened = {split: read(archives[name], split=split) for split in splits}
    count = len(splits["val"])
    assert find_shared(opened["trainval"], opened["val"]) == (splits["val"], count)
    assert find_shared(opened["train"], opened["val"])[0] == []
    assert find_shared(opened["trainval"], opened["test"])[0] == []
    expected = {"MTAN": (6, 3, 2)}.get(name, (3, 2, 2))
    official = packaged_lines("nyuv2_train")
    if name == "official":  # of the first 14 frames
        expected = tuple(
            sum(int(key) <= 14 for key in keys)
            for keys in (
                set(official) - set(packaged_lines("nyuv2_val")),
                packaged_lines("nyuv2_val"),
                packaged_lines("nyuv2_test"),
            )
        )
    assert tuple(len(splits[split]) for split in ("train", "val", "test")) == expected
    if name == "MTAN":
        assert [official[int(Path(key).name)] for key in splits["val"]] == ["0010", "0011", "0012"]


def test_lists_are_the_official_ones() -> None:
    splits = scipy.io.loadmat(shared_path("samples/nyuv2/meta/splits.mat"))
    for name, entry, count in (("train", "trainNdxs", 795), ("test", "testNdxs", 654)):
        assert [int(key) for key in packaged_lines(f"nyuv2_{name}")] == splits[entry].ravel().tolist()
        assert len(packaged_lines(f"nyuv2_{name}")) == count


def test_held_out_frames_are_whole_runs() -> None:
    """A scene's frames have consecutive numbers, and no scene is in both official splits: no scene is divided."""
    held_out, test = ([int(key) for key in packaged_lines(f"nyuv2_{name}")] for name in ("val", "test"))
    train = {int(key) for key in packaged_lines("nyuv2_train")}
    assert len(held_out) == 80
    assert set(held_out) <= train
    for frame in held_out:
        for neighbor in (frame - 1, frame + 1):
            assert neighbor in held_out or neighbor in test or not 1 <= neighbor <= 1449


def test_class_tables_are_the_published_ones() -> None:
    mapping = scipy.io.loadmat(shared_path("samples/nyuv2/meta/classMapping40.mat"))
    coarse = scipy.io.loadmat(shared_path("samples/nyuv2/meta/class13Mapping.mat"))["classMapping13"][0, 0]
    assert fine_names() == [str(name[0]) for name in mapping["allClassName"].ravel()]
    assert [int(line.split()[0]) for line in packaged_lines("nyuv2_classes")] == mapping["mapClass"].ravel().tolist()
    assert list(NAMES_40) == [str(name[0]) for name in mapping["className"].ravel()]
    assert list(NAMES_13) == [str(name[0]) for name in coarse["classNames"].ravel()[0].ravel()] or list(NAMES_13) == [
        str(name[0]) for name in coarse["classNames"].ravel()
    ]


@pytest.mark.parametrize("classes", [40, 13, 894])
def test_labels_of_the_official_file(archives: dict[str, Path], classes: int) -> None:
    mapping = scipy.io.loadmat(shared_path("samples/nyuv2/meta/classMapping40.mat"))["mapClass"].ravel().astype(int)
    coarse = scipy.io.loadmat(shared_path("samples/nyuv2/meta/class13Mapping.mat"))["classMapping13"][0, 0]
    to_13 = coarse["labels13"].ravel().astype(int)
    dataset = read(archives["official"], classes=classes, tasks=("semseg",))
    fine = fine_of("0003")
    found = dataset[0].targets["semseg"].numpy()
    named = np.array([*dataset.tasks["semseg"].classes])
    if classes == 894:
        assert (named[found[fine > 0]] == np.array(fine_names())[fine[fine > 0] - 1]).all()
        assert named[IGNORE] == UNUSED
        assert not np.isin(found[fine > 0], IGNORE).any()
    else:
        expected = mapping[fine - 1] - 1 if classes == 40 else to_13[mapping[fine - 1] - 1] - 1
        np.testing.assert_array_equal(found[fine > 0], expected[fine > 0])
    assert (found[fine == 0] == IGNORE).all()


def test_names_of_the_file_decide(tmp_path: Path) -> None:
    """Labels are looked up by name, so that a file with names in another order means the same."""
    names = fine_names()[::-1]
    dataset = read(write_official(tmp_path, names=names), tasks=("semseg",))
    fine = fine_of("0003")
    coarse = {line.partition(" ")[2]: int(line.partition(" ")[0]) - 1 for line in packaged_lines("nyuv2_classes")}
    expected = np.array([coarse[name] for name in names])[fine - 1]
    np.testing.assert_array_equal(dataset[0].targets["semseg"].numpy()[fine > 0], expected[fine > 0])


def test_raw_depth_has_holes(archives: dict[str, Path]) -> None:
    depth = read(archives["official"], raw_depth=True, tasks=("depth",))[0].targets["depth"][0]
    assert depth[torch.from_numpy(PLANE == 2)].isnan().all()
    with pytest.raises(ValueError, match=r"raw_depth needs nyu_depth_v2_labeled\.mat"):
        read(archives["NYUDv2"], raw_depth=True)


def test_scenes_of_the_official_file(archives: dict[str, Path], tmp_path: Path) -> None:
    """Frames of one scene are alike; a file that does not tell, and other archives, leave each to itself."""
    scenes = [f"kitchen_{number // 4:04d}" for number in range(14)]
    dataset = read(write_official(tmp_path, scenes=scenes), tasks=("depth",))
    assert [dataset.group(index) for index in range(len(dataset))] == [scenes[int(key) - 1] for key in dataset.keys]
    for name in ("official", "NYUDv2"):
        dataset = read(archives[name], tasks=("depth",))
        assert [dataset.group(index) for index in range(len(dataset))] == dataset.keys


def test_an_official_file_that_replaces_another_is_read(tmp_path: Path) -> None:
    file = LabelledFile(write_official(tmp_path, names=["one"] * 894, frames=1) / "nyu_depth_v2_labeled.mat")
    assert set(file.names()) == {"one"}
    again = write_official(tmp_path / "again", names=["two"] * 894, frames=1) / "nyu_depth_v2_labeled.mat"
    again.replace(file.path)
    assert set(file.names()) == {"two"}


def test_the_official_file_itself_is_a_root_and_goes_to_workers(archives: dict[str, Path]) -> None:
    dataset = read(archives["official"] / "nyu_depth_v2_labeled.mat", tasks=("depth",))
    again = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(again[0].targets["depth"], dataset[0].targets["depth"], equal_nan=True)
    assert set(dataset.files(0).values()) == {archives["official"] / "nyu_depth_v2_labeled.mat"}


def test_files_and_fingerprint(archives: dict[str, Path]) -> None:
    dataset = read(archives["NYUD_MT"], tasks=("semseg", "boundary"))
    root = archives["NYUD_MT"]
    assert dataset.files(0) == {
        "image": root / "images/0003.jpg",
        "semseg": root / "segmentation/0003.png",
        "boundary": root / "edge/0003.npy",
    }
    assert dataset.fingerprint()["variant"] == "NYUD_MT"
    assert read(archives["NYUDv2"]).fingerprint()["normals_axes"] == AXES["NYUDv2"]


def test_class_spaces() -> None:
    assert [len(class_space(classes)) for classes in (13, 40, 894)] == [13, 40, 895]
    assert [name for name in class_space(894) if name != UNUSED] == fine_names()


# Real frames


def write_real(root: Path, source: str, numbers: tuple[int, ...]) -> Path:
    """Real frames as the archive of the InvPT line stores them."""
    for number in numbers:
        at = shared_path(f"samples/nyuv2/{source}/{number:06d}_rgb.png").parent
        labels = read_array(at / f"{number:06d}_seg40.png")
        save(root / f"segmentation/{number:04d}.png", np.where(labels == IGNORE, 0, labels + 1).astype(np.uint8))
        save(root / f"edge/{number:04d}.png", np.zeros_like(labels))
        (root / "images").mkdir(exist_ok=True)
        shutil.copy(at / f"{number:06d}_rgb.png", root / f"images/{number:04d}.png")
        for name, stored in (("normals", ".png"), ("depth", ".npy")):
            (root / name).mkdir(exist_ok=True)
            if not (at / f"{number:06d}_normals.png").exists():
                (root / f"{name}/{number:04d}{stored}").write_bytes(b"")
        if (at / f"{number:06d}_normals.png").exists():
            shutil.copy(at / f"{number:06d}_normals.png", root / f"normals/{number:04d}.png")
            depth = read_array(at / f"{number:06d}_depth_5000.png") / np.float32(5000)
            save(root / f"depth/{number:04d}.npy", depth.astype(np.float32))
    (root / "gt_sets").mkdir()
    (root / "gt_sets/train.txt").write_text("0003")
    (root / "gt_sets/val.txt").write_text("\n".join(f"{number:04d}" for number in numbers))
    return root


def test_frame_433(tmp_path: Path) -> None:
    """The stored normals of a real frame and the normals of its depth differ by 8.0 degrees (median).

    Kinect noise needs a reach of 8 pixels: 33.7 degrees at 1, 21.3 at 3, 13.0 at 5, 8.4 at 12.
    """
    dataset = NYUv2(write_real(tmp_path, "labelled", (433,)), split="test")
    assert dataset.normals_axes == ("right", "forward", "up")
    sample = dataset[0]
    assert sample.image.shape == (3, 480, 640)
    assert sample.camera is not None
    derived = normals_from_depth(sample.targets["depth"], sample.camera, reach=8)
    difference = angles(sample.targets["normals"].numpy(), derived.numpy())
    assert difference.size > 150_000
    assert 7.5 < np.median(difference) < 8.5
    at = shared_path("samples/nyuv2/labelled/000433_class13.png")
    thirteen = NYUv2(tmp_path, split="test", classes=13, tasks=("semseg",))[0].targets["semseg"].numpy()
    stored = read_array(at).astype(int)
    np.testing.assert_array_equal(thirteen, np.where(stored == 0, IGNORE, stored - 1))


def test_cropped_frames(tmp_path: Path) -> None:
    """Frames of another size: labels are read, the camera is not known."""
    numbers = (834, 972, 1096)
    dataset = NYUv2(write_real(tmp_path, "cropped", numbers), split="test", tasks=("semseg",), classes=13)
    for index, number in enumerate(numbers):
        sample = dataset[index]
        assert sample.image.shape == (3, 468, 625)
        assert sample.camera is None
        full = read_array(shared_path(f"samples/nyuv2/cropped/{number:06d}_class13.png"))[6:474, 8:633].astype(int)
        found = sample.targets["semseg"].numpy()
        both = (full > 0) & (found != IGNORE)
        assert both.mean() > 0.7
        assert (found[both] == full[both] - 1).mean() > 0.98


def test_crop_of_425_by_560_moves_the_principal_point(archives: dict[str, Path]) -> None:
    dataset = read(archives["NYUDv2"])
    cropped, full = dataset.camera("0003", (425, 560)), dataset.camera("0003", (480, 640))
    assert cropped is not None
    assert full is not None
    moved = full.intrinsics - cropped.intrinsics
    assert moved.tolist() == [[0, 0, 40], [0, 0, 45], [0, 0, 0]]
    assert dataset.camera("0003", (448, 576)) is None


# Bad input


def test_raises_for_files_that_are_missing(tmp_path: Path) -> None:
    root = write_folders(tmp_path, "NYUD_MT")
    (root / "depth/0004.npy").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 samples have no depth file \(0004\); .* allow_missing=True"):
        NYUv2(root)
    assert len(NYUv2(root, tasks=("semseg",))) == 3
    assert NYUv2(root, allow_missing=True)[1].targets["depth"].isnan().all()
    (root / "images/0003.jpg").unlink()
    with pytest.raises(ValueError, match=r"no image file \(0003\)"):
        NYUv2(root, tasks=("semseg",))
    assert NYUv2(root, allow_missing=True).keys == ["0004", "0005"]
    for path in (root / "images").glob("*"):
        if path.stem not in TEST:
            path.unlink()
    with pytest.raises(ValueError, match="split 'train' of nyuv2 has no images"):
        NYUv2(root, allow_missing=True)


def test_a_partial_archive(tmp_path: Path) -> None:
    root = write_folders(tmp_path, "NYUDv2")
    shutil.rmtree(root / "edge")
    with pytest.raises(ValueError, match=r"part of NYUDv2 .*: missing edge/\*\.png; .*NYUDv2\.tar\.gz"):
        NYUv2(root)


def test_files_of_another_variant_in_one_archive(tmp_path: Path, archives: dict[str, Path]) -> None:
    root = write_folders(tmp_path / "a", "NYUD_MT")
    shutil.rmtree(root / "normals")
    shutil.copytree(archives["NYUDv2"] / "normals", root / "normals")
    with pytest.raises(ValueError, match=r"nearly NYUD_MT: it has normals/0001\.png where normals/\*\.npy"):
        NYUv2(root)
    shutil.copytree(archives["NYUD_MT"], tmp_path / "b")
    shutil.copytree(archives["NYUDv2"], tmp_path / "b", dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"mixes several variants: NYUD_MT .* NYUDv2"):
        NYUv2(tmp_path / "b")
    assert NYUv2(tmp_path / "b", variant="NYUDv2").normals_axes == AXES["NYUDv2"]


@pytest.mark.parametrize("value", [41, 255])
def test_labels_outside_of_the_classes(tmp_path: Path, value: int) -> None:
    """255 too: files of 0..39 and 255 have been converted, and would be off by one."""
    root = write_folders(tmp_path, "NYUD_MT")
    labels = read_array(root / "segmentation/0003.png")
    labels[0, 0] = value
    save(root / "segmentation/0003.png", labels)
    with pytest.raises(ValueError, match=rf"segmentation/0003\.png .*none of the 40 classes of NYUv2: {value};"):
        NYUv2(root)[0]


def test_unreadable_files(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "a", "NYUDv2")
    whole = (root / "images/0003.png").read_bytes()
    (root / "images/0003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"images/0003\.png cannot be read"):
        NYUv2(root)[0]
    (root / "depth/0004.npy").write_bytes(b"")
    with pytest.raises(OSError, match=r"depth/0004\.npy cannot be read"):
        NYUv2(root, tasks=("depth",))[1]
    official = write_official(tmp_path / "b")
    path = official / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(OSError, match=r"nyu_depth_v2_labeled\.mat cannot be read .* download it again"):
        NYUv2(official)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["other"] = [1]
    with pytest.raises(OSError, match="has no entry 'images': it is not the labelled dataset"):
        NYUv2(tmp_path / "nyu_depth_v2_labeled.mat")


def test_an_official_file_that_is_not_whole(archives: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"\d+ of 715 samples have no image file \(\d+, "):
        NYUv2(archives["official"])


def test_unknown_names_in_the_official_file(tmp_path: Path) -> None:
    names = ["spaceship", *fine_names()[1:]]
    with pytest.raises(ValueError, match=r"labeled\.mat: its names hold 'spaceship'"):
        read(write_official(tmp_path, names=names))


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("NYUDv2", 894, "classes is 894, but NYUDv2 has 40 classes; pass classes=40"),
        ("MTAN", 40, "classes is 40, but MTAN has 13 classes"),
        ("NYUDv2", 41, "unknown number of classes of nyuv2 '41'"),
    ],
)
def test_classes_that_are_not_there(archives: dict[str, Path], name: str, classes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(archives[name], classes=classes)


def test_lists_that_are_wrong(tmp_path: Path) -> None:
    root = write_folders(tmp_path, "NYUD_MT")
    (root / "gt_sets/val.txt").write_text("0001\n0003")
    with pytest.raises(ValueError, match="'0003' is in both lists"):
        NYUv2(root)
    (root / "gt_sets/val.txt").write_text("0001\n0001")
    with pytest.raises(ValueError, match="names '0001' twice"):
        NYUv2(root)
    (root / "gt_sets/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt is empty"):
        NYUv2(root)
    with pytest.raises(ValueError, match="unknown split of nyuv2 'tset'; did you mean 'test'"):
        NYUv2(root, split="tset")


def test_axes_that_cannot_be_measured(tmp_path: Path) -> None:
    root = write_folders(tmp_path, "NYUD_MT")
    for path in (root / "normals").glob("*.npy"):
        np.save(path, np.random.default_rng(0).normal(size=(*SIZE, 3)))
    with pytest.raises(
        ValueError, match=r"cannot tell where the components of the normals point: .* pass normals_axes"
    ):
        NYUv2(root)
    assert NYUv2(root, normals_axes=("right", "down", "forward")).normals_axes == ("right", "down", "forward")
    assert NYUv2(root, tasks=("depth",)).normals_axes is None
