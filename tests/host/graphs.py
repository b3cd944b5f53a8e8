"""Graphs in the form that the host's API takes."""

from itertools import count
from typing import Any

Graph = dict[str, dict[str, Any]]
DEFAULTS: dict[str, dict[str, Any]] = {
    "RTRLoadModel": {
        "checkpoint": "rtr-tiny",
        "weight_dtype": "default",
        "vae_file": "from the checkpoint",
        "text_encoder_file": "from the checkpoint",
        "recipe": "",
    },
    "RTRStyle": {"prompt": "ink wash painting", "strength": 1.0},
    "RTRMixStyles": {"weight": 0.5, "way": "linear"},
    "RTRStylizeText": {"prompt": "ink wash painting", "strength": 1.0, "seed": 1, "fps": 24.0},
    "RTRStylizeReference": {"prompt": "", "strength": 1.0, "seed": 1},
    "RTRStream": {
        "session_name": "",
        "seed": 1,
        "fade": 0,
        "fps": 24.0,
        "while_waiting": "the last styled frame",
        "reset": False,
        "flush": False,
        "history": 0,
    },
    "RTRSwitchStyle": {"fade": 0, "seed": -1},
    "RTRSession": {"action": "inspect", "session_name": "", "other_name": "", "chunks": 1},
    "RTRStylizeVideo": {
        "width": 0,
        "height": 0,
        "codec": "h264",
        "shots": "off",
        "seed": 1,
        "filename_prefix": "video/rtr",
    },
    "RTRStylizeFolder": {
        "width": 0,
        "height": 0,
        "codec": "h264",
        "shots": "off",
        "seed": 1,
        "output_folder": "rtr",
    },
    "RTRLive": {
        "side": 96,
        "most_pages": 4,
        "seed": 0,
        "low_latency": True,
        "queue_when_recorded": True,
    },
    "RTRSample": {"painting": "the-kiss"},
    "ProbeFrames": {"start": 0, "count": 9, "width": 48, "height": 32},
    "ProbeMask": {"width": 48, "height": 32},
}


class Wires:
    """A graph under construction: `graph.add("RTRStyle", prompt="oil")` gives its first output."""

    def __init__(self) -> None:
        self.nodes: Graph = {}
        self._ids = count(1)

    def add(self, kind: str, **inputs: Any) -> "Wire":
        number = str(next(self._ids))
        told = {k: v.as_link() if isinstance(v, Wire) else v for k, v in inputs.items()}
        self.nodes[number] = {"class_type": kind, "inputs": DEFAULTS.get(kind, {}) | told}
        return Wire(number, 0)

    def model(self, **chosen: Any) -> dict[str, "Wire"]:
        """`model` and `vae` of a loader, as inputs of a node."""
        loader = self.add("RTRLoadModel", **chosen)
        return {"model": loader, "vae": loader[2]}


class Wire:
    """An output of a node; `wire[1]` is its next one."""

    def __init__(self, node: str, output: int):
        self.node, self.output = node, output

    def __getitem__(self, output: int) -> "Wire":
        return Wire(self.node, output)

    def as_link(self) -> list[Any]:
        return [self.node, self.output]
