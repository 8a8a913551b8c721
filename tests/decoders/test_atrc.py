"""ATRC: each context beside its formula, genotypes, parameters, what supervises regions."""

import pytest
import torch
from torch import nn

import triptych
from triptych import assemble
from triptych.decoders.atrc import (
    ATRC,
    BUILDERS,
    GENOTYPES,
    GlobalContext,
    LabelContext,
    LocalContext,
    pool,
    read_genotype,
)
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import Predictor
from triptych.recipes.config import ModelConfig, Recipe
from triptych.tasks import (
    boundary,
    depth,
    normals,
    nyuv2_tasks,
    pascal_context_tasks,
    regression,
    saliency,
    semseg,
)
from triptych.training.objective import Objective
from triptych.types import Sample

NYUD = nyuv2_tasks()
TASKS = {"semseg": semseg(5), "depth": depth(), "normals": normals(), "boundary": boundary(positive_weight=0.8)}


@pytest.mark.parametrize(
    ("backbone", "tasks", "genotype", "published"),
    [
        ("hrnet_w18_small_v2", NYUD, "nyud-w18", 5_060_994),
        ("hrnet_w48", NYUD, "nyud-w48", 72.5e6),
        ("hrnet_w18_small_v2", pascal_context_tasks(), "pascal-w18", 5.38e6),
    ],
)
def test_parameters_are_the_published_ones(backbone, tasks, genotype, published):
    with torch.device("meta"):
        model = triptych.create_model("atrc", backbone=backbone, tasks=tasks, decoder_options={"genotype": genotype})
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == published if isinstance(published, int) else total == pytest.approx(published, rel=1e-3)


def projected(context, target, source):
    with torch.no_grad():
        return context(target, source), context.query(target), context.key(source), context.value(source)


def test_global_context_equals_its_formula():
    out, q, k, v = projected(GlobalContext(6).eval(), torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5))
    q, k, v = (x.flatten(2) for x in (q, k, v))
    similarity = torch.einsum("bcq,bck->bqk", q, k)
    expected = torch.einsum("bqk,bck->bcq", similarity / similarity.sum(dim=2, keepdim=True), v)
    torch.testing.assert_close(out.flatten(2), expected)
    assert (k > 0).all()


def test_local_context_equals_its_definition_pixel_by_pixel():
    out, q, k, v = projected(LocalContext(6).eval(), 3 * torch.randn(1, 6, 7, 11), 3 * torch.randn(1, 6, 7, 11))
    for y in range(7):
        for x in range(11):
            near = [(i, j) for i in range(y - 4, y + 5) for j in range(x - 4, x + 5)]
            inside = [(i, j) for i, j in near if 0 <= i < 7 and 0 <= j < 11]
            logits = torch.stack([(q[0, :, y, x] * k[0, :, i, j]).sum() / 3**0.5 for i, j in inside])
            # Those outside take part with logit 0 and value 0.
            weights = logits.exp() / (logits.exp().sum() + len(near) - len(inside))
            expected = sum(w * v[0, :, i, j] for w, (i, j) in zip(weights, inside, strict=True))
            torch.testing.assert_close(out[0, :, y, x], expected)


def test_label_context_equals_its_formula():
    out, q, k, v = projected(LabelContext(6).eval(), torch.randn(2, 6, 4, 5), torch.randn(2, 6, 8, 1))
    weights = (torch.einsum("bchw,bck->bkhw", q, k[..., 0]) / 3**0.5).softmax(dim=1)
    torch.testing.assert_close(out, torch.einsum("bkhw,bck->bchw", weights, v[..., 0]))


@pytest.mark.parametrize("name", BUILDERS)
def test_half_precision_holds_what_many_pixels_sum_to(name):
    torch.manual_seed(0)
    context, maps, logits = BUILDERS[name](24).eval(), torch.randn(1, 24, 128, 128), torch.randn(1, 5, 128, 128)

    def attend():
        source = pool({"a": maps}, {"a": logits}, [("a", "a")])["a", "a"] if name.endswith("label") else maps
        return context(maps, source)

    with torch.no_grad():
        full = attend()
        with torch.autocast("cpu", torch.float16):
            half = attend()
    torch.testing.assert_close(half.float(), full, rtol=1e-2, atol=1e-2 * float(full.abs().max()))


def small(tasks=TASKS, **options):
    return ATRC((6, 10), strides=(4, 8), tasks=tasks, width=8, **options)


def features():
    return [torch.randn(2, 6, 9, 7), torch.randn(2, 10, 5, 4)]


def randomize(decoder):
    """Joins start at zero, which hides the contexts."""
    with torch.no_grad():
        for join in decoder.joins.values():
            join[1].weight.fill_(1.0)
        for logits in decoder.region_logits.values():
            logits.weight.mul_(20.0)
    return decoder.eval()


def only(target, source, context):
    return {t: {s: context if (t, s) == (target, source) else "none" for s in TASKS} for t in TASKS}


@pytest.mark.parametrize("context", ["global", "local", "target-label", "source-label"])
def test_a_context_connects_its_pair_alone(context):
    decoder = randomize(small(genotype=only("depth", "normals", context)))
    maps = features()
    with torch.no_grad():
        before = decoder(maps)[-1]
        decoder.features["normals"][1].bias += torch.randn(8)
        after = decoder(maps)[-1]
    assert {name for name in TASKS if not torch.equal(before[name], after[name])} == {"depth", "normals"}


@pytest.mark.parametrize(("context", "label"), [("target-label", "depth"), ("source-label", "normals")])
def test_label_contexts_pool_over_the_regions_of_their_task(context, label):
    decoder = randomize(small(genotype=only("depth", "normals", context)))
    assert list(decoder.regions) == list(decoder.intermediate_tasks) == [label]
    maps = features()
    with torch.no_grad():
        regions, _ = decoder(maps)
        rows = {name: nn.Sequential(*layer)(decoder_input(maps)) for name, layer in decoder.features.items()}
        pooled = pool(rows, regions, [(label, "normals")])[label, "normals"]
        shares = regions[label].flatten(2).softmax(dim=2)
        torch.testing.assert_close(pooled[..., 0], torch.einsum("bkn,bcn->bck", shares, rows["normals"].flatten(2)))


def decoder_input(maps):
    return torch.cat([maps[0], torch.nn.functional.interpolate(maps[1], size=(9, 7), mode="bilinear")], dim=1)


def test_raises_for_regions_of_an_unknown_task():
    with pytest.raises(ValueError, match="unknown task in regions 'semsge'; did you mean 'semseg'"):
        small(regions={"semsge": semseg(4)})


def test_no_context_leaves_independent_heads():
    decoder = small(genotype={t: dict.fromkeys(TASKS, 0) for t in TASKS}).eval()
    (final,) = decoder(features())
    assert list(final) == list(TASKS)
    assert not decoder.joins
    assert not decoder.regions


def test_supervision_of_regions_does_not_reach_the_trunk():
    decoder, maps = small(), [x.requires_grad_() for x in features()]
    regions, _ = decoder(maps)
    sum(raw.sum() for raw in regions.values()).backward()
    assert all(x.grad is None for x in maps)


def test_regions_are_supervised_as_classes():
    model = triptych.create_model(
        "atrc", backbone="resnet18", tasks=TASKS, backbone_options={"widths": (8,) * 4}, decoder_options={"width": 8}
    )
    assert {name: task.channels for name, task in model.intermediate_tasks.items()} == {
        "semseg": 5, "depth": 40, "normals": 40, "boundary": 2,
    }  # fmt: skip
    assert model.intermediate_tasks["boundary"].loss_function.keywords == {"positive_weight": 0.8}
    image = torch.rand(2, 3, 32, 32)
    targets = {
        "semseg": torch.randint(5, (2, 32, 32)),
        "depth": torch.rand(2, 1, 32, 32) + 1,
        "normals": torch.nn.functional.normalize(torch.randn(2, 3, 32, 32), dim=1),
        "boundary": (torch.rand(2, 1, 32, 32) > 0.9).float(),
    }
    losses = Objective(model)(Sample(image=image, targets=targets, key=("a", "b")))
    # Untrained heads of 40 classes start near ln 40.
    assert 3.0 < losses.parts["depth/auxiliary"] < 4.5


def test_regions_follow_from_what_a_task_is_and_not_from_its_name():
    renamed = {f"my_{name}": task.called(f"my_{name}") for name, task in {**TASKS, "saliency": saliency()}.items()}
    regions = small(renamed, genotype="").region_tasks
    assert {name: task.channels for name, task in regions.items()} == {
        "my_semseg": 5, "my_depth": 40, "my_normals": 40, "my_boundary": 2, "my_saliency": 2,
    }  # fmt: skip
    assert regions["my_boundary"].loss_function.keywords == {"positive_weight": 0.8}
    heat = regression("heat", 3)
    assert small({"depth": heat}).region_tasks["depth"].channels == 3


def test_runs_whose_renamed_tasks_had_other_regions_load(tmp_path):
    recipe = Recipe(model=ModelConfig("resnet18_half", "atrc", decoder_options={"width": 8}))
    tasks = {"range": depth().called("range"), "semseg": semseg(5)}
    model = assemble.build_model(recipe, tasks)
    old = ATRC(model.feature_channels, strides=model.feature_strides, tasks=tasks, width=8, regions=tasks)
    model = MultiTaskModel(model.backbone, randomize(old))
    Predictor(model, recipe=recipe).save_pretrained(tmp_path)
    loaded = Predictor.load(tmp_path).model
    assert loaded.intermediate_tasks["range"].channels == 1
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = (each.eval()(image).predictions for each in (model, loaded))
    assert all(torch.equal(before[name], raw) for name, raw in after.items())


def test_genotypes_are_read_by_code_and_name_and_wrong_ones_named():
    rows = {"depth": {"depth": 2, "semseg": "none"}, "semseg": {"semseg": "global", "depth": 4}}
    assert read_genotype(rows, ["semseg", "depth"])["depth"] == {"depth": "local"}
    assert len(GENOTYPES) == 3
    with pytest.raises(
        ValueError, match="genotype does not say what target 'semseg' takes from each of semseg, saliency"
    ):
        read_genotype("nyud-w18", ["semseg", "saliency"])
    assert read_genotype("20 41", ["semseg", "depth"]) == {
        "semseg": {"semseg": "local"},
        "depth": {"depth": "global", "semseg": "source-label"},
    }
    with pytest.raises(ValueError, match="genotype '20 4' must have 2 rows of 2 digits, for semseg, depth"):
        read_genotype("20 4", ["semseg", "depth"])
    with pytest.raises(ValueError, match="unknown context of the genotype '7'"):
        read_genotype({"depth": {"depth": 7}}, ["depth"])
    with pytest.raises(ValueError, match="unknown genotype 'nyud'; did you mean 'nyud-w"):
        read_genotype("nyud", ["depth"])
