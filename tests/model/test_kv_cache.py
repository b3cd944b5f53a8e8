"""The cache against its masked twin, over windows, anchors, positions and switches."""

import itertools
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rtr_core.errors import SessionError, ShapeError
from rtr_core.model.chunk_causal import ChunkCausal
from rtr_core.model.config import TransformerConfig
from rtr_core.model.kv_banks import KVBanks
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.segments import MemoryConfig, Segments
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size
from rtr_core.untrained import randomized

GRID = Size(2, 3)
CONFIG = TransformerConfig(
    dim=32,
    ffn_dim=48,
    heads=2,
    layers=2,
    in_channels=4,
    out_channels=2,
    text_dim=8,
    text_rows=4,
    freq_dim=16,
    adapter_dim=16,
)
SIGMA = 0.6


@pytest.fixture(scope="module")
def model() -> Transformer:
    return randomized(Transformer(CONFIG), torch.Generator().manual_seed(3)).requires_grad_(False)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Noisy and clean latents of 14 latent frames: [2, b, c, t, h, w]."""
    rng = torch.Generator().manual_seed(4)
    return torch.randn(2, 1, 4, 14, 4, 6, generator=rng)


def references(count: int) -> Tensor:
    return torch.randn(1, 2, count, 4, 6, generator=torch.Generator().manual_seed(5))


def context_of(model: Transformer, seed: int = 6):
    text = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(seed))
    return model.encode_context(text)


def sigmas(count: int, sigma: float = SIGMA) -> Tensor:
    return torch.full((1, count), sigma)


def anchored(model: Transformer, config: MemoryConfig, reference: Tensor) -> KVCache:
    memory = KVCache(GRID, config, context_of(model))
    model.remember_reference(reference, memory)
    return memory


def cached(model, clip, config, chunk, reference=None) -> Tensor:
    """Each chunk noisy under the cache, then committed clean."""
    memory = KVCache(GRID, config, context_of(model))
    if reference is not None:
        memory.replace_anchor(anchored(model, config, reference))
    outs = []
    for noisy, clean in zip(*(part.split(chunk, dim=2) for part in clip), strict=True):
        outs.append(model(noisy, sigmas(noisy.shape[2]), memory))
        model.remember(clean, memory)
        memory.commit()
    return torch.cat(outs, dim=2)


def masked(model, clip, config, chunk, reference=None) -> Tensor:
    """The same in one pass: every chunk's noisy and clean tokens side by side."""
    memory = ChunkCausal(GRID, config, context_of(model))
    if reference is not None:
        memory.replace_anchor(reference.shape[2])
    frames, levels, is_noisy = [], [], []
    for noisy, clean in zip(*(part.split(chunk, dim=2) for part in clip), strict=True):
        count = noisy.shape[2]
        memory.extend(count)
        memory.commit(count)
        frames += [noisy, clean]
        levels += [sigmas(count), sigmas(count, 0.0)]
        is_noisy += [True] * count + [False] * count
    x, sigma = torch.cat(frames, dim=2), torch.cat(levels, dim=1)
    return model(x, sigma, memory, reference)[:, :, is_noisy]


GEOMETRIES = [
    (window, anchor, chunk)
    for window, anchor, chunk in itertools.product((None, 1, 3, 4), (0, 1, 3), (1, 2, 3, 5))
]


@pytest.mark.parametrize("positions", ["absolute", "relative"])
@pytest.mark.parametrize(("window", "anchor", "chunk"), GEOMETRIES)
def test_cached_chunks_equal_one_masked_pass(model, clip, window, anchor, chunk, positions):
    config = MemoryConfig(window=window, anchor=anchor, positions=positions)
    expected = masked(model, clip, config, chunk)
    with torch.no_grad():
        assert_close(cached(model, clip, config, chunk), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["absolute", "relative"])
@pytest.mark.parametrize("count", [1, 2])
def test_an_anchored_reference_equals_one_masked_pass(model, clip, count, positions):
    config = MemoryConfig(window=3, positions=positions)
    expected = masked(model, clip, config, 2, references(count))
    with torch.no_grad():
        came = cached(model, clip, config, 2, references(count))
    assert_close(came, expected, rtol=1e-4, atol=1e-5)
    without = cached(model, clip, config, 2)
    assert not torch.allclose(came[:, :, -2:], without[:, :, -2:], rtol=1e-2)


@pytest.mark.parametrize("positions", ["absolute", "relative"])
@pytest.mark.parametrize("anchor", [0, 2])
def test_a_switch_in_the_middle_equals_one_masked_pass(model, clip, anchor, positions):
    config = MemoryConfig(window=4, anchor=anchor, positions=positions)
    reference, chunks = references(1), [part.split(2, dim=2) for part in clip]
    cache = KVCache(GRID, config, context_of(model))
    twin = ChunkCausal(GRID, config, context_of(model))
    outs, frames, levels = [], [], []
    with torch.no_grad():
        # the pass takes its reference first, so the switch comes before any other chunk is noisy
        cache.replace_anchor(anchored(model, config, reference))
        twin.replace_anchor(1)
        for n, (noisy, clean) in enumerate(zip(*chunks, strict=True)):
            if n == 4:
                cache.truncate(keep=1)
                twin.truncate(keep=1)
            outs.append(model(noisy, sigmas(2), cache))
            model.remember(clean, cache)
            cache.commit()
            twin.extend(2)
            twin.commit(2)
            frames += [noisy, clean]
            levels += [sigmas(2), sigmas(2, 0.0)]
        whole = model(torch.cat(frames, 2), torch.cat(levels, 1), twin, reference)
    noisy = [n for n in range(whole.shape[2]) if n % 4 < 2]
    assert_close(torch.cat(outs, 2), whole[:, :, noisy], rtol=1e-4, atol=1e-5)


def test_the_ring_equals_concatenation(model, clip):
    """In-place buffers under inference, joined tensors under autograd."""
    config = MemoryConfig(window=3, anchor=1)
    with torch.no_grad():
        ring = cached(model, clip, config, 2)
    with torch.enable_grad():
        assert_close(cached(model, clip, config, 2), ring, rtol=0, atol=0)


def test_gradient_reaches_the_chunk_at_hand_and_never_the_past(model, clip):
    memory = KVCache(GRID, MemoryConfig(window=4), context_of(model))
    past = clip[1][:, :, :2].clone().requires_grad_()
    here = clip[0][:, :, 2:4].clone().requires_grad_()
    model.remember(past, memory)
    memory.commit()
    velocity = model(here, sigmas(2), memory)
    model.remember(clip[1][:, :, 4:6], memory)  # what comes later must not spoil the gradient
    memory.commit()
    velocity.square().sum().backward()
    assert here.grad is not None and here.grad.abs().sum() > 0
    assert past.grad is None


def test_steps_of_a_chunk_overwrite_one_another_until_one_is_committed(model, clip):
    with torch.no_grad():
        once, often = (KVCache(GRID, MemoryConfig(window=4), context_of(model)) for _ in range(2))
        for noise in (0.3, 0.9):
            model(clip[0][:, :, :2] * noise, sigmas(2), often)
        for memory in (once, often):
            model.remember(clip[1][:, :, :2], memory)
            memory.commit()
        after = [model(clip[0][:, :, 2:4], sigmas(2), memory) for memory in (once, often)]
    assert torch.equal(*after)


def test_the_cache_never_grows_once_its_window_is_full(model, clip):
    memory = KVCache(GRID, MemoryConfig(window=3, anchor=1), context_of(model))
    addresses, sizes = set(), set()
    with torch.no_grad():
        for n in range(40):
            model.remember(clip[1][:, :, n % 6 : n % 6 + 2], memory)
            memory.commit()
            if n >= 1:
                buffers = (*memory._keys.values(), *memory._values.values())
                addresses.add(tuple(buffer.data_ptr() for buffer in buffers))
                sizes.add(memory.nbytes)
    assert len(sizes) == len(addresses) == 1


def after(segments: Segments, count: int) -> Segments:
    """With `count` more frames past."""
    return segments.extend(count).commit()[0]


def test_relative_positions_never_move_and_absolute_ones_count_on():
    ends = {}
    for positions in ("relative", "absolute"):
        config = MemoryConfig(window=3, anchor=1, positions=positions)
        ends[positions] = sorted(after(Segments(config=config), 1000).extend(2).positions)
    assert ends["relative"] == [0, 1, 2, 3, 4, 5]
    assert ends["absolute"] == [0, 997, 998, 999, 1000, 1001]


def test_truncate_keeps_the_newest_frames_and_the_reference():
    segments = Segments(config=MemoryConfig(window=4, anchor=2)).replace_anchor(1)[0]
    segments = after(segments, 9).truncate(keep=1)[0]
    assert [frame.index for frame in segments.slots if frame.index >= 0] == [8]
    assert [frame.index for frame in segments.slots if frame.anchored] == [-1]


def test_after_a_switch_the_kept_frame_is_not_anchored_and_time_still_runs_forward():
    segments = after(Segments(config=MemoryConfig(window=2, anchor=2)), 6).truncate(keep=1)[0]
    soon = after(segments, 2)
    assert sorted(zip(soon.positions, soon.slots, strict=True)) == [
        (0, (5, False)),
        (1, (6, True)),
        (2, (7, True)),
    ]
    assert sorted(frame.index for frame in after(soon, 6).slots) == [6, 7, 12, 13]


def test_a_verb_that_runs_out_of_memory_has_changed_nothing(model, clip):
    config = MemoryConfig(window=3)
    with torch.no_grad():
        memory = KVCache(GRID, config, context_of(model))
        for n in range(0, 6, 2):
            model.remember(clip[1][:, :, n : n + 2], memory)
            memory.commit()
        expected = model(clip[0][:, :, :2], sigmas(2), memory)
        reference = anchored(model, config, references(1))
        for verb in (lambda: memory.truncate(1), lambda: memory.replace_anchor(reference)):
            for call in (1, 2, 3):
                with running_out_of_memory(call), pytest.raises(torch.OutOfMemoryError):
                    verb()
                assert torch.equal(model(clip[0][:, :, :2], sigmas(2), memory), expected)


@contextmanager
def running_out_of_memory(call: int):
    """The call-th time that frames are looked up by slot fails."""
    by_frame, calls = KVCache._by_frame, []

    def failing(memory: KVCache, buffer: Tensor) -> Tensor:
        calls.append(buffer)
        if len(calls) == call:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return by_frame(memory, buffer)

    with patch.object(KVCache, "_by_frame", failing):
        yield


def test_an_interrupted_commit_is_done_again_as_if_once(model, clip):
    config = MemoryConfig(window=3)
    with torch.no_grad():
        whole, broken = (KVCache(GRID, config, context_of(model)) for _ in range(2))
        for n in range(0, 10, 2):
            for memory in (whole, broken):
                model.remember(clip[1][:, :, n : n + 2], memory)
            with running_out_of_memory(1 + n % 4), pytest.raises(torch.OutOfMemoryError):
                broken.commit()
            for memory in (whole, broken):
                memory.commit()
            assert torch.equal(*(model(clip[0][:, :, :2], sigmas(2), m) for m in (whole, broken)))
            for memory in (whole, broken):
                memory.segments = memory.segments.extend(0)


def test_the_reference_can_be_replaced_and_taken_away(model, clip):
    config = MemoryConfig(window=3)
    with torch.no_grad():
        memory = KVCache(GRID, config, context_of(model))
        plain = KVCache(GRID, config, context_of(model))
        for n in range(0, 8, 2):
            for cache in (memory, plain):
                model.remember(clip[1][:, :, n : n + 2], cache)
                cache.commit()
        before = model(clip[0][:, :, :2], sigmas(2), memory)
        memory.replace_anchor(anchored(model, config, references(2)))
        with_one = model(clip[0][:, :, :2], sigmas(2), memory)
        memory.replace_anchor(None)
        after = model(clip[0][:, :, :2], sigmas(2), memory)
    assert_close(before, after, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, with_one, rtol=1e-2)


def test_banks_equal_one_cache_for_each_stage(model, clip):
    config = MemoryConfig(window=3)
    stages = [0.9, 0.3]
    banks = KVBanks([KVCache(GRID, config, context_of(model)) for _ in stages])
    alone = [KVCache(GRID, config, context_of(model)) for _ in stages]
    levels = torch.tensor([[sigma] * 2 for sigma in stages])
    with torch.no_grad():
        for n in range(6):
            active = [1, 0] if n else [0]  # the second stage has no chunk yet in the first call
            chunks = [clip[0][:, :, -2:], clip[0][:, :, 2 * n : 2 * n + 2]][-len(active) :]
            banks.select(active)
            together = model(torch.cat(chunks), levels[active], banks)
            banks.commit()
            for place, stage in enumerate(active):
                row = model(chunks[place], levels[stage : stage + 1], alone[stage])
                alone[stage].commit()
                assert_close(together[place : place + 1], row, rtol=1e-4, atol=1e-5)


def test_a_snapshot_restores_a_cache_that_goes_on_alike(model, clip):
    with torch.no_grad():
        first, second = (KVCache(GRID, MemoryConfig(window=3, anchor=1)) for _ in range(2))
        first.reset_context(context_of(model))
        for n in range(0, 6, 2):
            model.remember(clip[1][:, :, n : n + 2], first)
            first.commit()
        second.restore(first.snapshot())
        for n in range(6, 12, 2):
            outs = [
                model(clip[0][:, :, n : n + 2], sigmas(2), memory) for memory in (first, second)
            ]
            assert torch.equal(*outs)
            for memory in (first, second):
                model.remember(clip[1][:, :, n : n + 2], memory)
                memory.commit()


def test_committing_nothing_is_refused():
    with pytest.raises(SessionError, match="no chunk to commit"):
        KVCache(GRID, MemoryConfig()).commit()


def test_tokens_of_another_size_are_refused():
    k = torch.zeros(1, 7, 2, 16)
    with pytest.raises(ShapeError, match="7 tokens came, but a latent frame has 6"):
        KVCache(GRID, MemoryConfig()).extend(0, k, k)
