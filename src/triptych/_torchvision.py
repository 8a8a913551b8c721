"""Let timm and torchmetrics import beside a torchvision whose compiled part cannot load.

PyPI's torchvision is built for CUDA. Beside a CPU build of torch its compiled library fails to load, `torchvision::nms`
and `torchvision::roi_align` are then never declared, and `import torchvision` raises "operator torchvision::nms does
not exist", which takes timm and torchmetrics along. Declaring the schemas is enough: nothing here calls them.
"""

import importlib.util
from pathlib import Path

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)

_library = None  # the schemas live as long as this object


def declare_missing_operators() -> bool:
    """Declare torchvision's import-time operators if its compiled library cannot load.

    Returns whether anything was declared: `False` where torchvision is absent or works.

    >>> declare_missing_operators() in (True, False)
    True
    """
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or spec.origin is None:
        return False
    import torch

    if hasattr(torch.ops.torchvision, "nms"):
        return False
    for file in sorted(Path(spec.origin).parent.glob("_C*.so")) + sorted(Path(spec.origin).parent.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(file))
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    _library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        _library.define(schema)
    return True
