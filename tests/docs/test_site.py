"""The site: built strictly, its links lead somewhere, nothing is loaded from elsewhere, a browser shows it without
complaint at the width of a desk and of a phone.
"""

import functools
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest
from browser import Browser

import triptych.metrics
import triptych.tasks

ROOT = Path(__file__).resolve().parents[2]
GOALS = {
    "an own folder": "own-data.html#the-descriptor",
    "an own decoder": "extend.html#a-decoder",
    "C++": "deploy.html#c-on-libtorch",
}
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SHOWN = ("index.html", "tutorials/loop.html", "models.html", "study-3d-tables.html", "reference/triptych.html")

COLLECT = """
window.complaints = [];
addEventListener("error", event => complaints.push(event.message || event.target.src || event.target.href), true);
console.error = (...words) => complaints.push(words.join(" "));
"""
"""A script that keeps what goes wrong on a page, before the page's own run."""

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Anchors of a page, its links, and the addresses of what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("img", "script", "iframe") and "src" in values:
            self.loaded.append(values["src"])
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    before = time.monotonic()
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    assert time.monotonic() - before < 60
    return out


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Where a server offers the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def follow(name: str, link: str) -> tuple[str, str]:
    """The path below the site and the anchor of a link of one page."""
    path, anchor = urldefrag(urljoin(f"https://here/{name}", link))
    path = unquote(urlparse(path).path).removeprefix("/")
    return path or "index.html", unquote(anchor)


def broken_links(site: Path, pages: dict[str, Page]) -> list[str]:
    broken = []
    for name, page in pages.items():
        for link in page.links + page.loaded:
            if urlparse(link).scheme:
                continue
            target, anchor = follow(name, link)
            there = (site / target).is_file() and (not anchor or anchor in pages[target].anchors | {"__top"})
            if not there:
                broken.append(f"{name}: {link}")
    return broken


def test_links_and_anchors_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken_links(site, pages) == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, Page]) -> None:
    assert [address for page in pages.values() for address in page.loaded if urlparse(address).netloc] == []


@pytest.mark.parametrize("goal", GOALS)
def test_a_stranger_is_there_in_five_clicks(goal: str, pages: dict[str, Page]) -> None:
    reached, clicks = {("index.html", "")}, 0
    while tuple(GOALS[goal].split("#")) not in reached:
        clicks += 1
        assert clicks <= 5, f"{goal}: not within five clicks"
        reached |= {
            follow(name, link)
            for name, _ in reached
            if name in pages
            for link in pages[name].links
            if not urlparse(link).scheme
        }


def test_every_public_name_stands_in_the_reference(pages: dict[str, Page]) -> None:
    public = {*triptych.__all__, *triptych.tasks.__all__, *triptych.metrics.__all__}
    anchors = {
        anchor.rpartition(".")[2] for name, page in pages.items() if "reference/" in name for anchor in page.anchors
    }
    assert public <= anchors


@pytest.mark.parametrize("size", SIZES)
def test_a_browser_shows_it(size: str, address: str, tmp_path: Path) -> None:
    width, height = SIZES[size]
    with Browser(tmp_path / "profile") as browser:
        browser.resize(width, height, phone=size == "phone")
        browser.send("Page.enable")
        browser.send("Page.addScriptToEvaluateOnNewDocument", source=COLLECT)
        for name in SHOWN:
            browser.send("Page.navigate", url=f"{address}/{name}")
            browser.wait("document.readyState === 'complete' && !!document.querySelector('article h1')")
            assert browser.run("complaints") == [], name
            assert browser.run("document.scrollingElement.scrollWidth") <= width, f"{name} is wider than a {size}"
            assert browser.run("[...document.images].every(image => image.naturalWidth > 0)"), name
            if folder := os.environ.get("TRIPTYCH_SCREENSHOTS"):
                browser.screenshot(Path(folder) / f"{Path(name).stem}-{size}.png")


def test_a_search_finds_a_public_name(address: str, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.send("Page.navigate", url=f"{address}/index.html")
        browser.wait("document.readyState === 'complete' && !!document.querySelector('.md-search__input')")
        browser.run("document.querySelector('.md-search__input').focus()")
        browser.send("Input.insertText", text="bootstrap_difference")
        browser.wait("[...document.querySelectorAll('.md-search-result a')].some(a => a.href.includes('metrics'))", 20)
