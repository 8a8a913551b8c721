"""PAD-Net+ and DenseMTL's PAD-Net: the distillation against its definition, parameters, auxiliary tasks."""

import pytest
import torch
from torch.nn import functional as F

from triptych.decoders.padnet import MultiModalDistillation, PADNetDenseMTL, PADNetPlus
from triptych.tasks import boundary, depth, normals, semseg

TASKS = {task.name: task for task in (semseg(40), depth(), normals(), boundary(channels=2))}
RESNET101 = ((64, 256, 512, 1024, 2048), (2, 4, 8, 16, 16))


def take(number):
    return dict(list(TASKS.items())[:number])


def test_distillation_equals_its_definition():
    names, targets = ["semseg", "depth", "normals"], ["normals", "semseg"]
    distillation = MultiModalDistillation(4, names, targets=targets)
    maps = {name: torch.randn(2, 4, 5, 7) for name in names}
    with torch.no_grad():
        distilled = distillation(maps)
        assert list(distilled) == targets
        for target in targets:
            expected = maps[target]
            for source in names:
                readers = sorted(set(targets) - {source})
                if target == source:
                    continue
                weights = distillation.convs[source].weight.unflatten(0, (len(readers), 2, 4))[readers.index(target)]
                feature, gate = (F.conv2d(maps[source], weight, padding=1) for weight in weights)
                expected = expected + torch.sigmoid(gate) * feature
            torch.testing.assert_close(distilled[target], expected)


def test_distillation_of_one_task_is_the_identity():
    maps = {"depth": torch.randn(1, 4, 8, 8)}
    assert MultiModalDistillation(4, ["depth"])(maps) == maps


@pytest.mark.parametrize(
    ("decoder", "number", "published"),
    [
        (PADNetPlus, 2, 87_220_818),
        (PADNetPlus, 3, 110_462_488),
        (PADNetPlus, 4, 134_293_788),
        (PADNetDenseMTL, 2, 46_722_706),
        (PADNetDenseMTL, 3, 52_363_928),
        (PADNetDenseMTL, 4, 60_363_932),
    ],
)
def test_parameters_are_the_published_ones(decoder, number, published):
    with torch.device("meta"):
        built = decoder(RESNET101[0], strides=RESNET101[1], tasks=take(number))
    assert sum(parameter.numel() for parameter in built.parameters()) + 42_500_160 == published


def test_sizes_of_the_predictions():
    initial, final = PADNetDenseMTL((6,), strides=(16,), tasks=take(2), width=8)([torch.randn(2, 6, 3, 5)])
    assert initial["depth"].shape == (2, 1, 3, 5)
    assert final["depth"].shape == (2, 1, 48, 80)
    quarter, full = PADNetPlus((4,) * 4, strides=(4, 8, 16, 32), tasks=take(2), widths=(4,))(
        [torch.randn(2, 4, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    )
    assert quarter["depth"].shape == (2, 1, 16, 24)
    assert full["depth"].shape == (2, 1, 64, 96)


def test_the_quarter_size_prediction_precedes_the_distillation():
    decoder = PADNetPlus((4,) * 4, strides=(4, 8, 16, 32), tasks=take(2), widths=(4,)).eval()
    features = [torch.randn(1, 4, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    with torch.no_grad():
        before = decoder(features)
        decoder.exchange.convs["semseg"].weight += 1.0
        after = decoder(features)
    assert torch.equal(before[0]["depth"], after[0]["depth"])
    assert not torch.equal(before[1]["depth"], after[1]["depth"])
    assert torch.equal(before[1]["semseg"], after[1]["semseg"])
