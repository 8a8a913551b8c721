"""Render the scenes that a folder lacks, in parallel, and keep a manifest of them with checksums."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from triptych.rooms.scene_files import check_size, frame_type, sound_scene, write_scene, write_whole

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, str]:
    """Scene files of a folder that are complete, with their SHA-256; empty where there is no readable manifest."""
    try:
        return dict(json.loads((folder / MANIFEST).read_text())["scenes"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_manifest(folder: Path, settings: dict[str, object], scenes: dict[str, str]) -> None:
    """Write what a folder holds: the settings of its scenes, and their files with SHA-256."""
    content = {"settings": settings, "scenes": dict(sorted(scenes.items()))}
    write_whole(folder / MANIFEST, json.dumps(content, indent=1).encode())


GENERATOR = 4
"""Version of the generator: part of every folder's name, raised whenever any pixel changes."""


@dataclass(frozen=True)
class SceneSettings:
    """Everything that the frames of a scene depend on, except its number."""

    split: str
    size: tuple[int, int]
    look: str
    views: int
    path_length: int
    seed: int
    paired: bool
    generator: int = GENERATOR

    def folder(self) -> str:
        """A readable folder name with a hash of all settings."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:10]
        return f"{self.look}-{self.split}-{self.size[0]}x{self.size[1]}-{digest}"

    def frames(self) -> int:
        """Frames per scene."""
        return self.views * self.path_length

    def words(self, scene: int) -> tuple[object, ...]:
        """Name of a scene, the seed of all its randomness; each look has its own rooms unless paired."""
        world = "a" if self.paired else self.look
        return ("rooms", self.seed, world, self.split, scene)


def scene_file(number: int) -> str:
    return f"scene-{number:05d}.npy"


def complete(folder: Path, settings: SceneSettings, scenes: int, *, workers: int, progress: bool) -> dict[str, str]:
    """Make the first `scenes` scenes present in `folder`; returns their files with SHA-256.

    Scenes of the manifest are kept if their size is right; files left by a killed run are checked, and kept if intact.
    Raises `ValueError` that names a damaged file, `OSError` where the folder cannot be written.
    """
    known, wanted = read_manifest(folder), [scene_file(number) for number in range(scenes)]
    kind = frame_type(settings.size)
    for name in wanted:
        if name in known and (folder / name).exists():
            check_size(folder / name, kind, settings.frames())
    missing = [number for number, name in enumerate(wanted) if name not in known or not (folder / name).exists()]
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = _generate(folder, settings, missing, workers, progress)
            known = {**read_manifest(folder), **made}
            write_manifest(folder, asdict(settings), known)
        except OSError as error:
            raise OSError(
                f"rooms: cannot write generated scenes to {folder} ({error.strerror or error}); "
                "set TRIPTYCH_CACHE, or root=, to a folder with space that can be written."
            ) from error
    return {name: known[name] for name in wanted}


def _generate(
    folder: Path, settings: SceneSettings, missing: list[int], workers: int, progress: bool
) -> dict[str, str]:
    def make(number: int) -> tuple[str, str]:
        path = folder / scene_file(number)
        if sound_scene(path, frame_type(settings.size), settings.frames()):
            return path.name, hashlib.sha256(path.read_bytes()).hexdigest()
        return path.name, write_scene(path, render_scene(settings, number))

    # Processes that start together begin at different scenes; each takes over what another has finished.
    turned = os.getpid() % len(missing)
    first, *others = missing[turned:] + missing[:turned]
    made: dict[str, str] = {}
    with _reporting(folder, len(missing), settings.frames(), progress) as advance:
        # The first scene alone: it compiles the kernels, which threads would do several times over.
        made.update([make(first)])
        advance()
        # Threads: kernels run without the global interpreter lock.
        pool = ThreadPoolExecutor(max_workers=workers or available_cores())
        try:
            for done in as_completed([pool.submit(make, number) for number in others]):
                made.update([done.result()])
                advance()
        finally:
            pool.shutdown(cancel_futures=True)
    return made


def render_scene(settings: SceneSettings, number: int) -> np.ndarray:
    """The frames of one scene: `(views * path_length,)` records of `frame_type`."""
    from triptych.rooms.frames import build_room, render_room  # numba is needed for generation alone

    camera = "a" if settings.paired else settings.look
    words = settings.words(number)
    room = build_room(words, look=settings.look, camera=camera, views=settings.views, path_length=settings.path_length)
    return render_room(room, settings.size, words)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _reporting(folder: Path, scenes: int, frames: int, progress: bool) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, one line elsewhere, nothing if not wanted."""
    if not progress:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from triptych.terminal import progress_bar

    start = time.perf_counter()
    columns = (
        TextColumn("generating rooms"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("scenes"),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns) as bar:
        task = bar.add_task("", total=scenes)
        yield lambda: bar.advance(task)
    bar.console.print(
        f"rooms: {scenes * frames} frames in {time.perf_counter() - start:.1f} s, kept in {folder}",
        highlight=False,
        soft_wrap=True,
    )
