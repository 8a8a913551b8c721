"""What the site adds to the pages: its front page, pages of the repository's root, and the reference (hooks of MkDocs).

On GitHub the pages stand as they are; here their links are led to where the site has what they name.
"""

import ast
import posixpath
import re
from pathlib import Path

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Pages of the repository's root, and what the site calls them."""
MODULES = ("triptych", "triptych.tasks", "triptych.metrics")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in `docs`, and the files that pages link to."""
    for home, name in ROOT_PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / home).read_text(encoding="utf-8")))
    for module in MODULES:
        files.append(File.generated(config, f"reference/{module}.md", content=make_reference(module)))
    for page in files.documentation_pages():
        for target, _ in LINK.findall(FENCE.sub("", page.content_string)):
            path = ROOT / find_target(page.src_uri, target)
            if path.is_file() and is_outside(path):
                name = path.relative_to(ROOT).as_posix()
                if files.get_file_from_path(f"files/{name}") is None:
                    files.append(File.generated(config, f"files/{name}", content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to pages of the site; names on the page of public names lead to the reference."""
    home = page.file.src_uri
    parts = re.split(f"({FENCE.pattern})", markdown, flags=FENCE.flags)
    for index, part in enumerate(parts):  # text and code in turn
        if index % 2:
            parts[index] = re.sub(r"\A```(\w+) (?!title=).*", r"```\1", part)  # "skip" is a word to the tests
        else:
            parts[index] = re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]*)\)", lambda found: lead_link(home, found), part)
    markdown = "".join(parts)
    return link_names(markdown) if home == "api.md" else markdown


def link_names(markdown: str) -> str:
    """The page of public names, each name a link to the reference."""
    lines = markdown.split("\n")
    places: dict[str, str] = {}
    for index, line in enumerate(lines):
        if heading := re.match(r"## `(.+)`", line):
            places = find_places(heading[1])
        elif row := re.match(r"\| `(\w+)`(.*)", line):
            lines[index] = f"| [`{row[1]}`][{places[row[1]]}]{row[2]}"
    return "\n".join(lines)


def find_target(home: str, target: str) -> str:
    """The path below the repository's root of what a page of the site links to."""
    here = next((name for name, page in ROOT_PAGES.items() if page == home), f"docs/{home}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), target))


def is_outside(path: Path) -> bool:
    """Whether neither `docs` nor a page of the site holds a file."""
    name = path.relative_to(ROOT).as_posix()
    return name not in ROOT_PAGES and not name.startswith("docs/")


def lead_link(home: str, found: re.Match[str]) -> str:
    """One link of a page of the site; only its text where the site has no such page, as of folders."""
    mark, text, link = found.groups()
    target, _, anchor = link.partition("#")
    if not target or re.match(r"\w+:", target):
        return found[0]
    name = find_target(home, target)
    if (ROOT / name).is_dir():
        return text
    place = ROOT_PAGES.get(name) or (f"files/{name}" if is_outside(ROOT / name) else name.removeprefix("docs/"))
    place = posixpath.relpath(place, posixpath.dirname(home) or ".")
    return f"{mark}[{text}]({place}{'#' + anchor if anchor else ''})"


def make_reference(module: str) -> str:
    """The page of a module's public names; those that several modules offer stand on the page of the last."""
    places = find_places(module)
    later = [place for other in MODULES[MODULES.index(module) + 1 :] for place in find_places(other).values()]
    elsewhere = [f"[`{name}`][{place}]" for name, place in places.items() if place in later]
    parts = [f"# `{module}`", *(["See also " + ", ".join(elsewhere) + "."] if elsewhere else [])]
    return "\n\n".join([*parts, *(f"::: {place}" for place in places.values() if place not in later)]) + "\n"


def find_places(module: str) -> dict[str, str]:
    """Where the public names of a module are defined, read from its source: names imported on first use stand in
    `_HOMES`.
    """
    path = ROOT / "src" / module.replace(".", "/") / "__init__.py"
    places: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module != "triptych.lookup":
            places |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "_HOMES":
                for name, home in ast.literal_eval(node.value).items():
                    place = f"{module}.{home}"
                    places[name] = find_places(place)[name] if place in MODULES else f"{place}.{name}"
            elif node.targets[0].id == "__version__":
                places["__version__"] = f"{module}.__version__"
    return places


class FencedExamples(Extension):
    """Examples of docstrings as code: Markdown would take `>>>` for quotations."""

    def on_object(self, *, obj: Object, **others: object) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
