"""`rtr live`: a page that restyles a camera, served from here."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..cues import CueSheet
from ..errors import RtrError
from ..shapes import Size
from ..style import Style
from ..stylizer import BUILT_IN, file_of, prompt_folder
from ..weights.bundle import read_about
from ..weights.read import open_weights
from .models import add_model, loaded

SIDE, SIDE_OF_OTHERS = 256, 480
USUAL = ("ink wash painting", "watercolor painting", "oil painting", "pencil sketch", "cel cartoon")


def add_live(commands) -> None:
    command = commands.add_parser("live", help="a page that restyles a camera while it runs")
    place = command.add_argument_group("place")
    place.add_argument("--listen", metavar="HOST", default="127.0.0.1", help="0.0.0.0: all devices")
    place.add_argument("--port", type=int, default=8190)
    place.add_argument("--tls", action="store_true", help="secure, as phones want it for a camera")
    place.add_argument(
        "--transport",
        choices=("auto", "webrtc", "websocket"),
        default="auto",
        help="of frames; auto: WebRTC where aiortc is installed and the page is on another device",
    )
    place.add_argument("--most", type=int, default=4, help="pages at a time")
    what = command.add_argument_group("what")
    what.add_argument(
        "--styles", metavar="FILE", type=Path, help="chips: a prompt or @image a line"
    )
    what.add_argument("--side", type=int, help="streams have about as many pixels as this square")
    what.add_argument("--seed", type=int, default=0)
    what.add_argument("--takes", metavar="FOLDER", type=Path, default=Path("takes"))
    what.add_argument("--as-trained", action="store_true", help="the file's recipe, not the quick")
    what.add_argument("--virtual-camera", action="store_true", help="also show it as a camera")
    add_model(command.add_argument_group("model"))
    command.set_defaults(run=_live)


def _live(chosen: argparse.Namespace) -> int:
    try:
        from ..live.server import Place, serve
    except ImportError as error:
        raise RtrError(f"`rtr live` needs a package: pip install aiohttp ({error})") from error
    from ..live.apart import apart
    from ..live.camera import VirtualCamera
    from ..live.stage import Stage, low_latency
    from ..live.viewer import Setup

    side = chosen.side or (SIDE if chosen.model == [BUILT_IN] else SIDE_OF_OTHERS)
    chips = chips_of(chosen)
    styles = [chip.style for chip in chips]
    stylizer = apart(lambda: loaded(chosen, partial(Size, side, side), styles))
    if not chosen.as_trained:
        stylizer = replace(stylizer, recipe=low_latency(stylizer.recipe))
    setup = Setup(chips=chips, side=side, seed=chosen.seed, takes=chosen.takes)
    stage = Stage.of(stylizer, setup, most=chosen.most)
    if chosen.virtual_camera:
        stage.sinks.append(VirtualCamera(Size(side, side)))
    certificates = prompt_folder().with_name("certificates") if chosen.tls else None
    place = Place(
        host=chosen.listen,
        port=chosen.port,
        certificates=certificates,
        transport=chosen.transport,
    )
    serve(stage, place, say=partial(print, flush=True))
    return 0


def chips_of(chosen: argparse.Namespace) -> list[Any]:
    """Those of --styles, or the styles that the model has learned, or a few that any knows."""
    from ..live.viewer import Chip

    if chosen.styles is not None:
        lines = chosen.styles.read_text(encoding="utf-8").splitlines()
        said = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        sheet = CueSheet.parse("\n".join(f"f{n} {line}" for n, line in enumerate(said)))
        styles = sheet.styles(chosen.styles.parent)
        return [
            Chip(name_of(cue.prompt or Path(cue.reference or "").stem), styles[cue])
            for cue in sheet.cues
        ]
    about = read_about(open_weights(file_of(chosen.model[0])))
    prompts = about.styles if about and about.styles else USUAL
    return [Chip(name_of(prompt), Style(prompt=prompt)) for prompt in prompts]


def name_of(prompt: str) -> str:
    """A prompt in as few words as a chip has room for."""
    return prompt.split(",")[0].strip()
