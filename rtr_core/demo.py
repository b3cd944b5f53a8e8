"""`rtr demo`: one clip through every verb of a session, and pictures of what came out."""

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .shapes import Size
from .style import Style
from .stylizer import BUILT_IN, Stylizer

SIZE = Size(128, 224)
FRAMES = 72
SWITCH = 36  # the frame at which the style changes
COLUMNS = 6
CAPTION = 16


def run(folder: Path) -> Iterator[str]:
    """Render the clip, write `demo.png` and `demo.gif`; yields what to tell the user."""
    folder.mkdir(parents=True, exist_ok=True)
    stylizer = Stylizer.load(BUILT_IN, device="cpu")
    source = drifting_lights(FRAMES)
    ink, klimt = Style(prompt="ink wash painting"), Style(reference=gold_tiles())

    began = time.perf_counter()
    session = stylizer.session(ink, SIZE)
    styled = [*session.push(source[:SWITCH])]
    session.switch(klimt)
    styled += [*session.push(source[SWITCH:]), *session.flush()]
    rate = FRAMES / (time.perf_counter() - began)
    result = torch.cat(styled)

    sheet(source, result).save(folder / "demo.png")
    both = [picture_of(torch.cat(pair, dim=1)) for pair in zip(source, result, strict=True)]
    both[0].save(folder / "demo.gif", save_all=True, append_images=both[1:], duration=60, loop=0)
    yield f"{stylizer.parts.name}: {FRAMES} frames of {SIZE} at {rate:.1f} frames a second"
    yield f"a prompt until frame {SWITCH}, then a reference, without a stop"
    yield f"wrote {folder / 'demo.png'} and {folder / 'demo.gif'} (source | styled)"
    if stylizer.parts.name == "untrained":
        yield "The weights are random, so the styled half is noise that follows the source."


def drifting_lights(frames: int) -> Tensor:
    """A clip `[t h w 3]` made of arithmetic: three soft lights that cross a dusky sky."""
    down, across = torch.meshgrid(
        torch.linspace(0, 1, SIZE.height),
        torch.linspace(0, SIZE.width / SIZE.height, SIZE.width),
        indexing="ij",
    )
    sky = torch.stack([0.15 + 0.3 * down, 0.12 + 0.2 * down, 0.35 - 0.1 * down], dim=-1)
    clip = []
    for time_ in torch.linspace(0, 2 * torch.pi, frames):
        picture = sky.clone()
        for n, color in enumerate(([1.0, 0.6, 0.2], [0.2, 0.8, 0.9], [0.9, 0.3, 0.6])):
            turn = time_ + 2.1 * n
            middle = 0.5 + 0.3 * torch.sin(1.3 * turn), 0.875 + 0.6 * torch.cos(turn)
            apart = (down - middle[0]) ** 2 + (across - middle[1]) ** 2
            picture += torch.exp(-apart / 0.02)[..., None] * torch.tensor(color)
        clip.append(picture.clamp(0, 1))
    return torch.stack(clip)


def gold_tiles() -> Tensor:
    """A reference `[h w 3]`: a mosaic in golds, with a few blue tiles."""
    rng = torch.Generator().manual_seed(3)
    tiles = torch.tensor([0.8, 0.6, 0.15]) + 0.2 * torch.randn(8, 14, 3, generator=rng)
    tiles[torch.rand(8, 14, generator=rng) < 0.15] = torch.tensor([0.1, 0.2, 0.5])
    return tiles.clamp(0, 1).repeat_interleave(16, 0).repeat_interleave(16, 1)


def sheet(source: Tensor, styled: Tensor) -> Image.Image:
    """Source above styled, at evenly spaced moments."""
    moments = torch.linspace(0, len(source) - 1, COLUMNS).round().int().tolist()
    whole = Image.new("RGB", (COLUMNS * SIZE.width, 2 * (SIZE.height + CAPTION)), "white")
    write = ImageDraw.Draw(whole)
    for column, moment in enumerate(moments):
        style = "reference" if moment >= SWITCH else "prompt"
        rows = ((source, f"source, frame {moment}"), (styled, f"styled by the {style}"))
        for row, (clip, caption) in enumerate(rows):
            corner = column * SIZE.width, row * (SIZE.height + CAPTION)
            write.text((corner[0] + 4, corner[1] + 2), caption, fill="black")
            whole.paste(picture_of(clip[moment]), (corner[0], corner[1] + CAPTION))
    return whole


def picture_of(frame: Tensor) -> Image.Image:
    return Image.fromarray((frame * 255).round().byte().numpy())
