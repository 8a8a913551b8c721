"""AdaBN: statistics against a slow oracle, weights untouched, and what is deployed is what was scored."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptation.networks import SIZE, network, weights
from adaptation.test_properties import ADAPTED
from adaptation.test_training import Foreign
from PIL import Image
from safetensors.torch import load_file
from test_studies import load
from torch import Tensor, nn
from torch.nn import functional as F
from training.tiny import RECIPE, change
from training_runs import lines, run_recipe

from triptych.__main__ import main
from triptych.adaptation.adabn import AdaBN, passes, renew_statistics
from triptych.datasets import DATASETS
from triptych.evaluation.run import evaluate_run
from triptych.prediction.pretrained import load_model
from triptych.recipes.config import Recipe, read_recipe
from triptych.training import adapted_run, validation
from triptych.training.adapted_run import adapt_run, find_target
from triptych.training.checkpoint import list_checkpoints
from triptych.types import Sample

SMALL = {"images": 7, "batch_size": 3}
RUN = change(ADAPTED, adaptation__name="adabn", adaptation__options=SMALL)


def images(count: int = 6, size: tuple[int, int] = SIZE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(1, 3, *size, generator=generator) * (i + 1) / count for i in range(count)]


class TwoNorms(nn.Module):
    """The second norm sees what the first one made of the pass, and twice: a layer that is shared."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        features = self.dropout(self.conv(self.first(image)).relu())
        return self.second(features) + self.second(features.square())


def slow_statistics(model: TwoNorms, batches: list[Tensor]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance over all rows that a layer was given, in NumPy."""
    given: list[list[np.ndarray]] = [[], []]
    for image in batches:
        rows = image.numpy().astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, 3)
        given[0].append(rows)
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
        scale = model.first.weight.detach().numpy() / np.sqrt(variance + model.first.eps)
        normal = (rows - mean) * scale + model.first.bias.detach().numpy()
        maps = normal.reshape(len(image), *image.shape[2:], 3).transpose(0, 3, 1, 2)
        with torch.no_grad():
            features = model.conv.double()(torch.from_numpy(maps)).relu().numpy()
            model.conv.float()
        for values in (features, features**2):
            given[1].append(values.transpose(0, 2, 3, 1).reshape(-1, 4))
    for rows in given:
        joined = np.concatenate(rows)
        yield joined.mean(axis=0), joined.var(axis=0, ddof=1)


def test_statistics_are_those_of_all_images() -> None:
    torch.manual_seed(0)
    model = TwoNorms().train()
    with torch.no_grad():
        for norm in (model.first, model.second):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
            norm.running_mean.fill_(7.0)
    batches = [torch.cat(images(4)), torch.cat(images(5))]
    expected = list(slow_statistics(model, batches))
    renew_statistics(model, batches)
    for norm, (mean, variance) in zip((model.first, model.second), expected, strict=True):
        np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-5)
    assert model.unused.running_mean.eq(0).all()
    assert model.unused.running_var.eq(1).all()
    assert model.training
    assert model.first.track_running_stats
    assert not model.first._forward_pre_hooks


def test_nothing_but_statistics_changes_and_twice_gives_the_same_bits() -> None:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapter = AdaBN(model, size=SIZE, weights=weights(), images=6, batch_size=3)
    asked: list[int] = []

    def read(count: int) -> list[Sample]:
        asked.append(count)
        return [Sample(image, {}) for image in images(count)]

    adapter.finish(model, read)
    once = {name: value.clone() for name, value in model.state_dict().items()}
    adapter.finish(model, read)
    assert asked == [6, 6]
    assert all(torch.equal(once[name], value) for name, value in model.state_dict().items())
    changed = {name for name, value in once.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var"))}


def test_images_of_other_sizes_share_their_middle() -> None:
    wide, high = torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 6, 4)
    wide[..., 2:6] = 1.0
    high[..., 1:5, :] = 1.0
    (batch,) = passes([Sample(wide, {}), Sample(high, {})], 8)
    assert batch.shape == (2, 3, 4, 4)
    assert batch.eq(1).all()


def test_two_hundred_images_are_twenty_five_passes() -> None:
    assert [len(batch) for batch in passes((Sample(torch.zeros(1, 3, 2, 2), {}) for _ in range(200)), 8)] == [8] * 25


def test_a_network_without_batch_statistics_is_refused(tmp_path: Path) -> None:
    recipe = change(RUN, model__backbone_options={"norm": False})
    with pytest.raises(ValueError, match=r"has none \(its norms look at one image alone\): choose") as told:
        run_recipe(recipe, tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"images": 1}, {"batch_size": 1}], ids=str)
def test_one_image_alone_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need at least 2 of each"):
        AdaBN(network(), size=SIZE, weights=weights(), **options)
    with pytest.raises(ValueError, match=r"found 1 image\(s\)"):
        list(passes([Sample(torch.zeros(1, 3, 2, 2), {})], 2))


def statistics_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.endswith(("running_mean", "running_var"))}


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_is_that_of_the_source_alone_and_only_statistics_are_deployed(ema: float, tmp_path: Path) -> None:
    """For the network and for the average of its weights; the target's labels are not read."""
    recipe = change(RUN, training__ema=ema, data__val_split="")
    adapted = load_file(run_recipe(recipe, tmp_path / "adapted") / "model.safetensors")
    plain = load_file(run_recipe(change(recipe, adaptation__name="none"), tmp_path / "plain") / "model.safetensors")
    files = [list_checkpoints(tmp_path / name)[-1] / "model.safetensors" for name in ("adapted", "plain")]
    assert files[0].read_bytes() == files[1].read_bytes()
    differ = {name for name in plain if not torch.equal(plain[name], adapted[name])}
    assert differ == set(statistics_of(plain))
    blind = change(recipe, adaptation__dataset_options={"unlabelled": ("semseg", "depth", "normals")})
    unlabelled = load_file(run_recipe(blind, tmp_path / "blind") / "model.safetensors")
    assert all(torch.equal(adapted[name], unlabelled[name]) for name in adapted)


def test_what_was_scored_is_what_is_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[dict[str, Tensor]] = []
    original = validation.evaluate

    def keep(predictor, *rest, **options):
        scored.append({name: value.clone() for name, value in predictor.model.state_dict().items()})
        return original(predictor, *rest, **options)

    monkeypatch.setattr(validation, "evaluate", keep)
    run = run_recipe(RUN, tmp_path / "run")
    best = [record["best"] for record in lines(run, "evaluation")]
    chosen = scored[max(i for i, found in enumerate(best) if found)]
    deployed = load_file(run / "model.safetensors")
    assert all(torch.equal(deployed[name], chosen[name]) for name in chosen)
    assert len(scored) == 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows nothing of another domain."""
    return run_recipe(change(RECIPE, schedule__steps=3), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two sizes, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i, size in enumerate([(40, 56), (36, 48), (30, 60)]):
        path = folder / ("more" if i else "") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (*size, 3), np.uint8)).save(path)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_becomes_another_one(finished: Path, photos: Path, tmp_path: Path) -> None:
    before = contents(finished)
    for name in ("one", "two"):
        assert main(["adapt", str(finished), str(photos), "--out", str(tmp_path / name), "--device", "cpu"]) == 0
    assert contents(finished) == before
    old, new, again = (load_file(run / "model.safetensors") for run in (finished, tmp_path / "one", tmp_path / "two"))
    assert {name for name in old if not torch.equal(old[name], new[name])} == set(statistics_of(old))
    assert all(torch.equal(new[name], again[name]) for name in new)
    start = json.loads((tmp_path / "one" / "environment.json").read_text())["starts"][-1]
    assert start["adapted"]["from"] == str(finished)
    assert start["adapted"]["weights_sha256"] == hashlib.sha256(before["model.safetensors"]).hexdigest()
    assert start["data"]["target"]["images"] == start["adapted"]["images"] == 3
    assert f"3 images of images {photos.name}." in read_recipe(tmp_path / "one" / "recipe.json").description


def test_norms_that_training_kept_are_renewed_in_a_finished_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a trunk that low-rank updates keep: nothing is trained here."""

    def load_frozen(run: Path) -> tuple[nn.Module, Recipe]:
        model, recipe = load_model(run)
        model.freeze(["backbone"])
        return model, recipe

    target = replace(find_target("rectangles", split="other"), name="adabn", options={"images": 4})
    adapt_run(finished, target, tmp_path / "plain", device="cpu")
    monkeypatch.setattr(adapted_run, "load_model", load_frozen)
    adapt_run(finished, target, tmp_path / "frozen", device="cpu")
    frozen, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("frozen", "plain"))
    assert all(torch.equal(frozen[name], plain[name]) for name in plain)


def test_statistics_are_of_the_size_that_prediction_is_asked_for(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures far larger than in training are told of, and can be resized as `predict --shorter-side` does."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8)
    for i in range(2):
        Image.fromarray(np.roll(pixels, i, axis=0)).save(tmp_path / "photos" / f"{i}.png")
    seen: list[Tensor] = []

    def finish(self: AdaBN, model: nn.Module, read) -> None:
        seen.extend(sample.image for sample in read(2))

    monkeypatch.setattr(AdaBN, "finish", finish)
    target = replace(find_target(str(tmp_path / "photos")), name="adabn")
    with pytest.warns(UserWarning, match="200 x 150 pixels, .* --shorter-side"):
        adapt_run(finished, target, tmp_path / "large", device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt_run(finished, target, tmp_path / "fitted", shorter_side=32, device="cpu")
    assert {tuple(image.shape[-2:]) for image in seen} == {SIZE, (32, 32)}
    photo = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    whole = F.interpolate(photo, (43, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[2], whole[..., 5:37, :])
    start = json.loads((tmp_path / "fitted" / "environment.json").read_text())["starts"][-1]
    assert start["adapted"]["shorter_side"] == 32
    with pytest.raises(ValueError, match="shorter_side is 0; it must be at least 1 pixel"):
        adapt_run(finished, target, tmp_path / "none", shorter_side=0, device="cpu")


def test_an_adaptation_that_ends_early_leaves_no_run_without_its_history(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replace(find_target("rectangles", split="other"), name="adabn", options={"images": 4})
    monkeypatch.setattr(adapted_run, "record_start", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        adapt_run(finished, target, tmp_path / "out", device="cpu")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "out")


def test_an_adapted_run_is_scored_predicted_and_compared(finished: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapted"
    target = find_target("rectangles", split="other")
    adapt_run(finished, replace(target, name="adabn", options={"images": 4}), out, device="cpu")
    recipe = read_recipe(out / "recipe.json")
    assert recipe.adaptation.name == "adabn"
    assert recipe.description.endswith("Adapted by adabn to 4 images of rectangles.")
    copied = shutil.copytree(finished, tmp_path / "plain")
    for run in (copied, out):
        assert main(["evaluate", str(run), "--split", "test", "--device", "cpu"]) == 0
    assert main(["evaluate", str(out), "--split", "target-val", "--no-report", "--device", "cpu"]) == 0
    assert main(["predict", str(out), str(photos / "0.png"), "--out", str(tmp_path / "maps"), "--device", "cpu"]) == 0
    assert main(["compare", str(copied), str(out), "--out", str(tmp_path / "difference.json")]) == 0
    assert "adaptation.name" in (tmp_path / "difference.json").read_text()


def test_a_run_that_names_a_target_is_scored_there_after_adapting_to_others(photos: Path, tmp_path: Path) -> None:
    recipe = change(ADAPTED, adaptation__name="none", schedule__steps=1, data__val_split="")
    run = run_recipe(change(recipe, data__test_split="target-test"), tmp_path / "run")
    adapt_run(run, replace(find_target(str(photos)), name="adabn"), tmp_path / "adapted", device="cpu")
    kept = read_recipe(tmp_path / "adapted" / "recipe.json")
    assert (kept.adaptation.name, kept.adaptation.dataset) == ("none", "rectangles")
    assert "to 3 images of images" in kept.description
    scores = evaluate_run(tmp_path / "adapted", device="cpu", constant=False, progress=False)
    assert scores.keys[0].startswith("test-")


def test_images_of_the_recipes_target_are_sized_as_it_is_scored(tmp_path: Path) -> None:
    """The recipe's transform and size of its target, not those of its labelled images."""
    recipe = change(
        ADAPTED,
        data__transform="default",
        data__val_split="",
        adaptation__transform="densemtl",
        adaptation__size=(24, 32),
        schedule__steps=1,
    )
    run = run_recipe(recipe, tmp_path / "run")
    whole = replace(recipe.adaptation, name="adabn", options=SMALL)
    bare = replace(whole, transform="", size=(0, 0))
    found = {
        name: load_file(adapt_run(run, target, tmp_path / name, device="cpu") / "model.safetensors")
        for name, target in {"whole": whole, "bare": bare, "other": replace(bare, transform="none")}.items()
    }
    same = {name: all(torch.equal(each, found["whole"][key]) for key, each in of.items()) for name, of in found.items()}
    assert same == {"whole": True, "bare": True, "other": False}


def test_what_cannot_be_adapted_is_refused(
    finished: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = replace(find_target(str(photos)), name="adabn")
    with pytest.raises(FileExistsError, match="never adapted in place"):
        adapt_run(finished, target, finished, device="cpu")
    with pytest.raises(ValueError, match="'min-ent' learns while a run trains"):
        adapt_run(finished, replace(target, name="min-ent"), tmp_path / "out", device="cpu")
    monkeypatch.setitem(DATASETS, "foreign", Foreign)
    with pytest.raises(ValueError, match="'semseg' do not map: 2 is '2' in the source and 'tree' in the target"):
        adapt_run(finished, replace(target, dataset="foreign", root=""), tmp_path / "out", device="cpu")
    bare = run_recipe(
        change(RECIPE, schedule__steps=1, model__backbone_options={"norm": False}), tmp_path / "without norms"
    )
    with pytest.raises(ValueError, match="this network has none"):
        adapt_run(bare, target, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_what_it_looks_like(photos: Path, tmp_path: Path) -> None:
    assert find_target(str(photos)).dataset == "images"
    for name in ("images", "semseg"):
        shutil.copytree(photos, tmp_path / "labelled" / name)
    assert find_target(str(tmp_path / "labelled")).dataset == "folder"
    assert find_target("rooms", options={"look": "b"}).dataset_options == {"look": "b"}
    with pytest.raises(ValueError, match="unknown dataset, and no folder, 'romos'; did you mean 'rooms'"):
        find_target("romos")


def test_the_study_scores_every_adapter_after_adabn_too(tmp_path: Path) -> None:
    """In a folder of its own that is made anew where a job was stopped; the run stays as it was."""
    second_look = load("second_look")
    recipe = change(ADAPTED, adaptation__name="min-ent", schedule__steps=2, data__val_split="")
    found = second_look.score(second_look.Arm(recipe), 3, tmp_path / "seed-3")
    assert set(found) == {f"{task}{state}" for task in recipe.data.tasks for state in second_look.STATES.values()}
    assert found["depth"] != found["depth after adabn"]
    new = tmp_path / "seed-3-adabn"
    kept = read_recipe(new / "recipe.json")
    assert (kept.seed, kept.adaptation.name) == (3, "min-ent")
    weights = (new / "model.safetensors").read_bytes()
    assert weights != (tmp_path / "seed-3" / "model.safetensors").read_bytes()
    (new / "model.safetensors").write_bytes(b"")  # a stopped job's
    (new / "recipe.json").unlink()
    assert second_look.score(second_look.Arm(recipe), 3, tmp_path / "seed-3") == found
    assert (new / "model.safetensors").read_bytes() == weights
