"""Files of video: their times, their frames, what is wrong with them, and what is written."""

import gzip
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_clips import cut, moving, save_video, spoil
from PIL import Image

from diffusab_core.data import video
from diffusab_core.data.pixels import UnusableImage
from diffusab_core.data.places import ImagesError
from diffusab_core.data.video import lay_grid, read_frames, read_timeline, strip, to_levels, write_clip

OPENCV = Path("/usr/share/doc/opencv-doc")
KINDS = {
    "x.mp4": {}, "x.mov": {}, "x.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"}, "b.mkv": {},
    "x.webm": {"codec": "libvpx-vp9", "pix_fmt": "gbrp", "lossless": "1"},
}  # fmt: skip


def read(path):
    timeline = read_timeline(path)
    return read_frames(path, timeline, range(len(timeline.stamps)))


@pytest.mark.parametrize("name", KINDS)
def test_lossless_files_give_their_pixels_and_times_back(tmp_path, name):
    frames = moving(20)
    path = save_video(tmp_path / name, frames, **KINDS[name])
    timeline = read_timeline(path)
    assert timeline.size == (48, 64)
    np.testing.assert_allclose(timeline.times - timeline.times[0], np.arange(20) / 25, atol=1e-3)
    assert np.array_equal(read_frames(path, timeline, range(20)), frames)
    some = [17, 3, 3, 11]  # any order, and from the middle
    assert np.array_equal(read_frames(path, timeline, some), frames[some])


@pytest.mark.parametrize(("name", "codec"), [("x.avi", "mpeg4"), ("h.avi", "libx264"), ("x.mp4", "libx264")])
def test_files_with_a_loss_are_close_and_the_middle_is_the_same_as_from_the_start(tmp_path, name, codec):
    frames = moving(40)
    more = {"g": "8"} if codec == "libx264" else {"qscale": "1", "flags": "qscale", "g": "8"}
    path = save_video(tmp_path / name, frames, codec=codec, pix_fmt="yuv420p", **more)
    timeline, whole = read_timeline(path), read(path)
    assert len(whole) == 40
    errors = np.abs(whole.astype(int) - frames).mean((1, 2, 3))
    assert errors.max() < 6  # a quarter of the colour
    # A frame is nearer to its own picture than to its neighbours'.
    assert np.abs(whole[:-1].astype(int) - frames[1:]).mean() > 2 * errors.mean()
    for start in (1, 9, 22, 37):
        assert np.array_equal(read_frames(path, timeline, range(start, start + 3)), whole[start : start + 3])


def test_frames_with_each_others_time_stamps_are_told_apart_by_their_order(tmp_path):
    """OpenCV's box.mp4 is such a file: stamps in the order of decoding, which an AVI has too."""
    frames = moving(24)
    path = save_video(tmp_path / "x.avi", frames, codec="libx264", pix_fmt="yuv444p", crf="4", bf="3")
    with av.open(str(path)) as opened:
        stamps = [frame.pts for frame in opened.decode(video=0)]
    assert stamps != sorted(stamps), "the file is not what this test is about"
    found = read(path)
    assert len(found) == 24
    assert np.abs(found.astype(int) - frames).mean() < 2 < np.abs(found[:-1].astype(int) - frames[1:]).mean()


def test_animations_are_read_from_their_start_with_their_transparency_white(tmp_path):
    pictures = [Image.new("RGBA", (20, 10), (255, 0, 0, 0))]
    for i in range(1, 4):
        pictures.append(pictures[-1].copy())
        pictures[-1].paste((0, 0, 255, 255), (4 * i, 0, 4 * i + 4, 10))
    pictures[0].save(tmp_path / "x.gif", save_all=True, append_images=pictures[1:], duration=[40, 40, 400, 40])
    timeline = read_timeline(tmp_path / "x.gif")
    np.testing.assert_allclose(timeline.times, [0, 0.04, 0.08, 0.48])
    last = read_frames(tmp_path / "x.gif", timeline, [3])[0]
    expected = Image.new("RGBA", (20, 10), "white")
    expected.alpha_composite(pictures[3])
    assert np.array_equal(last, np.asarray(expected.convert("RGB")))
    # What is on the screen every 40 ms: the third picture stays for ten of them.
    assert lay_grid(timeline.times).tolist() == [0, 1, *[2] * 10, 3]


def test_a_turned_film_is_upright(tmp_path):
    frames = moving(3, 32, 48)
    path = save_video(tmp_path / "x.mp4", frames, turned=90)
    assert read_timeline(path).size == (48, 32)
    found = read(path)
    assert np.array_equal(found, np.rot90(frames, 1, axes=(1, 2))) or np.array_equal(
        found, np.rot90(frames, -1, axes=(1, 2))
    )
    # Which of the two: FFmpeg's displays turn a picture counter-clockwise by its angle.
    with av.open(str(path)) as opened:
        angle = next(opened.decode(video=0)).rotation
    assert np.array_equal(found, np.rot90(frames, round(angle / 90), axes=(1, 2)))


def test_colours_of_a_film_without_a_matrix_are_those_of_its_size(tmp_path):
    """A saturated green of BT.709, read as BT.601, would be off by more than ten levels."""
    green = np.zeros((2, 720, 16, 3), np.uint8) + np.array([30, 200, 40], np.uint8)
    for height, matrix in ((720, "ITU709"), (64, "ITU601")):
        path = tmp_path / f"{height}.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": "0"})
            stream.height, stream.width, stream.pix_fmt = height, 16, "yuv444p"
            for pixels in green[:, :height]:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame = frame.reformat(format="yuv444p", dst_colorspace=matrix)
                frame.colorspace = 2  # not said in the file
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        assert np.abs(read(path).astype(int) - green[:, :height]).max() <= 2, height


def test_constant_rates_give_frames_as_stored_whatever_containers_round():
    for rate, tick in ((25, 1e-3), (30000 / 1001, 1e-3), (30, 1e-2), (24, 1 / 12800)):
        times = np.round(np.arange(200) / rate / tick) * tick
        assert lay_grid(times).tolist() == list(range(200))
        assert lay_grid(times, fps=rate).tolist() == list(range(200))
        half = lay_grid(times, fps=rate / 2)
        assert len(half) == 100
        assert np.abs(half - 2 * np.arange(100)).max() <= 1  # a tick of 10 ms is a third of a frame at 30
        if tick < 1e-2:
            assert half.tolist() == list(range(0, 200, 2))


def test_variable_rates_are_read_by_their_time_stamps():
    times = np.array([0, 0.04, 0.08, 0.28, 0.32, 0.36])  # the third frame stays for 0.2 s
    assert lay_grid(times).tolist() == [0, 1, 2, 2, 2, 2, 2, 3, 4, 5]
    assert lay_grid(times, fps=12.5).tolist() == [0, 2, 2, 2, 4]
    assert lay_grid(np.array([0.5])).tolist() == [0]
    with pytest.raises(UnusableImage, match=r"13\.89 frames a second, fewer than the 25"):
        lay_grid(times, fps=25)


def test_a_file_of_variable_rate_is_sampled_at_the_right_times(tmp_path):
    frames, times = moving(12), [0, 40, 80, 120, 160, 400, 440, 480, 720, 760, 800, 840]
    path = save_video(tmp_path / "x.mp4", frames, times_ms=times)
    timeline = read_timeline(path)
    np.testing.assert_allclose(1000 * timeline.times, times)
    clip = read_frames(path, timeline, lay_grid(timeline.times, fps=12.5))
    ticks = [max(i for i, t in enumerate(times) if t <= 80 * k) for k in range(11)]
    assert np.array_equal(clip, frames[ticks])


BROKEN = {
    "empty": ("x.mp4", lambda p: p.write_bytes(b""), "the file is empty"),
    "text": ("x.mp4", lambda p: p.write_text("no video at all " * 99), "cannot be opened as video .*another kind"),
    "cut, header last": ("x.mp4", lambda p: cut(save_video(p, moving(30)), 0.6), "cannot be opened .*cut off"),
    "cut, header first": (
        "x.mp4", lambda p: cut(save_video(p, moving(30), header_first=True), 0.6), "cut off or damaged at 0"
    ),
    "cut matroska": ("x.mkv", lambda p: cut(save_video(p, moving(30)), 0.6), r"cut off: it ends after 0\.\d+ of the 1"),
    "cut gif": (
        "x.gif", lambda p: cut(save_video(p, moving(30), codec="gif", pix_fmt="rgb8"), 0.6), "mark of its end"
    ),
    "sound only": ("x.mp4", lambda p: save_video(p, moving(0), sound=True), "it holds sound and no video"),
    "no frames": (
        "x.avi", lambda p: save_video(p, moving(0), codec="mpeg4", pix_fmt="yuv420p"), "it holds no frames"
    ),
    "header only": ("x.mkv", lambda p: save_video(p, moving(0)), "it ends before its first frame"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_broken_is_said_in_one_line(tmp_path, fault):
    name, make, said = BROKEN[fault]
    make(tmp_path / name)
    with pytest.raises(UnusableImage, match=said) as caught:
        read_timeline(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value), "who reads it names the file"


def test_a_damaged_frame_spoils_what_is_made_from_it(tmp_path):
    path = save_video(tmp_path / "x.mp4", moving(40), codec="libx264", pix_fmt="yuv420p", g="10", bf="0", crf="20")
    whole = read(path)
    timeline = read_timeline(spoil(path, 15))
    assert np.array_equal(read_frames(path, timeline, range(10)), whole[:10])
    assert np.array_equal(read_frames(path, timeline, range(25, 30)), whole[25:30]), "after the next keyframe"
    with pytest.raises(UnusableImage, match="frame 15 of 40 is damaged"):
        read_frames(path, timeline, [17])


def test_a_cover_is_no_film(tmp_path):
    """Sound with a picture on its sleeve has a stream of video, of one frame."""
    path = tmp_path / "x.mp4"
    Image.new("RGB", (32, 32)).save(tmp_path / "c.png")
    with av.open(str(tmp_path / "c.png")) as cover, av.open(str(path), "w") as out:
        audio = out.add_stream("aac", rate=8000, layout="mono")
        picture = out.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        for packet in cover.demux(video=0):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        out.mux([*audio.encode(silence), *audio.encode(None)])
    with pytest.raises(UnusableImage, match="it holds sound and no video"):
        read_timeline(path)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize("shape", [(5, 32, 32), (1, 24, 40), (17, 33, 47)])
def test_what_is_written_is_read_back_exactly(tmp_path, shape):
    clip = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    path = write_clip(tmp_path / "deep" / "000003.mp4", clip, fps=12)
    timeline = read_timeline(path)
    assert np.array_equal(read(path), to_levels(clip))
    np.testing.assert_allclose(timeline.times, np.arange(shape[0]) / 12, atol=1e-4)
    assert sorted(file.name for file in path.parent.iterdir()) == ["000003.mp4", "000003.png"]
    picture = np.asarray(Image.open(path.with_suffix(".png")))
    assert np.array_equal(picture, strip(to_levels(clip)))
    assert np.array_equal(picture[:, : shape[2]], to_levels(clip)[0])
    assert np.array_equal(picture[:, -shape[2] :], to_levels(clip)[-1])
    first = path.read_bytes()
    assert write_clip(path, clip, fps=12).read_bytes() == first, "the same clip is the same file"


def test_a_clip_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    for clip, name, said in (
        (torch.zeros(3, 4, 8), "x.mp4", r"a clip is \(3, T, H, W\), got shape \(3, 4, 8\)"),
        (torch.zeros(3, 2, 8, 8), "x.avi", r"written as \.mp4"),
    ):
        with pytest.raises(ImagesError, match=said):
            write_clip(tmp_path / name, clip)
    with pytest.raises(ImagesError, match="fps"):
        write_clip(tmp_path / "x.mp4", torch.zeros(3, 2, 8, 8), fps=0)
    monkeypatch.setattr(video.av, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_clip(tmp_path / "x.mp4", torch.zeros(3, 2, 8, 8))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Real films, where Debian's opencv-doc is installed


@pytest.fixture(params=["vtest.avi", "Megamind.avi", "cup.mp4", "box.mp4"])
def real(request, tmp_path):
    for place in (OPENCV / "examples/data", OPENCV / "opencv4/html"):
        if (place / request.param).is_file():
            return place / request.param
        if (packed := place / f"{request.param}.gz").is_file():
            with gzip.open(packed) as source, (tmp_path / request.param).open("wb") as target:
                shutil.copyfileobj(source, target)
            return tmp_path / request.param
    pytest.skip("Debian's package opencv-doc is not installed")


def test_real_films_give_the_same_frames_from_the_middle_as_from_the_start(real):
    timeline = read_timeline(real)
    lengths = {"vtest.avi": (795, 10), "Megamind.avi": (270, 23.976), "cup.mp4": (217, 26.777), "box.mp4": (455, 29.97)}
    count, rate = lengths[real.name]
    assert len(timeline.stamps) == count
    assert 1 / np.diff(timeline.times).mean() == pytest.approx(rate, rel=2e-3)
    assert lay_grid(timeline.times).tolist() == list(range(count))
    wanted = {100, 101, 102}
    in_order = video._count_frames(str(real), timeline.stamps, wanted)
    assert np.array_equal(read_frames(real, timeline, sorted(wanted)), np.stack([in_order[i] for i in sorted(wanted)]))
