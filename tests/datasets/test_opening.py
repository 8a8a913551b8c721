"""Opening a dataset by its name, or by where it lies: what is asked for has to be there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from entries import own_entries

from triptych.__main__ import main
from triptych.data.base import DenseDataset
from triptych.datasets import DATASETS, open_dataset
from triptych.lookup import convert, require_kind
from triptych.tasks import depth, semseg
from triptych.types import Sample


@pytest.mark.parametrize("name", [name for name in own_entries(DATASETS) if DATASETS[name].needs_root])
def test_a_folder_that_is_left_out_is_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=f"dataset '{name}' needs its folder"):
        open_dataset(name)


@pytest.mark.parametrize("name", own_entries(DATASETS))
def test_an_unknown_option_is_named_with_those_that_are_known(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"dataset '{name}' has no option 'colour'; its options are .*tasks"):
        open_dataset(name, tmp_path, colour=1)


def test_tasks_of_a_dataset_that_has_no_such_option_are_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What video, mixtures and `data prepare` ask of any dataset."""

    class Bare(DenseDataset):
        name = "bare"

        def __init__(self, root: str | Path = "", *, split: str = "train") -> None:
            self.tasks = {"depth": depth(), "semseg": semseg(2)}

        def __len__(self) -> int:
            return 1

        def key(self, index: int) -> str:
            return "only"

        def __getitem__(self, index: int) -> Sample:
            targets = {"depth": torch.ones(1, 4, 6), "semseg": torch.ones(4, 6, dtype=torch.int64)}
            view = Sample(torch.zeros(3, 4, 6), targets, "only")
            return replace(view, neighbors=(view,))

    monkeypatch.setitem(DATASETS, "bare", Bare)
    whole, some = open_dataset("bare"), open_dataset("bare", tasks=["semseg"])
    assert list(some.tasks) == list(some[0].targets) == list(some[0].neighbors[0].targets) == ["semseg"]
    assert torch.equal(some[0].targets["semseg"], whole[0].targets["semseg"])
    with pytest.raises(ValueError, match="unknown task of bare 'normals'"):
        open_dataset("bare", tasks=["normals"])


@pytest.mark.parametrize(("option", "value", "kind"), [("views", "two", "a whole number"), ("size", 96, "a list")])
def test_raises_for_an_option_of_another_kind(option: str, value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"option {option} of dataset 'rooms' is {value!r}; expected {kind}."):
        open_dataset("rooms", **{option: value})


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, 1, True),
        (int, 1, 1.0),
        (float, 1, "1"),
        (bool, False, 0),
        (str, "", 1),
        (int | str, "a", 1.5),
        (str | None, None, 1),
        (str | Path, 1, None),  # more than simple kinds: everything is accepted
        (Sequence[int], (1, 2), "12"),
        (tuple[int, int], [1, 2], 1),
        (Mapping[str, int], {}, []),
    ],
)
def test_simple_kinds_are_told_apart(annotation: Any, good: Any, bad: Any) -> None:
    require_kind("x", good, annotation)
    if bad is not None:
        with pytest.raises(ValueError, match="x is "):
            require_kind("x", bad, annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (float | None, 1, 1.0),
        (float | int, 1, 1),
        (float | int, "1/4", 0.25),
        (float | str, "1/4", "1/4"),
        (Mapping[str, int], {"7": 1}, {"7": 1}),
        (tuple[str, ...] | int, ["a"], ("a",)),
    ],
)
def test_untyped_values_become_those_of_their_annotation(annotation: Any, value: Any, read: Any) -> None:
    found = convert(annotation, value, "x")
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize("verb", ["show", "doctor"])
def test_a_second_root_is_refused_where_the_folder_is_the_dataset(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("RGB", "GT/LABELS"):
        (tmp_path / place).mkdir(parents=True)
    assert main(["data", verb, str(tmp_path), "--root", "elsewhere"]) == 2
    assert "is the folder of synthia itself; leave root out" in capsys.readouterr().err
