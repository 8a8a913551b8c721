"""Settings of the whole process, or of one object, that several threads need changed at once."""

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from threading import Lock
from typing import Any


def shared(context: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[None]]:
    """Let uses of a context with equal arguments overlap: the first to enter changes what it changes, and the last to
    leave puts that back.

    Each by itself would keep what another has changed, and put that back for good.

    >>> limit = [7]
    >>> @shared
    ... @contextmanager
    ... def unlimited():
    ...     before, limit[0] = limit[0], None
    ...     yield
    ...     limit[0] = before
    >>> one, other = unlimited(), unlimited()
    >>> for each in (one, other):
    ...     each.__enter__()
    >>> for each in (one, other):
    ...     _ = each.__exit__(None, None, None)
    ...     print(limit)
    [None]
    [7]
    """
    lock = Lock()
    inside: dict[tuple[Hashable, ...], tuple[int, ExitStack]] = {}

    @wraps(context)
    @contextmanager
    def entered(*arguments: Hashable) -> Iterator[None]:
        with lock:
            users, change = inside.get(arguments, (0, ExitStack()))
            if not users:
                change.enter_context(context(*arguments))
            inside[arguments] = users + 1, change
        try:
            yield
        finally:
            with lock:
                users, change = inside.pop(arguments)
                if users > 1:
                    inside[arguments] = users - 1, change
                else:
                    change.close()

    def renew() -> None:
        nonlocal lock
        lock = Lock()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)  # a thread that does not live on in a child may have held it
    return entered
