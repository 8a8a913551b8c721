"""Compare the shape of a label with that of its image, with the cure where they differ."""

TRANSPOSED = "arrays are (height, width): save it transposed, array.T"
"""The cure for a label whose height and width are those of its image, swapped, where nothing turns the image."""
OTHER_SHAPE = "it has another shape: was it cut? Cut the image alike, or replace the label: resizing would stretch it"
"""The cure for a label that shows another part of the scene than its image."""
SAME_SHAPE = 0.005
"""Largest relative difference of the aspect ratios of a label and its image that show the same part of the scene."""


def have_one_shape(label: tuple[int, int], image: tuple[int, int]) -> bool:
    """Compare the aspect ratios of two sizes (height, width): true where they are equal, within `SAME_SHAPE` or a pixel
    of rounding.

    >>> have_one_shape((213, 320), (427, 640)), have_one_shape((427, 561), (480, 640))  # NYUv2's usual crop
    (True, False)
    """
    difference = abs(label[0] * image[1] - label[1] * image[0])
    return difference <= max(SAME_SHAPE * label[1] * image[0], *image)


def have_swapped_sides(label: tuple[int, int], image: tuple[int, int]) -> bool:
    """Compare the aspect ratio of a label with that of its image on its side: true where they are equal."""
    return label == image[::-1] or (not have_one_shape(label, image) and have_one_shape(label[::-1], image))
