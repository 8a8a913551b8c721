"""Model card of a network for hubs: its tasks, training data and trunk, and a runnable call."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from triptych.backbones.base import find_backbones
from triptych.backbones.timm_models import pretrained_license
from triptych.models.multitask import MultiTaskModel
from triptych.prediction.calibration import Scale, describe_unscaled
from triptych.recipes.config import Recipe
from triptych.tasks import Task

TAGS = ("dense-prediction", "multi-task-learning")
UNSAID = (
    "The licence of the weights follows those of the trunk and of the data they were trained on; set `license` above "
    "before publishing."
)


def model_card(
    tasks: dict[str, Task],
    recipe: Recipe,
    name: str,
    text: str = "",
    *,
    header: str = "",
    results: str = "",
    scales: Mapping[str, Scale] | None = None,
) -> str:
    """A `README.md` in the form that the Hugging Face hub reads: tasks, data, network and a runnable call.

    `header` is the hub's metadata as YAML, `results` scores and licences as markdown, and `scales` the network's
    calibration.
    """
    data = recipe.data
    rows = "\n".join(f"| {as_text(task.name)} | {as_text(_meaning(task))} |" for task in tasks.values())
    made = (
        f"- Data: {as_code(data.dataset)}, split {as_code(data.train_split)}, size {data.size[0]} x {data.size[1]}\n"
        f"- Seed: {recipe.seed}; every other number is in `recipe.json`"
        if data.train_split
        else "- Data: those of the published network, which was converted and not trained here"
    )
    scaled = "".join(
        f"\n- Metres of {as_text(task)} are scaled ({scale.describe()}) by `triptych calibrate`: the call below does "
        "that, `triptych evaluate` of the weights does not"
        for task, scale in (scales or {}).items()
    )
    if unscaled := describe_unscaled(recipe, scales or {}):
        scaled += f"\n- {as_text(unscaled)}"
    plain = f"library_name: triptych\nlicense: other\ntags: {json.dumps([*TAGS, *tasks])}\n"  # which is YAML too
    return f"""---
{header or plain}---

# {as_text(name)}

{text or as_text(recipe.description) or "A dense multi-task network trained with Triptych."}

| task | prediction, at the image's own size |
| --- | --- |
{rows}

- Network: {" with ".join(map(as_code, recipe.model.parts))}
{made}{scaled}

```python
import triptych

predictor = triptych.Predictor.from_pretrained({json.dumps(name)})
maps = predictor("photo.jpg")
```

{results or UNSAID}
"""


def loaded_trunk(model: MultiTaskModel, recipe: Recipe) -> str:
    """The name in timm of the trunk whose pretrained weights a network began with; empty for others, and for one that
    began with another run, whose weights took their place.
    """
    names = [backbone.timm_name for backbone in find_backbones(model).values()]
    return names[0] if names and recipe.model.weights == "timm" and not recipe.model.initialize_from else ""


def describe_trunk(model: MultiTaskModel, recipe: Recipe) -> str:
    """Weights that a network's trunk began with, and their licence, as Markdown."""
    if not recipe.data.train_split:
        return "as published, whose licence is not known here"
    if name := loaded_trunk(model, recipe):
        return f"{as_code(name)} of timm, licence: {pretrained_license(name) or 'not stated there'}"
    places = [place for place in (recipe.model.weights, *recipe.model.initialize_from) if place]
    if not places:
        return "trained from random weights"
    # Local paths are private: only the names of files are given.
    named = ", ".join(Path(place).name if Path(place).is_absolute() else place for place in places)
    return f"weights of {as_code(named)}, whose licence is not known here"


def as_text(value: object) -> str:
    """A name on one line of Markdown, where none of its characters is markup.

    >>> as_text("a|b <img src=x>")
    'a\\\\|b \\\\<img src=x\\\\>'
    """
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(str(value).split()))


def as_code(value: str) -> str:
    """A name as code in Markdown, which it cannot end.

    >>> as_code("vit`x")
    "`vit'x`"
    """
    return f"`{' '.join(value.split()).replace('`', chr(39))}`"


def _meaning(task: Task) -> str:
    if task.kind == "labels":
        return f"{len(task.classes)} classes: {', '.join(task.classes)}"
    return f"{task.target_channels or 1} channel(s){', ' + task.unit if task.unit else ''}"
