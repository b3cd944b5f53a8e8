"""The autoencoder alone: what a model that made no mistake would lose."""

import time
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import torch

from ..frames import to_pixels
from ..parts import Parts
from ..train import looks
from ..vae.stream import DecoderStream, EncoderStream
from .bars import Bar, Section, Table
from .held import NOISE, Clip
from .metrics import blockiness, decibel, flicker, floats, psnr
from .motion import Flows, flows_of, warp_error
from .pictures import Row, write_sheet
from .subject import Subject
from .takes import round_trip, side_by_side

SHOWN = 8  # columns of the sheet
WARM = 3  # groups of frames before the clock starts


class Coded(NamedTuple):
    """Targets of one style, encoded and decoded."""

    error: float  # mean of squares
    moving: np.ndarray  # flicker along the motion `[2]`: of what came back, and of the target
    standing: np.ndarray  # the same of a still under noise


def examine(subject: Subject) -> Section:
    """PSNR, time, flicker and grid of encoding and decoding."""
    parts, config, held = subject.stylizer.parts, subject.config, subject.held
    clips = held.taken(config.clips, subject.frames(config.latents))
    moves = [clip for clip in clips if clip.moves][: config.coded]
    clips += [held.square(n) for n in range(min(config.clips, len(held.stills)))]
    decoded = side_by_side(lambda clip: round_trip(parts, clip.frames), clips)
    values = [psnr(floats(a), floats(b.frames)) for a, b in zip(decoded, clips, strict=True)]
    grid = parts.vae.stride.height
    blocks = [
        (blockiness(floats(a), grid), blockiness(floats(b.frames), grid))
        for a, b in zip(decoded, clips, strict=True)
    ]
    flows = side_by_side(lambda clip: flows_of(floats(clip.frames)), moves)
    styles = side_by_side(lambda style: _styled(subject, style, moves, flows), subject.some_styles)
    moving, standing = (fmean(_over(getattr(s, k)) for s in styles) for k in ("moving", "standing"))
    pace = seconds_a_frame(parts, clips[0]) * 1000
    _write_sheet(subject, clips, decoded)
    clip_rows = [
        (clip.name, len(clip.frames), value, ours / theirs)
        for clip, value, (ours, theirs) in zip(clips, values, blocks, strict=True)
    ]
    style_rows = [
        (style, decibel(found.error), _over(found.moving), _over(found.standing))
        for style, found in zip(subject.some_styles, styles, strict=True)
    ]
    return Section(
        name="Autoencoder",
        bars=_bars(fmean(values), fmean(ours / theirs for ours, theirs in blocks), pace),
        tables=[
            Table(("clip or still", "frames", "PSNR dB", "grid"), clip_rows),
            Table(
                ("style", "PSNR dB", "flicker, moving", "flicker, standing"),
                style_rows,
                "Targets through the autoencoder; flicker over the target's own",
            ),
        ],
        facts={"moving": moving, "standing": standing, "ms": pace},
    )


def _bars(value: float, grid: float, pace: float) -> list[Bar]:
    claim = "steps across its grid, over the source's (look at autoencoder.jpg too)"
    return [
        Bar(claim="mean PSNR of clips and stills", value=value, least=30, unit=" dB"),
        Bar(claim=claim, value=grid, most=1.1),
        Bar(claim="encode and decode", value=pace, most=25, unit=" ms a frame"),
    ]


def _styled(subject: Subject, style: str, clips: Sequence[Clip], flows: Sequence[Flows]) -> Coded:
    """Targets of one style through the autoencoder: errors, and flicker of both."""
    parts, look = subject.stylizer.parts, looks.canonical(style)
    errors, moving = [], []
    for clip, flow in zip(clips, flows, strict=True):
        target = look(clip.frames)
        ours, theirs = floats(round_trip(parts, target)), floats(target)
        errors.append(float(np.square(ours - theirs).mean()))
        moving.append([warp_error(side, flow) ** 0.5 for side in (ours, theirs)])
    noisy = subject.held.standing(0, subject.frames(subject.config.standing), NOISE)
    target = look(noisy.frames)
    standing = [flicker(floats(side)) for side in (round_trip(parts, target), target)]
    return Coded(fmean(errors), np.array(moving).sum(0), np.array(standing))


def _over(sides: np.ndarray) -> float:
    """What the first has, over what the second has."""
    return float(sides[0] / max(sides[1], 1e-6))


@torch.no_grad()
def seconds_a_frame(parts: Parts, clip: Clip) -> float:
    """Of encoding and decoding as a stream does: the median over groups of frames."""
    stride = parts.vae.stride
    pixels = to_pixels(
        torch.from_numpy(clip.frames), parts.geometry(clip.frames.shape[1:3]), parts.pixels_like
    )
    groups = pixels[:, :, 1:].split(stride.time, dim=2)
    whole = [group for group in groups if group.shape[2] == stride.time]
    encoder, decoder, seconds = EncoderStream(parts.vae), DecoderStream(parts.vae), []
    for group in [pixels[:, :, :1], *(whole * 4)]:
        began = time.perf_counter()
        latents = encoder.push(group)
        assert latents is not None, "groups are whole"
        decoder.push(latents)
        seconds.append((time.perf_counter() - began) / group.shape[2])
    return median(seconds[WARM:])


def _write_sheet(subject: Subject, clips: list[Clip], decoded: list[np.ndarray]) -> None:
    middle = [len(clip.frames) // 2 for clip in clips]
    sources = [clip.frames[n] for clip, n in zip(clips, middle, strict=True)]
    outputs = [frames[n] for frames, n in zip(decoded, middle, strict=True)]
    for style in subject.styles[:: max(1, len(subject.styles) // 3)]:
        target = looks.canonical(style)(clips[0].frames[:1])
        sources.append(target[0])
        outputs.append(round_trip(subject.stylizer.parts, target)[0])
    order = np.linspace(0, len(sources) - 1, min(SHOWN, len(sources))).round().astype(int)
    errors = [
        np.clip(128 + 4 * (outputs[n].astype(int) - sources[n]), 0, 255).astype(np.uint8)
        for n in order
    ]
    rows = [
        Row("source", [sources[n] for n in order]),
        Row("decoded", [outputs[n] for n in order]),
        Row("error, 4 times", errors),
    ]
    write_sheet(subject.folder / "autoencoder.jpg", rows, subject.config.side)
