"""Frozen means frozen: nothing of it moves, remembers, drops or is kept for a backward pass."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training.test_processes import finish, start
from training.tiny import RECIPE, Rectangles, change

import triptych
from triptych import assemble
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import Recipe
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train
from triptych.training.optim import learning_rate_factors
from triptych.training.sharding import synchronize_norms
from triptych.types import collate

FROZEN = change(RECIPE, model__decoder="fcn", model__decoder_options={"width": 8}, model__freeze=("backbone",))
LIKE_BEFORE = {
    "plain": FROZEN,
    "accumulated": change(FROZEN, training__accumulate=2),
    "averaged": change(FROZEN, training__ema=0.9),
    "bf16": change(FROZEN, training__precision="bf16"),
    "channels last": change(FROZEN, training__channels_last=True),
    "recomputed": change(FROZEN, training__checkpoint_gradients=True),
}


def build(decoder: str = "fcn", tasks: tuple[str, ...] = ("semseg", "depth")) -> MultiTaskModel:
    known = Rectangles().tasks
    return triptych.create_model(
        decoder,
        backbone="stairs",
        tasks={name: known[name] for name in tasks},
        decoder_options={"width": 8, **({"dropout": 0.5} if decoder == "fcn" else {})},
    )


def first_weights(recipe: Recipe) -> dict[str, Tensor]:
    torch.manual_seed(recipe.seed)
    return build(recipe.model.decoder).state_dict()


def trunk(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith("backbone.")}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def check_run(recipe: Recipe, run: Path) -> None:
    """The deployed trunk is the first one, bit for bit, and the optimizer knows nothing of it; the heads moved."""
    deployed, first = load_file(run / "model.safetensors"), first_weights(recipe)
    assert_same(trunk(deployed), trunk(first))
    assert not torch.equal(deployed["decoder.heads.depth.2.weight"], first["decoder.heads.depth.2.weight"])
    remembered = load_file(list_checkpoints(run)[-1] / "optimizer.safetensors")
    assert remembered
    assert not [name for name in remembered if "backbone" in name]


@pytest.mark.parametrize("name", LIKE_BEFORE)
def test_a_frozen_trunk_stays_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_run(LIKE_BEFORE[name], train(LIKE_BEFORE[name], tmp_path / "run", device="cpu", progress=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DDP", "FSDP", "compiled"])
def test_a_frozen_trunk_stays_in_other_processes(name: str, tmp_path: Path) -> None:
    """Compiled code too: the compiler cannot follow the checks of annotations."""
    recipe = change(FROZEN, training__compile=name == "compiled")
    variables = {"ACCELERATE_USE_FSDP": "true"} if name == "FSDP" else {}
    finish(start(tmp_path / "run", recipe, processes=1 if name == "compiled" else 2, **variables))
    check_run(recipe, tmp_path / "run")


def test_the_mode_of_what_is_frozen_never_changes() -> None:
    model = build()
    model.freeze(["backbone", "heads.semseg"])
    assert model.training
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for module in model.backbone.modules())
        assert not any(module.training for module in model.decoder.heads["semseg"].modules())
        assert all(module.training == mode for module in model.decoder.heads["depth"].modules())
    images = torch.rand(2, 3, 32, 48)
    first, second = model(images), model(images)
    assert torch.equal(first.predictions["semseg"], second.predictions["semseg"])
    assert not torch.equal(first.predictions["depth"], second.predictions["depth"])  # its dropout is on


def test_norms_alone_can_be_frozen() -> None:
    model = build()
    model.freeze(["backbone.norms"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sum(raw.square().mean() for raw in model(torch.rand(2, 3, 32, 48)).predictions.values()).backward()
    for stage in model.backbone.body:
        assert stage[0].weight.grad is not None
        assert stage[1].weight.grad is None
    assert_same(trunk(model.state_dict()), trunk(before))


def test_frozen_norms_stay_frozen_when_processes_share_statistics() -> None:
    """Synchronizing replaces norms by others."""
    model = build()
    model.freeze(["backbone.norms"])
    synchronized = synchronize_norms(model).train()
    norms = [module for module in synchronized.backbone.modules() if isinstance(module, torch.nn.SyncBatchNorm)]
    assert len(norms) == 2
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert {"backbone.body.0.1.running_mean", "backbone.body.1.1.weight"} <= synchronized.frozen_names()


def test_no_activation_of_a_frozen_trunk_is_kept() -> None:
    """What autograd keeps of a step is what it keeps of the decoder on given features."""
    sample = collate([Rectangles()[i] for i in range(2)])

    def kept(model: MultiTaskModel, *, from_features: bool = False) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        features = model.backbone(sample.image) if from_features else []
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            final = model.decoder(features)[-1] if from_features else model(sample.image).predictions
            sum(raw.square().mean() for raw in final.values())
        return sum(sizes.values())

    model = build()
    whole = kept(model)
    model.freeze(["backbone"])
    frozen = kept(model)
    resized = 2 * sum(task.channels for task in model.tasks.values()) * 32 * 48
    assert frozen <= kept(model, from_features=True) + 2 * resized
    assert frozen < whole


def test_a_new_task_leaves_the_old_outputs_bit_for_bit(tmp_path: Path) -> None:
    old_recipe = change(RECIPE, model__decoder="fcn", model__decoder_options={"width": 8, "dropout": 0.2})
    old = train(old_recipe, tmp_path / "old", device="cpu", progress=False)
    recipe = change(
        old_recipe,
        data__tasks=("normals", "semseg", "depth"),
        model__initialize_from=(str(old),),
        model__freeze=("backbone", "heads.semseg", "heads.depth"),
    )
    new = train(recipe, tmp_path / "new", device="cpu", progress=False)
    images = torch.rand(2, 3, 37, 50)
    before, after = (triptych.Predictor.load(run).predict(images) for run in (old, new))
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    stored, resumed = load_file(new / "model.safetensors"), load_file(old / "model.safetensors")
    assert_same({name: stored[name] for name in resumed}, resumed)


def test_a_frozen_head_has_to_come_from_the_run(tmp_path: Path) -> None:
    old = train(change(FROZEN, data__tasks=("depth",)), tmp_path / "old", device="cpu", progress=False)
    recipe = change(FROZEN, model__initialize_from=(str(old),), model__freeze=("backbone", "heads.semseg"))
    with pytest.raises(ValueError, match=r"keep \d+ tensors at random values, such as decoder\.heads\.semseg"):
        train(recipe, tmp_path / "new", device="cpu", progress=False)


PLAIN, HALF = {"widths": (4, 8, 12, 16)}, {"mean": (0.5, 0.5, 0.5)}
SMALL = change(
    RECIPE,
    model__backbone="resnet18",
    model__backbone_options=PLAIN | HALF,
    model__decoder="fcn",
    model__decoder_options={"width": 8},
    data__size=(32, 32),
    schedule__steps=1,
)


def save(recipe: Recipe, folder: Path) -> str:
    """A network with random weights as a run."""
    model = assemble.build_model(recipe, {name: Rectangles().tasks[name] for name in recipe.data.tasks})
    return str(triptych.Predictor(model, recipe=recipe).save_pretrained(folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model__backbone_options": PLAIN},
            r"backbone_options\.mean is \(0\.5, 0\.5, 0\.5\) and not",
        ),
        (
            {"model__backbone_options": SMALL.model.backbone_options | {"output_stride": 8}},
            "output_stride is 32 and not 8",
        ),
        ({"data__size": (32, 48)}, r"data\.size is \(32, 32\) and not \(32, 48\)"),
    ],
)
def test_what_is_frozen_gives_what_it_gave(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    """Options without a tensor, and sizes by which images are padded, change it with every weight in its place."""
    old = save(SMALL, tmp_path / "old")
    new = change(
        SMALL,
        data__tasks=("semseg", "depth", "normals"),
        model__initialize_from=(old,),
        model__freeze=("backbone", "heads.semseg"),
        model__decoder_options={"width": 8, "dropout": 0.2},  # of which a trained network knows nothing
    )
    with pytest.raises(ValueError, match=f"keeps the trunk, the head of semseg of .*{words}.*model.weights = {old}"):
        train(change(new, **changes), tmp_path / "new", device="cpu", progress=False)


def test_a_frozen_trunk_sees_images_as_it_did(tmp_path: Path) -> None:
    old = save(SMALL, tmp_path / "old")
    plain = change(SMALL, model__backbone_options=PLAIN, model__initialize_from=(old,))
    with pytest.raises(ValueError, match=r"keeps the trunk of .*, where model\.backbone_options\.mean is"):
        train(change(plain, model__freeze=("backbone",)), tmp_path / "new", device="cpu", progress=False)
    run = train(plain, tmp_path / "new", device="cpu", progress=False)  # it trains, and is told
    assert "backbone_options.mean is (0.485, 0.456, 0.406), and was (0.5, 0.5, 0.5) in" in (run / "log.txt").read_text()


def test_a_frozen_head_on_what_trains_is_told(tmp_path: Path) -> None:
    """Its own weights stay, its output does not."""
    recipe = change(FROZEN, schedule__steps=1, model__freeze=("heads.depth",))
    run = train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert (
        "heads.depth stays, but not its output: what it reads is trained, such as backbone.body.0"
        in (run / "log.txt").read_text()
    )
    recipe = change(recipe, model__freeze=("backbone", "heads.depth"))
    run = train(recipe, tmp_path / "idle", device="cpu", progress=False)
    assert "stays, but" not in (run / "log.txt").read_text()


@pytest.mark.parametrize(
    ("freeze", "decoder", "words"),
    [
        (("backbon",), "fcn", "no part 'backbon'; did you mean 'backbone' or 'backbone.body' or"),
        (("heads.norm",), "fcn", "no part 'heads.norm'"),
        (("decoder.norms", "backbone.body.9"), "fcn", "no part 'backbone.body.9'"),
        (("decoder.heads.depth.2.norms",), "fcn", "'decoder.heads.depth.2' of the network has no norm layer; leave"),
        (("backbone.body.0.2",), "fcn", "names backbone.body.0.2, which has nothing that training changes"),
        (("heads.depth",), "pad-net", "tasks exchange features"),
        (("heads.depth",), "mti-net", "tasks exchange features"),
        (("backbone", "decoder"), "fcn", "leaves nothing to train"),
    ],
)
def test_names_that_freeze_nothing_or_too_much(
    freeze: tuple[str, ...], decoder: str, words: str, tmp_path: Path
) -> None:
    recipe = change(FROZEN, model__freeze=freeze, model__decoder=decoder, model__decoder_options={})
    with pytest.raises(ValueError, match=words):
        train(recipe, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_one_task_per_step_needs_tasks_that_train(tmp_path: Path) -> None:
    recipe = change(FROZEN, weighting__name="one-task", model__freeze=("backbone", "heads.depth"))
    with pytest.raises(ValueError, match="'one-task' would give steps to depth, of which nothing trains"):
        train(recipe, tmp_path / "run", device="cpu", progress=False)


def test_tasks_are_idle_where_all_that_they_depend_on_is_frozen() -> None:
    model = build(tasks=("semseg", "depth", "normals"))
    model.freeze(["heads.depth"])
    assert model.idle_tasks() == []
    model.freeze(["backbone", "heads.semseg"])
    assert model.idle_tasks() == ["semseg", "depth"]
    model.decoder.shared = torch.nn.Linear(1, 1)
    assert model.idle_tasks() == []


def test_a_frozen_trunk_of_random_weights_is_told(tmp_path: Path) -> None:
    run = train(change(FROZEN, schedule__steps=1), tmp_path / "run", device="cpu", progress=False)
    assert "the frozen trunk has random weights" in (run / "log.txt").read_text()
    recipe = change(FROZEN, schedule__steps=1, model__initialize_from=(str(run),))
    again = train(recipe, tmp_path / "again", device="cpu", progress=False)
    assert "random weights" not in (again / "log.txt").read_text()


def test_every_decoder_says_whether_its_heads_are_independent(tmp_path: Path) -> None:
    """Where it says so, no gradient of one task's output reaches what is another task's alone."""
    from triptych.decoders import DECODERS
    from triptych.models.parts import find_part

    for name in (name for name, decoder in DECODERS.items() if decoder.has_independent_heads):
        model = triptych.create_model(
            name,
            backbone="resnet18",
            tasks={task: Rectangles().tasks[task] for task in ("semseg", "depth")},
            backbone_options={"widths": (8, 8, 8, 8)},
        )
        model(torch.rand(2, 3, 64, 64)).predictions["depth"].sum().backward()
        assert all(p.grad is None for p in find_part(model, "heads.semseg").parameters), name
        assert all(p.grad is not None for p in find_part(model, "heads.depth").parameters), name
        model.eval()
        features = model.backbone(torch.rand(2, 3, 64, 64))
        for task, raw in model.decoder(features)[-1].items():
            assert torch.equal(model.decoder.predict_task(task, features), raw), name


def test_learning_rates_of_parts() -> None:
    model = build()
    config = change(
        RECIPE, optimizer__lr_factors={"backbone": 0.1, "backbone.body.0": 0.5, "heads.depth": 3.0}
    ).optimizer
    factors = learning_rate_factors(model, config)
    assert factors["backbone.body.0.0.weight"] == pytest.approx(0.05)
    assert factors["backbone.body.1.0.weight"] == pytest.approx(0.1)
    assert factors["decoder.heads.depth.2.bias"] == 3.0
    assert factors["decoder.heads.semseg.2.bias"] == 1.0
    model.freeze(["backbone"])
    with pytest.raises(ValueError, match=r"lr_factors names 'backbone', of which nothing trains"):
        learning_rate_factors(model, config)
