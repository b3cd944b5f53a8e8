"""The house rules: who may know whom, how long a file may be, which words are banned."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rtr_core

ROOT = Path(rtr_core.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NODES = ROOT.parent / "nodes"  # the room of the host
NODE_FILES = sorted(NODES.rglob("*.py"))
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"}

# A room may import itself and what stands here; arrows go one way, down this list.
ALLOWED = {
    "errors": set(),
    "ranks": {"errors"},
    "shapes": {"errors"},
    "flow": set(),
    "arithmetic": set(),
    "model": {"shapes", "errors", "flow"},
    "vae": {"shapes", "errors"},
    "frames": {"shapes", "errors"},
    "loras": {"errors", "moments"},
    "transaction": {"errors"},
    "appearance": set(),
    "drift": {"appearance"},
    "recipes": {"errors", "flow", "shapes", "model"},
    "families": {"errors", "model", "recipes"},
    "sampling": {"flow", "recipes"},
    "style": {"errors", "frames", "loras", "model"},
    "settings": {"errors", "recipes", "shapes"},
    "parts": {
        *("errors", "shapes", "frames", "transaction", "model", "vae", "recipes", "style"),
        *("settings", "loras"),
    },
    "structure": {"errors", "model", "recipes", "vae"},
    "weights": {
        *("shapes", "errors", "model", "vae", "recipes", "families", "parts", "structure"),
        *("loras", "arithmetic"),
    },
    "untrained": {"model", "vae", "recipes", "families", "parts"},
    "snapshot": {"errors", "loras", "shapes", "recipes", "settings", "style", "weights"},
    "intake": {"errors", "shapes", "frames", "recipes", "parts", "vae", "structure"},
    "past": {"shapes", "model", "vae", "parts", "recipes", "sampling", "style"},
    "flight": {"shapes", "vae", "parts", "recipes", "sampling", "intake", "past"},
    "placing": {"sampling", "snapshot", "style"},
    "session": {
        *("errors", "shapes", "frames", "transaction", "sampling", "style", "parts"),
        *("snapshot", "settings", "vae", "placing", "intake", "past", "flight", "drift"),
    },
    "stylizer": {
        *("errors", "shapes", "recipes", "style", "parts", "snapshot", "session"),
        *("model", "vae", "weights", "settings", "families", "loras", "structure", "flight"),
    },
    "accelerate": {"model"},
    "verify": {
        *("errors", "shapes", "recipes", "style", "transaction", "parts", "snapshot", "session"),
        *("model", "weights", "settings", "intake"),
    },
    "ledger": set(),
    "footprint": {
        *("shapes", "ledger", "model", "vae", "parts", "recipes", "session", "settings", "style"),
        *("stylizer", "transaction", "weights"),
    },
    "fitting": {"errors", "shapes", "families", "footprint", "model", "vae", "weights"},
    "moments": {"errors"},
    "cues": {"errors", "frames", "loras", "moments", "style"},
    "mask": {"errors"},
    "timeline": {"errors", "cues", "moments", "session", "style", "stylizer"},
    "registry": {"errors", "timeline"},
    "media": {
        *("errors", "shapes", "frames", "moments", "cues", "style", "settings", "mask"),
        *("recipes", "snapshot", "session", "stylizer", "weights", "footprint", "fitting"),
        "drift",
    },
    "train": {
        *("errors", "shapes", "flow", "frames", "model", "vae", "sampling", "recipes", "parts"),
        *("style", "weights", "media", "untrained", "placing", "stylizer", "families", "ledger"),
        *("structure", "ranks", "appearance", "arithmetic"),
    },
    "scale": {
        *("errors", "shapes", "frames", "loras", "model", "vae", "parts", "past", "ranks"),
        *("recipes", "sampling", "session", "settings", "snapshot", "style", "stylizer"),
        *("transaction", "cues", "media", "evaluate"),
    },
    "evaluate": {
        *("errors", "shapes", "flow", "frames", "sampling", "recipes", "style", "session"),
        *("stylizer", "parts", "model", "vae", "weights", "media", "train", "accelerate"),
        *("families", "placing", "settings", "untrained", "cues", "appearance"),
    },
    "live": {
        *("errors", "shapes", "frames", "moments", "cues", "style", "recipes", "session"),
        *("stylizer", "media"),
    },
    "demo": {"media", "shapes", "style", "stylizer"},
    "cli": {
        *("errors", "shapes", "moments", "cues", "style", "stylizer", "verify", "demo"),
        *("weights", "media", "train", "evaluate", "recipes", "families", "footprint", "fitting"),
        *("loras", "live", "appearance", "ranks", "scale"),
    },
    "__main__": {"cli"},
    "__init__": {"errors", "recipes", "session", "style", "stylizer"},
}
LONGEST_FILE, LONGEST_FUNCTION = 350, 45
BANNED = re.compile(
    r"\b(utils?|helpers?|common|misc|wrappers?|managers?|args|tmp|kv_cache1)\b", re.I
)


def room(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms of the core that a file imports, and any absolute import of our own code."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.split(".")[0] for name in names}
        elif not isinstance(node, ast.ImportFrom) or node.level == 0:
            module = getattr(node, "module", None)
            names = [module] if module else [alias.name for alias in node.names]
            roots = {name.split(".")[0] for name in names}
            found |= roots & {"rtr_core", *HOST}
    return found


def names_of_ours(path: Path) -> set[str]:
    """What a file defines: itself, functions, classes, parameters and variables."""
    names = {path.stem}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_between_rooms_go_one_way(path):
    assert imported_rooms(path) <= ALLOWED[room(path)] | {room(path)}


def test_the_rooms_have_no_circle():
    done: set[str] = set()
    while left := set(ALLOWED) - done:
        free = {name for name in left if ALLOWED[name] <= done}
        assert free, f"a circle among {sorted(left)}"
        done |= free


@pytest.mark.parametrize("path", NODE_FILES, ids=lambda path: path.stem)
def test_nodes_reach_the_core_and_one_another_by_relative_imports_only(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = node.level - len(path.relative_to(NODES).parts)
            assert depth == 0 or (depth == 1 and (node.module or "").startswith("rtr_core"))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            assert not {"rtr_core", "nodes"} & {name.split(".")[0] for name in names if name}


def test_the_pack_is_its_nodes_and_nothing_else_where_there_is_no_host():
    lines = (ROOT.parent / "__init__.py").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "if __package__:" and len(lines) == 2
    assert lines[1].strip().startswith("from .nodes import WEB_DIRECTORY, comfy_entrypoint")


@pytest.mark.parametrize(
    "path", FILES + NODE_FILES, ids=lambda path: str(path.relative_to(ROOT.parent))
)
def test_files_and_functions_fit_in_a_head(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"


@pytest.mark.parametrize(
    "path", FILES + NODE_FILES, ids=lambda path: str(path.relative_to(ROOT.parent))
)
def test_banned_words_stay_out(path):
    assert not {name for name in names_of_ours(path) if BANNED.search(name.replace("_", " "))}


def test_all_names_what_is_public():
    public = {n for n in vars(rtr_core) if not n.startswith("_") and n in rtr_core.__all__}
    assert public == set(rtr_core.__all__) and rtr_core.__all__ == sorted(rtr_core.__all__)


def test_the_core_is_imported_without_heavy_or_foreign_packages():
    heavy = ["transformers", "diffusers", "comfy", "cv2", "av", "ray"]
    code = f"import sys, rtr_core; print([n for n in {heavy} if n in sys.modules])"
    came = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert came.stdout.strip() == "[]"
