"""Turns of the sources of a mixture: the share of each in the training samples, and which sample comes next."""

from collections.abc import Mapping, Sequence

import numpy as np

from triptych.data.base import Draw
from triptych.data.errors import DataError
from triptych.datasets.mixed_sources import Source
from triptych.lookup import named_choice
from triptych.tasks import Task


def take_turns(shares: np.ndarray, length: int) -> np.ndarray:
    """Order of sources in an epoch of `length` samples; a row per place: source, its turns before, its turns in all.

    Turns in all are the shares rounded by the largest remainder, at least one, and spread evenly.

    >>> take_turns(np.array([0.25, 0.75]), 4).tolist()
    [[1, 0, 3], [0, 0, 1], [1, 1, 3], [1, 2, 3]]
    >>> take_turns(np.array([0.01, 0.99]), 4).tolist() == take_turns(np.array([0.25, 0.75]), 4).tolist()
    True
    """
    exact = shares * length
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: length - counts.sum()]] += 1
    for number in np.flatnonzero((counts == 0) & (shares > 0)):
        counts[counts.argmax()] -= 1
        counts[number] = 1
    numbers = np.repeat(np.arange(len(counts)), counts)
    turns = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((turns + 0.5) / counts[numbers], kind="stable")
    return np.stack([numbers[order], turns[order], counts[numbers[order]]], axis=1)


def draw_in_turns(
    turns: np.ndarray, draws: Sequence[Draw], places: Sequence[np.ndarray], seed: int, place: int
) -> tuple[int, int]:
    """Draw a sample (`DenseDataset.draw`) by `take_turns`: `places` are indices of each source's samples, `draws` their
    streams.
    """
    epoch, rest = divmod(place, len(turns))
    number, turn, count = turns[rest].tolist()
    # The source's own stream continues over the epochs of the mixture.
    own_epoch, own = draws[number](seed * 31 + number, epoch * count + turn)
    return own_epoch, int(places[number][own])


def share_out(sources: Sequence[Source], sampling: str, tasks: Mapping[str, Task]) -> np.ndarray:
    """Share of each source in the training samples."""
    weights = {"tasks": _by_tasks, "images": _by_images}
    shares = np.array([source.share for source in sources])
    if not shares.any():
        shares = named_choice("sampling of the mixture", sampling, weights)(sources, tasks)
    elif not (shares > 0).all():
        missing = ", ".join(source.name for source in sources if source.share <= 0)
        raise DataError(f"some sources have a share and {missing} not", "give all of them one, or none")
    return shares / shares.sum()


def _by_images(sources: Sequence[Source], tasks: Mapping[str, Task]) -> np.ndarray:
    return np.array([float(len(source.dataset)) for source in sources])


def _by_tasks(sources: Sequence[Source], tasks: Mapping[str, Task]) -> np.ndarray:
    """Each task has one vote, divided among the sources that have it in proportion to their sizes."""
    votes = np.zeros(len(sources)) if tasks else _by_images(sources, tasks)
    for name in tasks:
        images = np.array([len(source.dataset) if name in source.tasks else 0 for source in sources])
        votes += images / images.sum()
    return votes
