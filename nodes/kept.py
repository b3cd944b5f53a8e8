"""A session in the host's books: its bytes are counted, pushed out for others and brought back."""

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from ..rtr_core import Session


class RtrSession(nn.Module):
    """A module without weights, by whose name the host's log calls a session."""


class Lodging(ModelPatcher):
    """What the host moves about as if it were a model: the KV cache and the rest of a session.

    Owned beside its session by the registry; the host only looks at it.
    """

    def __init__(self, session: Session, load_device: torch.device, offload_device: torch.device):
        self.session = session
        self.is_in = False
        super().__init__(RtrSession(), load_device, offload_device, size=1)

    def model_size(self) -> int:
        return self.session.nbytes

    def loaded_size(self) -> int:
        return self.session.nbytes if self.is_in else 0

    def partially_load(self, device_to: Any, *_: Any, **__: Any) -> int:
        """All of it: half a cache is of no use."""
        before = self.loaded_size()
        self._move(device_to, is_in=True)
        return self.loaded_size() - before

    def partially_unload(self, device_to: Any, *_: Any, **__: Any) -> int:
        freed = self.loaded_size()
        self._move(device_to, is_in=False)
        return freed

    def detach(self, unpatch_all: bool = True) -> nn.Module:
        if unpatch_all:
            self._move(self.offload_device, is_in=False)
        return self.model

    def _move(self, device: torch.device, is_in: bool) -> None:
        self.session.move(device)
        self.model.device, self.is_in = device, is_in
