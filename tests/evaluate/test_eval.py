"""`rtr eval`: a copy is perfect, each fault is caught by its metric, bad input is named."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from rtr_core.appearance import LocalPatterns
from rtr_core.cli import main
from rtr_core.cli.weights import FAILED
from rtr_core.errors import ClipError
from rtr_core.evaluate.by_weights import NEEDS, Seers, Weights
from rtr_core.evaluate.evaluation import Measuring, Result
from rtr_core.evaluate.passages import Pair, passages
from rtr_core.evaluate.showings import FilesShown
from rtr_core.evaluate.triples import Triple, find_triples
from rtr_core.media.source import fingerprint
from rtr_core.train import looks
from rtr_core.train.clips import write_clip
from tests.sample import SAMPLE, sample

FRAMES = 40
MEASURING = Measuring(descriptor=LocalPatterns(), seers=Seers.load(Weights()), side=128)


@pytest.fixture(scope="module")
def source() -> np.ndarray:
    """A real clip, in small."""
    return sample(FRAMES)


@pytest.fixture(scope="module")
def styled(source) -> np.ndarray:
    return looks.canonical("cel cartoon")(source)


def measured(folder: Path, source: np.ndarray, output: np.ndarray) -> Result:
    write_clip(folder / "a.source.mkv", source)
    write_clip(folder / "a.output.mkv", output)
    return MEASURING.measure(FilesShown(find_triples(folder).triples[0]))


def test_a_copy_has_perfect_structure_and_no_excess_of_any_kind(tmp_path, source):
    bars = measured(tmp_path, source, source).bars
    assert bars["structure"].value == pytest.approx(1, abs=1e-5)
    assert bars["edges"].value == pytest.approx(1, abs=1e-5)
    for name in ("warp excess", "frozen", "past", "restyled", "colour drift", "sharpness drift"):
        assert bars[name].value == pytest.approx(0, abs=1e-6), name
    assert bars["motion"].value == pytest.approx(1)


def test_a_style_that_is_applied_well_is_within_all_limits(tmp_path, source, styled):
    assert measured(tmp_path, source, styled).missed == []


def flickering(frames: np.ndarray) -> np.ndarray:
    signs = np.where(np.arange(len(frames)) % 2, 12, -12)[:, None, None, None]
    return np.clip(frames.astype(int) + signs, 0, 255).astype(np.uint8)


def blurred(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])


def frozen(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([frames[:20], np.repeat(frames[20:21], len(frames) - 20, 0)])


def ghosted(frames: np.ndarray) -> np.ndarray:
    shown = [frames[0].astype(float)]
    for frame in frames[1:]:
        shown.append(0.7 * shown[-1] + 0.3 * frame)
    return np.stack(shown).round().astype(np.uint8)


def shuffled(frames: np.ndarray) -> np.ndarray:
    return frames[np.random.default_rng(0).permutation(len(frames))]


def darkening(frames: np.ndarray) -> np.ndarray:
    return (frames * np.linspace(1, 0.6, len(frames))[:, None, None, None]).astype(np.uint8)


@pytest.mark.parametrize(
    ("fault", "caught_by"),
    [
        (flickering, "warp excess"),
        (blurred, "sharpness"),
        (frozen, "frozen"),
        (ghosted, "past"),
        (shuffled, "warp excess"),
        (darkening, "colour drift"),
    ],
)
def test_a_fault_is_caught_by_the_metric_meant_for_it(tmp_path, source, styled, fault, caught_by):
    assert caught_by in measured(tmp_path, source, fault(styled)).missed


def test_flicker_of_a_standing_scene_is_told_in_levels(tmp_path, source, styled):
    still, out = (np.repeat(side[:1], 12, 0) for side in (source, styled))
    bars = measured(tmp_path, still, flickering(out // 2 + 60)).bars
    assert bars["flicker"].value == pytest.approx(24, abs=0.5) and bars["flicker"].passed is False
    assert bars["motion"].value is None and "nothing moves" in bars["motion"].reason


def test_swapped_styles_are_caught_where_references_are_known(tmp_path, source):
    styles = ("cel cartoon", "thermal", "blueprint", "sepia film")
    outputs = [looks.canonical(style)(source[:6]) for style in styles]
    references = [looks.canonical(style)(source[-1:])[0] for style in styles]
    for is_swapped in (False, True):
        folder = tmp_path / str(is_swapped)
        folder.mkdir()
        order = [1, 0, 2, 3] if is_swapped else range(4)
        for number, (wanted, reference) in enumerate(zip(order, references, strict=True)):
            write_clip(folder / f"{number}.source.mkv", source[:6])
            write_clip(folder / f"{number}.output.mkv", outputs[wanted])
            Image.fromarray(reference).save(folder / f"{number}.reference.png")
        shown = [(t.name, lambda t=t: FilesShown(t)) for t in find_triples(folder).triples]
        told = MEASURING.evaluate(shown, [], {}, lambda _: None)
        own = {result.name: result.bars["own reference"].value for result in told.results}
        assert own == {"0": float(not is_swapped), "1": float(not is_swapped), "2": 1, "3": 1}


def test_without_weights_a_metric_has_no_value_and_says_why(tmp_path, source):
    bars = measured(tmp_path, source[:5], source[:5]).bars
    assert all(bars[name].value is None and "no weights" in bars[name].reason for name in NEEDS)


def test_every_frame_is_in_one_passage_whatever_the_length():
    for count in (1, 3, 4, 7, 8, 9, 23, 40):
        frames = [torch.full((32, 32, 3), n, dtype=torch.uint8) for n in range(count)]
        seen: list[int] = []
        pairs = (Pair(frame, frame) for frame in frames)
        found = passages(pairs, 8, 64, lambda n, _, seen=seen: seen.append(n))
        numbers = [
            round(255 * float(frame[0, 0, 0])) for p in found for frame in p.source[p.lead :]
        ]
        assert numbers == seen == list(range(count))


# ---- what is found, and what is refused ----


def test_the_page_comes_out_whatever_is_wrong_with_some_clips(tmp_path, source, styled, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    tall = styled[:8, :, :64]
    for name, output in (("<good>", styled[:8]), ("short", styled[:5]), ("tall", tall)):
        write_clip(folder / f"{name}.source.mkv", source[:8])
        write_clip(folder / f"{name}.output.mkv", output)
    for kind in ("source", "output"):
        (folder / f"broken.{kind}.mp4").write_bytes(b"no clip")
    write_clip(folder / "alone.output.mkv", styled[:5])
    (folder / "<good>.txt").write_text("cel & cartoon")
    other = tmp_path / "other.safetensors"
    other.write_bytes((SAMPLE.parent / "rtr-tiny.safetensors").read_bytes())
    page = tmp_path / "out.html"
    words = ["eval", str(folder), "--report", str(page), "--side", "96", "--csd", str(other)]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--clip", str(folder), "--musiq", str(other)])
    assert ended.value.code == FAILED
    told = json.loads(page.with_suffix(".json").read_text())
    assert [clip["name"] for clip in told["clips"]] == ["<good>"]
    reasons = {skipped["name"]: skipped["reason"] for skipped in told["skipped"]}
    assert "8 frames and the output 5" in reasons["short.output.mkv"]
    assert "not the same picture" in reasons["tall.output.mkv"]
    assert "expected is one alone.source.mp4" in reasons["alone.output.mkv"]
    assert "broken.output.mp4" in reasons
    assert "no CSD checkpoint" in told["refused weights"]["csd"]
    assert "no MUSIQ checkpoint" in told["refused weights"]["musiq"]
    assert "no config.json" in told["refused weights"]["clip"]
    text = page.read_text()
    assert "&lt;good&gt;" in text and "<good>" not in text and "cel &amp; cartoon" in text
    assert text.count("data:image/jpeg") >= 14 and "http" not in text.replace("http-equiv", "")
    assert "refused --csd" in capsys.readouterr().out


def test_what_rtr_stylize_wrote_names_its_own_source(tmp_path, source, styled):
    write_clip(tmp_path / "in.mkv", source[:5])
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "ink.mkv"
    write_clip(output, styled[:5])
    facts = {"source": fingerprint(tmp_path / "in.mkv"), "cues": "00:00 ink wash painting\n"}
    sidecar = output.with_name("ink.mkv.json")
    sidecar.write_text(json.dumps({"source": str(tmp_path / "in.mkv"), "facts": facts}))
    (triple,) = find_triples(tmp_path / "out").triples
    assert (triple.source, triple.prompt) == (tmp_path / "in.mkv", "ink wash painting")
    sidecar.write_text(json.dumps({"facts": facts | {"source": "another"}}))
    assert "not there any more" in find_triples(tmp_path / "out").skipped[0].reason


def test_a_folder_without_outputs_is_refused(tmp_path):
    with pytest.raises(ClipError, match="holds no output"):
        find_triples(tmp_path)


def test_folders_are_methods(tmp_path, source):
    for method in ("ours", "theirs"):
        (tmp_path / method).mkdir()
        for kind in ("source", "output"):
            write_clip(tmp_path / method / f"a.{kind}.mkv", source[:4])
    assert [triple.method for triple in find_triples(tmp_path).triples] == ["ours", "theirs"]
    assert isinstance(find_triples(tmp_path).triples[0], Triple)
