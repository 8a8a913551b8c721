"""Folders as people bring them, with the truth of each: names, nestings, splits, codes, number types and formats.

One idea per function: the file is long because the table is. `says` is what init, the doctor or an error has to say
where a folder cannot be read right as it is; without it only the right reading will do.
"""

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
from folder_truth import HALF, SIZE, Build, Layout, Truth, draw_labels, draw_photo
from indoor_scene import see_room
from PIL import Image

LAYOUTS: list[Layout] = []
Draw = Callable[[int], Any]
MATRIX = np.array([[28.0, 0, 24], [0, 28.0, 18], [0, 0, 1]])


def layout(title: str, says: str = "", *, refused: bool = False) -> Callable[[Build], Build]:
    """Add a function to the table."""

    def add(build: Build) -> Build:
        LAYOUTS.append(Layout(title, build, says, refused))
        return build

    return add


def pairs(
    truth: Truth,
    image: str = "images/{split}/{i:03d}.png",
    label: str = "semseg/{split}/{i:03d}.png",
    task: str = "semseg",
    *,
    store: Draw = draw_labels,
    target: Draw = draw_labels,
    count: int = 6,
    **options: Any,
) -> None:
    """Images and their labels; two thirds of them in train where names have a split."""
    for i in range(count):
        split = "train" if i < count * 2 // 3 else "val"
        words = {"split": split, "Split": split.title(), "i": i, "scene": "ab"[i % 2]}
        truth.image(image.format(**words), split if "split" in image.lower() else "", **{task: target(i)})
        truth.file(label.format(**words), store(i), **options)


def room(i: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) in metres and unit normals (H, W, 3) of a room."""
    matrix = MATRIX.copy()
    matrix[0, 2] += i
    depth, normals, _ = see_room(matrix, SIZE)
    return depth.astype(np.float32), normals.astype(np.float32)


def depth(i: int) -> np.ndarray:
    """Metres."""
    return room(i)[0]


def millimetres(i: int) -> np.ndarray:
    """As 16 bits."""
    return np.rint(depth(i) * 1000).astype(np.uint16)


def half(i: int) -> np.ndarray:
    """A mask of 0 and 1."""
    return (draw_labels(i, 3) == 1).astype(np.uint8)


def with_void(i: int) -> np.ndarray:
    """Class ids with unlabelled rows on top."""
    labels = draw_labels(i)
    labels[:4] = 255
    return labels


COLORS = np.array([[0, 0, 0], [0, 128, 64], [70, 70, 70], [128, 0, 128]], np.uint8)

# Names and nestings


@layout("split above task")
def _(t: Truth) -> None:
    pairs(t, "{split}/images/{i}.jpg", "{split}/masks/{i}.png")


@layout("split part of the folder's name, in front")
def _(t: Truth) -> None:
    pairs(t, "train_images/{i}.png".replace("train", "{split}"), "{split}_labels/{i}.png")


@layout("split part of the folder's name, behind")
def _(t: Truth) -> None:
    pairs(t, "images_{split}/{i}.png", "masks-{split}/{i}.png")


@layout("folders train2017 and val2017")
def _(t: Truth) -> None:
    pairs(t, "images/{split}2017/{i}.jpg", "semantic/{split}2017/{i}.png")


@layout("splits Train and Val, suffixes in capitals")
def _(t: Truth) -> None:
    pairs(t, "Images/{Split}/{i}.JPG", "Masks/{Split}/{i}.PNG")


@layout("splits training, validation and testing; the last without labels")
def _(t: Truth) -> None:
    for i, (split, name) in enumerate((("training", "train"), ("validation", "val"), ("testing", "test"))):
        for k in range(3):
            labels = {} if name == "test" else {"semseg": draw_labels(i)}
            t.image(f"{split}/rgb/{k}.png", name, **labels)
            if labels:
                t.file(f"{split}/annotations/{k}.png", draw_labels(i))


@layout("split called train of images, training of labels")
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/train/{i}.png", "train", semseg=draw_labels(i))
        t.file(f"labels/training/{i}.png", draw_labels(i))


@layout("scene above task: scene/rgb/000.png, scene/depth/000.png")
def _(t: Truth) -> None:
    pairs(
        t, "scene_{scene}/rgb/{i:03d}.jpg", "scene_{scene}/depth/{i:03d}.png", "depth", store=millimetres, target=depth
    )


@layout("split above scene above task")
def _(t: Truth) -> None:
    pairs(t, "{split}/{scene}/images/{i}.png", "{split}/{scene}/labels/{i}.png")


@layout("a folder per sample: 0001/rgb.png, 0001/mask.png")
def _(t: Truth) -> None:
    pairs(t, "{i:04d}/rgb.png", "{i:04d}/mask.png")


@layout("a folder per sample, files named after it: a7/a7_image.png, a7/a7_seg.png")
def _(t: Truth) -> None:
    pairs(t, "a{i}/a{i}_image.png", "a{i}/a{i}_seg.png")


@layout("flat: 001_rgb.png, 001_depth.png, 001_normal.png")
def _(t: Truth) -> None:
    for i in range(5):
        t.image(f"{i:03d}_rgb.png", depth=depth(i), normals=room(i)[1])
        t.file(f"{i:03d}_depth.png", millimetres(i))
        t.file(f"{i:03d}_normal.png", np.rint((room(i)[1] + 1) * 127.5).astype(np.uint8))


@layout("flat: rgb-001.png, seg-001.png")
def _(t: Truth) -> None:
    pairs(t, "rgb-{i:03d}.png", "seg-{i:03d}.png")


@layout("a.jpg and a.png side by side")
def _(t: Truth) -> None:
    pairs(t, "data/{i}.jpg", "data/{i}.png")


@layout("PASCAL's names, palette pictures and lists")
def _(t: Truth) -> None:
    for i in range(6):
        name, split = f"2008_{i:06d}", "train" if i < 4 else "val"
        t.image(f"JPEGImages/{name}.jpg", split, semseg=with_void(i))
        picture = Image.fromarray(with_void(i), "P")
        picture.putpalette(bytes(range(256)) * 3)
        t.file(f"SegmentationClass/{name}.png", picture)
    t.file("ImageSets/Segmentation/train.txt", "".join(f"2008_{i:06d}\n" for i in range(4)))
    t.file("ImageSets/Segmentation/val.txt", "".join(f"2008_{i:06d}\n" for i in range(4, 6)))


@layout("lists of pairs: images/001.jpg masks/001.png")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"images/{i:03d}.jpg", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"masks/{i:03d}.png", draw_labels(i))
    for split, chosen in (("train", range(4)), ("val", range(4, 6))):
        t.file(f"{split}.txt", "".join(f"images/{i:03d}.jpg masks/{i:03d}.png\n" for i in chosen))


@layout("a list with Windows line ends, a mark and suffixes")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"images/{i:03d}.jpg", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"masks/{i:03d}.png", draw_labels(i))
    t.file("splits/train.txt", "\ufeff" + "".join(f"{i:03d}.jpg\r\n" for i in range(4)))
    t.file("splits/val.txt", "".join(f"{i:03d}.jpg\r\n" for i in range(4, 6)))


@layout("other words before the number: img_001.png, mask_001.png")
def _(t: Truth) -> None:
    pairs(t, "images/{split}/img_{i:03d}.png", "masks/{split}/mask_{i:03d}.png")


@layout("an ending of labels that no word knows: 001.png, 001_L.png")
def _(t: Truth) -> None:
    pairs(t, "images/{i:03d}.png", "labels/{i:03d}_L.png")


@layout("labels named after the whole image file: 001.jpg, 001.jpg.png")
def _(t: Truth) -> None:
    pairs(t, "images/{split}/{i:03d}.jpg", "masks/{split}/{i:03d}.jpg.png")


@layout("an ending of images that no word knows: 001_sat.jpg, 001_mask.png")
def _(t: Truth) -> None:
    pairs(t, "images/{i:03d}_sat.jpg", "masks/{i:03d}_mask.png")


@layout("numbers with other zeros: 1.png, 0001.png", r"names", refused=True)
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i:04d}.png")


@layout("names in two forms of Unicode, with blanks and dots")
def _(t: Truth) -> None:
    for i in range(4):
        name = f"Küche v1.{i} é"
        t.image(f"images/{unicodedata.normalize('NFC', name)}.png", semseg=draw_labels(i))
        t.file(f"masks/{unicodedata.normalize('NFD', name)}.png", draw_labels(i))


@layout("masks in a folder inside the images' folder")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "images/masks/{i}.png")


@layout("folders of scenes inside the images' folder, masks beside them")
def _(t: Truth) -> None:
    pairs(t, "images/{scene}/{i}.png", "images/masks/{scene}/{i}.png")


@layout("one image per split, of one name")
def _(t: Truth) -> None:
    for i, split in enumerate(("train", "val")):
        t.image(f"images/{split}/a.png", split, semseg=draw_labels(i))
        t.file(f"semseg/{split}/a.png", draw_labels(i))


@layout("one image alone", r"all 1 images are in other splits")
def _(t: Truth) -> None:
    pairs(t, "images/photo.png", "semseg/photo.png", count=1)


@layout("names of patterns: a*b, {x}")
def _(t: Truth) -> None:
    for i in range(3):
        t.image(f"images{{x}}/{i}.png", semseg=draw_labels(i))
        t.file(f"masks{{x}}/{i}.png", draw_labels(i))


@layout("images in the top folder, masks below")
def _(t: Truth) -> None:
    pairs(t, "{i}.jpg", "masks/{i}.png")


@layout("hidden files, checkpoints, thumbnails and a picture at the top")
def _(t: Truth) -> None:
    pairs(t)
    t.file("images/train/.ipynb_checkpoints/000-checkpoint.png", draw_photo(0))
    t.file("images/train/._000.png", draw_photo(0))
    (t.root / "images/train/Thumbs.db").write_bytes(b"\0" * 99)
    (t.root / "images/.DS_Store").write_bytes(b"\0" * 99)
    t.file("overview.png", draw_photo(0, (60, 90)))


@layout("colored pictures to look at beside the masks")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i}.png")
    for i in range(6):
        t.file(f"masks_vis/{i}.png", COLORS[draw_labels(i)])


@layout("two files per label: _labelIds and _color")
def _(t: Truth) -> None:
    pairs(t, "images/{split}/a/{i:03d}_rgb.png", "labels/{split}/a/{i:03d}_labelIds.png")
    for i in range(6):
        t.file(f"labels/{'train' if i < 4 else 'val'}/a/{i:03d}_color.png", COLORS[draw_labels(i)])


@layout("frames of a video, every third labelled")
def _(t: Truth) -> None:
    for i in range(12):
        labels = {} if i % 3 else {"semseg": draw_labels(i)}
        t.image(f"frames/clip/frame_{i:05d}.jpg", **labels)
        if labels:
            t.file(f"masks/clip/frame_{i:05d}.png", draw_labels(i))


@layout("left and right images, depth of both")
def _(t: Truth) -> None:
    for side in ("left", "right"):
        pairs(t, f"images/{side}/{{i}}.png", f"depth/{side}/{{i}}.png", "depth", store=millimetres, target=depth)


@layout("left and right images without a folder of images, disparity", r"disparity.*numerator", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"left/{i}.png", depth=depth(i))
        t.image(f"right/{i}.png")
        t.file(f"disparity/{i}.png", (200 / depth(i)).astype(np.uint16))


@layout("names of folders in humps: InputImages, GroundTruth")
def _(t: Truth) -> None:
    pairs(t, "InputImages/{i}.png", "GroundTruth/{i}.png")


@layout("folders of words that nobody uses", r"teeth/: 4 files match the images; name its task", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.png", semseg=draw_labels(i))
        t.file(f"teeth/{i}.png", draw_labels(i))


@layout("unrelated names, paired by a CSV file", r"names", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{'kxqz'[i]}{7 * i}.png", semseg=draw_labels(i))
        t.file(f"masks/{'pbwo'[i]}{5 * i}.png", draw_labels(i))
    t.file("index.csv", "image,mask\n" + "".join(f"{'kxqz'[i]}{7 * i}.png,{'pbwo'[i]}{5 * i}.png\n" for i in range(4)))


@layout("outlines in JSON files alone", r"no folder of labels|json", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.jpg", semseg=draw_labels(i))
        t.file(f"annotations/{i}.json", '{"shapes": [{"label": "a", "points": [[0, 0], [9, 9]]}]}')


@layout("a mask per object: 0001_1.png, 0001_2.png", r"names|objects", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i:04d}.png", semseg=draw_labels(i))
        for k in range(4):
            t.file(f"masks/{i:04d}_{k}.png", (draw_labels(i) == k).astype(np.uint8) * 255)


@layout("images as GIF")
def _(t: Truth) -> None:
    for i in range(4):
        t.expect(f"images/{i}.gif", "", draw_photo(i), semseg=draw_labels(i))
        t.file(f"images/{i}.gif", Image.fromarray(draw_photo(i)).quantize())
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("masks as GIF")
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.png", semseg=draw_labels(i))
        t.file(f"masks/{i}.gif", Image.fromarray(draw_labels(i)))


@layout("the folder above the one that holds the images")
def _(t: Truth) -> None:
    pairs(t, "release/v2/images/{split}/{i}.png", "release/v2/masks/{split}/{i}.png")


# Class ids, masks, colors


@layout("palette pictures with 255 as void")
def _(t: Truth) -> None:
    def store(i: int) -> Image.Image:
        picture = Image.fromarray(with_void(i), "P")
        picture.putpalette(bytes(range(256)) * 3)
        return picture

    pairs(t, store=store, target=with_void)


@layout("pictures of one bit")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: Image.fromarray(half(i) * 255).convert("1"), target=half)


@layout("masks 0 and 255")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: half(i) * 255, target=half)


@layout("masks 0/1 in train, 0/255 in val")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: half(i) * (1 if i < 4 else 255), target=half)


@layout("masks 0/1 in some files, 0/255 in others, of saliency")
def _(t: Truth) -> None:
    pairs(
        t,
        label="saliency/{split}/{i:03d}.png",
        task="saliency",
        store=lambda i: half(i) * (255 if i % 2 else 1),
        target=half,
    )


@layout("masks as grey JPEG", r"JPEG|interpolat")
def _(t: Truth) -> None:
    pairs(t, label="masks/{split}/{i:03d}.jpg", store=lambda i: half(i) * 255, target=half)


@layout("saliency as grey JPEG")
def _(t: Truth) -> None:
    pairs(t, label="saliency/{split}/{i:03d}.jpg", task="saliency", store=lambda i: half(i) * 255, target=half)


@layout("masks in the alpha channel")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.stack([np.zeros(SIZE, np.uint8)] * 3 + [half(i) * 255], -1)

    pairs(t, store=store, target=half)


@layout("masks as grey pictures of three channels and alpha")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: np.stack([half(i) * 255] * 3 + [np.full(SIZE, 255, np.uint8)], -1), target=half)


@layout("masks as grey with alpha")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: Image.fromarray(draw_labels(i)).convert("LA"))


@layout("colors as PNG")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: COLORS[draw_labels(i)])


@layout("colors as JPEG", r"colours are no label maps", refused=True)
def _(t: Truth) -> None:
    pairs(t, label="semseg/{split}/{i:03d}.jpg", store=lambda i: COLORS[draw_labels(i)])


@layout("colors of two classes, one a mark of red")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: np.array([[0, 0, 0], [255, 0, 0]], np.uint8)[half(i)], target=half)


@layout("ids in the red channel alone")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: np.stack([draw_labels(i), *np.zeros((2, *SIZE), np.uint8)], -1))


@layout("one-hot (H, W, 5) with unlabelled pixels")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        planes = np.eye(5, dtype=np.uint8)[draw_labels(i, 5)]
        planes[:4] = 0
        return planes

    def target(i: int) -> np.ndarray:
        labels = draw_labels(i, 5)
        labels[:4] = 255
        return labels

    pairs(t, label="semseg/{split}/{i:03d}.npy", store=store, target=target)


@layout("one-hot (3, H, W) of 0 and 255")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.eye(3, dtype=np.uint8)[draw_labels(i, 3)].transpose(2, 0, 1) * 255

    pairs(t, label="semseg/{split}/{i:03d}.npy", store=store, target=lambda i: 2 - draw_labels(i, 3))


@layout("logits of a network (H, W, 4)", r"scores|neither class ids|one_hot", refused=True)
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return (np.eye(4)[draw_labels(i)] * 9 - 3).astype(np.float16)

    pairs(t, label="semseg/{split}/{i:03d}.npy", store=store)


@layout("several labels per pixel (H, W, 4)", r"planes|one-hot|one_hot|neither class ids|plane", refused=True)
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        planes = np.eye(4, dtype=np.uint8)[draw_labels(i)]
        planes[..., 0] = 1
        return planes

    pairs(t, label="semseg/{split}/{i:03d}.npy", store=store)


@layout("ids from 1 on, 0 never used")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i) + 1, target=lambda i: draw_labels(i) + 1)


@layout("int16 with -1, float with NaN, both as .npy")
def _(t: Truth) -> None:
    pairs(
        t,
        label="semseg/{split}/{i:03d}.npy",
        store=lambda i: np.where(with_void(i) == 255, -1, draw_labels(i)).astype(np.int16),
        target=with_void,
    )


@layout("float with NaN as float TIFF")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.where(with_void(i) == 255, np.nan, draw_labels(i)).astype(np.float32)

    pairs(t, label="semseg/{split}/{i:03d}.tif", store=store, target=with_void)


@layout("65535 as void in 16-bit PNG")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.where(with_void(i) == 255, 65535, draw_labels(i)).astype(np.uint16)

    pairs(t, store=store, target=with_void)


@layout("254 as void beside four classes", r"254")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: np.minimum(with_void(i), 254), target=with_void)


@layout("ids in steps of 60")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i) * 60)


@layout("ids of a large table, four of 34 used", r"spread|map")
def _(t: Truth) -> None:
    ids = np.array([7, 8, 26, 33], np.uint8)
    pairs(t, store=lambda i: ids[draw_labels(i)])


@layout("class times 1000 plus instance", r"instances|no class ids", refused=True)
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i).astype(np.uint16) * 1000 + draw_labels(i + 9))


@layout("instances 1 to 40 where classes should be", r"instances")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i, 20 + 3 * i) + 1)


@layout("ids resized with interpolation", r"interpolat|between")
def _(t: Truth) -> None:
    def store(i: int) -> Image.Image:
        small = Image.fromarray(draw_labels(i, 4, HALF) * 50)
        return small.resize(SIZE[::-1], Image.Resampling.BILINEAR)

    pairs(t, store=store)


@layout("int64 in .npz, .mat and .h5, one entry each")
def _(t: Truth) -> None:
    for i, suffix in enumerate(("npz", "mat", "h5")):
        for k in range(2):
            t.image(f"images/{3 * k + i}.png", **{("semseg", "human_parts", "saliency")[i]: half(k)})
            folder = ("semseg", "human_parts", "saliency")[i]
            t.file(f"{folder}/{3 * k + i}.{suffix}", half(k).astype(np.int64))


@layout("boundaries white on black, and votes of five people")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return (draw_labels(i, 12) == 0).astype(np.uint8) * 255

    pairs(
        t, label="edges/{split}/{i:03d}.png", task="boundary", store=store, target=lambda i: store(i) / np.float32(255)
    )


@layout("boundaries black on white", r"boundary")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return 255 - (draw_labels(i, 12) == 0).astype(np.uint8) * 255

    pairs(
        t,
        label="edges/{split}/{i:03d}.png",
        task="boundary",
        store=store,
        target=lambda i: 1 - store(i) / np.float32(255),
    )


@layout("labels of half the size")
def _(t: Truth) -> None:
    def target(i: int) -> np.ndarray:
        return np.kron(draw_labels(i, 4, HALF), np.ones((2, 2), np.uint8))

    pairs(t, store=lambda i: draw_labels(i, 4, HALF), target=target)


@layout("labels cut to another shape", r"another shape|its image", refused=True)
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i)[:20, :20])


@layout("some labels of half the size")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i) if i != 3 else draw_labels(i)[::2, ::2], count=9)


# Depth


@layout("depth as float metres in TIFF, beyond as 0")
def _(t: Truth) -> None:
    def target(i: int) -> np.ndarray:
        return np.where(depth(i) > 3.5, np.nan, depth(i))

    pairs(t, label="depth/{split}/{i:03d}.tiff", task="depth", store=lambda i: np.nan_to_num(target(i)), target=target)


@layout("depth as float16 (1, H, W), -1 where unknown")
def _(t: Truth) -> None:
    def target(i: int) -> np.ndarray:
        return np.where(depth(i) > 3.5, np.nan, depth(i))

    def store(i: int) -> np.ndarray:
        return np.nan_to_num(target(i), nan=-1)[None].astype(np.float16)

    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=store, target=target)


for _name, _suffix in (("pfm", "pfm"), ("OpenEXR", "exr"), ("HDF5", "hdf5"), ("MATLAB", "mat"), ("npz", "npz")):

    def _formats(t: Truth, suffix: str = _suffix) -> None:
        pairs(t, label=f"depth/{{split}}/{{i:03d}}.{suffix}", task="depth", store=depth, target=depth)

    layout(f"depth in metres as {_name}")(_formats)


@layout("depth in millimetres as 16-bit PGM")
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.pgm", task="depth", store=millimetres, target=depth)


@layout("depth in millimetres as PGM whose largest value is its own")
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.pgm", task="depth", store=millimetres, target=depth)
    for path in t.root.glob("depth/*/*.pgm"):
        path.write_bytes(path.read_bytes().replace(b"\n65535\n", b"\n9000\n"))


@layout("ids as PGM of letters")
def _(t: Truth) -> None:
    pairs(t, label="masks/{split}/{i:03d}.png")
    for path in t.root.glob("masks/*/*.png"):
        labels = np.asarray(Image.open(path))
        rows = "\n".join(" ".join(map(str, row)) for row in labels.tolist())
        path.with_suffix(".pgm").write_text(f"P2\n# ids\n{labels.shape[1]} {labels.shape[0]}\n3\n{rows}\n")
        path.unlink()


@layout("depth in centimetres as 16 bits", r"unit")
def _(t: Truth) -> None:
    pairs(
        t,
        label="depth/{split}/{i:03d}.png",
        task="depth",
        store=lambda i: (depth(i) * 100).astype(np.uint16),
        target=depth,
    )


@layout("depth in float millimetres")
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=lambda i: depth(i) * 1000, target=depth)


@layout("depth in float centimetres", r"unit")
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=lambda i: depth(i) * 100, target=depth)


@layout("depth of a scale from 0 to 1 in floats", r"unit|0 to 1")
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=lambda i: depth(i) / depth(i).max(), target=depth)


@layout("depth of a scale from 0 to 255 in 8 bits", r"8-bit|unit")
def _(t: Truth) -> None:
    pairs(
        t,
        label="depth/{split}/{i:03d}.png",
        task="depth",
        store=lambda i: (depth(i) * 50).astype(np.uint8),
        target=depth,
    )


@layout("depth in units of 1/5000 m, as the name says")
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"color/{i}.png", depth=depth(i))
        t.file(f"depth_5000/{i}.png", (depth(i) * 5000).astype(np.uint16))


@layout("depth in metres, in a folder whose name is a number of pixels")
def _(t: Truth) -> None:
    pairs(t, "256/images/{i:03d}.png", "256/depth/{i:03d}.npy", "depth", store=depth, target=depth)


@layout("depth in millimetres, whose first frame is the 256th")
def _(t: Truth) -> None:
    for i in range(256, 260):
        t.image(f"color/{i}.png", depth=depth(i))
        t.file(f"depth/{i}.png", millimetres(i))


@layout("depth in units of 1/5000 m, unsaid")
def _(t: Truth) -> None:
    pairs(
        t,
        label="depth/{split}/{i:03d}.png",
        task="depth",
        store=lambda i: (depth(i) * 5000).astype(np.uint16),
        target=depth,
    )


@layout("depth with 65535 and with 0 where unknown")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        stored = millimetres(i)
        stored[:3], stored[3:6] = 65535, 0
        return stored

    def target(i: int) -> np.ndarray:
        return np.where(np.arange(SIZE[0])[:, None] < 6, np.nan, depth(i))

    pairs(t, label="depth/{split}/{i:03d}.png", task="depth", store=store, target=target)


@layout("depth with a sky of 10000 m in floats")
def _(t: Truth) -> None:
    sky = np.arange(SIZE[0])[:, None] < 6
    pairs(
        t,
        label="depth/{split}/{i:03d}.npy",
        task="depth",
        store=lambda i: np.where(sky, np.float32(10000), depth(i)),
        target=lambda i: np.where(sky, np.nan, depth(i)),
    )


@layout("depth with a sky in a few files alone")
def _(t: Truth) -> None:
    sky = np.arange(SIZE[0])[:, None] < 6
    pairs(
        t,
        label="depth/{split}/{i:03d}.npy",
        task="depth",
        store=lambda i: np.where(sky & (i == 37), np.float32(1000), depth(i)),
        target=lambda i: np.where(sky & (i == 37), np.nan, depth(i)),
        count=60,
    )


@layout("inverse depth, as the name says")
def _(t: Truth) -> None:
    pairs(t, label="inverse_depth/{split}/{i:03d}.npy", task="depth", store=lambda i: 1 / depth(i), target=depth)


@layout("disparity under the name of a camera", r"disparity.*numerator", refused=True)
def _(t: Truth) -> None:
    pairs(
        t,
        label="disparity_left/{split}/{i:03d}.png",
        task="depth",
        store=lambda i: (200 / depth(i)).astype(np.uint16),
        target=depth,
    )


@layout("disparity within the folder of depth", r"disparity|numerator", refused=True)
def _(t: Truth) -> None:
    pairs(
        t,
        label="depth/{split}/{i:03d}_disp.png",
        task="depth",
        store=lambda i: (200 / depth(i)).astype(np.uint16),
        target=depth,
    )


@layout("distance along the ray, as the name says", r"distance|camera", refused=True)
def _(t: Truth) -> None:
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    length = np.linalg.norm(np.stack([(u - 24) / 28, (v - 18) / 28, np.ones(SIZE)]), axis=0)
    pairs(
        t,
        label="distance/{split}/{i:03d}.npy",
        task="depth",
        store=lambda i: (depth(i) * length).astype(np.float32),
        target=depth,
    )


@layout("depth as a colored picture", r"not \(height, width\)", refused=True)
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.png", task="depth", store=lambda i: COLORS[draw_labels(i)], target=depth)


@layout("depth of metres and of millimetres in one folder", r"unit|type")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return depth(i) * (1000 if i % 3 == 0 else 1)

    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=store, target=depth, count=9)


# Normals

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "y up, z towards the viewer": lambda n: n * (1, -1, -1),
    "x right, y forward, z up": lambda n: n[..., [0, 2, 1]] * (1, 1, -1),
    "BGR order": lambda n: n[..., ::-1],
    "x left, y up, z forward": lambda n: n * (-1, -1, 1),
}
for _turn in TURNS:
    for _with in (True, False):

        def _turned(t: Truth, turn: str = _turn, beside: bool = _with) -> None:
            for i in range(4):
                depth_too = {"depth": depth(i)} if beside else {}
                t.image(f"rgb/{i}.png", normals=room(i)[1], **depth_too)
                t.file(f"normals/{i}.png", np.rint((TURNS[turn](room(i)[1]) + 1) * 127.5).astype(np.uint8))
                if beside:
                    t.file(f"depth/{i}.npy", depth(i))

        layout(f"normals with {_turn}, {'beside depth' if _with else 'alone'}")(_turned)


@layout("normals as 16-bit PNG, black where unknown")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        stored = np.rint((room(i)[1] + 1) * 32767.5).astype(np.uint16)
        stored[:3] = 0
        return stored

    def target(i: int) -> np.ndarray:
        return np.where(np.arange(SIZE[0])[:, None, None] < 3, np.nan, room(i)[1])

    pairs(t, label="normals/{split}/{i:03d}.png", task="normals", store=store, target=target)


@layout("normals (3, H, W) in floats from 0 to 1")
def _(t: Truth) -> None:
    pairs(
        t,
        label="normals/{split}/{i:03d}.npy",
        task="normals",
        store=lambda i: ((room(i)[1] + 1) / 2).transpose(2, 0, 1),
        target=lambda i: room(i)[1],
    )


@layout("normals as OpenEXR")
def _(t: Truth) -> None:
    pairs(
        t, label="normals/{split}/{i:03d}.exr", task="normals", store=lambda i: room(i)[1], target=lambda i: room(i)[1]
    )


@layout("normals of two channels", r"channels|shape", refused=True)
def _(t: Truth) -> None:
    pairs(
        t,
        label="normals/{split}/{i:03d}.npy",
        task="normals",
        store=lambda i: room(i)[1][..., :2],
        target=lambda i: room(i)[1],
    )


# Photographs


@layout("JPEG turned by EXIF, labels upright")
def _(t: Truth) -> None:
    turned = Image.Exif()
    turned[274] = 6
    for i in range(4):
        upright = draw_photo(i)
        t.expect(f"images/{i}.jpg", "", upright, semseg=draw_labels(i))
        t.file(f"images/{i}.jpg", np.rot90(upright).copy(), exif=turned)
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("JPEG turned by EXIF, labels as stored", r"EXIF", refused=True)
def _(t: Truth) -> None:
    turned = Image.Exif()
    turned[274] = 6
    for i in range(4):
        upright = draw_photo(i)
        t.expect(f"images/{i}.jpg", "", upright, semseg=draw_labels(i))
        t.file(f"images/{i}.jpg", np.rot90(upright).copy(), exif=turned)
        t.file(f"masks/{i}.png", np.rot90(draw_labels(i)).copy())


def photos(t: Truth, suffix: str, store: Draw, **options: Any) -> None:
    """Photographs stored some way, with plain masks."""
    for i in range(4):
        t.expect(f"images/{i}{suffix}", "", draw_photo(i), semseg=draw_labels(i))
        t.file(f"images/{i}{suffix}", store(i), **options)
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("photographs as float TIFF from 0 to 1")
def _(t: Truth) -> None:
    photos(t, ".tif", lambda i: (draw_photo(i) / 255).astype(np.float32))


@layout("photographs as float .npy from 0 to 255", r"0\.\.1|\[0, 1\]", refused=True)
def _(t: Truth) -> None:
    photos(t, ".npy", lambda i: draw_photo(i).astype(np.float32))


@layout("photographs as int32 .npy", r"not the range of that type", refused=True)
def _(t: Truth) -> None:
    photos(t, ".npy", lambda i: draw_photo(i).astype(np.int32))


@layout("photographs as (3, H, W) .npy")
def _(t: Truth) -> None:
    photos(t, ".npy", lambda i: draw_photo(i).transpose(2, 0, 1))


@layout("photographs of 16 bits per color")
def _(t: Truth) -> None:
    photos(t, ".png", lambda i: draw_photo(i).astype(np.uint16) * 257)


@layout("photographs of 12 bits in 16", r"dark|bits|brightest")
def _(t: Truth) -> None:
    photos(t, ".png", lambda i: draw_photo(i).astype(np.uint16) * 16)


@layout("photographs as 16-bit PGM")
def _(t: Truth) -> None:
    for i in range(4):
        grey = np.repeat(draw_photo(i)[..., :1], 3, -1)
        t.expect(f"images/{i}.pgm", "", grey, semseg=draw_labels(i))
        t.file(f"images/{i}.pgm", grey[..., 0].astype(np.uint16) * 257)
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("photographs with alpha, in WebP and BMP")
def _(t: Truth) -> None:
    for i in range(4):
        name = f"images/{i}.{'webp' if i % 2 else 'bmp'}"
        t.expect(name, "", draw_photo(i), semseg=draw_labels(i))
        t.file(name, draw_photo(i), **({"lossless": True} if i % 2 else {}))
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("images of different sizes and suffixes")
def _(t: Truth) -> None:
    for i in range(5):
        size = (20 + 4 * i, 40 - 4 * i)
        name = f"images/{i}.{('jpg', 'png', 'JPEG', 'webp', 'bmp')[i]}"
        t.expect(name, "", draw_photo(i, size), semseg=draw_labels(i, 4, size))
        t.file(name, draw_photo(i, size))
        t.file(f"masks/{i}.png", draw_labels(i, 4, size))


@layout("two pictures per folder of a split, 1_sat.jpg and 1_mask.png")
def _(t: Truth) -> None:
    pairs(t, "{split}/{i}_sat.jpg", "{split}/{i}_mask.png")


@layout("labels in deeper folders than images")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "labels/semantic/fine/{i}.png")


@layout("lists of other names and suffixes: train_list.txt, list/val.lst")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"image/{i}.jpg", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"label/{i}.png", draw_labels(i))
    t.file("train_list.txt", "".join(f"{i}\n" for i in range(4)))
    t.file("trainval.txt", "".join(f"{i}\n" for i in range(6)))
    t.file("list/val.txt", "image/4.jpg label/4.png\nimage/5.jpg label/5.png\n")
    (t.root / "list/val.txt").rename(t.root / "list/val.lst")


@layout("a short and a long list for one split, and a note called test.txt")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"images/{i}.jpg", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"masks/{i}.png", draw_labels(i))
    t.file("sets/main/train.txt", "0\n")
    t.file("sets/seg/train.txt", "0\n1\n2\n3\n")
    t.file("sets/seg/val.txt", "4\n5\n")
    t.file("notes/test.txt", "This is a note.\nIt speaks.\n")


@layout("palettes of another order in each file", r"palette")
def _(t: Truth) -> None:
    def store(i: int) -> Image.Image:
        order = np.random.default_rng(i).permutation(4)
        picture, palette = Image.fromarray(order[draw_labels(i)].astype(np.uint8), "P"), np.zeros((256, 3), np.uint8)
        palette[order] = COLORS
        picture.putpalette(palette.tobytes())
        return picture

    pairs(t, store=store)


@layout("depth that ends at a sensor's limit", r"sensor's limit")
def _(t: Truth) -> None:
    beyond = np.arange(SIZE[0])[:, None] < 6
    pairs(
        t,
        label="depth/{split}/{i:03d}.npy",
        task="depth",
        store=lambda i: np.where(beyond, np.float32(5), depth(i)),
        target=lambda i: np.where(beyond, np.nan, depth(i)),
    )


@layout("depth in feet, as the name says")
def _(t: Truth) -> None:
    pairs(
        t,
        label="depth_ft/{split}/{i:03d}.npy",
        task="depth",
        store=lambda i: depth(i) / np.float32(0.3048),
        target=depth,
    )


@layout("depth of three equal channels in OpenEXR")
def _(t: Truth) -> None:
    pairs(
        t, label="depth/{split}/{i:03d}.exr", task="depth", store=lambda i: np.stack([depth(i)] * 3, -1), target=depth
    )


@layout("folders of a task and a general word: depth_gt, human_parts_labels, edges_mask")
def _(t: Truth) -> None:
    for i in range(5):
        parts, edges = draw_labels(i, 7), half(i)
        t.image(f"images/{i}.png", depth=depth(i), human_parts=parts, boundary=edges)
        t.file(f"depth_gt/{i}.png", millimetres(i))
        t.file(f"human_parts_labels/{i}.png", parts)
        t.file(f"edges_mask/{i}.png", edges * 255)


@layout("a mask of the pixels where depth holds beside it", r"00000_depth_mask\.npy seem to mark where depth")
def _(t: Truth) -> None:
    for i in range(5):
        holds = np.arange(SIZE[0])[:, None] + np.zeros(SIZE) >= 6
        t.image(f"scan_{i % 2}/{i:05d}.png", depth=np.where(holds, depth(i), np.nan))
        t.file(f"scan_{i % 2}/{i:05d}_depth.npy", np.where(holds, depth(i), 3.3)[..., None].astype(np.float32))
        t.file(f"scan_{i % 2}/{i:05d}_depth_mask.npy", holds.astype(np.uint8))


@layout("labels on the second page of a TIFF", r"2 pages, of which the first alone is read")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i}.tif", store=lambda i: draw_labels(i + 9))
    for path in (t.root / "masks").iterdir():
        pages = [Image.fromarray(draw_labels(int(path.stem) + more)) for more in (9, 0)]
        pages[0].save(path, save_all=True, append_images=pages[1:])


@layout("splits that the names of files tell: 000_train.png", r"splits are drawn, but names of images")
def _(t: Truth) -> None:
    for i in range(6):
        split = "train" if i < 4 else "val"
        t.image(f"images/{i:03d}_{split}.png", split, semseg=draw_labels(i))
        t.file(f"masks/{i:03d}_{split}.png", draw_labels(i))


@layout("splits that a table tells", r"splits are drawn, but splits\.json may name them")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"images/{i:03d}.png", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"masks/{i:03d}.png", draw_labels(i))
    t.file("splits.json", '{"train": ["000", "001", "002", "003"], "val": ["004", "005"]}')


@layout("colors, transparent where unlabelled")
def _(t: Truth) -> None:
    for i in range(5):
        colors = np.dstack([COLORS[draw_labels(i)], np.full(SIZE, 255, np.uint8)])
        colors[:4] = 0
        t.image(f"images/{i}.png", semseg=with_void(i))
        t.file(f"masks/{i}.png", colors)


@layout(
    "a list of three classes, ids from 1 on beside unlabelled 0", r"classes\.txt of 3 lines is not read.* 4 classes"
)
def _(t: Truth) -> None:
    pairs(t, target=lambda i: np.where(draw_labels(i) == 0, 255, draw_labels(i) - 1))
    t.file("classes.txt", "road\ncar\nsky\n")


# Folders called otherwise, on one side only, or of another language


@layout("splits called train of images, Train of labels")
def _(t: Truth) -> None:
    pairs(t, "images/{split}/{i}.png", "masks/{Split}/{i}.png")


@layout("images by split, labels in one folder")
def _(t: Truth) -> None:
    pairs(t, "images/{split}/{i}.png", "masks/{i}.png")


@layout("images by split of the same names, labels in one folder", r"name of images of several splits", refused=True)
def _(t: Truth) -> None:
    for split in ("train", "val"):
        for i in range(3):
            t.image(f"images/{split}/{i}.png", split, semseg=draw_labels(i))
    for i in range(3):
        t.file(f"masks/{i}.png", draw_labels(i))


@layout("labels by split, images in one folder", r"splits are drawn, but folders of labels are called train, val")
def _(t: Truth) -> None:
    for i in range(6):
        split = "train" if i < 4 else "val"
        t.image(f"images/{i}.png", split, semseg=draw_labels(i))
        t.file(f"masks/{split}/{i}.png", draw_labels(i))


@layout("labels of train as PNG, of val as int64 .npy")
def _(t: Truth) -> None:
    for i in range(6):
        split, suffix = ("train", "png") if i < 4 else ("val", "npy")
        t.image(f"images/{split}/{i}.png", split, semseg=draw_labels(i))
        t.file(f"masks/{split}/{i}.{suffix}", draw_labels(i).astype(np.uint8 if i < 4 else np.int64))


@layout("depth of train in millimetres as PNG, of val in metres as .npy", r"depth.*has files already")
def _(t: Truth) -> None:
    for i in range(6):
        split, suffix = ("train", "png") if i < 4 else ("val", "npy")
        t.image(f"images/{split}/{i}.png", split, depth=depth(i))
        t.file(f"depth/{split}/{i}.{suffix}", millimetres(i) if i < 4 else depth(i))


for _images, _labels in (
    ("Bilder/{i}.jpg", "Masken/{i}.png"),
    ("imagenes/{split}/{i}.png", "mascaras/{split}/{i}.png"),
    ("{split}/photographies/{i}.png", "{split}/étiquettes/{i}.png"),
):

    def _foreign(t: Truth, image: str = _images, label: str = _labels) -> None:
        pairs(t, image, label)

    _title = f"folders of another language: {_images}, {_labels}"
    layout(_title, r"6 files match the images; name its task", refused=True)(_foreign)


@layout(
    "names that are times, nearest ones belong together",
    r"8 of 8 lie within 0\.02 s of an image; link or rename",
    refused=True,
)
def _(t: Truth) -> None:
    for i in range(8):
        t.image(f"rgb/13050311{i:02d}.175304.png", depth=depth(i))
        t.file(f"depth/13050311{i:02d}.16{i}407.png", np.rint(depth(i) * 5000).astype(np.uint16))


@layout("a letter within names that tells images from depth: a1_i0_2.jpg, a1_d0_2.png", r"names, like", refused=True)
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"17DRP/matterport_color_images/{'ab'[i % 2]}1_i0_{i}.jpg", depth=depth(i))
        t.file(f"17DRP/matterport_depth_images/{'ab'[i % 2]}1_d0_{i}.png", (depth(i) * 4000).astype(np.uint16))


@layout("images and depth in two trees of other folders", r"names, like", refused=True)
def _(t: Truth) -> None:
    for split, drive in (("train", "drive_0001"), ("train", "drive_0009"), ("val", "drive_0002")):
        for i in range(5, 9):
            t.image(f"raw/2011_09_26/{drive}/image_02/data/{i:010d}.png", depth=depth(i))
            name = f"data_depth_annotated/{split}/{drive}/proj_depth/groundtruth/image_02/{i:010d}.png"
            t.file(name, np.rint(depth(i) * 256).astype(np.uint16))


# Numbers that look like others

for _name, _store in {
    "as a natural logarithm": np.log,
    "as a logarithm to base 10 of millimetres": lambda z: np.log10(1000 * z),
    "inverse under the name of depth": lambda z: 1 / z,
    "scaled to a mean of 0": lambda z: (z - z.mean()) / z.std(),
}.items():

    def _misread(t: Truth, turn: Callable[[np.ndarray], np.ndarray] = _store) -> None:
        path = "depth/{split}/{i:03d}.npy"
        pairs(t, label=path, task="depth", store=lambda i: turn(depth(i)).astype(np.float32), target=depth)

    layout(f"depth {_name}", r"look like (a logarithm|inverse depth)|values are below 0")(_misread)


@layout("depth packed into three colors", r"packed into colors has to be unpacked", refused=True)
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        number = np.rint(depth(i) / 1000 * 16777215).astype(np.int64)
        return np.stack([number % 256, number // 256 % 256, number // 65536], -1).astype(np.uint8)

    pairs(t, label="depth/{split}/{i:03d}.png", task="depth", store=store, target=depth)


@layout("depth as (width, height)", r"save it transposed", refused=True)
def _(t: Truth) -> None:
    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=lambda i: depth(i).T.copy(), target=depth)


@layout("depth beside a mask of valid pixels in one .npz")
def _(t: Truth) -> None:
    holds = np.arange(SIZE[0])[:, None] + np.zeros(SIZE) >= 6
    for i in range(4):
        t.image(f"images/{i}.png", depth=np.where(holds, depth(i), np.nan))
        t.file(f"depth/{i}.npz", {"depth": np.where(holds, depth(i), np.float32(3.3)), "valid": holds})


@layout("colors beside a mask of labelled pixels in one .npz", "labelled")
def _(t: Truth) -> None:
    holds = np.arange(SIZE[0])[:, None] + np.zeros(SIZE) >= 6
    for i in range(4):
        t.image(f"images/{i}.png", semseg=np.where(holds, draw_labels(i), 255))
        t.file(f"masks/{i}.npz", {"labels": COLORS[draw_labels(i)], "labelled": holds, "valid": np.array(True)})


@layout("normals, transparent where there are none")
def _(t: Truth) -> None:
    hidden = np.arange(SIZE[0])[:, None, None] < 5

    def store(i: int) -> np.ndarray:
        return np.where(hidden, 0, np.dstack([np.rint((room(i)[1] + 1) * 127.5), np.full(SIZE, 255)])).astype(np.uint8)

    def target(i: int) -> np.ndarray:
        return np.where(hidden, np.nan, room(i)[1])

    pairs(t, label="normals/{split}/{i:03d}.png", task="normals", store=store, target=target)


@layout("grey masks, transparent where unlabelled")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        void = with_void(i) == 255
        return np.dstack([np.where(void, 0, draw_labels(i))] * 3 + [np.where(void, 0, 255)]).astype(np.uint8)

    pairs(t, store=store, target=with_void)


@layout("masks as TIFF whose 0 is white", r"0 is white \(MinIsWhite\)", refused=True)
def _(t: Truth) -> None:
    import tifffile

    pairs(t, "images/{i}.png", "masks/{i}.tif")
    for path in (t.root / "masks").iterdir():
        tifffile.imwrite(path, np.asarray(Image.open(path)), photometric="miniswhite")


@layout("saliency of 0 and 1 with 255 as void")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.where(np.arange(SIZE[0])[:, None] < 4, 255, half(i)).astype(np.uint8)

    pairs(t, label="saliency/{split}/{i:03d}.png", task="saliency", store=store, target=store)


@layout("boundaries with thin 128s where nobody was sure")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        edges = (draw_labels(i, 12) == 0) * 255
        return np.where(np.arange(SIZE[1]) < 2, 128, edges).astype(np.uint8)

    def target(i: int) -> np.ndarray:
        return np.where(store(i) == 128, np.nan, store(i) // 255)

    pairs(t, label="edges/{split}/{i:03d}.png", task="boundary", store=store, target=target)


@layout("masks of the same names as PNG and as .npy of other ids", r"match the images too.*the right ones\?")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.jpg", "masks/{i}.png")
    for i in range(6):
        t.file(f"masks/{i}.npy", draw_labels(i + 3))


@layout("splits of nested places, depth of some alone")
def _(t: Truth) -> None:
    for split in ("train", "val"):
        for place in ("home/kitchen", "home/bath/up", "office"):
            labels = {} if place == "office" else {"semseg": draw_labels(len(place))}
            t.image(f"data/{split}/rgb/{place}/1.png", split, **labels)
            if labels:
                t.file(f"data/{split}/gt/{place}/1.png", draw_labels(len(place)))


@layout("lidar points of 6 % of the pixels in millimetres")
def _(t: Truth) -> None:
    def seen(i: int) -> np.ndarray:
        return np.random.default_rng(i).random(SIZE) < 0.06

    pairs(
        t,
        label="depth/{split}/{i:03d}.png",
        task="depth",
        store=lambda i: np.where(seen(i), millimetres(i), 0).astype(np.uint16),
        target=lambda i: np.where(seen(i), depth(i), np.nan),
    )


@layout("parts with gaps: 0, 1, 3 and 6")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.array([0, 1, 3, 6], np.uint8)[draw_labels(i)]

    pairs(t, label="parts/{split}/{i:03d}.png", task="human_parts", store=store, target=store)


@layout("one file of ids times 60", r"spread-out ids need a map")
def _(t: Truth) -> None:
    pairs(t, store=lambda i: draw_labels(i) * (60 if i == 3 else 1), count=9)


@layout("arrays in groups of .h5", r"'data' is a group, no array; set key to the path", refused=True)
def _(t: Truth) -> None:
    import h5py

    for i in range(4):
        t.image(f"images/{i}.png", semseg=draw_labels(i))
        t.file(f"masks/{i}.h5", draw_labels(i))
        with h5py.File(t.root / f"masks/{i}.h5", "w") as file:
            file["data/label"] = draw_labels(i)


@layout("photographs as CMYK, in palettes, and as float64 .npy")
def _(t: Truth) -> None:
    for i in range(6):
        indexed = Image.fromarray(draw_photo(i)).quantize(256)
        stored: Any = (
            Image.fromarray(draw_photo(i)).convert("CMYK"),
            indexed,
            draw_photo(i) / 255,
        )[i % 3]
        name = f"images/{i}.{('jpg', 'png', 'npy')[i % 3]}"
        t.file(name, stored)
        t.expect(name, "", np.asarray(indexed.convert("RGB")) if i % 3 == 1 else draw_photo(i), semseg=draw_labels(i))
        t.file(f"masks/{i}.png", draw_labels(i))


# Folders of published sets and tools, and numbers stored in rare ways


@layout("classes beside instances in folders: semantic, semantic_rgb, instance")
def _(t: Truth) -> None:
    for i in range(5):
        t.image(f"training/image_2/{i:06d}_10.png", "train", semseg=draw_labels(i))
        t.file(f"training/semantic/{i:06d}_10.png", draw_labels(i))
        t.file(f"training/semantic_rgb/{i:06d}_10.png", COLORS[draw_labels(i)])
        t.file(f"training/instance/{i:06d}_10.png", draw_labels(i).astype(np.uint16) * 256 + draw_labels(i + 9))


@layout("classes beside instances in names: _labelIds, _instanceIds")
def _(t: Truth) -> None:
    for i in range(6):
        split = "train" if i < 4 else "val"
        name = f"gtFine/{split}/aachen/aachen_{i:06d}_000019_gtFine"
        t.image(f"leftImg8bit/{split}/aachen/aachen_{i:06d}_000019_leftImg8bit.png", split, semseg=draw_labels(i))
        t.file(f"{name}_labelIds.png", draw_labels(i))
        t.file(f"{name}_instanceIds.png", draw_labels(i).astype(np.uint16) * 1000 + draw_labels(i + 9))


@layout("labels and instances in the folder of a version")
def _(t: Truth) -> None:
    for i in range(6):
        split, name = ("training", "train") if i < 4 else ("validation", "val")
        t.image(f"{split}/images/{i:03d}.jpg", name, semseg=draw_labels(i))
        t.file(f"{split}/v1.2/labels/{i:03d}.png", draw_labels(i))
        t.file(f"{split}/v1.2/instances/{i:03d}.png", draw_labels(i).astype(np.uint16) * 256 + draw_labels(i + 7))


@layout("scans of color, depth, label-filt and instance-filt, with poses")
def _(t: Truth) -> None:
    for scene in ("scene0000_00", "scene0001_00"):
        for i in range(3):
            t.image(f"scans/{scene}/color/{i}.jpg", semseg=draw_labels(i), depth=depth(i))
            t.file(f"scans/{scene}/depth/{i}.png", millimetres(i))
            t.file(f"scans/{scene}/label-filt/{i}.png", draw_labels(i).astype(np.uint16))
            t.file(f"scans/{scene}/instance-filt/{i}.png", draw_labels(i + 5))
            t.file(f"scans/{scene}/pose/{i}.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")


@layout("words before the number in folders of scenes: a_00/rgb_00045.jpg, a_00/sync_depth_00045.png")
def _(t: Truth) -> None:
    image, label = "{scene}_00/rgb_{i:05d}.jpg", "{scene}_00/sync_depth_{i:05d}.png"
    pairs(t, image, label, "depth", store=millimetres, target=depth)


@layout("image_left/0_left.png, depth_left/0_left_depth.npy, seg_left/0_left_seg.npy")
def _(t: Truth) -> None:
    for i in range(6):
        place = f"office/P00{i % 2}"
        t.image(f"{place}/image_left/{i:06d}_left.png", depth=depth(i), semseg=draw_labels(i))
        t.file(f"{place}/depth_left/{i:06d}_left_depth.npy", depth(i))
        t.file(f"{place}/seg_left/{i:06d}_left_seg.npy", draw_labels(i))


@layout(
    "images and depth as .hdf5 in folders of other names",
    r"names, like 'scene_geometry/frame\.0000', are not those",
    refused=True,
)
def _(t: Truth) -> None:
    for i in range(3):
        photo, name = draw_photo(i), f"images/scene_final/frame.{i:04d}.color.hdf5"
        t.expect(name, "", photo, depth=depth(i))
        t.file(name, (photo / 255).astype(np.float16))
        t.file(f"images/scene_geometry/frame.{i:04d}.depth_meters.hdf5", depth(i))


@layout("parts of things beside classes: a_seg.png, a_parts_1.png", r"parts of people, or of things")
def _(t: Truth) -> None:
    for i in range(6):
        split, name = ("training", "train") if i < 4 else ("validation", "val")
        t.image(f"{split}/ADE_{i:04d}.jpg", name, semseg=draw_labels(i))
        t.file(f"{split}/ADE_{i:04d}_seg.png", draw_labels(i))
        t.file(f"{split}/ADE_{i:04d}_parts_1.png", draw_labels(i + 3))


@layout("sem_seg/masks beside sem_seg/colormaps and pan_seg/bitmasks")
def _(t: Truth) -> None:
    for i in range(6):
        split, labels = "train" if i < 4 else "val", with_void(i)
        t.image(f"images/10k/{split}/{i}.jpg", split, semseg=labels)
        t.file(f"labels/sem_seg/masks/{split}/{i}.png", labels)
        t.file(f"labels/sem_seg/colormaps/{split}/{i}.png", COLORS[draw_labels(i)])
        t.file(f"labels/pan_seg/bitmasks/{split}/{i}.png", np.dstack([draw_labels(i + k) for k in range(4)]))


@layout("an export of a tool: img, ann, masks_machine, masks_human")
def _(t: Truth) -> None:
    pairs(t, "ds0/img/{i}.jpg", "ds0/masks_machine/{i}.png")
    for i in range(6):
        t.file(f"ds0/ann/{i}.jpg.json", '{"objects": []}')
        t.file(f"ds0/masks_human/{i}.png", COLORS[draw_labels(i)])


@layout("an export of a tool: SegmentationClass in colors, SegmentationObject, labelmap.txt")
def _(t: Truth) -> None:
    pairs(t, "JPEGImages/{i}.jpg", "SegmentationClass/{i}.png", store=lambda i: COLORS[draw_labels(i)])
    for i in range(6):
        t.file(f"SegmentationObject/{i}.png", COLORS[draw_labels(i + 4)][..., ::-1].copy())
    t.file("ImageSets/Segmentation/default.txt", "".join(f"{i}\n" for i in range(6)))
    t.file("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:0,128,64::\n")


@layout("trimaps of 1, 2 and 3 with trainval.txt and test.txt of names and numbers")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"images/Cat_{i}.jpg", "train" if i < 4 else "test", semseg=draw_labels(i, 3) + 1)
        t.file(f"annotations/trimaps/Cat_{i}.png", draw_labels(i, 3) + 1)
    for name, chosen in (("trainval", range(4)), ("test", range(4, 6)), ("list", range(6))):
        t.file(f"annotations/{name}.txt", "".join(f"Cat_{i} 1 1 1\n" for i in chosen))


@layout("splits in tables: train.csv of image and mask", r"splits are drawn, but train\.csv may name them")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.jpg", "masks/{i}.png")
    for i, one in enumerate(t.images.values()):
        one.split = "train" if i < 4 else "val"
    for split, chosen in (("train", range(4)), ("val", range(4, 6))):
        t.file(f"{split}.csv", "image,mask\n" + "".join(f"images/{i}.jpg,masks/{i}.png\n" for i in chosen))


@layout("lists of paths on another machine, splits called fold_0 and fold_1 inside")
def _(t: Truth) -> None:
    for i in range(6):
        t.image(f"fold_{i % 2}/images/{i}.jpg", "train" if i < 4 else "val", semseg=draw_labels(i))
        t.file(f"fold_{i % 2}/masks/{i}.png", draw_labels(i))
    for split, chosen in (("train", range(4)), ("val", range(4, 6))):
        t.file(f"{split}.txt", "".join(f"/home/me/set/fold_{i % 2}/images/{i}.jpg\n" for i in chosen))


@layout("a folder per scene of im0.png and disp0.pfm", r"disparity.*numerator", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"scene{i}/im0.png", depth=depth(i))
        t.file(f"scene{i}/disp0.pfm", (100 / depth(i)).astype(np.float32))


@layout("classes and depth in one .npz", r"entry 'depth' of labels/\{key\}\.npz is not read")
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.png", semseg=draw_labels(i), depth=depth(i))
        t.file(f"labels/{i}.npz", {"seg": draw_labels(i), "depth": depth(i)})


@layout("depth as a channel depth.V beside colors in OpenEXR")
def _(t: Truth) -> None:
    def store(i: int) -> dict[str, np.ndarray]:
        return {**{name: np.full(SIZE, 0.5, np.float32) for name in "RGB"}, "depth.V": depth(i)}

    pairs(t, label="depth/{split}/{i:03d}.exr", task="depth", store=store, target=depth)


@layout("ids as WebP without loss")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i}.webp")
    for path in (t.root / "masks").iterdir():
        Image.fromarray(draw_labels(int(path.stem))).convert("RGB").save(path, lossless=True)


@layout("ids as WebP with loss", r"with loss change values near edges|interpolat|no class ids")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i}.webp", store=lambda i: Image.fromarray(draw_labels(i) * 9).convert("RGB"))


@layout("masks as TIFF of one bit, as faxes are")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks/{i}.tif", store=half, target=half)
    for path in (t.root / "masks").iterdir():
        Image.fromarray(half(int(path.stem)) * 255).convert("1").save(path, compression="group4")


@layout("arrays of the other byte order: ids as int16, photographs of 16 bits, depth")
def _(t: Truth) -> None:
    for i in range(4):
        t.expect(f"images/{i}.npy", "", draw_photo(i), semseg=draw_labels(i), depth=depth(i))
        t.file(f"images/{i}.npy", (draw_photo(i).astype(np.uint16) * 257).astype(">u2"))
        t.file(f"masks/{i}.npy", np.asfortranarray(draw_labels(i).astype(">i2")))
        t.file(f"depth/{i}.npy", depth(i).astype(">f8"))


@layout("ids as pickled objects", r"none of the files can be read", refused=True)
def _(t: Truth) -> None:
    pairs(t, label="semseg/{split}/{i:03d}.npy", store=lambda i: draw_labels(i).astype(object))


@layout("uint32 ids with 4294967295 as void")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.where(with_void(i) == 255, 4294967295, draw_labels(i)).astype(np.uint32)

    pairs(t, label="semseg/{split}/{i:03d}.npy", store=store, target=with_void)


@layout("254 as void in val alone", r"only 5 of the ids up to 254 occur")
def _(t: Truth) -> None:
    def seen(i: int, void: int) -> np.ndarray:
        return np.where((draw_labels(i) == 3) & (i >= 4), void, draw_labels(i)).astype(np.uint8)

    pairs(t, store=lambda i: seen(i, 254), target=lambda i: seen(i, 255))


@layout("labels of val alone", r"train semseg: no image has this label")
def _(t: Truth) -> None:
    pairs(t)
    for path in (t.root / "semseg/train").iterdir():
        path.unlink()
    for one in t.images.values():
        one.targets = one.targets if one.split == "val" else {}


@layout("normals of int16, up and towards the viewer")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.rint(room(i)[1] * [1, -1, -1] * 32767).astype(np.int16)

    pairs(t, label="normals/{split}/{i:03d}.npy", task="normals", store=store, target=lambda i: room(i)[1])


@layout("depth in micrometres as uint32 TIFF", r"unit|scale")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.rint(depth(i) * 1e6).astype(np.uint32)

    pairs(t, label="depth/{split}/{i:03d}.tif", task="depth", store=store, target=depth)


@layout("contours of 0 and 1 in floats, NaN where nobody looked")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.where(np.arange(SIZE[0])[:, None] < 4, np.nan, draw_labels(i, 12) == 0).astype(np.float32)

    pairs(t, label="contours/{split}/{i:03d}.npy", task="boundary", store=store, target=store)


@layout("depth in tenths of metres, as the name says")
def _(t: Truth) -> None:
    for i in range(5):
        t.image(f"images/{i}.png", depth=depth(i))
        t.file(f"depth_dm/{i}.npy", depth(i) * 10)


@layout("endings that say nothing: 1_in.png, 1_out.png", r"by what they hold, as in .* 1_depth\.png", refused=True)
def _(t: Truth) -> None:
    pairs(t, "{i}_in.png", "{i}_out.png")


@layout("panoptic ids packed into colors", r"in one file alone: instances, or numbers packed into colours")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        ids = draw_labels(i + 3, 20).astype(np.int64) * 3001 + 70003 * i
        return np.dstack([ids % 256, ids // 256 % 256, ids // 65536]).astype(np.uint8)

    pairs(t, label="annotations/{split}/{i:03d}.png", store=store)


@layout("normals in three grey folders, one per component", r"normals_y/.*match the images too", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.png", normals=room(i)[1])
        for k, name in enumerate("xyz"):
            t.file(f"normals_{name}/{i}.png", np.rint((room(i)[1][..., k] + 1) * 127.5).astype(np.uint8))


@layout("depth of -999 in train and NaN in val, where unknown")
def _(t: Truth) -> None:
    def target(i: int) -> np.ndarray:
        return np.where(np.arange(SIZE[0])[:, None] < 4, np.nan, depth(i))

    def store(i: int) -> np.ndarray:
        return np.nan_to_num(target(i), nan=-999 if i < 4 else np.nan).astype(np.float32)

    pairs(t, label="depth/{split}/{i:03d}.npy", task="depth", store=store, target=target)


@layout("depth of train in millimetres, of val in centimetres, both 16 bits", r"that of the others 2\.9 m")
def _(t: Truth) -> None:
    def store(i: int) -> np.ndarray:
        return np.rint(depth(i) * (1000 if i < 8 else 100)).astype(np.uint16)

    pairs(t, label="depth/{split}/{i:03d}.png", task="depth", store=store, target=depth, count=12)


@layout("what a Mac packs beside: __MACOSX")
def _(t: Truth) -> None:
    pairs(t)
    for i in range(6):
        for folder in ("images", "semseg"):
            path = t.root / f"__MACOSX/{folder}/train/._{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0\5\26\7" + bytes(80))


@layout("all images and labels in one .h5", r"photographs and labels are files of their own", refused=True)
def _(t: Truth) -> None:
    t.expect("train.h5", "", draw_photo(0), semseg=draw_labels(0))
    t.file("train.h5", {"images": np.stack([draw_photo(0)] * 3), "labels": np.stack([draw_labels(0)] * 3)})


@layout("image and mask in one .npz per sample", r"photographs and labels are files of their own", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.expect(f"data/{i}.npz", "", draw_photo(i), semseg=draw_labels(i))
        t.file(f"data/{i}.npz", {"image": draw_photo(i), "mask": draw_labels(i)})


@layout("labels of two people", r"match the images too.*the right ones\?")
def _(t: Truth) -> None:
    pairs(t, "images/{i}.png", "masks_anna/{i}.png")
    for i in range(6):
        t.file(f"masks_ben/{i}.png", draw_labels(i + 5))


@layout("images and masks of two sizes", r"match the images too.*the right ones\?")
def _(t: Truth) -> None:
    pairs(t, "images_640/{i}.png", "masks_640/{i}.png")
    for i in range(6):
        t.file(f"images_320/{i}.png", draw_photo(i)[::2, ::2].copy())
        t.file(f"masks_320/{i}.png", draw_labels(i)[::2, ::2].copy())


@layout("masks of ignored pixels beside the classes", r"ignore_masks.*match the images too")
def _(t: Truth) -> None:
    for i in range(5):
        ignored = np.arange(SIZE[0])[:, None] + np.zeros(SIZE) < 4
        t.image(f"images/{i}.png", semseg=np.where(ignored, 255, draw_labels(i)))
        t.file(f"masks/{i}.png", draw_labels(i))
        t.file(f"ignore_masks/{i}.png", ignored.astype(np.uint8) * 255)


@layout("boundaries of several people as structures in .mat", r"holds values of type object", refused=True)
def _(t: Truth) -> None:
    for i in range(4):
        t.image(f"images/{i}.jpg", boundary=half(i))
        people = np.empty((1, 2), object)
        for k in range(2):
            people[0, k] = {"Boundaries": half(i + k), "Segmentation": draw_labels(i).astype(np.uint16)}
        t.file(f"edges/{i}.mat", {"groundTruth": people})


@layout("photographs with near infrared as a fourth channel")
def _(t: Truth) -> None:
    for i in range(4):
        t.expect(f"images/{i}.png", "", draw_photo(i), semseg=draw_labels(i))
        t.file(f"images/{i}.png", np.dstack([draw_photo(i), draw_photo(i)[..., 0]]))
        t.file(f"masks/{i}.png", draw_labels(i))
