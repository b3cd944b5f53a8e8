"""Cue sheets: what is read, what is refused and where, and who is in force when."""

import random
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from rtr_core.cues import Cue, CueSheet
from rtr_core.errors import StyleError
from rtr_core.moments import Moment

SHEET = """
00:00      ink wash painting
00:12.5    @klimt.png fade=12
00:30      impressionist oil strength=0.8 seed=7
f720       "a prompt with = and @ signs" @ref.png     # times as mm:ss, or frames
# a comment, and a blank line

01:00:02   after "ink"
"""


def at(time: str) -> Moment:
    return Moment.parse(time)


def only(line: str) -> Cue:
    (cue,) = CueSheet.parse(line).cues
    return cue


def test_a_sheet_is_read():
    sheet = CueSheet.parse(SHEET.replace(' after "ink"', " after ink"))
    assert sheet.cues == (
        Cue(start=at("0"), prompt="ink wash painting"),
        Cue(start=at("12.5"), reference="klimt.png", fade=12),
        Cue(start=at("30"), prompt="impressionist oil", strength=0.8, seed=7),
        Cue(start=at("f720"), prompt="a prompt with = and @ signs", reference="ref.png"),
        Cue(start=at("3602"), prompt="after ink"),
    )
    assert [cue.line for cue in sheet.cues] == [2, 3, 4, 5, 8]


@pytest.mark.parametrize(
    ("text", "time", "frame"),
    [
        ("00:12.5", Fraction(25, 2), None),
        ("00:12,5", Fraction(25, 2), None),
        ("90:00", 5400, None),
        ("1:02:03.250", Fraction(14893, 4), None),
        ("7", 7, None),
        ("7.5s", Fraction(15, 2), None),
        ("f720", None, 720),
        ("F0", None, 0),
    ],
)
def test_a_moment_is_written_in_many_ways_and_back_in_one(text, time, frame):
    moment = Moment.parse(text)
    assert (moment.time, moment.frame) == (time, frame)
    assert Moment.parse(str(moment)) == moment


@pytest.mark.parametrize(
    "line",
    [
        "00:05\tink  wash\t strength=0.5 \t ",
        "\ufeff00:05 ink wash strength=0.5",
        "00:05 ink wash strength=0.5\r\n\r\n",
        "00:05 - ink wash strength=0.5",
        "00:05 \u2013 ink wash strength=0.5",
        "00:05: ink wash strength=0.5",
        "00:05, ink wash Strength = 0.5",
        "00:05 “ink wash” STRENGTH=.5,",
        '00:05 "ink wash", strength=0.5, fade=0',
        "00:05 strength=0.5 ink wash",
        "00:05 | ink\u00a0wash strength=5e-1 # not loud",
    ],
)
def test_what_people_type_means_the_same(line):
    assert only(line) == Cue(start=at("5"), prompt="ink wash", strength=0.5)


@pytest.mark.parametrize(
    "prompt",
    [
        "ink, wash; and van Gogh\u2019s sky: (bright:1.2), 5% grain - no text",
        'she said "no" = twice',
        "@klimt",
        "#inktober",
        "- a dash",
        "two  spaces",
        " around ",
        "“smart”",
        '"',
        "me@home C# 🎨",
        "tab\there",
    ],
)
def test_every_prompt_can_be_written(prompt):
    sheet = CueSheet((Cue(start=at("5"), prompt=prompt, reference=prompt, seed=2**64 - 1),))
    assert CueSheet.parse(str(sheet)) == sheet


def test_a_sheet_is_written_in_columns():
    sheet = CueSheet.parse(SHEET.replace('"ink"', "ink"))
    assert str(sheet).splitlines() == [
        "00:00     ink wash painting",
        "00:12.5   @klimt.png fade=12",
        "00:30     impressionist oil strength=0.8 seed=7",
        'f720      "a prompt with = and @ signs" @ref.png',
        "01:00:02  after ink",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00:75 ink", "1:1: '00:75' is no time: .*Did you mean 01:15?"),
        ("0:61:00 ink", "1:1: .*Did you mean 01:01:00?"),
        ("  -00:05 ink", "1:3: '-00:05' is negative"),
        ("-f3 ink", "1:1: expected mm:ss, hh:mm:ss, seconds, or a frame number"),
        ("ink wash painting", "1:1: expected .* not 'ink'"),
        ("00:00-00:10 ink", "1:1: expected .* not '00:00-00:10'"),
        ("\n\n00:10", "3:6: a style is missing; expected a line such as"),
        ("00:10 fade=3", "1:13: a style is missing"),
        (
            "00:10 ink strenght=1",
            "1:11: there is no option 'strenght' .did you mean 'strength'.*quotes",
        ),
        ("00:10 a = b", "1:7: there is no option 'a'; options are strength, seed, fade"),
        ("00:10 ink strength=", "1:20: strength= is followed by a number .* not by nothing"),
        ("00:10 ink strength=80%", "1:20: strength= is followed by a number .* not by '80%'"),
        ("00:10 ink strength=0", "1:20: strength is a number above 0 and at most 1, not 0"),
        ("00:10 ink strength=1.2", "1:20: strength is a number above 0"),
        ("00:10 ink strength=nan", "1:20: strength is a number above 0"),
        ("00:10 ink fade=-1", "1:16: fade is a whole number of frames, 0 or more, not -1"),
        ("00:10 ink seed=1.5", "1:16: seed= is followed by a whole number"),
        ("00:10 =3", "1:7: = without an option"),
        ("00:10 ink fade=1 fade=2", "1:18: fade is given twice"),
        ("00:10 ink fade=1 wash", "1:18: the prompt goes on after it ended"),
        ('00:10 "ink', "1:7: a quote that is not closed"),
        ('00:10 after "ink" wash', "1:13: the prompt goes on"),
        ('00:10 5" nails', "1:7: a quote that is not closed, or does not stand around"),
        ("00:10 @", "1:8: a reference is one line"),
        ("00:10 @a.png @b.png", "1:14: a second @reference"),
        ("00:10 ink\n00:05 oil", "2:1: 00:05 is not later than 00:10 of line 1"),
        ("00:10 ink\n 0:10 oil", "2:2: 00:10 is not later than 00:10 of line 1"),
        ("f9 ink\n00:10 oil\nf8 pen", "3:1: f8 is not later than f9 of line 1"),
        ("00:10 ink\x00", "1:10: the character"),
    ],
)
def test_errors_point_at_line_and_column(text, message):
    with pytest.raises(StyleError, match=f"^cues.txt:{message}"):
        CueSheet.parse(text, name="cues.txt")


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment"])
def test_a_sheet_without_a_cue_is_refused(text):
    with pytest.raises(StyleError, match=r"^cues: no cue; expected lines such as"):
        CueSheet.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "a\nb"},
        {"prompt": " "},
        {"reference": ""},
        {},
        {"prompt": "a", "strength": 2},
        {"prompt": "a", "fade": -1},
        {"prompt": "a", "seed": -1},
    ],
)
def test_a_cue_that_could_not_be_written_is_refused(wrong):
    with pytest.raises(StyleError):
        Cue(start=at("0"), **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"time": Fraction(1), "frame": 1}, {"frame": -1}, {"time": Fraction(1, 3)}],
)
def test_a_moment_that_could_not_be_written_is_refused(wrong):
    with pytest.raises(StyleError):
        Moment(**wrong)


def test_any_text_is_a_sheet_that_comes_back_or_a_style_error():
    pieces = [
        *("00:00", "00:12.5", "f7", "f720", "1:00:00", "30", "-1", "00:75", " ", "  ", "\t", "\n"),
        *("\r\n", "ink", "wash,", "@klimt.png", "@", '"', '""', "“", "”", "=", "strength=0.5", "#"),
        *(
            "Seed=7",
            "fade=12",
            "fade=",
            "a=b",
            "-",
            "\u2013",
            ":",
            "\ufeff",
            "\x00",
            "\u2028",
            "\x85",
        ),
        *("\u00a0", "🎨", "\\", "'", "9" * 5000, "seed=" + "9" * 5000, "٣", "strength=1e-400"),
    ]
    rng, read = random.Random(5), 0
    for _ in range(6000):
        start = rng.choice(["", "00:00 ", "f3 "])
        text = start + "".join(rng.choices(pieces, k=rng.randrange(9)))
        try:
            sheet = CueSheet.parse(text)
        except StyleError:
            continue
        read += 1
        again = CueSheet.parse(str(sheet))
        assert again == sheet and str(again) == str(sheet), text
    assert read > 300


# ---- who is in force ----


def test_the_last_cue_reached_is_in_force_and_the_first_from_the_start():
    sheet = CueSheet.parse("00:02 a\n00:03 b\nf80 c")
    rate = 24
    in_force = [sheet.cue_at(Fraction(n, rate), n).prompt for n in range(100)]
    assert in_force == ["a"] * 72 + ["b"] * 8 + ["c"] * 20


def test_of_several_cues_due_the_last_is_taken_up_once():
    sheet = CueSheet.parse("0 a\n1 b\nf13 c\n5 d")
    active, switches = None, []
    for frame in range(0, 120, 12):  # a chunk of twelve frames at 12 frames a second
        if cue := sheet.due(Fraction(frame, 12), frame, active):
            switches.append((frame, cue.prompt))
            active = cue
    assert switches == [(0, "a"), (12, "b"), (24, "c"), (60, "d")]
    late = sheet.due(Fraction(4), 48, sheet.cues[0])
    assert late is not None and late.prompt == "c"


def test_a_cue_that_would_be_overtaken_at_a_frame_rate_is_refused():
    sheet = CueSheet.parse("00:10 a\nf240 b")
    sheet.check_rate(Fraction(24))
    with pytest.raises(StyleError, match="cues:2:1: f240 is not later than 00:10 of line 1"):
        sheet.check_rate(Fraction(30000, 1001))


# ---- references ----


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(tmp_path / "klimt.png")
    (tmp_path / "my art").mkdir()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "my art" / "dark.png")
    return tmp_path


def test_references_are_files_beside_the_sheet_or_images_by_name(folder):
    (folder / "cues.txt").write_text(
        '0 ink strength=0.5\n1 @klimt.png\n2 gold @still\n3 @"my art/dark.png"', encoding="utf-8"
    )
    sheet = CueSheet.read(folder / "cues.txt")
    ink, klimt, still, dark = sheet.styles(folder, {"still": torch.ones(1, 9, 9, 3)}).values()
    assert ink.prompt == "ink" and ink.strength == 0.5 and ink.reference is None
    assert klimt.reference.shape == (16, 16, 3) and klimt.reference.min() > 0.7
    assert still.prompt == "gold" and still.reference.shape == (9, 9, 3)
    assert dark.reference.max() == 0


def test_each_file_is_read_once(folder, monkeypatch):
    opened, read = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or read(path))
    styles = CueSheet.parse("0 @klimt.png\n1 ink\n2 oil @klimt.png").styles(folder)
    assert len(styles) == 3 and len(opened) == 1


def test_an_image_by_name_comes_before_a_file(folder):
    (style,) = (
        CueSheet.parse("0 @klimt.png").styles(folder, {"klimt.png": torch.zeros(9, 9, 3)}).values()
    )
    assert style.reference.max() == 0


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("@klimd.png", "cues:2:7: there is no 'klimd.png' in .*did you mean 'klimt.png'"),
        ("@stil", "cues:2:7: there is no 'stil' .*did you mean 'still'"),
        ("@words.png", "cues:2:7: .*cannot be read"),
        ("@thin", "cues:2:7: A reference of .* cannot carry a style"),
        ('@"my art"', "cues:2:7: there is no 'my art'"),
    ],
)
def test_a_reference_that_is_not_there_is_pointed_at(folder, reference, message):
    (folder / "words.png").write_text("no picture")
    images = {"still": torch.ones(9, 9, 3), "thin": torch.ones(9, 2, 3)}
    sheet = CueSheet.parse(f"0 ink\n1 oil {reference}")
    with pytest.raises(StyleError, match=message):
        sheet.styles(folder, images)


def test_without_a_folder_no_file_is_opened(folder):
    with pytest.raises(StyleError, match="among the images"):
        CueSheet.parse(f"0 @{folder}/klimt.png").styles()


def test_a_sheet_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(StyleError, match=r"none\.txt"):
        CueSheet.read(tmp_path / "none.txt")
