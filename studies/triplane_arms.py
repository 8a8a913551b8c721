"""The arms of the study of the 3D-aware regularizer (`triplane.py`): dicts from the name of an arm to its recipe.

The name is the folder of its runs. An arm's recipe never changes: a run of another recipe would be refused.
"""

from dataclasses import replace

from arms import base, with_regularizer

from triptych.recipes.config import DataConfig, Options, Recipe

CHOSEN: Options = {"schedule": "linear"}
"""What the sweep chose over the defaults: the weight falls to 0 at the end; see docs/study-3d.md."""

FINALISTS = (
    "weight 1 (default)",
    "weight 0.03",
    "lift last",
    "planes pooled",
    "annealed to 0",
    "semseg alone",
    "annealed, weight 0.1, lift last",
)
"""Of the sweep: the default, the five best of seed 0 on the validation split, and the best of them together."""


def sweep_arms() -> dict[str, Recipe]:
    """One switch at a time on the vanilla network, beside the network alone."""
    plain = base("vanilla")
    switches: dict[str, Options] = {
        "weight 0.03": {"weight": 0.03},
        "weight 0.1": {"weight": 0.1},
        "weight 0.3": {"weight": 0.3},
        "weight 1 (default)": {},
        "lift last": {"lift": "last"},
        "lift nearest": {"lift": "nearest"},
        "planes pooled": {"planes": "pooled"},
        "camera metric": {"camera": "metric"},
        "density shared": {"density": "shared"},
        "depth from termination": {"depth_from": "termination"},
        "aggregation product": {"aggregation": "product"},
        "8 samples": {"num_samples": 8},
        "32 samples": {"num_samples": 32},
        "stride 4": {"stride": 4},
        "annealed to 0": {"schedule": "linear"},
        "annealed, weight 0.1, lift last": {"schedule": "linear", "weight": 0.1, "lift": "last"},
        "semseg alone": {"rendered": ("semseg",)},
        "depth and normals alone": {"rendered": ("normals", "depth")},
    }
    arms = {"vanilla": plain}
    return arms | {f"sweep/{key}": with_regularizer(plain, **options) for key, options in switches.items()}


WEIGHTS = {
    "weight 0.03, constant": "sweep/weight 0.03",
    "weight 0.1, constant": "sweep/weight 0.1",
    "weight 0.3, constant": "sweep/weight 0.3",
    "weight 1, constant": "sweep/weight 1 (default)",
    "weight 0.1, annealed": "sweep/annealed, weight 0.1",
    "weight 0.3, annealed": "sweep/annealed, weight 0.3",
    "weight 1, annealed": "sweep/annealed to 0",
    "weight 3, annealed": "sweep/annealed, weight 3",
}
"""Title to arm: how strong the branch is, and whether it stays so."""
SAMPLES = {
    "4 samples, annealed": "sweep/annealed, 4 samples",
    "8 samples, annealed": "sweep/annealed, 8 samples",
    "16 samples, annealed": "sweep/annealed to 0",
    "32 samples, annealed": "sweep/annealed, 32 samples",
}
"""Title to arm: how many samples a ray needs."""


SWITCHES: dict[str, Options] = {
    "lift last": {"lift": "last"},
    "planes pooled": {"planes": "pooled"},
    "camera metric": {"camera": "metric"},
    "density shared": {"density": "shared"},
    "depth from termination": {"depth_from": "termination"},
    "stride 4": {"stride": 4},
}
"""What the sweep tried at a constant weight, once more under the schedule that was chosen."""
ANNEALED = {"default": "sweep/annealed to 0"} | {title: f"sweep/annealed, {title}" for title in SWITCHES}
"""Title to arm."""


def weight_arms() -> dict[str, Recipe]:
    """Every arm that `WEIGHTS`, `SAMPLES` and `ANNEALED` name, and the network alone."""
    plain = base("vanilla")
    found = sweep_arms()
    found |= {
        f"sweep/annealed, weight {weight:g}": with_regularizer(plain, weight=weight, schedule="linear")
        for weight in (0.1, 0.3, 3.0)
    }
    found |= {
        f"sweep/annealed, {count} samples": with_regularizer(plain, num_samples=count, schedule="linear")
        for count in (4, 8, 32)
    }
    found |= {f"sweep/annealed, {title}": with_regularizer(plain, **CHOSEN, **SWITCHES[title]) for title in SWITCHES}
    return {name: found[name] for name in ("vanilla", *WEIGHTS.values(), *SAMPLES.values(), *ANNEALED.values())}


ARCHITECTURES = ("vanilla", "pad-net", "mti-net", "invpt", "densemtl")
IMAGES = {"10 %": 40, "25 %": 100, "50 %": 200}
CONTROLS = {
    "xy plane and depth code": "triplane-xy",
    "one sample": "triplane-single-sample",
    "uniform weights": "triplane-uniform",
    "shuffled depth": "triplane-shuffled",
    "auxiliary heads": "auxiliary-heads",
    "2D decoder": "decoder-2d",
}
"""What the triplane is compared with: the same options where they apply, or as many parameters."""
CONTROL_OPTIONS: dict[str, Options] = {"triplane-single-sample": {"num_samples": 1}}


def with_control(recipe: Recipe, title: str) -> Recipe:
    """The recipe with one of `CONTROLS` in the triplane's place, under the schedule that was chosen for that."""
    key = CONTROLS[title]
    return with_regularizer(recipe, key, **CHOSEN, **CONTROL_OPTIONS.get(key, {}))


def pairs() -> dict[str, tuple[str, str]]:
    """Title to the arms (network, network with the regularizer) of every comparison of the main part."""
    found = {name: (name, f"{name}+3d") for name in ARCHITECTURES}
    found["vanilla, large backbone"] = ("large", "large+3d")
    found |= {f"vanilla, {title} of the images": (f"images-{n}", f"images-{n}+3d") for title, n in IMAGES.items()}
    found["vanilla, constant weight"] = ("vanilla", "sweep/weight 1 (default)")
    return found | {f"vanilla, {title}": ("vanilla", f"control/{title}") for title in CONTROLS}


def main_arms() -> dict[str, Recipe]:
    """Every arm that `pairs` names."""
    arms = {name: base(name) for name in ARCHITECTURES}
    arms["large"] = base("vanilla", backbone="large")
    arms |= {f"images-{count}": base("vanilla", images=count) for count in IMAGES.values()}
    arms |= {f"{name}+3d": with_regularizer(recipe, **CHOSEN) for name, recipe in arms.items()}
    name = "sweep/weight 1 (default)"
    arms[name] = sweep_arms()[name]
    vanilla = base("vanilla")
    return arms | {f"control/{title}": with_control(vanilla, title) for title in CONTROLS}


VIEWS = {
    "one view at a time": ("views/alone", "views/one at a time"),
    "and a second view, depth": ("views/alone", "views/second view, depth"),
    "and a second view, all tasks": ("views/alone", "views/second view, all tasks"),
    "second view, depth, against one view at a time": ("views/one at a time", "views/second view, depth"),
    "second view, all tasks, against one view at a time": ("views/one at a time", "views/second view, all tasks"),
}
"""Title to the arms of every comparison on camera paths."""


def view_arms() -> dict[str, Recipe]:
    """On frames of camera paths, each of which is also another's second view: all arms read the same frames in the same
    order, and differ in the regularizer alone.
    """
    plain = base("vanilla")
    options: Options = {**plain.data.options, "views": 1, "path_length": 10, "neighbor_frames": (5,)}
    alone = replace(
        plain,
        description="Study on camera paths of generated rooms: vanilla.",
        data=replace(plain.data, options=options),
    )
    second = "triplane-cross-view"
    return {
        "views/alone": alone,
        "views/one at a time": with_regularizer(alone, **CHOSEN),
        "views/second view, depth": with_regularizer(alone, second, cross_tasks="depth", **CHOSEN),
        "views/second view, all tasks": with_regularizer(alone, second, cross_tasks="all", **CHOSEN),
    }


REAL = {"bsds500_sod": "val", "camvid": "test"}
"""Photographs and the split they are scored on: of BSDS500 the one where both tasks have labels."""


def photographs(name: str) -> dict[str, tuple[str, str]]:
    """Of a set of `REAL`: title to the arms without and with the branch, which comes first, or a control."""
    title, plain = f"{name}, {REAL[name]}", f"real/{name}"
    controls = {f"{title}, {control}": (plain, f"{plain}, {control}") for control in CONTROLS}
    return {title: (plain, f"{plain}+3d"), **controls}


def real_arms() -> dict[str, Recipe]:
    """Every arm that `photographs` names: data that lie beside the checkout (examples/real-data); no selection."""
    vanilla = base("vanilla", steps=200)
    arms: dict[str, Recipe] = {}
    for name in REAL:
        data = DataConfig(dataset="folder", root=f"examples/real-data/{name}.toml", size=(96, 128), val_split="")
        plain = replace(
            vanilla,
            description=f"Study on photographs: {name}.",
            data=data,
            training=replace(vanilla.training, evaluate_every=0),
        )
        arms |= {f"real/{name}": plain, f"real/{name}+3d": with_regularizer(plain, **CHOSEN)}
        arms |= {f"real/{name}, {title}": with_control(plain, title) for title in CONTROLS}
    return arms
