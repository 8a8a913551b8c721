"""What paired seeds say: Student's t, intervals, Holm's correction over the contrasts that were declared."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.optimize import brentq
from scipy.stats import chi2, nct
from scipy.stats import t as student


@dataclass(frozen=True)
class Contrast:
    """A mean of paired differences: its deviation over seeds, intervals of 90 and 95 %, and two-sided p, `adjusted`
    where it was declared beside others.
    """

    count: int
    mean: float
    deviation: float
    interval90: tuple[float, float]
    interval95: tuple[float, float]
    p: float
    adjusted: float

    @property
    def above(self) -> bool:
        """Whether it is above 0 at 5 %, after correction."""
        return self.mean > 0 and self.adjusted <= 0.05

    @property
    def below(self) -> bool:
        """Whether it is below 0 at 5 %, after correction."""
        return self.mean < 0 and self.adjusted <= 0.05

    def cells(self) -> list[str]:
        """Cells of a table: points and deviation, the intervals of 90 and 95 %, the adjusted p."""
        ends = [f"{low:+.2f} to {high:+.2f}" for low, high in (self.interval90, self.interval95)]
        return [f"{self.mean:+.2f} ± {self.deviation:.2f}", *ends, f"{self.adjusted:.3g}"]

    def within(self, limit: float) -> bool:
        """Whether the 90 % interval lies within ± `limit`: two one-sided tests at 5 %."""
        return -limit < self.interval90[0] and self.interval90[1] < limit


def paired(differences: Sequence[float]) -> Contrast:
    """Student's t of paired differences, of two or more.

    >>> found = paired([1.0, 2.0, 3.0])
    >>> [round(end, 3) for end in found.interval95], round(found.p, 4)
    ([-0.484, 4.484], 0.0742)
    """
    count = len(differences)
    if count < 2:
        raise ValueError(f"a paired test needs two seeds or more, here are {count}.")
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    error = deviation / count**0.5

    def interval(share: float) -> tuple[float, float]:
        half = float(student.ppf((1 + share) / 2, count - 1)) * error
        return mean - half, mean + half

    p = float(2 * student.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return Contrast(count, mean, deviation, interval(0.90), interval(0.95), p, p)


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p values: the k-th smallest of n times n - k + 1, never below a smaller one's, at most 1.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    largest, found = 0.0, {}
    for rank, (name, p) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(values) - rank) * p))
        found[name] = largest
    return {name: found[name] for name in values}


def declared(contrasts: Mapping[str, Sequence[float]]) -> dict[str, Contrast]:
    """The contrasts of one declaration, corrected for their number."""
    found = {name: paired(differences) for name, differences in contrasts.items()}
    adjusted = holm({name: each.p for name, each in found.items()})
    return {name: replace(each, adjusted=adjusted[name]) for name, each in found.items()}


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, float, float]:
    """The mean of `parts` over that of `wholes`, paired, with its 95 % interval (Fieller, 1954): the ratios r for which
    the paired t test does not tell parts - r wholes from 0.

    Raises `ValueError` where the wholes themselves are not told from 0: the interval would have no end.

    >>> [round(value, 2) for value in ratio([1.0, 2.0, 3.0], [9.0, 10.0, 11.0])]
    [0.2, -0.06, 0.36]
    """
    low, high = paired(wholes).interval95
    if low <= 0 <= high:
        raise ValueError(f"a share of {low:.3g} to {high:.3g} has no interval; say that the whole is not told from 0.")
    count, over = len(wholes), statistics.fmean(wholes)
    part, reach = statistics.fmean(parts), float(student.ppf(0.975, count - 1)) ** 2 / count
    square = over**2 - reach * statistics.variance(wholes)
    middle = part * over - reach * statistics.covariance(parts, wholes)
    half = math.sqrt(max(middle**2 - square * (part**2 - reach * statistics.variance(parts)), 0.0))
    return part / over, (middle - half) / square, (middle + half) / square


def power(deviation: float, count: int, *, point: float = 1.0, tests: int = 1) -> float:
    """The chance that `count` paired differences of a true mean of `point` are found above 0 at 5 %, two-sided, as the
    hardest of Holm's `tests`.

    >>> round(power(1.0, 34, point=0.5), 2)
    0.81
    """
    least, shift = student.ppf(1 - 0.05 / tests / 2, count - 1), point / deviation * count**0.5
    return float(nct.sf(least, count - 1, shift))


def smallest(deviation: float, count: int, *, share: float = 0.8) -> float:
    """The true mean that `count` paired differences of a deviation tell from 0 at 5 %, two-sided, with this chance.

    >>> found = smallest(2.0, 3)
    >>> round(found, 1), round(power(2.0, 3, point=found), 2)
    (6.5, 0.8)
    """
    return deviation * float(brentq(lambda point: power(1.0, count, point=point) - share, 1e-3, 10.0))


def highest_deviation(differences: Sequence[float], *, confidence: float = 0.8) -> float:
    """The deviation of differences at the upper end of a one-sided interval.

    >>> round(highest_deviation([1.0, 2.0, 3.0]), 3)
    2.117
    """
    freedom = len(differences) - 1
    return statistics.stdev(differences) * float((freedom / chi2.ppf(1 - confidence, freedom)) ** 0.5)
