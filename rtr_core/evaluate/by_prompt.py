"""TV2V and Time: all styles of a model's list, asked for by prompt, on clips that move."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ..appearance import sharpness
from ..style import Style
from ..train import looks, prompts
from .bars import Bar, Section, Table
from .held import NOISE, Clip
from .judge import Verdict, judged, mean_psnr, share
from .metrics import blockiness, flicker, floats, ghosting, motion_energy
from .motion import Flows, flows_of, warp_error
from .pictures import Row, write_sheet
from .subject import Subject
from .takes import side_by_side, styled

GHOSTS = 0.2  # share of the past from which an output is ghosted
SHOWN = 8  # clips on the sheet


class Figures(NamedTuple):
    """Of one output and of its target: `[2]` each, but for `ghosting`."""

    flicker: tuple[float, float]  # along the motion, as a root of squares
    motion: tuple[float, float]
    sharpness: tuple[float, float]
    grid: tuple[float, float]
    ghosting: float


@dataclass(frozen=True)
class ClipResult:
    """One clip in all styles."""

    clip: Clip
    verdict: Verdict
    figures: list[Figures]  # of each style
    column: list[np.ndarray]  # pictures: source, then target and output of each style


def rendered(subject: Subject) -> list[ClipResult]:
    clips = subject.held.taken(subject.config.clips, subject.frames(subject.config.latents))
    return [_in_all_styles(subject, clip) for clip in clips]


def _in_all_styles(subject: Subject, clip: Clip) -> ClipResult:
    flows = flows_of(floats(clip.frames))

    def take(style: str) -> tuple[np.ndarray, np.ndarray, Figures]:
        target = looks.canonical(style)(clip.frames)
        output = styled(subject.stylizer, Style(prompt=prompts.plain(style)), clip.frames)
        grid = subject.stylizer.parts.vae.stride.height
        return output, target, figures_of(floats(output), floats(target), flows, grid)

    outputs, targets, figures = zip(*side_by_side(take, subject.styles), strict=True)
    verdict = judged([*map(floats, outputs)], [*map(floats, targets)], subject.descriptor)
    middle = len(clip.frames) // 2
    pairs = zip(targets, outputs, strict=True)
    column = [clip.frames[middle], *(side[middle] for pair in pairs for side in pair)]
    return ClipResult(clip, verdict, list(figures), column)


def figures_of(output: np.ndarray, target: np.ndarray, flows: Flows, grid: int) -> Figures:
    sides = output, target

    def both(measure) -> tuple[float, float]:
        ours, theirs = (measure(side) for side in sides)
        return ours, theirs

    return Figures(
        flicker=both(lambda side: warp_error(side, flows) ** 0.5),
        motion=both(motion_energy),
        sharpness=both(sharpness),
        grid=both(lambda side: blockiness(side, grid)),
        ghosting=ghosting(output, target),
    )


def examine(subject: Subject, results: list[ClipResult]) -> Section:
    """Accuracy and PSNR of all styles, and of words that were held out."""
    verdicts = [result.verdict for result in results]
    psnr, color, gray, likeness = (
        np.array([getattr(v, kind) for v in verdicts], float).mean(0)
        for kind in ("psnr", "color", "gray", "likeness")
    )
    phrased = _phrased(subject)
    told = [fmean(right for style, right in phrased if style == s) for s in subject.styles]
    sharp, grid = (_ratios(results, kind) for kind in ("sharpness", "grid"))
    columns = (psnr, color, gray, told, likeness, sharp, grid)
    _write_sheet(subject, results)
    worst = int(color.argmin())
    return Section(
        name="TV2V",
        bars=[
            Bar(claim="nearest target, colour", value=share(verdicts, "color"), least=0.95),
            Bar(claim="nearest target, gray", value=share(verdicts, "gray"), least=0.85),
            Bar(claim="mean PSNR to the target", value=mean_psnr(verdicts), least=19, unit=" dB"),
            Bar(
                claim=f"nearest target, colour, worst style ({subject.styles[worst]})",
                value=float(color[worst]),
                least=0.8,
            ),
            Bar(
                claim="right style by words never trained",
                value=fmean(right for _, right in phrased),
                least=0.8,
            ),
        ],
        tables=[_by_style(subject, columns), _by_clip(results)],
    )


def _by_style(subject: Subject, columns: Sequence[Sequence[float] | np.ndarray]) -> Table:
    head = ("style", "PSNR dB", "colour", "gray", "held-out words", "likeness", "sharp", "grid")
    said = "Likeness: style to the target's, -1..1. Sharpness and grid: over the target's own"
    return Table(head, _rows(subject.styles, columns), said)


def _by_clip(results: list[ClipResult]) -> Table:
    rows = [
        (result.clip.name, fmean(result.verdict.psnr), *_means(result.verdict, "color", "gray"))
        for result in results
    ]
    return Table(("clip", "PSNR dB", "colour", "gray"), rows)


def _rows(styles: Sequence[str], columns: Sequence[Sequence[float] | np.ndarray]) -> list[tuple]:
    """A row for each style."""
    return [(style, *(float(column[n]) for column in columns)) for n, style in enumerate(styles)]


def steadiness(subject: Subject, results: list[ClipResult], coded: dict[str, float]) -> Section:
    """Flicker and motion; `coded` has the flicker of the autoencoder alone."""
    moving = [result for result in results if result.clip.moves]
    along, motion = _ratios(moving, "flicker"), _ratios(moving, "motion")
    ghosts = np.array([[f.ghosting for f in result.figures] for result in moving]).mean(0)
    standing = np.array(side_by_side(lambda style: _standing(subject, style), subject.some_styles))
    stands = standing[:, 0] / np.maximum(standing[:, 1], 1e-6)
    return Section(
        name="Time",
        bars=[
            Bar(claim="flicker of moving clips, over the target's", value=_mean(along), most=1.3),
            Bar(
                claim="flicker of standing clips, over the target's", value=_mean(stands), most=1.3
            ),
            Bar(claim="the autoencoder alone, moving", value=coded["moving"], most=1.2),
            Bar(claim="the autoencoder alone, standing", value=coded["standing"], most=1.2),
            Bar(claim="motion energy, over the target's", value=_mean(motion), least=0.7, most=1.3),
            Bar(claim="share of the past in the output", value=_mean(ghosts), most=GHOSTS),
        ],
        tables=[
            Table(
                ("style", "flicker, moving", "motion", "past"),
                _rows(subject.styles, (along, motion, ghosts)),
            ),
            Table(
                ("style", "flicker, standing", "at rest"),
                _rows(subject.some_styles, (stands, 255 * standing[:, 2])),
                "At rest: mean change from frame to frame, in levels of 255, where nothing moves",
            ),
        ],
        notes=[
            "Moving: root of Lai's warp error along DIS flow of the source, over "
            f"{len(moving)} clips. Standing: mean change of a still under sensor noise of "
            f"{NOISE:g} levels.",
        ],
        facts={"warp error": [[f.flicker[0] ** 2 for f in r.figures] for r in moving]},
    )


def _standing(subject: Subject, style: str) -> tuple[float, float, float]:
    """Flicker of output and target under sensor noise, and of the output where there is none."""
    frames, held = subject.frames(subject.config.standing), subject.held
    asked = Style(prompt=prompts.plain(style))
    noisy = held.standing(0, frames, NOISE).frames
    still = held.standing(0, frames).frames
    outputs = [styled(subject.stylizer, asked, source) for source in (noisy, still)]
    target = looks.canonical(style)(noisy)
    ours, theirs, rest = (flicker(floats(clip)) for clip in (outputs[0], target, outputs[1]))
    return ours, theirs, rest


def _phrased(subject: Subject) -> list[tuple[str, bool]]:
    """For each clip and held-out phrasing of each style, whether the right style came."""
    config, found = subject.config, []
    frames = subject.frames(min(config.latents, config.window))
    clips = subject.held.taken(config.clips, frames)[: config.phrased]
    for number, clip in enumerate(clips):
        asked = [(s, p) for s in subject.styles for p in _some(s, config.phrasings, number)]
        outputs = side_by_side(
            lambda one, clip=clip: styled(subject.stylizer, Style(prompt=one[1]), clip.frames),
            asked,
        )
        targets = side_by_side(
            lambda style, clip=clip: looks.canonical(style)(clip.frames), subject.styles
        )
        own = [list(subject.styles).index(style) for style, _ in asked]
        verdict = judged([*map(floats, outputs)], [*map(floats, targets)], subject.descriptor, own)
        found += [(s, bool(hit)) for (s, _), hit in zip(asked, verdict.color, strict=True)]
    return found


def _some(style: str, count: int, turn: int) -> list[str]:
    """Phrasings in turn, so that different clips are asked for in different words."""
    phrasings = prompts.held_out(style)
    return [phrasings[(turn * count + n) % len(phrasings)] for n in range(count)]


def _ratios(results: list[ClipResult], kind: str) -> np.ndarray:
    """Of each style, outputs over targets, all clips together: `[styles]`."""
    sums = np.array([[getattr(f, kind) for f in result.figures] for result in results]).sum(0)
    return sums[:, 0] / np.maximum(sums[:, 1], 1e-6)


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _means(verdict: Verdict, *kinds: str) -> list[float]:
    return [float(getattr(verdict, kind).mean()) for kind in kinds]


def _write_sheet(subject: Subject, results: list[ClipResult]) -> None:
    names = ["source"]
    for style in subject.styles:
        names += [f"{style}: target", f"{style}: output"]
    columns = [result.column for result in results[:SHOWN]]
    rows = [Row(name, [column[n] for column in columns]) for n, name in enumerate(names)]
    write_sheet(subject.folder / "tv2v.jpg", rows)
