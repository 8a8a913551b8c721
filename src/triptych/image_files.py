"""Pictures from files, arrays and tensors: one reader, one layout."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def to_image_tensor(image: np.ndarray | Tensor | Image.Image | str | os.PathLike) -> Float[Tensor, "3 height width"]:
    """RGB float32 in [0, 1] from a path, a PIL image, an array `(H, W, 3)` or `(H, W)`, or a tensor `(3, H, W)`.

    Integer values are divided by the largest of their type; float values must lie in [0, 1] already.

    >>> image = to_image_tensor(np.full((2, 5), 255, np.uint8))
    >>> image.shape, image.max().item()
    (torch.Size([3, 2, 5]), 1.0)
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _from_array(_rgb(image))
    if isinstance(image, Tensor):
        return _from_array(
            _check(image.detach().cpu().numpy(), "tensor", "(3, H, W)", channel_axis=0).transpose(1, 2, 0)
        )
    if isinstance(image, np.ndarray):
        image = image[..., None].repeat(3, axis=-1) if image.ndim == 2 else image
        return _from_array(_check(image, "array", "(H, W, 3)", channel_axis=-1))
    raise TypeError(
        f"image is a {type(image).__name__}; give a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W)."
    )


def read_image(path: Path) -> Float[Tensor, "3 height width"]:
    """Read an image file as RGB in [0, 1], upright as its EXIF orientation says. `ValueError` names a file that is
    damaged or no image.
    """
    try:
        with Image.open(path) as image:
            return _from_array(_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image {path}; check the path.") from None
    # Damaged files raise OSError, SyntaxError, ValueError, EOFError or zlib errors, depending on the format and the
    # place of the damage.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace it or leave it out.") from error


def find_images(sources: Iterable[str | os.PathLike]) -> list[tuple[str, Path]]:
    """Image files as `(name, path)`: files themselves, and folders searched with their sub-folders, in a fixed order.

    A name is the path without its suffix, relative to the folder it was found in. Raises `ValueError` for a folder
    without images, a suffix that is no image's, or two files of the same name, and `FileNotFoundError` for what does
    not exist.
    """
    found: dict[str, Path] = {}
    for source in sources:
        for name, path in _images_of(Path(source)):
            if found.get(name, path) != path:
                raise ValueError(
                    f"{found[name]} and {path} have the same name, so their predictions would too; predict them "
                    "into different folders."
                )
            found[name] = path
    if not found:
        raise ValueError("no images given; name image files or folders of images.")
    return list(found.items())


def _images_of(source: Path) -> Sequence[tuple[str, Path]]:
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not paths:
            raise ValueError(
                f"folder {source} has no images; looked for {', '.join(SUFFIXES)} in it and its sub-folders."
            )
        return [(path.relative_to(source).with_suffix("").as_posix(), path) for path in paths]
    if not source.exists():
        raise FileNotFoundError(f"no image or folder {source}; check the path.")
    if source.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{source} is not named like an image; accepted are {', '.join(SUFFIXES)}.")
    return [(source.stem, source)]


def _rgb(image: Image.Image) -> np.ndarray:
    """8-bit `(H, W, 3)`, or 16-bit grey repeated: `convert` would clip 16 bits to 8 instead of scaling."""
    if image.mode.startswith("I;16") or image.mode == "I":
        return np.asarray(image).astype(np.uint16)[..., None].repeat(3, axis=-1)
    return np.asarray(image.convert("RGB"))


def _check(values: np.ndarray, kind: str, layout: str, *, channel_axis: int) -> np.ndarray:
    if values.ndim != 3 or values.shape[channel_axis] != 3 or 0 in values.shape:
        raise ValueError(
            f"image is {'an' if kind == 'array' else 'a'} {kind} of shape {values.shape}; expected {layout} with "
            "three colours."
        )
    return values


def _from_array(values: np.ndarray) -> Tensor:
    """`(H, W, 3)` of any number type to `(3, H, W)` float32."""
    if np.issubdtype(values.dtype, np.integer):
        scaled = values / np.float32(np.iinfo(values.dtype).max)
    else:
        scaled = values
        if not np.isfinite(scaled).all() or scaled.min() < -1e-3 or scaled.max() > 1 + 1e-3:
            raise ValueError(
                f"image values run from {scaled.min():g} to {scaled.max():g}; float images lie in [0, 1]: divide by "
                "255, or pass uint8."
            )
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32))
