"""The search of ATRC: its relaxation, its schedule, what it finds, and that what it finds builds the network."""

import pytest
import torch
from torch.nn import functional as F

import triptych
from triptych import assemble
from triptych.adaptation import ADAPTERS
from triptych.decoders.atrc import ATRC, CONTEXTS, read_genotype
from triptych.decoders.atrc_search import Architecture, ATRCSearch
from triptych.prediction import Predictor
from triptych.recipes.config import ModelConfig, OptimizerConfig, Recipe
from triptych.tasks import depth, normals, semseg
from triptych.training.first_weights import initialize
from triptych.training.objective import Objective
from triptych.training.optim import build_optimizer, learning_rate_factors, parameter_groups
from triptych.types import Sample

TASKS = {task.name: task for task in (semseg(5), depth(), normals())}
GENOTYPE = {
    "semseg": {"semseg": "local", "depth": "none", "normals": "source-label"},
    "depth": {"semseg": "target-label", "depth": "global", "normals": "local"},
    "normals": {"semseg": "none", "depth": "none", "normals": "none"},
}


def search(tasks=TASKS, **options):
    return ATRCSearch((6, 10), strides=(4, 8), tasks=tasks, width=8, **{"steps": 100, **options})


def features():
    return [torch.randn(2, 6, 9, 7), torch.randn(2, 10, 5, 4)]


def decide(decoder, genotype):
    """Logits so far apart that their softmax is one-hot."""
    names = sorted(decoder.tasks)
    with torch.no_grad():
        for i, target in enumerate(names):
            for j, source in enumerate(names):
                decoder.architecture.logits[i, j, CONTEXTS.index(genotype[target][source])] = 1e4


def randomize(decoder):
    """Joins start at zero, which hides the contexts, and norms as the identity."""
    with torch.no_grad():
        for name, value in [*decoder.named_parameters(), *decoder.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name != "architecture.logits" and value.is_floating_point() and value.ndim == 1:
                value.normal_(0.3, 0.5)
    return decoder.eval()


def fixed(relaxed, genotype):
    """The fixed decoder with the weights that a decided search uses."""
    decoder = ATRC((6, 10), strides=(4, 8), tasks=relaxed.tasks, width=8, genotype=genotype)
    names, state = sorted(relaxed.tasks), relaxed.state_dict()
    own = decoder.state_dict()
    for key in own:
        parts = key.split(".")
        kind = genotype[parts[1]][parts[2]] if parts[0] == "contexts" else ""
        if kind:
            old = ".".join([*parts[:3], str(CONTEXTS.index(kind) - 1), *parts[3:]])
            # Values have no scale and shift in the search: those of a fresh norm.
            own[key] = state.get(old, own[key])
        elif parts[0] == "joins" and parts[2:] == ["0", "weight"]:
            blocks = state[key].unflatten(1, (len(names), -1))
            own[key] = blocks[:, [genotype[parts[1]][s] != "none" for s in names]].flatten(1, 2)
        elif parts[0] == "mixes" and state[key].shape != own[key].shape:
            own[key] = state[key][:, : own[key].shape[1]]
        else:
            own[key] = state[key]
    decoder.load_state_dict(own)
    return decoder.eval()


def test_decided_weights_give_the_fixed_decoder():
    relaxed = randomize(search())
    decide(relaxed, GENOTYPE)
    # A target without sources: the fixed decoder has no join, whose shift the relaxed one must not add.
    with torch.no_grad():
        relaxed.joins["normals"][1].bias.zero_()
        relaxed.joins["normals"][1].running_mean.zero_()
    decoder, maps = fixed(relaxed, GENOTYPE), features()
    with torch.no_grad():
        expected, found = decoder(maps), relaxed(maps)
    for name in TASKS:
        torch.testing.assert_close(found[-1][name], expected[-1][name])
        if name in expected[0]:
            torch.testing.assert_close(found[0][name], expected[0][name])
    decide(relaxed, GENOTYPE | {"depth": {"semseg": "global", "depth": "none", "normals": "none"}})
    with torch.no_grad():
        relaxed.architecture.logits[0, 1:] = 0.0
        assert not torch.allclose(relaxed(maps)[-1]["depth"], expected[-1]["depth"], atol=1e-4)


def test_a_genotype_comes_back_and_builds_the_decoder():
    decoder = search()
    decide(decoder, GENOTYPE)
    assert decoder.found() == GENOTYPE
    assert decoder.codes() == "204 312 000"
    assert read_genotype(decoder.codes(), list(TASKS)) == read_genotype(GENOTYPE, list(TASKS))
    options = {"genotype": decoder.codes(), "width": 8}
    model = triptych.create_model(
        "atrc", backbone="resnet18", tasks=TASKS, backbone_options={"widths": (8,) * 4}, decoder_options=options
    )
    assert model.decoder.genotype == read_genotype(GENOTYPE, list(TASKS))
    text = decoder.describe()
    assert "global 1.00" in text
    assert 'genotype "204 312 000" for the tasks semseg, depth, normals' in text


def test_weights_are_shares_and_own_source_regions_are_not_offered():
    architecture = Architecture(3, steps=10, margin=0.3).train()
    own = torch.eye(3, dtype=torch.bool)
    for _ in range(12):
        weights = architecture()
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 3))
        assert (weights[own][:, CONTEXTS.index("source-label")] == 0).all()
        assert (weights[~own] > 0).any()
        architecture.advance()
    assert architecture.step == 12
    assert not architecture.frozen.any()
    assert len(search().contexts["depth"]["depth"]) == 3
    assert len(search().contexts["depth"]["semseg"]) == 4


def test_temperature_falls_and_entropy_turns_from_reward_to_penalty():
    architecture = Architecture(2, steps=100, margin=0.3).train()
    sharpness, penalties = [], []
    for step in (0, 25, 100, 1000):
        architecture.step.fill_(step)
        with torch.no_grad():
            penalties.append(architecture.penalty().item())
            sharpness.append(torch.stack([architecture() for _ in range(50)]).amax(dim=3).mean().item())
    # Two pairs of four choices and two of five, all equally likely.
    entropy = 2 * (torch.tensor(4.0).log() + torch.tensor(5.0).log()).item()
    assert penalties == pytest.approx([-0.02 * entropy, 0.0, 0.06 * entropy, 0.06 * entropy], abs=1e-6)
    assert sharpness[0] < 0.75
    assert sharpness[2] > 0.95


def test_gumbel_noise_draws_contexts_as_likely_as_their_softmax():
    architecture = Architecture(1, steps=1, margin=2.0).train()
    with torch.no_grad():
        architecture.logits[0, 0, :4] = torch.tensor([1.0, 0.0, -1.0, 0.5])
        drawn = torch.stack([architecture()[0, 0].argmax() for _ in range(3000)])
    shares = torch.bincount(drawn, minlength=5) / 3000
    torch.testing.assert_close(shares, architecture.probabilities()[0, 0], atol=0.04, rtol=0)


def test_a_leading_pair_is_frozen_and_learns_no_more():
    architecture = Architecture(2, steps=100, margin=0.3).train()
    with torch.no_grad():
        architecture.logits[0, 1, 2] = 1.2
    weights = architecture()
    assert architecture.frozen.tolist() == [[False, True], [False, False]]
    assert weights[0, 1].tolist() == [0, 0, 1, 0, 0]
    (weights.square().sum() + architecture.penalty()).backward()
    assert (architecture.logits.grad[0, 1] == 0).all()
    assert (architecture.logits.grad[1, 0] != 0).all()


def test_evaluation_draws_nothing_and_does_not_count():
    decoder, maps = randomize(search()), features()
    with torch.no_grad():
        first, again = decoder(maps)[-1], decoder(maps)[-1]
        decoder.penalties()
    assert all(torch.equal(first[name], again[name]) for name in TASKS)
    assert decoder.architecture.step == 0


def test_a_search_from_the_weights_of_another_begins_at_its_beginning(tmp_path):
    recipe = Recipe(model=ModelConfig("resnet18_half", "atrc-search", decoder_options={"width": 8, "steps": 2}))
    ended, new = (assemble.build_model(recipe, {"depth": depth()}) for _ in range(2))
    decide(ended.decoder, {"depth": {"depth": "global"}})
    with torch.no_grad():
        ended.decoder.architecture()
    ended.decoder.architecture.step.fill_(2)
    Predictor(ended, recipe=recipe).save_pretrained(tmp_path)
    begun = {name: value.clone() for name, value in new.decoder.architecture.state_dict().items()}
    report = initialize(new, (str(tmp_path),))
    assert all(torch.equal(value, begun[name]) for name, value in new.decoder.architecture.state_dict().items())
    others = {name: value for name, value in new.state_dict().items() if "architecture" not in name}
    assert all(torch.equal(value, ended.state_dict()[name]) for name, value in others.items())
    assert report["missing"] == []
    assert all("architecture" in name for name in report["unexpected"])


def test_the_objective_adds_the_entropy_and_the_logits_have_a_rate():
    model = triptych.create_model(
        "atrc-search",
        backbone="resnet18",
        tasks={"depth": TASKS["depth"]},
        backbone_options={"widths": (8,) * 4},
        decoder_options={"width": 8},
    ).train()
    losses = Objective(model)(Sample(torch.rand(2, 3, 32, 32), {"depth": torch.rand(2, 1, 32, 32)}, ("a", "b")))
    torch.testing.assert_close(losses.adaptation, {"model/entropy": model.decoder.architecture.penalty()})
    assert losses.adaptation["model/entropy"] < 0
    factors = learning_rate_factors(model, OptimizerConfig(fusion_lr_factor=7.0))
    assert {name for name, factor in factors.items() if factor == 7.0} == {"decoder.architecture.logits"}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_frozen_pair_stays_as_sure_as_it_was(name: str):
    """Logits are not decayed: without a gradient none moves, and `describe` tells what it was frozen at."""
    decoder = search()
    with torch.no_grad():
        decoder.architecture.logits.fill_(0.1)[0, 1, 2] = 1.5
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    config = OptimizerConfig(name=name, lr=0.01, momentum=0.9, weight_decay=5e-4, fusion_lr_factor=100.0)
    optimizer = build_optimizer(parameter_groups({"decoder": decoder}, config), config)
    for parameter in decoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(5):
        optimizer.step()
    after = decoder.state_dict()
    assert torch.equal(after["architecture.logits"], before["architecture.logits"])
    assert not any(torch.equal(after[key], before[key]) for key in before if key.endswith("query.0.0.weight"))


def test_an_adapter_takes_no_turn_of_the_search_and_hides_no_entropy():
    """Its pass over unlabelled images does not count, and its own entropy joins that of the search."""
    tasks = {"semseg": TASKS["semseg"]}
    options = {"backbone_options": {"widths": (8,) * 4}, "decoder_options": {"width": 8, "steps": 9}}
    model = triptych.create_model("atrc-search", backbone="resnet18", tasks=tasks, **options)
    adapter = ADAPTERS["min-ent"](model, size=(32, 32), weights={"semseg": 1.0}, weight=1.0)
    sample = Sample(torch.rand(2, 3, 32, 32), {"semseg": torch.randint(0, 5, (2, 32, 32))}, ("a", "b"))
    for step in (1, 2):
        losses = Objective(model, adapter=adapter).train()(sample, Sample(sample.image, {}, sample.key))
        assert model.decoder.architecture.step == step
        terms = losses.adaptation
        torch.testing.assert_close(terms.pop("model/entropy"), model.decoder.architecture.penalty())
        [entropy] = terms.values()
        assert 0 < entropy < 1


def far_marks(batch=16, length=40):
    """A mark at one end says which class the pixels at the other end have: out of reach of a 9 x 9 neighborhood."""
    mark = torch.randint(2, (batch,))
    x = torch.zeros(batch, 2, 1, length)
    x[:, 0] = 0.1 * torch.randn(batch, 1, length)
    x[:, 1, :, 30:] = (2.0 * mark - 1.0)[:, None, None]
    target = torch.full((batch, 1, length), 255)
    target[..., :20] = mark[:, None, None]
    return x, target


def test_the_search_prefers_contexts_that_inform():
    torch.manual_seed(0)
    tasks = {"semseg": semseg(2)}
    decoder = ATRCSearch((2,), strides=(1,), tasks=tasks, width=8, steps=120, margin=2.0).train()
    weights = [p for name, p in decoder.named_parameters() if name != "architecture.logits"]
    optimizer = torch.optim.Adam([{"params": weights, "lr": 1e-2}, {"params": decoder.architecture.logits, "lr": 3e-2}])
    for _ in range(120):
        x, target = far_marks()
        loss = F.cross_entropy(decoder([x])[-1]["semseg"], target, ignore_index=255)
        optimizer.zero_grad()
        (loss + decoder.penalties()["entropy"]).backward()
        optimizer.step()
    none, near, *far = decoder.architecture.probabilities()[0, 0, [0, 2, 1, 3]].tolist()
    assert sum(far) > 0.9 > 10 * (none + near)
    assert decoder.found()["semseg"]["semseg"] in ("global", "target-label")
    assert loss < 0.2


def test_raises_for_wrong_steps():
    with pytest.raises(ValueError, match="steps of a search are 0; give those of the recipe"):
        search(steps=0)
