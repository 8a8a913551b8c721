"""Adversarial alignment against the published numbers and by hand."""

import math

import numpy as np
import pytest
import torch
from adaptation.networks import SIZE, TASKS, batch, network, unlabelled, weights
from shared import shared_path
from torch import Tensor

from triptych.adaptation.adversarial import (
    AdversarialAlignment,
    Discriminator,
    alignment_map,
    value_range,
    weighted_self_information,
)
from triptych.losses.depth import encode_inverse_depth
from triptych.losses.pixel import adversarial_bce
from triptych.tasks import boundary, depth, normals, regression, saliency, semseg
from triptych.types import Sample


def build(model, **options) -> AdversarialAlignment:
    options = {"width": 4} | options
    return AdversarialAlignment(model, size=SIZE, weights=weights(), **options).train()


@pytest.mark.parametrize(("channels", "parameters"), [(16, 2778049), (8, 2769857), (1, 2762689), (3, 2764737)])
def test_discriminators_have_the_published_size(channels: int, parameters: int) -> None:
    discriminator = Discriminator(channels)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == parameters
    with torch.no_grad():
        assert discriminator(torch.zeros(1, channels, 256, 512)).shape == (1, 1, 8, 16)


def test_every_convolution_has_spectral_norm_one() -> None:
    """After enough power iterations the largest singular value of each weight, as a matrix of its filters, is 1."""
    discriminator = Discriminator(3, width=4).train()
    with torch.no_grad():
        for _ in range(60):
            discriminator(torch.rand(1, 3, 32, 32))
    for layer in list(discriminator)[::2]:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-2)
    assert all(layer.negative_slope == 0.2 for layer in list(discriminator)[1::2])


def test_self_information_is_the_published_one() -> None:
    arrays = np.load(shared_path("golden/losses_densemtl.npz"))
    ours = weighted_self_information(torch.tensor(arrays["in/semseg_scale0"])).numpy()
    np.testing.assert_allclose(ours, arrays["out/self_information"], rtol=1e-5, atol=1e-7)


def test_self_information_of_a_numpy_twin_and_its_limits() -> None:
    raw = torch.tensor([[[[2.0, 500.0]], [[-1.0, 0.0]], [[0.5, 0.0]]]])
    exponent = np.exp(raw[0, :, 0, 0].numpy().astype(np.float64))
    p = exponent / exponent.sum()
    np.testing.assert_allclose(weighted_self_information(raw)[0, :, 0, 0], -p * np.log2(p) / np.log2(3), rtol=1e-5)
    assert weighted_self_information(raw)[0, :, 0, 1].abs().max() < 1e-6  # sure: no information, and no NaN
    one, two = torch.tensor([[[[1.5]]]]), torch.tensor([[[[0.0]], [[1.5]]]])
    torch.testing.assert_close(weighted_self_information(one), weighted_self_information(two))


def test_the_gradient_of_a_sure_prediction_is_finite() -> None:
    raw = torch.tensor([[[[300.0]], [[0.0]], [[-300.0]]]], requires_grad=True)
    weighted_self_information(raw).sum().backward()
    assert raw.grad.isfinite().all()


def test_depth_is_scaled_by_the_range_of_the_labels_in_the_units_of_the_network() -> None:
    task = depth(loss="berhu-inverse")
    label = torch.tensor([[[[2.0, 5.0, torch.nan, 20.0]]]])
    low, high = value_range(task, label, torch.zeros_like(label))
    assert low.item() == pytest.approx(encode_inverse_depth(torch.tensor(20.0)).item())
    assert high.item() == pytest.approx(encode_inverse_depth(torch.tensor(2.0)).item())
    raw = torch.tensor([[[[-7.0, 1000.0]]]])
    scaled = alignment_map(task, raw, (low, high)).flatten().tolist()
    assert scaled[0] == pytest.approx(-low.item() / (high - low).item(), rel=1e-5)  # rectified, then shifted
    assert scaled[1] == pytest.approx((1000 - low.item()) / (high - low).item(), rel=1e-5)  # not clamped above


def test_logarithms_keep_negative_values_down_to_the_smallest_label() -> None:
    task = depth(loss="log-l1")
    label = torch.tensor([[[[0.5, 8.0, 0.0]]]])  # a depth of 0 is no label of a logarithm
    span = value_range(task, label, torch.zeros_like(label))
    assert [value.item() for value in span] == pytest.approx([math.log(0.5), math.log(8)])
    scaled = alignment_map(task, torch.tensor([[[[math.log(0.5), math.log(2), -9.0]]]]), span).flatten().tolist()
    assert scaled == pytest.approx([0.0, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("loss", ["l1", "log-l1", "disparity"])
def test_without_a_depth_label_the_range_is_that_of_the_sources_predictions(loss: str) -> None:
    """In whatever units: no value of the source is cut, and those of the target are seen beside them."""
    task, raw = depth(loss=loss), torch.tensor([[[[-3.0, -1.0, 1.0]]]])
    span = value_range(task, torch.full((1, 1, 1, 3), torch.nan), raw)
    assert alignment_map(task, raw, span).flatten().tolist() == [0.0, 0.5, 1.0]
    assert alignment_map(task, raw + 1, span).flatten().tolist() == [0.25, 0.75, 1.25]


def test_normals_are_seen_as_unit_vectors_and_single_logits_as_two_classes() -> None:
    raw = torch.tensor([3.0, 0.0, -4.0]).view(1, 3, 1, 1)
    assert alignment_map(normals(), raw, None).flatten().tolist() == pytest.approx([0.6, 0.0, -0.8])
    assert alignment_map(boundary(), torch.zeros(1, 1, 1, 1), None).flatten().tolist() == [0.5, 0.5]
    assert alignment_map(saliency(), torch.zeros(1, 2, 1, 1), None).flatten().tolist() == [0.5, 0.5]


def test_values_of_several_channels_are_no_directions() -> None:
    raw, span = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1), (torch.tensor(0.0), torch.tensor(1.0))
    assert torch.equal(alignment_map(regression("albedo", 3), raw, span), raw)
    assert torch.equal(alignment_map(regression("albedo", 3), raw / 2, span), raw / 2)  # dark is not light


def test_there_is_a_discriminator_per_task_and_scale() -> None:
    model = network()
    names = {f"{name}_{scale}" for name in TASKS for scale in (0, 1)}
    assert set(build(model).discriminators) == names
    assert set(build(model, intermediate=False, tasks=("depth",)).discriminators) == {"depth_0"}
    with pytest.raises(ValueError, match="option tasks names 'edges'; the model's are semseg, depth, normals"):
        build(model, tasks=("edges",))
    published = AdversarialAlignment(network({"semseg": semseg(16)}), size=SIZE, weights={"semseg": 1.0})
    assert sum(parameter.numel() for parameter in published.own_parameters()) == 2 * 2778049


class Still:
    """Discriminators without power iterations, and no mirroring: losses can be computed again."""

    def __init__(self, adapter: AdversarialAlignment) -> None:
        self.adapter = adapter.eval()
        adapter.judge = lambda name, *maps: adapter.discriminators[name](torch.cat(maps))

    def logits(self, model, image: Tensor, source: Sample) -> dict[str, Tensor]:
        output = model(image)
        stages = {0: output.predictions, 1: output.auxiliary[0]}
        found = {}
        for name, task in TASKS.items():
            for scale, stage in stages.items():
                span = value_range(task, source.targets[name], stage[name]) if name == "depth" else None
                found[f"{name}_{scale}"] = self.adapter.discriminators[f"{name}_{scale}"](
                    alignment_map(task, stage[name], span)
                )
        return found


def test_losses_are_those_of_the_paper() -> None:
    """0.005 x mean over discriminators of BCE(D(target), source); D: BCE(D(source), 0) + BCE(D(target), 1)."""
    model, source, target = network().eval(), batch(), unlabelled()
    adapter = build(model)
    still = Still(adapter)
    found = adapter(model, source, target, model(source.image))
    own = adapter.own_losses()
    ours, theirs = (still.logits(model, sample.image, source) for sample in (source, target))

    def expected(logits: dict[str, Tensor], label: float) -> float:
        return sum(adversarial_bce(each, label).item() for each in logits.values()) / len(logits)

    assert found["adversarial"].item() == pytest.approx(0.005 * expected(theirs, 0.0), rel=1e-5)
    assert own["source"].item() == pytest.approx(expected(ours, 0.0), rel=1e-5)
    assert own["target"].item() == pytest.approx(expected(theirs, 1.0), rel=1e-5)
    assert adapter.own_losses() == {}  # once for each forward


def test_half_of_the_calls_are_mirrored() -> None:
    adapter = build(network())
    column = torch.arange(48.0).expand(1, 1, 32, 48)
    seen = []
    adapter.discriminators["depth_0"].register_forward_hook(
        lambda module, given, out: seen.append(given[0][0, 0, 0, 0])
    )
    for _ in range(200):
        adapter.judge("depth_0", column)
    assert set(map(float, seen)) == {0.0, 47.0}
    assert 70 < sum(value > 0 for value in seen) < 130


def test_it_begins_at_its_first_step() -> None:
    model, source, target = network(), batch(), unlabelled()
    adapter = build(model, start_step=3)
    adapter.step = 2
    assert adapter(model, source, target, model(source.image)) == {}
    assert adapter.own_losses() == {}
    adapter.step = 3
    assert adapter(model, source, target, model(source.image))["adversarial"] > 0


def test_maps_of_a_domain_with_more_views_count_for_that_domain() -> None:
    """Four maps of the source beside two of the target, told apart by a discriminator that sees their sign."""
    adapter = build(network())
    adapter.discriminators["depth_0"] = torch.nn.AdaptiveAvgPool2d(1)
    adapter.seen = [("depth_0", torch.full((4, 1, 8, 8), -50.0), torch.full((2, 1, 8, 8), 50.0))]
    assert all(loss < 1e-6 for loss in adapter.own_losses().values())


@pytest.mark.slow
def test_a_discriminator_learns_to_tell_and_the_network_to_pass() -> None:
    """Dark source, bright target: the discriminators' loss falls; then, theirs fixed, the network's own falls."""
    torch.manual_seed(0)
    model, source = network(), batch()
    target = Sample(source.image * 0.2 + 0.8, {}, source.key)
    adapter = build(model, weight=1.0)

    def play(parameters: list[torch.nn.Parameter], own: bool, steps: int = 25) -> list[float]:
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        values = []
        for _ in range(steps):
            optimizer.zero_grad()
            for parameter in adapter.own_parameters():
                parameter.requires_grad_(own)
            loss = adapter(model, source, target, model(source.image))["adversarial"]
            if own:
                loss = sum(adapter.own_losses().values())
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    told = play(adapter.own_parameters(), own=True)
    assert told[-1] < 0.8 * told[0]
    passed = play(list(model.parameters()), own=False)
    assert passed[-1] < 0.8 * passed[0]


def test_target_images_may_have_another_size_and_tiny_ones_are_refused() -> None:
    model, source = network(), batch()
    adapter = build(model)
    total = adapter(model, source, unlabelled(size=(40, 64)), model(source.image))["adversarial"]
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    with pytest.raises(ValueError, match=r"size is \(16, 48\); the discriminators .* at least 32x32"):
        AdversarialAlignment(model, size=(16, 48), weights=weights())
