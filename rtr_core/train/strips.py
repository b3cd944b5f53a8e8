"""Pictures of training to look at: rows of frames, one kind a row."""

from collections.abc import Sequence
from pathlib import Path

from einops import rearrange
from PIL import Image
from torch import Tensor


def write_strip(path: Path, rows: Sequence[Tensor]) -> None:
    """Rows of pixels `[n 3 h w]` in -1..1, one under the other."""
    pictures = [rearrange(row.float().clamp(-1, 1), "n c h w -> h (n w) c") for row in rows]
    images = [Image.fromarray(((p + 1) * 127.5).round().byte().cpu().numpy()) for p in pictures]
    whole = Image.new("RGB", (images[0].width, sum(image.height for image in images)))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    whole.save(path)
