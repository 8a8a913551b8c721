"""The floor plan of a room, and the furnishing of rooms by style."""

from collections.abc import Callable

from triptych.rooms.figures import figure
from triptych.rooms.furniture import (
    bed,
    cabinet,
    cardboard_box,
    chair,
    floor_lamp,
    pendant,
    plant,
    play_ball,
    rug,
    screen,
    shelf,
    small_object,
    sofa,
    table,
    table_lamp,
)
from triptych.rooms.scene import Dice, Ensemble, Piece, Placement, Scene, box


class Floor:
    """Occupied parts of the floor and the walls of a room."""

    def __init__(self, scene: Scene, dice: Dice) -> None:
        self.scene, self.dice = scene, dice
        self.taken: list[tuple[float, float, float, float, float]] = []
        """Footprints: x0, y0, x1, y1, height."""
        self.walls: dict[int, list[tuple[float, float, float, float]]] = {0: [], 1: [], 2: [], 3: []}
        """Occupied rectangles of each wall: from, to, bottom, top."""
        self.targets: list[tuple[float, float, float]] = []
        """Points of interest for cameras."""
        self.figures: list[tuple[float, float]] = []
        """Positions of figures."""

    def wall_length(self, wall: int) -> float:
        return self.scene.size[1] if wall < 2 else self.scene.size[0]

    def wall_frame(self, wall: int, along: float, away: float = 0.0) -> Placement:
        """A frame on the floor at a wall, y into the room."""
        width, depth, _ = self.scene.size
        corner = ((0.0, along, 0.0, -1.0), (width, along, 0.0, 1.0), (along, 0.0, 1.0, 0.0), (along, depth, -1.0, 0.0))[
            wall
        ]
        frame = Placement(corner[0], corner[1], 0.0, corner[2], corner[3])
        return frame.inner(0.0, away, 0.0)

    def wall_free(self, wall: int, start: float, end: float, bottom: float, top: float) -> bool:
        return all(end < a or start > b or top < low or bottom > high for a, b, low, high in self.walls[wall])

    def rectangle(self, group: Ensemble, frame: Placement) -> tuple[float, float, float, float]:
        c, s = abs(frame.cosine), abs(frame.sine)
        hx = 0.5 * (c * group.width + s * group.depth)
        hy = 0.5 * (s * group.width + c * group.depth)
        return (frame.x - hx, frame.y - hy, frame.x + hx, frame.y + hy)

    def free(self, rectangle: tuple[float, float, float, float], margin: float = 0.04) -> bool:
        x0, y0, x1, y1 = rectangle
        width, depth, _ = self.scene.size
        if x0 < 0.01 or y0 < 0.01 or x1 > width - 0.01 or y1 > depth - 0.01:
            return False
        return all(
            x1 + margin < a or x0 - margin > c or y1 + margin < b or y0 - margin > d for a, b, c, d, _ in self.taken
        )

    def put(self, group: Ensemble, frame: Placement) -> None:
        self.scene.place_group(group, frame)
        self.taken.append((*self.rectangle(group, frame), group.height))
        self.targets.append((frame.x, frame.y, min(0.55 * group.height, 1.1)))

    def against_wall(self, group: Ensemble, gap: float = 0.03, tries: int = 30) -> Placement | None:
        """Put a group with its back to a wall, clear of doors and, if it is tall, of windows."""
        for _ in range(tries):
            wall = self.dice.integer(0, 4)
            reach = 0.5 * group.width + 0.05
            length = self.wall_length(wall)
            if length <= 2 * reach:
                continue
            at = self.dice.number(reach, length - reach)
            if self.dice.chance(0.4):
                at = reach if self.dice.chance(0.5) else length - reach
            if not self.wall_free(wall, at - reach, at + reach, 0.0, group.height + 0.05):
                continue
            frame = self.wall_frame(wall, at, 0.5 * group.depth + gap)
            if self.free(self.rectangle(group, frame)):
                self.put(group, frame)
                self.walls[wall].append((at - reach, at + reach, 0.0, group.height))
                return frame
        return None

    def anywhere(self, group: Ensemble, margin: float = 0.08, tries: int = 30) -> Placement | None:
        """Put a group at a free place in a random direction; tested is a square that contains it in every direction."""
        width, depth, _ = self.scene.size
        reach = 0.6 * max(group.width, group.depth)
        for _ in range(tries):
            x, y = self.dice.number(reach, width - reach), self.dice.number(reach, depth - reach)
            turned = self.dice.number(0.0, 6.283)
            if self.free((x - reach, y - reach, x + reach, y + reach), margin):
                frame = Placement(0.0, 0.0, 0.0, 1.0, 0.0).inner(x, y, 0.0, turned)
                self.put(group, frame)
                return frame
        return None


def _on_top(floor: Floor, group: Ensemble, frame: Placement, x: float, y: float, z: float, angle: float = 0.0) -> None:
    floor.scene.place_group(group, frame.inner(x, y, z, angle))


def _small(floor: Floor, frame: Placement, dice: Dice, width: float, depth: float, z: float, most: int) -> None:
    """A few small things in a row on a surface."""
    count = dice.integer(0, most + 1)
    for i in range(count):
        x = width * ((i + 0.5) / count - 0.5) * 0.8
        thing = dice.integer(0, 4)
        if thing == 0:
            piece = plant(dice, dice.number(0.3, 0.45))
        elif thing == 1:
            parts, level = [], 0.0
            for _ in range(dice.integer(1, 5)):
                tall = dice.number(0.02, 0.045)
                a, b = dice.number(0.09, 0.12), dice.number(0.07, 0.09)
                parts.append(box((-a, a), (-b, b), (level, level + tall), f"book:{dice.integer(0, 14)}"))
                level += tall
            piece = Piece("books", parts)
        else:
            piece = small_object(dice, dice.number(0.06, 0.11))
        _on_top(
            floor,
            Ensemble(0.2, 0.2, 0.2, [piece]),
            frame,
            x,
            dice.number(-0.15, 0.15) * depth,
            z,
            dice.number(-0.6, 0.6),
        )


def _carpet(floor: Floor, frame: Placement, dice: Dice, width: float, depth: float) -> None:
    """A rug below a frame, if the room has space for it; rugs do not occupy the floor."""
    group = rug(dice, width, depth)
    x0, y0, x1, y1 = floor.rectangle(group, frame)
    if x0 > 0.05 and y0 > 0.05 and x1 < floor.scene.size[0] - 0.05 and y1 < floor.scene.size[1] - 0.05:
        floor.scene.place_group(group, frame)


def _living(floor: Floor, dice: Dice) -> None:
    frame = floor.against_wall(sofa(dice, dice.integer(2, 4)), gap=dice.number(0.03, 0.3))
    if frame is not None:
        width, depth, height = dice.number(0.7, 1.1), dice.number(0.5, 0.7), dice.number(0.38, 0.48)
        ahead = frame.inner(dice.number(-0.2, 0.2), 0.5 + dice.number(0.65, 0.85), 0.0)
        group = Ensemble(width, depth, height, [table(dice, width, depth, height)])
        if floor.free(floor.rectangle(group, ahead)):
            floor.put(group, ahead)
            _small(floor, ahead, dice, width, depth, height, 3)
            if dice.chance(0.7):
                _carpet(floor, ahead, dice, width + dice.number(0.6, 1.2), depth + dice.number(0.5, 1.0))
    _sideboard(floor, dice, with_screen=dice.chance(0.75))
    if dice.chance(0.6):
        floor.anywhere(sofa(dice, 1), margin=0.05)
    if dice.chance(0.7):
        floor.against_wall(floor_lamp(dice))
    _bookcase(floor, dice, dice.integer(0, 3))


def _bedroom(floor: Floor, dice: Dice) -> None:
    group = bed(dice, dice.choice((0.95, 1.4, 1.6, 1.8)))
    frame = floor.against_wall(group, tries=60)
    if frame is not None:
        for side in (-1.0, 1.0):
            width, depth, height = dice.number(0.38, 0.5), dice.number(0.36, 0.42), dice.number(0.42, 0.58)
            stand = Ensemble(width, depth, height, [cabinet(dice, width, depth, height)])
            place = frame.inner(
                side * (0.5 * group.width + 0.5 * width + 0.06), -0.5 * group.depth + 0.5 * depth + 0.02, 0.0
            )
            if dice.chance(0.85) and floor.free(floor.rectangle(stand, place), 0.0):
                floor.put(stand, place)
                if dice.chance(0.7):
                    _on_top(floor, table_lamp(dice), place, 0.0, 0.0, height)
                else:
                    _small(floor, place, dice, 0.2, 0.2, height, 1)
        if dice.chance(0.6):
            _carpet(floor, frame.inner(0.0, 0.6, 0.0), dice, group.width + 1.0, 1.7)
    _wardrobe(floor, dice)
    _sideboard(floor, dice, with_screen=False)
    _bookcase(floor, dice, dice.integer(0, 2))
    if dice.chance(0.5):
        floor.anywhere(Ensemble(0.5, 0.5, 0.9, [chair(dice)]))


def _desk(floor: Floor, dice: Dice) -> None:
    width, depth, height = dice.number(1.0, 1.6), dice.number(0.6, 0.75), dice.number(0.7, 0.76)
    frame = floor.against_wall(Ensemble(width, depth, height, [table(dice, width, depth, height)]))
    if frame is None:
        return
    if dice.chance(0.8):
        wide = dice.number(0.45, 0.65)
        _on_top(
            floor,
            Ensemble(wide, 0.2, 0.5, [screen(dice, wide)]),
            frame,
            0.0,
            -0.14,
            height,
            dice.number(-0.2, 0.2),
        )
    if dice.chance(0.6):
        _on_top(floor, table_lamp(dice), frame, -0.38 * width, -0.1, height)
    if dice.chance(0.6):
        _on_top(floor, Ensemble(0.2, 0.2, 0.2, [small_object(dice, 0.07)]), frame, 0.36 * width, 0.05, height)
    seat = frame.inner(
        dice.number(-0.15, 0.15), 0.5 * depth + dice.number(0.1, 0.35), 0.0, 3.14159 + dice.number(-0.5, 0.5)
    )
    floor.put(Ensemble(0.5, 0.5, 0.9, [chair(dice)]), seat)


def _study(floor: Floor, dice: Dice) -> None:
    _desk(floor, dice)
    _bookcase(floor, dice, dice.integer(2, 4))
    if dice.chance(0.7):
        floor.against_wall(sofa(dice, dice.integer(1, 3)))
    if dice.chance(0.6):
        width = dice.number(1.4, 2.2)
        _carpet(
            floor,
            Placement(0.5 * floor.scene.size[0], 0.5 * floor.scene.size[1], 0.0, 1.0, 0.0),
            dice,
            width,
            0.7 * width,
        )
    if dice.chance(0.5):
        floor.against_wall(floor_lamp(dice))
    if dice.chance(0.5):
        _sideboard(floor, dice, with_screen=False)


def _dining(floor: Floor, dice: Dice) -> None:
    width, depth, height = dice.number(0.9, 1.8), dice.number(0.75, 0.95), dice.number(0.72, 0.77)
    x, y = floor.scene.size[0] * dice.number(0.42, 0.58), floor.scene.size[1] * dice.number(0.42, 0.58)
    frame = Placement(0.0, 0.0, 0.0, 1.0, 0.0).inner(x, y, 0.0, dice.choice((0.0, 0.5)) * 3.14159265)
    group = Ensemble(width, depth, height, [table(dice, width, depth, height)])
    if not floor.free(floor.rectangle(group, frame)):
        return
    floor.put(group, frame)
    _small(floor, frame, dice, width, depth, height, 3)
    kind = dice.number()
    count = 2 if width > 1.2 else 1
    for side in (-1.0, 1.0):
        for i in range(count):
            place = frame.inner(
                width * ((i + 0.5) / count - 0.5),
                side * (0.5 * depth + dice.number(0.0, 0.25)),
                0.0,
                (0.0 if side < 0 else 3.14159) + dice.number(-0.25, 0.25),
            )
            if dice.chance(0.9):
                floor.put(Ensemble(0.5, 0.5, 0.9, [chair(Dice("chair", kind))]), place)
    for side in (-1.0, 1.0):
        place = frame.inner(
            side * (0.5 * width + dice.number(0.05, 0.2)), 0.0, 0.0, -side * -1.5708 + dice.number(-0.2, 0.2)
        )
        if dice.chance(0.5):
            floor.put(Ensemble(0.5, 0.5, 0.9, [chair(Dice("chair", kind))]), place)
    if dice.chance(0.6):
        _carpet(floor, frame, dice, width + 1.0, depth + 1.0)
    _on_top(
        floor,
        pendant(dice, floor.scene.size[2] - dice.number(1.6, 1.85)),
        frame,
        0.0,
        0.0,
        floor.scene.size[2],
    )
    _sideboard(floor, dice, with_screen=False)
    _bookcase(floor, dice, dice.integer(0, 2))
    if dice.chance(0.4):
        floor.against_wall(floor_lamp(dice))


def _sideboard(floor: Floor, dice: Dice, with_screen: bool) -> None:
    width, depth, height = dice.number(0.9, 1.7), dice.number(0.38, 0.48), dice.number(0.45, 0.85)
    frame = floor.against_wall(Ensemble(width, depth, height, [cabinet(dice, width, depth, height)]))
    if frame is None:
        return
    if with_screen:
        wide = min(width, dice.number(0.8, 1.3))
        _on_top(floor, Ensemble(wide, 0.2, 0.5, [screen(dice, wide)]), frame, 0.0, 0.0, height)
    else:
        _small(floor, frame, dice, width, depth, height, 3)


def _wardrobe(floor: Floor, dice: Dice) -> None:
    width, depth, height = dice.number(0.9, 1.8), dice.number(0.55, 0.62), dice.number(1.8, 2.15)
    floor.against_wall(Ensemble(width, depth, height, [cabinet(dice, width, depth, height)]))


def _bookcase(floor: Floor, dice: Dice, count: int) -> None:
    for _ in range(count):
        height = dice.number(0.8, 1.2) if dice.chance(0.35) else dice.number(1.6, 2.1)
        floor.against_wall(shelf(dice, dice.number(0.7, 1.2), height))


def add_extras(floor: Floor, dice: Dice) -> None:
    """Plants, boxes, balls, the ceiling lamp and the figures."""
    for number in range(dice.choice((0, 0, 1, 1, 1, 2))):
        frame = floor.anywhere(figure(dice, number), margin=0.05, tries=40)
        if frame is not None:
            floor.figures.append((frame.x, frame.y))
    for _ in range(dice.integer(0, 3)):
        height = dice.number(0.6, 1.6)
        floor.against_wall(Ensemble(0.45 + 0.3 * height, 0.45 + 0.3 * height, height, [plant(dice, height)]))
    for _ in range(dice.integer(0, 3)):
        size = dice.number(0.25, 0.6)
        floor.anywhere(Ensemble(1.1 * size, size, size, [cardboard_box(dice, size)]))
    for _ in range(dice.integer(0, 3)):
        floor.anywhere(Ensemble(0.3, 0.3, 0.3, [play_ball(dice)]))
    if floor.scene.style != "dining":
        width, depth, height = floor.scene.size
        frame = Placement(width * dice.number(0.4, 0.6), depth * dice.number(0.4, 0.6), height, 1.0, 0.0)
        floor.scene.place_group(pendant(dice, dice.number(0.1, 0.3)), frame)


FURNISH: dict[str, Callable[[Floor, Dice], None]] = {
    "living": _living,
    "bedroom": _bedroom,
    "study": _study,
    "dining": _dining,
}
"""Functions that furnish a room, by style."""
