"""How a styled clip is encoded: named codecs as values, and the files that can hold them.

Every codec is run so that a clip can be cut into segments and put together again:

* no frame is shown in another order than it is stored, so that packets of two segments follow on;
* the same frames give the same bytes, so that a clip resumed on a busy machine has those of one
  that ran through. So the number of threads is fixed, because encoders decide differently with
  more of them; and what was found to differ from run to run is left alone: x264's mbtree, which
  saves it 8% of the bytes, and x265's second frame thread and pictures of less than a few blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext

from ..errors import ClipError
from ..shapes import Size
from .planes import is_writable
from .probe import FAILURES

THREADS = 4
KEYFRAME_EVERY = 60  # frames; a player seeks to key frames only

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
MP4_FAMILY = (".mp4", ".m4v", ".mov", ".mkv")

# x264 would state the ticks of the time base as the rate, and Matroska has no other; times in the
# file are those it is given all the same. And every picture that it calls a key frame shall be one
# that decoding can begin with, even where shots are short.
X264 = "force-cfr=1:min-keyint=1"
PRORES_PROFILES = {"proxy": "0", "lt": "1", "standard": "2", "hq": "3", "4444": "4", "4444xq": "5"}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An encoder and how it is set."""

    name: str
    encoder: str  # as FFmpeg calls it
    pix_fmt: str
    suffixes: tuple[str, ...]  # of the files that can hold it
    crf: int | None = None  # quality: less is better; None where the encoder has no such thing
    worst_crf: int = 51
    preset: str | None = None  # of speed or, for ProRes, of quality
    preset_option: str = "preset"
    preset_numbers: Mapping[str, str] = field(default_factory=dict)  # where names are not known
    needs_even_sides: bool = False  # with chroma at half size
    least_side: int = 1  # pixels
    tag: str | None = None  # the four letters by which Apple's players know the stream
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def segment_format(self) -> str:
        """Segments are QuickTime's family of files, which keeps times exactly."""
        return "mp4" if ".mp4" in self.suffixes else "mov"

    def all_options(self) -> dict[str, str]:
        """What the encoder is told, as FFmpeg spells it."""
        chosen = {
            "threads": str(THREADS),
            "g": str(KEYFRAME_EVERY),
            "bf": "0",
            "flags": "+bitexact+cgop",
            **self.options,
        }
        if self.crf is not None:
            chosen["crf"] = str(self.crf)
        if self.preset is not None:
            chosen[self.preset_option] = self.preset_numbers.get(self.preset, self.preset)
        return chosen

    def check_size(self, size: Size) -> None:
        """Refuse pictures that this encoder cannot be trusted with."""
        if min(size) < self.least_side:
            raise ClipError(
                f"{self.name} is for pictures of {self.least_side} pixels a side and up, not "
                f"{size}: smaller ones would not have the same bytes twice. Choose another codec, "
                f"such as h264, or a larger size."
            )

    def pix_fmt_of(self, size: Size) -> str:
        """The pixel format that holds every pixel of `size`.

        H.264 and HEVC crop in whole chroma samples, so a picture with an odd side and chroma at
        half size would come out a line larger or smaller. Such a picture gets chroma at full size.
        """
        self.check_size(size)
        if self.needs_even_sides and any(side % 2 for side in size):
            return self.pix_fmt.replace("420", "444").replace("422", "444")
        return self.pix_fmt


H264 = Codec(
    name="h264",
    encoder="libx264",
    pix_fmt="yuv420p",
    suffixes=MP4_FAMILY,
    crf=16,
    preset="faster",  # than medium by a third, for 0.3 dB at as many bytes
    needs_even_sides=True,
    options={"x264-params": f"{X264}:mbtree=0"},
)
HEVC = replace(
    H264,
    name="hevc",
    encoder="libx265",
    crf=18,
    preset="medium",
    tag="hvc1",
    least_side=96,
    options={
        "x265-params": f"bframes=0:open-gop=0:min-keyint=1:pools={THREADS}:frame-threads=1:"
        "log-level=none"
    },
)
LOSSLESS = replace(
    H264,
    name="lossless",
    encoder="libx264rgb",
    pix_fmt="rgb24",
    crf=None,
    preset="veryfast",
    needs_even_sides=False,
    options={"qp": "0", "x264-params": X264},
)
PRORES = Codec(
    name="prores",
    encoder="prores_ks",
    pix_fmt="yuv422p10le",
    suffixes=(".mov", ".mkv"),
    preset="hq",
    preset_option="profile",
    preset_numbers=PRORES_PROFILES,
    options={"vendor": "apl0"},
)
VP9 = Codec(
    name="vp9",
    encoder="libvpx-vp9",
    pix_fmt="yuv420p",
    suffixes=(".mp4", ".m4v", ".mkv", ".webm"),
    crf=20,
    worst_crf=63,
    preset="3",
    preset_option="cpu-used",
    options={"deadline": "good", "b": "0", "row-mt": "0", "tile-columns": "1"},
)
# No AV1: PyAV brings SVT-AV1 alone, which, run by root, makes the calling thread and all its
# children real-time ones of the highest priority, until nothing else on the machine runs.
CODECS = {codec.name: codec for codec in (H264, HEVC, PRORES, LOSSLESS, VP9)}


def pick_codec(
    out: Path,
    name: str | None = None,
    *,
    crf: int | None = None,
    pix_fmt: str | None = None,
    preset: str | None = None,
) -> Codec:
    """The codec `name` for the file `out`, with what the user set; refused where they do not fit.

    Without a name it is H.264, or VP9 in a .webm, which cannot hold H.264.
    """
    codec = _named(name or ("vp9" if out.suffix.lower() == ".webm" else "h264"))
    _check_suffix(codec, out)
    encoder = _encoder(codec)
    if crf is not None:
        _check_crf(codec, crf)
        codec = replace(codec, crf=crf)
    if pix_fmt is not None:
        held = [form.name for form in encoder.video_formats or () if is_writable(form)]
        if pix_fmt not in held:
            raise ClipError(
                f"{codec.name} has no pixel format {pix_fmt!r}; it has {', '.join(held)}."
            )
        codec = replace(codec, pix_fmt=pix_fmt)
    if preset is not None:
        codec = replace(codec, preset=preset)
    _check_opens(codec)
    return codec


def format_of(out: Path) -> str:
    """The container that the suffix of `out` names, as FFmpeg calls it."""
    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise ClipError(
            f"{out.name!r} does not say which kind of video file to write: end it in one of "
            f"{', '.join(FORMATS)}."
        )
    return form


def _named(name: str) -> Codec:
    if name not in CODECS:
        raise ClipError(f"There is no codec {name!r}: choose one of {', '.join(CODECS)}.")
    return CODECS[name]


def _check_suffix(codec: Codec, out: Path) -> None:
    format_of(out)
    suffix = out.suffix.lower()
    if suffix not in codec.suffixes:
        fitting = [other.name for other in CODECS.values() if suffix in other.suffixes]
        raise ClipError(
            f"A {suffix} file cannot hold {codec.name}. Name the output "
            f"{' or '.join(codec.suffixes)}, or choose {' or '.join(fitting)} as the codec."
        )


def _encoder(codec: Codec) -> av.Codec:
    try:
        return av.Codec(codec.encoder, "w")
    except UnknownCodecError as error:
        raise ClipError(
            f"{codec.name} needs FFmpeg's encoder {codec.encoder}, which this PyAV "
            f"({av.__version__}) was built without. Choose another codec, or install PyAV's wheel."
        ) from error


def _check_crf(codec: Codec, crf: int) -> None:
    if codec.crf is None:
        raise ClipError(f"{codec.name} has no crf; leave it out.")
    if not 0 <= crf <= codec.worst_crf:
        raise ClipError(
            f"The crf of {codec.name} goes from 0, the best, to {codec.worst_crf}; {crf} does not."
        )


def _check_opens(codec: Codec) -> None:
    """A word that only the encoder knows is better refused now than at the first frame."""
    trial = av.CodecContext.create(codec.encoder, "w")
    assert isinstance(trial, VideoCodecContext)
    trial.width, trial.height, trial.pix_fmt = 128, 128, codec.pix_fmt
    trial.time_base, trial.framerate = Fraction(1, 24), Fraction(24)
    trial.options = codec.all_options()
    try:
        trial.open()
    except FAILURES as error:
        raise ClipError(
            f"{codec.encoder} refuses preset {codec.preset!r} with pixel format {codec.pix_fmt}: "
            f"{error}. Leave one of them out."
        ) from error
