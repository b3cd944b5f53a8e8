"""RTR, the real-time rerenderer: video in, the same video out in another style, as a stream.

    stylizer = Stylizer.load("rtr-tiny")
    session = stylizer.session(Style(prompt="ink wash painting"), size=(height, width), seed=0)
    for frames in clip:
        for out in session.push(frames):
            show(out)

The words, one per thing: a *frame* is a picture in time, a *latent frame* one time step of the
autoencoder, a *chunk* the latent frames that are denoised together, a *block* a layer of the
transformer. The KV cache holds an *anchor* that never leaves, a *window* of recent latent frames,
and the chunk at hand until it is *committed*. *sigma* is a noise level from 0 to 1, a *step* one
denoise call. A *stylizer* is loaded weights, a *session* one running video.
"""

from .errors import (
    ClipError,
    NumericsError,
    OutOfMemory,
    RtrError,
    SessionError,
    ShapeError,
    StyleError,
    WeightsError,
)
from .recipes import Recipe
from .session import Session
from .style import Style
from .stylizer import Stylizer

__all__ = [
    "ClipError",
    "NumericsError",
    "OutOfMemory",
    "Recipe",
    "RtrError",
    "Session",
    "SessionError",
    "ShapeError",
    "Style",
    "StyleError",
    "Stylizer",
    "WeightsError",
]
