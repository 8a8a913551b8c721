"""Two views of one scene: relative poses, and which pixels of one see what the other sees."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from triptych.rendering.cameras import metric_rays

Pose = Float[Tensor, "batch 4 4"]
Depth = Float[Tensor, "batch 1 height width"]
Matrices = Float[Tensor, "batch 3 3"]


def check_rigid(pose: Pose, names: Sequence[str], *, tolerance: float = 1e-3) -> None:
    """Raise `ValueError`, naming the first sample, where a pose is no rotation and translation.

    >>> check_rigid(torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))[None], ["a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: the pose of sample 'a' is no rigid motion: its rotation has determinant -1 ...
    """
    full = pose.detach().double()
    rotation = full[:, :3, :3]
    last = full.new_tensor([0.0, 0.0, 0.0, 1.0])
    stretch = (rotation @ rotation.mT - torch.eye(3, dtype=full.dtype, device=full.device)).abs().amax(dim=(1, 2))
    sound = (stretch <= tolerance) & (rotation.det() > 0) & ((full[:, 3] - last).abs().amax(dim=1) <= tolerance)
    sound &= full.isfinite().flatten(1).all(dim=1)
    if bool(sound.all()):
        return
    index = int((~sound).nonzero()[0, 0])
    name = names[index] if index < len(names) else index
    raise ValueError(
        f"the pose of sample {name!r} is no rigid motion: its rotation has determinant {rotation[index].det():.4g} "
        f"and differs from an orthogonal matrix by {stretch[index]:.2g}, its last row is {full[index, 3].tolist()}; "
        "give camera-to-world poses (4 x 4) with a rotation, a translation in metres and the row 0 0 0 1."
    )


def relative_pose(first: Pose, second: Pose) -> Pose:
    """The second camera's frame to the first one's, of two rigid camera-to-world poses.

    >>> moved = torch.eye(4)[None].clone()
    >>> moved[0, 0, 3] = 2.0
    >>> relative_pose(torch.eye(4)[None], moved)[0, :3, 3].tolist()
    [2.0, 0.0, 0.0]
    """
    one, other = first.double(), second.double()
    relative = other.clone()
    relative[:, :3, :3] = one[:, :3, :3].mT @ other[:, :3, :3]
    relative[:, :3, 3] = torch.einsum("bji,bj->bi", one[:, :3, :3], other[:, :3, 3] - one[:, :3, 3])
    return relative.to(first.dtype)


def find_common_pixels(
    first_depth: Depth,
    second_depth: Depth,
    first_intrinsics: Matrices,
    second_intrinsics: Matrices,
    relative: Pose,
    *,
    tolerance: float,
) -> tuple[Float[Tensor, "batch height width 3"], Bool[Tensor, "batch height width"]]:
    """What the second view's pixels show, as points in the first camera's frame, and whether the first view sees it.

    It does where the point lies in front of its camera and in its image, and the depth there is that of the point up to
    the relative `tolerance`: a surface that something hides, or that only one view has a label for, is not common.

    >>> K = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]])
    >>> wall = torch.full((1, 1, 2, 2), 3.0)
    >>> nearer = wall - torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> find_common_pixels(nearer, wall, K, K, torch.eye(4)[None], tolerance=0.05)[1].tolist()
    [[[False, True], [True, True]]]
    """
    height, width = second_depth.shape[-2:]
    rays = metric_rays(second_intrinsics, (height, width), (height, width)).directions
    depth = second_depth[:, 0]
    valid = depth.isfinite() & (depth > 0)
    own = torch.where(valid, depth, 1.0)[..., None] * rays
    points = torch.einsum("bij,bhwj->bhwi", relative[:, :3, :3], own) + relative[:, None, None, :3, 3]
    z = points[..., 2]
    pixels = torch.einsum("bij,bhwj->bhwi", first_intrinsics, points / z.clamp(min=1e-6)[..., None])
    rows, columns = first_depth.shape[-2:]
    column, row = pixels[..., 0].floor(), pixels[..., 1].floor()
    inside = (z > 0) & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    index = torch.where(inside, row * columns + column, 0).long()
    seen = first_depth.flatten(1).gather(1, index.flatten(1)).view_as(z)
    # A comparison with NaN is false.
    return points, valid & inside & ((seen - z).abs() <= tolerance * z)
