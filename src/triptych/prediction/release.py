"""A network as one file: the folder of `save_pretrained` in a zip archive, its weights as float16.

Entries are stored without compression and in order, so that equal networks give equal bytes and a file never unpacks to
more than its own size; `unzip` gives the folder, with the card as its `README.md`.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from triptych.files import hash_file, read_tensors, save_tensors, written_whole
from triptych.prediction import calibration
from triptych.prediction.pretrained import FILES, weights_file

SUFFIX = ".zip"
KNOWN = {*FILES.values(), calibration.FILE}
NEEDED = {FILES["recipe"], FILES["tasks"]}


def pack(folder: Path, path: Path) -> None:
    """Write the folder that `save_folder` wrote as the file `path`; `ValueError` where float16 cannot hold a weight."""
    weights = weights_file(folder)
    scales = calibration.read_calibration(folder, weights)
    for name in (FILES["weights"], FILES["adapters"]):
        if (folder / name).is_file():
            tensors = {key: _halve(key, value) for key, value in read_tensors(folder / name).items()}
            save_tensors(folder / name, tensors)
    if scales:
        calibration.write_calibration(folder, scales, hash_file(weights), {})
    with written_whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())


def _halve(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise ValueError(
            f"{name} has values up to {value.abs().max():.3g}, more than float16 holds; save a folder instead, which "
            "keeps float32."
        )
    return half


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a network: `path` itself, or a temporary folder with the contents of the file there.

    Raises `ValueError` for a damaged file and for one that `pack` did not write, before anything of it is read.
    """
    if path.suffix != SUFFIX:
        yield path
        return
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a file that save_pretrained wrote, or a run folder.")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                strange = [entry.filename for entry in entries if entry.filename not in KNOWN]
                strange += [f"{entry.filename} (compressed)" for entry in entries if entry.compress_type]
                strange += [f"{entry.filename} (encrypted)" for entry in entries if entry.flag_bits & 1]
                missing = sorted(NEEDED - {entry.filename for entry in entries})
                if strange or missing:
                    reason = f"it holds {strange[0]}" if strange else f"it has no {missing[0]}"
                    raise ValueError(f"{path} is no network's file ({reason}); give one that save_pretrained wrote.")
                archive.extractall(folder)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} cannot be read ({error}); copy it again.") from error
        yield Path(folder)
