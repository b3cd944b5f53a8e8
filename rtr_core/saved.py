"""A session on disk: one safetensors file, its counts and styles in the metadata."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .errors import SessionError, WeightsError
from .recipes import Recipe
from .style import Style
from .weights.read import open_weights
from .weights.write import write_safetensors

if TYPE_CHECKING:
    from .session import Session
    from .stylizer import Stylizer

FORMAT = "rtr-session-1"


def save(session: Session, path: str | os.PathLike) -> None:
    """Write the session; the file is whole or not there."""
    snapshot = session.snapshot()
    tensors = dict(snapshot.tensors)
    styles = {"style": snapshot.style}
    if snapshot.next_style:
        styles["next_style"] = snapshot.next_style.style
    about: dict[str, Any] = {
        "weights": session.stylizer.fingerprint,
        "size": list(session.geometry.size),
        "seed": session.seed,
        "recipe": asdict(session.recipe),
        "counts": snapshot.counts,
        "history": session.history.maxlen,
    }
    for name, style in styles.items():
        about[name] = {"prompt": style.prompt, "strength": style.strength}
        for part in ("reference", "embedding"):
            if (tensor := getattr(style, part)) is not None:
                tensors[f"{name}.{part}"] = tensor
    write_safetensors(Path(path), tensors, {"format": FORMAT, "session": json.dumps(about)})


def load(stylizer: Stylizer, path: str | os.PathLike) -> Session:
    """The session that was saved at `path`, going on with this stylizer."""
    tensors, about = _read(Path(path))
    if about["weights"] != stylizer.fingerprint:
        raise SessionError(
            f"{path} was saved with other weights ({about['weights']}) than these "
            f"({stylizer.fingerprint}). Load the stylizer that it was saved with."
        )
    styles = {
        name: Style(
            **about[name],
            reference=tensors.pop(f"{name}.reference", None),
            embedding=tensors.pop(f"{name}.embedding", None),
        )
        for name in ("style", "next_style")
        if name in about
    }
    recipe = Recipe.from_mapping(about["recipe"])
    session = stylizer.session(
        styles["style"], about["size"], seed=about["seed"], recipe=recipe, history=about["history"]
    )
    _restore(session, tensors, about["counts"], path)
    if "next_style" in styles:
        session.switch(styles["next_style"])
    return session


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        file = open_weights(path)
        if file.metadata.get("format") != FORMAT:
            raise SessionError(f"{path} is no saved session ({FORMAT}).")
        return dict(file.tensors), json.loads(file.metadata["session"])
    except (WeightsError, json.JSONDecodeError, KeyError) as error:
        raise SessionError(f"Saved session {path} cannot be read: {error}") from error


def _restore(session: Session, tensors: dict[str, Tensor], counts: dict, path: Any) -> None:
    device = session.stylizer.device
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        session.restore(replace(session.snapshot(), tensors=placed, counts=counts))
    except (KeyError, RuntimeError) as error:
        raise SessionError(f"Saved session {path} is not whole: {error}.") from error
