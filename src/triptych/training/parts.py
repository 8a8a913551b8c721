"""What a training run is made of, built from its recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch._functorch import config as functorch_config
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from triptych import assemble
from triptych.adaptation.base import Adapter
from triptych.backbones.base import Backbone
from triptych.datasets.base import DenseDataset
from triptych.datasets.loading import Loader, make_loader
from triptych.datasets.steps import Chain, Select, Transform
from triptych.datasets.transforms import build_transform
from triptych.devices import choose_device
from triptych.recipes.config import TARGET, AdaptationConfig, DataConfig, Recipe, split_domain
from triptych.tasks import Task
from triptych.training.log import tracker_names
from triptych.training.objective import Objective
from triptych.training.optim import WeightAverage, build_optimizer, parameter_groups
from triptych.training.sharding import asks_for_sharding, shard
from triptych.types import Sample
from triptych.weighting.base import Weighting

TARGET_SEED = 7919
"""Added to the seed for the order and augmentation of the target's images: else two sets of one length would be
paired image by image, and mirrored together.
"""


@dataclass
class Parts:
    """The objects of one run. `wrapped` is the objective as several processes and mixed precision call it."""

    recipe: Recipe
    accelerator: Accelerator
    objective: Objective
    wrapped: nn.Module
    weighting: Weighting
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    training_set: DenseDataset
    validation_set: DenseDataset | None
    target_set: DenseDataset | None
    adapter_optimizer: torch.optim.Optimizer | None = None

    @property
    def tasks(self) -> dict[str, Task]:
        """Every task with a loss."""
        return self.objective.tasks

    @property
    def shared_parameters(self) -> list[nn.Parameter]:
        """What every task shares: gradient balancing works on these."""
        return [parameter for module in self.objective.model.shared_modules for parameter in module.parameters()]

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over processes and accumulated batches."""
        recipe = self.recipe
        return recipe.data.batch_size * recipe.training.accumulate * self.accelerator.num_processes

    def loaders(self, first_step: int) -> list[Loader]:
        """Labelled batches of this process from step `first_step` on; then those of a target domain, if any."""
        recipe = self.recipe
        source = self._loader(self.training_set, self._transform(recipe.data, self.tasks), recipe.seed, first_step)
        if self.target_set is None:
            return [source]
        # No labels before anything is drawn: not even the place of a crop depends on them.
        target = split_domain(recipe, TARGET + recipe.adaptation.split)[0].data
        transform = Chain((Select({}), self._transform(target, {})))
        return [source, self._loader(self.target_set, transform, recipe.seed + TARGET_SEED, first_step)]

    def _transform(self, data: DataConfig, tasks: dict[str, Task]) -> Transform:
        return build_transform(data.transform, size=data.size, tasks=tasks, train=True)

    def _loader(self, dataset: DenseDataset, transform: Transform, seed: int, first_step: int) -> Loader:
        data, training = self.recipe.data, self.recipe.training
        return make_loader(
            dataset,
            transform=transform,
            batch_size=data.batch_size,
            seed=seed,
            steps=self.recipe.schedule.steps * training.accumulate,
            first_step=first_step * training.accumulate,
            num_workers=data.num_workers,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            on_bad_sample=data.on_bad_sample,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    @property
    def sharded(self) -> bool:
        """Whether parameters are sharded over the processes (FSDP)."""
        return isinstance(self.wrapped, FSDPModule)

    @contextmanager
    def gradient_exchange(self, enabled: bool) -> Iterator[None]:
        """Whether the backward passes in this context exchange gradients between processes."""
        if isinstance(self.wrapped, DistributedDataParallel) and not enabled:
            with self.wrapped.no_sync():
                yield
            return
        if isinstance(self.wrapped, FSDPModule):
            self.wrapped.set_requires_gradient_sync(enabled)
        yield

    @torch.no_grad()
    def share_buffers(self) -> None:
        """Give every process the running statistics of the first one: each saw other images."""
        if self.accelerator.num_processes > 1:
            for buffer in self.objective.buffers():
                torch.distributed.broadcast(buffer, 0)

    def whole_model(self) -> nn.Module:
        """The model, unsharded: itself, or a copy of it without weights where parameters are sharded."""
        model = self.objective.model
        if not self.sharded:
            return model
        bare = replace(self.recipe, model=replace(self.recipe.model, weights=""))
        with torch.random.fork_rng():
            return assemble.build_model(bare, model.tasks, model.auxiliary_tasks).to(self.accelerator.device)

    def batches(self, loaders: list[Loader]) -> Iterator[tuple[Sample, Sample | None]]:
        """Labelled batches on the device, each with an unlabelled one where a second domain is adapted to."""
        device = self.accelerator.device
        source, *rest = loaders
        targets = iter(rest[0]) if rest else None
        for sample in source:
            target = self._laid_out(next(targets).to(device)) if targets is not None else None
            yield self._laid_out(sample.to(device)), target

    def skipped(self, loaders: list[Loader]) -> dict[str, str]:
        """Damaged samples that the loaders of all processes left out so far, and why."""
        own = {key: reason for loader in loaders for key, reason in loader.skipped.items()}
        if self.recipe.data.on_bad_sample == "raise" or self.accelerator.num_processes == 1:
            return own
        gathered: list[dict[str, str]] = [{} for _ in range(self.accelerator.num_processes)]
        torch.distributed.all_gather_object(gathered, own)
        return {key: reason for each in gathered for key, reason in each.items()}

    def _laid_out(self, sample: Sample) -> Sample:
        if not self.recipe.training.channels_last:
            return sample
        return replace(sample, image=sample.image.contiguous(memory_format=torch.channels_last))


def accelerator_options(recipe: Recipe, run: Path, device: str) -> dict[str, Any]:
    """What the recipe asks of accelerate."""
    if recipe.training.precision == "fp16" and choose_device(device).type == "cpu":
        raise ValueError("training.precision is 'fp16', which needs a GPU; use 'bf16' or 'no' on a CPU.")
    return {
        "mixed_precision": recipe.training.precision,
        "log_with": tracker_names(recipe.training.trackers) or None,
        "project_dir": run / "trackers",
        # A parameter that no loss of a batch reaches (a dead layer of a published network) must not stall the others.
        "kwargs_handlers": [DistributedDataParallelKwargs(find_unused_parameters=True)],
    }


def build_parts(recipe: Recipe, accelerator: Accelerator) -> Parts:
    """Build datasets, model, regularizer, weighting and optimizer, and prepare them for the accelerator's processes."""
    check_numbers(recipe)
    torch.manual_seed(recipe.seed)
    training_set = assemble.build_training_set(recipe, unread=assemble.unread_tasks(recipe))
    tasks, auxiliary_tasks = assemble.build_tasks(recipe, training_set)
    target_set = assemble.build_target_set(recipe, tasks)
    model = assemble.build_model(recipe, tasks, auxiliary_tasks)
    objective = Objective(
        model,
        regularizer=assemble.build_regularizer(recipe, model),
        adapter=assemble.build_adapter(recipe, model),
        video=assemble.build_video(recipe, model),
        auxiliary_factor=recipe.weighting.auxiliary_factor,
        video_weight=recipe.video.weight,
    ).to(accelerator.device)
    weighting = assemble.build_weighting(recipe, objective.tasks).to(accelerator.device)
    training = recipe.training
    if training.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for backbone in (module for module in model.modules() if isinstance(module, Backbone)):
        backbone.set_checkpointing(training.checkpoint_gradients)
    if training.compile:
        functorch_config.donated_buffer = False  # gradient balancing goes back through one graph several times
        model.compile()  # in place: names of parameters stay
    sharded = asks_for_sharding() and accelerator.num_processes > 1
    if sharded and target_set is not None:
        raise ValueError(
            f"adaptation '{recipe.adaptation.name}' needs whole parameters, FSDP shards them; start with DDP "
            "(torchrun, or accelerate without --use_fsdp)."
        )
    if sharded:
        shard(objective, accelerator.device.type, accelerator.num_processes, recipe.data.size)
    optimizer = build_optimizer(
        parameter_groups({"objective": objective, "weighting": weighting}, recipe.optimizer), recipe.optimizer
    )
    # Sharding is done, so that the wrapper adds nothing but precision.
    wrapped = accelerator.prepare_model(objective, evaluation_mode=sharded)
    optimizer = accelerator.prepare_optimizer(optimizer)
    return Parts(
        recipe=recipe,
        accelerator=accelerator,
        objective=objective,
        wrapped=wrapped,
        weighting=weighting,
        optimizer=optimizer,
        average=WeightAverage(model, training.ema) if training.ema else None,
        training_set=training_set,
        validation_set=_validation_set(recipe),
        target_set=target_set,
        adapter_optimizer=_adapter_optimizer(objective.adapter, recipe.adaptation),
    )


def check_numbers(recipe: Recipe) -> None:
    """Raise `ValueError` for a count that cannot be."""
    counts = {
        "schedule.steps": recipe.schedule.steps,
        "data.batch_size": recipe.data.batch_size,
        "training.accumulate": recipe.training.accumulate,
        "training.log_every": recipe.training.log_every,
    }
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give at least 1.")


def _validation_set(recipe: Recipe) -> DenseDataset | None:
    data = recipe.data
    if not data.val_split or recipe.training.evaluate_every < 1:
        return None
    if data.val_split == data.test_split:
        raise ValueError(
            f"data.val_split is {data.val_split!r}, the test split: the best weights would be chosen on the test set. "
            "Name a held-out split, or leave val_split empty to keep the last weights."
        )
    return assemble.build_dataset(recipe, data.val_split)


def _adapter_optimizer(adapter: Adapter | None, config: AdaptationConfig) -> torch.optim.Optimizer | None:
    """The optimizer of the adapter's own parameters, `None` where there are none."""
    parameters = adapter.own_parameters() if adapter is not None else []
    if not parameters:
        return None
    options = config.optimizer
    group = {"params": parameters, "lr": options.lr, "base_lr": options.lr, "weight_decay": options.weight_decay}
    return build_optimizer([group], options)


def count_parameters(module: nn.Module | None) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad) if module is not None else 0


def backbone_reports(model: nn.Module) -> dict[str, Any]:
    """What loading weights found, by the name of each backbone that loaded any."""
    reports = {name: module.load_report for name, module in model.named_modules() if isinstance(module, Backbone)}
    return {name: asdict(report) for name, report in reports.items() if report is not None}
