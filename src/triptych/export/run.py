"""`export_run`: from a run folder to a file that is proved equal to the network, or to no file at all.

Long because each step may refuse, and leaves no file then.
"""

import json
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triptych import assemble
from triptych.data.photos import read_image
from triptych.data.predicted import find_images
from triptych.data.subset import spread_evenly
from triptych.export import onnx_file
from triptych.export.description import describe_input, describe_maps, describe_proof, versions
from triptych.export.onnx_file import MOST, check_count, quantize, to_float16
from triptych.export.program import (
    DeployedModel,
    Program,
    exported_program,
    open_archive,
    open_package,
    write_archive,
    write_package,
)
from triptych.export.proof import EXACT, Proof, Run, Tolerances, compare, measure_seconds, proof_sizes
from triptych.files import finite, flush, partial_path, remove_partials, shorten_paths, write_json
from triptych.lookup import named_choice
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import pretrained
from triptych.prediction.calibration import Scale, describe_mismatch, describe_unscaled, read_calibration
from triptych.prediction.strips import resize_image
from triptych.recipes.config import Recipe, split_domain, with_root
from triptych.recipes.resolved import data_fingerprints
from triptych.types import Sample

FORMAT = 1
EXACT_IMAGES = 4
"""Number of images on which a file of float32 is compared."""
MAX_LOSS = 0.05
"""Default of `max_loss`: the largest relative drop of a task's score that fp16 and int8 may cost."""


@dataclass(frozen=True)
class Target:
    """A kind of file: functions that write one from a program, open one, and store its description."""

    write: Callable[[Program, Path], None]
    open: Callable[[Path, tuple[str, ...]], Run]
    describe: Callable[[Program, Path, dict[str, Any]], None]
    packages: tuple[str, ...]
    precisions: dict[str, Callable[[Path, Path, "_Calibration"], tuple[str, ...]]]
    """Functions by precision that convert a file of float32 to it, and return the layers that stay in float32."""
    largest: float = math.inf
    """Most bytes of weights that such a file holds."""


@dataclass(frozen=True)
class _Calibration:
    """Source of the images for the range of int8 activations; they are read when they are needed."""

    recipe: Recipe
    model: MultiTaskModel
    size: tuple[int, int]
    split: str
    photos: Sequence[Path]
    """Images to use instead of the split's, if any."""
    prepare: Callable[[Tensor], Tensor]

    def read(self) -> list[np.ndarray]:
        """Up to 128 images `(1, 3, H, W)` at the size of the file."""
        found = [read_image(path)[None] for path in self.photos]
        if not found:
            found = [sample.image for sample in read_samples(self.recipe, self.model, MOST, self.split)]
        check_count(len(found))
        return [self.prepare(resize_image(image, self.size)).numpy() for image in found]


def _keep(source: Path, path: Path, calibration: _Calibration) -> tuple[str, ...]:
    source.replace(path)
    return ()


def _halve(source: Path, path: Path, calibration: _Calibration) -> tuple[str, ...]:
    to_float16(source, path)
    return ()


_ONNX_PRECISIONS: dict[str, Callable[[Path, Path, _Calibration], tuple[str, ...]]] = {
    "fp32": _keep,
    "fp16": _halve,
    "int8": lambda source, path, calibration: quantize(source, path, calibration.read()),
}


TARGETS = {
    ".aoti.pt2": Target(
        write_package,
        open_package,
        lambda program, path, description: None,
        ("torch",),
        {"fp32": _keep},
    ),
    ".onnx": Target(
        onnx_file.write_onnx,
        onnx_file.open_onnx,
        lambda program, path, description: onnx_file.describe_onnx(path, description),
        ("torch", "onnx", "onnxscript", "onnxruntime"),
        _ONNX_PRECISIONS,
        largest=1.9e9,  # protobuf ends at 2 GiB
    ),
    ".pt2": Target(write_archive, open_archive, write_archive, ("torch",), {"fp32": _keep}),
}
"""Kinds of files by suffix, the longest first."""


@dataclass(frozen=True)
class Export:
    """A file that was written, and what was measured of it."""

    path: Path
    description: Path
    """The JSON beside the file."""
    proof: Proof
    precision: str
    bytes: int
    weights_bytes: int
    seconds: float
    torch_seconds: float
    float_layers: tuple[str, ...] = ()
    """Layers of an int8 file that stay in float32."""
    calibrated_on: str = ""
    """Number of images and the folder that int8 was calibrated on; empty where they were the split's."""


def export_run(
    run: Path,
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    outputs: str = "maps",
    uint8: bool = False,
    precision: str = "fp32",
    calibrate: Path | None = None,
    max_loss: float | None = None,
    images: int = 0,
    split: str = "",
    root: str = "",
    overwrite: bool = False,
) -> Export:
    """Write the network of a run folder to `path`; the kind of file follows from the suffix: `.onnx`, `.pt2` or
    `.aoti.pt2`.

    `size` (height, width) is the training size unless given; with `dynamic` other sizes work too. The file is compared
    with torch on `images` images of `split` (the validation split unless given), resized to the file's size, or to
    three sizes where they are free; `ValueError` names the task where they differ, and no file is left. Beside the file
    a JSON of the same name says what it holds and what was measured. `root` is the folder of the data, if they moved
    since training.

    `precision` `"fp16"` or `"int8"` (ONNX alone; calibrated on the images of the folder `calibrate`, or of the split)
    changes numbers: such a file is written where it agrees with torch in float32, and with fewer bits no task's primary
    number on the labels is worse by more than `max_loss` (0.05 unless given), relative to torch's, at any size; a task
    without labels may differ from torch by that much in the mean.
    """
    target = find_target(path)
    reduce = named_choice(f"precision of {path.name}", precision, target.precisions)
    limits = _limits(precision, max_loss)
    if images < 0:
        raise ValueError(f"images is {images}; give how many to compare on, or 0 for 4 of them, 32 with fewer bits.")
    images = images or (EXACT_IMAGES if precision == "fp32" else 32)
    beside = path.with_name(path.name + ".json")
    _check_place(path, beside, overwrite)
    photos, calibrated_on = _calibration_photos(calibrate, precision)
    weights_sha256 = pretrained.hash_weights(run)  # before they are read: a training may replace them meanwhile
    scales = read_calibration(run, pretrained.weights_file(run))
    model, recipe = pretrained.load_model(run, merge=True)
    recipe = with_root(recipe, root, split or _held_out(recipe))
    stored = {name: (run / pretrained.FILES[name]).read_text(encoding="utf-8") for name in ("tasks", "recipe")}
    smallest = find_smallest(model) if dynamic else 1
    trained = split_domain(recipe, split or _held_out(recipe))[0].data.size
    if not size and not any(trained):
        raise ValueError(f"{run} does not say at which size it was trained; give --size, a height and a width.")
    chosen = _check_size(size or trained, smallest, dynamic)
    weights = sum(value.nbytes for value in model.state_dict().values())
    _check_space(path, 4 * weights)
    if weights > target.largest:
        raise ValueError(
            f"the weights have {weights / 1e9:.1f} GB, {path.suffix} files hold at most "
            f"{target.largest / 1e9:.1f} GB; export to .pt2."
        )
    reasons = [reason for part in model.modules() if (reason := getattr(part, "one_size", ""))]
    if dynamic and reasons:
        raise ValueError(f"the network's file can have one size alone: {reasons[0]}; leave out --dynamic.")
    data = shorten_paths(data_fingerprints(run))
    samples = read_samples(recipe, model, images, split)
    for name, scale in scales.items():
        if not dynamic and scale.at(chosen, chosen) is not scale:
            warnings.warn(describe_mismatch(name, scale, chosen, resizes=False), stacklevel=2)
    if unscaled := describe_unscaled(recipe, scales):
        warnings.warn(unscaled, stacklevel=2)
    if not dynamic and (told := _describe_sizes(samples, chosen)):
        warnings.warn(told, stacklevel=2)
    deployed = DeployedModel(model, outputs=outputs, calibration=scales)
    with _place_beside(path) as folder, _full_disk_is_told(path, weights):
        draft = folder / path.name
        program = exported_program(model, chosen, dynamic=dynamic, outputs=outputs, uint8=uint8, calibration=scales)
        target.write(program, draft)
        prepare = (lambda image: (image * 255).round().byte()) if uint8 else (lambda image: image)
        network = torch.no_grad()(deployed.forward)
        sizes = proof_sizes(chosen, max(model.feature_strides), smallest=smallest) if dynamic else [chosen]

        def prove(samples: list[Sample], limits: Tolerances) -> tuple[Run, Proof]:
            file, decoded = target.open(draft, program.names), outputs == "maps"
            ours, theirs = (_unscaled(call, deployed.calibration) for call in (network, file))
            proof = compare(theirs, ours, model.tasks, samples, sizes, limits, decoded=decoded, prepare=prepare)
            if proof.problems:
                problems = "; ".join(proof.problems)
                raise ValueError(f"{path} is not written, for it does not agree with torch: {problems}.")
            return file, proof

        kept: tuple[str, ...] = ()
        if precision != "fp32":
            prove(samples[:EXACT_IMAGES], EXACT)  # what fewer bits change is no excuse for another program
            whole = draft.with_name("fp32.onnx")
            draft.replace(whole)
            kept = reduce(whole, draft, _Calibration(recipe, model, chosen, split, photos, prepare))
        file, proof = prove(samples, limits)
        image = prepare(resize_image(samples[0].image, chosen))
        seconds, torch_seconds = (measure_seconds(call, image) for call in (file, network))
        description = finite(
            {
                "format": FORMAT,
                "outputs": outputs,
                "precision": precision,
                "float_layers": list(kept),
                "input": describe_input(None if dynamic else chosen, smallest, uint8),
                "tasks": [
                    {"name": name, "unit": task.unit, "classes": list(task.classes)}
                    for name, task in model.tasks.items()
                ],
                "maps": describe_maps(model.tasks, network(program.example), outputs=outputs),
                "task_file": json.loads(stored["tasks"]),
                "recipe": json.loads(stored["recipe"]),
                "calibration": {name: scale.content() for name, scale in scales.items()},
                "weights_sha256": weights_sha256,
                "data": data,
                "versions": versions(*target.packages),
                "proof": describe_proof(proof),
                "seconds": {"file": seconds, "torch": torch_seconds, "threads": torch.get_num_threads()},
            }
        )
        target.describe(program, draft, description)
        flush(draft)
        beside.unlink(missing_ok=True)  # killed in between, it leaves a file without a description, not with another
        draft.replace(path)
        write_json(beside, description)
    return Export(
        path, beside, proof, precision, path.stat().st_size, weights, seconds, torch_seconds, kept, calibrated_on
    )


def _limits(precision: str, max_loss: float | None) -> Tolerances:
    """The tolerances that a file of this precision is compared with torch by; `max_loss` is for fp16 and int8 alone."""
    if precision != "fp32":
        return Tolerances(torch.inf, torch.inf, MAX_LOSS if max_loss is None else max_loss)
    if max_loss is not None:
        raise ValueError(
            f"--max-loss {max_loss:g} is for fp16 and int8, and the precision is fp32, whose files have to agree with "
            "torch; leave it out, or pass --precision."
        )
    return EXACT


def _calibration_photos(folder: Path | None, precision: str) -> tuple[list[Path], str]:
    """Images of the folder that int8 is calibrated on, and how many of how many they are; none without a folder."""
    if folder is None:
        return [], ""
    if precision != "int8":
        raise ValueError(
            f"{folder} is to calibrate int8, and the precision is {precision}; pass --precision int8, or leave out "
            "--calibrate."
        )
    found = [path for _, path in find_images([folder])]
    check_count(len(found))
    photos = [found[index] for index in spread_evenly(len(found), MOST)]
    return photos, f"{len(photos)} of {len(found)} images in {folder}"


def _check_size(size: Sequence[int], smallest: int, dynamic: bool) -> tuple[int, int]:
    if len(size) != 2 or min(size) < smallest:
        way = ", or leave out --dynamic" if dynamic else ""
        raise ValueError(f"size is {tuple(size)}; give height and width, {smallest} pixels or more each{way}.")
    return size[0], size[1]


def _describe_sizes(samples: Sequence[Sample], size: tuple[int, int]) -> str:
    """A line where images have another size than the one that the file takes; else empty."""
    others = sorted({tuple(sample.image.shape[-2:]) for sample in samples} - {size})
    if not others:
        return ""
    height, width = others[0]
    more = f" and {len(others) - 1} other sizes" if len(others) > 1 else ""
    return (
        f"images of this split have {height} x {width} pixels{more}, and the file takes {size[0]} x {size[1]} alone: "
        "it is compared on images that are resized to it, as others have to be wherever it runs; "
        f"--dynamic, or --size {height} {width}, shows them to the network as they are."
    )


def _unscaled(network: Run, scales: Mapping[str, Scale]) -> Run:
    """The maps as the network predicts them: labels are of the camera that it was trained on, not of the scale's."""

    def run(image: Tensor) -> dict[str, Tensor]:
        maps = network(image)
        return maps | {name: scale.inverse()(maps[name]) for name, scale in scales.items()}

    return run


def find_target(path: Path) -> Target:
    """The kind of file by its suffix."""
    ending = next((ending for ending in TARGETS if path.name.endswith(ending)), path.suffix or path.name)
    return named_choice("kind of file", ending, TARGETS)


def find_smallest(model: MultiTaskModel) -> int:
    """Least side of the images that a file of free sizes takes: a coarsest map of one pixel is a special case that a
    program does not hold, as are sides below a backbone's `free_from`.
    """
    return max(max(model.feature_strides) + 1, *(getattr(part, "free_from", 1) for part in model.modules()))


def read_samples(recipe: Recipe, model: MultiTaskModel, count: int, split: str = "") -> list[Sample]:
    """`count` images spread evenly over the validation split, as evaluation reads them."""
    split = split or _held_out(recipe)
    return list(assemble.read_split(recipe, split, model.tasks, limit=count))


def _held_out(recipe: Recipe) -> str:
    return recipe.data.val_split or recipe.data.test_split


def _check_place(path: Path, beside: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {path.parent} does not exist; make it, or write elsewhere.")
    for existing in (path, beside):
        if existing.exists() and not overwrite:
            raise FileExistsError(f"{existing} exists and is not overwritten; pass --overwrite or another name.")


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise OSError(
            f"{path.parent} has {free / 1e6:.0f} MB left, exporting takes up to {needed / 1e6:.0f} MB; make room, or "
            "write elsewhere."
        )


@contextmanager
def _place_beside(path: Path) -> Iterator[Path]:
    """A folder for what is not proved yet, deleted in the end; those of killed exports of this name are, too."""
    remove_partials(path.parent, path.name)
    folder = partial_path(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _full_disk_is_told(path: Path, needed: int) -> Iterator[None]:
    """Raise an error about the full disk: engines raise others where they cannot write."""
    try:
        yield
    except ValueError:
        raise
    except Exception:
        _check_space(path, needed)
        raise


def summarize(export: Export) -> str:
    """One line per task, then sizes and latencies."""
    sizes = ", ".join(f"{height} x {width}" for height, width in export.proof.sizes)
    verb = {"fp32": "agrees with torch"}.get(export.precision, f"{export.precision}, compared with torch in float32")
    rows = [f"{export.path}: {verb} on {len(export.proof.images)} images at {sizes}"]
    for name, proof in export.proof.tasks.items():
        score = ""
        if proof.primary in proof.scores:
            file, network = proof.scores[proof.primary]
            score = f"; {proof.primary} {file:.4g}, torch {network:.4g} ({100 * proof.loss:.2f} % worse)"
        if proof.unlabelled is not None:
            score += f"; without labels, {100 * proof.unlabelled:.2g} % off torch in the mean"
        rows.append(f"  {name:<12} largest difference {proof.difference:.1e}{score}")
    if export.calibrated_on:
        rows.append(f"calibrated on {export.calibrated_on}")
    if export.float_layers:
        rows.append(f"layers in float32: {len(export.float_layers)} (float_layers of {export.description.name})")
    rows.append(
        f"size {export.bytes / 1e6:.1f} MB (weights {export.weights_bytes / 1e6:.1f} MB); an image of "
        f"{export.proof.sizes[0][0]} x {export.proof.sizes[0][1]} takes {export.seconds * 1e3:.1f} ms, torch "
        f"{export.torch_seconds * 1e3:.1f} ms ({torch.get_num_threads()} threads)"
    )
    rows.append(f"what it holds: {export.description}")
    return "\n".join(rows)
