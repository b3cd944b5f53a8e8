"""Numbers of one byte: what they stand for is computed with, and it is near what was given."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rtr_core.model.fp8 import (
    FACTOR_BYTES,
    Fp8Linear,
    behind,
    in_fp8,
    matrices,
    narrow_rows,
    packed,
    unpacked_into,
)
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.segments import MemoryConfig
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size
from rtr_core.untrained import TRANSFORMER, randomized

GRID = Size(2, 3)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def model_of(dtype: torch.dtype = torch.float32) -> Transformer:
    model = randomized(Transformer(TRANSFORMER), torch.Generator().manual_seed(3))
    return model.to(dtype).requires_grad_(False)


def unpacked(kept: Tensor, dtype: torch.dtype) -> Tensor:
    room = torch.empty(*kept.shape[:-1], kept.shape[-1] - FACTOR_BYTES, dtype=dtype)
    return unpacked_into(room, kept)


class SlowCache(KVCache):
    """The twin of a cache in fp8: it is plain, and what becomes past is narrowed and widened."""

    def commit(self) -> None:
        super().commit()
        used = len(self.segments.slots) * self.grid.area
        for buffer in (*self._keys.values(), *self._values.values()):
            buffer[:, :used] = unpacked(packed(buffer[:, :used]), buffer.dtype)


def run(model: Transformer, memory: KVCache, chunks: int = 6) -> Tensor:
    """Chunks seen twice, as two steps would, then committed."""
    rng = torch.Generator().manual_seed(5)
    dtype = model.head.modulation.dtype
    text = torch.randn(1, TRANSFORMER.text_rows, TRANSFORMER.text_dim, generator=rng).to(dtype)
    memory.reset_context(model.encode_context(text))
    outs = []
    for _ in range(chunks):
        x = torch.randn(1, TRANSFORMER.in_channels, 2, 4, 6, generator=rng).to(dtype)
        outs += [model(x, torch.full((1, 2), sigma), memory) for sigma in (1.0, 0.5)]
        model.remember(x, memory)
        memory.commit()
    return torch.cat(outs, dim=2)


# ---- weights ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_model_in_fp8_is_to_the_bit_the_model_of_what_its_weights_stand_for(dtype):
    narrow = in_fp8(model_of(dtype))
    wide = copy.deepcopy(model_of(dtype))
    for name, layer in matrices(wide).items():
        kept = narrow.get_submodule(name)
        assert isinstance(kept, Fp8Linear)
        rows = (kept.weight.float() * kept.weight_scale).to(dtype)
        layer.weight = nn.Parameter(rows, requires_grad=False)
    memories = (KVCache(GRID, MemoryConfig(window=4)) for _ in range(2))
    assert torch.equal(
        *(run(m, memory) for m, memory in zip((narrow, wide), memories, strict=True))
    )


def test_only_matrices_of_blocks_are_narrowed_and_the_model_that_was_given_stays():
    model = model_of()
    before = {name: w.dtype for name, w in model.named_parameters()}
    narrow = in_fp8(model)
    assert {name: w.dtype for name, w in model.named_parameters()} == before
    own = {f"{name}.weight" for name in matrices(model)}
    assert len(own) == 10 * TRANSFORMER.layers
    for name, w in narrow.named_parameters():
        if name in own:
            assert w.dtype == torch.float8_e4m3fn
        elif not name.endswith("weight_scale"):
            assert w.data_ptr() == model.get_parameter(name).data_ptr()


def test_matrices_take_half_the_bytes_of_bf16():
    narrow = in_fp8(model_of(torch.bfloat16))
    taken = sum(
        w.nbytes
        for layer in matrices(model_of())
        for w in narrow.get_submodule(layer).parameters()
        if w.ndim == 2
    )
    wide = sum(2 * layer.weight.numel() for layer in matrices(model_of()).values())
    assert taken < 0.53 * wide


def test_rows_are_near_whatever_their_size():
    sizes = torch.tensor([1e-6, 1e-3, 1.0, 300.0, 1e6])[:, None]
    weight = torch.randn(5, 4096, generator=torch.Generator().manual_seed(1)) * sizes
    narrow, factor = narrow_rows(weight)
    error = ((narrow.float() * factor - weight).norm(dim=1) / weight.norm(dim=1)).tolist()
    assert max(error) < 0.028
    nothing, factor = narrow_rows(torch.zeros(2, 3))
    assert torch.equal(nothing.float() * factor, torch.zeros(2, 3))


# ---- keys and values ----


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_was_packed_is_near_and_stays_when_it_is_packed_again(dtype):
    sizes = torch.tensor([1e-3, 1.0, 100.0])[:, None, None]
    x = (torch.randn(3, 50, 64, generator=torch.Generator().manual_seed(1)) * sizes).to(dtype)
    kept = packed(x)
    assert kept.nbytes == 3 * 50 * (64 + FACTOR_BYTES)
    back = unpacked(kept, dtype)
    assert max(((back - x).float().norm(dim=(1, 2)) / x.float().norm(dim=(1, 2))).tolist()) < 0.03
    assert torch.equal(unpacked(packed(back), dtype), back)
    assert torch.equal(unpacked(packed(torch.zeros(1, 4)), dtype), torch.zeros(1, 4, dtype=dtype))


def test_nan_is_not_hidden():
    x = torch.ones(1, 8)
    x[0, 3] = float("nan")
    assert unpacked(packed(x), torch.float32).isnan().any()


def test_the_chunk_at_hand_is_seen_as_it_is():
    rng = torch.Generator().manual_seed(2)
    past, new = (torch.randn(1, count, 2, 16, generator=rng) for count in (6, 4))
    seen = behind(packed(past), new)
    assert torch.equal(seen[:, 6:], new)
    assert torch.equal(seen[:, :6], unpacked(packed(past), torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("config", [MemoryConfig(window=3), MemoryConfig(window=2, anchor=1)])
def test_a_cache_in_fp8_is_to_the_bit_a_plain_one_whose_past_was_narrowed(dtype, config):
    model = model_of(dtype)
    fast, slow = KVCache(GRID, config, in_fp8=True), SlowCache(GRID, config)
    assert torch.equal(run(model, fast), run(model, slow))
    assert fast.nbytes == slow.nbytes // dtype.itemsize * (64 + FACTOR_BYTES) / 64


def test_with_gradients_the_same_past_is_seen():
    model, config = model_of(), MemoryConfig(window=4)
    caches = [KVCache(GRID, config, in_fp8=True) for _ in range(2)]
    with torch.no_grad():
        fast = run(model, caches[0])
    torch.testing.assert_close(run(model, caches[1]), fast)


def test_a_cache_in_fp8_goes_on_from_what_it_has_saved():
    model, config = model_of(), MemoryConfig(window=4)
    memory, twin = (KVCache(GRID, config, in_fp8=True) for _ in range(2))
    run(model, memory, 3)
    twin.restore(memory.snapshot())
    assert torch.equal(run(model, memory), run(model, twin))
    memory.truncate(1)
    twin.truncate(1)
    assert torch.equal(run(model, memory), run(model, twin))
