"""Frames around NYUv2's images: poses in both forms, which way they point, and what trains on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets.test_nyuv2 import HELD_OUT, MATRIX, SIZE, TEST, TRAIN, write_folders, write_official
from indoor_scene import PLANES
from PIL import Image
from saved_maps import save
from scipy.spatial.transform import Rotation

from triptych import assemble
from triptych.data.errors import DataError
from triptych.datasets.nyuv2 import NYUv2
from triptych.models.cvm import known_views, relate_views, unite_views
from triptych.recipes import RECIPES
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.training.objective import Objective
from triptych.types import collate, valid_pixels


def pose_of(offset: int) -> np.ndarray:
    """Camera to world: aside, forward and turned, more so for later frames; the image itself stands elsewhere too."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("yx", [1.5 * offset + 4, 0.5 * offset], degrees=True).as_matrix()
    pose[:3, 3] = [0.06 * offset + 0.2, -0.01 * offset, 0.03 * offset - 0.1]
    return pose


def see(pose: np.ndarray, size: tuple[int, int] = SIZE, matrix: np.ndarray = MATRIX) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) and depth (H, W) of the empty room from a pose; its walls have waves of color."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T @ pose[:3, :3].T
    normals = np.array([normal for normal, _ in PLANES], np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    towards = rays @ normals.T
    ahead = -(np.array([distance for _, distance in PLANES]) + normals @ pose[:3, 3])
    depth = np.where(towards < 0, ahead / np.minimum(towards, -1e-9), np.inf).min(-1)
    world = pose[:3, 3] + depth[..., None] * rays
    return (127 + 120 * np.sin(5 * world)).astype(np.uint8), depth.astype(np.float32)


def write_matrices(folder: Path, offsets: Sequence[int], *, inverse: bool = False) -> None:
    for offset in offsets:
        pose = np.linalg.inv(pose_of(offset)) if inverse else pose_of(offset)
        (folder / f"{offset}.txt").write_text("\n".join(" ".join(f"{n:.9f}" for n in row) for row in pose))


def write_colmap(path: Path, names: dict[str, int], scale: float = 1.0) -> None:
    lines = ["# Image list with two lines of data per image:"]
    for number, (name, offset) in enumerate(names.items(), start=1):
        to_camera = np.linalg.inv(pose_of(offset))
        x, y, z, w = Rotation.from_matrix(to_camera[:3, :3]).as_quat()
        numbers = " ".join(f"{each:.9f}" for each in (w, x, y, z, *(to_camera[:3, 3] / scale)))
        lines += [f"{number} {numbers} 1 {name}", "10.5 20.25 -1 3.0 4.0 17" if number % 2 else ""]
    path.write_text("\n".join(lines) + "\n")


def write(root: Path, *, poses: str = "matrices", offsets: Sequence[int] = (-2, 2, 5)) -> Path:
    """An archive whose training images have frames around them, the first one with depth."""
    write_folders(root, "NYUD_MT")
    for key in TRAIN:
        picture, depth = see(pose_of(0))
        save(root / f"images/{key}.jpg", picture)
        np.save(root / f"depth/{key}.npy", depth)
        folder = root / "frames" / key
        for offset in offsets:
            picture, depth = see(pose_of(offset))
            save(folder / f"{offset}.png", picture)
            if key == TRAIN[0]:
                np.save(folder / f"{offset}.npy", depth)
        if poses == "matrices":
            write_matrices(folder, (0, *offsets))
        elif poses == "inverse":
            write_matrices(folder, (0, *offsets), inverse=True)
        elif poses == "colmap":
            write_colmap(folder / "images.txt", {f"{offset}.png": offset for offset in (0, *offsets)}, scale=2.0)
    if poses == "one colmap":
        names = {f"{key}/{offset}.png": offset for key in TRAIN for offset in (0, *offsets)}
        write_colmap(root / "frames/images.txt", names, scale=2.0)
    return root


@pytest.mark.parametrize(("poses", "scale"), [("matrices", 1.0), ("colmap", 2.0), ("one colmap", 2.0)])
def test_frames_come_along_with_depth_and_pose(tmp_path: Path, poses: str, scale: float) -> None:
    root = write(tmp_path / "nyu", poses=poses)
    sample = NYUv2(root, neighbor_frames=(5, -2), pose_scale=scale)[0]
    assert [view.key for view in sample.neighbors] == [f"{TRAIN[0]}/+5", f"{TRAIN[0]}/-2"]
    assert [int(view.extras["offset"]) for view in sample.neighbors] == [5, -2]
    for view, offset in zip((sample, *sample.neighbors), (0, 5, -2), strict=True):
        torch.testing.assert_close(view.camera.pose, torch.from_numpy(pose_of(offset)).float(), rtol=0, atol=1e-5)
        torch.testing.assert_close(view.targets["depth"][0], torch.from_numpy(see(pose_of(offset))[1]))
    view = sample.neighbors[0]
    assert bool((view.targets["semseg"] == 255).all())
    assert bool(view.targets["normals"].isnan().all() and view.targets["boundary"].isnan().all())
    batch = collate([sample])
    back = relative_pose(batch.camera.pose, batch.neighbors[0].camera.pose)
    depths = batch.targets["depth"], batch.neighbors[0].targets["depth"]
    matrices = batch.camera.intrinsics, batch.neighbors[0].camera.intrinsics
    _, common = find_common_pixels(*depths, *matrices, back, tolerance=0.02)
    assert common.float().mean() > 0.75  # both see the same walls, but for what leaves the image


def test_a_frame_that_is_missing_leaves_its_image_alone(tmp_path: Path) -> None:
    root = write(tmp_path / "nyu")
    (root / f"frames/{TRAIN[1]}/5.png").unlink()
    (root / f"frames/{TRAIN[2]}/5.txt").unlink()  # a frame without a pose
    nyu = NYUv2(root, neighbor_frames=(5,))
    batch = collate([nyu[i] for i in range(3)])
    assert batch.neighbors[0].image.isnan().flatten(1).any(dim=1).tolist() == [False, True, True]
    views = relate_views(unite_views(batch), known_views(batch))
    assert views.neighbors[:, 0].tolist() == [3, 1, 2, 0, 4, 5]
    other = NYUv2(root, neighbor_frames=(2,), split="trainval")
    keys = [sample.neighbors[0].key for sample in map(other.__getitem__, range(len(other)))]
    assert keys == [*(f"{key}/+2" for key in TRAIN), "", ""]
    with pytest.raises(ValueError, match=r"neighbor_frames has 3, but no image of split 'train' .*frames/KEY/OFFSET"):
        NYUv2(root, neighbor_frames=(3,))


def test_images_that_are_scored_need_no_frames(tmp_path: Path) -> None:
    """A run that learned from frames around training images is scored on the test images, which have none."""
    root = write(tmp_path / "nyu")
    test = NYUv2(root, neighbor_frames=(5,), split="test")
    assert [len(test[i].neighbors) for i in range(len(test))] == [1, 1]
    assert all(bool(test[i].neighbors[0].image.isnan().all()) for i in range(len(test)))
    with pytest.raises(ValueError, match=r"neighbor_frames has 3, but no image of split 'test'"):
        NYUv2(root, neighbor_frames=(3,), split="test")


@pytest.mark.parametrize("official", [False, True])
def test_an_image_that_lies_among_its_frames_is_not_read_from_there(tmp_path: Path, official: bool) -> None:
    """COLMAP saw it there as `0.png`, maybe of another size than the archive's."""
    root = write_official(tmp_path / "nyu") if official else write(tmp_path / "nyu")
    save(root / f"frames/{TRAIN[0]}/5.png", see(pose_of(5))[0])
    options = {"neighbor_frames": (5,), "allow_missing": official}
    alone = NYUv2(root, **options)[0]
    save(root / f"frames/{TRAIN[0]}/0.png", np.zeros((48, 64, 3), np.uint8))
    np.save(root / f"frames/{TRAIN[0]}/0.npy", np.ones((48, 64), np.float32))
    beside = NYUv2(root, **options)[0]
    torch.testing.assert_close(beside.image, alone.image)
    torch.testing.assert_close(beside.targets["depth"], alone.targets["depth"], equal_nan=True)


def test_frames_with_depth_are_training_images(tmp_path: Path) -> None:
    """As in the paper of the 3D branch: labelled by depth alone, each a pair with the image that it was taken by."""
    root = write(tmp_path / "nyu")
    options = {"neighbor_frames": (5,), "frames_as_samples": True}
    nyu = NYUv2(root, **options)
    names = [f"{TRAIN[0]}/+2", f"{TRAIN[0]}/+5", f"{TRAIN[0]}/-2"]  # those of other images have no depth
    assert nyu.keys == [*TRAIN, *names]
    frame = nyu[4]
    assert frame.key == names[1]
    torch.testing.assert_close(frame.camera.pose, torch.from_numpy(pose_of(5)).float(), rtol=0, atol=1e-5)
    torch.testing.assert_close(frame.targets["depth"][0], torch.from_numpy(see(pose_of(5))[1]))
    assert all(not valid_pixels(frame.targets[name]).any() for name in ("semseg", "normals", "boundary"))
    assert [view.key for view in frame.neighbors] == [TRAIN[0]]
    assert bool(nyu[3].neighbors[0].image.isnan().all())  # neither 7 nor -3 is there
    assert NYUv2(root, **options, split="val").keys == list(HELD_OUT)
    assert NYUv2(root, **options, split="test").keys == list(TEST)
    assert nyu.fingerprint()["labels"] == {"semseg": 3, "depth": 6, "normals": 3, "boundary": 3}
    for path in root.glob("frames/*/*.npy"):
        path.unlink()
    with pytest.raises(DataError, match=r"no frame around an image of split 'train' of nyuv2 has depth; .*OFFSET.npy"):
        NYUv2(root, **options)


def test_reprojection_says_which_way_poses_point(tmp_path: Path) -> None:
    root = write(tmp_path / "nyu", poses="inverse")
    with pytest.raises(DataError, match=r"point the other way: .* error of 0\.\d+, by their inverses") as caught:
        NYUv2(root, neighbor_frames=(5,))
    assert "\n" not in str(caught.value)
    turned = NYUv2(root, neighbor_frames=(5,), pose_direction="world-to-camera")
    torch.testing.assert_close(turned[0].camera.pose, torch.from_numpy(pose_of(0)).float(), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="unknown pose_direction 'to-world'"):
        NYUv2(root, neighbor_frames=(5,), pose_direction="to-world")


def singular(folder: Path) -> None:
    (folder / "5.txt").write_text(" ".join(["0"] * 15 + ["1"]))


def short(folder: Path) -> None:
    (folder / "5.txt").write_text("1 2 3")


def twice(folder: Path) -> None:
    write_colmap(folder / "images.txt", {"5.png": 5})


def colmap_cameras(folder: Path) -> None:
    (folder / "5.txt").unlink()
    (folder / "images.txt").write_text("1 PINHOLE 640 480 500 500 320 240\n")


def long_quaternion(folder: Path) -> None:
    (folder / "5.txt").unlink()
    (folder / "images.txt").write_text("1 2 0 0 0 0 0 0 1 5.png\n\n")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (singular, r"pose file .*5.txt: the pose of sample '5' is no rigid motion"),
        (short, r"5.txt holds 3 numbers; expected a 4x4 matrix"),
        (twice, r"both have a pose of 0003/\+5; keep one"),
        (colmap_cameras, r"line 1 of .*images.txt is no image of COLMAP's"),
        (long_quaternion, r"quaternion of 5.png has length 2; expected 1"),
    ],
)
def test_poses_that_cannot_be_are_named(tmp_path: Path, spoil, told: str) -> None:
    root = write(tmp_path / "nyu")
    spoil(root / "frames" / TRAIN[0])
    with pytest.raises(DataError, match=told) as caught:
        NYUv2(root, neighbor_frames=(5,))
    assert "\n" not in str(caught.value)


def test_frames_beside_the_official_file(tmp_path: Path) -> None:
    """Its own images have no depth of the frame's room here: only what is read is compared."""
    root = write_official(tmp_path / "nyu")
    folder = root / "frames" / TRAIN[0]
    picture, depth = see(pose_of(5))
    save(folder / "5.png", picture)
    np.save(folder / "5.npy", depth)
    view = NYUv2(root, neighbor_frames=(5,), allow_missing=True)[0].neighbors[0]
    assert view.camera.pose is None
    torch.testing.assert_close(view.image, torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
    torch.testing.assert_close(view.targets["depth"][0], torch.from_numpy(depth))
    assert view.targets["normals"].isfinite().any()
    assert bool(view.targets["boundary"].isnan().all())


def test_cropped_archives_crop_the_frames(tmp_path: Path) -> None:
    root = tmp_path / "nyu"
    write_folders(root, "NYUD_MT")
    for folder, suffix in (("images", "jpg"), ("segmentation", "png"), ("depth", "npy"), ("normals", "npy")):
        for path in (root / folder).glob(f"*.{suffix}"):
            array = np.load(path) if suffix == "npy" else np.asarray(Image.open(path))
            rows, columns = np.arange(425) * SIZE[0] // 425, np.arange(560) * SIZE[1] // 560
            large = array[rows][:, columns]
            np.save(path, large) if suffix == "npy" else Image.fromarray(large).save(path)
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    save(root / f"frames/{TEST[0]}/3.png", frame)
    nyu = NYUv2(root, split="test", tasks=("semseg", "depth"), neighbor_frames=(3,))
    view = nyu[nyu.keys.index(TEST[0])].neighbors[0]
    torch.testing.assert_close(view.image, torch.from_numpy(frame[45:470, 40:600]).permute(2, 0, 1) / 255)
    assert view.targets["depth"].shape == (1, 425, 560)
    save(root / f"frames/{TRAIN[0]}/3.png", frame)
    np.save(root / f"frames/{TRAIN[0]}/3.npy", frame[..., 0] / 25)
    sample = NYUv2(root, tasks=("semseg", "depth"), frames_as_samples=True)[3]
    assert sample.targets["depth"].shape[-2:] == sample.targets["semseg"].shape == sample.image.shape[1:] == (425, 560)
    save(root / f"frames/{TEST[0]}/3.png", frame[:400])
    with pytest.raises(DataError, match="is 400x640, its image 425x560"):
        nyu[nyu.keys.index(TEST[0])]


@pytest.mark.parametrize("name", ["nyuv2-cvm", "nyuv2-invpt-cross-view-3d"])
def test_the_recipes_learn_from_them(tmp_path: Path, name: str) -> None:
    """Their data options and what stands beside a small network."""
    root = write(tmp_path / "nyu")
    recipe = RECIPES[name]
    data = replace(recipe.data, root=str(root), train_split="train")
    matcher = {"width": 8, "layers": 2, "heads": 2, "planes": 8} if recipe.model.matches_views else {}
    branch = {"width": 8, "plane_channels": 4, "hidden": 4, "num_samples": 4, "route": "recomputed"}
    recipe = replace(
        recipe,
        data=data,
        model=replace(
            recipe.model,
            backbone="resnet18_half",
            decoder="fcn",
            weights="",
            backbone_options={},
            decoder_options={"width": 8},
            cross_view_options=matcher,
        ),
        regularizer=replace(recipe.regularizer, options=branch if recipe.regularizer.used else {}),
    )
    dataset = assemble.build_training_set(recipe)
    tasks, auxiliary = assemble.build_tasks(recipe, dataset)
    model = assemble.build_model(recipe, tasks, auxiliary)
    objective = Objective(model, regularizer=assemble.build_regularizer(recipe, model))
    losses = objective(collate([dataset[i] for i in range(2)]))
    total = torch.stack(list(losses.tasks.values())).sum()
    total.backward()
    assert total.isfinite()
    assert losses.labelled["depth"] == (3 if recipe.model.matches_views else 2)  # one neighbor has depth
