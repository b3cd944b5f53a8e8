"""Training that was stopped anywhere goes on as if it had not been: all state, as safetensors.

One file, or where processes share the weights a piece of each process and a plan that names them
(see `pieces`). Written whole or not at all, so a kill or a full disk leaves the checkpoint before
it; and read by any number of processes, however many wrote it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights.read import open_weights
from ..weights.write import write_safetensors
from .pieces import Rows, folder_of_pieces, read_plan, write_pieces
from .sharding import first_row, is_shared, let_go, local, rows_for

KEY = "rtr-training"
FILE = "checkpoint.safetensors"


@dataclass
class Player:
    """A network that is trained, what trains it, and its slow average if it has one."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None = None
    empty: nn.Module | None = None  # the network without numbers, where processes share it

    def state(self) -> dict[str, Tensor | Rows]:
        """All of it, or of what is shared the rows of this process."""
        tensors: dict[str, Tensor | Rows] = {}
        for kind, module in self._modules():
            let_go(module)
            tensors |= {f"{kind}.{n}": own_of(t, t) for n, t in module.state_dict().items()}
        for name, value, parameter in self._states():
            tensors[name] = value if name.endswith(".step") else own_of(value, parameter)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for kind, module in self._modules():
            mine, theirs = module.state_dict(), under(f"{kind}.", tensors)
            if lacking := mine.keys() ^ theirs.keys():
                raise RuntimeError(f"{sorted(lacking)[0]!r} is in one of them only")
            for name, tensor in mine.items():
                local(tensor).copy_(rows_for(theirs[name].view(tensor.shape), tensor))
        for number, parameter in enumerate(self._trained()):
            if state := under(f"optimizer.{number}.", tensors):
                self.optimizer.state[parameter] = {
                    name: state[name].clone()
                    if name == "step"
                    else rows_for(state[name], parameter).to(parameter.device, copy=True)
                    for name in state
                }

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "module", self.module
        if self.average is not None:
            yield "average", self.average

    def _states(self) -> Iterator[tuple[str, Tensor, nn.Parameter]]:
        for number, parameter in enumerate(self._trained()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                yield f"optimizer.{number}.{name}", torch.as_tensor(value), parameter

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def own_of(value: Tensor, like: Tensor) -> Tensor | Rows:
    """What this process has of a value that is shared as `like` is, if that is."""
    if not is_shared(like):
        return value
    return Rows(local(value), first_row(like), tuple(like.shape))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a stage of training is, and how far it has come."""

    stage: str
    config: Mapping[str, Any]  # everything that makes one run another than the next
    step: int
    tensors: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, stage: str, config: Mapping[str, Any], step: int, players: Mapping[str, Player]
    ) -> "Checkpoint":
        tensors = {
            f"{name}.{key}": tensor
            for name, player in players.items()
            for key, tensor in player.state().items()
        }
        return cls(stage=stage, config=config, step=step, tensors=tensors)

    @property
    def about(self) -> dict[str, Any]:
        return {"stage": self.stage, "config": self.config, "step": self.step}

    def write(self, path: Path) -> None:
        """All of it, by the only process or the first."""
        metadata = {"format": "pt", KEY: json.dumps(self.about)}
        write_safetensors(path, self.tensors, metadata)
        folder_of_pieces(path.parent).joinpath("plan.json").unlink(missing_ok=True)

    def write_shared(self, folder: Path) -> None:
        """This process's piece; all must call it."""
        write_pieces(folder, self.tensors, self.about)

    @classmethod
    def found(cls, folder: Path) -> "Checkpoint | None":
        """The newest in the folder of a run, one file or pieces."""
        path, found = folder / FILE, []
        if path.exists():
            found.append(cls.read(path))
        if (plan := read_plan(folder)) is not None:
            found.append(cls(**plan))
        return max(found, key=lambda checkpoint: checkpoint.step, default=None)

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        file = open_weights(path)
        try:
            return cls(**json.loads(file.metadata[KEY]), tensors=file.tensors)
        except (KeyError, ValueError, TypeError) as error:
            raise WeightsError(
                f"{path} is no training checkpoint ({error}). Remove it to train from the start."
            ) from error

    def restore(self, config: Mapping[str, Any], players: Mapping[str, Player]) -> None:
        """Put every player where this checkpoint left it; a run of another config is refused."""
        for name in sorted({*config, *self.config}):
            ours, theirs = config.get(name), self.config.get(name)
            if ours != theirs:
                raise WeightsError(
                    f"The checkpoint was trained with {name} = {theirs}, this run has {ours}. Go "
                    f"on with the same, or train into another folder."
                )
        for name, player in players.items():
            try:
                with torch.no_grad():
                    player.load(under(f"{name}.", self.tensors))
            except RuntimeError as error:
                raise WeightsError(f"The checkpoint does not fit the {name}: {error}") from error


class Under(Mapping[str, Tensor]):
    """The tensors whose names begin with a prefix, without it, each read when it is asked for."""

    def __init__(self, prefix: str, tensors: Mapping[str, Tensor]):
        self.prefix, self.tensors = prefix, tensors
        self.names = {n.removeprefix(prefix): n for n in tensors if n.startswith(prefix)}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Under:
    return Under(prefix, tensors)
