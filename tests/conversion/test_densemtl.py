"""Published DenseMTL, PAD-Net and PAD-Net+ give the numbers of the published code."""

import pytest
import torch
from golden import golden, make_weight, our_name
from torch import nn

from triptych import tasks as make
from triptych.conversion import convert_checkpoint
from triptych.conversion.base import Checkpoint, Conversion, apply_renames, join_parts
from triptych.conversion.densemtl import exchange_renames
from triptych.decoders.densemtl import CrossTaskExchange
from triptych.models.multitask import MultiTaskModel

SLOW = ["densemtl_xtam_SDNE_nyud40", "densemtl_padnetplus_SDN_nyud40"]
CASES = [
    "densemtl_padnet_SDN_nyud40",
    "densemtl_xtam_SD_nyud40",
    *[pytest.param(n, marks=pytest.mark.slow) for n in SLOW],
]


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_published_ones(name):
    case = golden(name)
    state = case.state_dict()
    model, report = convert_checkpoint("densemtl", state, tasks=case.tasks())
    assert sum(parameter.numel() for parameter in model.parameters()) == case.manifest["parameters"]
    aliases = {key for key, _, kind, *_ in case.manifest["entries"] if kind == "alias"}
    assert set(report.unused) == aliases
    assert set(report.used) == set(state) - aliases
    with torch.no_grad():
        case.check_predictions(model(case.image()))
        features = model.backbone(case.image())
        stages = model.decoder(features)
    scale = max(case.config["active_scales"])
    for published in case.config["tasks"]:
        case.check(f"{published}/scale{scale}", stages[0][our_name(published)])
    for i, feature in enumerate(features):
        if f"stage/encoder_f{i}" in case.manifest["outputs"]:
            case.check(f"stage/encoder_f{i}", feature)


@pytest.mark.parametrize("name", ["densemtl_block_SD", "densemtl_block_SDNE"])
def test_exchange_block_equals_the_published_one(name):
    case = golden(name)
    maps = case.features()
    names = {our_name(published): published for published in case.config["tasks"]}
    exchange = CrossTaskExchange(128, list(maps))
    checkpoint = Checkpoint(case.state_dict(), dict.fromkeys(maps, make.depth()), names)
    conversion = Conversion(Block(exchange), exchange_renames(checkpoint, "exchange", {}), finish=join_parts)
    apply_renames(conversion, checkpoint.state, family="densemtl", network="block")
    exchange.eval()
    assert sum(parameter.numel() for parameter in exchange.parameters()) == case.manifest["parameters"]
    with torch.no_grad():
        joined = exchange(maps)
        for target, published in names.items():
            case.check(f"mteb_out/{published}", joined[target])
            for source in set(names) - {target}:
                message = exchange.messages[target][source](maps[target], maps[source])
                case.check(f"directed_out/{published}_from_{names[source]}", message)


class Block(MultiTaskModel):
    """An exchange block in the place of a model, for the conversion's machinery."""

    def __init__(self, exchange):
        nn.Module.__init__(self)
        self.exchange = exchange


def narrow_checkpoint(names, order):
    """Random tensors of an exchange block of 4 channels, with every target's messages joined in `order`."""
    shapes = {}
    for t in names:
        for s in (s for s in names if s != t):
            shapes |= {f"extract_{s}.0.weight": (4, 4, 3, 3), f"extract_{s}.0.bias": (4,)}
            shapes |= {f"SA_{s}.conv.weight": (2, 4, 3, 3), f"SA_{s}.attention.0.weight": (2, 4, 3, 3)}
            shapes |= {f"SxTAM_{s}.alpha": (1, 4, 1, 1), f"proj_{s}.0.weight": (4, 6, 1, 1)}
            shapes |= {f"SxTAM_{s}.conv_{x}.0.weight": (4, 4, 1, 1) for x in "bcd"}
            norms = [f"SxTAM_{s}.conv_{x}.1" for x in "bcd"] + [f"proj_{s}.1", "post.1"]
            shapes |= {f"{n}.{v}": (4,) for n in norms for v in ("weight", "bias", "running_mean", "running_var")}
    state = {
        f"m.{t}.1.{k}": make_weight("narrow", 1.0, f"{t}{k}", v, kind(k))
        for t in names
        for k, v in shapes.items()
        if f"_{t}." not in k
    }
    for t in names:
        blocks = [make_weight("narrow", 1.0, f"{t}post{s}", (4, 4, 1, 1), "weight") for s in order if s != t]
        state[f"m.{t}.1.post.0.weight"] = torch.cat(blocks, dim=1)
    return state


def kind(key):
    known = {"running_var": "running_var", "running_mean": "running_mean", "bias": "bias", "alpha": "scale"}
    last = key.rpartition(".")[2]
    return known.get(last, "norm_weight" if ".1." in key else "weight")


def test_orders_undo_the_order_in_which_messages_were_joined():
    names = ["semseg", "depth", "normals"]
    maps = {name: torch.randn(1, 4, 8, 8) for name in names}

    def convert(state, orders):
        exchange = CrossTaskExchange(4, names)
        checkpoint = Checkpoint(state, dict.fromkeys(names, make.depth()), {name: name for name in names})
        renames = exchange_renames(checkpoint, "exchange", orders)
        apply_renames(
            Conversion(Block(exchange), renames, finish=join_parts), state, family="densemtl", network="block"
        )
        with torch.no_grad():
            return exchange.eval()(maps)

    expected = convert(narrow_checkpoint(names, names), {})
    swapped = narrow_checkpoint(names, names[::-1])
    orders = {t: [s for s in names[::-1] if s != t] for t in names}
    right, wrong = convert(swapped, orders), convert(swapped, {})
    for name in names:
        assert torch.allclose(right[name], expected[name])
        assert not torch.allclose(wrong[name], expected[name], atol=1e-3)
    with pytest.raises(ValueError, match=r"orders\['depth'\] is semseg; it must name each of semseg, normals once"):
        convert(swapped, {"depth": ["semseg"]})


@pytest.mark.slow
def test_side_outputs_are_recognised_by_their_width():
    case = golden("densemtl_xtam_SD_nyud40")
    state = case.state_dict()
    model, _ = convert_checkpoint("densemtl", state, tasks=case.tasks())
    for published in case.config["tasks"]:
        for value in ("weight", "bias"):
            first, second = (f"heads.{published}.decoder.{number}.{value}" for number in (14, 15))
            state[first], state[second] = state[second], state[first]
    swapped, _ = convert_checkpoint("densemtl", state, tasks=case.tasks())
    for ours, theirs in zip(model.state_dict().values(), swapped.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_raises_for_wrong_tasks():
    state = {f"heads.{t}.decoder.0.project.0.weight": torch.zeros(1) for t in ("semseg", "depth")}
    state["backbone.encoder.conv1.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="the checkpoint has the tasks semseg, depth, tasks says semseg, edges"):
        convert_checkpoint("densemtl", state, tasks={"semseg": make.semseg(3), "boundary": make.boundary(channels=2)})
