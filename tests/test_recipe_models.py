"""Every recipe builds what it names: tasks, pipeline, network, regularizer, weighting, rates of learning."""

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping, Sequence

import pytest
import torch
from entries import own_entries
from training.tiny import change

import triptych
from triptych import assemble
from triptych.augmentation.presets import build_transform
from triptych.backbones import BACKBONES
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS
from triptych.datasets.cityscapes import SPLITS as CITYSCAPES_SPLITS
from triptych.datasets.nyuv2 import SPLITS as NYUV2_SPLITS
from triptych.decoders import DECODERS
from triptych.decoders.baseline import ASPP
from triptych.decoders.pyramid import PyramidLevel
from triptych.lookup import require_options
from triptych.models import ARCHITECTURES
from triptych.named_parts import check_options
from triptych.recipes import RECIPES, cityscapes, driving, nyuv2, pascal, rooms
from triptych.recipes.config import Recipe, from_json
from triptych.recipes.published import PUBLISHED
from triptych.regularizers import REGULARIZERS
from triptych.training.objective import Objective
from triptych.training.optim import build_optimizer, learning_rate_factors, parameter_groups
from triptych.types import Camera, Sample
from triptych.weighting import WEIGHTINGS
from triptych.weighting.base import Weighting

OURS = {
    **rooms.RECIPES,
    **nyuv2.RECIPES,
    **pascal.RECIPES,
    **cityscapes.RECIPES,
    **driving.RECIPES,
}
CLASSES = {"nyuv2": 40, "pascal-context": 21, "cityscapes": 16, "rooms": 20, "synthia": 16, "vkitti2": 14}
KNOWN = own_entries(DECODERS | ARCHITECTURES)


def tasks_of(recipe: Recipe):
    """The recipe's tasks on its dataset, of which only the names and the number of classes are needed."""
    classes = CLASSES[recipe.data.dataset]
    tasks = {**triptych.pascal_context_tasks(classes), **triptych.nyuv2_tasks(classes)}
    dataset = DenseDataset()
    dataset.tasks = tasks
    return assemble.build_tasks(recipe, dataset)


def build(recipe: Recipe) -> Objective:
    """Network and regularizer with random weights, or without any in the context of the meta device."""
    bare = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, weights=""))
    model = assemble.build_model(bare, *tasks_of(recipe))
    regularizer = assemble.build_regularizer(recipe, model)
    return Objective(model, regularizer=regularizer, auxiliary_factor=recipe.weighting.auxiliary_factor)


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_recipe_names_what_exists(name: str) -> None:
    """Names and options of every part, without building a network."""
    recipe = RECIPES[name]
    tasks, auxiliary = tasks_of(recipe)
    model, regularizer = recipe.model, recipe.regularizer
    require_options("decoder", (DECODERS | ARCHITECTURES)[model.decoder], model.decoder_options)
    require_options("backbone", BACKBONES[model.backbone], {**model.backbone_options, "image_size": None})
    if name.endswith("-3d"):
        require_options("regularizer", REGULARIZERS[regularizer.name], regularizer.options)
    assert (regularizer.name != "none") == name.endswith("-3d")
    assemble.build_weighting(recipe, {**tasks, **auxiliary})
    build_transform(recipe.data.transform, size=recipe.data.size, tasks=tasks, train=True)
    assert recipe.data.val_split != recipe.data.test_split
    assert set(recipe.data.options) <= set(inspect.signature(DATASETS[recipe.data.dataset]).parameters)
    known_splits = {"nyuv2": NYUV2_SPLITS, "cityscapes": CITYSCAPES_SPLITS}.get(recipe.data.dataset)
    if known_splits is not None:
        assert {recipe.data.train_split, recipe.data.test_split} <= set(known_splits)


QUICK = ("rooms-mti-net-3d", "nyuv2-cross-stitch", "nyuv2-invpt-3d", "pascal-atrc", "cityscapes-densemtl")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(OURS)]
)
def test_every_recipe_builds_all_that_it_names(name: str) -> None:
    recipe = RECIPES[name]
    with torch.device("meta"):
        objective = build(recipe)
    groups = parameter_groups({"objective": objective}, recipe.optimizer)
    build_optimizer(groups, recipe.optimizer)
    assert (objective.regularizer is not None) == name.endswith("-3d")
    if recipe.optimizer.fusion_lr_factor != 1:
        assert max(learning_rate_factors(objective, recipe.optimizer).values()) == 100.0


def test_rooms_has_a_recipe_for_every_decoder_and_architecture_with_and_without_the_regularizer() -> None:
    for decoder in KNOWN:
        plain, regularized = RECIPES[f"rooms-{decoder}"], RECIPES[f"rooms-{decoder}-3d"]
        assert plain.model.decoder == decoder
        assert regularized.regularizer.name == "triplane"
        same = {"description": plain.description, "regularizer": plain.regularizer}
        assert dataclasses.replace(regularized, **same) == plain


def test_options_are_checked_where_annotations_are_texts() -> None:
    """As in a plug-in with `from __future__ import annotations`; some name what only type checkers import."""

    def build(channels: "tuple[int, ...]", *, width: "int" = 8) -> None: ...

    def build_other(channels: "Elsewhere", *, width: int = 8) -> None: ...  # noqa: F821

    with pytest.raises(ValueError, match="option width of it is 'wide'; expected a whole number"):
        require_options("it", build, {"width": "wide"})
    require_options("it", build_other, {"width": 4})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(rooms.RECIPES))
def test_every_recipe_on_rooms_takes_a_step(name: str) -> None:
    """At a third of the size: finite losses, and a gradient at every shared parameter."""
    recipe = RECIPES[name]
    objective = build(recipe).train()
    size = (48, 64)
    targets = {task.name: torch.stack([task.invalid_target(size)] * 2) for task in objective.tasks.values()}
    for task, target in targets.items():
        labels = torch.randint(0, 2, target.shape)
        targets[task] = labels.float() + 0.5 if target.is_floating_point() else labels
    if "boundary" in targets:
        targets["boundary"] = targets["boundary"].round().clamp(max=1)
    intrinsics = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]]).repeat(2, 1, 1)
    sample = Sample(torch.rand(2, 3, *size), targets, camera=Camera(intrinsics, torch.eye(4).repeat(2, 1, 1)))
    losses = objective(dataclasses.replace(sample, neighbors=(sample,))).tasks
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    parameters = [p for module in objective.model.shared_modules for p in module.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert max(p.grad.abs().max() for p in parameters) > 0


def test_the_paper_s_pairs_differ_in_the_regularizer_alone() -> None:
    for name in ("nyuv2-invpt", "nyuv2-mti-net", "pascal-invpt", "pascal-mti-net"):
        plain, regularized = RECIPES[name], RECIPES[f"{name}-3d"]
        assert dataclasses.replace(regularized, regularizer=plain.regularizer, description=plain.description) == plain
        # The other defaults say why.
        unit = {"density_init": "unit", "values_init": "unit"}
        assert regularized.regularizer.options == {"schedule": "constant", **unit}
    with torch.device("meta"):
        model = build(RECIPES["nyuv2-invpt"]).model
    # 402,092,888 published parameters, of which 6.6 million are dead and not built here.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(402_092_888 - 6.6e6, rel=1e-3)


def test_published_settings() -> None:
    """Numbers of the specification's tables of recipes."""
    invpt, atrc, dense = RECIPES["nyuv2-invpt"], RECIPES["pascal-atrc"], RECIPES["nyuv2-densemtl"]
    assert (invpt.optimizer.name, invpt.optimizer.lr, invpt.optimizer.weight_decay) == ("adam", 2e-5, 1e-6)
    assert (invpt.schedule.steps, invpt.schedule.name, invpt.schedule.power) == (40_000, "poly", 0.9)
    assert (invpt.data.size, invpt.data.batch_size) == ((448, 576), 6)
    assert (atrc.optimizer.name, atrc.optimizer.lr, atrc.optimizer.weight_decay) == ("sgd", 0.005, 5e-4)
    assert RECIPES["nyuv2-atrc"].optimizer.lr == 0.01
    assert RECIPES["nyuv2-atrc"].data.task_options["boundary"] == {"positive_weight": 0.8}
    assert dense.optimizer.lr * dense.optimizer.backbone_lr_factor == pytest.approx(2e-4)
    assert dense.weighting.weights == {"semseg": 50, "depth": 0.5, "normals": 50, "boundary": 25}
    assert RECIPES["cityscapes-densemtl-two"].weighting.weights == {"semseg": 25, "depth": 0.5}
    assert RECIPES["cityscapes-deeplab"].weighting.weights == {"semseg": 100, "depth": 1, "normals": 100}
    stitch = RECIPES["pascal-cross-stitch"]
    assert (stitch.optimizer.fusion_lr_factor, stitch.data.batch_size, stitch.schedule.steps) == (100, 12, 20 * 416)
    alone, sak = RECIPES["pascal-single-human_parts"], RECIPES["nyuv2-vit"]
    assert (alone.optimizer.name, alone.data.batch_size, alone.schedule.steps) == ("adam", 12, 60 * 416)
    assert (sak.optimizer.name, sak.optimizer.lr, sak.optimizer.clip_norm, sak.data.batch_size) == (
        "adamw",
        2e-5,
        10,
        4,
    )
    streets = RECIPES["vkitti2-densemtl"]
    assert streets.optimizer.lr * streets.optimizer.backbone_lr_factor == pytest.approx(2e-4)
    assert streets.weighting.weights == {"semseg": 50, "depth": 0.5, "normals": 50}


def test_densemtl_clips_but_for_adaptation() -> None:
    """The released configurations, from video too; the loop that adapts does not clip, though it is configured."""
    trained = {
        name: recipe
        for name, recipe in RECIPES.items()
        if not name.startswith("rooms-") and recipe.model.decoder.startswith(("densemtl", "pad-net-plus"))
    }
    assert {"cityscapes-densemtl-video", "synthia-cityscapes", "nyuv2-pad-net-plus"} <= trained.keys()
    clipped = {name for name, recipe in trained.items() if recipe.optimizer.clip_norm == 10}
    assert trained.keys() - clipped == {"synthia-cityscapes", "vkitti2-cityscapes"}


DENSEMTL = [
    name
    for name, recipe in sorted(OURS.items())
    if "depth" in recipe.data.tasks and recipe.data.task_options.get("depth", {}).get("loss", "").startswith("berhu")
]


@pytest.mark.parametrize("name", DENSEMTL)
def test_depth_of_densemtl_s_recipes_is_averaged_over_all_pixels_and_decoded_exactly(name: str) -> None:
    depth = tasks_of(OURS[name])[0]["depth"]
    metres = torch.linspace(1, 60, 24).reshape(1, 1, 4, 6)
    raw = depth.encode(metres) + torch.linspace(-3, 3, 24).reshape(1, 1, 4, 6)
    unlabelled = torch.cat([metres, torch.full_like(metres, torch.nan)])
    torch.testing.assert_close(depth.loss(raw.repeat(2, 1, 1, 1), unlabelled), depth.loss(raw, metres) / 2)
    torch.testing.assert_close(depth.decode(depth.encode(metres)), metres, rtol=1e-4, atol=1e-4)


def test_densemtl_s_recipes_are_known() -> None:
    assert {"nyuv2-densemtl", "nyuv2-densemtl-single-depth", "cityscapes-pad-net-plus"} <= set(DENSEMTL)
    assert {"synthia-densemtl", "vkitti2-densemtl", "synthia-cityscapes", "vkitti2-cityscapes"} <= set(DENSEMTL)


@pytest.mark.parametrize("name", ["synthia-cityscapes", "vkitti2-cityscapes"])
def test_depth_of_another_domain_is_scored_aligned_beside_metric(name: str) -> None:
    """As the paper's numbers are; a prediction of another scale is then without error."""
    metric = tasks_of(OURS[name])[0]["depth"].metric()
    metric.update(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, 6.0]]]]))
    scores = metric.compute()
    assert metric.primary == "rmse_aligned"
    assert (scores["rmse_image_aligned"], scores["absrel_image"]) == (0.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("fcn", {"width": 16}),
        ("atrc", {"width": 16}),
        ("densemtl", {"widths": [24, 16, 12, 8, 8]}),
        ("pad-net-plus", {"widths": [32, 24, 16, 16, 8]}),
    ],
)
def test_a_run_from_before_options_of_the_start_were_written_out_builds_the_same_network(decoder, options) -> None:
    """`recipe.json` of a run on rooms names neither `head_std` nor `init`: it means the published ones."""
    model = {"backbone": "resnet18_half", "decoder": decoder, "decoder_options": options}
    stored = from_json(json.dumps({"description": "A run of before.", "model": model}))
    torch.manual_seed(0)
    network = build(stored).model
    heads = [head for name, head in network.named_modules() if re.search(r"heads\.\w+(\.2)?$", name)]
    for head in [head for head in heads if isinstance(head, torch.nn.Conv2d)]:
        assert head.weight.std() < 0.012
    assert bool(heads) == (decoder in ("fcn", "atrc"))
    aspp = [module for module in network.modules() if isinstance(module, ASPP)]
    for pyramid in aspp:
        assert [branch[0].dilation[0] for branch in pyramid.branches] == [1, 6, 12, 18]
        assert pyramid.dropout.p == 0.5
    levels = [module.conv for module in network.modules() if isinstance(module, PyramidLevel)]
    for conv in levels:
        bound = conv.weight[0].numel() ** -0.5  # torch's own: uniform
        assert conv.weight.abs().max() <= bound
        assert conv.bias.abs().max() > 0
    assert bool(aspp) == bool(levels) == (not heads)


def test_single_task_recipes_fit_the_networks_that_start_from_them() -> None:
    """PASCAL's Cross-Stitch takes the trunk and the head of every single-task network, tensor by tensor."""
    joined = build(RECIPES["pascal-cross-stitch"]).model
    states = {name: build(RECIPES[f"pascal-single-{name}"]).model.state_dict() for name in joined.tasks}
    assert joined.load_single_tasks(states) == len([key for key in joined.state_dict() if "fusion" not in key])


def test_every_published_recipe_says_what_its_paper_reports() -> None:
    assert not [name for module in (nyuv2, pascal) for name in module.RECIPES if name not in PUBLISHED]
    assert not set(PUBLISHED) - set(RECIPES)


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (WEIGHTINGS["pcgrad"], {"temperature": 2}, "no option 'temperature'; its options are aggregator, seed"),
        (WEIGHTINGS["cagrad"], {"c": "a"}, "option c of it is 'a'; expected a number"),
        (WEIGHTINGS["graddrop"], {"leak": 1}, "no option 'leak'"),  # an object of Python
        (WEIGHTINGS["aligned-mtl"], {"scale_mode": "x"}, "is 'x'; expected one of min, median, rmse"),
        (REGULARIZERS["auxiliary-heads"], {"widht": 3}, "no option 'widht'; .*width, .*num_samples"),
        (REGULARIZERS["triplane-xy"], {"stride": "a"}, "option stride of it is 'a'; expected a whole number"),
        (REGULARIZERS["triplane-xy"], {"strid": 8}, "no option 'strid'"),
    ],
)
def test_options_that_are_handed_on_are_checked(build: type, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        require_options("it", build, options)


def test_options_of_a_part_that_takes_any_are_its_own() -> None:
    """As where a plug-in's constructor reads them by itself, be there options of its base or none."""

    class Own(Weighting):
        def __init__(self, names: Sequence[str], *, weights: Mapping[str, float], **options: float) -> None:
            super().__init__(names, weights=weights)

    class Head(DECODERS["fcn"]):
        def __init__(self, channels: Sequence[int], *, strides: Sequence[int], tasks: dict, **head: float) -> None:
            super().__init__(channels, strides=strides, tasks=tasks, width=8)

    require_options("it", Own, {"anything": 1.0})
    require_options("it", Head, {"anything": 1.0})
    require_options("it", WEIGHTINGS["cagrad"], {"c": 0.5})
    require_options("it", REGULARIZERS["decoder-2d"], {"num_samples": 4, "width": 8})


@pytest.mark.parametrize(
    ("place", "options", "field"),
    [
        ("regularizer__options", {"weight": 2.0}, r"regularizer\.weight"),
        ("model__decoder_options", {"strides": (1,)}, "the backbone"),
        ("weighting__options", {"weights": {"depth": 1.0}}, r"weighting\.weights"),
        ("data__options", {"split": "val"}, r"data\.train_split"),
    ],
)
def test_options_that_come_from_elsewhere_in_a_recipe_are_named(place: str, options: dict, field: str) -> None:
    with pytest.raises(ValueError, match=f"{place.replace('__', '.')} has '{next(iter(options))}', .*{field}"):
        check_options(change(Recipe(), **{place: options}))
