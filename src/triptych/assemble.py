"""Build the parts that a recipe names; the only module that turns names into objects, and long for that reason."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from triptych.adaptation.base import Adapter, check_label_spaces
from triptych.augmentation.presets import TRANSFORMS, Transform, build_transform
from triptych.augmentation.steps import Stretch
from triptych.backbones import create_backbone
from triptych.backbones.base import Backbone
from triptych.data.base import DenseDataset
from triptych.data.errors import DataError
from triptych.data.loading import Loader, evaluation_loader
from triptych.data.subset import FewerLabels, Unread, spread
from triptych.datasets import DATASETS, open_configured
from triptych.decoders import DECODERS
from triptych.decoders.base import Decoder
from triptych.lookup import UnknownNameError, named_choice
from triptych.models import ARCHITECTURES
from triptych.models.cvm import CrossViewModel
from triptych.models.multitask import MultiTaskModel
from triptych.named_parts import ADAPTER, DECODER, MATCHER, REGULARIZER, TUNING, VIDEO_METHOD, WEIGHTING
from triptych.plugins.loading import require_plugins
from triptych.recipes.config import TARGET, ModelConfig, Options, Recipe, split_domain
from triptych.regularizers.base import Regularizer
from triptych.tasks import TASKS, Task
from triptych.tasks.stored import with_options
from triptych.types import Sample, valid_pixels
from triptych.video.base import VideoSupervision
from triptych.weighting.base import Weighting
from triptych.weighting.losses import PRESETS

REGULARIZER_SEED = 104729
"""Offset of the seed for a regularizer's random numbers; dropout uses the seed itself."""


def create_model(
    decoder: str,
    *,
    backbone: str,
    tasks: Mapping[str, Task],
    backbone_options: Mapping[str, Any] | None = None,
    decoder_options: Mapping[str, Any] | None = None,
    weights: str = "",
    cross_view: str = "none",
    cross_view_options: Mapping[str, Any] | None = None,
    tuning: str = "full",
    tuning_options: Mapping[str, Any] | None = None,
) -> MultiTaskModel:
    """A multi-task model from the name of a decoder, or of an architecture that shares inside the encoder.

    `weights` are the backbone's: empty for random ones, `"timm"` for the pretrained ones of its name,
    `"hub:organisation/name"` for those of a network that `triptych push` uploaded, or the path of a local file.
    `cross_view` names a module beside the backbone that matches views of the scene (`"cvm"`). `tuning` `"lora"` or
    `"mtlora"` freezes the trunk and adds low-rank updates.

    >>> import triptych
    >>> model = create_model("fcn", backbone="resnet18", tasks=triptych.nyuv2_tasks())
    >>> list(model.tasks)
    ['semseg', 'depth', 'normals', 'boundary']
    """
    config = ModelConfig(
        decoder=decoder,
        decoder_options=dict(decoder_options or {}),
        backbone=backbone,
        backbone_options=dict(backbone_options or {}),
        weights=weights,
        cross_view=cross_view,
        cross_view_options=dict(cross_view_options or {}),
        tuning=tuning,
        tuning_options=dict(tuning_options or {}),
    )
    model = _compose(Recipe(model=config), tasks)
    _require_same_token(model, config)
    return model


def _require_same_token(model: MultiTaskModel, config: ModelConfig) -> None:
    if config.decoder in DECODERS and model.decoder.class_token not in (None, model.backbone.class_token):
        raise ValueError(
            f"decoder '{config.decoder}' has class_token {model.decoder.class_token} and backbone '{config.backbone}' "
            f"{model.backbone.class_token}; give class_token = true to both (decoder_options and backbone_options of a "
            "plain transformer), or to neither."
        )


def _compose(recipe: Recipe, tasks: Mapping[str, Task]) -> MultiTaskModel:
    """Build the network of a recipe that holds all options of its decoder."""
    config = recipe.model
    builder = DECODER.open(recipe)
    if not isinstance(tasks, Mapping):
        raise TypeError(
            f"tasks is {tasks!r}; expected Task objects by name, such as triptych.nyuv2_tasks() or "
            "{'semseg': triptych.tasks.semseg(40)}."
        )
    trunk_options: dict[str, Any] = config.backbone_options
    options: dict[str, Any] = config.decoder_options
    trunk = create_backbone(config.backbone, weights=config.weights, **trunk_options)
    if config.matches_views:
        model = _beside_matcher(trunk, recipe, tasks)
    elif config.decoder in ARCHITECTURES:
        model = builder(trunk, tasks=tasks, **options)
    else:
        model = MultiTaskModel(trunk, builder(trunk.channels, strides=trunk.strides, tasks=tasks, **options))
    tuned = TUNING.open(recipe)(model, **config.tuning_options)
    tuned.freeze(())  # modules in which the tuning left no parameter to train
    return tuned


def _beside_matcher(trunk: Backbone, recipe: Recipe, tasks: Mapping[str, Task]) -> MultiTaskModel:
    """A model whose decoder reads the maps of a view matcher beside the trunk's."""
    config = recipe.model
    build = MATCHER.open(recipe)
    if config.decoder in ARCHITECTURES:
        raise ValueError(
            f"cross_view '{config.cross_view}' stands beside one shared backbone, and '{config.decoder}' shares inside "
            f"its encoder; choose a decoder: {', '.join(sorted(DECODERS))}."
        )
    matcher = build(**config.cross_view_options)
    channels = CrossViewModel.decoder_channels(trunk, matcher)
    options: dict[str, Any] = config.decoder_options
    decoder = DECODERS[config.decoder](channels, strides=trunk.strides, tasks=tasks, **options)
    return CrossViewModel(trunk, matcher, decoder)


def build_dataset(recipe: Recipe, split: str) -> DenseDataset:
    """Open one split of the recipe's dataset; `target-<split>` is a split of the domain that the recipe adapts to."""
    recipe, split = split_domain(recipe, split)
    data = recipe.data
    try:
        return open_configured(data.dataset, data.root, split, data.options)
    except UnknownNameError:
        require_plugins(recipe.plugins, f"dataset '{data.dataset}'")
        raise


def with_scored_labels(recipe: Recipe, tasks: Mapping[str, Task]) -> Recipe:
    """Return the recipe with datasets that read the labels of `tasks` that papers score against, where these differ
    from the labels for training.
    """

    def options(dataset: str, given: Options) -> Options:
        others = DATASETS[dataset].scored_options if dataset in DATASETS else {}
        return given | {name: value for task in tasks for name, value in others.get(task, {}).items()}

    data, adaptation = recipe.data, recipe.adaptation
    return replace(
        recipe,
        data=replace(data, options=options(data.dataset, data.options)),
        adaptation=replace(adaptation, dataset_options=options(adaptation.dataset, adaptation.dataset_options)),
    )


def scored_view(recipe: Recipe, split: str, tasks: Mapping[str, Task]) -> Transform:
    """Transform of a split for evaluation: to the size of its domain, without random augmentation."""
    data = split_domain(recipe, split)[0].data
    return build_transform(data.transform, size=data.size, tasks=tasks, train=False)


def stretched_size(recipe: Recipe) -> tuple[int, int] | None:
    """(height, width) that the recipe stretches images to in training and evaluation; `None` where it keeps their
    proportions, or its transform belongs to a plug-in that is not loaded.

    >>> stretched_size(Recipe(data=replace(Recipe().data, transform="survey"))), stretched_size(Recipe())
    ((96, 128), None)
    """
    if split_domain(recipe, recipe.data.test_split)[0].data.transform not in TRANSFORMS:
        return None
    view = scored_view(recipe, recipe.data.test_split, {})
    return view.size if isinstance(view, Stretch) else None


def unstretched(recipe: Recipe) -> Recipe:
    """Return the recipe with images left at their own size in evaluation."""
    return replace(
        recipe,
        data=replace(recipe.data, transform="none"),
        adaptation=replace(recipe.adaptation, transform="none"),
    )


def scored_size(recipe: Recipe, split: str, dataset: DenseDataset | None = None) -> str:
    """Sizes at which labels of a split are scored, as text, without padding.

    Those of up to 64 images of `dataset`, empty where none can be read; without a dataset that of a small image,
    `native` where evaluation keeps it.

    >>> scored_size(Recipe(), "test"), scored_size(Recipe(data=replace(Recipe().data, transform="mtan")), "test")
    ('native', '96x128')
    """
    view = scored_view(recipe, split, {"depth": TASKS["depth"]()})

    def seen(height: int, width: int) -> tuple[int, int]:
        image = Sample(torch.zeros(3, height, width), {"depth": torch.ones(1, height, width)})
        labelled = valid_pixels(view(image, np.random.default_rng(0)).targets["depth"])[0]
        return int(labelled.any(dim=1).sum()), int(labelled.any(dim=0).sum())

    if dataset is None:
        native = (61, 83)  # a size that no images have
        sizes = {seen(*native)} - {native}
    else:
        few = evaluation_loader(dataset, limit=64, on_bad_sample="skip")  # scoring reports damaged files
        sizes = {seen(*image.image.shape[-2:]) for image in few}
    told = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
    return told or ("native" if dataset is None else "")


LARGEST_STRIDE = 32
"""Stride of the deepest maps of pyramids: images are padded to multiples of it (`MultiTaskModel.pad_to`)."""


def is_padded(recipe: Recipe, split: str, sizes: Iterable[tuple[int, int]]) -> bool:
    """Whether a pyramid pads images of a split of any of `sizes`, where it padded none in training.

    >>> is_padded(Recipe(), "test", [(480, 640)]), is_padded(Recipe(), "test", [(480, 640), (425, 560)])
    (False, True)
    """
    view, trained = scored_view(recipe, split, {}), recipe.training_sizes
    seen = [view(Sample(torch.zeros(3, *size), {}), np.random.default_rng(0)).image.shape[-2:] for size in sizes]
    return bool(trained) and _are_whole(trained) and not _are_whole(seen)


def _are_whole(sizes: Iterable[Sequence[int]]) -> bool:
    return all(side % LARGEST_STRIDE == 0 for size in sizes for side in size)


def read_split(
    recipe: Recipe, split: str, tasks: Mapping[str, Task], *, limit: int = 0, dataset: DenseDataset | None = None
) -> Loader:
    """Load the images of a split one by one for evaluation, `limit` of them spread evenly (0: all); `dataset` is the
    split where it is open already.
    """
    dataset = build_dataset(recipe, split) if dataset is None else dataset
    view = scored_view(recipe, split, tasks)
    return evaluation_loader(dataset, transform=view, limit=limit, on_bad_sample=recipe.data.on_bad_sample)


def unread_tasks(recipe: Recipe) -> tuple[str, ...]:
    """Tasks whose labels training does not read: the one that is learned from video."""
    return (recipe.video.task,) if recipe.video.used and not recipe.video.labels else ()


def build_training_set(recipe: Recipe, *, unread: Sequence[str] = ()) -> DenseDataset:
    """Open the training split, with as many images and labels as the recipe asks for and without the labels of
    `unread` tasks.
    """
    dataset = build_dataset(recipe, recipe.data.train_split)
    left = {name: task for name, task in dataset.tasks.items() if name in unread}
    if left:
        rest = tuple(name for name in dataset.tasks if name not in left)
        data = replace(recipe.data, options={**recipe.data.options, "tasks": rest})
        dataset = build_dataset(replace(recipe, data=data), recipe.data.train_split)
        dataset.unread = left
    data = recipe.data
    if data.train_images:
        dataset = spread(dataset, data.train_images)
        dataset.draw(recipe.seed, 0)  # fails before there is a run folder if a source of a mixture has no image left
    if data.label_setting == "all":
        return dataset
    trained = (*data.tasks, *data.auxiliary_tasks) if data.tasks else tuple(dataset.tasks)
    return FewerLabels(dataset, data.label_setting, [name for name in dataset.tasks if name in trained])


def build_tasks(recipe: Recipe, dataset: DenseDataset) -> tuple[dict[str, Task], dict[str, Task]]:
    """The tasks of the final prediction and the auxiliary ones, in the recipe's order, with its task options applied.

    A task that learns from video comes last and needs no labels. Raises `ValueError` for any other that the dataset
    cannot supervise.
    """
    data = recipe.data
    known = dict(dataset.tasks)
    for name in unread_tasks(recipe):
        if name not in known:
            known[name] = dataset.unread.get(name) or named_choice("task in video.task", name, TASKS, known)()
    names = data.tasks or tuple(name for name in known if name not in data.auxiliary_tasks)

    def build(name: str) -> Task:
        task = named_choice(f"task of dataset '{data.dataset}'", name, known)
        if name not in data.task_options:
            return task
        return with_options(task, name, data.task_options[name])

    return {name: build(name) for name in names}, {name: build(name) for name in data.auxiliary_tasks}


def build_model(
    recipe: Recipe,
    tasks: Mapping[str, Task],
    auxiliary_tasks: Mapping[str, Task] | None = None,
    *,
    stored: bool = False,
) -> MultiTaskModel:
    """The recipe's network; `auxiliary_tasks` are handed to decoders that offer intermediate predictions of their
    own. With `stored` weights it is built as it was trained, even where `create_model` would refuse it today.
    """
    options: dict[str, Any] = DECODER.settings(recipe)
    if auxiliary_tasks:
        options["auxiliary_tasks"] = dict(auxiliary_tasks)
    built = _compose(replace(recipe, model=replace(recipe.model, decoder_options=options)), tasks)
    if not stored:
        _require_same_token(built, recipe.model)
    built.set_training_sizes(recipe.training_sizes)
    return built


def build_weighting(recipe: Recipe, tasks: Mapping[str, Task]) -> Weighting:
    """The recipe's weighting over `tasks` (auxiliary ones included, where they are trained). One that draws does so by
    the recipe's seed, unless its options say otherwise.

    Raises `ValueError` for a weight of no task, and for one of a task that the option `preset` weighs too.
    """
    config = recipe.weighting
    preset = PRESETS.get(str(config.options.get("preset", "")), {})
    for name in config.weights:
        named_choice("task in weighting.weights", name, dict(tasks))
        if name in preset:
            raise ValueError(
                f"weighting.weights gives task '{name}' {config.weights[name]:g}, and preset "
                f"'{config.options['preset']}' of weighting.options gives it {preset[name]:g}; leave one of them out."
            )
    weights = {name: config.weights.get(name, task.weight) for name, task in tasks.items()}
    return WEIGHTING.open(recipe)(tuple(tasks), weights=weights, **WEIGHTING.settings(recipe))


def build_regularizer(recipe: Recipe, model: MultiTaskModel) -> Regularizer | None:
    """The recipe's regularizer over the model's shared features, or `None`.

    One that takes `schedule_steps` receives the number of steps of the run, unless its options say otherwise. Its
    random numbers follow from the recipe's seed.
    """
    config = recipe.regularizer
    if not config.used:
        return None
    build = REGULARIZER.open(recipe)
    copied: tuple[Any, ...] = ()
    if build.copies_decoder:
        copied = (build_second_decoder(recipe, model), model.multiple, recipe.weighting.auxiliary_factor)
    regularizer = build(
        model.feature_channels,
        *copied,
        strides=model.feature_strides,
        tasks=model.tasks,
        weight=config.weight,
        **REGULARIZER.settings(recipe),
    )
    regularizer.generator.manual_seed(recipe.seed + REGULARIZER_SEED)
    return regularizer


def build_second_decoder(recipe: Recipe, model: MultiTaskModel) -> Decoder:
    """A decoder like the model's, from new random weights."""
    config = recipe.model
    if config.decoder in ARCHITECTURES:
        raise ValueError(
            f"regularizer '{recipe.regularizer.name}' copies the decoder on shared features, and '{config.decoder}' "
            "shares inside its encoder; use the regularizer 'auxiliary-heads'."
        )
    options: dict[str, Any] = DECODER.settings(recipe)
    if model.auxiliary_tasks:
        options["auxiliary_tasks"] = model.auxiliary_tasks
    build = DECODER.find(recipe)
    return build(model.feature_channels, strides=model.feature_strides, tasks=model.tasks, **options)


def build_video(recipe: Recipe, model: MultiTaskModel) -> VideoSupervision | None:
    """The recipe's self-supervision from video, or `None`."""
    config = recipe.video
    if not config.used:
        return None
    if recipe.model.matches_views:
        raise ValueError(
            f"video '{config.name}' and model.cross_view '{recipe.model.cross_view}' both take the neighboring frames; "
            "use one of them."
        )
    build = VIDEO_METHOD.open(recipe)
    return build(model.tasks, intermediate_tasks=model.intermediate_tasks, task=config.task, **config.options)


def build_adapter(recipe: Recipe, model: MultiTaskModel) -> Adapter | None:
    """The recipe's adaptation method, or `None`; its losses have the weights of the recipe's weighting."""
    config = recipe.adaptation
    if not config.used:
        return None
    build = ADAPTER.open(recipe)
    if build.mixes and any(config.size) and config.size != recipe.data.size:
        raise ValueError(
            f"adapter '{config.name}' pastes source images of {recipe.data.size} into target images of {config.size}: "
            "leave adaptation.size out, or set it to data.size."
        )
    weights = build_weighting(recipe, {**model.tasks, **model.auxiliary_tasks}).weights
    adapter = build(model, size=recipe.data.size, weights=weights, seed=recipe.seed, **config.options)
    if adapter.mixed_by in unread_tasks(recipe):
        raise ValueError(
            f"adapter '{config.name}' pastes by labels of {adapter.mixed_by}, which learns from video without any: set "
            "video.labels = true, or choose adaptation 'dacs'."
        )
    return adapter


def build_target_set(recipe: Recipe, tasks: Mapping[str, Task]) -> DenseDataset | None:
    """The training images of the domain that the recipe adapts to, if any. Their labels are not read, and need not be
    there.

    Raises `ValueError` where they are not named, where there are none, or where their classes of `tasks` differ.
    """
    config = recipe.adaptation
    if not config.used:
        return None
    if not config.dataset:
        raise ValueError("adaptation.dataset is empty; name the target domain (`triptych list datasets`).")
    split = TARGET + config.split
    bare = replace(config, dataset_options={**config.dataset_options, "tasks": ()})
    try:
        images = build_dataset(replace(recipe, adaptation=bare), split)
    except ValueError as error:
        raise ValueError(f"target domain (adaptation.dataset, adaptation.root): {error}") from error
    if len(images) == 0:
        raise ValueError(
            f"the target domain has no images: split '{config.split}' of dataset '{config.dataset}' is empty; check "
            "adaptation.root and adaptation.split."
        )
    try:
        labelled = build_dataset(recipe, split)
    except DataError:  # labels are missing
        return images
    check_label_spaces(tasks, labelled.tasks)
    return Unread(labelled, images)
