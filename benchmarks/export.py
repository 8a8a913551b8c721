"""Does a file compute what the network computes? Every decoder and architecture on every family of trunks, as ONNX.

    python benchmarks/export.py results/export.csv

One row per network at 128 x 160 with NYUv2's tasks and random weights: the largest difference of a raw map between
onnxruntime and torch, relative to the map's largest value; torch's own in float32 against float64 beside it; nodes and
megabytes of the file. Rows that the table has are left alone, so an interrupted run goes on; `--minutes` stops it. A
decoder that refuses a trunk gets the reason.
"""

import argparse
import csv
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch

from triptych.assemble import create_model
from triptych.decoders import DECODERS
from triptych.export.onnx_file import open_onnx, write_onnx
from triptych.export.program import DeployedModel, exported_program
from triptych.export.proof import measure_difference
from triptych.models import ARCHITECTURES
from triptych.tasks import nyuv2_tasks

SIZE = (128, 160)
TRUNKS = {
    "resnet18": {},
    "hrnet_w18_small_v2": {},
    "vit_tiny_patch16_384": {"image_size": SIZE},
    "swin_tiny": {},
    "convnext_atto": {},
    "dinov2_small": {"image_size": (126, 154)},
    "dinov3_small": {},
}
COLUMNS = ("decoder", "trunk", "difference", "torch_rounding", "nodes", "megabytes", "note")


def measure(decoder: str, trunk: str, folder: Path) -> dict[str, str]:
    """One row of the table."""
    torch.manual_seed(0)
    try:
        model = create_model(decoder, backbone=trunk, tasks=nyuv2_tasks(), backbone_options=TRUNKS[trunk])
    except ValueError as error:
        return {"note": f"refused: {error}"}
    model.eval()
    path = folder / "model.onnx"
    try:
        program = exported_program(model, SIZE, outputs="raw")
        write_onnx(program, path)
        maps = open_onnx(path, program.names)(program.example)
    except (ValueError, RuntimeError) as error:
        return {"note": f"failed: {str(error).splitlines()[0]}"}
    with torch.no_grad():
        expected = DeployedModel(model, outputs="raw")(program.example)
        exact = DeployedModel(deepcopy(model).double(), outputs="raw")(program.example.double())
    import onnx

    return {
        "difference": f"{max(measure_difference(maps[name], expected[name]) for name in maps):.1e}",
        "torch_rounding": f"{max(measure_difference(expected[name], exact[name]) for name in maps):.1e}",
        "nodes": str(len(onnx.load(str(path), load_external_data=False).graph.node)),
        "megabytes": f"{path.stat().st_size / 1e6:.0f}",
        "note": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further network after that time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    rows = list(csv.DictReader(options.table.open(encoding="utf-8"))) if options.table.exists() else []
    known = {(row["decoder"], row["trunk"]) for row in rows}
    # Every decoder once before any a second time, on trunks in turn.
    registered = [*DECODERS.items(), *ARCHITECTURES.items()]
    names = list({network: name for name, network in registered}.values())  # of two names the newer
    pairs = [
        (name, list(TRUNKS)[(number + turn) % len(TRUNKS)])
        for turn in range(len(TRUNKS))
        for number, name in enumerate(names)
    ]
    for decoder, trunk in pairs:
        if (decoder, trunk) in known or (time.monotonic() - started) / 60 > options.minutes:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = {"decoder": decoder, "trunk": trunk} | measure(decoder, trunk, Path(folder))
        rows = sorted([*rows, row], key=lambda row: (names.index(row["decoder"]), list(TRUNKS).index(row["trunk"])))
        with options.table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(" ".join(f"{key}={value}" for key, value in row.items() if value), flush=True)


if __name__ == "__main__":
    main()
