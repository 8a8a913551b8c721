"""Check that source and target domain have the same classes."""

from collections.abc import Mapping
from itertools import zip_longest

from triptych.tasks import Task


def check_label_spaces(source: Mapping[str, Task], target: Mapping[str, Task]) -> None:
    """Raise `ValueError` naming each class that is not the same in both domains.

    Tasks that the target cannot score (an unlabelled folder) are not compared: their labels are not used.

    >>> from triptych.tasks import semseg
    >>> check_label_spaces({"semseg": semseg(["road", "sky"])}, {"semseg": semseg(["road", "tree"])})
    Traceback (most recent call last):
    ...
    ValueError: classes of task 'semseg' do not map: 1 is 'sky' in the source and 'tree' in the target. Give both \
datasets the same classes (data.options, adaptation.dataset_options).
    """
    problems = [
        f"classes of task '{name}' do not map: {'; '.join(different)}"
        for name, task in source.items()
        if name in target and (different := _differences(task.classes, target[name].classes))
    ]
    if problems:
        raise ValueError(
            f"{'. '.join(problems)}. Give both datasets the same classes (data.options, adaptation.dataset_options)."
        )


def _differences(source: tuple[str, ...], target: tuple[str, ...]) -> list[str]:
    pairs = enumerate(zip_longest(source, target))
    return [
        f"{index} is {_named(ours)} in the source and {_named(theirs)} in the target"
        for index, (ours, theirs) in pairs
        if ours != theirs
    ]


def _named(name: str | None) -> str:
    return "missing" if name is None else repr(name)
