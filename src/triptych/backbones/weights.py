"""Weights for backbones: pretrained ones of timm, or a local file, with a report of what matched."""

import errno
import inspect
import io
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, Statistics
from triptych.backbones.timm_models import build_timm, pretrained_license, pretrained_place, pretrained_statistics
from triptych.files import naming_damage
from triptych.lookup import parse_json
from triptych.machine import hub_reason, unreachable_hub_is_offline

ENOUGH = 0.9
"""Loading a smaller share of a backbone's parameters than this is an error."""


@dataclass(frozen=True)
class LoadReport:
    """Report of loading: names of the backbone's tensors, and of the source's unused ones."""

    source: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    """Tensors that the source has with another shape, with both shapes."""
    share: float
    """Matched share of the parameters of the backbone's body, 0 to 1."""
    trained_with: Statistics | None = None
    """Mean and standard deviation by which the source's network normalized images; `None` where they are not known."""
    normalized_with: Statistics | None = None
    """Mean and standard deviation of the backbone."""

    @property
    def summary(self) -> str:
        """One line.

        >>> LoadReport("a.pth", ("conv1.weight",), (), ("fc.bias",), (), 1.0).summary
        'a.pth: 1 tensors matched (100.0 % of parameters), 0 missing, 1 unexpected (fc.bias), 0 of other shape'
        """
        return (
            f"{self.source}: {len(self.matched)} tensors matched ({100 * self.share:.1f} % of parameters), "
            f"{_count(self.missing, 'missing')}, {_count(self.unexpected, 'unexpected')}, "
            f"{_count(self.mismatched, 'of other shape')}"
            + ("; what is missing or of other shape stays random" if self.missing or self.mismatched else "")
            + self._other_statistics
        )

    @property
    def _other_statistics(self) -> str:
        if self.trained_with is None or self.normalized_with is None:
            return ""
        pairs = zip(("mean", "std"), self.trained_with, self.normalized_with, strict=True)
        options = " ".join(
            f"{name}=[{','.join(f'{value:g}' for value in theirs)}]" for name, theirs, ours in pairs if theirs != ours
        )
        return options and f"; trained with images of another normalization: give it in backbone_options ({options})"


HUB = "hub:"
"""Prefix of names of networks on the Hugging Face hub: hub:organisation/name."""
OF_RUN = "model.safetensors"
"""The file of a run folder, or of a network on the hub, that holds its weights; its recipe lies beside it."""


def load_weights(backbone: Backbone, weights: str, *, without_updates: bool = False) -> LoadReport:
    """Load `weights` into a backbone: `"timm"` for the pretrained ones of its timm name, `"hub:organisation/name"` for
    those of a network that `triptych push` uploaded, or the path of a local file.

    Files are `.safetensors`, or `.pth` and the like, read without running code from them. Prefixes such as `module.` or
    `backbone.` are found; key styles of other code bases that timm knows are translated, which is tried wherever a
    tensor is missing or of another shape: the reading that leaves fewest of them is loaded, and no other. Of networks
    of this library the norms beside the body are taken too. Raises `FileNotFoundError`, or `ValueError` where less than
    90 % of the parameters match, with examples of the keys, and where the weights are those of a network with low-rank
    updates, without which its trunk is that of before training: with `without_updates` that trunk is loaded.
    """
    state, options = _read_source(backbone, weights)
    if any(map(is_update, state)) and not without_updates:
        raise ValueError(
            f"weights {weights} are of a network with low-rank updates (model.tuning), without which its trunk is the "
            "one from before that training; merge them, Predictor.load(RUN, merge=True).save_pretrained(FOLDER), and "
            "give FOLDER/model.safetensors."
        )
    terms = pretrained_license(backbone.timm_name) if weights == "timm" else ""
    source = f"timm {backbone.timm_name}{terms and f' (licence {terms})'}" if weights == "timm" else str(weights)
    report, fitting = match_weights(backbone, state, source=source, options=options)
    if _unmatched(report):
        readings = (
            match_weights(backbone, each, source=source, options=options) for each in _translations(state, backbone)
        )
        report, fitting = min([(report, fitting), *readings], key=lambda reading: _unmatched(reading[0]))
    if report.share < ENOUGH:
        name = backbone.timm_name or type(backbone).__name__
        raise ValueError(
            f"weights {source} match only {100 * report.share:.1f} % of the parameters of {name} ({report.summary}); "
            f"its keys look like {_examples(state)}, expected are {_examples(backbone.own_body.state_dict())}."
        )
    backbone.load_state_dict(fitting, strict=False)
    return report


def match_weights(
    backbone: Backbone, state: Mapping[str, Tensor], *, source: str, options: Mapping[str, Any] | None = None
) -> tuple[LoadReport, dict[str, Tensor]]:
    """The tensors of `state` whose name (after its prefix) and shape fit the backbone, by the backbone's names, and the
    report of them; nothing is loaded. `options` are those of the backbone that they come from, where known.
    """
    body = backbone.own_body
    ours = {key: value for key, value in body.state_dict().items() if not is_update(key)}
    prefix, *others = _best_prefixes(state, ours)
    copies = {each: [state[each + key] for key in ours if each + key in state] for each in (prefix, *others)}
    if others := [each for each in others if not _equal(copies[prefix], copies[each])]:
        raise ValueError(
            f"weights {source} hold this network more than once, with other weights each time: names begin with "
            f"{', '.join((prefix, *others))}; save the tensors of one of them in a file of their own."
        )
    inner = backbone.adapt_weights(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, options
    )
    fitting = {key: inner[key] for key in ours if key in inner and inner[key].shape == ours[key].shape}
    beside = _beside_body(backbone, state, prefix) if prefix.endswith("body.") else {}
    used = {prefix + key for key in ours} | set(beside.values())
    parameters = {name: parameter.numel() for name, parameter in body.named_parameters() if name in ours}
    trained_with = None
    if options is not None:
        mean, std = (tuple(round(value, 6) for value in options[name]) for name in ("mean", "std"))
        trained_with = (mean, std)
    report = LoadReport(
        source=source,
        matched=(*fitting, *beside),
        missing=tuple(key for key in ours if key not in inner),
        unexpected=tuple(key for key in state if key not in used),
        mismatched=tuple(
            f"{key} {tuple(inner[key].shape)} instead of {tuple(ours[key].shape)}"
            for key in ours
            if key in inner and key not in fitting
        ),
        share=sum(parameters[key] for key in fitting if key in parameters) / max(sum(parameters.values()), 1),
        trained_with=trained_with,
        normalized_with=backbone.statistics,
    )
    found = {backbone.body_prefix + key: value for key, value in fitting.items()}
    return report, found | {key: state[name] for key, name in beside.items()}


def _beside_body(backbone: Backbone, state: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Tensors of a backbone outside its body (norms of its maps), with their names in a network of this library."""
    outer = prefix.removesuffix("body.")
    return {
        key: outer + key
        for key, value in backbone.state_dict().items()
        if not key.startswith("body.") and outer + key in state and state[outer + key].shape == value.shape
    }


def is_update(name: str) -> bool:
    """Whether a stored tensor belongs to a low-rank update of a layer, by its name.

    >>> is_update("backbone.body.blocks.0.mlp.fc1.lora.a"), is_update("backbone.body.blocks.0.mlp.fc1.weight")
    (True, False)
    """
    return name.endswith((".lora.a", ".lora.b"))


def _unmatched(report: LoadReport) -> int:
    return len(report.missing) + len(report.mismatched)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, `.safetensors` or PyTorch's own format; of nested dicts, the one with most tensors.

    Raises `FileNotFoundError`, or `ValueError` for what cannot be read and for two dicts of as many tensors with other
    values, such as a student and its teacher.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist; give a .safetensors or .pth file, or 'timm'.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in any way
        reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]  # torch adds a page of advice
        raise ValueError(
            f"weights file {path} cannot be read ({reason}); give a file that holds tensors only."
        ) from error
    found = dict(_tensors(content))
    most = max(map(len, found.values()), default=0)
    if not most:
        raise ValueError(f"weights file {path} holds no tensors; give a state dict.")
    (name, state), *others = ((name, each) for name, each in found.items() if len(each) == most)
    if others := [other for other, each in others if not _equal(state.values(), each.values())]:
        raise ValueError(
            f"weights file {path} holds as many tensors in each of {', '.join((name, *others))}, and they differ; save "
            "those of one of them in a file of their own."
        )
    return state


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict of a file with its name, and the tensors in it."""
    if isinstance(content, Mapping):
        yield name, {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def _equal(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    """Compare as many tensors of two copies of a network, in their order: true where all are equal."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


CHOSEN = ("dinov2_small", "resnet18")
"""Backbones that `auto` tries, in this order, for pretrained weights on this machine or on the hub."""
OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""Errors of a disk that takes no weights: raised unchanged, and no reason for `auto` to choose another backbone."""


def choose_backbone() -> tuple[str, str, str]:
    """Choose the first backbone whose weights can be loaded: its name, its `weights`, and the reason, in a sentence."""
    from triptych.backbones import create_backbone

    with unreachable_hub_is_offline():  # asked once for all of them
        for name in CHOSEN:
            try:
                _pretrained(create_backbone(name).timm_name)
            except FileNotFoundError:
                continue
            return (
                name,
                "timm",
                f"model.backbone auto: {name}, the first of {', '.join(CHOSEN)} whose weights can be loaded",
            )
    last = CHOSEN[-1]
    return (
        last,
        "",
        f"model.backbone auto: {last} with random weights, because those of {' and '.join(CHOSEN)} are not on this "
        "machine and the hub did not give them; it will need far more labels than a pretrained one",
    )


def _read_source(backbone: Backbone, weights: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors that `weights` names, and the options of the backbone that they were trained in; `None` where a file
    does not tell.
    """
    if weights == "timm":
        state, statistics = _pretrained(backbone.timm_name), pretrained_statistics(backbone.timm_name)
        return state, dict(zip(("mean", "std"), statistics, strict=True)) if statistics is not None else None
    path = Path(_download(weights.removeprefix(HUB)) if weights.startswith(HUB) else weights)
    return read_state_dict(path), _options_beside(path)


def _options_beside(weights: Path) -> dict[str, Any] | None:
    """Options of the backbone of a run, or of a network on the hub, that `weights` are of; `None` for other files."""
    recipe, resolved = weights.with_name("recipe.json"), weights.with_name("resolved.json")
    if weights.name != OF_RUN or not recipe.is_file():
        return None
    options: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if resolved.is_file():
        with naming_damage(resolved):
            options |= parse_json(resolved.read_text(encoding="utf-8"))["options"]["model.backbone_options"]
    with naming_damage(recipe):
        return options | parse_json(recipe.read_text(encoding="utf-8"))["model"]["backbone_options"]


def _pretrained(timm_name: str) -> dict[str, Tensor]:
    place = pretrained_place(timm_name)
    if not place:
        raise ValueError(
            f"timm has no pretrained weights of {timm_name or 'this backbone'}; give the path of a file as its "
            "weights, or leave them out."
        )
    with unreachable_hub_is_offline("" if "://" in place else place) as away:
        try:
            return build_timm(timm_name, pretrained=True).state_dict()
        except OSError as error:  # of the hub, or of other servers
            if error.errno in OF_DISK:
                raise
            raise FileNotFoundError(
                f"pretrained weights of {timm_name} are not on this machine, and the hub did not give them "
                f"({hub_reason(error, away)}); download them elsewhere and give the .safetensors or .pth file as "
                "its weights (model.weights, or teacher_weights of distill)."
            ) from error


def _download(name: str) -> str:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    with unreachable_hub_is_offline(name) as away:
        try:
            path = hf_hub_download(name, OF_RUN)
            for beside in ("recipe.json", "resolved.json"):
                with suppress(EntryNotFoundError):  # of somebody else's network
                    hf_hub_download(name, beside)
            return path
        except (HFValidationError, OSError) as error:
            raise FileNotFoundError(
                f"the hub did not give the weights of {name} ({hub_reason(error, away)}); download its "
                "model.safetensors and recipe.json elsewhere and give the path."
            ) from error


def _best_prefixes(state: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    """The prefix under which most of our names are found, and others under which as many are, nearly all: copies of the
    network. Of two, one inside the other (`backbone.` and `ema.backbone.`), it is the outer one.
    """
    candidates = {""}
    for ending in (next(iter(ours)), list(ours)[len(ours) // 2], list(ours)[-1]):
        candidates |= {key.removesuffix(ending) for key in state if key.endswith("." + ending)}
    counts = {
        prefix: sum(prefix + key in state for key in ours)
        for prefix in sorted(candidates, key=lambda prefix: (len(prefix), prefix))
    }
    best = max(counts, key=counts.__getitem__)
    whole = counts[best] >= ENOUGH * len(ours)
    return [best, *(p for p in counts if whole and counts[p] == counts[best] and not p.endswith(best))]


def _translations(state: Mapping[str, Tensor], backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """timm's translation of the key styles that a family was published in, with the names as they are and without
    their prefix; none where it has none or fails.
    """
    body = backbone.own_body
    module = sys.modules.get(type(body).__module__)
    translate = getattr(module, "checkpoint_filter_fn", None)
    if translate is None:
        return
    # Positions are resized as `resize_positions` does, whichever way a file is read.
    options = {"antialias": False} if "antialias" in inspect.signature(translate).parameters else {}
    for prefix in dict.fromkeys(("module.", _best_prefixes(state, body.state_dict())[0])):
        plain = {key.removeprefix(prefix): value for key, value in state.items()}
        try:
            with redirect_stdout(io.StringIO()), _positions_kept(module, backbone):  # it prints what a network lacks
                translated = translate(plain, body, **options)
            yield {key: value for key, value in translated.items() if isinstance(value, Tensor)}
        except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            continue  # not that family's file


@contextmanager
def _positions_kept(module: Any, backbone: Backbone) -> Iterator[None]:
    """Let timm's translation leave position embeddings at their grid where the backbone resizes them itself: of resized
    ones nothing tells which grid they have.
    """
    resize = getattr(module, "resample_abs_pos_embed", None)
    if resize is None or type(backbone).adapt_weights is Backbone.adapt_weights:
        yield
        return
    module.resample_abs_pos_embed = lambda positions, *_, **__: positions
    try:
        yield
    finally:
        module.resample_abs_pos_embed = resize


def _count(names: tuple[str, ...], word: str) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {word}" + (f" ({shown})" if names else "")


def _examples(state: Mapping[str, Tensor]) -> str:
    keys = list(state)
    return ", ".join(repr(key) for key in (keys[:: math.ceil(len(keys) / 3)] if keys else []))
