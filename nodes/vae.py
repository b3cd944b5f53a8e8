"""VAE: the host's contract over an autoencoder of ours, and ours over one of the host's."""

from typing import Any
from weakref import WeakKeyDictionary

import comfy.latent_formats
import comfy.model_management as mm
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..rtr_core import WeightsError
from ..rtr_core.model.text import fingerprint
from ..rtr_core.shapes import Size, Stride
from ..rtr_core.vae.stream import DecoderStream, EncoderStream, Vae
from ..rtr_core.vae.tiled import tiled
from ..rtr_core.weights.load import vae_of

FORMATS = {16: comfy.latent_formats.Wan21, 48: comfy.latent_formats.Wan22}
BYTES_PER_PIXEL = 2000  # of one latent frame while it is decoded, an estimate for all families
SIDE, SHARED = 512, 64  # pixels of a tile, where the host asks for tiles

_fingerprints: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class HostedVae(comfy.sd.VAE):
    """One of ours where the host wants its own: whole clips in core nodes, streams in RTR's."""

    def __init__(self, ours: Any):
        stride: Stride = ours.stride
        self.first_stage_model = self.ours = ours
        self.vae_dtype = next(iter(ours.parameters())).dtype
        self.device, self.output_device = mm.vae_device(), mm.intermediate_device()
        self.latent_channels, self.latent_dim, self.output_channels = ours.channels, 3, 3
        self.disable_offload = True  # its layers are torch's own: all on the device, or none
        self.crop_input, self.not_video, self.extra_1d_channel = True, False, None
        self.downscale_ratio = (lambda a: -(-(a - 1) // stride.time) + 1, *stride[1:])
        self.upscale_ratio = (lambda a: max(0, (a - 1) * stride.time + 1), *stride[1:])
        self.downscale_index_formula = self.upscale_index_formula = tuple(stride)
        self.working_dtypes = [self.vae_dtype]
        self.size: int | None = None
        self.patcher = ModelPatcher(ours, self.device, mm.vae_offload_device())

    def memory_used_decode(self, shape: Any, dtype: torch.dtype) -> int:
        area = shape[-1] * shape[-2] * self.ours.stride.height * self.ours.stride.width
        return BYTES_PER_PIXEL * area * dtype.itemsize

    def memory_used_encode(self, shape: Any, dtype: torch.dtype) -> int:
        return BYTES_PER_PIXEL * shape[-1] * shape[-2] * dtype.itemsize

    def encode(self, pixel_samples: Tensor) -> Tensor:
        return self._encode(pixel_samples, self.ours)

    def decode(self, samples_in: Tensor, vae_options: dict[str, Any] | None = None) -> Tensor:
        return self._decode(samples_in, self.ours)

    def encode_tiled(self, pixel_samples: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._encode(pixel_samples, tiled(self.ours, Size(SIDE, SIDE), SHARED))

    def decode_tiled(self, samples: Tensor, *_: Any, **__: Any) -> Tensor:
        return self._decode(samples, tiled(self.ours, Size(SIDE, SIDE), SHARED))

    def _encode(self, images: Tensor, vae: Vae) -> Tensor:
        """IMAGE `[t h w c]`, or clips `[b t h w c]`, to latents `[b c t h w]` as the host's are."""
        clips = images if images.ndim == 5 else images[None]
        _, _, height, width, _ = clips.shape
        _, down, across = vae.stride
        clips = clips[:, :, : height // down * down, : width // across * across, :3]
        self._load(self.memory_used_encode((*clips.shape[:2], height, width), self.vae_dtype))
        pixels = clips.permute(0, 4, 1, 2, 3).to(self.device, self.vae_dtype) * 2 - 1
        stream = EncoderStream(vae)
        latents = [part for part in (stream.push(pixels), stream.flush()) if part is not None]
        return self._format(torch.cat(latents, dim=2).float(), "process_out").to(self.output_device)

    def _decode(self, samples: Tensor, vae: Vae) -> Tensor:
        """Latents as the host's are to clips `[b t h w c]` in 0..1."""
        self._load(self.memory_used_decode(samples.shape, self.vae_dtype))
        latents = self._format(samples.float(), "process_in").to(self.device, self.vae_dtype)
        pixels = DecoderStream(vae).push(latents).float()
        return ((pixels + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1).to(self.output_device)

    def _format(self, latents: Tensor, direction: str) -> Tensor:
        """Ours are normalized; those of the host's Wan VAEs are not, and models undo that."""
        known = FORMATS.get(self.latent_channels)
        return getattr(known(), direction)(latents) if known else latents

    def _load(self, bytes_needed: int) -> None:
        mm.load_models_gpu([self.patcher], memory_required=bytes_needed, force_full_load=True)


def ours_of(vae: Any) -> Any:
    """A VAE of the host's as one of ours, over the weights where they are now."""
    if isinstance(vae, HostedVae):
        return vae.ours
    module = getattr(vae, "first_stage_model", None)
    if module is None:
        raise WeightsError("The VAE holds no weights: choose Wan2.1_VAE or Wan2.2_VAE in Load VAE.")
    parameters = dict(module.named_parameters()) | dict(module.named_buffers())
    return vae_of(parameters, "The VAE")


def fingerprint_of(vae: Any) -> str:
    """Changes with the weights."""
    module = vae.first_stage_model
    if module not in _fingerprints:
        _fingerprints[module] = fingerprint(dict(module.named_parameters()))[:12]
    return _fingerprints[module]
