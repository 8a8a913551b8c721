"""PASCAL-Context, 4998 images to train on and 5105 to test on, as each line of work trains and scores on it.

`data.root` names the folder. Nothing is selected: the last weights are scored. Normals and saliency are distilled
labels. Published scores, which are **theirs**, not ours (semseg mIoU, parts mIoU, saliency, mean angle of normals,
boundary odsF; the survey scores saliency by mIoU, the others by maxF). "Alone" are single-task networks: the same
recipe with one task (`--recipe.data.tasks semseg`).

| recipe | published | by |
| --- | --- | --- |
| pascal-survey | 63.8, 58.6, 65.1, 14.9, 69.2 (ResNet-18) | Vandenhende et al. 2021 |
| pascal-single-... | 66.2, 59.9, 66.3, 13.9, 68.8 (one task each: what cross-stitch and nddr start from) | " |
| pascal-mtan | 63.7, 58.9, 65.4, 14.8, 69.6 | " |
| pascal-cross-stitch | 66.1, 60.6, 66.8, 13.9, 69.9 | " |
| pascal-nddr | 65.4, 60.5, 66.8, 13.9, 69.8 | " |
| pascal-survey-hrnet18, pascal-mti-net-hrnet18 | not in public text that we read | |
| pascal-pad-net-hrnet18 | 53.60, 59.60, 65.80, 15.30, 72.50 | as tabulated by InvPT |
| pascal-hrnet18 | 51.48, 57.23, 83.43, 14.10, 69.76 (alone 62.23, 61.66, 85.08, 13.69, 73.06) | ATRC, 2021 |
| pascal-mti-net-atrc | 61.70, 60.18, 84.78, 14.23, 70.80 | " |
| pascal-atrc | 62.69, 59.42, 84.70, 14.20, 70.96 | " |
| pascal-vit | 76.76, 65.26, 84.39, 13.98, 70.37 (ViT-B; alone 80.25, 70.54, 84.54, 13.57, 74.22) | SAK, 2025 |
| pascal-mti-net | 61.70, 60.18, 84.78, 14.23, 70.80 (recalled as HRNet-48) | Li et al. 2024 |
| pascal-mti-net-3d | not in public text | " |
| pascal-invpt | 79.03, 67.61, 84.81, 14.15, 73.00 (ViT-L; released: 79.91, 68.54, 84.38, 13.90, 72.90) | InvPT |
| pascal-invpt-3d | 79.53, 69.12, 84.94, 13.53, 74.00 (parts and boundary confirmed by public text) | Li et al. 2024 |
| pascal-invpt-vit-b | 77.33, 66.62, 85.14, 13.78, 73.20 | Ye and Xu 2022 |

The paper of the `-3d` rows says nothing of how its branch is clipped; its code most likely clips network and branch by
one norm, as InvPT's does for all there is. Here each has its own (`optimizer.clip_norm`).

SAK scores boundaries by another pipeline.
"""

from dataclasses import replace

from triptych.recipes.config import DataConfig, ModelConfig, OptimizerConfig, Options, Recipe
from triptych.recipes.protocols import RESNET50, SURVEY_LOSSES, atrc, fused, hrnet18, invpt, sak, steps_of, survey
from triptych.recipes.rooms import PUBLISHED, add_triplane

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
_MTI_NET = ModelConfig(backbone="hrnet_w48", decoder="mti-net", weights="timm")

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
    "pascal-invpt-vit-b": invpt("InvPT on PASCAL-Context, ViT-B, its protocol.", _INVPT, _VIT_B),
    **add_triplane(
        {
            "pascal-mti-net": invpt("MTI-Net on PASCAL-Context, HRNet-48, InvPT's protocol.", _INVPT, _MTI_NET),
            "pascal-invpt": invpt("InvPT on PASCAL-Context, ViT-L, its protocol.", _INVPT, _VIT_L),
        },
        PUBLISHED,
    ),
}
