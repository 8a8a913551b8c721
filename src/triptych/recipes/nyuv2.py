"""NYUv2, 795 images to train on and 654 to test on, as each line of work trains and scores on it.

`data.root` names the folder. Nothing is selected: the last weights are scored, as ATRC, InvPT and DenseMTL do. The
survey's code scores the test images after every epoch and keeps the best weights, so that its numbers may be of those.
(`data.train_split` train and `data.val_split` val hold 80 frames out to select on.) What the papers report is in
`published.py` (`triptych list recipes --long`).

InvPT's rows and the `-3d` ones clip no gradient, as InvPT's code clips none; the paper of the branch does not say. With
`optimizer.clip_norm` network and branch are clipped apart, where its code would most likely clip all together.

InvPT's scripts make batches of 6 (2 on each of 3 GPUs), which its rows have; the paper's text says 4.

DenseMTL's code takes the cosine of normals over all pixels, ours over those with a label, and resizes edges bilinearly,
which makes them thicker; ours by the nearest pixel.

The published search of ATRC trains its logits by Adam at 5e-4 beside SGD for the weights; nyuv2-atrc-search has one
SGD, with 100 times the rate for the logits (neither decays them), which is our choice and untested at that scale.

SAK scores boundaries by another pipeline. Which weights its baselines start from is not in what we read; ours are
ImageNet-21k's at 384 (AugReg). InvPT's paper prints the row of nyuv2-mti-net-atrc as PAD-Net's.

Li et al. do not state the recipe of their MTI-Net with HRNet-48: it has InvPT's here, as their paper follows it. Their
settings of the regularizer are unknown; ours are its defaults (docs/regularizer.md).
"""

from dataclasses import replace

from triptych.recipes.config import DataConfig, ModelConfig, Options, Recipe, RegularizerConfig
from triptych.recipes.papers import (
    DENSEMTL_LOSSES,
    MTI_NET,
    RESNET50,
    RESNET101,
    SURVEY_LOSSES,
    atrc,
    densemtl,
    densemtl_single,
    densemtl_weights,
    foundations,
    fused,
    hrnet18,
    invpt,
    sak,
    steps_of,
    survey,
)
from triptych.recipes.regularized import PUBLISHED, add_triplane

TASKS = ("semseg", "depth", "normals", "boundary")
_DATA = DataConfig(dataset="nyuv2", tasks=TASKS, train_split="trainval", val_split="", num_workers=4)
_SURVEY = replace(
    _DATA,
    tasks=("semseg", "depth"),
    size=(480, 640),
    transform="survey",
    batch_size=8,
    task_options=SURVEY_LOSSES,
)
_ATRC = replace(
    _DATA,
    size=(425, 560),
    transform="atrc",
    batch_size=8,
    task_options={"boundary": {"positive_weight": 0.8}},
)
_INVPT = replace(_DATA, size=(448, 576), transform="invpt", batch_size=6)
_DENSEMTL = replace(_DATA, size=(448, 576), transform="densemtl", batch_size=2, task_options=DENSEMTL_LOSSES)

_RESNET50 = ModelConfig(backbone="resnet50", weights="timm", backbone_options=RESNET50)
_VIT_L = ModelConfig(
    backbone="vit_large_patch16_384",
    decoder="invpt",
    weights="timm",
    backbone_options={"image_size": _INVPT.size, "drop_path_rate": 0.15},
)


def _survey(title: str, decoder: str, *, fusion: bool = False) -> Recipe:
    steps = steps_of(795, 8, 50 if fusion else 100)
    start = " Name the single-task runs (nyuv2-survey, one task) in model.initialize_from." if fusion else ""
    description = f"{title} on NYUv2, ResNet-50, the survey's protocol.{start}"
    optimizer = fused(1e-3) if fusion else None
    return survey(description, _SURVEY, replace(_RESNET50, decoder=decoder), steps=steps, optimizer=optimizer)


def _survey_hrnet(title: str, decoder: str, auxiliary_tasks: tuple[str, ...] = ("normals", "boundary")) -> Recipe:
    data = replace(_SURVEY, auxiliary_tasks=auxiliary_tasks)
    model = replace(hrnet18(momentum=0.01), decoder=decoder)
    auxiliary = " auxiliary normals and boundaries," if auxiliary_tasks else ""
    description = f"{title} on NYUv2, HRNet-18,{auxiliary} the survey's protocol."
    return survey(description, data, model, steps=steps_of(795, 8, 100))


def _atrc(title: str, decoder: str, options: Options | None = None, *, backbone: str = "hrnet_w18_small_v2") -> Recipe:
    model = replace(
        hrnet18(double_resize=True), backbone=backbone, decoder=decoder, decoder_options=dict(options or {})
    )
    return atrc(f"{title} on NYUv2, {backbone}, ATRC's protocol.", _ATRC, model, lr=0.01)


def _densemtl(title: str, decoder: str, *, scales: int = 2) -> Recipe:
    model = replace(RESNET101, decoder=decoder)
    description = f"{title} on NYUv2, ResNet-101, DenseMTL's protocol."
    weights = densemtl_weights(TASKS, scales=scales)
    return densemtl(description, _DENSEMTL, model, lr=3e-4, backbone_lr=2e-4, weights=weights)


def _densemtl_single(task: str) -> Recipe:
    data = replace(_DENSEMTL, tasks=(task,))
    description = f"{task} alone on NYUv2, ResNet-101 with a DeepLab head, DenseMTL's protocol."
    return densemtl_single(description, data, replace(RESNET101, decoder="deeplab"))


_SEARCH = _atrc("Search of ATRC's genotype", "atrc-search")
_VIT_B = replace(_VIT_L, backbone="vit_base_patch16_384")

_INVPT_L = invpt("InvPT on NYUv2, ViT-L, its protocol.", _INVPT, _VIT_L)
_NEARBY: Options = {"neighbor_frames": (5,)}
"""The distance between published pairs of frames is not known to us."""
_CROSS_VIEW = replace(
    _INVPT_L,
    description="InvPT on NYUv2 and frames labelled with depth alone, ViT-L, with the 3D-aware regularizer rendering a "
    "second view where there is one.",
    # Most of what the paper gains in depth comes with the frames, which its network is trained on.
    data=replace(_INVPT_L.data, options={**_NEARBY, "frames_as_samples": True}),
    regularizer=RegularizerConfig(name="triplane-cross-view", options=PUBLISHED),
)
_CVM = sak(
    "Four fused levels and a head for each task on NYUv2, DINOv3 ViT-L, with CvM beside it, in SAK's protocol.",
    replace(_INVPT, options=_NEARBY),
    ModelConfig(backbone="dinov3_large", weights="timm", cross_view="cvm"),
)

RECIPES = {
    "nyuv2-survey": _survey("A DeepLab head for each task", "deeplab"),
    "nyuv2-mtan": _survey("MTAN", "mtan"),
    "nyuv2-cross-stitch": _survey("Cross-stitch networks", "cross-stitch", fusion=True),
    "nyuv2-nddr": _survey("NDDR-CNN", "nddr", fusion=True),
    "nyuv2-survey-hrnet18": _survey_hrnet("An HRNet head for each task", "hrnet", ()),
    "nyuv2-pad-net-hrnet18": _survey_hrnet("PAD-Net", "pad-net"),
    "nyuv2-mti-net-hrnet18": _survey_hrnet("MTI-Net", "mti-net"),
    "nyuv2-hrnet18": _atrc("A convolutional head for each task", "fcn"),
    "nyuv2-pad-net": _atrc("PAD-Net", "pad-net"),
    "nyuv2-pap": _atrc("PAP (our reading)", "pap"),
    "nyuv2-psd": _atrc("PSD (our reading)", "psd"),
    "nyuv2-mti-net-atrc": _atrc("MTI-Net", "mti-net"),
    "nyuv2-atrc": _atrc("ATRC", "atrc", {"genotype": "nyud-w18"}),
    "nyuv2-atrc-hrnet48": _atrc("ATRC", "atrc", {"genotype": "nyud-w48"}, backbone="hrnet_w48"),
    "nyuv2-atrc-search": replace(_SEARCH, optimizer=replace(_SEARCH.optimizer, clip_norm=10.0, fusion_lr_factor=100.0)),
    "nyuv2-vit": sak("Four fused levels and a head for each task, on NYUv2, ViT-B.", _INVPT, _VIT_B),
    **foundations("nyuv2", "NYUv2", _INVPT),
    "nyuv2-invpt-vit-b": invpt("InvPT on NYUv2, ViT-B, its protocol.", _INVPT, _VIT_B),
    **add_triplane(
        {
            "nyuv2-mti-net": invpt("MTI-Net on NYUv2, HRNet-48, InvPT's protocol.", _INVPT, MTI_NET),
            "nyuv2-invpt": _INVPT_L,
        },
        PUBLISHED,
    ),
    "nyuv2-invpt-cross-view-3d": _CROSS_VIEW,
    "nyuv2-cvm": _CVM,
    "nyuv2-densemtl": _densemtl("DenseMTL", "densemtl"),
    "nyuv2-pad-net-plus": _densemtl("PAD-Net+", "pad-net-plus"),
    "nyuv2-pad-net-densemtl": _densemtl("PAD-Net of the DenseMTL code", "pad-net-densemtl"),
    "nyuv2-deeplab-densemtl": _densemtl("A DeepLab head for each task", "deeplab", scales=1),
    **{f"nyuv2-densemtl-single-{task}": _densemtl_single(task) for task in TASKS},
}
