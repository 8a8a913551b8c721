"""`report.html`: one file, right numbers, drawn in a real browser."""

import base64
import hashlib
import io
import json
import math
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from browser import SWITCHES, find_browser
from PIL import Image

from triptych.data.cameras import intrinsics_matrix
from triptych.evaluation.protocols import Scoring
from triptych.evaluation.run import RunEvaluation
from triptych.prediction.predictor import Predictor
from triptych.recipes.config import Recipe, to_json
from triptych.report import run as report_of_run
from triptych.report.charts import draw_curve, draw_histogram, draw_precision_recall
from triptych.report.examples import embed, show_example
from triptych.report.page import make_charts, make_cloud, render_report, write_report
from triptych.report.run import make_example
from triptych.report.tables import relative_gain, show_results
from triptych.report.values import Example, RunReport, read_run, unflatten
from triptych.tasks import boundary, depth, normals, regression, semseg
from triptych.tasks.stored import write_tasks
from triptych.types import Camera, Sample

TASKS = {task.name: task for task in (semseg(["wall", "floor"]), depth(), normals(), boundary())}
HEIGHT, WIDTH = 30, 48
SCORES = {
    "network": {"semseg": {"mIoU": 0.6}, "depth": {"rmse": 0.5, "absrel": 0.1}, "normals": {"mErr": 20.0}},
    "constant predictor": {"semseg": {"mIoU": 0.2}, "depth": {"rmse": 1.0, "absrel": 0.4}, "normals": {"mErr": 10.0}},
}
RECORDS = [
    {"kind": "train", "step": 1, "loss": 4.0, "losses": {"semseg": 2.0, "depth": None}, "learning_rate": 0.1},
    {"kind": "train", "step": 2, "loss": 3.0, "losses": {"semseg": 1.0, "depth": 0.5}, "learning_rate": 0.05},
    {
        "kind": "evaluation",
        "step": 2,
        "split": "val",
        "metrics": {"depth/rmse": 0.9, "depth/absrel": None},
        "best": True,
    },
    {
        "kind": "train",
        "step": 3,
        "loss": 2.5,
        "losses": {"semseg": 0.5, "depth": 0.4},
        "learning_rate": 0.01,
        "seconds": 83.0,
    },
    {"kind": "evaluation", "step": 3, "split": "val", "metrics": {"depth/rmse": 0.8}, "best": True},
]


def example(name="room", *, intrinsics=(60.0, 60.0, WIDTH / 2, HEIGHT / 2)):
    """A wall at two metres with a bright patch; the target lacks a corner."""
    generator = np.random.default_rng(0)
    image = np.full((HEIGHT, WIDTH, 3), (30, 60, 90), np.uint8)
    image[3:7, 30:36] = (240, 200, 20)
    target_depth = np.full((1, HEIGHT, WIDTH), 2.0, np.float32)
    target_depth[:, :5, :5] = np.nan
    facing = np.zeros((3, HEIGHT, WIDTH), np.float32)
    facing[2] = -1
    labels = generator.integers(0, 2, (HEIGHT, WIDTH))
    edges = generator.random((1, HEIGHT, WIDTH), dtype=np.float32)
    predictions = {
        "semseg": labels,
        "depth": np.full((1, HEIGHT, WIDTH), 2.0, np.float32),
        "normals": facing,
        "boundary": edges,
    }
    targets = {"semseg": 1 - labels, "depth": target_depth, "normals": facing, "boundary": np.rint(edges)}
    return Example(name, image, predictions, targets, None if intrinsics is None else intrinsics_matrix(intrinsics))


def full_report():
    return RunReport(
        title="a <b>run</b> & more",
        tasks=TASKS,
        scores=SCORES,
        examples=[example("first </script>"), example("second", intrinsics=None)],
        records=RECORDS,
        description="What it is",
        facts={"Seed": "0"},
        details={"Recipe": '{"seed": 0}'},
    )


class Page(HTMLParser):
    """Every tag with its attributes, and the text of one element at a time."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self.open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text):
        self.data.setdefault(self.open[-1] if self.open else "", []).append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page():
    return render_report(full_report())


def test_one_file_that_needs_no_network(page):
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]", page)
    parsed = Page(page)
    assert not parsed.open
    for _, attributes in parsed.tags:
        for address in (attributes.get("src"), attributes.get("href")):
            assert address is None or address.startswith(("data:", "#"))
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"\{\{\w+\}\}", page)


def test_names_cannot_end_an_element():
    columns = {"network": SCORES["network"], "a </script> column": SCORES["constant predictor"]}
    parsed = Page(render_report(replace(full_report(), scores=columns)))
    assert "a <b>run</b> & more" in "".join(parsed.data["h1"])
    assert not parsed.all("b") or all(not attributes for attributes in parsed.all("b"))
    assert len(parsed.all("script")) == 2
    assert "</script>" not in parsed.data["script"][0]
    values = json.loads(parsed.data["script"][0])
    assert values["charts"][0]["reference_title"] == "a </script> column"


def test_panels_show_every_map_with_a_description(page):
    images = {attributes["data-map"]: attributes for attributes in Page(page).all("img") if "data-map" in attributes}
    expected = {f"{name} {kind}" for name in TASKS for kind in ("target", "prediction", "error")} | {"image"}
    assert set(images) == expected
    assert images["depth prediction"]["alt"] == "second: depth, prediction"


def test_pictures_come_back():
    few = np.random.default_rng(0).integers(0, 2, (9, 7, 3), dtype=np.uint8) * 255
    np.testing.assert_array_equal(decode(embed(few)), few)
    many = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(64) * 3, [90], indexing="ij"), axis=-1)[:, :, 0].astype(
        np.uint8
    )
    assert embed(many).startswith("data:image/jpeg")
    np.testing.assert_allclose(decode(embed(many)).astype(int), many, atol=12)


def decode(address):
    with Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))) as image:
        return np.asarray(image.convert("RGB"))


def cells_of(page, task):
    row = re.search(rf'<tr><th scope="row">{task} .*?</tr>', page)[0]
    return [text.strip() for text in re.findall(r">([^<>]+)<", row)]


def test_a_target_without_any_label_is_no_picture():
    shown = example()
    bare = replace(shown, targets=shown.targets | {"depth": np.full_like(shown.targets["depth"], np.nan)})
    captions = [re.findall('alt="room: (depth, [^"]*)"', show_example(TASKS, one)) for one in (shown, bare)]
    assert captions == [["depth, target", "depth, prediction", "depth, absolute error"], ["depth, prediction"]]
    assert show_example(TASKS, bare).count("no label in this image") == 1


def test_the_table_says_how_far_from_a_constant(page):
    rows = re.findall(r'<tr><th scope="row">(\w+).*?</tr>', page, flags=re.DOTALL)
    assert rows[:4] == list(TASKS)
    assert cells_of(page, "depth")[-3:] == ["0.5", "1", "the network closes 50 % of the way"]
    assert "the network closes none of the way" in cells_of(
        page, "normals"
    )  # worse than the constant: said, not hidden
    results = page[page.index('id="results"') : page.index('id="predictions"')]
    assert "delta_mtl" not in results  # no single-task network is there
    assert not re.search(r"[-+][\d,.]+ %", results)
    assert relative_gain(1.0, 0.0, higher_is_better=True) is None
    assert relative_gain(math.nan, 1.0, higher_is_better=True) is None


def test_what_lies_beyond_perfect_is_no_more_than_perfect():
    tasks = {"heat": regression("heat", metric="r2")}
    metric = tasks["heat"].metric()
    for value, way, gain in ((0.9, "90 %", "+80.0 %"), (1.5, "50 %", "+0.0 %")):
        scores = {"network": value, "constant predictor": 0.0, "single-task networks": 0.5}
        page = show_results(tasks, {column: {"heat": {metric.primary: number}} for column, number in scores.items()})
        assert f"the network closes {way} of the way" in page
        assert gain in page


def test_the_level_beside_the_curves_says_of_which_images_it_is():
    levels = {chart["reference_title"] for chart in make_charts(replace(full_report(), split="target-test"))} - {""}
    assert levels == {"constant predictor on target-test"}


def test_a_number_of_a_protocol_is_no_level_beside_the_curves(monkeypatch):
    """DenseMTL's `rmse` is over 1e-3 to 80 m, and that of the curve over all labels."""
    given = {}
    monkeypatch.setattr(report_of_run, "write_report", lambda run, **options: given.update(options) or run)
    monkeypatch.setattr(report_of_run, "spread_examples", lambda *_: [])
    report = full_report()
    for protocol, by_rule, levels in (("none", set(), {1.0}), ("densemtl-video", {"semseg", "depth"}, set())):
        evaluation = RunEvaluation(
            metrics=SCORES["network"],
            labelled={},
            keys=(),
            sums={},
            tasks=Scoring(protocol).apply(TASKS),
            protocol=protocol,
            predictor=Mock(spec=Predictor, recipe=Recipe()),
        )
        report_of_run.report_run(Path("run"), evaluation)
        assert given["scored_tasks"].keys() == by_rule
        charts = make_charts(replace(report, scored_tasks=given["scored_tasks"]))
        assert {chart["reference"] for chart in charts if chart["title"] == "depth"} - {None} == levels


def test_delta_mtl_stands_under_single_task_networks_alone():
    single = {name: dict(numbers) for name, numbers in SCORES["constant predictor"].items()}
    tasks = {name: TASKS[name] for name in ("semseg", "depth")}
    scores = {"network": SCORES["network"], "single-task networks": single, "constant predictor": single}
    report = replace(full_report(), tasks=tasks, scores=scores, examples=(), images={"semseg": 40, "depth": 1})
    page = render_report(report)
    gains = [relative_gain(SCORES["network"]["depth"]["rmse"], single["depth"]["rmse"], False)]
    gains.append(relative_gain(SCORES["network"]["semseg"]["mIoU"], single["semseg"]["mIoU"], True))
    foot = re.search(r"<tfoot>.*?</tfoot>", page, flags=re.DOTALL)[0]
    assert foot.count("%") == 1
    assert f"{100 * sum(gains) / 2:+.1f} %" in foot
    assert "40 images" in " ".join(cells_of(page, "semseg"))
    assert "1 image" in cells_of(page, "depth")
    # An auxiliary task, which nothing scores, takes nothing from the mean.
    page = render_report(replace(report, tasks={**tasks, "boundary": TASKS["boundary"]}))
    assert re.search(r"<tfoot>.*?</tfoot>", page, flags=re.DOTALL)[0] == foot


def test_curves_hold_what_was_logged():
    charts = {(chart["group"], chart["title"]): chart for chart in make_charts(full_report())}
    assert charts["Losses", "semseg"]["x"] == [1, 2, 3]
    assert charts["Losses", "semseg"]["y"] == [2.0, 1.0, 0.5]
    assert charts["Losses", "depth"]["x"] == [2, 3]  # no labels in the first window
    assert charts["Losses", "total"]["y"] == [4.0, 3.0, 2.5]
    assert (
        charts["Validation", "depth"] | {"x": [2, 3], "y": [0.9, 0.8], "reference": 1.0}
        == charts["Validation", "depth"]
    )
    assert ("Validation", "semseg") not in charts  # never scored
    assert make_charts(RunReport("empty", TASKS)) == []


@pytest.mark.parametrize("width", [48, 700])
def test_clouds_hold_the_depth_of_known_pixels(width):
    values = np.random.default_rng(0).uniform(0.5, 9, (1, 31, width)).astype(np.float32)
    values[0, :3] = np.nan
    shown = Example(
        "x", np.zeros((31, width, 3), np.uint8), {"depth": values}, {}, intrinsics_matrix((500, 510, 20, 15))
    )
    cloud = make_cloud(TASKS, shown)
    stored = np.frombuffer(base64.b64decode(cloud["depths"]["predicted"]), "<u2").reshape(
        cloud["height"], cloud["width"]
    )
    rows = np.arange(cloud["height"]) * cloud["step"] + cloud["offset"]
    columns = np.arange(cloud["width"]) * cloud["step"] + cloud["offset"]
    assert cloud["width"] <= 320
    expected = np.nan_to_num(values[0][np.ix_(rows, columns)])
    np.testing.assert_allclose(stored * cloud["scale"], expected, atol=cloud["scale"])
    assert cloud["intrinsics"] == [500, 510, 20, 15]
    assert make_cloud({"semseg": TASKS["semseg"]}, shown) is None


def test_a_camera_of_nan_is_one_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images among others that have one: the page's script cannot read NaN."""
    ones = torch.ones(1, 1, 4, 6)
    sample = Sample(torch.zeros(1, 3, 4, 6), {"depth": ones}, ("a",), Camera(torch.full((1, 3, 3), torch.nan)))
    monkeypatch.setattr(Predictor, "predict", lambda self, image: {"depth": ones})
    cloud = make_cloud(TASKS, make_example(Predictor.__new__(Predictor), sample))
    assert cloud["intrinsics"][2:] == [3, 2]
    assert cloud["assumed"]


def test_a_report_without_anything_is_still_a_page():
    text = render_report(RunReport("empty", TASKS))
    assert not Page(text).open
    assert "<table>" not in text


def write_run(run):
    run.mkdir()
    (run / "recipe.json").write_text(to_json(Recipe(description="A test")))
    write_tasks(run / "tasks.json", TASKS)
    lines = [json.dumps(record) for record in RECORDS]
    (run / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "train", "st']))  # killed while it wrote
    start = {"parameters": {"model": 1_234_567}, "device": "cpu", "processes": 1, "commit": "0123456789abcdef"}
    (run / "environment.json").write_text(json.dumps({"starts": [start]}))
    return run


def test_a_run_folder_fills_the_report(tmp_path):
    run = write_run(tmp_path / "a")
    report = read_run(run)
    assert len(report.records) == len(RECORDS)
    assert report.scores == {"network (val, step 3)": {"depth": {"rmse": 0.8}}}
    assert report.facts["Training time"] == "1 min 23 s"
    assert report.facts["Parameters"] == "1.23 M"
    path = write_report(run, scores=SCORES, examples=[example()], title="Mine")
    assert path == run / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in text
    assert "constant predictor" in text
    assert unflatten({"a/b/c": 1.0}) == {"a": {"b/c": 1.0}}


def points_of(path):
    return [tuple(map(float, point.split(","))) for point in path["d"].removeprefix("M").split()]


def test_a_curve_is_drawn_where_its_numbers_are():
    """Later to the right, larger higher, in equal measure; of many their mean, whose memory is a 20th."""
    drawing, frame = draw_curve([0, 5, 10], [1.0, 4.0, 2.0], label="loss", reference=3.0)
    page = Page(drawing)
    [line] = page.all("path")
    (x0, y0), (x1, y1), (x2, y2) = points_of(line)
    assert [(float(dot["cx"]), float(dot["cy"])) for dot in page.all("circle")] == points_of(line)
    assert [x0, x1, x2] == [frame.left, pytest.approx((x0 + x2) / 2, abs=0.1), frame.width - frame.right]
    assert frame.height - frame.bottom > y0 > y2 > y1 > frame.top
    assert y2 == pytest.approx(y0 + (y1 - y0) / 3, abs=0.1)
    [level] = [float(line["y1"]) for line in page.all("line") if line["class"] == "reference"]
    assert level == pytest.approx(y0 + (y1 - y0) * 2 / 3, abs=0.1)
    [faint, mean] = Page(draw_curve(range(80), [0.0] + [1.0] * 79, label="loss")[0]).all("path")
    bottom, top = points_of(faint)[0][1], points_of(faint)[1][1]
    heights = [(bottom - y) / (bottom - top) for _, y in points_of(mean)[:4]]
    assert heights == pytest.approx([0, 1 / 4, 7 / 16, 37 / 64], abs=0.01)


def test_precision_is_drawn_over_recall_with_its_best_point():
    precision, recall = np.array([0.0, 1.0, 0.75, 0.5]), np.array([0.0, 0.25, 0.5, 1.0])
    page = Page(draw_precision_recall(precision, recall, (0.75, 0.5), "F 0.6"))
    [curve] = [path for path in page.all("path") if path["class"] == "line"]
    left, right, bottom, top = 46, 520 - 14, 360 - 40, 14
    expected = [(left + (right - left) * x, bottom - (bottom - top) * y) for x, y in ((0.25, 1), (0.5, 0.75), (1, 0.5))]
    assert points_of(curve) == expected
    [dot] = page.all("circle")
    assert (float(dot["cx"]), float(dot["cy"])) == expected[1]


def test_columns_of_a_histogram_are_as_high_as_their_counts():
    """Four known values, in as many columns over 460 x 306 pixels."""
    columns = Page(draw_histogram([0.0, 0.1, 0.9, 1.0, 0.2, 0.2, math.nan], "IoU", bins=4)).all("rect")
    found = [tuple(float(column[name]) for name in ("x", "y", "height")) for column in columns]
    assert found == [(46, 14, 306), (161, 320, 0), (276, 320, 0), (391, 167, 153)]


def browse(text, folder):
    """The page's DOM after its scripts ran in headless Chromium."""
    path = Path(folder) / "report.html"
    path.write_text(text, encoding="utf-8")
    switches = [
        *SWITCHES,
        "--force-prefers-reduced-motion",
        "--window-size=1280,1600",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]
    profile = Path(folder) / "profile"
    done = subprocess.run(
        [find_browser(), *switches, f"--user-data-dir={profile}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


# Reads the canvas at the first view and after a turn, through the page's own viewer.
PROBE = """
setTimeout(() => {
  const canvas = document.querySelector("canvas");
  viewer.pointSize = 0.8;  // overlapping points hide each other's edges and shift centres
  viewer.draw();
  root.dataset.first = canvas.toDataURL();
  viewer.yaw = 0.5; viewer.pitch = 0.4; viewer.hideBridges = false;
  viewer.draw();
  root.dataset.turned = canvas.toDataURL();
  control("color").value = "depth error";
  showPoints().then(() => { viewer.reset(); viewer.draw(); root.dataset.error = canvas.toDataURL(); });
}, 1500);
"""


def with_script(page, script):
    """The page with one more script, which its policy allows."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.replace("script-src", f"script-src 'sha256-{digest}'").replace(
        "</body>", f"<script>{script}</script></body>"
    )


@pytest.fixture(scope="module")
def opened(page, tmp_path_factory):
    return Page(browse(with_script(page, PROBE), tmp_path_factory.mktemp("browser")))


def test_scripts_ran_and_drew(opened):
    root = opened.all("html")[0]
    assert root["data-ready"] == "true"
    assert root["data-points"] == "shown"
    assert int(opened.all("canvas")[0]["data-drawn"]) > HEIGHT * WIDTH / 2
    svgs = opened.all("svg")
    assert len(svgs) == len(make_charts(full_report()))
    assert all("aria-label" in svg for svg in svgs)
    lines = [attributes["d"] for attributes in opened.all("path") if "line" in attributes["class"]]
    assert len(lines) >= len(svgs)
    assert not any("NaN" in line for line in lines)
    options = {attributes["value"] for attributes in opened.all("option")}
    assert {"image", "semseg prediction", "depth error", "predicted", "target"} <= options


def patch_centre(shown):
    """Mean (column, row) of the bright patch, relative to the canvas."""
    rows, columns = np.nonzero((shown[..., 0] > 200) & (shown[..., 2] < 60))
    assert len(rows) > 20
    return (columns.mean() + 0.5) / shown.shape[1], (rows.mean() + 0.5) / shown.shape[0]


def test_the_first_view_is_the_photograph_and_turning_obeys_geometry(opened):
    root = opened.all("html")[0]
    first, turned = decode(root["data-first"]), decode(root["data-turned"])
    height, width = first.shape[:2]
    fit = min(width / WIDTH, height / HEIGHT)
    patch = np.array([33.0, 5.0])  # its centre in pixels of the image
    expected = (np.array([width, height]) / 2 + (patch - [WIDTH / 2, HEIGHT / 2]) * fit) / [width, height]
    np.testing.assert_allclose(patch_centre(first), expected, atol=0.004)
    # The patch in space, turned about the middle of the scene (0, 0, 2) by yaw about y, then pitch about x.
    x, y = (patch - [WIDTH / 2, HEIGHT / 2]) / 60 * 2.0
    cos, sin = np.cos(0.5), np.sin(0.5)
    yawed = np.array([cos * x, y, -sin * x])
    cos, sin = np.cos(0.4), np.sin(0.4)
    point = np.array([yawed[0], cos * yawed[1] - sin * yawed[2], sin * yawed[1] + cos * yawed[2] + 2.0])
    expected = (np.array([width, height]) / 2 + 60 * fit * point[:2] / point[2]) / [width, height]
    np.testing.assert_allclose(patch_centre(turned), expected, atol=0.006)
    assert np.linalg.norm(np.subtract(patch_centre(first), patch_centre(turned))) > 0.02


def test_points_take_the_colours_of_any_map(opened):
    """The depth error is black on the wall and blue-grey in the corner without a target."""
    shown = decode(opened.all("html")[0]["data-error"])
    height, width = shown.shape[:2]
    fit = min(width / WIDTH, height / HEIGHT)
    column, row = (np.array([width, height]) / 2 + (np.array([2.5, 2.5]) - [WIDTH / 2, HEIGHT / 2]) * fit).astype(int)
    np.testing.assert_allclose(shown[row, column], (72, 76, 92), atol=3)
    assert shown[height // 2, width // 2].max() < 12
