"""Furniture and things: tables, shelves, cabinets, seats, beds, lamps, plants and small objects as parts."""

from triptych.rooms.scene import (
    BOX,
    Dice,
    Ensemble,
    Piece,
    Solid,
    Vector,
    apply,
    ball,
    box,
    compose,
    cone,
    legs,
    moved,
    tube,
    turn,
)


def floor_lamp(dice: Dice) -> Ensemble:
    height, radius = dice.number(1.4, 1.7), dice.number(0.16, 0.24)
    parts = [
        cone(0.0, 0.0, (0.0, 0.03), 0.15, 0.14, "metal:1"),
        cone(0.0, 0.0, (0.03, height - 0.2), 0.013, 0.013, "metal:1"),
        cone(0.0, 0.0, (height - 0.28, height), radius, radius * dice.number(0.55, 0.9), "shade:0", casts=False),
    ]
    return Ensemble(0.36, 0.36, height, [Piece("lamp", parts)], ((0.0, 0.0, height - 0.14),))


def table_lamp(dice: Dice) -> Ensemble:
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
    return Ensemble(0.24, 0.24, height, [Piece("lamp", parts)], ((0.0, 0.0, height - 0.09),))


def pendant(dice: Dice, drop: float) -> Ensemble:
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
    return Ensemble(0.5, 0.5, drop, [Piece("lamp", [cord, shade])], ((0.0, 0.0, -drop - 0.12),))


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
            Solid(BOX, (0.0, 0.0, 1.35 * z), (0.7 * x, 0.7 * y, 0.35 * z), f"carton:{dice.integer(0, 3)}", rotation)
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


def rug(dice: Dice, width: float, depth: float) -> Ensemble:
    slot = f"rug:{dice.integer(0, 3)}"
    if dice.chance(0.3):
        radius = 0.5 * min(width, depth)
        return Ensemble(
            2 * radius, 2 * radius, 0.012, [Piece("rug", [cone(0.0, 0.0, (0.0, 0.012), radius, radius, slot)])]
        )
    part = box((-0.5 * width, 0.5 * width), (-0.5 * depth, 0.5 * depth), (0.0, 0.012), slot)
    return Ensemble(width, depth, 0.012, [Piece("rug", [part])])


def table(dice: Dice, width: float, depth: float, height: float) -> Piece:
    """A table with a rectangular or round top on legs or a column."""
    slot, top = f"wood:{dice.integer(0, 3)}", f"wood:{dice.integer(0, 3)}"
    if dice.chance(0.25) and abs(width - depth) < 0.3:
        radius = 0.5 * min(width, depth)
        parts = [
            cone(0.0, 0.0, (height - 0.035, height), radius, radius, top),
            cone(0.0, 0.0, (0.03, height - 0.035), 0.06, 0.04, slot),
            cone(0.0, 0.0, (0.0, 0.03), 0.55 * radius, 0.5 * radius, slot),
        ]
        return Piece("table", parts)
    feet = legs(width, depth, height - 0.03, dice.number(0.02, 0.035), slot, dice)
    rail, x, y = dice.number(0.05, 0.09), 0.5 * width - 0.05, 0.5 * depth - 0.05
    aprons = [
        box((-x, x), (s * y - 0.012, s * y + 0.012), (height - 0.03 - rail, height - 0.03), slot) for s in (-1, 1)
    ]
    aprons += [
        box((s * x - 0.012, s * x + 0.012), (-y, y), (height - 0.03 - rail, height - 0.03), slot) for s in (-1, 1)
    ]
    slab = box((-0.5 * width, 0.5 * width), (-0.5 * depth, 0.5 * depth), (height - 0.03, height), top)
    return Piece("table", [slab, *feet, *aprons])


def _books(dice: Dice, x: tuple[float, float], y: tuple[float, float], z: float, height: float) -> Piece:
    """A row of books on a board, standing, the last ones leaning or lying."""
    parts, at = [], x[0]
    end = x[0] + (x[1] - x[0]) * dice.number(0.55, 1.0)
    while at < end - 0.02:
        thick, tall, deep = (
            dice.number(0.016, 0.05),
            height * dice.number(0.6, 0.95),
            (y[1] - y[0]) * dice.number(0.65, 0.95),
        )
        if at + thick > x[1]:
            break
        parts.append(box((at, at + thick - 0.001), (y[0], y[0] + deep), (z, z + tall), f"book:{dice.integer(0, 14)}"))
        at += thick
    if at + 0.24 < x[1] and dice.chance(0.6):
        level = z
        for _ in range(dice.integer(1, 4)):
            thick, wide = dice.number(0.02, 0.045), dice.number(0.16, 0.22)
            parts.append(
                box(
                    (x[1] - wide, x[1] - 0.01),
                    (y[0], y[1] - 0.02),
                    (level, level + thick),
                    f"book:{dice.integer(0, 14)}",
                )
            )
            level += thick
    return Piece("books", parts)


def shelf(dice: Dice, width: float, height: float) -> Ensemble:
    """A bookcase: sides, boards, back, books and a few objects."""
    wood, depth, thick = f"wood:{dice.integer(0, 3)}", dice.number(0.26, 0.36), 0.022
    x, y = 0.5 * width, 0.5 * depth
    parts = [
        box((s * (x - 0.5 * thick) - 0.5 * thick, s * (x - 0.5 * thick) + 0.5 * thick), (-y, y), (0.0, height), wood)
        for s in (-1, 1)
    ]
    parts.append(box((-x + thick, x - thick), (-y, -y + 0.01), (0.05, height), f"wood:{dice.integer(0, 3)}"))
    rows = max(2, int(height / dice.number(0.32, 0.42)))
    step = (height - 0.08 - thick) / rows
    pieces = []
    for row in range(rows + 1):
        z = 0.06 + row * step
        parts.append(box((-x + thick, x - thick), (-y + 0.01, y - 0.005), (z, z + thick), wood))
        if row == rows:
            break
        inside = (-x + thick + 0.005, x - thick - 0.005)
        if dice.chance(0.75):
            books = _books(dice, inside, (-y + 0.02, y - 0.03), z + thick, step - thick - 0.02)
            if books.parts:
                pieces.append(books)
        elif dice.chance(0.8):
            thing = small_object(dice, min(0.1, 0.3 * (step - thick)))
            pieces.append(moved(thing, dice.number(0.5 * inside[0], 0.5 * inside[1]), 0.0, z + thick))
    return Ensemble(width, depth, height, [Piece("shelf", parts), *pieces])


def cabinet(dice: Dice, width: float, depth: float, height: float) -> Piece:
    """A cabinet with doors or drawers and knobs: nightstand, dresser, sideboard, wardrobe."""
    wood, front, knob = f"wood:{dice.integer(0, 3)}", f"wood:{dice.integer(0, 3)}", "metal:0"
    x, y, foot = 0.5 * width, 0.5 * depth, dice.number(0.04, 0.12)
    parts = [
        box((-x, x), (-y, y - 0.02), (foot, height), wood),
        *(
            box((a - 0.02, a + 0.02), (b - 0.02, b + 0.02), (0.0, foot), wood)
            for a in (-x + 0.03, x - 0.03)
            for b in (-y + 0.03, y - 0.05)
        ),
    ]
    columns = max(1, round(width / 0.5))
    rows = 1 if height > 1.2 else max(1, round((height - foot) / dice.number(0.2, 0.4)))
    wide, tall = width / columns, (height - foot - 0.02) / rows
    for i in range(columns):
        for j in range(rows):
            a, z = -x + i * wide, foot + j * tall
            parts.append(
                box((a + 0.008, a + wide - 0.008), (y - 0.02, y - 0.002), (z + 0.008, z + tall - 0.004), front)
            )
            middle = a + 0.5 * wide if rows > 1 else a + (wide - 0.05 if i % 2 == 0 else 0.05)
            parts.append(ball((middle, y + 0.008, z + 0.5 * tall), (0.016, 0.016, 0.016), knob))
    return Piece("cabinet", parts)


def chair(dice: Dice) -> Piece:
    """A chair: four legs, a seat with or without a cushion, a back of slats or a panel; equal dice, equal chairs."""
    wood, fabric = f"wood:{dice.integer(0, 3)}", f"fabric:{dice.integer(0, 4)}"
    width, depth = dice.number(0.42, 0.5), dice.number(0.42, 0.5)
    seat, height = dice.number(0.43, 0.47), dice.number(0.82, 1.0)
    x, y = 0.5 * width, 0.5 * depth
    parts = legs(width, depth, seat - 0.03, 0.02, wood, dice)
    parts.append(box((-x, x), (-y, y), (seat - 0.03, seat), wood))
    if dice.chance(0.6):
        parts.append(box((-x + 0.02, x - 0.02), (-y + 0.03, y - 0.01), (seat, seat + 0.035), fabric))
    tilt = turn(0, dice.number(0.05, 0.16))
    rise = 0.5 * (height - seat)

    def back(cx: float, cz: float, half: Vector, slot: str) -> Solid:
        dx, dy, dz = apply(tilt, (cx, 0.0, cz))
        return Solid(BOX, (dx, -y + 0.02 + dy, seat + dz), half, slot, tilt)

    parts += [back(sign * (x - 0.02), rise, (0.018, 0.018, rise), wood) for sign in (-1, 1)]
    if dice.chance(0.4):
        parts.append(back(0.0, 1.2 * rise, (x - 0.035, 0.016, 0.75 * rise), fabric))
    elif dice.chance(0.5):
        parts += [back(0.0, f * 2 * rise, (x - 0.03, 0.01, 0.035), wood) for f in (0.4, 0.65, 0.93)]
    else:
        parts += [
            back(0.0, 1.86 * rise, (x - 0.03, 0.012, 0.04), wood),
            *(back(f * (x - 0.03), 0.93 * rise, (0.011, 0.008, 0.93 * rise), wood) for f in (-0.5, 0.0, 0.5)),
        ]
    return Piece("chair", parts)


def sofa(dice: Dice, seats: int) -> Ensemble:
    """A sofa or armchair: base, arms with round tops, back, seat cushions and pillows."""
    fabric, legs = f"fabric:{dice.integer(0, 4)}", "wood:0"
    arm, depth, seat, height = (
        dice.number(0.12, 0.2),
        dice.number(0.82, 0.95),
        dice.number(0.4, 0.46),
        dice.number(0.74, 0.9),
    )
    inner = seats * dice.number(0.6, 0.68)
    x, y = 0.5 * inner, 0.5 * depth
    arm_height = seat + dice.number(0.14, 0.22)
    parts = [box((-x, x), (-y + 0.02, y - 0.03), (0.1, seat - 0.14), fabric)]
    for s in (-1, 1):
        parts.append(
            box(
                (min(s * x, s * (x + arm)), max(s * x, s * (x + arm))),
                (-y, y - 0.02),
                (0.08, arm_height - 0.5 * arm),
                fabric,
            )
        )
        middle = s * (x + 0.5 * arm)
        parts += [
            tube(
                (middle, -y + 0.5 * arm, arm_height - 0.5 * arm),
                (middle, y - 0.02 - 0.5 * arm, arm_height - 0.5 * arm),
                0.52 * arm,
                fabric,
            ),
            *(cone(s * (x + 0.5 * arm), b, (0.0, 0.09), 0.02, 0.03, legs) for b in (-y + 0.07, y - 0.09)),
        ]
    parts += [
        box((-x, x), (-y, -y + 0.2), (0.1, height - 0.07), fabric),
        tube((-x + 0.09, -y + 0.1, height - 0.09), (x - 0.09, -y + 0.1, height - 0.09), 0.1, fabric),
    ]
    cushion = inner / seats
    tilt = turn(0, 0.16)
    for i in range(seats):
        a, b = -x + i * cushion + 0.006, -x + (i + 1) * cushion - 0.006
        parts += [
            box((a, b), (-y + 0.18, y - 0.07), (seat - 0.14, seat - 0.01), fabric),
            tube((a + 0.065, y - 0.07, seat - 0.075), (b - 0.065, y - 0.07, seat - 0.075), 0.066, fabric),
        ]
        middle = 0.5 * (a + b)
        parts.append(
            Solid(
                BOX,
                (middle, -y + 0.25, seat + 0.5 * (height - seat) - 0.02),
                (0.5 * (b - a), 0.07, 0.5 * (height - seat) - 0.04),
                fabric,
                tilt,
            )
        )
    pillow = f"pillow:{dice.integer(0, 4)}"
    for s in (-1, 1):
        if dice.chance(0.6):
            rotation = compose(turn(2, s * dice.number(0.2, 0.7)), turn(0, 1.25))
            parts.append(ball((s * (x - 0.2), -y + 0.4, seat + 0.15), (0.22, 0.2, 0.075), pillow, rotation=rotation))
    return Ensemble(inner + 2 * arm, depth, height, [Piece("sofa", parts)])


def bed(dice: Dice, width: float) -> Ensemble:
    """A bed: frame, headboard, mattress, blanket, pillows."""
    wood, sheet, blanket = f"wood:{dice.integer(0, 3)}", "linen:0", f"fabric:{dice.integer(0, 4)}"
    length, base, top, head = 2.05, dice.number(0.2, 0.3), dice.number(0.46, 0.55), dice.number(0.85, 1.15)
    x, y = 0.5 * width, 0.5 * length
    parts = [
        box((-x, x), (-y + 0.05, y), (0.1, base), wood),
        box((-x - 0.02, x + 0.02), (-y, -y + 0.06), (0.0, head), wood),
        box((-x + 0.02, x - 0.02), (-y + 0.06, y - 0.03), (base, top), sheet),
        box((-x - 0.01, x + 0.01), (-y + dice.number(0.55, 0.9), y - 0.005), (base - 0.06, top + 0.03), blanket),
    ]
    if dice.chance(0.5):
        parts.append(box((-x - 0.02, x + 0.02), (y, y + 0.05), (0.0, dice.number(0.4, 0.6)), wood))
    parts += [cone(a, b, (0.0, 0.12), 0.03, 0.03, wood) for a in (-x + 0.06, x - 0.06) for b in (-y + 0.1, y - 0.06)]
    places = (0.0,) if width < 1.2 else (-0.24 * width, 0.24 * width)
    for p in places:
        tilt = compose(turn(2, dice.number(-0.1, 0.1)), turn(0, dice.number(0.2, 0.5)))
        parts.append(ball((p, -y + 0.3, top + 0.08), (0.21 * min(width, 1.7), 0.2, 0.085), "linen:1", rotation=tilt))
    if dice.chance(0.4):
        parts.append(
            ball(
                (dice.number(-0.2, 0.2), -y + 0.52, top + 0.11),
                (0.2, 0.19, 0.08),
                f"pillow:{dice.integer(0, 4)}",
                rotation=turn(0, 0.8),
            )
        )
    return Ensemble(width + 0.06, length + 0.1, head, [Piece("bed", parts)])
