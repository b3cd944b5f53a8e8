"""Live inside the host: a page of the host's own server, on the model and styles of a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import ref

import comfy.model_management as mm
import folder_paths
from comfy.patcher_extension import CallbacksMP
from comfy_api.latest import InputImpl, io
from comfy_execution.graph_utils import ExecutionBlocker
from server import PromptServer

from ..rtr_core import Style as CoreStyle
from ..rtr_core import Stylizer
from ..rtr_core.live.routes import Routes
from ..rtr_core.live.server import Place
from ..rtr_core.live.stage import Away, Stage, Tokens, low_latency
from ..rtr_core.live.take import TakeDone
from ..rtr_core.live.viewer import Chip, Setup
from ..rtr_core.session import unwatched
from ..rtr_core.timeline import Timeline
from . import schema as inputs
from .host import Feedback, lent, loaded, stylizer_of
from .types import RtrStyle

FOLDER = "rtr_takes"  # in the host's output folder
PLACES = 8  # for styles; each cue of a sheet is one more
RECORDED = "rtr.live.recorded"  # the event that tells the host's page of a take


class Live(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRLive",
            "RTR Live",
            description="Opens a page that restyles a camera while it runs: queue once, then open "
            "it by the button. A recording comes out as a video.",
            search_aliases=["camera", "webcam", "realtime", "performance", "webrtc"],
            inputs=[inputs.model_input(), inputs.vae_input(), *choice_inputs(), *chip_inputs()],
            outputs=[
                io.Video.Output(display_name="recording"),
                io.String.Output(display_name="link"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """A recording may have ended since."""
        return float("nan")

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        side: int,
        most_pages: int,
        seed: int,
        low_latency: bool,
        queue_when_recorded: bool,
        **wired: Timeline,
    ) -> io.NodeOutput:
        about = (cls.hidden.extra_pnginfo or {}).get("workflow") or {}
        name = f"{about.get('id', 'api')}:{cls.hidden.unique_id}"
        feedback = Feedback(cls.hidden.unique_id)
        weights = Weights(model, vae, side, low_latency, most_pages)
        with weights() as stylizer:
            chips = chips_of([wired[n] for n in sorted(wired) if wired[n] is not None], model)
            takes = Path(folder_paths.get_output_directory()) / FOLDER
            setup = Setup(chips=chips, side=side, seed=seed, takes=takes)
            stage = STAGES.open(name, setup, weights, most_pages, stylizer.parts.name)
        link = f"/rtr/live?token={stage.tokens.perform}&stage={name}"
        take = stage.recorded[-1] if stage.recorded else None
        feedback.end()
        feedback.say(said(stage, take))
        recording = ExecutionBlocker(None)
        if take is not None:
            recording = InputImpl.VideoFromFile(str(take.styled))
        told = {"rtr_live": [{"link": link, "queue": queue_when_recorded}]}
        return io.NodeOutput(recording, link, ui=told)


def choice_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "side",
            default=256,
            min=64,
            max=2048,
            step=16,
            tooltip="A stream has about as many pixels as a square of this side, in the shape of "
            "the camera's picture.",
        ),
        io.Int.Input(
            "most_pages",
            default=4,
            min=1,
            max=64,
            tooltip="Each page has a session of its own. Further ones are told that it is full.",
        ),
        inputs.seed_input("Of the noise, for every page and every recording."),
        io.Boolean.Input(
            "low_latency",
            default=True,
            tooltip="Chunks of one latent frame, steps in a pipeline. Off: the recipe that the "
            "model was trained with.",
        ),
        io.Boolean.Input(
            "queue_when_recorded",
            default=True,
            tooltip="Queue the graph when a recording ends, so that it comes out here.",
        ),
    ]


def chip_inputs() -> list[io.Input]:
    return [
        RtrStyle.Input(
            f"style_{number}",
            optional=True,
            tooltip="A chip of the page; of a cue sheet each line is one. None wired: the styles "
            "that the model has learned.",
        )
        for number in range(1, PLACES + 1)
    ]


class Weights:
    """The host's model for as long as the host keeps it: brought back after it was pushed out, and
    not held against the host's will."""

    def __init__(self, model: Any, vae: Any, side: int, quick: bool, pages: int):
        self.model, self.vae = ref(model), ref(vae)
        self.side, self.quick, self.pages = side, quick, pages
        self._stylizer: Stylizer | None = None
        self._held: Any = model, vae  # a host without a cache has them no longer than a run
        model.add_callback_with_key(CallbacksMP.ON_DETACH, "rtr live", self._let_go)

    def _let_go(self, patcher: Any, unpatch_all: bool = True) -> None:
        """The host wants its memory back: from here on it is the host's to keep the model."""
        if unpatch_all:
            self._held = None

    @contextmanager
    def __call__(self) -> Iterator[Stylizer]:
        model, vae = self.model(), self.vae()
        if model is None or vae is None:
            raise Away("ComfyUI has let go of the model: queue the graph, and the stream goes on.")
        if self._stylizer is not None and is_loaded(model) and is_loaded(vae.patcher):
            yield self._stylizer
            return
        if is_busy() and self._stylizer is not None:
            raise Away("Another graph has the device: the stream goes on when it is done.")
        size = (self.side, self.side)
        with loaded(model, vae, unwatched, size, sessions=self.pages):  # room for every page
            self._stylizer = lent(self._told(stylizer_of(model, vae, unwatched)))
            yield self._stylizer

    def _told(self, stylizer: Stylizer) -> Stylizer:
        if not self.quick:
            return stylizer
        return Stylizer.of(stylizer.parts, **vars(low_latency(stylizer.recipe)))


class Stages:
    """Stages by the nodes that opened them. One that is opened anew keeps its link."""

    def __init__(self):
        self._stages: dict[str, Stage] = {}
        self._tokens: dict[str, Tokens] = {}

    def find(self, name: str) -> Stage | None:
        return self._stages.get(name)

    def open(self, name: str, setup: Setup, weights: Weights, most: int, model: str) -> Stage:
        """The stage of this node. Where only the weights are others, its pages go on."""
        stage = self._stages.get(name)
        if stage is not None and is_same(stage.setup, setup) and stage.most == most:
            stage.weights, stage.name = weights, model
            return stage
        recorded = []
        if stage is not None:
            recorded = stage.recorded
            stage.close()
        tokens = self._tokens.setdefault(name, Tokens())
        stage = Stage(setup, weights, is_busy, most, tokens)
        stage.name, stage.recorded = model, recorded
        stage.on_recorded = lambda take: tell(name, take)
        self._stages[name] = stage
        return stage


STAGES = Stages()


def chips_of(timelines: list[Timeline], model: Any) -> tuple[Chip, ...]:
    """A chip for each wired style, in the order of the sockets."""
    styles = [style for timeline in timelines for style in timeline.styles.values()]
    if not styles:
        learned = getattr(getattr(model.model, "origin", None), "styles", ())
        styles = [CoreStyle(prompt=prompt) for prompt in learned or ("ink wash painting",)]
    return tuple(Chip(str(style).split(",")[0], style) for style in styles)


def is_same(one: Setup, other: Setup) -> bool:
    """Whether pages of the one would see no difference in the other."""
    told = [
        ([(chip.name, chip.style.fingerprint) for chip in s.chips], s.side, s.seed, s.takes)
        for s in (one, other)
    ]
    return told[0] == told[1]


def is_loaded(patcher: Any) -> bool:
    """Whether the host has it on the device now."""
    return any(entry.model is patcher for entry in mm.current_loaded_models)


def is_busy() -> bool:
    """Whether a graph is running."""
    server = PromptServer.instance
    return server is not None and bool(server.prompt_queue.currently_running)


def said(stage: Stage, take: TakeDone | None) -> str:
    pages = f"{stage.viewers} of {stage.most} pages"
    return pages if take is None else f"{pages} | {take.name}, {take.frames} frames"


def tell(name: str, take: TakeDone) -> None:
    """The host's page is told of a take, so that it can queue the graph."""
    server = PromptServer.instance
    if server is not None:
        server.send_sync(RECORDED, {"stage": name, "take": take.name, "frames": take.frames})


def links(request: Any) -> list[str]:
    """Where other devices find the host."""
    server = PromptServer.instance
    place = Place(host=server.address, port=server.port)
    return [link.replace("http", request.scheme, 1) for link in place.links]


def add_routes() -> None:
    """Once, while the host loads its packs; a host that only lists nodes has no server."""
    if PromptServer.instance is not None:
        Routes(STAGES.find, links).add(PromptServer.instance.routes)
