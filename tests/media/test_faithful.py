"""Real pictures in every kind of clip: the result has the source's frames, times and sound."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from rtr_core.media.source import open_source
from rtr_core.shapes import Size
from tests.media.clips import make_clip
from tests.media.test_job import frames_of, run, task_of

SAMPLE = Path(__file__).parents[2] / "rtr_core" / "assets" / "sample.mp4"
SIZE = Size(64, 112)  # of the sample, a quarter
FRAMES = 11
UNEVEN = [0, 40, 60, 140, 141, 300, 330, 340, 600, 610, 700]
WIDE = Fraction(4, 3)
ADTS_HEADER = 7  # bytes before each packet of sound in a broadcast
KINDS = {
    "varying.mp4": {"times": UNEVEN, "audio": 1},
    "late.mov": {"times": [5000 + time for time in UNEVEN]},
    "turned.mp4": {"rotation": 90, "aspect": WIDE, "audio": 1},
    "upside_down.mov": {"rotation": 180},
    "unending.mkv": {"container_options": {"live": "1"}},
    "one.mp4": {"frames": 1, "audio": 1},
    "two.mkv": {"frames": 2},
    "languages.mp4": {"audio": 3, "chapters": 2},
    "chapters.mkv": {"chapters": 3},
    "broadcast.ts": {"audio": 1, "options": {"bf": "2"}},
    "ten_bits.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p10le"},
    "full_chroma.mp4": {"pix_fmt": "yuv444p", "matrix": 1, "color_range": 2},
    "odd.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p", "size": (61, 107)},
}


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    with av.open(str(SAMPLE)) as container:
        frames = itertools.islice(container.decode(video=0), FRAMES)
        return np.stack([f.to_ndarray(format="rgb24", width=112, height=64) for f in frames])


@pytest.mark.parametrize("name", KINDS)
def test_frames_times_shape_and_sound_are_the_sources(stylizer, pictures, tmp_path, name):
    source, out = tmp_path / name, tmp_path / f"out{'.mkv' if name[-3:] == 'mkv' else '.mov'}"
    kind = dict(KINDS[name])
    height, width = kind.pop("size", SIZE)
    frames = pictures[: kind.pop("frames", FRAMES), :height, :width]
    make_clip(source, np.ascontiguousarray(frames), **kind)
    done, seen = run(stylizer, task_of(source, out))
    times, _ = frames_of(out)
    assert done.frames == len(seen) == len(frames) == len(times)
    assert times == frames_of(source)[0] and done.damage is None and done.notes == ()
    before, after = (open_source(path).info for path in (source, out))
    assert (after.size, after.aspect, after.rotation) == (before.size, before.aspect, 0)
    header = ADTS_HEADER if source.suffix == ".ts" else 0
    assert sound(source, header) == sound(out) and len(sound(out)) == kind.get("audio", 0)
    assert chapters(source) == chapters(out) and len(chapters(out)) == kind.get("chapters", 0)


def test_a_turned_clip_is_styled_upright(stylizer, pictures, tmp_path):
    upright = np.ascontiguousarray(np.rot90(pictures, -1, (1, 2)))
    lossless = {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0", "crf": "0"}}
    make_clip(tmp_path / "turned.mp4", pictures, rotation=90, **lossless)
    make_clip(tmp_path / "upright.mp4", upright, **lossless)
    came = []
    for name in ("turned", "upright"):
        run(stylizer, task_of(tmp_path / f"{name}.mp4", tmp_path / f"{name}_out.mp4"))
        came.append(torch.stack(frames_of(tmp_path / f"{name}_out.mp4")[1]))
    assert torch.equal(*came)


def sound(path: Path, header: int = 0) -> list[list[tuple[Fraction, bytes]]]:
    """Packets of each audio stream behind their headers, with the time since its first."""
    with av.open(str(path)) as container:
        streams: dict[int, list] = {stream.index: [] for stream in container.streams.audio}
        for packet in container.demux():
            if packet.size and packet.stream_index in streams:
                time = packet.pts * packet.time_base
                streams[packet.stream_index].append((time, bytes(packet)[header:]))
    return [
        [(time - packets[0][0], content) for time, content in packets]
        for packets in streams.values()
    ]


def chapters(path: Path) -> list[tuple]:
    """Titles, and times in milliseconds, which is what an MP4 tells them in."""
    with av.open(str(path)) as container:
        return [
            (*(int(1000 * c[edge] * c["time_base"]) for edge in ("start", "end")), c["metadata"])
            for c in container.chapters()
        ]
