"""The one page: a file that opens without a network and runs no script but its own."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import Any

import triptych

_VOID = ("img", "input")


class Markup(str):
    """Text that is markup already. Only `element` and `join` make it, so that nothing enters a page unescaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """`<tag attributes>content</tag>`; contents and values that are no `Markup` are escaped.

    Underscores in names of attributes stand for hyphens, one at the end goes; `True` gives a name without a value,
    `None` and `False` leave it out.

    >>> element("p", "a < b", element("b", "c"), class_="note", aria_label='"')
    '<p class="note" aria-label="&quot;">a &lt; b<b>c</b></p>'
    """
    shown = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    words = [
        name if value is True else f'{name}="{escape(str(value), quote=True)}"'
        for name, value in shown.items()
        if value is not None and value is not False
    ]
    start = f"<{' '.join([tag, *words])}>"
    return Markup(start if tag in _VOID else f"{start}{join(content)}</{tag}>")


def join(parts: Iterable[str]) -> Markup:
    """Parts after one another, each escaped unless it is markup.

    >>> join(["<", element("i")])
    '&lt;<i></i>'
    """
    return Markup("".join(part if isinstance(part, Markup) else escape(part, quote=False) for part in parts))


_SCRIPTS = ("charts.js", "points.js", "page.js")


def render_page(
    title: str,
    sections: Mapping[str, tuple[str, Markup]],
    *,
    lead: str = "",
    facts: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
    script: str = "",
    style: str = "",
    allowed: str = "",
    closing: str = "This page is one file and needs no network.",
) -> str:
    """A page of sections, each with its address, title and markup; empty ones are left out.

    `facts` are short values below the title, `data` is what the page's script reads. The page's policy names the hash
    of that script: a browser runs no other, wherever it came from. A page may add to script and style, and to the
    policy what it is `allowed` to fetch; `closing` is the last line.
    """
    shown = {name: section for name, section in sections.items() if section[1]}
    script = '\n"use strict";\n' + "\n".join([*map(_asset, _SCRIPTS), script]) + "\n"
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    boxes = [element("div", element("dt", name), element("dd", value)) for name, value in (facts or {}).items()]
    values = {"charts": [], "clouds": []} | dict(data or {})
    page = fill(
        _asset("page.html"),
        policy=Markup(
            f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{allowed}"
        ),
        title=title,
        lead=lead,
        facts=element("dl", *boxes, class_="facts") if boxes else Markup(),
        links=join(element("a", heading, href=f"#{name}") for name, (heading, _) in shown.items()),
        sections=join(
            element("section", element("h2", heading), body, id=name) for name, (heading, body) in shown.items()
        ),
        style=Markup(_asset("style.css") + style),
        script=Markup(script),
        # `</script>` inside a name must not end the element.
        data=Markup(json.dumps(values, allow_nan=False).replace("<", "\\u003c")),
        version=triptych.__version__,
        closing=closing,
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")  # names of files may hold bytes that are no UTF-8


def fill(template: str, **values: str) -> str:
    """Replace `{{name}}` in a template, once, with escaped text or markup: values that hold such marks stay as they
    are.

    >>> fill("<p>{{text}}</p>", text="{{text}} <b>")
    '<p>{{text}} &lt;b&gt;</p>'
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: join([values[mark[1]]]), template)


def _asset(name: str) -> str:
    return (resources.files("triptych.report") / "assets" / name).read_text(encoding="utf-8")
