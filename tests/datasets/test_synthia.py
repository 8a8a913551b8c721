"""SYNTHIA-RAND-CITYSCAPES, written from its documented format, becomes samples in the one convention."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from deep_png import save_deep_png
from saved_maps import save
from street_scene import angles, inside_of, photo, see_street

from triptych.datasets import DATASETS
from triptych.datasets.synthia import Synthia
from triptych.labels.street import SPACES
from triptych.types import IGNORE, valid_pixels

SIZE = (38, 64)
MATRIX = np.array([[532.740352 / 20, 0, 32], [0, 532.740352 / 20, 19], [0, 0, 1]])
NUMBERS = (0, 1, 7519, 7520, 9399)

# specs: raw id to class of the loaders that published the 16 classes; 13 leaves out wall, fence and pole; the 7 are
# those of Cityscapes (raw ids 7, 8 | 11, 13 | 17, 19, 20 | 21 | 23 | 24 | 26, 33) by name.
SIXTEEN = {3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 9, 10: 10, 17: 11, 8: 12, 19: 13, 12: 14, 11: 15}
PUBLISHED = {
    "16": SIXTEEN,
    "13": {raw: label - 3 if label > 5 else label for raw, label in SIXTEEN.items() if label not in (3, 4, 5)},
    "7": {3: 0, 4: 0, 2: 1, 5: 1, 7: 2, 15: 2, 9: 2, 6: 3, 1: 4, 10: 5, 8: 6, 11: 6},
}


def stored_labels(number: int) -> np.ndarray:
    """Class id, instance (more than a byte holds) and an empty channel."""
    classes = np.random.default_rng(number).integers(0, 23, SIZE)
    return np.stack([classes, classes * 100 + 7, np.zeros(SIZE)], -1).astype(np.uint16)


def write(root: Path, *, mark: str = "") -> Path:
    depth = see_street(MATRIX, SIZE)[0]
    centimetres = np.where(np.isfinite(depth), np.rint(depth * 100), 65535).astype(np.uint16)
    for number in NUMBERS:
        name = f"{number:07d}"
        save(root / f"RGB/{name}{mark}.png", photo(number, SIZE))
        save(root / f"GT/COLOR/{name}.png", photo(number, SIZE))
        save_deep_png(root / f"GT/LABELS/{name}.png", stored_labels(number))
        save_deep_png(root / f"Depth/Depth/{name}.png", np.stack([centimetres] * 3, -1))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "RAND_CITYSCAPES")


def test_samples_follow_the_one_convention(root: Path) -> None:
    assert DATASETS["synthia"] is Synthia
    dataset = Synthia(root, split="all", instances=True)
    assert dataset.variant.name == "original"
    assert dataset.keys == [f"{number:07d}" for number in NUMBERS]
    assert list(dataset.tasks) == ["semseg", "depth", "normals"]
    sample = dataset[1]
    np.testing.assert_allclose(sample.image, photo(1, SIZE).transpose(2, 0, 1) / 255, atol=1e-6)
    np.testing.assert_array_equal(sample.extras["instances"], stored_labels(1)[..., 1])
    assert sample.extras["instances"].max() > 255
    assert sample.camera is not None
    np.testing.assert_allclose(sample.camera.intrinsics, MATRIX, rtol=1e-6)
    assert {name: path.relative_to(root).as_posix() for name, path in dataset.files(1).items()} == {
        "image": "RGB/0000001.png",
        "semseg": "GT/LABELS/0000001.png",
        "depth": "Depth/Depth/0000001.png",
    }


@pytest.mark.parametrize("space", PUBLISHED)
def test_label_spaces_are_the_published_ones(root: Path, space: str) -> None:
    dataset = Synthia(root, classes=int(space), tasks=("semseg",))
    expected = np.vectorize(lambda value: PUBLISHED[space].get(value, IGNORE))(stored_labels(0)[..., 0])
    np.testing.assert_array_equal(dataset[0].targets["semseg"], expected)
    assert dataset.tasks["semseg"].classes == tuple(SPACES[space])  # as Cityscapes has them


def test_centimetres_become_metres_and_the_sky_is_invalid(root: Path) -> None:
    depth = Synthia(root)[0].targets["depth"][0].numpy()
    true = see_street(MATRIX, SIZE)[0]
    np.testing.assert_array_equal(np.isfinite(depth), np.isfinite(true))
    assert 0.3 < np.isfinite(depth).mean() < 1
    np.testing.assert_allclose(depth[np.isfinite(depth)], true[np.isfinite(depth)], atol=0.00501)


def test_normals_are_those_of_the_surfaces(root: Path) -> None:
    normals = Synthia(root, tasks=("normals",))[0].targets["normals"]
    _, expected, number = see_street(MATRIX, SIZE)
    inside = inside_of(number, 2)
    assert inside.mean() > 0.3
    assert np.median(angles(normals.numpy()[:, inside], expected[:, inside])) < 1
    assert not valid_pixels(normals).numpy()[0][number < 0].any()


def test_blocks_of_numbers_are_held_out(root: Path) -> None:
    assert Synthia(root).keys == ["0000000", "0000001", "0007519"]
    assert Synthia(root, split="val").keys == ["0007520", "0009399"]
    counts = Synthia(root).variant.counts
    assert (counts["train"], counts["val"]) == (7520, 9399 - 7520 + 1)


def test_the_published_split_warns(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"split 'paper-code' of synthia leaks: \d of its 1 validation images"):
        train = Synthia(root, split_by="paper-code")
    assert len(train) == 4
    with pytest.warns(UserWarning, match="leaks"):
        assert len(Synthia(root, split="val", split_by="paper-code")) == 1


def test_copies_with_marked_photographs(tmp_path: Path, root: Path) -> None:
    marked = Synthia(write(tmp_path / "marked", mark="_PIT"), split="all")
    assert marked.fingerprint() == Synthia(root, split="all").fingerprint()
    assert marked.files(0)["image"].name == "0000000_PIT.png"


def test_labels_of_one_channel_are_read_too(root: Path) -> None:
    save(Synthia(root).files(0)["semseg"], stored_labels(0)[..., 0].astype(np.uint8))
    expected = np.vectorize(lambda value: SIXTEEN.get(value, IGNORE))(stored_labels(0)[..., 0])
    np.testing.assert_array_equal(Synthia(root)[0].targets["semseg"], expected)
    with pytest.raises(ValueError, match=r"0000000.png has one channel, no instances"):
        Synthia(root, instances=True)[0]


def test_raises_for_what_is_missing(root: Path) -> None:
    for wrong in (root.parent, root / "RGB"):
        with pytest.raises(ValueError, match=rf"is not the root of the dataset; {root} is"):
            Synthia(wrong)
    with pytest.raises(ValueError, match=r"unknown label space of synthia '19'"):
        Synthia(root, classes=19)
    Synthia(root).files(0)["depth"].unlink()
    with pytest.raises(ValueError, match=r"synthia: 1 of 3 samples have no depth file \(0000000\)"):
        Synthia(root)
    assert not valid_pixels(Synthia(root, allow_missing=True)[0].targets["normals"]).any()
    shutil.rmtree(root / "Depth")
    assert list(Synthia(root).tasks) == ["semseg"]
    with pytest.raises(ValueError, match=r"task normals of synthia needs the folder Depth, which is not there"):
        Synthia(root, tasks=("normals",))
    shutil.rmtree(root / "GT")
    with pytest.raises(ValueError, match=r"is a part of original .*: missing GT/LABELS; unpack the whole archive"):
        Synthia(root)


def test_raises_for_damaged_files(root: Path) -> None:
    dataset = Synthia(root)
    labels = stored_labels(0)
    labels[2, 3, 0] = 23
    save_deep_png(dataset.files(0)["semseg"], labels)
    with pytest.raises(ValueError, match=r"LABELS/0000000.png .*none of SYNTHIA's class ids, 0 to 22: 23"):
        dataset[0]
    path = dataset.files(1)["semseg"]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(OSError, match=r"LABELS/0000001.png cannot be read"):
        dataset[1]
    save(root / "RGB/0000001_PIT.png", photo(1, SIZE))
    with pytest.raises(ValueError, match=r"have the same number; keep one of them"):
        Synthia(root)
