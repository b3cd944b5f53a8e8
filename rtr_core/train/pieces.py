"""A checkpoint as pieces: each process writes the rows that it has, into a file of its own.

    RUN/checkpoint/step-000250-1-of-4.safetensors       rows, and in its header whose and from where
    RUN/checkpoint/plan.json                            which pieces are the checkpoint

The plan comes last, when all pieces are there, and old ones go after that: a kill at any moment
leaves a whole checkpoint. Nothing of it is executed: the plan is JSON, the pieces are safetensors.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from torch import Tensor

from ..errors import WeightsError
from ..weights.read import WeightsFile, json_object, open_weights
from ..weights.write import write_safetensors
from . import ranks

ROWS = "rtr-rows"  # in a piece's header: of each tensor its first row here, and the whole shape


class Rows(NamedTuple):
    """Some rows of a tensor; other processes have the rest."""

    tensor: Tensor
    first: int
    shape: tuple[int, ...]


def folder_of_pieces(folder: Path) -> Path:
    return folder / "checkpoint"


def write_pieces(folder: Path, state: Mapping[str, Tensor | Rows], about: dict[str, Any]) -> None:
    """Called by all processes; what is not in rows is the first one's to write."""
    here, count = folder_of_pieces(folder), ranks.count()
    here.mkdir(parents=True, exist_ok=True)
    names = [f"step-{about['step']:06}-{n}-of-{count}.safetensors" for n in range(count)]
    mine = {
        name: value if isinstance(value, Rows) else Rows(value, 0, tuple(value.shape))
        for name, value in state.items()
        if isinstance(value, Rows) or ranks.is_first()
    }
    places = {name: [rows.first, list(rows.shape)] for name, rows in mine.items()}
    tensors = {name: rows.tensor for name, rows in mine.items()}
    write_safetensors(here / names[ranks.number()], tensors, {ROWS: json.dumps(places)})
    ranks.gathered("written")  # by all, before the plan says so
    if ranks.is_first():
        plan, unfinished = here / "plan.json", here / f".plan.{uuid4().hex}"
        unfinished.write_text(json.dumps(about | {"pieces": names}), encoding="utf-8")
        unfinished.replace(plan)
        for old in here.glob("step-*.safetensors"):
            if old.name not in names:
                old.unlink()
        folder.joinpath("checkpoint.safetensors").unlink(missing_ok=True)
    ranks.gathered("planned")  # so that none is a step ahead of a plan that never came


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What the plan says, and the tensors of its pieces."""
    path = folder_of_pieces(folder) / "plan.json"
    if not path.exists():
        return None
    plan = json_object(path.read_text(encoding="utf-8", errors="replace"))
    names = plan.pop("pieces", None)
    if not isinstance(names, list) or {*plan} != {"stage", "config", "step"}:
        raise WeightsError(f"{path} is no plan of a checkpoint. Remove it to train from the start.")
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise WeightsError(f"{path} names pieces outside its own folder. They must lie beside it.")
    return plan | {"tensors": Pieces([open_weights(path.parent / name) for name in names])}


class Pieces(Mapping[str, Tensor]):
    """The tensors of a checkpoint; each is put together when it is asked for."""

    def __init__(self, files: list[WeightsFile]):
        self.found: dict[str, list[tuple[int, WeightsFile]]] = {}
        self.shapes: dict[str, list[int]] = {}
        for file in files:
            places = json_object(file.metadata.get(ROWS, ""))
            if places.keys() != file.tensors.keys():
                raise WeightsError(f"{file.path} is no piece of a checkpoint: its header is odd.")
            for name, (first, shape) in places.items():
                self.found.setdefault(name, []).append((first, file))
                self.shapes[name] = shape

    def __getitem__(self, name: str) -> Tensor:
        pieces = sorted(self.found[name], key=lambda piece: piece[0])
        shape, first = self.shapes[name], pieces[0][1]
        if len(pieces) == 1:
            whole = first.tensors[name]
        else:
            whole = torch.cat([file.tensors[name] for _, file in pieces])
        if list(whole.shape) != shape:
            raise WeightsError(
                f"Of {name!r} the pieces beside {first.path} hold {list(whole.shape)}, and it is "
                f"{shape}: some are of another checkpoint. Put back those that its plan names."
            )
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)
