"""Layout of a room: walls with windows, doors and pictures, furnished in one of four styles without collisions.

The frame of objects on a wall has its origin on the floor at the wall; x runs along the wall, y into the room.
"""

from triptych.rooms.furnishing import FURNISH, Floor, add_extras
from triptych.rooms.scene import Dice, Light, Piece, Placement, Scene, ball, box, cone, tube


def _border(x: float, z: tuple[float, float], wide: float, deep: float, slot: str) -> list:
    """Four bars around the opening [-x, x] by z."""
    return [
        box((-x - wide, -x), (0.0, deep), (z[0] - wide, z[1] + wide), slot),
        box((x, x + wide), (0.0, deep), (z[0] - wide, z[1] + wide), slot),
        box((-x, x), (0.0, deep), (z[1], z[1] + wide), slot),
        box((-x, x), (0.0, deep), (z[0] - wide, z[0]), slot),
    ]


def window(scene: Scene, frame: Placement, dice: Dice, width: float, sill: float, top: float) -> None:
    """A window with bars and sill, and its light."""
    x, slot = 0.5 * width, "trim:1"
    parts = [
        box((-x, x), (0.0, 0.006), (sill, top), "pane:0", casts=False),
        *_border(x, (sill, top), 0.055, 0.05, slot),
    ]
    columns, rows = max(1, round(width / dice.number(0.5, 0.8))), dice.integer(1, 3)
    parts += [
        box((at - 0.018, at + 0.018), (0.0, 0.035), (sill, top), slot)
        for at in (-x + i * width / columns for i in range(1, columns))
    ]
    parts += [
        box((-x, x), (0.0, 0.03), (at - 0.015, at + 0.015), slot)
        for at in (sill + j * (top - sill) / rows for j in range(1, rows))
    ]
    parts.append(box((-x - 0.1, x + 0.1), (0.0, 0.14), (sill - 0.075, sill - 0.05), slot))
    scene.place(Piece("window", parts), frame)
    center, u = frame.point(0.0, 0.012, 0.5 * (sill + top)), frame.point(x, 0.012, 0.5 * (sill + top))
    inward = frame.point(0.0, 1.012, 0.5 * (sill + top))
    scene.lights.append(
        Light(
            "window",
            center,
            (u[0] - center[0], u[1] - center[1], 0.0),
            (0.0, 0.0, 0.5 * (top - sill)),
            (inward[0] - center[0], inward[1] - center[1], 0.0),
        )
    )


def curtains(scene: Scene, frame: Placement, dice: Dice, width: float, bottom: float, top: float) -> None:
    """A rod and a curtain of folds on each side."""
    drawn = dice.number(0.16, 0.34) * width
    fold = dice.number(0.035, 0.05)
    for side in (-1.0, 1.0):
        count = max(3, int(drawn / (1.5 * fold)))
        parts = [
            cone(
                side * (0.5 * width + 0.1 - i * drawn / count),
                0.085 + 0.012 * (i % 2),
                (bottom, top + 0.1),
                fold * dice.number(0.9, 1.2),
                0.8 * fold,
                "curtain:0",
            )
            for i in range(count)
        ]
        scene.place(Piece("curtain", parts), frame)
    x = 0.5 * width + 0.2
    rod = [
        tube((-x, 0.085, top + 0.11), (x, 0.085, top + 0.11), 0.014, "metal:1"),
        *(ball((s * x, 0.085, top + 0.11), (0.03, 0.03, 0.03), "metal:1") for s in (-1, 1)),
    ]
    scene.place(Piece("curtain", rod), frame)


def door(scene: Scene, frame: Placement, dice: Dice, width: float, height: float) -> None:
    """A closed door with frame, raised panels and a handle."""
    x, leaf = 0.5 * width, "door:0"
    parts = [
        box((-x, x), (0.0, 0.02), (0.0, height), leaf),
        *(
            box((s * (x + 0.04) - 0.04, s * (x + 0.04) + 0.04), (0.0, 0.045), (0.0, height + 0.08), "trim:0")
            for s in (-1, 1)
        ),
        box((-x, x), (0.0, 0.045), (height, height + 0.08), "trim:0"),
    ]
    columns, rows = dice.integer(1, 3), dice.integer(1, 4)
    wide, tall = (width - 0.1) / columns, (height - 0.2) / rows
    parts += [
        box((a + 0.05, a + wide - 0.05), (0.0, 0.03), (z + 0.04, z + tall - 0.04), leaf)
        for a in (-x + 0.05 + i * wide for i in range(columns))
        for z in (0.12 + j * tall for j in range(rows))
    ]
    side = dice.choice((-1.0, 1.0))
    parts += [
        tube((side * (x - 0.07), 0.065, 1.02), (side * (x - 0.18), 0.065, 1.02), 0.012, "metal:0"),
        tube((side * (x - 0.07), 0.02, 1.02), (side * (x - 0.07), 0.065, 1.02), 0.012, "metal:0"),
    ]
    scene.place(Piece("door", parts), frame)


def picture(
    scene: Scene, frame: Placement, dice: Dice, number: int, width: float, height: float, middle: float
) -> None:
    """A framed picture, with a mat in half of the cases."""
    x, z, rim = 0.5 * width, 0.5 * height, dice.number(0.02, 0.05)
    parts = [box((-x, x), (0.0, 0.012), (middle - z, middle + z), f"art:{number}")]
    if dice.chance(0.5):
        mat = 0.16 * min(width, height)
        parts = [
            box((-x, x), (0.0, 0.01), (middle - z, middle + z), "linen:0"),
            box((-x + mat, x - mat), (0.0, 0.013), (middle - z + mat, middle + z - mat), f"art:{number}"),
        ]
    parts += _border(x, (middle - z, middle + z), rim, 0.028, f"wood:{dice.integer(0, 3)}")
    scene.place(Piece("picture", parts), frame)


STYLES = ("living", "living", "bedroom", "bedroom", "study", "dining")
"""Styles as often as they occur."""


def build_layout(dice: Dice) -> tuple[Scene, Floor]:
    """A furnished room."""
    style = dice.choice(STYLES)
    size = (dice.number(3.5, 6.0), dice.number(3.5, 6.0), dice.number(2.4, 2.9))
    scene = Scene(size, style)
    floor = Floor(scene, dice)
    _build_structure(floor, dice)
    _open_walls(floor, dice)
    FURNISH[style](floor, dice)
    add_extras(floor, dice)
    _hang_pictures(floor, dice)
    return scene, floor


def _build_structure(floor: Floor, dice: Dice) -> None:
    """A column in a corner, or beams under the ceiling."""
    width, depth, height = floor.scene.size
    if dice.chance(0.2):
        side = dice.number(0.3, 0.6)
        x, y = dice.choice((0.5 * side, width - 0.5 * side)), dice.choice((0.5 * side, depth - 0.5 * side))
        part = box((-0.5 * side, 0.5 * side), (-0.5 * side, 0.5 * side), (0.0, height), "wall:0")
        floor.scene.place(Piece("wall", [part]), Placement(x, y, 0.0, 1.0, 0.0))
        floor.taken.append((x - 0.5 * side, y - 0.5 * side, x + 0.5 * side, y + 0.5 * side, height))
        for wall, at in enumerate((y, y, x, x)):
            floor.walls[wall].append((at - 0.5 * side - 0.05, at + 0.5 * side + 0.05, 0.0, height))
    if dice.chance(0.25):
        count, thick = dice.integer(2, 5), dice.number(0.1, 0.2)
        beams = [
            box((0.0, width), (y - 0.5 * thick, y + 0.5 * thick), (height - thick, height), "wood:2")
            for y in (depth * (i + 0.5) / count for i in range(count))
        ]
        floor.scene.place(Piece("ceiling", beams), Placement(0.0, 0.0, 0.0, 1.0, 0.0))


def _open_walls(floor: Floor, dice: Dice) -> None:
    """One or two windows, and a door on another wall."""
    scene = floor.scene
    walls = [0, 1, 2, 3]
    dice.shuffle(walls)
    for wall in walls[: dice.integer(1, 3)]:
        length = floor.wall_length(wall)
        width = min(dice.number(1.0, 2.2), length - 1.3)
        at, sill, top = (
            dice.number(0.5 * width + 0.5, length - 0.5 * width - 0.5),
            dice.number(0.75, 1.0),
            dice.number(1.9, min(2.2, scene.size[2] - 0.25)),
        )
        hang = dice.choice((0.0, sill - 0.15, sill))
        reach = 0.5 * width + 0.22
        if floor.wall_free(wall, at - reach, at + reach, 0.0, top):
            frame = floor.wall_frame(wall, at)
            window(scene, frame, dice, width, sill, top)
            if hang < sill:
                curtains(scene, frame, dice, width, hang + 0.02, top)
                center = frame.point(0.0, 0.08)
                x, y = abs(frame.cosine) * reach + 0.08, abs(frame.sine) * reach + 0.08
                floor.taken.append((center[0] - x, center[1] - y, center[0] + x, center[1] + y, top))
            floor.walls[wall].append((at - reach, at + reach, hang - 0.08, top + 0.15))
    for wall in walls[2 : dice.choice((3, 3, 4))]:
        width, height, length = dice.number(0.75, 0.95), dice.number(1.95, 2.1), floor.wall_length(wall)
        at, reach = dice.number(0.5 * width + 0.15, length - 0.5 * width - 0.15), 0.5 * width + 0.12
        if floor.wall_free(wall, at - reach, at + reach, 0.0, height):
            frame = floor.wall_frame(wall, at)
            door(scene, frame, dice, width, height)
            floor.walls[wall].append((at - reach, at + reach, 0.0, height))
            clear = frame.point(0.0, 0.35)
            floor.taken.append((clear[0] - 0.4, clear[1] - 0.4, clear[0] + 0.4, clear[1] + 0.4, 0.0))


def _hang_pictures(floor: Floor, dice: Dice) -> None:
    """Hang pictures where the wall is free above the furniture."""
    number = 0
    for wall in range(4):
        length = floor.wall_length(wall)
        for _ in range(dice.integer(1, 4)):
            width, height = dice.number(0.35, 1.0), dice.number(0.35, 0.75)
            at, middle = dice.number(0.6, length - 0.6), dice.number(1.5, 1.7)
            reach = 0.5 * width + 0.12
            if reach < at < length - reach and floor.wall_free(
                wall, at - reach, at + reach, middle - 0.5 * height - 0.1, middle + 0.5 * height + 0.1
            ):
                picture(floor.scene, floor.wall_frame(wall, at), dice, number, width, height, middle)
                floor.walls[wall].append((at - reach, at + reach, middle - 0.5 * height, middle + 0.5 * height))
                number += 1
