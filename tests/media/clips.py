"""Small clips for tests, made with PyAV from pictures that are known to the level.

The way from RGB to the planes of a stream is written here once more, in numpy and on its own, so
that what reads and what writes clips can both be held against it.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

FULL = 2
WEIGHTS = {  # of red and blue in luma, by matrix; without a tag, what SD is taken for
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    6: (0.299, 0.114),
    9: (0.2627, 0.0593),
}
# 16.16 fixed point, as in the header of a track: a b u, c d v, x y w.
TURNS = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1),
}
MATRIX_IN_TKHD = 44  # bytes from the name of the box to its matrix, in version 0
AUDIO_RATE, AUDIO_FRAME = 48000, 1024


def moving_gradients(frames: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """`[t h w 3]` uint8: smooth color waves that drift, no two frames alike."""
    rng = np.random.default_rng(seed)
    height, width = size
    t, y, x = np.ogrid[0 : frames / 24 : frames * 1j, 0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = []
    for _ in range(3):
        across, down, speed, phase = rng.uniform([0.3, 0.3, 0.4, 0], [0.8, 0.8, 0.9, 1])
        waves.append(np.sin(2 * np.pi * (across * x + down * y + speed * t + phase)))
    return np.round(127.5 + 90 * np.stack(np.broadcast_arrays(*waves), -1)).astype(np.uint8)


def make_clip(
    path: Path,
    frames: int | np.ndarray = 12,
    size: tuple[int, int] = (48, 64),
    rate: Fraction | int = 24,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    rotation: int | str = 0,
    aspect: Fraction | None = None,
    matrix: int = 2,
    color_range: int = 0,
    audio: int = 0,
    chapters: int = 0,
    cover: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Write a clip and return its pictures `[t h w 3]`, uint8, before any turning.

    `times` are those of the frames in `time_base`, for a rate that varies or a late beginning;
    `rotation` turns clockwise when shown (.mp4 and .mov); `audio` is a number of AAC streams;
    `frames` may be the pictures themselves.
    """
    pictures = frames if isinstance(frames, np.ndarray) else moving_gradients(frames, size, seed)
    quality = {"preset": "ultrafast", "crf": "4"} if codec.startswith("libx26") else {}
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=quality | (options or {}))
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, color_range
        if times is not None:
            stream.time_base = context.time_base = time_base
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        tones = [container.add_stream("aac", rate=AUDIO_RATE) for _ in range(audio)]
        if cover:
            _add_cover(container)
        if chapters:
            _add_chapters(container, chapters, len(pictures) / Fraction(rate))
        for index, picture in enumerate(pictures):
            frame = to_frame(picture, pix_fmt, matrix, color_range)
            frame.pts = index if times is None else times[index]
            frame.time_base = context.time_base if times is not None else 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for number, tone in enumerate(tones):
            _add_tone(container, tone, 220 * (number + 1), len(pictures) / Fraction(rate))
    if rotation:
        _turn(path, rotation)
    return pictures


def to_frame(picture: np.ndarray, pix_fmt: str, matrix: int, color_range: int) -> av.VideoFrame:
    """RGB `[h w 3]` uint8 as a planar YUV, planar RGB or packed RGB frame."""
    height, width = picture.shape[:2]
    frame = av.VideoFrame(width, height, pix_fmt)
    form = frame.format
    if len(frame.planes) == 1:
        return av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
    bits = form.components[0].bits
    rgb = picture / 255
    top, step = 2**bits - 1, 2 ** (bits - 8)
    if form.is_rgb:
        channels = [rgb[..., n] * top for n in range(3)]
    else:
        of_red, of_blue = WEIGHTS[matrix]
        luma = rgb @ np.array([of_red, 1 - of_red - of_blue, of_blue])
        blue = (rgb[..., 2] - luma) / (2 - 2 * of_blue)
        red = (rgb[..., 0] - luma) / (2 - 2 * of_red)
        is_full = color_range == FULL
        channels = [luma * top if is_full else (16 + 219 * luma) * step]
        for chroma in (blue, red):
            chroma = _reduced(chroma, frame.planes[1].width, frame.planes[1].height)
            channels.append(chroma * (top if is_full else 224 * step) + 128 * step)
    for component, channel in zip(form.components, channels, strict=False):
        plane = frame.planes[component.plane]
        levels = np.clip(np.round(channel), 0, top).astype("<u2" if bits > 8 else "u1")
        lines = np.zeros((plane.height, plane.line_size), "u1")
        lines[:, : levels.shape[1] * levels.itemsize] = levels.view("u1")
        plane.update(lines.tobytes())
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def _reduced(chroma: np.ndarray, width: int, height: int) -> np.ndarray:
    """Chroma on the left pixel across and between two lines down, as MPEG-2 and H.264 have it."""
    if width < chroma.shape[1]:
        wide = np.pad(chroma, ((0, 0), (1, 1)), "edge")
        chroma = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:])[:, ::2] / 4
    if height < chroma.shape[0]:
        tall = np.pad(chroma, ((0, chroma.shape[0] % 2), (0, 0)), "edge")
        chroma = (tall[::2] + tall[1::2]) / 2
    return np.ascontiguousarray(chroma)


def _add_tone(container, stream, pitch: int, seconds: Fraction) -> None:
    for start in range(0, round(seconds * AUDIO_RATE), AUDIO_FRAME):
        t = np.arange(start, start + AUDIO_FRAME) / AUDIO_RATE
        wave = (0.2 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)
        layout = stream.codec_context.layout
        frame = av.AudioFrame.from_ndarray(np.stack([wave] * layout.nb_channels), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _add_cover(container) -> None:
    """A picture of the album, so to say, which is no part of the film."""
    stream = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = Disposition.attached_pic.value
    frame = to_frame(np.full((32, 32, 3), 77, np.uint8), "yuvj420p", 6, FULL)
    frame.pts = 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _add_chapters(container, count: int, seconds: Fraction) -> None:
    edges = [round(1000 * seconds * n / count) for n in range(count + 1)]
    container.set_chapters(
        [
            {
                "id": n,
                "start": edges[n],
                "end": edges[n + 1],
                "time_base": Fraction(1, 1000),
                "metadata": {"title": f"Chapter {n + 1}"},
            }
            for n in range(count)
        ]
    )


def _turn(path: Path, rotation: int | str) -> None:
    """Write a display matrix into the header of the first track."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + MATRIX_IN_TKHD
    a, b, c, d = (turn << 16 for turn in TURNS[rotation])
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4")
    content[at : at + matrix.nbytes] = matrix.tobytes()
    path.write_bytes(content)
