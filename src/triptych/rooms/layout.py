"""Rooms: walls with windows, doors and pictures, furnished in one of four styles without collisions."""

from triptych.rooms.floor import Floor
from triptych.rooms.furnishing import FURNISH, add_extras
from triptych.rooms.openings import curtains, door, picture, window
from triptych.rooms.scene import Dice, Frame, Piece, Scene
from triptych.rooms.shapes import box

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
        floor.scene.place(Piece("wall", [part]), Frame(x, y, 0.0, 1.0, 0.0))
        floor.taken.append((x - 0.5 * side, y - 0.5 * side, x + 0.5 * side, y + 0.5 * side, height))
        for wall in range(4):
            at = (y, y, x, x)[wall]
            floor.walls[wall].append((at - 0.5 * side - 0.05, at + 0.5 * side + 0.05, 0.0, height))
    if dice.chance(0.25):
        count, thick = dice.integer(2, 5), dice.number(0.1, 0.2)
        beams = [
            box((0.0, width), (y - 0.5 * thick, y + 0.5 * thick), (height - thick, height), "wood:2")
            for y in (depth * (i + 0.5) / count for i in range(count))
        ]
        floor.scene.place(Piece("ceiling", beams), Frame(0.0, 0.0, 0.0, 1.0, 0.0))


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
                centre = frame.point(0.0, 0.08)
                x, y = abs(frame.cosine) * reach + 0.08, abs(frame.sine) * reach + 0.08
                floor.taken.append((centre[0] - x, centre[1] - y, centre[0] + x, centre[1] + y, top))
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
    """Pictures where the wall is free above what stands before it."""
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
