"""`rtr eval`: outputs measured against their sources, with a page to look at."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ClipError
from ..media.batch import clips_in
from ..media.source import open_source
from ..media.target import failures_named, written_whole
from .clips import one_style
from .models import add_model, loaded
from .weights import FAILED

if TYPE_CHECKING:
    from ..evaluate.showings import Showing
    from ..evaluate.triples import Skipped

    Showings = list[tuple[str, Callable[[], Showing]]]

FOUND = """\
What belongs together in DIR, and in the folders in it, each of which is a method of its own:
  NAME.source.mp4, NAME.output.mp4, and NAME.txt (the prompt) or NAME.reference.png, or both
  what `rtr stylize` wrote: OUT with OUT.json beside it, which names source and style
With --style or --reference, clips are taken instead, and run through --model on the way.
Weights are files and folders on this machine; without them a metric has no value and says why.
It ends well if everything was measured. docs/eval.md says what each metric is and cannot see.
Needs OpenCV."""


def add_eval(commands) -> None:
    command = commands.add_parser(
        "eval",
        help="measure outputs against their sources, and write a page to look at",
        epilog=FOUND,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("places", metavar="DIR|CLIP", nargs="+", type=Path)
    command.add_argument("--report", metavar="HTML", type=Path, help="a page; its .json beside it")
    command.add_argument("--side", type=int, help="pixels of the longer side; default: 384")
    _add_weights(command.add_argument_group("weights"))
    run = command.add_argument_group("running the model")
    run.add_argument("--style", metavar="PROMPT")
    run.add_argument("--reference", metavar="IMAGE", type=Path)
    run.add_argument("--strength", type=float, default=1.0, help="less keeps more of the source")
    run.add_argument("--seed", type=int, default=0, help="of the noise; default: 0")
    add_model(run)
    command.set_defaults(run=_eval)


def _add_weights(group) -> None:
    group.add_argument("--clip", metavar="FOLDER", type=Path, help="CLIP, as transformers saves it")
    group.add_argument("--aesthetic", metavar="FILE", type=Path, help="LAION's linear head")
    group.add_argument("--csd", metavar="FILE", type=Path, help="checkpoint of CSD")
    group.add_argument("--musiq", metavar="FILE", type=Path, help="checkpoint of MUSIQ on SPAQ")
    group.add_argument("--depth-model", metavar="FOLDER", type=Path, help="such as Depth Anything")
    group.add_argument("--vgg", metavar="FILE", type=Path, help="VGG16, to tell styles by")
    group.add_argument("--every", type=int, default=1, help="so manyth frame is shown to these")


def _eval(chosen: argparse.Namespace) -> int:
    from ..appearance import LocalPatterns
    from ..evaluate.by_weights import Seers, Weights  # needs OpenCV
    from ..evaluate.evaluation import SIDE, Measuring, on_screen
    from ..evaluate.page import write_page
    from ..evaluate.passages import SMALLEST
    from ..evaluate.vgg import VggGram

    if chosen.every < 1 or (chosen.side or SIDE) < SMALLEST:
        raise ClipError(f"--every is 1 or more, and --side {SMALLEST} pixels or more.")
    showings, skipped = _asked(chosen)
    weights = Weights(
        **{
            name: getattr(chosen, name)
            for name in ("clip", "aesthetic", "csd", "musiq", "depth_model")
        }
    )
    measuring = Measuring(
        descriptor=VggGram(chosen.vgg) if chosen.vgg else LocalPatterns(),
        seers=Seers.load(weights, chosen.device or "cpu", chosen.every),
        side=chosen.side or SIDE,
    )
    about = _about(chosen, measuring.side, measuring.descriptor.name)
    tell = partial(print, file=sys.stderr, flush=True)
    evaluation = measuring.evaluate(showings, skipped, about, tell)
    print(on_screen(evaluation))
    if chosen.report is not None:
        beside = chosen.report.with_suffix(".json")
        with written_whole(beside) as path, failures_named(beside):
            path.write_text(json.dumps(evaluation.values(), indent=1), encoding="utf-8")
        write_page(chosen.report, evaluation)
        print(f"{chosen.report}, {beside}")
    return 0 if evaluation.whole else FAILED


def _asked(chosen: argparse.Namespace) -> "tuple[Showings, list[Skipped]]":
    """What is to be measured, opened when its turn comes."""
    from ..evaluate.showings import FilesShown, ModelShown
    from ..evaluate.triples import find_triples

    showings: Showings = []
    skipped: list[Skipped] = []
    if chosen.style or chosen.reference:
        _, style = one_style(chosen)
        clips = [c for p in chosen.places for c in (clips_in(p) if p.is_dir() else [p])]
        stylizer = loaded(chosen, lambda: open_source(clips[0]).info.size, (style,))
        method = Path(chosen.model[0]).stem
        for clip in clips:
            show = partial(ModelShown, clip, stylizer, style, method, chosen.seed)
            showings.append((clip.name, show))
        return showings, skipped
    for folder in chosen.places:
        if folder.is_file():
            raise ClipError(
                f"{folder} is a clip. Say with --style or --reference how it is to be restyled, or "
                f"give a folder of sources and outputs."
            )
        found = find_triples(folder)
        skipped += found.skipped
        showings += [(triple.output.name, partial(FilesShown, triple)) for triple in found.triples]
    return showings, skipped


def _about(chosen: argparse.Namespace, side: int, descriptor: str) -> dict[str, Any]:
    """What has to be known to measure again."""
    from ..evaluate.exam import sha256

    files = {name: getattr(chosen, name) for name in ("aesthetic", "csd", "musiq", "vgg")}
    folders = {name: getattr(chosen, name) for name in ("clip", "depth_model")}
    found = {name: path for name, path in files.items() if path and path.is_file()}
    for name, folder in folders.items():
        if folder and (path := folder / "model.safetensors").is_file():
            found[name] = path
    return {
        "of": ", ".join(place.resolve().name for place in chosen.places),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "descriptor": descriptor,
        "flow": "OpenCV DIS, medium",
        "side": side,
        "every": chosen.every,
        "style": chosen.style,
        "seed": chosen.seed,
        "weights": {name: f"{path.name}, sha256 {sha256(path)}" for name, path in found.items()},
    }
