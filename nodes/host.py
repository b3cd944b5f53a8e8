"""The host's side of a run: memory, interrupts, progress, and weights that are lent for it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import proxy

import comfy.model_management as mm
import comfy.utils
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..rtr_core import OutOfMemory, Stylizer, WeightsError
from ..rtr_core.footprint import working_bytes
from ..rtr_core.parts import Parts, Placed
from ..rtr_core.registry import Kept, Registry
from ..rtr_core.settings import Settings
from ..rtr_core.shapes import as_size, latent_frames
from ..rtr_core.timeline import Lead
from . import model as models
from . import vae as vaes
from .kept import Lodging

REGISTRY = Registry()
PREVIEW_SIDE, PREVIEW_SECONDS = 512, 0.2


class Feedback:
    """A node's progress bar, preview and status line. May be told of frames from any thread."""

    def __init__(self, node_id: str | None):
        self.node_id, self.passes = node_id, 0
        self.bar = comfy.utils.ProgressBar(1, node_id)
        self.started, self.frames, self.coming, self.style = time.monotonic(), 0, 0, ""
        self._latest: Tensor | None = None
        self._sent = 0.0

    def expect(self, stylizer: Stylizer, frames: int, style: str) -> None:
        """Begin anew, with so many frames to come."""
        self.bar.total, self.passes = max(1, passes_of(stylizer, frames)), 0
        self.started, self.frames, self.coming = time.monotonic(), 0, frames
        self.style = style

    def watch(self) -> None:
        """Called before each pass: here a run can be stopped."""
        mm.throw_exception_if_processing_interrupted()
        self.passes += 1
        self._send()

    def show(self, frames: Tensor) -> None:
        """Styled frames `[t h w 3]` or one of them."""
        self.frames += len(frames) if frames.ndim == 4 else 1
        self._latest = frames[-1] if frames.ndim == 4 else frames

    def say(self, text: str) -> None:
        server = PromptServer.instance
        if self.node_id is not None and server is not None:
            server.send_progress_text(text, self.node_id)

    def end(self) -> None:
        """All is done: who stops the run now stops what comes after, and not this."""
        self._sent, self.passes = 0.0, self.bar.total
        try:
            self._send()
        except mm.InterruptProcessingException:
            mm.interrupt_current_processing(True)

    @property
    def rate(self) -> float:
        """Frames a second since it began."""
        return self.frames / max(time.monotonic() - self.started, 1e-6)

    def _send(self) -> None:
        preview, now = None, time.monotonic()
        if self._latest is not None and now - self._sent > PREVIEW_SECONDS:
            preview, self._latest, self._sent = _jpeg(self._latest), None, now
            self.say(f"frame {self.frames} of {self.coming} | {self.rate:.1f} fps | {self.style}")
        self.bar.update_absolute(min(self.passes, self.bar.total), preview=preview)


def passes_of(stylizer: Stylizer, frames: int) -> int:
    """How often the transformer runs for so many frames."""
    recipe = stylizer.recipe
    chunks = recipe.chunks_of(latent_frames(frames, stylizer.parts.vae.stride))
    again = {"clean": 1, "last step": 0, "recompute": 1}[recipe.commit]
    return chunks * (len(recipe.timesteps) // recipe.buffer + again)


def stylizer_of(model: Any, vae: Any, watch: Callable[[], None]) -> Stylizer:
    """The host's MODEL and VAE as a stylizer of the core, over their weights as they are now."""
    shell = getattr(model, "model", None)
    if not isinstance(shell, models.RtrModel):
        raise WeightsError(
            f"{type(shell).__name__} is no model that RTR can run: load the checkpoint with RTR "
            f"Load Model instead of Load Diffusion Model."
        )
    like = torch.empty(0, device=model.load_device, dtype=shell.precision.compute)
    fingerprint = f"{models.fingerprint_of(model)}-{vaes.fingerprint_of(vae)}"
    parts = Parts(
        transformer=shell.diffusion_model,
        vae=vaes.ours_of(vae),
        text=shell.origin.text,
        recipe=shell.origin.recipe,
        name=shell.origin.name,
        placed=Placed(like=like, fingerprint=fingerprint),
    )
    return replace(Stylizer.of(parts), watch=watch)


def lent(stylizer: Stylizer) -> Stylizer:
    """The same, held weakly: a session outlives the run, and must not keep the host's weights."""
    parts = stylizer.parts
    weak: Any = {"transformer": proxy(parts.transformer), "vae": proxy(parts.vae)}
    return replace(stylizer, parts=replace(parts, **weak))


@contextmanager
def loaded(
    model: Any,
    vae: Any,
    watch: Callable[[], None],
    size: Sequence[int],
    kept: Kept | None = None,
    sessions: int = 1,
) -> Iterator[Stylizer]:
    """A stylizer whose weights are on the device for as long as this lasts.

    The autoencoder must be there whole; of the transformer the host may leave in RAM, and bring
    layer by layer, what finds no room beside it and sessions of this size, new or kept.
    """
    stylizer = stylizer_of(model, vae, watch)
    settings = Settings(size=as_size(size), recipe=stylizer.recipe)
    room = working_bytes(stylizer, settings) + vae.patcher.model_size()
    together = [model, vae.patcher]
    if kept is not None and kept.lodging is not None:
        together.append(kept.lodging)
    else:
        room += sessions * stylizer.parts.session_bytes(settings)
    try:
        mm.load_models_gpu(together, memory_required=room)
        mm.load_models_gpu([vae.patcher], force_full_load=True)
        yield stylizer
    except OutOfMemory:
        mm.unload_all_models()  # as the host does when a node runs out of memory
        raise


def settle(kept: Kept, stylizer: Stylizer, model: Any, vae: Any) -> Lead:
    """Bring a kept session in beside the weights that it goes on with, and lend it those."""
    session = kept.lead.session
    if kept.lodging is None:
        kept.lodging = Lodging(session, model.load_device, mm.unet_offload_device())
    room = working_bytes(stylizer, session.settings)
    mm.load_models_gpu([model, vae.patcher, kept.lodging], memory_required=room)
    lent(stylizer).lend(session)
    return kept.lead


def _jpeg(frame: Tensor) -> tuple[str, Image.Image, int]:
    levels = frame if frame.dtype == torch.uint8 else (frame.clamp(0, 1) * 255).round()
    return "JPEG", Image.fromarray(levels.to(torch.uint8).cpu().numpy()), PREVIEW_SIDE
