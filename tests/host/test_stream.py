"""The stream over queue runs, in every cache mode of a real host."""

import pytest

from tests.host.comfy import Comfy, Failed
from tests.host.graphs import Wire, Wires

FRAMES, RUNS = 40, 10


def hashes(outputs: dict) -> list[str]:
    """Of every frame that the graph's one ProbeHash saw; none where it was held."""
    texts = [out["text"][0] for out in outputs.values() if "text" in out]
    return texts[0].splitlines() if texts else []


def hashed(graph: Wires, images: Wire) -> dict:
    graph.add("ProbeHash", images=images)
    return graph.nodes


def clip(frames: int = FRAMES, prompt: str = "ink wash painting", **chosen) -> dict:
    graph = Wires()
    images = graph.add("ProbeFrames", count=frames)
    return hashed(
        graph, graph.add("RTRStylizeText", images=images, prompt=prompt, **graph.model(), **chosen)
    )


def push(name: str, start: int, count: int, *, prompt: str = "ink wash painting", **chosen) -> dict:
    graph = Wires()
    images = graph.add("ProbeFrames", start=start, count=count)
    style = graph.add("RTRStyle", prompt=prompt)
    chosen = {"while_waiting": "nothing, and the graph waits"} | chosen
    stream = graph.add(
        "RTRStream", images=images, session_name=name, style=style, **graph.model(), **chosen
    )
    return hashed(graph, stream)


def ten_runs(comfy: Comfy, name: str) -> list[str]:
    size, outs = FRAMES // RUNS, []
    for run in range(RUNS):
        graph = push(name, run * size, size, flush=run == RUNS - 1)
        outs += hashes(comfy.run(graph))
    return outs


@pytest.fixture(scope="module")
def whole(comfy_in_each_mode):
    return hashes(comfy_in_each_mode.run(clip()))


def test_ten_queue_runs_are_one_run_on_the_same_frames(comfy_in_each_mode, whole):
    assert len(whole) == FRAMES
    assert ten_runs(comfy_in_each_mode, "ten") == whole


def test_an_unchanged_graph_advances_on_every_queue(comfy_in_each_mode):
    graph = push("same", 0, 9)
    first, second = (hashes(comfy_in_each_mode.run(graph)) for _ in range(2))
    assert first and second and first != second


def test_a_stream_survives_free_and_other_workflows(comfy_in_each_mode, whole):
    comfy, size, outs = comfy_in_each_mode, FRAMES // 4, []
    for run in range(4):
        graph = push("free", run * size, size, flush=run == 3)
        outs += hashes(comfy.run(graph, workflow="one"))
        comfy.post("/free", {"unload_models": True, "free_memory": True})
        comfy.run(clip(5), workflow="another")
    assert outs == whole


def test_two_sessions_side_by_side_do_not_touch(comfy_in_each_mode, whole):
    comfy, outs = comfy_in_each_mode, {"left": [], "right": []}
    for run in range(4):
        for name, prompt in (("left", "ink wash painting"), ("right", "oil painting")):
            graph = push(name, run * 10, 10, flush=run == 3, prompt=prompt)
            outs[name] += hashes(comfy.run(graph))
    assert outs["left"] == whole and outs["right"] != whole
    assert outs["right"] == hashes(comfy.run(clip(prompt="oil painting")))


@pytest.mark.parametrize("how", ["interrupt", "out of memory"])
@pytest.mark.parametrize("moves", [2, 4, 6])
def test_a_run_that_was_stopped_and_queued_again_is_as_if_it_had_not(
    comfy_in_each_mode, whole, how, moves
):
    comfy, name = comfy_in_each_mode, f"stopped {how} {moves}"
    first = hashes(comfy.run(push(name, 0, 20)))
    stopped = push(name, 20, 20, flush=True)
    stream = next(k for k, node in stopped.items() if node["class_type"] == "RTRStream")
    frames = stopped[stream]["inputs"]["images"]
    stopped["stop"] = {
        "class_type": "ProbeStop",
        "inputs": {"images": frames, "moves": moves, "how": how},
    }
    stopped[stream]["inputs"]["images"] = ["stop", 0]
    with pytest.raises(Failed, match=r"interrupted|ran out of memory"):
        comfy.run(stopped)
    assert first + hashes(comfy.run(push(name, 20, 20, flush=True))) == whole


def test_unnamed_streams_are_told_apart_by_workflow_and_node(comfy_in_each_mode, whole):
    comfy, outs = comfy_in_each_mode, {"a": [], "b": []}
    for run in range(4):
        for workflow in outs:
            graph = push("", run * 10, 10, flush=run == 3)
            outs[workflow] += hashes(comfy.run(graph, workflow=workflow))
    assert outs["a"] == whole and outs["b"] == whole
