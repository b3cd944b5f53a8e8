"""`rtr demo`: the sample clip through two prompts and a reference, without a stop in between."""

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .media.codecs import H264
from .media.source import Frame, open_source
from .media.target import SegmentWriter, side_by_side
from .shapes import Size
from .style import Style
from .stylizer import ASSETS, BUILT_IN, Stylizer

CAPTION = 28  # pixels under a picture
COLUMNS = 6  # of the sheet
MARGIN = 6


class Scene(NamedTuple):
    """A style, the frame it begins at and what is written under it."""

    first: int
    style: Style
    caption: str


@cache
def scenes() -> list[Scene]:
    return [
        Scene(0, Style(prompt="ink wash painting"), "prompt: ink wash painting"),
        Scene(41, Style(prompt="thermal camera"), "live switch to a prompt: thermal camera"),
        Scene(77, Style(reference=ASSETS / "the-kiss.jpg"), "live switch to a reference: Klimt"),
    ]


def run(folder: Path) -> Iterator[str]:
    """Render the clip, write `demo.mp4` and `demo.png`; yields what to tell the user."""
    folder.mkdir(parents=True, exist_ok=True)
    stylizer = Stylizer.load(BUILT_IN, device="cpu")
    with open_source(ASSETS / "sample.mp4") as source:
        frames, info = list(source.frames()), source.info
    began = time.perf_counter()
    styled = rendered(stylizer, torch.stack([frame.pixels for frame in frames]))
    rate = len(frames) / (time.perf_counter() - began)
    yield f"{stylizer.parts.name}: {len(frames)} frames of {info.size}, {rate:.1f} a second"

    clip, sheet_file = folder / "demo.mp4", folder / "demo.png"
    pictures = [captioned(*pair) for pair in zip(frames, styled, strict=True)]
    size = Size(*pictures[0].shape[:2])
    with SegmentWriter(clip, H264, info, size) as file:
        for frame, picture in zip(frames, pictures, strict=True):
            file.write(picture, frame.time, frame.duration)
    sheet(frames, styled).save(sheet_file)
    yield f"wrote {clip} and {sheet_file}: the source, and what became of it"


def rendered(stylizer: Stylizer, clip: Tensor) -> Tensor:
    """The clip `[t h w 3]` in one stream, through all scenes."""
    first, *later = scenes()
    session = stylizer.session(first.style, clip.shape[1:3])
    styled, at = [], 0
    for scene in later:
        styled += session.push(clip[at : scene.first])
        session.switch(scene.style)
        at = scene.first
    styled += [*session.push(clip[at:]), *session.flush()]
    return torch.cat(styled)


def scene_at(index: int) -> Scene:
    return [scene for scene in scenes() if scene.first <= index][-1]


def captioned(frame: Frame, styled: Tensor) -> Tensor:
    """Source | styled, with a line under both."""
    both = Image.fromarray(bytes_of(side_by_side(frame.pixels, styled)))
    whole = Image.new("RGB", (both.width, both.height + CAPTION), "black")
    whole.paste(both)
    write(whole, (MARGIN, both.height), "source")
    write(whole, (both.width // 2 + MARGIN, both.height), scene_at(frame.index).caption)
    return torch.from_numpy(np.asarray(whole).copy())


def sheet(frames: list[Frame], styled: Tensor) -> Image.Image:
    """Source above styled, at evenly spaced moments, the first of them a little into the clip."""
    moments = torch.linspace(8, len(frames) - 1, COLUMNS).round().int().tolist()
    height, width = styled.shape[1:3]
    whole = Image.new("RGB", (COLUMNS * width, 2 * (height + CAPTION)), "black")
    for column, moment in enumerate(moments):
        captions = f"source, frame {moment}", scene_at(moment).caption
        for row, pixels in enumerate((frames[moment].pixels, styled[moment])):
            corner = column * width, row * (height + CAPTION)
            whole.paste(Image.fromarray(bytes_of(pixels)), corner)
            write(whole, (corner[0] + MARGIN, corner[1] + height), captions[row])
    return whole


def write(image: Image.Image, corner: tuple[int, int], text: str) -> None:
    font = ImageFont.load_default(CAPTION * 0.55)
    ImageDraw.Draw(image).text((corner[0], corner[1] + CAPTION // 4), text, "white", font)


def bytes_of(pixels: Tensor) -> np.ndarray:
    levels = pixels if pixels.dtype == torch.uint8 else (pixels.clamp(0, 1) * 255).round().byte()
    return levels.cpu().numpy()
