"""Every error RTR raises on purpose, so that a caller can catch one family or all of them.

RtrError
├── WeightsError      a weights file: what it is, what was expected, what to do
├── ShapeError        a size, a frame count or a tensor's shape
├── StyleError        a prompt, a reference or a recipe
├── ClipError         a video file that cannot be read or written, with the frame
├── NumericsError     NaN or infinity, with the frame it came in or out with
├── OutOfMemory       the device ran out; the session stays at its last committed chunk
├── SessionError      a saved session, or verbs called in an order that has no meaning
└── RankError         one of several processes: missing, gone, or not like the others

A message says what was expected, what came, and what to do about it.
"""


class RtrError(Exception):
    """The base of all errors below."""


class WeightsError(RtrError):
    """A weights file cannot be used as it is."""


class ShapeError(RtrError):
    """Frames, sizes or latents do not have the shape that is needed."""


class StyleError(RtrError):
    """A style or recipe cannot be carried out by this stylizer."""


class ClipError(RtrError):
    """A video file cannot be read or written."""


class NumericsError(RtrError):
    """Numbers that are not finite."""


class OutOfMemory(RtrError):
    """The device has no room for a chunk."""


class SessionError(RtrError):
    """A session cannot do this now, or a saved session does not fit."""


class RankError(RtrError):
    """Several processes cannot work as one."""
