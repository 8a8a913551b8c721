"""The forms in which NYU Depth v2 is handed around."""

from dataclasses import dataclass
from typing import Any

from triptych.datasets.variants import Variant

OFFICIAL = "official"
MTAN = "MTAN"
MAT = "nyu_depth_v2_labeled.mat"
LISTS = ("gt_sets/train.txt", "gt_sets/val.txt")
FULL = (480, 640)
CROPPED = (425, 560)

VAL_IS_TEST = "Its val.txt is the official test split: that is split='test' here; 'val' is held out from training."
AXES = "Nobody wrote down where the components of its normals point; the reader measures it by the depth."
EDGES = "How its edges were made is not documented."
COMMON: dict[str, Any] = {
    "counts": {"train": 715, "val": 80, "trainval": 795, "test": 654},
    "licence": "none stated beyond the request to cite the paper; research use",
    "citation": "Silberman et al., Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012",
}
TASKS = ("semseg", "depth", "normals", "boundary")


@dataclass(frozen=True)
class NYUv2Variant(Variant):
    """`classes` is the number of classes by default; `raw_depth` says whether it has that, and `counts_frames` whether
    the names of its files count the official lists instead of naming the frames.
    """

    classes: int = 40
    raw_depth: bool = False
    counts_frames: bool = False


VARIANTS = (
    NYUv2Variant(
        name="NYUD_MT",
        title="archive of the multi-task survey and of ATRC's code: JPEG images, arrays",
        download="NYUD_MT.tgz, named in the README of the survey's repository Multi-Task-Learning-PyTorch",
        markers=("images/*.jpg", "segmentation/*.png", "depth/*.npy", "normals/*.npy", "edge/*.npy", *LISTS),
        tasks=TASKS,
        sizes=(FULL, CROPPED),
        notes=(VAL_IS_TEST, AXES, EDGES),
        **COMMON,
    ),
    NYUv2Variant(
        name="NYUDv2",
        title="archive of ATRC's server and of the InvPT line: PNG images, normals and edges",
        download="NYUDv2.tar.gz, named in the README of InvPT (Multi-Task-Transformer) and of ATRC",
        markers=("images/*.png", "segmentation/*.png", "depth/*.npy", "normals/*.png", "edge/*.png", *LISTS),
        tasks=TASKS,
        sizes=(CROPPED, FULL),
        notes=(VAL_IS_TEST, AXES, EDGES, "Normals are quantised to 8 bits."),
        **COMMON,
    ),
    NYUv2Variant(
        name="NYUD_MT_ASTMT",
        title="older archive of the name NYUD_MT: labels and depth as .mat, normals as JPEG",
        download="NYUD_MT.tgz of ASTMT's server",
        markers=("images/*.jpg", "segmentation/*.mat", "depth/*.mat", "normals/*.jpg", "edge/*.png", *LISTS),
        tasks=TASKS,
        sizes=(FULL, CROPPED),
        notes=(VAL_IS_TEST, AXES, EDGES, "Normals went through JPEG: do not compare with numbers of other archives."),
        **COMMON,
    ),
    NYUv2Variant(
        name=MTAN,
        title="288x384 arrays with 13 classes of the MTAN line",
        download="the preprocessed NYUv2 of the README of mtan (folders train and val)",
        markers=tuple(
            f"{part}/{kind}/*.npy" for part in ("train", "val") for kind in ("image", "label", "depth", "normal")
        ),
        tasks=TASKS,
        sizes=((288, 384),),
        notes=(
            VAL_IS_TEST,
            AXES,
            "Its authors lost the code that made it.",
            "Files are numbered from 0; that they follow the official lists in order is taken for granted.",
            "It has no boundaries; they are derived from the 13 classes.",
        ),
        classes=13,
        counts_frames=True,
        **COMMON,
    ),
    NYUv2Variant(
        name=OFFICIAL,
        title="the official file of the 1449 labelled frames",
        download=f"{MAT}, 'Labeled dataset' of the NYU Depth V2 page",
        markers=(MAT,),
        tasks=TASKS,
        sizes=(FULL,),
        notes=(
            "Depth has its holes filled; raw_depth=True gives the sensor's.",
            "It has no normals and no boundaries: they are derived from depth and from the chosen classes.",
            "Frames are not cropped: they have a white border.",
        ),
        raw_depth=True,
        **COMMON,
    ),
)
