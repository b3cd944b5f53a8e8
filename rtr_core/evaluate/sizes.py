"""Models to be measured: a weights file's, or one of a known size with random weights.

Speed does not depend on what the weights say, so nothing has to be downloaded. Whether there is
room is seen before any of it is taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import OutOfMemory, WeightsError
from ..families import recipe_of
from ..media.needs import amount
from ..model.config import WAN_1_3B, WAN_5B, WAN_14B, TransformerConfig
from ..parts import Parts
from ..recipes import Recipe
from ..settings import Settings
from ..shapes import Size
from ..stylizer import BUILT_IN, Stylizer, file_of
from ..untrained import randomized
from ..vae.tiny_config import TAEW2_1, TAEW2_2, TinyVaeConfig
from ..vae.wan_config import WAN_2_1, WAN_2_2, WanVaeConfig
from ..weights.bundle import read_about
from ..weights.fit import module_on_meta, naming
from ..weights.identify import identify
from ..weights.load import canonical, config_of, load_transformer, load_vae, required_part
from ..weights.read import open_weights
from ..weights.signs import signs_of
from .here import free_memory

WAN_SIZE, TINY_SIZE = Size(480, 832), Size(256, 256)
TINY = "tiny"  # the one that is built in
SIZES = {"1.3b": WAN_1_3B, "5b": WAN_5B, "14b": WAN_14B}
VAES: dict[str, tuple[WanVaeConfig | TinyVaeConfig, ...]] = {
    "wan": (WAN_2_1, WAN_2_2),
    "tiny": (TAEW2_1, TAEW2_2),
}


class Network(NamedTuple):
    """A network without its weights, and where they come from."""

    module: Any  # on no device
    file: Path | None  # None: random

    @property
    def numbers(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be measured, as it is asked for."""

    model: str = TINY
    vae: str | None = None  # the model file's own, else Wan's
    size: Size | None = None
    steps: int | None = None
    window: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device
    dtype: torch.dtype = torch.float32
    beside: int = 0  # further models of the same size

    @property
    def picture(self) -> Size:
        return self.size or (TINY_SIZE if self.model in (TINY, BUILT_IN) else WAN_SIZE)

    def opened(self) -> Stylizer:
        """The stylizer, once its recipe and the room for it are known to be there."""
        transformer, own = self._transformer()
        vae = self._vae(transformer)
        empty = Parts(
            transformer=transformer.module.to(self.dtype),
            vae=vae.module.to(self.dtype),
            text=None,
            recipe=own,
            name=self.model if transformer.file is None else transformer.file.stem,
        )
        stylizer = Stylizer.of(empty, **({} if transformer.file else self.recipe))
        stylizer = replace(stylizer, recipe=self._as_told(stylizer.recipe))
        self._check_room(stylizer, [transformer, vae])
        place = {"device": self.device, "dtype": self.dtype}
        parts = replace(
            empty,
            transformer=load_transformer(transformer.file, **place)
            if transformer.file
            else filled(empty.transformer, self.device),
            vae=load_vae(vae.file, **place) if vae.file else filled(vae.module, self.device),
        )
        for part in (parts.transformer, parts.vae):
            part.eval().requires_grad_(False)  # type: ignore[union-attr]  # all ours are modules
        return replace(stylizer, parts=parts)

    def _transformer(self) -> tuple[Network, Recipe | None]:
        """And the recipe of its file, the fields that were told in it."""
        if self.model in SIZES:
            module = module_on_meta(SIZES[self.model])
            return Network(module, None), None
        path = file_of(BUILT_IN if self.model == TINY else self.model)
        if not path.exists():
            raise WeightsError(
                f"There is no file {path}. Models known by name are {', '.join([TINY, *SIZES])}."
            )
        file = open_weights(path)
        with naming(file.path):
            part = required_part(file, "transformer")
            config = config_of(file, part, canonical(file, part))
        about = read_about(file)
        signs = signs_of(file, part, config)
        recipe = recipe_of(signs, about.recipe if about else None, **self.recipe)
        return Network(module_on_meta(config), path), recipe

    def _vae(self, transformer: Network) -> Network:
        config: TransformerConfig = transformer.module.config
        if self.vae in VAES:
            return Network(module_on_meta(_fitting(self.vae, config)), None)
        path = transformer.file if self.vae is None else Path(self.vae)
        if self.vae is None and (path is None or not _holds_vae(path)):
            return Network(module_on_meta(_fitting("wan", config)), None)
        assert path is not None
        if not path.exists():
            raise WeightsError(f"There is no file {path}. Known by name are {', '.join(VAES)}.")
        file = open_weights(path)
        with naming(file.path):
            part = required_part(file, "vae")
            return Network(module_on_meta(config_of(file, part, canonical(file, part))), path)

    def _as_told(self, recipe: Recipe) -> Recipe:
        """With so many steps, evenly from its first one down, and so long a window."""
        fields: dict[str, Any] = {} if self.window is None else {"window": self.window}
        if self.steps is not None:
            first, steps = recipe.timesteps[0], max(self.steps, 0)
            fields["timesteps"] = tuple(first - first * n / steps for n in range(steps))
        return recipe.override(**fields)

    def _check_room(self, stylizer: Stylizer, networks: list[Network]) -> None:
        """Weights, KV cache and pixels; what passes through the networks comes on top."""
        size_of = self.dtype.itemsize
        weights = sum(network.numbers for network in networks) * size_of
        weights += self.beside * networks[0].numbers * max(size_of, torch.float32.itemsize)
        settings = Settings(size=self.picture, recipe=stylizer.recipe)
        needed, there = weights + stylizer.parts.session_bytes(settings), free_memory(self.device)
        if there is not None and needed > there:
            raise OutOfMemory(
                f"{self.model} at {self.picture} needs {amount(needed)} at least, "
                f"{amount(weights)} of it for weights; {self.device} has {amount(there)} free. "
                f"Choose a smaller model, size or window, --dtype bf16, or another --device."
            )


def filled(module: Any, device: torch.device) -> Any:
    """A network of random weights, made where it computes."""
    there: nn.Module = module.to_empty(device=device)
    return randomized(there, torch.Generator(device).manual_seed(0))


def _fitting(kind: str, config: TransformerConfig) -> WanVaeConfig | TinyVaeConfig:
    """The autoencoder of a kind that has the transformer's channels."""
    for vae in VAES[kind]:
        if vae.channels == config.out_channels:
            return vae
    known = " and ".join(str(vae.channels) for vae in VAES[kind])
    raise WeightsError(
        f"The transformer takes latents of {config.out_channels} channels; autoencoders of the "
        f"kind {kind!r} have {known}. Give the file of one that fits: --vae FILE."
    )


def _holds_vae(path: Path) -> bool:
    file = open_weights(path)
    with naming(file.path):
        return identify(file.tensors.meta).part("vae") is not None
