"""Presets: what they choose, that options override them, and how strong a branch pulls at the start."""

import warnings
from dataclasses import replace

import pytest
import torch
from regularizers.branch import batch, build, tasks_of
from torch import Tensor

from triptych import assemble
from triptych.losses.depth import DEPTH
from triptych.recipes import RECIPES
from triptych.recipes.config import Recipe, RegularizerConfig
from triptych.recipes.regularized import SMALL
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.controls import SingleSample
from triptych.regularizers.fields import Rendered
from triptych.regularizers.planes import Pooled, Split
from triptych.regularizers.triplane import PRESETS, SURFACE_ACTIVATION, Triplane3D
from triptych.tasks import depth
from triptych.types import collate

SURFACE = {"preset": "surface"}


def test_surface_shares_a_density_from_which_depth_is_read() -> None:
    regularizer = build("triplane", tasks_of("semseg", "depth", "normals"), **SURFACE, hidden=400)
    assert list(regularizer.ends) == ["depth"]
    assert list(regularizer.fields) == ["semseg", "normals"]
    assert all(field.density is None for field in regularizer.fields.values())
    assert isinstance(regularizer.encoder.planes, Pooled)
    assert regularizer.density.exponential == (SURFACE_ACTIVATION == "exp")
    for row in (regularizer.density.density, regularizer.fields["normals"].values):
        assert row.weight.std().item() == pytest.approx(1 / 20, rel=0.15)
    assert regularizer.chosen == PRESETS["surface"]


def test_options_override_the_preset_and_the_rest_stays() -> None:
    options = {"planes": "split", "density_activation": "softplus", "depth_from": "value"}
    regularizer = build("triplane", tasks_of("semseg", "depth"), **SURFACE, **options)
    assert isinstance(regularizer.encoder.planes, Split)
    assert not regularizer.density.exponential
    assert not regularizer.ends
    assert regularizer.chosen == PRESETS["surface"] | options


def test_without_a_preset_the_options_are_the_published_ones() -> None:
    plain = build("triplane", tasks_of("semseg", "depth"))
    named = build("triplane", tasks_of("semseg", "depth"), preset="published")
    spelled = build("triplane", tasks_of("semseg", "depth"), **PRESETS["published"])
    assert plain.chosen == named.chosen == spelled.chosen
    assert str(plain) == str(named) == str(spelled)


def test_recipes_have_the_preset_and_those_of_the_papers_what_was_published() -> None:
    presets = {
        name: recipe.regularizer.options.get("preset", "published")
        for name, recipe in RECIPES.items()
        if recipe.regularizer.name in ("triplane", "triplane-cross-view")
    }
    ours = {name for name, preset in presets.items() if preset == "surface"}
    assert {name for name in presets if name.startswith(("rooms-", "folder"))} == ours
    assert {"rooms-demo-3d", "rooms-invpt-3d", "rooms-cross-view-3d", "folder-3d"} <= ours
    assert {"nyuv2-invpt-3d", "pascal-invpt-3d"} <= presets.keys() - ours


def test_branches_of_the_papers_start_at_unit_scale() -> None:
    """As EG3D does, the one public evidence: rows near zero are this package's own suggestion, withdrawn."""
    papers = {
        name: recipe.regularizer
        for name, recipe in RECIPES.items()
        if name.startswith(("nyuv2-", "pascal-")) and recipe.regularizer.used
    }
    assert {"nyuv2-invpt-3d", "nyuv2-invpt-cross-view-3d", "pascal-mti-net-3d"} <= papers.keys()
    for config in papers.values():
        built = build(config.name, tasks_of("depth", "normals"), **{**config.options, "hidden": 400})
        for field in built.fields.values():
            assert field.density.weight.std().item() == pytest.approx(1 / 20, rel=0.15)
            assert field.values.weight.std().item() == pytest.approx(1 / 20, rel=0.15)


def test_without_a_task_in_metres_surface_falls_back_and_says_so() -> None:
    tasks = tasks_of("semseg", "normals")
    with pytest.warns(
        UserWarning, match=r"preset 'surface'.*no rendered task is in metres \(semseg, normals\)"
    ) as caught:
        regularizer = build("triplane", tasks, **SURFACE)
    assert len(caught) == 1
    assert regularizer.chosen == {**PRESETS["surface"], "depth_from": "value"}
    assert list(regularizer.fields) == list(tasks)
    losses = regularizer(*batch(tasks))
    assert all(loss.isfinite() for loss in losses.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("triplane", tasks, **SURFACE, depth_from="value")  # it was asked for


@pytest.mark.parametrize("loss", DEPTH)
@pytest.mark.parametrize("kind", ["triplane", "triplane-cross-view"])
def test_where_rays_end_is_metres_and_means_no_loss_at_the_true_depth(kind: str, loss: str) -> None:
    """Or, where a loss has other units than metres, depth is a value of the planes, and a warning says so."""
    task = depth(loss=loss)
    options = {**SURFACE, **({"cross_values": "plain"} if kind == "triplane-cross-view" else {})}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        regularizer = build(kind, {"depth": task}, **options)
    assert len(caught) == (not regularizer.ends)
    if regularizer.ends:
        ends = torch.linspace(-0.5, 0.5, 12).view(1, 3, 4)
        rendered = Rendered(torch.zeros(1, 3, 4, 0), torch.ones(1, 3, 4), ends + (kind != "triplane"))
        metres, raw = regularizer.to_metres(rendered.depth)[None], regularizer.raw("depth", rendered)
        torch.testing.assert_close(task.decode(raw), metres)
        assert task.loss(raw, metres) == 0
    else:
        assert "the loss of task 'depth' has the network predict another quantity" in str(caught[0].message)
        assert regularizer.chosen["depth_from"] == "value"
        with pytest.raises(ValueError, match=r"'termination' .*task 'depth' .*depth_from='value'"):
            build(kind, {"depth": task}, **options, depth_from="termination")
    assert bool(regularizer.ends) == task.raw_is_physical


def test_a_length_of_ones_own_that_decodes_otherwise_ends_no_rays() -> None:
    task = replace(depth(), loss=DEPTH["log-l1"][0], decode=torch.exp)
    with pytest.raises(ValueError, match=r"'termination' .*task 'depth' .*depth_from='value'"):
        build("triplane", {"depth": task}, **SURFACE, depth_from="termination")


def test_controls_take_what_they_can_of_a_preset() -> None:
    regularizer = build("triplane-single-sample", tasks_of("semseg", "depth"), **SURFACE, num_samples=1)
    assert regularizer.chosen["planes"] == "flat"
    assert regularizer.chosen["depth_from"] == "value"
    assert regularizer.chosen["values_init"] == "unit"


@pytest.mark.parametrize("name", [name for name, kind in REGULARIZERS.items() if issubclass(kind, Triplane3D)])
def test_every_kind_of_triplane_takes_the_preset(name: str) -> None:
    tasks = tasks_of("semseg", "depth")
    options = {"num_samples": 1} if issubclass(REGULARIZERS[name], SingleSample) else {"num_samples": 4}
    regularizer = build(name, tasks, **SURFACE, **options)
    output, sample = batch(tasks, camera=True)
    total = torch.stack(list(regularizer(output, sample).values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(maps.grad.isfinite().all() for maps in output.features)
    assert all(parameter.grad is not None for parameter in regularizer.parameters())


def test_an_unknown_preset_is_named_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"^unknown preset 'surfce'; did you mean 'surface'"):
        build("triplane", tasks_of("depth"), preset="surfce")


def norm(gradients: tuple[Tensor | None, ...]) -> float:
    return torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt().item()


SURFACE_HERE = {**SMALL, **SURFACE}
UNIT = {**SMALL, "values_init": "unit"}
ONE = {**UNIT, "num_samples": 1}
ARMS = {
    "surface": ("triplane", SURFACE_HERE),
    "surface, exp": ("triplane", {**SURFACE_HERE, "density_activation": "exp"}),
    "surface, softplus": ("triplane", {**SURFACE_HERE, "density_activation": "softplus"}),
    "old branch at unit scale": ("triplane", {**UNIT, "density_init": "unit"}),
    "one sample": ("triplane-single-sample", ONE),
    "2D decoder": ("decoder-2d", UNIT),
    "auxiliary heads": ("auxiliary-heads", SMALL),
    "true depth": ("triplane-true-depth", UNIT),
    "another image's depth": ("triplane-other-depth", UNIT),
    "depth as an input": ("triplane-depth-input", ONE),
    "plane of the image": ("triplane-xy", UNIT),
    "uniform weights": ("triplane-uniform", UNIT),
    "shuffled depth": ("triplane-shuffled", {**UNIT, "density_init": "unit"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rooms-demo", "rooms-fcn", "rooms-mti-net", "rooms-invpt"])
def test_no_branch_pulls_more_than_twice_as_hard_as_the_network_at_the_start(name: str) -> None:
    """Norms of gradients of the summed loss at step 0: by the branch's own parameters, and by what both share.

    With rows near zero, the constructor's choice, normals of the branch pull harder: that is what unit scale mends.
    Second heads are the network's own decoder from other random weights and not among these: the gradient of a
    direction goes by one over its length, so that either decoder may have four times the other's of normals.
    """
    recipe = RECIPES[name]
    data = replace(recipe.data, options={"size": (64, 80), "scenes": 8, "views": 1})
    recipe = replace(recipe, data=replace(data, size=(64, 80)))
    dataset = assemble.build_dataset(recipe, "train")
    torch.manual_seed(0)
    tasks, _ = assemble.build_tasks(recipe, dataset)
    model = assemble.build_model(recipe, tasks)
    sample = collate([dataset[i] for i in range(8)])
    output = model.train()(sample.image)
    losses = [task.weight * task.loss(output.predictions[key], sample.targets[key]) for key, task in tasks.items()]
    shared = [p for module in model.shared_modules for p in module.parameters()]
    given = {"retain_graph": True, "allow_unused": True}
    network = norm(torch.autograd.grad(torch.stack(losses).sum(), list(model.parameters()), **given))
    on_shared = norm(torch.autograd.grad(torch.stack(losses).sum(), shared, **given))
    for title, (kind, options) in ARMS.items():
        config = RegularizerConfig(name=kind, options=options)
        branch = assemble.build_regularizer(Recipe(regularizer=config), model)
        term = torch.stack([tasks[key].weight * term for key, term in branch(output, sample).items()]).sum()
        own = norm(torch.autograd.grad(term, list(branch.parameters()), **given))
        by_shared = norm(torch.autograd.grad(term, shared, **given))
        assert own <= 2 * network, (title, own, network)
        assert by_shared <= 2 * on_shared, (title, by_shared, on_shared)
