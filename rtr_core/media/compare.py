"""Source and result side by side, as a clip of its own."""

from dataclasses import replace
from pathlib import Path

from ..errors import ClipError
from ..shapes import Size
from .assembly import Stretch, assemble
from .codecs import Codec
from .source import open_source
from .stages import Ahead
from .target import SegmentWriter, side_by_side

AHEAD = 8  # frames read before they are needed


def compare(source: Path, styled: Path, out: Path, codec: Codec) -> int:
    """Write `source | styled` to `out`, with the source's sound. Returns the number of frames."""
    segment = out.with_name(f"{out.name}.segment.mov")
    with (
        open_source(source) as before,
        open_source(styled) as after,
        Ahead(before.frames(), AHEAD) as sources,
        Ahead(after.frames(), AHEAD) as results,
    ):
        pairs = zip(sources, results, strict=False)  # a damaged source may go on a little further
        first = next(pairs, None)
        if first is None:
            raise ClipError(f"{styled} has no frame to compare with {source}.")
        picture = side_by_side(first[0].pixels, first[1].pixels)
        size = Size(*picture.shape[:2])
        try:
            with SegmentWriter(segment, codec, replace(before.info, size=size), size) as file:
                file.write(picture, first[0].time, first[0].duration)
                for frame, result in pairs:
                    both = side_by_side(frame.pixels, result.pixels)
                    file.write(both, frame.time, frame.duration)
            assemble([Stretch(segment)], source, out)
            return file.frames
        finally:
            segment.unlink(missing_ok=True)
