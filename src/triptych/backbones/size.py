"""Refuse networks that grow far beyond their stored size, while they are built."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook as watch_buffers
from torch.nn.modules.module import register_module_parameter_registration_hook as watch_parameters

FACTOR, SLACK = 4, 100_000_000
"""A network may hold more while it is built: a trunk's classifier goes, buffers are not stored."""
_BY_NAME = ContextVar("by_name", default=False)


@contextmanager
def built_by_name() -> Iterator[None]:
    """Do not count the modules that are built within this context: timm builds the network of a name whole, and a trunk
    may keep a part of it.
    """
    token = _BY_NAME.set(True)
    try:
        yield
    finally:
        _BY_NAME.reset(token)


@contextmanager
def built_for(count: int) -> Iterator[None]:
    """Refuse to build more than `FACTOR * count + SLACK` numbers within this context, where `count` are stored.

    Raises `ValueError` as soon as a tensor exceeds that, which is before its memory is written to: until then the
    system has not given it.

    >>> with built_for(9):
    ...     _ = nn.Linear(3, 2)
    >>> with built_for(9):
    ...     _ = nn.Linear(20_000, 20_000)
    Traceback (most recent call last):
    ...
    ValueError: it asks for a network of at least 400000000 numbers, where 9 are stored.
    """
    found, builder = 0, threading.get_ident()

    def add(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal found
        if value is None or threading.get_ident() != builder or _BY_NAME.get():
            return
        found += value.numel()
        if found > FACTOR * count + SLACK:
            raise ValueError(f"it asks for a network of at least {found} numbers, where {count} are stored.")

    handles = [watch(add) for watch in (watch_parameters, watch_buffers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
