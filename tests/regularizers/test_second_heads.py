"""A second decoder like the first one, beside every decoder there is; a new entry in `DECODERS` is enrolled."""

import pytest
import torch
from entries import own_entries
from regularizers.test_architectures import SIZE, TASKS, build
from test_models import OPTIONS

from triptych.assemble import build_regularizer
from triptych.decoders import DECODERS
from triptych.decoders.baseline import FCN
from triptych.models import ARCHITECTURES
from triptych.recipes.config import ModelConfig, Recipe, RegularizerConfig, WeightingConfig
from triptych.regularizers import REGULARIZERS
from triptych.training.objective import Objective
from triptych.types import Sample

QUICK = ("fcn", "pap", "mti-net", "densemtl")


def recipe_of(name: str, **options: object) -> Recipe:
    return Recipe(
        model=ModelConfig(decoder=name, decoder_options=OPTIONS.get(name, {})),
        weighting=WeightingConfig(auxiliary_factor=0.5),
        regularizer=RegularizerConfig(name="second-heads", options=options),
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in own_entries(DECODERS)]
)
def test_the_copy_is_like_the_first_and_trained_like_it(name: str) -> None:
    """The same layers from other weights; with the first one's weights, the losses of the network itself."""
    model = build(name).eval()
    recipe = recipe_of(name)
    second = build_regularizer(recipe, model).eval()
    own, other = model.decoder.state_dict(), second.decoder.state_dict()
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in other.items()}
    drawn = [key for key, value in own.items() if value.is_floating_point() and value.dim() > 1 and value.std() > 0]
    assert drawn
    assert not any(torch.equal(own[key], other[key]) for key in drawn if own[key].unique().numel() > 2)
    targets = {
        key: torch.rand(2, task.target_channels, *SIZE) if task.target_channels else torch.randint(0, 4, (2, *SIZE))
        for key, task in TASKS.items()
    }
    targets["boundary"] = targets["boundary"].round()
    sample = Sample(torch.rand(2, 3, *SIZE), targets)
    output = model(sample.image)
    before = second(output, sample)
    second.decoder.load_state_dict(own)
    found = second(output, sample)
    expected = Objective(model, auxiliary_factor=0.5)(sample).tasks
    assert list(found) == list(expected)
    for key, loss in expected.items():
        torch.testing.assert_close(found[key], loss)
        assert before[key].isfinite()
    assert any(before[key] != loss for key, loss in expected.items())


def test_it_learns_beside_the_first_and_supervises_what_they_share() -> None:
    model = build("fcn")
    second = build_regularizer(recipe_of("fcn", rendered=("depth",), schedule="constant"), model)
    sample = Sample(torch.rand(2, 3, *SIZE), {"depth": torch.rand(2, 1, *SIZE)})
    losses = second(model.train()(sample.image), sample)
    assert list(losses) == ["depth"]
    losses["depth"].backward()
    assert all(p.grad.abs().sum() > 0 for p in second.decoder.heads["depth"].parameters())
    assert all(p.grad is None for p in model.decoder.parameters())
    assert all(p.grad.isfinite().all() for p in model.backbone.parameters() if p.grad is not None)
    assert any(p.grad is not None for p in model.backbone.parameters())


def test_dropout_of_the_copy_leaves_the_networks_random_numbers_alone() -> None:
    model = build("deeplab")
    second = build_regularizer(recipe_of("deeplab"), model)
    features = [maps.detach() for maps in model.train()(torch.rand(2, 3, *SIZE)).features]
    state = torch.get_rng_state()
    one, other = second.decode(features)[-1], second.decode(features)[-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one["semseg"], other["semseg"])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_that_shares_inside_has_no_heads_to_copy(name: str) -> None:
    with pytest.raises(ValueError, match=rf"copies the decoder.*'{name}' shares inside its encoder.*auxiliary-heads"):
        build_regularizer(recipe_of(name), build(name))


def test_a_decoder_of_other_features_is_refused() -> None:
    decoder = FCN((6, 10), strides=(4, 8), tasks=TASKS, width=4)
    with pytest.raises(ValueError, match=r"channels at strides \(4, 8\), the shared features have \(6, 12\)"):
        REGULARIZERS["second-heads"]((6, 12), decoder, strides=(4, 8), tasks=TASKS)


def test_a_message_on_its_options_names_no_other_regularizer() -> None:
    recipe = recipe_of("fcn", rendered=("depth",), task_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"^regularizer: task_weights has 2 entries for the rendered tasks depth"):
        build_regularizer(recipe, build("fcn"))
