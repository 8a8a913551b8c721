"""Properties of tasks that the library relies on."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from triptych.drawing.panels import color_maps, describe_colors
from triptych.extending.cases import SIZE, labels_of, raw_of, require, require_finite
from triptych.metrics.bootstrap import compute_sums
from triptych.tasks import TASKS, Task
from triptych.tasks.stored import tasks_to_json
from triptych.types import IGNORE, valid_pixels


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
    require(isinstance(task, Task), f"{name}() is {task!r}, no triptych.Task.")
    return task


def _invalid(task: Task) -> Tensor:
    return torch.stack([task.invalid_target(SIZE)] * 2)


def is_stored(name: str, root: str) -> None:
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


def ignores_missing_labels(name: str, root: str) -> None:
    """Where no pixel is labelled the loss is exactly 0, with gradients of 0."""
    task = _make_task(name)
    raw = raw_of(task)
    loss = task.loss(raw, _invalid(task))
    require(loss.ndim == 0 and loss.item() == 0, f"the loss without labels is {loss.tolist()}, not 0.")
    loss.backward()
    gradient = raw.grad
    require_finite(gradient, "the gradient without labels")
    require(gradient is not None and not gradient.count_nonzero(), "the gradient without labels is not 0.")


def learns_from_labelled_pixels(name: str, root: str) -> None:
    """Loss and gradients are finite where some pixels are labelled, and a step along the gradient lowers the loss."""
    task = _make_task(name)
    raw, target = raw_of(task), labels_of(task)
    target[..., : SIZE[1] // 2] = torch.nan if target.is_floating_point() else IGNORE
    loss = task.loss(raw, target)
    require_finite(loss, "the loss")
    (gradient,) = torch.autograd.grad(loss, raw)
    require_finite(gradient, "the gradient (mask after cleaning: target.nan_to_num(), then times the valid pixels)")
    require(gradient.norm() > 0, "the gradient is 0 where pixels are labelled.")
    step = 1e-2 * raw.detach().norm() / gradient.norm()
    require(task.loss(raw - step * gradient, target) < loss, "a step along the gradient does not lower the loss.")


def decodes(name: str, root: str) -> None:
    """Decoded maps are class ids (B, H, W) or finite float values (B, C, H, W), and can be drawn beside targets."""
    task = _make_task(name)
    decoded = task.decode(raw_of(task).detach())
    is_labels = task.kind == "labels"
    wanted = (2, *SIZE) if is_labels else (2, task.target_channels or 1, *SIZE)
    require(tuple(decoded.shape) == wanted, f"decoded maps are {tuple(decoded.shape)}, not {wanted}.")
    require(decoded.dtype == (torch.int64 if is_labels else torch.float32), f"decoded maps are {decoded.dtype}.")
    require_finite(decoded, "the decoded map")
    require(
        task.raw_form != "physical" or task.raw_is_physical,
        "raw_form is 'physical', and decoding does more than clip and normalise: say raw_form='scores' of scores of "
        "classes, 'encoded' of anything else (dataclasses.replace).",
    )
    maps = [decoded[0].numpy(), labels_of(task)[0].numpy()]
    for picture in (task.colorize(maps[0]), *color_maps(task, maps)):
        require(picture.shape == (*SIZE, 3) and picture.dtype == "uint8", f"it is drawn as {picture.shape}.")
    describe_colors(task, maps)
    error = task.error.measure(*maps)
    require(error.shape == SIZE, f"its error map (error) is {error.shape}, not {SIZE}.")


def is_scored(name: str, root: str) -> None:
    """Scores are numbers, follow from sums over images, and are NaN without a labelled pixel."""
    task = _make_task(name)
    decoded, target = task.decode(raw_of(task).detach()), labels_of(task)
    whole, single, empty = task.metric(), task.metric(), task.metric()
    whole.update(decoded, target)
    scores, sums = whole.compute(), []
    for image in (1, 0):  # as evaluation does: the states of each image, added up
        single.reset()
        single.update(decoded[image : image + 1], target[image : image + 1])
        sums.append(single.sums())
    parts = compute_sums(task.metric(), {state: torch.stack([one[state] for one in sums]) for state in sums[0]})
    require(
        scores.keys() == parts.keys()
        and all(
            float(one) == parts[key] or (math.isnan(one) and math.isnan(parts[key])) for key, one in scores.items()
        ),
        f"{scores} of a batch, {parts} of its images one by one: states are added up over images, and nothing else is "
        "kept.",
    )
    require(whole.primary in scores, f"its primary number '{whole.primary}' is not among {', '.join(scores)}.")
    require(
        whole.below_zero or not scores[whole.primary] < 0,
        f"its primary number '{whole.primary}' is {scores[whole.primary]:g}: below 0 needs `below_zero` and `perfect`.",
    )
    require(set(scores) <= set(whole.better), "`better` does not say of each number whether higher is better.")
    empty.update(decoded, _invalid(task))
    require(empty.compute()[whole.primary] != empty.compute()[whole.primary], "a score without labels is no NaN.")


def targets_move(name: str, root: str) -> None:
    """Mirroring twice and zooming back change no target, what is invalid stays invalid, directions turn with the camera
    and lengths shrink.
    """
    task = _make_task(name)
    target = labels_of(task)
    require(torch.equal(task.mirror(task.mirror(target)), target), "mirroring twice changes the target.")
    torch.testing.assert_close(task.zoom(task.zoom(target, 1.7), 1 / 1.7), target)
    for moved in (task.mirror(_invalid(task)), task.zoom(_invalid(task), 2.0), task.rotate(_invalid(task), 0.3)):
        require(not valid_pixels(moved).any(), "invalid pixels become valid when the target moves.")
    require(
        task.kind != "length" or task.scales_with_zoom,
        "lengths do not shrink when an image is magnified: set scales_with_zoom, or choose the kind 'values'.",
    )
    if task.kind == "direction":
        x, y = target[:, 0], target[:, 1]
        require(torch.equal(task.mirror(target)[:, 0], -x), "mirroring does not negate the x of directions (mirror).")
        turned = task.rotate(target, math.pi / 2)
        torch.testing.assert_close(
            turned[:, :2], torch.stack([-y, x], dim=1), msg="a rotation does not turn directions, from x to y (rotate)."
        )
