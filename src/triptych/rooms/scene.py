"""Scene data types, parts of furniture from their measures, and a deterministic random generator.

A piece's frame: x to its right, y to its front, z up, origin on the floor below its middle; metres.
Everything is computed from raw PCG64 bits with additions, multiplications, divisions and square roots, so that a scene
has the same bits on every machine; library sines differ between processors in the last place.
"""

import hashlib
import math
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

CLASSES = (
    "wall", "floor", "ceiling", "window", "door", "curtain", "picture", "rug", "table", "chair",
    "sofa", "bed", "cabinet", "shelf", "books", "lamp", "plant", "box", "object", "person",
)  # fmt: skip
"""Semantic classes; `object` is the small things: balls, vases, bowls, screens."""

Item = TypeVar("Item")
Vector = tuple[float, float, float]
Rotation = tuple[Vector, Vector, Vector]
"""Rows of a rotation matrix, local to parent."""

BOX, SPHERE, CONE, CAPSULE = 0, 1, 2, 3
"""Canonical shapes: [-1, 1]^3; the unit sphere; a capped cone along z of radius 1 at z = -1 and `param` at z = 1 (1: a
cylinder); a capsule of radius 1 whose axis runs from z = -param to z = param."""

IDENTITY: Rotation = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Dice:
    """Random choices named by words: the same words, the same choices, on every machine and NumPy version.

    >>> Dice("room", 3).integer(0, 100) == Dice("room", 3).integer(0, 100)
    True
    """

    def __init__(self, *words: object) -> None:
        digest = hashlib.sha256("/".join(str(word) for word in words).encode()).digest()
        # Raw bits: NumPy promises the stream of its bit generators, not that of the distributions drawn from them.
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * ((self._bits.random_raw() >> 11) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """Uniform in low, ..., high - 1."""
        return low + int(self.number() * (high - low))

    def chance(self, probability: float) -> bool:
        return self.number() < probability

    def choice(self, items: Sequence[Item]) -> Item:
        return items[self.integer(0, len(items))]

    def shuffle(self, items: MutableSequence[Item]) -> None:
        for i in range(len(items) - 1, 0, -1):
            j = self.integer(0, i + 1)
            items[i], items[j] = items[j], items[i]


def cos_sin(angle: float) -> tuple[float, float]:
    """Cosine and sine by their power series, normalized to unit length; `angle` in radians.

    >>> cosine, sine = cos_sin(math.pi / 6)
    >>> round(cosine, 12), round(sine, 12)
    (0.866025403784, 0.5)
    """
    angle -= 2 * math.pi * math.floor(angle / (2 * math.pi) + 0.5)
    cosine, sine, term = 1.0, 0.0, 1.0
    for n in range(1, 24):
        term *= angle / n
        if n % 2:
            sine += term if n % 4 == 1 else -term
        else:
            cosine += term if n % 4 == 0 else -term
    length = math.sqrt(cosine * cosine + sine * sine)
    return cosine / length, sine / length


def turn(axis: int, angle: float) -> Rotation:
    """Right-handed rotation by `angle` about the x (0), y (1) or z (2) axis."""
    c, s = cos_sin(angle)
    return (
        ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c)),
        ((c, 0.0, s), (0.0, 1.0, 0.0), (-s, 0.0, c)),
        ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)),
    )[axis]


def apply(rotation: Rotation, v: Vector) -> Vector:
    a, b, c = rotation
    return (
        a[0] * v[0] + a[1] * v[1] + a[2] * v[2],
        b[0] * v[0] + b[1] * v[1] + b[2] * v[2],
        c[0] * v[0] + c[1] * v[1] + c[2] * v[2],
    )


def transpose(m: Rotation) -> Rotation:
    return ((m[0][0], m[1][0], m[2][0]), (m[0][1], m[1][1], m[2][1]), (m[0][2], m[1][2], m[2][2]))


def compose(first: Rotation, second: Rotation) -> Rotation:
    """`second`, then `first`."""
    columns = transpose(second)
    return transpose((apply(first, columns[0]), apply(first, columns[1]), apply(first, columns[2])))


def unit(v: Vector) -> Vector:
    length = math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    return (v[0] / length, v[1] / length, v[2] / length)


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def difference(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def along(direction: Vector) -> Rotation:
    """A rotation whose z axis points along `direction`, x axis level."""
    z = unit(direction)
    x = (1.0, 0.0, 0.0) if abs(z[2]) > 0.999 else unit((-z[1], z[0], 0.0))
    return transpose((x, cross(z, x), z))


class Solid(NamedTuple):
    """One solid of a piece in its frame: x right, y to the front, z up, origin on the floor below the middle."""

    kind: int
    center: Vector
    half: Vector
    """Half extents along the part's own axes, metres."""
    slot: str
    """Name of its material, `family:variant`; the look defines its appearance."""
    rotation: Rotation = IDENTITY
    param: float = 1.0
    casts: bool = True
    label: int = 0
    """Human part, 1 to 6; 0 for everything else."""


class Piece(NamedTuple):
    """One object: its class and its solids."""

    name: str
    parts: list[Solid]


class Ensemble(NamedTuple):
    """Pieces that are placed together: in a common frame, with their extent and the positions of their lamps."""

    width: float
    depth: float
    height: float
    pieces: list[Piece]
    lamps: tuple[Vector, ...] = ()


class Placement(NamedTuple):
    """Pose of a piece: its origin in the world and its rotation about the vertical axis."""

    x: float
    y: float
    z: float
    cosine: float
    sine: float

    def point(self, x: float, y: float, z: float = 0.0) -> Vector:
        return (self.x + self.cosine * x - self.sine * y, self.y + self.sine * x + self.cosine * y, self.z + z)

    def inner(self, x: float, y: float, z: float, angle: float = 0.0) -> "Placement":
        """A frame given within this one."""
        c, s = cos_sin(angle)
        px, py, pz = self.point(x, y, z)
        return Placement(px, py, pz, self.cosine * c - self.sine * s, self.sine * c + self.cosine * s)


class Light(NamedTuple):
    """A possible light: a lamp (a sphere at `center`), or a window (a rectangle: half axes `u`, `v`, `normal`)."""

    kind: str
    center: Vector
    u: Vector = (0.0, 0.0, 0.0)
    v: Vector = (0.0, 0.0, 0.0)
    normal: Vector = (0.0, 0.0, 0.0)


@dataclass
class Scene:
    """A room under construction: solids in world coordinates with class, instance and material."""

    size: Vector
    style: str
    solids: list[tuple[Solid, Rotation, Vector]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=lambda: ["floor", "ceiling", "wall", "wall", "wall", "wall"])
    """Class name of every instance; instance `i + 1` is `names[i]`."""
    lights: list[Light] = field(default_factory=list)

    def place(self, piece: Piece, frame: Placement) -> int:
        """Add a piece; returns its instance id."""
        self.names.append(piece.name)
        upright: Rotation = ((frame.cosine, -frame.sine, 0.0), (frame.sine, frame.cosine, 0.0), (0.0, 0.0, 1.0))
        for part in piece.parts:
            self.solids.append((part, compose(upright, part.rotation), frame.point(*part.center)))
            self.classes.append(CLASSES.index(piece.name))
            self.instances.append(len(self.names))
        return len(self.names)

    def place_group(self, group: Ensemble, frame: Placement) -> None:
        """Add every piece of a group, and its lamps."""
        for piece in group.pieces:
            self.place(piece, frame)
        self.lights += [Light("lamp", frame.point(*lamp)) for lamp in group.lamps]


def solid_arrays(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The rows `(P, 15)` of `rooms.rays.Geometry.solids`, and world bounds `(P, 6)` of the solids of a scene."""
    rows, bounds = np.empty((len(scene.solids), 15)), np.empty((len(scene.solids), 6))
    for i, (part, rotation, center) in enumerate(scene.solids):
        rows[i, 12:] = (part.param, part.kind, part.casts)
        wide = max(1.0, part.param) if part.kind == CONE else 1.0
        long = 1.0 + part.param if part.kind == CAPSULE else 1.0
        for k in range(3):
            a = (rotation[0][k] / part.half[k], rotation[1][k] / part.half[k], rotation[2][k] / part.half[k])
            rows[i, 4 * k : 4 * k + 4] = (*a, -(a[0] * center[0] + a[1] * center[1] + a[2] * center[2]))
            x, y, z = (abs(rotation[k][j]) * part.half[j] for j in range(3))
            reach = (x + y) * wide + z * long + 1e-6
            bounds[i, k], bounds[i, 3 + k] = center[k] - reach, center[k] + reach
    return rows, bounds


Range = tuple[float, float]


def box(x: Range, y: Range, z: Range, slot: str, **more: object) -> Solid:
    """An upright box from its ranges."""
    center = (0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1]), 0.5 * (z[0] + z[1]))
    return Solid(BOX, center, (0.5 * (x[1] - x[0]), 0.5 * (y[1] - y[0]), 0.5 * (z[1] - z[0])), slot, **more)  # type: ignore[arg-type]


def cone(x: float, y: float, z: Range, bottom: float, top: float, slot: str, **more: object) -> Solid:
    """An upright cylinder or cone from its radii."""
    half = (bottom, bottom, 0.5 * (z[1] - z[0]))
    return Solid(CONE, (x, y, 0.5 * (z[0] + z[1])), half, slot, param=top / bottom, **more)  # type: ignore[arg-type]


def ball(center: Vector, half: Vector, slot: str, **more: object) -> Solid:
    """A sphere or ellipsoid."""
    return Solid(SPHERE, center, half, slot, **more)  # type: ignore[arg-type]


def tube(start: Vector, end: Vector, radius: float, slot: str, **more: object) -> Solid:
    """A capsule between two points."""
    d = (end[0] - start[0], end[1] - start[1], end[2] - start[2])
    length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
    center = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]), 0.5 * (start[2] + end[2]))
    half = (radius, radius, radius)
    return Solid(CAPSULE, center, half, slot, along(d), 0.5 * length / radius, **more)  # type: ignore[arg-type]


def moved(piece: Piece, x: float, y: float, z: float = 0.0, angle: float = 0.0) -> Piece:
    """A piece at another place of its group."""
    rotation: Rotation = turn(2, angle)

    def move(part: Solid) -> Solid:
        cx, cy, cz = apply(rotation, part.center)
        return part._replace(center=(cx + x, cy + y, cz + z), rotation=compose(rotation, part.rotation))

    return Piece(piece.name, [move(part) for part in piece.parts])


def legs(width: float, depth: float, height: float, thick: float, slot: str, dice: Dice) -> list[Solid]:
    """Four legs below a rectangle, square or turned."""
    x, y = 0.5 * width - thick, 0.5 * depth - thick
    corners = [(x, y), (-x, y), (x, -y), (-x, -y)]
    if dice.chance(0.5):
        return [cone(a, b, (0.0, height), 0.6 * thick, thick, slot) for a, b in corners]
    return [box((a - thick, a + thick), (b - thick, b + thick), (0.0, height), slot) for a, b in corners]
