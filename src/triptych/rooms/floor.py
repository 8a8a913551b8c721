"""The floor plan of a room: what of its floor and its walls is taken."""

from triptych.rooms.scene import Dice, Frame, Group, Scene


class Floor:
    """What of the floor and of the walls is taken."""

    def __init__(self, scene: Scene, dice: Dice) -> None:
        self.scene, self.dice = scene, dice
        self.taken: list[tuple[float, float, float, float, float]] = []
        """Footprints: x0, y0, x1, y1, height."""
        self.walls: dict[int, list[tuple[float, float, float, float]]] = {0: [], 1: [], 2: [], 3: []}
        """Taken rectangles of each wall: from, to, bottom, top."""
        self.targets: list[tuple[float, float, float]] = []
        """Points worth looking at."""
        self.figures: list[tuple[float, float]] = []
        """Where figures stand."""

    def wall_length(self, wall: int) -> float:
        return self.scene.size[1] if wall < 2 else self.scene.size[0]

    def wall_frame(self, wall: int, along: float, away: float = 0.0) -> Frame:
        """A frame on the floor at a wall, y into the room."""
        width, depth, _ = self.scene.size
        corner = ((0.0, along, 0.0, -1.0), (width, along, 0.0, 1.0), (along, 0.0, 1.0, 0.0), (along, depth, -1.0, 0.0))[
            wall
        ]
        frame = Frame(corner[0], corner[1], 0.0, corner[2], corner[3])
        return frame.inner(0.0, away, 0.0)

    def wall_free(self, wall: int, start: float, end: float, bottom: float, top: float) -> bool:
        return all(end < a or start > b or top < low or bottom > high for a, b, low, high in self.walls[wall])

    def rectangle(self, group: Group, frame: Frame) -> tuple[float, float, float, float]:
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

    def put(self, group: Group, frame: Frame) -> None:
        self.scene.place_group(group, frame)
        self.taken.append((*self.rectangle(group, frame), group.height))
        self.targets.append((frame.x, frame.y, min(0.55 * group.height, 1.1)))

    def against_wall(self, group: Group, gap: float = 0.03, tries: int = 30) -> Frame | None:
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

    def anywhere(self, group: Group, margin: float = 0.08, tries: int = 30, angle: float | None = None) -> Frame | None:
        """Put a group somewhere free, turned at will: a square that holds all its turns is tested."""
        width, depth, _ = self.scene.size
        reach = 0.6 * max(group.width, group.depth)
        for _ in range(tries):
            x, y = self.dice.number(reach, width - reach), self.dice.number(reach, depth - reach)
            turned = self.dice.number(0.0, 6.283) if angle is None else angle
            if self.free((x - reach, y - reach, x + reach, y + reach), margin):
                frame = Frame(0.0, 0.0, 0.0, 1.0, 0.0).inner(x, y, 0.0, turned)
                self.put(group, frame)
                return frame
        return None
