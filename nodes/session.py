"""What can be done with a session beside pushing frames into it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..rtr_core import SessionError, Stylizer
from ..rtr_core.registry import Kept
from ..rtr_core.timeline import Lead, Timeline
from . import schema as inputs
from .convert import session_name
from .host import REGISTRY, Feedback, lent, loaded, settle
from .stream import checked_name, signature_of
from .types import Link, RtrSession

FOLDER = "rtr_sessions"  # in the host's output folder
SUFFIX = ".safetensors"


class SwitchStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRSwitchStyle",
            "RTR Switch Style",
            description="Takes up another style in a running session, from its next chunk on.",
            inputs=[
                RtrSession.Input("session", tooltip="From RTR Stream or RTR Session."),
                inputs.style_input(),
                io.Int.Input(
                    "fade",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="Frames over which the style before becomes this one. 0: at once.",
                ),
                inputs.seed_input(
                    "Of new noise from here on. -1: the noise goes on as it was.", least=-1
                ),
            ],
            outputs=[RtrSession.Output(display_name="session")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """A session that was begun anew must be switched anew; to switch twice does nothing."""
        return float("nan")

    @classmethod
    def execute(cls, session: Link, style: Timeline, fade: int, seed: int) -> io.NodeOutput:
        feedback = Feedback(cls.hidden.unique_id)
        with at_work(session, feedback) as lead:
            done = lead.switch(style, fade=fade, seed=None if seed < 0 else seed)
        feedback.say(f"{style}, from the next chunk on" if done else f"{style} already")
        return io.NodeOutput(session)


class Session(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRSession",
            "RTR Session",
            description="Saves, loads, forks, rewinds, resets, closes or shows a session. It acts "
            "at every queue run: set it back to inspect when it has.",
            inputs=[
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    tooltip="save and load keep it on disk in output/rtr_sessions; fork makes a "
                    "twin; rewind goes back some chunks and forgets the frames after them.",
                ),
                io.String.Input(
                    "session_name",
                    default="",
                    tooltip="The session, where none is wired. load begins or replaces it.",
                ),
                io.String.Input(
                    "other_name",
                    default="",
                    tooltip="save and load: the file's name without ending. fork: the twin's name.",
                ),
                io.Int.Input(
                    "chunks",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How far to rewind. The stream must keep a history of as many chunks.",
                ),
                RtrSession.Input("session", optional=True, tooltip="From RTR Stream."),
                inputs.model_input(optional=True),
                inputs.vae_input(optional=True),
            ],
            outputs=[
                RtrSession.Output(display_name="session"),
                io.String.Output(display_name="status"),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return float("nan")

    @classmethod
    def validate_inputs(cls, session_name: Any = None, other_name: Any = None) -> bool | str:
        wrong = [name for name in map(checked_name, (session_name, other_name)) if name is not True]
        return wrong[0] if wrong else True

    @classmethod
    def execute(
        cls,
        action: str,
        session_name: str,
        other_name: str,
        chunks: int,
        session: Link | None = None,
        model: Any = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        link = _link(session, session_name, model, vae)
        feedback = Feedback(cls.hidden.unique_id)
        link, status = ACTIONS[action](link, other_name.strip(), chunks, feedback)
        feedback.say(status)
        return io.NodeOutput(link, status, ui=ui.PreviewText(status))


@contextmanager
def at_work(link: Link, feedback: Feedback) -> Iterator[Lead]:
    """A kept session, with its weights lent to it."""
    kept = REGISTRY.get(link.name)
    size = kept.lead.session.settings.size
    with loaded(link.model, link.vae, feedback.watch, size, kept) as stylizer:
        yield settle(kept, stylizer, link.model, link.vae)


def _link(session: Link | None, name: str, model: Any, vae: Any) -> Link:
    """The wired session, or the one named, with the weights that it is to go on with."""
    name = name.strip()
    if session is None and not name:
        raise SessionError("Wire a session into RTR Session, or give the name of one.")
    model = model or (session.model if session else None)
    vae = vae or (session.vae if session else None)
    if model is None or vae is None:
        raise SessionError("Wire model and vae into RTR Session, or a session that has them.")
    return Link(name if session is None else session.name, model, vae)


def _inspect(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    with at_work(link, feedback) as lead:
        facts = lead.facts()
    return link, "\n".join([f"session: {link.name}", *(f"{k}: {v}" for k, v in facts.items())])


def _save(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    path = _file(other or link.name.replace(":", "-"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with at_work(link, feedback) as lead:
        lead.session.save(path)
        return link, f"{path.name}: {lead.facts()['session MB']} MB, {lead.session}"


def _load(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    path = _file(other or link.name.replace(":", "-"))
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob(f"*{SUFFIX}"))) or "none"
        raise SessionError(
            f"There is no saved session {path.stem!r} in {FOLDER}; there are {there}."
        )
    with loaded(link.model, link.vae, feedback.watch, (8, 8)) as stylizer:
        session = lent(stylizer).load_session(path)
        _keep(link.name, Lead.loaded(session), stylizer)
    return link, f"{path.name} loaded: {session}"


def _fork(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    if not other or other == link.name:
        raise SessionError("A fork needs a name of its own: give it as other_name.")
    kept = REGISTRY.get(link.name)
    with at_work(link, feedback) as lead:
        twin = lead.fork()
        fork = Kept(lead=twin, signature=kept.signature, asked=kept.asked, shown=kept.shown)
        REGISTRY.keep(session_name(other), fork)
    return Link(other, link.model, link.vae), f"{other} goes on from {twin.session}"


def _rewind(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    with at_work(link, feedback) as lead:
        lead.rewind(chunks)
        return link, f"rewound {chunks} chunks, to {lead.session}"


def _reset(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    with at_work(link, feedback) as lead:
        lead.reset(lead.session.seed)
        return link, f"a new clip begins in {lead.session.style}"


def _close(link: Link, other: str, chunks: int, feedback: Feedback) -> tuple[Link, str]:
    there = REGISTRY.drop(link.name)
    return link, f"{link.name} is closed" if there else f"there was no session {link.name}"


Action = Callable[[Link, str, int, Feedback], tuple[Link, str]]
ACTIONS: dict[str, Action] = {
    "inspect": _inspect,
    "save": _save,
    "load": _load,
    "fork": _fork,
    "rewind": _rewind,
    "reset": _reset,
    "close": _close,
}


def _keep(name: str, lead: Lead, stylizer: Stylizer) -> None:
    settings = lead.session.settings
    signature = signature_of(stylizer, settings.size)
    REGISTRY.keep(name, Kept(lead=lead, signature=signature, asked=""))


def _file(name: str) -> Path:
    return Path(folder_paths.get_output_directory()) / FOLDER / f"{session_name(name)}{SUFFIX}"
