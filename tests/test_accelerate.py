"""A compiled transformer is the eager one, and a stream does not compile it chunk by chunk."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from rtr_core import Style, Stylizer, accelerate
from tests.near import distance

FRAMES = torch.rand(30, 32, 32, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def graphs(monkeypatch) -> list:
    """All that torch traces; its graphs are run as they are, since that needs no compiler."""
    torch.compiler.reset()
    traced = []

    def backend(graph, inputs):
        traced.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return traced


def fast(stylizer: Stylizer) -> Stylizer:
    parts = stylizer.parts
    return replace(
        stylizer, parts=replace(parts, transformer=accelerate.compiled(parts.transformer))
    )


def rendered(stylizer: Stylizer, graphs: list) -> tuple[torch.Tensor, list[int]]:
    """The styled clip, and how many graphs there were after each chunk."""
    session = stylizer.session(Style(prompt="ink"), FRAMES.shape[1:3])
    out, count = [], []
    for frames in session.push(FRAMES):
        out.append(frames)
        count.append(len(graphs))
    return torch.cat(out), count


def test_compiled_equals_eager_and_chunks_of_a_full_window_share_their_graphs(stylizer, graphs):
    expected, _ = rendered(stylizer, graphs)
    came, count = rendered(fast(stylizer), graphs)
    assert distance(came, expected) < 1e-5
    assert count[0] > 0 and len(set(count[1:])) == 1


def test_a_compiled_twin_has_the_same_weights_and_leaves_the_eager_one_alone(stylizer, graphs):
    mine, theirs = stylizer.parts.transformer, fast(stylizer).parts.transformer
    assert {id(p) for p in mine.parameters()} == {id(p) for p in theirs.parameters()}
    assert not any(isinstance(block, accelerate.Compiled) for block in mine.blocks)


def test_a_missing_compiler_is_said(monkeypatch):
    def broken(work, **_):
        raise RuntimeError("No working C++ compiler found\nin a path of many lines")

    monkeypatch.setattr(torch, "compile", broken)
    assert accelerate.no_compiler(torch.device("cpu")) == "No working C++ compiler found"
