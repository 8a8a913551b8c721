"""Speed of `rooms`: frames per second on one core, with all labels, against a NumPy ray caster in the same run.

python benchmarks/rooms.py [--size 240 320] [--scenes 8]
"""

import argparse
import tempfile
import time

import numpy as np

from triptych.datasets.rooms import Rooms
from triptych.rooms.frames import Room, build_room, render_room, trace
from triptych.rooms.scene import BOX, CONE, SPHERE
from triptych.rooms.views import Viewpoint


def main() -> None:
    """Print compile time, frames per second per core, the ratio to NumPy, and the time to read a frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--scenes", type=int, default=8)
    arguments = parser.parse_args()
    size = (arguments.size[0], arguments.size[1])

    start = time.perf_counter()
    render_room(build_room(("warm",), look="a", camera="a", views=1, path_length=1), size, ("warm",))
    print(f"first frame, kernels compiled or loaded: {time.perf_counter() - start:.1f} s")

    rooms, start = [], time.thread_time()
    for number in range(arguments.scenes):
        rooms.append(build_room(("benchmark", number), look="a", camera="a", views=4, path_length=1))
    building = (time.thread_time() - start) / (4 * len(rooms))
    start = time.thread_time()
    for room in rooms:
        render_room(room, size, ("benchmark",))
    rendering = (time.thread_time() - start) / (4 * len(rooms))
    print(
        f"{size[0]}x{size[1]}, picture and all labels: {1 / rendering:.1f} frames/s per core "
        f"({1e3 * rendering:.1f} ms a frame; layout and cameras add {1e3 * building:.1f} ms)"
    )

    room, camera = rooms[0], rooms[0].paths[0][0]
    start = time.thread_time()
    depth = trace(room, camera, size).depth
    fast, start = time.thread_time() - start, time.thread_time()
    difference = np.abs(slow_trace(room, camera, size) - depth).max()
    slow = time.thread_time() - start
    print(
        f"first hits alone: numba {1e3 * fast:.0f} ms, NumPy, solid by solid, {1e3 * slow:.0f} ms, "
        f"ratio {slow / fast:.0f}; largest difference {difference:.1e} m"
    )

    with tempfile.TemporaryDirectory() as folder:
        dataset = Rooms(folder, scenes=4, size=size, progress=False)
        start = time.perf_counter()
        for _ in range(5):
            for index in range(len(dataset)):
                dataset[index]
        reading = (time.perf_counter() - start) / (5 * len(dataset))
    print(f"reading a sample: {1e3 * reading:.2f} ms, ratio to rendering {rendering / reading:.0f}")


def slow_trace(room: Room, camera: Viewpoint, size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) by trying every solid for all pixels at once."""
    height, width = size
    pose, k = camera.pose(), camera.intrinsics(size)
    x, y = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0], (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    rays = np.stack([*np.meshgrid(x, y), np.ones(size)], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    with np.errstate(all="ignore"):
        leave = np.where(rays > 0, (room.geometry.size - pose[:3, 3]) / rays, -pose[:3, 3] / rays)
        depth = np.where(rays == 0, np.inf, leave).min(axis=1)
        for row in room.geometry.solids:
            affine, parameter, kind = row[:12].reshape(3, 4), row[12], row[13]
            hit = _hit(affine[:, :3] @ pose[:3, 3] + affine[:, 3], rays @ affine[:, :3].T, parameter, kind)
            depth = np.where((hit > 1e-6) & (hit < depth), hit, depth)
    return depth.reshape(size)


def _hit(p: np.ndarray, v: np.ndarray, parameter: float, kind: float) -> np.ndarray:
    if kind == BOX:
        a, b = (-1 - p) / v, (1 - p) / v
        enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
        return np.where(enter <= leave, enter, np.inf)
    if kind == SPHERE:
        return _quadratic((v * v).sum(1), v @ p, p @ p - 1)
    if kind == CONE:
        m, s = 0.5 * (1 + parameter), 0.5 * (parameter - 1)
        r, rv = m + s * p[2], s * v[:, 2]
        a, b = v[:, 0] ** 2 + v[:, 1] ** 2 - rv**2, p[0] * v[:, 0] + p[1] * v[:, 1] - r * rv
        root = np.sqrt(b * b - a * (p[0] ** 2 + p[1] ** 2 - r * r))
        hits = [(-b - root) / a, (-b + root) / a]
        best = np.min([np.where(np.abs(p[2] + t * v[:, 2]) <= 1, t, np.inf) for t in hits], axis=0)
        for z, radius in ((-1, 1), (1, parameter)):
            t = (z - p[2]) / v[:, 2]
            inside = (p[0] + t * v[:, 0]) ** 2 + (p[1] + t * v[:, 1]) ** 2 <= radius**2
            best = np.where(inside & (t < best), t, best)
        return best
    side = _quadratic(v[:, 0] ** 2 + v[:, 1] ** 2, p[0] * v[:, 0] + p[1] * v[:, 1], p[0] ** 2 + p[1] ** 2 - 1)
    best = np.where(np.abs(p[2] + side * v[:, 2]) <= parameter, side, np.inf)
    for end in (-parameter, parameter):
        offset = p - (0, 0, end)
        best = np.fmin(best, _quadratic((v * v).sum(1), v @ offset, offset @ offset - 1))
    return best


def _quadratic(a: np.ndarray, b: np.ndarray, c: float) -> np.ndarray:
    root = np.sqrt(b * b - a * c)
    return np.where(np.isnan(root), np.inf, (-b - root) / a)


if __name__ == "__main__":
    main()
