"""`triptych calibrate`: rescale the depth of a run to another camera by a few frames with depth."""

from dataclasses import replace
from pathlib import Path

from rich.table import Table

from triptych.data.base import require_truth
from triptych.datasets.folder import Folder
from triptych.files import check_writable
from triptych.prediction.calibration import FILE, Fitted, fit_scale, logarithms, read_calibration, write_calibration
from triptych.prediction.exported import SUFFIX
from triptych.prediction.predictor import Predictor
from triptych.prediction.pretrained import hash_weights, require_folder
from triptych.terminal import terminal


def calibrate_run(
    run: Path, folder: Path, *, split: str = "all", shorter_side: int | None = None, device: str = "auto"
) -> dict[str, Fitted]:
    """Fit how the depth of a run is scaled on the camera of a folder of images with depth, as `Folder` reads it, and
    store it in the run where it helps on frames that it was not fitted on.

    `shorter_side` is the size at which the network sees the frames, as in prediction. Returns the fit of each task.
    Raises `ValueError` where the run or the folder has no depth.
    """
    if run.suffix == SUFFIX:
        raise ValueError(f"{run} is a file; calibrate the run that it was made from, and export that again.")
    require_folder(run)
    check_writable(run, "the scale is kept beside the network: copy it to where you may write")
    weights = hash_weights(run)  # before they are read: a training may replace them meanwhile
    predictor = Predictor.load(run, device=device, calibrated=False, shorter_side=shorter_side)
    lengths = [name for name, task in predictor.tasks.items() if task.in_metres]
    if not lengths:
        raise ValueError(f"{run} predicts no depth ({', '.join(predictor.tasks)}); nothing of it has a scale.")
    dataset = Folder(folder, split=split, tasks=lengths)
    require_truth(dataset, lengths, "calibrated on")
    frames: dict[str, list] = {name: [] for name in lengths}
    sizes = []
    for index in range(len(dataset)):
        sample = dataset[index]
        sizes.append((int(sample.image.shape[-2]), int(sample.image.shape[-1])))
        predicted = predictor(sample.image)
        for name in lengths:
            found = logarithms(predicted[name], sample.targets[name].numpy())
            if found is not None:
                frames[name].append(found)
    fitted = {name: fit_scale(found) for name, found in frames.items()}
    terminal().print(calibration_table(str(folder), fitted))
    frame = sorted(sizes, key=min)[len(sizes) // 2]
    seen = predictor.seen_size(frame)
    if len(several := sorted({min(predictor.seen_size(size)) for size in sizes})) > 1:
        print(
            f"the network saw frames of {several[0]} to {several[-1]} pixels on the shorter side; those of one fit best"
        )
    scales = {
        name: replace(one.scale, frame=frame, seen=seen) for name, one in fitted.items() if one.kept != "as predicted"
    }
    if scales:
        facts = {"folder": str(folder), "frames": {name: one.frames for name, one in fitted.items()}}
        path = write_calibration(run, scales, weights, facts)
        for name, scale in scales.items():
            print(f"{name}: {scale.describe()}, kept in {path}; predict and export apply it, evaluate does not")
    else:
        print("the depth stays as predicted: nothing did better on frames that it was not fitted on")
        for name, scale in read_calibration(run).items():
            print(f"{name}: {scale.describe()} of an earlier calibration is deleted with {run / FILE}")
        (run / FILE).unlink(missing_ok=True)
    return fitted


def calibration_table(title: str, fitted: dict[str, Fitted]) -> Table:
    """Errors by kind of scale; the kept one is marked."""
    table = Table("task", "frames", *next(iter(fitted.values())).errors, title_justify="left")
    table.title = f"{title}: mean |log true - log predicted| of the frame left out"
    for name, one in fitted.items():
        cells = [f"{error:.4f}{' kept' if kind == one.kept else ''}" for kind, error in one.errors.items()]
        table.add_row(name, str(one.frames), *cells)
    return table
