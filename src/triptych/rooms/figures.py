"""Standing figures from capsules, with the six human parts."""

from triptych.rooms.scene import CAPSULE, Dice, Ensemble, Piece, Solid, Vector, apply, ball, compose, tube, turn

HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG = 1, 2, 3, 4, 5, 6
"""Labels in the order of `triptych.tasks.HUMAN_PARTS`; neck and hair are head, hands lower arm, feet lower
leg."""


def figure(dice: Dice, number: int) -> Ensemble:
    """A standing or walking figure of 1.5 to 1.9 m; clothes are the materials of figure `number`."""
    height = dice.number(1.5, 1.9)
    girth = dice.number(0.9, 1.15)
    stride = dice.choice((0.0, 0.0, 0.25, 0.4)) * dice.number(0.6, 1.0)
    skin, shirt, trousers, shoe = f"skin:{number}", f"shirt:{number}", f"trousers:{number}", f"shoe:{number}"
    sleeve = dice.choice((shirt, shirt, skin))
    shin = dice.choice((trousers, trousers, trousers, skin))
    hip, shoulder = 0.5 * height, 0.81 * height
    parts = [
        Solid(
            CAPSULE,
            (0.0, 0.0, 0.5 * (hip + shoulder) + 0.01),
            (0.105 * height * girth, 0.066 * height * girth, 0.09 * height),
            shirt,
            param=0.72,
            label=TORSO,
        ),
        ball(
            (0.0, 0.0, hip + 0.01), (0.1 * height * girth, 0.07 * height * girth, 0.075 * height), trousers, label=TORSO
        ),
        *_head(dice, height, number),
    ]
    for side in (-1.0, 1.0):
        parts += _leg(dice, side, stride, hip, height, girth, (trousers, shin, shoe))
        parts += _arm(dice, side, shoulder, height, girth, (shirt, sleeve, skin))
    return Ensemble(0.62, 0.6, height, [Piece("person", parts)])


def _head(dice: Dice, height: float, number: int) -> list[Solid]:
    skin, hair = f"skin:{number}", f"hair:{number}"
    nod = compose(turn(2, dice.number(-0.5, 0.5)), turn(0, dice.number(-0.15, 0.25)))
    middle = 0.925 * height
    wide, deep, tall = 0.045 * height, 0.055 * height, 0.068 * height

    def at(v: Vector) -> Vector:
        x, y, z = apply(nod, v)
        return (x, y + 0.012 * height, middle + z)

    parts = [
        tube((0.0, 0.0, 0.8 * height), (0.0, 0.005 * height, 0.88 * height), 0.031 * height, skin, label=HEAD),
        ball(at((0.0, 0.0, 0.0)), (wide, deep, tall), skin, rotation=nod, label=HEAD),
        ball(
            at((0.0, 0.96 * deep, -0.1 * tall)),
            (0.008 * height, 0.011 * height, 0.014 * height),
            skin,
            rotation=nod,
            label=HEAD,
        ),
        ball(
            at((0.0, -0.22 * deep, 0.22 * tall)), (1.1 * wide, 0.98 * deep, 0.9 * tall), hair, rotation=nod, label=HEAD
        ),
    ]
    if dice.chance(0.4):
        parts.append(
            ball(
                at((0.0, -0.5 * deep, -0.5 * tall)),
                (0.95 * wide, 0.6 * deep, 1.1 * tall),
                hair,
                rotation=nod,
                label=HEAD,
            )
        )
    for side in (-0.4, 0.4):
        parts.append(
            ball(
                at((side * wide, 0.88 * deep, 0.12 * tall)),
                (0.0065 * height, 0.005 * height, 0.004 * height),
                "eye:0",
                label=HEAD,
            )
        )
    return parts


def _leg(
    dice: Dice, side: float, stride: float, hip: float, height: float, girth: float, slots: tuple[str, str, str]
) -> list[Solid]:
    swing = side * stride + dice.number(-0.04, 0.04)
    bend = dice.number(0.0, 0.1) + (0.5 * stride if swing < 0 else 0.0)
    spread = turn(1, -side * dice.number(0.02, 0.09))
    top = (side * 0.052 * height * girth, 0.0, hip)
    knee = _add(top, apply(compose(spread, turn(0, swing)), (0.0, 0.0, -0.245 * height)))
    ankle = _add(knee, apply(compose(spread, turn(0, swing - bend)), (0.0, 0.0, -0.222 * height)))
    # The lower of two feet stands on the floor; the other, behind, is on its toes.
    ankle = (ankle[0], ankle[1], max(0.033 * height, ankle[2]))
    toe = (ankle[0] + side * 0.015 * height, ankle[1] + 0.085 * height, 0.022 * height)
    return [
        tube(top, knee, 0.046 * height * girth, slots[0], label=UPPER_LEG),
        tube(knee, ankle, 0.034 * height * girth, slots[1], label=LOWER_LEG),
        tube((ankle[0], ankle[1], 0.024 * height), toe, 0.024 * height, slots[2], label=LOWER_LEG),
    ]


def _arm(
    dice: Dice, side: float, shoulder: float, height: float, girth: float, slots: tuple[str, str, str]
) -> list[Solid]:
    raised = dice.chance(0.2)
    swing = dice.number(1.2, 2.4) if raised else dice.number(-0.35, 0.5)
    out = -side * dice.number(0.08, 0.35)
    bend = dice.number(0.2, 1.0) if dice.chance(0.5) else dice.number(0.05, 1.7)
    upper = compose(turn(1, out), turn(0, swing))
    lower = compose(turn(1, out), turn(0, swing + bend))
    top = (side * 0.105 * height * girth, 0.0, shoulder - 0.012 * height)
    elbow = _add(top, apply(upper, (0.0, 0.0, -0.165 * height)))
    wrist = _add(elbow, apply(lower, (0.0, 0.0, -0.145 * height)))
    hand = _add(wrist, apply(lower, (0.0, 0.0, -0.035 * height)))
    return [
        tube(top, elbow, 0.029 * height * girth, slots[0], label=UPPER_ARM),
        tube(elbow, wrist, 0.025 * height * girth, slots[1], label=LOWER_ARM),
        tube(wrist, hand, 0.026 * height, slots[2], label=LOWER_ARM),
    ]


def _add(a: Vector, b: Vector) -> Vector:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2])
