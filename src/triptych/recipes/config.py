"""Recipes: frozen dataclasses of names, numbers and tuples that become JSON without help.

No module of torch is imported here: the command line reads recipes before anything heavy.
Long because every field is described here; reading and comparing recipes, old ones too, need them all.
"""

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from triptych.lookup import build, parse_json
from triptych.recipes import option_words

Value = bool | int | float | str | tuple[Any, ...] | dict[str, Any] | None
Options = dict[str, Value]
"""Keyword arguments of a named component, checked by the component itself; NAME=VALUE on the command line."""
TARGET = "target-"
"""Prefix of the names of splits of the target domain."""


class OptionalPart:
    """A part of a recipe that can be left out: its name is then `none`."""

    name: str

    @property
    def used(self) -> bool:
        """Whether the recipe has it."""
        return self.name != "none"


@dataclass(frozen=True)
class DataConfig:
    """Data to train and score on, with cropping and augmentation."""

    dataset: str = "rooms"
    """Name of the dataset (`triptych list datasets`)."""
    root: str = ""
    """Folder of the dataset; empty: the dataset's own cache, where it has one."""
    tasks: tuple[str, ...] = ()
    """Tasks to train, in order; empty: every task the dataset can supervise."""
    auxiliary_tasks: tuple[str, ...] = ()
    """Tasks that only intermediate predictions have, where the decoder offers them."""
    train_split: str = "train"
    """Split that is trained on."""
    val_split: str = "val"
    """Held-out split for model selection; never the test split."""
    test_split: str = "test"
    """Split that `triptych evaluate` scores."""
    train_images: int = 0
    """Train on that many images, spread evenly over the training split; 0: all."""
    label_setting: Literal["all", "one", "random"] = "all"
    """Labels of the training split that are read: `all`, `one` per image, or `random` ones, at least one, chosen by a
    hash of the image's key.
    """
    size: tuple[int, int] = (96, 128)
    """Training size (height, width): crops are this large. 0 0 in a network that was converted: not known."""
    transform: str = "default"
    """Augmentation preset (`triptych list transforms`)."""
    batch_size: int = 8
    """Images per step and process."""
    num_workers: int = 0
    """Processes that read images; 0 reads them in the training process."""
    on_bad_sample: Literal["raise", "skip"] = "raise"
    """Whether a damaged file in the middle of an epoch raises an error, or is skipped and named in the log."""
    options: Options = field(default_factory=dict)
    """Keyword arguments of the dataset."""
    task_options: dict[str, Options] = field(default_factory=dict)
    """Keyword arguments of task constructors by task name, such as `depth.loss=berhu`."""
    protocol: str = "none"
    """Line of papers by whose rules `triptych evaluate` scores (those of `triptych score --protocol`); `none`: the
    tasks' own numbers. Validation while training has these in any case.
    """


@dataclass(frozen=True)
class ModelConfig:
    """The network: a backbone, and a decoder or an architecture that shares inside the encoder."""

    backbone: str = "resnet18"
    """One of `triptych list backbones`, a model of timm, or `auto`: what can be loaded on this machine."""
    decoder: str = "fcn"
    """A decoder (`triptych list decoders`) or an architecture (`triptych list architectures`)."""
    weights: str = ""
    """Backbone weights: empty (random), `timm` (pretrained by name), `hub:organisation/name` (of a network on the hub)
    or the path of a .safetensors or .pth file.
    """
    initialize_from: tuple[str, ...] = ()
    """Run folders to start from: one to fine-tune, or one per task for Cross-Stitch and NDDR-CNN."""
    freeze: tuple[str, ...] = ()
    """Parts that stay as they are, in evaluation mode: `backbone`, `backbone.norms`, `heads.<task>`, or any path in the
    network.
    """
    tuning: str = "full"
    """Tuning of the trunk: `full`, or by low-rank updates beside its own weights, which stay: `lora` (linear layers:
    ViT, DINO, Swin, ConvNeXt), `mtlora` (Swin, with updates of each task).
    """
    backbone_options: Options = field(default_factory=dict)
    """Keyword arguments of the backbone."""
    decoder_options: Options = field(default_factory=dict)
    """Keyword arguments of the decoder or architecture."""
    tuning_options: Options = field(default_factory=dict)
    """Keyword arguments of the low-rank updates, such as their rank."""
    cross_view: str = "none"
    """Module beside the backbone that matches the image with other views of its scene: `cvm`, or `none`."""
    cross_view_options: Options = field(default_factory=dict)
    """Keyword arguments of that module."""

    @property
    def matches_views(self) -> bool:
        """Whether a module beside the backbone matches views."""
        return self.cross_view != "none"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of its components."""
        return (self.backbone, *([self.cross_view] if self.matches_views else []), self.decoder)


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its learning rates."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = 1e-3
    """Learning rate of parameters without a factor below."""
    weight_decay: float = 1e-4
    decay_norms: bool = True
    """Weight decay of biases, norms, position embeddings and tokens too; most schedules of transformers leave these
    out.
    """
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    backbone_lr_factor: float = 1.0
    """The backbone's learning rate relative to `lr`."""
    layer_decay: float = 1.0
    """Factor per layer of the backbone: layer i of n trains at `layer_decay ** (n - i + 1)` of its rate. The final norm
    of a ViT is the last one, so that its blocks have one factor more than in BEiT and MAE; 1 switches it off.
    """
    fusion_lr_factor: float = 1.0
    """Learning rate of the fusion parameters of cross-stitch and NDDR, and of the logits of atrc-search, relative to
    `lr` (100 as published).
    """
    regularizer_lr_factor: float = 1.0
    """Learning rate of the regularizer relative to `lr`: it is trained from scratch, for which a fine-tuning rate is
    low.
    """
    pose_lr_factor: float = 1.0
    """Learning rate of the pose network of self-supervision from video relative to `lr`."""
    lr_factors: dict[str, float] = field(default_factory=dict)
    """Further factors of the learning rate by part, named as in `model.freeze`, such as `heads.depth=0.1`; a parameter
    takes all that name it.
    """
    clip_norm: float = 0.0
    """Largest gradient norm of the network (a pose network included) and, apart from it, of the regularizer (of
    discriminators in `adaptation.optimizer`); 0 switches clipping off.
    """


@dataclass(frozen=True)
class ScheduleConfig:
    """Number of steps, and schedule of the learning rate."""

    steps: int = 1000
    """Optimizer steps."""
    name: Literal["constant", "poly", "cosine", "step"] = "poly"
    power: float = 0.9
    """Exponent of `poly`."""
    milestones: tuple[int, ...] = ()
    """Steps at which `step` multiplies the rate by `gamma`."""
    gamma: float = 0.1
    warmup_steps: int = 0
    """Steps of linear warm-up to the base rate."""
    warmup_factor: float = 0.1
    """Rate at the start of warm-up, relative to the base rate."""


@dataclass(frozen=True)
class RegularizerConfig(OptionalPart):
    """Training-only supervision from the shared features."""

    name: str = "none"
    """One of `triptych list regularizers`, or `none`."""
    weight: float = 1.0
    """Factor of its losses."""
    options: Options = field(default_factory=dict)
    """Keyword arguments of the regularizer."""


@dataclass(frozen=True)
class WeightingConfig:
    """Weighting of the task losses."""

    name: str = "fixed"
    """One of `triptych list weightings`."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weights by task; a task that is not named keeps its default."""
    auxiliary_factor: float = 1.0
    """Factor of the losses on intermediate predictions."""
    options: Options = field(default_factory=dict)
    """Keyword arguments of the weighting."""


@dataclass(frozen=True)
class AdaptationConfig(OptionalPart):
    """Unsupervised domain adaptation: a second, unlabelled dataset."""

    name: str = "none"
    """One of `triptych list adapters`, or `none`."""
    dataset: str = ""
    """Name of the unlabelled dataset."""
    root: str = ""
    """Its folder."""
    split: str = "train"
    """Its split whose images are seen."""
    options: Options = field(default_factory=dict)
    """Keyword arguments of the method."""
    dataset_options: Options = field(default_factory=dict)
    """Keyword arguments of the dataset."""
    transform: str = ""
    """Augmentation preset of the target's images; empty: the source's."""
    size: tuple[int, int] = (0, 0)
    """Size of the target's training images; (0, 0): the source's."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="adam", lr=1e-4, weight_decay=0.0, betas=(0.9, 0.99))
    )
    """Optimizer of the method's own parameters (discriminators), at one learning rate."""
    schedule: ScheduleConfig = ScheduleConfig(steps=0)
    """Learning rate of that optimizer; `steps` 0: as many as the run has."""


@dataclass(frozen=True)
class VideoConfig(OptionalPart):
    """Self-supervision from video: one task learns from neighboring frames and intrinsics."""

    name: str = "none"
    """`monodepth2`, or `none`."""
    task: str = "depth"
    weight: float = 1.0
    """Factor of the photometric loss, beside the task's own weight."""
    labels: bool = False
    """Learn from labels of the task too; else those of the training split are not even read."""
    options: Options = field(default_factory=dict)

    @property
    def unscaled(self) -> str:
        """The task that is right only up to one factor: a single camera gives no scale without labels or known poses.
        Empty where there is none.

        >>> VideoConfig("monodepth2").unscaled, VideoConfig("monodepth2", options={"poses": "known"}).unscaled
        ('depth', '')
        """
        return self.task if self.used and not self.labels and self.options.get("poses") != "known" else ""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the training loop."""

    precision: Literal["no", "bf16", "fp16", "auto"] = "no"
    """`auto`: bf16 where the processor or the GPU computes with it; a run folder says what was chosen. Losses, metrics
    and what is summed along rays are float32 in any case.
    """
    accumulate: int = 1
    """Batches per optimizer step: a task's loss is the mean over the labels of all of them, as of one large batch."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights; 0 switches it off. Where on, the average is what is
    evaluated and deployed.
    """
    compile: bool = False
    """Run the network through torch.compile."""
    channels_last: bool = False
    """Keep maps channels last in memory, which some GPUs are faster with."""
    sync_norms: bool = False
    """Statistics of batch norm over the images of all processes (GPUs alone)."""
    checkpoint_gradients: bool = False
    """Recompute backbone activations in the backward pass: less memory, more time. Of networks with batch norm, for
    ResNet and HRNet alone (or frozen norms): others would count each batch twice.
    """
    cache_features: bool = False
    """Compute the features of a frozen trunk once for every image and keep them in memory; for a transform that draws
    nothing (`none`).
    """
    evaluate_every: int = 200
    """Steps between validations; 0: none, and the last weights are kept."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log."""
    keep_checkpoints: int = 2
    """The latest ones that are kept, beside the best."""
    evaluate_limit: int = 0
    """Images of the validation split scored during training; 0: all."""
    trackers: tuple[str, ...] = ()
    """`tensorboard` and `wandb`, where installed; JSON lines are always written. There, a resumed run draws the steps
    after its checkpoint again: W&B has a run for each start, curves of TensorBoard go back.
    """


@dataclass(frozen=True)
class Recipe:
    """One experiment, whole: every number that a run depends on."""

    description: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    weighting: WeightingConfig = field(default_factory=WeightingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0
    plugins: dict[str, str] = field(default_factory=dict)
    """Plug-in modules that have to be loaded, and their versions; training records them."""

    @property
    def training_sizes(self) -> list[tuple[int, int]]:
        """Heights and widths of the images that are trained on, of a target domain too; none where they are not known,
        as of a converted network.
        """
        sizes = [self.data.size, *([self.adaptation.size] if self.adaptation.used else [])]
        return [size for size in sizes if any(size)]


INERT = (
    "description",
    "data.root",
    "data.num_workers",
    "data.protocol",
    "training.checkpoint_every",
    "training.log_every",
    "training.keep_checkpoints",
    "training.trackers",
    "adaptation.root",
)
"""Fields by dotted name that change nothing of what is computed from the same data."""


def split_domain(recipe: Recipe, split: str) -> tuple[Recipe, str]:
    """The recipe with the data of a split's domain, and the name of the split there.

    `target-<split>` is a split of the target domain, where the recipe names one (whether it adapts or not); every other
    name is one of its own dataset.

    >>> adapted = Recipe(adaptation=AdaptationConfig(name="dacs", dataset="cityscapes"))
    >>> of_target, split = split_domain(adapted, "target-val")
    >>> of_target.data.dataset, split
    ('cityscapes', 'val')
    """
    data, adaptation = recipe.data, recipe.adaptation
    if not adaptation.dataset or not split.startswith(TARGET):
        return recipe, split
    data = replace(
        data,
        dataset=adaptation.dataset,
        root=adaptation.root,
        options=adaptation.dataset_options,
        transform=adaptation.transform or data.transform,
        size=adaptation.size if any(adaptation.size) else data.size,
    )
    return replace(recipe, data=data), split.removeprefix(TARGET)


def with_root(recipe: Recipe, root: str, split: str = "") -> Recipe:
    """The recipe whose data of a split's domain lie in the folder `root`, such as on another machine; empty: where they
    were when it was trained.

    Where the recipe names a description and the folder of its files, `root` is that folder, or another description,
    which gives the folder of its files itself.

    >>> with_root(Recipe(), "data/mine").data.root
    'data/mine'
    >>> elsewhere = Recipe(data=DataConfig("folder", root="my.toml", options={"root": "my_data"}))
    >>> with_root(elsewhere, "/here/my_data").data.options
    {'root': '/here/my_data'}
    """
    if not root:
        return recipe
    if split_domain(recipe, split)[0] is not recipe:
        adaptation = recipe.adaptation
        place, options = _move(adaptation.root, adaptation.dataset_options, root)
        return replace(recipe, adaptation=replace(adaptation, root=place, dataset_options=options))
    place, options = _move(recipe.data.root, recipe.data.options, root)
    return replace(recipe, data=replace(recipe.data, root=place, options=options))


def _move(place: str, options: Options, root: str) -> tuple[str, Options]:
    """Root and options that open a dataset whose files are in `root`."""
    if "root" in options and not root.endswith(".toml"):
        return place, options | {"root": root}
    return root, {name: value for name, value in options.items() if name != "root"}


def to_json(recipe: Recipe) -> str:
    """The recipe as JSON.

    >>> from_json(to_json(Recipe(seed=3))).seed
    3
    """
    return json.dumps(dataclasses.asdict(recipe), indent=2)


def from_json(text: str) -> Recipe:
    """Read what `to_json` wrote; lists become tuples, and missing fields keep their defaults.

    Raises `ValueError` for anything else, naming the field, what came and what is accepted.
    """
    try:
        data = parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"recipe is no JSON: {error}.") from error
    recipe: Recipe = build(Recipe, data, "recipe")
    for place in (*UNREAD, *FORMER_OPTIONS):
        section, name = place.split(".")
        part = getattr(recipe, section)
        part = replace(part, **{name: update_options(place, getattr(part, name))})
        recipe = replace(recipe, **{section: part})
    return recipe


UNREAD = {"model.backbone_options": ("one_size",)}
"""Options by place that files of earlier versions hold and no result depends on."""
FORMER_OPTIONS = {
    place: {"neighbour_frames": "neighbor_frames"} for place in ("data.options", "adaptation.dataset_options")
}
"""Options by place and by the names that they had before, which recipes of old runs hold."""


def update_options(place: str, options: Options) -> Options:
    """The options of a place by the names that they have now, without those that nothing reads any more.

    >>> update_options("model.backbone_options", {"one_size": "", "stage_norms": True})
    {'stage_norms': True}
    >>> update_options("data.options", {"sources": {"rooms": {"neighbour_frames": (5,)}}})
    {'sources': {'rooms': {'neighbor_frames': (5,)}}}
    """
    names = FORMER_OPTIONS.get(place, {})
    return {
        names.get(name, name): update_options(place, value) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in UNREAD.get(place, ())
    }


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file; errors name the file."""
    try:
        return from_json(path.read_text(encoding="utf-8-sig"))  # Windows may have put a mark before
    except FileNotFoundError:
        raise ValueError(
            f"recipe file {path} does not exist; give a recipe.json, or a name from `triptych list recipes`."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


FORMER = {"vit": "four-level"}
"""Decoders by the names that they had before, which recipes of old runs hold."""


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Dotted field names to values: what two recipes are compared by. Decoders go by the names that they have now.

    >>> flatten(Recipe())["optimizer.lr"]
    0.001
    """
    model = replace(recipe.model, decoder=FORMER.get(recipe.model.decoder, recipe.model.decoder))
    return option_words.flatten(dataclasses.asdict(replace(recipe, model=model)))
