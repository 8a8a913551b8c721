"""First hits, antialiased shading, and a camera model: exposure, vignetting, noise, tone curve, eight bits."""

import math

import numpy as np

from triptych.kernels import compiled
from triptych.rooms.rays import FAR, KIND, canonical, closest, intersect, ray, shell, surface
from triptych.rooms.scene import CAPSULE
from triptych.rooms.textures import CHECKER, COLOR, GLOW, PLAIN, TEXTURE, WOOD, hashed_bits, texture_color


@compiled
def trace_view(geometry, position, rotation, intrinsics, depth, solid, face, normal):
    """First hits at the pixel centers, into (H, W) depth z, solid or side, and face, and (H, W, 3) world normal."""
    size, solids, nodes, links = geometry
    height, width = depth.shape
    ox, oy, oz = position[0], position[1], position[2]
    for row in range(height):
        for column in range(width):
            dx, dy, dz = ray(rotation, intrinsics, column + 0.5, row + 0.5)
            t, hit = closest(size, solids, nodes, links, ox, oy, oz, dx, dy, dz, 1e-6)
            nx, ny, nz, side = surface(solids, hit, ox + t * dx, oy + t * dy, oz + t * dz)
            depth[row, column], solid[row, column], face[row, column] = t, hit, side
            normal[row, column, 0], normal[row, column, 1], normal[row, column, 2] = nx, ny, nz


@compiled
def _reflectance(solids, materials, material_of, skirting, half, solid, face, x, y, z, soft):
    """Linear reflectance at a point of a face; `soft` is the width of a sample there, in metres."""
    row, axis = material_of[solid], face // 2
    hx, hy, hz = half[solid, 0], half[solid, 1], half[solid, 2]
    if solid < 0:
        axis = (-solid - 1) // 2
        if axis < 2 and z < skirting[3]:
            return skirting[0], skirting[1], skirting[2]
        qx, qy, qz = x / hx - 1.0, y / hy - 1.0, z / hz - 1.0
    else:
        if materials[row, TEXTURE] == PLAIN:
            return materials[row, COLOR], materials[row, COLOR + 1], materials[row, COLOR + 2]
        qx, qy, qz = canonical(solids, solid, x, y, z)
        if face == 6:
            ax, ay = abs(qx), abs(qy)
            az = 0.0 if solids[solid, KIND] == CAPSULE else abs(qz)
            axis = 0 if ax >= ay and ax >= az else (1 if ay >= az else 2)
    cu, cv, hu, hv = qx, qy, hx, hy
    if axis == 0:
        cu, cv, hu, hv = qy, qz, hy, hz
    elif axis == 1:
        cu, cv, hu, hv = qx, qz, hx, hz
    # Grain and planks run along the longer side; on upright faces all else stays upright.
    if hv > hu and (axis == 2 or materials[row, TEXTURE] == WOOD):
        cu, cv, hu, hv = cv, cu, hv, hu
    return texture_color(materials, row, cu * hu, cv * hv, cu, cv, soft)


@compiled
def _edges(key):
    """Pixels (H, W) whose 3x3 neighborhood shows more than one surface."""
    height, width = key.shape
    edge = np.zeros((height, width), np.bool_)
    for row in range(height):
        for column in range(width):
            own = key[row, column]
            if column + 1 < width and key[row, column + 1] != own:
                edge[row, column] = edge[row, column + 1] = True
            if row + 1 < height:
                for d in range(max(column - 1, 0), min(column + 2, width)):
                    if key[row + 1, d] != own:
                        edge[row, column] = edge[row + 1, d] = True
    return edge


@compiled
def _seen_around(solid, row, column, seen):
    """The different solids and sides of a pixel's 3x3 neighborhood, into `seen`; returns how many."""
    count = 0
    for s in range(max(row - 1, 0), min(row + 2, solid.shape[0])):
        for d in range(max(column - 1, 0), min(column + 2, solid.shape[1])):
            new = True
            for k in range(count):
                if seen[k] == solid[s, d]:
                    new = False
            if new:
                seen[count] = solid[s, d]
                count += 1
    return count


@compiled
def _first_of(size, solids, seen, count, ox, oy, oz, dx, dy, dz):
    """The first of some solids and sides that a ray meets: `(t, solid)`; the room's sides count as one."""
    best, found, shelled = FAR, seen[0], False
    for k in range(count):
        hit = seen[k]
        if hit >= 0:
            t = intersect(solids, hit, ox, oy, oz, dx, dy, dz, 1e-6, best)
        elif shelled:
            continue
        else:
            shelled = True
            t, hit = shell(size, ox, oy, oz, dx, dy, dz)
        if t < best:
            best, found = t, hit
    return best, found


@compiled
def _pixel_of(key, own, row, column):
    """A pixel of the 3x3 neighborhood that shows a surface, the pixel itself if none does."""
    if key[row, column] == own:
        return row, column
    for s in range(max(row - 1, 0), min(row + 2, key.shape[0])):
        for d in range(max(column - 1, 0), min(column + 2, key.shape[1])):
            if key[s, d] == own:
                return s, d
    return row, column


@compiled
def shade(geometry, look, position, rotation, intrinsics, depth, solid, face, normal, key, light, image):
    """Linear radiance into (H, W, 3) `image`: four samples per pixel on a rotated grid where surfaces meet.

    There a sample falls on the nearest of the surfaces that the neighboring pixels see. Elsewhere two samples lie on
    the tangent plane of the first hit, and one is enough for a texture without hard edges.
    """
    size, solids, _, _ = geometry
    materials, material_of, skirting, _, _, half, _ = look
    height, width = solid.shape
    right, down = (-0.125, 0.375, -0.375, 0.125), (-0.375, -0.125, 0.125, 0.375)
    ox, oy, oz = position[0], position[1], position[2]
    seen, edge = np.empty(9, np.int64), _edges(key)
    for row in range(height):
        for column in range(width):
            t0, hit, side = depth[row, column], solid[row, column], face[row, column]
            n0, n1, n2 = normal[row, column, 0], normal[row, column, 1], normal[row, column, 2]
            dx, dy, dz = ray(rotation, intrinsics, column + 0.5, row + 0.5)
            slope = n0 * dx + n1 * dy + n2 * dz
            alone = not edge[row, column]
            samples, count, soft = 4, 0, 0.0
            if alone:
                samples = 1 if materials[material_of[hit], TEXTURE] < CHECKER else 2
            else:
                count = _seen_around(solid, row, column, seen)
            if not alone or materials[material_of[hit], TEXTURE] != PLAIN:
                # Half a pixel on the surface: the mean of its longer and its shorter side.
                slant = max(-slope / math.sqrt(dx * dx + dy * dy + dz * dz), 0.1)
                soft = 0.25 * t0 / intrinsics[0, 0] * (1.0 + 1.0 / slant)
            r, g, b = 0.0, 0.0, 0.0
            for k in range(samples):
                t, s, d = t0, row, column
                if samples > 1:
                    # The first and last places of the grid lie on its diagonal.
                    place = 3 * k if samples == 2 else k
                    dx, dy, dz = ray(rotation, intrinsics, column + 0.5 + right[place], row + 0.5 + down[place])
                    if alone:
                        t = t0 * slope / min(n0 * dx + n1 * dy + n2 * dz, 0.3 * slope)
                    else:
                        t, hit = _first_of(size, solids, seen, count, ox, oy, oz, dx, dy, dz)
                        if t == FAR:
                            t, hit = t0, solid[row, column]
                        _, _, _, side = surface(solids, hit, ox + t * dx, oy + t * dy, oz + t * dz)
                        s, d = _pixel_of(key, 8 * hit + side, row, column)
                x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
                ar, ag, ab = _reflectance(solids, materials, material_of, skirting, half, hit, side, x, y, z, soft)
                glow = materials[material_of[hit], GLOW]
                r += ar * (light[s, d, 0] + glow)
                g += ag * (light[s, d, 1] + glow)
                b += ab * (light[s, d, 2] + glow)
            scale = 1.0 / samples
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = r * scale, g * scale, b * scale


BALANCE, BRIGHTNESS, VIGNETTING, SHOT_NOISE, READ_NOISE = 0, 3, 4, 5, 6
"""Columns of a camera's flaws: white balance (3), brightness, vignetting at the corners, variance of the noise per unit
of light, and its deviation in the dark."""


@compiled
def expose(image, flaws):
    """The exposure that brings the mean square root of a linear image's brightness to a fixed level."""
    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            y = 0.25 * image[row, column, 0] + 0.6 * image[row, column, 1] + 0.15 * image[row, column, 2]
            total += math.sqrt(min(y, 4.0))
    mean = total / (image.shape[0] * image.shape[1])
    return 0.42 * 0.42 / (mean * mean + 1e-9) * flaws[BRIGHTNESS]


@compiled
def develop(image, flaws, exposure, seed, out):
    """The picture of a linear image `(H, W, 3)`, into `out` `(3, H, W)` uint8."""
    height, width = image.shape[0], image.shape[1]
    for row in range(height):
        for column in range(width):
            x, y = (2.0 * column + 1.0 - width) / width, (2.0 * row + 1.0 - height) / height
            gain = exposure * (1.0 - flaws[VIGNETTING] * 0.5 * (x * x + y * y))
            for k in range(3):
                value = gain * flaws[BALANCE + k] * image[row, column, k]
                deviation = math.sqrt(flaws[SHOT_NOISE] * value + flaws[READ_NOISE] * flaws[READ_NOISE])
                value = max(value + deviation * _normal(3 * column + k, row, seed), 0.0)
                # Filmic curve (Narkowicz, 2015), then the sRGB curve by square roots (Taylor, 2010).
                value = value * (2.51 * value + 0.03) / (value * (2.43 * value + 0.59) + 0.14)
                root = math.sqrt(min(value, 1.0))
                second = math.sqrt(root)
                display = 0.585122381 * root + 0.783140355 * second - 0.368262736 * math.sqrt(second)
                out[k, row, column] = np.uint8(min(max(255.0 * display + 0.5, 0.0), 255.0))


@compiled
def _normal(a, b, seed):
    """Nearly normal with unit variance: the sum of the four bytes of a hash."""
    bits = hashed_bits(a, b, seed)
    total = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
    # A byte has the variance (256^2 - 1) / 12.
    return (total - 510.0) * 0.00676590
