r"""Files of video, by PyAV: when their frames are shown, which of them make clips, their pixels, and writing.

A file is a list of frames with the times at which they are shown. Frames of a clip are evenly spaced in time: stored
frames at a constant rate, and at a variable one, what is on the screen at each tick of a clock. Reasons why a file
cannot be used are an :class:`~diffusab_core.data.pixels.UnusableImage` in one line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffusab_core.data.pixels import UnusableImage
from diffusab_core.data.places import ImagesError
from diffusab_core.files import printable, writing

Array = np.ndarray
#: Transfer curves of high dynamic range, by FFmpeg's numbers.
_HDR = {16: "PQ", 18: "HLG"}
_UNSPECIFIED, _BT709 = 2, 1  # colour spaces, by FFmpeg's numbers
#: The same levels on every processor, and no short cuts in the resolution of colour.
_SCALER = "BICUBIC"
_STRIP_GAP = 2  # white pixels between the frames of a strip


@dataclass(frozen=True)
class Timeline:
    """The frames of a file in the order in which they are shown.

    Attributes:
        stamps: Their time stamps, whole numbers of the container's ticks, increasing ``(n,)``, int64.
        times: The same in seconds ``(n,)``, float64.
        size: Height and width of the frames, upright, in pixels.
        seekable: Whether reading may begin in the middle.
    """

    stamps: Array
    times: Array
    size: tuple[int, int]
    seekable: bool


@contextmanager
def _open(path: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """A file and its stream of video; whatever FFmpeg says inside becomes one line."""
    if os.stat(path).st_size == 0:
        raise UnusableImage("the file is empty")
    try:
        opened = av.open(path)
    except av.FFmpegError as error:
        if error.errno in (1, 2, 13):  # the system's: not allowed, not there
            raise UnusableImage(f"cannot be read ({error.strerror})") from error
        if isinstance(error, av.EOFError):
            raise UnusableImage("it ends before its first frame") from error
        raise UnusableImage(
            f"cannot be opened as video ({error.strerror}): it is damaged, cut off or another kind of file"
        ) from error
    with opened:
        covers = av.stream.Disposition.attached_pic
        streams = [stream for stream in opened.streams.video if not stream.disposition & covers]
        if not streams:
            raise UnusableImage("it holds sound and no video" if opened.streams.audio else "it holds no video")
        if streams[0].codec_context is None:
            raise UnusableImage("its video is of a kind that FFmpeg does not know here")
        streams[0].codec_context.thread_count = 1  # files are read side by side, as images are
        try:
            yield opened, streams[0]
        except av.FFmpegError as error:
            raise UnusableImage(f"cannot be decoded ({error.strerror}): it is damaged or cut off") from error


def read_timeline(path: str | os.PathLike) -> Timeline:
    """When the frames of a file are shown, from its packets; only the first frame is decoded.

    An ``UnusableImage``: nothing that FFmpeg can open, no video, no frames, a file that ends before its header says,
    packets that are cut off, levels of high dynamic range.
    """
    path = os.fspath(path)
    with _open(path) as (opened, stream):
        kind, tick = opened.format.name, stream.time_base
        _check_end_of_gif(path, kind)
        stamps = _read_packets(opened, stream)
        if not stamps:
            raise UnusableImage("it holds no frames")
        if None in stamps:
            raise UnusableImage("its frames have no time stamps")
    stamps = np.unique(np.array(stamps, dtype=np.int64))
    with _open(path) as (opened, stream):
        first = next(opened.decode(stream), None)
        if first is None:
            raise UnusableImage("none of its frames can be decoded")
        if first.color_trc in _HDR:
            raise UnusableImage(f"its levels are of high dynamic range ({_HDR[first.color_trc]}), no RGB of 8 bits")
        turned = round(first.rotation / 90) % 2
    size = (first.width, first.height) if turned else (first.height, first.width)
    return Timeline(stamps, stamps * float(tick), size, kind != "gif")


def _read_packets(opened: av.container.InputContainer, stream: av.VideoStream) -> list[int | None]:
    """Time stamps of the frames that are shown; refuses a file that ends too early."""
    stamps, end = [], 0.0
    for packet in opened.demux():
        if packet.is_corrupt:
            raise UnusableImage(f"it is cut off or damaged at {float(packet.pts or 0) * float(packet.time_base):.3g} s")
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index == stream.index and packet.size and not packet.is_discard:
            stamps.append(packet.pts)
    known = {"mov", "matroska"} & set(opened.format.name.split(","))  # whose headers say how long they are
    if known and opened.duration and stamps and None not in stamps:
        length = opened.duration / 1e6
        tolerance = 0.1 + 2 * (max(stamps) - min(stamps)) * float(stream.time_base) / max(1, len(stamps) - 1)
        if end < length - tolerance:
            raise UnusableImage(f"it is cut off: it ends after {end:.3g} of the {length:.3g} s that its header says")
    return stamps


def _check_end_of_gif(path: str, kind: str) -> None:
    if kind != "gif":
        return
    with open(path, "rb") as file:
        file.seek(-min(16, os.stat(path).st_size), os.SEEK_END)
        if not file.read().rstrip(b"\0").endswith(b";"):
            raise UnusableImage("it is cut off: the mark of its end is missing")


def lay_grid(times: Array, fps: float | None = None) -> Array:
    r"""Which stored frame is shown at each tick of an even clock: indices ``(G,)``, int64.

    With ``fps`` the ticks are :math:`t_0 + k / \text{fps}` up to the end of the last frame, which is shown as long as
    the median frame; on the screen is the last frame that has begun, up to a tenth of a frame early, as containers
    round their times. A file of that rate, within 1%, gives its frames as stored. Without ``fps`` so does every
    constant rate, where no interval is off the median by more than half of it; a variable one has ticks as far apart
    as the median frame.

    A file with fewer frames per second than ``fps`` is an ``UnusableImage``: shown twice, frames would stand still.

    Args:
        times: When the frames are shown, in seconds, increasing ``(n,)``.
        fps: Frames per second.
    """
    gaps = np.diff(times)
    if len(gaps) == 0:
        return np.arange(len(times))
    mean, median = float(gaps.mean()), float(np.median(gaps))
    constant = bool(np.abs(gaps - median).max() <= median / 2)
    if fps is not None and fps * mean > 1.01:
        raise UnusableImage(f"it has {1 / mean:.4g} frames a second, fewer than the {fps:g} that were asked for (fps)")
    if constant and (fps is None or abs(fps * mean - 1) <= 0.01):
        return np.arange(len(times))
    step = median if fps is None else 1 / fps
    count = math.ceil((times[-1] - times[0] + median) / step - 0.1)
    ticks = times[0] + step * np.arange(max(1, count))
    return np.searchsorted(times, ticks + median / 10, side="right") - 1


def read_frames(path: str | os.PathLike, timeline: Timeline, places: Sequence[int]) -> Array:
    """Frames by their places in the timeline, in this order, uint8 ``(n, H, W, 3)``; one may come several times.

    Colours are converted by the file's own matrix and range; without one it is BT.709 from 720 lines on, else BT.601,
    as players have it. Transparency is composited on white and a turned picture is upright, as with images. A frame
    that is damaged or missing is an ``UnusableImage``, as is a change of size.
    """
    path, wanted, found = os.fspath(path), set(map(int, places)), None
    if timeline.seekable and min(wanted) > 0:
        with suppress(UnusableImage):  # some files have a middle that is not found, or makes no sense on its own
            found = _decode(path, timeline.stamps, wanted, seek=True)
    found = found or _decode(path, timeline.stamps, wanted) or _count_frames(path, timeline.stamps, wanted)
    if len(shapes := {frame.shape for frame in found.values()}) > 1:
        sizes = " and ".join(sorted(f"{width} x {height}" for height, width, _ in shapes))
        raise UnusableImage(f"its frames change their size: {sizes} pixels")
    return np.stack([found[int(place)] for place in places])


def _decode(path: str, stamps: Array, wanted: set[int], seek: bool = False) -> dict[int, Array] | None:
    """Wanted frames by place, decoded from the keyframe before them; ``None`` where time stamps do not go in step."""
    found, place, first = {}, None, min(wanted)
    with _open(path) as (opened, stream):
        if seek:
            opened.seek(int(stamps[first]), stream=stream)
        for frame in opened.decode(stream):
            if frame.pts is None:
                return None
            place = int(np.searchsorted(stamps, frame.pts)) if place is None else place + 1
            late = place > first and first not in found
            if late or place >= len(stamps) or stamps[place] != frame.pts:
                return None
            _refuse_damage(frame, place, stamps)
            if place in wanted:
                found[place] = to_pixels(frame)
            if len(found) == len(wanted):
                return found
    return None


def _count_frames(path: str, stamps: Array, wanted: set[int]) -> dict[int, Array]:
    """As :func:`_decode`, of a file whose frames have each other's time stamps: the order tells which is which."""
    found, count = {}, 0
    with _open(path) as (opened, stream):
        for frame in opened.decode(stream):
            _refuse_damage(frame, count, stamps)
            if count in wanted:
                found[count] = to_pixels(frame)
            count += 1
    if count != len(stamps):
        raise UnusableImage(f"{count} of its {len(stamps)} frames can be decoded: it is damaged or cut off")
    return found


def _refuse_damage(frame: av.VideoFrame, place: int, stamps: Array) -> None:
    """Also of a frame that nobody asked for: later ones are made from it."""
    if frame.is_corrupt:
        raise UnusableImage(f"frame {place} of {len(stamps)} is damaged")


def to_pixels(frame: av.VideoFrame) -> Array:
    """A decoded frame as upright 8-bit RGB ``(H, W, 3)``; see :func:`read_frames`."""
    matrix = int(frame.colorspace)
    if matrix == _UNSPECIFIED:
        matrix = _BT709 if frame.height >= 720 and frame.format.name.startswith("yuv") else None
    clear = any(component.is_alpha for component in frame.format.components)
    out = frame.to_ndarray(
        format="rgba" if clear else "rgb24", src_colorspace=matrix, interpolation=_SCALER,
        src_color_range=int(frame.color_range) or None,
    )  # fmt: skip
    if clear:
        image = Image.fromarray(out, "RGBA")
        out = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    return np.ascontiguousarray(np.rot90(out, round(frame.rotation / 90)))


def write_clip(path: str | os.PathLike, clip: Tensor, fps: float = 8.0) -> Path:
    """Write a clip as ``.mp4``, and a strip of its frames beside it as ``.png``; returns the path of the clip.

    The pixels are rounded to 8 bits and kept exactly: H.264 of RGB (``libx264rgb``) at a rate factor of 0, which is
    lossless, so that what is read back for an evaluation is what was sampled. Browsers built on Chromium, mpv and VLC
    play it; other players may know compressed colour (4:2:0) only. The clip gets its name last: where it is, so is its
    strip.

    Args:
        path: Ends with ``.mp4``; folders that are missing are made.
        clip: ``(3, T, H, W)`` in [-1, 1], clamped to that.
        fps: Frames per second.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise ImagesError(f"clips are written as .mp4, got {printable(str(path))}")
    if clip.ndim != 4 or clip.shape[0] != 3 or 0 in clip.shape:
        raise ImagesError(f"a clip is (3, T, H, W), got shape {tuple(clip.shape)}")
    if not 0 < fps < 1000:
        raise ImagesError(f"fps must lie between 0 and 1000, got {fps}")
    frames = to_levels(clip)
    with ExitStack() as stack:
        mp4, png = (stack.enter_context(writing(path.with_suffix(end), alone=True)) for end in (".mp4", ".png"))
        Image.fromarray(strip(frames)).save(png, format="PNG")
        with av.open(str(mp4), "w", format="mp4") as out:
            stream = out.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(1000), options={"crf": "0"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.codec_context.thread_count = "rgb24", 1
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
    return path


def to_levels(clip: Tensor) -> Array:
    """A clip ``(3, T, H, W)`` in [-1, 1] to uint8 frames ``(T, H, W, 3)``."""
    levels = ((clip.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 3, 0).numpy())


def strip(frames: Array, count: int = 8) -> Array:
    """At most ``count`` frames, evenly chosen with first and last, side by side: uint8 (T, H, W, 3) -> (H, w, 3)."""
    chosen = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]
    out = np.pad(chosen, ((0, 0), (0, 0), (0, _STRIP_GAP), (0, 0)), constant_values=255)  # (n, H, W + gap, 3)
    return np.concatenate(list(out), axis=1)[:, :-_STRIP_GAP]
