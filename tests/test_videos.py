"""Videos in and out: every frame in its place, upright, in colors that stay, and damage that is named."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from export_runs import save_run
from PIL import Image
from torch import nn

from triptych.__main__ import main
from triptych.drawing.panels import color_maps, color_range
from triptych.prediction import videos
from triptych.prediction.predictor import Predictor
from triptych.prediction.videos import CODECS, VideoWriter, frame_rate, predict_videos, read_frames
from triptych.tasks import depth, semseg
from triptych.types import Output

TASKS = {"semseg": semseg(["dark", "bright"]), "depth": depth()}


class Brightness(nn.Module):
    """Bright is a class, and far."""

    tasks = TASKS

    def forward(self, image):
        grey = image.mean(dim=1, keepdim=True)
        return Output({"semseg": torch.cat([0.5 - grey, grey - 0.5], dim=1), "depth": 1 + 4 * grey}, [], [])


def frames(count=12, size=(48, 64)):
    """A bright square on a dark ground moves right."""
    made = []
    for i in range(count):
        frame = np.full((*size, 3), 40, np.uint8)
        frame[16:32, 2 * i : 2 * i + 16] = 220
        made.append(frame)
    return made


def write(path, made, rate=10, **options):
    with VideoWriter(path, Fraction(rate)) as writer:
        for frame in made:
            writer.write(frame)
    return path


def read(path):
    return [frame.pixels for frame in read_frames(path, lambda number, reason: pytest.fail(reason))]


def damage(path, number):
    """Overwrite the bytes of one frame."""
    with av.open(str(path)) as container:
        packets = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    _, position, size = sorted(packets)[number]
    content = bytearray(path.read_bytes())
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_frame_is_predicted_in_its_place(tmp_path, batch_size):
    made = frames()
    clip = write(tmp_path / "clip.mp4", made)
    said = []
    done = predict_videos(Predictor(Brightness()), [clip], tmp_path / "out", batch_size=batch_size, log=said.append)
    assert done["clip"].frames == len(made)
    assert "12 frames in " in said[0]
    assert "frames/s" in said[0]
    labels = [color_maps(TASKS["semseg"], [(frame[..., 0] > 128).astype(np.int64)])[0] for frame in made]
    shown = read(tmp_path / "out" / "pictures" / "semseg" / "clip.mp4")
    assert len(shown) == len(made)
    distance = np.abs(np.stack(labels)[:, None].astype(int) - np.stack(shown)).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=0).tolist() == list(range(len(made)))
    assert distance.diagonal().max() < 12  # of the codec
    assert frame_rate(tmp_path / "out" / "panels" / "clip.mp4") == 10
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"clip.mp4"}


@pytest.mark.parametrize("codec", CODECS)
def test_frames_keep_their_times(tmp_path, monkeypatch, codec):
    """Films of regular rates, and a recording that paused for three seconds."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    monkeypatch.setattr(videos, "CODECS", (codec,))

    def times(path):
        return [frame.time for frame in read_frames(path, lambda number, reason: pytest.fail(reason))]

    for rate in (10, Fraction(30000, 1001), Fraction(24000, 1001)):
        clip = write(tmp_path / "clip.mp4", frames(9), rate)
        assert times(clip) == pytest.approx([i / rate for i in range(9)], abs=1e-4)
        assert frame_rate(clip) == rate
    shown = [0, 0.03, 0.06, 0.1, 3, 3.05, 3.1]
    with VideoWriter(clip, Fraction(7)) as writer:
        for frame, time in zip(frames(len(shown)), shown, strict=True):
            writer.write(frame, Fraction(time))
    predict_videos(Predictor(Brightness()), [clip], tmp_path / "out", products=["panels"])
    assert times(tmp_path / "out/panels/clip.mp4") == pytest.approx(shown, abs=1e-4)
    left_out = []
    list(read_frames(damage(clip, 6), lambda number, reason: left_out.append(number)))
    assert left_out == [6]


def test_pixels_are_made_square(tmp_path):
    for ratio, size in ((Fraction(4, 3), (48, 85)), (Fraction(1, 2), (96, 64)), (Fraction(1, 90), (48, 64))):
        with av.open(str(tmp_path / "a.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = ratio
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode()])
        assert read(tmp_path / "a.mp4")[0].shape == (*size, 3)


def test_sizes_may_be_odd_and_only_chosen_products_are_written(tmp_path):
    clip = write(tmp_path / "clip.mkv", frames(3, (47, 61)))
    predict_videos(Predictor(Brightness()), [clip], tmp_path / "out", products=["arrays", "panels"])
    assert read(tmp_path / "out" / "panels" / "clip.mp4")
    assert not (tmp_path / "out" / "pictures").exists()
    with pytest.raises(ValueError, match="only pictures and panels"):
        predict_videos(Predictor(Brightness()), [clip], tmp_path / "out", products=["arrays"])
    with pytest.raises(FileExistsError, match="overwrite"):
        predict_videos(Predictor(Brightness()), [clip], tmp_path / "out")


def test_raises_for_a_frame_that_cannot_be_decoded(tmp_path):
    clip = write(tmp_path / "clip.mp4", frames())
    damage(clip, 7)
    with pytest.raises(ValueError, match=r"clip\.mp4: frame 7 cannot be decoded"):
        predict_videos(Predictor(Brightness()), [clip], tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    said = []
    done = predict_videos(Predictor(Brightness()), [clip], tmp_path / "out", on_bad_sample="skip", log=said.append)
    assert 7 in done["clip"].skipped
    assert any("skipped" in line and "frame 7 " in line for line in said)
    assert done["clip"].frames >= 7
    shown = list(read_frames(tmp_path / "out/panels/clip.mp4", lambda number, reason: pytest.fail(reason)))
    assert len(shown) == done["clip"].frames
    kept = [i / 10 for i in range(12) if i not in done["clip"].skipped]
    assert [frame.time for frame in shown] == pytest.approx(kept, abs=1e-4)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "cannot be read as a video"), (b"no video " * 100, "cannot be read as a video")]
)
def test_what_is_no_video_is_one_line(tmp_path, content, message):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        predict_videos(Predictor(Brightness()), [tmp_path / "clip.mp4"], tmp_path / "out")
    cut = write(tmp_path / "cut.mp4", frames())
    cut.write_bytes(cut.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        predict_videos(Predictor(Brightness()), [cut], tmp_path / "out")


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux([*stream.encode(sound), *stream.encode()])
    with pytest.raises(ValueError, match="holds no video"):
        predict_videos(Predictor(Brightness()), [tmp_path / "a.mp4"], tmp_path / "out")


def test_phones_hold_their_videos_sideways(tmp_path):
    """The file says by how much to turn: -90 is a quarter clockwise, which takes the top to the right."""
    top = np.zeros((32, 64, 3), np.uint8)
    top[:8] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.set_display_rotation(-90)
        frame = av.VideoFrame.from_ndarray(top, format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    (shown,) = read(tmp_path / "a.mp4")
    assert shown.shape == (64, 32, 3)
    assert shown[:, -8:].mean() > 200
    assert shown[:, :20].mean() < 50


def test_colors_of_metres_keep_their_range(tmp_path):
    task = TASKS["depth"]
    generator = np.random.default_rng(0)
    early, late = generator.uniform(1, 3, (1, 20, 30)), generator.uniform(2, 9, (1, 20, 30))
    late[0, 0, 0] = early[0, 0, 0]
    drawn = [color_maps(task.drawn_like([early]), [values])[0] for values in (early, late)]
    np.testing.assert_array_equal(drawn[0][0, 0], drawn[1][0, 0])
    np.testing.assert_allclose(drawn[0].astype(int), color_maps(task, [early])[0], atol=2)
    assert (color_maps(task, [late])[0][0, 0] != drawn[0][0, 0]).any()
    assert color_range(TASKS["semseg"], [np.zeros((2, 2), np.int64)]) is None


def test_the_verb_takes_videos_beside_images(tmp_path, capsys):
    run = save_run(tmp_path / "run")
    clip = write(tmp_path / "clip.mp4", frames(3, (32, 48)))
    assert main(["predict", str(run), str(clip), "--out", str(tmp_path / "out")]) == 0
    assert "3 frames in " in capsys.readouterr().out
    (tmp_path / "a").mkdir()
    Image.fromarray(frames(1, (32, 48))[0]).save(tmp_path / "a/0.png")
    unread = write(tmp_path / "a/unread.mp4", frames(1, (32, 48)))
    (tmp_path / "a/IMG_1.HEIC").write_bytes(b"")
    words = ["predict", str(run), str(tmp_path / "a"), "--out", str(tmp_path / "both"), "--products"]
    for video, product, message in (
        (tmp_path / "none.mp4", "pictures", "no video"),
        (clip, "arrays", "of videos only pictures and panels are made"),
    ):
        assert main([*words[:3], str(video), *words[3:], product]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "both").exists(), "images were predicted before what is wrong with videos is told"
    said = f"1 photographs in {tmp_path / 'a'} are not read, such as {tmp_path / 'a/IMG_1.HEIC'}; convert"
    with pytest.warns(UserWarning, match=re.escape(said)):
        assert main([*words, "arrays"]) == 0
    printed = capsys.readouterr().out
    assert f"are not read (1); name them, such as {unread}" in printed
    large = write(tmp_path / "large.mp4", frames(1, (96, 144)))
    assert main(["predict", str(run), str(large), "--out", str(tmp_path / "out"), "--products", "panels"]) == 0
    assert "large.mp4 has 96 x 144 pixels, and the network was trained on crops of 32 x 48" in capsys.readouterr().out


def test_memory_that_runs_out_says_what_to_lower(tmp_path, monkeypatch):
    def fill(image):
        raise MemoryError("Unable to allocate 8.00 TiB")

    predictor = Predictor(Brightness())
    monkeypatch.setattr(predictor.model, "forward", fill)
    with pytest.raises(MemoryError, match=r"memory ran out \(.*--batch, now 2"):
        predict_videos(predictor, [write(tmp_path / "a.mp4", frames(1))], tmp_path / "out", batch_size=2)


def test_videos_are_not_resumed_and_nothing_is_predicted_before_that_is_said(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "run"), "a.png", "clip.mp4", "--resume"]) != 0
    assert "clip.mp4 is a video, and only images are resumed" in capsys.readouterr().err
