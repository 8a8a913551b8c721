"""Parts of pieces from their measures: boxes, cones, balls and tubes.

A piece's frame: x to its right, y to its front, z up, origin on the floor below its middle; metres.
"""

import math

from triptych.rooms.scene import (
    BOX,
    CAPSULE,
    CONE,
    SPHERE,
    Dice,
    Part,
    Piece,
    Rotation,
    Vector,
    along,
    apply,
    compose,
    turn,
)

Range = tuple[float, float]


def box(x: Range, y: Range, z: Range, slot: str, **more: object) -> Part:
    """An upright box from its ranges."""
    centre = (0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1]), 0.5 * (z[0] + z[1]))
    return Part(BOX, centre, (0.5 * (x[1] - x[0]), 0.5 * (y[1] - y[0]), 0.5 * (z[1] - z[0])), slot, **more)  # type: ignore[arg-type]


def cone(x: float, y: float, z: Range, bottom: float, top: float, slot: str, **more: object) -> Part:
    """An upright cylinder or cone from its radii."""
    half = (bottom, bottom, 0.5 * (z[1] - z[0]))
    return Part(CONE, (x, y, 0.5 * (z[0] + z[1])), half, slot, param=top / bottom, **more)  # type: ignore[arg-type]


def ball(centre: Vector, half: Vector, slot: str, **more: object) -> Part:
    """A sphere or ellipsoid."""
    return Part(SPHERE, centre, half, slot, **more)  # type: ignore[arg-type]


def tube(start: Vector, end: Vector, radius: float, slot: str, **more: object) -> Part:
    """A capsule between two points."""
    d = (end[0] - start[0], end[1] - start[1], end[2] - start[2])
    length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
    centre = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]), 0.5 * (start[2] + end[2]))
    half = (radius, radius, radius)
    return Part(CAPSULE, centre, half, slot, along(d), 0.5 * length / radius, **more)  # type: ignore[arg-type]


def moved(piece: Piece, x: float, y: float, z: float = 0.0, angle: float = 0.0) -> Piece:
    """A piece at another place of its group."""
    rotation: Rotation = turn(2, angle)

    def move(part: Part) -> Part:
        cx, cy, cz = apply(rotation, part.centre)
        return part._replace(centre=(cx + x, cy + y, cz + z), rotation=compose(rotation, part.rotation))

    return Piece(piece.name, [move(part) for part in piece.parts])


def legs(width: float, depth: float, height: float, thick: float, slot: str, dice: Dice) -> list[Part]:
    """Four legs below a rectangle, square or turned."""
    x, y = 0.5 * width - thick, 0.5 * depth - thick
    corners = [(x, y), (-x, y), (x, -y), (-x, -y)]
    if dice.chance(0.5):
        return [cone(a, b, (0.0, height), 0.6 * thick, thick, slot) for a, b in corners]
    return [box((a - thick, a + thick), (b - thick, b + thick), (0.0, height), slot) for a, b in corners]
