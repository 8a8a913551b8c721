"""Metrics, usable without the rest of the library.

>>> import torch
>>> from triptych.metrics.depth import DepthMetric
>>> metric = DepthMetric()
>>> metric.update(torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 1.5))
>>> metric.compute()["rmse"]
0.5
"""
