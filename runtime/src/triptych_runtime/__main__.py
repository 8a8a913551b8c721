"""`triptych-runtime FILE.onnx IMAGES... --out FOLDER`: maps of images as .npy arrays, without torch."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from triptych_runtime.network import Network, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; returns the exit code: 0, or 2 with one line for what cannot be read or written."""
    parser = argparse.ArgumentParser("triptych-runtime", description="Maps of images as .npy arrays, without torch.")
    parser.add_argument("network", type=Path, metavar="FILE.onnx")
    parser.add_argument("images", type=Path, nargs="*", help="image files; none: only say what the file predicts")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder to write IMAGE_TASK.npy to")
    parser.add_argument("--resize", action="store_true", help="resize images to the size of the file, and maps back")
    parser.add_argument("--overwrite", action="store_true", help="replace what earlier calls wrote")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0: as onnxruntime chooses")
    options = parser.parse_args(arguments)
    try:
        network = Network(options.network, threads=options.threads)
        if not options.images:
            print(printable(describe(network)))
            return 0
        twice = [stem for stem, count in Counter(path.stem for path in options.images).items() if count > 1]
        if twice:
            raise ValueError(f"several images are called {twice[0]}; predict them into different folders.")
        places = {
            path: {name: options.out / f"{path.stem}_{name}.npy" for name in network.names} for path in options.images
        }
        existing = [place for named in places.values() for place in named.values() if place.exists()]
        if existing and not options.overwrite:
            raise FileExistsError(f"{existing[0]} exists; choose another folder (--out), or pass --overwrite.")
        for path, named in places.items():
            started = time.perf_counter()
            maps = network(path, resize=options.resize)
            seconds = time.perf_counter() - started
            for name, values in maps.items():
                save(named[name], values)
            print(printable(f"{path}: {', '.join(maps)} in {seconds * 1000:.0f} ms"))
    except (ValueError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


def save(path: Path, values: np.ndarray) -> None:
    """Write an array whole or not at all; `OSError` in one line that names the file."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.save(file, values)
        partial.replace(path)
    except OSError as error:
        if partial.exists():
            partial.unlink()
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); make room, or give another --out."
        ) from error


def describe(network: Network) -> str:
    """What a file predicts, one line a map."""
    size = "any size" if network.size is None else f"{network.size[0]} x {network.size[1]}"
    rows = [f"{network.path}: RGB images of {size}"]
    for entry in network.metadata["maps"]:
        unit = f", {entry['unit']}" if entry["unit"] else ""
        rows.append(f"  {entry['name']:<24} {entry['holds']}{unit}, {entry['type']} {entry['layout']}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
