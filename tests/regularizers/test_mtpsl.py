"""MTPSL: the mapping and its loss by hand, whom gradients reach, what is drawn, and a run with one label per image."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from regularizers.branch import SIZE, batch, build, tasks_of
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from training.tiny import RECIPE, change
from training_runs import lines, resumed, run_recipe

from triptych.recipes.config import RegularizerConfig
from triptych.regularizers.mtpsl import MTPSL, PairEncoder, encode_label, encode_prediction
from triptych.tasks import Task, boundary, depth, normals, regression, saliency, semseg
from triptych.types import Output, Sample

TASKS = ("semseg", "depth", "normals")


def one_label(sample: Sample, tasks: dict[str, Task], *kept: str) -> Sample:
    """Image i has a label of task `kept[i]` alone."""
    return replace(
        sample,
        targets={
            name: torch.stack(
                [sample.targets[name][i] if name == own else task.invalid_target(SIZE) for i, own in enumerate(kept)]
            )
            for name, task in tasks.items()
        },
    )


def by_hand(encoder: PairEncoder, image: Tensor, code: int) -> Tensor:
    """One map, number by number: convolution, batch norm by running statistics, FiLM, ReLU, the largest of 2x2."""
    for i, (conv, norm) in enumerate(zip(encoder.convs, encoder.norms, strict=True)):
        height, width = image.shape[1:]
        rows = torch.zeros(len(conv.weight), height, width)
        for c, y, x in itertools.product(range(len(conv.weight)), range(height), range(width)):
            total = 0.0
            for k, dy, dx in itertools.product(range(len(image)), range(3), range(3)):
                v, u = y + dy - 1, x + dx - 1
                if 0 <= v < height and 0 <= u < width:
                    total += float(conv.weight[c, k, dy, dx]) * float(image[k, v, u])
            total = (total - float(norm.running_mean[c])) / float(norm.running_var[c] + norm.eps) ** 0.5
            total = total * float(norm.weight[c]) + float(norm.bias[c])
            total = float(encoder.gammas[i][code, c]) * total + float(encoder.betas[i][code, c])
            rows[c, y, x] = max(total, 0.0)
        if i < encoder.pools:
            rows = torch.stack(
                [
                    torch.stack([rows[:, y : y + 2, x : x + 2].amax(dim=(1, 2)) for x in range(0, width, 2)], dim=1)
                    for y in range(0, height, 2)
                ],
                dim=1,
            )
        image = rows
    return torch.einsum("oc,chw->ohw", encoder.last.weight[:, :, 0, 0], image) + encoder.last.bias[:, None, None]


@torch.no_grad()
def test_the_mapping_by_hand() -> None:
    """Rows of a batch are modulated by their own pair; an odd side is pooled with what is there."""
    torch.manual_seed(0)
    encoder = PairEncoder((2, 3), pairs=4, pools=1, out=2).eval()
    for parameter in encoder.parameters():
        parameter.normal_()
    for norm in encoder.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 2, 3, 4)
    found = encoder(x, torch.tensor([1, 3, 1]))
    for row, image, code in zip(found, x, (1, 3, 1), strict=True):
        torch.testing.assert_close(row, by_hand(encoder, image, code), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pairs_begin_alike_and_each_has_numbers_of_its_own() -> None:
    encoder = PairEncoder((2, 3), pairs=4, pools=1, out=2).eval()
    x = torch.randn(1, 2, 4, 4).expand(4, -1, -1, -1)
    codes = torch.arange(4)
    assert encoder(x, codes).diff(dim=0).abs().max() < 1e-6
    before = encoder(x, codes)
    encoder.gammas[1][2] += 1
    encoder.betas[0][2] -= 0.5
    changed = (encoder(x, codes) - before).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert changed.tolist() == [False, False, True, False]


def test_the_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, maps of one row; the second image has a label in view at one place only."""
    tasks = tasks_of("semseg", "depth")
    regularizer = build("mtpsl", tasks, weight=3.0, feature_weight=0.25, warmup_steps=4)
    regularizer.step = 1
    output, sample = batch(tasks)
    sample = one_label(sample, tasks, "depth", "semseg")
    ours = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]], [[[1.0, 0.0]], [[1.0, 0.0]]]])
    theirs = torch.tensor([[[[2.0, 1.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[3.0, 0.0]]]])
    features = torch.tensor([[[[0.0, 1.0]], [[1.0, 1.0]]], [[[-1.0, 5.0]], [[-1.0, 5.0]]]])
    seen = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]]])
    monkeypatch.setattr(regularizer, "embed", lambda *_: (ours, theirs, features, seen))
    half = 0.5**0.5
    first = [(1 - 1) + 0.25 * ((1 - 0) + (1 - 0)), (1 - 0) + 0.25 * ((1 - half) + (1 - half))]
    second = [(1 - half) + 0.25 * ((1 + 1) + (1 + half))]
    expected = 3.0 * 0.5 * (sum(first) / 2 + second[0]) / 2
    found = regularizer.penalties(output, sample)
    assert list(found) == ["mtpsl"]
    assert found["mtpsl"].item() == pytest.approx(expected, rel=1e-5)
    assert regularizer(output, sample) == {}


@pytest.mark.parametrize("kept", TASKS)
def test_gradients_reach_the_prediction_without_a_label_alone(kept: str) -> None:
    """Not the features, not the prediction of the labelled task, and no place without a label in view."""
    tasks = tasks_of(*TASKS)
    regularizer = build("mtpsl", tasks)
    output, sample = batch(tasks)
    sample = one_label(sample, tasks, kept, kept)
    missing = [regularizer.choose_pairs(sample.targets, (13, 16))[i].unlabelled for i in range(2)]
    regularizer.generator.manual_seed(0)
    regularizer.penalties(output, sample)["mtpsl"].backward()
    assert all(feature.grad is None for feature in output.features)
    for name, raw in output.predictions.items():
        reached = [raw.grad is not None and bool(raw.grad[i].abs().max() > 0) for i in range(2)]
        assert reached == [name == other for other in missing]


def test_embeddings_of_invalid_pixels_are_zero() -> None:
    """The label counts in the left half; one place of the map has a stride of 8 (maps of 4, pooled once)."""
    tasks = tasks_of("semseg", "depth")
    regularizer = build("mtpsl", tasks).eval()
    output, sample = batch(tasks)
    sample = one_label(sample, tasks, "depth", "depth")
    sample.targets["depth"][..., 32:] = torch.nan
    pairs = regularizer.choose_pairs(sample.targets, (13, 16))
    ours, theirs, features, seen = regularizer.embed(pairs, output, sample, (13, 16))
    assert seen[..., :4].eq(1).all()
    assert seen[..., 5:].eq(0).all()
    for maps in (ours, theirs):
        assert maps.shape == features.shape == (2, 10, 7, 8)
        assert maps[..., 5:].eq(0).all()
        assert maps[..., :4].abs().sum(dim=1).gt(0).all()


def test_labels_enter_scaled_and_zero_where_they_are_invalid() -> None:
    length = torch.tensor([[[2.0, 4.0, torch.nan]]])
    assert encode_label(depth(), length).tolist() == [[[0.5, 1.0, 0.0]]]
    facing = torch.tensor([[1.0, torch.nan], [0.0, torch.nan], [-1.0, torch.nan]])[:, None]
    assert encode_label(normals(), facing).flatten(1).tolist() == [[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]]
    assert encode_label(boundary(), torch.tensor([[[1.0, 0.0, torch.nan]]])).flatten(1).tolist() == [
        [0, 1, 0],
        [1, 0, 0],
    ]
    assert encode_label(saliency(), torch.tensor([[1, 255]])).flatten(1).tolist() == [[0, 0], [1, 0]]
    heat = regression("heat", channels=1)
    assert encode_label(heat, torch.tensor([[[-4.0, 2.0, torch.nan]]])).tolist() == [[[-1.0, 0.5, 0.0]]]
    for task in (depth(), normals(), boundary(), saliency(), semseg(3), heat):
        empty = encode_label(task, task.invalid_target((2, 3)))
        assert empty.eq(0).all()
        raw = torch.randn(task.channels, 2, 3)
        assert encode_prediction(task, raw, 0).shape == empty.shape


def test_classes_are_drawn_by_their_probability_with_its_gradient() -> None:
    raw = torch.tensor([0.0, 1.0, -1.0])[:, None, None].expand(3, 60, 60).clone().requires_grad_()
    drawn = encode_prediction(semseg(3), raw, 4)
    assert ((drawn.round() - drawn).abs() < 1e-6).all()
    assert torch.allclose(drawn.sum(dim=0), torch.ones(60, 60))
    share = raw.softmax(dim=0)[:, 0, 0]
    torch.testing.assert_close(drawn.mean(dim=(1, 2)), share, rtol=0, atol=0.03)
    assert torch.equal(drawn, encode_prediction(semseg(3), raw, 4))
    assert not torch.equal(drawn, encode_prediction(semseg(3), raw, 5))
    drawn[1].sum().backward()
    uniform = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(4)).clamp(1e-6, 1 - 1e-6)
    copy = raw.detach().clone().requires_grad_()
    (copy - (-uniform.log()).log()).softmax(dim=0)[1].sum().backward()
    torch.testing.assert_close(raw.grad, copy.grad)


def test_every_pair_of_a_missing_and_a_shown_label_is_as_likely() -> None:
    tasks = tasks_of(*TASKS)
    _, sample = batch(tasks)
    sample = one_label(sample, tasks, "depth", "depth")
    sample.targets["normals"][0] = F.normalize(torch.rand(3, *SIZE), dim=0)
    regularizer = build("mtpsl", tasks)
    found = Counter()
    for _ in range(300):
        pairs = regularizer.choose_pairs(sample.targets, (13, 16))
        found.update(pair[:3] for pair in pairs)
        assert len({pair.seed for pair in pairs}) == 2
    choices = [(0, "semseg", "depth"), (0, "semseg", "normals"), (1, "semseg", "depth"), (1, "normals", "depth")]
    assert sorted(found) == sorted(choices)
    assert all(abs(count - 150) < 40 for count in found.values())


def test_a_label_that_no_map_shows_gives_no_pair() -> None:
    tasks = tasks_of("semseg", "depth")
    output, sample = batch(tasks, labelled=False)
    sample.targets["depth"][:, :, 0, 0] = 2.0
    regularizer = build("mtpsl", tasks)
    assert regularizer.choose_pairs(sample.targets, (13, 16)) == []
    assert regularizer.penalties(output, sample)["mtpsl"].item() == 0
    sample.targets["depth"][:, :, 1, 1] = 2.0
    assert len(regularizer.choose_pairs(sample.targets, (13, 16))) == 2
    assert regularizer.penalties(output, sample)["mtpsl"].item() > 0


def test_reports_what_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="mtpsl relates tasks to each other; the model has depth alone"):
        build("mtpsl", tasks_of("depth"))
    with pytest.raises(ValueError, match="temperature 0"):
        build("mtpsl", tasks_of(), temperature=0.0)


def test_features_are_pooled_to_their_stride() -> None:
    """Maps at a stride of 4, features at 32: three poolings; features at 14: a map of about their size."""
    for strides, pools in (((4, 8, 16, 32), 3), ((14,), 2), ((2,), 0)):
        regularizer = MTPSL((5,) * len(strides), strides=strides, tasks=tasks_of("semseg", "depth"), widths=(4, 4, 4))
        assert regularizer.encoder.pools == pools
        size = (56, 84)
        features = [torch.randn(1, 5, -(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
        sample = Sample(
            torch.rand(1, 3, *size), {"semseg": torch.full((1, *size), 255), "depth": torch.ones(1, 1, *size)}
        )
        raw = {"semseg": torch.randn(1, 5, *size), "depth": torch.randn(1, 1, *size)}
        assert regularizer.penalties(Output(raw, [], features), sample)["mtpsl"].isfinite()


RUN = change(
    RECIPE,
    data__tasks=TASKS,
    data__label_setting="one",
    data__options={"length": 24},  # of 12 images none keeps its classes
    regularizer=RegularizerConfig(name="mtpsl", options={"widths": (8, 12)}),
    training__log_every=2,
)


def test_a_resumed_run_equals_the_uninterrupted_one_and_deploys_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = resumed(RUN, tmp_path, monkeypatch)
    plain = run_recipe(change(RUN, regularizer__name="none", schedule__steps=1), tmp_path / "plain")
    assert set(load_file(whole / "model.safetensors")) == set(load_file(plain / "model.safetensors"))
    record = lines(whole, "train")[-1]
    assert record["penalties"] > 0
    assert record["regularizer"]["embedding_variance"] > 0.01
