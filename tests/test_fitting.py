"""What is chosen fits, is the cheapest that does, and is what the command line then does."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rtr_core import Style, Stylizer, WeightsError, untrained
from rtr_core.cli import main
from rtr_core.fitting import (
    GB,
    KNOWN,
    RESERVED,
    STEPS,
    TABLE_MEMORY,
    TABLE_SIZES,
    by_cost,
    choose,
    described,
    first_that,
    row,
)
from rtr_core.footprint import Savings, counted
from rtr_core.shapes import Size
from rtr_core.stylizer import file_of
from tests.media.clips import make_clip
from tests.test_footprint import MODEL, SIZE, WIDE

README = Path(__file__).parent.parent / "README.md"
WHOLE = counted(MODEL, SIZE, WIDE).peak + RESERVED


def told(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_nothing_is_switched_on_where_all_fits():
    plan = choose(MODEL, SIZE, WHOLE, WIDE)
    assert plan.fits and plan.savings == WIDE and not plan.flags
    assert str(plan).endswith("fits with: nothing of this")


def test_no_cheaper_choice_fits():
    order = by_cost(WIDE, ())
    for part in (0.95, 0.8, 0.6, 0.5, 0.4):
        there = RESERVED + round(part * (WHOLE - RESERVED))
        plan = choose(MODEL, SIZE, there, WIDE)
        assert plan.needed <= there - RESERVED
        cheaper = order[: order.index(plan.savings)]
        assert all(counted(MODEL, SIZE, one).peak > there - RESERVED for one in cheaper)


def test_reasons_add_up():
    plan = choose(MODEL, SIZE, RESERVED + (WHOLE - RESERVED) // 2, WIDE)
    assert plan.steps
    for step in plan.steps:
        assert f"on: {step.flag} saves" in str(plan) and step.why in str(plan)
        without = replace(plan.savings, **{step.field: getattr(WIDE, step.field)})
        assert plan.saved(step) == counted(MODEL, SIZE, without).peak - plan.footprint.peak


def test_what_was_asked_for_stays_on_and_what_must_not_be_stays_off():
    base = replace(WIDE, cache="fp8")
    for savings in by_cost(base, ["dtype", "tiny"]):
        assert savings.cache == "fp8" and savings.dtype == torch.float32 and savings.tiny is None
    assert len(by_cost(WIDE, ())) == 2 * 2 * 2 * 2 * 3 * 2


def test_with_blocks_in_ram_narrow_ones_come_first():
    order = by_cost(Savings(), ())
    wide = order.index(Savings(offload=True))
    assert order.index(Savings(offload=True, weights="fp8")) < wide


def test_where_nothing_fits_it_says_what_would():
    plan = choose(MODEL, SIZE, RESERVED + 10**6, WIDE)
    assert not plan.fits and "does not fit: " in str(plan)
    assert plan.needed == min(counted(MODEL, SIZE, one).peak for one in by_cost(WIDE, ()))
    least = plan.needed
    plan = choose(MODEL, SIZE, RESERVED + least - 1, WIDE)
    size = next(line for line in plan.advice() if line.startswith("--size")).split()[1]
    width, height = map(int, size.split("x"))
    smaller = replace(plan, size=Size(height, width))
    assert smaller.fits and width < SIZE.width
    window = next(line for line in plan.advice() if "window=" in line)
    recipe = MODEL.recipe.override(window=int(window.split("=")[1].split()[0]))
    assert replace(plan, model=replace(MODEL, recipe=recipe)).fits


def test_the_first_that_is_enough_is_found():
    for limit in range(-1, 9):
        found = first_that([7, 5, 3, 1], lambda n, limit=limit: n <= limit)
        assert found == next((n for n in (7, 5, 3, 1) if n <= limit), None)


# ---- from files, and on the command line ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("fitting")
    make_clip(place / "clip.mp4", frames=9, size=SIZE)
    return place


def test_the_headers_of_files_tell_what_loading_them_tells():
    from rtr_core.footprint import Model

    read = described([file_of("rtr-tiny")], window=3)
    loaded = Model.of(Stylizer.load("rtr-tiny", device="cpu", window=3))
    assert replace(read, tiny=None, pixels=None) == replace(loaded, pixels=None)


def test_wans_autoencoder_is_taken_where_files_hold_none(tmp_path):
    transformer = untrained.parts().transformer.state_dict()
    save_file(transformer, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match="8 channels: no autoencoder"):
        described([tmp_path / "odd.safetensors"])


def test_a_model_is_planned_by_name_without_weights_or_a_clip(capsys):
    words = "plan", "--model", "wan-1.3b", "--size", "64x64", "--memory"
    code, out, _ = told(capsys, *words, "24GB")
    assert code == 0 and "wan-1.3b at 64x64" in out and out.endswith("nothing of this\n")
    code, out, _ = told(capsys, "plan", "--model", "1.3b", "--size", "64x64", "--memory", "3GB")
    assert code == 0 and "on: --weights fp8 saves 1.4 GB" in out
    code, out, _ = told(capsys, *words, "24GB", "--recipe", "window=3")
    assert code == 0 and "3 behind them in sight" in out and "KV cache" in out


def test_a_clip_is_stylized_in_the_memory_that_is_told(folder, capsys):
    clip, size = folder / "clip.mp4", Size(*SIZE)
    model = described([file_of("rtr-tiny")])
    plain = Savings(dtype=torch.float32)
    there = RESERVED + counted(model, size, plain).peak  # and no room for frames that wait
    words = "--style", "ink wash painting", "--device", "cpu", "--memory", f"{there / 10**6}MB"
    code, _, err = told(capsys, "stylize", str(clip), str(folder / "a.mp4"), *words)
    assert code == 0 and "rtr: --" in err and "switched on to fit" in err
    flags = re.search(r"rtr: (.+) switched on", err)
    assert flags
    code, *_ = told(
        capsys, "stylize", str(clip), str(folder / "b.mp4"), *words[:4], *flags[1].split()
    )
    assert code == 0
    assert (folder / "a.mp4").read_bytes() == (folder / "b.mp4").read_bytes()
    code, _, err = told(capsys, "stylize", str(clip), str(folder / "c.mp4"), *words[:5], "501MB")
    assert code == 1 and "does not fit" in err and not (folder / "c.mp4").exists()


def test_a_clip_is_planned_in_the_memory_that_is_told(folder, capsys):
    clip = str(folder / "clip.mp4")
    code, out, err = told(capsys, "plan", clip, "--device", "cpu", "--memory", "8GB")
    assert code == 0 and "nothing is switched on" in err and "rtr-tiny on cpu" in out


@pytest.mark.parametrize("words", [["--table", "--train"], ["--model", "wan-1.3b"]])
def test_half_a_question_is_refused(words, capsys):
    code, out, err = told(capsys, "plan", *words)
    assert code == 1 and err.startswith("rtr: ") and not out


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("size", TABLE_SIZES, ids=str)
def test_the_table_in_the_readme_is_the_one_that_the_code_makes(name, size):
    """`rtr plan --table` prints it."""
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- rtr plan --table -->\n", "<!-- end -->"
    written = text[text.index(begin) + len(begin) : text.index(end)].splitlines()
    assert row(KNOWN[name], size) in written
    assert len(written) == 2 + len(KNOWN) * len(TABLE_SIZES)
    assert all(f"{there // GB} GB" in written[0] for there in TABLE_MEMORY)


# ---- what it costs ----


def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """PSNR in dB."""
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize(
    ("changed", "least"),
    [({"cache": "fp8"}, 47), ({"weights": "fp8"}, 40), ({"weights": "fp8", "cache": "fp8"}, 40)],
)
def test_a_long_stream_of_the_built_in_model_stays_near_and_does_not_drift(changed, least):
    rng = torch.Generator().manual_seed(1)
    wave = torch.rand(8, 64, 64, 3, generator=rng).repeat(16, 1, 1, 1)  # 128 frames
    style = Style(reference=(torch.rand(64, 64, 3, generator=rng) * 255).byte())
    plain, narrow = (
        Stylizer.load("rtr-tiny", device="cpu", **options).session(style, (64, 64))
        for options in ({}, changed)
    )
    pairs = zip(plain.push(wave), narrow.push(wave), strict=True)
    like = [likeness(a, b) for a, b in pairs]
    assert min(like) > least
    assert len(like) > 20 and sum(like[-8:]) / 8 > sum(like[4:12]) / 8 - 1.5
    if "cache" in changed:
        assert narrow.memory.nbytes < 0.3 * plain.memory.nbytes


def test_each_flag_is_one_of_the_command_line():
    from rtr_core.cli import parser

    for step in STEPS:
        words = step.flag.replace("TAEW", "taew2_1.safetensors").replace("FILE", "x").split()
        parser().parse_args(["stylize", "in.mp4", "out.mp4", *words])
