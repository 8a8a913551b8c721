"""Self-supervision of depth: what is right has the smallest loss, what cannot be used is counted, every kind of depth
gets a gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from triptych.augmentation.steps import Chain, Pad, image_pixels, mark_inside
from triptych.backbones import create_backbone
from triptych.data.base import missing_view
from triptych.datasets.rooms import Rooms
from triptych.losses import depth as depth_losses
from triptych.tasks import depth, depth_bins, semseg
from triptych.types import Camera, Output, Sample, collate
from triptych.video import VIDEO
from triptych.video.monodepth2 import Monodepth2, keep_inside
from triptych.video.motions import PoseNetwork
from triptych.video.views import Views

SIZE = (64, 80)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    return Rooms(
        tmp_path_factory.mktemp("rooms"),
        scenes=2,
        views=1,
        path_length=4,
        size=SIZE,
        neighbor_frames=(-2, 2),
        progress=False,
        workers=1,
    )


def build(task: str = "depth", loss: str = "log-l1", **options) -> Monodepth2:
    tasks = {"semseg": semseg(3), "depth": depth(loss=loss)}
    torch.manual_seed(1)
    return Monodepth2(tasks, intermediate_tasks=tasks, task=task, pose_backbone="resnet18_half", **options)


def output(*raw: Tensor) -> Output:
    """The last map is final."""
    return Output({"depth": raw[-1]}, [{"depth": x} for x in raw[:-1]], [])


def batch(rooms: Rooms, *indices: int) -> Sample:
    return collate([rooms[index] for index in indices])


# The pose network


def test_pose_network_has_the_published_size() -> None:
    network = PoseNetwork()
    count = sum(parameter.numel() for parameter in network.parameters())
    head = sum(parameter.numel() for parameter in network.head.parameters())
    assert (count, head) == (12_500_492, 1_314_572)


@pytest.mark.parametrize("trunk", ["resnet18_half", "resnet18d"])
def test_first_convolution_sees_two_equal_images_as_one(trunk: str) -> None:
    """A deep stem has three of them."""
    torch.manual_seed(3)
    before = create_backbone(trunk).eval().body.conv1
    torch.manual_seed(3)
    after = PoseNetwork(trunk).eval().body.conv1
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(after(torch.cat([x, x], dim=1)), before(x), rtol=1e-4, atol=1e-5)


def test_raises_for_a_backbone_that_is_no_resnet() -> None:
    with pytest.raises(ValueError, match="'vit_tiny_patch16_384', which is no ResNet"):
        PoseNetwork("vit_tiny_patch16_384")


def test_pairs_are_in_the_order_of_time_and_motions_run_from_the_frame(rooms: Rooms) -> None:
    sample = batch(rooms, 0, 2)  # offsets: (2, 2) at the beginning of a path, (-2, -2) at its end
    views = Views(sample)
    assert views.earlier.tolist() == [[False, True], [False, True]]
    first, second = views.pairs
    torch.testing.assert_close(first[0], sample.image[0])
    torch.testing.assert_close(second[0], sample.neighbors[0].image[0])
    torch.testing.assert_close(first[1], sample.neighbors[0].image[1])
    torch.testing.assert_close(second[1], sample.image[1])
    shift = torch.tensor([[1.0, 2.0, 3.0]]).expand(4, 3)
    motions = views.motions(torch.zeros(4, 3), shift)
    torch.testing.assert_close(motions[0, :, :3, 3], torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]))


# The loss


def test_true_depth_has_the_smallest_loss(rooms: Rooms) -> None:
    sample = batch(rooms, 0, 5)
    video, true = build(smoothness=0.0, poses="known"), sample.targets["depth"]
    right, *wrong = (
        video(output((scale * shape).log()), sample).loss.item()
        for scale, shape in ((1, true), (0.7, true), (1.4, true), (1, true.mean().expand_as(true)), (1, true.flip(2)))
    )
    assert right < 0.85 * min(wrong)


def test_padding_is_no_part_of_what_is_learnt(rooms: Rooms) -> None:
    """Neither of the loss nor of what stands still, with and without automasking; depth there has no gradient."""
    steps = Chain((mark_inside, Pad({"depth": depth()}, (96, 112))))
    whole = [rooms[index] for index in (1, 2)]
    padded = collate([steps(sample, np.random.default_rng(0)) for sample in whole])
    inside = image_pixels(padded)
    assert 0.4 < inside.float().mean() < 0.6
    for automask in (True, False):
        terms, gradients = [], []
        for sample in (collate(whole), padded):
            raw = sample.targets["depth"].log().nan_to_num(5.0).requires_grad_()  # far away
            terms.append(build(automask=automask, poses="known", scales=1)(output(raw), sample))
            gradients.append(torch.autograd.grad(terms[-1].loss, raw)[0])
        assert terms[1].loss.item() == pytest.approx(terms[0].loss.item(), rel=0.1)
        assert terms[1].static.item() == pytest.approx(terms[0].static.item(), abs=0.05)
        assert not gradients[1][~inside].any()
        assert gradients[1][inside].any()


def test_half_precision_moves_no_camera(rooms: Rooms) -> None:
    views = Views(batch(rooms, 0, 2))
    numbers = torch.rand(2, 4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = views.motions(*numbers)
    torch.testing.assert_close(found, views.motions(*numbers), rtol=0, atol=0)


def test_loss_is_the_mean_over_scales(rooms: Rooms) -> None:
    sample, video = batch(rooms, 0, 5), build().eval()
    torch.manual_seed(4)
    raw = [torch.randn(2, 1, *SIZE) * 0.3 for _ in range(3)]
    single = [video(output(x), sample).loss for x in raw]
    smooth = [build(smoothness=0.0).eval()(output(x), sample).loss for x in raw]
    video_2 = build(scales=2).eval()
    # With one scale smoothness counts fully, with more half of it at each further one, on a coarser grid.
    torch.testing.assert_close(video_2(output(raw[0]), sample).loss, single[0])
    both = build(smoothness=0.0).eval()(output(*raw), sample).loss
    torch.testing.assert_close(both, torch.stack(smooth).mean())
    two = build(smoothness=0.0, scales=2).eval()(output(*raw), sample).loss
    torch.testing.assert_close(two, torch.stack(smooth[1:]).mean())


@pytest.mark.parametrize("name", [name for name in depth_losses.DEPTH if name != "l1-rectified"])
def test_every_kind_of_depth_gets_a_gradient_from_the_start(rooms: Rooms, name: str) -> None:
    """Also where decoding clamps: a raw map of zeros is no depth in metres, and infinity in inverse depth."""
    sample, video = batch(rooms, 0, 5), build(loss=name)
    raw = torch.zeros(2, 1, *SIZE, requires_grad=True)
    terms = video(output(raw), sample)
    terms.loss.backward()
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in video.parameters())
    assert max(p.grad.abs().max() for p in video.parameters()) > 0


@pytest.mark.parametrize("name", ["l1", "berhu-inverse"])
def test_predictions_outside_the_bounds_come_back(rooms: Rooms, name: str) -> None:
    video, sample = build(loss=name, near=0.5, far=8.0), batch(rooms, 0)
    raw = torch.zeros(1, 1, *SIZE, requires_grad=True)
    optimizer = torch.optim.SGD([raw], lr=2e4)
    for _ in range(12):
        optimizer.zero_grad()
        video(output(raw), sample).loss.backward()
        optimizer.step()
    metres = video.final.decode(raw.detach())
    inside = (metres > 0.49) & (metres < 8.01)
    assert inside.float().mean() > 0.9


@pytest.mark.parametrize("name", depth_losses.OVER_ALL_PIXELS)
def test_pixels_outside_count_once_whatever_the_loss_averages_over(name: str) -> None:
    raw, bounds = torch.linspace(0.0, 100.0, 40).view(1, 1, 5, 8), (0.5, 30.0)  # some are farther

    def pull(loss: str) -> Tensor:
        task = depth(loss=loss)
        return keep_inside(task, raw, task.decode(raw).clamp(*bounds), torch.ones_like(raw, dtype=torch.bool))

    assert pull(name) > 0
    torch.testing.assert_close(pull(name), pull("berhu-inverse"))


def test_intermediate_maps_may_be_depth_as_a_class(rooms: Rooms) -> None:
    tasks = {"depth": depth(loss="log-l1")}
    video = Monodepth2(tasks, intermediate_tasks={"depth": depth_bins(bins=5)}, pose_backbone="resnet18_half")
    bins = torch.randn(1, 5, *SIZE, requires_grad=True)
    video(Output({"depth": torch.zeros(1, 1, *SIZE)}, [{"depth": bins}], []), batch(rooms, 0)).loss.backward()
    assert bins.grad.abs().max() > 0


# Bad input


def test_a_standing_camera_teaches_nothing_and_says_so(rooms: Rooms) -> None:
    sample = batch(rooms, 0, 5)
    still = replace(sample, neighbors=tuple(replace(view, image=sample.image) for view in sample.neighbors))
    raw = torch.zeros(2, 1, *SIZE, requires_grad=True)
    terms = build(smoothness=0.0)(output(raw), still)
    terms.loss.backward()
    assert terms.static.item() == 1
    assert terms.loss.item() == 0
    assert raw.grad.abs().max() == 0
    assert build()(output(raw), sample).static.item() < 0.8


def without(sample: Sample, *, neighbors: bool = False, intrinsics: bool = False) -> Sample:
    if neighbors:
        views = (replace(missing_view(sample, 1), targets=view.targets) for view in sample.neighbors)
        sample = replace(sample, neighbors=tuple(views))
    if intrinsics:
        sample = replace(sample, camera=Camera(torch.full((3, 3), torch.nan), sample.camera.pose))
    return sample


def test_samples_that_cannot_be_used_are_skipped_and_counted(rooms: Rooms) -> None:
    """The others have the loss and the gradient that they have alone."""
    video = build().eval()
    bad = [without(rooms[1], neighbors=True), without(rooms[2], intrinsics=True), without(rooms[3], neighbors=True)]
    raw = torch.zeros(4, 1, *SIZE, requires_grad=True)
    terms = video(output(raw), collate([rooms[0], *bad]))
    assert terms.images.item() == 1
    assert terms.skipped.tolist() == [2.0, 1.0]
    terms.loss.backward()
    alone = torch.zeros(1, 1, *SIZE, requires_grad=True)
    expected = video(output(alone), batch(rooms, 0))
    expected.loss.backward()
    torch.testing.assert_close(terms.loss, expected.loss)
    torch.testing.assert_close(terms.static, expected.static)
    torch.testing.assert_close(raw.grad[:1], alone.grad)
    assert raw.grad[1:].abs().max() == 0


def test_one_missing_neighbor_leaves_the_other(rooms: Rooms) -> None:
    video, raw = build().eval(), torch.zeros(1, 1, *SIZE)
    sample = rooms[1]
    gone = replace(missing_view(sample, -2), targets=sample.targets)
    terms = video(output(raw), collate([replace(sample, neighbors=(gone, sample.neighbors[1]))]))
    only = video(output(raw), collate([replace(sample, neighbors=sample.neighbors[1:])]))
    assert terms.images.item() == 1
    torch.testing.assert_close(terms.loss, only.loss)


def test_a_batch_without_anything_usable_is_zero_with_zero_gradient(rooms: Rooms) -> None:
    video, raw = build(), torch.zeros(1, 1, *SIZE, requires_grad=True)
    terms = video(output(raw), collate([without(rooms[0], neighbors=True)]))
    terms.loss.backward()
    assert (terms.loss.item(), terms.images.item(), raw.grad.abs().max().item()) == (0, 0, 0)
    assert all(p.grad is None or not p.grad.any() for p in video.parameters())


def test_raises_for_a_dataset_without_videos_or_cameras(rooms: Rooms) -> None:
    video, sample = build(), batch(rooms, 0)
    with pytest.raises(ValueError, match=r"sample 'train/00000/00/000' has no neighboring frames; .*neighbor_frames"):
        video(output(torch.zeros(1, 1, *SIZE)), replace(sample, neighbors=()))
    with pytest.raises(ValueError, match=r"intrinsics of sample .* not known.*\[camera\]"):
        video(output(torch.zeros(1, 1, *SIZE)), replace(sample, camera=None))


def test_raises_for_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"near is 2\.0 and far 1\.0"):
        build(near=2.0, far=1.0)
    with pytest.raises(ValueError, match="task 'semseg' is not decoded to metres"):
        build(task="semseg")
    with pytest.raises(ValueError, match=r"unknown task in video\.task 'normals'"):
        build(task="normals")
    with pytest.raises(ValueError, match=r"no gradient at negative values.*'disparity' or 'log-l1'"):
        build(loss="l1-rectified")
    assert set(VIDEO) == {"monodepth2"}
