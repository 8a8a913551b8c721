"""Chairs, sofas and beds: each function rolls the dice for one piece or group."""

from triptych.rooms.scene import BOX, Dice, Group, Part, Piece, Vector, apply, compose, turn
from triptych.rooms.shapes import ball, box, cone, legs, tube


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
    lean = dice.number(0.05, 0.16)
    tilt = turn(0, lean)
    rise = 0.5 * (height - seat)

    def back(cx: float, cz: float, half: Vector, slot: str) -> Part:
        dx, dy, dz = apply(tilt, (cx, 0.0, cz))
        return Part(BOX, (dx, -y + 0.02 + dy, seat + dz), half, slot, tilt)

    for sign in (-1, 1):
        parts.append(back(sign * (x - 0.02), rise, (0.018, 0.018, rise), wood))
    if dice.chance(0.4):
        parts.append(back(0.0, 1.2 * rise, (x - 0.035, 0.016, 0.75 * rise), fabric))
        return Piece("chair", parts)
    if dice.chance(0.5):
        parts += [back(0.0, f * 2 * rise, (x - 0.03, 0.01, 0.035), wood) for f in (0.4, 0.65, 0.93)]
        return Piece("chair", parts)
    parts.append(back(0.0, 1.86 * rise, (x - 0.03, 0.012, 0.04), wood))
    parts += [back(f * (x - 0.03), 0.93 * rise, (0.011, 0.008, 0.93 * rise), wood) for f in (-0.5, 0.0, 0.5)]
    return Piece("chair", parts)


def sofa(dice: Dice, seats: int) -> Group:
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
        parts.append(
            tube(
                (middle, -y + 0.5 * arm, arm_height - 0.5 * arm),
                (middle, y - 0.02 - 0.5 * arm, arm_height - 0.5 * arm),
                0.52 * arm,
                fabric,
            )
        )
        parts += [cone(s * (x + 0.5 * arm), b, (0.0, 0.09), 0.02, 0.03, legs) for b in (-y + 0.07, y - 0.09)]
    parts.append(box((-x, x), (-y, -y + 0.2), (0.1, height - 0.07), fabric))
    parts.append(tube((-x + 0.09, -y + 0.1, height - 0.09), (x - 0.09, -y + 0.1, height - 0.09), 0.1, fabric))
    cushion = inner / seats
    tilt = turn(0, 0.16)
    for i in range(seats):
        a, b = -x + i * cushion + 0.006, -x + (i + 1) * cushion - 0.006
        parts.append(box((a, b), (-y + 0.18, y - 0.07), (seat - 0.14, seat - 0.01), fabric))
        parts.append(tube((a + 0.065, y - 0.07, seat - 0.075), (b - 0.065, y - 0.07, seat - 0.075), 0.066, fabric))
        middle = 0.5 * (a + b)
        parts.append(
            Part(
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
    return Group(inner + 2 * arm, depth, height, [Piece("sofa", parts)])


def bed(dice: Dice, width: float) -> Group:
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
    return Group(width + 0.06, length + 0.1, head, [Piece("bed", parts)])
