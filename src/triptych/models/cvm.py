"""CvM: features matched between several views of a scene, beside the trunk and read by all heads (the successor of the
3D-aware regularizer by its authors, CVPR 2026).

A shallow CNN s maps every image to stride 8; a transformer m exchanges between the views of a scene; a plane sweep over
inverse depths compares the results F by the views' poses, and gives a volume C. The heads read concat(f(I), C, F), with
f the trunk. The tasks' plain losses are taken over images and views alike. An image without other views is its own
neighbor with the identity as motion, in training and at inference.

Paper and this file. No code of the paper is public. As published: s to stride 8 with 128 channels; six layers of self-
and cross-attention in windows; of more than three views the two nearest; 128 planes, uniform in inverse depth; products
over sqrt(channels), their mean over neighbors. **Our choices, where it is silent:** residual stages of 64, 96 and 128
channels with batch norm; two windows along each side, shifted by half a window in every second layer; four heads,
pre-norm, an MLP of four times the width after each attention, sines of position; the volume of F, not of s; planes from
0.0001 to 10 per metre; a point that no neighbor sees has similarity 0, otherwise the mean is over those that see it;
nearest by the way between cameras; maps are averaged or interpolated to each level of the trunk; `single_share` of the
scenes in training are seen without their other views, as at inference.
"""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from triptych.decoders.base import Decoder
from triptych.decoders.layers import BasicBlock, ConvNormReLU
from triptych.models.multitask import MultiTaskModel
from triptych.rendering.plane_sweep import sweep_planes
from triptych.rendering.poses import check_rigid, relative_pose
from triptych.types import IGNORE, Camera, Output, Sample, round_up

STRIDE = 8
NEIGHBORS = 2
"""Other views at most that a view is matched with."""
Maps = Float[Tensor, "images channels height width"]
Images = Float[Tensor, "images 3 rows columns"]
Grid = Float[Tensor, "images height width channels"]


class Views(NamedTuple):
    """Neighbors of every image of a batch, by their places in it, and the motions from its camera to theirs."""

    neighbors: Int[Tensor, "images neighbors"]
    intrinsics: Float[Tensor, "images 3 3"]
    motions: Float[Tensor, "images neighbors 4 4"]


class CvM(nn.Module):
    """The maps C and F of every image: `(N, planes + width, H / 8, W / 8)` of images padded to a `multiple`.

    `inverse_depths` are those of the first and the last plane, per unit of the poses (metres where poses are metric).
    `width` is a multiple of 4 and of `heads`. `single_share` is read by the model.
    """

    one_size = "cvm cuts images into windows and gives positions by a grid of known size"

    def __init__(
        self,
        *,
        width: int = 128,
        layers: int = 6,
        heads: int = 4,
        planes: int = 128,
        inverse_depths: tuple[float, float] = (1e-4, 10.0),
        single_share: float = 0.5,
    ) -> None:
        super().__init__()
        if width % 4 or width % heads or min(width, layers, heads, planes) < 1:
            raise ValueError(
                f"cvm has width {width}, {heads} heads, {layers} layers and {planes} planes; width is a multiple of 4 "
                "and of heads, and each is at least 1."
            )
        if not 0 <= inverse_depths[0] < inverse_depths[1]:
            raise ValueError(
                f"cvm has inverse_depths {tuple(inverse_depths)}; give that of the farthest plane and that of the "
                "nearest, such as (0.0001, 10)."
            )
        if not 0 <= single_share <= 1:
            raise ValueError(f"cvm has single_share {single_share}; it is a share of the scenes, from 0 to 1.")
        self.single_share = single_share
        self.channels = planes + width
        self.encoder = _shallow_cnn(width)
        self.layers = nn.ModuleList(MatchingLayer(width, heads, shifted=bool(i % 2)) for i in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, value in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("planes", torch.linspace(*inverse_depths, planes), persistent=False)

    def forward(self, image: Images, views: Views | None = None, *, shown: tuple[int, int] | None = None) -> Maps:
        """C and F of images whose sides are multiples of 16; without `views` each image is its own neighbor.

        All but the first `shown` rows and columns are padding, which has no similarity and in which no point is seen.
        """
        maps = self.encoder((image - self.mean) / self.std)
        found = maps.movedim(1, -1)
        found = found + sines_of_position((maps.shape[-2], maps.shape[-1]), maps.shape[1]).to(found)
        neighbors = None if views is None else views.neighbors
        for layer in self.layers:
            found = layer(found, neighbors)
        found = self.norm(found).movedim(-1, 1)
        size = (image.shape[-2], image.shape[-1])
        volume = self.volume(found, size, views, shown=shown or size).to(found)
        return torch.cat([volume, found], dim=1)

    def volume(
        self, maps: Maps, size: tuple[int, int], views: Views | None, *, shown: tuple[int, int]
    ) -> Float[Tensor, "images planes height width"]:
        """Similarity by plane, the mean over the neighbors that see the point; `size` is that of the images, of which
        the first `shown` rows and columns are no padding.
        """
        rows, columns = (
            torch.arange(cells, device=maps.device) + 0.5 <= seen * cells / side
            for cells, seen, side in zip(maps.shape[-2:], shown, size, strict=True)
        )
        known = rows[:, None] & columns[None, :]
        if views is None:  # every plane of one's own camera shows the pixel itself
            own = maps.square().sum(dim=1, keepdim=True) / maps.shape[1] ** 0.5
            return (own * known).expand(-1, len(self.planes), -1, -1)
        total, count = torch.zeros((), device=maps.device), torch.zeros((), device=maps.device)
        for chosen, motion in zip(views.neighbors.unbind(dim=1), views.motions.unbind(dim=1), strict=True):
            own, other = views.intrinsics, views.intrinsics[chosen]
            swept = sweep_planes(maps, maps[chosen], own, other, motion, self.planes, size, shown)
            total, count = total + swept.similarity, count + swept.in_view
        return total / count.clamp(min=1) * known


class CrossViewModel(MultiTaskModel):
    """A backbone and a view matcher beside it; the decoder reads the maps of both (`decoder_channels`).

    `forward(image)` sees single images, as at inference; in training the batch of `with_views` holds all views.
    """

    def __init__(self, backbone: Backbone, matcher: CvM, decoder: Decoder) -> None:
        super().__init__(backbone, decoder)
        self.matcher = matcher
        # Windows divide the grid, and its cells tile those of every level.
        self.side = math.lcm(2 * STRIDE, backbone.multiple, *backbone.strides)

    @staticmethod
    def decoder_channels(backbone: Backbone, matcher: CvM) -> tuple[int, ...]:
        """Channels of every level as the decoder reads them."""
        return tuple(channels + matcher.channels for channels in backbone.channels)

    @property
    def shared_modules(self) -> list[nn.Module]:
        return [*super().shared_modules, self.matcher]

    @property
    def learns_features(self) -> bool:
        return super().learns_features or any(parameter.requires_grad for parameter in self.matcher.parameters())

    @property
    def feature_channels(self) -> tuple[int, ...]:
        return self.decoder.channels

    def supervised_views(self, sample: Sample) -> tuple[Sample, ...]:
        return (sample, *sample.neighbors)

    def with_views(self, sample: Sample) -> tuple[Sample, dict[str, Views]]:
        """A batch with neighbors as one batch of all views, first the images themselves, and the neighbors of each."""
        if not sample.neighbors:
            return sample, {}
        known = known_views(sample)
        if self.training and self.matcher.single_share:
            alone = torch.rand(known.shape[1]) < self.matcher.single_share
            known = known & ~alone.to(known.device)
        united = unite_views(sample)
        return united, {"views": relate_views(united, known)}

    def forward(self, image: Tensor, features: list[Tensor] | None = None, views: Views | None = None) -> Output:
        features = self.backbone(image) if features is None else features
        height, width = image.shape[-2:]
        down, right = round_up(height, self.side) - height, round_up(width, self.side) - width
        padded = F.pad(image, (0, right, 0, down), mode="replicate")
        seen = self.matcher(padded, views, shown=(height, width))
        features = [
            torch.cat([own, fit_to(seen, stride, own.shape[-2:]).to(own)], dim=1)
            for own, stride in zip(features, self.feature_strides, strict=True)
        ]
        return self.decode(features, (height, width))


def fit_to(maps: Maps, stride: int, size: tuple[int, int]) -> Float[Tensor, "images channels rows columns"]:
    """Maps at stride 8 at another stride, cropped to `size`: means of cells that are larger, else linear between
    centers.
    """
    if stride % STRIDE == 0:
        fitted = F.avg_pool2d(maps, stride // STRIDE) if stride > STRIDE else maps
    else:
        wanted = [side * STRIDE // stride for side in maps.shape[-2:]]
        fitted = F.interpolate(maps, size=wanted, mode="bilinear", align_corners=False)
    return fitted[..., : size[0], : size[1]]


def known_views(sample: Sample) -> Bool[Tensor, "views batch"]:
    """Mask of the views of a batch, itself first, that have an image, intrinsics and a pose.

    Raises `ValueError` where the data have neighbors without poses, and for a pose that is no rigid motion.
    """
    known = []
    for view in (sample, *sample.neighbors):
        if view.camera is None or view.camera.pose is None:
            raise ValueError(
                "cvm needs cameras with poses in all views, which this dataset does not give (for every sample of the "
                "batch); leave neighbor_frames out to train on single images."
            )
        parts = (view.image, view.camera.intrinsics, view.camera.pose)
        there = torch.stack([part.isfinite().flatten(1).all(dim=1) for part in parts]).all(dim=0)
        still = torch.eye(4, dtype=view.camera.pose.dtype, device=there.device)
        check_rigid(torch.where(there[:, None, None], view.camera.pose, still), view.image_keys)
        known.append(there)
    return torch.stack(known)


def unite_views(sample: Sample) -> Sample:
    """A batch and its neighbors as one batch, view after view; the neighbors of each are its scene's other views.

    A view that is missing is the image itself, with its camera and without labels.
    """
    images: list[Tensor] = []
    targets: dict[str, list[Tensor]] = {name: [] for name in sample.targets}
    intrinsics: list[Tensor] = []
    poses: list[Tensor] = []
    keys: list[str] = []
    for view in (sample, *sample.neighbors):
        there = view.image.isfinite().flatten(1).all(dim=1)
        images.append(torch.where(there[:, None, None, None], view.image, sample.image))
        for name, target in sample.targets.items():
            invalid = torch.full_like(target, torch.nan if target.is_floating_point() else IGNORE)
            targets[name].append(view.targets.get(name, invalid))
        intrinsics.append(torch.where(there[:, None, None], view.camera.intrinsics, sample.camera.intrinsics))
        poses.append(torch.where(there[:, None, None], view.camera.pose, sample.camera.pose))
        keys.extend(
            own if found else other for found, own, other in zip(there.tolist(), view.key, sample.key, strict=False)
        )
    camera = Camera(torch.cat(intrinsics), torch.cat(poses))
    labels = {name: torch.cat(each) for name, each in targets.items()}
    united, batch = Sample(torch.cat(images), labels, tuple(keys), camera), len(sample.image)
    return replace(united, neighbors=tuple(_roll(united, i * batch) for i in range(1, len(images))))


def _roll(sample: Sample, places: int) -> Sample:
    roll = partial(torch.roll, shifts=-places, dims=0)
    camera = Camera(roll(sample.camera.intrinsics), roll(sample.camera.pose))
    targets = {name: roll(target) for name, target in sample.targets.items()}
    return Sample(roll(sample.image), targets, sample.key[places:] + sample.key[:places], camera)


def relate_views(united: Sample, known: Bool[Tensor, "views batch"]) -> Views:
    """Neighbors and motions of a batch of all views: of every image the nearest known ones of its scene, itself with
    the identity where there are none or where it is not known itself.
    """
    count, batch = known.shape
    images, device = count * batch, known.device
    poses, intrinsics = united.camera.pose, united.camera.intrinsics
    centers = poses[:, :3, 3].view(count, batch, 3).movedim(0, 1)
    distances = torch.cdist(centers.double(), centers.double())
    both = known.T[:, :, None] & known.T[:, None, :] & ~torch.eye(count, dtype=torch.bool, device=device)
    ordered = distances.masked_fill(~both, torch.inf).sort(dim=2, stable=True)
    kept = min(NEIGHBORS, count - 1)
    chosen, sound = ordered.indices[..., :kept], ordered.values[..., :kept].isfinite()
    chosen = torch.where(sound, chosen, chosen[..., :1])  # a neighbor twice weighs as much as once
    own = torch.arange(count, device=device)[None, :, None]
    chosen = torch.where(sound[..., :1], chosen, own)
    neighbors = (chosen * batch + torch.arange(batch, device=device)[:, None, None]).movedim(0, 1).reshape(images, kept)
    itself = neighbors == torch.arange(images, device=device)[:, None]
    eye = torch.eye(4, device=device, dtype=poses.dtype)
    motions = torch.stack([relative_pose(poses[column], poses) for column in neighbors.unbind(dim=1)], dim=1)
    motions = torch.where(itself[..., None, None], eye, motions)
    # Through one's own camera without a motion any camera leads back to the pixel.
    usable = intrinsics.isfinite().flatten(1).all(dim=1)[:, None, None]
    return Views(neighbors, torch.where(usable, intrinsics, _any_camera(united.image)), motions)


def _any_camera(image: Tensor) -> Float[Tensor, "3 3"]:
    height, width = image.shape[-2:]
    return image.new_tensor([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])


class MatchingLayer(nn.Module):
    """Attention within windows to the image itself, then to the same windows of its neighbors, each with an MLP."""

    def __init__(self, width: int, heads: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.itself, self.others = (Attention(width, heads) for _ in range(2))

    def forward(self, grid: Grid, neighbors: Int[Tensor, "images neighbors"] | None) -> Grid:
        size = (grid.shape[1], grid.shape[2])
        shift = (size[0] // 4, size[1] // 4) if self.shifted else (0, 0)
        mask = _together(size, shift, grid.device) if self.shifted else None
        windows = _to_windows(torch.roll(grid, (-shift[0], -shift[1]), dims=(1, 2)))
        windows = self.itself(windows, windows, mask)
        if neighbors is None:
            windows = self.others(windows, windows, mask)
        else:
            theirs = windows[neighbors].movedim(1, 2).flatten(2, 3)
            repeated = None if mask is None else mask.repeat(1, 1, neighbors.shape[1])
            windows = self.others(windows, theirs, repeated)
        return torch.roll(_from_windows(windows, size), shift, dims=(1, 2))


def _to_windows(grid: Grid) -> Float[Tensor, "images 4 tokens channels"]:
    images, height, width, channels = grid.shape
    parts = grid.reshape(images, 2, height // 2, 2, width // 2, channels).transpose(2, 3)
    return parts.reshape(images, 4, (height // 2) * (width // 2), channels)


def _from_windows(windows: Float[Tensor, "images 4 tokens channels"], size: tuple[int, int]) -> Grid:
    images, channels = windows.shape[0], windows.shape[-1]
    parts = windows.reshape(images, 2, 2, size[0] // 2, size[1] // 2, channels).transpose(2, 3)
    return parts.reshape(images, *size, channels)


def _together(
    size: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> Bool[Tensor, "windows tokens tokens"]:
    """Mask of the pairs of tokens of a shifted window that are neighbors in the image, not only after the cyclic
    shift.
    """
    rows, columns = (
        (torch.arange(side, device=device) >= side - moved).long() for side, moved in zip(size, shift, strict=True)
    )
    regions = 2 * rows[:, None] + columns[None, :]
    windows = _to_windows(regions[None, :, :, None].float())[0, :, :, 0]
    return windows[:, :, None] == windows[:, None, :]


class Attention(nn.Module):
    """x + A(norm x, norm y), then an MLP; y may have more tokens than x."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self,
        x: Float[Tensor, "images windows tokens channels"],
        y: Float[Tensor, "images windows keys channels"],
        mask: Bool[Tensor, "windows tokens keys"] | None,
    ) -> Float[Tensor, "images windows tokens channels"]:
        query = self._by_head(self.query(self.norm(x)))
        key, value = (self._by_head(part) for part in self.key_value(self.norm(y)).chunk(2, dim=-1))
        if mask is not None:
            mask = mask.repeat(len(x), 1, 1)[:, None]  # one for all heads
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.mlp_norm(x))

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)


def sines_of_position(size: tuple[int, int], width: int) -> Float[Tensor, "height width channels"]:
    """Sines and cosines of row and column at `width / 4` wavelengths from 2 pi to 10,000 times that (Vaswani et al.,
    NeurIPS 2017).

    >>> sines_of_position((1, 2), 4)[0].round().tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]]
    """
    rates = torch.exp(-math.log(1e4) * torch.arange(width // 4) / max(width // 4, 1))
    rows, columns = (torch.arange(side)[:, None] * rates for side in size)
    rows, columns = (torch.cat([part.sin(), part.cos()], dim=1) for part in (rows, columns))
    return torch.cat([rows[:, None].expand(-1, size[1], -1), columns[None].expand(size[0], -1, -1)], dim=-1)


def _shallow_cnn(width: int) -> nn.Sequential:
    """s: a convolution to strides 2, 4 and 8, each followed by two residual blocks."""
    first, second = width // 2, 3 * width // 4
    return nn.Sequential(
        ConvNormReLU(3, first, 7, stride=2),
        BasicBlock(first, first),
        BasicBlock(first, first),
        ConvNormReLU(first, second, 3, stride=2),
        BasicBlock(second, second),
        BasicBlock(second, second),
        ConvNormReLU(second, width, 3, stride=2),
        BasicBlock(width, width),
        BasicBlock(width, width),
        nn.Conv2d(width, width, 1),
    )
