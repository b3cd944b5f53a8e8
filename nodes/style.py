"""What the artist asks for."""

from typing import Any, get_args

from comfy_api.latest import io

from ..rtr_core import StyleError
from ..rtr_core.cues import CueSheet as Sheet
from ..rtr_core.style import Way
from ..rtr_core.timeline import Timeline
from .convert import to_style, to_timeline
from .schema import clip_input, prompt_input, schema, strength_input, style_input
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
                io.String.Input(
                    "avoid",
                    default="",
                    optional=True,
                    tooltip="What it is not to look like. Only recipes with guidance hear it.",
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
        avoid: str = "",
    ) -> io.NodeOutput:
        style = to_style(
            prompt=prompt,
            strength=strength,
            clip=clip,
            conditioning=conditioning,
            reference=reference,
            avoid=avoid.strip(),
        )
        return io.NodeOutput(Timeline.of(style))


class MixStyles(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RTRMixStyles",
            "RTR Mix Styles",
            description="A style between two: prompts, references and strengths.",
            inputs=[
                style_input(),
                RtrStyle.Input("other", tooltip="The style that it goes part of the way to."),
                io.Float.Input(
                    "weight",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How far it goes: 0 is the first style, 1 the other.",
                ),
                io.Combo.Input(
                    "way",
                    options=list(get_args(Way)),
                    tooltip="Straight from prompt to prompt, or along the arc between them, which "
                    "keeps their strength in the middle.",
                ),
            ],
            outputs=[RtrStyle.Output(display_name="style")],
        )

    @classmethod
    def execute(cls, style: Any, other: Any, weight: float, way: Way) -> io.NodeOutput:
        return io.NodeOutput(Timeline.of(style.only.mixed(other.only, weight, way)))


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
