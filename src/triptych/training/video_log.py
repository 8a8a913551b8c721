"""Self-supervision from video in the log: images, pixels that stand still, frames that could not be used."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from triptych.video.base import COUNTS, VideoTerms

STATIC = 0.9
"""Share of pixels without motion above which the camera probably stands."""


def video_row(terms: VideoTerms | None, one: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Values and weights of one batch, by name."""
    if terms is None:
        return {}
    counts = {f"video/{name}": (count, one) for name, count in zip(COUNTS, terms.skipped, strict=True)}
    return {"video/static": (terms.static * terms.images, terms.images), "video/images": (terms.images, one)} | counts


def video_record(sums: Mapping[str, float], static: float | None) -> dict[str, Any]:
    """Since the last log line: images that were learnt from, images that were skipped, with the reason, and the share
    of pixels that automasking left out.
    """
    return {name: int(sums[f"video/{name}"]) for name in ("images", *COUNTS)} | {"static": static}


def video_warnings(record: dict[str, Any]) -> list[str]:
    """Warnings about frames that teach nothing."""
    if not record["images"]:
        reasons = ", ".join(f"{name.replace('_', ' ')}: {record[name]}" for name in COUNTS)
        return [f"video: no image since the last line could be learnt from ({reasons})"]
    if record["static"] > STATIC:
        return [
            f"video: over {STATIC:.0%} of the pixels look the same in the neighbouring frames and teach nothing; does "
            "the camera move? Neighbours farther away (neighbour_frames) see more motion."
        ]
    return []
