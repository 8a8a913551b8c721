"""What may be said of contrasts that were declared: one rule for every study but that of geometry (`decisions.py`).

Of every contrast one sentence. One arm is better or worse than the other where p, after the correction that was
declared, is at most 5 %; else both differ by less than a margin, where one was declared before the runs and the 90 %
interval lies within it; else they are not told apart. Intervals beside are of 95 % over seeds, each by itself.

What a study's own rules add (several contrasts at once) stands above these sentences and replaces none of them.
"""

from collections.abc import Mapping

from grid import markdown_table

from lab.inference import Contrast

UNCORRECTED = " (uncorrected)"
"""Ends a sentence of a study's own that hangs on a contrast which stands apart."""


def sentence(one: str, other: str, contrast: Contrast, *, unit: str, margin: float | None = None) -> str:
    """What the rule says of `one` less `other`.

    >>> from lab.inference import paired
    >>> sentence("a", "b", paired([-1.0, -1.1, -0.9]), unit="points")
    'a is worse than b by 1.00 points (0.75 to 1.25)'
    >>> sentence("a", "b", paired([0.1, -0.1, 0.0]), unit="points", margin=1.0)
    'a and b differ by less than 1.0 points'
    """
    low, high = contrast.interval95
    if contrast.above:
        return f"{one} is better than {other} by {contrast.mean:.2f} {unit} ({low:.2f} to {high:.2f})"
    if contrast.below:
        return f"{one} is worse than {other} by {-contrast.mean:.2f} {unit} ({-high:.2f} to {-low:.2f})"
    if margin is not None and contrast.within(margin):
        return f"{one} and {other} differ by less than {margin:.1f} {unit}"
    return f"{one} and {other} are not told apart"


def account(
    pairs: Mapping[str, tuple[str, str]],
    primary: Mapping[str, Contrast],
    apart: Mapping[str, Contrast],
    rules: Mapping[str, bool],
    *,
    unit: str,
    margin: float | None = None,
) -> str:
    """The table of contrasts, those of the study's own sentences that hold, and the sentence of every contrast.

    `pairs` names the arms of the primary contrasts, which are corrected together; those that stand `apart` are named
    `one - other` and are not. A margin is the primary ones'.
    """
    named = {" - ".join(pairs[name]): each for name, each in primary.items()}
    lines = [[title, *each.cells()] for title, each in {**named, **apart}.items()]
    table = markdown_table(["contrast", unit, "90 %", "95 %", f"p (Holm over the first {len(named)})"], lines)
    held = "; ".join(text for text, holds in rules.items() if holds) or "none of the study's own sentences holds"
    said = [f"- {sentence(*pairs[name], each, unit=unit, margin=margin)}." for name, each in primary.items()]
    beside = [f"- {sentence(*title.split(' - '), each, unit=unit)}." for title, each in apart.items()]
    parts = [table, f"{held[0].upper()}{held[1:]}. Contrast by contrast:", "\n".join(said)]
    return "\n\n".join([*parts, "Apart, uncorrected:", "\n".join(beside)] if beside else parts)
