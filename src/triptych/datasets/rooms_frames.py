"""From the name of a scene to its frames: layout, cameras, picture and labels, as records of one NumPy type."""

import zlib
from typing import NamedTuple

import numpy as np

from triptych.datasets import rooms_render as render
from triptych.datasets.rooms_cameras import View, choose_views
from triptych.datasets.rooms_labels import find_boundaries, find_salient
from triptych.datasets.rooms_layout import build_layout
from triptych.datasets.rooms_looks import dress
from triptych.datasets.rooms_rays import Geometry, build_hierarchy
from triptych.datasets.rooms_records import frame_type
from triptych.datasets.rooms_scene import CLASSES, Dice, Scene, solid_arrays


class Room(NamedTuple):
    """A scene ready to be rendered."""

    scene: Scene
    geometry: Geometry
    dressed: render.Dressed
    paths: list[list[View]]


def build_room(words: tuple[object, ...], *, look: str, camera: str, views: int, path_length: int) -> Room:
    """The scene named by `words`, with the materials and lights of `look` and the cameras of look `camera`."""
    scene, floor = build_layout(Dice(*words, "layout"))
    affine, bounds = solid_arrays(scene)
    parts = [part for part, _, _ in scene.solids]
    geometry = Geometry(
        np.array(scene.size),
        np.array([part.kind for part in parts], np.int64),
        affine,
        np.array([part.param for part in parts]),
        np.array([part.casts for part in parts]),
        *build_hierarchy(bounds),
    )
    paths = choose_views(
        scene, floor, geometry, Dice(*words, "views", camera), look=camera, views=views, path_length=path_length
    )
    look_of = dress(scene, look, words)
    half = np.array([part.half for part in parts])
    dressed = render.Dressed(
        look_of.materials,
        look_of.solid_material,
        look_of.shell_material,
        look_of.skirting,
        look_of.lights,
        look_of.ambient,
        look_of.flaws,
        half,
    )
    return Room(scene, geometry, dressed, paths)


def render_room(room: Room, size: tuple[int, int], words: tuple[object, ...]) -> np.ndarray:
    """All frames of a room in order (views, then frames of the path): an array of `frame_type(size)`.

    The exposure is fixed by the first frame of a path, as a camera's that is locked.
    """
    records = []
    for number, path in enumerate(room.paths):
        exposure = 0.0
        for step, view in enumerate(path):
            noise = Dice(*words, "noise", number, step).integer(0, 1 << 30)
            record, exposure = _render_frame(room, view, size, exposure, noise)
            records.append(record)
    return np.concatenate(records)


def _render_frame(
    room: Room, view: View, size: tuple[int, int], exposure: float, noise: int
) -> tuple[np.ndarray, float]:
    geometry, dressed = room.geometry, room.dressed
    position, rotation, intrinsics = np.array(view.position), np.array(view.rotation()), view.intrinsics(size)
    depth, solid, face = np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64)
    normal, sharp, soft, light, image = (np.empty((*size, 3)) for _ in range(5))
    render.trace_view(
        geometry, dressed, position, rotation, intrinsics, render.hemisphere(), depth, solid, face, normal, sharp, soft
    )
    render.gather_light(solid, face, normal, sharp, soft, light)
    render.shade(geometry, dressed, position, rotation, intrinsics, depth, solid, face, normal, light, image)
    exposure = exposure or render.expose(image, dressed.flaws)
    picture = np.empty((*size, 3), np.uint8)
    render.develop(image, dressed.flaws, exposure, noise, picture)
    return _record(room, view, size, depth, solid, normal, picture), exposure


def _record(
    room: Room,
    view: View,
    size: tuple[int, int],
    depth: np.ndarray,
    solid: np.ndarray,
    normal: np.ndarray,
    picture: np.ndarray,
) -> np.ndarray:
    scene = room.scene
    # Sides of the room have negative ids -1 ... -6, which index the tails of these tables.
    sides = [CLASSES.index(name) for name in ("ceiling", "floor", "wall", "wall", "wall", "wall")]
    classes = np.array([*scene.classes, *sides], np.uint8)
    instances = np.array([*scene.instances, 2, 1, 6, 5, 4, 3], np.int64)[solid]
    labels = np.array([part.label for part, _, _ in scene.solids] + [0] * 6, np.uint8)
    r = view.rotation()
    # Sums written out: a matrix product may add in another order on another machine.
    x, y, z = normal[..., 0], normal[..., 1], normal[..., 2]
    normals = np.stack([r[0][k] * x + r[1][k] * y + r[2][k] * z for k in range(3)], axis=-1)
    record = np.zeros(1, frame_type(size))
    record["intrinsics"], record["pose"] = view.intrinsics(size), view.pose()
    record["depth"] = depth
    record["normals"] = np.rint(normals * 32767).astype(np.int16).transpose(2, 0, 1)
    record["image"] = picture.transpose(2, 0, 1)
    record["semseg"], record["instances"], record["human_parts"] = classes[solid], instances, labels[solid]
    record["saliency"] = find_salient(instances, scene.names)
    record["boundary"] = find_boundaries(depth, normals, instances, view.intrinsics(size))
    record["checksum"] = zlib.crc32(record.tobytes()[:-4])
    return record
