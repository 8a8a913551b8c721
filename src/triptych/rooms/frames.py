"""Build and render a scene from its name: layout, cameras, pictures and labels, as records of one NumPy type."""

import zlib
from typing import NamedTuple

import numpy as np

from triptych.rooms import render
from triptych.rooms.labels import camera_normals, find_boundaries, find_salient
from triptych.rooms.layout import build_layout
from triptych.rooms.light import bounce_pattern, light_view, window_pattern
from triptych.rooms.looks import Appearance, dress
from triptych.rooms.rays import Geometry, build_hierarchy
from triptych.rooms.render import develop, expose
from triptych.rooms.scene import CLASSES, Dice, Scene, solid_arrays
from triptych.rooms.scene_files import frame_type
from triptych.rooms.views import Viewpoint, choose_views

SIDES = {"ceiling": 2, "floor": 1, "wall y = Y": 6, "wall y = 0": 5, "wall x = X": 4, "wall x = 0": 3}
"""Instance ids of the room's sides -6, -5, ..., -1: negative indices into the tails of tables over solids."""


DENSE = 32768
"""Pixels of an image up to which light is sampled at every pixel."""


class Room(NamedTuple):
    """A scene ready to be rendered."""

    scene: Scene
    geometry: Geometry
    appearance: Appearance
    paths: list[list[Viewpoint]]


class Hits(NamedTuple):
    """First hits at the pixel centers of a view: `(H, W)` depth z, solid or side, face; `(H, W, 3)` world normal."""

    depth: np.ndarray
    solid: np.ndarray
    face: np.ndarray
    normal: np.ndarray


def build_room(words: tuple[object, ...], *, look: str, camera: str, views: int, path_length: int) -> Room:
    """The scene named by `words`, with the materials and lights of `look` and the cameras of look `camera`."""
    scene, floor = build_layout(Dice(*words, "layout"))
    solids, bounds = solid_arrays(scene)
    geometry = Geometry(np.array(scene.size), solids, *build_hierarchy(bounds))
    dice = Dice(*words, "views", camera)
    paths = choose_views(scene, floor, geometry, dice, look=camera, views=views, path_length=path_length)
    return Room(scene, geometry, dress(scene, look, words), paths)


def render_room(room: Room, size: tuple[int, int], words: tuple[object, ...]) -> np.ndarray:
    """All frames of a room in order (views, then frames of the path): an array of `frame_type(size)`.

    The first frame of a path sets the exposure of all its frames.
    """
    records = np.zeros(sum(len(path) for path in room.paths), frame_type(size))
    done = 0
    for number, path in enumerate(room.paths):
        exposure = 0.0
        for step, view in enumerate(path):
            record = records[done : done + 1]
            hits = trace(room, view, size)
            image = illuminate(room, view, hits)
            exposure = exposure or expose(image, room.appearance.flaws)
            noise = Dice(*words, "noise", number, step).integer(0, 1 << 30)
            develop(image, room.appearance.flaws, exposure, noise, record["image"][0])
            label(room, view, hits, record)
            record["checksum"] = zlib.crc32(record.view(np.uint8).data[:-4])
            done += 1
    return records


def trace(room: Room, view: Viewpoint, size: tuple[int, int]) -> Hits:
    """Trace the first hits at the pixel centers of a view."""
    hits = Hits(np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64), np.empty((*size, 3)))
    pose = view.pose()
    render.trace_view(room.geometry, pose[:3, 3].copy(), pose[:3, :3].copy(), view.intrinsics(size), *hits)
    return hits


def illuminate(room: Room, view: Viewpoint, hits: Hits) -> np.ndarray:
    """Linear radiance of a view, `(H, W, 3)`."""
    size, pose = (hits.depth.shape[0], hits.depth.shape[1]), view.pose()
    camera = (pose[:3, 3].copy(), pose[:3, :3].copy(), view.intrinsics(size))
    key = hits.solid * 8 + hits.face
    # Large pictures take every second pixel for the light, which varies slowly.
    step = 0 if size[0] * size[1] <= DENSE else 1
    patterns = (bounce_pattern(), window_pattern())
    light = light_view(room.geometry, room.appearance, *camera, *patterns, hits.depth, hits.normal, key, step)
    image = np.empty((*size, 3))
    render.shade(room.geometry, room.appearance, *camera, *hits, key, light, image)
    return image


def label(room: Room, view: Viewpoint, hits: Hits, record: np.ndarray) -> None:
    """Write the camera and all labels of a view into a record, `(1,)` of `frame_type`."""
    scene, intrinsics, rotation = room.scene, view.intrinsics(hits.depth.shape), np.array(view.rotation())
    sides = [CLASSES.index(name.split()[0]) for name in SIDES]
    instances = np.array([*scene.instances, *SIDES.values()])[hits.solid]
    assert len(scene.names) < 256, "instance ids are stored in a byte"
    record["intrinsics"], record["pose"] = intrinsics, view.pose()
    record["depth"], record["normals"] = hits.depth, camera_normals(hits.normal, rotation)
    record["semseg"] = np.array([*scene.classes, *sides], np.uint8)[hits.solid]
    record["instances"] = instances
    record["human_parts"] = np.array([*(part.label for part, _, _ in scene.solids), *[0] * 6], np.uint8)[hits.solid]
    record["saliency"] = find_salient(instances, scene.names)
    record["boundary"] = find_boundaries(hits.depth, hits.normal, instances, intrinsics, rotation)
