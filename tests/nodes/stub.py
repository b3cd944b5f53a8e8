"""As much of a host as the pack needs to be loaded and asked about itself. It runs nothing."""

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from torch import nn

ROOT = Path(__file__).parents[2]
ENTRY = "realtime-rerenderer.v1"  # a folder that is no name in Python
KINDS = (
    *("Image", "Mask", "Model", "Clip", "Vae", "Video", "Conditioning"),
    *("Combo", "Int", "Float", "Boolean", "String"),
)


@dataclass
class Socket:
    """An input or output as it was told."""

    kind: str
    id: str | None = None
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def is_widget(self) -> bool:
        return self.kind in ("Int", "Float", "String", "Boolean", "Combo")


class Kind:
    """`io.Image`, say: makes sockets."""

    def __init__(self, name: str):
        self.name = name

    def Input(self, id: str, **told: Any) -> Socket:
        return Socket(self.name, id, told)

    def Output(self, id: str | None = None, **told: Any) -> Socket:
        return Socket(self.name, id, told)


@dataclass
class Schema:
    """What 0.3.64 knows of a node."""

    node_id: str
    display_name: str | None = None
    category: str = ""
    inputs: list[Socket] = field(default_factory=list)
    outputs: list[Socket] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False


class VideoFromFile(SimpleNamespace):
    """A VIDEO that lies in a file, or in one that is held in memory."""


def io() -> SimpleNamespace:
    return SimpleNamespace(
        **{name: Kind(name) for name in KINDS},
        Custom=Kind,
        Schema=Schema,
        Input=Socket,
        ComfyNode=type("ComfyNode", (), {}),
        NodeOutput=MagicMock,
        Hidden=SimpleNamespace(unique_id="id", extra_pnginfo="info", prompt="prompt"),
        FolderType=SimpleNamespace(output="output"),
    )


def modules(folder: Path) -> dict[str, ModuleType]:
    """The host's modules that the pack imports, by name."""
    paths = {
        "get_filename_list": lambda _: ["one.safetensors"],
        "get_input_directory": lambda: str(folder),
        "get_output_directory": lambda: str(folder),
        "get_temp_directory": lambda: str(folder / "temp"),
    }
    told: dict[str, dict[str, Any]] = {
        "comfy_api": {},
        "comfy_api.latest": {
            "ComfyExtension": object,
            "InputImpl": SimpleNamespace(VideoFromFile=VideoFromFile),
            "io": io(),
            "ui": MagicMock(),
        },
        "comfy_execution": {},
        "comfy_execution.graph_utils": {"ExecutionBlocker": MagicMock},
        "folder_paths": paths,
        "server": {"PromptServer": MagicMock()},
        "comfy": {},
        "comfy.latent_formats": {"Wan21": MagicMock, "Wan22": MagicMock},
        "comfy.model_base": {"BaseModel": nn.Module, "ModelType": MagicMock()},
        "comfy.model_management": {"get_torch_device": MagicMock()},
        "comfy.model_patcher": {"ModelPatcher": type("ModelPatcher", (), {})},
        "comfy.ops": {},
        "comfy.patcher_extension": {"CallbacksMP": MagicMock()},
        "comfy.sd": {"VAE": object, "CLIP": object},
        "comfy.supported_models": {},
        "comfy.utils": {},
    }
    made = {}
    for name, values in told.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(values)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, made[name])
    return made


def load(folder: Path) -> ModuleType:
    """The pack as a host loads it: by the path of its folder, which is not on `sys.path`."""
    pack = folder / "custom_nodes" / ENTRY
    pack.mkdir(parents=True)
    for name in ("__init__.py", "nodes", "rtr_core"):
        (pack / name).symlink_to(ROOT / name)
    name = str(pack).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, pack / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
