"""The tiny autoencoder: it begins as the best linear map of pixels to latents and learns the rest.

rtr train vae CORPUS RUN
rtr train vae CORPUS RUN --encoder VAE      # another decoder to an encoder that is there
rtr train vae CORPUS RUN --begin VAE        # one that is there learns on
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..shapes import Stride, frames_of
from ..untrained import randomized
from ..vae.stream import DecoderStream, EncoderStream
from ..vae.tiny import NEIGHBOURS, TinyVae, grouped
from ..vae.tiny_config import TinyVaeConfig
from ..weights.bundle import About, write_bundle
from . import looks
from .loop import Turn
from .material import Material, to_batch
from .seen import Shown, psnr, seen
from .strips import write_strip

AT_ONCE = 24  # windows that the beginning is fitted on at a time

TINY_VAE = TinyVaeConfig(
    channels=48,
    encoder_widths=(32, 64, 96),
    decoder_widths=(96, 64, 32),
    encoder_time=(2, 2),
    decoder_time=(2, 2),
    depth=1,
    patch=2,
    shortcut=True,
)


@dataclass(frozen=True, kw_only=True)
class VaeTraining:
    side: int = 128  # pixels of a square cut
    latents: int = 3  # latent frames of a window
    stills: float = 0.4  # share of windows made of stills
    styled: float = 0.6  # share of windows that a look has gone over
    jitter: float = 0.05  # noise on latents: what a transformer paints is never exact
    spread: float = 1e-3  # weight of what keeps latents at mean 0 and variance 1
    shown: Shown = field(default_factory=Shown)


class VaeStage:
    """Trains encoder and decoder together on windows of the material, bare and styled."""

    name = "vae"
    averaged = ("vae",)

    def __init__(self, vae: TinyVae, material: Material, training: VaeTraining):
        self.vae, self.material, self.training = vae, material, training
        self.players: Mapping[str, nn.Module] = {"vae": vae}
        self.looked_at = self._windows([np.random.default_rng(n) for n in range(6)])

    @property
    def config(self) -> Mapping[str, Any]:
        return {"vae": asdict(self.vae.config), "training": asdict(self.training)}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        return ()

    def rate(self, player: str) -> float:
        return 1.0

    def turns(self, step: int) -> Sequence[str]:
        return ("vae",)

    def batch(self, turn: Turn) -> Tensor:
        return self._windows([dice.rng for dice in turn.each])

    def loss(self, turn: Turn, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        training = self.training
        latents = EncoderStream(self.vae).push(batch)
        assert latents is not None, "a window is a whole number of groups"
        shaken = latents + training.jitter * turn.like(latents)
        back = DecoderStream(self.vae).push(shaken)
        each = latents.float().transpose(0, 1).flatten(1)
        spread = each.mean(1).square().mean() + (each.var(1) - 1).square().mean()
        shown = seen(back, batch, training.shown, self.vae.stride, turn.together.noise)
        return shown + training.spread * spread, {"psnr": psnr(back - batch), "spread": spread}

    def write(self, folder: Path, step: int, averages: Mapping[str, nn.Module]) -> None:
        vae = averages["vae"]
        assert isinstance(vae, TinyVae)
        write_bundle(folder / "vae.safetensors", {"vae": vae.state_dict()}, About(vae=vae.config))
        looked_at = self.looked_at.to(next(vae.parameters()).device)
        with torch.no_grad():
            back = round_trip(vae, looked_at).cpu()
        write_strip(folder / f"strip-{step:06}.png", [self.looked_at[:, :, -1], back[:, :, -1]])

    def _windows(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        frames = frames_of(self.training.latents, self.vae.stride)
        return windows(self.material, self.training, frames, rngs)


def windows(
    material: Material,
    training: VaeTraining,
    frames: int,
    rngs: Sequence[np.random.Generator],
) -> Tensor:
    """A window for each source of randomness, `[b 3 t h w]`, some of them styled."""
    made = []
    for rng in rngs:
        window = material.window(frames, training.side, rng, training.stills)
        if rng.random() < training.styled:
            window = looks.varied(str(rng.choice(looks.STYLES)), rng)(window)
        made.append(window)
    return to_batch(np.stack(made))


def round_trip(vae: TinyVae, pixels: Tensor) -> Tensor:
    latents = EncoderStream(vae).push(pixels)
    assert latents is not None, "a window is a whole number of groups"
    return DecoderStream(vae).push(latents).clamp(-1, 1)


# ---- the beginning ----


def begun(config: TinyVaeConfig, pixels: Tensor, seed: int = 0) -> TinyVae:
    """An autoencoder that is linear by its shortcuts, and does nothing by its layers: principal
    components, and back from them what fits best."""
    vae = randomized(TinyVae(config), torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for layers, nothing in ((vae.encoder, 0.0), (vae.decoder, 0.5)):  # of latents, of pixels
            weight, bias = layers[-1].parameters()
            weight.zero_()
            bias.fill_(nothing)
        mean, basis, spread = components(pixels, config.stride, config.channels)
        vae.encoder_shortcut.weight.copy_(basis.T / spread[:, None])
        vae.encoder_shortcut.bias.copy_(-(mean @ basis) / spread)
    fit_back(vae, pixels)
    return vae


@torch.no_grad()
def fit_back(vae: TinyVae, pixels: Tensor) -> None:
    """Let the shortcut lead back from what the encoder makes of pixels."""
    weight, bias = fitted_back(vae, pixels)
    vae.decoder_shortcut.load_state_dict({"weight": weight, "bias": bias})


def take_encoder(vae: TinyVae, other: TinyVae) -> None:
    """Encode as another one does, and never learn otherwise: pairs made with it stay good."""
    known = {name: t for name, t in other.state_dict().items() if name.startswith("encoder")}
    vae.load_state_dict(known, strict=False)
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_(not name.startswith("encoder"))


def fitted_back(
    vae: TinyVae, pixels: Tensor, wanted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weight and bias that lead from latents and their neighbours to pixels with least error, or
    to what else is wanted at each of them."""
    shape = vae.decoder_shortcut.weight.shape  # [values channels down across]
    inputs = shape[1:].numel() + 1
    squares = torch.zeros(inputs, inputs, dtype=torch.float64)
    products = torch.zeros(inputs, shape[0], dtype=torch.float64)
    asked = pixels if wanted is None else wanted
    for some, there in zip(pixels.split(AT_ONCE), asked.split(AT_ONCE), strict=True):
        latents = EncoderStream(vae).push(some)
        assert latents is not None, "a window is a whole number of groups"
        pictures = rearrange(latents[:, :, 1:], "b c t h w -> (b t) c h w")  # the first is alone
        seen = F.unfold(F.pad(pictures, (NEIGHBOURS // 2,) * 4, mode="replicate"), NEIGHBOURS)
        rows = F.pad(rearrange(seen, "n inputs places -> (n places) inputs"), (0, 1), value=1)
        values = rearrange(grouped(there[:, :, 1:], vae.stride), "b t h w c -> (b t h w) c")
        squares += rows.double().T @ rows.double()
        products += rows.double().T @ values.double()
    squares += 1e-6 * squares.diagonal().mean() * torch.eye(inputs)  # channels may be idle
    weight = torch.linalg.solve(squares, products).T.float()
    return weight[:, :-1].reshape(shape), weight[:, -1]


def components(pixels: Tensor, stride: Stride, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, directions `[values count]` and standard deviations of groups of pixels."""
    moving = pixels[:, :, 1:]  # a clip's first frame is a group of its own
    values = grouped(moving, stride).flatten(0, 3).double()
    mean = values.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov(values.T))
    spread = variance[-count:].flip(0).clamp_min(1e-12).sqrt()
    return mean.float(), directions[:, -count:].flip(1).float(), spread.float()


def linear_psnr(
    fitted_on: Tensor, pixels: Tensor, stride: Stride, channels: Sequence[int]
) -> list[float]:
    """What the best linear map to so many channels leaves of pixels it was not fitted on, in dB.

    Layers add a few dB to that and do not change the order, so strides and channels are chosen by
    it before anything is trained.
    """
    mean, basis, _ = components(fitted_on, stride, max(channels))
    values = grouped(pixels[:, :, 1:], stride).flatten(0, 3) - mean
    return [float(psnr(values - values @ basis[:, :n] @ basis[:, :n].T)) for n in channels]


def energy(vae: TinyVae) -> Tensor:
    """How much a unit of each latent channel moves the pixels, `[channels]`, 1 on average."""
    moved = vae.decoder_shortcut.weight.detach().square().sum((0, 2, 3))
    return moved / moved.mean()
