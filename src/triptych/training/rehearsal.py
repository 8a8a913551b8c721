"""`train --dry-run`: time, memory and disk space of a training, measured on a few real steps; nothing is written."""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from triptych import assemble
from triptych.augmentation.steps import Select
from triptych.data.errors import DataError
from triptych.data.loading import evaluation_loader
from triptych.machine import accelerated, own_random_numbers, peak_memory, restart_peak_memory
from triptych.recipes.config import Recipe
from triptych.tasks.stored import tasks_to_json
from triptych.training.building import accelerator_options, build_parts, count_parameters, settle
from triptych.training.first_weights import set_first_weights
from triptych.training.objective import count_labelled
from triptych.training.parts import Parts
from triptych.training.step import take_step
from triptych.training.validation import deployed_model, score_split

STEPS = 2
"""Timed steps, after an untimed one: the first step of a process allocates buffers and compiles."""
LOOKED_AT = 100
"""Images whose labels are counted; reading more would take as long as training on them."""


@dataclass(frozen=True)
class Rehearsal:
    """Measurements. Parameters: `(all, trainable)` by part. `memory`: bytes that the peak of this process (on a CPU) or
    of the device grew to, `None` where the system does not tell. `disk`: bytes of the run folder when it is done,
    checkpoints and deployed weights. `images`: by split, or why it cannot be read. `labelled`: by task, of `looked_at`
    images spread over the training set. `kept_features`: bytes in the memory of the host, `memory` of a CPU included,
    and `filling`: seconds that computing them takes, where `training.cache_features` keeps them.
    """

    parameters: dict[str, tuple[int, int]]
    seconds_per_step: float
    steps: int
    memory: int | None
    disk: int
    images: dict[str, int | str]
    labelled: dict[str, int]
    looked_at: int
    kept_features: int = 0
    filling: float = 0.0


def rehearse(recipe: Recipe, *, device: str = "auto") -> Rehearsal:
    """Build everything that `train` builds, take three steps, score one validation image, and forget them.

    Time is that of the last two steps, without validation; with `training.cache_features` the steps are taken twice,
    the second time on features that are kept, as in all epochs but the first. Raises what `train` would raise.
    """
    recipe, _ = settle(replace(recipe, training=replace(recipe.training, trackers=())), device)
    steps = recipe.schedule.steps
    recipe = replace(recipe, schedule=replace(recipe.schedule, steps=max(steps, 1 + STEPS)))  # what loaders end after
    restart_peak_memory()
    with (
        tempfile.TemporaryDirectory() as nowhere,
        accelerated(device, **accelerator_options(recipe, Path(nowhere), device)) as accelerator,
        own_random_numbers(),
    ):
        parts = build_parts(recipe, accelerator)
        set_first_weights(parts)
        tasks_to_json(parts.tasks, recipe.data.task_options)  # else it could not be stored
        cache = parts.objective.features
        seconds = first = _seconds_per_step(parts)
        if cache is not None:
            seconds = _seconds_per_step(parts)
        if parts.validation_set is not None:  # its images are scored whole, and may be larger than what is trained on
            with deployed_model(parts) as model:
                score_split(parts, model, limit=1)
        cuda = accelerator.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(accelerator.device) if cuda else peak_memory()
        images = 0 if cache is None else min(cache.images, steps * parts.images_per_step)
        if cache is not None and memory is not None and not cuda:
            memory += max(images - len(cache.maps), 0) * cache.bytes_per_image
        labelled, looked_at = _labelled(parts)
        return Rehearsal(
            parameters=_parameters(parts),
            seconds_per_step=seconds,
            steps=steps,
            memory=memory,
            disk=_disk(parts),
            images=_images(parts),
            labelled=labelled,
            looked_at=looked_at,
            kept_features=0 if cache is None else images * cache.bytes_per_image,
            filling=max(first - seconds, 0.0) * images / parts.images_per_step,
        )


def _seconds_per_step(parts: Parts) -> float:
    """Mean of the last steps of a few on the first batches."""
    batches = parts.batches(parts.loaders(0))
    for step in range(1 + STEPS):
        if step == 1:
            started = time.perf_counter()
        take_step(parts, batches, step=step, stop=lambda: False)
    return (time.perf_counter() - started) / STEPS


def rehearsal_table(found: Rehearsal) -> Table:
    """One row per quantity."""
    table = Table(show_header=False)
    for name, (every, trainable) in found.parameters.items():
        table.add_row(f"parameters, {name}", f"{every:,}, of which {trainable:,} are trained")
    hours = (found.seconds_per_step * found.steps + found.filling) / 3600
    table.add_row("time per step", f"{found.seconds_per_step:.3g} s (mean of {STEPS} steps, without validation)")
    table.add_row("time in all", f"{found.steps:,} steps: {hours:.3g} h ({60 * hours:.3g} min)")
    table.add_row("memory", "not told by this system" if found.memory is None else f"{found.memory / 1e9:.3g} GB")
    if found.kept_features:
        size, minutes = found.kept_features / 1e9, found.filling / 60
        table.add_row("kept features", f"{size:.3g} GB of the host's memory, {minutes:.3g} min in the first epoch")
    table.add_row("disk", f"{found.disk / 1e9:.3g} GB")
    for split, images in found.images.items():
        table.add_row(f"images, {split}", f"{images:,}" if isinstance(images, int) else images)
    for name, count in found.labelled.items():
        table.add_row(f"labels of {name}", f"in {count} of the {found.looked_at} training images looked at")
    return table


def _parameters(parts: Parts) -> dict[str, tuple[int, int]]:
    modules = {"network": parts.objective.model, **parts.objective.beside, "weighting": parts.weighting}
    return {
        name: (sum(each.numel() for each in module.parameters()), count_parameters(module))
        for name, module in modules.items()
        if list(module.parameters())
    }


def _disk(parts: Parts) -> int:
    """The checkpoints that are kept and the best one, each with weights, their average and the optimizers' memory."""
    optimizers = (each for each in (parts.optimizer, parts.adapter_optimizer) if each is not None)
    memory = (value for each in optimizers for state in each.state.values() for value in state.values())
    network = _bytes(parts.objective.model.state_dict().values())
    average = _bytes(parts.average.tensors.values()) if parts.average is not None else 0
    others = _bytes(parts.objective.state_dict().values()) - network
    one = network + average + others + _bytes(value for value in memory if isinstance(value, Tensor))
    kept = parts.objective.model.frozen_names()
    frozen = _bytes(value for name, value in parts.objective.model.state_dict().items() if name in kept)
    one -= frozen * (1 + (parts.average is not None))  # stored once for all checkpoints
    return network + frozen + one * (parts.recipe.training.keep_checkpoints + (parts.validation_set is not None))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _images(parts: Parts) -> dict[str, int | str]:
    sets = {"training": parts.training_set, "validation": parts.validation_set, "target domain": parts.target_set}
    found: dict[str, int | str] = {name: len(images) for name, images in sets.items() if images is not None}
    try:
        found["test"] = len(assemble.build_dataset(parts.recipe, parts.recipe.data.test_split))
    except (DataError, OSError, ValueError) as error:
        found["test"] = f"cannot be read: {error}"
    return found


def _labelled(parts: Parts) -> tuple[dict[str, int], int]:
    """How many training images have a label, by task, and of how many that can be read."""
    counts, looked_at = dict.fromkeys(parts.tasks, 0), 0
    for sample in evaluation_loader(
        parts.training_set,
        transform=Select(parts.tasks),  # also what learns from video, without labels
        limit=LOOKED_AT,
        on_bad_sample=parts.recipe.data.on_bad_sample,
    ):
        looked_at += 1
        for name in counts:
            counts[name] += int(count_labelled(sample.targets[name]))
    return counts, looked_at
