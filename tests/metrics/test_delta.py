"""The relative multi-task gain against published tables."""

import pytest
from published_metrics import expected

from triptych.metrics.delta import delta_mtl
from triptych.report.tables import relative_gain

PASCAL = {"mIoU": True, "parts": True, "maxF": True, "mErr": False, "odsF": True}
NYUV2 = {"mIoU": True, "rmse": False, "mErr": False, "odsF": True}


@pytest.mark.parametrize(
    ("directions", "single", "multi", "published"),
    [
        (PASCAL, (80.25, 70.54, 84.54, 13.57, 74.22), (77.33, 66.62, 85.14, 13.78, 73.20), -2.28),  # InvPT, ViT-B
        (NYUV2, (51.15, 0.5792, 19.77, 77.35), (59.93, 0.4942, 17.60, 78.60), 11.11),  # SAK, ViT-B
    ],
)
def test_published_tables(
    directions: dict[str, bool], single: tuple[float, ...], multi: tuple[float, ...], published: float
) -> None:
    gain = delta_mtl(dict(zip(directions, multi, strict=True)), dict(zip(directions, single, strict=True)), directions)
    assert round(gain, 2) == published


@pytest.mark.parametrize("name", ["delta_m", "delta_m_pascal"])
def test_published_survey(name: str) -> None:
    entry = expected("survey")[name]
    multi, single = (
        {task: value for task, numbers in entry[key].items() for value in numbers.values()}
        for key in ("method", "single_task")
    )
    directions = {task: task not in ("depth", "normals") for task in multi}
    assert delta_mtl(multi, single, directions) == pytest.approx(entry["values"]["delta_m_percent"], rel=1e-9)


def test_published_densemtl() -> None:
    entry = expected("densemtl")["delta"]
    directions = {task: not lower for task, lower in entry["lower_is_better"].items()}
    gain = delta_mtl(entry["method"], entry["single_task"], directions)
    assert gain == pytest.approx(entry["values"]["delta_percent"], rel=1e-6)


@pytest.mark.parametrize(("better", "worse", "higher"), [(0.5, -0.5, True), (-0.01, -5.0, True), (0.2, 0.4, False)])
def test_an_improvement_is_never_negative(better: float, worse: float, higher: bool) -> None:
    """Also where a number, such as R2, is below 0; the page says the same."""
    for value, reference, sign in ((better, worse, 1), (worse, better, -1)):
        gain = delta_mtl({"a": value}, {"a": reference}, {"a": higher})
        assert gain * sign > 0
        assert gain == pytest.approx(100 * relative_gain(value, reference, higher))


def test_errors_name_the_task() -> None:
    with pytest.raises(ValueError, match="reference for 'rmse'"):
        delta_mtl({"rmse": 1.0}, {"mIoU": 1.0}, {"rmse": False})
    with pytest.raises(ValueError, match="'rmse' is 0"):
        delta_mtl({"rmse": 1.0}, {"rmse": 0.0}, {"rmse": False})
    with pytest.raises(ValueError, match="multi_task is empty"):
        delta_mtl({}, {}, {})
