"""Renderings of a run's 3D-aware regularizer, beside the network's predictions: a page to look at.

Only a run folder of training holds the regularizer, in its checkpoints; the saved network never does.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from triptych import assemble
from triptych.backbones.cells import pad_image
from triptych.data.cameras import stored_camera, upright_intrinsics
from triptych.data.photos import read_image, read_orientation
from triptych.data.predicted import find_images
from triptych.lookup import parse_json
from triptych.models.multitask import MultiTaskModel
from triptych.prediction import pretrained
from triptych.prediction.predictor import Predictor
from triptych.prediction.strips import resize_image, scale_size
from triptych.recipes.config import Recipe
from triptych.regularizers.inspection import inspect
from triptych.regularizers.terms import image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.report.page import PAGE, write_report
from triptych.report.run import make_example
from triptych.report.values import Example, Rendering
from triptych.terminal import say
from triptych.types import Camera, Sample

SEEN = 0.05
"""Opacity from which on an expected depth means something."""


class Renderer:
    """A run's network and regularizer at one step of training."""

    def __init__(self, model: MultiTaskModel, regularizer: Triplane3D, *, step: int, shorter_side: int) -> None:
        self.model, self.regularizer = model.eval(), regularizer.eval()
        self.step, self.shorter_side = step, shorter_side

    @classmethod
    def load(cls: type["Renderer"], run: Path, *, device: torch.device | str = "cpu") -> "Renderer":
        """Load the checkpoint of the deployed step, or else the last one.

        Raises `ValueError` where the run has no volume to render, `FileNotFoundError` where its checkpoints are
        missing.
        """
        model, recipe = pretrained.load_model(run)
        regularizer = _build_regularizer(run, recipe, model)
        folder = find_checkpoint(run)
        pretrained.load_weights(model, folder / "model.safetensors")
        pretrained.load_weights(regularizer, folder / "regularizer.safetensors")
        shorter_side = min(recipe.data.size)
        return cls(model.to(device), regularizer.to(device), step=int(folder.name), shorter_side=shorter_side)

    @torch.no_grad()
    def __call__(
        self,
        image: Float[Tensor, "1 3 height width"],
        camera: Camera | None = None,
        reference: np.ndarray | None = None,
    ) -> Rendering:
        """Render one image, whose camera is that of a batch of one. A larger image is first brought to the shorter side
        of training. Where the cube has no size in metres, expected depths are brought to those of `reference` by a
        scale and a shift.
        """
        if camera is None and self.regularizer.needs_camera:
            raise ValueError(
                "this run's regularizer renders with each image's own camera, unknown here; pass --fov (degrees "
                "across the width) or --intrinsics (fx fy cx cy in pixels)."
            )
        size = (image.shape[-2], image.shape[-1])
        device = next(self.regularizer.parameters()).device
        sample = _shrink(Sample(image, {}, camera=camera), self.shorter_side).to(device)
        seen = self.model.on_image(self.model(pad_image(self.model, sample.image)), image_size(sample))
        shown = inspect(self.regularizer, seen, sample)
        opacity = _resize(shown.opacity[:, None], size)
        depth = _resize(shown.depth[:, None], size)
        note = f"Density of {shown.geometry} at step {self.step}. "
        if shown.metric:
            note += "Depths are metres."
        elif reference is not None:
            depth = align(depth, reference, opacity > SEEN)
            note += "Its depths have no unit: scale and shift are fitted to the first depth."
        else:
            note += "Its depths have no unit: -1 is the near face of the cube, 1 the far one."

        def decode(maps: dict[str, Tensor]) -> dict[str, np.ndarray]:
            tasks = self.regularizer.tasks
            return {name: tasks[name].decode(_enlarge(raw, size))[0].cpu().numpy() for name, raw in maps.items()}

        views = {title: decode(maps) for title, maps in shown.views.items()}
        return Rendering(decode(shown.maps), shown.geometry, depth, opacity, note, views)


def find_checkpoint(run: Path) -> Path:
    """The checkpoint with a regularizer of the step that is deployed, or else the last one."""
    folders = [path.parent for path in sorted((run / "checkpoints").glob("[0-9]*/regularizer.safetensors"))]
    if not folders:
        raise FileNotFoundError(
            f"{run} has no checkpoints/*/regularizer.safetensors: saved networks never hold the regularizer; give the "
            "run folder of training, with its checkpoints."
        )
    best = parse_json((folders[-1] / "state.json").read_text(encoding="utf-8")).get("best") or {}
    return next((folder for folder in folders if int(folder.name) == best.get("step")), folders[-1])


def _build_regularizer(run: Path, recipe: Recipe, model: MultiTaskModel) -> Triplane3D:
    regularizer = assemble.build_regularizer(recipe, model)
    if regularizer is None:
        raise ValueError(
            f"{run} was trained without a regularizer, so there is nothing to render; train a recipe that has one, "
            "such as rooms-demo-3d, or set regularizer.name to triplane."
        )
    if not isinstance(regularizer, Triplane3D):
        raise ValueError(
            f"{run} was trained with the regularizer '{recipe.regularizer.name}', which has no volume to render; the "
            "triplane ones have."
        )
    return regularizer


def align(depth: np.ndarray, reference: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """`scale * depth + shift` nearest to `reference` in least squares where both are known.

    >>> align(np.array([[[0.0, 1.0]]]), np.array([[[2.0, 5.0]]]), np.ones((1, 1, 2), bool)).round(6).tolist()
    [[[2.0, 5.0]]]
    """
    known = seen & np.isfinite(reference)
    if known.sum() < 2:
        return depth
    design = np.stack([depth[known], np.ones(int(known.sum()))], axis=1)
    scale, shift = np.linalg.lstsq(design, reference[known], rcond=None)[0]
    return scale * depth + shift


def render_images(
    predictor: Predictor,
    renderer: Renderer,
    images: Iterable[str | os.PathLike],
    *,
    fov: int | float | None = None,
    intrinsics: Sequence[int | float] | None = None,
) -> list[Example]:
    """Image files or folders of them, predicted and rendered; `fov` (degrees) or `intrinsics` (fx, fy, cx, cy) give the
    camera.
    """
    examples, stored = [], stored_camera(fov, intrinsics)
    for name, path in find_images(images):
        image = read_image(path)
        camera = None
        if stored:
            matrix = upright_intrinsics(stored, (image.shape[-2], image.shape[-1]), read_orientation(path))
            camera = Camera(torch.from_numpy(matrix).float()[None])
        sample = Sample(image[None], {}, (name,), camera)
        examples.append(_with_rendering(renderer, make_example(predictor, sample), sample))
    return examples


def render_run(
    predictor: Predictor,
    run: Path,
    images: Sequence[str | os.PathLike],
    out: Path,
    *,
    fov: int | float | None = None,
    intrinsics: Sequence[int | float] | None = None,
    count: int = 6,
    overwrite: bool = False,
    log: Callable[[str], None] = say,
) -> Path:
    """The page of a run's renderings of `images`, or of `count` images of its test split where none are given.

    Nothing is rendered before the run is known to hold a regularizer and the page to be new.
    """
    path = out / PAGE
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another folder, or pass overwrite (--overwrite).")
    renderer = Renderer.load(run, device=predictor.device)
    split = predictor.recipe.data.test_split
    if images:
        examples = render_images(predictor, renderer, images, fov=fov, intrinsics=intrinsics)
    else:
        spread = assemble.read_split(predictor.recipe, split, predictor.tasks, limit=count)
        examples = [_with_rendering(renderer, make_example(predictor, sample), sample) for sample in spread]
    what = "images" if images else f"{predictor.recipe.data.dataset}, {split} split"
    written = write_report(run, examples=examples, title=f"{run.resolve().name}: {what}, rendered", out=out)
    log(f"page to look at: {written}")
    return written


def _with_rendering(renderer: Renderer, example: Example, sample: Sample) -> Example:
    lengths = [name for name, task in renderer.regularizer.tasks.items() if task.in_metres]
    known = [maps[name] for maps in (example.targets, example.predictions) for name in lengths if name in maps]
    reference = next((values for values in known if np.isfinite(values).any()), None)
    return replace(example, rendering=renderer(sample.image, sample.camera, reference))


def _shrink(sample: Sample, shorter_side: int) -> Sample:
    height, width = sample.image.shape[-2:]
    size = scale_size((height, width), min(1.0, shorter_side / min(height, width)))
    if size == (height, width):
        return sample
    image = resize_image(sample.image, size)
    if sample.camera is None:
        return replace(sample, image=image)
    scale = torch.tensor([size[1] / width, size[0] / height, 1.0])[:, None]
    return replace(sample, image=image, camera=Camera(sample.camera.intrinsics * scale, sample.camera.pose))


def _enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)


def _resize(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    return _enlarge(maps, size)[0].cpu().numpy()
