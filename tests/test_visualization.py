"""Pictures: colours shared where values are, errors against brute force, legends that name what is seen."""

import numpy as np
import pytest

from triptych.drawing.panels import (
    NO_ERROR_VALUE,
    Cell,
    color_error,
    color_maps,
    contact_sheet,
    describe_colors,
    describe_error,
    draw_panel,
    error_limit,
    overlay_map,
)
from triptych.tasks import Task, boundary, depth, human_parts, normals, regression, saliency, semseg
from triptych.tasks.error_maps import ANGLE, DISTANCE, PROBABILITY, WRONG_CLASS, measure_absolute, measure_angle

TASKS = {
    task.name: task
    for task in (semseg(["wall", "floor", "bed"]), human_parts(), saliency(), normals(), depth(), boundary())
}
SIZE = (24, 36)


def random_maps(seed=0):
    """A prediction and a partly invalid target for every task."""
    generator = np.random.default_rng(seed)
    predictions, targets = {}, {}
    for name, task in TASKS.items():
        targets[name] = task.invalid_target(SIZE).numpy().copy()
        channels = task.target_channels
        if channels is None:
            targets[name][4:] = generator.integers(0, len(task.classes), (20, 36))
        else:
            targets[name][:, 4:] = generator.uniform(0.5, 1, (channels, 20, 36))
        predictions[name] = generator.uniform(0.5, 1, (channels or 1, *SIZE)).astype(np.float32)
        if name in ("semseg", "human_parts"):
            predictions[name] = generator.integers(0, len(task.classes), SIZE)
    for maps in (predictions, targets):
        maps["normals"] = maps["normals"] / np.linalg.norm(maps["normals"], axis=0)
    return predictions, targets


@pytest.mark.parametrize("name", TASKS)
def test_equal_values_look_equal_in_target_and_prediction(name):
    predictions, targets = random_maps()
    target, prediction = targets[name], predictions[name].copy()
    prediction[..., 10:, :18] = target[..., 10:, :18]
    shown_target, shown_prediction = color_maps(TASKS[name], [target, prediction])
    assert shown_target.shape == shown_prediction.shape == (*SIZE, 3)
    np.testing.assert_array_equal(shown_target[10:, :18], shown_prediction[10:, :18])
    assert (shown_target != shown_prediction).any()


@pytest.mark.parametrize("name", TASKS)
def test_errors_equal_brute_force(name):
    predictions, targets = random_maps()
    prediction, target = predictions[name], targets[name]
    error = TASKS[name].error.measure(prediction, target)
    assert error.shape == SIZE
    assert np.isnan(error[:4]).all()  # no target there
    for row, column in [(4, 0), (11, 7), (23, 35)]:
        said, true = prediction[..., row, column].ravel(), target[..., row, column].ravel()
        expected = {
            "wrong class": lambda said=said, true=true: float(said[0] != true[0]),
            "absolute error": lambda said=said, true=true: abs(float(said[0]) - float(true[0])),
            "angular error": lambda said=said, true=true: np.degrees(np.arccos(min(1.0, float(said @ true)))),
        }[TASKS[name].error.label]()
        assert error[row, column] == pytest.approx(expected, abs=2e-2 if name == "normals" else 1e-6)


def test_errors_of_tasks_are_what_they_should_be():
    kinds = {name: task.error for name, task in TASKS.items()}
    assert kinds == {
        "semseg": WRONG_CLASS,
        "human_parts": WRONG_CLASS,
        "saliency": PROBABILITY,
        "normals": ANGLE,
        "depth": DISTANCE,
        "boundary": PROBABILITY,
    }
    assert measure_angle(
        np.array([0, 0, 1.0]).reshape(3, 1, 1), np.array([0, 1.0, 1]).reshape(3, 1, 1) / 2**0.5
    ).item() == pytest.approx(45)
    opposite = np.array([0, 0, 1.0]).reshape(3, 1, 1), np.array([0, 0, -1.0]).reshape(3, 1, 1)
    assert measure_angle(*opposite).item() == pytest.approx(180)
    assert measure_absolute(np.full((1, 1, 1), 3.5), np.full((1, 1, 1), 2.0)).item() == 1.5


def test_error_colours_grow_brighter_and_mark_the_unknown():
    shown = color_error(np.array([[0.0, 0.25, 0.5, 0.75, 1.0, 7.0, np.nan]]), limit=1.0)[0].astype(int)
    brightness = shown[:5] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 10).all()
    np.testing.assert_array_equal(shown[4], shown[5])
    assert tuple(shown[6]) == NO_ERROR_VALUE


def test_error_limits():
    assert error_limit(WRONG_CLASS, [np.zeros((2, 2))]) == 1
    assert error_limit(DISTANCE, [np.full((5, 5), 0.1234)]) == pytest.approx(0.13)
    assert error_limit(DISTANCE, [np.full((5, 5), np.nan)]) > 0


def test_legends_name_what_is_seen():
    labels = np.array([[1, 1, 1, 0, 255]])
    legend = describe_colors(TASKS["semseg"], [labels])
    assert [name for name, _ in legend.swatches] == ["floor", "wall", "no label"]
    shown = color_maps(TASKS["semseg"], [labels])[0]
    assert [list(color) for _, color in legend.swatches] == [shown[0, i].tolist() for i in (0, 3, 4)]
    directions = dict(describe_colors(TASKS["normals"], [np.zeros((3, 2, 2))]).swatches)
    towards = color_maps(TASKS["normals"], [np.array([0.0, 0, -1]).reshape(3, 1, 1)])[0][0, 0]
    assert directions["to the camera"] == tuple(towards)
    metres = np.linspace(1, 5, 101).reshape(1, 1, 101)
    legend = describe_colors(TASKS["depth"], [metres])
    assert (legend.low, legend.high) == ("1.1 m", "4.9 m")
    # The ends and the middle of the bar have the colours of the ends and the middle of the range.
    shown = color_maps(TASKS["depth"], [metres])[0]
    middle = legend.bar.shape[1] // 2
    np.testing.assert_allclose(legend.bar[0, [0, middle, -1]].astype(int), shown[0, [2, 50, 98]], atol=4)
    assert describe_colors(TASKS["boundary"], [np.zeros((1, 2, 2))]).high == "1"
    assert describe_error(ANGLE, 60.0).high == "60°"
    assert describe_error(DISTANCE, 0.25).high == "0.25 m"


@pytest.mark.parametrize(("kind", "unit"), [("values", "px"), ("length", "m"), ("probability", "")])
def test_a_task_of_ones_own_has_the_error_of_its_kind_in_its_unit(kind, unit):
    made = regression("own", 3)
    parts = {name: getattr(made, name) for name in ("loss", "decode", "metric", "colorize", "to_png")}
    own = Task(name="own", channels=3, target_channels=3, kind=kind, unit=unit, **parts)
    prediction, target = np.full((3, *SIZE), 0.5), np.full((3, *SIZE), 0.25)
    target[:, 0], target[2] = np.nan, 0.75
    error = own.error.measure(prediction, target)
    assert np.isnan(error[0]).all()
    assert (error[1:] == 0.25).all()
    assert own.error.unit == unit
    assert (own.error.limit == 1.0) == (kind == "probability")  # a metre or a kelvin is no full error


def test_several_annotators_become_their_share():
    votes = np.zeros((4, *SIZE), np.float32)
    votes[:3, 5] = 1
    prediction = np.full((1, *SIZE), 0.5, np.float32)
    shown, _ = color_maps(TASKS["boundary"], [votes, prediction])
    assert shown[5, 0].tolist() == [191, 191, 191]
    assert TASKS["boundary"].error.measure(prediction, votes)[5, 0] == 0.25
    assert describe_colors(TASKS["boundary"], [votes[:3]]).high == "1"


def test_maps_without_any_label_are_drawn():
    for name, task in TASKS.items():
        empty = task.invalid_target(SIZE).numpy()
        assert color_maps(task, [empty])[0].shape == (*SIZE, 3)
        describe_colors(task, [empty])
        assert np.isnan(task.error.measure(random_maps()[0][name], empty)).all()


def test_panels_show_each_map():
    predictions, _ = random_maps()
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    panel = np.asarray(draw_panel(image, predictions, TASKS, width=36))
    assert contains(panel, image)
    assert all(contains(panel, color_maps(task, [predictions[name]])[0]) for name, task in TASKS.items())


def contains(sheet, part):
    """Is `part` somewhere in `sheet`, pixel by pixel?"""
    height, width = part.shape[:2]
    corners = np.argwhere((sheet == part[0, 0]).all(-1))
    return any(np.array_equal(sheet[y : y + height, x : x + width], part) for y, x in corners)


def test_contact_sheets_keep_pictures_apart():
    cells = [Cell(str(i), np.full((10 * i, 20, 3), 40 * i, np.uint8)) for i in (1, 2, 3)]
    sheet = np.asarray(contact_sheet(cells, columns=2, width=20))
    for cell in cells:
        assert (sheet == cell.picture[0, 0]).all(-1).sum() >= cell.picture.shape[0] * 20
    with pytest.raises(ValueError, match="no pictures"):
        contact_sheet([], columns=2)


@pytest.mark.parametrize("name", TASKS)
def test_a_photograph_shows_through_and_is_whole_where_nothing_is_known(name):
    task, (predictions, targets) = TASKS[name], random_maps()
    image = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    over = overlay_map(task, image, targets[name])
    np.testing.assert_array_equal(over[:4], image[:4])  # invalid there
    assert (over[4:] != image[4:]).any()
    drawn = color_maps(task, [predictions[name]])[0].astype(float)
    over = overlay_map(task, image, predictions[name])
    low, high = np.minimum(image, drawn), np.maximum(image, drawn)
    assert ((over >= low - 1) & (over <= high + 1)).all()


def test_where_there_is_no_boundary_nothing_hides_the_photograph():
    image = np.full((1, 2, 3), 40, np.uint8)
    over = overlay_map(boundary(), image, np.array([[[0.0, 1.0]]]))
    assert over.tolist() == [[[40, 40, 40], [169, 169, 169]]]


def test_chosen_colors_are_in_maps_legends_and_panels():
    chosen = [[10, 20, 30], [200, 0, 0], [0, 0, 200]]
    task = semseg(["wall", "floor", "bed"], colors_shown=chosen)
    labels = np.array([[0, 1], [2, 255]])
    assert color_maps(task, [labels])[0].reshape(-1, 3).tolist() == [*chosen, [255, 255, 255]]  # one is nearly black
    legend = dict(describe_colors(task, [labels]).swatches)
    assert legend == {"wall": (10, 20, 30), "floor": (200, 0, 0), "bed": (0, 0, 200), "no label": (255, 255, 255)}
    image = np.full((2, 2, 3), 255, np.uint8)
    for overlay, color in ((False, (200, 0, 0)), (True, (222, 102, 102))):
        panel = np.asarray(draw_panel(image, {"semseg": labels}, {"semseg": task}, width=40, overlay=overlay))
        assert (panel == color).all(-1).any()


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        ([[1, 2, 3]], "colors_shown of task 'semseg' has 1 colors; give one for each of its 2 classes"),
        ([[1, 2, 3], [1, 2, 256]], r"has \[1, 2, 256\]; a color is red, green, blue"),
        ([[1, 2, 3], [1, 2]], r"has \[1, 2\]; a color is red, green, blue"),
    ],
)
def test_raises_for_mistakes_in_colors(colors, message):
    with pytest.raises(ValueError, match=message):
        semseg(2, colors_shown=colors)
