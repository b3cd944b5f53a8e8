"""All parts of the untrained stylizer in one RTR file."""

from pathlib import Path

from rtr_core import untrained
from rtr_core.parts import Parts
from rtr_core.weights.bundle import About, write_bundle


def bundled(parts: Parts, path: Path) -> Path:
    tensors = {role: getattr(parts, role).state_dict() for role in ("transformer", "vae", "text")}
    about = About(
        transformer=untrained.TRANSFORMER,
        vae=untrained.VAE,
        text=untrained.TEXT,
        recipe=untrained.RECIPE,
    )
    write_bundle(path, tensors, about)
    return path
