"""Folders in the Omnidata and Taskonomy format become samples in the one convention."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_maps import save
from shared import shared_path
from street_scene import angles, inside_of, photo, see_street

from triptych.datasets import DATASETS
from triptych.datasets.omnidata import Omnidata
from triptych.labels.derived import normals_from_depth
from triptych.types import Camera, valid_pixels

SIZE = (48, 64)
FOV = 70.0
FOCAL = 32 / math.tan(math.radians(FOV) / 2)
MATRIX = np.array([[FOCAL, 0, 32], [0, FOCAL, 24], [0, 0, 1]])
BUILDINGS = ("allensville", "beechwood", "corozal")
LABELS = ("rgb", "depth_zbuffer", "normal", "mask_valid", "edge_occlusion")
Place = Callable[[str, str], str]

LAYOUTS: dict[str, Place] = {
    "omnidata": lambda label, building: f"{label}/taskonomy/{building}",
    "by-label": lambda label, building: f"{label}/{building}",
    "by-building": lambda label, building: f"{building}/{label}",
    "flat": lambda label, building: building,
}


def stored_depth(*, along_rays: bool = False) -> np.ndarray:
    depth = see_street(MATRIX, SIZE)[0]
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    length = np.sqrt(((u - 32) / FOCAL) ** 2 + ((v - 24) / FOCAL) ** 2 + 1) if along_rays else 1
    return np.where(np.isfinite(depth), np.rint(depth * length * 512), 65535).astype(np.uint16)


def stored_normals() -> np.ndarray:
    normals = see_street(MATRIX, SIZE)[1].transpose(1, 2, 0)
    return np.where(np.isfinite(normals), np.rint((normals + 1) * 127.5), 127).astype(np.uint8)


def stored_edges() -> np.ndarray:
    return (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) * 3).astype(np.uint16)


def write(root: Path, place: Place) -> Path:
    mask = np.full(SIZE, 255, np.uint8)
    mask[:, :5] = 0
    for building in BUILDINGS:
        for view in range(2):
            maps = (photo(view, SIZE), stored_depth(), stored_normals(), mask, stored_edges())
            for label, pixels in zip(LABELS, maps, strict=True):
                save(root / place(label, building) / f"point_{view}_view_{view + 3}_domain_{label}.png", pixels)
            info = root / place("point_info", building) / f"point_{view}_view_{view + 3}_domain_point_info.json"
            info.parent.mkdir(parents=True, exist_ok=True)
            info.write_text(json.dumps({"field_of_view_rads": math.radians(FOV), "resolution": 64}))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "starter", LAYOUTS["omnidata"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_the_same_samples(tmp_path: Path, layout: str) -> None:
    dataset = Omnidata(write(tmp_path, LAYOUTS[layout]), split="all")
    assert dataset.variant.name == layout
    assert len(dataset) == 6
    prefix = "taskonomy/" if layout == "omnidata" else ""
    assert dataset.keys[:2] == [f"{prefix}allensville/point_0_view_3", f"{prefix}allensville/point_1_view_4"]
    assert dataset.group(0) == dataset.group(1) == "allensville"
    assert list(dataset.tasks) == ["depth", "normals"]
    sample = dataset[1]
    np.testing.assert_allclose(sample.image, photo(1, SIZE).transpose(2, 0, 1) / 255, atol=1e-6)
    depth, normals, _ = see_street(MATRIX, SIZE)
    known = np.isfinite(depth)
    known[:, :5] = False  # the mask
    np.testing.assert_array_equal(valid_pixels(sample.targets["depth"])[0], known)
    np.testing.assert_array_equal(valid_pixels(sample.targets["normals"])[0], known)
    np.testing.assert_allclose(sample.targets["depth"][0].numpy()[known], depth[known], atol=0.5 / 512 + 1e-6)
    assert angles(sample.targets["normals"].numpy()[:, known], normals[:, known]).max() < 0.6  # of 8 bits
    assert sample.camera is not None
    np.testing.assert_allclose(sample.camera.intrinsics, MATRIX, rtol=1e-5)


def test_stored_normals_are_those_of_the_depth(root: Path) -> None:
    sample = Omnidata(root, split="all")[0]
    assert sample.camera is not None
    found = normals_from_depth(sample.targets["depth"], sample.camera)
    inside = inside_of(see_street(MATRIX, SIZE)[2], 1) & np.isfinite(found.numpy()).all(0)
    assert inside.mean() > 0.3
    assert np.median(angles(found.numpy()[:, inside], sample.targets["normals"].numpy()[:, inside])) < 1


def test_a_ray_length_becomes_depth_where_the_camera_is_known(root: Path) -> None:
    for path in (root / "depth_zbuffer").rglob("*.png"):
        save(Path(str(path).replace("depth_zbuffer", "depth_euclidean")), stored_depth(along_rays=True))
        path.unlink()
    depth = Omnidata(root, split="all")[0].targets["depth"][0].numpy()
    known = np.isfinite(depth)
    assert known.mean() > 0.3
    np.testing.assert_allclose(depth[known], see_street(MATRIX, SIZE)[0][known], atol=0.5 / 512 + 1e-6)
    for path in (root / "point_info").rglob("*.json"):
        path.unlink()
    assert not valid_pixels(Omnidata(root, split="all")[0].targets["depth"]).any()
    again = Omnidata(root, split="all", fov=FOV)[0].targets["depth"][0].numpy()
    np.testing.assert_allclose(again, depth, rtol=1e-5)


def test_depth_of_unknown_scale_is_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, lambda label, building: f"{label}/hm3d/{building}")
    targets = Omnidata(root, split="all")[0].targets
    assert not valid_pixels(targets["depth"]).any()
    assert valid_pixels(targets["normals"]).any()
    scaled = Omnidata(root, split="all", unscaled=(), step=1 / 4096)[0].targets["depth"]
    np.testing.assert_allclose(scaled.nanmean(), np.nanmean(stored_at(4096)), rtol=1e-5)


def stored_at(steps: int) -> np.ndarray:
    stored = stored_depth().astype(float)
    stored[(stored == 65535) | (np.arange(SIZE[1]) < 5)] = np.nan
    return stored / steps


def test_boundaries_need_a_threshold(root: Path) -> None:
    dataset = Omnidata(root, split="all", boundary_threshold=3000)
    assert list(dataset.tasks) == ["depth", "normals", "boundary"]
    boundary = dataset[0].targets["boundary"][0].numpy()
    assert np.isnan(boundary[:, :5]).all()
    np.testing.assert_array_equal(boundary[:, 5:] == 1, stored_edges()[:, 5:] >= 3000)
    with pytest.raises(ValueError, match=r"task boundary of omnidata needs .* a boundary_threshold"):
        Omnidata(root, split="all", tasks=("boundary",))


def test_buildings_are_kept_whole(root: Path, tmp_path: Path) -> None:
    def buildings(**options: object) -> list[str]:
        return sorted({key.split("/")[1] for key in Omnidata(root, **options).keys})  # type: ignore[arg-type]

    assert buildings(split="val", validation=("corozal",)) == ["corozal"]
    assert buildings(split="train", validation=("corozal",)) == ["allensville", "beechwood"]
    table = tmp_path / "train_val_test_tiny.csv"
    table.write_text("id,train,val,test\nallensville,1,0,0\nbeechwood,0,1,0\ncorozal,0,0,1\nothertown,1,0,0\n")
    assert [buildings(split=split, split_list=str(table)) for split in ("train", "val", "test")] == [
        [name] for name in BUILDINGS
    ]
    before = buildings(split="train", split_list=str(table))
    table.write_text(table.read_text(), encoding="utf-8-sig")  # as spreadsheets save it
    assert buildings(split="train", split_list=str(table)) == before
    table.write_text("allensville\n")
    with pytest.raises(ValueError, match=r"train_val_test_tiny.csv is not a table of buildings"):
        Omnidata(root, split_list=str(table))
    with pytest.raises(ValueError, match=r"unknown building 'corosal'; did you mean 'corozal'"):
        Omnidata(root, validation=("corosal",))
    # By hash: one of a few, some of many, and these remain the same ones however many come along.
    assert len(buildings(split="val")) == 1
    assert len(buildings(split="train")) == 2
    for number in range(60):
        save(root / f"rgb/taskonomy/building{number}/point_0_view_0_domain_rgb.png", photo(0, (2, 2)))
    held_out = buildings(split="val")
    assert 2 <= len(held_out) <= 12
    assert not set(held_out) & set(buildings(split="train"))
    for number in range(60, 90):
        save(root / f"rgb/taskonomy/building{number}/point_0_view_0_domain_rgb.png", photo(0, (2, 2)))
    assert set(held_out) <= set(buildings(split="val"))


def test_labels_may_be_missing(root: Path) -> None:
    files = Omnidata(root, split="all").files(0)
    files["normals"].unlink()
    targets = Omnidata(root, split="all")[0].targets
    assert not valid_pixels(targets["normals"]).any()
    assert valid_pixels(targets["depth"]).any()
    with pytest.raises(ValueError, match=r"omnidata: 1 of 6 samples have no normals file"):
        Omnidata(root, split="all", allow_missing=False)


def test_a_folder_of_masks_may_name_its_files_after_depth(root: Path) -> None:
    before = Omnidata(root, split="all")[0].targets["depth"]
    for path in sorted((root / "mask_valid").rglob("*.png")):
        path.rename(path.with_name(path.name.replace("mask_valid", "depth_zbuffer")))
    after = Omnidata(root, split="all")[0].targets["depth"]
    assert torch.equal(before.nan_to_num(-1), after.nan_to_num(-1))


def test_raises_for_mistakes(root: Path) -> None:
    assert DATASETS["omnidata"] is Omnidata
    with pytest.raises(ValueError, match=r"is not the root of the dataset"):
        Omnidata(root / "rgb" / "taskonomy" / "allensville")
    with pytest.raises(ValueError, match=r"unknown split of omnidata 'test'"):  # only a split_list has one
        Omnidata(root, split="test")
    for building in BUILDINGS[1:]:
        shutil.rmtree(root / "rgb/taskonomy" / building)
    with pytest.raises(ValueError, match=r"split 'val' of omnidata has none of the 1 buildings .* name some in valid"):
        Omnidata(root, split="val")
    dataset = Omnidata(root, split="all")
    dataset.files(0)["depth"].write_bytes(dataset.files(0)["depth"].read_bytes()[:100])
    with pytest.raises(OSError, match=r"point_0_view_3_domain_depth_zbuffer.png cannot be read"):
        dataset[0]
    save(dataset.files(1)["normals"], stored_normals()[:20])
    with pytest.raises(ValueError, match=r"point_1_view_4_domain_normal.png is 20x64, its image 48x64"):
        dataset[1]
    write(root, LAYOUTS["omnidata"])
    dataset.infos[dataset.keys[0]].write_text("{}")
    with pytest.raises(ValueError, match=r"does not tell field_of_view_rads .* download point_info again"):
        dataset[0]


def taskonomy_camera(samples: Path) -> Camera:
    """The camera of the real frame, from the lengths of its rays: length / z = sqrt(1 + (distance / focal)^2)."""
    z, length = (
        np.asarray(Image.open(samples / f"taskonomy/point_202_view_5_domain_depth_{kind}.png")).astype(float)
        for kind in ("zbuffer", "euclidean")
    )
    v, u = np.mgrid[:512, :512] + 0.5
    distance = np.hypot(u - 256, v - 256)
    known = (z < 65535) & (distance > 50)
    focal = float(np.median(distance[known] / np.sqrt((length[known] / z[known]) ** 2 - 1)))
    return Camera(torch.tensor([[focal, 0, 256], [0, focal, 256], [0, 0, 1]]))


@pytest.mark.parametrize(("key", "limit"), [("taskonomy/point_202_view_5", 2), ("replica/point_47_view_25", 2)])
def test_normals_of_real_scans_agree_with_their_depth(key: str, limit: float) -> None:
    samples = shared_path("samples/omnidata")
    dataset = Omnidata(samples, split="all")
    assert dataset.variant.name == "flat"
    sample = dataset[dataset.keys.index(key)]
    assert valid_pixels(sample.targets["depth"]).float().mean() > 0.9
    assert 1 < sample.targets["depth"].nanmedian() < 5  # metres in a room
    camera = taskonomy_camera(samples)  # the other scans are seen through the same one
    found = normals_from_depth(sample.targets["depth"], camera, reach=2)
    cosine = (found * sample.targets["normals"]).sum(0)
    angle = cosine[cosine.isfinite()].clamp(-1, 1).acos().rad2deg()
    assert angle.median() < limit
    wrong = (found * sample.targets["normals"] * torch.tensor([1.0, -1.0, 1.0])[:, None, None]).sum(0)
    assert wrong[wrong.isfinite()].clamp(-1, 1).acos().rad2deg().median() > 5 * limit


def test_normals_of_a_real_rendering_agree_with_its_ray_lengths() -> None:
    dataset = Omnidata(shared_path("samples/omnidata"), split="all", fov=60.0)  # Hypersim's camera
    sample = dataset[dataset.keys.index("hypersim/point_85_view_0")]
    assert sample.camera is not None
    found = normals_from_depth(sample.targets["depth"], sample.camera, reach=2)
    cosine = (found * sample.targets["normals"]).sum(0)
    assert cosine[cosine.isfinite()].clamp(-1, 1).acos().rad2deg().median() < 3
    assert not valid_pixels(dataset[dataset.keys.index("hm3d/point_0_view_3")].targets["depth"]).any()


@pytest.mark.parametrize("options", [{"step": 1 / 256}, {"fov": 50.0}, {"unscaled": ()}])
def test_options_are_inputs_beside_the_fingerprint(root: Path, options: dict) -> None:
    usual, other = Omnidata(root, split="all"), Omnidata(root, split="all", **options)
    assert other.fingerprint() == usual.fingerprint()  # which runs keep
    assert other.inputs() != usual.inputs()
    before = usual.inputs()
    os.utime(next(iter(usual.infos.values())), ns=(0, 0))
    assert usual.inputs() != before
