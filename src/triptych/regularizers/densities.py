"""Measures of densities: opacity, sharpness, and how much of the true depth their expected depth explains.

Entropy alone says little. A homogeneous fog that lets half of the light through has entropy 0.99 on 16 samples, and a
thicker one less, whatever the image shows: the information in a density is what remains after subtracting the entropy
of a fog of the same opacity. A branch that was never trained gives the row to compare with.
"""

import copy
import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from triptych.regularizers.fields import SamplePoints, render_shared_weights
from triptych.regularizers.terms import image_size, thin_to
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering.volume import expected_depth, render_opacity
from triptych.types import Output, Sample


class DensityNumbers(NamedTuple):
    """Numbers of one density: means over rays, and over images for `r2`.

    `entropy` is 0 to 1; `fog_corrected` that less the entropy of a homogeneous fog of the ray's opacity, 0 for a fog,
    below 0 for what is sharper. `r2` is the share of the variance of true depth (metres) that expected termination
    depth (z of the cube) explains after a scale and a shift per image; NaN without a label of depth.
    """

    opacity: float
    entropy: float
    fog_corrected: float
    r2: float


@torch.no_grad()
def measure_densities(regularizer: Triplane3D, batches: Iterable[tuple[Output, Sample]]) -> dict[str, DensityNumbers]:
    """The numbers of every density, by the task that is rendered with it, or `shared`, over batches of images.

    `batches`: outputs of the network in evaluation mode, and their images. Bin centres are sampled, in double
    precision: in opaque rays the little light that passes matters. True depth is that of the first task in metres, read
    at the pixels nearest to the rays. Raises `ValueError` for controls without a density.
    """
    if not regularizer.has_density:
        raise ValueError(
            f"{type(regularizer).__name__} renders without a density, so that there is none to measure; take a "
            "regularizer that has one, such as 'triplane'."
        )
    regularizer = copy.deepcopy(regularizer).double().eval()
    lengths = [name for name, task in regularizer.tasks.items() if task.in_metres]
    shared = {"shared": regularizer.density} if regularizer.density is not None else {}
    found: dict[str, list[DensityNumbers]] = {}
    how = {"route": regularizer.route, "aggregation": regularizer.aggregation}
    for output, sample in batches:
        planes = regularizer.encoder([maps.double() for maps in output.features], image_size(sample))
        points = regularizer.sample_points(sample)
        samples = points._replace(
            points=points.points.double(), intervals=points.intervals.double(), depths=points.depths.double()
        )
        for name, field in (shared or dict(regularizer.fields.items())).items():
            weights = render_shared_weights(field, planes, samples, **how)
            truth = thin_to(sample.targets[lengths[0]], weights.shape[1:3])[:, 0].double() if lengths else None
            found.setdefault(name, []).extend(_measure(weights, samples, truth))
    return {name: DensityNumbers(*map(_mean, zip(*each, strict=True))) for name, each in found.items()}


def ray_entropy(weights: Float[Tensor, "*rays samples"]) -> Float[Tensor, "*rays"]:
    """-sum_i p_i log p_i / log n of the shares p_i = w_i / sum_j w_j: 0 for one sample, 1 for n equal ones.

    The light that passes a ray is left out (opacity measures it); an empty ray is NaN.

    >>> ray_entropy(torch.tensor([[0.0, 0.5], [0.2, 0.2]])).tolist()
    [0.0, 1.0]
    """
    shares = weights / weights.sum(dim=-1, keepdim=True)
    return torch.special.entr(shares).sum(dim=-1) / math.log(weights.shape[-1])


def fog_weights(
    opacity: Float[Tensor, "*rays"], intervals: Float[Tensor, "*#rays samples"]
) -> Float[Tensor, "*rays samples"]:
    """Rendering weights of a homogeneous fog of that opacity: w_i = q^(t_i / L) - q^(t_{i+1} / L), with q = 1 - opacity
    passing all of the length L. Opacity 0 gives the limit of a thin fog, opacity 1 the fog of q = 2^-52, the resolution
    of doubles at 1.

    >>> fog_weights(torch.tensor(0.75).double(), torch.ones(2)).tolist()
    [0.5, 0.25]
    """
    passed = (1 - opacity.double()).clamp(2.0**-52, 1 - 1e-9).log()[..., None]
    lengths = intervals.double() / intervals.double().sum(dim=-1, keepdim=True)
    before = lengths.cumsum(dim=-1) - lengths
    return (passed * before).exp() * -torch.expm1(passed * lengths)


def explained_variance(values: Float[Tensor, " places"], truth: Float[Tensor, " places"]) -> float:
    """R2 of the best `scale * values + shift`; NaN where the truth is constant, or fewer than three places are known.

    >>> explained_variance(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([5.0, 3.0, 1.0]))
    1.0
    """
    known = truth.isfinite()
    values, truth = (some[known].double() - some[known].double().mean() for some in (values, truth))
    if len(truth) < 3 or not truth.any():
        return math.nan
    if values.abs().max() < 1e-12:
        return 0.0
    return float((values @ truth).square() / (values.square().sum() * truth.square().sum()))


def _measure(weights: Tensor, samples: SamplePoints, truth: Tensor | None) -> list[DensityNumbers]:
    """The numbers of each image of a batch."""
    opacity, entropy = render_opacity(weights), ray_entropy(weights)
    corrected = entropy - ray_entropy(fog_weights(opacity, samples.intervals))
    ends = expected_depth(weights, samples.depths)
    return [
        DensityNumbers(
            float(opacity[i].mean()),
            float(entropy[i].nanmean()),
            float(corrected[i].nanmean()),
            math.nan if truth is None else explained_variance(ends[i].flatten(), truth[i].flatten()),
        )
        for i in range(len(weights))
    ]


def _mean(numbers: Iterable[float]) -> float:
    """The mean of those that are known, NaN of none."""
    known = [number for number in numbers if not math.isnan(number)]
    return statistics.fmean(known) if known else math.nan
