"""Between the host's values and the core's."""

import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.nodes.stub import VideoFromFile


def test_an_alpha_channel_is_dropped(convert):
    assert convert.to_frames(torch.rand(2, 4, 4, 4)).shape == (2, 4, 4, 3)


@pytest.mark.parametrize("images", [None, torch.rand(0, 4, 4, 3), torch.rand(4, 4, 3)])
def test_what_holds_no_frame_is_refused(convert, images):
    with pytest.raises(Exception, match="no frame in these images"):
        convert.to_frames(images)


def test_styled_frames_become_one_batch_and_leave_their_list(convert):
    parts = [torch.rand(2, 4, 4, 3), torch.rand(3, 4, 4, 3)]
    whole = torch.cat(parts)
    assert torch.equal(convert.to_images(parts), whole) and parts == []


def test_a_rate_is_the_fraction_that_people_round(convert):
    assert convert.to_rate(24.0) == 24 and convert.to_rate(29.97) == Fraction(2997, 100)


def test_a_size_is_both_sides_or_none(convert):
    assert convert.to_size(0, 0) is None and convert.to_size(832, 480) == (480, 832)
    with pytest.raises(Exception, match="width and height"):
        convert.to_size(832, 0)


@pytest.mark.parametrize("name", ["a/b", "..\\up", "c:d", "what?", ".hidden", " blank"])
def test_a_session_is_called_as_a_file_could_be(convert, name):
    assert convert.session_name("night shift-2") == "night shift-2"
    with pytest.raises(Exception, match="no slashes"):
        convert.session_name(name)


def test_conditioning_comes_before_the_prompt_and_there_is_one_of_it(convert):
    rows = torch.rand(1, 4, 8)
    style = convert.to_style(prompt="ink", strength=0.5, clip=None, conditioning=[[rows, {}]])
    assert torch.equal(style.embedding, rows[0]) and style.strength == 0.5
    with pytest.raises(Exception, match="holds 2"):
        convert.to_style(prompt="", strength=1, clip=None, conditioning=[[rows, {}]] * 2)


def test_a_clip_reads_the_prompt_and_the_words_are_kept_for_people(convert):

    def encoded(tokens):
        return [[torch.full((1, 1, 4), float(len(tokens))), {}]]

    clip = SimpleNamespace(tokenize=str.upper, encode_from_tokens_scheduled=encoded)
    style = convert.to_style(prompt="ink", strength=1.0, clip=clip)
    assert style.embedding[0, 0] == 3 and str(style) == "ink"


def test_a_sheet_finds_wired_images_and_files_of_the_input_folder(convert):
    sheet = "00:00 ink\n00:01 @image_1\n"
    timeline = convert.to_timeline(sheet, {"image_1": torch.rand(1, 16, 16, 3)}, None)
    first, second = (timeline.styles[cue] for cue in timeline.sheet.cues)
    assert first.prompt == "ink" and second.reference.shape == (16, 16, 3)
    with pytest.raises(Exception, match="there is no 'gone"):
        convert.to_timeline("00:00 @gone.png", {}, None)


def test_a_video_without_a_file_is_written_as_it_is(convert):
    video = VideoFromFile(get_stream_source=lambda: io.BytesIO(b"frames"))
    assert convert.to_path(video).read_bytes() == b"frames"


def test_a_video_that_was_made_in_the_graph_is_written_by_the_host(convert):
    """Not every host can stream one that has no file."""

    def written(path):
        return Path(path).write_bytes(b"made")

    made = SimpleNamespace(save_to=written)
    assert convert.to_path(made).read_bytes() == b"made"


def test_a_video_with_a_file_is_that_file_and_a_trimmed_one_is_written(convert, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"frames")

    def written(path):
        return Path(path).write_bytes(b"less")

    whole = VideoFromFile(get_stream_source=lambda: str(clip), save_to=written)
    assert convert.to_path(whole) == clip
    whole.get_active_trim_window = lambda: (0, 0)
    assert convert.to_path(whole) == clip
    whole.get_active_trim_window = lambda: (1.0, 2.0)
    assert convert.to_path(whole).read_bytes() == b"less"
    whole.get_active_trim_window = lambda: (0, 0)
    whole.has_pending_frame_edits = lambda: True
    assert convert.to_path(whole).read_bytes() == b"less"
    whole.has_pending_frame_edits = lambda: False
    clip.unlink()
    with pytest.raises(Exception, match="not there any more"):
        convert.to_path(whole)
