"""Files of free sizes: every decoder and every trunk once, at four sizes, one of them no multiple of the stride."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from test_models import NAMES, accepted, build, stir
from unchecked import shapes_unchecked

from triptych.assemble import create_model
from triptych.backbones import create_backbone
from triptych.backbones.swin import attend
from triptych.backbones.vit import rotary_positions
from triptych.export.onnx_file import open_onnx, write_onnx
from triptych.export.program import DeployedModel, exported_program
from triptych.export.proof import EXACT, measure_difference, proof_sizes
from triptych.export.run import find_smallest
from triptych.models.multitask import MultiTaskModel
from triptych.tasks import depth, semseg
from triptych.types import Output, ceil_div, round_up, same_size

TRUNKS: dict[str, dict[str, object]] = {
    "resnet18": {"widths": (8, 16, 24, 32)},
    "hrnet_w18_small_v2": {},
    "vit_tiny_patch16_384": {"taps": (1, 2), "image_size": (64, 96)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "swin_tiny": {"depths": (1, 1, 1, 2), "embed_dim": 8, "num_heads": (1, 2, 4, 8), "window_size": 3},
    "dinov2_small": {"taps": (1, 2)},
    "dinov3_small": {"taps": (1, 2)},
}


TASKS = {"semseg": semseg(4), "depth": depth()}


def check_free_file(model: MultiTaskModel, path: Path) -> None:
    model = stir(model).eval()
    smallest = find_smallest(model)
    traced = (round_up(max(64, smallest), 32), round_up(max(96, smallest), 32))
    with shapes_unchecked():
        program = exported_program(model, traced, dynamic=True, outputs="raw")
        write_onnx(program, path)
        file, network = open_onnx(path, program.names), DeployedModel(model, outputs="raw")
        precise = DeployedModel(deepcopy(model).double(), outputs="raw")
        # Far from square, too: one window is a case apart, and a program of it takes no other number.
        for size in (*proof_sizes(traced, 32, smallest=smallest), (smallest, 5 * smallest)):
            image = torch.rand(1, 3, *size)
            with torch.no_grad():
                expected, exact = network(image), precise(image.double())
            for name, maps in file(image).items():
                # Stirred weights enlarge rounding: torch's own, against double precision, is the measure.
                rounding = measure_difference(expected[name], exact[name])
                assert measure_difference(maps, exact[name]) < max(EXACT.difference, 4 * rounding) < 0.1, (name, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_decoder_has_a_file_of_free_sizes(name: str, tmp_path: Path) -> None:
    # Two tasks: what they exchange is traced, and graphs stay small.
    check_free_file(build(name, accepted(name)[0], TASKS), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_has_a_file_of_free_sizes(name: str, tmp_path: Path) -> None:
    model = create_model("fcn", backbone=name, tasks=TASKS, backbone_options=TRUNKS[name], decoder_options={"width": 8})
    model.set_training_sizes([(64, 96)])  # images are padded as those of runs are
    check_free_file(model, tmp_path / "model.onnx")


def test_trunks_say_whether_sizes_can_be_free() -> None:
    assert all(not create_backbone(name, **options).one_size for name, options in TRUNKS.items())


@pytest.mark.parametrize("version", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_windows_are_those_of_timm(version: str) -> None:
    body = create_backbone(version, depths=(2,), embed_dim=8, num_heads=(2,)).body.eval()
    for block in body.layers[0].blocks:
        for size in ((16, 16), (9, 23), (5, 7)):
            x = torch.randn(2, *size, 8)
            torch.testing.assert_close(attend(block, x), block._attn(x), rtol=0, atol=1e-6)
    assert any(block.shift_size)


def test_rotary_positions_are_those_of_timm() -> None:
    rope = create_backbone("dinov3_small", taps=(1,)).body.rope
    for grid in ((1, 1), (2, 9), (14, 14)):
        assert torch.equal(rotary_positions(rope, grid), rope.get_embed(shape=list(grid)))


def test_a_shortcut_is_taken_only_where_it_holds_for_every_size() -> None:
    class Shortcut(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if same_size(x.shape[-2:], (8, 8)) else x + 2

    x, free = torch.zeros(1, 1, 8, 8), {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with shapes_unchecked():
        fixed = torch.export.export(Shortcut(), (x,), strict=False)
        open_ = torch.export.export(Shortcut(), (x,), dynamic_shapes=(free,), strict=False)
    assert Shortcut()(x).max() == fixed.module()(x).max() == 1
    assert open_.module()(x).max() == open_.module()(torch.zeros(1, 1, 9, 7)).max() == 2


def test_sizes_that_are_rounded_up_are_right_in_onnx(tmp_path: Path) -> None:
    """Written as `-(-side // n)` they are rounded down there, although the traced program is right."""

    class Cropped(torch.nn.Module):
        tasks = {"depth": depth()}  # noqa: RUF012

        def forward(self, image: torch.Tensor) -> Output:
            height, width = image.shape[-2:]
            grid = image[..., : ceil_div(height, 4), : round_up(width, 4) - width + 2]
            return Output({"depth": grid}, [], [])

    with shapes_unchecked():
        program = exported_program(Cropped(), (10, 13), dynamic=True, outputs="raw")
        write_onnx(program, tmp_path / "model.onnx")
    file = open_onnx(tmp_path / "model.onnx", program.names)
    for size in ((10, 13), (12, 16), (21, 7)):
        image = torch.rand(1, 3, *size)
        assert torch.equal(file(image)["depth"], Cropped()(image).predictions["depth"])
