"""Pictures of a room: direct light with soft shadows, one bounce, antialiased edges, a camera with flaws.

Light is sampled in interleaved patterns: neighbouring pixels take different points of a lamp or directions of the hemisphere, and averages over one
period of the pattern on the same surface give every pixel all samples without noise. Lamps use 2x2 patterns, windows and bounced light 4x4.
"""

import math
from typing import NamedTuple

import numpy as np

from triptych.datasets.rooms_compiled import compiled
from triptych.datasets.rooms_rays import CAPSULE, FAR, blocked, closest, shell, surface
from triptych.datasets.rooms_scene import cos_sin
from triptych.datasets.rooms_textures import GLOW, MEAN, noise_hash, texture_color


class Dressed(NamedTuple):
    """What shading reads beside the geometry: the arrays of `rooms_looks.Appearance`, and half extents `(P, 3)` of the solids."""

    materials: np.ndarray
    solid_material: np.ndarray
    shell_material: np.ndarray
    skirting: np.ndarray
    lights: np.ndarray
    ambient: np.ndarray
    flaws: np.ndarray
    half: np.ndarray


def hemisphere() -> np.ndarray:
    """16 stratified, cosine-weighted directions about +z, in the order of a 4x4 ordered dither: `(16, 3)`."""
    order = (0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5)
    rows = []
    for place in order:
        radius = math.sqrt((place + 0.5) / 16)
        c, s = cos_sin(2.399963229728653 * place)
        rows.append((radius * c, radius * s, math.sqrt(1 - radius * radius)))
    return np.array(rows)


@compiled
def _material_of(dressed, solid):
    return dressed.shell_material[-solid - 1] if solid < 0 else dressed.solid_material[solid]


@compiled
def _albedo(geometry, dressed, solid, x, y, z, soft):
    """Linear reflectance at a point of a surface."""
    if -4 <= solid < 0 and z < dressed.skirting[3]:
        return dressed.skirting[0], dressed.skirting[1], dressed.skirting[2]
    nx, ny, nz, qx, qy, qz, face = surface(geometry, solid, x, y, z)
    row = dressed.materials[_material_of(dressed, solid)]
    if solid < 0:
        hx, hy, hz = 0.5 * geometry.size[0], 0.5 * geometry.size[1], 0.5 * geometry.size[2]
        axis = face // 2
    else:
        hx, hy, hz = dressed.half[solid, 0], dressed.half[solid, 1], dressed.half[solid, 2]
        if face < 6:
            axis = face // 2
        else:
            ax, ay, az = abs(qx), abs(qy), abs(qz) if geometry.kind[solid] != CAPSULE else 0.0
            axis = 0 if ax >= ay and ax >= az else (1 if ay >= az else 2)
    # u runs along the longer side of the face: the grain of wood, the length of planks.
    if axis == 0:
        cu, cv, hu, hv = qy, qz, hy, hz
    elif axis == 1:
        cu, cv, hu, hv = qx, qz, hx, hz
    else:
        cu, cv, hu, hv = qx, qy, hx, hy
    if (hv > hu and axis != 0 and axis != 1) or (hv > hu and row[0] == 1.0):
        cu, cv, hu, hv = cv, cu, hv, hu
    return texture_color(row, cu * hu, cv * hv, cu, cv, soft)


@compiled
def _light(geometry, light, x, y, z, nx, ny, nz, a, b, shadows):
    """Irradiance factor of one light at a point, its sample named by (a, b) in [0, 1)^2."""
    if light[0] == 2.0:
        cosine = -(nx * light[10] + ny * light[11] + nz * light[12])
        if cosine <= 0.0:
            return 0.0
        # Toward the sun: the ray must leave the room through the window.
        dx, dy, dz = -light[10], -light[11], -light[12]
        t, _ = shell(geometry.size, x, y, z, dx, dy, dz)
        px, py, pz = x + t * dx - light[1], y + t * dy - light[2], z + t * dz - light[3]
        u = light[4] * light[4] + light[5] * light[5] + light[6] * light[6]
        v = light[7] * light[7] + light[8] * light[8] + light[9] * light[9]
        if (
            abs(px * light[4] + py * light[5] + pz * light[6]) > u
            or abs(px * light[7] + py * light[8] + pz * light[9]) > v
        ):
            return 0.0
        off = px * px + py * py + pz * pz - (px * light[4] + py * light[5]) ** 2 / u - pz * pz
        if off > 0.01:
            return 0.0
        if shadows and blocked(geometry, x, y, z, dx, dy, dz, t):
            return 0.0
        return cosine
    if light[0] == 1.0:
        s, r = 2.0 * a - 1.0, 2.0 * b - 1.0
        dx = light[1] + s * light[4] + r * light[7] - x
        dy = light[2] + s * light[5] + r * light[8] - y
        dz = light[3] + s * light[6] + r * light[9] - z
        square = dx * dx + dy * dy + dz * dz
        distance = math.sqrt(square)
        cosine = (nx * dx + ny * dy + nz * dz) / distance
        back = -(light[10] * dx + light[11] * dy + light[12] * dz) / distance
        if cosine <= 0.0 or back <= 0.0:
            return 0.0
        u = light[4] * light[4] + light[5] * light[5] + light[6] * light[6]
        area = 4.0 * math.sqrt(u) * abs(light[9])
        if shadows and blocked(geometry, x, y, z, dx, dy, dz, 0.995):
            return 0.0
        return cosine * back * area / (square + 0.1 * area)
    radius = light[16]
    dx = light[1] + radius * (2.0 * a - 1.0) - x
    dy = light[2] + radius * (2.0 * b - 1.0) - y
    dz = light[3] + radius * (a + b - 1.0) - z
    square = dx * dx + dy * dy + dz * dz
    cosine = nx * dx + ny * dy + nz * dz
    if cosine <= 0.0:
        return 0.0
    if shadows and blocked(geometry, x, y, z, dx, dy, dz, 1.0):
        return 0.0
    return cosine / math.sqrt(square) / (square + 0.05)


@compiled
def _bounce(geometry, dressed, x, y, z, nx, ny, nz, direction, out):
    """Light that one ray of the hemisphere brings: what it hits, lit without shadows; near things are taken as shaded."""
    sign = 1.0 if nz >= 0.0 else -1.0
    a = -1.0 / (sign + nz)
    b = nx * ny * a
    tx, ty, tz = 1.0 + sign * nx * nx * a, sign * b, -sign * nx
    bx, by, bz = b, sign + ny * ny * a, -ny
    dx = tx * direction[0] + bx * direction[1] + nx * direction[2]
    dy = ty * direction[0] + by * direction[1] + ny * direction[2]
    dz = tz * direction[0] + bz * direction[1] + nz * direction[2]
    t, solid = closest(geometry, x, y, z, dx, dy, dz, 0.0)
    px, py, pz = x + t * dx, y + t * dy, z + t * dz
    mx, my, mz, _, _, _, _ = surface(geometry, solid, px, py, pz)
    row = dressed.materials[_material_of(dressed, solid)]
    r, g, b = dressed.ambient[0], dressed.ambient[1], dressed.ambient[2]
    for light in dressed.lights:
        if light[0] == 2.0:
            continue
        strength = 0.6 * _light(geometry, light, px, py, pz, mx, my, mz, 0.5, 0.5, False)
        r, g, b = r + strength * light[13], g + strength * light[14], b + strength * light[15]
    open_space = min(t / 0.7, 1.0)
    open_space = 0.15 + 0.85 * open_space
    out[0], out[1], out[2] = open_space * row[MEAN] * r, open_space * row[MEAN + 1] * g, open_space * row[MEAN + 2] * b


@compiled
def trace_view(geometry, dressed, position, rotation, intrinsics, directions, depth, solid, face, normal, sharp, soft):
    """First hits and sampled light of a view, into (H, W) depth, solid, face; (H, W, 3) world normal, sharp and soft light."""
    height, width = depth.shape
    sample = np.empty(3)
    for row in range(height):
        for column in range(width):
            x = (column + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            y = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
            dx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2]
            dy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2]
            dz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]
            t, hit = closest(geometry, position[0], position[1], position[2], dx, dy, dz, 1e-6)
            px, py, pz = position[0] + t * dx, position[1] + t * dy, position[2] + t * dz
            nx, ny, nz, _, _, _, side = surface(geometry, hit, px, py, pz)
            depth[row, column], solid[row, column], face[row, column] = t, hit, side
            normal[row, column, 0], normal[row, column, 1], normal[row, column, 2] = nx, ny, nz
            px, py, pz = px + 2e-4 * nx, py + 2e-4 * ny, pz + 2e-4 * nz
            phase = 4 * (row % 4) + column % 4
            a2, b2 = 0.25 + 0.5 * (column % 2), 0.25 + 0.5 * (row % 2)
            a4, b4 = (column % 4 + 0.5) / 4.0, (row % 4 + 0.5) / 4.0
            _bounce(geometry, dressed, px, py, pz, nx, ny, nz, directions[phase], sample)
            for k in range(3):
                sharp[row, column, k], soft[row, column, k] = 0.0, sample[k] + 0.35 * dressed.ambient[k]
            for light in dressed.lights:
                if light[0] == 1.0:
                    strength = _light(geometry, light, px, py, pz, nx, ny, nz, a4, b4, True)
                    for k in range(3):
                        soft[row, column, k] += strength * light[13 + k]
                else:
                    strength = _light(geometry, light, px, py, pz, nx, ny, nz, a2, b2, True)
                    for k in range(3):
                        sharp[row, column, k] += strength * light[13 + k]


@compiled
def _same(solid, face, normal, r, c, s, d):
    if solid[r, c] != solid[s, d] or face[r, c] != face[s, d]:
        return False
    return (
        normal[r, c, 0] * normal[s, d, 0] + normal[r, c, 1] * normal[s, d, 1] + normal[r, c, 2] * normal[s, d, 2] > 0.8
    )


@compiled
def gather_light(solid, face, normal, sharp, soft, light):
    """Average the light samples over one period of their pattern on the same surface, into (H, W, 3) `light`."""
    height, width = solid.shape
    for row in range(height):
        for column in range(width):
            wide, narrow = 0.0, 0.0
            r1, g1, b1, r2, g2, b2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(-2, 3):
                s = row + i
                if s < 0 or s >= height:
                    continue
                for j in range(-2, 3):
                    d = column + j
                    if d < 0 or d >= width or not _same(solid, face, normal, row, column, s, d):
                        continue
                    # (1, 2, 2, 2, 1) x (1, 2, 2, 2, 1) weighs the 16 phases of a 4x4 pattern equally, (1, 2, 1) x (1, 2, 1) the 4 of a 2x2 one.
                    w = (1.0 if abs(i) == 2 else 2.0) * (1.0 if abs(j) == 2 else 2.0)
                    wide += w
                    r1, g1, b1 = r1 + w * soft[s, d, 0], g1 + w * soft[s, d, 1], b1 + w * soft[s, d, 2]
                    if abs(i) < 2 and abs(j) < 2:
                        w = (2.0 - abs(i)) * (2.0 - abs(j))
                        narrow += w
                        r2, g2, b2 = r2 + w * sharp[s, d, 0], g2 + w * sharp[s, d, 1], b2 + w * sharp[s, d, 2]
            light[row, column, 0] = r1 / wide + r2 / narrow
            light[row, column, 1] = g1 / wide + g2 / narrow
            light[row, column, 2] = b1 / wide + b2 / narrow


@compiled
def shade(geometry, dressed, position, rotation, intrinsics, depth, solid, face, normal, light, image):
    """Linear radiance of every pixel from four samples, into (H, W, 3) `image`; rays are traced again only where a surface ends."""
    height, width = solid.shape
    offsets = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
    for row in range(height):
        for column in range(width):
            inside = True
            for s in range(max(row - 1, 0), min(row + 2, height)):
                for d in range(max(column - 1, 0), min(column + 2, width)):
                    if solid[s, d] != solid[row, column] or face[s, d] != face[row, column]:
                        inside = False
            r, g, b = 0.0, 0.0, 0.0
            t0 = depth[row, column]
            n0, n1, n2 = normal[row, column, 0], normal[row, column, 1], normal[row, column, 2]
            x = (column + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
            y = (row + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
            cx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2]
            cy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2]
            cz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]
            slope = n0 * cx + n1 * cy + n2 * cz
            # Width of a pixel on the surface, geometric mean of its two directions.
            pixel = t0 / intrinsics[0, 0] / math.sqrt(max(-slope / math.sqrt(cx * cx + cy * cy + cz * cz), 0.05))
            for k in range(4):
                x = (column + 0.5 + offsets[k][0] - intrinsics[0, 2]) / intrinsics[0, 0]
                y = (row + 0.5 + offsets[k][1] - intrinsics[1, 2]) / intrinsics[1, 1]
                dx = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2]
                dy = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2]
                dz = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2]
                hit, s, d = solid[row, column], row, column
                if inside:
                    slant = n0 * dx + n1 * dy + n2 * dz
                    t = t0 * slope / slant if slant < 0.3 * slope else t0
                else:
                    t, hit = closest(geometry, position[0], position[1], position[2], dx, dy, dz, 1e-6)
                    s, d = _nearest_like(solid, hit, row, column, offsets[k][0], offsets[k][1])
                px, py, pz = position[0] + t * dx, position[1] + t * dy, position[2] + t * dz
                ar, ag, ab = _albedo(geometry, dressed, hit, px, py, pz, 0.5 * pixel)
                glow = dressed.materials[_material_of(dressed, hit)][GLOW]
                r += ar * (light[s, d, 0] + glow)
                g += ag * (light[s, d, 1] + glow)
                b += ab * (light[s, d, 2] + glow)
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = 0.25 * r, 0.25 * g, 0.25 * b


@compiled
def _nearest_like(solid, hit, row, column, right, down):
    """The pixel of the 3x3 neighbourhood that shows `hit` too, nearest to the sample; the pixel itself if there is none."""
    if solid[row, column] == hit:
        return row, column
    best, s, d = FAR, row, column
    for i in range(max(row - 1, 0), min(row + 2, solid.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, solid.shape[1])):
            if solid[i, j] == hit:
                far = (i - row - down) * (i - row - down) + (j - column - right) * (j - column - right)
                if far < best:
                    best, s, d = far, i, j
    return s, d


@compiled
def expose(image, flaws):
    """The exposure that brings the mean logarithm-like brightness of a linear image to a fixed level."""
    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            y = 0.25 * image[row, column, 0] + 0.6 * image[row, column, 1] + 0.15 * image[row, column, 2]
            total += math.sqrt(min(y, 4.0))
    mean = total / (image.shape[0] * image.shape[1])
    return 0.42 * 0.42 / (mean * mean + 1e-9) * flaws[3]


@compiled
def develop(image, flaws, exposure, seed, out):
    """What the camera makes of a linear image: exposure, vignetting, noise, tone curve, display curve; 8 bits, (H, W, 3) uint8."""
    height, width = image.shape[0], image.shape[1]
    for row in range(height):
        for column in range(width):
            x, y = (2.0 * (column + 0.5) - width) / width, (2.0 * (row + 0.5) - height) / height
            gain = exposure * (1.0 - flaws[4] * 0.5 * (x * x + y * y))
            for k in range(3):
                value = max(gain * flaws[k] * image[row, column, k], 0.0)
                deviation = math.sqrt(flaws[5] * value + flaws[6] * flaws[6])
                value = max(value + deviation * _gauss(3 * column + k, row, seed), 0.0)
                # Filmic curve (Narkowicz, 2015), then sRGB by square roots (Taylor, 2010).
                value = value * (2.51 * value + 0.03) / (value * (2.43 * value + 0.59) + 0.14)
                value = min(value, 1.0)
                root = math.sqrt(value)
                root2 = math.sqrt(root)
                display = 0.585122381 * root + 0.783140355 * root2 - 0.368262736 * math.sqrt(root2)
                out[row, column, k] = np.uint8(min(max(255.0 * display + 0.5, 0.0), 255.0))


@compiled
def _gauss(a, b, seed):
    """Nearly normal, unit variance: the sum of four uniform numbers."""
    total = (
        noise_hash(a, b, seed) + noise_hash(a, b, seed + 1) + noise_hash(a, b, seed + 2) + noise_hash(a, b, seed + 3)
    )
    return (total - 2.0) * 1.7320508075688772
