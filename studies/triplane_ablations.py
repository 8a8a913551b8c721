"""What readers of the paper asked beside its main tables, for `triplane.py`: which tasks are rendered, how finely, and
whether other regularizers do as well. Nothing is chosen by them; all are scored on the test split.
"""

from dataclasses import replace

from arms import base, with_regularizer
from triplane_arms import CHOSEN

from triptych.recipes.config import Recipe, WeightingConfig

TASKS = ("semseg", "human_parts", "saliency", "normals", "depth", "boundary")
RESOLUTIONS = {
    "16 x 20 rays, labels 64 x 80": "resolution/stride 4",
    "16 x 20 rays, labels 16 x 20": "resolution/stride 4, thinned",
    "8 x 10 rays, labels 64 x 80": "vanilla+3d",
    "8 x 10 rays, labels 8 x 10": "resolution/stride 8, thinned",
    "4 x 5 rays, labels 64 x 80": "resolution/stride 16",
    "4 x 5 rays, labels 4 x 5": "resolution/stride 16, thinned",
}
"""Title to arm: rays, and the labels that the rendering is compared with."""
Pairs = dict[str, tuple[str, str]]


def others() -> dict[str, Recipe]:
    """The vanilla network with regularizers that cost next to nothing in a step, by title."""
    plain = base("vanilla")
    decays = {f"weight decay {value:g}": value for value in (0.01, 0.1)}
    found = {title: replace(plain, optimizer=replace(plain.optimizer, weight_decay=v)) for title, v in decays.items()}
    found["averaged weights"] = replace(plain, training=replace(plain.training, ema=0.98))
    found["uncertainty weighting"] = replace(plain, weighting=WeightingConfig(name="uncertainty"))
    return found


def pairs() -> dict[str, Pairs]:
    """By table: title to the arms without and with what the title says."""
    subsets = {f"{task} alone": f"rendered/{task} alone" for task in TASKS}
    subsets |= {f"all but {task}": f"rendered/all but {task}" for task in TASKS}
    against_vanilla = {
        "subsets": {"all tasks": "vanilla+3d", **subsets},
        "resolution": RESOLUTIONS,
        "others": {title: f"others/{title}" for title in others()},
    }
    found = {table: {title: ("vanilla", arm) for title, arm in arms.items()} for table, arms in against_vanilla.items()}
    found["others"] |= {f"3D branch beside {title}": (f"others/{title}", f"others/{title}+3d") for title in others()}
    return found


def ablation_arms() -> dict[str, Recipe]:
    """Every arm that `pairs` names."""
    plain = base("vanilla")
    arms = {"vanilla": plain, "vanilla+3d": with_regularizer(plain, **CHOSEN)}
    for task in TASKS:
        rest = tuple(name for name in TASKS if name != task)
        arms[f"rendered/{task} alone"] = with_regularizer(plain, rendered=(task,), **CHOSEN)
        arms[f"rendered/all but {task}"] = with_regularizer(plain, rendered=rest, **CHOSEN)
    for stride in (4, 8, 16):
        thinned = with_regularizer(plain, stride=stride, resolution="rendered", **CHOSEN)
        arms[f"resolution/stride {stride}, thinned"] = thinned
        if stride != 8:  # the default
            arms[f"resolution/stride {stride}"] = with_regularizer(plain, stride=stride, **CHOSEN)
    for title, recipe in others().items():
        arms |= {f"others/{title}": recipe, f"others/{title}+3d": with_regularizer(recipe, **CHOSEN)}
    return arms
