"""Cityscapes as it is downloaded becomes samples in the one convention."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_maps import save
from shared import shared_path
from street_scene import angles, inside_of, photo, see_street

from triptych.datasets import DATASETS
from triptych.datasets.cityscapes import Cityscapes
from triptych.labels.street import CITYSCAPES_19
from triptych.types import IGNORE, collate, valid_pixels

SIZE = (64, 128)
BASELINE, FX, FY, U0, V0 = 0.209313, 2262.52, 2265.3, 1096.98, 513.137
CAMERA = {
    "extrinsic": {"baseline": BASELINE, "pitch": 0.038, "roll": 0.0, "x": 1.7, "y": 0.1, "yaw": -0.02, "z": 1.22},
    "intrinsic": {"fx": FX, "fy": FY, "u0": U0, "v0": V0},
}
# Pixel centres at integer + 0.5, shrunk from 1024x2048 to SIZE.
MATRIX = np.array([[FX / 16, 0, (U0 + 0.5) / 16], [0, FY / 16, (V0 + 0.5) / 16], [0, 0, 1]])
KEYS = {"train": ("aachen_000000_000019", "ulm_000003_000019"), "val": ("lindau_000007_000019",)}

# specs: raw id of Cityscapes to class, of the loaders that published these label spaces.
PUBLISHED = {
    "19": dict(zip((7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33), range(19), strict=True)),
    "16": dict(zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 23, 24, 25, 26, 28, 32, 33), range(16), strict=True)),
    "13": dict(zip((7, 8, 11, 19, 20, 21, 23, 24, 25, 26, 28, 32, 33), range(13), strict=True)),
    "8": {7: 0, 11: 1, 17: 2, 19: 3, 20: 4, 21: 5, 23: 6, 26: 7, 28: 7},
    "7": {7: 0, 8: 0, 11: 1, 13: 1, 17: 2, 19: 2, 20: 2, 21: 3, 23: 4, 24: 5, 26: 6, 33: 6},
}


def stored_labels(seed: int) -> np.ndarray:
    """Every id that the benchmark has, the licence plate included."""
    labels = np.random.default_rng(seed).integers(0, 34, SIZE, np.uint8)
    labels[:2, :2] = 255
    return labels


def is_counted(labels: np.ndarray) -> np.ndarray:
    """Pixels of classes whose instances are told apart: persons and vehicles."""
    return (labels >= 24) & (labels <= 33)


def stored_disparity() -> np.ndarray:
    depth = see_street(MATRIX, SIZE)[0]
    stored = np.where(np.isfinite(depth), np.rint(BASELINE * FX / depth * 256 + 1), 0)
    stored[:3, :8] = 1  # a disparity of nothing
    return stored.astype(np.uint16)


def write(root: Path) -> Path:
    """The official archives, unpacked, shrunk to `SIZE`."""
    for split, keys in KEYS.items():
        for seed, key in enumerate(keys):
            city = f"{split}/{key.split('_')[0]}"
            save(root / f"leftImg8bit/{city}/{key}_leftImg8bit.png", photo(seed, SIZE))
            labels = stored_labels(seed)
            save(root / f"gtFine/{city}/{key}_gtFine_labelIds.png", labels)
            save(root / f"gtFine/{city}/{key}_gtFine_color.png", photo(seed, SIZE))
            instances = np.where(is_counted(labels), labels.astype(int) * 1000 + seed, labels).astype(np.uint16)
            save(root / f"gtFine/{city}/{key}_gtFine_instanceIds.png", instances)
            save(root / f"disparity/{city}/{key}_disparity.png", stored_disparity())
            camera = root / f"camera/{city}/{key}_camera.json"
            camera.parent.mkdir(parents=True, exist_ok=True)
            camera.write_text(json.dumps(CAMERA))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "cityscapes")


def pack(root: Path, package: str) -> Path:
    """A package as the official zip has it; the folder goes away."""
    path = root / f"{package}_trainvaltest.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "text")
        for file in sorted((root / package).rglob("*.*")):
            archive.write(file, file.relative_to(root))
    shutil.rmtree(root / package)
    return path


def same(first: Cityscapes, second: Cityscapes) -> bool:
    pairs = [(first[i], second[i]) for i in range(len(first))]
    return first.keys == second.keys and all(
        torch.equal(a.image, b.image)
        and a.targets.keys() == b.targets.keys()
        and all(torch.equal(a.targets[name].nan_to_num(-1), b.targets[name].nan_to_num(-1)) for name in a.targets)
        and a.camera is not None
        and b.camera is not None
        and torch.equal(a.camera.intrinsics, b.camera.intrinsics)
        for a, b in pairs
    )


def test_samples_follow_the_one_convention(root: Path) -> None:
    assert DATASETS["cityscapes"] is Cityscapes
    dataset = Cityscapes(root)
    assert dataset.variant.name == "unpacked"
    assert dataset.keys == list(KEYS["train"])
    assert list(dataset.tasks) == ["semseg", "depth"]
    assert dataset.tasks["semseg"].classes == CITYSCAPES_19
    sample = dataset[1]
    expected = np.asarray(Image.open(dataset.files(1)["image"])).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample.image.numpy(), expected, atol=1e-6)
    assert sample.camera is not None
    np.testing.assert_allclose(sample.camera.intrinsics, MATRIX, rtol=1e-6)
    assert {name: path.name for name, path in dataset.files(0).items()} == {
        "image": "aachen_000000_000019_leftImg8bit.png",
        "semseg": "aachen_000000_000019_gtFine_labelIds.png",
        "depth": "aachen_000000_000019_disparity.png",
    }
    assert len(Cityscapes(root, split="all")) == 3
    assert Cityscapes(root, split="val").keys == list(KEYS["val"])


@pytest.mark.parametrize("space", PUBLISHED)
def test_label_spaces_are_the_published_ones(root: Path, space: str) -> None:
    dataset = Cityscapes(root, classes=int(space), tasks=("semseg",))
    expected = np.vectorize(lambda value: PUBLISHED[space].get(value, IGNORE))(stored_labels(0))
    np.testing.assert_array_equal(dataset[0].targets["semseg"], expected)
    assert dataset.tasks["semseg"].channels == int(space)


def test_categories_are_those_of_the_benchmark(root: Path) -> None:
    groups = (range(7, 11), range(11, 17), range(17, 21), range(21, 23), range(23, 24), range(24, 26), range(26, 34))
    expected = np.full(SIZE, IGNORE)
    for index, group in enumerate(groups):
        expected[np.isin(stored_labels(0), list(group))] = index
    np.testing.assert_array_equal(Cityscapes(root, classes="categories")[0].targets["semseg"], expected)


def test_train_ids_give_the_same_labels(root: Path) -> None:
    spaces = [Cityscapes(root, classes=number, tasks=("semseg",))[0].targets["semseg"] for number in (19, 8, 7)]
    path = Cityscapes(root).files(0)["semseg"]
    train_ids = np.vectorize(lambda value: PUBLISHED["19"].get(value, IGNORE))(stored_labels(0)).astype(np.uint8)
    save(path.with_name(path.name.replace("labelIds", "labelTrainIds")), train_ids)
    assert Cityscapes(root).files(0)["semseg"] == path  # where both are there, the ids are read
    path.unlink()
    for number, expected in zip((19, 8, 7), spaces, strict=True):
        dataset = Cityscapes(root, classes=number, tasks=("semseg",))
        assert dataset.files(0)["semseg"] != path
        assert torch.equal(dataset[0].targets["semseg"], expected)
    Cityscapes(root).files(1)["semseg"].unlink()
    with pytest.raises(ValueError, match=r"classes='categories' needs \*_labelIds.png: train ids have no bridge"):
        Cityscapes(root, classes="categories")


def test_depth_is_metric_and_holes_are_invalid(root: Path) -> None:
    depth = Cityscapes(root)[0].targets["depth"][0].numpy()
    stored = stored_disparity()
    for row, column in ((0, 0), (5, 9), (40, 3), (60, 100), (63, 127)):
        value = int(stored[row, column])
        expected = BASELINE * FX / ((value - 1) / 256) if value > 1 else np.nan
        assert depth[row, column] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert np.isnan(depth[:3, :8]).all()  # p = 1
    true = see_street(MATRIX, SIZE)[0]
    known = np.isfinite(depth)
    assert 0.5 < known.mean() < 1
    np.testing.assert_allclose(depth[known], true[known], rtol=2e-3)


def test_normals_are_those_of_the_surfaces(root: Path) -> None:
    dataset = Cityscapes(root, tasks=("normals", "boundary"), reach=2)
    sample = dataset[0]
    _, expected, number = see_street(MATRIX, SIZE)
    inside = inside_of(number, 2) & np.isfinite(sample.targets["normals"].numpy()).all(0)
    assert inside.mean() > 0.4
    assert np.median(angles(sample.targets["normals"].numpy()[:, inside], expected[:, inside])) < 1
    assert list(dataset.files(0)) == ["image", "depth", "semseg"]


def test_zips_are_read_in_place(root: Path, tmp_path: Path) -> None:
    unpacked = Cityscapes(root, instances=True)
    packed = shutil.copytree(root, tmp_path / "packed")
    for package in ("gtFine", "camera"):
        pack(packed, package)
    mixed = Cityscapes(packed, instances=True)
    assert mixed.variant.name == "unpacked"
    assert ".zip/gtFine/" in str(mixed.files(0)["semseg"])
    assert same(unpacked, mixed)
    for package in ("leftImg8bit", "disparity"):
        pack(packed, package)
    zips = Cityscapes(packed, instances=True)
    assert zips.variant.name == "zips"
    assert sorted(path.name for path in packed.iterdir()) == sorted(
        f"{name}_trainvaltest.zip" for name in ("leftImg8bit", "gtFine", "disparity", "camera")
    )
    assert same(unpacked, zips)
    assert torch.equal(zips[1].extras["instances"], unpacked[1].extras["instances"])
    assert zips.fingerprint() == unpacked.fingerprint()
    shutil.copytree(root / "leftImg8bit", packed / "leftImg8bit")  # unpacked, but the zip was kept
    assert Cityscapes(packed).variant.name == "unpacked-and-zips"


def test_instances_are_extras(root: Path) -> None:
    instances = Cityscapes(root, instances=True)[1].extras["instances"]
    labels = stored_labels(1).astype(int)
    np.testing.assert_array_equal(instances, np.where(is_counted(labels), labels * 1000 + 1, 0))
    assert Cityscapes(root)[1].extras == {}


def write_videos(root: Path) -> None:
    for key in KEYS["train"]:
        drive, number = key.rpartition("_")[0], 19
        for frame in (*range(number - 2, number), number + 1):
            path = root / f"leftImg8bit_sequence/train/{key.split('_')[0]}/{drive}_{frame:06d}_leftImg8bit.png"
            save(path, photo(frame, SIZE))


def test_videos_give_neighbors(root: Path) -> None:
    write_videos(root)
    dataset = Cityscapes(root, neighbor_frames=(-1, 1))
    assert dataset.keys == list(KEYS["train"])
    sample = dataset[0]
    assert [view.key for view in sample.neighbors] == ["aachen_000000_000018", "aachen_000000_000020"]
    expected = photo(18, SIZE).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample.neighbors[0].image, expected, atol=1e-6)
    assert sample.camera is not None
    for view in sample.neighbors:
        assert view.camera is not None
        assert torch.equal(view.camera.intrinsics, sample.camera.intrinsics)
        assert not any(valid_pixels(target).any() for target in view.targets.values())
    assert [view.extras["offset"].item() for view in sample.neighbors] == [-1, 1]
    assert [view.key for view in Cityscapes(root, neighbor_frames=(-2, 1))[0].neighbors] == [
        "aachen_000000_000017",
        "aachen_000000_000020",
    ]
    assert len(collate([dataset[0], dataset[1]]).neighbors) == 2
    pack(root, "leftImg8bit_sequence")
    again = Cityscapes(root, neighbor_frames=(-1, 1))[0]
    assert torch.equal(again.neighbors[1].image, sample.neighbors[1].image)


def test_a_missing_neighbor_is_the_other_one_or_says_nothing(root: Path) -> None:
    write_videos(root)
    (root / "leftImg8bit_sequence/train/aachen/aachen_000000_000020_leftImg8bit.png").unlink()
    dataset = Cityscapes(root, neighbor_frames=(1,))
    other = dataset[0].neighbors[0]
    assert (other.key, other.extras["offset"].item()) == ("aachen_000000_000018", -1)
    (root / "leftImg8bit_sequence/train/aachen/aachen_000000_000018_leftImg8bit.png").unlink()
    dataset = Cityscapes(root, neighbor_frames=(1,))
    assert dataset[0].neighbors[0].image.isnan().all()
    batch = collate([dataset[0], dataset[1]]).neighbors[0]
    assert batch.image.isnan().flatten(1).all(1).tolist() == [True, False]


def test_every_frame_of_a_video_is_a_sample(root: Path) -> None:
    write_videos(root)
    dataset = Cityscapes(root, every_frame=True)
    assert [key[-6:] for key in dataset.keys] == ["000017", "000018", "000019", "000020"] * 2
    labelled = [bool(valid_pixels(dataset[i].targets["semseg"]).any()) for i in range(4)]
    assert labelled == [False, False, True, False]
    assert dataset.fingerprint()["labels"] == {"semseg": 2, "depth": 2}


def test_shrunk_copies_keep_geometry(root: Path) -> None:
    (root / "leftImg8bit").rename(root / "leftImg8bit_small")
    for path in sorted((root / "leftImg8bit_small").rglob("*.png")):
        with Image.open(path) as image:
            image.resize((64, 32)).convert("RGB").save(path.with_suffix(".jpg"))
        path.unlink()
    dataset = Cityscapes(root, instances=True)
    sample = dataset[0]
    assert sample.image.shape == (3, 32, 64)
    assert sample.camera is not None
    np.testing.assert_allclose(sample.camera.intrinsics[0], MATRIX[0] / 2, rtol=1e-5)
    expected = np.vectorize(lambda value: PUBLISHED["19"].get(value, IGNORE))(stored_labels(0))
    assert (sample.targets["semseg"].numpy() == expected[1::2, 1::2]).mean() == 1
    depth, true = sample.targets["depth"][0].numpy(), see_street(MATRIX, SIZE)[0][1::2, 1::2]
    np.testing.assert_allclose(depth[np.isfinite(depth)], true[np.isfinite(depth)], rtol=2e-3)
    assert sample.extras["instances"].shape == (32, 64)


def test_a_missing_label_is_an_error_or_all_invalid(root: Path) -> None:
    paths = Cityscapes(root).files(0)
    paths["semseg"].unlink()
    Path(str(paths["depth"]).replace("disparity", "camera")).with_suffix(".json").unlink()
    with pytest.raises(ValueError, match=r"cityscapes: 1 of 2 samples have no semseg file \(aachen_000000_000019\)"):
        Cityscapes(root)
    dataset = Cityscapes(root, allow_missing=True)
    sample = dataset[0]
    assert sample.targets["semseg"].unique().tolist() == [IGNORE]
    assert not valid_pixels(sample.targets["depth"]).any()  # disparity without a camera is no depth
    assert sample.camera is None
    assert valid_pixels(dataset[1].targets["semseg"]).any()


def test_mistakes_name_the_cure(root: Path, tmp_path: Path) -> None:
    for wrong, right in ((tmp_path, root), (root / "leftImg8bit", root)):
        with pytest.raises(ValueError, match=rf"is not the root of the dataset; {right} is"):
            Cityscapes(wrong)
    with pytest.raises(ValueError, match=r"unknown split of cityscapes 'valid'.*did you mean 'val'"):
        Cityscapes(root, split="valid")
    with pytest.raises(ValueError, match=r"split 'test' of cityscapes has no images"):
        Cityscapes(root, split="test")
    with pytest.raises(ValueError, match=r"unknown label space of cityscapes '20'"):
        Cityscapes(root, classes=20)
    with pytest.raises(ValueError, match=r"unknown task of cityscapes 'saliency'"):
        Cityscapes(root, tasks=("saliency",))
    with pytest.raises(ValueError, match=r"neighbor_frames has 1, .* put leftImg8bit_sequence_trainvaltest.zip"):
        Cityscapes(root, neighbor_frames=(1,))
    with pytest.raises(ValueError, match=r"every_frame needs the videos.*leftImg8bit_sequence_trainvaltest.zip"):
        Cityscapes(root, every_frame=True)
    shutil.rmtree(root / "camera")
    assert list(Cityscapes(root).tasks) == ["semseg"]
    with pytest.raises(ValueError, match=r"task normals of cityscapes needs disparity.* and camera_trainvaltest.zip"):
        Cityscapes(root, tasks=("normals",))
    shutil.rmtree(root / "gtFine")
    with pytest.raises(ValueError, match=r"has images but no labels there; add gtFine_trainvaltest.zip or"):
        Cityscapes(root)
    assert Cityscapes(root, tasks=())[0].targets == {}


def test_raises_for_damaged_files(root: Path) -> None:
    dataset = Cityscapes(root)
    labels = stored_labels(0)
    labels[7, 9] = 77
    save(dataset.files(0)["semseg"], labels)
    with pytest.raises(ValueError, match=r"aachen_.*_gtFine_labelIds.png .*none of the class ids 0 to 33 and 255: 77"):
        dataset[0]
    save(dataset.files(0)["semseg"], stored_labels(0)[:32])
    with pytest.raises(ValueError, match=r"aachen_000000_000019_gtFine_labelIds.png is 32x128, its image 64x128"):
        dataset[0]
    camera = next(root.glob("camera/train/ulm/*"))
    camera.write_text('{"intrinsic": {"fx": 1}}')
    with pytest.raises(ValueError, match=r"camera file .*ulm_000003_000019_camera.json is damaged"):
        dataset[1]
    path = pack(root, "disparity")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(OSError, match=r"disparity_trainvaltest.zip is not a whole zip archive"):
        Cityscapes(root)


def test_real_frames(tmp_path: Path) -> None:
    samples = shared_path("samples/cityscapes")
    for path in sorted(samples.glob("*/*.png")):
        kind = "leftImg8bit" if "leftImg8bit" in path.name else "gtFine"
        split, city = ("val", "frankfurt") if path.name.startswith("frankfurt") else ("train", "aachen")
        place = tmp_path / kind / split / city / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    train = Cityscapes(tmp_path, instances=True)
    assert train.keys == ["aachen_000000_000019", "aachen_000006_000019"]
    sample = train[0]
    assert sample.image.shape == (3, 1024, 2048)
    stored = np.asarray(Image.open(train.files(0)["semseg"]))
    labels, instances = sample.targets["semseg"], sample.extras["instances"]
    assert (labels[stored == 7] == 0).all()
    assert ((labels == 13).sum() > 0) & ((labels == 13) == torch.from_numpy(stored == 26)).all()
    assert torch.equal(instances[instances > 0] // 1000, torch.from_numpy(stored.astype(np.int64))[instances > 0])
    # The crop that comes with all three kinds of labels: ids give the train ids.
    val = Cityscapes(tmp_path, split="val")
    assert val.keys == ["frankfurt_000000_000294"]
    path = val.files(0)["semseg"]
    train_ids = np.asarray(Image.open(path.with_name(path.name.replace("labelIds", "labelTrainIds"))))
    assert path.name.endswith("labelIds.png")
    # The two files were shrunk separately: a few pixels at borders differ.
    assert (val[0].targets["semseg"].numpy() != train_ids).mean() < 0.003


def test_options_and_camera_files_are_inputs_beside_the_fingerprint(root: Path) -> None:
    usual, other = Cityscapes(root), Cityscapes(root, reach=3)
    assert other.fingerprint() == usual.fingerprint()  # which runs keep
    assert other.inputs() != usual.inputs()
    before = usual.inputs()
    assert Cityscapes(root).inputs() == before
    os.utime(next(iter(usual.cameras.values())), ns=(0, 0))
    assert usual.inputs() != before
