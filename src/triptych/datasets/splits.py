"""Which files belong to which split: by folder, by a list of keys, or by a share of the images."""

import hashlib
import math
from pathlib import Path

from triptych.data.files import match_files
from triptych.datasets.descriptor import Descriptor
from triptych.lookup import named_choice

ALL = "all"
"""The split that holds every image."""


def split_names(descriptor: Descriptor) -> list[str]:
    """The splits that can be asked for, besides `all`."""
    if descriptor.has_shares:
        return ["train", *descriptor.splits]
    return list(descriptor.splits) or _split_folders(descriptor)


def _split_folders(descriptor: Descriptor) -> list[str]:
    """Names that `{split}` of the images' pattern stands for, where the descriptor does not list them."""
    before, marker, after = descriptor.images.partition("{split}")
    folder = descriptor.root / before.rpartition("/")[0]
    start, end = before.rpartition("/")[2], after.partition("/")[0]
    if not marker or not folder.is_dir():
        return []
    places = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    names = [path.name for path in places if path.name.startswith(start) and path.name.endswith(end)]
    names = [name[len(start) : len(name) - len(end)] for name in names]
    return [name for name in names if match_files(descriptor.root, descriptor.images, name)]


def list_files(descriptor: Descriptor, pattern: str, split: str) -> dict[str, Path]:
    """Files of a pattern by key: those in the folder of `split`, or in those of all splits.

    Over all splits, keys start with the split where images lie in folders by split.
    """
    if split != ALL:
        return match_files(descriptor.root, pattern, str(descriptor.splits.get(split, split)))
    if not descriptor.has_split_folders:
        return match_files(descriptor.root, pattern)
    found = {}
    for name in split_names(descriptor):
        for key, path in list_files(descriptor, pattern, name).items():
            found[f"{name}/{key}"] = path
    return found


def list_images(descriptor: Descriptor, split: str) -> dict[str, Path]:
    """The image files of a split by key, in order; raises `ValueError` if there are none or no such split."""
    if not descriptor.root.is_dir():
        raise ValueError(
            f"dataset folder '{descriptor.root}' does not exist; set root in {descriptor.path}, or pass root."
        )
    names = [*split_names(descriptor), ALL]
    named_choice(f"split of dataset {descriptor.name}", split, dict.fromkeys(names))
    found = list_files(descriptor, descriptor.images, split)
    value = descriptor.splits.get(split, "")
    if descriptor.has_shares and split != ALL:
        member = _members(list(found), descriptor)
        found = {key: path for key, path in found.items() if member[key] == split}
    elif str(value).endswith(".txt"):
        found = _listed(found, descriptor, descriptor.root / str(value))
    if not found:
        raise ValueError(
            f"split '{split}' of dataset {descriptor.name} has no images: nothing in {descriptor.root} matches "
            f"'{descriptor.images}'; set files in [images] of {descriptor.path}, or run `triptych data init` there."
        )
    return found


def unlisted_images(descriptor: Descriptor, split: str) -> dict[str, Path]:
    """Images that no split holds, where `split` is a list of keys: the frames between labelled ones."""
    if not str(descriptor.splits.get(split, "")).endswith(".txt"):
        return {}
    found = list_files(descriptor, descriptor.images, split)
    listed = (_listed(found, descriptor, descriptor.root / str(value)) for value in descriptor.splits.values())
    taken = {key for keys in listed for key in keys}
    return {key: path for key, path in found.items() if key not in taken}


def _listed(found: dict[str, Path], descriptor: Descriptor, path: Path) -> dict[str, Path]:
    if not path.is_file():
        raise ValueError(f"split list {path} does not exist; [splits] of {descriptor.path} names it.")
    chosen = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        key = word if word in found else word.rpartition(".")[0]
        if key not in found:
            raise ValueError(f"{path} names '{word}', but {descriptor.root} has no such image ('{descriptor.images}').")
        chosen[key] = found[key]
    return chosen


def _members(keys: list[str], descriptor: Descriptor) -> dict[str, str]:
    """The split of each image, by shares: groups are taken in the order of a hash, the same on every machine."""
    group = {key: key.rpartition("/")[0] if descriptor.group == "folder" else key for key in keys}
    ordered = sorted(set(group.values()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    splits: dict[str, str] = {}
    first = 0
    for name, share in descriptor.splits.items():
        last = first + math.ceil(float(share) * len(ordered))
        splits.update(dict.fromkeys(ordered[first:last], name))
        first = last
    return {key: splits.get(group[key], "train") for key in keys}
