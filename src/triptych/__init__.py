"""Triptych: dense multi-task learning. One image in; segmentation, depth, normals, boundaries, saliency and human parts
out.

What `__all__` lists is public: it changes with a line in the changelog, after one release that warns. Other names may
move. Names are imported when they are first used, so that `import triptych` costs nothing.

>>> import triptych
>>> triptych.IGNORE
255
"""

from triptych.lookup import exports

__version__ = "0.2.0.dev0"

_HOMES = {
    # Data and tasks
    "IGNORE": "types",
    "Camera": "types",
    "Output": "types",
    "Sample": "types",
    "as_neighbor": "data.base",
    "collate": "types",
    "masked_mean": "losses.pixel",
    "missing_view": "data.base",
    "named_choice": "lookup",
    "valid_pixels": "types",
    "Task": "tasks",
    "nyuv2_tasks": "tasks",
    "pascal_context_tasks": "tasks",
    "regression": "tasks",
    "open_dataset": "datasets",
    # From a recipe to numbers
    "Recipe": "recipes.config",
    "load_recipe": "recipes",
    "train": "training.loop",
    "evaluate": "evaluation.evaluate",
    "evaluate_run": "evaluation.run",
    "compare_runs": "evaluation.compare",
    "create_model": "assemble",
    "Predictor": "prediction.predictor",
    "predict_images": "prediction.outputs",
    # Names and parts of one's own
    "available": "named_parts",
    "register": "extending.registering",
    "load_plugin": "plugins.loading",
    "check_plugin": "extending.checks",
    "Adapter": "adaptation.base",
    "Backbone": "backbones.base",
    "Decoder": "decoders.base",
    "DenseDataset": "data.base",
    "Metric": "metrics.base",
    "MultiTaskModel": "models.multitask",
    "Regularizer": "regularizers.base",
    "VideoSupervision": "video.base",
    "Weighting": "weighting.base",
}

__all__ = ["__version__", *_HOMES]

__getattr__ = exports(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
