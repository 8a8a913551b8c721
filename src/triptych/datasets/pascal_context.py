"""PASCAL-Context with five tasks, as ASTMT (Maninis et al., CVPR 2019) put it together and the field uses it.

Semseg of PASCAL VOC (or of PASCAL-Context), human parts of PASCAL-Part, boundaries derived from PASCAL-Context's label
maps; **saliency and normals are the output of other networks**: scores tell how well these are imitated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from triptych import tasks
from triptych.data.arrays import read_array
from triptych.data.errors import DataError
from triptych.data.files import match_files
from triptych.datasets.in_files import IMAGE
from triptych.datasets.published import Published
from triptych.datasets.splitting import read_keys
from triptych.datasets.variants import AUTO, Variant
from triptych.labels.axes import Axes, axes_by_look
from triptych.labels.base import Encoding
from triptych.labels.classes import PartLabels
from triptych.labels.masks import SaliencyMask
from triptych.labels.normals import Normals
from triptych.labels.tables import decode_parts, has_normals, labels_of_21, labels_of_60, labels_of_459, read_names
from triptych.lookup import named_choice
from triptych.tasks import Task
from triptych.types import Camera

LabelMap = Integer[np.ndarray, "height width"]
Edges = Bool[np.ndarray, "height width"]


def training_edges(labels: LabelMap) -> Edges:
    """Boundaries for training as in published loaders: |Laplacian(labels)| > 0 (4 neighbors, border reflected), thin.

    Both sides of a change are marked before thinning, so lines lie on either side.
    """
    from triptych.metrics.contours import thin

    padded = np.pad(labels.astype(np.int64), 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return thin(around != 4 * padded[1:-1, 1:-1])


def evaluation_edges(labels: LabelMap) -> Edges:
    """Boundaries as SEISM scores against: labels that differ from the right, lower or lower right neighbor, thinned."""
    from triptych.metrics.contours import label_outlines, thin

    return thin(label_outlines(labels))


EDGES: dict[str, Callable[[LabelMap], Edges]] = {"training": training_edges, "evaluation": evaluation_edges}


@dataclass(frozen=True)
class LabelMapBoundary(Encoding):
    """Boundaries of a label map, by one of `EDGES`."""

    key: str = "LabelMap"
    edges: str = "training"

    def make_task(self, name: str) -> Task:
        return tasks.boundary()

    def decode(self, stored: np.ndarray, camera: Camera | None = None) -> Tensor:
        labels = self.pick(stored).astype(np.int64)
        return torch.from_numpy(EDGES[self.edges](labels).astype(np.float32)[None])


class DistilledSaliency(SaliencyMask):
    """Saliency masks predicted by a network, read as palette indices like in published pipelines."""

    @property
    def by_index(self) -> bool:
        return True


ARCHIVE = "PASCAL_MT.tgz (ASTMT's server) or PASCALContext.tar.gz (InvPT's and ATRC's README)"
CITATION = (
    "Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation in the Wild, CVPR 2014; Chen "
    "et al., Detect What You Can, CVPR 2014; Maninis et al., Attentive Single-Tasking of Multiple Tasks, CVPR 2019"
)
LICENCE = "images are Flickr pictures of PASCAL VOC under the Flickr terms; annotations for research"
ANNOTATION = "anno"
"""Entry of PASCAL-Part's files: structs with a mask for each part instead of numbers."""
BOUNDARY_LIST = "test_new"
MASKS = {"published": "only classes that NYUv2 knows", "stored": "wherever the file has a vector"}


@dataclass(frozen=True)
class PascalVariant(Variant):
    """`lists` is the folder of the lists of splits; `label_pictures` are the label maps of 60 classes, in archives that
    have only these.
    """

    lists: str = "ImageSets/Context"
    label_pictures: str = ""


VARIANTS = (
    PascalVariant(
        name="PASCAL_MT",
        title="archive of the five tasks, PASCAL_MT or PASCALContext: the same inside",
        download=ARCHIVE,
        markers=(
            *("JPEGImages/*.jpg", "ImageSets/Context/train.txt", "ImageSets/Context/val.txt", "semseg/*/*.png"),
            *("pascal-context/trainval/*.mat", "human_parts/*.mat", "normals_distill/*.png", "sal_distill/*.png"),
        ),
        tasks=("semseg", "human_parts", "saliency", "normals", "boundary"),
        counts={"train": 4998, "val": 5105, BOUNDARY_LIST: 2498},
        notes=(
            "Saliency and normals were made by networks, not by people.",
            "Published normals count only where NYUv2 too has a name for the class: this needs labels.txt.",
            "Published boundary scores use SEISM's list test_new, 2498 of the 5105 images.",
            "Images without a person have no human parts at all.",
            "Nobody wrote down where the components of its normals point; the reader goes by what scenes look like.",
        ),
        licence=LICENCE,
        citation=CITATION,
    ),
    PascalVariant(
        name="VOC2010",
        title="VOC2010 with label pictures of PASCAL-Context, as mmsegmentation prepares it: 60 classes only",
        download="VOC2010 trainval from the PASCAL VOC site and the PASCAL-Context annotations",
        markers=(
            *("JPEGImages/*.jpg", "SegmentationClassContext/*.png", "ImageSets/SegmentationContext/train.txt"),
            "ImageSets/SegmentationContext/val.txt",
        ),
        tasks=("semseg",),
        counts={"train": 4998, "val": 5105},
        notes=(
            "Not the version of multi-task papers: it has one task.",
            "Its indices count the classes by alphabet; colour pictures in VOC's colours follow the official list.",
        ),
        lists="ImageSets/SegmentationContext",
        label_pictures="SegmentationClassContext/{key}.png",
        licence=LICENCE,
        citation=CITATION,
    ),
)


class PascalContext(Published):
    """One split of PASCAL-Context: `train` (4998 images), `val` (5105), or any other list in `ImageSets/Context`.

    `test_new`, the 2498 validation images of published boundary scores, is a list of SEISM that archives do not have:
    put it there. `classes` is 21 (VOC) or 60 (PASCAL-Context, in the order of its list of 59; from the 459 of its label
    maps this needs `labels.txt` of PASCAL-Context in the root or in `labels_file`).

    `boundary` is the purpose of boundaries: `training`, or `evaluation`, as SEISM draws them (`triptych evaluate` reads
    these by itself where it scores by a protocol). `normals_mask` keeps normals as `published`, which needs
    `labels.txt` too, or as `stored`. Their axes are guessed by the look of scenes unless `normals_axes` gives them; the
    angular error of a network that is trained on them does not depend on the axes.

    Raises `ValueError` in one line naming missing files and the way out; `allow_missing` reads what is there.
    """

    name = "pascal-context"
    variants: ClassVar[dict[str, PascalVariant]] = {one.name: one for one in VARIANTS}
    downloads: ClassVar[dict[str, str]] = dict.fromkeys(VARIANTS[0].tasks, ARCHIVE)
    scored_options: ClassVar[dict[str, dict[str, str]]] = {"boundary": {"boundary": "evaluation"}}

    def __init__(
        self,
        root: str | Path,
        *,
        split: str = "train",
        tasks: Sequence[str] | None = None,
        variant: str = AUTO,
        classes: int = 0,
        labels_file: str | Path = "",
        boundary: str = "training",
        normals_mask: str = "published",
        normals_axes: Axes | None = None,
        allow_missing: bool = False,
    ) -> None:
        self._find(root, split, variant)
        named_choice("kind of boundary of pascal-context", boundary, dict(EDGES))
        named_choice("normals_mask of pascal-context", normals_mask, MASKS)
        pictures = self.variant.label_pictures
        self.classes = named_choice(
            "number of classes of pascal-context", str(classes or (60 if pictures else 21)), {"21": 21, "60": 60}
        )
        chosen = self.variant.tasks if tasks is None else tuple(tasks)
        self.labels_file = Path(labels_file) if labels_file else None
        keys = self._read_list(split)
        listing = {IMAGE: match_files(self.root, "JPEGImages/{key}.jpg")}
        self.normals_axes, self.normals_table = normals_axes, np.zeros(0, bool)
        if pictures:
            if self.classes != 60:
                raise DataError(f"classes is {self.classes}, but {self.root} has 60", f"the 21 of VOC are in {ARCHIVE}")
            listing["semseg"] = match_files(self.root, pictures)
            encodings: dict[str, Encoding] = {"semseg": labels_of_60()}
        else:
            listing |= self._list_labels()
            encodings = {
                "semseg": labels_of_21() if self.classes == 21 else labels_of_459(self._read_names("60 classes need")),
                "human_parts": PartLabels(key=ANNOTATION),
                # These two are predictions of networks; some differ in size from their image.
                "saliency": DistilledSaliency(threshold=128, resize=True),
                "normals": Normals(resize=True),
                "boundary": LabelMapBoundary(edges=boundary),
            }
            if "normals" in chosen:
                self.normals_axes = normals_axes or axes_by_look(list(listing["normals"].values()))
                encodings["normals"] = Normals(axes=self.normals_axes, resize=True)
                if normals_mask == "published":
                    self.normals_table = has_normals(self._read_names("the published mask of normals needs"))
        super().__init__(
            keys, split=split, listing=listing, encodings=encodings, tasks=chosen, allow_missing=allow_missing
        )

    def files(self, index: int) -> dict[str, Path]:
        """The files of a sample; where normals are masked, also the label map that boundaries are derived from."""
        found, key = super().files(index), self.keys[index]
        if "normals" in found and len(self.normals_table) and key in self.listing["boundary"]:
            found["boundary"] = self.listing["boundary"][key]
        return found

    def inputs(self) -> dict[str, object]:
        """Inputs with the classes that have normals."""
        return super().inputs() | {"normals_table": np.flatnonzero(self.normals_table).tolist()}

    def stored(self, name: str, key: str) -> np.ndarray | None:
        return None if self.encodings[name].key == ANNOTATION else super().stored(name, key)

    def fingerprint(self) -> dict[str, object]:
        """Fingerprint with the variant, and the options of normals and boundaries."""
        boundary = self.encodings.get("boundary")
        return super().fingerprint() | {
            "variant": self.variant.name,
            "boundary": boundary.edges if isinstance(boundary, LabelMapBoundary) else "",
            "normals_mask": "published" if len(self.normals_table) else "stored",
            "normals_axes": self.normals_axes,
        }

    def _list_labels(self) -> dict[str, dict[str, Path]]:
        maps = match_files(self.root, "pascal-context/trainval/{key}.mat")
        semseg = {
            **match_files(self.root, "semseg/pascal-context/{key}.png"),
            **match_files(self.root, "semseg/VOC12/{key}.png"),
        }
        return {
            "semseg": semseg if self.classes == 21 else maps,
            "human_parts": match_files(self.root, "human_parts/{key}.mat"),
            "saliency": match_files(self.root, "sal_distill/{key}.png"),
            "normals": match_files(self.root, "normals_distill/{key}.png"),
            "boundary": maps,
        }

    def _read_list(self, split: str) -> list[str]:
        folder = self.root / self.variant.lists
        lists = {path.stem: path for path in sorted(folder.glob("*.txt"))}
        if split == BOUNDARY_LIST and split not in lists:
            raise DataError(
                f"split '{split}' is SEISM's list of the 2498 images that published boundary scores use",
                f"archives do not have it: put {split}.txt, one name per line, into {folder}",
            )
        return read_keys(named_choice(f"split of {self.name}", split, lists))

    def _read_names(self, need: str) -> list[str]:
        """Names of the 459 classes; `ValueError` that says who `need`s them."""
        places = [self.root / "labels.txt", self.root / "pascal-context/labels.txt"]
        path = self.labels_file or next((place for place in places if place.is_file()), None)
        if path is None or not path.is_file():
            missing = f"{path} does not exist" if path else f"{places[0]} does not exist"
            raise DataError(
                f"{need} labels.txt, the 459 class names of the PASCAL-Context page, and {missing}",
                "put it there or name it in labels_file (normals_mask='stored' and classes=21 do without)",
            )
        return read_names(path)

    def _read_target(self, name: str, key: str, size: tuple[int, int], camera: Camera | None) -> Tensor:
        path, encoding = self.listing[name].get(key), self.encodings[name]
        if path is not None and encoding.key == ANNOTATION:
            stored = read_array(path, key=encoding.key)
            try:
                return decode_parts(stored, size)
            except ValueError as error:
                raise DataError.about(f"human parts {path}", error) from error
        target = super()._read_target(name, key, size, camera)
        if isinstance(encoding, Normals) and len(self.normals_table):
            return self._mask_normals(target, self.listing["boundary"].get(key))
        return target

    def _mask_normals(self, normals: Tensor, path: Path | None) -> Tensor:
        """Keep normals at pixels of classes that NYUv2 names too; none without a label map."""
        if path is None:
            return torch.full_like(normals, torch.nan)
        labels = np.asarray(read_array(path, key="LabelMap")).astype(np.int64)
        if labels.shape != normals.shape[1:] or labels.min() < 0 or labels.max() >= len(self.normals_table):
            raise DataError(
                f"label map {path} is {labels.shape} with values {labels.min()} to {labels.max()}",
                f"expected {tuple(normals.shape[1:])} and 0 to {len(self.normals_table) - 1}",
            )
        return normals.masked_fill(~torch.from_numpy(self.normals_table[labels]), torch.nan)
