"""Depth from video without its labels, beside supervised segmentation (docs/video.md).

`rooms-video` runs on generated camera paths, minutes on a CPU. Motions come from aligning the images: from random
weights a pose network sees none within so few steps. Frames four steps apart show two to three pixels of parallax.

`cityscapes-densemtl-video` is DenseMTL's "S-D with self-supervised D" (Lopes et al., WACV 2023). The released
configuration: images of 512x1024, random crops of 512x512, mirrored, two per step; frames -1, 0, +1; Adam, betas (0.9,
0.999), 1e-5 for the encoder, 5e-5 for heads and exchange, 1e-6 for the pose network, gradient norm of all at most 10;
40,000 steps, a tenth from step 30,000 on; segmentation at scales 0 and 2, disparity at 0 to 3, weights 1 and 1 as means
over scales; depth between 0.1 and 100 m, scored at 512x1024 with a median scaling per image, 1e-3 to 80 m (protocol
`densemtl-video`). It starts from a Cityscapes depth network of Hoyer et al. (encoder, decoders and pose network).

Departures: it starts from ImageNet, which is why the pose network learns at 1e-4, the rate of Godard et al. (ICCV
2019); both tasks are predicted at scales 0 to 3, by 1x1 convolutions; the last weights are kept.
"""

from triptych.recipes.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    TrainingConfig,
    VideoConfig,
    WeightingConfig,
)
from triptych.recipes.papers import RESNET101_DENSEMTL

ROOMS = Recipe(
    description="Segmentation from labels, depth from video without them: generated camera paths, minutes on a CPU.",
    data=DataConfig(
        dataset="rooms",
        tasks=("semseg", "depth"),
        size=(96, 128),
        transform="densemtl",
        batch_size=8,
        options={"path_length": 12, "views": 2, "neighbor_frames": (-4, 4)},
        task_options={"depth": {"loss": "log-l1", "aligned": True}},
    ),
    # Four-level by its former name: recorded studies are known by hashes of this recipe.
    model=ModelConfig(backbone="resnet18_half", decoder="vit", decoder_options={"width": 16}),
    optimizer=OptimizerConfig(name="adam", lr=1e-3, weight_decay=0.0, clip_norm=10.0),
    schedule=ScheduleConfig(steps=600, name="cosine", warmup_steps=20),
    # Segmentation would drown the photometric loss, which is ten times smaller.
    weighting=WeightingConfig(weights={"semseg": 0.1}),
    video=VideoConfig(name="monodepth2", options={"poses": "alignment", "near": 0.1, "far": 5.0, "smoothness": 0.05}),
    training=TrainingConfig(evaluate_every=200, checkpoint_every=200, evaluate_limit=40),
)

CITYSCAPES = Recipe(
    description="Cityscapes, segmentation from labels and depth from video: DenseMTL, self-supervised depth.",
    data=DataConfig(
        dataset="cityscapes",
        tasks=("semseg", "depth"),
        val_split="",
        test_split="val",
        size=(512, 512),
        transform="densemtl-video",
        batch_size=2,
        num_workers=4,
        options={"classes": 16, "neighbor_frames": (-1, 1)},
        task_options={"depth": {"loss": "disparity", "aligned": True}},
        protocol="densemtl-video",
    ),
    model=ModelConfig(
        backbone="resnet101",
        weights="timm",
        backbone_options=RESNET101_DENSEMTL,
        decoder="densemtl",
        decoder_options={"scales": (0, 1, 2, 3)},
    ),
    optimizer=OptimizerConfig(
        name="adam", lr=5e-5, weight_decay=0.0, backbone_lr_factor=0.2, pose_lr_factor=2.0, clip_norm=10.0
    ),
    schedule=ScheduleConfig(steps=40_000, name="step", milestones=(30_000,), gamma=0.1),
    # The published mean over scales, where ours are summed; the photometric loss is a mean already.
    weighting=WeightingConfig(weights={"semseg": 0.25, "depth": 1.0}),
    video=VideoConfig(name="monodepth2", options={"pose_weights": "timm"}),
    training=TrainingConfig(evaluate_every=0, checkpoint_every=1000, log_every=50),
    seed=42,
)

RECIPES = {"rooms-video": ROOMS, "cityscapes-densemtl-video": CITYSCAPES}
