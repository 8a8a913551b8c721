"""The cross-view variant: the first view's planes, rendered from the camera of a second view of the scene.

Li et al. (ICLR 2024) add video frames with depth labels: the planes of one frame are rendered from the pose of another
and the depth loss applies there. Their camera is orthogonal and their poses are COLMAP's, so what a metre is in the
cube, the weight, the pairing and the treatment of hidden surfaces are open; here poses are metric and the cube is the
first camera's frustum (or a box in metres), surfaces that the first view does not see do not count, and values that
depend on the camera are carried over to the second one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from triptych.lookup import named_choice
from triptych.losses.whole_batch import any_process
from triptych.regularizers.fields import Rendered, SamplePoints
from triptych.regularizers.planes import ceil_divide
from triptych.regularizers.terms import full_precision, image_size
from triptych.regularizers.triplane import Triplane3D
from triptych.rendering import cameras
from triptych.rendering.poses import check_rigid, find_common_pixels, relative_pose
from triptych.types import Camera, Output, Sample, keep_labels, valid_pixels


class CrossView(Triplane3D):
    """The triplane regularizer with a second view (`Sample.neighbors[0]`) of every image. Its options, and:

    - `cross_weight`: 0.1, the second view's share of each task's term.
    - `cross_tasks`: `depth` (as published), `all`.
    - `cross_values`: `moved` (depth is a value seen from the first camera: the way between the cameras is added;
      normals turn with the camera), `plain` (values are compared as they are).
    - `tolerance`: 0.05, relative difference of depth up to which both views see the same surface; other pixels of the
      second view are left out.
    - `min_overlap`: 0.1, share of the second view's labelled pixels that the first must see; pairs below it are
      skipped, and counted (`counts`).
    - `camera`: `ndc` (the cube is the first camera's frustum from `near` to `far` metres, even in inverse depth),
      `metric` (a box). Depths along rays are metres.

    Both samples need cameras with poses in metres, camera to world, and at least one task in metres.
    """

    pair_counts: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        *,
        cross_weight: float = 0.1,
        cross_tasks: str = "depth",
        cross_values: str = "moved",
        tolerance: float = 0.05,
        min_overlap: float = 0.1,
        camera: str = "ndc",
        **options: Any,
    ) -> None:
        known = {"ndc": True, "metric": False}
        frustum = named_choice("camera of triplane-cross-view, whose cube needs a size in metres,", camera, known)
        super().__init__(channels, camera=camera, **options)
        self.frustum = frustum
        self.cross_weight, self.tolerance, self.min_overlap = cross_weight, tolerance, min_overlap
        self.lengths = [name for name, task in self.tasks.items() if task.in_metres]
        if not self.lengths or self.num_samples < 2:
            raise ValueError(
                f"triplane-cross-view renders {', '.join(self.tasks)} with num_samples {self.num_samples}: it needs a "
                "task in metres, which says what both views see, and at least 2 samples."
            )
        self.needed_task = self.lengths[0]
        self.cross_tasks = named_choice("cross_tasks", cross_tasks, {"depth": self.lengths, "all": list(self.tasks)})
        self.moved = named_choice("cross_values", cross_values, {"moved": True, "plain": False})
        other = [n for n in self.lengths if n not in self.ends and not self.tasks[n].raw_is_physical]
        if self.moved and other:
            raise ValueError(
                f"triplane-cross-view moves depth in metres, and the loss of task '{other[0]}' predicts another "
                "quantity; use a depth loss on metres (such as 'l1') or cross_values='plain'."
            )
        with torch.no_grad():
            for end in self.ends.values():  # the expected depth is in metres already
                end.copy_(end.new_tensor([1.0, 0.0]))
        self.register_buffer("pair_counts", torch.zeros(2, dtype=torch.int64))

    def counts(self) -> dict[str, int]:
        """Pairs met while training, and how many of them were skipped because their views do not overlap."""
        return dict(zip(("pairs", "pairs_skipped"), self.pair_counts.tolist(), strict=True))

    def to_metres(self, depth: Tensor) -> Tensor:
        return depth

    def forward(self, output: Output, sample: Sample) -> dict[str, Tensor]:
        second, first_camera, second_camera = _pair(sample)
        planes = self.encoder(output.features, image_size(sample))
        rendered = self.render_points(planes, self.sample_points(sample))
        with full_precision(sample):
            relative = relative_pose(first_camera.pose, second_camera.pose)
            second = self.mask(sample, second, relative)
            points = self.second_points(sample, second, relative)
        terms = {name: self.supervise(name, self.raw(name, rendered[name]), sample) for name in self.tasks}
        if any_process(any(bool(valid_pixels(second.targets[name]).any()) for name in self.cross_tasks)):
            crossed = self.render_points(planes, points, self.cross_tasks)
            for name in self.cross_tasks:
                with full_precision(sample):
                    raw = self.cross_raw(name, crossed[name], second, relative)
                terms[name] = terms[name] + self.cross_weight * self.supervise(name, raw, second)
        return self.alpha(terms, self.step)

    def mask(self, sample: Sample, second: Sample, relative: Tensor) -> Sample:
        """The second view, with targets where the first view sees the same surface; pairs that overlap less than
        `min_overlap` lose all.
        """
        depths = [view.targets[self.lengths[0]] for view in (sample, second)]
        matrices = [view.camera.intrinsics for view in (sample, second)]
        points, common = find_common_pixels(*depths, *matrices, relative, tolerance=self.tolerance)
        _, inside = self.to_cube(points, sample)
        common = common & inside
        known = depths[1].isfinite()[:, 0].flatten(1).sum(dim=1)
        overlaps = common.flatten(1).sum(dim=1) > self.min_overlap * known
        if self.training:
            self.pair_counts += torch.stack([overlaps.new_tensor(len(overlaps), dtype=torch.int64), (~overlaps).sum()])
        keep = (common & overlaps[:, None, None])[:, None]
        kept = {name: keep_labels(second.targets[name], keep) for name in self.cross_tasks}
        return replace(second, targets=kept, extras={}, neighbors=())

    def to_cube(
        self, points: Float[Tensor, "batch *points 3"], sample: Sample
    ) -> tuple[Float[Tensor, "batch *points 3"], Bool[Tensor, "batch *points"]]:  # noqa: F821 (shapes)
        """Metric points in front of the first camera to the cube, and whether they lie in it."""
        if not self.frustum:
            cube = cameras.cube_from_box(points, half_width=self.half_width, near=self.near, far=self.far)
            return cube, cameras.inside_cube(cube)
        # Behind the camera the projection would turn around.
        forward = points[..., 2:].clamp(min=self.near / 2)
        cube = cameras.cube_from_metric(
            torch.cat([points[..., :2], forward], dim=-1),
            sample.camera.intrinsics,
            image_size(sample),
            near=self.near,
            far=self.far,
        )
        return cube, cameras.inside_cube(cube)

    def cube_points(self, sample: Sample, size: tuple[int, int]) -> SamplePoints:
        """The first view's own rays, parallel in the cube of its frustum."""
        samples = super().cube_points(sample, size)
        inverse = (1 - samples.depths) / 2 * (1 / self.near - 1 / self.far) + 1 / self.far
        return samples._replace(depths=1 / inverse)

    def metric_points(self, sample: Sample, size: tuple[int, int]) -> SamplePoints:
        samples = super().metric_points(sample, size)
        return samples._replace(depths=self.near + (samples.depths + 1) * ((self.far - self.near) / 2))

    def second_points(self, sample: Sample, second: Sample, relative: Tensor) -> SamplePoints:
        """Samples along the second view's rays, in the first view's cube.

        Lengths are those of the space that the density lives in: of the cube for a frustum, as for its own parallel
        rays; metres for a box. Depths are the second camera's, in metres.
        """
        distances = (
            self.distances(second, 1 / self.near, 1 / self.far).reciprocal()
            if self.frustum
            else self.spaced_distances(second)[0]
        )
        rays = cameras.metric_rays(second.camera.intrinsics, image_size(second), self._rendering_size(second))
        metric = cameras.points_on_rays(rays, self.depth_order(distances))
        moved = torch.einsum("bij,b...j->b...i", relative[:, :3, :3], metric) + relative[:, None, None, None, :3, 3]
        cube, inside = self.to_cube(moved, sample)
        steps = (cube if self.frustum else metric).diff(dim=3).norm(dim=-1)
        lengths = torch.cat([steps, steps[..., -1:]], dim=-1)
        if self.frustum:  # one step may leave the cube far behind
            lengths = lengths.clamp(max=2.0)
        return SamplePoints(cube, lengths, distances[:, None, None], inside, False)

    def cross_raw(self, name: str, rendered: Rendered, second: Sample, relative: Tensor) -> Tensor:
        """A task's raw map from the second view's rays, as the second camera would have it."""
        raw = self.raw(name, rendered)
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if not self.moved:
            return raw
        rotation, translation = relative[:, :3, :3], relative[:, :3, 3]
        if self.tasks[name].kind == "direction" and self.tasks[name].raw_is_physical:
            return torch.einsum("bij,bihw->bjhw", rotation, raw)
        if name not in self.lengths or name in self.ends:
            return raw
        # Along a ray z_1 = (R d)_z z_2 + t_z, so that the mean of z_2 - z_1 follows from that of z_2.
        rays = cameras.metric_rays(second.camera.intrinsics, image_size(second), self._rendering_size(second))
        slope = torch.einsum("bi,bhwi->bhw", rotation[:, 2], rays.directions)
        way = rendered.depth - (slope * rendered.depth + translation[:, 2, None, None])
        share = 1.0 if name in self.normalized else rendered.opacity
        return raw + (share * way)[:, None]

    def _rendering_size(self, view: Sample) -> tuple[int, int]:
        return ceil_divide(image_size(view), self.stride)


def _pair(sample: Sample) -> tuple[Sample, Camera, Camera]:
    """The second view and both cameras, whose poses are rigid motions."""
    if not sample.neighbors:
        raise ValueError(
            "triplane-cross-view needs a second view of every image, which this dataset does not give; ask for one "
            "(rooms: options neighbor_frames=(5,) and path_length=10), or use the regularizer 'triplane'."
        )
    second = sample.neighbors[0]
    for camera in (sample.camera, second.camera):
        if camera is None or camera.pose is None or not bool(sample.camera.intrinsics.isfinite().all()):
            raise ValueError(
                "triplane-cross-view needs cameras with poses in both views, which this dataset does not give (for "
                "every sample of the batch); use the regularizer 'triplane' with camera='orthographic' or camera='ndc'."
            )
    second = _replace_missing(second, sample.camera)
    for view in (sample, second):
        check_rigid(view.camera.pose, view.image_keys)
    return second, sample.camera, second.camera


def _replace_missing(second: Sample, camera: Camera) -> Sample:
    """Placeholders of missing frames (intrinsics of NaN) get the first camera; they have no label to compare."""
    missing = ~second.camera.intrinsics.isfinite().flatten(1).all(dim=1)[:, None, None]
    cameras = Camera(
        torch.where(missing, camera.intrinsics, second.camera.intrinsics),
        torch.where(missing, camera.pose, second.camera.pose),
    )
    return replace(second, camera=cameras)
