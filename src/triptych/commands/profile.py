"""The verb `triptych profile`."""

from pathlib import Path

from tyro.conf import Positional


def profile(run: Positional[Path], size: tuple[tuple[int, int], ...] = (), threads: int = 0) -> None:
    """Say what a forward pass costs on this CPU: time, memory and operations by image size.

    Args:
        run: Run folder, or an ONNX file of `triptych export`.
        size: Heights and widths to measure, such as 96 128 480 640; by default the training size, half and twice that.
        threads: Threads to use; 0 leaves their number as it is.
    """
    import torch
    from rich.console import Console

    from triptych.export.profile import cost_table
    from triptych.export.profile import profile as measure

    if threads:
        torch.set_num_threads(threads)
    costs = measure(run, size)
    Console().print(cost_table(f"{run}: one image, {torch.get_num_threads()} threads", costs))
