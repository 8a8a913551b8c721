"""A spread of samples: evenly placed, read like the whole, named in the fingerprint."""

import pytest
import torch

from triptych.data.base import DenseDataset
from triptych.data.subset import spread
from triptych.tasks import depth
from triptych.types import Sample


class Numbers(DenseDataset):
    """Sample i is an image full of i."""

    name = "numbers"

    def __init__(self, count: int) -> None:
        self.count, self.tasks = count, {"depth": depth()}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.full((3, 2, 2), float(index)), {"depth": torch.full((1, 2, 2), float(index))}, str(index))

    def key(self, index: int) -> str:
        return str(index)

    def fingerprint(self) -> dict[str, object]:
        return {"name": self.name, "samples": self.count}


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 3, 6]), (10, list(range(10)))])
def test_samples_are_spread_evenly(count: int, expected: list[int]) -> None:
    some = spread(Numbers(10), count)
    assert [some.key(i) for i in range(len(some))] == [str(i) for i in expected]
    assert [some[i].image.unique().item() for i in range(count)] == expected


def test_another_choice_is_another_fingerprint() -> None:
    whole = Numbers(10)
    prints = [spread(whole, count).fingerprint() for count in (2, 3)]
    assert prints[0] != prints[1]
    assert prints[0]["of"] == 10
    assert spread(whole, 3).fingerprint() == prints[1]


@pytest.mark.parametrize("count", [0, -1, 11])
def test_more_than_there_are_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"{count} samples were asked for, and numbers has 10"):
        spread(Numbers(10), count)
