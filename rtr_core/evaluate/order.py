"""The paper's order: the teacher in many steps, the causal model before and after post-training."""

import numpy as np

from ..style import Style
from ..stylizer import Stylizer
from ..train import looks, prompts
from .bars import Bar, Section, Table
from .held import Clip
from .judge import Verdict, judged, mean_psnr, share
from .metrics import floats
from .subject import IN_ORDER, Subject
from .takes import sampled, side_by_side, styled

OF_TEACHER = 0.97


def examine(subject: Subject) -> Section:
    """Style scores of all models there are, on the same frames."""
    config = subject.config
    clips = subject.held.taken(config.clips, subject.frames(config.window))
    clips = clips[:: max(1, len(clips) // config.ordered)][: config.ordered]
    is_alone = subject.teacher is None and subject.causal is None
    scores = {
        "teacher": _scores(subject, subject.teacher, clips, config.steps),
        "causal": _scores(subject, subject.causal, clips),
        "post-trained": None if is_alone else _scores(subject, subject.stylizer, clips),
    }
    rows = [
        (name, *(None if found is None else found[key] for key in KEYS))
        for name, found in scores.items()
    ]
    return Section(
        name="The paper's order",
        bars=bars_of(scores),
        tables=[
            Table(
                ("model", "style score", "colour", "gray", "PSNR dB", "likeness"),
                rows,
                f"{len(clips)} windows of {subject.frames(config.window)} frames, every third "
                f"style; the teacher in {config.steps} steps. Style score: mean of colour and gray",
            )
        ],
        facts=scores,
    )


KEYS = ("score", "color", "gray", "psnr", "likeness")


def bars_of(scores: dict[str, dict[str, float] | None]) -> list[Bar]:
    teacher, causal, ours = (scores[name] for name in ("teacher", "causal", "post-trained"))
    bars = []
    for key, claim in (("score", "style score"), ("psnr", "PSNR")):
        by_teacher = ours[key] / max(teacher[key], 1e-6) if ours and teacher else None
        bars.append(
            Bar(
                claim=f"{claim}, over the teacher's",
                value=by_teacher,
                least=OF_TEACHER,
                reason="no --teacher was given",
            )
        )
    for key, claim in (("score", "style score"), ("likeness", "likeness")):
        bars.append(
            Bar(
                claim=f"{claim}, gained by post-training",
                value=ours[key] - causal[key] if ours and causal else None,
                least=0,
                reason="no --causal was given",
            )
        )
    return bars


def _scores(
    subject: Subject, stylizer: Stylizer | None, clips: list[Clip], steps: int | None = None
) -> dict[str, float] | None:
    if stylizer is None:
        return None
    verdicts = [_verdict(subject, stylizer, clip, steps) for clip in clips]
    color, gray = share(verdicts, "color"), share(verdicts, "gray")
    return {
        "score": (color + gray) / 2,
        "color": color,
        "gray": gray,
        "psnr": mean_psnr(verdicts),
        "likeness": share(verdicts, "likeness"),
    }


def _verdict(subject: Subject, stylizer: Stylizer, clip: Clip, steps: int | None) -> Verdict:
    def take(style: str) -> np.ndarray:
        prompt = Style(prompt=prompts.plain(style))
        if steps is None:
            return styled(stylizer, prompt, clip.frames)
        return sampled(stylizer, prompt, clip.frames, steps)

    asked = subject.styles[::IN_ORDER]
    outputs = side_by_side(take, asked)
    targets = side_by_side(lambda style: looks.canonical(style)(clip.frames), subject.styles)
    own = [list(subject.styles).index(style) for style in asked]
    return judged([*map(floats, outputs)], [*map(floats, targets)], subject.descriptor, own)
