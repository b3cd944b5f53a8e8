"""`rtr stylize`: clips in, styled clips out."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from .. import ranks
from ..cues import Cue, CueSheet
from ..errors import ClipError, RankError, StyleError
from ..media.batch import clips_in, each, table
from ..media.codecs import CODECS, Codec, pick_codec
from ..media.job import Done, Job, Task, folder_of
from ..media.manifest import Manifest
from ..media.pipes import RawPipe, Y4mPipe
from ..media.redo import redo
from ..media.shots import Shots, parse_shots, read_shots
from ..media.source import open_source
from ..moments import Moment
from ..shapes import Size
from ..style import Style
from ..stylizer import Stylizer
from .models import add_model, loaded
from .progress import Progress
from .weights import FAILED

GLOB = set("*?[")
KEPT = ("cues", "shots", "size", "codec", "crf", "pix_fmt", "preset")  # by a redo, from the job


def add_stylize(commands) -> None:
    command = commands.add_parser(
        "stylize",
        help="restyle a clip, or a folder of clips; run it again after a break to go on",
        epilog="A job that is stopped in any way goes on with the same command.",
    )
    command.add_argument("source", metavar="IN", type=Path, help="a clip, a folder, or a pattern")
    command.add_argument("out", metavar="OUT", type=Path, help="a clip, a folder, or - for a pipe")
    style = command.add_argument_group("style")
    style.add_argument("--style", metavar="PROMPT", help='such as "ink wash painting"')
    style.add_argument("--reference", metavar="IMAGE", type=Path)
    style.add_argument("--strength", type=float, default=1.0, help="less keeps more of the source")
    style.add_argument("--cues", metavar="FILE", type=Path, help="styles over time, a line each")
    style.add_argument("--shots", metavar="off|auto|FILE", help="where cuts are")
    style.add_argument("--seed", type=int, help="of the noise; default: 0")
    picture = command.add_argument_group("picture")
    add_picture(picture)
    picture.add_argument("--preview", metavar="JPG", type=Path, help="keep a small picture here")
    add_model(command.add_argument_group("model"))
    add_fleet(command.add_argument_group("many machines"))
    more = command.add_argument_group("more")
    more.add_argument("--frames", metavar="A:B", help="of a finished OUT, redo these in --style")
    more.add_argument("--compare", action="store_true", help="also write source | styled")
    more.add_argument(
        "--ranks",
        choices=("heads", "stages"),
        help="on all processes of torchrun: what each of them has of the model's work",
    )
    more.add_argument("--pipe", choices=("y4m", "raw"), default="y4m", help="what OUT - gets")
    command.add_argument("--force", action="store_true", help="replace OUT where it exists")
    command.set_defaults(run=_stylize)


def add_picture(group) -> None:
    group.add_argument("--size", metavar="WxH", help="or source, the default")
    group.add_argument("--codec", choices=CODECS, help="default: h264, in .webm vp9")
    group.add_argument("--crf", type=int, help="quality: less is better, and larger")
    group.add_argument("--pix-fmt", help="pixel format, as FFmpeg calls it")
    group.add_argument("--preset", help="of the encoder")


def add_fleet(group) -> None:
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="local",
        help="on a Ray cluster (auto, or HOST:PORT); on this machine where no address is given",
    )
    group.add_argument("--workers", type=int, metavar="N", help="default: as many as fit")
    group.add_argument("--cores", type=int, metavar="N", help="CPU cores of each worker")
    group.add_argument("--per-gpu", type=int, metavar="N", default=1, help="workers on a GPU")


def size_of_clips(chosen: argparse.Namespace) -> Size:
    """Of what is to be styled: as asked for, or the clip's own."""
    if (size := as_picture_size(chosen.size)) is not None:
        return size
    if is_many(chosen.source):
        raise ClipError("--memory for a folder needs --size: its clips may have many sizes.")
    with open_source(chosen.source) as source:
        return source.info.size


def is_many(source: Path) -> bool:
    return source.is_dir() or (bool(GLOB & set(str(source))) and not source.exists())


def _stylize(chosen: argparse.Namespace) -> int:
    ranks.join()
    try:
        return _alone_or_together(chosen)
    finally:
        ranks.leave()


def _alone_or_together(chosen: argparse.Namespace) -> int:
    if chosen.ray is not None:
        from .fleet import stylize_on_fleet  # and with it the room of many machines

        return stylize_on_fleet(chosen)
    if ranks.count() > 1 and not chosen.ranks:
        raise RankError("Several processes would write one OUT: say --ranks heads, or stages.")
    styles = () if chosen.frames else _styles(chosen)
    stylizer = loaded(chosen, partial(size_of_clips, chosen), styles)
    if not chosen.ranks:
        return _styled(chosen, stylizer)
    from ..scale.together import together  # of no use to one process

    return together(stylizer, chosen.ranks, partial(_styled, chosen)) or 0


def _styled(chosen: argparse.Namespace, stylizer: Stylizer) -> int:
    if chosen.frames:
        return _redo(chosen, stylizer)
    if str(chosen.out) == "-":
        return _pipe(chosen, stylizer)
    if is_many(chosen.source):
        return _folder(chosen, stylizer)
    _one(chosen, stylizer, chosen.source, chosen.out)
    return 0


def _pipe(chosen: argparse.Namespace, stylizer: Stylizer) -> int:
    task = task_of(chosen, chosen.source, Path("-.mp4"))
    with open_source(chosen.source) as opened:
        info = opened.info
    size, progress = task.size or info.size, Progress(info.frames, chosen.preview)
    # Not sys.stdout: at exit Python would wait for it, where a reader that stands still holds it.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    pipe = Y4mPipe(out, info, size) if chosen.pipe == "y4m" else RawPipe(out, info)
    Job(task, stylizer, progress).stream(pipe)
    progress.close()
    return 0


def _redo(chosen: argparse.Namespace, stylizer: Stylizer) -> int:
    """Everything but the new style is as the finished job has it."""
    given = [f"--{name.replace('_', '-')}" for name in KEPT if getattr(chosen, name) is not None]
    if given:
        raise ClipError(
            f"--frames does a span again as the finished job was done: leave out "
            f"{', '.join(given)}, or run it again with --force and without --frames."
        )
    span, (cue, style) = as_span(chosen.frames), one_style(chosen)
    if not folder_of(chosen.out).is_dir():
        raise ClipError(f"There is no job of {chosen.out} beside it: redo needs its folder.")
    known = Manifest.read(folder_of(chosen.out)).facts
    sheet = CueSheet.parse(known["cues"])
    task = Task(
        source=chosen.source,
        out=chosen.out,
        sheet=sheet,
        styles=sheet.styles(Path()),
        codec=Codec(**{**known["codec"], "suffixes": tuple(known["codec"]["suffixes"])}),
        size=Size(*known["size"]) if known["size"] else None,
        shots=known["shots"] if known["shots"] in ("off", "auto") else parse_shots(known["shots"]),
        seed=known["seed"],
        segment_frames=known["segment_frames"],
        compared=chosen.compare,
        command=shlex.join(sys.argv),
    )
    progress, cue = Progress(None, chosen.preview), replace(cue, seed=chosen.seed)
    done = redo(Job(task, stylizer, progress), span, cue, style)
    progress.close()
    print(f"{chosen.out}: {len(span)} of {done.frames} frames done again")
    return 0


def _folder(chosen: argparse.Namespace, stylizer: Stylizer) -> int:
    """Every clip of a folder with one loaded model."""
    one = partial(_one, chosen, stylizer)
    rows = list(each(clips_in(chosen.source), chosen.out, chosen.codec, one, force=chosen.force))
    print(table(rows))
    return FAILED if any(row.failed for row in rows) else 0


def _one(chosen: argparse.Namespace, stylizer: Stylizer, source: Path, out: Path) -> Done:
    task = task_of(chosen, source, out)
    with open_source(source) as opened:
        progress = Progress(opened.info.frames, chosen.preview)
    done = Job(task, stylizer, progress).run(force=chosen.force)
    progress.close()
    for note in (*done.notes, *filter(None, [done.damage])):
        print(f"rtr: {note}", file=sys.stderr)
    print(f"{out}: {done.frames} frames, {progress.rate:.1f} a second")
    if done.drift is not None:
        print(f"drift at most: {done.drift}")
    if task.compared:
        print(f"{task.beside}: source | styled")
    return done


def task_of(chosen: argparse.Namespace, source: Path, out: Path) -> Task:
    sheet, folder = _sheet(chosen)
    return Task(
        source=source,
        out=out,
        sheet=sheet,
        styles=sheet.styles(folder),
        codec=as_codec(chosen, out),
        size=as_picture_size(chosen.size),
        shots=as_shots(chosen.shots),
        seed=chosen.seed or 0,
        compared=chosen.compare,
        command=shlex.join(sys.argv),
    )


def _sheet(chosen: argparse.Namespace) -> tuple[CueSheet, Path]:
    """The cue sheet, or one of a single cue, and the folder its references are in."""
    if chosen.cues is not None:
        if chosen.style or chosen.reference:
            raise StyleError("Give --cues, or --style and --reference, not both.")
        return with_whole_paths(CueSheet.read(chosen.cues), chosen.cues.parent), Path()
    cue, _ = one_style(chosen)
    return CueSheet((cue,)), Path()


def _styles(chosen: argparse.Namespace) -> Iterable[Style]:
    """All styles that are asked for, so that what is wrong in them is said at once."""
    sheet, folder = _sheet(chosen)
    return sheet.styles(folder).values()


def with_whole_paths(sheet: CueSheet, folder: Path) -> CueSheet:
    """A sheet that means the same wherever it is read again."""
    return replace(
        sheet,
        cues=tuple(
            replace(
                cue,
                reference=cue.reference and str((folder / cue.reference).resolve()),
                loras=tuple((str((folder / path).absolute()), s) for path, s in cue.loras),
            )
            for cue in sheet.cues
        ),
    )


def one_style(chosen: argparse.Namespace) -> tuple[Cue, Style]:
    """What --style and --reference ask for."""
    if not (chosen.style or chosen.reference):
        raise StyleError("Say what it should look like: --style, --reference or --cues.")
    reference = str(chosen.reference.resolve()) if chosen.reference else None
    start = Moment.parse("00:00")
    cue = Cue(start=start, prompt=chosen.style, reference=reference, strength=chosen.strength)
    return cue, CueSheet((cue,)).styles(Path())[cue]


def as_codec(chosen: argparse.Namespace, out: Path) -> Codec:
    return pick_codec(
        out, chosen.codec, crf=chosen.crf, pix_fmt=chosen.pix_fmt, preset=chosen.preset
    )


def as_span(text: str) -> range:
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ClipError(f"--frames is a first frame and an end such as 480:620, not {text!r}.")
    return range(int(first), int(end))


def as_picture_size(text: str | None) -> Size | None:
    if text in (None, "source"):
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ClipError(f"--size is a width and a height such as 832x480, or source; not {text!r}.")
    return Size(int(height), int(width))


def as_shots(text: str | None) -> Literal["off", "auto"] | Shots:
    if text == "auto":
        return "auto"
    return "off" if text in (None, "off") else read_shots(text)
