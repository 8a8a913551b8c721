"""Videos in, videos of their maps out, by PyAV.

| file                     | what it holds                                                       |
| ------------------------ | ------------------------------------------------------------------- |
| `pictures/TASK/NAME.mp4` | the colors of each frame's map, or with `overlay` these over it     |
| `panels/NAME.mp4`        | each frame and every map of it beside each other                    |

Values that have no limits of their own (metres) keep the range of colors of the first frames. Frames keep their times,
which need not be regular, and pixels that are not square are made so.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from triptych.drawing.panels import Cell, color_maps, color_range, contact_sheet, overlay_map
from triptych.extras import import_extra
from triptych.files import written_whole
from triptych.lookup import named_choice
from triptych.machine import memory_advice
from triptych.prediction.calibration import describe_unscaled
from triptych.prediction.outputs import SECONDS_PER_LINE, advise_size
from triptych.prediction.predictor import Predictor
from triptych.tasks import Task
from triptych.terminal import say

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
PRODUCTS = ("pictures", "panels")
_LIMITS = {"format_whitelist": "mov,matroska,webm,avi", "protocol_whitelist": "file"}
"""Allowed formats and protocols: others, such as playlists, would open further files or addresses."""
CODECS = ("libx264", "libopenh264", "mpeg4")
"""Codecs of the written videos, in order of preference."""
_FIRST = 8
"""Frames whose values give the range of colors."""

_WIDEST = 4
"""Ratio of the sides of pixels beyond which a file is mistaken."""
_TICKS = 60000
"""Most units of time of a written video in a second: MPEG-4 stores them in 16 bits."""

Picture = np.ndarray
"""`(H, W, 3)` uint8."""


class Frame(NamedTuple):
    """A frame of a video, and when it is shown."""

    pixels: Picture
    time: Fraction | None = None
    """Seconds from the start; `None` where the file does not say."""


@dataclass(frozen=True)
class PredictedVideo:
    """The files made of a video, how many frames they have, those left out and why, and the seconds it took: all in
    all, and in the network.
    """

    files: tuple[Path, ...]
    frames: int
    seconds: float
    network_seconds: float
    skipped: dict[int, str] = field(default_factory=dict)

    def summary(self) -> str:
        """Frames and speed in words."""
        network = self.frames / max(self.network_seconds, 1e-9)
        left_out = f", {len(self.skipped)} left out" if self.skipped else ""
        return (
            f"{self.frames} frames{left_out} in {self.seconds:.1f} s: {self.frames / max(self.seconds, 1e-9):.1f} "
            f"frames/s, the network alone {network:.1f}"
        )


def predict_videos(
    predictor: Predictor,
    videos: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    products: Sequence[str] = PRODUCTS,
    overlay: bool = False,
    batch_size: int = 1,
    overwrite: bool = False,
    on_bad_sample: str = "raise",
    log: Callable[[str], None] = say,
) -> dict[str, PredictedVideo]:
    """Predict every frame of video files into videos of maps in `out`; `batch_size` frames at a time.

    Raises `ValueError` naming the frame that cannot be decoded, counted from 0; `on_bad_sample="skip"` names it
    through `log` and leaves it out. A video that fails leaves no file.
    """
    skip = named_choice("on_bad_sample", on_bad_sample, {"raise": False, "skip": True})
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1.")
    advice = f"predict fewer frames at once (--batch, now {batch_size}), in tiles (--tile 512) or at a --shorter-side"
    done = {}
    for path, files in check_videos(predictor, videos, out, products=products, overwrite=overwrite).items():
        with memory_advice(advice):
            done[path.stem] = _predict_video(predictor, path, files, overlay, batch_size, skip, log)
        log(f"{path}: {done[path.stem].summary()}")
    return done


def check_videos(
    predictor: Predictor,
    videos: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    products: Sequence[str] = PRODUCTS,
    overwrite: bool = False,
) -> dict[Path, dict[str, Path]]:
    """The files that each video will become, by what they show: a task, or all of them under `""`.

    Raises what `predict_videos` would for files that are missing or no videos, and for outputs that exist.
    """
    _import_av()
    chosen = tuple(name for name in products if name in PRODUCTS)
    if not chosen:
        raise ValueError(f"of videos only {' and '.join(PRODUCTS)} are made; add one of them to the products.")
    paths = [Path(video) for video in videos]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"no video {path}; check the path.")
        _open(path).close()
    files = {path: _files(Path(out), path.stem, predictor.tasks, chosen) for path in paths}
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError("two videos have the same name; predict them into different folders.")
    existing = [file for each in files.values() for file in each.values() if file.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; choose another folder, or pass overwrite (--overwrite).")
    return files


def _predict_video(
    predictor: Predictor,
    path: Path,
    files: dict[str, Path],
    overlay: bool,
    batch_size: int,
    skip: bool,
    log: Callable[[str], None],
) -> PredictedVideo:
    skipped: dict[int, str] = {}

    def leave_out(number: int, reason: str) -> None:
        if not skip:
            raise ValueError(f"{path}: {reason}; repair the video, or leave such frames out (--on-bad-sample skip).")
        log(f"skipped: {path}: {reason}")
        skipped[number] = reason

    started = time.perf_counter()
    frames = _told(read_frames(path, leave_out), path, log)
    first = list(islice(frames, 1))
    if advised := "".join(advise_size(predictor, path.name, frame.pixels.shape[:2]) for frame in first):
        log(advised)
    if unscaled := describe_unscaled(predictor.recipe, predictor.calibration):
        log(unscaled)
    count, spent = write_videos(
        predictor, chain(first, frames), frame_rate(path), files, overlay=overlay, batch_size=batch_size
    )
    if not count:
        raise ValueError(f"{path} has no frame that can be decoded; give another file.")
    return PredictedVideo(tuple(files.values()), count, time.perf_counter() - started, spent, skipped)


def write_videos(
    predictor: Predictor,
    frames: Iterator[Frame],
    rate: Fraction,
    files: Mapping[str, Path],
    *,
    overlay: bool = False,
    batch_size: int = 1,
    sent: tuple[int, int] | None = None,
) -> tuple[int, float]:
    """Predict frames into videos of maps: `files` by what they show, a task, or all of them under `""`. `sent` is the
    height and width that frames had before they were shrunk.

    Returns how many frames there were, and the seconds in the network; without any no file is written.
    """
    spent, count = [0.0], 0
    predicted = _predict_frames(predictor, frames, batch_size, spent, sent)
    first = list(islice(predicted, _FIRST))
    if not first:
        return 0, 0.0
    tasks = {name: task.drawn_like(maps[name] for _, maps in first) for name, task in predictor.tasks.items()}
    limits = {name: color_range(task, [maps[name] for _, maps in first]) for name, task in tasks.items()}
    with ExitStack() as stack:
        writers = {}
        for product, file in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(written_whole(file))
            writers[product] = stack.enter_context(VideoWriter(partial, rate))
        # One by one: all of the first ones would be held until the last frame.
        for frame, maps in chain((first.pop(0) for _ in range(len(first))), predicted):
            drawn = {
                name: overlay_map(task, frame.pixels, maps[name]) if overlay else color_maps(task, [maps[name]])[0]
                for name, task in tasks.items()
            }
            for product, writer in writers.items():
                picture = drawn[product] if product in drawn else _panel(frame.pixels, drawn, tasks, limits)
                writer.write(picture, frame.time)
            count += 1
    return count, spent[0]


def _told(frames: Iterator[Frame], path: Path, log: Callable[[str], None]) -> Iterator[Frame]:
    """Pass frames on, and log their number every minute."""
    said = time.perf_counter()
    for count, frame in enumerate(frames):
        if time.perf_counter() - said > SECONDS_PER_LINE:
            said = time.perf_counter()
            log(f"{path}: {count} frames")
        yield frame


def _predict_frames(
    predictor: Predictor,
    frames: Iterator[Frame],
    batch_size: int,
    spent: list[float],
    sent: tuple[int, int] | None,
) -> Iterator[tuple[Frame, dict[str, np.ndarray]]]:
    """Frames with their maps; the seconds in the network are added to `spent`."""
    while batch := list(islice(frames, batch_size)):
        images = torch.from_numpy(np.stack([frame.pixels for frame in batch])).permute(0, 3, 1, 2) / 255
        started = time.perf_counter()
        maps = {name: values.cpu().numpy() for name, values in predictor.predict(images, frame=sent).items()}
        spent[0] += time.perf_counter() - started
        for i, frame in enumerate(batch):
            yield frame, {name: values[i] for name, values in maps.items()}


def read_frames(path: Path, leave_out: Callable[[int, str], None]) -> Iterator[Frame]:
    """The frames of a video, upright and of square pixels; `leave_out(number, reason)` is called for each that cannot
    be decoded.

    Raises `ValueError` for a file that holds no video.
    """
    av = _import_av()
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # threads of one frame each would report damage late
        stream.codec_context.options = {"err_detect": "explode"}  # damage is an error, not a smear
        count, size, wide = 0, None, _pixel_shape(stream)
        for packet in _packets(container, stream, leave_out):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                number = _number(path, packet.pts, count)
                leave_out(number, f"frame {number} cannot be decoded ({error.strerror})")
                count += 1
                continue
            for frame in frames:
                count += 1
                if frame.is_corrupt:
                    number = _number(path, frame.pts, count - 1)
                    leave_out(number, f"frame {number} cannot be decoded (it is damaged)")
                    continue
                sides = round(frame.width * max(1, wide)), round(frame.height * max(1, 1 / wide))
                pixels = frame.to_ndarray(format="rgb24", width=sides[0], height=sides[1])
                image = np.rot90(pixels, frame.rotation // 90)
                size = size or image.shape
                if image.shape != size:
                    number = _number(path, frame.pts, count - 1)
                    raise ValueError(f"{path}: the size of frames changes at frame {number}; cut the video there.")
                shown = None if frame.pts is None else (frame.pts - (stream.start_time or 0)) * stream.time_base
                yield Frame(np.ascontiguousarray(image), shown)


def _pixel_shape(stream: Any) -> Fraction:
    """Width of a pixel over its height: 1 where the file does not say, or says what cannot be."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio and Fraction(1, _WIDEST) <= ratio <= _WIDEST else Fraction(1)


def _packets(container: Any, stream: Any, leave_out: Callable[[int, str], None]) -> Iterator[Any]:
    """The packets of a stream, up to the damage of a container that ends early."""
    av, count = _import_av(), 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            leave_out(count, f"frame {count} cannot be read ({error.strerror})")
            return
        if packet is None:
            return
        count += packet.size > 0
        yield packet


def _number(path: Path, pts: int | None, count: int) -> int:
    """Number of the frame shown at a time stamp: packets come in the order of decoding, which differs."""
    if pts is None:
        return count
    with _open(path) as container:
        packets = _packets(container, container.streams.video[0], lambda number, reason: None)
        return bisect_left(sorted(packet.pts for packet in packets if packet.pts is not None), pts)


def frame_rate(path: Path) -> Fraction:
    """Mean number of frames per second of a video; 25 where it does not say."""
    with _open(path) as container:
        return container.streams.video[0].average_rate or Fraction(25)


class VideoWriter(AbstractContextManager):
    """Writes frames `(H, W, 3)` uint8, all of one size, as a video of `rate` frames a second where they have no times.

    A context manager.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.rate = rate
        # A multiple of the rate: frames at regular times keep them to the digit.
        self.ticks = rate.numerator * (_TICKS // rate.numerator) or _TICKS
        self.last, self.between = -1, max(1, round(self.ticks / rate))
        self.container = _import_av().open(str(path), "w", format="mp4")
        self.stream: Any = None

    def write(self, frame: Picture, time: Fraction | None = None) -> None:
        """Add a frame that is shown `time` seconds after the start, or at the next turn."""
        av = _import_av()
        if self.stream is None:
            codec = next(name for name in CODECS if name in av.codecs_available)
            self.stream = self.container.add_stream(codec, rate=self.rate)
            self.stream.height, self.stream.width = (side + side % 2 for side in frame.shape[:2])
            self.stream.pix_fmt = "yuv420p"
            self.stream.codec_context.time_base = Fraction(1, self.ticks)
        # Two rows and columns share their color: sizes are even.
        even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        made = av.VideoFrame.from_ndarray(even, format="rgb24")
        due = self.last + self.between if time is None and self.last >= 0 else round((time or 0) * self.ticks)
        made.pts = self.last = max(self.last + 1, due)
        made.time_base = Fraction(1, self.ticks)
        self._encode(made)

    def _encode(self, frame: Any) -> None:
        for packet in self.stream.encode(frame):
            packet.duration = self.between  # of the last one: those before end where the next begins
            self.container.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None and self.stream is not None:
                self._encode(None)
        finally:
            self.container.close()


def _panel(
    frame: Picture, drawn: dict[str, Picture], tasks: dict[str, Task], limits: dict[str, tuple[float, float] | None]
) -> Picture:
    """The frame and its maps beside each other. Legends of classes would come and go with them."""
    cells = [Cell("frame", frame)]
    for name, picture in drawn.items():
        ends = limits[name]
        span = f": {ends[0]:.2g} to {ends[1]:.2g} {tasks[name].unit}" if ends else ""
        cells.append(Cell(f"{name}{span}", picture))
    return np.asarray(contact_sheet(cells, columns=min(len(cells), 4)))


def _files(out: Path, name: str, tasks: dict[str, Task], products: Sequence[str]) -> dict[str, Path]:
    """Every file of a video, by what it shows: a task, or all of them."""
    files = {task: out / "pictures" / task / f"{name}.mp4" for task in tasks if "pictures" in products}
    return files | ({"": out / "panels" / f"{name}.mp4"} if "panels" in products else {})


def _open(path: Path) -> Any:
    av = _import_av()
    try:
        container = av.open(str(path), options=_LIMITS)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a video ({error.strerror}); give another file.") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path} holds no video; give another file.")
    return container


def _import_av() -> Any:
    return import_extra("av", "video", "videos need")
