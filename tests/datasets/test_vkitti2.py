"""Virtual KITTI 2, written from its documented format, becomes samples in the one convention."""

import shutil
import warnings
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
from triptych.datasets.splitting import take_paper_code
from triptych.datasets.vkitti2 import VKITTI2
from triptych.labels.street import VKITTI2_NAMES
from triptych.types import IGNORE, valid_pixels

SIZE = (30, 100)
# The files speak of 375x1242 and count pixel centres from 0; cameras count them from 0.5.
MATRIX = np.array([[100 / 1242, 0, 0], [0, 30 / 375, 0], [0, 0, 1]]) @ np.array(
    [[725.0087, 0, 621], [0, 725.0087, 187.5], [0, 0, 1]]
)
COLORS = """Category r g b
Terrain 210 0 200
Sky 90 200 255
Tree 0 199 0
Vegetation 90 240 0
Building 140 140 140
Road 100 60 100
GuardRail 250 100 255
TrafficSign 255 255 0
TrafficLight 200 200 0
Pole 255 130 0
Misc 80 80 80
Truck 160 60 60
Car 255 127 80
Van 0 139 139
Undefined 0 0 0
"""
PALETTE = np.array([[int(word) for word in line.split()[1:]] for line in COLORS.splitlines()[1:]], np.uint8)
# specs: the 8 classes of the published loaders, road to vehicle; terrain, guard rail and misc are void.
EIGHT = {"Road": 0, "Building": 1, "Pole": 2, "TrafficLight": 3, "TrafficSign": 4, "Tree": 5, "Vegetation": 5}
EIGHT |= {"Sky": 6, "Truck": 7, "Car": 7, "Van": 7}
SCENES = {"Scene01": 3, "Scene02": 2}
CONDITIONS = ("15-deg-left", "clone", "fog")


def stored_classes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 15, SIZE)


def camera_to_world(frame: int, camera: int) -> np.ndarray:
    """A car that drives on and turns; the second camera is half a metre to the right."""
    angle = 0.1 * frame + 0.3
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = np.array([5.0, -1.0, 2.0 * frame]) + pose[:3, 0] * 0.532725 * camera
    return pose


def write_text(drive: Path, frames: int) -> None:
    intrinsic, extrinsic = ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"], ["frame cameraID " + " ".join("r" * 16)]
    for frame in range(frames):
        for camera in range(2):
            intrinsic.append(f"{frame} {camera} 725.0087 725.0087 620.5 187")
            values = np.linalg.inv(camera_to_world(frame, camera)).ravel()
            extrinsic.append(f"{frame} {camera} " + " ".join(f"{value:.9f}" for value in values))
    drive.mkdir(parents=True, exist_ok=True)
    (drive / "intrinsic.txt").write_text("\n".join(intrinsic) + "\n")
    (drive / "extrinsic.txt").write_text("\n".join(extrinsic) + "\n")
    (drive / "colors.txt").write_text(COLORS)


def write(root: Path, top: Callable[[str], str] = lambda modality: "") -> Path:
    """Two scenes in three conditions; `top` names the folder that the archive of a modality was unpacked into."""
    depth = see_street(MATRIX, SIZE)[0]
    centimetres = np.where(np.isfinite(depth), np.rint(depth * 100), 65535).astype(np.uint16)
    for scene, frames in SCENES.items():
        for condition in CONDITIONS:
            drive = f"{scene}/{condition}"
            write_text(root / top("textgt") / drive, frames)
            for camera in range(2):
                for frame in range(frames):
                    place = f"{drive}/frames/%s/Camera_{camera}/%s_{frame:05d}"
                    save(root / top("rgb") / f"{place % ('rgb', 'rgb')}.jpg", photo(frame, SIZE))
                    save(root / top("depth") / f"{place % ('depth', 'depth')}.png", centimetres)
                    classes = PALETTE[stored_classes(frame)]
                    save(root / top("classSegmentation") / f"{place % ('classSegmentation', 'classgt')}.png", classes)
                    track = Image.fromarray((stored_classes(frame) % 4).astype(np.uint8))
                    track.putpalette(list(range(60)))
                    path = root / top("instanceSegmentation") / f"{place % ('instanceSegmentation', 'instancegt')}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    track.save(path)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "vkitti2")


def test_samples_follow_the_one_convention(root: Path) -> None:
    assert DATASETS["vkitti2"] is VKITTI2
    dataset = VKITTI2(root, split="all", instances=True)
    assert dataset.variant.name == "merged"
    assert len(dataset) == 5 * 3 * 2
    assert dataset.keys[:2] == ["Scene01/15-deg-left/Camera_0/00000", "Scene01/15-deg-left/Camera_0/00001"]
    assert list(dataset.tasks) == ["semseg", "depth", "normals"]
    assert dataset.tasks["semseg"].classes == VKITTI2_NAMES
    index = dataset.keys.index("Scene02/fog/Camera_1/00001")
    assert dataset.group(index) == "Scene02"
    sample = dataset[index]
    expected = np.asarray(Image.open(dataset.files(index)["image"])).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample.image.numpy(), expected, atol=1e-6)
    classes = stored_classes(1)
    np.testing.assert_array_equal(sample.targets["semseg"], np.where(classes == 14, IGNORE, classes))
    np.testing.assert_array_equal(sample.extras["instances"], classes % 4)
    assert sample.camera is not None
    assert sample.camera.pose is not None
    np.testing.assert_allclose(sample.camera.intrinsics, MATRIX, rtol=1e-6)
    np.testing.assert_allclose(sample.camera.pose, camera_to_world(1, 1), atol=1e-6)


def test_centimetres_become_metres_and_the_sky_is_invalid(root: Path) -> None:
    depth = VKITTI2(root)[0].targets["depth"][0].numpy()
    true = see_street(MATRIX, SIZE)[0]
    np.testing.assert_array_equal(np.isfinite(depth), np.isfinite(true))
    assert 0.3 < np.isfinite(depth).mean() < 1
    np.testing.assert_allclose(depth[np.isfinite(depth)], true[np.isfinite(depth)], atol=0.00501)


def test_normals_are_those_of_the_surfaces(root: Path) -> None:
    sample = VKITTI2(root, tasks=("normals", "boundary"))[0]
    _, expected, number = see_street(MATRIX, SIZE)
    inside = inside_of(number, 2)
    assert inside.mean() > 0.3
    assert np.median(angles(sample.targets["normals"].numpy()[:, inside], expected[:, inside])) < 1
    assert not valid_pixels(sample.targets["normals"]).numpy()[0][number < 0].any()


def test_eight_classes_are_the_published_ones(root: Path) -> None:
    names = [line.split()[0] for line in COLORS.splitlines()[1:]]
    expected = np.array([EIGHT.get(name, IGNORE) for name in names])[stored_classes(0)]
    dataset = VKITTI2(root, classes=8)
    np.testing.assert_array_equal(dataset[0].targets["semseg"], expected)
    from triptych.labels.street import SPACES

    assert dataset.tasks["semseg"].classes == tuple(SPACES["8"])


def test_archives_may_lie_in_folders_of_their_own(tmp_path: Path, root: Path) -> None:
    apart = VKITTI2(write(tmp_path / "apart", lambda modality: f"vkitti_2.0.3_{modality}"), instances=True)
    assert apart.variant.name == "by-archive"
    merged = VKITTI2(root, instances=True)
    assert apart.fingerprint() == merged.fingerprint()
    for name in ("semseg", "depth"):
        assert torch.equal(apart[3].targets[name].nan_to_num(-1), merged[3].targets[name].nan_to_num(-1))
    assert apart[3].camera is not None
    assert apart[3].camera.pose is not None


def test_conditions_and_cameras_are_chosen(root: Path) -> None:
    dataset = VKITTI2(root, split="all", conditions=("fog", "clone"), cameras=(1,))
    assert len(dataset) == 5 * 2
    assert {key.split("/")[1] for key in dataset.keys} == {"fog", "clone"}
    assert {key.split("/")[2] for key in dataset.keys} == {"Camera_1"}
    with pytest.raises(ValueError, match=r"unknown condition of vkitti2 'foggy'; did you mean 'fog'"):
        VKITTI2(root, conditions=("foggy",))
    with pytest.raises(ValueError, match=r"split 'val' of vkitti2 has no images .* choose other conditions"):
        VKITTI2(root, split="val", conditions=("rain",))


def test_scenes_are_not_shared_between_splits(root: Path) -> None:
    scenes = {split: {key.split("/")[0] for key in VKITTI2(root, split=split).keys} for split in ("train", "val")}
    assert scenes == {"train": {"Scene02"}, "val": {"Scene01"}}
    assert len(VKITTI2(root)) + len(VKITTI2(root, split="val")) == len(VKITTI2(root, split="all"))


@pytest.mark.parametrize(("count", "sizes", "leaked"), [(2126, (1700, 426), 348), (9400, (7520, 1880), 1506)])
def test_the_published_split_leaks_as_was_measured(count: int, sizes: tuple[int, int], leaked: int) -> None:
    """specs: 348 of 426 validation images of Virtual KITTI 2 and 1506 of 1880 of SYNTHIA are training images."""
    keys = [f"{number:05d}" for number in range(count)]
    with pytest.warns(UserWarning, match=f"split 'paper-code' of x leaks: {leaked} of its {sizes[1]} validation"):
        train, val = (take_paper_code(keys, split, name="x") for split in ("train", "val"))
    assert (len(train), len(val)) == sizes
    assert len(set(train) & set(val)) == leaked


def test_the_published_split_warns(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"split 'paper-code' of vkitti2 leaks: \d of its 1 validation images"):
        dataset = VKITTI2(root, split_by="paper-code")
    assert dataset.fingerprint()["split_by"] == "paper-code"
    assert len(dataset) == 4  # of the five frames of one condition and camera
    assert {key.split("/")[1] for key in dataset.keys} == {"15-deg-left"}
    with pytest.warns(UserWarning, match="leaks"):
        assert len(VKITTI2(root, split_by="paper-code", conditions=("fog", "clone"), cameras=(0, 1))) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VKITTI2(root)
    with pytest.raises(ValueError, match=r"unknown split_by of vkitti2 'papercode'; did you mean 'paper-code'"):
        VKITTI2(root, split_by="papercode")


def test_drives_give_neighbors_with_poses(root: Path) -> None:
    dataset = VKITTI2(root, split="val", conditions=("fog",), cameras=(0,), neighbor_frames=(-1, 1))
    sample = dataset[1]
    assert [view.key[-5:] for view in sample.neighbors] == ["00000", "00002"]
    for frame, view in zip((0, 2), sample.neighbors, strict=True):
        assert view.camera is not None
        assert view.camera.pose is not None
        np.testing.assert_allclose(view.camera.pose, camera_to_world(frame, 0), atol=1e-6)
        assert valid_pixels(view.targets["depth"]).any()
    assert [view.extras["offset"].item() for view in dataset[0].neighbors] == [1, 1]  # the first frame of the drive


def test_raises_for_what_is_missing(root: Path) -> None:
    for wrong in (root.parent, root / "Scene01"):
        with pytest.raises(ValueError, match=rf"is not the root of the dataset; {root} is"):
            VKITTI2(wrong)
    files = VKITTI2(root).files(0)
    files["depth"].unlink()
    with pytest.raises(ValueError, match=r"vkitti2: 1 of 12 samples have no depth file \(Scene02/15-deg-left/Camera_0"):
        VKITTI2(root)
    partly = VKITTI2(root, allow_missing=True)[0].targets
    assert [bool(valid_pixels(target).any()) for target in partly.values()] == [True, False, False]
    for drive in root.glob("*/*"):
        (drive / "colors.txt").unlink()
        shutil.rmtree(drive / "frames/depth")
        (drive / "extrinsic.txt").unlink()
        (drive / "intrinsic.txt").unlink()
    with pytest.raises(ValueError, match=r"vkitti2 has images but no labels.*textgt.tar.gz or vkitti_2.0.3_depth.tar"):
        VKITTI2(root)
    with pytest.raises(ValueError, match=r"task semseg of vkitti2 needs .*classSegmentation.tar and .*textgt"):
        VKITTI2(root, tasks=("semseg",))
    camera = VKITTI2(root, tasks=())[0].camera
    assert camera is not None
    assert camera.pose is None
    np.testing.assert_allclose(camera.intrinsics, MATRIX, rtol=1e-6)


def test_cameras_are_read_anew_where_their_file_was_mended(root: Path) -> None:
    dataset = VKITTI2(root, split="all")
    file = root / "Scene01/15-deg-left/intrinsic.txt"
    focal = []
    for text in ("725.0087", "362.50435"):
        file.write_text(file.read_text().replace("725.0087", text))
        camera = dataset[dataset.keys.index("Scene01/15-deg-left/Camera_0/00000")].camera
        assert camera is not None
        focal.append(camera.intrinsics[0, 0].item())
    assert focal[0] == pytest.approx(2 * focal[1])


def test_raises_for_damaged_files(root: Path) -> None:
    dataset = VKITTI2(root)
    classes = PALETTE[stored_classes(0)]
    classes[3, 4] = (1, 2, 3)
    save(dataset.files(0)["semseg"], classes)
    with pytest.raises(ValueError, match=r"classgt_00000.png .*: 1 of its pixels .* none of colors.txt: \(1, 2, 3\)"):
        dataset[0]
    dataset.files(1)["depth"].write_bytes(b"not a picture")
    with pytest.raises(OSError, match=r"depth_00001.png cannot be read"):
        dataset[1]
    drive = root / "Scene02/clone"
    (drive / "extrinsic.txt").write_text("frame cameraID\n0 0 1 2 3\n")
    with pytest.raises(ValueError, match=r"Scene02/clone/extrinsic.txt has 5 columns, expected 18"):
        dataset[dataset.keys.index("Scene02/clone/Camera_0/00000")]
    drive = root / "Scene02/fog"
    (drive / "intrinsic.txt").write_text("\n".join((drive / "intrinsic.txt").read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"intrinsic.txt has no row for frame 1 of camera 1"):
        dataset[dataset.keys.index("Scene02/fog/Camera_1/00001")]
    (root / "Scene01/15-deg-left/colors.txt").write_text("Category r g b\nCar:3 1 2 3\n")
    with pytest.raises(ValueError, match=r"colors.txt has the line 'Car:3 1 2 3'"):
        VKITTI2(root)


def test_a_photograph_of_the_real_drives(tmp_path: Path) -> None:
    """The scenes are copies of KITTI's: a real frame of it as the image, of the size that the cameras speak of."""
    picture = next(iter(sorted(shared_path("samples/kitti").glob("0*_rgb.png"))))
    path = tmp_path / "Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg"
    path.parent.mkdir(parents=True)
    Image.open(picture).convert("RGB").save(path)
    sample = VKITTI2(tmp_path, split="val", tasks=())[0]
    assert sample.image.shape == (3, 375, 1242)
    assert sample.camera is not None
    assert sample.camera.intrinsics.tolist() == [
        pytest.approx([725.0087, 0, 621]),
        pytest.approx([0, 725.0087, 187.5]),
        [0, 0, 1],
    ]
