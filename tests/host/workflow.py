"""A workflow as artists save it, as the graph that the host's page would queue."""

import json
from pathlib import Path
from typing import Any

CONTROLS = {"fixed", "increment", "decrement", "randomize"}
NOT_QUEUED = {"Note", "MarkdownNote"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def as_graph(workflow: dict[str, Any], known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By the host's own account of its nodes (`/object_info`)."""
    origin = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_QUEUED:
            continue
        inputs = values_of(node, known[node["type"]])
        inputs |= {i["name"]: origin[i["link"]] for i in node["inputs"] if i["link"] is not None}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def values_of(node: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Widgets by name; a seed may be followed by what becomes of it after the run."""
    values, chosen = list(node["widgets_values"]), {}
    kinds = (about["input"].get(kind, {}) for kind in ("required", "optional"))
    for name, spec in (pair for kind in kinds for pair in kind.items()):
        if not (isinstance(spec[0], list) or spec[0] in WIDGETS):
            continue
        chosen[name] = values.pop(0)
        options = spec[1] if len(spec) > 1 else {}
        if options.get("control_after_generate") and values and values[0] in CONTROLS:
            values.pop(0)
    return chosen
