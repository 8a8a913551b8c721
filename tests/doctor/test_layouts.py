"""Folders as people bring them: read right, asked to be checked, or refused by name; never wrong in silence."""

from pathlib import Path

import pytest
from folder_layouts import LAYOUTS, Draw, depth, half, millimetres, pairs, room
from folder_truth import Layout, draw_labels, judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
def test_no_layout_is_wrong_in_silence(tmp_path: Path, layout: Layout) -> None:
    verdict = judge(layout, tmp_path)
    expected = ("refused" if layout.refused else "CHECK") if layout.says else "right"
    assert verdict.outcome == expected, verdict.detail


NAMES = {
    "by task": ("images/{split}/{i:03d}.png", "{word}/{split}/{i:03d}"),
    "by split": ("{split}/rgb/{i}.jpg", "{split}/{word}/{i}"),
    "by scene": ("scene_{scene}/rgb/{i:04d}.png", "scene_{scene}/{word}/{i:04d}"),
    "by sample": ("{i:04d}/image.png", "{i:04d}/{word}"),
    "flat": ("{i:03d}_rgb.png", "{i:03d}_{word}"),
    "affixes": ("photos/img-{i}.png", "{word}/gt-{i}"),
    "nested": ("images/{scene}/{i}.png", "images/{word}/{scene}/{i}"),
    "split behind": ("images_{split}/{i}.png", "{word}_{split}/{i}"),
}
KEPT: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], Draw, Draw]] = {
    "ids": (
        "semseg",
        ("labels", "mask", "semantic"),
        (".png", ".npy", ".tif", ".bmp", ".npz"),
        draw_labels,
        draw_labels,
    ),
    "masks": ("semseg", ("masks", "seg"), (".png", ".bmp"), lambda i: half(i) * 255, half),
    "metres": ("depth", ("depth",), (".npy", ".tiff", ".pfm", ".exr", ".h5", ".mat"), depth, depth),
    "millimetres": ("depth", ("depth", "depthmap"), (".png", ".pgm", ".npy"), millimetres, depth),
    "normals": ("normals", ("normals",), (".npy", ".tif", ".exr"), lambda i: room(i)[1], lambda i: room(i)[1]),
}


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(names=st.sampled_from(sorted(NAMES)), kept=st.sampled_from(sorted(KEPT)), choice=st.integers(0, 99))
def test_folders_drawn_at_random_give_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, names: str, kept: str, choice: int
) -> None:
    task, words, suffixes, store, target = KEPT[kept]
    image, label = NAMES[names]
    name = label.replace("{word}", words[choice % len(words)]) + suffixes[choice // 3 % len(suffixes)]
    drawn = Layout(
        f"{kept}, {names}", lambda t: pairs(t, image, name, task, store=store, target=target, count=6 + choice % 4), ""
    )
    verdict = judge(drawn, tmp_path_factory.mktemp("drawn"))
    assert verdict.outcome == "right", verdict.detail
