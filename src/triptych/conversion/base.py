"""From tensors of a published checkpoint to those of our model: renames, and a report of every tensor."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from triptych.assemble import build_model
from triptych.models.multitask import MultiTaskModel
from triptych.recipes.config import DataConfig, ModelConfig, Options, Recipe
from triptych.tasks import Task


@dataclass(frozen=True)
class Rename:
    """New name and layout of the published tensors whose whole name matches `pattern`.

    `target` is our name, with `\\1` or `\\g<name>` for groups of the pattern; empty for a tensor that is known and not
    used, for the `reason` given. `transform` changes the values on the way.
    """

    pattern: re.Pattern[str]
    target: str = ""
    reason: str = ""
    transform: Callable[[Tensor], Tensor] | None = None


def rename(pattern: str, target: str, transform: Callable[[Tensor], Tensor] | None = None) -> Rename:
    """Tensors whose name matches the regular expression become `target`.

    >>> rename(r"decoders\\.(\\w+)\\.last_layer\\.(.+)", r"decoder.heads.\\1.\\2").target
    'decoder.heads.\\\\1.\\\\2'
    """
    return Rename(re.compile(pattern), target, transform=transform)


def move(old: str, new: str) -> Rename:
    """Everything under the module `old` goes under the module `new`, by the same names."""
    return Rename(re.compile(re.escape(old) + r"\.(.+)"), new + r".\1")


def unused(pattern: str, reason: str) -> Rename:
    """Tensors that the published code stores and our model has no use for."""
    return Rename(re.compile(pattern), reason=reason)


def network_recipe(config: ModelConfig, **data: Any) -> Recipe:
    """The recipe of a converted network, which was trained elsewhere: only position embeddings show its image size."""
    size: Any = config.backbone_options.get("image_size", (0, 0))
    return Recipe(data=DataConfig(size=size, train_split="", **data), model=config)


@dataclass(frozen=True)
class Checkpoint:
    """A published state dict with the tasks it is read for; `names` gives the published name of each of our tasks."""

    state: Mapping[str, Tensor]
    tasks: Mapping[str, Task]
    names: Mapping[str, str]

    def pairs(self) -> list[tuple[str, str]]:
        """(our name, published name) of every task, in declared order."""
        return [(name, self.names[name]) for name in self.tasks]

    def find(self, pattern: str) -> list[str]:
        """Matches of the pattern's first group among the tensor names, in order of appearance.

        >>> state = {"blocks.0.w": Tensor([1.0]), "blocks.1.w": Tensor([2.0])}
        >>> Checkpoint(state, {}, {}).find(r"blocks\\.(\\d+)\\..+")
        ['0', '1']
        """
        compiled = re.compile(pattern)
        matches = (compiled.fullmatch(key) for key in self.state)
        return list(dict.fromkeys(match.group(1) for match in matches if match))

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name; `ValueError` where there is none."""
        if name not in self.state:
            raise ValueError(
                f"the checkpoint has no tensor {name}, from which the network is read; it is incomplete, or a variant "
                "that is not converted."
            )
        return self.state[name]

    def require_tasks(self, pattern: str) -> None:
        """Fail unless the tasks that the names hold (the pattern's first group) are the declared ones."""
        held, declared = self.find(pattern), [published for _, published in self.pairs()]
        if set(held) != set(declared):
            raise ValueError(
                f"the checkpoint has the tasks {', '.join(held) or 'none'}, tasks says {', '.join(declared)} "
                "(published names); give the tasks it was trained for."
            )

    def create(self, config: ModelConfig, auxiliary_tasks: Mapping[str, Task] | None = None) -> MultiTaskModel:
        """The network of a recipe's `config` for the checkpoint's tasks, with random weights."""
        return build_model(network_recipe(config), self.tasks, auxiliary_tasks)


@dataclass(frozen=True)
class Assumption:
    """A setting that outputs depend on and the tensors do not hold: the converter's `option`, or its entry `key`.

    `value` is what was taken, for the reason `why`. `readings` are the values that fit the shapes; where there are more
    than can be listed, `exhaustive` is false. `tasks` are those whose outputs depend on it; empty: all.
    """

    option: str
    value: Any
    readings: tuple[Any, ...]
    why: str
    key: str = ""
    exhaustive: bool = True
    tasks: tuple[str, ...] = ()

    @property
    def ambiguous(self) -> bool:
        """True where another value fits the shapes of the tensors too."""
        return len(self.readings) > 1 or not self.exhaustive

    @property
    def line(self) -> str:
        """One line for the report: option, value and reason.

        >>> Assumption("order", ("semseg", "depth"), (("semseg", "depth"),), "the published parser's").line
        "order = semseg, depth: the published parser's"
        """
        return f"{self.option}{self.key and ' ' + self.key} = {describe_reading(self.value)}: {self.why}"

    def merge_into(self, options: Mapping[str, Any], reading: Any) -> dict[str, Any]:
        """`options` of a converter with one of the readings."""
        value = {**options.get(self.option, {}), self.key: reading} if self.key else reading
        return {**options, self.option: value}


def describe_reading(value: Any) -> str:
    """A value of an option as it is written on a command line.

    >>> describe_reading((448, 576)), describe_reading("nyud-w18")
    ('448 x 576', 'nyud-w18')
    """
    if not isinstance(value, tuple | list):
        return str(value)
    return (" x " if all(isinstance(part, int) for part in value) else ", ").join(map(str, value))


@dataclass(frozen=True)
class Conversion:
    """Our model, and the renames that fill it. `finish` may rearrange the renamed tensors at the end (fuse, split).

    `config` is what `Checkpoint.create` made the model from: a run folder rebuilds it from that. Only the conversion of
    a part of a network has none. `assumed` are the settings that the tensors do not hold.
    """

    model: MultiTaskModel
    renames: Sequence[Rename]
    config: ModelConfig | None = None
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] = field(default=lambda state: state)
    assumed: tuple[Assumption, ...] = ()


@dataclass(frozen=True)
class Network:
    """One published network: every marker (a regular expression) matches some tensor name of its checkpoints.

    `logits` matches the weights whose rows are the channels of a task's final prediction, `intermediate` those of its
    intermediate one; their first group is the task's published name, none in a single-task network.
    """

    name: str
    markers: tuple[str, ...]
    convert: Callable[..., Conversion]
    logits: str
    intermediate: str = ""

    def fits(self, keys: Sequence[str]) -> bool:
        """Whether tensor names look like this network's."""
        return all(any(re.fullmatch(marker, key) for key in keys) for marker in self.markers)

    def channels(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """Channels of every final prediction by published name, in order of appearance."""
        return _rows(self.logits, state)

    def final_weights(self, used: Mapping[str, str], task: str) -> list[str]:
        """Our names of the weights whose rows are the channels of the task called `task` there; `used` as reported."""
        matches = ((re.fullmatch(self.logits, theirs), ours) for theirs, ours in used.items())
        return [ours for match, ours in matches if match and (match.group(1) or task) == task]

    def intermediate_channels(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """Channels of every intermediate prediction by published name, in order of appearance."""
        return _rows(self.intermediate, state) if self.intermediate else {}


def _rows(pattern: str, state: Mapping[str, Tensor]) -> dict[str, int]:
    matches = ((re.fullmatch(pattern, key), value) for key, value in state.items())
    return {match.group(1) or "": value.shape[0] for match, value in matches if match}


@dataclass(frozen=True)
class CodeBase:
    """One code base: its names of tasks where they differ from ours, and its networks, the most specific first.

    `task_options` are keyword arguments that make our tasks its own (channels, losses), by our names.
    """

    task_names: Mapping[str, str]
    networks: tuple[Network, ...]
    task_options: Mapping[str, Options] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionReport:
    """Report on every published tensor: `used` under our name, or `unused` for a reason."""

    family: str
    network: str
    config: ModelConfig | None
    used: dict[str, str]
    unused: dict[str, str]
    assumed: tuple[Assumption, ...] = ()

    @property
    def summary(self) -> str:
        """One line."""
        counts = f"{len(self.used)} tensors used, {len(self.unused)} known and unused, 0 unknown, 0 missing"
        return f"{self.family} {self.network}: {counts}"

    def table(self) -> str:
        """One line for every tensor: published name, and our name or the reason."""
        width = max(map(len, [*self.used, *self.unused]), default=0)
        lines = [f"{old:<{width}}  used    {new}" for old, new in self.used.items()]
        lines += [f"{old:<{width}}  unused  {reason}" for old, reason in self.unused.items()]
        return "\n".join(lines)


def apply_renames(
    conversion: Conversion, state: Mapping[str, Tensor], *, family: str, network: str
) -> ConversionReport:
    """Fill the model from published tensors; every tensor of either side must be accounted for.

    Raises `ValueError` naming tensors that no rename knows, tensors of ours that stay empty, and shapes that differ.
    """
    used: dict[str, str] = {}
    dropped: dict[str, str] = {}
    filled: dict[str, Tensor] = {}
    for key, value in state.items():
        found, target = _place(key, conversion.renames)
        if found is None:
            continue
        if not found.target:
            dropped[key] = found.reason
            continue
        if target in filled:
            raise ValueError(
                f"{family} {network}: {key} and another tensor both become {target}; the renames are ambiguous."
            )
        used[key] = target
        try:
            filled[target] = value if found.transform is None else found.transform(value)
        except RuntimeError as error:
            raise ValueError(
                f"{family} {network}: {key} of shape {tuple(value.shape)} does not split among "
                f"{len(conversion.model.tasks)} tasks; give the tasks it was trained for."
            ) from error
    ours = conversion.model.state_dict()
    filled = conversion.finish(filled)
    unknown = [key for key in state if key not in used and key not in dropped] + [
        key for key in filled if key not in ours
    ]
    # Counters that old checkpoints lack; nothing of ours reads them.
    missing = [key for key in ours if key not in filled and not key.endswith("num_batches_tracked")]
    _require_none(f"{family} {network}: unknown tensors", unknown)
    _require_none(f"{family} {network}: nothing in the checkpoint for", missing)
    shapes = [
        f"{key} {tuple(value.shape)} in the checkpoint, {tuple(ours[key].shape)} in the model"
        for key, value in filled.items()
        if value.shape != ours[key].shape
    ]
    _require_none(f"{family} {network}: shapes differ (class counts, image size?)", shapes)
    conversion.model.load_state_dict(ours | filled)
    return ConversionReport(family, network, conversion.config, used, dropped, conversion.assumed)


def _place(key: str, renames: Sequence[Rename]) -> tuple[Rename | None, str]:
    for found in renames:
        match = found.pattern.fullmatch(key)
        if match:
            return found, match.expand(found.target)
    return None, ""


def _require_none(what: str, names: Sequence[Any]) -> None:
    if names:
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise ValueError(f"{what}: {', '.join(names[:4])}{more}.")


SEPARATOR = "#"


def part(name: str, index: int) -> str:
    """The target name of the published tensor that is number `index` of our tensor `name`.

    >>> part("decoder.gated.weight", 1)
    'decoder.gated.weight#1'
    """
    return f"{name}{SEPARATOR}{index}"


def join_parts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate parts along their first axis, in order; scalars (counters of batches) are the same in every part.

    >>> join_parts({"a#1": torch.ones(1), "b": torch.zeros(1), "a#0": torch.zeros(2)})["a"].tolist()
    [0.0, 0.0, 1.0]
    """
    joined: dict[str, Tensor] = {}
    groups: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        name, separator, index = key.partition(SEPARATOR)
        if separator:
            groups.setdefault(name, {})[int(index)] = value
        else:
            joined[name] = value
    for name, parts in groups.items():
        values = [parts[index] for index in sorted(parts)]
        joined[name] = torch.cat(values) if values[0].ndim else values[0]
    return joined
