"""Frames of videos by their names: the last number of a name counts the frames, the rest names the video."""

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


class Videos:
    """Order of frames in videos, by their names.

    Images belong to one video if their names, folders included, differ in the last number alone. Its frames are one
    step apart, the smallest difference that occurs: a video may keep every fifth frame, and where some are missing
    their neighbors have none.

    >>> videos = Videos(["a/frame8", "a/frame10", "a/frame12", "a/frame16", "b/frame10"])
    >>> videos.shift("a/frame10", -1), videos.shift("a/frame12", 1), videos.shift("a/frame12", 2)
    ('a/frame8', None, 'a/frame16')
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self.frames: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
        for key in keys:
            if match := _NUMBERED.fullmatch(key):
                self.frames[match[1], match[3]][int(match[2])] = key
        self.steps = {
            video: min((after - before for before, after in pairwise(sorted(frames))), default=1)
            for video, frames in self.frames.items()
        }

    @staticmethod
    def video(key: str) -> str:
        """Name of the video that a frame belongs to; a name without a number is one of its own.

        >>> Videos.video("a/frame8")
        'a/frame*'
        """
        match = _NUMBERED.fullmatch(key)
        return key if match is None else f"{match[1]}*{match[3]}"

    def shift(self, key: str, offset: int) -> str | None:
        """The frame `offset` frames later (negative: earlier); `None` where there is none."""
        match = _NUMBERED.fullmatch(key)
        if match is None:
            return None
        video = match[1], match[3]
        return self.frames.get(video, {}).get(int(match[2]) + offset * self.steps.get(video, 1))
