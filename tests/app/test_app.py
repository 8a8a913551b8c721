"""The app: pictures through the browser and past it, in parallel, too large, wrong: served or refused, never down."""

import http.client
import io
import json
import os
import socket
import struct
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
import uvicorn
from browser import Browser
from export_runs import save_run
from PIL import Image
from report.test_hostile_names import HOSTILE
from unchecked import shapes_unchecked

from triptych.__main__ import main
from triptych.app.pictures import Limits, Predicted, as_page, as_zip, predict_picture, predict_video, read_picture
from triptych.app.server import bind, make_app
from triptych.data.errors import DataError
from triptych.export import export_run
from triptych.prediction.calibration import Scale
from triptych.prediction.predictor import Predictor
from triptych.prediction.videos import VideoWriter, read_frames
from triptych.report.values import Example

PICTURE = HOSTILE[: HOSTILE.index("<svg")]
"""A name that fits into what the app shows of one."""
LIMITS = Limits(bytes=300_000, pixels=4_000_000, side=64, waiting=10)


@contextmanager
def serving(predictor, limits=LIMITS):
    """A running server, and its port."""
    taken = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(predictor, title=HOSTILE, limits=limits), log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        yield taken.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        taken.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    predictor = Predictor.load(save_run(tmp_path_factory.mktemp("app") / "run"))
    # Untrained, it would predict no depth above 0 almost anywhere.
    biases = [value for name, value in predictor.model.named_parameters() if "depth" in name and "bias" in name]
    torch.nn.init.constant_(biases[-1], 2.0)
    named = replace(predictor.tasks["semseg"], classes=tuple(f"{HOSTILE} {i}" for i in range(4)))
    predictor.tasks = predictor.tasks | {"semseg": named}
    return predictor


@pytest.fixture(scope="module")
def port(predictor):
    with serving(predictor) as port:
        yield port


def encode(size=(40, 48), form="PNG", **options):
    height, width = size
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, form, **options)
    return file.getvalue()


def claim(height, width):
    """A small PNG whose header speaks of another size."""
    real, head = encode(), b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return real[:12] + head + struct.pack(">I", zlib.crc32(head)) + real[33:]


def ask(port, body, path="/predict?name=a.png", method="POST", headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_a_picture_becomes_its_part_of_the_page(port, predictor):
    status, body = ask(port, encode((40, 48)))
    answer = json.loads(body)
    assert status == 200
    assert answer["text"].startswith("a.png: 48 x 40 pixels, predicted in ")
    assert all(f'data-map="{name} prediction"' in answer["article"] for name in predictor.tasks)
    assert (answer["cloud"]["width"], answer["cloud"]["height"]) == (48, 40)


def test_names_are_text(port):
    """Of pictures, classes and the network."""
    _, body = ask(port, encode(), path=f"/predict?name={quote(HOSTILE)}")
    answer = json.loads(body)
    page = ask(port, None, "/", "GET")[1].decode()
    assert "<svg onload" not in answer["article"] + answer["choice"] + page
    assert "&lt;svg onload" in answer["article"]  # a class
    assert "&lt;img src=x onerror" in answer["choice"]
    assert "&lt;svg onload" in page


def test_files_are_what_the_predictor_returns(port, predictor):
    status, body = ask(port, encode((40, 48)), path="/files")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        names = set(archive.namelist())
        depth = np.load(io.BytesIO(archive.read("arrays/depth/picture.npy")))
        assert b"comment field of view assumed: 60 degrees" in archive.read("points/picture.ply")
    places = [("arrays", "npy"), ("pictures", "png")]
    files = {f"{folder}/{name}/picture.{end}" for name in predictor.tasks for folder, end in places}
    assert names == files | {"panels/picture.png", "points/picture.ply"}
    expected = predictor(Image.open(io.BytesIO(encode((40, 48)))))["depth"]
    np.testing.assert_array_equal(depth, expected)


def test_no_name_of_a_task_takes_the_place_of_a_file(predictor):
    task, size = replace(predictor.tasks["depth"], name="panel"), (4, 6)
    example = Example("a.png", np.zeros((*size, 3), np.uint8), {"panel": np.ones((1, *size), np.float32)}, {}, None)
    with zipfile.ZipFile(io.BytesIO(as_zip(Predicted(example, size, 0.0), {"panel": task}))) as archive:
        names = archive.namelist()
    folders = ["arrays/panel", "panels", "pictures/panel", "points"]
    assert sorted(name.rpartition("/")[0] for name in names) == folders


def test_confidence_comes_on_demand(port, predictor):
    for path, found in (
        (
            "predict",
            lambda body: [name for name in predictor.tasks if f"{name}_confidence prediction" in body.decode()],
        ),
        ("files", lambda body: [name for name in predictor.tasks if f"arrays/{name}_confidence/".encode() in body]),
    ):
        for asked, expected in ((0, []), (1, list(predictor.tasks))):
            status, body = ask(port, encode(), path=f"/{path}?confidence={asked}")
            assert (status, found(body)) == (200, expected)


def film(folder, frames=4, size=(40, 48)):
    path = folder / "clip.mp4"
    generator = np.random.default_rng(0)
    with VideoWriter(path, Fraction(10)) as writer:
        for _ in range(frames):
            writer.write(generator.integers(0, 255, (*size, 3), np.uint8))
    return path.read_bytes()


def test_a_video_becomes_one_of_all_maps(predictor, tmp_path):
    limits = Limits(side=32, frames=3)
    with serving(predictor, limits) as port:
        status, body = ask(port, film(tmp_path, 2), path="/video?name=clip.mp4")
        (tmp_path / "maps.mp4").write_bytes(body)
        maps = list(read_frames(tmp_path / "maps.mp4", lambda number, reason: pytest.fail(reason)))
        exact, longer = (predict_video(predictor, film(tmp_path, frames), "clip.mp4", limits) for frames in (3, 4))
        for wrong, message in ((b"", "cannot be read as a video"), (encode(), "cannot be read as a video")):
            refused, answer = ask(port, wrong, path="/video?name=clip.mp4")
            error = json.loads(answer)["error"]
            assert (refused, "/" in error) == (400, False)  # no folder of the server is told
            assert error.startswith("clip.mp4")
            assert message in error
    assert (status, len(maps)) == (200, 2)
    assert ["the first 3 alone" in text for _, text in (exact, longer)] == [False, True]
    assert maps[0].pixels.shape[1] > (1 + len(predictor.tasks)) * 30  # the frame and its maps, at most 32 wide each
    (tmp_path / "longer.mp4").write_bytes(longer[0])
    assert len(list(read_frames(tmp_path / "longer.mp4", lambda number, reason: None))) == limits.frames


def test_a_playlist_opens_no_other_file(port, tmp_path):
    film(tmp_path)
    playlist = f"#EXTM3U\n#EXTINF:1,\n{(tmp_path / 'clip.mp4').as_uri()}\n#EXT-X-ENDLIST\n"
    assert ask(port, playlist.encode(), path="/video")[0] == 400


def test_eight_at_once_are_served(port):
    pictures = [encode((20 + i, 30)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(port, body), pictures))
    assert [status for status, _ in answers] == [200] * 8
    assert [json.loads(body)["cloud"]["height"] for _, body in answers] == [20 + i for i in range(8)]


def test_beyond_the_queue_are_told_to_come_back(predictor):
    started, free = threading.Event(), threading.Event()

    class Slow(Predictor):
        def predict(self, image, **options):
            started.set()
            free.wait(30)
            return super().predict(image, **options)

    slow = Slow(predictor.model, recipe=predictor.recipe)
    with serving(slow, Limits(waiting=1)) as port, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, port, encode())
        assert started.wait(30)
        status, body = ask(port, encode())
        free.set()
        assert status == 503
        assert "try again" in json.loads(body)["error"]
        assert first.result()[0] == 200
        assert ask(port, encode())[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "nothing was sent"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 400, "no picture"),
        (os.urandom(2000), 400, "no picture"),
        (encode((40, 48))[:600], 400, "no picture"),
        (encode((2001, 2000), "PNG", compress_level=9)[:200], 400, "at most 4 million"),
        (claim(10000, 20000), 400, "20000 x 10000 pixels; at most 4 million"),
        (bytes(LIMITS.bytes + 1), 413, "more than 0.3 MB"),
        (bytes(6 * LIMITS.bytes), 413, "more than 0.3 MB"),
    ],
    ids=[
        "empty",
        "postscript",
        "noise",
        "cut off",
        "too many pixels",
        "pixels for Pillow",
        "too large",
        "far too large",
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(port, body, status, message):
    given, answer = ask(port, body)
    error = json.loads(answer)["error"]
    assert (given, "\n" in error) == (status, False)
    assert message in error
    assert ask(port, encode())[0] == 200  # and the next is served


def test_pages_of_other_sites_are_refused(port):
    assert ask(port, encode(), headers={"Origin": "http://evil.example"})[0] == 403
    assert ask(port, encode(), headers={"Origin": f"http://127.0.0.1:{port}"})[0] == 200


def test_a_network_that_fails_does_not_end_the_server(predictor):
    class Broken(Predictor):
        def predict(self, image, **options):
            raise RuntimeError("out of memory\nwith details")

    with serving(Broken(predictor.model, recipe=predictor.recipe)) as port:
        for _ in range(2):
            status, body = ask(port, encode())
            assert status == 500
            assert "RuntimeError: out of memory)" in json.loads(body)["error"]
        assert ask(port, None, "/", "GET")[0] == 200


def test_a_picture_that_memory_has_no_room_for_is_refused(predictor):
    class Full(Predictor):
        def predict(self, image, **options):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with serving(Full(predictor.model, recipe=predictor.recipe)) as port:
        status, body = ask(port, encode())
        assert status == 413
        assert json.loads(body)["error"].endswith("send a smaller picture.")


def test_large_pictures_are_shrunk_and_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture, sent = read_picture(encode((100, 200), "JPEG", exif=exif), LIMITS)
    assert (tuple(picture.shape), sent) == ((3, 64, 32), (200, 100))
    with pytest.raises(DataError, match=r"at most 0\.01 million"):
        read_picture(encode((101, 100)), Limits(pixels=10_000))


def test_a_file_of_one_large_size_sees_no_enlarged_pictures(predictor):
    class Large(Predictor):
        fixed_size = (90, 120)

        def predict(self, image, **options):
            seen.append(tuple(image.shape[1:]))
            return {}

    seen = []
    for size in ((180, 240), (40, 48)):
        predict_picture(Large(predictor.model, recipe=predictor.recipe), encode(size), "a.png", LIMITS)
    assert seen == [(3, 90, 120), (3, 40, 48)]


def test_metres_of_another_camera_do_not_depend_on_the_size_that_pictures_are_shrunk_to(predictor):
    picture, limits = encode((80, 120)), replace(LIMITS, side=60)
    plain = predict_picture(predictor, picture, "a.png", limits).example.predictions["depth"]
    options = {"recipe": predictor.recipe, "calibration": {"depth": Scale(2.0, 1.0, (80, 120), (80, 120))}}
    calibrated = predict_picture(Predictor(predictor.model, **options), picture, "a.png", limits)
    np.testing.assert_allclose(calibrated.example.predictions["depth"], plain, rtol=1e-6)  # half as large, twice as far
    assert not calibrated.doubts

    options["calibration"] = {"depth": Scale(2.0, 1.0, (200, 300), (200, 300))}
    with pytest.warns(UserWarning, match="depth was calibrated on"):
        other = predict_picture(Predictor(predictor.model, **options), picture, "a.png", limits)
    assert (
        "; depth was calibrated on images that the network saw at 200 x 300, and"
        in as_page(other, predictor.tasks)["text"]
    )


def test_pictures_far_from_the_size_of_training_are_named(predictor, tmp_path):
    """As `triptych predict` names them, with the option that cures it."""
    limits, picture = replace(LIMITS, side=200), encode((100, 150))  # trained on 32 x 48
    predicted = predict_picture(predictor, picture, "a.png", limits)
    assert "a.png has 100 x 150 pixels" in predicted.doubts
    assert "--shorter-side" in predicted.doubts
    small = Predictor(predictor.model, recipe=predictor.recipe, shorter_side=32)
    predicted = predict_picture(small, picture, "a.png", limits)
    assert not predicted.doubts
    expected = small(read_picture(picture, limits)[0])["depth"]
    np.testing.assert_array_equal(predicted.example.predictions["depth"], expected)
    _, text = predict_video(predictor, film(tmp_path, 1, size=(100, 150)), "a.mp4", limits)
    assert "--shorter-side" in text


def test_max_pixels_is_the_limit_of_the_app(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_MAX_PIXELS", "")
    served = []
    monkeypatch.setattr("triptych.app.server.serve", lambda app, **options: None)
    monkeypatch.setattr("triptych.app.server.make_app", lambda predictor, limits, **options: served.append(limits))
    run = save_run(tmp_path / "run")
    for option in ((), ("--max-pixels", "90000000")):
        assert main(["app", str(run), *option]) == 0
    assert [limits.pixels for limits in served] == [Limits.pixels, 90_000_000]


@pytest.mark.parametrize("outputs", ["maps", "raw"])
def test_a_file_of_one_size_takes_any_picture(tmp_path, outputs):
    with shapes_unchecked():
        export_run(save_run(tmp_path / "run"), tmp_path / "model.onnx", outputs=outputs, images=1)
        predictor = Predictor.load(tmp_path / "model.onnx", resize=True)
        with serving(predictor) as port:
            status, body = ask(port, encode((30, 64)))
        assert (status, json.loads(body)["text"][:25]) == (200, "a.png: 64 x 30 pixels, pr")
        picture, _ = read_picture(encode((30, 64)), LIMITS)
        maps = predictor(picture)
    assert maps["semseg"].shape == (30, 64)
    np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=0), 1, atol=1e-5)


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys, monkeypatch):
    run = save_run(tmp_path / "run")
    with monkeypatch.context() as windows, bind("127.0.0.1", 0) as first:
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        windows.setattr(os, "name", "nt")
        with bind("127.0.0.1", 0) as second:
            assert not second.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    with bind("127.0.0.1", 0) as taken:
        assert main(["app", str(run), "--port", str(taken.getsockname()[1])]) == 2
    assert "choose another --port" in capsys.readouterr().err
    with pytest.raises(OSError, match=r"port 65537 \(ports are 0 to 65535\)"):  # the system would take port 1
        bind("127.0.0.1", 2**16 + 1)
    assert main(["app", str(tmp_path / "none.onnx"), "--port", "0"]) == 2


@pytest.fixture(scope="module")
def opened(port, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with Browser(folder / "profile") as browser:
        browser.open(f"http://127.0.0.1:{port}/")
        yield browser, folder


def count(browser):
    return browser.run("Number(root.dataset.predicted ?? 0)")


def test_the_browser_uploads_files_and_draws_them(opened, predictor):
    browser, folder = opened
    paths = []
    for i, size in enumerate([(40, 48), (64, 50)]):
        paths.append(folder / f"{PICTURE} {i}.png")
        paths[-1].write_bytes(encode(size))
    before = count(browser)
    browser.choose_files("[name=pictures]", *paths)
    browser.wait(f"Number(root.dataset.predicted) === {before + 2} && root.dataset.points === 'shown'")
    assert f"{PICTURE} 1.png: 50 x 64 pixels" in browser.run("document.querySelector('.ask [role=status]').textContent")
    shown = "[...document.querySelectorAll('article.example:not([hidden]) img[data-map]')]"
    assert browser.run(f"{shown}.every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.run(f"{shown}.length") == 1 + len(predictor.tasks)
    browser.wait("Number(document.querySelector('.stage canvas').dataset.drawn) > 100")
    browser.run("part('opacity').value = 0.25; part('opacity').dispatchEvent(new Event('input'))")
    assert browser.run("layers[1].style.opacity") == "0.25"
    assert browser.run("layers[1].src.startsWith('data:image/')")
    browser.run("document.querySelector('.strip button').click()")
    assert browser.run("articles().map((article) => article.hidden)")[-2:] == [before > 0, True]
    browser.run("part('files').click()")
    browser.wait("root.dataset.downloaded?.endsWith(' 0.zip')")
    assert browser.run("root.dataset.hacked === undefined")


def test_the_browser_says_why_a_file_is_refused(opened):
    browser, folder = opened
    wrong, film, large, right = (folder / name for name in ("notes.txt", "no.MKV", "large.png", "right.png"))
    wrong.write_text("no picture")
    film.write_text("no video")
    large.write_bytes(bytes(LIMITS.bytes + 1))
    right.write_bytes(encode())
    before = count(browser)
    browser.choose_files("[name=pictures]", wrong, film, large, right)
    browser.wait(f"Number(root.dataset.predicted) === {before + 1} && !document.querySelector('.ask.busy')")
    said = "document.querySelector('.ask [role=status].bad')?.textContent ?? ''"
    browser.wait(f"({said}).includes('large.png')")
    assert "notes.txt: this is no picture" in browser.run(said)
    lines = browser.run(said).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("no.MKV cannot be read as a video")
    assert lines[2].startswith("large.png has 0.3 MB; at most 0.3 MB")


def test_the_browser_shows_a_video_and_confidence(opened, tmp_path):
    browser, folder = opened
    film(folder)
    browser.choose_files("[name=pictures]", folder / "clip.mp4")
    browser.wait("root.dataset.films === '1' && film.querySelector('video').videoWidth > 48")
    assert browser.run("document.querySelector('.ask [role=status]').textContent").startswith("clip.mp4: 4 frames, ")
    before = count(browser)
    (folder / "sure.png").write_bytes(encode())
    browser.run("part('confidence').click()")
    browser.choose_files("[name=pictures]", folder / "sure.png")
    browser.wait(f"Number(root.dataset.predicted) === {before + 1}")
    browser.run("part('confidence').click()")
    assert browser.run("articles().at(-1).querySelectorAll('img[data-map*=\"_confidence\"]').length") > 0


def test_the_camera_is_predicted(opened):
    browser, _ = opened
    before = count(browser)
    browser.run("part('camera').click()")
    browser.wait("video.videoWidth > 0 && !video.hidden")
    browser.run("part('shoot').click()")
    browser.wait(f"Number(root.dataset.predicted) === {before + 1}")
    examples = browser.run("articles().length")
    browser.run("part('live').click()")
    browser.wait(f"Number(root.dataset.predicted) >= {before + 4}")
    assert browser.run("articles().length") == examples + 1  # each takes the place of the last
    browser.run("part('live').click()")
    browser.run("part('camera').click()")
    assert browser.run("video.hidden && stream === null")


def test_nothing_is_wider_than_a_phone(opened):
    browser, folder = opened
    if count(browser) == 0:
        (folder / "one.png").write_bytes(encode())
        browser.choose_files("[name=pictures]", folder / "one.png")
        browser.wait("root.dataset.predicted === '1'")
    assert browser.run("document.querySelector('form.ask').contains(part('confidence'))")
    browser.resize(390, 844, phone=True)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    if "TRIPTYCH_SCREENSHOTS" in os.environ:
        browser.screenshot(Path(os.environ["TRIPTYCH_SCREENSHOTS"]) / "phone.png", whole=True)
        browser.resize(1280, 1000)
        browser.screenshot(Path(os.environ["TRIPTYCH_SCREENSHOTS"]) / "desk.png", whole=True)
