"""A model in another shape, that goes on from what it knows: more channels of a latent, tokens of
fewer pixels, a narrower adapter.

    rtr train reshape CORPUS MODEL OUT --channels 48 --patch 1

What is new begins where it changes least. It has to be trained before it is as good as the old.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import WeightsError
from ..model.config import TransformerConfig
from ..model.transformer import Transformer
from ..shapes import Stride
from ..vae.tiny import TinyVae, grouped
from .vae import AT_ONCE, components, fitted_back, round_trip

# ---- the autoencoder: more channels ----


@torch.no_grad()
def with_channels(vae: TinyVae, channels: int, pixels: Tensor) -> TinyVae:
    """The channels it has, and more: the principal components of what they leave out of some
    windows `[b 3 t h w]`, and back from all of them what fits that best."""
    known, lacking = vae.config.channels, channels - vae.config.channels
    if lacking < 0 or not vae.config.shortcut:
        raise WeightsError(
            f"An autoencoder of {known} channels, {'with' if vae.config.shortcut else 'without'} "
            f"a linear shortcut, cannot get {channels}: only one with a shortcut gets more."
        )
    wide = TinyVae(replace(vae.config, channels=channels))
    wide.load_state_dict(filled(wide.state_dict(), vae.state_dict()))
    if lacking == 0:
        return wide
    some = pixels.split(AT_ONCE)
    left = torch.cat([window - round_trip(vae, window) for window in some])
    _, basis, _ = components(left, vae.stride, lacking)
    values = grouped(pixels[:, :, 1:], vae.stride).flatten(0, 3)
    rows = apart_from(vae.encoder_shortcut.weight, basis.T, values)
    told = values @ rows.T
    mean, spread = told.mean(0), told.std(0).clamp_min(1e-6)
    wide.encoder_shortcut.weight[known:] = rows / spread[:, None]
    wide.encoder_shortcut.bias[known:] = -mean / spread
    for parameter, more in zip(
        wide.decoder_shortcut.parameters(), fitted_back(wide, pixels, left), strict=True
    ):
        parameter.add_(more)
    return wide


def apart_from(known: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Rows less what known ones tell of their answers to some values: who paints the known
    channels alone, and nothing of the others, then leaves them at what they mostly are."""
    spread = torch.cov(values.T.double())
    old, new = known.double(), rows.double()
    share = torch.linalg.solve(old @ spread @ old.T, old @ spread @ new.T)
    return (new - share.T @ old).float()


# ---- the transformer: channels, patch, adapter ----


@torch.no_grad()
def reshaped(transformer: Transformer, channels: int, patch: Stride, adapter: int) -> Transformer:
    """Told of more channels, in tokens of a finer patch, with fewer units in its adapter.

    A finer token is taken for a coarse one that is the same all over; which one of a coarse one's
    places it stands at, the tile's embedding tells.
    """
    old = transformer.config
    config = config_of(old, channels, patch, adapter)
    state = transformer.state_dict()
    for name in ("patch_embedding", "structure_embedding", "reference_adapter.patch_embedding"):
        if (key := f"{name}.weight") in state:
            state[key] = finer(state[key], patch)
    pair = state["patch_embedding.weight"]  # of noise, and of the source behind it
    sides = pair.split(old.out_channels, dim=1)
    state["patch_embedding.weight"] = torch.cat([widened(s, channels, 1) for s in sides], 1)
    places = old.patch.height // patch.height, old.patch.width // patch.width
    for name in ("head.head.weight", "head.head.bias"):
        taps = state[name].unflatten(0, (*old.patch, old.out_channels))
        kept = taps.unflatten(2, (patch.width, places[1])).unflatten(1, (patch.height, places[0]))
        state[name] = widened(kept.mean((2, 4)), channels, 3).flatten(0, 3)
    if adapter < old.adapter_dim:
        state |= narrowed(state, adapter)
    made = Transformer(config)
    made.load_state_dict(filled(made.state_dict(), state))
    return made


def config_of(
    old: TransformerConfig, channels: int, patch: Stride, adapter: int
) -> TransformerConfig:
    times = old.patch.height // max(patch.height, 1)
    if min(patch) < 1 or patch._replace(height=times * patch.height, width=times * patch.width) != (
        old.patch
    ):
        raise WeightsError(
            f"A patch of {tuple(old.patch)} is cut alike down and across, into whole ones: not "
            f"into {tuple(patch)}."
        )
    if channels < old.out_channels or not 0 < adapter <= old.adapter_dim or not old.takes_source:
        raise WeightsError(
            f"A model of {old.out_channels} channels and an adapter of {old.adapter_dim} gets no "
            f"fewer channels, and no wider adapter: not {channels} and {adapter}."
        )
    return replace(
        old,
        in_channels=2 * channels,
        out_channels=channels,
        patch=patch,
        tile=times * old.tile,
        adapter_dim=adapter,
    )


def finer(kernel: Tensor, patch: Stride) -> Tensor:
    """A kernel `[d c t h w]` that answers one place as the old one answered a patch full of it."""
    _, down, across = (have // want for have, want in zip(kernel.shape[2:], patch, strict=True))
    kept = kernel.unflatten(4, (patch.width, across)).unflatten(3, (patch.height, down))
    return kept.sum((4, 6))


def narrowed(state: Mapping[str, Tensor], adapter: int) -> dict[str, Tensor]:
    """The units of the reference adapter that add most."""
    name = "reference_adapter"
    weight = state[f"{name}.down.weight"].norm(dim=0) * state[f"{name}.up.weight"].norm(dim=1)
    units = weight.argsort(descending=True)[:adapter].sort()[0]
    rows = {f"{name}.{side}.{kind}" for side in ("gate", "up") for kind in ("weight", "bias")}
    columns = f"{name}.down.weight"
    return {key: state[key][units] for key in rows} | {columns: state[columns][:, units]}


# ---- tensors ----


def widened(tensor: Tensor, count: int, dim: int) -> Tensor:
    """Zeros behind it on one axis, until there are so many."""
    shape = list(tensor.shape)
    shape[dim] = count - shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)


def filled(shapes: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of these shapes that begin with what is known, and are zeros beyond."""
    made = {name: torch.zeros_like(tensor) for name, tensor in shapes.items()}
    for name, known in state.items():
        made[name][tuple(map(slice, known.shape))] = known
    return made
