"""The verb `triptych adapt`."""

from pathlib import Path

from tyro.conf import Positional

from triptych.commands.verbs import Device
from triptych.recipes.fields import read_options


def adapt(
    run: Positional[Path],
    target: Positional[str],
    out: Path,
    root: str = "",
    split: str = "train",
    images: int = 200,
    options: tuple[str, ...] = (),
    device: Device = "auto",
) -> None:
    """Adapt a finished run to images of another kind: new batch norm statistics (AdaBN), nothing is trained.

    Args:
        run: Run folder; it stays as it is.
        target: Folder of pictures, folder of a dataset, dataset.toml, or name of a dataset. Labels are not read.
        out: Run folder to create.
        root: Folder of a named dataset, or of the files of a dataset.toml.
        split: Split of the target; never the one to be scored.
        images: Number of images, spread evenly over the split, in passes of 8.
        options: Keyword arguments of the target's dataset, such as look=b.
        device: Where to run.
    """
    from dataclasses import replace

    from triptych.training.adapted_run import adapt_run, find_target

    found = find_target(str(target), root=root, split=split, options=read_options(options))
    adapt_run(run, replace(found, name="adabn", options={"images": images}), out, device=device)
    print(f"{out}: {run} with batch norm statistics of {target}")
