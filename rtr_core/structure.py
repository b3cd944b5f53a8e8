"""What of a picture stays when its style changes, for a transformer that is told of it.

A structure picture is encoded like any other and reaches the transformer on channels of its own
(Live2Diff's prior). It shows the outline, or how near things are. Both change no faster than what
is seen: no threshold, no range of a single frame. One frame at a time is looked at, so that cuts
into pushes never change a bit.

Axes: pixels `[1 3 t h w]` in -1..1, a picture `[3 h w]`, a plane `[h w]`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import StyleError
from .model.config import TransformerConfig
from .model.depth import Depth
from .recipes import Recipe
from .vae.causal import prefixed, under
from .vae.stream import EncoderStream, Vae

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue
CLEAR = 0.05  # a slope of luminance, in 0..1 a pixel, that is half as strong as a line can be
FAINT = 0.1  # contrast below which it is not lifted, so that noise is not either
AROUND = 8  # a neighbourhood is the picture's shorter side by this
COARSE = 4  # pixels a side that the coarse outline sees as one
ENDS = (0.02, 0.98)  # shares of a frame that are farther than where its range begins, and ends
DRIFT = 0.1  # of the range toward that of the frame at hand
ENCODER = "encoder."  # before the names of its tensors in a snapshot


def check_structure(config: TransformerConfig, recipe: Recipe, has_depth: bool, name: str) -> None:
    """Refuse a depth model that nothing asks for, and depth that no model estimates."""
    if has_depth and not config.structure:
        raise StyleError(
            f"{name} has no structure projection, so a depth model would do nothing: leave it out, "
            f"or choose a checkpoint that has one."
        )
    if has_depth and recipe.structure != "depth":
        raise StyleError(
            f"Recipe {recipe.name!r} shows the {recipe.structure}, so a depth model would do "
            f"nothing: leave it out, or choose structure=depth."
        )
    if config.structure and recipe.structure == "depth" and not has_depth:
        raise StyleError(
            f"{name} is told of depth, and no depth model is there: name the folder of a "
            f"Depth-Anything (--depth FOLDER, or depth=FOLDER), or choose structure=outline."
        )


class StructureStream:
    """Pixels in, latents of their structure out, in the groups of any `EncoderStream`."""

    def __init__(self, vae: Vae, depth: Depth | None):
        self.encoder, self.depth = EncoderStream(vae), depth
        self.reset()

    def reset(self) -> None:
        """Begin a new clip."""
        self.encoder.reset()
        self.range: Tensor | None = None  # of nearness, from black to white

    def push(self, pixels: Tensor) -> Tensor | None:
        """The latents of the groups that `pixels [1 3 t h w]` complete, if any."""
        pictures = [self._picture(frame) for frame in pixels[0].unbind(dim=1)]
        like = next(iter(self.encoder.vae.parameters()), pixels)
        return self.encoder.push(torch.stack(pictures, dim=1)[None].to(like))

    def flush(self) -> Tensor | None:
        return self.encoder.flush()

    def borrow(self, vae: Vae, depth: Depth | None) -> None:
        self.encoder.vae, self.depth = vae, None if self.depth is None else depth

    def snapshot(self) -> dict[str, Tensor]:
        span = {} if self.range is None else {"range": self.range}
        return {**span, **prefixed(ENCODER, self.encoder.snapshot())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.range = state.get("range")
        self.encoder.restore(under(ENCODER, state))

    def _picture(self, picture: Tensor) -> Tensor:
        if self.depth is None:
            return outline(picture)
        near = self.depth((picture + 1) / 2)
        self.range = drifted(self.range, near)
        low, high = self.range
        white = ((near - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        return (_resized(white, picture) * 2 - 1).expand(3, -1, -1)


def outline(picture: Tensor) -> Tensor:
    """Lines, broad lines, and luminance of one local contrast, of a picture: each in -1..1."""
    luminance = (picture * picture.new_tensor(LUMA)[:, None, None]).sum(0) / 2 + 0.5
    broad = _resized(lines(_coarse(luminance)), picture)
    return torch.stack([lines(luminance), broad, evened(luminance)])


def outlines(pixels: Tensor) -> Tensor:
    """Of all frames of clips `[b 3 t h w]`."""
    clips = [[outline(frame) for frame in clip.float().unbind(1)] for clip in pixels]
    return torch.stack([torch.stack(clip, dim=1) for clip in clips]).to(pixels)


def lines(plane: Tensor) -> Tensor:
    """How steep a plane in 0..1 is: -1 where it is flat, toward 1 where it is steep at all."""
    across, down = slopes(_smooth(plane))
    steep = (across.square() + down.square()).sqrt()
    return 2 * steep / (steep + CLEAR) - 1


def slopes(plane: Tensor) -> tuple[Tensor, Tensor]:
    """How much it grows from pixel to pixel, across and down: Scharr's, as OpenCV has it, by 32."""
    x = F.pad(plane[None], (1, 1, 1, 1), mode="replicate")[0]
    right, below = x[:, 2:] - x[:, :-2], x[2:] - x[:-2]
    across = 3 * (right[:-2] + right[2:]) + 10 * right[1:-1]
    down = 3 * (below[:, :-2] + below[:, 2:]) + 10 * below[:, 1:-1]
    return across / 32, down / 32


def evened(plane: Tensor) -> Tensor:
    """Luminance less its neighbourhood's, by the contrast there: light and shade do not count."""
    mean, square = _mean_around(plane), _mean_around(plane.square())
    contrast = (square - mean.square()).clamp_min(0)
    score = (plane - _resized(mean, plane)) / _resized((contrast + FAINT**2).sqrt(), plane)
    return score / (1 + score.square()).sqrt()


def drifted(span: Tensor | None, near: Tensor) -> Tensor:
    """The range of nearness, moved a little toward that of a frame; the first one's is taken."""
    seen = near.flatten().quantile(near.new_tensor(ENDS))
    return seen if span is None else span.lerp(seen, DRIFT)


def _smooth(plane: Tensor) -> Tensor:
    """Each pixel with its neighbours, 1 2 1 both ways: less of the sensor's noise."""
    x = F.pad(plane[None], (1, 1, 1, 1), mode="replicate")[0]
    x = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    return (x[:-2] + 2 * x[1:-1] + x[2:]) / 16


def _coarse(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane[None], COARSE, ceil_mode=True)[0]


def _mean_around(plane: Tensor) -> Tensor:
    """Of the neighbourhood of each coarse pixel: it hardly differs between finer ones."""
    x = _coarse(plane)[None]
    reach = max(1, min(x.shape[-2:]) // AROUND // 2)
    side = 2 * reach + 1
    for kernel, beyond in (((side, 1), (reach, 0)), ((1, side), (0, reach))):
        x = F.avg_pool2d(x, kernel, stride=1, padding=beyond, count_include_pad=False)
    return x[0]


def _resized(plane: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    return F.interpolate(plane[None, None], size, mode="bilinear", align_corners=False)[0, 0]
