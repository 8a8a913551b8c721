"""The relative multi-task gain."""

from collections.abc import Mapping

from triptych.metrics.base import Number


def delta_mtl(
    multi_task: Mapping[str, Number], single_task: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> Number:
    """Mean relative gain over single-task models, in percent; positive is better.

    100/T sum_t s_t (M_t - S_t) / |S_t| with s_t = -1 where lower is better (Maninis et al. 2019; Vandenhende et al.
    2021). The tasks are those of `multi_task`, whose numbers may be arrays; the single-task models should have the same
    backbone and recipe. Raises `ValueError` where a reference is missing or 0.

    >>> round(delta_mtl({"mIoU": 44.0, "rmse": 0.5}, {"mIoU": 40.0, "rmse": 0.5}, {"mIoU": True, "rmse": False}), 6)
    5.0
    """
    if not multi_task:
        raise ValueError("multi_task is empty; pass the primary number of each task.")
    gains: list[Number] = []
    for name, value in multi_task.items():
        if name not in single_task or name not in higher_is_better:
            raise ValueError(f"no single-task reference for {name!r}; there are {', '.join(single_task) or 'none'}.")
        if single_task[name] == 0:
            raise ValueError(f"the single-task reference of {name!r} is 0; a relative gain needs another one.")
        gain = (value - single_task[name]) / abs(single_task[name])
        gains.append(gain if higher_is_better[name] else -gain)
    return 100 * sum(gains[1:], start=gains[0]) / len(gains)
