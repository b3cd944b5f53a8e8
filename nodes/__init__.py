"""RTR in ComfyUI: the only room that knows the host. Each node is a schema, a conversion and one
call into the core."""

from comfy_api.latest import ComfyExtension, io

from .clip import StylizeFolder, StylizeVideo
from .live import Live, add_routes
from .loaders import LoadModel, Sample
from .session import Session, SwitchStyle
from .stream import Stream
from .style import CueSheet, MixStyles, Style
from .stylize import StylizeReference, StylizeText

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "nodes/web"

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    Style,
    CueSheet,
    MixStyles,
    StylizeText,
    StylizeReference,
    StylizeVideo,
    StylizeFolder,
    Stream,
    SwitchStyle,
    Session,
    Live,
    Sample,
]


add_routes()


class RtrExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> RtrExtension:
    return RtrExtension()
