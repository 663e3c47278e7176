"""Small files of video, made through PyAV, whole and broken in every way that the tests need."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Frames uint8 (n, H, W, 3) of a smooth picture that drifts, no two of them alike."""
    y, x = np.mgrid[:height, :width]
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    frames = [
        np.stack([np.sin((x + 2 * t) / 9 + a) * np.cos((y - t) / 7 + b) for a, b in phases], axis=-1)
        for t in range(count)
    ]
    frames = np.reshape(frames, (count, height, width, 3))
    return np.round(127.5 + 120 * frames).astype(np.uint8)


def save_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int = 25,
    times_ms: list[int] | None = None,
    codec: str = "libx264rgb",
    pix_fmt: str = "rgb24",
    sound: bool = False,
    turned: int = 0,
    header_first: bool = False,
    **options: str,
) -> Path:
    """Write frames (n, H, W, 3) as a file of video, by default without a loss; with sound, a second of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"crf": "0"} | options if "x264" in codec else options
    with av.open(str(path), "w", options={"movflags": "faststart"} if header_first else {}) as out:
        video = None
        if len(frames) or not sound:
            video = out.add_stream(codec, rate=fps, options=options)
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = pix_fmt
            if turned:
                video.set_display_rotation(turned)
            if times_ms is not None:
                video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        out.start_encoding()  # or a file without a frame would not be written
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            out.mux(video.encode(frame))
        if sound:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            out.mux(audio.encode(silence))
        for stream in filter(None, (video, audio)):
            out.mux(stream.encode(None))
    return path


def cut(path: Path, keep: float) -> Path:
    """Keep the first part of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    return path


def spoil(path: Path, number: int) -> Path:
    """Write noise over the middle of a packet."""
    with av.open(str(path)) as opened:
        packets = [(p.pos, p.size) for p in opened.demux(video=0) if p.size]
    start, size = packets[number]
    data = bytearray(path.read_bytes())
    data[start + size // 3 : start + 2 * size // 3] = np.random.default_rng(1).bytes(2 * size // 3 - size // 3)
    path.write_bytes(data)
    return path
