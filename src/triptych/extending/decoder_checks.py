"""Properties of decoders that the library relies on."""

import torch

from triptych.assemble import create_model
from triptych.extending.cases import SIZE, labels_of, random_images, require, require_finite, small_tasks
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import Task, depth


def _model(name: str, tasks: dict[str, Task] | None = None) -> MultiTaskModel:
    torch.manual_seed(0)
    small = {"widths": (8, 16, 24, 32)}
    return create_model(name, backbone="resnet18", tasks=tasks or small_tasks(), backbone_options=small)


def has_shapes(name: str, root: str) -> None:
    """Each task has a finite raw map of its channels at the size of the image, whatever that is."""
    model = _model(name)
    output = model(random_images())
    for task_name, task in model.tasks.items():
        shape = tuple(output.predictions[task_name].shape)
        wanted = (2, task.channels, *SIZE)
        require(shape == wanted, f"the raw map of {task_name} is {shape}, not {wanted}.")
        require_finite(output.predictions[task_name], f"the raw map of {task_name}")


def learns_every_part(name: str, root: str) -> None:
    """Each parameter has a finite gradient, also where an image has no label."""
    model = _model(name).train()
    output = model(random_images())
    losses = []
    for task_name, task in model.intermediate_tasks.items():
        target = labels_of(task)
        target[1] = task.invalid_target(SIZE)
        stages = [*output.auxiliary, output.predictions]
        losses += [task.loss(stage[task_name], target) for stage in stages if task_name in stage]
    torch.stack(losses).sum().backward()
    for key, parameter in model.decoder.named_parameters():
        require(parameter.grad is not None, f"parameter {key} has no gradient: nothing depends on it.")
        require_finite(parameter.grad, f"the gradient of {key}")


def sees_single_images(name: str, root: str) -> None:
    """Predictions of an image do not depend on the others of its batch, nor on chance."""
    model = _model(name).eval()
    with torch.no_grad():
        both, first = model(random_images()).predictions, model(random_images()[:1]).predictions
    for task_name in model.tasks:
        torch.testing.assert_close(both[task_name][:1], first[task_name], rtol=1e-3, atol=1e-4)


def is_saved(name: str, root: str) -> None:
    """A network built anew and given the saved weights predicts the same."""
    first, second = _model(name).eval(), _model(name).eval()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        second.load_state_dict(first.state_dict())
        for task_name in first.tasks:
            wanted, found = (model(random_images()).predictions[task_name] for model in (first, second))
            require(torch.equal(wanted, found), f"{task_name} differs: something is kept outside the state.")


def takes_any_tasks(name: str, root: str) -> None:
    """It is built for one task alone, and for tasks in another order."""
    for tasks in ({"depth": depth()}, dict(reversed(small_tasks().items()))):
        found = list(_model(name, tasks)(random_images()).predictions)
        require(found == list(tasks), f"tasks {list(tasks)} give predictions {found}.")
