"""Property checks of decoders, tasks, datasets and regularizers of one's own: what the library relies on.

Each check is a function whose docstring is the property; it raises an error that says what does not hold. Checks of all
kinds share the small tasks, networks and batches that they are made on, and so this file.
"""

import inspect
import json
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triptych.assemble import create_model
from triptych.data.errors import DataError
from triptych.datasets import DATASETS, open_configured
from triptych.decoders import DECODERS
from triptych.decoders.baseline import FCN
from triptych.drawing.panels import color_maps, describe_colors
from triptych.lookup import UnknownNameError, option_defaults, takes_option
from triptych.metrics.bootstrap import compute_sums
from triptych.models.multitask import MultiTaskModel
from triptych.plugins.loading import load_plugin, parts_of
from triptych.regularizers import REGULARIZERS
from triptych.regularizers.base import Regularizer
from triptych.rendering.poses import check_rigid
from triptych.tasks import TASKS, Task, depth, normals, semseg
from triptych.tasks.stored import tasks_to_json
from triptych.types import IGNORE, Camera, Output, Sample, valid_pixels

SIZE = (37, 50)
"""A size that no stride divides."""
CHANNELS, STRIDES = (6, 10), (4, 8)
"""Feature maps that regularizers are checked on."""


class Checked(NamedTuple):
    """One property of one part, and what is wrong with it; nothing where it holds."""

    kind: str
    name: str
    property: str
    problem: str = ""


def check_plugin(plugin: str, *, root: str = "") -> list[Checked]:
    """Check what a plug-in registers: each property that the library relies on, with its `problem`.

    `root` is the folder of datasets that need one. Decoders, tasks, datasets and regularizers have checks; parts of
    other kinds are only imported.
    """
    load_plugin(plugin)
    _dataset.cache_clear()  # a class may have been defined anew since, and files mended
    found = []
    for kind, name in parts_of(plugin):
        for check in CHECKS.get(kind, ()):
            words = " ".join((check.__doc__ or check.__name__).split()).rstrip(".")
            try:
                check(name, root)
                found.append(Checked(kind, name, words))
            except Exception as error:  # code of others may fail in any way: the rest is checked
                found.append(Checked(kind, name, words, f"{type(error).__name__}: {error}"))
        if kind not in CHECKS:
            found.append(Checked(kind, name, "It is imported; parts of this kind have no other check"))
    return found


def _require(holds: Any, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _require_finite(tensor: Tensor | None, what: str) -> None:
    _require(tensor is None or tensor.isfinite().all(), f"{what} is not finite.")


def _tasks() -> dict[str, Task]:
    return {task.name: task for task in (semseg(4), depth(), normals())}


def labels_of(task: Task, size: tuple[int, int] = SIZE, images: int = 2) -> Tensor:
    """Random targets of a task, `(images, H, W)` or `(images, C, H, W)`, of its kind of values.

    >>> labels_of(semseg(3), (2, 2), 1).shape
    torch.Size([1, 2, 2])
    """
    if task.target_channels is None:
        return torch.randint(0, max(2, len(task.classes)), (images, *size))
    values = torch.rand(images, task.target_channels, *size)
    if task.kind == "probability":
        return values.round()
    if task.kind == "direction":
        return torch.nn.functional.normalize(values - 0.5, dim=1)
    low, high = task.limits or (0.5, 5.0)
    return low + values * (high - low)


# Tasks


def _other_numbers(name: str) -> dict[str, Any]:
    """A value for each argument that is a number or a switch, which is not its default."""
    defaults = {one.name: one.default for one in inspect.signature(TASKS[name]).parameters.values()}
    return {
        option: not value if isinstance(value, bool) else value + 1
        for option, value in defaults.items()
        if isinstance(value, bool | int | float)
    }


def _make_task(name: str, **options: Any) -> Task:
    parameters = inspect.signature(TASKS[name]).parameters.values()
    needed = {one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD}
    needs = {option: number for option, number in (("classes", 3), ("channels", 1)) if option in needed}
    task = TASKS[name](**needs | options)
    _require(isinstance(task, Task), f"{name}() is {task!r}, no triptych.Task.")
    return task


def _raw(task: Task) -> Tensor:
    return torch.randn(2, task.channels, *SIZE, generator=torch.Generator().manual_seed(1)).requires_grad_()


def _invalid(task: Task) -> Tensor:
    return torch.stack([task.invalid_target(SIZE)] * 2)


def task_is_stored(name: str, root: str) -> None:
    """Its file gives the same task back, so that a run can be read without its dataset."""
    task = _make_task(name)
    tasks_to_json({task.name: task})
    for option, value in _other_numbers(name).items():
        try:
            task = _make_task(name, **{option: value})
        except (TypeError, ValueError):
            continue  # no value that it takes
        try:
            tasks_to_json({task.name: task})
        except ValueError as error:
            raise ValueError(f"with {option}={value} {error} Keep it in options={{{option!r}: {option}}}.") from error


def task_ignores_missing_labels(name: str, root: str) -> None:
    """Where no pixel is labelled the loss is exactly 0, with gradients of 0."""
    task = _make_task(name)
    raw = _raw(task)
    loss = task.loss(raw, _invalid(task))
    _require(loss.ndim == 0 and loss.item() == 0, f"the loss without labels is {loss.tolist()}, not 0.")
    loss.backward()
    gradient = raw.grad
    _require_finite(gradient, "the gradient without labels")
    _require(gradient is not None and not gradient.count_nonzero(), "the gradient without labels is not 0.")


def task_learns_from_labelled_pixels(name: str, root: str) -> None:
    """Loss and gradients are finite where some pixels are labelled, and a step along the gradient lowers the loss."""
    task = _make_task(name)
    raw, target = _raw(task), labels_of(task)
    target[..., : SIZE[1] // 2] = torch.nan if target.is_floating_point() else IGNORE
    loss = task.loss(raw, target)
    _require_finite(loss, "the loss")
    (gradient,) = torch.autograd.grad(loss, raw)
    _require_finite(gradient, "the gradient (mask after cleaning: target.nan_to_num(), then times the valid pixels)")
    _require(gradient.norm() > 0, "the gradient is 0 where pixels are labelled.")
    step = 1e-2 * raw.detach().norm() / gradient.norm()
    _require(task.loss(raw - step * gradient, target) < loss, "a step along the gradient does not lower the loss.")


def task_decodes(name: str, root: str) -> None:
    """Decoded maps are class ids (B, H, W) or finite float values (B, C, H, W), and can be drawn beside targets."""
    task = _make_task(name)
    decoded = task.decode(_raw(task).detach())
    is_labels = task.kind == "labels"
    wanted = (2, *SIZE) if is_labels else (2, task.target_channels or 1, *SIZE)
    _require(tuple(decoded.shape) == wanted, f"decoded maps are {tuple(decoded.shape)}, not {wanted}.")
    _require(decoded.dtype == (torch.int64 if is_labels else torch.float32), f"decoded maps are {decoded.dtype}.")
    _require_finite(decoded, "the decoded map")
    _require(
        task.raw_form != "physical" or task.raw_is_physical,
        "raw_form is 'physical', and decoding does more than clip and normalise: say raw_form='scores' of scores of "
        "classes, 'encoded' of anything else (dataclasses.replace).",
    )
    maps = [decoded[0].numpy(), labels_of(task)[0].numpy()]
    for picture in (task.colorize(maps[0]), *color_maps(task, maps)):
        _require(picture.shape == (*SIZE, 3) and picture.dtype == "uint8", f"it is drawn as {picture.shape}.")
    describe_colors(task, maps)
    error = task.error.measure(*maps)
    _require(error.shape == SIZE, f"its error map (error) is {error.shape}, not {SIZE}.")


def task_is_scored(name: str, root: str) -> None:
    """Scores are numbers, follow from sums over images, and are NaN without a labelled pixel."""
    task = _make_task(name)
    decoded, target = task.decode(_raw(task).detach()), labels_of(task)
    whole, single, empty = task.metric(), task.metric(), task.metric()
    whole.update(decoded, target)
    scores, sums = whole.compute(), []
    for image in (1, 0):  # as evaluation does: the states of each image, added up
        single.reset()
        single.update(decoded[image : image + 1], target[image : image + 1])
        sums.append(single.sums())
    parts = compute_sums(task.metric(), {state: torch.stack([one[state] for one in sums]) for state in sums[0]})
    _require(
        scores.keys() == parts.keys()
        and all(
            float(one) == parts[key] or (math.isnan(one) and math.isnan(parts[key])) for key, one in scores.items()
        ),
        f"{scores} of a batch, {parts} of its images one by one: states are added up over images, and nothing else is "
        "kept.",
    )
    _require(whole.primary in scores, f"its primary number '{whole.primary}' is not among {', '.join(scores)}.")
    _require(
        whole.below_zero or not scores[whole.primary] < 0,
        f"its primary number '{whole.primary}' is {scores[whole.primary]:g}: below 0 needs `below_zero` and `perfect`.",
    )
    _require(set(scores) <= set(whole.better), "`better` does not say of each number whether higher is better.")
    empty.update(decoded, _invalid(task))
    _require(empty.compute()[whole.primary] != empty.compute()[whole.primary], "a score without labels is no NaN.")


def task_targets_move(name: str, root: str) -> None:
    """Mirroring twice and zooming back change no target, what is invalid stays invalid, directions turn with the camera
    and lengths shrink.
    """
    task = _make_task(name)
    target = labels_of(task)
    _require(torch.equal(task.mirror(task.mirror(target)), target), "mirroring twice changes the target.")
    torch.testing.assert_close(task.zoom(task.zoom(target, 1.7), 1 / 1.7), target)
    for moved in (task.mirror(_invalid(task)), task.zoom(_invalid(task), 2.0), task.rotate(_invalid(task), 0.3)):
        _require(not valid_pixels(moved).any(), "invalid pixels become valid when the target moves.")
    _require(
        task.kind != "length" or task.scales_with_zoom,
        "lengths do not shrink when an image is magnified: set scales_with_zoom, or choose the kind 'values'.",
    )
    if task.kind == "direction":
        x, y = target[:, 0], target[:, 1]
        _require(torch.equal(task.mirror(target)[:, 0], -x), "mirroring does not negate the x of directions (mirror).")
        turned = task.rotate(target, math.pi / 2)
        torch.testing.assert_close(
            turned[:, :2], torch.stack([-y, x], dim=1), msg="a rotation does not turn directions, from x to y (rotate)."
        )


# Decoders


def _model(name: str, tasks: dict[str, Task] | None = None) -> MultiTaskModel:
    torch.manual_seed(0)
    small = {"widths": (8, 16, 24, 32)}
    return create_model(name, backbone="resnet18", tasks=tasks or _tasks(), backbone_options=small)


def _image(images: int = 2) -> Tensor:
    return torch.rand(images, 3, *SIZE, generator=torch.Generator().manual_seed(2))


def decoder_has_shapes(name: str, root: str) -> None:
    """Each task has a finite raw map of its channels at the size of the image, whatever that is."""
    model = _model(name)
    output = model(_image())
    for task_name, task in model.tasks.items():
        shape = tuple(output.predictions[task_name].shape)
        wanted = (2, task.channels, *SIZE)
        _require(shape == wanted, f"the raw map of {task_name} is {shape}, not {wanted}.")
        _require_finite(output.predictions[task_name], f"the raw map of {task_name}")


def decoder_learns_every_part(name: str, root: str) -> None:
    """Each parameter has a finite gradient, also where an image has no label."""
    model = _model(name).train()
    output = model(_image())
    losses = []
    for task_name, task in model.intermediate_tasks.items():
        target = labels_of(task)
        target[1] = task.invalid_target(SIZE)
        stages = [*output.auxiliary, output.predictions]
        losses += [task.loss(stage[task_name], target) for stage in stages if task_name in stage]
    torch.stack(losses).sum().backward()
    for key, parameter in model.decoder.named_parameters():
        _require(parameter.grad is not None, f"parameter {key} has no gradient: nothing depends on it.")
        _require_finite(parameter.grad, f"the gradient of {key}")


def decoder_sees_single_images(name: str, root: str) -> None:
    """Predictions of an image do not depend on the others of its batch, nor on chance."""
    model = _model(name).eval()
    with torch.no_grad():
        both, first = model(_image()).predictions, model(_image()[:1]).predictions
    for task_name in model.tasks:
        torch.testing.assert_close(both[task_name][:1], first[task_name], rtol=1e-3, atol=1e-4)


def decoder_is_saved(name: str, root: str) -> None:
    """A network built anew and given the saved weights predicts the same."""
    first, second = _model(name).eval(), _model(name).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        second.load_state_dict(first.state_dict())
        for task_name in first.tasks:
            wanted, found = (model(_image()).predictions[task_name] for model in (first, second))
            _require(torch.equal(wanted, found), f"{task_name} differs: something is kept outside the state.")


def decoder_takes_any_tasks(name: str, root: str) -> None:
    """It is built for one task alone, and for tasks in another order."""
    for tasks in ({"depth": depth()}, dict(reversed(_tasks().items()))):
        found = list(_model(name, tasks)(_image()).predictions)
        _require(found == list(tasks), f"tasks {list(tasks)} give predictions {found}.")


# Datasets


@cache
def _dataset(name: str, root: str) -> Any:
    needs = DATASETS[name].needs_root and not root
    _require(not needs, f"dataset '{name}' needs its folder: triptych check MODULE --root FOLDER.")
    return open_configured(name, root, "train", {})


def _some(dataset: Any) -> Iterator[Sample]:
    for index in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        yield dataset[index]


def dataset_has_samples(name: str, root: str) -> None:
    """It has samples, each with a key of its own that is known without reading it."""
    dataset = _dataset(name, root)
    _require(len(dataset) > 0, "it is empty.")
    keys = [dataset.key(index) for index in range(len(dataset))]
    _require(len(set(keys)) == len(keys), "two samples have one key.")
    _require(dataset[0].key == keys[0], f"sample 0 is called {dataset[0].key!r}, and {keys[0]!r} by key(0).")


def dataset_has_images(name: str, root: str) -> None:
    """Images are float32 (3, H, W) in [0, 1]."""
    for sample in _some(_dataset(name, root)):
        image = sample.image
        _require(image.ndim == 3 and len(image) == 3, f"{sample.key}: the image is {tuple(image.shape)}.")
        _require(image.dtype == torch.float32, f"{sample.key}: the image is {image.dtype}.")
        low, high = float(image.min()), float(image.max())
        _require(low >= 0 and high <= 1, f"{sample.key}: the image lies in [{low:.3g}, {high:.3g}].")


def dataset_has_targets(name: str, root: str) -> None:
    """Each sample has a target of each task, in the task's layout, of the image's size."""
    dataset = _dataset(name, root)
    for sample in _some(dataset):
        found = list(sample.targets)
        _require(found == list(dataset.tasks), f"{sample.key} has {found} instead of {list(dataset.tasks)}.")
        size = (sample.image.shape[-2], sample.image.shape[-1])
        for task_name, task in dataset.tasks.items():
            target, wanted = sample.targets[task_name], task.invalid_target(size)
            what = f"{sample.key}: the target of {task_name}"
            _require(target.shape == wanted.shape, f"{what} is {tuple(target.shape)}, not {tuple(wanted.shape)}.")
            _require(target.dtype == wanted.dtype, f"{what} is {target.dtype}, not {wanted.dtype}.")
            if task.kind == "labels":
                ids = target[valid_pixels(target)]
                _require(
                    ((ids >= 0) & (ids < len(task.classes))).all(),
                    f"{what} has ids outside 0..{len(task.classes) - 1}.",
                )


def dataset_has_cameras(name: str, root: str) -> None:
    """Cameras have intrinsics (3, 3) and rigid poses (4, 4); each sample has as many neighbours, of its size, each with
    its offset and what the others have.
    """
    reader = DATASETS[name]
    options = reader.video_options({}) if takes_option(reader, "neighbour_frames") else {}
    dataset = open_configured(name, root, "train", options) if options else _dataset(name, root)
    alike: dict[int, tuple[Any, ...]] = {}
    counts = set()
    for sample in _some(dataset):
        counts.add(len(sample.neighbours))
        _check_camera(sample.camera, sample.image_keys[0])
        for place, view in enumerate(sample.neighbours):
            what = f"neighbour {place} of {sample.key}"
            _require(view.image.shape == sample.image.shape, f"{what} is {tuple(view.image.shape)}; give its size.")
            _check_camera(view.camera, what)
            facts = (sorted(view.targets), *_known(view.camera))
            known = facts[1:] == _known(sample.camera) and alike.setdefault(place, facts) == facts
            _require(
                known,
                f"{what} has other targets or less of a camera than the sample or others at this place; give "
                "triptych.missing_view(sample, offset) for one that is not there, and NaN for what is not known.",
            )
            offset = view.extras.get("offset", torch.empty(0))
            _require(
                offset.dtype == torch.int64 and offset.ndim == 0,
                f"{what} does not say how many frames later it was taken; give triptych.as_neighbour(view, offset).",
            )
    _require(
        len(counts) == 1,
        f"samples have {' or '.join(map(str, sorted(counts)))} neighbours, of which batches keep the fewest; give "
        "triptych.missing_view(sample, offset) for those that are not there.",
    )


def _known(camera: Camera | None) -> tuple[bool, bool]:
    """Whether there is a camera, and whether it has a pose."""
    return camera is not None, camera is not None and camera.pose is not None


def _check_camera(camera: Camera | None, what: str) -> None:
    """A camera is well formed; NaN stands for what is not known."""
    if camera is None:
        return
    matrix, pose = camera.intrinsics, camera.pose
    _require(matrix.shape == (3, 3), f"{what}: intrinsics are {tuple(matrix.shape)}, not (3, 3).")
    last = matrix[2].tolist()
    _require(matrix.isnan().all() or last == [0, 0, 1], f"{what}: the last row of intrinsics is {last}, not 0 0 1.")
    if pose is not None:
        _require(pose.shape == (4, 4), f"{what}: the pose is {tuple(pose.shape)}, not (4, 4).")
        if not pose.isnan().all():
            check_rigid(pose[None], [what])


def dataset_reads_alike(name: str, root: str) -> None:
    """A sample is the same whenever it is read, and in a worker process."""
    dataset = _dataset(name, root)
    again = pickle.loads(pickle.dumps(dataset))[0]
    for first, second in ((dataset[0], dataset[0]), (dataset[0], again)):
        _require(torch.equal(first.image, second.image), "the image differs when it is read again.")
        for task_name, target in first.targets.items():
            same = torch.equal(target.nan_to_num(-1), second.targets[task_name].nan_to_num(-1))
            _require(same, f"the target of {task_name} differs when it is read again.")


def dataset_is_identified(name: str, root: str) -> None:
    """Its fingerprint goes into a file and is the same when it is opened again."""
    first = _dataset(name, root).fingerprint()
    again = open_configured(name, root, "train", {}).fingerprint()
    _require(json.dumps(first) == json.dumps(again), f"{first} becomes {again}.")


def dataset_refuses_unknown_splits(name: str, root: str) -> None:
    """A split that does not exist is refused by its name, so that others can take its place."""
    way = 'triptych.named_choice("split", split, {"train": ..., "val": ...}) refuses it.'
    try:
        open_configured(name, root, "no-such-split", {})
    except UnknownNameError as error:
        _require(error.name == "no-such-split", f"'{error.name}' is refused in its place; {way}")
    except DataError as error:
        _require(error.missing, f"its error does not say that there is none (missing=True); {way}")
    except ValueError as error:
        raise ValueError(f"its error does not say that there is none ({error}); {way}") from error
    else:
        raise ValueError(f"split 'no-such-split' is opened; {way}")


# Regularizers


def _regularizer(name: str) -> Regularizer:
    torch.manual_seed(1)
    made: Any = REGULARIZERS[name]
    facts: dict[str, Any] = {"strides": STRIDES, "tasks": _tasks()}
    copied = (FCN(CHANNELS, **facts), 1, 1.0) if made.copies_decoder else ()
    return made(CHANNELS, *copied, **facts, weight=1.0).train()


def _batch(labelled: Sequence[bool]) -> tuple[Output, Sample]:
    generator = torch.Generator().manual_seed(3)
    features = [
        torch.randn(2, number, *(-(-side // stride) for side in SIZE), generator=generator).requires_grad_()
        for number, stride in zip(CHANNELS, STRIDES, strict=True)
    ]
    targets = {}
    for name, task in _tasks().items():
        found = labels_of(task)
        targets[name] = torch.stack([found[i] if has else task.invalid_target(SIZE) for i, has in enumerate(labelled)])
    raw = {name: _raw(task) for name, task in _tasks().items()}
    intrinsics = torch.tensor([[40.0, 0.0, SIZE[1] / 2], [0.0, 40.0, SIZE[0] / 2], [0.0, 0.0, 1.0]])
    camera = Camera(intrinsics.repeat(2, 1, 1), torch.eye(4).repeat(2, 1, 1))
    sample = Sample(_image(), targets, camera=camera)
    later = {"offset": torch.ones(2, dtype=torch.int64)}
    return Output(raw, [], features), replace(sample, neighbours=(replace(sample, extras=later),))


def regularizer_has_terms(name: str, root: str) -> None:
    """It returns finite scalars by task, with finite gradients, whatever labels there are."""
    for labelled in ((True, True), (True, False), (False, False)):
        regularizer = _regularizer(name)
        output, sample = _batch(labelled)
        terms = regularizer(output, sample)
        unknown = set(terms) - set(_tasks())
        _require(not unknown, f"it returns {', '.join(sorted(unknown))}, which is no task; see Regularizer.penalties.")
        total = torch.stack([torch.zeros(()), *terms.values(), *regularizer.penalties(output, sample).values()]).sum()
        _require_finite(total, f"the sum of terms where labels are {labelled}")
        if total.requires_grad:
            total.backward()
        for tensor in (*output.features, *output.predictions.values(), *regularizer.parameters()):
            _require_finite(tensor.grad, f"a gradient where labels are {labelled}")


def regularizer_acts(name: str, root: str) -> None:
    """Something that the network computes has a gradient from it."""
    output, sample = _batch((True, True))
    regularizer = _regularizer(name)
    terms = [*regularizer(output, sample).values(), *regularizer.penalties(output, sample).values()]
    _require(terms and all(term.ndim == 0 for term in terms), "it returns no scalar.")
    total = torch.stack(terms).sum()
    _require(total.requires_grad, "its terms depend on nothing that is trained.")
    total.backward()
    tensors = (*output.features, *output.predictions.values())
    _require(
        any(tensor.grad is not None and tensor.grad.count_nonzero() for tensor in tensors),
        "neither features nor predictions have a gradient from it.",
    )


def regularizer_has_its_own_chance(name: str, root: str) -> None:
    """It draws random numbers from `draw` alone, so that the network trains with the dropout it has without it."""
    results = []
    for seed in (5, 6):
        regularizer = _regularizer(name)
        output, sample = _batch((True, True))
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(regularizer(output, sample) | regularizer.penalties(output, sample))
        _require(torch.equal(torch.get_rng_state(), before), "it draws from torch's own random numbers.")
    _require(all(torch.equal(results[1][key], value) for key, value in results[0].items()), "its terms differ.")


def takes_options_by_keyword(kind: dict[str, Any]) -> Callable[[str, str], None]:
    """A check that options of a part go into files."""

    def check(name: str, root: str) -> None:
        """Its options are keywords whose defaults go into a file."""
        json.dumps(option_defaults(kind[name]))
        told = 4 if getattr(kind[name], "copies_decoder", False) else 1  # by their places
        for one in list(inspect.signature(kind[name]).parameters.values())[told:]:
            _require(
                one.kind is not one.POSITIONAL_OR_KEYWORD or one.default is one.empty,
                f"'{one.name}' may be given by its place, and is no option: put a * before it.",
            )

    return check


CHECKS: dict[str, tuple[Callable[[str, str], None], ...]] = {
    "tasks": (
        task_is_stored,
        task_ignores_missing_labels,
        task_learns_from_labelled_pixels,
        task_decodes,
        task_is_scored,
        task_targets_move,
        takes_options_by_keyword(TASKS),
    ),
    "decoders": (
        decoder_has_shapes,
        decoder_learns_every_part,
        decoder_sees_single_images,
        decoder_is_saved,
        decoder_takes_any_tasks,
        takes_options_by_keyword(DECODERS),
    ),
    "datasets": (
        dataset_has_samples,
        dataset_has_images,
        dataset_has_targets,
        dataset_has_cameras,
        dataset_reads_alike,
        dataset_is_identified,
        dataset_refuses_unknown_splits,
        takes_options_by_keyword(DATASETS),
    ),
    "regularizers": (
        regularizer_has_terms,
        regularizer_acts,
        regularizer_has_its_own_chance,
        takes_options_by_keyword(REGULARIZERS),
    ),
}
"""The checks of a part, by kind."""
