"""Named settings of the triplane regularizer's geometry."""

from collections.abc import Mapping

SURFACE_ACTIVATION = "exp"
"""The activation of preset `surface`."""

PRESETS: dict[str, Mapping[str, str]] = {
    "published": {
        "planes": "split",
        "density": "task",
        "depth_from": "value",
        "density_init": "small",
        "density_activation": "softplus",
        "values_init": "small",
    },
    "surface": {
        "planes": "pooled",
        "density": "shared",
        "depth_from": "termination",
        "density_init": "unit",
        "density_activation": SURFACE_ACTIVATION,
        "values_init": "unit",
    },
}
"""What options are where they are not given.

`published` is the paper as far as it is known, and what was here from the start. `surface` makes one density answer for
all tasks: depth is where it ends the rays, so that labels of depth say where the surface is, and every other task is
read there. Planes along depth are aligned with the image, and rows start at unit scale: from near zero a density
is a fog and stays one, and normals, which are brought to unit length, have exploding gradients.
"""
