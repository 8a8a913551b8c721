"""Every transform moves image, targets, extras and camera together, and nothing else."""

import colorsys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from triptych.augmentation.color import (
    ColorJitter,
    PhotometricDistortion,
    adjust_colors,
    scale_saturation,
    shift_hue,
)
from triptych.augmentation.presets import TRANSFORMS, build_transform
from triptych.augmentation.steps import (
    CenterCrop,
    FitHeight,
    Flip,
    Pad,
    ScaleCrop,
    ScaleRotate,
    Select,
    Stretch,
    ZoomCrop,
    choose,
    uniform,
)
from triptych.augmentation.view import PAD_COLOR, View, affine, apply_view, rotate
from triptych.tasks import TASKS, boundary, depth, human_parts, normals, saliency, semseg
from triptych.types import IGNORE, Camera, Sample, valid_pixels

HEIGHT, WIDTH = 33, 47
ALL = {task.name: task for task in (semseg(5), depth(), normals(), boundary(), saliency(), human_parts())}
GEOMETRY = {
    "flip": Flip(ALL, probability=1.0),
    "crop": ScaleCrop(ALL, (20, 24), partial(uniform, low=0.5, high=2.0)),
    "rotate": ScaleRotate(ALL, partial(uniform, low=0.75, high=1.25), partial(uniform, low=-20.0, high=20.0)),
    "zoom": ZoomCrop(ALL, partial(choose, choices=(1.2, 1.5))),
    "pad": Pad(ALL, (40, 60)),
    "center": CenterCrop(ALL, (20, 30)),
    "stretch": Stretch(ALL, (48, 40)),
    "height": FitHeight(ALL, (20, 10)),
}


def scene(seed: int = 0) -> Sample:
    """Random labels, and a random point on every pixel's ray, given by `depth` and by the extra `points`."""
    random = torch.Generator().manual_seed(seed)
    camera = Camera(torch.tensor([[40.0, 0.0, 21.0], [0.0, 44.0, 17.5], [0.0, 0.0, 1.0]]), torch.eye(4))
    z = torch.rand(1, HEIGHT, WIDTH, generator=random) * 4 + 1
    normal = torch.nn.functional.normalize(torch.randn(3, HEIGHT, WIDTH, generator=random), dim=0)
    targets = {
        "semseg": torch.randint(0, 5, (HEIGHT, WIDTH), generator=random),
        "depth": z,
        "normals": normal,
        "boundary": (torch.rand(1, HEIGHT, WIDTH, generator=random) > 0.8).float(),
        "saliency": torch.randint(0, 2, (HEIGHT, WIDTH), generator=random),
        "human_parts": torch.randint(0, 7, (HEIGHT, WIDTH), generator=random),
    }
    points = torch.from_numpy(rays(camera, HEIGHT, WIDTH)).float() * z
    instances = torch.randint(1, 900, (HEIGHT, WIDTH), generator=random)
    image = torch.rand(3, HEIGHT, WIDTH, generator=random)
    return Sample(image, targets, "scene", camera, {"points": points, "instances": instances, "numbers": torch.ones(2)})


def rays(camera: Camera, height: int, width: int) -> np.ndarray:
    """`(3, height, width)`: K^-1 (u + 0.5, v + 0.5, 1) for every pixel."""
    v, u = np.mgrid[:height, :width] + 0.5
    return np.einsum(
        "ij,jhw->ihw", np.linalg.inv(camera.intrinsics.double().numpy()), np.stack([u, v, np.ones_like(u)])
    )


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(a: Sample, b: Sample) -> None:
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=0)
    assert list(a.targets) == list(b.targets)
    for name, target in a.targets.items():
        torch.testing.assert_close(target, b.targets[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("seed", range(4))
def test_depth_normals_and_intrinsics_describe_one_scene(name: str, seed: int) -> None:
    """The point of a pixel, rebuilt from the new depth and intrinsics, is the old one seen in a moved frame: its length
    is the old one over the zoom, and so is its component along the normal, within the half pixel of nearest labels."""
    before = scene(seed)
    after = GEOMETRY[name](before, draw(seed))
    valid = valid_pixels(after.targets["depth"])[0].numpy()
    assert valid.mean() > 0.4
    source = after.extras["points"].double().numpy()
    zoom = source[2] / after.targets["depth"][0].double().numpy()
    assert np.allclose(zoom[valid], zoom[valid][0])
    zoom = zoom[valid][0]
    points = rays(after.camera, *after.image.shape[1:]) * after.targets["depth"].double().numpy()
    half_pixel = 0.5 * np.sqrt(2) / min(40, 44) / min(1, *_scales(before, after)) * 1.5
    tolerance = half_pixel * source[2][valid] / zoom + 1e-5
    lengths = np.linalg.norm(points, axis=0)[valid], np.linalg.norm(source, axis=0)[valid] / zoom
    assert (np.abs(lengths[0] - lengths[1]) < tolerance).all()
    old_normals = _source_normals(before, after)
    along = (points * after.targets["normals"].double().numpy()).sum(0)[valid], (source * old_normals).sum(0)[valid]
    assert (np.abs(along[0] - along[1] / zoom) < tolerance).all()
    lengths = after.targets["normals"].norm(dim=0)[torch.from_numpy(valid)]
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("seed", range(3))
def test_a_camera_with_square_pixels_stays_upright(name: str, seed: int) -> None:
    """Focal lengths stay positive, and no skew appears: what turns is the scene, not the pixel grid."""
    camera = Camera(torch.tensor([[40.0, 0.0, 21.0], [0.0, 40.0, 17.5], [0.0, 0.0, 1.0]]))
    intrinsics = GEOMETRY[name](replace(scene(), camera=camera), draw(seed)).camera.intrinsics
    assert intrinsics[0, 0] > 0
    assert intrinsics[1, 1] > 0
    below = torch.stack([intrinsics[0, 1], *intrinsics[1:, 0], intrinsics[2, 1]])
    torch.testing.assert_close(below, torch.zeros(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("zoom", [0.5, 1.5])
def test_magnifying_divides_depth_and_multiplies_the_focal_length(zoom: float) -> None:
    """A wall at 3 m seen by 40 pixels of focal length."""
    wall = replace(scene(), targets={"depth": torch.full((1, HEIGHT, WIDTH), 3.0)})
    scale, straight = partial(choose, choices=(zoom,)), partial(choose, choices=(0.0,))
    tasks = {"depth": depth()}
    for step in (ScaleCrop(tasks, (12, 12), scale), ScaleRotate(tasks, scale, straight), ZoomCrop(tasks, scale)):
        if zoom < 1 and isinstance(step, ZoomCrop):
            continue  # it only magnifies
        after = step(wall, draw())
        valid = valid_pixels(after.targets["depth"])
        assert after.targets["depth"][valid].unique().tolist() == pytest.approx([3 / zoom])
        assert after.camera.intrinsics[0, 0] == pytest.approx(40 * zoom)


def _scales(before: Sample, after: Sample) -> tuple[float, float]:
    ratio = after.camera.intrinsics.double()[:2, :2] @ torch.linalg.inv(before.camera.intrinsics.double()[:2, :2])
    return tuple(torch.linalg.svdvals(ratio).tolist())


def _source_normals(before: Sample, after: Sample) -> np.ndarray:
    """The normals of the source pixels that `after` shows, found by their unique points."""
    table = {
        tuple(p): n for p, n in zip(_columns(before.extras["points"]), _columns(before.targets["normals"]), strict=True)
    }
    found = [table.get(tuple(point), (np.nan,) * 3) for point in _columns(after.extras["points"])]
    return np.array(found).T.reshape(3, *after.image.shape[1:])


def _columns(values: torch.Tensor) -> list[list[float]]:
    return values.flatten(1).T.tolist()


@pytest.mark.parametrize("name", GEOMETRY)
def test_labels_come_from_the_pixel_that_is_seen(name: str) -> None:
    """Labels, instances and points move alike, and points project to where they are drawn."""
    before = scene()
    after = GEOMETRY[name](before, draw(3))
    known = {tuple(p): i for i, p in enumerate(_columns(before.extras["points"]))}
    source = [known.get(tuple(p), -1) for p in _columns(after.extras["points"])]
    for label, beyond in (("semseg", IGNORE), ("saliency", IGNORE), ("human_parts", IGNORE)):
        flat = before.targets[label].flatten().tolist()
        assert after.targets[label].flatten().tolist() == [flat[i] if i >= 0 else beyond for i in source]
    flat = before.extras["instances"].flatten().tolist()
    assert after.extras["instances"].flatten().tolist() == [flat[i] if i >= 0 else 0 for i in source]
    edges = before.targets["boundary"].flatten()
    expected = torch.tensor([edges[i] if i >= 0 else torch.nan for i in source]).reshape(
        after.targets["boundary"].shape
    )
    torch.testing.assert_close(after.targets["boundary"], expected, equal_nan=True)
    assert after.extras["numbers"].tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("straight", [True, False])
def test_resampling_equals_a_loop_over_pixels(seed: int, straight: bool) -> None:
    """Nearest and linear resampling against the plainest loop."""
    random = draw(seed)
    scale = random.uniform(0.5, 2)
    if straight:
        matrix = affine(scale=(scale * random.choice([-1, 1]), scale * 1.3), offset=tuple(random.uniform(-5, 30, 2)))
    else:
        matrix = rotate(random.uniform(-1, 1), scale, (23.0, 16.0))
    view = View(matrix, (25, 29))
    before = scene(seed)
    after = apply_view(before, view, {"semseg": ALL["semseg"]}, fill=(0.1, 0.2, 0.3))
    inverse = np.linalg.inv(matrix)
    for i in range(25):
        for j in range(29):
            x, y, _ = inverse @ [j + 0.5, i + 0.5, 1]
            if not (0 <= x < WIDTH and 0 <= y < HEIGHT):
                assert after.targets["semseg"][i, j] == IGNORE
                assert after.image[:, i, j].tolist() == pytest.approx([0.1, 0.2, 0.3])
                continue
            if min(x % 1, y % 1, 1 - x % 1, 1 - y % 1) > 1e-9:
                assert after.targets["semseg"][i, j] == before.targets["semseg"][int(y), int(x)]
            assert after.image[:, i, j].numpy() == pytest.approx(bilinear(before.image.numpy(), x, y), abs=2e-4)


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    x, y = np.clip(x - 0.5, 0, WIDTH - 1), np.clip(y - 0.5, 0, HEIGHT - 1)
    j, i = int(x), int(y)
    a, b = x - j, y - i
    right, below = min(j + 1, WIDTH - 1), min(i + 1, HEIGHT - 1)
    top = (1 - a) * image[:, i, j] + a * image[:, i, right]
    bottom = (1 - a) * image[:, below, j] + a * image[:, below, right]
    return (1 - b) * top + b * bottom


def test_flipping_twice_changes_nothing() -> None:
    flip, before = Flip(ALL, probability=1.0), scene()
    after = flip(flip(before, draw()), draw())
    same(after, Select(ALL)(before, draw()))
    torch.testing.assert_close(after.camera.intrinsics, before.camera.intrinsics)
    torch.testing.assert_close(after.camera.pose, before.camera.pose)
    once = flip(before, draw())
    torch.testing.assert_close(once.targets["normals"][0], -before.targets["normals"][0].flip(-1))
    torch.testing.assert_close(once.targets["normals"][1:], before.targets["normals"][1:].flip(-1))


def test_cropping_and_pasting_back_changes_nothing_inside() -> None:
    before = scene()
    crop = apply_view(before, View(affine(offset=(-7, -4)), (20, 30)), ALL)
    back = apply_view(crop, View(affine(offset=(7, 4)), (HEIGHT, WIDTH)), ALL)
    inside = np.s_[..., 4:24, 7:37]
    torch.testing.assert_close(back.image[inside], before.image[inside], rtol=0, atol=0)
    for name, target in back.targets.items():
        torch.testing.assert_close(target[inside], before.targets[name][inside], rtol=0, atol=0)
        assert int(valid_pixels(target).sum()) == 20 * 30
    torch.testing.assert_close(back.camera.intrinsics, before.camera.intrinsics)


def test_poses_of_two_views_that_move_alike_meet_in_one_world() -> None:
    """A point of the world, seen by two cameras, is one point of the moved world too."""
    angle = torch.tensor(0.4)
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[angle.cos(), 0.0, angle.sin()], [0.0, 1.0, 0.0], [-angle.sin(), 0.0, angle.cos()]])
    pose[:3, 3] = torch.tensor([0.7, -0.2, 0.1])
    point = torch.tensor([0.3, -0.1, 3.0])  # in the frame of the first camera, which is the world's
    second = pose[:3, :3].T @ (point - pose[:3, 3])
    for view in (
        View(affine(scale=(-1, 1), offset=(WIDTH, 0)), (HEIGHT, WIDTH), mirrored=True),
        View(rotate(0.3, 1.5, (20.0, 10.0)), (HEIGHT, WIDTH), zoom=1.5, angle=0.3),
    ):
        world = []
        for seen, camera_pose in ((point, torch.eye(4)), (second, pose)):
            sample = replace(scene(), camera=Camera(scene().camera.intrinsics, camera_pose))
            camera = apply_view(sample, view, {}).camera
            pixel = sample.camera.intrinsics @ seen / seen[2]
            moved = torch.from_numpy(view.matrix).float() @ pixel
            frame = torch.linalg.inv(camera.intrinsics) @ moved * seen[2] / view.zoom
            world.append(camera.pose[:3, :3] @ frame + camera.pose[:3, 3])
            assert torch.linalg.det(camera.pose[:3, :3]) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(world[0], world[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [*GEOMETRY, *(f"preset {name}" for name in TRANSFORMS)])
def test_neighbors_see_the_same_points_of_the_world_after_every_transform(name: str, seed: int) -> None:
    """Two cameras before a tilted plane. Whatever moved, the plane's points that depth and camera of each view name lie
    on one plane of the new world, and a point of the second view seen by the first has the depth that is written there.
    """
    first, second = (plane_view(shift, angle) for shift, angle in (((0, 0, 0), 0.0), ((0.3, -0.1, 0.2), 0.15)))
    sample = replace(first, neighbors=(second,))
    preset = name.removeprefix("preset ")
    size = (28, 40)
    step = GEOMETRY.get(name) or build_transform(preset, size=size, tasks=ALL, train=True)
    moved = step(sample, np.random.default_rng(seed))
    (other,) = moved.neighbors
    assert other.image.shape == moved.image.shape
    assert list(other.targets) == list(moved.targets)
    assert other.targets["semseg"].shape == moved.targets["semseg"].shape
    worlds = [world_points(view) for view in (moved, other)]
    known = [points[np.isfinite(points).all(axis=1)] for points in worlds]
    assert min(map(len, known)) > 100
    centre = known[0].mean(axis=0)
    normal = np.linalg.svd(known[0] - centre)[2][2]
    distance = np.nanmean(moved.targets["depth"].numpy())
    # Nearest neighbor moves a label by up to half a pixel of the source.
    assert np.abs((known[0] - centre) @ normal).max() < 0.015 * distance
    assert np.abs((known[1] - centre) @ normal).max() < 0.015 * distance
    pose, K = (value.double().numpy() for value in (moved.camera.pose, moved.camera.intrinsics))
    seen = (known[1] - pose[:3, 3]) @ pose[:3, :3]
    pixels = (seen / seen[:, 2:]) @ K.T
    height, width = moved.image.shape[-2:]
    column, row = (np.floor(pixels[:, i]).astype(int) for i in (0, 1))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    written = moved.targets["depth"][0].numpy()[row[inside], column[inside]]
    valid = np.isfinite(written)
    assert valid.sum() > 50
    np.testing.assert_allclose(written[valid], seen[inside][valid, 2], rtol=0.04)


def test_neighbors_are_filtered_like_the_image() -> None:
    first, second = plane_view((0, 0, 0), 0.0), plane_view((0.3, 0, 0), 0.1)
    second = replace(second, image=second.image.flip(-1))
    step = Stretch(ALL, (20, 24), mode="bicubic")
    moved = step(replace(first, neighbors=(second,)), draw())
    same(moved.neighbors[0], step(second, draw()))


def plane_view(position: tuple[float, float, float], angle: float) -> Sample:
    """The plane z = 3 + 0.1 x - 0.05 y seen from a position, turned about the y axis."""
    sample = scene(1)
    pose = torch.eye(4, dtype=torch.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    pose[:3, :3] = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    pose[:3, 3] = torch.tensor(position, dtype=torch.float64)
    normal, offset = np.array([-0.1, 0.05, 1.0]), 3.0
    direction = np.einsum("ij,jhw->ihw", pose[:3, :3].numpy(), rays(sample.camera, HEIGHT, WIDTH))
    z = (offset - normal @ pose[:3, 3].numpy()) / np.einsum("i,ihw->hw", normal, direction)
    camera = Camera(sample.camera.intrinsics, pose.float())
    return replace(sample, targets=sample.targets | {"depth": torch.from_numpy(z).float()[None]}, camera=camera)


def world_points(view: Sample) -> np.ndarray:
    """`(N, 3)` points that depth and camera of a view name; NaN where depth is unknown."""
    height, width = view.image.shape[-2:]
    z = view.targets["depth"][0].double().numpy()
    points = (rays(view.camera, height, width) * z).reshape(3, -1).T
    pose = view.camera.pose.double().numpy()
    return points @ pose[:3, :3].T + pose[:3, 3]


def test_a_rotation_turns_the_normal_of_an_edge_with_the_edge() -> None:
    """A wall whose normal points right, its picture turned clockwise by 90 degrees: the normal points down."""
    view = View(rotate(np.pi / 2, 1.0, (WIDTH / 2, WIDTH / 2)), (WIDTH, WIDTH), angle=np.pi / 2)
    normal = torch.zeros(3, WIDTH, WIDTH)
    normal[0] = 1
    image = torch.zeros(3, WIDTH, WIDTH)
    image[:, :, -5:] = 1  # bright on the right, where the normal points
    after = apply_view(Sample(image, {"normals": normal}), view, {"normals": ALL["normals"]})
    assert after.image[0, -3, WIDTH // 2] == pytest.approx(1)
    assert after.targets["normals"][:, 20, 20].tolist() == pytest.approx([0, 1, 0], abs=1e-6)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("native", [(33, 47), (64, 48), (20, 90)])
def test_presets_give_the_size_they_were_asked_for(name: str, native: tuple[int, int]) -> None:
    transform = build_transform(name, size=(32, 48), tasks=ALL, train=True)
    for seed in range(5):
        sample = apply_view(scene(), View(affine(), native), ALL)
        after = transform(sample, draw(seed))
        assert after.image.shape == (3, 32, 48)
        assert after.image.min() >= 0
        assert after.image.max() <= 1
        assert list(after.targets) == list(ALL)
        for task, target in after.targets.items():
            assert target.shape == ALL[task].invalid_target((32, 48)).shape
            assert target.dtype == ALL[task].invalid_target((32, 48)).dtype


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("train", [True, False])
def test_invalid_stays_invalid(name: str, train: bool) -> None:
    """A label without a valid pixel, given as a map or left out, has none afterwards."""
    before = scene()
    hidden = {task: ALL[task].invalid_target((HEIGHT, WIDTH)) for task in ("semseg", "normals", "depth")}
    transform = build_transform(name, size=(32, 48), tasks=ALL, train=train)
    for seed in range(4):
        after = transform(replace(before, targets=hidden), draw(seed))
        assert not any(valid_pixels(target).any() for target in after.targets.values())
        assert list(after.targets) == list(ALL)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_same_generator_gives_the_same_sample(name: str) -> None:
    transform, before = build_transform(name, size=(32, 48), tasks=ALL, train=True), scene()
    copy = replace(before, image=before.image.clone(), targets={k: v.clone() for k, v in before.targets.items()})
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    same(transform(before, draw(5)), transform(before, draw(5)))
    same(before, copy)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]  # noqa: NPY002


def test_presets_that_augment_differ_from_sample_to_sample() -> None:
    for name in set(TRANSFORMS) - {"none"}:
        transform = build_transform(name, size=(32, 48), tasks=ALL, train=True)
        images = [transform(scene(), draw(seed)).image for seed in range(6)]
        assert any(not torch.equal(images[0], image) for image in images[1:]), name


@pytest.mark.parametrize("other", [1, 256, 511])
def test_a_crop_avoids_being_filled_by_one_class(other: int) -> None:
    labels = torch.zeros(60, 60, dtype=torch.int64)
    labels[:, 45:] = other
    sample = Sample(torch.zeros(3, 60, 60), {"semseg": labels})
    one = partial(choose, choices=(1.0,))

    def largest(step: ScaleCrop) -> np.ndarray:
        counts = [step(sample, draw(seed)).targets["semseg"].flatten().bincount(minlength=2) for seed in range(100)]
        return np.array([count.max() / count.sum() for count in counts])

    tasks = {"semseg": semseg(2)}
    assert (largest(ScaleCrop(tasks, (20, 20), one, redraws=0)) >= 0.75).mean() > 0.5
    assert (largest(ScaleCrop(tasks, (20, 20), one, redraws=10)) >= 0.75).mean() < 0.1


def test_crops_are_balanced_by_labels_that_are_no_task() -> None:
    labels = torch.zeros(60, 60, dtype=torch.int64)
    labels[:, 45:] = 1
    sample = Sample(torch.zeros(3, 60, 60), {"semseg": labels, "depth": labels[None].float()})
    step = ScaleCrop({"depth": depth()}, (20, 20), partial(choose, choices=(1.0,)), redraws=50)
    after = [step(sample, draw(seed)) for seed in range(20)]
    assert all(list(sample.targets) == ["depth"] for sample in after)
    assert all(0.25 < sample.targets["depth"].mean() < 0.75 for sample in after)


def test_padding_is_the_mean_colour_and_centred() -> None:
    after = Pad(ALL, (HEIGHT + 4, WIDTH + 6))(scene(), draw())
    assert after.image[:, 0, 0].tolist() == pytest.approx(PAD_COLOR)
    torch.testing.assert_close(after.image[:, 2:-2, 3:-3], scene().image)
    assert not valid_pixels(after.targets["semseg"])[:2].any()


def test_the_survey_quirk_fills_label_maps_with_class_0_and_measures_with_invalid() -> None:
    shrink = partial(choose, choices=(0.5,)), partial(choose, choices=(0.0,))
    after = ScaleRotate(ALL, *shrink, zero_outside=True)(scene(), draw())
    assert after.targets["semseg"][0, 0] == 0
    assert after.targets["boundary"][0, 0, 0] == 0
    assert after.targets["depth"][0, 0, 0].isnan()
    assert after.targets["normals"][:, 0, 0].isnan().all()
    assert ScaleRotate(ALL, *shrink)(scene(), draw()).targets["semseg"][0, 0] == IGNORE
    outside = build_transform("survey-pascal", size=(32, 48), tasks=ALL, train=True, reference_quirks=True)
    assert all(valid_pixels(outside(scene(), draw(seed)).targets["semseg"]).all() for seed in range(5))


def test_stretching_filters_the_image() -> None:
    """Shrunk to a quarter, a line in every fourth column gives a quarter of its brightness, not nothing."""
    lines = (torch.arange(64) % 4 == 3).float()
    after = Stretch({}, (16, 16))(Sample(lines.expand(3, 64, 64), {}), draw())
    torch.testing.assert_close(after.image[..., 1:-1], torch.full((3, 16, 14), 0.25), atol=0.1, rtol=0)


def test_saturation_and_hue_equal_colorsys() -> None:
    image = torch.rand(3, 9, 11)
    image[:, 0] = 0.4  # grey has no hue
    image[:, 1] = 0.0
    for factor, degrees in ((0.5, 30.0), (1.5, -36.0), (2.5, 300.0)):
        saturated, turned = scale_saturation(image, factor), shift_hue(image, degrees)
        for i, j in np.ndindex(9, 11):
            h, s, v = colorsys.rgb_to_hsv(*image[:, i, j].tolist())
            expected = colorsys.hsv_to_rgb(h, min(s * factor, 1.0), v)
            assert saturated[:, i, j].tolist() == pytest.approx(expected, abs=1e-5)
            expected = colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v)
            assert turned[:, i, j].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_one_pass_over_the_pixels_equals_the_steps_one_by_one(seed: int) -> None:
    """The compiled loop against whole planes; grey, black and saturated pixels included."""
    random = draw(seed)
    image = torch.from_numpy(random.random((3, 9, 11), np.float32))
    image[:, 0], image[:, 1], image[0, 2], image[1:, 3] = 0, image[:1, 1], 1, 0
    brightness, hue = random.uniform(-0.3, 0.3), random.uniform(-180, 180)
    before, saturation, after = random.uniform(0.5, 1.5, 3)
    names = ("brightness", "contrast_before", "saturation", "hue", "contrast_after")
    values = (brightness, before, saturation, hue, after)
    chosen = {name: value for name, value in zip(names, values, strict=True) if seed < 2 or random.random() < 0.6}
    expected = adjust_colors(image.double(), **chosen)  # only float32 is compiled
    found = adjust_colors(image, **chosen)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-5)
    if not chosen:
        assert torch.equal(found, image)


@pytest.mark.parametrize("step", [PhotometricDistortion(), ColorJitter(probability=1.0)])
def test_colours_change_and_stay_in_range_while_targets_stay(step: PhotometricDistortion | ColorJitter) -> None:
    before, changes = scene(), 0
    for seed in range(20):
        after = step(before, draw(seed))
        assert after.image.min() >= 0
        assert after.image.max() <= 1
        assert after.targets is before.targets
        changes += not torch.equal(after.image, before.image)
    assert changes >= 17  # 1 in 16 distortions draws nothing


def _chroma(image: np.ndarray) -> float:
    return float(np.ptp(image[:, 0]))


def _hue(image: np.ndarray) -> float:
    return 360 * colorsys.rgb_to_hsv(*image[:, 0])[0]


def _contrast(image: np.ndarray) -> float:
    return float(np.dot((0.299, 0.587, 0.114), image[:, 0] - image[:, 1]))


MEASURES = {
    "shift": lambda after, before: after[0, 1] - before[0, 1],
    "gain": lambda after, before: after[0, 1] / before[0, 1],
    "contrast": lambda after, before: _contrast(after) / _contrast(before),
    "chroma": lambda after, before: _chroma(after) / _chroma(before),
    "hue": lambda after, before: (_hue(after) - _hue(before) + 180) % 360 - 180,
}
"""How a colored pixel beside a grey one changed."""


@pytest.mark.parametrize(
    ("kind", "option", "measure", "low", "high"),
    [
        (PhotometricDistortion, "brightness", "shift", -32 / 255, 32 / 255),
        (PhotometricDistortion, "contrast", "gain", 0.5, 1.5),
        (PhotometricDistortion, "saturation", "chroma", 0.5, 1.5),
        (PhotometricDistortion, "hue", "hue", -36.0, 36.0),
        (ColorJitter, "brightness", "gain", 0.8, 1.2),
        (ColorJitter, "contrast", "contrast", 0.8, 1.2),
        (ColorJitter, "saturation", "chroma", 0.8, 1.2),
        (ColorJitter, "hue", "hue", -36.0, 36.0),
    ],
)
def test_colours_reach_and_keep_their_published_ranges(
    kind: type, option: str, measure: str, low: float, high: float
) -> None:
    """Each alone, and in half of the cases."""
    still = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0.0}
    still |= {"brightness": 0.0} if kind is PhotometricDistortion else {}
    step = kind(**{name: value for name, value in still.items() if name != option})
    before = torch.tensor([[0.3, 0.4], [0.5, 0.4], [0.4, 0.4]])
    after = [step(Sample(before[:, None], {}), draw(seed)).image[:, 0].double().numpy() for seed in range(120)]
    found = np.array([MEASURES[measure](image, before.double().numpy()) for image in after])
    unchanged = 0.5 * (low + high)
    margin = (high - low) / 10
    assert low - 1e-4 <= found.min() < low + margin
    assert high - margin < found.max() <= high + 1e-4
    assert 0.4 < (np.abs(found - unchanged) < 1e-5).mean() < 0.6


def test_mistakes_get_help() -> None:
    with pytest.raises(ValueError, match="did you mean 'densemtl'"):
        build_transform("densmtl", size=(32, 32), tasks=ALL, train=True)
    with pytest.raises(ValueError, match="positive"):
        build_transform("default", size=(0, 32), tasks=ALL, train=True)
    assert set(TASKS) == set(ALL)
