"""PAP and PSD: what an affinity is, and what diffusing along it must and must not do."""

import pytest
import torch

from triptych import create_model
from triptych.decoders.diffusion import PAP, PSD, PatternAffinity, PatternStructure, average, neighbors
from triptych.tasks import boundary, depth, normals, semseg
from triptych.training.objective import Objective
from triptych.types import Output, Sample

TASKS = {task.name: task for task in (semseg(4), depth(), normals())}
NAMES = list(TASKS)


def random_maps(height=5, width=6):
    return {name: 2 * torch.randn(2, 8, height, width) for name in NAMES}


def randomize(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.eval()


def test_mixed_affinities_are_averages():
    affinity = randomize(PatternAffinity(8, NAMES, inner_width=4))
    mixed = affinity.affinities(random_maps())
    assert (mixed >= 0).all()
    torch.testing.assert_close(mixed.sum(dim=-1), torch.ones(2, 3, 30))


def test_affinity_equals_its_definition():
    affinity, maps = randomize(PatternAffinity(8, NAMES, inner_width=4, steps=2)), random_maps(3, 4)
    with torch.no_grad():
        own = []
        for name in sorted(NAMES):
            x = affinity.reduce[name](maps[name])[0].reshape(4, 12)
            rows = [torch.stack([x[:, i] @ x[:, j] / 2 for j in range(12)]).softmax(dim=0) for i in range(12)]
            own.append(torch.stack(rows))
        k = sorted(NAMES).index("depth")
        mixed = sum(share * matrix for share, matrix in zip(affinity.mixture[k].softmax(dim=0), own, strict=True))
        rate, state = affinity.rate[k].sigmoid(), maps["depth"][0].reshape(8, 12).t()
        for _ in range(2):
            state = rate * mixed @ state + (1 - rate) * state
        torch.testing.assert_close(affinity(maps)["depth"][0].reshape(8, 12).t(), state)


def test_structures_are_averages_over_neighbors_inside_the_image():
    structure = randomize(PatternStructure(8, NAMES, inner_width=4, size=3, order=3))
    inside = neighbors(torch.ones(1, 1, 5, 6), 3)[:, 0]
    for weights in structure.structures(random_maps()).values():
        assert (weights >= 0).all()
        assert (weights[inside.expand_as(weights) == 0] == 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 5, 6))


def test_sharp_structures_that_all_lead_out_of_the_image_stay_finite():
    structure = PatternStructure(2, ["depth"], inner_width=2, size=3, order=2)
    with torch.no_grad():
        structure.reduce["depth"].weight.copy_(100 * torch.eye(2)[..., None, None])
    # The corner points to the centre, the centre down and to the left: from the corner that is outside.
    x = torch.zeros(1, 2, 3, 3)
    x[..., 0, 0], x[..., 1, 1], x[..., 2, 0] = 1.0, 2.0, 3.0
    x.requires_grad_()
    weights = structure.structures({"depth": x})["depth"]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 3, 3))
    structure({"depth": x})["depth"].sum().backward()
    assert x.grad.isfinite().all()


def test_average_equals_a_loop_over_neighbors():
    structure, x = torch.rand(1, 9, 4, 5), torch.randn(1, 2, 4, 5)
    expected = torch.zeros(1, 2, 4, 5)
    for row in range(4):
        for column in range(5):
            for k in range(9):
                i, j = row + k // 3 - 1, column + k % 3 - 1
                if 0 <= i < 4 and 0 <= j < 5:
                    expected[..., row, column] += structure[0, k, row, column] * x[..., i, j]
    torch.testing.assert_close(average(structure, x, 3), expected)


@pytest.mark.parametrize("kind", [PatternAffinity, PatternStructure])
def test_diffusion_preserves_constants_and_stays_within_bounds(kind):
    diffusion = randomize(kind(8, NAMES, inner_width=4))
    constant = {name: torch.full((1, 8, 5, 6), float(i)) for i, name in enumerate(NAMES, start=1)}
    maps = random_maps()
    with torch.no_grad():
        for name, x in diffusion(constant).items():
            torch.testing.assert_close(x, constant[name])
        for name, x in diffusion(maps).items():
            assert (x.amax((2, 3)) <= maps[name].amax((2, 3)) + 1e-5).all()
            assert (x.amin((2, 3)) >= maps[name].amin((2, 3)) - 1e-5).all()
            assert not torch.allclose(x, maps[name], atol=1e-2)


@pytest.mark.parametrize("kind", [PatternAffinity, PatternStructure])
def test_other_tasks_change_where_a_map_diffuses(kind):
    diffusion, maps = randomize(kind(8, NAMES, inner_width=4)), random_maps()
    with torch.no_grad():
        before = diffusion(maps)["depth"]
        after = diffusion(maps | {"semseg": torch.randn(2, 8, 5, 6)})["depth"]
        again = diffusion(dict(reversed(list(maps.items()))))["depth"]
    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.equal(before, again)


@pytest.mark.parametrize(("kind", "reach"), [(PatternAffinity, 8), (PatternStructure, 2)])
def test_structures_reach_only_their_neighborhood_and_affinities_everything(kind, reach):
    """Two steps over 3 x 3 neighbors reach two pixels; affinities the whole row. Weights are held by detaching."""
    options = {"size": 3, "order": 0} if kind is PatternStructure else {}
    diffusion = randomize(kind(8, ["depth"], inner_width=4, steps=2, **options))
    with torch.no_grad():
        diffusion.reduce["depth"].weight.zero_()  # weights that do not depend on the map
        base, changed = torch.zeros(1, 8, 1, 9), torch.zeros(1, 8, 1, 9)
        changed[..., 0] = 1.0
        difference = (diffusion({"depth": changed})["depth"] - diffusion({"depth": base})["depth"]).abs().amax(1)[0, 0]
    assert difference.nonzero().max() == reach


@pytest.mark.parametrize("decoder", [PAP, PSD])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (16, 16), (2, 4)])
def test_decoders_work_on_any_backbone(decoder, strides):
    built = decoder((4,) * len(strides), strides=strides, tasks=TASKS, width=8)
    initial, final = built([torch.randn(2, 4, -(-50 // s), -(-70 // s)) for s in strides])
    for stage in (initial, final):
        for name, task in TASKS.items():
            assert stage[name].shape == (2, task.channels, -(-50 // strides[0]), -(-70 // strides[0]))
    sum(raw.square().mean() for stage in (initial, final) for raw in stage.values()).backward()
    assert all(parameter.grad is not None for parameter in built.parameters())


def test_raises_for_an_even_neighborhood():
    with pytest.raises(ValueError, match="size of a pattern structure is 4; a neighborhood needs an odd one"):
        PSD((4,), strides=(8,), tasks=TASKS, size=4)


def test_pap_compares_pairs_of_pixels_in_the_middle_of_cells():
    decoder = PAP((4,), strides=(4,), tasks=TASKS, width=8, stride=8, affinity_weight=0.5)
    predictions = {name: torch.rand(2, task.channels, 20, 24, requires_grad=True) for name, task in TASKS.items()}
    targets = {"semseg": torch.randint(4, (2, 20, 24)), "depth": 1 + torch.rand(2, 1, 20, 24)}
    targets["normals"] = torch.nn.functional.normalize(torch.randn(2, 3, 20, 24), dim=1)
    initial = {name: raw.detach() + 1 for name, raw in predictions.items()}
    found = decoder.affinity_losses(Output(predictions, [initial], []), targets)
    rows, columns = torch.tensor([4, 12]), torch.tensor([4, 12, 20])  # cells of 8 pixels
    for name, task in TASKS.items():
        cells = [x[..., rows[:, None], columns] for x in (predictions[name], initial[name], targets[name])]
        expected = task.pair_loss(cells[0], cells[2]) + task.pair_loss(cells[1], cells[2])
        torch.testing.assert_close(found[name], 0.5 * expected)
    torch.stack(list(found.values())).sum().backward()
    for raw in predictions.values():
        touched = raw.grad.abs().sum(dim=(0, 1)).nonzero()
        assert set(map(tuple, touched.tolist())) == {(i, j) for i in (4, 12) for j in (4, 12, 20)}


def test_pap_leaves_tasks_without_a_pair_loss_out():
    tasks = {"depth": depth(), "boundary": boundary()}
    decoder = PAP((4,), strides=(4,), tasks=tasks, width=8)
    maps = {name: torch.rand(1, 1, 32, 32) for name in tasks}
    assert list(decoder.affinity_losses(Output(maps, [], []), maps)) == ["depth"]


def test_training_adds_what_pap_compares_and_psd_adds_nothing():
    targets = {"semseg": torch.randint(4, (2, 32, 48)), "depth": 1 + torch.rand(2, 1, 32, 48)}
    targets["normals"] = torch.nn.functional.normalize(torch.randn(2, 3, 32, 48), dim=1)
    sample = Sample(torch.rand(2, 3, 32, 48), targets)
    options = {"backbone": "resnet18_half", "tasks": TASKS}
    for decoder, weight in ((PAP, 1.0), (PAP, 0.0), (PSD, None)):
        given = {"width": 8} if weight is None else {"width": 8, "affinity_weight": weight}
        model = create_model(decoder.__name__.lower(), decoder_options=given, **options).eval()
        losses = Objective(model)(sample)
        parts = {name: [value for key, value in losses.parts.items() if key.startswith(name)] for name in TASKS}
        for name in TASKS:
            torch.testing.assert_close(torch.stack(parts[name]).sum(), losses.tasks[name].detach())
            assert (f"{name}/affinity" in losses.parts) == bool(weight)


def test_the_affinity_loss_makes_prediction_pairs_alike_where_labels_are():
    torch.manual_seed(0)
    task = TASKS["semseg"]
    decoder = PAP((4,), strides=(4,), tasks={"semseg": task}, width=8, stride=8)
    raw = torch.randn(1, 4, 32, 32, requires_grad=True)
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[..., 16:] = 1
    optimizer = torch.optim.Adam([raw], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        decoder.affinity_losses(Output({"semseg": raw}, [], []), {"semseg": labels})["semseg"].backward()
        optimizer.step()
    classes = raw.detach()[0, :, 4::8, 4::8].argmax(dim=0)
    assert (classes[:, :2] == classes[0, 0]).all()
    assert (classes[:, 2:] == classes[0, 2]).all()
    assert classes[0, 0] != classes[0, 2]
