"""The gain of one run over another with the same seed, in points, and contrasts between arms."""

from collections.abc import Mapping, Sequence

from lab.study import Scores

HIGHER = {"semseg": True, "normals": False, "depth": False, "boundary": True, "human_parts": True, "saliency": True}
"""Whether the primary number of a task of rooms is better when higher: mIoU, degrees, RMSE, odsF, mIoU, maxF."""
FOUR = ("semseg", "depth", "normals", "boundary")
"""NYUv2's tasks."""
FIVE = ("semseg", "human_parts", "saliency", "normals", "boundary")
"""PASCAL-Context's."""


def gain(found: Scores, reference: Scores, tasks: Sequence[str]) -> float:
    """Mean over `tasks` of the signed relative difference, percent: positive is better.

    >>> gain({"semseg": 0.44, "depth": 0.45}, {"semseg": 0.40, "depth": 0.50}, ("semseg", "depth"))
    10.0
    """
    shares = [(1 if HIGHER[name] else -1) * (found[name] / reference[name] - 1) for name in tasks]
    return round(100 * sum(shares) / len(shares), 10)


def differences(
    scores: Mapping[str, Mapping[int, Scores]], one: str, other: str, tasks: Sequence[str], *, alone: str
) -> list[float]:
    """Of every seed that all three arms have: the gain of `one` over the network `alone`, less that of `other`."""
    seeds = [seed for seed in scores[one] if seed in scores[other] and seed in scores[alone]]
    return [
        gain(scores[one][seed], scores[alone][seed], tasks) - gain(scores[other][seed], scores[alone][seed], tasks)
        for seed in seeds
    ]
