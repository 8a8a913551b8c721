"""The verb `triptych calibrate`."""

from pathlib import Path

from tyro.conf import Positional

from triptych.commands.verbs import Device


def calibrate(run: Positional[Path], folder: Positional[Path], split: str = "all", device: Device = "auto") -> None:
    """Fit the scale of a run's depth on a few frames of another camera, and keep it where it helps.

    Args:
        run: Run folder.
        folder: Images with depth, as for `triptych data doctor`; two frames or more.
        split: Split of the folder.
        device: Where to run.
    """
    from triptych.evaluation.calibrate import calibrate_run

    calibrate_run(run, folder, split=split, device=device)
