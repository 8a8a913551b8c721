"""Predict an uploaded picture or video: bytes in; maps, their part of the page and their files out."""

import io
import itertools
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from triptych.data.cameras import intrinsics_from_field_of_view
from triptych.data.errors import DataError
from triptych.data.files import FORMATS
from triptych.data.photos import to_image_tensor, to_pixels, upright_size
from triptych.data.pictures import without_pillows_limit
from triptych.data.predicted import PLACES
from triptych.drawing.panels import color_maps, draw_panel
from triptych.prediction.calibration import describe_unscaled
from triptych.prediction.image_files import depth_task
from triptych.prediction.outputs import advise_size
from triptych.prediction.point_cloud import backproject, write_points
from triptych.prediction.predictor import Predictor
from triptych.prediction.strips import resize_image, scale_size
from triptych.prediction.videos import Frame, frame_rate, read_frames, write_videos
from triptych.report.examples import show_choice, show_example
from triptych.report.page import ASSUMED_FIELD_OF_VIEW, make_cloud
from triptych.report.values import Example
from triptych.tasks import Task


@dataclass(frozen=True)
class Limits:
    """Limits of a request: `bytes` of a file, `pixels` of a picture or a frame, files `waiting` at a time.

    Larger pictures are shrunk to the longer `side`; of longer videos only the first `frames` are predicted.
    """

    bytes: int = 20_000_000
    pixels: int = 40_000_000
    side: int = 1024
    waiting: int = 16
    frames: int = 250


@dataclass(frozen=True)
class Predicted:
    """A picture as the network saw it with its maps, its original size (upright), the seconds of the prediction, and
    warnings about its maps.
    """

    example: Example
    sent: tuple[int, int]
    seconds: float
    doubts: str = ""


def predict_picture(predictor: Predictor, data: bytes, name: str, limits: Limits) -> Predicted:
    """Decode, shrink and predict; `DataError` for what is no picture, or too large a one."""
    seen = max([limits.side, *(predictor.fixed_size or ())])  # not shrunk below the fixed size of an exported file
    picture, sent = read_picture(data, replace(limits, side=seen))
    started = time.perf_counter()
    maps = {key: values[0].cpu().numpy() for key, values in predictor.predict(picture[None], frame=sent).items()}
    seconds = time.perf_counter() - started
    image = to_pixels(picture)
    return Predicted(Example(name, image, maps, {}, None), sent, seconds, _doubts(predictor, name, image, sent))


def _doubts(predictor: Predictor, name: str, seen: np.ndarray, sent: tuple[int, int]) -> str:
    """Warnings about the size of a picture `(H, W, 3)` and the scale of depth, each after a semicolon; empty where none
    are.
    """
    size = (seen.shape[0], seen.shape[1])
    told = (
        advise_size(predictor, name, sent if predictor.fixed_size else size),  # resized to the fixed size
        predictor.describe_mismatch(size, sent),
        describe_unscaled(predictor.recipe, predictor.calibration),
    )
    return "".join(f"; {line.rstrip('.')}" for line in told if line)


def read_picture(data: bytes, limits: Limits) -> tuple[Tensor, tuple[int, int]]:
    """Decode a picture `(3, H, W)` in [0, 1], upright and at most `limits.side` on its longer side; returns it and its
    original upright (height, width).
    """
    try:
        with without_pillows_limit(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            sent = upright_size(image)
            _check_pixels("the picture has", sent, limits)
            image.draft(None, (limits.side, limits.side))  # decodes a JPEG at a smaller size
            picture = to_image_tensor(image)
    except DataError:
        raise
    except Exception as error:  # damaged pictures raise whatever their library does
        text = "this is no picture that can be read" if data else "nothing was sent"
        raise DataError(text, "send a JPEG, PNG, WebP, BMP, TIFF or GIF") from error
    return resize_image(picture[None], _shrunk((picture.shape[1], picture.shape[2]), limits.side))[0], sent


def predict_video(predictor: Predictor, data: bytes, name: str, limits: Limits) -> tuple[bytes, str]:
    """Predict a video: returns one of all maps next to each other, and a line about it.

    Raises `DataError` for a file that is no video, and for a frame that cannot be decoded, naming it.
    """

    def refuse(number: int, reason: str) -> None:
        raise DataError(f"{name}: {reason}", "repair the video, or send another one")

    def shown(frame: Frame) -> Frame:
        height, width = frame.pixels.shape[:2]
        _check_pixels("the video's frames have", (height, width), limits)
        size = predictor.fixed_size or _shrunk((height, width), limits.side)
        small = Image.fromarray(frame.pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return frame._replace(pixels=np.asarray(small))

    with TemporaryDirectory() as folder:
        source, film = Path(folder) / "sent", Path(folder) / "film.mp4"
        source.write_bytes(data)
        try:
            frames = read_frames(source, refuse)
            start = list(islice(frames, 1))
            if not start:
                raise DataError(f"{name} has no frame that can be decoded", "send another video")
            sent = start[0].pixels.shape[:2]
            first = map(shown, itertools.chain(start, islice(frames, limits.frames - 1)))
            count, seconds = write_videos(predictor, first, frame_rate(source), {"": film}, sent=sent)
        except (ValueError, ImportError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(str(error).replace(str(source), name), "") from error
        most = f", the first {limits.frames} alone" if _has_more(frames) else ""
        doubts = _doubts(predictor, name, shown(start[0]).pixels, sent)
        return film.read_bytes(), f"{name}: {count} frames{most}, {count / max(seconds, 1e-9):.1f} a second{doubts}"


def as_page(predicted: Predicted, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Predictions as JSON for the page: markup of the maps, and the points in space."""
    example = predicted.example
    height, width = example.image.shape[:2]
    shrunk = "" if predicted.sent == (height, width) else ", shrunk from {1} x {0}"
    size = f"{width} x {height} pixels{shrunk.format(*predicted.sent)}"
    return {
        "choice": show_choice(example),
        "article": show_example(tasks, example),
        "cloud": make_cloud(tasks, example),
        "text": f"{example.name}: {size}, predicted in {predicted.seconds:.2f} s{predicted.doubts}",
    }


def as_zip(predicted: Predicted, tasks: Mapping[str, Task]) -> bytes:
    """Zip of all maps of a picture, in folders as `predict` writes them: arrays, colors, a panel, and points if there
    is depth.
    """
    example = predicted.example
    with TemporaryDirectory() as folder:

        def place(product: str, task: str = "") -> Path:
            path = Path(folder) / PLACES[product].format(task=task, name="picture")
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

        for name, values in example.predictions.items():
            np.save(place("arrays", name), values)
            Image.fromarray(color_maps(tasks[name], [values])[0]).save(place("pictures", name))
        draw_panel(example.image, example.predictions, tasks).save(place("panels"))
        depth = depth_task(dict(tasks))
        if depth is not None:
            height, width = example.image.shape[:2]
            camera = intrinsics_from_field_of_view((height, width), ASSUMED_FIELD_OF_VIEW)
            points = backproject(example.predictions[depth].reshape(height, width), camera)
            assumed = f"field of view assumed: {ASSUMED_FIELD_OF_VIEW:g} degrees across the width"
            write_points(place("points"), [(points, example.image, None)], comment=assumed)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(filter(Path.is_file, Path(folder).rglob("*"))):
                archive.write(path, path.relative_to(folder))
    return packed.getvalue()


def _has_more(frames: Iterator[Frame]) -> bool:
    try:
        return next(frames, None) is not None
    except ValueError:  # a damaged frame counts too
        return True


def _check_pixels(text: str, size: tuple[int, int], limits: Limits) -> None:
    if size[0] * size[1] > limits.pixels:
        cure = f"at most {limits.pixels / 1e6:g} million are taken: send a smaller one, or serve with --max-pixels"
        raise DataError(f"{text} {size[1]} x {size[0]} pixels", cure)


def _shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) scaled down to at most `side` on the longer side."""
    return scale_size(size, min(1.0, side / max(size)))
