"""A transformer under LoRAs is a twin: the same tensors, other results, and no trace on either."""

import pytest
import torch

from rtr_core import untrained
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.lora import Adapted, Difference, Lora, LowRank, added, under_loras
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size

from ..near import distance

CONFIG = untrained.TRANSFORMER
LAYERS = ("blocks.0.self_attn.q", "blocks.1.ffn.2", "text_embedding.0", "reference_adapter.up")
NEAR = 1e-5


@pytest.fixture
def transformer(rng):
    return untrained.randomized(Transformer(CONFIG), rng).eval().requires_grad_(False)


def lora(transformer: Transformer, seed: int, rank: int = 3) -> Lora:
    rng = torch.Generator().manual_seed(seed)
    state, changes = transformer.state_dict(), {}
    for layer in LAYERS:
        out, into = state[f"{layer}.weight"].shape
        down = torch.randn(rank, into, generator=rng) * into**-0.5
        changes[f"{layer}.weight"] = LowRank(down, torch.randn(out, rank, generator=rng), 0.5)
    for name in ("blocks.0.modulation", "blocks.1.norm3.bias", "patch_embedding.weight"):
        changes[name] = Difference(0.1 * torch.randn(state[name].shape, generator=rng))
    changes["head.head.bias"] = Difference(
        torch.randn(state["head.head.bias"].shape, generator=rng)
    )
    return Lora(path=f"{seed}.safetensors", digest=str(seed), changes=changes)


def run(transformer: Transformer):
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(1, CONFIG.in_channels, 2, 4, 6, generator=rng)
    text = torch.randn(1, CONFIG.text_rows, CONFIG.text_dim, generator=rng)
    reference = torch.randn(1, CONFIG.out_channels, 1, 4, 6, generator=rng)
    memory = bidirectional(Size(2, 3), frames=3, context=transformer.encode_context(text))
    with torch.no_grad():
        return transformer(x, torch.tensor([[0.7, 0.3]]), memory, reference)


def merged(transformer: Transformer, loras: dict[Lora, float]) -> Transformer:
    """The slow proof."""
    state = {
        name: added(weight, [(o.changes[name], s) for o, s in loras.items() if name in o.changes])
        for name, weight in transformer.state_dict().items()
    }
    twin = Transformer(transformer.config)
    twin.load_state_dict(state)
    return twin.eval()


@pytest.mark.parametrize("strengths", [(1.0,), (0.8, -0.4), (0.3, 0.3, 2.0)])
def test_a_twin_says_what_merged_weights_say(transformer, strengths):
    loras = {lora(transformer, seed): s for seed, s in enumerate(strengths)}
    expected = run(merged(transformer, loras))
    assert distance(run(under_loras(transformer, loras)), expected) < NEAR
    assert distance(run(transformer), expected) > 0.05


def test_added_is_the_weight_and_the_product(transformer):
    change = lora(transformer, 1).changes["blocks.1.ffn.2.weight"]
    weight = transformer.blocks[1].ffn[2].weight
    assert torch.allclose(
        added(weight, [(change, 0.8)]), weight + 0.8 * 0.5 * change.up @ change.down, atol=1e-6
    )


def test_at_a_strength_of_nothing_it_is_the_transformer_itself(transformer):
    one = lora(transformer, 1)
    assert under_loras(transformer, {one: 0.0}) is transformer
    assert under_loras(transformer, {}) is transformer


def test_original_and_twins_are_used_in_turn_and_stay_what_they_are(transformer):
    bare = run(transformer)
    twins = [under_loras(transformer, {lora(transformer, seed): 1.0}) for seed in (1, 2)]
    first = [run(twin) for twin in twins]
    assert torch.equal(run(transformer), bare)
    assert all(torch.equal(run(twin), said) for twin, said in zip(twins, first, strict=True))
    assert distance(*first) > 0.05


def test_a_twin_shares_every_tensor_but_the_small_ones_it_changes(transformer):
    twin = under_loras(transformer, {lora(transformer, 1): 1.0})
    own = {tensor.data_ptr() for tensor in transformer.parameters()}
    others = [name for name, tensor in twin.named_parameters() if tensor.data_ptr() not in own]
    assert sorted(others) == [
        "blocks.0.modulation",
        "blocks.1.norm3.bias",
        "patch_embedding.weight",
    ]
    assert isinstance(twin.blocks[0].self_attn.q, Adapted)
    assert twin.blocks[0].self_attn.k is transformer.blocks[0].self_attn.k


def test_loras_on_a_twin_join_those_it_has(transformer):
    one, two = lora(transformer, 1), lora(transformer, 2)
    stacked = run(under_loras(under_loras(transformer, {one: 0.5}), {two: 0.7}))
    assert distance(stacked, run(merged(transformer, {one: 0.5, two: 0.7}))) < NEAR


def test_layers_of_a_host_are_adapted_however_they_keep_their_weights(rng):
    """An fp8 layer, that widens its weights when it computes, as hosts have them."""

    class Fp8Linear(torch.nn.Linear):
        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.to(x.dtype), self.bias)

    class Operations:
        Linear, LayerNorm, RMSNorm, Conv3d = (
            *(Fp8Linear, torch.nn.LayerNorm),
            *(torch.nn.RMSNorm, torch.nn.Conv3d),
        )

    housed = untrained.randomized(Transformer(CONFIG, Operations), rng).requires_grad_(False)
    narrow = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 else tensor
        for name, tensor in housed.state_dict().items()
    }
    housed.load_state_dict(narrow, assign=True)
    wide = Transformer(CONFIG)
    wide.load_state_dict({name: tensor.float() for name, tensor in narrow.items()})
    one = lora(wide, 1)
    expected = run(merged(wide.requires_grad_(False), {one: 0.8}))
    assert distance(run(under_loras(housed, {one: 0.8})), expected) < NEAR
