"""Has the density learned the shape of the room? Depth, sharpness and normals of the regularizer's rays against truth.

python studies/density.py --out runs    # after studies/triplane.py sweep and main; writes docs/study-3d-tables.md

Per test image a scale and a shift are fitted to the expected depth at the rendering size (8 x 10); what remains is
given as the share of the depth's variance that is explained (R2) and as mean relative error. The network's own depth at
the same places, fitted likewise, and the best constant say what is much and what is little.

Normals are those of the surface that the fitted depth makes in front of the image's own camera: the cube's x and y are
pixels, its parallel rays those of a pinhole camera, and the fit alone gives z a unit. The gradient of the density would
need that unit too, and level sets, which a density spread along its rays does not have. Cells of eight pixels round off
corners and furniture: compared is where normals of true depth, taken likewise, are right to 15 degrees.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import grid
import torch
from arms import SIZE
from derived_normals import derive_normals
from field_numbers import at_centres, entropy, explained, fit
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.datasets.rooms import Rooms
from triptych.regularizers.fields import SamplePoints, render_shared_weights
from triptych.regularizers.inspection import inspect
from triptych.regularizers.terms import image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.triplane import Triplane
from triptych.report.renderings import Renderer
from triptych.types import Sample, collate

ROOT = Path(__file__).resolve().parents[1]
ARMS = (
    "vanilla+3d",
    "sweep/weight 1 (default)",
    "sweep/density shared",
    "sweep/planes pooled",
    "sweep/depth from termination",
    "sweep/camera metric",
)
COLUMNS = {
    "density": {
        "R2 of the density %": "density R2",
        "R2 of the network %": "network R2",
        "error of the density %": "density error",
        "error of the network %": "network error",
        "error of a constant %": "constant error",
        "opacity %": "opacity",
    },
    "field": {
        "entropy of the weights, 0 to 1": "entropy",
        "normals of the density °": "density depth angle",
        "normals of the network's depth °": "network depth angle",
        "normals of true depth °": "true depth angle",
        "facing the camera °": "constant depth angle",
        "the network's own normals °": "network angle",
        "best constant direction °": "constant angle",
    },
}
"""Tables of the page: title of a column to the number in it."""
WIDE = 15
"""Degrees between normals of true depth and true ones up to which a surface is wide enough for the cells."""


def weights_of(
    regularizer: Triplane3D, planes: Triplane, samples: SamplePoints, name: str
) -> Float[Tensor, "batch height width samples"]:
    """The weights along the rays that task `name` is rendered with."""
    field = regularizer.fields[name] if regularizer.density is None else regularizer.density
    return render_shared_weights(field, planes, samples, route=regularizer.route, aggregation=regularizer.aggregation)


def angles(one: Float[Tensor, "3 *places"], other: Float[Tensor, "3 *#places"]) -> Float[Tensor, "*places"]:  # noqa: F821 (shapes)
    """Angles between vectors, degrees."""
    cosines = F.cosine_similarity(one.double(), other.double(), dim=0)
    return torch.rad2deg(torch.arccos(cosines.clamp(-1, 1)))


def best_direction(truth: Float[Tensor, "3 places"]) -> Float[Tensor, "3 1"]:
    """The one that is nearest to all in mean angle, of each of them and their mean."""
    candidates = torch.cat([truth, truth.mean(dim=1, keepdim=True)], dim=1)
    found = angles(candidates[:, :, None], truth[:, None]).mean(dim=1)
    return candidates[:, found.argmin(), None]


def normals_of(depth: Float[Tensor, "height width"], sample: Sample) -> Float[Tensor, "3 inner_height inner_width"]:
    """Normals of a depth map that covers the sample's image, without its border, in the frame of its camera."""
    scale = [one / other for one, other in zip(depth.shape, sample.image.shape[-2:], strict=True)]
    intrinsics = sample.camera.intrinsics.double() * torch.tensor([*reversed(scale), 1.0]).double()[:, None]
    return derive_normals(depth.double()[None, None], intrinsics)[0, :, 1:-1, 1:-1]


@torch.no_grad()
def measure(run: Path, rooms: Rooms) -> dict[str, float]:
    """Means over the images of a run's numbers."""
    renderer = Renderer.load(run)
    rows = [measure_image(renderer, collate([rooms[index]])) for index in range(len(rooms))]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean(row[name] for row in rows if name in row) for name in names}


def measure_image(renderer: Renderer, sample: Sample) -> dict[str, float]:
    """The numbers of a batch of one."""
    regularizer, output = renderer.regularizer, renderer.model(sample.image)
    shown = inspect(regularizer, output, sample, shifts={})
    planes = regularizer.encoder(output.features, image_size(sample))
    weights = weights_of(regularizer, planes, regularizer.sample_points(sample), shown.geometry)
    size = shown.depth.shape[-2:]

    def thinned(name: str) -> tuple[Tensor, Tensor]:
        decoded = renderer.model.tasks[name].decode(output.predictions[name])
        return at_centres(sample.targets[name][0], size), at_centres(decoded[0], size)

    (depth, network), (normals, own) = thinned("depth"), (maps[:, 1:-1, 1:-1] for maps in thinned("normals"))
    surfaces = {
        "density": shown.depth.double(),
        "network": network,
        "constant": torch.zeros_like(depth),
        "true": depth,
    }
    row = {"opacity": float(shown.opacity.mean()), "entropy": float(entropy(weights).nanmean())}
    pointing = {"network": own}
    for name, values in surfaces.items():
        fitted = fit(values.numpy().ravel(), depth.numpy().ravel())
        row[f"{name} R2"], row[f"{name} error"] = explained(fitted, depth.numpy().ravel())
        pointing[f"{name} depth"] = normals_of(torch.from_numpy(fitted).view(size), sample)
    wide = angles(pointing["true depth"], normals) < WIDE
    if not bool(wide.any()):
        return row
    pointing = {name: vectors[:, wide] for name, vectors in pointing.items()}
    pointing["constant"] = best_direction(normals[:, wide])
    row |= {f"{name} angle": float(angles(normals[:, wide], vectors).mean()) for name, vectors in pointing.items()}
    return row | {"wide": float(wide.double().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rooms = Rooms(split="test", size=SIZE, progress=False)
    content = {}
    for arm in ARMS:
        runs = [grid.folder(arguments.out, arm, seed) for seed in range(arguments.seeds)]
        if found := [measure(run, rooms) for run in runs if (run / "model.safetensors").is_file()]:
            content[arm] = found
            print(arm, found[0], flush=True)
    for section, columns in COLUMNS.items():
        rows = [[arm.removeprefix("sweep/"), str(len(found)), *cells(found, columns)] for arm, found in content.items()]
        table = grid.markdown_table(["arm", "seeds", *columns], rows)
        grid.replace_section(ROOT / "docs" / "study-3d-tables.md", section, table)
    grid.write_results(
        ROOT / "results" / "study-3d-density.json",
        {
            "command": "python studies/density.py",
            "data": "generated rooms, test split, 64 x 80, rendered at 8 x 10",
            "commits": grid.commits(arguments.out, ARMS, range(arguments.seeds)),
            "arms": content,
        },
    )


def cells(found: Sequence[Mapping[str, float]], columns: Mapping[str, str]) -> list[str]:
    """The columns' numbers over seeds, shares in percent."""
    factors = [100 if title.endswith("%") else 1 for title in columns]
    return [
        grid.mean_and_deviation([factor * each[name] for each in found], digits=3)
        for factor, name in zip(factors, columns.values(), strict=True)
    ]


if __name__ == "__main__":
    main()
