"""Images in, as many styled images out."""

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..rtr_core.mask import Mask
from ..rtr_core.timeline import Lead, Timeline
from . import schema as inputs
from .convert import to_frames, to_images, to_mask, to_rate, to_style
from .host import Feedback, loaded

SEED = "Of the noise: the same seed gives the same frames."


class StylizeText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRStylizeText",
            "RTR Stylize (Text)",
            description="TV2V: restyles a clip after a prompt, or after a whole cue sheet.",
            search_aliases=["tv2v", "video to video", "restyle", "vid2vid"],
            inputs=[
                inputs.images_input(),
                inputs.model_input(),
                inputs.vae_input(),
                inputs.prompt_input("What it is to look like. Ignored where a style is wired."),
                inputs.strength_input(),
                inputs.seed_input(SEED, changes=True),
                inputs.fps_input(),
                inputs.clip_input(),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="An encoded prompt, in the place of the text above.",
                ),
                inputs.style_input(optional=True),
                inputs.mask_input(),
            ],
            outputs=[io.Image.Output(display_name="images")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        model: Any,
        vae: Any,
        prompt: str,
        strength: float,
        seed: int,
        fps: float,
        clip: Any = None,
        conditioning: Any = None,
        style: Timeline | None = None,
        mask: Any = None,
    ) -> io.NodeOutput:
        if style is None:
            wanted = to_style(
                prompt=prompt, strength=strength, clip=clip, conditioning=conditioning
            )
            style = Timeline.of(wanted)
        return io.NodeOutput(
            restyled(cls.hidden.unique_id, images, model, vae, style, seed, fps, to_mask(mask))
        )


class StylizeReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRStylizeReference",
            "RTR Stylize (Reference)",
            description="RV2V: restyles a clip after an image.",
            search_aliases=["rv2v", "style transfer", "reference", "restyle"],
            inputs=[
                inputs.images_input(),
                inputs.model_input(),
                inputs.vae_input(),
                io.Image.Input("reference", tooltip="The image whose style is taken on."),
                inputs.prompt_input("More about the style. May stay empty.", default=""),
                inputs.strength_input(),
                inputs.seed_input(SEED, changes=True),
                inputs.clip_input(),
                inputs.mask_input(),
            ],
            outputs=[io.Image.Output(display_name="images")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        model: Any,
        vae: Any,
        reference: Tensor,
        prompt: str,
        strength: float,
        seed: int,
        clip: Any = None,
        mask: Any = None,
    ) -> io.NodeOutput:
        style = to_style(prompt=prompt, strength=strength, clip=clip, reference=reference)
        timeline = Timeline.of(style)
        return io.NodeOutput(
            restyled(cls.hidden.unique_id, images, model, vae, timeline, seed, 24.0, to_mask(mask))
        )


def restyled(
    node_id: str | None,
    images: Tensor,
    model: Any,
    vae: Any,
    timeline: Timeline,
    seed: int,
    fps: float,
    mask: Mask | None,
) -> Tensor:
    """A clip in memory, from its first frame to its last."""
    frames = to_frames(images)
    size = frames.shape[1], frames.shape[2]
    feedback = Feedback(node_id)
    with loaded(model, vae, feedback.watch, size) as stylizer:
        feedback.expect(stylizer, len(frames), str(timeline))
        lead = Lead.begin(stylizer, timeline, size, rate=to_rate(fps), seed=seed)
        outs = to_images(lead.feed(frames, feedback.show, ends=True))
    feedback.end()
    feedback.say(
        f"{len(outs)} frames, {feedback.rate:.1f} a second, {timeline} | "
        f"drift: {lead.session.drift}"
    )
    if mask is not None:
        pairs = zip(outs, frames, strict=True)
        outs = torch.stack([mask.put(out, frame, n) for n, (out, frame) in enumerate(pairs)])
    return outs
