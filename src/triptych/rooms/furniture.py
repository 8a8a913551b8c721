"""Tables, shelves with books, and cabinets: each function rolls the dice for one piece or group."""

from triptych.rooms.scene import Dice, Group, Piece
from triptych.rooms.shapes import ball, box, cone, legs, moved
from triptych.rooms.things import small_object


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


def shelf(dice: Dice, width: float, height: float) -> Group:
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
    return Group(width, depth, height, [Piece("shelf", parts), *pieces])


def cabinet(dice: Dice, width: float, depth: float, height: float) -> Piece:
    """A cabinet with doors or drawers and knobs: nightstand, dresser, sideboard, wardrobe."""
    wood, front, knob = f"wood:{dice.integer(0, 3)}", f"wood:{dice.integer(0, 3)}", "metal:0"
    x, y, foot = 0.5 * width, 0.5 * depth, dice.number(0.04, 0.12)
    parts = [box((-x, x), (-y, y - 0.02), (foot, height), wood)]
    parts += [
        box((a - 0.02, a + 0.02), (b - 0.02, b + 0.02), (0.0, foot), wood)
        for a in (-x + 0.03, x - 0.03)
        for b in (-y + 0.03, y - 0.05)
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
