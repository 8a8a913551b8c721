"""Choose cameras: views that show much of a room, and short paths that start from them."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from triptych.rooms.layout import Floor
from triptych.rooms.rays import Geometry, probe
from triptych.rooms.scene import (
    CLASSES,
    Dice,
    Rotation,
    Scene,
    Vector,
    compose,
    cross,
    difference,
    transpose,
    turn,
    unit,
)

HEIGHTS = {"a": (1.25, 1.65), "b": (0.75, 1.1)}
"""Camera height above the floor in metres, by look."""
FOCAL = {"a": (0.68, 0.86), "b": (0.6, 0.74)}
"""Focal length as a fraction of the image's width (of 4/3 of its height where that is more)."""
LOW = 0.5
"""Furniture that cameras may pass over, metres; higher pieces may carry lamps and screens."""
CANDIDATES = 12
PROBE = (18, 24)


class Viewpoint(NamedTuple):
    """A pinhole camera that looks at a point."""

    position: Vector
    target: Vector
    roll: float
    focal: float

    def rotation(self) -> Rotation:
        """Camera to world: columns x right, y down, z forward."""
        forward = unit(difference(self.target, self.position))
        right = unit(cross(forward, (0.0, 0.0, 1.0)))
        return compose(transpose((right, cross(forward, right), forward)), turn(2, self.roll))

    def pose(self) -> np.ndarray:
        """Camera to world, (4, 4) float64."""
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.rotation(), self.position
        return pose

    def intrinsics(self, size: tuple[int, int]) -> np.ndarray:
        """(3, 3) float64 in pixels, pixel centers at integer + 0.5."""
        height, width = size
        f = self.focal * max(width, height * 4 / 3)
        return np.array([[f, 0.0, 0.5 * width], [0.0, f, 0.5 * height], [0.0, 0.0, 1.0]])


def choose_views(
    scene: Scene, floor: Floor, geometry: Geometry, dice: Dice, *, look: str, views: int, path_length: int
) -> list[list[Viewpoint]]:
    """`views` camera paths of `path_length` frames around one point of the room.

    Each first frame is the best of a few random ones: much furniture, nothing close to the camera, away from the
    other views. The views do not depend on `path_length`, nor the first ones on `views`.
    """
    middle = (0.5 * scene.size[0], 0.5 * scene.size[1], 0.7)
    spot = dice.choice(floor.targets) if floor.targets else middle
    x, y, z = (0.6 * a + 0.4 * b for a, b in zip(spot, middle, strict=True))
    focus = (x, y, z)
    paths: list[list[Viewpoint]] = []

    def worth(scored: tuple[float, Viewpoint]) -> float:
        x, y, _ = scored[1].position
        return scored[0] - 6.0 * sum(_near(x, y, *path[0].position[:2], 0.7) for path in paths)

    for number in range(views):
        own = Dice("view", dice.number(), number)
        _, view = max((_candidate(scene, floor, geometry, own, focus, look) for _ in range(CANDIDATES)), key=worth)
        paths.append(_path(floor, view, Dice("path", own.number()), path_length))
    return paths


def _candidate(
    scene: Scene, floor: Floor, geometry: Geometry, dice: Dice, focus: Vector, look: str
) -> tuple[float, Viewpoint]:
    width, depth, _ = scene.size
    height = dice.number(*HEIGHTS[look])
    target = (focus[0] + dice.number(-0.5, 0.5), focus[1] + dice.number(-0.5, 0.5), focus[2] + dice.number(-0.1, 0.5))
    roll, focal = dice.number(-0.03, 0.03), dice.number(*FOCAL[look])
    for attempt in range(60):
        x, y = dice.number(0.15, width - 0.15), dice.number(0.15, depth - 0.15)
        close = any(_near(x, y, a, b, 1.6 if attempt < 40 else 0.9) for a, b in ((focus[0], focus[1]), *floor.figures))
        if not close and _standable(floor, x, y, height):
            view = Viewpoint((x, y, height), target, roll, focal)
            return _score(scene, geometry, view), view
    return -1e9, Viewpoint((0.5 * width, 0.5 * depth, height), target, roll, focal)


def _standable(floor: Floor, x: float, y: float, height: float) -> bool:
    """Whether a camera may be above a point of the floor: away from walls, and above low furniture only."""
    width, depth, _ = floor.scene.size
    inside = 0.15 < x < width - 0.15 and 0.15 < y < depth - 0.15
    return inside and all(
        top < min(LOW, height - 0.6) or not (a - 0.2 < x < c + 0.2 and b - 0.2 < y < d + 0.2)
        for a, b, c, d, top in floor.taken
    )


def _score(scene: Scene, geometry: Geometry, view: Viewpoint) -> float:
    """Score of a view: objects, the share of the image that they fill, figures; minus surfaces close to the camera."""
    depth, solid = probe(geometry, np.array(view.position), np.array(view.rotation()), view.intrinsics(PROBE), *PROBE)
    seen = solid[solid >= 0]
    stuff = {CLASSES.index(name) for name in ("wall", "ceiling", "window", "door", "curtain", "picture")}
    instances = Counter(scene.instances[index] for index in seen.tolist() if scene.classes[index] not in stuff)
    pixels = depth.size
    objects = sum(1 for count in instances.values() if count >= 4)
    people = sum(min(count, 40) for index, count in instances.items() if scene.names[index - 1] == "person")
    share = sum(instances.values()) / pixels
    largest = max(instances.values(), default=0) / pixels
    close = int((depth < 0.7).sum()) / pixels
    return min(objects, 14) + 10 * min(share, 0.6) + 0.08 * people - 12 * max(largest - 0.35, 0.0) - 60 * close


def _path(floor: Floor, start: Viewpoint, dice: Dice, length: int) -> list[Viewpoint]:
    """Steady camera path from `start`, looking at a slowly drifting point; it turns back before furniture, walls and
    that point.
    """
    step, heading = dice.number(0.04, 0.08), turn(2, dice.number(0.0, 2 * math.pi))
    dx, dy, dz = step * heading[0][0], step * heading[1][0], dice.number(-0.005, 0.005)
    drift, droll = (
        [dice.number(-0.02, 0.02), dice.number(-0.02, 0.02), dice.number(-0.01, 0.01)],
        dice.number(-2e-3, 2e-3),
    )
    path = [start]
    for _ in range(length - 1):
        (x, y, z), roll, target = path[-1].position, path[-1].roll, list(path[-1].target)
        if not _standable(floor, x + dx, y + dy, z) or _near(x + dx, y + dy, target[0], target[1], 0.8):
            dx, dy = -dx, -dy
        for k in range(3):
            target[k], drift[k] = _sway(target[k], drift[k], start.target[k], 0.4)
        z, dz = _sway(z, dz, start.position[2], 0.1)
        roll, droll = _sway(roll, droll, start.roll, 0.03)
        path.append(Viewpoint((x + dx, y + dy, z), (target[0], target[1], target[2]), roll, start.focal))
    return path


def _sway(value: float, step: float, middle: float, reach: float) -> tuple[float, float]:
    """Advance a value by a step, reversed where it would leave middle +- reach; returns the new value and the step."""
    step = step if abs(value + step - middle) < reach else -step
    return value + step, step


def _near(x: float, y: float, a: float, b: float, reach: float) -> bool:
    return (x - a) * (x - a) + (y - b) * (y - b) < reach * reach
