"""Self-supervision from video by name."""

from triptych.video.base import VideoSupervision
from triptych.video.monodepth2 import Monodepth2

VIDEO: dict[str, type[VideoSupervision]] = {"monodepth2": Monodepth2}
