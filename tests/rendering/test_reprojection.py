"""View synthesis: against a loop in float64, finite differences, and generated rooms with true depth and pose."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triptych.datasets.rooms import Rooms
from triptych.rendering.poses import find_common_pixels, relative_pose
from triptych.rendering.reprojection import (
    backproject,
    invert_motion,
    move_points,
    project,
    rigid_motion,
    rotation_from_axis_angle,
    warp,
)

SIZE = (6, 7)
K = torch.tensor([[[6.0, 0.0, 3.3], [0.0, 5.0, 2.8], [0.0, 0.0, 1.0]]], dtype=torch.float64)
OTHER_K = torch.tensor([[[5.5, 0.0, 3.6], [0.0, 5.8, 3.1], [0.0, 0.0, 1.0]]], dtype=torch.float64)


def scene(seed: int, views: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """An image, depth and a motion, in float64."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    motion = rigid_motion(0.2 * (draw(views, 3) - 0.5), 0.8 * (draw(views, 3) - 0.5))
    return draw(views, 2, *SIZE), 1 + 3 * draw(views, 1, *SIZE), motion


def bilinear(plane: np.ndarray, x: float, y: float) -> float:
    """Between the four nearest pixel centres, which lie at integer + 0.5; the rim goes on for ever."""
    height, width = plane.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    upper = (1 - a) * plane[top, left] + a * plane[top, left + 1]
    lower = (1 - a) * plane[top + 1, left] + a * plane[top + 1, left + 1]
    return float((1 - b) * upper + b * lower)


@settings(max_examples=8)
@given(st.integers(0, 1000))
def test_warping_equals_a_loop_over_pixels(seed: int) -> None:
    image, depth, motion = scene(seed)
    warped = warp(image, depth, K, OTHER_K, motion)
    inverse, matrix = np.linalg.inv(K[0].numpy()), OTHER_K[0].numpy()
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            point = depth[0, 0, row, column].item() * inverse @ [column + 0.5, row + 0.5, 1.0]
            point = motion[0].numpy() @ [*point, 1.0]
            x, y, w = matrix @ point[:3]
            expected = [bilinear(plane.numpy(), x / w, y / w) for plane in image[0]]
            np.testing.assert_allclose(warped.image[0, :, row, column], expected, atol=1e-9)
            inside = w > 0 and 0 <= x / w <= SIZE[1] and 0 <= y / w <= SIZE[0]
            assert bool(warped.in_view[0, 0, row, column]) == inside


def test_gradients_equal_finite_differences() -> None:
    image, depth, _ = scene(3, views=2)
    vectors = torch.tensor([[0.02, -0.03, 0.01], [0.0, 0.0, 0.0]], dtype=torch.float64)
    shift = torch.tensor([[0.1, 0.05, -0.2], [0.07, -0.03, 0.04]], dtype=torch.float64)

    def synthesise(image: Tensor, depth: Tensor, vectors: Tensor, shift: Tensor) -> Tensor:
        return warp(image, depth, K.expand(2, 3, 3), OTHER_K.expand(2, 3, 3), rigid_motion(vectors, shift)).image

    inputs = [x.requires_grad_() for x in (image, depth, vectors, shift)]
    assert torch.autograd.gradcheck(synthesise, inputs, eps=1e-7, atol=1e-5)


def test_nothing_moves_without_motion() -> None:
    image, depth, _ = scene(1)
    warped = warp(image, depth, K, K, torch.eye(4, dtype=torch.float64)[None])
    torch.testing.assert_close(warped.image, image)
    assert warped.in_view.all()


def test_points_behind_the_camera_are_not_in_view_and_stay_finite() -> None:
    image, depth, _ = scene(2)
    back = rigid_motion(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -2.5]])).double()
    depth = depth.requires_grad_()
    warped = warp(image, depth, K, K, back)
    assert not warped.in_view[depth < 2.5].any()
    warped.image.sum().backward()
    assert depth.grad is not None
    assert depth.grad.isfinite().all()


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_projection_takes_back_what_lifting_did(seed: int) -> None:
    _, depth, motion = scene(seed)
    pixels, z = project(backproject(depth, K), K)
    torch.testing.assert_close(z, depth[:, 0])
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in SIZE), indexing="ij")
    torch.testing.assert_close(pixels[0], torch.stack([columns, rows], dim=-1))
    points = backproject(depth, K)
    torch.testing.assert_close(move_points(move_points(points, motion), invert_motion(motion)), points)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_rotations_are_those_of_rodrigues(seed: int) -> None:
    vector = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    angle = vector.norm().item()
    x, y, z = (vector / angle).tolist()
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    expected = np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew
    np.testing.assert_allclose(rotation_from_axis_angle(vector[None])[0], expected, atol=1e-12)


# Generated rooms: frames of 96 x 128, point-sampled and noisy, 0.04 to 0.08 m apart

COLOUR_ERROR = 0.035
"""Largest mean colour error of a synthesised frame where both cameras see the same surface (half of it is noise and
texture finer than a pixel)."""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    return Rooms(
        tmp_path_factory.mktemp("rooms"),
        scenes=4,
        views=1,
        path_length=4,
        size=(96, 128),
        neighbor_frames=(2,),
        progress=False,
        workers=1,
    )


def test_true_depth_and_pose_give_the_neighboring_frame(rooms: Rooms) -> None:
    """Where both see the same surface; much closer than the neighbor itself, or than with a wrong depth."""
    explained = []
    for index in (0, 5, 8, 13):
        sample = rooms[index]
        (view,) = sample.neighbors
        frame, image, depth, other_depth = (
            x[None] for x in (sample.image, view.image, sample.targets["depth"], view.targets["depth"])
        )
        camera, other = sample.camera.intrinsics[None], view.camera.intrinsics[None]
        motion = relative_pose(view.camera.pose[None], sample.camera.pose[None])
        _, common = find_common_pixels(other_depth, depth, other, camera, motion, tolerance=0.05)
        assert common.float().mean() > 0.75
        assert warp(image, depth, camera, other, motion).in_view[:, 0][common].all()
        synthesised = [warp(image, scale * depth, camera, other, motion).image for scale in (1.0, 0.7, 1.4)]
        right, *wrong = ((x - frame).abs().mean(dim=1)[common].mean().item() for x in (*synthesised, image))
        assert right < COLOUR_ERROR
        assert right < 0.8 * min(wrong)
        explained.append(right / wrong[-1])
    assert sum(explained) / len(explained) < 0.5
