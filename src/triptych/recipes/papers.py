"""Settings that the published recipes of one line of work share: optimizer, schedule, sizes, pipelines
(docs/protocols.md).

The three lines are not comparable with each other: images, losses and scores differ. Where the originals decay the
learning rate once per epoch, ours decays at every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Options,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
    WeightingConfig,
)

RESNET50: Options = {"output_stride": 8}
SURVEY_LOSSES: dict[str, Options] = {"normals": {"loss": "l1-mean"}}
DENSEMTL_LOSSES: dict[str, Options] = {
    "depth": {"loss": "berhu-inverse-all-pixels"},
    "normals": {"loss": "cosine"},
    "boundary": {"channels": 2, "loss": "weighted-mean"},
}
RESNET101_DENSEMTL: Options = {
    "output_stride": 16,
    "include_stem": True,
    "mean": (0.45, 0.45, 0.45),
    "std": (0.225, 0.225, 0.225),
}
RESNET101 = ModelConfig(backbone="resnet101", weights="timm", backbone_options=RESNET101_DENSEMTL)
"""The trunk of DenseMTL's networks."""
MTI_NET = ModelConfig(backbone="hrnet_w48", decoder="mti-net", weights="timm")


def steps_of(images: int, batch_size: int, epochs: int) -> int:
    """Optimizer steps of whole epochs without the partial batch.

    >>> steps_of(795, 8, 100)
    9900
    """
    return images // batch_size * epochs


def last_weights(steps: int) -> TrainingConfig:
    """No selection, the last weights are scored: what ATRC, InvPT and DenseMTL report. The survey's code keeps the best
    weights by the images that it tests on.
    """
    return TrainingConfig(evaluate_every=0, checkpoint_every=max(steps // 20, 1))


def survey(
    description: str,
    data: DataConfig,
    model: ModelConfig,
    *,
    steps: int,
    optimizer: OptimizerConfig | None = None,
) -> Recipe:
    """The multi-task survey (Vandenhende et al., TPAMI 2021): Adam 1e-4, weight decay 1e-4, poly."""
    return Recipe(
        description=description,
        data=replace(data, protocol="survey"),
        model=model,
        optimizer=optimizer or OptimizerConfig(name="adam", lr=1e-4, weight_decay=1e-4),
        schedule=ScheduleConfig(steps=steps, name="poly"),
        training=last_weights(steps),
    )


def atrc(description: str, data: DataConfig, model: ModelConfig, *, lr: float) -> Recipe:
    """ATRC (Bruggemann et al., ICCV 2021): SGD, momentum 0.9, weight decay 5e-4, 40,000 steps of 8, poly per step.

    Where several processes share the batch, batch norm has statistics of all of it (`training.sync_norms`).
    """
    return Recipe(
        description=description,
        data=replace(data, protocol="atrc"),
        model=model,
        optimizer=OptimizerConfig(name="sgd", lr=lr, momentum=0.9, weight_decay=5e-4),
        schedule=ScheduleConfig(steps=40_000, name="poly"),
        training=last_weights(40_000),
    )


def invpt(description: str, data: DataConfig, model: ModelConfig) -> Recipe:
    """InvPT (Ye and Xu, ECCV 2022): Adam 2e-5, weight decay 1e-6, 40,000 steps of 6, poly.

    Published are 2 images on each of 3 GPUs: `data.batch_size` 2 in three processes, with `training.sync_norms`.
    """
    return Recipe(
        description=description,
        data=replace(data, protocol="invpt"),
        model=model,
        optimizer=OptimizerConfig(name="adam", lr=2e-5, weight_decay=1e-6),
        schedule=ScheduleConfig(steps=40_000, name="poly"),
        training=last_weights(40_000),
    )


def sak(description: str, data: DataConfig, model: ModelConfig) -> Recipe:
    """Baselines of SAK (Lu et al., ICLR 2025) in InvPT's protocol: AdamW 2e-5, weight decay 1e-6, gradient norm at most
    10, 40,000 steps of 4 (2 on each of 2 GPUs), poly per step.
    """
    return Recipe(
        description=description,
        data=replace(data, batch_size=4, protocol="invpt"),
        model=replace(model, decoder="four-level"),
        optimizer=OptimizerConfig(name="adamw", lr=2e-5, weight_decay=1e-6, clip_norm=10.0),
        schedule=ScheduleConfig(steps=40_000, name="poly"),
        training=last_weights(40_000),
    )


FOUNDATIONS: dict[str, tuple[str, str]] = {
    f"{family}-{size[0]}": (f"{family}_{size}", f"{title} ViT-{size[0].upper()}")
    for family, title in (("dinov2", "DINOv2"), ("dinov3", "DINOv3"))
    for size in ("small", "base", "large")
}
"""Trunks pretrained without labels, by their short name in recipes: backbone, and its full name."""


def foundations(prefix: str, place: str, data: DataConfig) -> dict[str, Recipe]:
    """The four-level heads of SAK's baselines on every one of `FOUNDATIONS`, in the same protocol."""
    return {
        f"{prefix}-{name}": sak(
            f"Four fused levels and a head for each task, on {place}, {title}.",
            data,
            ModelConfig(backbone=backbone, weights="timm"),
        )
        for name, (backbone, title) in FOUNDATIONS.items()
    }


def densemtl(
    description: str,
    data: DataConfig,
    model: ModelConfig,
    *,
    lr: float,
    backbone_lr: float,
    weights: Mapping[str, float],
) -> Recipe:
    """DenseMTL (Lopes et al., WACV 2023): Adam, betas (0.9, 0.98), 40,000 steps of 2, a tenth from step 30,000 on,
    gradient norm at most 10, seed 42.
    """
    return Recipe(
        description=description,
        data=replace(data, protocol="densemtl"),
        model=model,
        optimizer=OptimizerConfig(
            name="adam",
            lr=lr,
            weight_decay=0.0,
            betas=(0.9, 0.98),
            backbone_lr_factor=backbone_lr / lr,
            clip_norm=10.0,
        ),
        schedule=ScheduleConfig(steps=40_000, name="step", milestones=(30_000,), gamma=0.1),
        weighting=WeightingConfig(weights=dict(weights)),
        training=last_weights(40_000),
        seed=42,
    )


def densemtl_weights(tasks: Sequence[str], *, scales: int) -> dict[str, float]:
    """DenseMTL's task weights. Its loss is the mean over the supervised scales, ours their sum.

    >>> densemtl_weights(("semseg", "depth"), scales=2)
    {'semseg': 25.0, 'depth': 0.5}
    """
    semseg = 50.0 if set(tasks) == {"semseg", "depth"} else 100.0
    published = {"semseg": semseg, "depth": 1.0, "normals": 100.0, "boundary": 50.0}
    return {name: published[name] / scales for name in tasks}


def densemtl_single(description: str, data: DataConfig, model: ModelConfig) -> Recipe:
    """DenseMTL's single-task networks: SGD, momentum 0.9, weight decay 5e-4, 1e-3 for the backbone and 1e-2 else."""
    return Recipe(
        description=description,
        data=replace(data, protocol="densemtl"),
        model=model,
        optimizer=OptimizerConfig(
            name="sgd", lr=1e-2, momentum=0.9, weight_decay=5e-4, backbone_lr_factor=0.1, clip_norm=10.0
        ),
        schedule=ScheduleConfig(steps=40_000, name="step", milestones=(30_000,), gamma=0.1),
        weighting=WeightingConfig(weights=dict.fromkeys(data.tasks, 1.0)),
        training=last_weights(40_000),
        seed=42,
    )


def fused(lr: float) -> OptimizerConfig:
    """Cross-Stitch and NDDR-CNN: SGD, momentum 0.9, weight decay 1e-4, the units that mix at a hundred times the
    rate.
    """
    return OptimizerConfig(name="sgd", lr=lr, momentum=0.9, weight_decay=1e-4, fusion_lr_factor=100.0)


def hrnet18(**options: float | bool) -> ModelConfig:
    """HRNet-W18-small-v2, which this literature calls HRNet-18."""
    return ModelConfig(backbone="hrnet_w18_small_v2", weights="timm", backbone_options=dict(options))
