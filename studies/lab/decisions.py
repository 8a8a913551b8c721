"""The sentences that the study of geometry may say, each by a rule that was fixed before its runs.

P1 = D - E (true depth of the image, and of another image), P2 = D - F (one sample), P3 = D - G (true depth as an input,
nothing rendered), P4 = C - F (the chosen preset, one sample); Holm over these four at 5 %. C - A and H - A stand apart,
uncorrected.

Added with 10 of 64 rows there, none of them looked at: where P4 is above 0 the learned density is not said to go
unused, although its interval may lie within ± 1 (that margin was set for three times the deviation over seeds); and a
contrast below 0 is named, which no sentence did.
"""

from collections.abc import Mapping

from lab.inference import Contrast

NOT_TOLD_APART = "not told apart"
POINT = 1.0
"""A gain below which geometry is worth little, points."""


def sentences(primary: Mapping[str, Contrast], apart: Mapping[str, Contrast]) -> dict[str, bool]:
    """Which of the sentences hold, of contrasts named P1 to P4 and, apart, `C - A` and `H - A`.

    The 90 % interval within ± 1 point is the test of two one-sided hypotheses at 5 %: a wide interval supports neither
    that geometry helps nor that it is worth little.
    """
    geometry = [primary[name] for name in ("P1", "P2", "P3")]
    helps = all(each.above for each in geometry)
    branch = apart["C - A"].above
    return {
        "geometry helps": helps,
        "geometry is worth less than a point here": all(each.within(POINT) for each in geometry),
        "the learned density does not use it": helps and primary["P4"].within(POINT) and not primary["P4"].above,
        "the shipped branch helps by being 3D": primary["P4"].above,
        "the branch helps": branch,
        "the paper's sign pattern": branch and not apart["H - A"].above,
    }


def verdict(primary: Mapping[str, Contrast], apart: Mapping[str, Contrast]) -> str:
    """What may be said, sentence by sentence; of a question that no sentence answers, that it is not told apart."""
    held = sentences(primary, apart)
    questions = {
        "Does geometry help?": ("geometry helps", "geometry is worth less than a point here"),
        "Does the learned density use it?": ("the learned density does not use it",),
        "Does the shipped branch help by being 3D?": ("the shipped branch helps by being 3D",),
        "Does the branch help at all?": ("the branch helps", "the paper's sign pattern"),
    }
    lines = []
    for question, answers in questions.items():
        said = [answer for answer in answers if held[answer]] or [NOT_TOLD_APART]
        text = "; ".join(said)
        lines.append(f"- {question} {text[0].upper()}{text[1:]}.")
    below = [name for name, each in {**primary, **apart}.items() if each.below]
    lines.append(f"- Below 0: {', '.join(below) or 'none'}.")
    return "\n".join(lines)
