"""What a stream says about its color, and what is taken for true where it says nothing.

The numbers are those of ISO/IEC 23091-4, as FFmpeg and every container write them.
"""

from dataclasses import dataclass, replace

from ..shapes import Size

RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6
UNTAGGED, LIMITED, FULL = 0, 1, 2

LUMA = {  # weights of red and blue in luma, by matrix
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 B/G, the same as BT.601
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
LARGEST_SD = Size(576, 1279)  # pictures without tags beyond this are taken for BT.709
UNKNOWN_MATRICES = {RGB, UNSPECIFIED, 3}  # RGB is a wrong tag where it is asked for


@dataclass(frozen=True, kw_only=True)
class Color:
    """Tags as the stream has them. High dynamic range is passed on as it is, not tone-mapped."""

    range: int
    matrix: int
    primaries: int
    transfer: int

    def settled(self, stored: Size) -> "Color":
        """Range and matrix that pictures stored at this size are read with: tags, or a guess."""
        is_sd = stored.height <= LARGEST_SD.height and stored.width <= LARGEST_SD.width
        guess = BT601 if is_sd else BT709
        matrix = guess if self.matrix in UNKNOWN_MATRICES else self.matrix
        return replace(self, matrix=matrix, range=FULL if self.range == FULL else LIMITED)
