"""The server of the app: a page, and an answer to every upload, valid or not.

One picture is predicted at a time; others wait, and beyond `Limits.waiting` they are refused (503).
A picture is the body of a request, as `curl --data-binary @photo.jpg http://127.0.0.1:7860/predict` sends it. With
`?confidence=1` maps of confidence come along.
"""

import os
import socket
from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from triptych.app.pictures import Limits, as_page, as_zip, predict_picture, predict_video
from triptych.machine import OutOfMemoryError, memory_advice
from triptych.prediction.confidence import Confident, has_views
from triptych.prediction.image_files import depth_task
from triptych.prediction.predictor import Predictor
from triptych.prediction.videos import SUFFIXES
from triptych.report.engine import Markup, element, join, render_page
from triptych.report.examples import STAGE, show_strip
from triptych.report.page import ASSUMED_FIELD_OF_VIEW

HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
PATIENCE = 60.0
"""Seconds within which an upload has to arrive."""

Work = Callable[[Predictor, bytes, str, Limits], Response]
"""Function that answers an upload: network, bytes, file name and limits in, a response out."""


def make_app(predictor: Predictor, *, title: str, limits: Limits | None = None) -> Starlette:
    """The app of a network: `GET /` is the page, `POST /predict` answers with JSON for it, `POST /files` with a zip,
    `POST /video` with a video of the maps.

    Errors are answered with a status and `{"error": "one line"}`.
    """
    chosen = limits or Limits()
    page = make_page(predictor, title=title, limits=chosen)
    turn = anyio.Semaphore(1)  # two at a time would be slower, and need twice the memory
    present = 0

    async def show(request: Request) -> Response:
        return HTMLResponse(page, headers=HEADERS)

    def answering(work: Work) -> Callable[[Request], Any]:
        async def predict(request: Request) -> Response:
            nonlocal present
            _check_origin(request)
            if present >= chosen.waiting:
                raise HTTPException(503, f"{present} files are waiting already; try again in a moment.")
            asked = request.query_params
            present += 1
            try:
                data = await read_body(request, chosen.bytes)
                used = Confident(predictor) if asked.get("confidence") == "1" else predictor
                async with turn:
                    with memory_advice("send a smaller picture"):
                        return await anyio.to_thread.run_sync(
                            work, used, data, asked.get("name", "picture")[:80], chosen
                        )
            finally:
                present -= 1

        return predict

    return Starlette(
        routes=[
            Route("/", show),
            Route("/predict", answering(_json), methods=["POST"]),
            Route("/files", answering(_zip), methods=["POST"]),
            Route("/video", answering(_video), methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refuse,
            ValueError: _refuse_picture,
            OutOfMemoryError: _refuse_large,
            Exception: _fail,
        },
    )


async def read_body(request: Request, most: int) -> bytes:
    """Read the body of a request of at most `most` bytes.

    A larger one is read further, up to a limit, and dropped: browsers show an answer only after sending everything.
    """
    received, parts = 0, []
    with anyio.move_on_after(PATIENCE) as patience:
        try:
            async for part in request.stream():
                received += len(part)
                parts.append(part)
                if received > most:
                    parts.clear()
                if received > 8 * most:
                    break
        except ClientDisconnect as error:
            raise HTTPException(400, "the sender left.") from error
    if patience.cancelled_caught:
        raise HTTPException(408, f"the file did not arrive within {PATIENCE:.0f} s; send it again.")
    if received > most:
        raise HTTPException(413, f"the file has more than {most / 1e6:g} MB; send a smaller one.")
    return b"".join(parts)


def serve(app: Starlette, *, host: str, port: int, ready: Callable[[str], None] = print) -> None:
    """Serve until interrupted; `ready` is called with the address. Port 0 takes any that is free."""
    taken = bind(host, port)
    address = f"[{host}]" if ":" in host else host
    ready(f"http://{address}:{taken.getsockname()[1]}")
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=5, server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[taken])


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address; `OSError` in one line where that fails."""
    bound = None
    try:
        if port not in range(2**16):  # the system would use the number modulo 65536
            raise OverflowError("ports are 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if os.name == "posix":  # on Windows it lets two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(64)  # clients may connect as soon as the address is shown
    except (OSError, OverflowError) as error:
        if bound is not None:
            bound.close()
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"cannot serve on {host}, port {port} ({reason}); choose another --port or --host.") from error
    return bound


_CHOOSE = Markup("""<label class="drop"><input type="file" name="pictures" accept="image/*,video/*" multiple>
<strong>Choose pictures or a video</strong> <span>or drop them here</span></label>
<div class="camera"><button type="button" name="camera">Use the camera</button>
<span hidden><button type="button" name="shoot">Take a picture</button>
<label class="check"><input type="checkbox" name="live"> Live</label></span></div>
<video muted playsinline hidden></video>""")

_SURE = Markup("""<label class="check"><input type="checkbox" name="confidence"> How sure it is, too (takes seven times
as long)</label>""")

_SAID = Markup("""<p role="status" aria-live="polite"></p>
<noscript><p>This page needs JavaScript to send pictures.</p></noscript>""")

_FILM = Markup("""<div class="film card" hidden><video controls loop muted playsinline></video>
<p><a>Download the video</a></p></div>""")

_OVERLAY = Markup(f"""<div class="overlay stage card" hidden><div class="layers"><img alt="The picture">
<img alt="The map over it"></div>
<div class="controls"><h3>Over the picture</h3>
<label>Map <select name="layer"></select></label>
<label>Opacity <input type="range" name="opacity" min="0" max="1" step="0.01" value="0.6"></label>
<div class="buttons"><button type="button" name="files">Download all (.zip)</button></div>
<p>Arrays, colors, a panel and, where there is depth, points in space of a camera that is assumed to see
{ASSUMED_FIELD_OF_VIEW:g} degrees across the width.</p></div></div>""")


def make_page(predictor: Predictor, *, title: str, limits: Limits) -> str:
    """Make the page of a network; it sends requests to its own server only."""
    tasks = predictor.tasks
    model = predictor.recipe.model
    size, shorter = predictor.taken_size, predictor.shorter_side
    sees = f"pictures resized to {size[1]} x {size[0]}" if size else f"at most {limits.side} pixels a side"
    facts = {
        "Network": f"{model.backbone} + {model.decoder}",
        "Predicts": ", ".join(tasks),
        "Sees": f"{sees}, resized to {shorter} on the shorter side" if shorter else sees,
        "Takes": f"files up to {limits.bytes / 1e6:g} MB, the first {limits.frames} frames of videos",
    }
    stage = STAGE if depth_task(tasks) is not None else Markup()
    sure = _SURE if has_views(predictor) else Markup()
    ask = join([element("form", _CHOOSE, sure, _SAID, class_="ask card", novalidate=True), _FILM])
    results = element("div", show_strip([]), _OVERLAY, stage, class_="arriving", hidden=True)
    return render_page(
        title,
        {"ask": ("Pictures", ask), "results": ("Predictions", join([results]))},
        lead="Pictures go to the computer that runs this app, are predicted there, and are not kept.",
        facts=facts,
        data={"limit": limits.bytes, "videos": SUFFIXES},
        script=_asset("app.js"),
        style=_asset("app.css"),
        allowed="; connect-src 'self'; media-src blob:",
        closing="It talks to its own server alone.",
    )


def _asset(name: str) -> str:
    return (resources.files("triptych.app") / "assets" / name).read_text(encoding="utf-8")


def _json(predictor: Predictor, data: bytes, name: str, limits: Limits) -> Response:
    predicted = predict_picture(predictor, data, name, limits)
    return JSONResponse(as_page(predicted, predictor.tasks), headers=HEADERS)


def _zip(predictor: Predictor, data: bytes, name: str, limits: Limits) -> Response:
    predicted = predict_picture(predictor, data, name, limits)
    return Response(as_zip(predicted, predictor.tasks), media_type="application/zip", headers=HEADERS)


def _video(predictor: Predictor, data: bytes, name: str, limits: Limits) -> Response:
    film, text = predict_video(predictor, data, name, limits)
    # Headers are Latin-1, names are not.
    return Response(film, media_type="video/mp4", headers=HEADERS | {"X-Said": quote(text)})


def _check_origin(request: Request) -> None:
    """Refuse requests from pages of other sites, which could use a visitor's browser to send pictures here."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise HTTPException(403, "this request comes from a page of another site; open the app itself.")


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": " ".join(text.split())}, status, headers=HEADERS)


async def _refuse(request: Request, error: Any) -> Response:
    return _error(error.status_code, error.detail)


async def _refuse_picture(request: Request, error: Any) -> Response:
    return _error(400, str(error))


async def _refuse_large(request: Request, error: Any) -> Response:
    return _error(413, str(error))


async def _fail(request: Request, error: Exception) -> Response:
    """Answer an unexpected error in one line; uvicorn writes the traceback."""
    reason = str(error).partition("\n")[0][:200]
    return _error(500, f"the network failed on this file ({type(error).__name__}: {reason}); the server goes on.")
