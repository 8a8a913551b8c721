"""Scores that papers report for what the recipes train: theirs, not ours, to compare with under the same protocol,
which the recipe names and `triptych evaluate` scores by.

Those of NYUv2 are mIoU of segmentation, rmse of depth in metres, mean angle of normals in degrees and odsF of
boundaries; those of PASCAL-Context mIoU of segmentation and of human parts, saliency, mean angle and odsF. "Alone" are
single-task networks: the same recipe with one task (`--recipe.data.tasks depth`), on PASCAL-Context with ResNet-18
those of `pascal-single-*`, which have a schedule of their own.
"""

from dataclasses import dataclass

NYUV2 = ("semseg mIoU {}", "depth rmse {} m", "normals mean {} deg", "boundary odsF {}")
PASCAL = (
    "semseg mIoU {}",
    "human_parts mIoU {}",
    "saliency {}",
    "normals mean {} deg",
    "boundary odsF {}",
)

SURVEY = "Vandenhende et al. 2021, whose code keeps the best weights on the test images; protocol survey"
MTI_NET = "Vandenhende et al. 2020, whose code keeps the best weights on the test images; protocol survey"
ATRC = "Bruggemann et al. 2021; protocol atrc"
INVPT = "Ye and Xu 2022; protocol invpt"
REGULARIZER = "Li et al. 2024; protocol invpt"
SAK = "SAK, 2025; protocol invpt, but for boundaries, which another pipeline scores"
CVM = "as the CvM paper, 2026, quotes it; protocol invpt, but for boundaries, which another pipeline scores"
DENSEMTL = "Lopes et al. 2023; protocol densemtl"
QUOTED = "Lopes et al. 2023, as third parties quote it; protocol densemtl"


@dataclass(frozen=True)
class Published:
    """Scores of one network with the digits of the paper, in the order of `names`; `alone` are those of single-task
    networks.
    """

    by: str
    """Paper that reports them, and the protocol they are scored by (`data.protocol`)."""
    names: tuple[str, ...] = ()
    values: str = ""
    alone: str = ""
    note: str = ""

    def describe(self) -> str:
        """One line.

        >>> Published(INVPT, NYUV2, "53.56 0.5183").describe()
        "paper's: semseg mIoU 53.56, depth rmse 0.5183 m (Ye and Xu 2022; protocol invpt)"
        """
        scores = _list(self.names, self.values) or "none in public text"
        alone = f"; single tasks {_list(self.names, self.alone)}" if self.alone else ""
        note = f"; {self.note}" if self.note else ""
        return f"paper's: {scores}{alone} ({self.by}{note})"


def _list(names: tuple[str, ...], values: str) -> str:
    return ", ".join(name.format(value) for name, value in zip(names, values.split(), strict=False))


def _nyuv2(by: str, values: str, alone: str = "", note: str = "") -> Published:
    return Published(by, NYUV2, values, alone, note)


def _pascal(by: str, values: str, alone: str = "", note: str = "") -> Published:
    saliency = "saliency mIoU {}" if by.endswith("protocol survey") else "saliency maxF {}"
    return Published(by, tuple(saliency if name == "saliency {}" else name for name in PASCAL), values, alone, note)


def _none(by: str, note: str = "") -> Published:
    return Published(by, note=note)


_NO_RECIPE = "its recipe was not released; this is DenseMTL's"

PUBLISHED: dict[str, Published] = {
    "nyuv2-survey": _nyuv2(SURVEY, "44.4 0.587", alone="43.9 0.585"),
    "nyuv2-mtan": _nyuv2(SURVEY, "45.0 0.584"),
    "nyuv2-cross-stitch": _nyuv2(SURVEY, "44.2 0.570"),
    "nyuv2-nddr": _nyuv2(SURVEY, "44.2 0.573"),
    "nyuv2-survey-hrnet18": _nyuv2(MTI_NET, "32.09 0.668", alone="33.18 0.667"),
    "nyuv2-pad-net-hrnet18": _nyuv2(
        MTI_NET, "32.92 0.655", note="with normals alone beside 33.85, 0.658; with neither 32.80, 0.660"
    ),
    "nyuv2-mti-net-hrnet18": _nyuv2(
        MTI_NET, "37.49 0.607", note="with normals alone beside 36.22, 0.600; with neither 35.12, 0.620"
    ),
    "nyuv2-hrnet18": _nyuv2(ATRC, "36.35 0.6284 21.02 76.36", alone="38.02 0.6104 20.94 76.22"),
    "nyuv2-pad-net": _nyuv2(ATRC, "36.70 0.6264 20.85 76.50"),
    "nyuv2-pap": _nyuv2(ATRC, "36.72 0.6178 20.82 76.42", note="their reading of PAP"),
    "nyuv2-psd": _nyuv2(ATRC, "36.69 0.6246 20.87 76.42", note="their reading of PSD"),
    "nyuv2-mti-net-atrc": _nyuv2(ATRC, "36.61 0.6270 20.85 76.38", note="InvPT's paper prints this row as PAD-Net's"),
    "nyuv2-atrc": _nyuv2(ATRC, "38.90 0.6010 20.48 76.34"),
    "nyuv2-atrc-hrnet48": _nyuv2(ATRC, "46.33 0.5363 20.18 77.94"),
    "nyuv2-atrc-search": _none(ATRC, "it looks for the genotype that nyuv2-atrc is given"),
    "nyuv2-mti-net": _nyuv2(REGULARIZER, "45.97 0.5365 20.27 77.86"),
    "nyuv2-mti-net-3d": _nyuv2(REGULARIZER, "46.67 0.5210 19.93 78.10"),
    "nyuv2-invpt": _nyuv2(INVPT, "53.56 0.5183 19.04 78.10", note="the released weights: 53.65, 0.5083, 18.68, 77.80"),
    "nyuv2-invpt-3d": _nyuv2(REGULARIZER, "54.87 0.5006 18.55 78.30"),
    "nyuv2-invpt-cross-view-3d": Published(
        REGULARIZER,
        (*NYUV2[:2], NYUV2[3]),
        "54.99 0.4850 78.00",
        note="with the same frames and no second view 54.93, 0.4879, 77.90; how many frames is not said",
    ),
    "nyuv2-cvm": _nyuv2(
        CVM, "65.27 0.3836 15.35 81.69", note="with more video than is said; boundaries by another pipeline"
    ),
    "nyuv2-invpt-vit-b": _nyuv2(INVPT, "50.30 0.5367 19.00 77.60"),
    **{
        f"{place}-{trunk}": _none("no paper that we know with plain heads on this trunk; protocol invpt")
        for place in ("nyuv2", "pascal")
        for trunk in ("dinov2-s", "dinov2-b", "dinov2-l", "dinov3-s", "dinov3-b", "dinov3-l")
    },
    "nyuv2-dinov3-l": _nyuv2(CVM, "63.68 0.4113 15.53 80.10"),
    "nyuv2-vit": _nyuv2(SAK, "49.27 0.5823 19.92 75.88", alone="51.15 0.5792 19.77 77.35"),
    "nyuv2-densemtl": _nyuv2(QUOTED, "40.84", note="of which tasks is not said; delta_mtl of semseg and depth +5.8 %"),
    **{
        f"nyuv2-densemtl-single-{task}": _none(DENSEMTL, "what the delta_mtl of nyuv2-densemtl compares with")
        for task in ("semseg", "depth", "normals", "boundary")
    },
    "nyuv2-pad-net-plus": _none(DENSEMTL, _NO_RECIPE),
    "nyuv2-pad-net-densemtl": _none(DENSEMTL, _NO_RECIPE),
    "nyuv2-deeplab-densemtl": _none(DENSEMTL, _NO_RECIPE),
    "pascal-survey": _pascal(SURVEY, "63.8 58.6 65.1 14.9 69.2", alone="66.2 59.9 66.3 13.9 68.8"),
    **{
        f"pascal-single-{name.split()[0]}": Published(SURVEY, (name.replace("saliency {}", "saliency mIoU {}"),), score)
        for name, score in zip(PASCAL, ("66.2", "59.9", "66.3", "13.9", "68.8"), strict=True)
    },
    "pascal-mtan": _pascal(SURVEY, "63.7 58.9 65.4 14.8 69.6"),
    "pascal-cross-stitch": _pascal(SURVEY, "66.1 60.6 66.8 13.9 69.9"),
    "pascal-nddr": _pascal(SURVEY, "65.4 60.5 66.8 13.9 69.8"),
    "pascal-survey-hrnet18": _none(MTI_NET),
    "pascal-mti-net-hrnet18": _none(MTI_NET),
    "pascal-pad-net-hrnet18": _pascal(
        "as InvPT's paper tabulates it; protocol survey", "53.60 59.60 65.80 15.30 72.50"
    ),
    "pascal-hrnet18": _pascal(ATRC, "51.48 57.23 83.43 14.10 69.76", alone="62.23 61.66 85.08 13.69 73.06"),
    "pascal-mti-net-atrc": _pascal(ATRC, "61.70 60.18 84.78 14.23 70.80"),
    "pascal-atrc": _pascal(ATRC, "62.69 59.42 84.70 14.20 70.96"),
    "pascal-vit": _pascal(SAK, "76.76 65.26 84.39 13.98 70.37", alone="80.25 70.54 84.54 13.57 74.22"),
    "pascal-mti-net": _pascal(
        REGULARIZER, "61.70 60.18 84.78 14.23 70.80", note="recalled as of HRNet-48; they are ATRC's for HRNet-18"
    ),
    "pascal-mti-net-3d": _none(REGULARIZER),
    "pascal-invpt": _pascal(
        INVPT, "79.03 67.61 84.81 14.15 73.00", note="the released weights: 79.91, 68.54, 84.38, 13.90, 72.90"
    ),
    "pascal-invpt-3d": _pascal(REGULARIZER, "79.53 69.12 84.94 13.53 74.00"),
    "pascal-invpt-vit-b": _pascal(INVPT, "77.33 66.62 85.14 13.78 73.20"),
    "cityscapes-densemtl": _none(DENSEMTL, 'but for "MR 40.05", whose meaning is not said'),
    "cityscapes-densemtl-two": _none(DENSEMTL),
    "cityscapes-pad-net-plus": _none(DENSEMTL, _NO_RECIPE),
    "cityscapes-pad-net": _none(DENSEMTL, _NO_RECIPE),
    "cityscapes-deeplab": _none(DENSEMTL, _NO_RECIPE),
    **{f"cityscapes-single-{task}": _none(DENSEMTL) for task in ("semseg", "depth", "normals")},
    "cityscapes-densemtl-video": _none("Lopes et al. 2023; protocol densemtl-video"),
    "synthia-densemtl": Published(
        QUOTED,
        ("semseg mIoU {}", "normals mean {} deg"),
        "82.99 14.30",
        note="its normals are other labels than ours, and its degrees no angle",
    ),
    "vkitti2-densemtl": Published(QUOTED, ("semseg mIoU {}",), "97.53", note="of which tasks is not said"),
    "synthia-cityscapes": Published(
        f"{QUOTED}-video",
        ("semseg mIoU {}", "depth rmse_image_aligned {} m"),
        "37.93 11.66",
    ),
    "vkitti2-cityscapes": _none(f"{DENSEMTL}-video"),
}
"""Published scores by recipe; recipes of our own have no entry."""
