"""The verbs `triptych predict` and `app`."""

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from triptych.commands.verbs import Device
from triptych.extras import import_extra


def predict(
    run: Positional[str],
    images: Positional[tuple[Path, ...]] = (),
    out: Path = Path("predictions"),
    products: tuple[Literal["arrays", "maps", "pictures", "panels", "points"], ...] = (
        "arrays",
        "maps",
        "pictures",
        "panels",
        "points",
    ),
    shorter_side: int = 0,
    resize: bool = False,
    tile: int = 0,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    fov: float = 0.0,
    intrinsics: tuple[float, ...] = (),
    color_by: str = "image",
    overlay: bool = False,
    confidence: bool = False,
    precision: Literal["no", "bf16", "fp16", "auto"] = "no",
    batch: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    on_bad_sample: Literal["raise", "skip"] = "raise",
    render: bool = False,
    device: Device = "auto",
) -> None:
    """Predict images of any size: arrays, color pictures and, where the camera is known, point clouds; or videos.

    Args:
        run: Run folder, file of save_pretrained (.zip) or of `triptych export` (.onnx), or a name on the hub of
            Hugging Face.
        images: Image files or folders, and video files, of which videos are made; with --render they may be left out,
            and the test split is shown.
        out: Folder to write to.
        products: What to write: arrays/TASK/NAME.npy, maps/TASK/NAME.png (depth in 16-bit millimetres),
            pictures/TASK/NAME.png, panels/NAME.png, points/NAME.ply.
        shorter_side: Resize images to this shorter side for the network, and the maps back; 0 leaves them.
        resize: Resize images to the size of an exported file that takes one alone, or to which the run's recipe
            stretches images, and the maps back.
        tile: Side of square tiles in pixels for large images, which then go through in strips; 0 predicts the whole
            image at once.
        flip: Average with the mirrored image.
        scales: Average over these image scales.
        fov: Horizontal field of view in degrees, for point clouds.
        intrinsics: fx, fy, cx, cy in pixels, for point clouds.
        color_by: The map that colors the points: image, or a task.
        confidence: Also write NAME_confidence of each task, in 0..1; takes six more passes.
        overlay: Draw the maps of pictures and panels over the images.
        precision: Number format of the network; auto is bf16 where the processor or the GPU computes with it.
        batch: Predict up to this many images of one size, or frames of a video, together.
        overwrite: Replace existing predictions; where another network or other options made them, delete them all.
        resume: Resume where an earlier call ended: finished images (no videos) are kept.
        on_bad_sample: What an unreadable image does: end the call, or be named, counted and left out.
        render: Also write report.html with what the 3D-aware regularizer of the run renders: every task, the density's
            depth and opacity, and the view of cameras that stand aside.
        device: Where to run.
    """
    from triptych.data.predicted import find_originals
    from triptych.lookup import one_line
    from triptych.prediction import videos
    from triptych.prediction.outputs import predict_images
    from triptych.prediction.predictor import Predictor

    if not images and not render:
        raise ValueError("no images to predict; name files or folders (with --render the test split is shown instead).")
    clips = [path for path in images if path.suffix.lower() in videos.SUFFIXES and not path.is_dir()]
    if clips and resume:
        raise ValueError(
            f"{clips[0]} is a video, and only images are resumed; predict videos in a call of their own without resume."
        )
    predictor = Predictor.from_pretrained(
        run,
        tile=tile or None,
        flip=flip,
        scales=scales,
        shorter_side=shorter_side or None,
        resize=resize,
        precision=precision,
        device=device,
    )
    if resize and predictor.taken_size is None:
        why = f"{run} takes images as they are (--shorter-side resizes them)"
        raise ValueError(
            f"--resize has no effect: {'--shorter-side goes before it' if shorter_side else why}; leave it out."
        )
    shown = predictor
    if confidence:
        from triptych.prediction.confidence import Confident

        shown = Confident(predictor)
    pictures = [path for path in images if path not in clips]
    if clips:  # before images are predicted
        videos.check_videos(shown, clips, out, products=products, overwrite=overwrite)
    for folder in filter(Path.is_dir, pictures):
        if unread := find_originals(folder, videos.SUFFIXES):
            print(one_line(f"videos in {folder} are not read ({len(unread)}); name them, such as {unread[0]}"))
    if render:
        from triptych.report.renderings import render_run

        camera: dict[str, Any] = {"fov": fov or None, "intrinsics": intrinsics or None}
        render_run(predictor, Path(run), images, out, overwrite=overwrite, **camera)
    if pictures:
        predict_images(
            shown,
            pictures,
            out,
            products=products,
            color_by=color_by,
            overlay=overlay,
            fov=fov or None,
            intrinsics=intrinsics or None,
            batch=batch,
            overwrite=overwrite,
            resume=resume,
            on_bad_sample=on_bad_sample,
        )
    if clips:
        videos.predict_videos(
            shown,
            clips,
            out,
            products=products,
            overlay=overlay,
            batch_size=batch,
            overwrite=overwrite,
            on_bad_sample=on_bad_sample,
        )


def app(
    run: Positional[str],
    host: str = "127.0.0.1",
    port: int = 7860,
    longest_side: int = 1024,
    shorter_side: int = 0,
    max_mb: float = 20.0,
    device: Device = "auto",
) -> None:
    """Show a network in a browser: pictures or the camera in; maps, points in space and files out.

    Args:
        run: Run folder, file of save_pretrained (.zip) or of `triptych export` (.onnx), or a name on the hub of
            Hugging Face.
        host: Address to serve on; 0.0.0.0 lets other computers in, who are not asked for a password.
        port: Port to serve on; 0 takes a free one.
        longest_side: Shrink larger pictures to this longer side, in pixels.
        shorter_side: Height or width, whichever is less, that the network sees, in pixels; maps are resized back. 0:
            that of the picture.
        max_mb: Refuse files of more megabytes.
        device: Where to run.
    """
    if longest_side < 1 or max_mb <= 0:
        raise ValueError(f"longest_side is {longest_side} and max_mb {max_mb:g}; both must be above 0.")
    for package in ("starlette", "uvicorn"):
        import_extra(package, "app", "the app needs")
    from triptych.app.server import Limits, make_app, serve
    from triptych.data.limits import most_pixels
    from triptych.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(run, resize=True, shorter_side=shorter_side or None, device=device)
    limits = Limits(bytes=int(max_mb * 1e6), pixels=most_pixels(Limits.pixels), side=longest_side)
    served = make_app(predictor, title=Path(run).resolve().name if Path(run).exists() else run, limits=limits)
    serve(served, host=host, port=port, ready=lambda address: print(f"open {address} (Ctrl-C ends)", flush=True))
