"""What is said beforehand is what a job then takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rtr_core import OutOfMemory, Style, Stylizer, untrained
from rtr_core.cli import main
from rtr_core.cues import CueSheet
from rtr_core.flight import Flight
from rtr_core.media import needs
from rtr_core.media import plan as planning
from rtr_core.media.codecs import CODECS
from rtr_core.media.extent import Extent
from rtr_core.media.job import Job, Task
from rtr_core.media.manifest import Manifest
from rtr_core.media.needs import Memory
from rtr_core.media.plan import Plan
from rtr_core.media.source import open_source
from rtr_core.media.trial import Trial
from rtr_core.settings import Settings
from rtr_core.shapes import Size
from tests.media.clips import make_clip

SIZE = Size(32, 48)
SEGMENT = 16
LOSSLESS = CODECS["lossless"]
TRIED = Trial(
    frames=29,
    chunks=4,
    is_whole=False,
    damage=None,
    decoding=0.01,
    rendering=0.4,
    encoding=0.02,
    encoded=2900,
    saved=1000,
    peak=None,
    on_cpu=False,
)


def clip_of(folder: Path, frames: int, name: str = "clip.mp4") -> Path:
    make_clip(folder / name, frames=frames, size=SIZE)
    return folder / name


def plan_of(clip: Path, stylizer: Stylizer, size: Size | None = None, **changed) -> Plan:
    with open_source(clip) as source:
        source.info = replace(source.info, **changed)
        return Plan.of(source, stylizer, size, LOSSLESS)


def job_of(clip: Path, stylizer: Stylizer) -> Manifest:
    """What a job with short segments leaves behind."""
    sheet = CueSheet.parse("00:00 ink wash painting")
    task = Task(
        source=clip,
        out=clip.with_name("out.mkv"),
        sheet=sheet,
        styles=sheet.styles(),
        codec=LOSSLESS,
        segment_frames=SEGMENT,
    )
    Job(task, stylizer, lambda styled: None).run()
    return Manifest.read(task.folder)


@pytest.mark.parametrize("frames", [1, 2, 5, 16, 20, 21, 22, 37, 53])
def test_counts_are_those_of_a_job(stylizer, tmp_path, monkeypatch, frames):
    clip, chunks, set_out = clip_of(tmp_path, frames), [], Flight.set_out
    with open_source(clip) as source:
        settings = Settings(size=SIZE, recipe=stylizer.recipe)
        extent = Extent.of(source.info, settings, stylizer.parts.vae.stride)
    monkeypatch.setattr(Flight, "set_out", lambda *given: chunks.append(1) or set_out(*given))
    done = job_of(clip, stylizer)
    assert extent is not None
    extent = replace(extent, segment_frames=SEGMENT)
    assert extent.frames == done.frames == frames
    assert extent.chunks == len(chunks)
    assert extent.segments == len(done.segments)
    assert extent.sessions == sum(segment.session is not None for segment in done.segments)


def test_sizes_are_those_of_a_job(stylizer, tmp_path):
    clip = clip_of(tmp_path, 53)
    plan, done = plan_of(clip, stylizer), job_of(clip, stylizer)
    assert plan.trial is not None and plan.encoded is not None
    session = done.path(done.segments[1].session or "").stat().st_size
    assert plan.trial.saved <= session <= plan.trial.saved + 16_000  # and names and shapes
    segments = sum(done.path(segment.name).stat().st_size for segment in done.segments)
    assert segments == pytest.approx(plan.encoded, rel=0.2)


def test_the_cache_is_as_large_as_reckoned(stylizer):
    settings = Settings(size=SIZE, recipe=stylizer.recipe)
    session = stylizer.session(Style(prompt="ink"), SIZE)
    list(session.push(torch.zeros(29, *SIZE, 3)))
    assert session.memory.nbytes == stylizer.parts.cache_bytes(settings)


def test_a_trial_begins_the_clip_and_leaves_nothing(stylizer, tmp_path):
    clip = clip_of(tmp_path, 53)
    plan = plan_of(clip, stylizer)
    assert plan.fits and plan.trial is not None and not plan.advice
    assert (plan.trial.frames, plan.trial.chunks, plan.trial.is_whole) == (29, 4, False)
    assert plan.seconds is not None and plan.seconds > 0
    assert plan.extent is not None and "as the file says" in str(plan)
    assert list(tmp_path.iterdir()) == [clip]


def test_a_clip_that_does_not_say_how_long_it_is(stylizer, tmp_path):
    plan = plan_of(clip_of(tmp_path, 40), stylizer, frames=None, duration=None)
    assert plan.extent is plan.seconds is plan.encoded is plan.disk_after is None
    assert plan.rate is not None and plan.rate > 0
    assert "unknown" in str(plan) and "disk" not in str(plan)


def test_a_length_that_only_the_duration_tells(stylizer, tmp_path):
    plan = plan_of(clip_of(tmp_path, 40, "clip.mkv"), stylizer)
    assert plan.extent is not None and plan.extent.frames == 40
    assert "estimated from its duration" in str(plan)


@pytest.mark.parametrize("frames", [1, 2, 29])
def test_a_clip_no_longer_than_the_trial_is_counted(stylizer, tmp_path, frames):
    plan = plan_of(clip_of(tmp_path, frames), stylizer, frames=None, duration=None)
    assert plan.extent is not None and plan.trial is not None
    assert plan.extent.frames == plan.trial.frames == frames
    assert plan.extent.chunks == plan.trial.chunks
    assert plan.encoded == plan.trial.encoded
    assert "the whole clip" in str(plan)


def test_a_damaged_beginning_is_told(stylizer, tmp_path):
    clip = clip_of(tmp_path, 60, "clip.mkv")
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 4])
    plan = plan_of(clip, stylizer)
    assert plan.extent is not None and plan.extent.frames < 20 and "damage: " in str(plan)


def test_stages_overlap_on_a_device_of_its_own_and_add_up_on_shared_cores():
    alone, shared = TRIED, replace(TRIED, on_cpu=True)
    assert alone.seconds(8, 1) == shared.seconds(8, 1) == pytest.approx(0.64)
    assert alone.seconds(80, 10) == pytest.approx(0.64 + 9 * 0.4)
    assert shared.seconds(80, 10) == pytest.approx(10 * 0.64)
    assert replace(alone, encoding=0.1).rate(8) == pytest.approx(10)


def test_advice_is_enough_where_it_does_not_fit(stylizer, tmp_path, monkeypatch):
    clip, large = clip_of(tmp_path, 5), Size(256, 384)
    monkeypatch.setattr(needs, "memory_of", lambda device: 20 << 20)
    plan = plan_of(clip, stylizer, large)
    assert not plan.fits and plan.seconds is None and "does not fit" in str(plan)
    smaller = next(line for line in plan.advice if "--size" in line)
    width, height = smaller.split()[1].split("x")
    assert (width, height) != (str(large.width), str(large.height))
    assert plan_of(clip, stylizer, Size(int(height), int(width))).fits


def test_a_shorter_window_is_advised_where_it_is_enough(stylizer, tmp_path, monkeypatch):
    clip = clip_of(tmp_path, 5)
    short = sum(part.needed for part in plan_of(clip, of_window(stylizer, 2)).memory)
    monkeypatch.setattr(needs, "memory_of", lambda device: short)
    plan = plan_of(clip, stylizer)
    assert any("--recipe window=2" in line for line in plan.advice)
    assert plan_of(clip, of_window(stylizer, 2)).fits
    assert not plan_of(clip, of_window(stylizer, 3)).fits


def test_half_the_bytes_a_number_are_advised_where_that_is_enough(stylizer, tmp_path, monkeypatch):
    clip = clip_of(tmp_path, 5)
    narrow = Stylizer.of(untrained.parts(dtype=torch.bfloat16))
    (half,) = plan_of(clip, narrow).memory
    for there, is_enough in ((half.needed, True), (half.needed - 1, False)):
        monkeypatch.setattr(needs, "memory_of", lambda device, there=there: there)
        advice = plan_of(clip, stylizer).advice
        assert any("--dtype bf16 can fit" in line for line in advice) == is_enough
        assert plan_of(clip, narrow).fits == is_enough


def of_window(stylizer: Stylizer, window: int | None) -> Stylizer:
    return replace(stylizer, recipe=stylizer.recipe.override(window=window))


def test_where_nothing_is_forgotten_the_whole_clip_is_in_the_cache(stylizer, tmp_path):
    clip = clip_of(tmp_path, 53)
    plan = plan_of(clip, of_window(stylizer, None))
    bounded = plan_of(clip, of_window(stylizer, 14))  # latent frames in all
    assert [part.items for part in plan.memory] == [part.items for part in bounded.memory]
    assert "without a window" in str(plan)


def test_no_size_fits_beside_weights_that_are_too_large(stylizer, tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "memory_of", lambda device: 1 << 20)
    plan = plan_of(clip_of(tmp_path, 5), stylizer)
    assert len(plan.advice) == 1 and "smaller model" in plan.advice[0]


def test_a_trial_that_runs_out_of_memory_is_advice_too(stylizer, tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise OutOfMemory("no room")

    monkeypatch.setattr(planning, "run_trial", out_of_memory)
    plan = plan_of(clip_of(tmp_path, 5), stylizer, Size(64, 96))
    assert not plan.fits and any("--size 64x48" in line for line in plan.advice)
    assert "--memory SIZE" in str(plan)


def test_unknown_memory_is_never_too_small():
    assert Memory(place="mps", items={"weights": 1 << 60}, there=None).fits


def test_the_command_says_it_and_ends_with_whether_it_fits(tmp_path, capsys, monkeypatch):
    words = ["plan", str(clip_of(tmp_path, 9)), "--size", "48x32", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr().out
    assert not ended.value.code
    for fact in (
        "9 (counted); latent frames: 3, chunks: 3, segments: 1",
        "rtr-tiny on cpu",
        "KV cache",
    ):
        assert fact in told
    assert "time, estimated: 0:00:0" in told and "output, roughly" in told
    monkeypatch.setattr(needs, "memory_of", lambda device: 1 << 20)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1 and "advice: " in capsys.readouterr().out


def test_a_plan_takes_the_options_of_a_picture_that_a_job_takes(tmp_path, capsys):
    words = ["plan", str(clip_of(tmp_path, 5)), "--codec", "prores", "--preset", "proxy"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0 and "as prores" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main([*words, "--crf", "3"])
    assert stop.value.code == 1 and "no crf" in capsys.readouterr().err
