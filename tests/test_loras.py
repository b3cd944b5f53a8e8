"""LoRAs in styles: a session runs under them, fades them, keeps them, and knows changed files."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rtr_core import SessionError, Style, StyleError, Stylizer, WeightsError, untrained
from rtr_core.cli import main
from rtr_core.cues import CueSheet
from rtr_core.loras import LoraFile, read_strength
from rtr_core.timeline import Lead, Timeline
from rtr_core.weights.load import load_transformer
from tests.bundles import bundled

from .loras import WRITERS, merged_by_hand, random_halves, whole
from .near import distance

SIZE = (32, 48)
PROMPT = "impressionist oil"
NEAR = 1e-4  # frames run through many layers, one after the other


@pytest.fixture(scope="module")
def files(tmp_path_factory, stylizer):
    """Two LoRAs for the small model, and what each adds to its weights."""
    folder = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("klimt", "lines")):
        halves = random_halves(stylizer.parts.transformer, seed)
        save_file(WRITERS["kohya and musubi"].write(halves), folder / f"{name}.safetensors")
    return folder / "klimt.safetensors", folder / "lines.safetensors"


@pytest.fixture
def klimt(files):
    return Style(prompt=PROMPT, loras={files[0]: 0.8})


def clip(frames: int = 25) -> Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(1))


def rendered(session, frames: Tensor, step: int = 5) -> Tensor:
    """Frames pushed in pieces, and the rest flushed."""
    outs = [out for part in frames.split(step) for out in session.push(part)]
    return torch.cat([*outs, *session.flush()])


def baked(stylizer: Stylizer, *strengths: float) -> Stylizer:
    """The slow proof: the same LoRAs inside a copy of the weights."""
    bare = stylizer.parts.transformer
    deltas = [(whole(random_halves(bare, seed)), s) for seed, s in enumerate(strengths)]
    return Stylizer.of(
        replace(stylizer.parts, transformer=merged_by_hand(bare, *deltas), shelf=None)
    )


def test_a_session_under_loras_renders_what_merged_weights_render(stylizer, files):
    style = Style(
        prompt=PROMPT, reference=torch.rand(8, 8, 3), loras={files[0]: 0.8, files[1]: -0.3}
    )
    came = rendered(stylizer.session(style, SIZE), clip())
    bare = replace(style, loras={})
    expected = rendered(baked(stylizer, 0.8, -0.3).session(bare, SIZE), clip())
    assert distance(came, expected) < NEAR
    assert distance(rendered(stylizer.session(bare, SIZE), clip()), expected) > 0.02


def test_a_strength_of_nothing_is_the_bare_style_to_the_bit(stylizer, files):
    off, bare = Style(prompt=PROMPT, loras={files[0]: 0}), Style(prompt=PROMPT)
    sessions = [stylizer.session(style, SIZE) for style in (off, bare)]
    assert torch.equal(*(rendered(session, clip()) for session in sessions))
    assert off.fingerprint == bare.fingerprint


def test_sessions_in_turn_do_not_see_each_others_loras(stylizer, files, klimt):
    styles = [klimt, Style(prompt=PROMPT), Style(prompt=PROMPT, loras={files[1]: 0.5})]
    alone = [rendered(stylizer.session(style, SIZE), clip()) for style in styles]
    sessions = [stylizer.session(style, SIZE) for style in styles]
    outs: list[list[Tensor]] = [[], [], []]
    for part in clip().split(3):
        for out, session in zip(outs, sessions, strict=True):
            out += session.push(part)
    for out, session in zip(outs, sessions, strict=True):
        out += session.flush()
    assert all(torch.equal(torch.cat(o), a) for o, a in zip(outs, alone, strict=True))


def faded(stylizer, files, step: int, save_to=None) -> Tensor:
    """From one LoRA to another over some frames, perhaps saved and loaded in the middle of it."""
    session = stylizer.session(Style(prompt=PROMPT, loras={files[0]: 0.8}), SIZE)
    outs = list(session.push(clip()[:10]))
    session.switch(Style(prompt="ink wash", loras={files[1]: 0.6}), fade=20)
    for number, part in enumerate(clip(50)[10:].split(step)):
        outs += session.push(part)
        if save_to is not None and session.fade is not None and number % 3 == 2:
            session.save(save_to)
            session = Stylizer.of(stylizer.parts).load_session(save_to)
    return torch.cat([*outs, *session.flush()])


def test_a_fade_goes_from_the_strengths_of_one_style_to_those_of_the_other(stylizer, files, klimt):
    session = stylizer.session(klimt, SIZE)
    list(session.push(clip()[:10]))
    session.switch(Style(prompt=PROMPT, loras={files[1]: 0.6}), fade=16)
    seen = []
    for part in clip(50)[10:].split(8):
        list(session.push(part))
        by_name = {lora.path: s for lora, s in session.encoded.loras.items()}
        seen.append(tuple(by_name.get(str(file), 0.0) for file in files))
    assert seen[-1] == (0.0, 0.6)
    assert any(0 < old < 0.8 and 0 < new < 0.6 for old, new in seen)
    assert all(math.isclose(old / 0.8 + new / 0.6, 1.0) for old, new in seen)


def test_how_a_clip_is_cut_changes_no_bit_of_a_fade(stylizer, files):
    assert torch.equal(faded(stylizer, files, 1), faded(stylizer, files, 13))


def test_a_session_saved_in_the_middle_of_a_fade_goes_on_to_the_bit(stylizer, files, tmp_path):
    through = faded(stylizer, files, 2, tmp_path / "night.safetensors")
    assert (tmp_path / "night.safetensors").exists()
    assert torch.equal(through, faded(stylizer, files, 2))


def test_a_fork_keeps_its_loras(stylizer, klimt):
    session = stylizer.session(klimt, SIZE)
    list(session.push(clip()[:13]))
    twin = session.fork()
    assert twin.style.fingerprint == klimt.fingerprint
    assert torch.equal(rendered(twin, clip()[13:]), rendered(session, clip()[13:]))


def test_a_saved_session_names_its_loras_and_a_switch_to_come(stylizer, files, klimt, tmp_path):
    session = stylizer.session(Style(prompt=PROMPT), SIZE)
    session.switch(klimt)
    session.save(tmp_path / "night.safetensors")
    loaded = stylizer.load_session(tmp_path / "night.safetensors")
    assert loaded.switching[0].style.loras == {LoraFile.of(files[0]): 0.8}
    assert torch.equal(rendered(loaded, clip()), rendered(session, clip()))


def test_a_saved_session_does_not_go_on_under_a_changed_lora(stylizer, files, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(files[0].read_bytes())
    session = stylizer.session(Style(prompt=PROMPT, loras={mine: 1.0}), SIZE)
    session.save(tmp_path / "night.safetensors")
    mine.write_bytes(files[1].read_bytes())
    anew = Stylizer.of(stylizer.parts)
    anew = replace(
        anew, parts=replace(anew.parts, shelf=type(anew.parts.shelf)(untrained.TRANSFORMER))
    )
    with pytest.raises(SessionError, match=r"mine\.safetensors was changed since"):
        anew.load_session(tmp_path / "night.safetensors")
    mine.unlink()
    with pytest.raises(SessionError, match=r"There is no LoRA .*mine\.safetensors"):
        anew.load_session(tmp_path / "night.safetensors")


def test_a_style_is_another_one_with_other_content_in_the_file(files, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(files[0].read_bytes())
    before = Style(prompt=PROMPT, loras={mine: 1.0})
    assert before.fingerprint == Style(prompt=PROMPT, loras={files[0]: 1.0}).fingerprint
    assert before.fingerprint != Style(prompt=PROMPT, loras={mine: 0.9}).fingerprint
    mine.write_bytes(files[1].read_bytes())
    assert before.fingerprint != Style(prompt=PROMPT, loras={mine: 1.0}).fingerprint
    assert str(before) == "impressionist oil, mine.safetensors 1"


@pytest.mark.parametrize("strength", [math.nan, math.inf, "0.8", None, True])
def test_a_strength_is_any_finite_number(files, strength):
    with pytest.raises(StyleError, match="strength of a LoRA is a number"):
        Style(prompt=PROMPT, loras={files[0]: strength})


def test_a_file_that_is_not_there_is_named_with_one_that_is_near(files):
    with pytest.raises(StyleError, match=r"klint\.safetensors \(did you mean 'klimt\.safetensors'"):
        Style(prompt=PROMPT, loras={files[0].with_name("klint.safetensors"): 1})
    with pytest.raises(StyleError, match=r"given as .*0\.8"):
        Style(prompt=PROMPT, loras=[files[0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("klimt.safetensors:0.8", ("klimt.safetensors", 0.8)),
        ("klimt.safetensors:-1", ("klimt.safetensors", -1.0)),
        ("klimt.safetensors", ("klimt.safetensors", 1.0)),
        (r"C:\loras\klimt.safetensors", (r"C:\loras\klimt.safetensors", 1.0)),
        (r"C:\loras\klimt.safetensors:.5", (r"C:\loras\klimt.safetensors", 0.5)),
        ("a folder:2", ("a folder", 2.0)),
    ],
)
def test_a_file_and_its_strength_are_one_word(text, expected):
    assert read_strength(text) == expected


def test_a_strength_that_is_none_is_told():
    for text in ("klimt.safetensors:loud", "klimt.safetensors:", "klimt.safetensors:nan"):
        with pytest.raises(StyleError, match="a number"):
            read_strength(text)


# ---- always on ----


@pytest.fixture(scope="module")
def bundle(stylizer, tmp_path_factory):
    return bundled(stylizer.parts, tmp_path_factory.mktemp("bundle") / "mine.safetensors")


def test_a_model_under_a_lora_is_another_model_in_every_style(stylizer, bundle, files):
    bare = Stylizer.load(bundle, device="cpu")
    fast = Stylizer.load(bundle, device="cpu", loras={files[0]: 0.8})
    assert str(next(iter(fast.parts.loras))).startswith("klimt.safetensors: ")
    style = Style(prompt=PROMPT, loras={files[1]: -0.3})
    expected = rendered(baked(stylizer, 0.8, -0.3).session(Style(prompt=PROMPT), SIZE), clip())
    assert distance(rendered(fast.session(style, SIZE), clip()), expected) < NEAR
    weaker = Stylizer.load(bundle, device="cpu", loras={files[0]: 0.7})
    assert len({s.parts.fingerprint for s in (bare, fast, weaker)}) == 3
    off = Stylizer.load(bundle, device="cpu", loras={files[0]: 0})
    assert off.parts.fingerprint == bare.parts.fingerprint
    assert fast.parts.beside_bytes > bare.parts.beside_bytes


def test_a_session_goes_on_only_under_the_loras_of_its_model(bundle, files, tmp_path):
    fast = Stylizer.load(bundle, device="cpu", loras={files[0]: 0.8})
    fast.session(Style(prompt=PROMPT), SIZE).save(tmp_path / "night.safetensors")
    fast.load_session(tmp_path / "night.safetensors")
    with pytest.raises(SessionError, match="other weights"):
        Stylizer.load(bundle, device="cpu").load_session(tmp_path / "night.safetensors")


def test_convert_bakes_loras_in(stylizer, bundle, files, tmp_path, capsys):
    target = tmp_path / "baked.safetensors"
    told = [f"--lora={files[0]}:0.8", f"--lora={files[1]}:-0.3"]
    with pytest.raises(SystemExit) as end:
        main(["convert", str(bundle), str(target), *told])
    assert not end.value.code and "loras: klimt.safetensors: " in capsys.readouterr().out
    expected = baked(stylizer, 0.8, -0.3).parts.transformer.state_dict()
    found = load_transformer(target).state_dict()
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)


# ---- on the cue sheet ----


def test_a_cue_names_loras_beside_its_sheet(stylizer, files):
    sheet = CueSheet.parse(
        "00:00 ink wash\n00:01 impressionist oil lora=klimt.safetensors:0.8 lora=lines.safetensors"
    )
    assert sheet.cues[1].loras == (("klimt.safetensors", 0.8), ("lines.safetensors", 1.0))
    assert sheet.cues[1].prompt == "impressionist oil"
    assert CueSheet.parse(str(sheet)) == sheet
    styles = sheet.styles(files[0].parent)
    assert styles[sheet.cues[1]].loras == {LoraFile.of(files[0]): 0.8, LoraFile.of(files[1]): 1.0}
    lead = Lead.begin(stylizer, Timeline(sheet=sheet, styles=styles), SIZE)
    lead.feed(clip(40), lambda _: None, ends=True)
    assert {lora.path for lora in lead.session.encoded.loras} == {str(file) for file in files}


def test_a_timeline_of_one_style_tells_its_loras(klimt):
    assert "lora=" in str(Timeline.of(klimt).sheet)


@pytest.mark.parametrize(
    "path", ["my loras/klimt.safetensors", "a=b.safetensors", "x:0.5", 'a"b.pt', "C:\\x.pt", "a,"]
)
def test_every_path_can_be_written(path):
    sheet = CueSheet.parse("00:05 ink")
    sheet = CueSheet((replace(sheet.cues[0], loras=((path, -0.5), ("other.pt", 1e-7))),))
    assert CueSheet.parse(str(sheet)) == sheet


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("00:05 ink lora=klimt.safetensors:loud", 16, "a number"),
        ("00:05 ink lora=", 16, "by the path of its file"),
        ("00:05 ink lora=a.pt lora=a.pt:0.5", 34, "given twice"),
        ("00:05 ink lorra=a.pt", 11, "did you mean 'lora'"),
    ],
)
def test_a_lora_that_cannot_be_read_is_told_with_line_and_column(line, column, message):
    with pytest.raises(StyleError, match=rf"^cues:1:{column}: .*{message}"):
        CueSheet.parse(line)


def test_a_lora_that_is_not_there_is_told_with_its_line(files):
    sheet = CueSheet.parse("00:00 ink\n00:05 oil lora=klint.safetensors")
    with pytest.raises(StyleError, match=r"^cues:2:\d+: There is no LoRA .*klimt"):
        sheet.styles(files[0].parent)
    with pytest.raises(StyleError, match=r"^cues:2:\d+: .*put the LoRA on the model"):
        sheet.styles(images={})


# ---- the command line ----


def test_stylize_reports_its_loras_and_refuses_one_for_another_model(
    bundle, files, tmp_path, capsys, monkeypatch
):
    sheet = files[0].with_name("night.txt")
    sheet.write_text("00:00 oil lora=lines.safetensors:0.5\n")
    words = ["stylize", "nothing.mp4", str(tmp_path / "out.mp4"), "--cues", str(sheet)]
    words += ["--model", str(bundle), "--lora", f"{files[0]}:0.8"]
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err.splitlines()
    assert {line.split(": ")[1] for line in said[:2]} == {"klimt.safetensors", "lines.safetensors"}
    assert all("keys matched" in line for line in said[:2]) and "nothing.mp4" in said[2]

    halves = {"A": torch.ones(4, 9), "B": torch.ones(9, 4)}
    tensors = {f"blocks.0.ffn.0.lora_{half}.weight": t for half, t in halves.items()}
    save_file(tensors, tmp_path / "other.safetensors")
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(SystemExit) as end:
        main([*words[:-1], str(tmp_path / "other.safetensors")])
    assert end.value.code and capsys.readouterr().err.count("\n") == 1


def test_a_model_takes_no_lora_that_changes_nothing(bundle, tmp_path):
    save_file({"x.lora_A.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="None of its 1 keys"):
        Stylizer.load(bundle, device="cpu", loras={tmp_path / "x.safetensors": 1.0})


def test_a_style_in_force_makes_its_twin_once_and_few_are_kept(stylizer, files, klimt):
    parts = Stylizer.of(stylizer.parts).parts
    geometry = parts.geometry(SIZE)
    encoded = parts.encode(klimt, geometry)
    assert parts.transformer_under(encoded) is parts.transformer_under(encoded)
    bare = parts.encode(Style(prompt=PROMPT), geometry)
    assert parts.transformer_under(bare) is parts.transformer
    for step in range(1, 20):
        parts.transformer_under(encoded.toward(bare, step / 20))
    assert len(parts._twins) <= 4


def test_styles_are_mixed_with_their_loras(stylizer, files, klimt):
    mixed = klimt.mixed(Style(prompt="ink wash", loras={files[1]: 0.4}), 0.25)
    session = stylizer.session(mixed, SIZE)
    by_name = {lora.path: strength for lora, strength in session.encoded.loras.items()}
    assert by_name == pytest.approx({str(files[0]): 0.6, str(files[1]): 0.1})
