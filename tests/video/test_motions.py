"""Where motions come from: alignment that no network has to learn, poses of the dataset, and what is missing."""

from dataclasses import replace

import pytest
import torch

from triptych.datasets.rooms import Rooms
from triptych.rendering.poses import relative_pose
from triptych.tasks import depth
from triptych.types import Camera, Output, Sample, collate
from triptych.video.monodepth2 import Monodepth2
from triptych.video.motions import MOTIONS
from triptych.video.views import Views

SIZE = (64, 80)
OPTIONS = {"scenes": 1, "views": 2, "path_length": 6, "size": SIZE, "neighbor_frames": (-3, 3), "progress": False}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    rooms = Rooms(tmp_path_factory.mktemp("rooms"), workers=1, **OPTIONS)
    return collate([rooms[index] for index in (0, 4, 6, 11)])


def build(poses: str, **options) -> Monodepth2:
    tasks = {"depth": depth(loss="log-l1")}
    return Monodepth2(tasks, intermediate_tasks=tasks, poses=poses, pose_backbone="resnet18_half", **options)


def loss(video: Monodepth2, sample: Sample, metres: torch.Tensor) -> float:
    return video(Output({"depth": metres.log()}, [], []), sample).loss.item()


def true_motions(sample: Sample) -> torch.Tensor:
    return torch.stack([relative_pose(view.camera.pose, sample.camera.pose) for view in sample.neighbors])


def test_known_motions_are_those_of_the_poses(sample: Sample) -> None:
    views = Views(sample)
    torch.testing.assert_close(MOTIONS["known"]("", "")(views, sample.targets["depth"]), true_motions(sample))


def test_aligned_motions_are_nearly_true(sample: Sample) -> None:
    """Of both neighbors, before and after the frame."""
    found = MOTIONS["alignment"]("", "")(Views(sample), sample.targets["depth"])
    true = true_motions(sample)
    assert (found - true)[..., :3, 3].norm(dim=-1).median() < 0.15 * true[..., :3, 3].norm(dim=-1).median()


@pytest.mark.parametrize("poses", ["known", "alignment"])
def test_true_depth_has_a_smaller_loss_than_others(sample: Sample, poses: str) -> None:
    """Aligned motions make the best of a wrong depth; it is still worse."""
    video, true = build(poses, smoothness=0.0), sample.targets["depth"]
    wrong = (true.mean().expand_as(true), true.flip(2), true.flip(3))
    assert loss(video, sample, true) < 0.9 * min(loss(video, sample, metres) for metres in wrong)


def test_alignment_knows_no_scale_and_poses_do(sample: Sample) -> None:
    true = sample.targets["depth"]
    one, three = (loss(build("alignment", smoothness=0.0), sample, scale * true) for scale in (1, 3))
    assert three == pytest.approx(one, rel=0.02)
    one, three = (loss(build("known", smoothness=0.0), sample, scale * true) for scale in (1, 3))
    assert three > 1.3 * one


@pytest.mark.parametrize("poses", ["known", "alignment"])
def test_depth_alone_has_gradients(sample: Sample, poses: str) -> None:
    video, raw = build(poses), torch.zeros(4, 1, *SIZE, requires_grad=True)
    video(Output({"depth": raw}, [], []), sample).loss.backward()
    assert not list(video.parameters())
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("poses", ["known", "alignment"])
def test_a_missing_neighbor_changes_nothing_for_the_others(sample: Sample, poses: str) -> None:
    video, metres = build(poses), sample.targets["depth"]
    first, *others = sample.neighbors
    nothing = Camera(torch.full((4, 3, 3), torch.nan), torch.full((4, 4, 4), torch.nan))
    gone = replace(first, image=torch.full_like(first.image, torch.nan), camera=nothing)
    motions = video.pose(Views(replace(sample, neighbors=(gone, *others))), metres)
    assert motions.isfinite().all()
    torch.testing.assert_close(motions[1], video.pose(Views(sample), metres)[1])


def test_raises_for_poses_that_are_missing_or_wrong(sample: Sample) -> None:
    video, metres = build("known"), sample.targets["depth"]
    blind = replace(sample, camera=Camera(sample.camera.intrinsics))
    with pytest.raises(ValueError, match=r"poses of sample 'train/00000/00/000' .* 'poses' alignment or network"):
        loss(video, blind, metres)
    stretched = replace(sample, camera=Camera(sample.camera.intrinsics, 2 * sample.camera.pose))
    with pytest.raises(ValueError, match="pose of sample 'train/00000/00/000' is no rigid motion"):
        loss(video, stretched, metres)
    with pytest.raises(ValueError, match=r"unknown poses of video 'align'; did you mean 'alignment'\?"):
        build("align")
