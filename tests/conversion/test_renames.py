"""Conversion accounts for every tensor and names what is wrong."""

import pytest
import torch
from golden import AS_IS, golden

from triptych.backbones import create_backbone
from triptych.conversion import FAMILIES, convert_checkpoint, from_published
from triptych.conversion.base import Checkpoint, Conversion, apply_renames, move, rename, unused
from triptych.conversion.run_folder import convert_file
from triptych.conversion.trunks import trunk_name
from triptych.decoders import FCN
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import ModelConfig
from triptych.tasks import depth, normals, semseg

TASKS = {"depth": depth()}


def tiny():
    trunk = create_backbone("resnet18", widths=(8, 8, 8, 8))
    return MultiTaskModel(trunk, FCN(trunk.channels, strides=trunk.strides, tasks=TASKS, width=4))


def published(model):
    return {"old." + key: value.clone() for key, value in model.state_dict().items()}


CONFIG = ModelConfig(decoder="fcn")
RULES = [rename(r"old\.(.+)", r"\1")]


def test_every_tensor_is_used_under_our_name():
    source, target = tiny(), tiny()
    state = published(source) | {"loss.weight": torch.ones(1)}
    report = apply_renames(
        Conversion(target, [*RULES, unused(r"loss\..+", "of the loss")], CONFIG), state, family="f", network="s"
    )
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)
        assert report.used["old." + key] == key
    assert report.unused == {"loss.weight": "of the loss"}
    assert report.summary == f"f s: {len(report.used)} tensors used, 1 known and unused, 0 unknown, 0 missing"
    assert len(report.table().splitlines()) == len(state)
    assert "loss.weight" in report.table()


def test_unknown_missing_and_misshapen_tensors_are_errors():
    state = published(tiny())
    with pytest.raises(ValueError, match=r"f s: unknown tensors: extra\.weight\."):
        apply_renames(
            Conversion(tiny(), RULES, CONFIG), state | {"extra.weight": torch.ones(1)}, family="f", network="s"
        )
    with pytest.raises(ValueError, match=r"unknown tensors: backbone\.body\.conv9"):
        apply_renames(
            Conversion(tiny(), RULES, CONFIG),
            state | {"old.backbone.body.conv9": torch.ones(1)},
            family="f",
            network="s",
        )
    less = {key: value for key, value in state.items() if key != "old.backbone.body.conv1.weight"}
    with pytest.raises(ValueError, match=r"nothing in the checkpoint for: backbone\.body\.conv1\.weight"):
        apply_renames(Conversion(tiny(), RULES, CONFIG), less, family="f", network="s")
    state["old.decoder.heads.depth.2.bias"] = torch.zeros(40)
    with pytest.raises(
        ValueError, match=r"shapes differ .*heads\.depth\.2\.bias \(40,\) in the checkpoint, \(1,\) in the model"
    ):
        apply_renames(Conversion(tiny(), RULES, CONFIG), state, family="f", network="s")


def test_a_failed_conversion_leaves_the_model_alone():
    model = tiny()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="unknown tensors"):
        apply_renames(
            Conversion(model, RULES, CONFIG), published(tiny()) | {"extra": torch.ones(1)}, family="f", network="s"
        )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_rule_takes_whole_names_only():
    state = published(tiny()) | {"extra.weight.old": torch.ones(1)}
    conversion = Conversion(tiny(), [*RULES, unused(r"extra\.weight", "known")], CONFIG)
    with pytest.raises(ValueError, match=r"unknown tensors: extra\.weight\.old"):
        apply_renames(conversion, state, family="f", network="s")


def test_two_tensors_for_one_place_are_an_error():
    state = published(tiny()) | {"other.backbone.body.conv1.weight": torch.zeros(64, 3, 7, 7)}
    with pytest.raises(ValueError, match=r"both become backbone\.body\.conv1\.weight"):
        apply_renames(
            Conversion(tiny(), [*RULES, rename(r"other\.(.+)", r"\1")], CONFIG), state, family="f", network="s"
        )


def test_counters_may_be_missing_and_values_may_change_on_the_way():
    source, target = tiny(), tiny()
    state = {key: value for key, value in published(source).items() if not key.endswith("num_batches_tracked")}
    double = rename(r"old\.(decoder\.heads\.depth\.2\.bias)", r"\1", lambda bias: 2 * bias + 1)
    apply_renames(Conversion(target, [double, *RULES], CONFIG), state, family="f", network="s")
    assert torch.equal(target.decoder.heads["depth"][2].bias, 2 * source.decoder.heads["depth"][2].bias + 1)


def test_finish_rearranges_at_the_end():
    source, target = tiny(), tiny()
    state = published(source)
    state["old.half.0"], state["old.half.1"] = state.pop("old.decoder.heads.depth.2.weight").split(2, dim=1)

    def join(filled):
        weight = torch.cat([filled.pop("half.0"), filled.pop("half.1")], dim=1)
        return filled | {"decoder.heads.depth.2.weight": weight}

    apply_renames(Conversion(target, RULES, CONFIG, finish=join), state, family="f", network="s")
    assert torch.equal(target.decoder.heads["depth"][2].weight, source.decoder.heads["depth"][2].weight)


def test_move_keeps_names_below_a_module_and_nothing_beside_it():
    rule = move("a.b", "c")
    assert rule.pattern.fullmatch("a.b.weight").expand(rule.target) == "c.weight"
    assert rule.pattern.fullmatch("a.bb.weight") is None
    assert rule.pattern.fullmatch("aXb.weight") is None


def test_tasks_of_the_checkpoint_are_required():
    checkpoint = Checkpoint({"h.depth.w": torch.ones(1)}, {"semseg": semseg(2)}, {"semseg": "semseg"})
    with pytest.raises(ValueError, match=r"has the tasks depth, tasks says semseg \(published names\)"):
        checkpoint.require_tasks(r"h\.(\w+)\..+")


def test_raises_for_a_checkpoint_of_another_family():
    case = golden("survey_mtl_hrnet18_nyud2")
    with pytest.raises(ValueError, match="not of family 'atrc': its keys look like hrnet of 'survey'"):
        from_published("atrc", case.state_dict(), tasks=case.tasks())


def test_a_checkpoint_of_nobody_shows_its_keys():
    with pytest.raises(
        ValueError, match=r"none of the networks of 'survey' \(.*deeplab.*\): its keys look like conv\.weight"
    ):
        from_published("survey", {"conv.weight": torch.zeros(1)}, tasks=TASKS)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("backbone.body.conv1.weight", "as this library names them: evaluate or predict from its run folder"),
        ("layer1.0.conv1.weight", "name no task: a backbone alone is loaded by model.weights"),
    ],
)
def test_a_checkpoint_that_is_no_published_network_is_told_where_it_belongs(tmp_path, key, advice):
    torch.save({key: torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"none of the networks of 'invpt'.*{advice}"):
        convert_file("invpt", tmp_path / "weights.pth", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_raises_for_a_checkpoint_without_tensors():
    with pytest.raises(ValueError, match="the checkpoint holds no tensors"):
        from_published("survey", {}, tasks=TASKS)


def test_an_incomplete_checkpoint_names_what_it_lacks():
    state = {"backbone.pos_embed": torch.zeros(1, 17, 192), "multi_task_decoder.invpt.mix_proj.depth.0.weight": 0}
    state |= {"multi_task_decoder.preliminary_decoder.depth.0.conv.weight": 0}
    state |= {f"backbone.blocks.{i}.norm1.bias": torch.zeros(192) for i in range(12)}
    with pytest.raises(ValueError, match=r"the checkpoint has no tensor backbone\.patch_embed\.proj\.weight"):
        from_published("invpt", state, tasks=TASKS)
    state = {"backbone.encoder.conv1.weight": torch.zeros(1)}
    state |= {f"backbone.encoder.layer3.{i}.conv3.weight": torch.zeros(1) for i in range(23)}
    state["heads.depth.decoder.0.project.0.weight"] = torch.zeros(1)
    state["heads.depth.decoder.12.block.0.conv.bias"] = torch.zeros(64)
    with pytest.raises(ValueError, match=r"no tensor heads\.depth\.decoder\.14\.weight.*variant that is not converted"):
        from_published("densemtl", state, tasks=TASKS)


def test_raises_for_a_tensor_that_does_not_split():
    def split(value):
        return value.unflatten(0, (3, -1))

    renames = [rename(r"old\.(.+bias)", r"\1", split), *RULES]
    with pytest.raises(ValueError, match=r"f s: old\.\S+bias of shape \(\d+,\) does not split among 1 tasks"):
        apply_renames(Conversion(tiny(), renames, CONFIG), published(tiny()), family="f", network="s")


def test_raises_for_an_order_of_other_tasks():
    state = {"nddr.conv.layer.semseg.0.weight": torch.zeros(1), "backbone.semseg.layer4.0.bn1.bias": torch.zeros(1)}
    state |= {f"heads.{name}.0.convs.0.0.weight": torch.zeros(1) for name in ("semseg", "depth")}
    state |= {f"backbone.semseg.layer3.{i}.conv3.weight": torch.zeros(1) for i in range(6)}
    tasks = {"semseg": semseg(4)} | TASKS
    with pytest.raises(ValueError, match="order is semseg, normals; it must name each of semseg, depth once"):
        from_published("survey", state, tasks=tasks, order=("semseg", "normals"))


def test_raises_for_unknown_families_and_options():
    with pytest.raises(ValueError, match="unknown family 'invpd'"):
        from_published("invpd", {}, tasks=TASKS)
    case = golden("atrc_fcn_hrnet18_nyud4")
    with pytest.raises(ValueError, match="atrc fcn has no option 'maen'; its options are mean, std"):
        from_published("atrc", case.state_dict(), tasks=case.tasks(), maen=(0, 0, 0))


def test_raises_for_wrong_tasks_and_class_counts():
    case = golden("atrc_fcn_hrnet18_nyud4")
    state = case.state_dict()
    fewer = {name: task for name, task in case.tasks().items() if name != "normals"}
    with pytest.raises(ValueError, match="tasks semseg, depth, normals, edge, tasks says semseg, depth, edge"):
        from_published("atrc", state, tasks=fewer)
    with pytest.raises(ValueError, match=r"semseg\.2\.weight \(40, 67, 1, 1\) in the checkpoint, \(21, 67, 1, 1\)"):
        from_published("atrc", state, tasks=case.tasks() | {"semseg": semseg(21)})


def test_data_parallel_prefix_classifier_and_loss_buffers():
    case = golden("atrc_fcn_hrnet18_nyud4")
    state = {f"module.{key}": value for key, value in case.state_dict().items()}
    state["module.criterion.normals.centroids"] = torch.zeros(40, 3)
    _, report = convert_checkpoint("atrc", state, tasks=case.tasks(), **AS_IS)
    assert list(report.unused) == ["criterion.normals.centroids"]
    assert len(report.used) == len(case.manifest["entries"])


def test_task_order_is_the_callers():
    case = golden("atrc_fcn_hrnet18_nyud4")
    reversed_tasks = dict(reversed(case.tasks().items()))
    model = from_published("atrc", case.state_dict(), tasks=reversed_tasks, **AS_IS)
    with torch.no_grad():
        output = model(case.image())
    assert list(output.predictions) == list(reversed_tasks)
    case.check_predictions(output)


def test_published_names_can_be_given():
    case = golden("atrc_fcn_hrnet18_nyud4")
    state = {key.replace(".depth.", ".disparity."): value for key, value in case.state_dict().items()}
    model = from_published("atrc", state, tasks=case.tasks(), names={"depth": "disparity"}, **AS_IS)
    with torch.no_grad():
        case.check_predictions(model(case.image()))


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "hrnet_w18_small_v2", "hrnet_w48"])
def test_trunks_are_recognised(name):
    with torch.device("meta"):
        state = create_backbone(name).body.state_dict()
    assert trunk_name({f"encoder.{key}": value for key, value in state.items()}, "encoder.") == name


def test_single_task_checkpoints_of_the_survey():
    case = golden("survey_mtl_hrnet18_nyud2")
    state = {
        k.replace("decoders.depth", "decoder"): v for k, v in case.state_dict().items() if "decoders.semseg" not in k
    }
    model = from_published("survey", state, tasks={"depth": case.tasks()["depth"]}, **AS_IS)
    with torch.no_grad():
        case.check("depth", model(case.image()).predictions["depth"])
    with pytest.raises(ValueError, match="single-task network, tasks has 2; give its one task"):
        from_published("survey", state, tasks={"depth": depth(), "normals": normals()})


def test_every_family_is_listed_with_distinct_networks():
    for family in FAMILIES.values():
        names = [network.name for network in family.networks]
        assert len(names) == len(set(names))
