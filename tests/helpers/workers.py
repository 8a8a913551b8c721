"""Data workers that die in tests."""

import pytest
from torch.utils.data import dataloader


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth of a second whether the workers live, where torch looks every five seconds."""
    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))
