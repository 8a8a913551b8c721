"""Guessing what the numbers in label files mean, from many of them, and saying why.

Each guess is a list of options for `[tasks.NAME]`, each with its reason, and of doubts: what a person should check.
"No label" never shares a number with a class: marks such as -1, NaN, 65535 or 255 are proposed as `invalid`, and files
are compared with each other before any of them is trusted. Long because all kinds of label maps are distinguished here;
depth is guessed in `depth_guesses.py`, normals in `axes.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.label_files import find_other_palette
from triptych.labels.summaries import (
    FileSummary,
    color_codes,
    color_of,
    summarize_files,
    why_unreadable,
)
from triptych.types import IGNORE


@dataclass
class Guess:
    """Guessed options of one task, with their reasons and doubts."""

    options: list[tuple[str, Any, str]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    needs_options: bool = False
    """Whether a section without options is useless: label maps need their classes, other encodings have defaults."""

    def say(self, option: str, value: Any, reason: str, *, doubt: bool = False) -> None:
        """Add an option, replacing an earlier one of that name; with `doubt` it is also listed as a doubt."""
        self.options = [one for one in self.options if one[0] != option] + [(option, value, reason)]
        if doubt:
            self.doubts.append(f"{option} = {value!r}: {reason}")

    @property
    def usable(self) -> bool:
        """Whether a descriptor can be made of it."""
        return bool(self.options) or not self.needs_options

    @property
    def values(self) -> dict[str, Any]:
        """The options without their reasons."""
        return {option: value for option, value, _ in self.options}


SAMPLE = 1000
"""Files that a guess looks at."""


def guess_labels(paths: Sequence[Path], *, key: str = "", parts: bool = False) -> Guess:
    """Guess the number of classes, invalid values, a map, or the colors of a color-coded map."""
    guess, files = Guess(needs_options=True), summarize_files(paths, SAMPLE, key=key)
    if not files:
        guess.doubts.append(why_unreadable(paths, key=key))
        return guess
    files = _color_grey(files)
    forms = sorted({file.form for file in files}, key=lambda form: -sum(file.form == form for file in files))
    files, others = [f for f in files if f.form == forms[0]], [f for f in files if f.form != forms[0]]
    FORMS[forms[0]](guess, files, len(paths), parts)
    _say_clear(guess, files)
    _compare_palettes(guess, files)
    if others and guess.usable:
        text = f"{len(files)} files hold {FORM_WORDS[forms[0]]}, {len(others)} something else"
        guess.doubts.append(f"{text}, such as {others[0].path.name} ({FORM_WORDS[others[0].form]})")
    return guess


def _color_grey(files: Sequence[FileSummary]) -> list[FileSummary]:
    """Take grey files beside colored ones as colors where these hold all of their shades: black and white alone."""
    known = {code for file in files if file.form == "colors" for code in file.codes}

    def colored(file: FileSummary) -> FileSummary:
        if not known or file.form not in ("ids", "grey") or file.dtype.kind != "u":
            return file
        codes = color_codes(np.stack([file.values] * 3, axis=-1))
        return replace(file, form="colors", values=codes) if known.issuperset(codes.tolist()) else file

    return [colored(file) for file in files]


def _say_clear(guess: Guess, files: Sequence[FileSummary]) -> None:
    clear = next((file.path.name for file in files if file.clear), "")
    if clear and guess.usable:
        text = f"pixels of {clear} are transparent, which is taken as no label"
        guess.doubts.append(f"{text}: if they have one, save the maps without transparency")


def _compare_palettes(guess: Guess, files: Sequence[FileSummary]) -> None:
    """Doubt ids whose palettes differ between files: one color may have another index in each."""
    found = find_other_palette((file.path, file.codes) for file in files) if guess.usable else None
    if found is not None:
        guess.doubts.append(f"{found[1]}: ids are indices; save the maps with one palette, or as colors")


def _guess_ids(guess: Guess, files: Sequence[FileSummary], total: int, parts: bool) -> None:
    values, counts = pool_values(files)
    if (values != np.rint(values)).any():
        _guess_shares(guess, values)
        return
    marks = [value for value in values.tolist() if is_mark(value)]
    missing = any(file.missing for file in files)
    pixels, kept = counts.sum(), ~np.isin(values, marks)
    known = values[kept].astype(np.int64)
    if len(known) == 0:
        guess.doubts.append(f"all values are marks of missing labels: {_list(marks)}")
        return
    for value in marks:
        share = counts[values == value].sum() / pixels
        guess.doubts.append(f"invalid: {value:g} in {share:.0%} of the pixels is taken as no label")
    if missing:
        guess.doubts.append("invalid: NaN or infinity is taken as no label")
    invalid: list[float | int] = [int(value) for value in marks] + ([float("nan")] if missing else [])
    if invalid:
        guess.say("invalid", invalid, "marks of unlabelled pixels")
    blurred = [file for file in files if file.between > 0.5 or _has_ringing(file)]
    if blurred:
        _guess_blurred(guess, blurred, files, known, counts[kept], invalid)
    elif set(known.tolist()) <= {0, 1, IGNORE} and IGNORE in known:
        _guess_mask_ids(guess, files, known, invalid)
    elif is_spread_out(known):
        _guess_spread_out(guess, known, invalid)
    else:
        _guess_plain(guess, files, total, parts, known, invalid)


def _guess_plain(
    guess: Guess, files: Sequence[FileSummary], total: int, parts: bool, known: np.ndarray, invalid: list
) -> None:
    classes = known[known != IGNORE]
    highest = int(classes.max(initial=0))
    if highest >= IGNORE or len(classes) == 0:
        text = f"values from {known.min()} to {known.max()} are no class ids, perhaps instances"
        guess.doubts.append(text if len(classes) else "all values are 255, the usual mark of unlabelled pixels")
        guess.options.clear()
        return
    if IGNORE in known:
        alone = [file for file in files if IGNORE in file.codes <= {0, IGNORE}]
        beside = [file for file in files if IGNORE in file.codes and not file.codes <= {0, IGNORE}]
        guess.say("invalid", [IGNORE, *invalid], f"{IGNORE} is the usual mark of unlabelled pixels")
        if alone and not beside:
            text = (
                f"{len(alone)} files hold nothing but 0 and 255, and no other file holds 255: a mask among class ids?"
            )
            guess.doubts.append(f"invalid: {text} ({alone[0].path.name})")
    elif invalid:
        guess.say("invalid", [IGNORE, *invalid], "marks of unlabelled pixels")
    if parts and highest <= 6:
        guess.say("classes", 7, "background, head, torso, upper and lower arms, upper and lower legs")
        return
    reason = f"the highest value in {len(files)} files is {highest}; names can be listed instead"
    guess.say("classes", highest + 1, reason)
    if len(files) < total:
        guess.doubts.append(f"classes = {highest + 1}: only {len(files)} of {total} files were read")
    if highest >= 10 and _are_counted(files):
        text = "every file counts 1, 2, 3, ... up to a number of its own: instances, no classes?"
        guess.doubts.append(f"classes = {highest + 1}: {text}")
    if highest >= 32 and len(classes) * 4 <= highest:
        text = f"only {len(classes)} of the ids up to {highest} occur; spread-out ids need a map"
        guess.doubts.append(f"classes = {highest + 1}: {text}")


def _are_counted(files: Sequence[FileSummary]) -> bool:
    """Whether each file has consecutive ids from 1 up to its own maximum: instances, not classes."""
    sets = [file.codes - {0, IGNORE} for file in files]
    return len({max(codes, default=0) for codes in sets}) > 2 and all(
        codes == set(range(1, len(codes) + 1)) for codes in sets
    )


def _guess_mask_ids(guess: Guess, files: Sequence[FileSummary], known: np.ndarray, invalid: list) -> None:
    """0, 1 and 255: a class beside unlabelled pixels, a mask, or masks of two codes."""
    marks = {0, 1, IGNORE}
    sets = [file.codes & marks for file in files]
    both = sum({1, IGNORE} <= codes for codes in sets)
    ones, wide = sum(1 in codes for codes in sets), sum(IGNORE in codes for codes in sets)
    if not ones:
        guess.say("map", {"0": 0, str(IGNORE): 1}, "a mask: all pixels are 0 or 255", doubt=True)
    elif not both:
        text = f"{ones} files hold 0 and 1, {wide} files 0 and 255: masks of two codes, or is 255 unlabelled?"
        guess.say("map", {"0": 0, "1": 1, str(IGNORE): 1}, text, doubt=True)
    else:
        reason = f"{IGNORE} beside 0 and 1 in {both} files: unlabelled pixels"
        guess.say("invalid", [IGNORE, *invalid], "marks of unlabelled pixels" if invalid else reason)
        alone = sum(codes == {0, IGNORE} for codes in sets)
        if 0 not in known:
            guess.doubts.append(
                f"invalid: all pixels are 1 or {IGNORE}: a mask of two codes, or is {IGNORE} unlabelled?"
            )
        elif 4 * alone > len(sets):
            text = f"{alone} of {len(sets)} files hold 0 and {IGNORE} alone, {both} files 1 too"
            guess.doubts.append(f"invalid: {text}: is {IGNORE} unlabelled in all of them?")
    guess.say("classes", ["background", "object"], "names of your choice")


def _guess_spread_out(guess: Guess, known: np.ndarray, invalid: list) -> None:
    steps = np.diff(known)
    ids = known.tolist() if (steps == steps[0]).all() or len(known) == 2 else [v for v in known.tolist() if v != IGNORE]
    reason = f"the values {_list(ids)} are spread out, as masks that are made to be looked at"
    guess.say("map", {str(value): i for i, value in enumerate(ids)}, reason, doubt=True)
    if len(ids) < len(known):
        guess.doubts.append(f"invalid: {IGNORE} is taken as no label")
    guess.say("classes", len(ids), "one per value; names can be listed instead")


def _guess_blurred(
    guess: Guess,
    blurred: Sequence[FileSummary],
    files: Sequence[FileSummary],
    known: np.ndarray,
    counts: np.ndarray,
    invalid: list,
) -> None:
    """Values between classes: a mask can be cut in the middle, ids have to be resized again."""
    text = f"{len(blurred)} of {len(files)} files have values between their neighbors: they were interpolated"
    often = known[counts >= 0.02 * counts.sum()]
    ends = counts[(known <= known.min() + 8) | (known >= known.max() - 8)].sum() / counts.sum()
    if ends > 0.5 or len(often) <= 2:
        guess.say(
            "threshold", int(known.min() + known.max() + 1) // 2, f"{text}; half of the highest value", doubt=True
        )
        guess.say("classes", ["background", "object"], "names of your choice")
        return
    guess.say("map", {str(v): i for i, v in enumerate(often.tolist())}, "the frequent values", doubt=True)
    guess.say("classes", len(often), "one per frequent value")
    guess.doubts.append(f"{text}; resize the labels again with the nearest pixel")


def _has_ringing(file: FileSummary) -> bool:
    """Whether a mask shows artifacts of lossy compression: values near the two ends, some just below the upper one."""
    values, high = file.values, file.values.max(initial=0)
    ends = file.counts[(values <= 24) | (values >= high - 24)].sum()
    return bool(high >= 200 and ((values > high - 8) & (values < high - 1)).any() and ends > 0.9 * file.counts.sum())


def _guess_shares(guess: Guess, values: np.ndarray) -> None:
    if values.min() >= 0 and values.max() <= 1:
        guess.say("threshold", 0.5, f"values from {values.min():.3g} to {values.max():.3g}: probabilities", doubt=True)
        guess.say("classes", ["background", "object"], "names of your choice")
        return
    guess.doubts.append(f"values from {values.min():.3g} to {values.max():.3g} are no class ids: not whole numbers")


def _guess_channel(
    guess: Guess, files: Sequence[FileSummary], total: int, parts: bool, *, place: int, reason: str
) -> None:
    """Ids in one channel, at a `place` that may be counted from the last."""
    guess.say("channel", place % files[0].shape[-1], reason, doubt=True)
    before = len(guess.options)
    _guess_ids(guess, files, total, parts)
    if len(guess.options) == before:
        guess.options.clear()


def _guess_planes(guess: Guess, files: Sequence[FileSummary], total: int, parts: bool) -> None:
    count = {file.planes for file in files}
    shape = "x".join(map(str, files[0].shape))
    if len(count) > 1:
        guess.doubts.append(f"arrays of a plane per class have {_list(sorted(count))} planes in different files")
        return
    said = "exactly one plane is set" if files[0].form == "one-hot" else "the planes sum to one: the highest counts"
    guess.say("one_hot", True, f"arrays of {shape}: {said} at every pixel", doubt=True)
    guess.say("classes", count.pop(), "one per plane; names can be listed instead")


MANY_COLORS = 30
"""Classes are few, and most of them occur in several files; instances of each photograph have colors of their own."""


def _guess_colors(guess: Guess, files: Sequence[FileSummary], total: int, parts: bool) -> None:
    values, counts = pool_values(files)
    often = values[counts >= 0.002 * counts.sum()] if len(values) > IGNORE else values
    share = counts[np.isin(values, often)].sum() / counts.sum()
    if share < 0.8 or len(often) > IGNORE:
        guess.doubts.append(f"pictures of more than {IGNORE} colours are no label maps")
        return
    colors = [color_of(int(value)) for value in often]
    guess.say("colors", colors, f"the {len(colors)} colours of {len(files)} files", doubt=True)
    alone = sum(sum(code in file.codes for file in files) == 1 for code in often.tolist())
    if len(files) > 2 and len(often) >= MANY_COLORS and 2 * alone > len(often):
        guess.doubts.append(f"{alone} of the colours are in one file alone: instances, or numbers packed into colours?")
    if len(often) < len(values):
        text = f"{len(values) - len(often)} rare colours in {1 - share:.1%} of the pixels are left unlabelled"
        guess.doubts.append(f"{text}: the maps were interpolated or compressed with loss")
    guess.say("classes", len(colors), "one per colour, in the order above; names can be listed instead")
    if len(files) < total:
        guess.doubts.append(f"classes = {len(colors)}: only {len(files)} of {total} files were read")


def _guess_other(guess: Guess, files: Sequence[FileSummary], total: int, parts: bool) -> None:
    file = files[0]
    guess.doubts.append(f"{file.path.name} holds {file.dtype} of shape {file.shape}: neither class ids nor colours")


ALPHA = "the pictures have one color and differ in transparency"
FORMS: dict[str, Callable[[Guess, Sequence[FileSummary], int, bool], None]] = {
    "ids": _guess_ids,
    "grey": partial(_guess_channel, place=0, reason="the channels of the pictures are equal: ids, saved as grey"),
    "alpha": partial(_guess_channel, place=-1, reason=ALPHA),
    "colors": _guess_colors,
    "one-hot": _guess_planes,
    "scores": _guess_planes,
    "other": _guess_other,
}
FORM_WORDS = {
    "ids": "class ids",
    "grey": "grey pictures of three channels",
    "alpha": "transparency",
    "colors": "colours",
    "one-hot": "a plane per class",
    "scores": "scores of classes",
    "other": "neither ids nor colours",
}


def pool_values(files: Sequence[FileSummary]) -> tuple[np.ndarray, np.ndarray]:
    """The values of all files, sorted, and how many pixels each has."""
    values, place = np.unique(np.concatenate([file.values for file in files]), return_inverse=True)
    return values, np.bincount(place, np.concatenate([file.counts for file in files])).astype(np.int64)


def is_mark(value: float | int) -> bool:
    """Whether a value of a label map is a usual mark of missing labels, and no class: negative, or the end of a type.

    >>> is_mark(-1), is_mark(65535), is_mark(7)
    (True, True, False)
    """
    return value < 0 or value in (32767, 65535, 2**31 - 1, 2**32 - 1)


def is_spread_out(known: np.ndarray) -> bool:
    """Whether ids are so few and far apart that they were made to be looked at: 0, 85, 170, 255.

    >>> is_spread_out(np.array([0, 85, 170, 255])), is_spread_out(np.array([0, 6, 255]))
    (True, False)
    """
    return 2 <= len(known) <= 26 and bool((np.diff(known) >= 10).all()) and int(known.max()) <= IGNORE


def _list(values: Sequence[float | int]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:8])
    return shown + (", ..." if len(values) > 8 else "")


def guess_mask(paths: Sequence[Path], *, key: str = "", votes: bool = False) -> Guess:
    """The threshold of a mask or of a map of strengths; small whole numbers of a boundary map are votes."""
    guess, files = Guess(needs_options=True), summarize_files(paths, 200, key=key, by_index=False)
    read, alpha = files, [file for file in files if file.form == "alpha"]
    files = alpha if 2 * len(alpha) > len(read) else [file for file in read if file.form in ("ids", "grey")]
    if not files:
        clear = next((file.path.name for file in read if file.clear), "")
        text = f"pixels of {clear} are transparent: set channel = 3 if that is the mask"
        guess.doubts.append(text if clear else f"{why_unreadable(paths, key=key)}, or they are no masks of one channel")
        return guess
    if files is alpha:
        guess.say("channel", alpha[0].shape[-1] - 1, ALPHA, doubt=True)
    elif any(file.form == "grey" for file in files):
        guess.say("channel", 0, "the channels of the pictures are equal", doubt=True)
    values, _ = pool_values(files)
    marks = [value for value in values.tolist() if is_mark(value) and value != values.max()]
    if marks:
        guess.say("invalid", [int(v) if v == int(v) else v for v in marks], "marks of missing labels", doubt=True)
        values = values[~np.isin(values, marks)]
    highest, is_float = values.max(initial=0), files[0].dtype.kind == "f"
    ones = sum(file.codes - set(marks) <= {0, 1} and 1 in file.codes for file in files)
    wide = sum(max(file.codes, default=0) > 1 for file in files)
    are_two_codes = ones and not any({1, highest} <= file.codes for file in files)
    if highest <= 1:
        threshold, why = (0.5, "values between 0 and 1") if is_float else (1, "values are 0 and 1")
        guess.say("threshold", threshold, why)
    elif votes and highest <= 20 and len(values) > 2:
        guess.say("threshold", 2, f"values up to {highest:g} are taken as votes of annotators; two agree", doubt=True)
        old = guess.values.get("invalid", [])
        guess.say("invalid", [1, *old], "one vote alone: neither boundary nor background")
    elif are_two_codes and len(values) <= 3:
        guess.say("threshold", 1, f"{ones} files hold 0 and 1, {wide} files 0 and {highest:g}", doubt=True)
    elif len(values) == 3 and values[0] == 0 and (values[1] == 1 or abs(2 * values[1] - highest) <= 1):
        _guess_third_value(guess, values)
    elif len(values) == 2:
        told = f"values are {values[0]:g} and {highest:g}"
        guess.say("threshold", int(highest) // 2 + 1, told, doubt=bool(ones))
    else:
        guess.say("threshold", int(highest) // 2 + 1, f"values are shades up to {highest:g}; half of it", doubt=True)
        if ones:
            guess.doubts.append(f"threshold: {ones} files hold 0 and 1 alone, below it")
    _say_clear(guess, files)
    return guess


def _guess_third_value(guess: Guess, values: np.ndarray) -> None:
    """Guess the unlabelled value of a mask with three: of 0, 1 and 255 the last, of 0, 128 and 255 the middle one."""
    low, high = int(values[1]), int(values[2])
    unknown, inside = (high, low) if low == 1 else (low, high)
    old = guess.values.get("invalid", [])
    guess.say("threshold", inside, f"values are 0, {low} and {high}", doubt=True)
    guess.say("invalid", [*old, unknown], f"of 0, {low} and {high}, {unknown} is taken as no label", doubt=True)
