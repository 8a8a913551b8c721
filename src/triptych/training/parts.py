"""Objects of one run, and what its steps ask of them: batches, buffers, the exchange of gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from triptych import assemble
from triptych.data.base import DenseDataset, Transform
from triptych.data.loading import Loader, evaluation_loader, make_loader
from triptych.processes import gather_objects
from triptych.recipes.config import Recipe
from triptych.tasks import Task
from triptych.training.objective import Objective
from triptych.training.optim import WeightAverage
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
    transforms: tuple[Transform, ...]
    """Transforms of the training set, then of the target set."""
    target_view: Transform | None = None
    """Images of the target set as evaluation sees them."""
    adapter_optimizer: torch.optim.Optimizer | None = None
    frozen: dict[str, str] = field(default_factory=dict)
    """Name and hash of the frozen part of the network, which is stored once for all checkpoints; empty without any."""

    @property
    def tasks(self) -> dict[str, Task]:
        """Every task with a loss."""
        return self.objective.tasks

    @property
    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters shared by all tasks, on which gradient balancing works."""
        return [parameter for module in self.objective.model.shared_modules for parameter in module.parameters()]

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over processes and accumulated batches."""
        recipe = self.recipe
        return recipe.data.batch_size * recipe.training.accumulate * self.accelerator.num_processes

    def loaders(self, first_step: int) -> list[Loader]:
        """Labelled batches of this process from step `first_step` on; then those of a target domain, if any is learned
        from.
        """
        adapter = self.objective.adapter
        target_set = self.target_set if adapter is not None and adapter.has_losses else None
        sets = [dataset for dataset in (self.training_set, target_set) if dataset is not None]
        seeds = (self.recipe.seed, self.recipe.seed + TARGET_SEED)
        return [
            self._loader(dataset, transform, seed, first_step)
            for dataset, transform, seed in zip(sets, self.transforms, seeds, strict=False)
        ]

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

    def target_images(self, count: int) -> Loader:
        """`count` training images of the target domain (all, if there are fewer) one by one, the same in every
        process.
        """
        assert self.target_set is not None
        data = self.recipe.data
        return evaluation_loader(
            self.target_set,
            transform=self.target_view,
            limit=count,
            num_workers=data.num_workers,
            on_bad_sample=data.on_bad_sample,
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
    def share_buffers(self, module: nn.Module | None = None) -> None:
        """Give every process the running statistics of the first one, in all modules or one: each saw other images."""
        if self.accelerator.num_processes > 1:
            for buffer in (self.objective if module is None else module).buffers():
                torch.distributed.broadcast(buffer, 0)

    def whole_model(self) -> nn.Module:
        """The model, unsharded: itself, or a copy of it without weights where parameters are sharded."""
        model = self.objective.model
        if not self.sharded:
            return model
        with torch.random.fork_rng():
            bare = without_weights(self.recipe)
            whole = assemble.build_model(bare, model.tasks, model.auxiliary_tasks, stored=True)
            return whole.to(self.accelerator.device)

    def batches(self, loaders: list[Loader]) -> Iterator[tuple[Sample, Sample | None]]:
        """Labelled batches in the host's memory, each with an unlabelled one where a second domain is adapted to."""
        source, *rest = loaders
        targets = iter(rest[0]) if rest else None
        for sample in source:
            yield sample, next(targets) if targets is not None else None

    def skipped(self, loaders: list[Loader]) -> dict[str, str]:
        """Damaged samples that the loaders of all processes left out so far, and why."""
        own = {key: reason for loader in loaders for key, reason in loader.skipped.items()}
        every = [own] if self.recipe.data.on_bad_sample == "raise" else gather_objects(own)
        return {key: reason for each in every for key, reason in each.items()}

    def placed(self, sample: Sample) -> Sample:
        """A batch on the device, in the layout that is trained in."""
        sample = sample.to(self.accelerator.device)
        if not self.recipe.training.channels_last:
            return sample
        return replace(sample, image=sample.image.contiguous(memory_format=torch.channels_last))


def without_weights(recipe: Recipe) -> Recipe:
    """The recipe of networks that begin with random weights, for others to be put in their place."""
    options = {name: value for name, value in recipe.video.options.items() if name != "pose_weights"}
    video = replace(recipe.video, options=options)
    return replace(recipe, model=replace(recipe.model, weights=""), video=video)
