"""The exam as a whole on a small model: repeatable, with every bar, its pictures and its misses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtr_core.appearance import LocalPatterns
from rtr_core.cli import main
from rtr_core.cli.weights import FAILED
from rtr_core.errors import ClipError
from rtr_core.evaluate import length, order
from rtr_core.evaluate.bars import Bar
from rtr_core.evaluate.exam import sit
from rtr_core.evaluate.held import MOVES, Clip, Held, read_held
from rtr_core.evaluate.judge import judged
from rtr_core.evaluate.metrics import floats, motion_energy
from rtr_core.evaluate.subject import FULL, QUICK, styles_of
from rtr_core.train import looks, network
from rtr_core.train.clips import write_clip
from rtr_core.train.vae import TINY_VAE
from rtr_core.untrained import randomized
from rtr_core.vae.tiny import TinyVae
from tests.train.scenes import clip, scene

SIDE = 64
SMALL = replace(
    QUICK, side=SIDE, every=1, references=3, steps=2, seconds=4, span=2, rate=16, timed=1
)
STYLES = ("ink wash", "pixel blocks")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A model of random weights that says it has learned two styles."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    vae = randomized(
        TinyVae(replace(TINY_VAE, encoder_widths=(8,) * 3, decoder_widths=(8,) * 3)),
        torch.Generator().manual_seed(0),
    )
    config = replace(network.TINY, dim=64, ffn_dim=64, heads=2, layers=1)
    begun = network.begun(config, network.TINY_TEXT)
    with torch.no_grad():
        begun.transformer.head.head.weight.normal_(0, 0.1, generator=torch.manual_seed(0))
    made = network.Result(vae=vae, recipe=network.TINY_RECIPE, styles=STYLES, card={})
    made.write(path, begun)
    return path


@pytest.fixture(scope="module")
def held(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    for seed in (0, 1):
        write_clip(folder / f"clip-{seed}.mkv", clip(20, SIDE, SIDE + 16, seed))
        Image.fromarray(scene(96, 120, 10 + seed)).save(folder / f"still-{seed}.png")
    (folder / "broken.mp4").write_bytes(b"no clip")
    return folder


@pytest.fixture(scope="module")
def report(bundle, held, tmp_path_factory):
    return taken(bundle, held, tmp_path_factory.mktemp("out"))


def taken(bundle: Path, held: Path, folder: Path):
    said: list[str] = []
    torch.set_num_threads(1)
    report = sit([bundle], held, folder, SMALL, teacher=bundle, causal=bundle, tell=said.append)
    assert len(said) == 1 + len(report.sections)
    return report, folder


def test_every_part_of_the_issue_is_there_in_its_order(report):
    names = [section.name for section in report[0].sections]
    assert names == [
        *("Autoencoder", "TV2V", "RV2V", "Time", "Length", "The paper's order", "Speed"),
    ]
    assert all(bar.value is not None and np.isfinite(bar.value) for bar in report[0].bars)


def test_random_weights_fail(report):
    missed = {bar.claim for bar in report[0].bars if bar.passed is False}
    assert {"mean PSNR to the target", "nearest target, colour"} <= missed
    assert not report[0].passed


def test_a_model_equals_itself_before_post_training(report):
    scores = next(s for s in report[0].sections if s.name == "The paper's order").facts
    assert scores["causal"] == scores["post-trained"] != scores["teacher"]


def test_the_same_exam_gives_the_same_numbers(report, bundle, held, tmp_path):
    again, _ = taken(bundle, held, tmp_path)
    timed = ("encode and decode", "frames a second, end to end")
    first, second = (
        {bar.claim: bar.value for bar in one.bars if bar.claim not in timed}
        for one in (report[0], again)
    )
    assert first == second


def test_the_report_is_written_for_people_and_machines(report, bundle):
    folder = report[1]
    values = json.loads((folder / "exam.json").read_text())
    assert values["about"]["files"]["model"][0]["name"] == bundle.name
    assert values["about"]["styles"] == list(STYLES)
    assert any("broken" in reason for reason in values["about"]["left out"])
    text = (folder / "exam.md").read_text()
    assert "| TV2V | nearest target, colour |" in text and "**no**" in text
    for name in ("tv2v", "rv2v", "autoencoder"):
        with Image.open(folder / f"{name}.jpg") as sheet:
            assert sheet.width > SIDE


# ---- what is measured ----


def test_targets_themselves_take_every_bar_of_style():
    frames = clip(3, 64, 64, 3)
    targets = [floats(looks.canonical(style)(frames)) for style in looks.STYLES]
    verdict = judged(targets, targets, LocalPatterns())
    assert verdict.color.all() and verdict.gray.all()
    assert verdict.psnr == pytest.approx([100] * len(targets), abs=30)
    assert verdict.likeness == pytest.approx(1)


def test_own_targets_may_come_in_any_order_and_more_than_once():
    frames = clip(3, 64, 64, 3)
    targets = [floats(looks.canonical(style)(frames)) for style in looks.STYLES[:3]]
    verdict = judged([targets[2], targets[0], targets[2]], targets, LocalPatterns(), [2, 0, 1])
    assert verdict.color.tolist() == [True, True, False]


def test_a_bar_is_taken_within_its_limits_and_not_judged_unmeasured():
    assert Bar(claim="", value=0.7, least=0.7, most=1.3).passed
    assert Bar(claim="", value=1.31, least=0.7, most=1.3).passed is False
    assert Bar(claim="", value=None, least=0.7, reason="no file").passed is None
    assert Bar(claim="", value=1.0, least=0.7, most=1.3, unit=" dB").limit == (
        "at least 0.7, at most 1.3 dB"
    )


def test_both_ends_of_a_long_clip_show_the_same_frames():
    for config in (FULL, QUICK):
        frames = np.arange(length.looped(config))[:, None]
        whole = length.looping(frames, config.seconds * config.rate)
        span = config.span * config.rate
        assert len(whole) == config.seconds * config.rate
        np.testing.assert_array_equal(whole[:span], whole[-span:])


def test_drift_with_and_without_the_anchor_is_judged_the_other_way_round():
    config = replace(FULL, seconds=12)
    steady = [dict.fromkeys(length.FIGURES, 0.5)] * 12
    fading = [dict.fromkeys(length.FIGURES, 0.5 - 0.02 * n) for n in range(12)]
    good = length.told(config, steady, fading, "clip").bars
    assert [bar.passed for bar in good] == [True] * 5
    bad = length.told(config, fading, steady, "clip").bars
    assert [bar.passed for bar in bad] == [False] * 5


def test_the_order_is_not_judged_where_a_model_is_missing():
    scores = dict.fromkeys(order.KEYS, 0.9)
    worse = dict.fromkeys(order.KEYS, 0.5)
    alone = order.bars_of({"teacher": None, "causal": None, "post-trained": scores})
    assert [bar.passed for bar in alone] == [None] * 4
    right = order.bars_of({"teacher": scores, "causal": worse, "post-trained": scores})
    assert all(bar.passed for bar in right)
    wrong = order.bars_of({"teacher": scores, "causal": scores, "post-trained": worse})
    assert not any(bar.passed for bar in wrong)


# ---- clips held out ----


def test_held_out_clips_are_square_and_stills_move(held):
    found = read_held(held, SIDE, 9, 20)
    assert [len(c.frames) for c in found.clips] == [20, 20] and len(found.stills) == 2
    taken_clips = found.taken(4, 9)
    assert all(c.frames.shape == (9, SIDE, SIDE, 3) for c in taken_clips)
    assert [c.name for c in taken_clips] == ["clip-0", "clip-1", "still-0", "still-1"]
    assert all((c.moves == (motion_energy(floats(c.frames)) >= MOVES)) for c in taken_clips)


def test_a_standing_still_stands_but_for_the_noise_of_its_sensor():
    still = Clip("still", scene(96, 120)[None])
    found = Held([], [still], SIDE, [])
    quiet, noisy = found.standing(0, 3), found.standing(0, 3, 2.0)
    assert (np.diff(quiet.frames.astype(int), axis=0) == 0).all()
    assert np.diff(noisy.frames.astype(int), axis=0).std() == pytest.approx(2 * 2**0.5, rel=0.1)


def test_references_come_of_other_scenes_than_the_clip(held):
    names = [c.name for c in read_held(held, SIDE, 9, 20).scenes()]
    assert sorted(names) == ["clip-0", "clip-1", "still-0", "still-1"]


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ClipError, match="no clip of at least 9 frames"):
        read_held(tmp_path, SIDE, 9, 20)


def test_the_command_says_in_a_line_what_it_lacks(tmp_path, bundle, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["exam", str(bundle), "--clips", str(tmp_path), "--out", str(out), "--quick"])
    assert ended.value.code == FAILED
    assert "holds no clip of at least" in capsys.readouterr().err


def test_a_model_is_examined_in_the_styles_of_its_own_list(bundle):
    assert styles_of([bundle]) == STYLES
