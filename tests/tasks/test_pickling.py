"""Tasks go to worker processes."""

import pickle

import pytest

from triptych.metrics.values import VALUES_METRICS
from triptych.tasks import regression


@pytest.mark.parametrize("metric", sorted(VALUES_METRICS))
def test_a_quantity_by_every_metric_can_be_sent(metric: str) -> None:
    task = regression("albedo", channels=3, metric=metric)
    sent = pickle.loads(pickle.dumps(task))
    assert type(sent.metric()) is type(task.metric())
