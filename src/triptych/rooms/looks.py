"""Appearance of a scene: families of materials, lights and the camera's flaws. Labels do not depend on any of it.

Long because the palettes of both looks are tables.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from triptych.rooms import textures
from triptych.rooms.scene import Dice, Scene, unit

Color = tuple[float, float, float]
Material = tuple[float, ...]


def color(hue: float, saturation: float, value: float) -> Color:
    """Linear reflectance of a hue in [0, 1), a saturation and a display value in [0, 1]."""
    hue = 6 * (hue - math.floor(hue))
    fade = [
        min(max(abs(hue - 3) - 1, 0.0), 1.0),
        min(max(2 - abs(hue - 2), 0.0), 1.0),
        min(max(2 - abs(hue - 4), 0.0), 1.0),
    ]
    display = [value * (1 - saturation * (1 - f)) for f in fade]
    return (0.9 * display[0] * display[0], 0.9 * display[1] * display[1], 0.9 * display[2] * display[2])


def material(
    texture: int,
    first: Color,
    second: Color,
    dice: Dice,
    *,
    scale: float = 0.1,
    contrast: float = 1.0,
    glow: float = 0.0,
) -> Material:
    """A row of the material table; the mean color is what bounced light sees."""
    share = 0.35 * contrast
    mean = tuple(a + share * (b - a) for a, b in zip(first, second, strict=True))
    return (float(texture), *first, *second, scale, contrast, float(dice.integer(0, 4000)), glow, *mean)


def _plain(
    dice: Dice, hues: tuple[float, float], saturations: tuple[float, float], values: tuple[float, float]
) -> Material:
    first = color(dice.number(*hues), dice.number(*saturations), dice.number(*values))
    return material(textures.PLAIN, first, first, dice)


def _shades(
    dice: Dice,
    texture: int,
    hue: float,
    saturation: float,
    value: float,
    darker: float,
    *,
    scale: float,
    contrast: float = 1.0,
) -> Material:
    return material(
        texture,
        color(hue, saturation, value),
        color(hue, min(1.0, 1.15 * saturation), darker * value),
        dice,
        scale=scale,
        contrast=contrast,
    )


def _fabric(dice: Dice, bold: float) -> Material:
    hue, saturation, value = dice.number(), dice.number(0.05, 0.45) + 0.3 * bold, dice.number(0.3, 0.8)
    kind = dice.number()
    if kind < 0.6 - 0.3 * bold:
        return _shades(dice, textures.WEAVE, hue, min(saturation, 1.0), value, 0.8, scale=0.008)
    second = color(hue + dice.choice((0.0, 0.08, 0.5)), dice.number(0.05, 0.6), dice.number(0.3, 0.95))
    texture = dice.choice((textures.STRIPES, textures.CHECKER, textures.DOTS, textures.MARBLE))
    return material(texture, color(hue, min(saturation, 1.0), value), second, dice, scale=dice.number(0.05, 0.16))


def _wood_a(dice: Dice) -> Material:
    if dice.chance(0.2):
        return _plain(dice, (0.08, 0.14), (0.0, 0.12), (0.82, 0.95))
    return _shades(
        dice,
        textures.WOOD,
        dice.number(0.055, 0.1),
        dice.number(0.4, 0.65),
        dice.number(0.45, 0.85),
        0.72,
        scale=0.05,
        contrast=0.8,
    )


def _wood_b(dice: Dice) -> Material:
    if dice.chance(0.6):
        return _plain(dice, (0.0, 1.0), (0.1, 0.7), (0.2, 0.8))
    return _shades(
        dice, textures.WOOD, dice.number(0.0, 0.05), dice.number(0.4, 0.7), dice.number(0.25, 0.4), 0.6, scale=0.05
    )


def _wall_a(dice: Dice) -> Material:
    hue, saturation, value = (
        dice.choice((0.1, 0.13, 0.3, 0.55, 0.6, 0.97)) + dice.number(-0.02, 0.02),
        dice.number(0.02, 0.2),
        dice.number(0.78, 0.95),
    )
    if dice.chance(0.25):
        texture = dice.choice((textures.STRIPES, textures.DOTS, textures.MARBLE))
        return _shades(dice, texture, hue, saturation, value, 0.9, scale=dice.number(0.1, 0.25))
    return _shades(dice, textures.PLAIN, hue, saturation, value, 1.0, scale=1.0)


def _wall_b(dice: Dice) -> Material:
    hue, saturation, value = dice.number(), dice.number(0.15, 0.5), dice.number(0.35, 0.7)
    texture = dice.choice(
        (textures.PLAIN, textures.STRIPES, textures.CHECKER, textures.BRICK, textures.MARBLE, textures.DOTS)
    )
    scale = 0.075 if texture == textures.BRICK else dice.number(0.12, 0.35)
    return _shades(dice, texture, hue, saturation, value, dice.choice((0.65, 0.8, 1.25)), scale=scale)


def _accent_a(dice: Dice) -> Material:
    if dice.chance(0.25):
        return material(
            textures.BRICK,
            color(dice.number(0.0, 0.06), 0.5, dice.number(0.5, 0.75)),
            color(0.1, 0.06, 0.75),
            dice,
            scale=0.075,
        )
    return _plain(dice, (0.0, 1.0), (0.2, 0.5), (0.45, 0.8))


def _floor_a(dice: Dice) -> Material:
    kind = dice.number()
    if kind < 0.6:
        return _shades(
            dice,
            textures.PLANKS,
            dice.number(0.06, 0.1),
            dice.number(0.3, 0.6),
            dice.number(0.5, 0.85),
            0.35,
            scale=dice.number(0.09, 0.16),
        )
    if kind < 0.8:
        return _shades(
            dice,
            textures.TILES,
            dice.number(0.05, 0.15),
            dice.number(0.02, 0.25),
            dice.number(0.65, 0.9),
            0.7,
            scale=dice.number(0.3, 0.6),
        )
    return _shades(
        dice, textures.WEAVE, dice.number(), dice.number(0.05, 0.3), dice.number(0.5, 0.8), 0.85, scale=0.012
    )


def _floor_b(dice: Dice) -> Material:
    texture = dice.choice((textures.CHECKER, textures.PLANKS, textures.SPECKLE, textures.TILES, textures.MARBLE))
    jointed = texture in (textures.PLANKS, textures.TILES)
    second = color(dice.number(), dice.number(0.0, 0.3), dice.number(0.1, 0.3 if jointed else 0.9))
    scale = {
        textures.CHECKER: 0.3,
        textures.PLANKS: 0.18,
        textures.SPECKLE: 0.04,
        textures.TILES: 0.22,
        textures.MARBLE: 0.8,
    }[texture]
    return material(
        texture, color(dice.number(), dice.number(0.05, 0.5), dice.number(0.2, 0.65)), second, dice, scale=scale
    )


def _rug(dice: Dice, bold: float) -> Material:
    hue = dice.number()
    first = color(hue, dice.number(0.2, 0.6) + 0.3 * bold, dice.number(0.3, 0.75))
    second = color(hue + dice.choice((0.05, 0.45, 0.5)), dice.number(0.1, 0.6), dice.number(0.5, 0.95))
    texture = dice.choice((textures.ORNAMENT, textures.ORNAMENT, textures.STRIPES, textures.WEAVE))
    scale = {
        textures.ORNAMENT: dice.number(0.18, 0.35),
        textures.STRIPES: dice.number(0.1, 0.3),
        textures.WEAVE: 0.015,
    }[texture]
    return material(texture, first, second, dice, scale=scale)


def pane_material(dice: Dice, night: bool) -> Material:
    if night:
        return material(textures.OUTSIDE, color(0.64, 0.7, 0.3), color(0.6, 0.5, 0.12), dice, glow=0.35)
    return material(
        textures.OUTSIDE,
        color(0.58, dice.number(0.2, 0.55), 1.0),
        color(dice.number(0.2, 0.36), 0.5, 0.55),
        dice,
        glow=1.0,
    )


def _screen(dice: Dice) -> Material:
    lit = dice.chance(0.5)
    return material(
        textures.SCREEN,
        color(0.6, 0.3, 0.12),
        color(dice.number(), 0.5, 0.7 if lit else 0.12),
        dice,
        glow=0.7 if lit else 0.0,
    )


COMMON: dict[str, Callable[[Dice], Material]] = {
    "ceiling": lambda dice: _plain(dice, (0.08, 0.14), (0.0, 0.06), (0.9, 0.97)),
    "trim": lambda dice: _plain(dice, (0.08, 0.12), (0.0, 0.08), (0.85, 0.97)),
    "linen": lambda dice: _plain(dice, (0.08, 0.6), (0.0, 0.08), (0.85, 0.97)),
    "pillow": lambda dice: _fabric(dice, 0.5),
    "fabric": lambda dice: _fabric(dice, 0.0),
    "rug": lambda dice: _rug(dice, 0.0),
    "curtain": lambda dice: _shades(
        dice, textures.FOLDS, dice.number(), dice.number(0.05, 0.5), dice.number(0.55, 0.95), 0.85, scale=0.1
    ),
    "book": lambda dice: _plain(dice, (0.0, 1.0), (0.1, 0.8), (0.2, 0.9)),
    "carton": lambda dice: _shades(
        dice, textures.PLAIN, dice.number(0.07, 0.1), dice.number(0.4, 0.6), dice.number(0.55, 0.75), 0.9, scale=1.0
    ),
    "ball": lambda dice: material(
        textures.BALL, color(dice.number(), 0.75, 0.85), color(dice.number(), dice.number(0.0, 0.9), 0.9), dice
    ),
    "ceramic": lambda dice: _plain(dice, (0.0, 1.0), (0.1, 0.7), (0.35, 0.95)),
    "metal": lambda dice: _plain(dice, (0.1, 0.6), (0.0, 0.1), (0.1, 0.7)),
    "soil": lambda dice: _plain(dice, (0.06, 0.08), (0.5, 0.6), (0.18, 0.25)),
    "bark": lambda dice: _plain(dice, (0.06, 0.09), (0.4, 0.5), (0.3, 0.45)),
    "leaf": lambda dice: _shades(
        dice, textures.FOLDS, dice.number(0.25, 0.38), dice.number(0.5, 0.8), dice.number(0.35, 0.65), 0.6, scale=0.1
    ),
    "shade": lambda dice: material(
        textures.PLAIN,
        color(dice.number(0.08, 0.14), dice.number(0.05, 0.35), 0.95),
        color(0.1, 0.1, 0.95),
        dice,
        glow=1.0,
    ),
    "screen": _screen,
    "door": _wood_a,
    "art": lambda dice: material(
        textures.ART,
        color(dice.number(), dice.number(0.1, 0.7), dice.number(0.4, 0.95)),
        color(dice.number(), dice.number(0.1, 0.7), dice.number(0.2, 0.9)),
        dice,
    ),
    "skin": lambda dice: _plain(dice, (0.04, 0.075), (0.3, 0.55), (0.4, 0.95)),
    "hair": lambda dice: _plain(dice, (0.04, 0.1), (0.2, 0.7), (0.1, 0.55)),
    "shirt": lambda dice: _fabric(dice, 0.4),
    "trousers": lambda dice: _shades(
        dice,
        textures.WEAVE,
        dice.choice((0.6, 0.62, 0.08, 0.0)),
        dice.number(0.0, 0.5),
        dice.number(0.15, 0.6),
        0.8,
        scale=0.006,
    ),
    "shoe": lambda dice: _plain(dice, (0.0, 1.0), (0.0, 0.3), (0.08, 0.9)),
    "eye": lambda dice: _plain(dice, (0.0, 1.0), (0.0, 0.1), (0.08, 0.12)),
}

FAMILIES: dict[str, dict[str, Callable[[Dice], Material]]] = {
    "a": {**COMMON, "wall": _wall_a, "accent": _accent_a, "floor": _floor_a, "wood": _wood_a},
    "b": {
        **COMMON,
        "wall": _wall_b,
        "accent": _wall_b,
        "floor": _floor_b,
        "wood": _wood_b,
        "door": _wood_b,
        "fabric": lambda dice: _fabric(dice, 1.0),
        "rug": lambda dice: _rug(dice, 1.0),
        "trim": lambda dice: _plain(dice, (0.0, 1.0), (0.0, 0.4), (0.25, 0.9)),
        "ceiling": lambda dice: _plain(dice, (0.0, 1.0), (0.0, 0.25), (0.6, 0.9)),
    },
}
"""Families of materials per look."""


SHELL = ("ceiling:0", "floor:0", "wall:0", "wall:0", "wall:0", "wall:0")
"""Materials of the room's sides -6, ..., -1; one wall may become `accent:0`."""


class Appearance(NamedTuple):
    """Input of shading besides the geometry: materials, lights, and the flaws of the camera."""

    materials: np.ndarray
    """(M, 14) rows of `rooms.textures`."""
    material_of: np.ndarray
    """(P + 6,) row of each solid, then of the room's sides -6, ..., -1."""
    skirting: np.ndarray
    """(4,) color and height of the skirting board."""
    lights: np.ndarray
    """(L, 17) rows of `rooms.light`."""
    ambient: np.ndarray
    """(3,) light from everywhere."""
    half: np.ndarray
    """(P + 6, 3) half extents of the solids in metres, then for each side those of the room."""
    flaws: np.ndarray
    """(7,) of `rooms.render`."""


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
            rows.append((1.0, *light.center, *light.u, *light.v, *light.normal, *shine, 0.0))
        if windows and dice.chance(0.5):
            light = dice.choice(windows)
            side, down = dice.number(-0.8, 0.8), dice.number(0.45, 1.0)
            nx, ny, _ = light.normal
            direction = unit((nx - side * ny, ny + side * nx, -down))
            warm = dice.number(2.5, 5.0)
            rows.append((2.0, *light.center, *light.u, *light.v, *direction, warm, 0.93 * warm, 0.8 * warm, 0.0))
    warmth = {"a": dice.number(0.6, 0.85), "b": dice.number(0.35, 1.2)}[look]
    if night or not windows or dice.chance(0.65):
        for light in lamps[-3:]:
            power = dice.number(1.2, 2.6) if light.center[2] > 0.75 * scene.size[2] else dice.number(0.35, 0.8)
            rows.append(
                (0.0, *light.center, *zero, *zero, *zero, power, power * (0.6 + 0.4 * warmth), power * warmth, 0.12)
            )
    level = dice.number(0.05, 0.12) + 0.02 * day * len(windows)
    return rows, (level * tint[0], level * tint[1], level * tint[2])


FLAWS = {
    "a": ((0.96, 1.04), (0.96, 1.04), (0.0002, 0.0006), (0.001, 0.003), (0.85, 1.2), (0.05, 0.2)),
    "b": ((0.88, 1.12), (0.85, 1.15), (0.001, 0.003), (0.004, 0.01), (0.55, 1.0), (0.25, 0.5)),
}
"""Ranges per look: red and blue against green, noise of shots and of reading, brightness, vignetting."""


def _flaws(look: str, dice: Dice) -> np.ndarray:
    red, blue, shot, read, brightness, vignetting = (dice.number(*ends) for ends in FLAWS[look])
    return np.array((red, 1.0, blue, brightness, vignetting, shot, read))
