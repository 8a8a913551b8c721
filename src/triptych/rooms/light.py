"""Light in a room: lamps, windows, the sun through a window, and one bounce."""

import math

from triptych.kernels import compiled
from triptych.rooms.rays import closest, shell, surface
from triptych.rooms.textures import MEAN

LAMP, WINDOW, SUN = 0.0, 1.0, 2.0
KIND, CENTRE, AXIS_U, AXIS_V, NORMAL, COLOR, RADIUS = 0, 1, 4, 7, 10, 13, 16
"""Columns of a row of lights: kind; centre; half axes of a window, upright the second; a window's normal into the room,
or the direction in which the sun shines through it; colour; radius of a lamp."""
COLUMNS = 17

OFFSET = 2e-4
"""Metres by which shadow rays start off a surface, so that it does not shade itself."""


@compiled
def light_from(size, lights, i, x, y, z, nx, ny, nz, a, b):
    """What light i, seen at the place (a, b) in [0, 1)^2 of it, brings to a point with a normal, if nothing is between.

    Returns the irradiance per unit of the light's colour, the direction to the light, and how far along it
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
