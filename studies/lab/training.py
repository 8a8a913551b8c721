"""Train a recipe in a run folder that may be half done, and score it."""

from dataclasses import dataclass
from pathlib import Path

from lab.study import Scores
from triptych.recipes.config import Recipe


@dataclass(frozen=True)
class Arm:
    """What is scored of a recipe (`PREDICTORS`): the network that it trains, or one of the null rows."""

    recipe: Recipe
    predictor: str = "trained"

    def score(self, folder: Path, *, split: str, limit: int = 0) -> Scores:
        """Scores by task on a split; only what is trained uses the folder."""
        return PREDICTORS[self.predictor](self.recipe, folder, split=split, limit=limit)


def train_and_score(recipe: Recipe, folder: Path, *, split: str, limit: int = 0, device: str = "cpu") -> Scores:
    """The primary number by task on a split, of the weights that the run deploys."""
    from triptych.evaluation.run import evaluate_run
    from triptych.training.loop import train

    train(recipe, folder, resume=(folder / "recipe.json").is_file(), device=device, progress=False)
    found = evaluate_run(folder, split=split, limit=limit, device=device, constant=False, progress=False)
    return {name.split("/")[0]: value for name, value in found.primary().items()}  # "depth/rmse"


def score_constant(recipe: Recipe, folder: Path, *, split: str, limit: int = 0) -> Scores:
    """The same of the best prediction that does not look at the image, fitted on the training set."""
    return score_null(recipe, constant=True, split=split, limit=limit)


def score_untrained(recipe: Recipe, folder: Path, *, split: str, limit: int = 0) -> Scores:
    """The same of the network before its training."""
    return score_null(recipe, constant=False, split=split, limit=limit)


PREDICTORS = {"trained": train_and_score, "constant": score_constant, "untrained": score_untrained}


def score_null(recipe: Recipe, *, constant: bool, split: str, limit: int = 0) -> Scores:
    """The same of the best constant prediction, fitted on the training set, or of the network before its training."""
    import torch

    from triptych import assemble
    from triptych.augmentation.presets import build_transform
    from triptych.evaluation.constant import ConstantPredictor
    from triptych.evaluation.evaluate import evaluate
    from triptych.prediction.predictor import Predictor

    dataset = assemble.build_dataset(recipe, split)
    tasks, _ = assemble.build_tasks(recipe, dataset)
    torch.manual_seed(recipe.seed)
    predictor = (
        ConstantPredictor.fit(assemble.build_training_set(recipe), tasks)
        if constant
        else Predictor(assemble.build_model(recipe, tasks))
    )
    transform = build_transform(recipe.data.transform, size=recipe.data.size, tasks=tasks, train=False)
    found = evaluate(predictor, dataset, tasks, transform=transform, limit=limit)
    return {name.split("/")[0]: value for name, value in found.primary().items()}


def validation_losses(recipe: Recipe, folder: Path) -> dict[int, float]:
    """By step of every checkpoint that was kept: the weighted sum of the tasks' losses, mean over validation images.

    The run itself has no validation split, so that nothing is selected by it.
    """
    import torch
    from safetensors.torch import load_file

    from triptych import assemble
    from triptych.types import collate

    dataset = assemble.build_dataset(recipe, "val")
    tasks, auxiliary = assemble.build_tasks(recipe, dataset)
    model = assemble.build_model(recipe, tasks, auxiliary).eval()
    found = {}
    for checkpoint in sorted((folder / "checkpoints").glob("[0-9]*")):
        model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        total = 0.0
        with torch.no_grad():
            for index in range(len(dataset)):
                sample = collate([dataset[index]])
                raw = model(sample.image).predictions
                total += sum(
                    float(task.weight * task.loss(raw[name], sample.targets[name])) for name, task in tasks.items()
                )
        found[int(checkpoint.name)] = total / len(dataset)
    return found
