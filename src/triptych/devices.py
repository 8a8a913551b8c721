"""Choosing a device by name, and what a process needs on it, once, at the edge."""

import ctypes
import sys

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


def keep_freed_memory() -> bool:
    """Let this process use again what it frees, instead of handing it back; False where the C library is not glibc.

    glibc gives every large buffer back to the system, which fills the next one with zeros, page by page: up to a fifth
    of a training step on a CPU. Peak memory stays as it is where batches have one size. For the whole process, and for
    good (`mallopt(3)`: M_MMAP_MAX = 0, M_TRIM_THRESHOLD = -1).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all([mallopt(-4, 0), mallopt(-1, -1)])
