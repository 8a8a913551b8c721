"""A finished run adapted to another domain: a new run folder, which records its origin."""

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych import assemble
from triptych.data.base import DenseDataset
from triptych.data.loading import evaluation_loader
from triptych.datasets.recognizing import locate_dataset, recognize_images
from triptych.evaluation.run_log import read_lines
from triptych.files import naming_damage, write_text
from triptych.prediction import Predictor
from triptych.prediction.outputs import advise_size
from triptych.prediction.pretrained import hash_weights, load_model, save_folder
from triptych.recipes.config import TARGET, AdaptationConfig, Options, Recipe
from triptych.recipes.resolved import STARTS
from triptych.training.building import target_view
from triptych.training.run_folder import record_start


def adapt_run(
    run: Path, target: AdaptationConfig, out: Path, *, shorter_side: int | None = None, device: str = "auto"
) -> Path:
    """Write the network of a run folder to `out` as the adapter `target.name` finishes it on the target's images, as
    evaluation sees them, or resized to a `shorter_side`, as `Predictor` does. Warns where things in them may have
    another size than in training.

    Evaluation, prediction and comparison read `out` like any run. Its recipe is that of `run`, with `target` as its
    adaptation unless it names a target domain: splits of that one can be scored as before, and the description alone
    tells of `target`. Where both name one dataset, images are brought to size as that recipe says. `environment.json`
    has the starts of `run` and one more, with the images that were used and the hash of the weights before.

    Raises `FileExistsError` where `out` holds something (such as `run` itself), and `ValueError` where the adapter
    needs a training or finds nothing to change, and where classes of the target are others than the network's.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} exists and is not empty: a run is never adapted in place; choose another --out, or delete it where "
            "an interrupted `triptych adapt` left it."
        )
    weights = hash_weights(run)  # before they are read: a training may replace them meanwhile
    model, recipe = load_model(run)
    model.frozen = ()  # nothing trains here
    adapted = replace(recipe, adaptation=_sized_as_scored(target, recipe.adaptation))
    adapter = assemble.build_adapter(adapted, model)
    if adapter is None or adapter.has_losses:
        raise ValueError(f"adapter '{target.name}' learns while a run trains; name it in a recipe (adaptation.name).")
    dataset = assemble.build_target_set(adapted, model.tasks)
    assert dataset is not None  # there is an adapter
    view, data = target_view(adapted, shorter_side), recipe.data
    predictor = Predictor(model, recipe=recipe, shorter_side=shorter_side, device=device)
    if advised := _advise(predictor, adapted, dataset):
        warnings.warn(advised, stacklevel=2)
    seen: list[str] = []

    def read(count: int) -> Any:
        for sample in evaluation_loader(dataset, transform=view, limit=count, on_bad_sample=data.on_bad_sample):
            seen.extend(sample.key)
            yield sample

    adapter.finish(model, read)
    if recipe.adaptation.dataset:
        adapted = recipe
    source = f"{target.dataset} {Path(target.root).name}".strip()  # the model card is public: no local path
    note = f"Adapted by {target.name} to {len(seen)} images of {source}."
    adapted = replace(adapted, description=f"{recipe.description} {note}".strip())
    # Before the network, without which the folder is no run.
    _copy_history(run, out)
    record_start(
        out,
        {
            "device": str(next(model.parameters()).device),
            "adapted": {
                "from": str(run),
                "weights_sha256": weights,
                "adapter": target.name,
                "images": len(seen),
                "keys_sha256": hashlib.sha256("\n".join(seen).encode(errors="surrogateescape")).hexdigest(),
                **({} if shorter_side is None else {"shorter_side": shorter_side}),
            },
            "data": {"target": dataset.fingerprint()},
        },
    )
    return save_folder(out, model, adapted, card=adapted.description, overwrite=True)


def _advise(predictor: Predictor, recipe: Recipe, dataset: DenseDataset) -> str:
    """Advice of `advise_size` for the first image as evaluation sees it."""
    view = assemble.scored_view(recipe, TARGET + recipe.adaptation.split, {})
    first = next(iter(evaluation_loader(dataset, transform=view, limit=1, on_bad_sample="skip")), None)
    if first is None:
        return ""
    height, width = first.image.shape[-2:]
    return advise_size(predictor, first.image_keys[0], (height, width), stretches=False)


def _copy_history(run: Path, out: Path) -> None:
    """Copy the starts and the training curves of a run, without its scores, which are of other weights."""
    out.mkdir(parents=True, exist_ok=True)
    if (run / STARTS).is_file():
        write_text(out / STARTS, (run / STARTS).read_text(encoding="utf-8"))
    if (run / "metrics.jsonl").is_file():
        with naming_damage(run / "metrics.jsonl"):
            kept = [line for line, record in read_lines(run / "metrics.jsonl") if record["kind"] == "train"]
        write_text(out / "metrics.jsonl", "".join(f"{line}\n" for line in kept))


def _sized_as_scored(target: AdaptationConfig, known: AdaptationConfig) -> AdaptationConfig:
    """`target` with the transform and the size that a recipe has for the same dataset: its splits are scored so."""
    if target.dataset != known.dataset or Path(target.root).resolve() != Path(known.root).resolve():
        return target
    return replace(
        target,
        transform=target.transform or known.transform,
        size=target.size if any(target.size) else known.size,
    )


def find_target(
    place: str, *, root: str = "", split: str = "train", options: Options | None = None
) -> AdaptationConfig:
    """The domain that `place` names: a dataset by its name, a folder or a `dataset.toml` that describe one, or a folder
    of pictures without labels.

    `root` is where a named dataset lies, or the files of a `dataset.toml`.
    """
    name, folder, files = locate_dataset(place, root, recognize_images)
    return AdaptationConfig(dataset=name, root=folder, split=split, dataset_options={**(options or {}), **files})
