"""Which cells of a table of scores have learned something, and the table.

A cell has learned where its mean closes a quarter of the way from a constant predictor to what the task can reach here.
"""

import statistics
from collections.abc import Mapping, Sequence

from grid import markdown_table, mean_and_deviation

from lab.gains import HIGHER
from lab.study import Scores

SHARE = 0.25
CONSTANT = "constant"
"""The arm that has the constant predictor's scores."""
BySeed = Mapping[int, Scores]


def means(found: BySeed, tasks: Sequence[str]) -> Scores:
    """The mean over seeds of every task that an arm has."""
    each = list(found.values())
    return {name: statistics.fmean(row[name] for row in each) for name in tasks if each and name in each[0]}


def has_learned(task: str, value: float, *, constant: Scores, goal: Scores) -> bool:
    """Whether a score closes a quarter of the way from the constant's to the goal's; never where there is no way.

    >>> has_learned("depth", 0.8, constant={"depth": 1.0}, goal={"depth": 0.6})
    True
    >>> has_learned("depth", 0.8, constant={"depth": 1.0}, goal={"depth": 1.0})
    False
    """
    sign = 1 if HIGHER[task] else -1
    way = sign * (goal[task] - constant[task])
    return way > 0 and sign * (value - constant[task]) >= SHARE * way


def best(arms: Mapping[str, BySeed], tasks: Sequence[str]) -> Scores:
    """The best mean of every task over the arms."""
    found = [means(each, tasks) for each in arms.values()]
    return {
        name: (max if HIGHER[name] else min)(each[name] for each in found if name in each)
        for name in tasks
        if any(name in each for each in found)
    }


def cell(task: str, found: BySeed, *, constant: Scores, goal: Scores) -> str:
    """Mean ± deviation over seeds, in brackets where it has not learned; empty where the arm lacks the task."""
    values = [row[task] for row in found.values() if task in row]
    if not values:
        return ""
    text = mean_and_deviation(values, digits=3)
    return text if has_learned(task, statistics.fmean(values), constant=constant, goal=goal) else f"({text})"


def scores_table(arms: Mapping[str, BySeed], tasks: Sequence[str]) -> str:
    """The scores of every arm, the constant's in a row of its own, and how many cells have not learned, by the best arm
    of their column.
    """
    [constant] = arms[CONSTANT].values()
    goal = best(arms, tasks)
    lines = [[CONSTANT, "1", *(mean_and_deviation([constant[name]], digits=3) for name in tasks)]]
    others = {name: found for name, found in arms.items() if name != CONSTANT}
    for name, found in others.items():
        cells = [cell(task, found, constant=constant, goal=goal) for task in tasks]
        lines.append([name, str(len(found)), *cells])
    table = markdown_table(["arm", "seeds", *(f"{name} {'↑' if HIGHER[name] else '↓'}" for name in tasks)], lines)
    cells = [text for line in lines[1:] for text in line[2:] if text]
    bare = sum(text.startswith("(") for text in cells)
    return (
        f"{table}\n\nCells in brackets have not learned: they close less than a quarter of the way from the constant "
        f"predictor to the best arm of their column. They are {bare} of {len(cells)}."
    )
