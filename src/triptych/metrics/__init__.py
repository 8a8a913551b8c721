"""Metrics, usable without the rest of the library.

>>> import torch
>>> from triptych.metrics import DepthMetric
>>> metric = DepthMetric()
>>> metric.update(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 1.5))
>>> metric.compute()["rmse"]
0.5
"""

from triptych.lookup import exports

_HOMES = {
    "Metric": "base",
    "SegmentationMetric": "segmentation",
    "SaliencyMetric": "saliency",
    "NormalsMetric": "normals",
    "PublishedDenseMTLNormalsMetric": "normals",
    "DepthMetric": "depth",
    "AlignedDepthMetric": "depth",
    "BoundaryMetric": "boundary",
    "ValuesMetric": "values",
    "ExplainedMetric": "values",
    "AngleMetric": "values",
    "bootstrap_difference": "bootstrap",
    "sum_groups": "bootstrap",
    "delta_mtl": "delta",
    "match_boundaries": "matching",
    "thin": "contours",
}

__all__ = [*_HOMES]

# Imported when they are first used: compiled loops and torchmetrics take a moment to load.
__getattr__ = exports(__name__, _HOMES)
