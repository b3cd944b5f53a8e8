"""A renderer led through a clip, and where its segments end: between chunks, and between shots.

A segment ends with the chunk that fills it, and with a shot as soon as it is half full. What begins
with a shot needs nothing of what is before it, so such a segment can be made by itself.
"""

from collections.abc import Callable, Iterable, Iterator

from .recorder import Border
from .render import Renderer, Styled
from .source import Frame


def walk(
    renderer: Renderer,
    frames: Iterable[Frame],
    border: int,
    segment_frames: int,
    stop: Callable[[int], bool],
) -> Iterator[Styled | Border]:
    """What comes of the frames behind a border, to the clip's end or to a border where `stop`."""
    half = -(-segment_frames // 2)
    for frame in frames:
        remembered = renderer.cuts.snapshot()  # before it has seen this frame
        if renderer.begins_shot(frame):
            yield from renderer.end()
            if frame.index - border >= half:
                border = frame.index
                snapshot = renderer.session.snapshot()
                yield Border(renderer.place, snapshot, remembered, border, "shot")
                if stop(border):
                    return
        yield from renderer.take(frame)
        done = frame.index + 1 - renderer.waiting
        if renderer.is_at_border and done - border >= segment_frames:
            border = done
            snapshot = renderer.session.snapshot()
            yield Border(renderer.place, snapshot, renderer.cuts.snapshot(), border, "chunk")
            if stop(border):
                return
    yield from renderer.end()
    yield Border(renderer.place, None, {})
