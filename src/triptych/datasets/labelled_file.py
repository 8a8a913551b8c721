"""The one file of the official NYU Depth v2, `nyu_depth_v2_labeled.mat`: all frames of a kind in one array."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych.data.archives import Version, file_version
from triptych.data.errors import UnreadableFileError

NEEDED = ("images", "depths", "labels", "names")


class LabelledFile:
    """MATLAB 7.3, that is HDF5 with axes reversed: `images` (N, 3, W, H), `depths`, `rawDepths`, `labels` (N, W, H).

    Raises `OSError` naming a file that is damaged, not whole, or another one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        missing = [name for name in NEEDED if name not in self._file]
        if missing:
            raise OSError(f"{path} has no entry '{missing[0]}': it is not the labelled dataset of NYU Depth v2.")
        self.length = int(self._file["images"].shape[0])

    @property
    def _file(self) -> Any:
        try:
            return _open(self.path, file_version(self.path))
        except OSError as error:
            raise UnreadableFileError(f"{self.path} cannot be read ({error})", "download it again") from error

    def names(self) -> list[str]:
        """Names of the classes, in the order that `labels` counts from 1."""
        return self._texts("names")

    def scenes(self) -> list[str]:
        """Names of the scenes of the frames, such as kitchen_0004; empty where the file does not tell."""
        return self._texts("scenes") if "scenes" in self._file else []

    def _texts(self, entry: str) -> list[str]:
        file = self._file
        return ["".join(chr(code) for code in np.ravel(file[name][()])) for name in np.ravel(file[entry][()])]

    def read(self, entry: str, index: int) -> np.ndarray:
        """One frame of an entry, `(H, W)` or `(H, W, channels)`; `index` from 0."""
        try:
            return np.ascontiguousarray(np.asarray(self._file[entry][index]).T)
        except KeyError as error:
            raise UnreadableFileError(f"{self.path} has no entry '{entry}'", "download it again") from error
        except OSError as error:
            raise UnreadableFileError(
                f"frame {index + 1} of {self.path} cannot be read ({error})", "download it again"
            ) from error


@lru_cache(maxsize=4)
def _open(path: Path, version: Version) -> Any:
    import h5py

    return h5py.File(path, "r")
