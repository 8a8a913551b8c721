"""Lamps, plants, boxes, balls, vases, screens, rugs: each function rolls the dice for one piece or group."""

from triptych.rooms.scene import BOX, Dice, Group, Part, Piece, apply, compose, turn
from triptych.rooms.shapes import ball, box, cone


def floor_lamp(dice: Dice) -> Group:
    height, radius = dice.number(1.4, 1.7), dice.number(0.16, 0.24)
    parts = [
        cone(0.0, 0.0, (0.0, 0.03), 0.15, 0.14, "metal:1"),
        cone(0.0, 0.0, (0.03, height - 0.2), 0.013, 0.013, "metal:1"),
        cone(0.0, 0.0, (height - 0.28, height), radius, radius * dice.number(0.55, 0.9), "shade:0", casts=False),
    ]
    return Group(0.36, 0.36, height, [Piece("lamp", parts)], ((0.0, 0.0, height - 0.14),))


def table_lamp(dice: Dice) -> Group:
    height, radius = dice.number(0.34, 0.5), dice.number(0.1, 0.15)
    base = [
        [
            cone(0.0, 0.0, (0.0, 0.02), 0.07, 0.07, "metal:1"),
            cone(0.0, 0.0, (0.02, height - 0.1), 0.01, 0.01, "metal:1"),
        ],
        [
            ball((0.0, 0.0, 0.09), (0.075, 0.075, 0.09), "ceramic:0"),
            cone(0.0, 0.0, (0.16, height - 0.1), 0.014, 0.014, "metal:1"),
        ],
        [cone(0.0, 0.0, (0.0, height - 0.12), 0.07, 0.03, "ceramic:1")],
    ]
    parts = [
        *dice.choice(base),
        cone(0.0, 0.0, (height - 0.18, height), radius, radius * dice.number(0.5, 0.8), "shade:1", casts=False),
    ]
    return Group(0.24, 0.24, height, [Piece("lamp", parts)], ((0.0, 0.0, height - 0.09),))


def pendant(dice: Dice, drop: float) -> Group:
    """A lamp hanging from the ceiling; its frame's origin is on the ceiling."""
    radius = dice.number(0.14, 0.26)
    cord = cone(0.0, 0.0, (-drop, 0.0), 0.008, 0.008, "metal:0", casts=False)
    if dice.chance(0.4):
        shade = ball(
            (0.0, 0.0, -drop - 0.6 * radius), (0.7 * radius, 0.7 * radius, 0.7 * radius), "shade:2", casts=False
        )
    else:
        shade = cone(
            0.0, 0.0, (-drop - 0.2, -drop + 0.02), radius, radius * dice.number(0.3, 0.9), "shade:2", casts=False
        )
    return Group(0.5, 0.5, drop, [Piece("lamp", [cord, shade])], ((0.0, 0.0, -drop - 0.12),))


def plant(dice: Dice, height: float) -> Piece:
    """A pot with a bush, a palm or a small tree."""
    radius, pot = dice.number(0.14, 0.2) * min(1.0, height + 0.2), min(0.34, 0.35 * height)
    parts = [
        cone(0.0, 0.0, (0.0, pot), 0.75 * radius, radius, "ceramic:2"),
        cone(0.0, 0.0, (pot - 0.02, pot + 0.005), 0.92 * radius, 0.92 * radius, "soil:0"),
    ]
    trunk = 0.0 if dice.chance(0.5) else 0.35 * (height - pot)
    if trunk > 0.0:
        parts.append(cone(0.0, 0.0, (pot, pot + trunk + 0.1), 0.02, 0.014, "bark:0"))
    count = dice.integer(12, 20)
    long = 0.55 * (height - pot - trunk)
    for i in range(count):
        tilt = dice.number(0.15, 1.25) if i > 2 else dice.number(0.0, 0.2)
        rotation = compose(turn(2, 2.39996 * i + dice.number(-0.3, 0.3)), turn(0, tilt))
        size = long * dice.number(0.75, 1.0)
        wide = size * dice.number(0.22, 0.4)
        tip = apply(rotation, (0.0, 0.0, 0.95 * size))
        parts.append(
            ball(
                (tip[0], tip[1], pot + trunk + tip[2]),
                (wide, 0.05 * size + 0.004, size),
                f"leaf:{i % 2}",
                rotation=rotation,
            )
        )
    return Piece("plant", parts)


def cardboard_box(dice: Dice, size: float) -> Piece:
    """A box or crate, sometimes with a second one on top."""
    slot, x, y, z = (
        f"carton:{dice.integer(0, 3)}",
        size * dice.number(0.35, 0.55),
        size * dice.number(0.3, 0.5),
        size * dice.number(0.4, 0.9),
    )
    parts = [box((-x, x), (-y, y), (0.0, z), slot)]
    if dice.chance(0.3):
        rotation = turn(2, dice.number(-0.5, 0.5))
        parts.append(
            Part(BOX, (0.0, 0.0, 1.35 * z), (0.7 * x, 0.7 * y, 0.35 * z), f"carton:{dice.integer(0, 3)}", rotation)
        )
    return Piece("box", parts)


def play_ball(dice: Dice) -> Piece:
    radius = dice.number(0.09, 0.16)
    spin = compose(turn(0, dice.number(0.0, 3.0)), turn(2, dice.number(0.0, 3.0)))
    return Piece(
        "object", [ball((0.0, 0.0, radius), (radius, radius, radius), f"ball:{dice.integer(0, 3)}", rotation=spin)]
    )


def small_object(dice: Dice, size: float) -> Piece:
    """A vase, bowl, globe, small box or candle about `2 size` high."""
    slot = f"ceramic:{dice.integer(0, 4)}"
    kind = dice.integer(0, 4)
    parts = [
        [
            ball((0.0, 0.0, 0.7 * size), (0.6 * size, 0.6 * size, 0.7 * size), slot),
            cone(0.0, 0.0, (1.2 * size, 1.9 * size), 0.25 * size, 0.4 * size, slot),
        ],
        [cone(0.0, 0.0, (0.0, 0.7 * size), 0.5 * size, 1.1 * size, slot)],
        [
            ball((0.0, 0.0, size), (0.8 * size, 0.8 * size, 0.8 * size), "ball:0"),
            cone(0.0, 0.0, (0.0, 0.3 * size), 0.5 * size, 0.2 * size, "wood:1"),
        ],
        [cone(0.0, 0.0, (0.0, 1.6 * size), 0.45 * size, 0.45 * size, slot)],
    ][kind]
    return Piece("object", parts)


def screen(dice: Dice, width: float) -> Piece:
    """A television or monitor on a foot."""
    height = 0.58 * width
    parts = [
        box((-0.5 * width, 0.5 * width), (-0.02, 0.02), (0.08, 0.08 + height), "metal:0"),
        box((-0.5 * width + 0.015, 0.5 * width - 0.015), (0.02, 0.023), (0.095, 0.065 + height), "screen:0"),
        box((-0.025, 0.025), (-0.02, 0.0), (0.0, 0.1), "metal:0"),
        box((-0.16 * width, 0.16 * width), (-0.08, 0.08), (0.0, 0.015), "metal:0"),
    ]
    return Piece("object", parts)


def rug(dice: Dice, width: float, depth: float) -> Group:
    slot = f"rug:{dice.integer(0, 3)}"
    if dice.chance(0.3):
        radius = 0.5 * min(width, depth)
        return Group(
            2 * radius, 2 * radius, 0.012, [Piece("rug", [cone(0.0, 0.0, (0.0, 0.012), radius, radius, slot)])]
        )
    part = box((-0.5 * width, 0.5 * width), (-0.5 * depth, 0.5 * depth), (0.0, 0.012), slot)
    return Group(width, depth, 0.012, [Piece("rug", [part])])
