"""The stream: a session that lives on from one queue run to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..rtr_core import SessionError, StyleError, Stylizer
from ..rtr_core.registry import Kept
from ..rtr_core.shapes import as_size
from ..rtr_core.timeline import Lead, Timeline
from . import schema as inputs
from .convert import session_name, to_frames, to_images, to_rate
from .host import REGISTRY, Feedback, lent, loaded, settle
from .types import Link, RtrSession

LAST, HOLD = "the last styled frame", "nothing, and the graph waits"


class Stream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRStream",
            "RTR Stream",
            description="Pushes frames into a session that goes on with every queue run.",
            search_aliases=["live", "realtime", "kv cache", "session", "stateful"],
            inputs=[*push_inputs(), *choice_inputs()],
            outputs=[
                io.Image.Output(display_name="images"),
                RtrSession.Output(display_name="session"),
                io.String.Output(display_name="status"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """Each time another NaN, which equals nothing: a stream advances on every queue."""
        return float("nan")

    @classmethod
    def validate_inputs(cls, session_name: Any = None) -> bool | str:
        return checked_name(session_name)

    @classmethod
    def execute(
        cls,
        images: Tensor,
        model: Any,
        vae: Any,
        session_name: str,
        session: Link | None = None,
        **wanted: Any,
    ) -> io.NodeOutput:
        frames, push = to_frames(images), Push(**wanted)
        link = Link(session.name if session else name_of(cls, session_name), model, vae)
        feedback = Feedback(cls.hidden.unique_id)
        known, size = REGISTRY.find(link.name), frames.shape[1:3]
        with loaded(model, vae, feedback.watch, size, known) as stylizer:
            kept, why = found(link, stylizer, size, push)
            lead = settle(kept, stylizer, model, vae)
            feedback.expect(stylizer, len(frames), str(push.style or lead.timeline))
            lead.rate = to_rate(push.fps)
            if push.reset:
                lead.reset(push.seed)
            ask(kept, push)
            outs = lead.feed(frames, feedback.show, ends=push.flush)
            status = _status(lead, feedback, why)
        feedback.end()
        feedback.say(status)
        if outs:
            kept.shown = outs[-1][-1:]
        elif push.while_waiting == LAST and kept.shown is not None:
            outs = [kept.shown]
        return io.NodeOutput(to_images(outs) if outs else ExecutionBlocker(None), link, status)


@dataclass(frozen=True, kw_only=True)
class Push:
    """What the artist chose beside the frames."""

    seed: int
    fade: int
    fps: float
    while_waiting: str
    reset: bool
    flush: bool
    history: int
    style: Timeline | None = None


def found(link: Link, stylizer: Stylizer, size: Sequence[int], push: Push) -> tuple[Kept, str]:
    """The session of this name, or a new one where none stands on the same, and why it is new."""
    known = REGISTRY.find(link.name)

    def begin() -> Kept:
        asked = push.style or (known.lead.timeline if known else None)
        if asked is None:
            raise StyleError("A new stream needs a style: wire RTR Style into it.")
        chosen: dict[str, Any] = {"seed": push.seed, "history": push.history}
        lead = Lead.begin(lent(stylizer), asked, size, rate=to_rate(push.fps), **chosen)
        return Kept(lead=lead, signature=signature, asked=asked.fingerprint)

    signature = signature_of(stylizer, size)
    return REGISTRY.fitting(link.name, signature, begin)


def push_inputs() -> list[io.Input]:
    """What is pushed, through which weights, into which session."""
    return [
        inputs.images_input(),
        inputs.model_input(),
        inputs.vae_input(),
        io.String.Input(
            "session_name",
            default="",
            tooltip="Streams of the same name are one session. Empty: this node of this "
            "workflow has one of its own.",
        ),
        inputs.seed_input("Of the noise, when the session begins or is reset."),
        io.Int.Input(
            "fade",
            default=0,
            min=0,
            max=10000,
            tooltip="Frames over which a style that was changed here becomes the new one.",
        ),
        inputs.fps_input(),
    ]


def choice_inputs() -> list[io.Input]:
    """How it is to be pushed."""
    return [
        io.Combo.Input(
            "while_waiting",
            options=[LAST, HOLD],
            tooltip="What comes out while the frames complete no chunk yet.",
        ),
        io.Boolean.Input(
            "reset",
            default=False,
            tooltip="Begin a new clip in the active style, at every run while this is on.",
        ),
        io.Boolean.Input(
            "flush",
            default=False,
            tooltip="These are the last frames: render all that is left, so that as many "
            "frames came out as went in.",
        ),
        io.Int.Input(
            "history",
            default=0,
            min=0,
            max=64,
            tooltip="Chunks that RTR Session can rewind; it counts when a session begins. Each "
            "takes as much memory as the session.",
        ),
        inputs.style_input(optional=True),
        RtrSession.Input(
            "session",
            optional=True,
            tooltip="The session to go on with, in the place of the name: from another RTR "
            "Stream, RTR Switch Style or RTR Session.",
        ),
    ]


def signature_of(stylizer: Stylizer, size: Sequence[int]) -> dict[str, str]:
    """What a session stands on: it cannot go on with other weights, LoRA, size or recipe."""
    return {
        "model, LoRA or VAE": stylizer.parts.fingerprint,
        "size": str(as_size(size)),
        "recipe": f"{stylizer.recipe.name} ({stylizer.recipe.fingerprint})",
    }


def name_of(node: type[io.ComfyNode], name: str) -> str:
    """The session's name: as given, or else this node's own in this workflow."""
    if name.strip():
        return session_name(name.strip())
    about = node.hidden.extra_pnginfo or {}
    workflow = (about.get("workflow") or {}).get("id", "api")
    return f"{workflow}:{node.hidden.unique_id}"


def checked_name(name: Any) -> bool | str:
    """What a host is told of a name before anything runs."""
    try:
        if name:
            session_name(name.strip())
    except SessionError as error:
        return str(error)
    return True


def ask(kept: Kept, push: Push) -> None:
    """Switch where the wired style is another than at the last run; the session may have been
    switched elsewhere since, and that stays."""
    if push.style is not None and push.style.fingerprint != kept.asked:
        kept.lead.switch(push.style, fade=push.fade)
        kept.asked = push.style.fingerprint


def _status(lead: Lead, feedback: Feedback, why: str) -> str:
    facts = lead.facts()
    told = [
        f"frame {lead.frames}",
        f"chunk {facts['chunks']}",
        f"{feedback.rate:.1f} fps",
        f"cache {facts['cache MB']} MB",
        facts["style"],
        f"drift: {facts['drift']}",
    ]
    if not feedback.frames:
        told.insert(0, f"{facts['frames to the next chunk']} more frames to a chunk")
    return " | ".join([why, *told] if why else told)
