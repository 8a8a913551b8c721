"""Images and maps as rows from top to bottom, so that no more than a strip of a large one is in memory.

A source gives rows of an image when asked; windows blend a network's maps of it; maps are resized strip by strip.
Every map is a dict of tensors `(B, C, rows, W)` by task.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych.data.photos import StoredPhoto

Maps = Mapping[str, Tensor]
Rows = Float[Tensor, "batch 3 rows width"]


@runtime_checkable
class Source(Protocol):
    """A batch of images of one `size` (height, width), read by rows."""

    @property
    def size(self) -> tuple[int, int]: ...

    def rows(self, top: int, bottom: int) -> Rows: ...


class Batch:
    """Images in memory: `(B, 3, H, W)`."""

    def __init__(self, image: Float[Tensor, "batch 3 height width"]) -> None:
        self.image, self.size = image, (image.shape[-2], image.shape[-1])

    def rows(self, top: int, bottom: int) -> Rows:
        return self.image[..., top:bottom, :]


class Photos:
    """Photographs of one size as they are stored; their rows are on `device`."""

    def __init__(self, photos: Sequence[StoredPhoto], device: torch.device | str = "cpu") -> None:
        self.photos, self.device = photos, device
        self.size = photos[0].size

    def rows(self, top: int, bottom: int) -> Rows:
        rows = [photo.rows(top, bottom)[None] for photo in self.photos]
        return (torch.cat(rows) if len(rows) > 1 else rows[0]).to(self.device)


class Resized:
    """A source at another size, averaged where it shrinks."""

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        self.source, self.size = source, size

    def rows(self, top: int, bottom: int) -> Rows:
        height = self.source.size[0]
        if (top, bottom) == (0, self.size[0]):
            return resize(self.source.rows(0, height), self.size, antialias=True)
        first, last = _needed(height, self.size[0], top, bottom, antialias=True)
        return _resize_rows(self.source.rows(first, last), first, height, self.size, top, bottom, antialias=True)


class Mirrored:
    """A source whose columns run from right to left."""

    def __init__(self, source: Source) -> None:
        self.source, self.size = source, source.size

    def rows(self, top: int, bottom: int) -> Rows:
        return self.source.rows(top, bottom).flip(-1)


def resize(maps: Tensor, size: tuple[int, ...], *, antialias: bool = False) -> Tensor:
    """Maps `(B, C, H, W)` at another size, bilinear; unchanged where they already have it."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=antialias)


def resize_image(image: Rows, size: tuple[int, int]) -> Float[Tensor, "batch 3 height wide"]:
    """Images in [0, 1] at another size, as networks see them: bilinear with antialiasing."""
    return resize(image, size, antialias=True).clamp(0, 1)


def scale_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width times `factor`, rounded, of at least a pixel."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _reach(height: int, wanted: int, *, antialias: bool) -> float:
    """Half-width, in rows of `height`, of the filter for one row of `wanted`."""
    return max(height / wanted, 1.0) if antialias else 1.0


def _needed(height: int, wanted: int, top: int, bottom: int, *, antialias: bool) -> tuple[int, int]:
    """The rows of `height` that rows `top` to `bottom` of `wanted` are made of."""
    scale, reach = height / wanted, _reach(height, wanted, antialias=antialias)
    first, last = int((top + 0.5) * scale - reach), int((bottom - 0.5) * scale + reach) + 1
    return max(0, min(first, height - 1)), min(last, height)


def _resize_rows(
    maps: Float[Tensor, "batch channels rows width"],
    first: int,
    height: int,
    size: tuple[int, int],
    top: int,
    bottom: int,
    *,
    antialias: bool = False,
) -> Float[Tensor, "batch channels strip resized"]:
    """Rows `top` to `bottom` of maps resized from `height` rows, of which `maps` are those from `first` on, to `size`.

    A triangle around the centre of each row, its sides as long as the rows it covers: what `resize` computes, in whole.
    """
    wide = resize(maps, (maps.shape[-2], size[1]), antialias=antialias)
    centres = (torch.arange(top, bottom, dtype=torch.float64) + 0.5) * (height / size[0])
    positions = torch.arange(first, first + maps.shape[-2]) + 0.5
    reach = _reach(height, size[0], antialias=antialias)
    weights = (1 - (positions - centres[:, None]).abs() / reach).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).to(wide) @ wide


def resized_strips(strips: Iterable[Maps], height: int, size: tuple[int, int], rows: int | None) -> Iterator[Maps]:
    """Strips of maps of `height` rows as strips of maps of `size`, of at most `rows` rows."""
    held: dict[str, Tensor] = {}
    first = end = done = 0
    for strip in strips:
        held = {name: torch.cat([held[name], maps], dim=-2) if held else maps for name, maps in strip.items()}
        end += next(iter(strip.values())).shape[-2]
        if rows is None and (first, end) == (0, height):
            yield {name: resize(maps, size) for name, maps in held.items()}
            return
        while done < size[0]:
            bottom = size[0] if end == height else _made_of(height, size[0], end)
            bottom = min(bottom, size[0] if rows is None else done + rows)
            if bottom <= done:
                break
            low, high = (each - first for each in _needed(height, size[0], done, bottom, antialias=False))
            yield {
                name: _resize_rows(maps[..., low:high, :], first + low, height, size, done, bottom)
                for name, maps in held.items()
            }
            done = bottom
        keep = min(end, _needed(height, size[0], min(done, size[0] - 1), size[0], antialias=False)[0])
        held = {name: maps[..., keep - first :, :].clone() for name, maps in held.items()}
        first = keep


def _made_of(height: int, wanted: int, end: int) -> int:
    """Number of rows of `wanted` that need only the first `end` rows of `height`."""
    # (bottom - 0.5) scale + 1 < end, the last row that `_needed` counts.
    return max(0, int((end - 2) * wanted / height + 0.5))


def tiled_strips(
    source: Source,
    forward: Callable[[Rows], Maps],
    tile: tuple[int, int],
    overlap: float,
    rows: int | None,
) -> Iterator[Maps]:
    """Maps of a source blended from windows of `tile` pixels, in strips that end where the next row of windows begins,
    or of at most `rows` rows.

    A source that is smaller than a window is extended by its last row and column, and cropped back.
    """
    height, width = source.size
    lengths = [max(length, each) for length, each in zip(source.size, tile, strict=True)]
    downwards, across = (windows(length, each, overlap) for length, each in zip(lengths, tile, strict=True))
    covered = (coverage(downwards, lengths[0]), coverage(across, lengths[1]))
    sums: dict[str, Tensor] = {}
    ends = [start for start, _ in downwards[1:]] + [height]
    for (top, row), end in zip(downwards, ends, strict=True):
        band = _extend(source.rows(top, min(top + tile[0], height)), tile)
        for left, column in across:
            weight = (row[:, None] * column).to(band.device)
            for name, raw in forward(band[..., left : left + tile[1]]).items():
                if name not in sums:
                    sums[name] = raw.new_zeros(*raw.shape[:3], band.shape[-1])
                sums[name][..., left : left + tile[1]] += raw * weight
        step = rows or end - top
        for start in range(top, end, step):
            stop = min(start + step, end)
            weight = (covered[0][start:stop, None] * covered[1]).to(band.device)
            yield {
                name: (total[..., start - top : stop - top, :] / weight)[..., :width] for name, total in sums.items()
            }
        for total in sums.values():  # what the next row of windows adds to
            left_over = total[..., end - top :, :]
            if left_over.shape[-2] > end - top:  # the two overlap
                left_over = left_over.clone()
            total[..., : left_over.shape[-2], :] = left_over
            total[..., left_over.shape[-2] :, :] = 0
        del band  # before the next one is read


def _extend(image: Tensor, tile: tuple[int, int]) -> Tensor:
    """Repeat the last row and column until the image is at least as large as a tile."""
    bottom, right = (max(0, wanted - length) for wanted, length in zip(tile, image.shape[-2:], strict=True))
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def windows(length: int, tile: int, overlap: float) -> list[tuple[int, Tensor]]:
    """Starts of evenly spaced windows along one axis, each with its blending weights `(tile,)`.

    With o pixels of overlap, a window's weight rises from 0 at o/4 to 1 at 3o/4 from an inner edge: two neighbors
    sum to one, and the outer quarter is left out. At the ends of the image nothing fades.
    """
    shared = round(overlap * tile)
    count = 1 if length <= tile else -(-(length - shared) // max(tile - shared, 1))
    starts = [round(i * (length - tile) / max(count - 1, 1)) for i in range(count)]
    centres = torch.arange(tile) + 0.5
    rise = ((centres - shared / 4) / max(shared / 2, 1e-6)).clamp(0, 1)
    flat = torch.ones(tile)
    return [
        (start, (rise if start > 0 else flat) * (rise.flip(0) if start + tile < length else flat)) for start in starts
    ]


def coverage(starts: Sequence[tuple[int, Tensor]], length: int) -> Tensor:
    """The sum of all windows' weights at each pixel of an axis: positive everywhere."""
    total = torch.zeros(length)
    for start, weight in starts:
        total[start : start + len(weight)] += weight
    return total


def split_strips(strips: Iterable[Maps], rows: int | None) -> Iterator[Maps]:
    """The same rows in strips of at most `rows`."""
    for strip in strips:
        height = next(iter(strip.values())).shape[-2]
        for top in range(0, height, rows or height):
            yield {name: maps[..., top : top + (rows or height), :] for name, maps in strip.items()}


class Taken:
    """Takes any number of rows at a time from strips."""

    def __init__(self, strips: Iterable[Maps]) -> None:
        self.strips = iter(strips)
        self.held: list[Maps] = []

    def take(self, count: int) -> Maps:
        """The next `count` rows."""
        taken: list[Maps] = []
        while count:
            strip = self.held.pop() if self.held else next(self.strips)
            height = next(iter(strip.values())).shape[-2]
            if height > count:
                self.held.append({name: maps[..., count:, :] for name, maps in strip.items()})
                strip = {name: maps[..., :count, :] for name, maps in strip.items()}
            taken.append(strip)
            count -= min(height, count)
        return joined(taken)


def joined(strips: Iterable[Maps]) -> dict[str, Tensor]:
    """All rows of some strips in one."""
    found = list(strips)
    if len(found) == 1:
        return dict(found[0])
    return {name: torch.cat([strip[name] for strip in found], dim=-2) for name in found[0]}
