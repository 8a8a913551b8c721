"""Pages about received runs and files: no name in any field becomes markup or script, seen in a real browser."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from report.test_report import HEIGHT, RECORDS, WIDTH, Page, example
from saved_maps import save
from training.tiny import RECIPE, change

from triptych.evaluation.offline import score
from triptych.prediction.model_card import model_card
from triptych.report.page import render_report
from triptych.report.publish import Result, _result_table
from triptych.report.scores import write_page
from triptych.report.values import Rendering, RunReport
from triptych.tasks import depth, regression, semseg

HACK = "document[`documentElement`][`dataset`][`hacked`]=1"
"""Without a dot, which no task's name has."""
HOSTILE = f"\"'><img src=x onerror={HACK}><svg onload={HACK}>{{{{data}}}}&lt;b"
"""Without a slash, so that it can be the name of a file or a task."""
SCRIPT = f"{HOSTILE}</script></style></title><script>{HACK}</script>"


def run_page() -> str:
    """A run whose tasks, classes, files, data, recipe and columns are called like that."""
    tasks = {SCRIPT: semseg([SCRIPT, "floor"], name=HOSTILE), "depth": replace(depth(), unit=SCRIPT)}
    shown = example(SCRIPT)
    predictions = {SCRIPT: shown.predictions["semseg"], "depth": shown.predictions["depth"]}
    return render_report(
        RunReport(
            title=f"{SCRIPT}\udcff",  # a folder whose name is no UTF-8
            tasks=tasks,
            scores={SCRIPT: {SCRIPT: {"mIoU": 0.5, SCRIPT: 0.5}}, f"{SCRIPT}2": {SCRIPT: {"mIoU": 0.25}}},
            examples=[replace(shown, predictions=predictions, targets=dict(predictions))],
            records=[
                {"kind": "evaluation", "step": step, "split": SCRIPT, "metrics": {f"{SCRIPT}/mIoU": 0.1 * step}}
                for step in (1, 2)
            ]
            + [record | {"losses": {SCRIPT: 1.0}} for record in RECORDS if record["kind"] == "train"],
            description=SCRIPT,
            facts={SCRIPT: SCRIPT},
            details={SCRIPT: SCRIPT},
        )
    )


def rendered_page() -> str:
    """The same with what a regularizer renders."""
    own = regression(HOSTILE, 3, unit=SCRIPT)
    maps = {SCRIPT: np.full((3, HEIGHT, WIDTH), 0.5)}
    opacity = np.ones((1, HEIGHT, WIDTH))
    rendering = Rendering(maps, SCRIPT, opacity, opacity, SCRIPT, {SCRIPT: maps})
    shown = replace(example(SCRIPT), predictions=maps, targets={}, rendering=rendering)
    return render_report(RunReport(title=SCRIPT, tasks={SCRIPT: own}, examples=[shown]))


def score_page(folder) -> str:
    """A score of files with such names, under such a protocol."""
    generator = np.random.default_rng(0)
    for side in ("predictions", "targets"):
        for name in (HOSTILE, "plain"):
            labels = generator.integers(0, 2, (12, 16)).astype(np.uint8)
            save(folder / HOSTILE / side / "semseg" / f"{name}.png", labels)
            save(folder / HOSTILE / side / "boundary" / f"{name}.npy", labels.astype(np.float32))
    root = folder / HOSTILE
    options = {"classes": 2, "max_dist": 0.05, "ci": 10, "quiet": True}
    found = score(root / "predictions", root / "targets", protocol="invpt", **options)
    tasks = {
        name: replace(
            task,
            facts=task.facts | {SCRIPT: SCRIPT},
            given=replace(task.given, rule=replace(task.given.rule, definition=SCRIPT)),
        )
        for name, task in found.tasks.items()
    }
    write_page(replace(found, protocol=SCRIPT, tasks=tasks), folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["run", "renderings", "scores"])
def page(request, tmp_path_factory) -> str:
    makers = {"run": run_page, "renderings": rendered_page}
    if request.param in makers:
        return makers[request.param]()
    return score_page(tmp_path_factory.mktemp("scores"))


def test_names_are_text(page) -> None:
    parsed = Page(page)
    assert not parsed.open
    assert len(parsed.all("script")) == 2
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert all(image.get("src", "data:").startswith("data:") for image in parsed.all("img"))
    assert "hacked" in page  # the names are shown
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "unsafe-inline" not in re.search("script-src[^;]*", policy)[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def opened(browser: Browser, text: str, folder: Path) -> dict[str, str]:
    """What scripts have left on the page when all of it is loaded and our own script ran to its end."""
    (folder / "page.html").write_text(text, encoding="utf-8")
    browser.open((folder / "page.html").as_uri())
    return browser.run("({...document.documentElement.dataset})")


def test_a_browser_runs_none_of_them(page, browser, tmp_path) -> None:
    assert "hacked" not in opened(browser, page, tmp_path)


def test_the_policy_stops_what_escaping_would_miss(page, browser, tmp_path) -> None:
    """Even where a name did become markup."""
    broken = page.replace("</main>", SCRIPT + "</main>")
    assert "hacked" not in opened(browser, broken, tmp_path)
    unguarded = re.sub('script-src [^;"]*', "script-src 'unsafe-inline'", broken)
    assert "hacked" in opened(browser, unguarded, tmp_path)  # it would have run


def test_a_card_shows_names_as_text(tmp_path) -> None:
    """By a reader of Markdown that lets markup through, as hubs do."""
    task = f"{HOSTILE}\n\n# `a`\n[b](example)|![c](example)"
    name = f"{SCRIPT}{task}"
    tasks = {task: semseg([name, "floor"], name=task), "depth": replace(depth(), unit=name)}
    recipe = change(RECIPE, description=name, data__dataset=name, data__train_split=name, model__backbone=name)
    result = Result(name, name, 0.5, True, name, name, name, 3)
    (tmp_path / "README.md").write_text(model_card(tasks, recipe, "a/b", results=_result_table([result])))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.tags[-2:] == [task, "depth"]
    shown = Page(MarkdownIt("commonmark").enable("table").render(card.text))
    assert {tag for tag, _ in shown.tags} == {
        *("h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "pre")
    }
    assert len(shown.all("tr")) == 2 + len(tasks) + 1
