"""Light in a room: lamps, windows, the sun through a window, and one bounce, from few samples without noise.

Light is sampled in interleaved patterns: neighboring pixels take different places of a light or directions of the
hemisphere, and the average over one period of the pattern on the same surface gives every pixel all samples (Keller and
Heidrich, 2001). Lamps and the sun use a 2x2 pattern, windows 4x4, bounced light 8x8.
"""

import math

import numpy as np

from triptych.kernels import compiled
from triptych.rooms.rays import blocked, closest, ray, shell, surface
from triptych.rooms.scene import cos_sin
from triptych.rooms.textures import MEAN

LAMP, WINDOW, SUN = 0.0, 1.0, 2.0
KIND, CENTER, AXIS_U, AXIS_V, NORMAL, COLOR, RADIUS = 0, 1, 4, 7, 10, 13, 16
"""Columns of a row of lights: kind; center; half axes of a window, upright the second; a window's normal into the room,
or the direction in which the sun shines through it; color; radius of a lamp."""
COLUMNS = 17

OFFSET = 2e-4
"""Metres by which shadow rays start off a surface, so that it does not shade itself."""


@compiled
def light_from(size, lights, i, x, y, z, nx, ny, nz, a, b):
    """Light from the place (a, b) in [0, 1)^2 of light i at a point with a normal, if nothing is between.

    Returns the irradiance per unit of the light's color, the direction to the light, and how far along it
    shadow-casting solids would be in the way: `(strength, dx, dy, dz, far)`.
    """
    kind = lights[i, KIND]
    if kind == SUN:
        return _sun_from(size, lights, i, x, y, z, nx, ny, nz)
    s, t, area, facing, far = 2.0 * a - 1.0, 2.0 * b - 1.0, 0.0, 1.0, 1.0
    if kind == WINDOW:
        dx = lights[i, 1] + s * lights[i, 4] + t * lights[i, 7] - x
        dy = lights[i, 2] + s * lights[i, 5] + t * lights[i, 8] - y
        dz = lights[i, 3] + s * lights[i, 6] + t * lights[i, 9] - z
        facing = -(lights[i, 10] * dx + lights[i, 11] * dy + lights[i, 12] * dz)
        area = 4.0 * lights[i, 9] * math.sqrt(lights[i, 4] * lights[i, 4] + lights[i, 5] * lights[i, 5])
        far = 0.995
    else:
        dx = lights[i, 1] + lights[i, RADIUS] * s - x
        dy = lights[i, 2] + lights[i, RADIUS] * t - y
        dz = lights[i, 3] + lights[i, RADIUS] * 0.5 * (s + t) - z
    cosine = nx * dx + ny * dy + nz * dz
    if cosine <= 0.0 or facing <= 0.0:
        return 0.0, dx, dy, dz, far
    square = dx * dx + dy * dy + dz * dz
    if kind == WINDOW:
        return cosine * facing * area / (square * (square + 0.1 * area)), dx, dy, dz, far
    return cosine / (math.sqrt(square) * (square + 0.05)), dx, dy, dz, far


@compiled
def _sun_from(size, lights, i, x, y, z, nx, ny, nz):
    dx, dy, dz = -lights[i, 10], -lights[i, 11], -lights[i, 12]
    cosine = nx * dx + ny * dy + nz * dz
    if cosine <= 0.0:
        return 0.0, dx, dy, dz, 0.0
    # Towards the sun: the ray must leave the room through the window.
    t, _ = shell(size, x, y, z, dx, dy, dz)
    px, py, pz = x + t * dx - lights[i, 1], y + t * dy - lights[i, 2], z + t * dz - lights[i, 3]
    wide = lights[i, 4] * lights[i, 4] + lights[i, 5] * lights[i, 5]
    across = px * lights[i, 4] + py * lights[i, 5]
    off = px * lights[i, 5] - py * lights[i, 4]
    if abs(across) > wide or abs(pz) > lights[i, 9] or off * off > 0.0025 * wide:
        return 0.0, dx, dy, dz, t
    return cosine, dx, dy, dz, t


@compiled
def bounced(
    size, solids, nodes, links, materials, material_of, lights, ambient, x, y, z, nx, ny, nz, u, v, w
):  # fmt: skip
    """Light `(r, g, b)` that comes along the direction (u, v, w) of the frame whose third axis is the normal: from what
    is hit there, lit without shadows; what is near counts as shaded.
    """
    # Orthonormal basis without branches (Duff et al., 2017).
    sign = 1.0 if nz >= 0.0 else -1.0
    a = -1.0 / (sign + nz)
    b = nx * ny * a
    dx = (1.0 + sign * nx * nx * a) * u + b * v + nx * w
    dy = sign * b * u + (sign + ny * ny * a) * v + ny * w
    dz = -sign * nx * u - ny * v + nz * w
    t, hit = closest(size, solids, nodes, links, x, y, z, dx, dy, dz, 0.0)
    px, py, pz = x + t * dx, y + t * dy, z + t * dz
    mx, my, mz, _ = surface(solids, hit, px, py, pz)
    r, g, b = ambient[0], ambient[1], ambient[2]
    for i in range(lights.shape[0]):
        if lights[i, KIND] != SUN:
            strength, _, _, _, _ = light_from(size, lights, i, px, py, pz, mx, my, mz, 0.5, 0.5)
            # What is next to a lamp is so bright that one of the few rays that meets it would show.
            strength = 0.6 * min(strength, 0.3)
            r += strength * lights[i, COLOR]
            g += strength * lights[i, COLOR + 1]
            b += strength * lights[i, COLOR + 2]
    share = 0.15 + 0.85 * min(t / 0.7, 1.0)
    row = material_of[hit]
    return (
        share * r * materials[row, MEAN],
        share * g * materials[row, MEAN + 1],
        share * b * materials[row, MEAN + 2],
    )


def _dither(row: int, column: int, bits: int) -> int:
    """Rank of a cell in an ordered dither matrix (Bayer, 1973): neighbors are far apart."""
    rank = 0
    for bit in range(bits):
        y, x = (row >> bit) & 1, (column >> bit) & 1
        rank = 4 * rank + 2 * (x ^ y) + y
    return rank


def bounce_pattern() -> np.ndarray:
    """Cosine-weighted directions about +z for the cells of an 8x8 tile, row by row: `(64, 3)`.

    The 32 cells of one color of the chessboard are a stratified set, and so are the others.
    """
    rows = []
    for cell in range(64):
        rank = _dither(cell // 8, cell % 8, 3) % 32
        radius, (c, s) = math.sqrt((rank + 0.5) / 32), cos_sin(2.399963229728653 * rank)
        rows.append((radius * c, radius * s, math.sqrt(1 - radius * radius)))
    return np.array(rows)


def window_pattern() -> np.ndarray:
    """Places in [0, 1)^2 for the cells of a 4x4 tile, row by row: `(16, 2)`.

    A Hammersley set: no two share a row or a column, so that the steps of a penumbra are sixteenths.
    """
    ranks = [_dither(cell // 4, cell % 4, 2) for cell in range(16)]
    mirrored = [sum(((rank >> bit) & 1) << (3 - bit) for bit in range(4)) for rank in ranks]
    return np.array([((rank + 0.5) / 16, (back + 0.5) / 16) for rank, back in zip(ranks, mirrored, strict=True)])


@compiled
def _sample(
    size, solids, nodes, links, materials, material_of, lights, ambient, bounces, panes,
    x, y, z, nx, ny, nz, i, j, with_bounce, out,
):  # fmt: skip
    """Light samples of a point for place (i, j) of the patterns, into `out` (3, 3): red, green and blue of one bounce
    (if wanted), of windows, and of lamps and the sun.
    """
    if with_bounce:
        cell = 8 * (i & 7) + (j & 7)
        u, v, w = bounces[cell, 0], bounces[cell, 1], bounces[cell, 2]
        r, g, b = bounced(
            size, solids, nodes, links, materials, material_of, lights, ambient, x, y, z, nx, ny, nz, u, v, w
        )  # fmt: skip
        out[0, 0], out[0, 1], out[0, 2] = r + 0.35 * ambient[0], g + 0.35 * ambient[1], b + 0.35 * ambient[2]
    out[1, 0], out[1, 1], out[1, 2], out[2, 0], out[2, 1], out[2, 2] = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    cell = 4 * (i & 3) + (j & 3)
    for k in range(lights.shape[0]):
        s, t, buffer = 0.25 + 0.5 * (j & 1), 0.25 + 0.5 * (i & 1), 2
        if lights[k, KIND] == WINDOW:
            s, t, buffer = panes[cell, 0], panes[cell, 1], 1
        strength, dx, dy, dz, far = light_from(size, lights, k, x, y, z, nx, ny, nz, s, t)
        if strength > 0.0 and not blocked(solids, nodes, links, x, y, z, dx, dy, dz, far):
            for c in range(3):
                out[buffer, c] += strength * lights[k, COLOR + c]


@compiled
def _left_out(keys, i, j):
    """Whether a sample has no bounce of its own: black cells of the chessboard whose surface continues in a neighboring
    white one, from which they take it.
    """
    if (i + j) & 1 == 0:
        return False
    own = keys[i, j]
    return (
        (i > 0 and keys[i - 1, j] == own)
        or (j > 0 and keys[i, j - 1] == own)
        or (i + 1 < keys.shape[0] and keys[i + 1, j] == own)
        or (j + 1 < keys.shape[1] and keys[i, j + 1] == own)
    )


@compiled
def _fill_bounces(keys, samples):
    """Give samples without a bounce the mean of their neighbors' on the same surface."""
    rows, columns = keys.shape
    for i in range(rows):
        for j in range(columns):
            if _left_out(keys, i, j):
                total, r, g, b = 0.0, 0.0, 0.0, 0.0
                for side in range(4):
                    p, q = i + (side == 0) - (side == 1), j + (side == 2) - (side == 3)
                    if 0 <= p < rows and 0 <= q < columns and keys[p, q] == keys[i, j]:
                        total += 1.0
                        r, g, b = r + samples[0, p, q, 0], g + samples[0, p, q, 1], b + samples[0, p, q, 2]
                scale = 1.0 / total
                samples[0, i, j, 0], samples[0, i, j, 1], samples[0, i, j, 2] = r * scale, g * scale, b * scale


@compiled
def light_view(geometry, look, position, rotation, intrinsics, bounces, panes, depth, normal, key, step):
    """Light (H, W, 3) that falls on every pixel, sampled at every pixel (`step` 0) or every second one of every second
    row (`step` 1).

    `key` (H, W) tells surfaces apart. Samples are averaged over one period of their pattern on the same surface, then
    spread to the pixels between; a pixel with no sample of its surface nearby gets one of its own.
    """
    size, solids, nodes, links = geometry
    materials, material_of, _, lights, ambient, _, _ = look
    height, width = depth.shape
    keys = key[:: 1 << step, :: 1 << step].copy()
    rows, columns = keys.shape
    samples, sample = np.empty((3, rows, columns, 3)), np.empty((3, 3))
    light, gathered = np.empty((height, width, 3)), np.empty((1, 1, 3))
    # First the samples of the grid, then the pixels: one loop body, so that the rays are compiled once.
    for spreading in range(2):
        if spreading:
            _fill_bounces(keys, samples)
            gathered = _gather(keys, samples)
            if step == 0:
                return gathered
            rows, columns = height, width
        for i in range(rows):
            for j in range(columns):
                row, column, with_bounce = i << step, j << step, True
                if spreading:
                    row, column = i, j
                    total, r, g, b = _spread(gathered, keys, key[row, column], row, column)
                    if total > 0.0:
                        scale = 1.0 / total
                        light[i, j, 0], light[i, j, 1], light[i, j, 2] = r * scale, g * scale, b * scale
                        continue
                elif _left_out(keys, i, j):
                    with_bounce = False
                dx, dy, dz = ray(rotation, intrinsics, column + 0.5, row + 0.5)
                nx, ny, nz = normal[row, column, 0], normal[row, column, 1], normal[row, column, 2]
                t = depth[row, column]
                x, y, z = position[0] + t * dx, position[1] + t * dy, position[2] + t * dz
                x, y, z = x + OFFSET * nx, y + OFFSET * ny, z + OFFSET * nz
                _sample(
                    size, solids, nodes, links, materials, material_of, lights, ambient, bounces, panes,
                    x, y, z, nx, ny, nz, i, j, with_bounce, sample,
                )  # fmt: skip
                for c in range(3):
                    if spreading:
                        light[i, j, c] = sample[0, c] + sample[1, c] + sample[2, c]
                    else:
                        for kind in range(3):
                            samples[kind, i, j, c] = sample[kind, c]
    return light


@compiled
def _spread(gathered, keys, own, row, column):
    """Sum over the samples of a surface at the four corners around a pixel, or else over the ring around those:
    `(count, r, g, b)`. At even rows and columns corners coincide.
    """
    i, j = row >> 1, column >> 1
    below, beside = min(i + (row & 1), keys.shape[0] - 1), min(j + (column & 1), keys.shape[1] - 1)
    total, r, g, b = 0.0, 0.0, 0.0, 0.0
    for corner in range(4):
        p, q = below if corner & 1 else i, beside if corner & 2 else j
        w = 1.0 if keys[p, q] == own else 0.0
        total += w
        r, g, b = r + w * gathered[p, q, 0], g + w * gathered[p, q, 1], b + w * gathered[p, q, 2]
    if total == 0.0:
        for p in range(max(i - 1, 0), min(i + 3, keys.shape[0])):
            for q in range(max(j - 1, 0), min(j + 3, keys.shape[1])):
                if keys[p, q] == own:
                    total += 1.0
                    r, g, b = r + gathered[p, q, 0], g + gathered[p, q, 1], b + gathered[p, q, 2]
    return total, r, g, b


@compiled
def _blur(key, values, reach, out):
    """Weighted averages along rows over pixels of the same surface, added to `out`; the outermost weigh 1/2, the others
    1.
    """
    height, width = key.shape
    for row in range(height):
        for column in range(width):
            own = key[row, column]
            total, r, g, b = 0.0, 0.0, 0.0, 0.0
            for d in range(max(column - reach, 0), min(column + reach + 1, width)):
                if key[row, d] == own:
                    w = 0.5 if abs(d - column) == reach else 1.0
                    total += w
                    r, g, b = r + w * values[row, d, 0], g + w * values[row, d, 1], b + w * values[row, d, 2]
            scale = 1.0 / total
            out[row, column, 0] += r * scale
            out[row, column, 1] += g * scale
            out[row, column, 2] += b * scale


@compiled
def _gather(key, samples):
    """Light (H, W, 3): bounced, window and lamp samples (3, H, W, 3) averaged over one period of their pattern on the
    same surface (`key` (H, W)).

    Weights (1/2, 1, ..., 1, 1/2) over 9, 5 and 3 pixels of a row or column count all phases of a period of 8, 4 and 2
    equally.
    """
    light = np.zeros(samples[0].shape)
    for kind, reach in ((0, 4), (1, 2), (2, 1)):
        part = np.zeros(samples[0].shape)
        _blur(key, samples[kind], reach, part)
        _blur(key.T, part.transpose(1, 0, 2), reach, light.transpose(1, 0, 2))  # along columns
    return light
