"""The verbs that use finished runs: `triptych evaluate`, `compare`, `convert`, `adapt` and `calibrate`."""

from pathlib import Path

from tyro.conf import Positional

from triptych.commands.verbs import Device
from triptych.recipes.option_words import read_options


def evaluate(
    run: Positional[Path],
    split: str = "",
    root: str = "",
    protocol: str = "",
    single_task: tuple[Path, ...] = (),
    limit: int = 0,
    constant: bool = True,
    confidence: bool = False,
    report: bool = True,
    overwrite: bool = False,
    device: Device = "auto",
) -> None:
    """Score a run on a split: one table, one JSON and the report page in the run folder.

    Args:
        run: Run folder, or an ONNX file of `triptych export`.
        split: Split to score; by default the recipe's test split, or its validation split where there is none.
            target-SPLIT is of the domain it adapts to.
        root: Folder of the data of a run that was received, or their description; by default the recipe's.
        protocol: Line of papers by whose rules it is scored, as for `triptych score`; by default the recipe's
            (data.protocol); none: each task's own numbers.
        single_task: Run folders of single-task networks to compute delta_mtl against; of several seeds the means
            count.
        limit: Score at most this many images; 0 scores all.
        constant: Also score the best constant prediction, which is fitted on 100 labelled training images.
        confidence: Also say how large errors are where the network is sure of itself and where it is not, on 50 images
            spread over the split, or on `limit` of them.
        report: Write report.html.
        overwrite: Replace scores of the same split by another protocol, or of more images than `limit`.
        device: Where to run.
    """
    from triptych.evaluation.run import evaluate_run
    from triptych.processes import is_first_launched
    from triptych.report.run import report_run

    scored = evaluate_run(
        run,
        split=split,
        root=root,
        protocol=protocol,
        single_task=single_task,
        limit=limit,
        constant=constant,
        confidence=confidence,
        overwrite=overwrite,
        device=device,
    )
    if not is_first_launched():
        return
    found = None
    if confidence:
        from triptych.evaluation.reliability import IMAGES, measure_reliability, reliability_table, write_reliability
        from triptych.terminal import terminal

        found = measure_reliability(scored.predictor, split=scored.split, images=limit or IMAGES)
        write_reliability(run, scored.split, found, scored.weights_sha256)
        terminal().print(reliability_table(found))
    if report:
        print(f"page to look at: {report_run(run, scored, found)}")


def compare(
    runs: Positional[tuple[Path, ...]],
    split: str = "",
    baseline: tuple[Path, ...] = (),
    single_task: tuple[Path, ...] = (),
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Compare runs: means over seeds, paired differences per image, delta_mtl, and what differs between the recipes.

    Args:
        runs: Run folders or exported files that `triptych evaluate` scored, or JSON files that `triptych score --out`
            wrote.
        split: Which evaluation to compare; by default the first that all have: test, else val, else another.
        baseline: Runs to compare the others with, seeds of one method; the first of `runs` by default.
        single_task: Run folders of single-task networks for delta_mtl; of several seeds the means count.
        out: JSON file to write the comparison to.
        overwrite: Whether `out` may replace a file, but not one that is compared.
    """
    paths = (*baseline, *runs)
    files = [path for path in paths if path.suffix == ".json"]
    networks = [path for path in paths if path not in files]
    if files and networks:
        raise ValueError(
            f"{files[0]} is a file of scores and {networks[0]} a network, which are not compared; save maps of the "
            f"network (`triptych predict {networks[0]} IMAGES --out MAPS`), score them as the others were (`triptych "
            "score MAPS TARGETS --out ours.json`), and compare the two files."
        )
    if files:
        from triptych.evaluation.compare_files import compare_scores, comparison_table
        from triptych.files import require_new, write_json
        from triptych.terminal import terminal

        if out is not None and out.resolve() in {path.resolve() for path in files}:
            raise ValueError(f"--out {out} is one of the files that are compared; name another.")
        require_new(out, overwrite)
        first, *others = files
        if not others or split or single_task:
            raise ValueError(
                f"{first} holds scores of saved maps, which are compared two files at a time, without --split and "
                "--single-task; name another file, as in `triptych compare theirs.json ours.json`."
            )
        compared = {other: compare_scores(first, other) for other in others}
        stems = [path.stem for path in compared.keys() | {first}]
        title = {path: path.stem if stems.count(path.stem) == 1 else str(path) for path in (first, *others)}
        for other, found in compared.items():
            terminal().print(comparison_table(found, title[first], title[other]))
        if out is not None:
            numbers = {
                str(other): {
                    task: {name: one._asdict() for name, one in each.numbers.items()} for task, each in found.items()
                }
                for other, found in compared.items()
            }
            images = {
                str(other): {
                    task: {"both": each.images, "baseline": each.scored[0], "other": each.scored[1]}
                    for task, each in found.items()
                }
                for other, found in compared.items()
            }
            write_json(out, {"baseline": str(first), "images": images, "differences": numbers})
        return
    from triptych.evaluation.compare import compare_runs

    compare_runs(runs, split=split, baseline=baseline, single_task=single_task, out=out, overwrite=overwrite)


def convert(
    family: Positional[str],
    checkpoint: Positional[Path],
    out: Path,
    tasks: tuple[str, ...] = (),
    auxiliary_tasks: tuple[str, ...] = (),
    classes: int = 0,
    order: tuple[str, ...] = (),
    orders: tuple[str, ...] = (),
    genotype: str = "",
    image_size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    normals_axes: tuple[str, str, str] | None = None,
    reference: Path | None = None,
    dataset: str = "folder",
    root: str = "",
    options: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Turn a published checkpoint into a run folder, with a report of every tensor.

    What the tensors do not tell is printed as "assumed"; where several values fit, the conversion is refused until one
    is given, or found with --reference. Class counts are read from the shapes.

    Args:
        family: Code base: atrc, densemtl, invpt, survey.
        checkpoint: File of tensors (.pth, .pkl, .ckpt, .safetensors); no code in it is run.
        out: Run folder to create.
        tasks: Tasks of the network; by default those that the tensors name. The order of training is --order.
        auxiliary_tasks: Tasks that only intermediate predictions have; by default those that the tensors name.
        classes: Classes of semseg to expect; they are read from the shapes.
        order: ATRC, InvPT, MTI-Net, NDDR: all tasks in the order of training, which numbers their tensors.
        orders: DenseMTL: the order in which a task joined the others' messages, as normals=depth,semseg.
        genotype: ATRC: nyud-w18, nyud-w48, pascal-w18, or rows of codes ("3344 4344 4334 3313").
        image_size: InvPT: height and width of the training images.
        mean: Mean that images were normalized with, where it is not the code base's own.
        std: Deviation that images were normalized with.
        normals_axes: Where the components of its normals point, such as left up backward; right down forward are ours.
        reference: .npz with `image` and raw outputs of the published network by task: open settings are tried against
            it, and the result must agree with it.
        dataset: What `triptych evaluate` scores the run on (`triptych list datasets`).
        root: Folder of the dataset.
        options: Keyword arguments of the dataset, such as classes=13.
        overwrite: Replace a folder that exists.
    """
    from triptych.conversion.run_folder import REPORT_FILE, convert_file
    from triptych.lookup import printable

    messages = {target: tuple(sources.split(",")) for target, _, sources in (each.partition("=") for each in orders)}
    given = {
        "order": order,
        "orders": messages,
        "genotype": genotype,
        "image_size": image_size,
        "mean": mean,
        "std": std,
    }
    report = convert_file(
        family,
        checkpoint,
        out,
        tasks=tasks,
        auxiliary_tasks=auxiliary_tasks,
        classes=classes,
        normals_axes=normals_axes or (),
        reference=reference,
        dataset=dataset,
        root=root,
        dataset_options=read_options(options),
        overwrite=overwrite,
        **{name: value for name, value in given.items() if value},
    )
    print(printable(report.summary))
    for assumption in report.assumed:
        print(printable(f"assumed: {assumption.line}"))
    print(f"every tensor: {out / REPORT_FILE}")


def adapt(
    run: Positional[Path],
    target: Positional[str],
    out: Path,
    root: str = "",
    split: str = "train",
    images: int = 200,
    shorter_side: int | None = None,
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
        images: Number of images, spread evenly over the split, in passes of 8; of each the middle, at most as large as
            in training.
        shorter_side: Height or width, whichever is less, that images are resized to before, as by `triptych predict`;
            by default as evaluation sees them.
        options: Keyword arguments of the target's dataset, such as look=b.
        device: Where to run.
    """
    from dataclasses import replace

    from triptych.training.adapted_run import adapt_run, find_target

    found = find_target(str(target), root=root, split=split, options=read_options(options))
    target_images = replace(found, name="adabn", options={"images": images})
    adapt_run(run, target_images, out, shorter_side=shorter_side, device=device)
    print(f"{out}: {run} with batch norm statistics of {target}")


def calibrate(
    run: Positional[Path],
    folder: Positional[Path],
    split: str = "all",
    shorter_side: int | None = None,
    device: Device = "auto",
) -> None:
    """Fit the scale of a run's depth on a few frames of another camera, and keep it where it helps.

    Args:
        run: Run folder.
        folder: Images with depth, as for `triptych data doctor`; two frames or more.
        split: Split of the folder.
        shorter_side: Height or width, whichever is less, that the network works at, as of `triptych predict`; by
            default the frames' own.
        device: Where to run.
    """
    from triptych.evaluation.calibrate import calibrate_run

    calibrate_run(run, folder, split=split, shorter_side=shorter_side, device=device)
