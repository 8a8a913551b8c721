"""Choosing a device by name, once, at the edge."""

import torch


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """`auto` is the first of CUDA, MPS and CPU that is there; any other name is checked.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    device = torch.device(name)
    if not available.get(device.type, True):
        raise ValueError(f"device is '{device}', but torch {torch.__version__} sees none; use 'auto' or 'cpu'.")
    return device
