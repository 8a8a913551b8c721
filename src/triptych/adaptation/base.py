"""Base class of adapters: one step of unsupervised domain adaptation for any model and task set."""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from triptych.augmentation.steps import image_pixels as image_pixels  # part of what adapters are written with
from triptych.tasks import Task
from triptych.types import Output, Sample


class Adapter(nn.Module):
    """Losses that use unlabelled target images; never part of the model.

    Built as `MyAdapter(model, size=..., weights=..., seed=..., **options)`: the model is inspected, and copied where a
    teacher is needed, but not kept; `size` is the (height, width) of the source's training images, `weights` are the
    tasks' weights.

    `forward(model, source, target, output)` returns named scalars that the loop adds to the supervised loss of the
    source batch as they are; `output` is the model's on that batch. `target` has no targets, and `image_pixels(target)`
    says where it is padded. Random numbers come from `generator`, which checkpoints keep and which is in the same state
    in every process: what is drawn per image is drawn for the images of all processes (`processes.own_rows`), so that
    two processes equal one with twice the batch.

    Parameters with losses of their own (discriminators) are listed by `own_parameters`, and require gradients only in
    `own_losses`: the losses of the last `forward`, from detached maps. The loop calls it after each backward pass of
    the model, and steps the adapter's own optimizer after the model's. `after_step(model)` follows (averages of
    weights), `start(model)` precedes the first step, when the model has its first weights. `step` counts optimizer
    steps; the training takes `steps` of them, 0 where that is not known.

    `finish(model, read)` sees the weights that are about to be scored or deployed.
    """

    step: int = 0
    steps: int = 0
    has_losses: ClassVar[bool] = True
    """False for adapters without losses: training then reads no target images in its steps."""
    mixes: bool = False
    """Whether it pastes parts of source images into target images, which then have to be of one size."""
    mixed_by: str = ""
    """The task whose labels choose the parts; without labels nothing is pasted."""
    pseudo_weights: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    """Weights of the source's pseudo-labels by task and key of the image; all other images count 1."""

    def __init__(self, model: nn.Module, *, size: tuple[int, int], weights: Mapping[str, float], seed: int = 0) -> None:
        super().__init__()
        self.tasks: dict[str, Task] = dict(model.tasks)  # type: ignore[arg-type]
        self.size = (size[0], size[1])
        self.weights = {name: float(weights[name]) for name in self.tasks}
        self.generator = torch.Generator().manual_seed(seed)

    def start(self, model: nn.Module) -> None:
        """Called once, when the model has its first weights."""

    def forward(self, model: nn.Module, source: Sample, target: Sample, output: Output) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def own_parameters(self) -> list[nn.Parameter]:
        """Parameters of the adapter's own optimizer; none unless an adapter has some."""
        return []

    def own_losses(self) -> dict[str, Tensor]:
        """Losses of the own parameters for the batch that `forward` saw last."""
        return {}

    def after_step(self, model: nn.Module) -> None:
        """Called after each optimizer step of the model."""

    def finish(self, model: nn.Module, read: Callable[[int], Iterable[Sample]]) -> None:
        """Change buffers of a model that is about to be scored or deployed: what is scored is what is deployed.

        `read(n)` gives n training images of the target as evaluation sees them, spread evenly and one by one, and the
        same ones every time: a pure function of the weights, called once per evaluation and per deployment.
        """


def kept_modules(model: nn.Module) -> set[nn.Module]:
    """Modules that a network keeps in evaluation mode whatever its own mode (`MultiTaskModel.frozen`)."""
    return {each for path in getattr(model, "frozen", ()) for each in model.get_submodule(path).modules()}


def supervised_maps(model: nn.Module, output: Output) -> dict[str, tuple[Task, Tensor]]:
    """Every supervised raw map with its task, as `<task>_<scale>`: scale 0 is final, 1 the prediction before it, ..."""
    intermediate: Mapping[str, Task] = model.intermediate_tasks  # type: ignore[assignment]
    maps = {f"{name}_0": (task, output.predictions[name]) for name, task in model.tasks.items()}  # type: ignore
    for scale, stage in enumerate(reversed(output.auxiliary), start=1):
        maps |= {f"{name}_{scale}": (intermediate[name], raw) for name, raw in stage.items()}
    return maps


def mean(terms: Iterable[Tensor]) -> Tensor:
    """The mean of scalars."""
    return torch.stack(list(terms)).mean()


def check_label_spaces(source: Mapping[str, Task], target: Mapping[str, Task]) -> None:
    """Raise `ValueError` naming each class that is not the same in both domains.

    Tasks that the target cannot score (an unlabelled folder) are not compared: their labels are not used.

    >>> from triptych.tasks import semseg
    >>> check_label_spaces({"semseg": semseg(["road", "sky"])}, {"semseg": semseg(["road", "tree"])})
    Traceback (most recent call last):
    ...
    ValueError: classes of task 'semseg' do not map: 1 is 'sky' in the source and 'tree' in the target. Give both \
datasets the same classes (data.options, adaptation.dataset_options).
    """
    problems = [
        f"classes of task '{name}' do not map: {'; '.join(different)}"
        for name, task in source.items()
        if name in target and (different := _differences(task.classes, target[name].classes))
    ]
    if problems:
        raise ValueError(
            f"{'. '.join(problems)}. Give both datasets the same classes (data.options, adaptation.dataset_options)."
        )


def _differences(source: tuple[str, ...], target: tuple[str, ...]) -> list[str]:
    pairs = enumerate(zip_longest(source, target))
    return [
        f"{index} is {_named(ours)} in the source and {_named(theirs)} in the target"
        for index, (ours, theirs) in pairs
        if ours != theirs
    ]


def _named(name: str | None) -> str:
    return "missing" if name is None else repr(name)
