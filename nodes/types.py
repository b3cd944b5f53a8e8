"""Wires of our own. Everything else goes over the host's."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

RtrStyle = io.Custom("RTR_STYLE")  # a Timeline of the core
RtrSession = io.Custom("RTR_SESSION")  # a Link


@dataclass(frozen=True, eq=False)
class Link:
    """Which session is meant, and the weights it runs on. The session itself is in the registry:
    on a wire it would be cached with the outputs, served again and lost with them."""

    name: str
    model: Any
    vae: Any

    def get_models(self) -> list[Any]:
        """For hosts that ask cached outputs which models they hold."""
        return [self.model]
