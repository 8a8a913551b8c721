"""Prediction: a network on images of any size, its maps as files, and saved networks."""

from triptych.lookup import exports

__all__ = ["Predictor"]

__getattr__ = exports(__name__, {"Predictor": "predictor"})
