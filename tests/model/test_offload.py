"""Blocks in host memory: the same to the bit, and never more than two of them at work."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rtr_core import Style, Stylizer, untrained
from rtr_core.ledger import Ledger
from rtr_core.model.fp8 import in_fp8
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.offload import AT_ONCE, HostBlocks, offloaded
from rtr_core.model.segments import MemoryConfig
from rtr_core.model.transformer import Transformer
from tests.model.test_fp8 import GRID, model_of, run

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")


def taken(model: Transformer, **changed) -> torch.Tensor:
    with torch.no_grad():
        return run(model, KVCache(GRID, MemoryConfig(window=4)), **changed)


@pytest.mark.parametrize("narrow", [False, True], ids=["plain", "fp8"])
def test_results_are_the_same_to_the_bit(narrow):
    model = in_fp8(model_of()) if narrow else model_of()
    assert torch.equal(taken(offloaded(model, CPU)), taken(model))


def test_the_model_that_was_given_stays_and_the_twin_has_its_weights_by_name():
    model = model_of()
    twin = offloaded(model, CPU)
    assert not isinstance(model.blocks, HostBlocks) and isinstance(twin.blocks, HostBlocks)
    ours, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    assert list(ours) == list(theirs)
    assert all(torch.equal(w, theirs[name]) for name, w in ours.items())


def test_two_blocks_are_on_the_device_at_any_time():
    many = untrained.randomized(
        Transformer(untrained.TransformerConfig(**(vars(untrained.TRANSFORMER) | {"layers": 7}))),
        torch.Generator().manual_seed(1),
    ).requires_grad_(False)
    twin = offloaded(many, CPU)
    one = sum(w.nbytes for w in many.blocks[0].parameters())
    with torch.no_grad(), Ledger() as ledger:
        list(twin.blocks)  # now the ledger has seen what is in host memory
        at_rest = ledger.now
        ledger.start_over()
        for _ in twin.blocks:
            assert ledger.now - at_rest == AT_ONCE * one
        del _
    assert ledger.peak - at_rest == AT_ONCE * one and ledger.now == at_rest


def test_walks_under_way_at_once_do_not_disturb_each_other():
    twin = offloaded(model_of(), CPU)
    for left, right in zip(twin.blocks, twin.blocks, strict=True):
        pairs = zip(left.parameters(), right.parameters(), strict=True)
        assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_a_walk_that_is_broken_off_leaves_nothing_behind():
    twin = offloaded(model_of(), CPU)
    before = taken(twin)
    walk = iter(twin.blocks)
    next(walk)
    walk.close()
    assert torch.equal(taken(twin), before)


def test_a_session_saved_without_offloading_goes_on_with_it(tmp_path):
    parts = untrained.parts()
    there, here = (
        Stylizer.of(p)
        for p in (parts, replace(parts, transformer=offloaded(parts.transformer, CPU)))
    )
    assert there.parts.fingerprint == here.parts.fingerprint
    clip = torch.rand(34, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    session = there.session(Style(prompt="ink"), (32, 48))
    list(session.push(clip[:17]))
    session.save(tmp_path / "session.safetensors")
    twin = here.load_session(tmp_path / "session.safetensors")
    rest = [torch.cat([*s.push(clip[17:]), *s.flush()]) for s in (session, twin)]
    assert torch.equal(*rest)


@GPU
@pytest.mark.parametrize("narrow", [False, True], ids=["plain", "fp8"])
def test_on_a_gpu_blocks_wait_in_pinned_memory_and_results_are_the_same(narrow):
    device = torch.device("cuda")
    model = in_fp8(model_of()) if narrow else model_of()
    twin = offloaded(model, device)
    assert all(w.is_pinned() for w in nn.Module.parameters(twin.blocks))
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(1, model.config.in_channels, 2, 4, 6, generator=rng).to(device)
    text = torch.randn(1, model.config.text_rows, model.config.text_dim, generator=rng).to(device)
    outs = []
    for one in (model.to(device), twin):
        memory = KVCache(GRID, MemoryConfig(window=4), one.encode_context(text))
        with torch.no_grad():
            for _ in range(20):  # copies and arithmetic overtake each other, if they can
                out = one(x, torch.ones(1, 2, device=device), memory)
                memory.commit()
        outs.append(out)
    assert torch.equal(*outs)
