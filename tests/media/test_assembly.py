import signal
import subprocess
import sys
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import pytest

from rtr_core.errors import ClipError
from rtr_core.media.assembly import Stretch, assemble, check_audio, key_frames
from rtr_core.media.codecs import CODECS, pick_codec
from rtr_core.media.partial import Partial
from rtr_core.shapes import Size

from .written import (
    decoded,
    packets,
    pictures,
    uneven_times,
    write_segment,
    write_segments,
    write_source,
)

HOLDS = [(codec.name, suffix) for codec in CODECS.values() for suffix in codec.suffixes]
MILLISECOND = Fraction(1, 1000)
ADTS_HEADER = 7  # bytes, in front of each frame of AAC in a stream that may be entered anywhere


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "source.mp4")


def joined(segments, *rest, **named):
    return assemble([Stretch(path) for path in segments], *rest, **named)


@pytest.mark.parametrize(("name", "suffix"), HOLDS)
def test_packets_and_times_are_those_of_segments_and_source(name, suffix, tmp_path):
    sound = ("libopus", "libopus") if suffix == ".webm" else ("aac", "mp3")
    source = write_source(tmp_path / "source.mkv", sound)
    segments, times = write_segments(tmp_path, pick_codec(Path(f"x{suffix}"), name))
    out = tmp_path / f"out{suffix}"
    assert joined(segments, source, out) == []
    expected = chain.from_iterable(packets(segment) for segment in segments)
    assert [data for _, data in packets(out)] == [data for _, data in expected]
    came = [time for time, _ in packets(out)]
    shift = came[0] - Fraction(times[0][0], 90_000)
    exact = suffix in (".mp4", ".m4v", ".mov")
    assert abs(shift) <= (0 if exact else 10 * MILLISECOND)
    for at, (time, _) in zip(came, times, strict=True):
        assert abs(at - shift - Fraction(time, 90_000)) <= (0 if exact else MILLISECOND)
    for index in range(2):
        before, after = packets(source, "audio", index), packets(out, "audio", index)
        assert [data for _, data in after] == [data for _, data in before]
        for (was, _), (at, _) in zip(before, after, strict=True):
            assert abs(at - shift - was) <= 2 * MILLISECOND
    assert len(decoded(out)) == len(times)


def test_mp4_keeps_audio_times_exactly_priming_included(source, tmp_path):
    segments, _ = write_segments(tmp_path)
    joined(segments, source, tmp_path / "out.mp4")
    for index in range(2):
        assert packets(tmp_path / "out.mp4", "audio", index) == packets(source, "audio", index)
    assert packets(source, "audio")[0][0] < 0


@pytest.mark.parametrize(("name", "suffix"), HOLDS)
def test_every_file_states_the_rate_of_the_source(name, suffix, tmp_path):
    source, times = write_source(tmp_path / "s.mp4", ()), [(n * 3003, 3003) for n in range(12)]
    codec = pick_codec(Path(f"x{suffix}"), name)
    segment = write_segment(tmp_path / "s.mov", pictures(12), times, codec)
    joined([segment], source, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as out:
        stated = out.streams.video[0].guessed_rate
        assert stated == pytest.approx(Fraction(30_000, 1001), rel=0.01)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_same_segments_give_the_same_bytes(suffix, source, tmp_path):
    segments, _ = write_segments(tmp_path)
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    joined(segments, source, first)
    joined(segments, source, second)
    assert first.read_bytes() == second.read_bytes()


def test_titles_languages_and_chapters_go_along(tmp_path, source):
    if hasattr(av.container.OutputContainer, "set_chapters"):
        with av.open(str(source)) as had, av.open(str(tmp_path / "chapters.mkv"), "w") as has:
            stream = has.add_stream_from_template(had.streams.audio[0])
            chapter = {"id": 1, "start": 0, "end": 500, "time_base": MILLISECOND}
            has.set_chapters([{**chapter, "metadata": {"title": "first"}}])
            has.metadata["title"], stream.metadata["language"] = "a clip", "fra"
            for packet in had.demux(had.streams.audio[0]):
                if packet.size:
                    packet.stream = stream
                    has.mux(packet)
        source = tmp_path / "chapters.mkv"
    segments, _ = write_segments(tmp_path)
    joined(segments, source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.metadata["title"] == "a clip"
        assert out.streams.audio[0].metadata["language"] == "fra"
        if source.name == "chapters.mkv":
            assert [chapter["metadata"]["title"] for chapter in out.chapters()] == ["first"]


def test_audio_is_cut_where_asked(source, tmp_path):
    segments, _ = write_segments(tmp_path)
    joined(segments, source, tmp_path / "out.mp4", until=Fraction(1, 4))
    times = [time for time, _ in packets(tmp_path / "out.mp4", "audio")]
    assert Fraction(1, 5) < times[-1] < Fraction(1, 4)


def test_a_source_without_sound_gives_a_clip_without_sound(tmp_path):
    source, (segments, _) = write_source(tmp_path / "s.mp4", ()), write_segments(tmp_path)
    assert joined(segments, source, tmp_path / "out.mp4") == []
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert len(out.streams) == 1


def test_audio_that_does_not_fit_is_refused_beforehand_with_a_way_out(source, tmp_path):
    with pytest.raises(ClipError, match=r"aac.*\.mkv"):
        check_audio(source, Path("out.webm"))
    check_audio(source, Path("out.mkv"))
    segments, _ = write_segments(tmp_path, pick_codec(Path("x.webm")))
    with pytest.raises(ClipError, match="aac"):
        joined(segments, source, tmp_path / "out.webm")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_of_a_broadcast_is_repacked_and_its_samples_are_kept(suffix, tmp_path):
    source, (segments, _) = write_source(tmp_path / "s.ts", ("aac",)), write_segments(tmp_path)
    check_audio(source, tmp_path / f"out{suffix}")
    assert joined(segments, source, tmp_path / f"out{suffix}") == []
    before, after = packets(source, "audio"), packets(tmp_path / f"out{suffix}", "audio")
    assert [data[ADTS_HEADER:] for _, data in before] == [data for _, data in after]


def test_a_picture_of_one_pixel_is_put_together_whatever_shape_it_had(tmp_path):
    wide = {"aspect": Fraction(16, 9)}
    segment = write_segment(tmp_path / "s.mov", pictures(3, Size(1, 1)), uneven_times(3), **wide)
    joined([segment], write_source(tmp_path / "s.mp4", ()), tmp_path / "out.mp4")
    assert len(decoded(tmp_path / "out.mp4")) == 3


@pytest.mark.parametrize("name", CODECS)
def test_a_stretch_from_a_key_frame_on_is_what_it_was(name, source, tmp_path):
    suffix = ".mov" if name == "prores" else ".mp4"
    codec = pick_codec(Path(f"x{suffix}"), name)
    frames, times = pictures(70), uneven_times(70)
    whole = write_segment(tmp_path / "s.mov", frames, times, codec)
    key = max(key for key in key_frames(whole) if key <= 65)
    assert key >= 5
    assemble([Stretch(whole, 0, 5), Stretch(whole, key, 5)], source, tmp_path / f"out{suffix}")
    came, all_frames = decoded(tmp_path / f"out{suffix}"), decoded(whole)
    expected = [*all_frames[:5], *all_frames[key : key + 5]]
    assert all((a == b).all() for a, b in zip(came, expected, strict=True))
    assert packets(tmp_path / f"out{suffix}") == [
        *packets(whole)[:5],
        *packets(whole)[key : key + 5],
    ]


def test_segments_of_different_encoders_are_refused(source, tmp_path):
    first = write_segment(tmp_path / "a.mov", pictures(2), uneven_times(2))
    lossless = pick_codec(Path("x.mp4"), "lossless")
    second = write_segment(tmp_path / "b.mov", pictures(2), uneven_times(2, 50_000), lossless)
    with pytest.raises(ClipError, match=r"b\.mov was encoded in another way"):
        joined([first, second], source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))


def test_segments_out_of_order_are_refused(source, tmp_path):
    segments, _ = write_segments(tmp_path)
    with pytest.raises(ClipError, match="order of time"):
        joined(segments[::-1], source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))


def test_a_damaged_segment_and_a_missing_source_are_named(source, tmp_path):
    segments, _ = write_segments(tmp_path)
    with pytest.raises(ClipError, match=r"gone\.mp4"):
        joined(segments, tmp_path / "gone.mp4", tmp_path / "out.mp4")
    segments[1].write_bytes(b"no segment")
    with pytest.raises(ClipError, match=segments[1].name):
        joined(segments, source, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("out*"))


def test_a_truncated_source_gives_the_audio_it_still_has(tmp_path):
    source, (segments, _) = write_source(tmp_path / "s.mkv"), write_segments(tmp_path)
    whole = packets(source, "audio")
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    joined(segments, source, tmp_path / "out.mkv")
    came = packets(tmp_path / "out.mkv", "audio")
    assert 0 < len(came) < len(whole)
    assert [data for _, data in came] == [data for _, data in whole[: len(came)]]


def test_an_output_folder_that_is_not_there_is_named(source, tmp_path):
    segments, _ = write_segments(tmp_path)
    with pytest.raises(ClipError, match="gone"):
        joined(segments, source, tmp_path / "gone" / "out.mp4")


@pytest.mark.parametrize("name", CODECS)
def test_a_partial_file_plays_after_every_append(name, tmp_path):
    suffix = ".mov" if name == "prores" else ".mp4"
    segments, times = write_segments(tmp_path, pick_codec(Path(f"x{suffix}"), name))
    partial = Partial(tmp_path / f"partial{suffix}")
    for n, segment in enumerate(segments, 1):
        partial.append(segment)
        assert len(decoded(partial.path)) == 4 * n
    came = [time for time, _ in packets(partial.path)]
    assert came == [Fraction(time, 90_000) for time, _ in times]


def test_a_partial_file_is_built_anew_from_what_is_finished(tmp_path):
    segments, _ = write_segments(tmp_path)
    path = tmp_path / "partial.mp4"
    grown = Partial(path)
    for segment in segments:
        grown.append(segment)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    Partial(path, segments)
    assert path.read_bytes() == whole


KILLED = """
import sys, time
from pathlib import Path
from rtr_core.media.partial import Partial
from rtr_core.shapes import Size
partial = Partial(Path(sys.argv[1]))
for segment in sys.argv[2:]:
    partial.append(Path(segment))
print("appended", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_partial_file_plays_after_its_writer_was_killed(count, tmp_path):
    segments, _ = write_segments(tmp_path)
    path = tmp_path / "partial.mp4"
    command = [sys.executable, "-c", KILLED, str(path), *map(str, segments[:count])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout is not None and child.stdout.readline() == b"appended\n"
        child.send_signal(signal.SIGKILL)
    assert len(decoded(path)) == 4 * count


def test_what_is_no_segment_is_not_appended(tmp_path):
    segments, _ = write_segments(tmp_path, lengths=(2,))
    partial = Partial(tmp_path / "partial.mp4", segments)
    (tmp_path / "note.mov").write_bytes(b"\0\0\0\x08free")
    with pytest.raises(ClipError, match=r"note\.mov"):
        partial.append(tmp_path / "note.mov")
    assert len(decoded(partial.path)) == 2
