"""Volume rendering along rays: density -> alpha -> transmittance -> weights -> composite (Max, 1995).

Tensors along rays are `(*rays, samples)`, near to far. Exponents and their sums are float32 at least: they are the
only step that half precision spoils.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

AlongRays = Float[Tensor, "*rays samples"]
PerRay = Float[Tensor, "*rays"]
Shared = Float[Tensor, "*#rays samples"]
"""Sizes of 1 broadcast: distances that all rays of an image share."""
SMALLEST_OPACITY = 1e-6
"""A ray of less is empty: its expected depth tends to 0."""
LARGEST_EXPONENT = 15.0
"""Exponential densities stop at exp(15) = 3.3e6, opaque over any interval, far below what float32 holds."""


def sample_distances(
    num_samples: int,
    *,
    near: float,
    far: float,
    batch: int = 1,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "batch samples"]:
    """Centres of equal bins from `near` to `far`.

    >>> sample_distances(2, near=0.0, far=4.0).tolist()
    [[1.0, 3.0]]
    """
    places = torch.arange(num_samples, device=device, dtype=dtype) + 0.5
    return (near + places * ((far - near) / num_samples)).repeat(batch, 1)


def sample_intervals(distances: AlongRays, last: float) -> AlongRays:
    """delta_i = t_{i+1} - t_i, with a finite `last` one: an infinite one would be an opaque back wall.

    >>> sample_intervals(torch.tensor([1.0, 3.0]), last=2.0).tolist()
    [2.0, 2.0]
    """
    return torch.cat([distances.diff(dim=-1), torch.full_like(distances[..., :1], last)], dim=-1)


def density_from_raw(raw: Float[Tensor, "*any"], *, exponential: bool = False) -> Float[Tensor, "*any"]:
    """softplus(raw - 1): positive, and thin at the start (EG3D). Or, `exponential`, exp(min(raw - 1, 15)): a step of
    raw scales a density, so that thin air and opaque walls are equally far away.

    >>> round(density_from_raw(torch.zeros(1)).item(), 4)
    0.3133
    >>> round(density_from_raw(torch.zeros(1), exponential=True).item(), 4)
    0.3679
    """
    shifted = _full(raw) - 1
    return shifted.clamp(max=LARGEST_EXPONENT).exp() if exponential else F.softplus(shifted)


def alpha_from_density(density: AlongRays, intervals: Shared) -> AlongRays:
    """alpha_i = 1 - exp(-density_i delta_i): what interval i absorbs of the light that reaches it.

    >>> round(alpha_from_density(torch.tensor([1.0]), torch.tensor([1.0])).item(), 4)
    0.6321
    """
    return -torch.expm1(-_full(density) * intervals)


def transmittance_from_density(density: AlongRays, intervals: Shared) -> AlongRays:
    """T_i = exp(-sum_{j<i} density_j delta_j): what reaches sample i.

    >>> transmittance_from_density(torch.zeros(2), torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    depth = _full(density) * intervals
    before = F.pad(depth[..., :-1].cumsum(dim=-1), (1, 0))
    return torch.exp(-before)


def render_weights(density: AlongRays, intervals: Shared) -> AlongRays:
    """Rendering weights w_i = T_i alpha_i, in [0, 1], with sum 1 - exp(-sum_i density_i delta_i) <= 1.

    >>> render_weights(torch.tensor([0.0, 1e9]), torch.ones(2)).tolist()
    [0.0, 1.0]
    """
    return transmittance_from_density(density, intervals) * alpha_from_density(density, intervals)


def composite(weights: AlongRays, values: Float[Tensor, "*rays samples channels"]) -> Float[Tensor, "*rays channels"]:
    """sum_i w_i v_i.

    >>> composite(torch.tensor([0.25, 0.5]), torch.tensor([[4.0], [2.0]])).tolist()
    [2.0]
    """
    # A product of matrices: its gradient keeps nothing of size rays x samples x channels beside `values`.
    common = torch.promote_types(weights.dtype, values.dtype)
    with torch.autocast(weights.device.type, enabled=False):
        return (weights.to(common)[..., None, :] @ values.to(common))[..., 0, :]


def render_opacity(weights: AlongRays) -> PerRay:
    """sum_i w_i: the share of light that the ray absorbs.

    >>> render_opacity(torch.tensor([0.25, 0.5])).item()
    0.75
    """
    return weights.sum(dim=-1)


def expected_depth(weights: AlongRays, distances: Shared, *, smallest: float = SMALLEST_OPACITY) -> PerRay:
    """Expected termination distance sum_i w_i t_i / sum_i w_i; an empty ray (opacity below `smallest`) tends to 0.

    >>> expected_depth(torch.tensor([0.25, 0.25]), torch.tensor([1.0, 3.0])).item()
    2.0
    """
    return (weights * distances).sum(dim=-1) / render_opacity(weights).clamp(min=smallest)


def distortion(weights: AlongRays, distances: Shared, intervals: Shared) -> PerRay:
    """sum_ij w_i w_j |t_i - t_j| + sum_i w_i^2 delta_i / 3: how spread out the weights are (mip-NeRF 360, eq. 15).

    For distances in ascending order the double sum is 2 sum_i w_i (t_i W_i - M_i), W_i and M_i the sums of w_j and
    w_j t_j over j < i: linear in the number of samples.

    >>> distortion(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 2.0]), torch.zeros(2)).item()
    1.0
    """
    moments = weights * distances
    before = weights.cumsum(dim=-1) - weights
    moments_before = moments.cumsum(dim=-1) - moments
    between = 2 * (moments * before - weights * moments_before).sum(dim=-1)
    return between + (weights.square() * intervals).sum(dim=-1) / 3


def _full(values: Tensor) -> Tensor:
    """At least float32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
