"""Read array files: of one array (.npy), or of several with names (.npz, .mat, HDF5, OpenEXR)."""

import math
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from triptych.data.errors import DataError
from triptych.data.limits import check_bytes
from triptych.data.pictures import Values
from triptych.extras import install_command

NUMPY = Lock()
"""Held while NumPy parses the header of an array: it uses `ast`, which occasionally fails on intact files where several
threads of CPython 3.11 use it.
"""


def read_npy(path: Path, values: Values) -> np.ndarray:
    """Read an .npy file; `DataError` where its size is not the one that its header declares."""
    # Mapped first: a header may claim more than the file holds, and memory would be allocated before the error.
    with NUMPY:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_bytes(mapped.nbytes)
    end, size = mapped.offset + mapped.nbytes, path.stat().st_size
    if size != end:
        raise DataError(f"it has {size} bytes, its header speaks of {end}", "it was damaged: save it again")
    return np.array(mapped)


Entries = tuple[Collection[str], Callable[[str], np.ndarray]]
"""Names of the arrays in an open file, and a function that reads one of them."""


@contextmanager
def _open_npz(path: Path) -> Iterator[Entries]:
    with zipfile.ZipFile(path) as packed:
        check_bytes(max((member.file_size for member in packed.infolist()), default=0))
    with np.load(path, allow_pickle=False) as archive:

        def read(name: str) -> np.ndarray:
            with NUMPY:
                return archive[name]

        yield archive.files, read


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Entries]:
    import h5py

    with h5py.File(path, "r") as file:
        yield file, partial(_read_hdf5, file)


def _read_hdf5(file: Any, name: str) -> np.ndarray:
    data = file[name]
    if not hasattr(data, "shape"):
        raise DataError(f"its entry '{name}' is a group, no array", "set key to the path of an array in it")
    check_bytes(data.size * data.dtype.itemsize)
    return np.asarray(data)


@contextmanager
def _open_mat(path: Path) -> Iterator[Entries]:
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):  # MATLAB 7.3; arrays lie there with reversed axes
        with _open_hdf5(path) as (names, read):
            yield names, lambda name: read(name).T
    else:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        check_bytes(max((8 * math.prod(shape) for shape in shapes.values()), default=0))
        yield shapes, lambda name: scipy.io.loadmat(path, variable_names=[name])[name]


@contextmanager
def _open_exr(path: Path) -> Iterator[Entries]:
    """OpenEXR: the one channel of a file, the one that `key` names, or the colors as `(H, W, channels)`."""
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError(
            "it is an OpenEXR file", f"the extra 'formats' reads it: {install_command('formats')}"
        ) from error
    with OpenEXR.File(str(path), header_only=True) as file:
        for part in file.parts:
            (left, top), (right, bottom) = (map(int, corner) for corner in part.header["dataWindow"])
            check_bytes(4 * (right - left + 1) * (bottom - top + 1) * len(part.header["channels"]))
    with OpenEXR.File(str(path)) as file:
        yield file.channels(), lambda name: np.asarray(file.channels()[name].pixels)


CONTAINERS: dict[str, Callable[[Path], AbstractContextManager[Entries]]] = {
    ".npz": _open_npz,
    ".mat": _open_mat,
    **dict.fromkeys((".h5", ".hdf5"), _open_hdf5),
    ".exr": _open_exr,
}
"""Suffix to a function that opens a file of several named arrays."""
