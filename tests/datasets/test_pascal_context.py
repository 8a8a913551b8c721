"""PASCAL-Context as it is handed around becomes samples in the one convention."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from indoor_scene import angles, see_room
from PIL import Image
from shared import shared_path
from skimage.morphology import thin

from triptych.assemble import build_dataset, with_scored_labels
from triptych.data.arrays import read_array
from triptych.datasets import DATASETS
from triptych.datasets.pascal_context import PascalContext, evaluation_edges, training_edges
from triptych.evaluation.run import find_scoring
from triptych.labels.derived import normals_from_depth
from triptych.labels.normals import DIRECTIONS
from triptych.labels.tables import NAMES_21, NAMES_60, PARTS, fine_names
from triptych.prepared.reader import Prepared
from triptych.prepared.write import prepare
from triptych.recipes.config import DataConfig, Recipe
from triptych.tasks import boundary, semseg
from triptych.types import IGNORE, Camera

SIZE = (60, 80)
MATRIX = np.array([[70.0, 0, 40.0], [0, 70.0, 30.0], [0, 0, 1]])
DEPTH, NORMALS, PLANE = see_room(MATRIX, SIZE)
TRAIN, VAL = ("2008_000001", "2008_000002"), ("2009_000003", "2009_000004")
AXES = ("left", "up", "backward")
# Ids of the 459 that the room's planes and the person show; 427 is fixed by the data set.
WALL, FLOOR, TV, ROAD, PERSON = 440, 158, 427, 333, 284
PERSON_AT = (slice(20, 56), slice(34, 46))


def names_of_459() -> list[str]:
    """A list with the shape of the real one: 59 known names, tvmonitor at 427, the others unknown to everybody."""
    names = [f"thing {number}" for number in range(1, 460)]
    fixed = {WALL: "wall", FLOOR: "floor", TV: "tvmonitor", ROAD: "road", PERSON: "person", 400: "unknown"}
    free = iter(number for number in range(1, 460) if number not in fixed)
    for name in NAMES_60[1:]:
        if name not in fixed.values():
            fixed[next(free)] = name
    for number, name in fixed.items():
        names[number - 1] = name
    return names


def label_map() -> np.ndarray:
    labels = np.array([FLOOR, ROAD, WALL, TV, 400])[PLANE].astype(np.uint16)
    labels[PERSON_AT] = PERSON
    return labels


def part_masks() -> dict[str, np.ndarray]:
    """Six stripes from head to foot, each of one part."""
    masks = {}
    for row, name in zip(range(20, 56, 6), ("hair", "neck", "luarm", "rhand", "ruleg", "lfoot"), strict=True):
        masks[name] = np.zeros(SIZE, np.uint8)
        masks[name][row : row + 6, PERSON_AT[1]] = 1
    return masks


def save_annotation(path: Path, objects: list[tuple[int, np.ndarray, dict[str, np.ndarray]]]) -> None:
    """`anno` as PASCAL-Part has it: a struct with an array of objects, each with an array of parts (or none)."""
    part_type = [("part_name", object), ("mask", object)]
    kinds = [("class", object), ("class_ind", object), ("bbox", object), ("mask", object), ("parts", object)]
    stored = np.zeros((1, len(objects)), kinds)
    for place, (kind, mask, parts) in enumerate(objects):
        inner: Any = np.zeros((0, 0))
        if parts:
            inner = np.zeros((1, len(parts)), part_type)
            for number, (name, part) in enumerate(parts.items()):
                inner[0, number] = (name, part)
        stored[0, place] = (NAMES_21[kind], float(kind), np.zeros((1, 4)), mask, inner)
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"anno": {"imname": path.stem, "objects": stored}})


def save(path: Path, array: np.ndarray, mode: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array, mode) if mode else Image.fromarray(array)
    if path.suffix == ".png" and array.ndim == 2:
        picture.putpalette(list(range(256)) * 3)
    picture.save(path)


def stored_normals() -> np.ndarray:
    stored = np.stack([DIRECTIONS[axis][1] * NORMALS[..., DIRECTIONS[axis][0]] for axis in AXES], -1)
    return np.rint((stored + 1) * 127.5).astype(np.uint8)


def saliency() -> np.ndarray:
    values = np.full(SIZE, 127, np.uint8)
    values[PERSON_AT] = 128
    return values


def write_archive(root: Path) -> Path:
    everything = np.ones(SIZE, np.uint8)
    for key in (*TRAIN, *VAL):
        save(root / f"JPEGImages/{key}.jpg", np.full((*SIZE, 3), 90, np.uint8))
        semseg = np.where(label_map() == PERSON, 15, 0).astype(np.uint8)
        semseg[0] = IGNORE
        save(root / f"semseg/{'VOC12' if key in TRAIN else 'pascal-context'}/{key}.png", semseg)
        (root / "pascal-context/trainval").mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(root / f"pascal-context/trainval/{key}.mat", {"LabelMap": label_map()})
        chair = (9, everything, {"seat": everything})
        person = (15, np.maximum.reduce(list(part_masks().values())), part_masks())
        save_annotation(root / f"human_parts/{key}.mat", [chair, person] if key != TRAIN[1] else [chair])
        save(root / f"normals_distill/{key}.png", stored_normals())
        save(root / f"sal_distill/{key}.png", saliency())
    save(root / f"semseg/pascal-context/{TRAIN[0]}.png", np.full(SIZE, 3, np.uint8))
    lists = root / "ImageSets/Context"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(TRAIN) + "\n")
    (lists / "val.txt").write_text("\n".join(VAL) + "\n")
    (root / "labels.txt").write_text(
        "".join(f"{number}: {name}\n" for number, name in enumerate(names_of_459(), start=1))
    )
    return root


def write_prepared(root: Path) -> Path:
    """What converters for single-task segmentation write: indices of 60 classes in alphabetical order."""
    alphabet = ["background", *sorted(NAMES_60[1:])]
    names = names_of_459()
    for key in (*TRAIN, *VAL):
        save(root / f"JPEGImages/{key}.jpg", np.full((*SIZE, 3), 90, np.uint8))
        kinds = [names[value - 1] for value in label_map().ravel()]
        indices = [alphabet.index(name) if name in alphabet else 0 for name in kinds]
        save(root / f"SegmentationClassContext/{key}.png", np.array(indices, np.uint8).reshape(SIZE))
    lists = root / "ImageSets/SegmentationContext"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(TRAIN))
    (lists / "val.txt").write_text("\n".join(VAL))
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("pascal") / "PASCAL_MT")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("voc") / "VOC2010")


@pytest.fixture
def copy(archive: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archive, tmp_path / "copy"))


def test_registered(archive: Path) -> None:
    dataset = DATASETS["pascal-context"](archive)
    assert list(dataset.tasks) == ["semseg", "human_parts", "saliency", "normals", "boundary"]
    assert [task.channels for task in dataset.tasks.values()] == [21, 7, 2, 3, 1]
    assert [dataset.key(index) for index in range(len(dataset))] == list(TRAIN)


def test_the_labels_of_a_sample(archive: Path) -> None:
    dataset = PascalContext(archive)
    assert dataset.variant.name == "PASCAL_MT"
    targets = dataset[0].targets
    semseg = np.where(label_map() == PERSON, 15, 0)
    semseg[0] = IGNORE
    np.testing.assert_array_equal(targets["semseg"].numpy(), semseg)  # VOC12 before pascal-context
    np.testing.assert_array_equal(PascalContext(archive, split="val")[0].targets["semseg"].numpy(), semseg)
    np.testing.assert_array_equal(targets["saliency"].numpy(), label_map() == PERSON)
    parts = np.zeros(SIZE, int)
    for name, mask in part_masks().items():
        parts[mask > 0] = PARTS[name]
    np.testing.assert_array_equal(targets["human_parts"].numpy(), parts)
    assert sorted(np.unique(parts)) == list(range(7))


def test_images_without_a_person_have_no_parts(archive: Path) -> None:
    assert (PascalContext(archive)[1].targets["human_parts"] == IGNORE).all()


def test_normals_agree_with_the_depth(archive: Path) -> None:
    """The room that the normals were drawn from: 8 bits leave less than a degree."""
    dataset = PascalContext(archive, normals_mask="stored")
    assert dataset.normals_axes == AXES
    normals = dataset[0].targets["normals"]
    camera = Camera(torch.from_numpy(MATRIX).float())
    derived = normals_from_depth(torch.from_numpy(DEPTH[None]).float(), camera)
    assert np.median(angles(normals.numpy(), derived.numpy())) < 0.6
    assert angles(normals.numpy(), NORMALS.transpose(2, 0, 1)).max() < 0.6


def test_published_normals_are_masked_by_names(archive: Path) -> None:
    """Kept where NYUv2 names the class (wall, floor, person) or it is tvmonitor; not on roads, nor on `unknown`."""
    known = {*fine_names(), "tvmonitor"} - {"unknown"}
    assert {"wall", "floor", "person"} <= known
    assert "road" not in known
    kept = np.isin(label_map(), [WALL, FLOOR, PERSON, TV])
    assert 0.3 < kept.mean() < 0.9
    valid = PascalContext(archive)[0].targets["normals"].isfinite().all(0).numpy()
    np.testing.assert_array_equal(valid, kept)


def test_sixty_classes_come_from_either_form(archive: Path, prepared: Path) -> None:
    names = names_of_459()
    expected = [NAMES_60.index(names[v - 1]) if names[v - 1] in NAMES_60 else 0 for v in label_map().ravel()]
    for root in (archive, prepared):
        dataset = PascalContext(root, classes=60, tasks=("semseg",))
        assert dataset.tasks["semseg"].classes == NAMES_60
        np.testing.assert_array_equal(dataset[0].targets["semseg"].numpy().ravel(), expected)
    assert list(PascalContext(prepared).tasks) == ["semseg"]
    with pytest.raises(ValueError, match=r"task human_parts of pascal-context needs PASCAL_MT\.tgz"):
        PascalContext(prepared, tasks=("human_parts",))


def brute_laplacian(labels: np.ndarray) -> np.ndarray:
    """Pixel by pixel; beyond the border lies what is as far inside of it, the border pixel not repeated."""
    height, width = labels.shape
    edges = np.zeros(labels.shape, bool)
    for row in range(height):
        for column in range(width):
            total = -4 * int(labels[row, column])
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                r, c = row + down, column + right
                r = -r if r < 0 else 2 * (height - 1) - r if r >= height else r
                c = -c if c < 0 else 2 * (width - 1) - c if c >= width else c
                total += int(labels[r, c])
            edges[row, column] = total != 0
    return edges


def test_boundaries_follow_the_published_rule(archive: Path) -> None:
    labels = label_map()
    expected = thin(brute_laplacian(labels))
    np.testing.assert_array_equal(training_edges(labels), expected)
    found = PascalContext(archive, tasks=("boundary",))[0].targets["boundary"]
    np.testing.assert_array_equal(found[0].numpy(), expected.astype(np.float32))
    scored = PascalContext(archive, tasks=("boundary",), boundary="evaluation")[0].targets["boundary"][0].numpy()
    np.testing.assert_array_equal(scored, evaluation_edges(labels))
    assert (scored != expected).any()


@pytest.mark.parametrize("seed", range(8))
def test_neighbors_that_cancel(seed: int) -> None:
    """A Laplacian is 0 where labels on opposite sides cancel, at the border by its own rule."""
    labels = np.random.default_rng(seed).choice([4, 5, 5, 5, 6], (12, 14))
    np.testing.assert_array_equal(training_edges(labels), thin(brute_laplacian(labels)))


def test_boundaries_of_a_step() -> None:
    """A vertical step: the Laplacian marks both sides, thinning leaves one pixel per row."""
    labels = np.ones((9, 9), np.int64)
    labels[:, 5:] = 2
    for edges in (training_edges(labels), evaluation_edges(labels)):
        assert edges.sum(1).tolist()[1:-1] == [1] * 7  # thinning may shorten the ends
        assert set(edges.nonzero()[1]) <= {4, 5}


def test_a_protocol_of_papers_scores_against_outlines(archive: Path, tmp_path: Path) -> None:
    """Training has its own boundaries, evaluation those of SEISM; prepared ones that are for training are refused."""
    data = DataConfig("pascal-context", str(archive), options={"tasks": ("boundary",)}, protocol="invpt")
    recipe, tasks = Recipe(data=data), {"boundary": boundary()}
    scored = build_dataset(with_scored_labels(recipe, tasks), "val")
    expected = torch.from_numpy(evaluation_edges(label_map()))
    assert (scored[0].targets["boundary"][0].bool() == expected).all()
    assert (build_dataset(recipe, "val")[0].targets["boundary"][0].bool() != expected).any()
    scoring = find_scoring("invpt", scored, tasks)
    assert scoring.apply(tasks)["boundary"].metric().ground_truth == "thin"  # no outline of an outline
    prepare(build_dataset(recipe, "val"), tmp_path, split="val")
    with pytest.raises(
        ValueError, match="boundary of pascal-context is 'training' in these data, and protocol 'invpt'"
    ):
        find_scoring("invpt", Prepared(tmp_path, split="val"), tasks)
    assert find_scoring("invpt", Prepared(tmp_path, split="val"), {"semseg": semseg(21)}).protocol == "invpt"


def test_the_list_of_published_boundary_scores(copy: Path) -> None:
    with pytest.raises(
        ValueError, match=r"SEISM's list of the 2498 images .*: put test_new\.txt, .*ImageSets/Context\."
    ):
        PascalContext(copy, split="test_new")
    (copy / "ImageSets/Context/test_new.txt").write_text(VAL[1])
    assert PascalContext(copy, split="test_new").keys == [VAL[1]]
    with pytest.raises(ValueError, match="unknown split of pascal-context 'tests'; did you mean 'test_new'"):
        PascalContext(copy, split="tests")


def test_files_and_fingerprint(archive: Path) -> None:
    dataset = PascalContext(archive, tasks=("semseg", "normals"))
    assert dataset.files(0) == {
        "image": archive / f"JPEGImages/{TRAIN[0]}.jpg",
        "semseg": archive / f"semseg/VOC12/{TRAIN[0]}.png",
        "normals": archive / f"normals_distill/{TRAIN[0]}.png",
        "boundary": archive / f"pascal-context/trainval/{TRAIN[0]}.mat",
    }
    told = dataset.fingerprint()
    assert told["normals_mask"] == "published"
    assert told["variant"] == "PASCAL_MT"
    assert told != PascalContext(archive, tasks=("semseg", "normals"), normals_mask="stored").fingerprint()


# Real pictures


def test_real_labels_of_voc(copy: Path) -> None:
    keys = sorted(path.stem for path in shared_path("samples/pascal/voc").glob("*.png"))
    for key in keys:
        shutil.copy(shared_path(f"samples/pascal/voc/{key}.jpg"), copy / "JPEGImages")
        shutil.copy(shared_path(f"samples/pascal/voc/{key}.png"), copy / "semseg/VOC12")
    (copy / "ImageSets/Context/real.txt").write_text("\n".join(keys))
    dataset = PascalContext(copy, split="real", tasks=("semseg",))
    seen = [{NAMES_21[label] for label in sample.targets["semseg"].unique() if label != IGNORE} for sample in dataset]
    assert seen == [{"background", "dog"}, {"background", "bicycle"}, {"background", "dog", "sheep"}]
    assert all((sample.targets["semseg"] == IGNORE).any() for sample in dataset)


def test_real_labels_of_sixty_classes(tmp_path: Path) -> None:
    """Colour pictures in VOC's colour map, in the order of PASCAL-Context's own list."""
    root = write_prepared(tmp_path / "voc")
    keys = sorted(path.stem for path in shared_path("samples/pascal/context").glob("*.png"))
    for key in keys:
        shutil.copy(shared_path(f"samples/pascal/context/{key}.jpg"), root / "JPEGImages")
        shutil.copy(shared_path(f"samples/pascal/context/{key}.png"), root / "SegmentationClassContext")
    (root / "ImageSets/SegmentationContext/val.txt").write_text("\n".join(keys))
    seen = [
        {NAMES_60[label] for label in sample.targets["semseg"].unique()} for sample in PascalContext(root, split="val")
    ]
    assert {"bird", "grass", "water"} <= seen[0]
    assert {"motorbike", "person", "sky", "grass"} <= seen[1]
    assert {"bus", "road", "sidewalk", "building", "tree"} <= seen[2]


def test_real_person_parts(copy: Path) -> None:
    """Part masks cut from real pictures, written as PASCAL-Part stores them, come back as they were."""
    keys = sorted(path.stem for path in shared_path("samples/pascal/person").glob("*.png"))
    names = ("head", "torso", "luarm", "llarm", "luleg", "llleg")
    for key in keys:
        labels = read_array(shared_path(f"samples/pascal/person/{key}.png"))
        parts = {name: (labels == number).astype(np.uint8) for number, name in enumerate(names, start=1)}
        save_annotation(copy / f"human_parts/{key}.mat", [(15, (labels > 0).astype(np.uint8), parts)])
        shutil.copy(shared_path(f"samples/pascal/person/{key}.jpg"), copy / "JPEGImages")
    (copy / "ImageSets/Context/real.txt").write_text("\n".join(keys))
    dataset = PascalContext(copy, split="real", tasks=("human_parts",))
    for index, key in enumerate(keys):
        stored = read_array(shared_path(f"samples/pascal/person/{key}.png"))
        np.testing.assert_array_equal(dataset[index].targets["human_parts"].numpy(), stored)


# Bad input


def test_a_partial_archive(copy: Path) -> None:
    shutil.rmtree(copy / "sal_distill")
    with pytest.raises(ValueError, match=r"part of PASCAL_MT .*missing sal_distill/\*\.png; .*PASCALContext\.tar\.gz"):
        PascalContext(copy)


def test_two_variants_in_one_folder(copy: Path, prepared: Path) -> None:
    shutil.copytree(prepared, copy, dirs_exist_ok=True)
    with pytest.raises(
        ValueError, match=r"mixes several variants: PASCAL_MT \(.*\), VOC2010 \(SegmentationClassContext"
    ):
        PascalContext(copy)
    assert PascalContext(copy, variant="VOC2010").classes == 60


def test_links_in_a_circle(copy: Path) -> None:
    (copy / "human_parts/again").symlink_to(copy)
    assert len(PascalContext(copy)) == 2
    shutil.rmtree(copy / "sal_distill")
    (copy / "sal_distill").symlink_to(copy / "sal_distill")
    with pytest.raises(ValueError, match="sal_distill is a link that leads nowhere or in a circle"):
        PascalContext(copy)


def test_raises_for_files_that_are_missing(copy: Path) -> None:
    (copy / f"human_parts/{TRAIN[0]}.mat").unlink()
    with pytest.raises(ValueError, match=rf"1 of 2 samples have no human_parts file \({TRAIN[0]}\)"):
        PascalContext(copy)
    assert (PascalContext(copy, allow_missing=True)[0].targets["human_parts"] == IGNORE).all()
    (copy / f"pascal-context/trainval/{TRAIN[0]}.mat").unlink()
    sample = PascalContext(copy, allow_missing=True)[0]
    assert sample.targets["boundary"].isnan().all()
    assert sample.targets["normals"].isnan().all()


def test_names_of_classes_are_needed(copy: Path) -> None:
    (copy / "labels.txt").rename(copy.parent / "names.txt")
    with pytest.raises(
        ValueError, match=r"mask of normals needs labels\.txt, .*labels\.txt does not exist; .*labels_file"
    ):
        PascalContext(copy)
    with pytest.raises(ValueError, match=r"60 classes need labels\.txt"):
        PascalContext(copy, classes=60, tasks=("semseg",))
    assert len(PascalContext(copy, labels_file=copy.parent / "names.txt")) == 2
    assert PascalContext(copy, normals_mask="stored")[0].targets["normals"].isfinite().all()
    (copy / "labels.txt").write_text("1: accordion\n427: television\n")
    with pytest.raises(ValueError, match=r"is not the labels\.txt of PASCAL-Context: it has 2 of 459 lines"):
        PascalContext(copy)


def test_distilled_labels_may_have_another_size(copy: Path) -> None:
    """They are moved by the nearest pixel; labels that people drew must fit."""
    for name, values in (("sal_distill", saliency()), ("normals_distill", stored_normals())):
        save(copy / f"{name}/{TRAIN[0]}.png", values.repeat(2, 0).repeat(2, 1))
    targets = PascalContext(copy)[0].targets
    np.testing.assert_array_equal(targets["saliency"].numpy(), label_map() == PERSON)
    assert angles(targets["normals"].numpy(), NORMALS.transpose(2, 0, 1)).max() < 0.6
    save(copy / f"semseg/VOC12/{TRAIN[0]}.png", np.zeros((30, 40), np.uint8))
    with pytest.raises(ValueError, match=rf"VOC12/{TRAIN[0]}\.png is 30x40, its image 60x80"):
        PascalContext(copy, tasks=("semseg",))[0]


def test_values_outside_of_the_lists(copy: Path) -> None:
    save(copy / f"semseg/VOC12/{TRAIN[0]}.png", np.full(SIZE, 21, np.uint8))
    with pytest.raises(ValueError, match=rf"VOC12/{TRAIN[0]}\.png .*none of the 21 classes of VOC: 21;"):
        PascalContext(copy, tasks=("semseg",))[0]
    scipy.io.savemat(copy / f"pascal-context/trainval/{TRAIN[0]}.mat", {"LabelMap": label_map() + 100})
    with pytest.raises(ValueError, match=r"\.mat is .* with values 258 to 540; expected \(60, 80\) and 0 to 459"):
        PascalContext(copy, tasks=("normals",))[0]
    with pytest.raises(ValueError, match=r"none of the 459 classes of PASCAL-Context"):
        PascalContext(copy, tasks=("semseg",), classes=60)[0]
    save_annotation(copy / f"human_parts/{TRAIN[0]}.mat", [(15, np.ones(SIZE), {"wing": np.ones(SIZE)})])
    with pytest.raises(ValueError, match=rf"human parts .*{TRAIN[0]}\.mat: it has a part 'wing'"):
        PascalContext(copy, tasks=("human_parts",))[0]
    save_annotation(copy / f"human_parts/{TRAIN[0]}.mat", [(15, np.ones(SIZE), {"head": np.ones((5, 5))})])
    with pytest.raises(ValueError, match=r"the mask of its part 'head' is \(5, 5\), the image \(60, 80\)"):
        PascalContext(copy, tasks=("human_parts",))[0]
    scipy.io.savemat(copy / f"human_parts/{TRAIN[0]}.mat", {"anno": {"other": 1}})
    with pytest.raises(ValueError, match="it has no 'objects': it is no annotation of PASCAL-Part"):
        PascalContext(copy, tasks=("human_parts",))[0]


def test_unreadable_files(copy: Path) -> None:
    whole = (copy / f"human_parts/{TRAIN[0]}.mat").read_bytes()
    (copy / f"human_parts/{TRAIN[0]}.mat").write_bytes(whole[:200])
    with pytest.raises(OSError, match=rf"human_parts/{TRAIN[0]}\.mat cannot be read"):
        PascalContext(copy, tasks=("human_parts",))[0]
    (copy / f"pascal-context/trainval/{TRAIN[0]}.mat").write_bytes(b"nothing")
    with pytest.raises(OSError, match=rf"trainval/{TRAIN[0]}\.mat cannot be read"):
        PascalContext(copy, tasks=("boundary",))[0]
    (copy / "ImageSets/Context/train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OSError, match=r"train\.txt is not UTF-8: line 1 holds the byte 0xff"):
        PascalContext(copy)
