"""RV2V: references made of other clips by looks that training has not seen, several at a time."""

from statistics import fmean
from typing import NamedTuple

import numpy as np

from ..shapes import frames_of
from ..style import Style
from ..stylizer import Stylizer
from ..train import looks
from ..train.looks import Look
from .bars import Bar, Section, Table
from .descriptor import apart, evenly
from .held import Clip
from .metrics import distances, floats, psnr, shining_through
from .pictures import Row, write_sheet
from .subject import ExamConfig, Subject
from .takes import frames_by, side_by_side, styled, switched

DESCRIBED = 3  # frames of an output
BEFORE, AFTER = 2, 3  # chunks in one style and in the next
SHOWN = 2  # groups on the sheet


class Shown(NamedTuple):
    """A look, and a picture of another scene that shows it."""

    look: Look
    reference: np.ndarray  # uint8 [h w 3]


class Group(NamedTuple):
    """A clip, the references it was given, and what came."""

    clip: Clip
    shown: list[Shown]
    outputs: list[np.ndarray]
    targets: list[np.ndarray]  # of the whole clip, of which an output may be the beginning


def references_for(subject: Subject, number: int, clip: Clip) -> list[Shown]:
    """References in different styles, none of them made of the clip."""
    rng = subject.rng(number)
    scenes = [scene for scene in subject.held.scenes() if scene.name != clip.name]
    styles = [str(style) for style in rng.permutation(looks.STYLES)]
    shown = []
    for n in range(subject.config.references):
        look = looks.varied(styles[n % len(styles)], rng)
        scene = scenes[int(rng.integers(len(scenes)))]
        shown.append(Shown(look, look(scene.frames)[0]))
    return shown


def rendered(subject: Subject, number: int, clip: Clip) -> Group:
    shown = references_for(subject, number, clip)

    def take(one: Shown) -> tuple[np.ndarray, np.ndarray]:
        source = clip.frames[: subject.frames(subject.config.referred)]
        output = styled(subject.stylizer, Style(reference=one.reference), source)
        return output, one.look(clip.frames)

    outputs, targets = zip(*side_by_side(take, shown), strict=True)
    return Group(clip, shown, list(outputs), list(targets))


def frames_of_clips(stylizer: Stylizer, config: ExamConfig) -> int:
    """As many as anywhere in the exam, and enough to change the reference on the way."""
    latents = max(config.latents, config.referred, config.window)
    frames = frames_of(latents, stylizer.parts.vae.stride)
    return max(frames, frames_by(stylizer, BEFORE + AFTER))


def examine(subject: Subject) -> Section:
    config = subject.config
    frames = frames_of_clips(subject.stylizer, config)
    clips = subject.held.taken(max(config.clips, config.groups), frames)
    groups = [rendered(subject, n, clips[n]) for n in range(config.groups)]
    picks = [picked(subject, group) for group in groups]
    totals = {key: fmean(float(hit) for pick in picks for hit in pick[key]) for key in picks[0]}
    values = [
        psnr(floats(output), floats(target[: len(output)]))
        for group in groups
        for output, target in zip(group.outputs, group.targets, strict=True)
    ]
    ghosts, others = np.mean([_ghosts(group) for group in groups], axis=0)
    changed = np.mean([_changes(subject, group) for group in groups], axis=0)
    _write_sheet(subject, groups)
    return Section(
        name="RV2V",
        bars=[
            Bar(claim="own reference picked, colour", value=totals["color"], least=0.9),
            Bar(claim="own reference picked, gray", value=totals["gray"], least=0.65),
            Bar(
                claim="a changed reference shows in the next chunk",
                value=float(changed[0]),
                least=1,
            ),
        ],
        tables=_tables(groups, picks, totals),
        notes=[
            f"Nearest by {subject.descriptor.name}, outputs and references each centred over their "
            f"{config.references}. The target is the look itself applied to the clip: no output "
            "can be expected to do better.",
            f"Mean PSNR to that target: {fmean(values):.1f} dB.",
            f"Share of its reference that shines through an output, where it lies: {ghosts:.3f}; "
            f"of the next output's reference: {others:.3f}.",
            "Of changed references, these show in the first chunk, the second and the third: "
            + ", ".join(f"{value:.2f}" for value in changed),
        ],
        facts={"psnr": values, "changed": changed.tolist(), "ghosts": ghosts, "others": others},
    )


def _tables(
    groups: list[Group], picks: list[dict[str, np.ndarray]], totals: dict[str, float]
) -> list[Table]:
    chance = 1 / len(groups[0].shown)
    by_clip = [
        (group.clip.name, *(float(np.mean(pick[key])) for key in KEYS))
        for group, pick in zip(groups, picks, strict=True)
    ]
    in_all = [
        ("output", totals["color"], totals["gray"]),
        ("the target itself", totals["best color"], totals["best gray"]),
        ("chance", chance, chance),
    ]
    return [
        Table(("", "colour", "gray"), in_all, "How often the own reference is the nearest"),
        Table(("clip", "colour", "gray", "target's colour", "target's gray"), by_clip),
    ]


KEYS = ("color", "gray", "best color", "best gray")


def picked(subject: Subject, group: Group) -> dict[str, np.ndarray]:
    """For each output, and for each target, whether its own reference is the nearest."""
    found = {}
    references = [floats(one.reference[None]) for one in group.shown]
    targets = [t[: len(o)] for o, t in zip(group.outputs, group.targets, strict=True)]
    own = np.arange(len(references))
    for kind in ("color", "gray"):
        describe = getattr(subject.descriptor, kind)
        bank = side_by_side(describe, references)
        for key, clips in ((kind, group.outputs), (f"best {kind}", targets)):
            seen = side_by_side(
                lambda clip, describe=describe: describe(floats(evenly(clip, DESCRIBED))), clips
            )
            found[key] = apart(seen, bank).argmin(1) == own
    return found


def _ghosts(group: Group) -> tuple[float, float]:
    """How much of the own reference shines through outputs, and of the next one's."""
    outputs, targets = (list(map(floats, side)) for side in (group.outputs, group.targets))
    count, shown = len(outputs), [floats(one.reference[None]) for one in group.shown]
    own, other = (
        fmean(
            shining_through(output, target[: len(output)], shown[(n + step) % count])
            for n, (output, target) in enumerate(zip(outputs, targets, strict=True))
        )
        for step in (0, 1)
    )
    return own, other


def _changes(subject: Subject, group: Group) -> np.ndarray:
    """Of references that follow one another, the share that the output is nearer to than to the
    one before, in each chunk behind the change: `[AFTER]`."""
    count = len(group.shown)

    def take(n: int) -> list[bool]:
        pair = (n, (n + 1) % count)
        old, new = (Style(reference=group.shown[k].reference) for k in pair)
        before, chunks = switched(subject.stylizer, old, new, group.clip.frames, (BEFORE, AFTER))
        shows, first = [], len(before)
        for chunk in chunks:
            targets = [floats(group.targets[k][first : first + len(chunk)]) for k in pair]
            shows.append(bool(distances([floats(chunk)], targets)[0].argmin() == 1))
            first += len(chunk)
        return shows

    return np.mean(side_by_side(take, range(0, count, 2)), axis=0)


def _write_sheet(subject: Subject, groups: list[Group]) -> None:
    rows = []
    for group in groups[:SHOWN]:
        middle, count = len(group.outputs[0]) // 2, len(group.shown)
        rows += [
            Row("source", [group.clip.frames[middle]] * count),
            Row("reference", [one.reference for one in group.shown]),
            Row("output", [clip[middle] for clip in group.outputs]),
            Row("target", [clip[middle] for clip in group.targets]),
        ]
    write_sheet(subject.folder / "rv2v.jpg", rows)
