"""Every workflow that comes with the pack runs as it is, and clips on disk are as promised."""

import shutil
import time
from pathlib import Path

import av
import numpy as np
import pytest

from rtr_core.media.source import open_source
from rtr_core.shapes import Size
from tests.host import workflow
from tests.host.comfy import ROOT, Comfy, Failed
from tests.host.graphs import Wires
from tests.media.clips import make_clip

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NEEDS_DOWNLOADS = {"wan_1_3b"}
SAMPLE = ROOT / "rtr_core" / "assets" / "sample.mp4"


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as clip:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)])


def pixels_of(path: Path) -> np.ndarray:
    """As the clip engine reads them: how a player rounds on its way to RGB is its own affair."""
    with open_source(path) as source:
        return np.stack([frame.pixels.numpy() for frame in source.frames()])


def clips(comfy: Comfy, pattern: str) -> list[Path]:
    return sorted((comfy.base / "output").glob(pattern))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_missing_node_and_runs_to_the_end(comfy, path):
    graph = workflow.as_graph(workflow.read(path), comfy.get("/object_info"))
    assert {node["class_type"] for node in graph.values()} <= set(comfy.get("/object_info"))
    if path.stem not in NEEDS_DOWNLOADS:
        assert comfy.run(graph)


def test_templates_are_offered_with_their_pictures(comfy):
    offered = comfy.get("/workflow_templates")["realtime-rerenderer"]
    assert set(offered) == {path.stem for path in WORKFLOWS}
    assert all(path.with_suffix(".jpg").is_file() for path in WORKFLOWS)


# ---- clips on disk ----


def to_disk(prefix: str, **chosen) -> Wires:
    graph = Wires()
    style = graph.add("RTRStyle")
    chosen = {"video": graph.add("RTRSample"), "width": 96, "height": 64} | chosen
    graph.add("RTRStylizeVideo", style=style, filename_prefix=prefix, **graph.model(), **chosen)
    return graph


def test_a_clip_has_the_sources_frames_and_its_job_is_cleared_away(comfy):
    comfy.run(to_disk("whole/clip").nodes)
    (whole,) = clips(comfy, "whole/*.mp4")
    assert whole.name == "clip_00001_.mp4"
    assert len(frames_of(whole)) == len(frames_of(SAMPLE))


def test_an_interrupted_job_goes_on_when_it_is_queued_again_with_the_same_bytes(comfy):
    make_clip(comfy.base / "input" / "long.mp4", frames=480, size=Size(64, 64), audio=1)

    def graph(prefix: str) -> dict:
        wires = Wires()
        style, video = wires.add("RTRStyle"), wires.add("LoadVideo", file="long.mp4")
        chosen = {"style": style, "video": video, "filename_prefix": prefix}
        wires.add("RTRStylizeVideo", **wires.model(), **chosen)
        return wires.nodes

    comfy.run(graph("unbroken/clip"))
    prompt = comfy.queue(graph("broken/clip"))
    while not clips(comfy, "broken/clip_00001_.mp4.rtr/00000.session.safetensors"):
        time.sleep(0.02)
    comfy.post("/interrupt", {})
    with pytest.raises(Failed, match="interrupted"):
        comfy.result(prompt)
    assert not clips(comfy, "broken/*.mp4")
    assert len(frames_of(clips(comfy, "broken/*/partial.mov")[0])) >= 240  # it plays
    comfy.run(graph("broken/clip"))
    (broken,), (unbroken,) = clips(comfy, "broken/*.mp4"), clips(comfy, "unbroken/*.mp4")
    assert broken.read_bytes() == unbroken.read_bytes()


def test_outside_the_mask_a_lossless_clip_has_the_sources_pixels_to_the_bit(comfy):
    graph = to_disk("masked/clip", codec="lossless", width=448, height=256)
    mask = graph.add("ProbeMask")
    video = next(n for n in graph.nodes.values() if n["class_type"] == "RTRStylizeVideo")
    video["inputs"]["mask"] = mask.as_link()
    comfy.run(graph.nodes)
    styled, source = pixels_of(clips(comfy, "masked/*.mkv")[0]), pixels_of(SAMPLE)
    assert np.array_equal(styled[:, :, :215], source[:, :, :215])
    assert not np.array_equal(styled[:, :, 233:], source[:, :, 233:])


def test_a_video_that_was_made_in_the_graph_is_taken_as_well(comfy):
    graph = Wires()
    video = graph.add("CreateVideo", images=graph.add("ProbeFrames", count=7), fps=8.0)
    style = graph.add("RTRStyle")
    chosen = {"video": video, "style": style, "filename_prefix": "made/clip"}
    graph.add("RTRStylizeVideo", **graph.model(), **chosen)
    comfy.run(graph.nodes)
    assert len(frames_of(clips(comfy, "made/*")[0])) == 7


def test_a_folder_is_worked_through_and_a_broken_clip_does_not_stop_it(comfy):
    folder = comfy.base / "input" / "rushes"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "good.mp4")
    (folder / "bad.mp4").write_bytes(b"no clip")
    graph = Wires()
    style, chosen = graph.add("RTRStyle"), {"width": 48, "height": 32}
    graph.add(
        "RTRStylizeFolder",
        folder="rushes",
        output_folder="batch",
        style=style,
        **graph.model(),
        **chosen,
    )
    report = next(out["text"][0] for out in comfy.run(graph.nodes).values())
    assert "bad.mp4   failed: " in report and "good.mp4: 112 frames" in report
    assert "was there already" in str(comfy.run(graph.nodes))


def test_a_source_that_was_deleted_is_told_in_one_sentence(comfy):
    clip = comfy.base / "input" / "gone.mp4"
    shutil.copy(SAMPLE, clip)
    graph = Wires()
    video = graph.add("LoadVideo", file="gone.mp4")
    style = graph.add("RTRStyle")
    graph.add("RTRStylizeVideo", video=video, style=style, width=48, height=32, **graph.model())
    comfy.run(graph.nodes)
    next(n for n in graph.nodes.values() if "seed" in n["inputs"])["inputs"]["seed"] = 2
    clip.unlink()
    with pytest.raises(Exception, match="gone"):
        comfy.run(graph.nodes)
