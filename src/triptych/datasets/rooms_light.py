"""Light in a room: lamps, windows, the sun through a window, and one bounce."""

import math

from triptych.datasets.rooms_compiled import compiled
from triptych.datasets.rooms_rays import blocked, closest, shell, surface
from triptych.datasets.rooms_textures import MEAN

LAMP, WINDOW, SUN = 0.0, 1.0, 2.0
KIND, CENTRE, AXIS_U, AXIS_V, NORMAL, COLOR, RADIUS = 0, 1, 4, 7, 10, 13, 16
"""Columns of a row of lights: kind; centre; half axes of a window, upright the second; a window's normal into the room,
or the direction in which the sun shines through it; colour; radius of a lamp."""
COLUMNS = 17

OFFSET = 2e-4
"""Metres by which shadow rays start off a surface, so that it does not shade itself."""


@compiled
def light_strength(size, solids, nodes, links, lights, i, x, y, z, nx, ny, nz, a, b, shadows):
    """Irradiance that light i brings to a point with a normal, per unit of its colour, from the place (a, b) in
    [0, 1)^2 of the light.
    """
    if lights[i, KIND] == SUN:
        return _sun(size, solids, nodes, links, lights, i, x, y, z, nx, ny, nz, shadows)
    if lights[i, KIND] == WINDOW:
        s, t = 2.0 * a - 1.0, 2.0 * b - 1.0
        dx = lights[i, 1] + s * lights[i, 4] + t * lights[i, 7] - x
        dy = lights[i, 2] + s * lights[i, 5] + t * lights[i, 8] - y
        dz = lights[i, 3] + s * lights[i, 6] + t * lights[i, 9] - z
        facing = -(lights[i, 10] * dx + lights[i, 11] * dy + lights[i, 12] * dz)
        cosine = nx * dx + ny * dy + nz * dz
        if cosine <= 0.0 or facing <= 0.0:
            return 0.0
        if shadows and blocked(solids, nodes, links, x, y, z, dx, dy, dz, 0.995):
            return 0.0
        square = dx * dx + dy * dy + dz * dz
        area = 4.0 * lights[i, 9] * math.sqrt(lights[i, 4] * lights[i, 4] + lights[i, 5] * lights[i, 5])
        return cosine * facing * area / (square * (square + 0.1 * area))
    radius = lights[i, RADIUS]
    dx = lights[i, 1] + radius * (2.0 * a - 1.0) - x
    dy = lights[i, 2] + radius * (2.0 * b - 1.0) - y
    dz = lights[i, 3] + radius * (a + b - 1.0) - z
    cosine = nx * dx + ny * dy + nz * dz
    if cosine <= 0.0:
        return 0.0
    if shadows and blocked(solids, nodes, links, x, y, z, dx, dy, dz, 1.0):
        return 0.0
    square = dx * dx + dy * dy + dz * dz
    return cosine / (math.sqrt(square) * (square + 0.05))


@compiled
def _sun(size, solids, nodes, links, lights, i, x, y, z, nx, ny, nz, shadows):
    dx, dy, dz = -lights[i, 10], -lights[i, 11], -lights[i, 12]
    cosine = nx * dx + ny * dy + nz * dz
    if cosine <= 0.0:
        return 0.0
    # Towards the sun: the ray must leave the room through the window.
    t, _ = shell(size, x, y, z, dx, dy, dz)
    px, py, pz = x + t * dx - lights[i, 1], y + t * dy - lights[i, 2], z + t * dz - lights[i, 3]
    wide = lights[i, 4] * lights[i, 4] + lights[i, 5] * lights[i, 5]
    across = px * lights[i, 4] + py * lights[i, 5]
    off = px * lights[i, 5] - py * lights[i, 4]
    if abs(across) > wide or abs(pz) > lights[i, 9] or off * off > 0.0025 * wide:
        return 0.0
    if shadows and blocked(solids, nodes, links, x, y, z, dx, dy, dz, t):
        return 0.0
    return cosine


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
            strength = light_strength(size, solids, nodes, links, lights, i, px, py, pz, mx, my, mz, 0.5, 0.5, False)
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
