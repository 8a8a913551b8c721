"""What hangs on walls: windows with curtains, doors, pictures.

A frame's origin is on the floor at the wall; x runs along the wall, y into the room.
"""

from triptych.rooms.scene import Dice, Frame, Light, Piece, Scene
from triptych.rooms.shapes import ball, box, cone, tube


def _border(x: float, z: tuple[float, float], wide: float, deep: float, slot: str) -> list:
    """Four bars around the opening [-x, x] by z."""
    return [
        box((-x - wide, -x), (0.0, deep), (z[0] - wide, z[1] + wide), slot),
        box((x, x + wide), (0.0, deep), (z[0] - wide, z[1] + wide), slot),
        box((-x, x), (0.0, deep), (z[1], z[1] + wide), slot),
        box((-x, x), (0.0, deep), (z[0] - wide, z[0]), slot),
    ]


def window(scene: Scene, frame: Frame, dice: Dice, width: float, sill: float, top: float) -> None:
    """A window with bars and sill, and its light."""
    x, slot = 0.5 * width, "trim:1"
    parts = [
        box((-x, x), (0.0, 0.006), (sill, top), "pane:0", casts=False),
        *_border(x, (sill, top), 0.055, 0.05, slot),
    ]
    columns, rows = max(1, round(width / dice.number(0.5, 0.8))), dice.integer(1, 3)
    for i in range(1, columns):
        at = -x + i * width / columns
        parts.append(box((at - 0.018, at + 0.018), (0.0, 0.035), (sill, top), slot))
    for j in range(1, rows):
        at = sill + j * (top - sill) / rows
        parts.append(box((-x, x), (0.0, 0.03), (at - 0.015, at + 0.015), slot))
    parts.append(box((-x - 0.1, x + 0.1), (0.0, 0.14), (sill - 0.075, sill - 0.05), slot))
    scene.place(Piece("window", parts), frame)
    centre, u = frame.point(0.0, 0.012, 0.5 * (sill + top)), frame.point(x, 0.012, 0.5 * (sill + top))
    inward = frame.point(0.0, 1.012, 0.5 * (sill + top))
    scene.lights.append(
        Light(
            "window",
            centre,
            (u[0] - centre[0], u[1] - centre[1], 0.0),
            (0.0, 0.0, 0.5 * (top - sill)),
            (inward[0] - centre[0], inward[1] - centre[1], 0.0),
        )
    )


def curtains(scene: Scene, frame: Frame, dice: Dice, width: float, bottom: float, top: float) -> None:
    """A rod and a curtain of folds on each side."""
    drawn = dice.number(0.16, 0.34) * width
    fold = dice.number(0.035, 0.05)
    for side in (-1.0, 1.0):
        parts = []
        count = max(3, int(drawn / (1.5 * fold)))
        for i in range(count):
            at = side * (0.5 * width + 0.1 - i * drawn / count)
            parts.append(
                cone(
                    at,
                    0.085 + 0.012 * (i % 2),
                    (bottom, top + 0.1),
                    fold * dice.number(0.9, 1.2),
                    0.8 * fold,
                    "curtain:0",
                )
            )
        scene.place(Piece("curtain", parts), frame)
    x = 0.5 * width + 0.2
    rod = [
        tube((-x, 0.085, top + 0.11), (x, 0.085, top + 0.11), 0.014, "metal:1"),
        *(ball((s * x, 0.085, top + 0.11), (0.03, 0.03, 0.03), "metal:1") for s in (-1, 1)),
    ]
    scene.place(Piece("curtain", rod), frame)


def door(scene: Scene, frame: Frame, dice: Dice, width: float, height: float) -> None:
    """A closed door with frame, raised panels and a handle."""
    x, leaf = 0.5 * width, "door:0"
    parts = [box((-x, x), (0.0, 0.02), (0.0, height), leaf)]
    parts += [
        box((s * (x + 0.04) - 0.04, s * (x + 0.04) + 0.04), (0.0, 0.045), (0.0, height + 0.08), "trim:0")
        for s in (-1, 1)
    ]
    parts.append(box((-x, x), (0.0, 0.045), (height, height + 0.08), "trim:0"))
    columns, rows = dice.integer(1, 3), dice.integer(1, 4)
    wide, tall = (width - 0.1) / columns, (height - 0.2) / rows
    for i in range(columns):
        for j in range(rows):
            a, z = -x + 0.05 + i * wide, 0.12 + j * tall
            parts.append(box((a + 0.05, a + wide - 0.05), (0.0, 0.03), (z + 0.04, z + tall - 0.04), leaf))
    side = dice.choice((-1.0, 1.0))
    parts.append(tube((side * (x - 0.07), 0.065, 1.02), (side * (x - 0.18), 0.065, 1.02), 0.012, "metal:0"))
    parts.append(tube((side * (x - 0.07), 0.02, 1.02), (side * (x - 0.07), 0.065, 1.02), 0.012, "metal:0"))
    scene.place(Piece("door", parts), frame)


def picture(scene: Scene, frame: Frame, dice: Dice, number: int, width: float, height: float, middle: float) -> None:
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
