"""Predictions as files: arrays, integer maps, colour pictures, panels and point clouds of any number of images.

| file                       | what it holds                                                            |
| -------------------------- | ------------------------------------------------------------------------ |
| `arrays/TASK/NAME.npy`     | what the predictor returned                                              |
| `maps/TASK/NAME.png`       | class ids, millimetres, ... in 8 or 16 bit: as a `folder` dataset has it |
| `pictures/TASK/NAME.png`   | colors, or with `overlay` these over the image                           |
| `panels/NAME.png`          | the image and every prediction, with legends; with `overlay` over it     |
| `points/NAME.ply`          | points in space, where depth is predicted and the camera is known        |
| `predictions.json`         | which image became what, how, and what the values mean                   |

Large images go from file to file in strips; panels and points of them show every n-th pixel (`image_files`).
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from triptych.assemble import scored_size, stretched_size
from triptych.augmentation.presets import TRANSFORMS
from triptych.data.cameras import StoredCamera, stored_camera
from triptych.data.integrity import find_pages
from triptych.data.photos import StoredPhoto, read_image_size, read_photo
from triptych.data.predicted import PLACES, RECORD, find_images
from triptych.files import flush
from triptych.lookup import named_choice, one_line
from triptych.machine import keep_freed_memory, memory_advice
from triptych.prediction.calibration import describe_unscaled
from triptych.prediction.image_files import ImageFiles, depth_task
from triptych.prediction.predictor import Predictor
from triptych.prediction.record import Record, hash_source
from triptych.tasks import Task
from triptych.terminal import progress_bar, say

PRODUCTS = tuple(PLACES)
SECONDS_PER_LINE = 60.0
"""Between lines of progress where there is no terminal."""
SECONDS_PER_RECORD = 60.0
"""Between two writings of the record: a process that is killed leaves images of this time, which are made again."""

Found = tuple[str, Path]


@dataclass(frozen=True)
class PredictedImages:
    """Result of `predict_images`: the files of each image, why others were left out, and which were there already."""

    written: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    kept: dict[str, list[Path]] = field(default_factory=dict)
    reduced: dict[str, str] = field(default_factory=dict)
    """Which pixels panels and points of large images show."""


def predict_images(
    predictor: Predictor,
    images: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    products: Sequence[str] = PRODUCTS,
    fov: int | float | None = None,
    intrinsics: Sequence[int | float] | np.ndarray | None = None,
    color_by: str = "image",
    overlay: bool = False,
    batch: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    on_bad_sample: str = "raise",
    log: Callable[[str], None] = say,
) -> PredictedImages:
    """Predict image files, or folders of them, into `out`: arrays, maps, pictures, panels and points.

    `fov` (horizontal, degrees) or `intrinsics` (fx, fy, cx, cy in pixels) of the images as they are stored make point
    clouds possible; cameras of images that EXIF turns upright are turned along;
    `color_by` is `"image"` or the task that colours them. `overlay` draws pictures and panels over the image. Up to
    `batch` images of one size are predicted together. Nothing is predicted before every input is found and every output
    is known to be new and writable. A damaged image raises `ValueError`, or with `on_bad_sample="skip"` is named
    through `log` and left out. With `resume` images are left as they are that have all their files, recorded as made
    from the same bytes. What earlier calls recorded in the folder stays; `ValueError` where another network, other
    options or another image of the same name made it, unless `overwrite` deletes it.

    On a CPU, the process keeps and reuses memory that it frees from now on (`mallopt`).
    """
    skip = named_choice("on_bad_sample", on_bad_sample, {"raise": False, "skip": True})
    chosen = {name: named_choice("product", name, {known: known for known in PRODUCTS}) for name in products}
    named_choice("map to colour points by", color_by, {"image": None} | predictor.tasks)
    if batch < 1:
        raise ValueError(f"batch is {batch}; at least 1 image is predicted at a time.")
    camera = _camera(predictor.tasks, fov, intrinsics)
    kinds = tuple(name for name in chosen if name != "points" or camera)
    files = ImageFiles(Path(out), predictor.tasks, kinds, camera, color_by, overlay)
    found = find_images(images)
    endless = [name for name, task in predictor.tasks.items() if "maps" in kinds and task.to_png is None]
    if endless:
        log(f"no maps of {', '.join(endless)}, which have no limits in their dataset: their values are in arrays")
    matrix = None if intrinsics is None else np.asarray(intrinsics).tolist()
    settings = predictor.settings() | {"overlay": overlay, "color_by": color_by, "fov": fov, "intrinsics": matrix}
    names = [name for name, _ in found]
    record = _go_on(files, dict(found), json.loads(json.dumps(settings)), overwrite, resume)
    finished = {name for name in record.images if resume and files.is_finished(name)}
    result = PredictedImages(kept={name: files.paths(name) for name in names if name in finished})
    waiting = [(name, path) for name, path in found if name not in finished]
    record.begin((name for name, _ in waiting), files.products)
    if predictor.device.type == "cpu":
        keep_freed_memory()
    if unscaled := describe_unscaled(predictor.recipe, predictor.calibration):
        log(unscaled)
    advice = f"predict smaller pieces (--tile 512), fewer images at once (--batch, now {batch}) or a --shorter-side"
    advised = ""
    with _progress(len(waiting), log) as advance, memory_advice(advice), _recorded(record, files) as keep:
        for group in _groups(waiting, batch):
            hashes = {name: hash_source(path) for name, path in group}  # before they are read
            photos = {name: photo for name, path in group if (photo := _read(name, path, skip, log, record))}
            for path in (path for name, path in group if name in photos):
                if pages := find_pages(path):
                    log(one_line(f"{path}: {pages}; save the others as files of their own"))
            if photos and not advised:
                advised = advise_size(predictor, *next((name, photo.size) for name, photo in photos.items()))
                if advised:
                    log(advised)
            if photos:
                files.predict(predictor, list(photos), list(photos.values()), partial(advance, len(group)))
            advance(len(group), 1.0, finished=True)
            result.written.update({name: files.paths(name) for name in photos})
            for name, path in group:
                if name in photos:
                    reduced = files.reduced(photos[name].size)
                    record.add(name, path, hashes[name], reduced)
                    if reduced:
                        result.reduced[name] = reduced
                        log(one_line(f"{name}: {reduced}"))
            keep()
    result.skipped.update({name: record.skipped[name] for name in names if name in record.skipped})
    for name, count in files.beyond.items():
        if count:
            held = "{:g} to {:g}".format(*predictor.tasks[name].png_range or ())
            way = "arrays have them" if "arrays" in record.products else "add arrays to the products to have them"
            log(f"{count} values of {name} are outside {held}, which is all that maps hold; {way}")
    counts = {"finished before": len(result.kept), "skipped": len(result.skipped)}
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    log(f"predicted {len(result.written)} of {len(found)} images into {out}{others} ({advance.rate():.3g} per second)")
    return result


FAR = 2.0
"""Factor by which objects may look larger or smaller than in training before a warning."""
STRETCHED = 1.25
"""The same for the ratio of width to height."""


def advise_size(predictor: Predictor, name: str, size: tuple[int, int], *, stretches: bool = True) -> str:
    """Warn where objects may have another size than in training; empty where they do not, where the training size is
    not known, and where the user chose a size. `stretches`: whether the caller offers `--resize`.
    """
    known = predictor.recipe is not None and predictor.recipe.data.transform in TRANSFORMS  # a plug-in's may be away
    if not known or predictor.shorter_side is not None:
        return ""
    if predictor.fixed_size and predictor.taken_size:
        return _advise_one_size(predictor, name, size, predictor.fixed_size)
    if predictor.fixed_size or predictor.taken_size:
        return ""
    which = ", of a run or of a file of --outputs raw" if predictor.is_decoded else ""  # whose maps are not resized
    if (stretched := stretched_size(predictor.recipe)) is not None and stretched != size:
        way = "--resize (in Python resize=True) stretches images so for the network, and resizes the maps back; "
        return (
            f"{name} has {size[0]} x {size[1]} pixels, and the network was trained on images stretched to "
            f"{stretched[0]} x {stretched[1]}: {way if stretches else ''}--shorter-side {min(stretched)} resizes them "
            f"in their proportions{which}."
        )
    trained = predictor.recipe.data.size
    if not any(trained):
        return ""
    factor = min(size) / min(trained)
    if 1 / FAR < factor < FAR:
        return ""
    has = f"{name} has {size[0]} x {size[1]} pixels, and the network was trained on"
    if scored_size(predictor.recipe, predictor.recipe.data.train_split) == "native":  # cut, not resized
        return (
            f"{has} crops of {trained[0]} x {trained[1]}, which say nothing of the images that they were cut from: "
            f"where those had another shorter side, --shorter-side with it shows things as large as they were{which}."
        )
    return (
        f"{has} {trained[0]} x {trained[1]}: things may look {factor:.2g} times as large as it knows them; "
        f"--shorter-side {min(trained)} resizes images for the network, and the maps back{which}."
    )


def _advise_one_size(predictor: Predictor, name: str, size: tuple[int, int], taken: tuple[int, int]) -> str:
    """`advise_size` for a file of one size, `taken`."""
    if stretched_size(predictor.recipe) == taken:
        return ""
    larger, wider = min(taken) / min(size), taken[1] * size[0] / (taken[0] * size[1])
    is_cut = scored_size(predictor.recipe, predictor.recipe.data.train_split) == "native"
    if 1 / STRETCHED < wider < STRETCHED and (1 / FAR < larger < FAR or not is_cut):
        return ""
    return (
        f"{name} has {size[0]} x {size[1]} pixels, and the file takes {taken[0]} x {taken[1]} alone: resized to it, "
        f"things are {larger:.2g} times as large, and {wider:.2g} times as wide for their height; export the network "
        f"with --dynamic, or with --size {size[0]} {size[1]}, to show them as they are."
    )


def _read(name: str, path: Path, skip: bool, log: Callable[[str], None], record: Record) -> StoredPhoto | None:
    """A photograph, or `None` where it is damaged, or a link to nothing, and may be skipped."""
    try:
        return read_photo(path)
    except (ValueError, FileNotFoundError) as error:
        if not skip:
            raise
        log(one_line(f"skipped: {error}"))
        record.skipped[name] = str(error)
        return None


def _groups(found: Sequence[Found], batch: int) -> Iterator[list[Found]]:
    """Images of one size, at most `batch` of them."""
    waiting: dict[tuple[int, int], list[Found]] = {}
    for name, path in found:
        try:
            size = read_image_size(path) if batch > 1 else (0, 0)
        except (ValueError, FileNotFoundError):  # reported when it is read
            yield [(name, path)]
            continue
        group = waiting.setdefault(size, [])
        group.append((name, path))
        if len(group) == batch:
            yield waiting.pop(size)
    yield from waiting.values()


def _go_on(
    files: ImageFiles, found: Mapping[str, Path], settings: dict[str, Any], overwrite: bool, resume: bool
) -> Record:
    """The record that this call adds to: a new one, or that of earlier calls into the folder.

    One line for outputs that exist and may not be replaced, for a record of another network or of other options, and
    for names that are recorded for other images. With `overwrite` all files that are recorded so are deleted instead.
    """
    out = files.out
    existing = [path for name in found for path in files.paths(name) if path.exists()]
    if existing and not resume and not overwrite:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise FileExistsError(
            f"{existing[0]} exists{others}; choose another folder, go on with resume (--resume), or pass overwrite "
            "(--overwrite)."
        )
    files.prepare(list(found))
    tasks = {
        name: {
            "kind": task.kind,
            "unit": task.unit,
            "classes": list(task.classes),
            "limits": task.limits,
            "maps": task.png_holds if task.to_png else "",
        }
        for name, task in files.tasks.items()
    }
    new = Record(tasks, settings)
    if not (out / RECORD).exists() and not (existing and resume):
        return new
    earlier = Record.read(out) or Record({}, {})
    if earlier.settings == settings:
        other = [name for name, path in found.items() if name in earlier.images and not earlier.is_of(name, path)]
        if other and not overwrite:
            raise ValueError(one_line(_describe_other(out, other[0], earlier.images[other[0]], found[other[0]])))
        earlier.remove(out, other)
        return earlier
    if not earlier.images and not any(other.is_file() and other != out / RECORD for other in out.rglob("*")):
        return new  # of a call that failed at its first image
    if overwrite and not resume:
        earlier.remove(out, [*earlier.images, *earlier.waiting])
        return new
    differ = [key for key in earlier.settings | settings if earlier.settings.get(key) != settings.get(key)]
    raise ValueError(
        f"{out / RECORD} was not made by this network with these options ({', '.join(differ)} differ), so that this "
        "call would mix two; choose another folder, or pass overwrite (--overwrite) without resume."
    )


def _describe_other(out: Path, name: str, before: str, now: Path) -> str:
    what = "which has changed since" if before == str(now) else f"and this call names {now}"
    return (
        f"{name} in {out} was made from {before}, {what}; choose another folder, or pass overwrite (--overwrite) to "
        "replace it."
    )


@contextmanager
def _recorded(record: Record, files: ImageFiles) -> Iterator[Callable[[], None]]:
    """Write the record before the first image, at calls more than `SECONDS_PER_RECORD` apart, and at the end, also
    after an error.
    """
    record.write(files.out)
    written = time.perf_counter()
    flushed: set[str] = set()

    def write() -> None:
        new = (record.begun & record.images.keys()) - flushed
        paths = [path for name in new for path in files.paths(name)]
        for path in (*paths, *{path.parent for path in paths}):  # no image is listed before they are on the disk
            with suppress(FileNotFoundError):
                flush(path)
        flushed.update(new)
        record.take_over(files.out)
        record.write(files.out)

    def keep() -> None:
        nonlocal written
        if time.perf_counter() - written > SECONDS_PER_RECORD:
            write()
            written = time.perf_counter()

    try:
        yield keep
    except BaseException:
        with suppress(OSError):  # the error that ended the block is raised
            write()
        raise
    write()


class _Advance:
    """Counts images: a bar on a terminal, else a line every minute."""

    def __init__(self, total: int, bar: Progress, log: Callable[[str], None]) -> None:
        self.total, self.bar, self.log = total, bar, log
        self.row = bar.add_task("predicting", total=total, rate="")
        self.done, self.started, self.said = 0, time.perf_counter(), time.perf_counter()

    def rate(self) -> float:
        """Images per second."""
        return self.done / max(time.perf_counter() - self.started, 1e-9)

    def __call__(self, count: int, share: float, *, finished: bool = False) -> None:
        """A share of the next `count` images is predicted."""
        self.done += count if finished else 0
        done = self.done + (0 if finished else count * share)
        rate = f"{self.rate():.3g} images per second" if self.done else ""
        self.bar.update(self.row, completed=done, rate=rate)
        if self.bar.disable and time.perf_counter() - self.said > SECONDS_PER_LINE:
            self.said = time.perf_counter()
            self.log(f"{done:.4g} of {self.total} images{', ' if rate else ''}{rate}")


@contextmanager
def _progress(total: int, log: Callable[[str], None]) -> Iterator[_Advance]:
    columns = (
        "predicting",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns) as bar:
        yield _Advance(total, bar, log)


def _camera(
    tasks: dict[str, Task], fov: int | float | None, intrinsics: Sequence[int | float] | np.ndarray | None
) -> StoredCamera | None:
    """The camera of point clouds; `None` where it is unknown."""
    camera = stored_camera(fov, intrinsics)
    if camera is not None and depth_task(tasks) is None:
        raise ValueError(
            f"point clouds need depth, and this network predicts {', '.join(tasks)}; leave out the field of view or "
            "intrinsics."
        )
    return camera
