"""Networks, losses, regularizers, weightings, adapters, metrics and runs on two devices.

Run as a script, with this folder and the one above in PYTHONPATH, it writes what differs between them:

python tests/helpers/second_device_cases.py DIFFERENCES.json [CASE...]
"""

import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import adaptation.test_properties as adapters
import metric_cases
import numpy as np
import regularizers.branch as branch
import torch
import weighting_cases
from adaptation import networks
from entries import own_entries
from regularizers.test_properties import make as make_regularizer
from regularizers.test_properties import terms
from test_models import FAMILIES, NAMES, build
from torch import Tensor
from training.tiny import RECIPE, change
from training_runs import lines

from triptych import Predictor
from triptych.adaptation import ADAPTERS
from triptych.evaluation.run import evaluate_run
from triptych.extending.cases import labels_of
from triptych.recipes.config import AdaptationConfig
from triptych.regularizers import REGULARIZERS
from triptych.training.adapted_run import adapt_run
from triptych.training.checkpoint import list_checkpoints
from triptych.training.loop import train
from triptych.types import Output
from triptych.weighting import WEIGHTINGS

Numbers = dict[str, Tensor]
SIZE = (64, 64)


def model_case(name: str, family: str, device: str) -> Numbers:
    """Losses of a batch, and gradients of the trunk."""
    model = build(name, family).train().to(device)
    output = model(torch.rand(2, 3, *SIZE).to(device))
    losses = {
        key: model.tasks[key].loss(raw, labels_of(model.tasks[key], SIZE).to(device))
        for key, raw in output.predictions.items()
    }
    early = {
        f"{key}, {place}": raw.square().mean()
        for place, stage in enumerate(output.auxiliary)
        for key, raw in stage.items()
    }
    torch.stack([*losses.values(), *early.values()]).sum().backward()
    grown = [parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None]
    return {**losses, **early, "gradients": torch.stack(grown)}


def regularizer_case(name: str, device: str) -> Numbers:
    """Terms of a batch with cameras and a second view, and gradients of the features."""
    output, sample = branch.batch(branch.tasks_of(), camera=True)
    features = [feature.detach().to(device).requires_grad_() for feature in output.features]
    raw = {key: value.detach().to(device) for key, value in output.predictions.items()}
    found = terms(make_regularizer(name).to(device), Output(raw, [], features), sample.to(device))
    torch.stack([term.sum() for term in found.values()]).sum().backward()
    return {**found, **{str(i): each.grad for i, each in enumerate(features) if each.grad is not None}}


def adapter_case(name: str, device: str) -> Numbers:
    """Losses of a batch of both domains, and the adapter's own."""
    model = networks.network()
    adapter = adapters.build(name, model).to(device)
    model.to(device)
    source, target = networks.batch().to(device), networks.unlabelled().to(device)
    found = adapter(model, source, target, model(source.image))
    return {**found, **{f"own {key}": value for key, value in adapter.own_losses().items()}}


def weighting_case(name: str, device: str) -> Numbers:
    """Gradients of two micro-batches."""
    return weighting_cases.gradients(weighting_cases.make(name).to(device), parts=2, device=device)


def metric_case(name: str, device: str) -> Numbers:
    """Scores of seven images in batches."""
    metric = metric_cases.CASES[name].metric().to(device)
    prediction, target = metric_cases.images_of(name)
    for rows in ([0, 1, 2], [3, 4], [5, 6]):
        metric.update(prediction[rows].to(device), target[rows].to(device))
    return {key: torch.tensor(value) for key, value in metric.compute().items()}


RUNS = {
    "plain": {},
    "average": {"training__ema": 0.9, "optimizer__name": "sgd", "training__channels_last": True},
    "shares": {"weighting__name": "uncertainty", "training__accumulate": 2, "training__checkpoint_gradients": True},
    "gradients": {
        "weighting__name": "pcgrad",
        "data__auxiliary_tasks": ("normals",),
        "model__decoder_options": {"intermediate": True},
    },
    "half": {"training__precision": "bf16"},
}


def run_case(name: str, device: str) -> Numbers:
    """Losses of a run that is resumed, its scores, and what it predicts."""
    recipe = change(RECIPE, schedule__steps=4, training__log_every=1, **RUNS[name])
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train(recipe, run, device=device, progress=False)
        shutil.rmtree(list_checkpoints(run)[-1])
        train(recipe, run, device=device, progress=False, resume=True)
        logged = {f"step {line['step']}": line["loss"] for line in lines(run, "train")}
        scores = evaluate_run(run, split="val", device=device, progress=False).primary()
        image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        options = {"flip": True, "scales": (0.75, 1.0), "tile": 48}
        depth = Predictor.load(run, device=device, **options)(image)["depth"].mean()
        target = AdaptationConfig(dataset="rectangles", name="adabn")
        adapt_run(run, target, Path(folder) / "adapted", device=device)
        return {key: torch.tensor(value) for key, value in {**logged, **scores, "predicted": depth}.items()}


def mixed_case(device: str) -> Numbers:
    """A sum over both devices, which a GPU refuses."""
    return {"sum": torch.ones(3, device=device) + torch.ones(3)}


def drawn_case(device: str) -> Numbers:
    """Random numbers of a generator of the CPU, which a GPU refuses."""
    return {"numbers": torch.rand(3, device=device, generator=torch.Generator())}


MODELS = [(name, "resnet") for name in NAMES] + [("four-level", family) for family in FAMILIES if family != "resnet"]
CASES: dict[str, Callable[[str], Numbers]] = {
    **{f"model {name}, {family}": partial(model_case, name, family) for name, family in MODELS},
    **{f"regularizer {name}": partial(regularizer_case, name) for name in own_entries(REGULARIZERS)},
    **{f"adapter {name}": partial(adapter_case, name) for name in ADAPTERS if ADAPTERS[name].has_losses},
    **{f"weighting {name}": partial(weighting_case, name) for name in WEIGHTINGS},
    **{f"metric {name}": partial(metric_case, name) for name in metric_cases.CASES},
    **{f"run {name}": partial(run_case, name) for name in RUNS},
}
REFUSED: dict[str, Callable[[str], Numbers]] = {"tensors of two devices": mixed_case, "a generator": drawn_case}


def difference(case: Callable[[str], Numbers], device: str) -> str:
    """Why a case is not the same on `device` as on the CPU; empty if it is."""
    found = []
    for each in ("cpu", device):
        torch.manual_seed(0)
        try:
            found.append({key: value.detach().cpu() for key, value in case(each).items()})
        except Exception:
            return f"on {each}: {traceback.format_exc(limit=-3)}"
    try:
        torch.testing.assert_close(*reversed(found), rtol=1e-3, atol=1e-5, equal_nan=True)
    except AssertionError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    import second_device

    chosen = sys.argv[2:] or [*CASES, *REFUSED]
    found = {name: difference((CASES | REFUSED)[name], second_device.NAME) for name in chosen}
    if not second_device.ran:
        sys.exit("nothing ran on the second device")
    Path(sys.argv[1]).write_text(json.dumps(found))
