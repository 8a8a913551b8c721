"""What a scene looks like: its materials, its lights and the flaws of the camera. Labels do not depend on any of it."""

from typing import NamedTuple

import numpy as np

from triptych.rooms import textures
from triptych.rooms.palette import FAMILIES, Color, Material, color, pane_material
from triptych.rooms.scene import Dice, Scene, unit

SHELL = ("ceiling:0", "floor:0", "wall:0", "wall:0", "wall:0", "wall:0")
"""Materials of the room's sides -6, ..., -1; one wall may become `accent:0`."""


class Appearance(NamedTuple):
    """What shading reads beside the geometry: materials, lights, and the flaws of the camera."""

    materials: np.ndarray
    """(M, 14) rows of `rooms.textures`."""
    material_of: np.ndarray
    """(P + 6,) row of each solid, then of the room's sides -6, ..., -1."""
    skirting: np.ndarray
    """(4,) colour and height of the skirting board."""
    lights: np.ndarray
    """(L, 17) rows of `rooms.light`."""
    ambient: np.ndarray
    """(3,) light from everywhere."""
    half: np.ndarray
    """(P + 6, 3) half extents of the solids in metres, then for each side those of the room."""
    flaws: np.ndarray
    """(7,) of `rooms.camera`."""


def dress(scene: Scene, look: str, words: tuple[object, ...]) -> Appearance:
    """Materials, lights and flaws of a scene in a look; `words` name the scene."""
    dice = Dice(*words, "appearance", look)
    night = dice.chance({"a": 0.05, "b": 0.45}[look])
    shell = list(SHELL)
    if dice.chance(0.4):
        shell[dice.integer(2, 6)] = "accent:0"
    rows: dict[str, int] = {}
    table: list[Material] = []

    def row(slot: str) -> int:
        if slot not in rows:
            rows[slot] = len(table)
            own = Dice(*words, look, slot)
            family = slot.split(":")[0]
            table.append(pane_material(own, night) if family == "pane" else FAMILIES[look][family](own))
        return rows[slot]

    solids = [row(part.slot) for part, _, _ in scene.solids]
    solids += [row(slot) for slot in shell]
    lights, ambient = _lights(scene, look, dice, night)
    lit = any(light[0] == 0.0 for light in lights)
    materials = np.array(table, np.float64)
    for slot, index in rows.items():
        if slot.startswith("shade"):
            materials[index, textures.GLOW] = 1.5 if lit else 0.0
    trim = color(dice.number(0.05, 0.12), dice.number(0.0, 0.5), dice.number(0.3, 0.97))
    return Appearance(
        materials=materials,
        material_of=np.array(solids, np.int64),
        skirting=np.array((*trim, dice.number(0.06, 0.12))),
        lights=np.array(lights, np.float64).reshape(-1, 17),
        ambient=np.array(ambient),
        half=np.array([*(part.half for part, _, _ in scene.solids), *[[0.5 * side for side in scene.size]] * 6]),
        flaws=_flaws(look, dice),
    )


def _lights(scene: Scene, look: str, dice: Dice, night: bool) -> tuple[list[tuple[float, ...]], Color]:
    zero = (0.0, 0.0, 0.0)
    rows: list[tuple[float, ...]] = []
    windows = [light for light in scene.lights if light.kind == "window"]
    lamps = [light for light in scene.lights if light.kind == "lamp"]
    day = 0.0 if night else dice.number(2.5, 5.0)
    tint = {"a": (0.9, 0.97, 1.08), "b": dice.choice(((1.15, 0.9, 0.7), (0.8, 0.95, 1.2)))}[look]
    if day > 0.0:
        for light in windows:
            shine = tuple(day * t for t in tint)
            rows.append((1.0, *light.centre, *light.u, *light.v, *light.normal, *shine, 0.0))
        if windows and dice.chance(0.5):
            light = dice.choice(windows)
            side, down = dice.number(-0.8, 0.8), dice.number(0.45, 1.0)
            nx, ny, _ = light.normal
            direction = unit((nx - side * ny, ny + side * nx, -down))
            warm = dice.number(2.5, 5.0)
            rows.append((2.0, *light.centre, *light.u, *light.v, *direction, warm, 0.93 * warm, 0.8 * warm, 0.0))
    warmth = {"a": dice.number(0.6, 0.85), "b": dice.number(0.35, 1.2)}[look]
    lamps_on = night or not windows or dice.chance(0.65)
    if lamps_on:
        for light in lamps[-3:]:
            power = dice.number(1.2, 2.6) if light.centre[2] > 0.75 * scene.size[2] else dice.number(0.35, 0.8)
            rows.append(
                (0.0, *light.centre, *zero, *zero, *zero, power, power * (0.6 + 0.4 * warmth), power * warmth, 0.12)
            )
    level = dice.number(0.05, 0.12) + 0.02 * day * len(windows)
    return rows, (level * tint[0], level * tint[1], level * tint[2])


def _flaws(look: str, dice: Dice) -> np.ndarray:
    if look == "a":
        balance, noise = (
            (dice.number(0.96, 1.04), 1.0, dice.number(0.96, 1.04)),
            (dice.number(0.0002, 0.0006), dice.number(0.001, 0.003)),
        )
        return np.array((*balance, dice.number(0.85, 1.2), dice.number(0.05, 0.2), *noise))
    balance, noise = (
        (dice.number(0.88, 1.12), 1.0, dice.number(0.85, 1.15)),
        (dice.number(0.001, 0.003), dice.number(0.004, 0.01)),
    )
    return np.array((*balance, dice.number(0.55, 1.0), dice.number(0.25, 0.5), *noise))
