"""PASCAL-Context, 4998 images to train on and 5105 to test on, as each line of work trains and scores on it.

`data.root` names the folder. Nothing is selected: the last weights are scored, as ATRC and InvPT do. The survey's code
scores the test images after every epoch and keeps the best weights, so that its numbers may be of those. Normals
and saliency are distilled labels. What the papers report is in `published.py` (`triptych list recipes --long`).

InvPT's rows and the `-3d` ones clip no gradient, as InvPT's code clips none; the paper of the branch does not say. With
`optimizer.clip_norm` network and branch are clipped apart, where its code would most likely clip all together.

SAK scores boundaries by another pipeline.
"""

from dataclasses import replace

from triptych.recipes.config import DataConfig, ModelConfig, OptimizerConfig, Options, Recipe
from triptych.recipes.papers import (
    MTI_NET,
    RESNET50,
    SURVEY_LOSSES,
    atrc,
    foundations,
    fused,
    hrnet18,
    invpt,
    sak,
    steps_of,
    survey,
)
from triptych.recipes.regularized import PUBLISHED, add_triplane

TASKS = ("semseg", "human_parts", "saliency", "normals", "boundary")
IMAGES = 4998
_DATA = DataConfig(
    dataset="pascal-context", tasks=TASKS, val_split="", test_split="val", size=(512, 512), num_workers=4
)
_SURVEY_OPTIONS: dict[str, Options] = SURVEY_LOSSES | {"saliency": {"channels": 1}}
_SURVEY = replace(_DATA, transform="survey-pascal", task_options=_SURVEY_OPTIONS)
_ATRC = replace(_DATA, transform="atrc", batch_size=8)
_INVPT = replace(_DATA, transform="invpt", batch_size=6)

_RESNET18 = ModelConfig(backbone="resnet18", weights="timm", backbone_options=RESNET50)
_VIT_L = ModelConfig(
    backbone="vit_large_patch16_384",
    decoder="invpt",
    weights="timm",
    backbone_options={"image_size": _INVPT.size, "drop_path_rate": 0.15},
)


def _survey(title: str, decoder: str, *, optimizer: OptimizerConfig | None = None) -> Recipe:
    data, model = replace(_SURVEY, batch_size=6), replace(_RESNET18, decoder=decoder)
    description = f"{title} on PASCAL-Context, ResNet-18, the survey's protocol."
    return survey(description, data, model, steps=steps_of(IMAGES, 6, 100), optimizer=optimizer)


def _single(task: str) -> Recipe:
    data, model = replace(_SURVEY, batch_size=12, tasks=(task,)), replace(_RESNET18, decoder="deeplab")
    description = f"{task} alone on PASCAL-Context, ResNet-18 with a DeepLab head, the survey's protocol."
    return survey(description, data, model, steps=steps_of(IMAGES, 12, 60))


def _fusion(title: str, decoder: str) -> Recipe:
    description = (
        f"{title} on PASCAL-Context, ResNet-18, the survey's protocol. Name the single-task runs (pascal-single-...) "
        "in model.initialize_from."
    )
    model = replace(_RESNET18, decoder=decoder, decoder_options={"alpha": 0.8, "beta": 0.05})
    data = replace(_SURVEY, batch_size=12)
    return survey(description, data, model, steps=steps_of(IMAGES, 12, 20), optimizer=fused(5e-3))


def _survey_hrnet(title: str, decoder: str) -> Recipe:
    data = replace(_SURVEY, batch_size=8)
    model = replace(hrnet18(momentum=0.01), decoder=decoder)
    description = f"{title} on PASCAL-Context, HRNet-18, the survey's protocol."
    return survey(description, data, model, steps=steps_of(IMAGES, 8, 100))


def _atrc(title: str, decoder: str, options: Options | None = None) -> Recipe:
    model = replace(hrnet18(double_resize=True), decoder=decoder, decoder_options=dict(options or {}))
    return atrc(f"{title} on PASCAL-Context, HRNet-18, ATRC's protocol.", _ATRC, model, lr=0.005)


_VIT_B = replace(_VIT_L, backbone="vit_base_patch16_384")

RECIPES = {
    "pascal-survey": _survey("A DeepLab head for each task", "deeplab"),
    **{f"pascal-single-{task}": _single(task) for task in TASKS},
    "pascal-mtan": _survey(
        "MTAN", "mtan", optimizer=OptimizerConfig(name="sgd", lr=5e-3, momentum=0.9, weight_decay=1e-4)
    ),
    "pascal-cross-stitch": _fusion("Cross-stitch networks", "cross-stitch"),
    "pascal-nddr": _fusion("NDDR-CNN", "nddr"),
    "pascal-survey-hrnet18": _survey_hrnet("An HRNet head for each task", "hrnet"),
    "pascal-pad-net-hrnet18": _survey_hrnet("PAD-Net", "pad-net"),
    "pascal-mti-net-hrnet18": _survey_hrnet("MTI-Net", "mti-net"),
    "pascal-hrnet18": _atrc("A convolutional head for each task", "fcn"),
    "pascal-mti-net-atrc": _atrc("MTI-Net", "mti-net"),
    "pascal-atrc": _atrc("ATRC", "atrc", {"genotype": "pascal-w18"}),
    "pascal-vit": sak("Four fused levels and a head for each task, on PASCAL-Context, ViT-B.", _INVPT, _VIT_B),
    **foundations("pascal", "PASCAL-Context", _INVPT),
    "pascal-invpt-vit-b": invpt("InvPT on PASCAL-Context, ViT-B, its protocol.", _INVPT, _VIT_B),
    **add_triplane(
        {
            "pascal-mti-net": invpt("MTI-Net on PASCAL-Context, HRNet-48, InvPT's protocol.", _INVPT, MTI_NET),
            "pascal-invpt": invpt("InvPT on PASCAL-Context, ViT-L, its protocol.", _INVPT, _VIT_L),
        },
        PUBLISHED,
    ),
}
