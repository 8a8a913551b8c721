"""Markup of pages, in which a text is escaped unless it was made here."""

from collections.abc import Iterable
from html import escape

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
