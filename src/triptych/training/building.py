"""A recipe becomes the parts of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch._functorch import config as functorch_config

from triptych import assemble
from triptych.adaptation.base import Adapter
from triptych.augmentation.presets import build_transform
from triptych.augmentation.steps import CenterCrop, Chain, Select
from triptych.backbones.base import Backbone
from triptych.backbones.weights import LoadReport, choose_backbone
from triptych.data.base import DenseDataset, Transform, require_truth
from triptych.extending.registering import used_plugins
from triptych.machine import choose_device, choose_precision
from triptych.models.lora import require_called
from triptych.plugins.loading import require_plugins
from triptych.recipes.config import TARGET, AdaptationConfig, Recipe, split_domain
from triptych.recipes.limits import check_numbers
from triptych.tasks import Task
from triptych.training.feature_cache import FeatureCache, Undrawn, require_cacheable
from triptych.training.log import tracker_names
from triptych.training.objective import Objective
from triptych.training.optim import WeightAverage, build_optimizer, parameter_groups
from triptych.training.parts import Parts
from triptych.training.sharding import asks_for_sharding, shard, synchronize_norms
from triptych.weighting.base import Weighting


def settle(recipe: Recipe, device: str) -> tuple[Recipe, list[str]]:
    """The recipe with what `auto` is on this machine, for its precision and its backbone, and lines about it."""
    precision = choose_precision(recipe.training.precision, device)
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))  # type: ignore[arg-type]
    model = recipe.model
    if model.backbone != "auto":
        return recipe, []
    if model.weights:
        raise ValueError(
            f"model.weights is {model.weights} and model.backbone auto; name the backbone of these weights."
        )
    backbone, weights, why = choose_backbone()
    return replace(recipe, model=replace(model, backbone=backbone, weights=weights)), [why]


def accelerator_options(recipe: Recipe, run: Path, device: str) -> dict[str, Any]:
    """Options of accelerate that the recipe asks for."""
    if recipe.training.precision == "fp16" and choose_device(device).type == "cpu":
        raise ValueError("training.precision is 'fp16', which needs a GPU; use 'bf16' or 'no' on a CPU.")
    if recipe.training.sync_norms and choose_device(device).type == "cpu":
        raise ValueError(
            "training.sync_norms is true, which torch can on GPUs only; leave it off on a CPU, where each process has "
            "its own batch statistics."
        )
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
    require_plugins(recipe.plugins, "the recipe")
    torch.manual_seed(recipe.seed)
    training_set = assemble.build_training_set(recipe, unread=assemble.unread_tasks(recipe))
    tasks, auxiliary_tasks = assemble.build_tasks(recipe, training_set)
    target_set = assemble.build_target_set(recipe, tasks)
    model = assemble.build_model(recipe, tasks, auxiliary_tasks)
    model.freeze(recipe.model.freeze)
    objective = Objective(
        model,
        adapter=assemble.build_adapter(recipe, model),
        video=assemble.build_video(recipe, model),
        # Last, so that everything else begins with the weights that it has without a regularizer.
        regularizer=assemble.build_regularizer(recipe, model),
        auxiliary_factor=recipe.weighting.auxiliary_factor,
        video_weight=recipe.video.weight,
    ).to(accelerator.device)
    objective.pseudo_weights = training_set.pseudo_weights
    weighting = assemble.build_weighting(recipe, objective.tasks).to(accelerator.device)
    _check_learnable(recipe, objective, weighting)
    training = recipe.training
    if training.sync_norms:
        objective = synchronize_norms(objective)
    if training.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for backbone in (module for module in model.modules() if isinstance(module, Backbone) and module.training):
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
    transforms = _build_transforms(recipe, objective.tasks)
    if training.cache_features:
        transforms = (_keep_features(recipe, objective, training_set, transforms[0], sharded), *transforms[1:])
    optimizer = build_optimizer(
        parameter_groups({"objective": objective, "weighting": weighting}, recipe.optimizer), recipe.optimizer
    )
    # Sharding is done, so that the wrapper adds nothing but precision.
    wrapped = accelerator.prepare_model(objective, evaluation_mode=sharded)
    optimizer = accelerator.prepare_optimizer(optimizer)
    return Parts(
        recipe=replace(recipe, plugins=used_plugins(recipe, objective.tasks)),
        accelerator=accelerator,
        objective=objective,
        wrapped=wrapped,
        weighting=weighting,
        optimizer=optimizer,
        average=WeightAverage(model, training.ema) if training.ema else None,
        training_set=training_set,
        validation_set=_validation_set(recipe),
        target_set=target_set,
        transforms=transforms,
        target_view=target_view(recipe) if recipe.adaptation.used else None,
        adapter_optimizer=_adapter_optimizer(objective.adapter, recipe.adaptation),
    )


def _check_learnable(recipe: Recipe, objective: Objective, weighting: Weighting) -> None:
    """Raise `ValueError` where so much of the network is frozen that a part of the recipe would do nothing."""
    model, regularizer, video = objective.model, objective.regularizer, objective.video
    if not count_parameters(model):
        raise ValueError(f"model.freeze ({', '.join(recipe.model.freeze)}) leaves nothing to train; freeze less.")
    if regularizer is not None and regularizer.needs_features and not model.learns_features:
        raise ValueError(
            f"regularizer '{recipe.regularizer.name}' reaches the network through its shared features, which "
            "model.freeze keeps as they are: it would change nothing. Leave one of the two out, or train adapters in "
            "the trunk."
        )
    if recipe.model.tuning != "full":
        if not model.learns_features:
            raise ValueError(
                f"model.freeze ({', '.join(recipe.model.freeze)}) freezes the updates that tuning "
                f"'{recipe.model.tuning}' trains; leave one of the two out."
            )
        require_called(model, recipe.data.size)
    idle = model.idle_tasks()
    if video is not None and video.task in idle:
        raise ValueError(f"video.task is {video.task}, of which nothing trains (model.freeze); freeze less.")
    shared = [parameter for module in model.shared_modules for parameter in module.parameters()]
    weighting.check(shared, idle)


def _keep_features(
    recipe: Recipe, objective: Objective, dataset: DenseDataset, transform: Transform, sharded: bool
) -> Undrawn:
    """Let the objective keep features of labelled images; their transform, which may not draw."""
    if sharded:
        raise ValueError("training.cache_features reads a trunk image by image, FSDP shards it; start with DDP.")
    fixed = Undrawn(transform, recipe.data.transform)
    require_cacheable(objective.model, dataset, fixed, recipe.data.size, objective.tasks)
    objective.features = FeatureCache(len(dataset))
    return fixed


def _validation_set(recipe: Recipe) -> DenseDataset | None:
    data = recipe.data
    if not data.val_split or recipe.training.evaluate_every < 1:
        return None
    if data.val_split == data.test_split:
        raise ValueError(
            f"data.val_split is {data.val_split!r}, the test split: the best weights would be chosen on the test set. "
            "Name a held-out split, or leave val_split empty to keep the last weights."
        )
    dataset = assemble.build_dataset(recipe, data.val_split)
    require_truth(dataset, recipe.data.tasks or dataset.tasks, "validated on")
    return dataset


def _build_transforms(recipe: Recipe, tasks: dict[str, Task]) -> tuple[Transform, ...]:
    """Augmentation of the labelled images; then of those of a target domain, if any."""
    source = build_transform(recipe.data.transform, size=recipe.data.size, tasks=tasks, train=True)
    if not recipe.adaptation.used:
        return (source,)
    target = split_domain(recipe, TARGET + recipe.adaptation.split)[0].data
    transform = build_transform(target.transform, size=target.size, tasks={}, train=True)
    # No labels before anything is drawn: not even the place of a crop depends on them.
    return (source, Chain((Select({}), transform)))


def target_view(recipe: Recipe) -> Transform:
    """Images of the target domain as evaluation sees them, at most as large as in training and without labels."""
    target = split_domain(recipe, TARGET + recipe.adaptation.split)[0].data
    seen = build_transform(target.transform, size=target.size, tasks={}, train=False)
    return Chain((Select({}), seen, CenterCrop({}, target.size)))


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


def load_reports(model: nn.Module) -> dict[str, LoadReport]:
    """Reports of loaded weights, by the name of each backbone that loaded any."""
    reports = {name: module.load_report for name, module in model.named_modules() if isinstance(module, Backbone)}
    return {name: report for name, report in reports.items() if report is not None}
