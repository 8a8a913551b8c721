"""Small networks that need no training, images to predict, and a reader of point clouds."""

import struct

import numpy as np
from PIL import Image
from torch import nn

from triptych.backbones.base import Backbone
from triptych.decoders.base import Decoder
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import boundary, depth, normals, semseg
from triptych.types import Output

TASKS = {task.name: task for task in (semseg(["a", "b", "c"]), depth(), normals(), boundary())}


class Pixels(Backbone):
    """The image itself."""

    channels, strides = (3,), (1,)

    def forward(self, image):
        return [image]


class Local(Decoder):
    """One 5 x 5 convolution per task with zero padding: the receptive field reaches two pixels."""

    def __init__(self, channels, *, strides, tasks):
        super().__init__(channels, strides=strides, tasks=tasks)
        self.heads = nn.ModuleDict({name: nn.Conv2d(3, task.channels, 5, padding=2) for name, task in tasks.items()})
        self.drop = nn.Dropout(0.5)

    def forward(self, features):
        return [{name: head(self.drop(features[0])) for name, head in self.heads.items()}]


def local_model(tasks=TASKS):
    return MultiTaskModel(Pixels(), Local((3,), strides=(1,), tasks=tasks))


class Formula(nn.Module):
    """A model whose raw maps are given functions of the image: known to be equivariant, or known not to be."""

    def __init__(self, tasks, **formulas):
        super().__init__()
        self.tasks, self.formulas = tasks, formulas

    def forward(self, image):
        return Output({name: formula(image) for name, formula in self.formulas.items()}, [], [])


def write_images(folder, sizes=((9, 13), (20, 11))):
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def read_ply(path):
    """An independent reader: header lines, then one packed record per vertex."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[-1])
    kinds = {"float": "f", "uchar": "B"}
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    record = struct.Struct("<" + "".join(kinds[kind] for kind, _ in properties))
    assert len(body) == count * record.size
    return [dict(zip([name for _, name in properties], row, strict=True)) for row in record.iter_unpack(body)]
