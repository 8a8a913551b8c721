"""The verb `triptych app`."""

from pathlib import Path

from tyro.conf import Positional

from triptych.commands.verbs import Device

INSTALL = "python -m pip install -c constraints.txt -e '.[app]'"


def app(
    run: Positional[str],
    host: str = "127.0.0.1",
    port: int = 7860,
    longest_side: int = 1024,
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
        max_mb: Refuse files of more megabytes.
        device: Where to run.
    """
    if longest_side < 1 or max_mb <= 0:
        raise ValueError(f"longest_side is {longest_side} and max_mb {max_mb:g}; both must be above 0.")
    try:
        from triptych.app.server import Limits, make_app, serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise ImportError(f"the app needs the extra 'app', {error.name} is missing: {INSTALL}") from error
    from triptych.prediction.predictor import Predictor

    predictor = Predictor.from_pretrained(run, device=device)
    limits = Limits(bytes=int(max_mb * 1e6), side=longest_side)
    served = make_app(predictor, title=Path(run).resolve().name if Path(run).exists() else run, limits=limits)
    serve(served, host=host, port=port, ready=lambda address: print(f"open {address} (Ctrl-C ends)", flush=True))
