"""Build the parts of a run from a recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch._functorch import config as functorch_config

from triptych import assemble
from triptych.adaptation.base import Adapter, check_label_spaces
from triptych.augmentation.presets import build_transform
from triptych.augmentation.steps import CenterCrop, Chain, FitShorterSide, Select, mark_inside
from triptych.backbones.base import find_backbones
from triptych.backbones.weights import LoadReport, choose_backbone
from triptych.data.base import DenseDataset, Transform, require_truth
from triptych.data.errors import DataError
from triptych.data.subset import find_shared
from triptych.evaluation.protocols import Scoring
from triptych.lookup import UnknownNameError
from triptych.machine import choose_device, choose_precision
from triptych.models.lora import require_called, update_names
from triptych.named_parts import check_options, used_plugins
from triptych.plugins.loading import require_plugins
from triptych.recipes.config import TARGET, AdaptationConfig, Recipe, read_recipe, split_domain
from triptych.recipes.limits import check_numbers
from triptych.regularizers.base import Regularizer
from triptych.tasks import Task
from triptych.training.feature_cache import FeatureCache, Undrawn, require_cacheable
from triptych.training.log import tracker_names
from triptych.training.objective import Objective
from triptych.training.optim import WeightAverage, build_optimizer, parameter_groups
from triptych.training.parts import Parts, without_weights
from triptych.training.sharding import asks_for_sharding, shard, synchronize_norms
from triptych.weighting.base import Weighting


def settle(recipe: Recipe, device: str, begun: Path | None = None) -> tuple[Recipe, list[str]]:
    """Replace `auto` in a recipe's precision and backbone by the choice for this machine; return it with lines for the
    log.

    A run that was `begun` keeps its choices, even where this machine would choose otherwise.
    """
    path = begun / "recipe.json" if begun is not None else None
    stored = read_recipe(path) if path is not None and path.is_file() else None
    precision = choose_precision(recipe.training.precision, device)
    if stored is not None and recipe.training.precision == "auto":
        precision = stored.training.precision
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))  # type: ignore[arg-type]
    model = recipe.model
    if model.backbone != "auto":
        return recipe, []
    if model.weights:
        raise ValueError(
            f"model.weights is {model.weights} and model.backbone auto; name the backbone of these weights."
        )
    if stored is not None:
        chosen = stored.model
        return replace(recipe, model=replace(model, backbone=chosen.backbone, weights=chosen.weights)), []
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


def build_parts(recipe: Recipe, accelerator: Accelerator, *, resumes: bool = False) -> Parts:
    """Build datasets, model, regularizer, weighting and optimizer, and prepare them for the accelerator's processes.

    A run that `resumes` from a checkpoint has its weights there: those that it began with may be out of reach.
    """
    check_numbers(recipe)
    check_options(recipe)
    require_plugins(recipe.plugins, "the recipe")
    torch.manual_seed(recipe.seed)
    training_set = assemble.build_training_set(recipe, unread=assemble.unread_tasks(recipe))
    tasks, auxiliary_tasks = assemble.build_tasks(recipe, training_set)
    Scoring(recipe.data.protocol).check(tasks)  # which evaluation would say, after the training
    target_set = assemble.build_target_set(recipe, tasks)
    begun = without_weights(recipe) if resumes else recipe
    model = assemble.build_model(begun, tasks, auxiliary_tasks, stored=resumes)
    model.freeze(recipe.model.freeze)
    objective = Objective(
        model,
        adapter=assemble.build_adapter(recipe, model),
        video=assemble.build_video(begun, model),
        # Last, so that everything else begins with the weights that it has without a regularizer.
        regularizer=assemble.build_regularizer(recipe, model),
        auxiliary_factor=recipe.weighting.auxiliary_factor,
        video_weight=recipe.video.weight,
    ).to(accelerator.device)
    objective.pseudo_weights = training_set.pseudo_weights
    if objective.adapter is not None:
        objective.adapter.pseudo_weights = training_set.pseudo_weights
    weighting = assemble.build_weighting(recipe, objective.tasks).to(accelerator.device)
    _check_learnable(recipe, objective, weighting)
    _check_labels(recipe, objective.regularizer)
    training = recipe.training
    if training.sync_norms:
        objective = synchronize_norms(objective)
    if training.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for backbone in (each for each in find_backbones(model).values() if each.training):
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
        recipe=replace(recipe, plugins=used_plugins(recipe, objective.tasks, training_set.parts())),
        accelerator=accelerator,
        objective=objective,
        wrapped=wrapped,
        weighting=weighting,
        optimizer=optimizer,
        average=WeightAverage(model, training.ema) if training.ema else None,
        training_set=training_set,
        validation_set=_validation_set(recipe, tasks, None if resumes else training_set),
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
    if update_names(model):  # a merged network has none
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


def _check_labels(recipe: Recipe, regularizer: Regularizer | None) -> None:
    """Raise `ValueError` where a regularizer would do nothing, because no image has the labels that it reads."""
    needed, name = "" if regularizer is None else regularizer.needed_task, recipe.regularizer.name
    if needed in assemble.unread_tasks(recipe):
        raise ValueError(
            f"regularizer '{name}' does nothing without labels of {needed}, which learns from video without any: set "
            "video.labels = true, or choose another regularizer (`triptych list regularizers`)."
        )
    if regularizer is not None and regularizer.reads_labels and recipe.data.label_setting == "one":
        raise ValueError(
            f"regularizer '{name}' does nothing without images that have labels of {needed} and of another task, and "
            "data.label_setting is 'one': use 'random' or 'all', or another regularizer (`triptych list regularizers`)."
        )


def _keep_features(
    recipe: Recipe, objective: Objective, dataset: DenseDataset, transform: Transform, sharded: bool
) -> Undrawn:
    """Let the objective keep features of labelled images; their transform, which may not draw."""
    if sharded:
        raise ValueError("training.cache_features reads a trunk image by image, FSDP shards it; start with DDP.")
    if recipe.model.matches_views:
        raise ValueError(
            f"training.cache_features keeps features of the training set's images, and '{recipe.model.cross_view}' "
            "(model.cross_view) sees the frames around them too; leave cache_features out."
        )
    fixed = Undrawn(transform, recipe.data.transform)
    require_cacheable(objective.model, dataset, fixed, recipe.data.size, objective.tasks)
    objective.features = FeatureCache(len(dataset))
    return fixed


def _validation_set(recipe: Recipe, tasks: dict[str, Task], training_set: DenseDataset | None) -> DenseDataset | None:
    """Validation set by which weights are selected; raise `DataError` where it shares images with the training set of a
    new run.
    """
    data = recipe.data
    if not data.val_split or recipe.training.evaluate_every < 1:
        return None
    if data.val_split == data.test_split:
        raise ValueError(
            f"data.val_split is {data.val_split!r}, the test split: the best weights would be chosen on the test set. "
            "Name a held-out split, or leave val_split empty to keep the last weights."
        )
    try:
        dataset = assemble.build_dataset(recipe, data.val_split)
    except UnknownNameError as error:
        if error.name != data.val_split:
            raise  # another name of the recipe
        cure = "add one ([splits] of a descriptor), or name another; --recipe.data.val-split '' keeps the last weights"
        raise DataError(f"the data have no split '{data.val_split}' to choose the weights on", cure) from error
    if split_domain(recipe, data.val_split)[0] != recipe:
        check_label_spaces(tasks, dataset.tasks)
    require_truth(dataset, recipe.data.tasks or dataset.tasks, "validated on")
    if training_set is not None and split_domain(recipe, data.val_split)[0] == recipe:
        shared, compared = find_shared(training_set, dataset)
        if shared:
            raise DataError(
                f"{len(shared)} of {compared} images that were compared, such as {shared[0]}, are in data.train_split "
                f"'{data.train_split}' and in data.val_split '{data.val_split}': the weights would be chosen on images "
                "that were trained on",
                "name a data.train_split without them, such as train",
            )
    return dataset


def _build_transforms(recipe: Recipe, tasks: dict[str, Task]) -> tuple[Transform, ...]:
    """Augmentation of the labelled images; then of those of a target domain, if any."""
    source = build_transform(recipe.data.transform, size=recipe.data.size, tasks=tasks, train=True)
    if recipe.video.used:  # which compares frames where they have no labels
        source = Chain((mark_inside, source))
    if not recipe.adaptation.used:
        return (source,)
    target = split_domain(recipe, TARGET + recipe.adaptation.split)[0].data
    transform = build_transform(target.transform, size=target.size, tasks={}, train=True)
    # Whatever a dataset gives: not even the place of a crop depends on labels.
    return (source, Chain((Select({}), mark_inside, transform)))


def target_view(recipe: Recipe, shorter_side: int | None = None) -> Transform:
    """Images of the target domain as evaluation sees them, or as `predict` does with a `shorter_side`; at most as large
    as in training and without labels.
    """
    target = split_domain(recipe, TARGET + recipe.adaptation.split)[0].data
    seen = build_transform(target.transform, size=target.size, tasks={}, train=False)
    fitted = seen if shorter_side is None else FitShorterSide({}, shorter_side)
    crop = (CenterCrop({}, target.size),) if any(target.size) else ()
    return Chain((Select({}), fitted, *crop))


def _adapter_optimizer(adapter: Adapter | None, config: AdaptationConfig) -> torch.optim.Optimizer | None:
    """The optimizer of the adapter's own parameters, `None` where there are none."""
    parameters = adapter.own_parameters() if adapter is not None else []
    if not parameters:
        return None
    options = config.optimizer
    group = {"params": parameters, "lr": options.lr, "base_lr": options.lr, "weight_decay": options.weight_decay}
    return build_optimizer([group], options)


def count_parameters(module: nn.Module | None) -> int:
    """Trained parameters: those that require gradients, and an adapter's own, which require them only during their own
    step.
    """
    own = set(module.own_parameters()) if isinstance(module, Adapter) else set()
    return sum(p.numel() for p in module.parameters() if p.requires_grad or p in own) if module is not None else 0


def load_reports(model: nn.Module) -> dict[str, LoadReport]:
    """Reports of loaded weights, by the name of each backbone that loaded any."""
    reports = {name: backbone.load_report for name, backbone in find_backbones(model).items()}
    return {name: report for name, report in reports.items() if report is not None}
