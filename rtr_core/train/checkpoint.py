"""Training that was stopped anywhere goes on as if it had not been: all state, in one safetensors.

Written whole or not at all, so a kill or a full disk leaves the checkpoint before it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights.read import open_weights
from ..weights.write import write_safetensors

KEY = "rtr-training"


@dataclass
class Player:
    """A network that is trained, what trains it, and its slow average if it has one."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module | None = None

    def state(self) -> dict[str, Tensor]:
        tensors = {f"module.{name}": t for name, t in self.module.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        for number, parameter in enumerate(self._trained()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(under("module.", tensors))
        if self.average is not None:
            self.average.load_state_dict(under("average.", tensors))
        for number, parameter in enumerate(self._trained()):
            if state := under(f"optimizer.{number}.", tensors):
                self.optimizer.state[parameter] = {
                    name: t if name == "step" else t.to(parameter.device)
                    for name, t in state.items()
                }

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a stage of training is, and how far it has come."""

    stage: str
    config: Mapping[str, Any]  # everything that makes one run another than the next
    step: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

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

    def write(self, path: Path) -> None:
        about = {"stage": self.stage, "config": self.config, "step": self.step}
        write_safetensors(path, self.tensors, {"format": "pt", KEY: json.dumps(about)})

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        file = open_weights(path)
        try:
            about = json.loads(file.metadata[KEY])
            tensors = {name: file.tensors[name] for name in file.tensors}
            return cls(**about, tensors=tensors)
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
                player.load(under(f"{name}.", self.tensors))
            except RuntimeError as error:
                raise WeightsError(f"The checkpoint does not fit the {name}: {error}") from error


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
