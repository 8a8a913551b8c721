"""Weights are matched by name and shape, reported, and refused when few match."""

import copy
import errno
import re
import time
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

import triptych
from triptych.assemble import build_model
from triptych.backbones import create_backbone, timm_models
from triptych.backbones import weights as weights_module
from triptych.backbones.vit import RotaryViT, ViT, resize_positions
from triptych.backbones.weights import load_weights, read_state_dict
from triptych.prediction.pretrained import find_folder
from triptych.recipes.config import ModelConfig, Recipe
from triptych.tasks import depth


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(7)
    return create_backbone("resnet18", widths=(16, 32, 64, 128))


def fresh():
    return create_backbone("resnet18", widths=(16, 32, 64, 128))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.body.", "model.backbone."])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_local_file_is_loaded_under_any_prefix(tmp_path, trained, prefix, suffix):
    state = {prefix + key: value.clone() for key, value in trained.body.state_dict().items()}
    state["fc.weight"] = torch.zeros(10, 128)
    path = tmp_path / f"trunk.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save({"state_dict": state, "epoch": 3}, path)
    backbone = create_backbone("resnet18", widths=(16, 32, 64, 128), weights=str(path))
    assert same(backbone, trained)
    report = backbone.load_report
    assert report.share == 1
    assert set(report.matched) == set(trained.body.state_dict())
    assert report.missing == report.mismatched == ()
    assert report.unexpected == ("fc.weight",)
    assert "100.0 % of parameters" in report.summary
    assert "1 unexpected (fc.weight)" in report.summary


def test_a_file_that_holds_two_networks_is_refused(tmp_path, trained):
    """A student and its teacher, weights and their average: which one was loaded hung on order, or on hashes."""
    own = trained.body.state_dict()
    other = {key: value + 1 for key, value in own.items()}
    for one, two in (
        ("student", "teacher"),
        ("state_dict", "state_dict_ema"),
        ("module.encoder_q", "module.encoder_k"),
    ):
        nested = {one: own, two: other, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 3}
        torch.save(nested, tmp_path / "nested.pth")
        with pytest.raises(ValueError, match=rf"as many tensors in each of {one}, {two}, and they differ; save"):
            load_weights(fresh(), str(tmp_path / "nested.pth"))
        flat = {
            f"{name}.{key}": value.clone() for name, part in ((one, own), (two, other)) for key, value in part.items()
        }
        save_file(flat, tmp_path / "flat.safetensors")
        first, second = sorted((one, two), key=lambda name: (len(name), name))
        with pytest.raises(ValueError, match=rf"more than once, .* begin with {first}\., {second}\.; save the tensors"):
            load_weights(fresh(), str(tmp_path / "flat.safetensors"))
    for same_twice in ({"model": own, "copy": dict(own)}, {"backbone": own}):
        torch.save(same_twice, tmp_path / "same.pth")
        backbone = fresh()
        load_weights(backbone, str(tmp_path / "same.pth"))
        assert same(backbone, trained)


def test_of_a_network_inside_another_the_outer_one_is_taken(tmp_path, trained):
    own = {f"backbone.{key}": value for key, value in trained.body.state_dict().items()}
    save_file(own | {f"ema.{key}": value + 1 for key, value in own.items()}, tmp_path / "both.safetensors")
    backbone = fresh()
    load_weights(backbone, str(tmp_path / "both.safetensors"))
    assert same(backbone, trained)


def test_missing_and_mismatched_tensors_are_reported(tmp_path, trained):
    state = {key: value.clone() for key, value in trained.body.state_dict().items()}
    del state["bn1.weight"]
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "trunk.pth")
    report = load_weights(fresh(), str(tmp_path / "trunk.pth"))
    assert report.missing == ("bn1.weight",)
    assert report.mismatched == ("conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7)",)
    total = sum(parameter.numel() for parameter in trained.parameters())
    assert report.share == pytest.approx(1 - (64 * 3 * 49 + 64) / total)


def test_few_matches_are_an_error_that_shows_the_keys(tmp_path, trained):
    state = {f"encoder.{i}.w": value for i, value in enumerate(trained.body.state_dict().values())}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"match only 0\.0 % .* look like 'encoder\.0\.w'.*expected are 'conv1\.weight'"
    ):
        load_weights(fresh(), str(tmp_path / "other.pth"))


def test_four_fifths_of_the_network_are_not_enough(tmp_path, trained):
    state = {key: value for key, value in trained.body.state_dict().items() if not key.startswith("layer3")}
    torch.save(state, tmp_path / "part.pth")
    backbone = fresh()
    before = copy.deepcopy(backbone)
    with pytest.raises(ValueError, match=r"match only 81\.6 % of the parameters of resnet18"):
        load_weights(backbone, str(tmp_path / "part.pth"))
    assert same(backbone, before), "what is refused is not loaded"


def test_unreadable_files_are_one_line(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no\.pth does not exist; give a \.safetensors or \.pth file, or 'timm'"
    ):
        load_weights(fresh(), str(tmp_path / "no.pth"))
    (tmp_path / "bad.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="cannot be read"):
        read_state_dict(tmp_path / "bad.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no tensors"):
        read_state_dict(tmp_path / "empty.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_code_in_a_checkpoint_does_not_run(tmp_path, capsys):
    torch.save({"w": torch.zeros(1), "x": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        read_state_dict(tmp_path / "harmful.pth")
    assert "ran" not in capsys.readouterr().out


def test_position_embeddings_of_another_grid_are_resized(tmp_path):
    torch.manual_seed(3)
    source = create_backbone("vit_tiny_patch16_224", image_size=(64, 64))
    torch.save(source.body.state_dict(), tmp_path / "vit.pth")
    backbone = create_backbone("vit_tiny_patch16_224", image_size=(48, 96), weights=str(tmp_path / "vit.pth"))
    assert backbone.load_report.missing == backbone.load_report.mismatched == ()
    expected = resize_positions(source.body.pos_embed, (4, 4), (3, 6))
    assert torch.equal(backbone.body.pos_embed, expected)


def save_network(folder, backbone="vit_tiny_patch16_224", tuning="full", **options):
    """A network with random weights as the folder of a run, and its trunk."""
    ranks = {} if tuning == "full" else {"rank": 2}
    recipe = Recipe(model=ModelConfig(backbone=backbone, backbone_options=options, tuning=tuning, tuning_options=ranks))
    model = build_model(recipe, {"depth": depth()})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    triptych.Predictor(model, recipe=recipe).save_pretrained(folder)
    return model.backbone


GRIDS = {"wide": ((32, 128), (2, 8)), "square": ((64, 64), (4, 4)), "as pretrained": (None, (14, 14))}


@pytest.mark.parametrize("name", GRIDS)
def test_positions_of_a_run_are_resized_from_its_grid(tmp_path, name):
    """Also where the grids have as many places: 2 x 8, 4 x 4 and 8 x 2."""
    size, grid = GRIDS[name]
    source = save_network(tmp_path, taps=(1,), **({} if size is None else {"image_size": size})).body.pos_embed
    weights = str(tmp_path / "model.safetensors")
    for ours in ((128, 32), (32, 48), (112, 448), size):
        backbone = create_backbone("vit_tiny_patch16_224", taps=(1,), image_size=ours, weights=weights)
        assert backbone.load_report.missing == backbone.load_report.mismatched == ()
        expected = resize_positions(source, grid, backbone.body.patch_embed.grid_size)
        assert torch.equal(backbone.body.pos_embed, expected), ours


def test_positions_that_fit_two_grids_are_refused_where_nothing_tells(tmp_path):
    source = create_backbone("vit_tiny_patch16_224", taps=(1,))
    path = str(tmp_path / "vit.pth")
    torch.save(source.body.state_dict(), path)
    with pytest.raises(ValueError, match=r"196 places are .* 14 x 14 .*, or of the 7 x 28 .*leave image_size out"):
        create_backbone("vit_tiny_patch16_224", taps=(1,), image_size=(112, 448), weights=path)
    assert same(create_backbone("vit_tiny_patch16_224", taps=(1,), weights=path), source)
    # Of no other grid is anything known but this one.
    wide = create_backbone("vit_tiny_patch16_224", taps=(1,), image_size=(32, 48))
    torch.save(wide.body.state_dict(), path)
    assert same(create_backbone("vit_tiny_patch16_224", taps=(1,), image_size=(32, 48), weights=path), wide)


def test_pretrained_positions_have_the_grid_of_their_name(monkeypatch):
    made = []

    def build(name, *, pretrained=False, **options):
        made.append(timm_models.build_timm(name, **options))
        return made[-1]

    monkeypatch.setattr(weights_module, "build_timm", build)
    backbone = create_backbone("vit_tiny_patch16_224", taps=(1,), image_size=(112, 448), weights="timm")
    assert torch.equal(backbone.body.pos_embed, resize_positions(made[0].pos_embed, (14, 14), (7, 28)))


SWIN = {"depths": (1, 1), "embed_dim": 8, "num_heads": (1, 1), "window_size": 4}


def test_norms_beside_the_body_come_along(tmp_path):
    source = save_network(tmp_path, "swin_tiny", **SWIN)
    backbone = create_backbone("swin_tiny", weights=str(tmp_path / "model.safetensors"), **SWIN)
    assert same(backbone, source)
    assert "norms.1.weight" in backbone.load_report.matched
    assert not [name for name in backbone.load_report.unexpected if name.startswith("backbone.")]


def test_a_trunk_is_not_taken_without_its_updates(tmp_path):
    save_network(tmp_path / "run", "swin_tiny", "lora", **SWIN)
    with pytest.raises(ValueError, match=r"low-rank updates .*merge them, Predictor\.load\(RUN, merge=True\)"):
        create_backbone("swin_tiny", weights=str(tmp_path / "run/model.safetensors"), **SWIN)
    merged = triptych.Predictor.load(tmp_path / "run", merge=True)
    merged.save_pretrained(tmp_path / "merged")
    backbone = create_backbone("swin_tiny", weights=str(tmp_path / "merged/model.safetensors"), **SWIN)
    assert same(backbone, merged.model.backbone)


HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def test_images_that_are_normalized_otherwise_than_in_training_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, "build_timm", lambda name, pretrained: timm_models.build_timm(name))
    save_network(tmp_path, taps=(1,), **HALF)
    for weights in (str(tmp_path / "model.safetensors"), "timm"):  # timm says 0.5 of this one, too
        backbone = create_backbone("vit_tiny_patch16_224", taps=(1,), weights=weights)
        assert "another normalization: give it in backbone_options (mean=[0.5,0.5,0.5] std=[0.5,0.5,0.5])" in (
            backbone.load_report.summary
        )
        backbone = create_backbone("vit_tiny_patch16_224", taps=(1,), weights=weights, **HALF)
        assert "normalization" not in backbone.load_report.summary
    assert "normalization" not in create_backbone("resnet18", weights="timm").load_report.summary


def test_the_recipe_of_a_network_on_the_hub_is_read_where_it_has_one(no_network, tmp_path, monkeypatch):
    save_network(tmp_path, taps=(1,), **HALF)

    def download(name, file):
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError("no such file")
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    report = create_backbone("vit_tiny_patch16_224", taps=(1,), weights="hub:me/vit").load_report
    assert report.trained_with == tuple(HALF.values())
    for name in ("recipe.json", "resolved.json"):
        (tmp_path / name).unlink()
    report = create_backbone("vit_tiny_patch16_224", taps=(1,), weights="hub:me/vit").load_report
    assert (report.share, report.trained_with) == (1.0, None)


def test_key_styles_of_the_original_code_are_translated(tmp_path):
    """ConvNeXt's own repository names its layers otherwise; timm knows how."""
    backbone = create_backbone("convnext_atto")
    state = {}
    for key, value in backbone.body.state_dict().items():
        key = key.replace("stem.0", "downsample_layers.0.0").replace("stem.1", "downsample_layers.0.1")
        for i in range(4):
            for j in (0, 1):
                key = key.replace(f"stages.{i}.downsample.{j}", f"downsample_layers.{i}.{j}")
        key = key.replace(".blocks.", ".").replace("conv_dw", "dwconv")
        state[key.replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")] = torch.randn_like(value)
    torch.save({"model": state}, tmp_path / "original.pth")
    report = load_weights(backbone, str(tmp_path / "original.pth"))
    assert report.share > 0.99
    assert torch.equal(backbone.body.stem[0].weight, state["downsample_layers.0.0.weight"])


def name_as_dinov3(state):
    state = {re.sub(r"gamma_(\d)", r"ls\1.gamma", key): value for key, value in state.items()}
    state["storage_tokens"] = state.pop("reg_token")
    return state | {"mask_token": torch.zeros(1, 128), "rope_embed.periods": torch.ones(4)}


def name_as_swin(state):
    """Stages end with the merging of patches, and hold buffers."""
    state = {re.sub(r"(?<=layers\.)\d(?=\.down)", lambda n: str(int(n[0]) - 1), key): x for key, x in state.items()}
    return state | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49)}


def name_as_dinov2(state):
    """The class token's position is in the grid's."""
    of_class = torch.rand(1, 1, 128)
    positions, token = torch.cat([of_class, state["pos_embed"]], dim=1), state["cls_token"] - of_class
    state = state | {"register_tokens": state["reg_token"], "pos_embed": positions, "cls_token": token}
    del state["reg_token"]
    return state | {"mask_token": torch.zeros(1, 128)}


ORIGINAL = {
    "vit_small_patch16_dinov3": ({}, name_as_dinov3),
    "swin_tiny": ({"depths": (1, 1, 6), "embed_dim": 8, "num_heads": (1, 2, 2)}, name_as_swin),
    "vit_small_patch14_reg4_dinov2": ({}, name_as_dinov2),
}
"""Backbones, with options that make them small, and how the repositories that they are from name their tensors."""


@pytest.fixture
def small(monkeypatch):
    for family in (ViT, RotaryViT):
        sizes = {"depth": 12, "embed_dim": 128, "num_heads": 2}
        monkeypatch.setattr(family, "timm_options", family.timm_options | sizes)


@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
@pytest.mark.parametrize("name", ORIGINAL)
def test_files_of_the_original_code_are_loaded_whole(tmp_path, small, capsys, name, prefix):
    """Most of their names are timm's, so that without the others they looked well enough."""
    options, rename = ORIGINAL[name]
    source = create_backbone(name, **options).body
    for value in source.parameters():
        torch.nn.init.normal_(value)
    state = {prefix + key: value for key, value in rename(source.state_dict()).items()}
    torch.save({"model": state}, tmp_path / "original.pth")
    backbone = create_backbone(name, weights=str(tmp_path / "original.pth"), **options)
    assert backbone.load_report.missing == backbone.load_report.mismatched == ()
    for key, value in source.state_dict().items():
        torch.testing.assert_close(backbone.body.state_dict()[key], value, msg=key)
    assert capsys.readouterr().out == ""


def test_translated_positions_are_resized_as_others(tmp_path, small):
    name = "vit_small_patch14_reg4_dinov2"
    source = create_backbone(name).body
    torch.save(name_as_dinov2(source.state_dict()), tmp_path / "original.pth")
    backbone = create_backbone(name, image_size=(42, 70), weights=str(tmp_path / "original.pth"))
    torch.testing.assert_close(backbone.body.pos_embed, resize_positions(source.pos_embed, (37, 37), (3, 5)))


def test_timm_weights_are_explicit(monkeypatch):
    """No network here: what timm would give for its pretrained model is made up, with a classifier."""
    asked = []

    def build(name, *, pretrained=False, **options):
        asked.append((name, pretrained))
        return timm_models.build_timm(name, **options)

    monkeypatch.setattr(weights_module, "build_timm", build)
    create_backbone("resnet18")
    assert asked == []
    backbone = create_backbone("resnet18", weights="timm", output_stride=8)
    assert asked == [("resnet18.tv_in1k", True)]
    assert backbone.load_report.unexpected == ("fc.weight", "fc.bias")
    assert backbone.load_report.source == "timm resnet18.tv_in1k (licence bsd-3-clause)"


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No hub, and nothing that was downloaded before; the addresses that were tried."""
    from huggingface_hub import constants

    tried = []

    def fail(address, **_):
        tried.append(address.removeprefix(constants.ENDPOINT))
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=fail))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    return tried


def test_weights_that_cannot_be_downloaded_name_the_local_way_at_once(no_network):
    started = time.monotonic()
    with pytest.raises(
        FileNotFoundError,
        match=r"of resnet18.tv_in1k are .* \(https:[^ ]*safetensors cannot be reached\).*give the \.safetensors",
    ):
        create_backbone("resnet18", weights="timm")
    with pytest.raises(FileNotFoundError, match=r"owner/name is no local folder.*copy the folder here"):
        find_folder("owner/name")
    assert time.monotonic() - started < 10
    # A network may let the hub's front page through, and no file.
    assert no_network == [f"/{name}/resolve/main/model.safetensors" for name in ("timm/resnet18.tv_in1k", "owner/name")]
    from huggingface_hub import constants

    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(FileNotFoundError, match=r"/data/runs/secret is no local folder.*\(Repo id must be in the form"):
        find_folder("/data/runs/secret")
    assert no_network[2:] == [""], "where files lie on a machine is not told to the hub"


def test_a_path_that_leads_to_nothing_is_not_looked_for_on_the_hub(no_network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name, says in (("runs/smal", "runs has no smal; check"), ("network.zip", r"no file network\.zip; check")):
        with pytest.raises(FileNotFoundError, match=says):
            find_folder(name)
    assert not no_network
    assert not capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no local folder"):
        find_folder("owner/name")
    assert "owner/name is no folder here: the Hugging Face hub is asked" in capsys.readouterr().err


def test_auto_chooses_no_other_backbone_because_the_disk_is_full(monkeypatch):
    def fill(name, *, pretrained=False, **options):
        if pretrained:
            raise OSError(errno.ENOSPC, "No space left on device")
        return timm_models.build_timm(name, **options)

    monkeypatch.setattr(weights_module, "build_timm", fill)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=lambda *_, **__: None))
    with pytest.raises(OSError, match="No space left") as told:
        weights_module.choose_backbone()
    assert told.value.errno == errno.ENOSPC


def test_the_hub_is_waited_for_once_however_many_backbones_are_tried(no_network):
    assert weights_module.choose_backbone()[:2] == ("resnet18", "")
    assert len(no_network) == 1


def test_weights_of_another_server_than_the_hub_name_the_local_way_too(no_network, monkeypatch):
    """timm has some by an address alone."""

    def unreachable(name, *, pretrained=False, **options):
        if pretrained:
            raise URLError("no route to host")
        return timm_models.build_timm(name, **options)

    monkeypatch.setattr(weights_module, "build_timm", unreachable)
    with pytest.raises(FileNotFoundError, match=r"did not give them \(<urlopen error no route to host>\); download"):
        create_backbone("resnet18", weights="timm")


def test_a_model_that_nobody_trained_has_no_weights():
    with pytest.raises(ValueError, match="timm has no pretrained weights of resnet50_mlp; give the path of a file"):
        create_backbone("resnet50_mlp", weights="timm")
    with pytest.raises(ValueError, match=r"no weights 'tv_in2k' of resnet18; choose from .*resnet18\.tv_in1k.* leave"):
        create_backbone("resnet18.tv_in2k")
    assert timm_models.family_module("resnet50_mlp.untrained") == "byobnet", "timm's name of such a model"
