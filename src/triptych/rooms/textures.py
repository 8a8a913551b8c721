"""Procedural textures: the color of a material at a point, from sums, products and integer hashes alone."""

import math

import numpy as np

from triptych.kernels import compiled

PLAIN, WOOD, PLANKS, TILES, STRIPES, BRICK, WEAVE, MARBLE, DOTS, FOLDS = range(10)
"""Textures that fade or soften what is finer than a pixel: one sample shows them well."""
CHECKER, ORNAMENT, ART, OUTSIDE, SCREEN, BALL, SPECKLE = range(10, 17)
"""Textures with hard edges, which need several samples."""

# Columns of a material row.
TEXTURE, COLOR, SECOND, SCALE, CONTRAST, SEED, GLOW, MEAN = 0, 1, 4, 7, 8, 9, 10, 11
COLUMNS = 14


@compiled
def _mixed(h):
    """Scramble 32 bits (a variant of Ellis, hash prospector, 2018)."""
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return h ^ (h >> 15)


@compiled
def hashed_bits(a, b, seed):
    """32 scrambled bits from three integers."""
    return _mixed((a * 0x9E3779B1 + b * 0x85EBCA77 + seed * 0xC2B2AE3D) & 0xFFFFFFFF)


@compiled
def noise_hash(a, b, seed):
    """A number in [0, 1) from three integers."""
    return hashed_bits(a, b, seed) * 2.3283064365386963e-10


@compiled
def smooth_noise(x, y, seed):
    """Value noise in [0, 1): hashed lattice values, smoothly interpolated."""
    fx, fy = math.floor(x), math.floor(y)
    s, t = x - fx, y - fy
    s, t = s * s * (3.0 - 2.0 * s), t * t * (3.0 - 2.0 * t)
    h = np.int64(fx) * 0x9E3779B1 + np.int64(fy) * 0x85EBCA77 + seed * 0xC2B2AE3D
    a, b = _mixed(h & 0xFFFFFFFF), _mixed((h + 0x9E3779B1) & 0xFFFFFFFF)
    c, d = _mixed((h + 0x85EBCA77) & 0xFFFFFFFF), _mixed((h + 0x9E3779B1 + 0x85EBCA77) & 0xFFFFFFFF)
    return 2.3283064365386963e-10 * ((a * (1.0 - s) + b * s) * (1.0 - t) + (c * (1.0 - s) + d * s) * t)


@compiled
def _fraction(x):
    return x - math.floor(x)


@compiled
def _band(x, width, soft):
    """1 inside |x| < width, 0 outside, over a ramp of `soft`."""
    return min(max((width - abs(x)) / soft + 0.5, 0.0), 1.0)


@compiled
def _grain(u, v, seed, soft):
    """Wood: rings stretched along u; fibers finer than `soft` metres are left out."""
    wave = 6.0 * smooth_noise(0.7 * u, 5.0 * v, seed)
    wave += smooth_noise(2.0 * u, 60.0 * v, seed + 1) if soft < 0.012 else 0.5
    ring = abs(2.0 * _fraction(wave) - 1.0)
    return 0.6 * ring + 0.4 * (smooth_noise(6.0 * u, 180.0 * v, seed + 2) if soft < 0.004 else 0.5)


@compiled
def _cells(texture, u, v, scale, seed, soft):
    """Planks, tiles and bricks: `(mix towards the second color, brightness)`."""
    long = scale * (7.0 if texture == PLANKS else (2.6 if texture == BRICK else 1.0))
    row = math.floor(v / scale)
    number = np.int64(row)
    shift = 0.0
    if texture == PLANKS:
        shift = long * noise_hash(number, 7, seed)
    elif texture == BRICK:
        shift = 0.5 * long * (number & 1)
    column = math.floor((u + shift) / long)
    tint = noise_hash(np.int64(column), number, seed)
    x, y = (u + shift) / long - column - 0.5, v / scale - row - 0.5
    joint = 0.004 if texture == TILES else (0.0018 if texture == PLANKS else 0.006)
    edge = min((0.5 - abs(x)) * long, (0.5 - abs(y)) * scale)
    seam = min(max((joint - edge) / soft + 0.5, 0.0), 1.0)
    if texture == PLANKS:
        grain = _grain(u + 13.0 * tint, v, seed + (number & 15), soft)
        return 0.75 * seam, 0.78 + 0.3 * tint + 0.16 * (grain - 0.5)
    return seam, 0.88 + 0.2 * tint + 0.05 * (smooth_noise(u * 40.0, v * 40.0, seed) - 0.5)


@compiled
def _ornament(u, v, cu, cv, scale, seed):
    """A rug: border bands around a field of diamonds."""
    edge = max(abs(cu), abs(cv))
    if edge > 0.9:
        return 1.0
    if edge > 0.84:
        return 0.0
    if edge > 0.78:
        return 0.7
    x, y = _fraction(u / scale) - 0.5, _fraction(v / scale) - 0.5
    diamond = abs(x) + abs(y)
    variant = noise_hash(1, 2, seed)
    if diamond < 0.16:
        return 1.0
    if variant > 0.4 and diamond > 0.3 and diamond < 0.38:
        return 0.8
    return 0.12


@compiled
def _art(x, y, seed, rows, row):
    """A painting: a ground with a horizon, discs and bars of hashed colors; `x`, `y` in [0, 1]."""
    horizon = 0.3 + 0.4 * noise_hash(1, 1, seed) + 0.1 * (smooth_noise(4.0 * x, 0.5, seed) - 0.5)
    mix = 0.0 if y > horizon else 1.0
    r = rows[row, COLOR] * (1.0 - mix) + rows[row, SECOND] * mix
    g = rows[row, COLOR + 1] * (1.0 - mix) + rows[row, SECOND + 1] * mix
    b = rows[row, COLOR + 2] * (1.0 - mix) + rows[row, SECOND + 2] * mix
    for i in range(5):
        cx, cy, size = noise_hash(i, 3, seed), noise_hash(i, 4, seed), 0.06 + 0.2 * noise_hash(i, 5, seed)
        dx, dy = x - cx, y - cy
        if noise_hash(i, 6, seed) < 0.5:
            inside = dx * dx + dy * dy < size * size
        else:
            inside = abs(dx) < size * noise_hash(i, 7, seed) and abs(dy) < size
        if inside:
            r, g, b = noise_hash(i, 8, seed), noise_hash(i, 9, seed), noise_hash(i, 10, seed)
            r, g, b = r * r, g * g, b * b
    stroke = 0.85 + 0.3 * smooth_noise(24.0 * x, 24.0 * y, seed + 3)
    return r * stroke, g * stroke, b * stroke


@compiled
def _outside(x, y, seed, rows, row):
    """View through a window: sky, far hills or houses, trees; `x`, `y` in [0, 1] from the lower left."""
    haze = 0.55 + 0.45 * y
    r, g, b = (
        rows[row, COLOR] * haze + 0.35 * (1.0 - y),
        rows[row, COLOR + 1] * haze + 0.35 * (1.0 - y),
        rows[row, COLOR + 2] * haze + 0.3 * (1.0 - y),
    )
    cloud = smooth_noise(3.0 * x, 6.0 * y, seed) * 0.6 + smooth_noise(8.0 * x, 14.0 * y, seed + 1) * 0.4
    cloud = min(max((cloud - 0.5) * 3.0, 0.0), 1.0) * 0.5
    r, g, b = r + cloud * (0.95 - r), g + cloud * (0.95 - g), b + cloud * (0.95 - b)
    if noise_hash(0, 0, seed) < 0.5:
        far = 0.3 + 0.2 * smooth_noise(3.0 * x, 0.0, seed + 2)
    else:
        house = np.int64(math.floor(6.0 * x))
        far = 0.25 + 0.25 * noise_hash(house, 1, seed)
    if y < far:
        r, g, b = 0.5 * rows[row, SECOND] + 0.12, 0.5 * rows[row, SECOND + 1] + 0.13, 0.5 * rows[row, SECOND + 2] + 0.15
    tree = 0.12 + 0.25 * smooth_noise(5.0 * x, 2.0, seed + 4) + 0.06 * smooth_noise(25.0 * x, 3.0, seed + 5)
    if y < tree:
        leaf = 0.5 + 0.7 * smooth_noise(30.0 * x, 30.0 * y, seed + 6)
        r, g, b = rows[row, SECOND] * leaf, rows[row, SECOND + 1] * leaf, rows[row, SECOND + 2] * leaf
    return r, g, b


@compiled
def texture_color(rows, row, u, v, cu, cv, soft):
    """Linear reflectance `(r, g, b)`.

    `u`, `v` are metres on the face, u along its longer side, `cu`, `cv` the same in [-1, 1]; `soft` is the width of a
    pixel on the surface: finer detail fades into its mean.
    """
    texture, seed, scale = np.int64(rows[row, TEXTURE]), np.int64(rows[row, SEED]), rows[row, SCALE]
    fade = min(max(1.5 - 2.0 * soft / scale, 0.0), 1.0)
    mix, light = 0.0, 1.0
    if texture in (ART, OUTSIDE):
        x, y = 0.5 * (cu + 1.0), 0.5 * (cv + 1.0)
        if texture == ART:
            return _art(x, y, seed, rows, row)
        return _outside(x, y, seed, rows, row)
    if texture == PLAIN:
        light = 0.97 + 0.06 * smooth_noise(3.0 * u, 3.0 * v, seed)
    elif texture == WOOD:
        mix = _grain(u + 0.37 * seed, v + 0.11 * seed, seed, soft)
    elif texture in (PLANKS, TILES, BRICK):
        mix, light = _cells(texture, u, v, scale, seed, max(soft, 0.001))
    elif texture == CHECKER:
        odd = (np.int64(math.floor(u / scale)) + np.int64(math.floor(v / scale))) & 1
        mix = 0.5 + (odd - 0.5) * fade
        light = 0.95 + 0.1 * smooth_noise(5.0 * u, 5.0 * v, seed)
    elif texture == STRIPES:
        x = _fraction(u / scale)
        mix = 0.5 + (_band(x - 0.5, 0.25, max(soft / scale, 0.02)) - 0.5) * fade
    elif texture == WEAVE:
        fine = noise_hash(np.int64(math.floor(u / scale)), np.int64(math.floor(v / scale)), seed)
        mix = 0.5 + (fine - 0.5) * fade
        light = 0.92 + 0.16 * smooth_noise(4.0 * u, 4.0 * v, seed)
    elif texture == MARBLE:
        x, y = u / scale, v / scale
        mix = (
            0.55 * smooth_noise(x, y, seed)
            + 0.3 * smooth_noise(2.7 * x, 2.7 * y, seed + 1)
            + 0.15 * smooth_noise(7.1 * x, 7.1 * y, seed + 2)
        )
        mix = min(max(2.2 * mix - 0.6, 0.0), 1.0)
    elif texture == DOTS:
        line = math.floor(v / scale)
        x, y = _fraction(u / scale + 0.5 * (np.int64(line) & 1)) - 0.5, v / scale - line - 0.5
        mix = _band(math.sqrt(x * x + y * y), 0.22, max(soft / scale, 0.03)) * fade
    elif texture == ORNAMENT:
        mix = _ornament(u, v, cu, cv, scale, seed)
        light = 0.9 + 0.2 * noise_hash(np.int64(math.floor(u * 90.0)), np.int64(math.floor(v * 90.0)), seed)
    elif texture == FOLDS:
        mix = smooth_noise(2.0 * u, 0.4 * v, seed)
    elif texture == SCREEN:
        if abs(cu) < 0.85 and abs(cv) < 0.75:
            mix = (
                1.0 if noise_hash(np.int64(math.floor(4.0 * cu)), np.int64(math.floor(6.0 * cv)), seed) > 0.45 else 0.3
            )
    elif texture == BALL:
        mix = 1.0 if (cu * cv > 0.0) else 0.0
    elif texture == SPECKLE:
        mix = 1.0 if smooth_noise(u / scale, v / scale, seed) > 0.66 else 0.0
        mix = 0.3 + (mix - 0.3) * fade
    mix *= rows[row, CONTRAST]
    r, g, b = rows[row, COLOR], rows[row, COLOR + 1], rows[row, COLOR + 2]
    return (
        light * (r + mix * (rows[row, SECOND] - r)),
        light * (g + mix * (rows[row, SECOND + 1] - g)),
        light * (b + mix * (rows[row, SECOND + 2] - b)),
    )
