"""What the artist asks for."""

from typing import Any

from comfy_api.latest import io

from ..rtr_core import StyleError
from ..rtr_core.cues import CueSheet as Sheet
from ..rtr_core.timeline import Timeline
from .convert import to_style, to_timeline
from .schema import clip_input, prompt_input, schema, strength_input
from .types import RtrStyle

IMAGES = ("image_1", "image_2", "image_3", "image_4")
EXAMPLE = """00:00 ink wash painting
00:01.5 impressionist oil fade=12
00:03 @image_1
"""


class Style(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RTRStyle",
            "RTR Style",
            description="A prompt, a reference image or both, as one style.",
            inputs=[
                prompt_input("What it is to look like. Ignored where conditioning is wired."),
                strength_input(),
                clip_input(),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="A prompt that a text encode node has encoded, in the place of the "
                    "text above.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="An image whose style is taken on. It is anchored in the cache and "
                    "never leaves it.",
                ),
            ],
            outputs=[RtrStyle.Output(display_name="style")],
        )

    @classmethod
    def execute(
        cls,
        prompt: str,
        strength: float,
        clip: Any = None,
        conditioning: Any = None,
        reference: Any = None,
    ) -> io.NodeOutput:
        style = to_style(
            prompt=prompt,
            strength=strength,
            clip=clip,
            conditioning=conditioning,
            reference=reference,
        )
        return io.NodeOutput(Timeline.of(style))


class CueSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        wired = [
            io.Image.Input(name, optional=True, tooltip=f"The reference that a line calls @{name}.")
            for name in IMAGES
        ]
        return schema(
            "RTRCueSheet",
            "RTR Cue Sheet",
            description="Styles over time: a line is a moment and a style.",
            inputs=[
                io.String.Input(
                    "sheet",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="Each line: a time (00:12.5) or a frame (f300), then a prompt, an "
                    "@reference or both, then fade=, strength=, seed=. A reference is a wired "
                    "image or a file of the input folder.",
                ),
                clip_input(),
                *wired,
            ],
            outputs=[RtrStyle.Output(display_name="style")],
        )

    @classmethod
    def validate_inputs(cls, sheet: Any = None) -> bool | str:
        """A sheet that cannot be read is told before anything runs."""
        try:
            if sheet is not None:
                Sheet.parse(sheet, "cue sheet")
        except StyleError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, sheet: str, clip: Any = None, **images: Any) -> io.NodeOutput:
        return io.NodeOutput(to_timeline(sheet, images, clip))
