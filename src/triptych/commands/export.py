"""The verbs that take a network elsewhere: `triptych export`, `profile` and `push`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def export(
    run: Positional[Path],
    to: Path,
    size: tuple[int, int] | None = None,
    dynamic: bool = False,
    outputs: Literal["maps", "raw"] = "maps",
    uint8: bool = False,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    calibrate: Path | None = None,
    max_loss: float | None = None,
    images: int = 0,
    split: str = "",
    root: str = "",
    overwrite: bool = False,
) -> None:
    """Write a run's network as one file for other machines, after comparing every task with torch on validation images.

    Args:
        run: Run folder.
        to: File to write: .onnx, .pt2 (an archive of torch.export) or .aoti.pt2 (compiled by AOTInductor, for C++).
        size: Height and width of the images; the training size by default.
        dynamic: Let the sizes be free; compared at three of them.
        outputs: maps, decoded (class ids and their probability, metres, unit normals, probabilities), or raw.
        uint8: Take images of bytes instead of floats in [0, 1].
        precision: Of weights and arithmetic; fp16 and int8 are for .onnx.
        calibrate: Folder of images that show int8 the range of activations; the validation split by default.
        max_loss: How much worse, relative to torch, a task may score with fp16 or int8 (0.05 unless given); without
            labels, how far it may be from torch in the mean.
        images: How many images of the validation split to compare on; 0 takes 4, or 32 for fp16 and int8.
        split: Split to compare on, instead of the validation split.
        root: Folder of the data of a run that was received, or their description; by default the recipe's.
        overwrite: Replace the file if it exists.
    """
    from triptych.export import export_run
    from triptych.export.run import summarize

    done = export_run(
        run,
        to,
        size=size,
        dynamic=dynamic,
        outputs=outputs,
        uint8=uint8,
        precision=precision,
        calibrate=calibrate,
        max_loss=max_loss,
        images=images,
        split=split,
        root=root,
        overwrite=overwrite,
    )
    print(summarize(done))


def profile(run: Positional[tuple[Path, ...]], size: tuple[tuple[int, int], ...] = (), threads: int = 0) -> None:
    """Say what a forward pass costs on this CPU: time, memory and operations by image size.

    Args:
        run: Run folder, or an ONNX file of `triptych export`; several, such as a run and its file, share a table.
        size: Heights and widths to measure, such as 96 128 480 640; by default the training size, half and twice that.
        threads: Threads to use; 0 leaves their number as it is.
    """
    import torch

    from triptych.export.profile import cost_table
    from triptych.export.profile import profile as measure
    from triptych.terminal import terminal

    if not run:
        raise ValueError("no network to measure; name a run folder, or an ONNX file of `triptych export`.")
    if threads < 0:
        raise ValueError(f"threads is {threads}; give 1 or more, or 0 to leave their number.")
    if threads:
        torch.set_num_threads(threads)
    costs = {str(path): measure(path, size) for path in run}
    terminal().print(cost_table(f"{', '.join(costs)}: one image, {torch.get_num_threads()} threads", costs))


def push(
    run: Positional[Path],
    name: Positional[str],
    dry_run: Path | None = None,
    scores: tuple[Path, ...] = (),
    exported: tuple[Path, ...] = (),
    license: str = "other",
    private: bool = False,
) -> None:
    """Upload a run's network to the Hugging Face hub, with a card of its scores and licenses.

    Args:
        run: Run folder.
        name: organisation/name on the hub.
        dry_run: Folder to write instead of uploading.
        scores: Files of `triptych score --out` whose numbers the card lists too, with their protocol.
        exported: ONNX files of `triptych export` of this run, to lie beside its weights.
        license: License of the weights as the hub spells it, such as mit or cc-by-nc-4.0.
        private: Let nobody else see a new network.
    """
    from triptych.report.publish import push_run

    address = push_run(run, name, dry_run=dry_run, scores=scores, exported=exported, license=license, private=private)
    print(address)
