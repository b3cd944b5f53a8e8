"""Our transformer against diffusers' Wan, and against itself under other memories."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from rtr_core.errors import WeightsError
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.config import WAN_1_3B, WAN_5B, WAN_14B, TransformerConfig
from rtr_core.model.transformer import Transformer
from rtr_core.shapes import Size
from rtr_core.untrained import randomized
from tests.near import distance

SMALL = TransformerConfig(
    dim=48,
    ffn_dim=80,
    heads=2,
    layers=2,
    in_channels=8,
    out_channels=4,
    text_dim=20,
    text_rows=6,
    freq_dim=32,
    adapter_dim=16,
)


def ours_from(peer: WanTransformer3DModel, config: TransformerConfig) -> Transformer:
    """The peer's weights under original Wan names, written out by hand."""
    names = {
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "proj_out": "head.head",
        ".attn1.": ".self_attn.",
        ".attn2.": ".cross_attn.",
        ".to_q.": ".q.",
        ".to_k.": ".k.",
        ".to_v.": ".v.",
        ".to_out.0.": ".o.",
        ".ffn.net.0.proj.": ".ffn.0.",
        ".ffn.net.2.": ".ffn.2.",
        ".norm2.": ".norm3.",
        "scale_shift_table": "modulation",
    }
    weights = {}
    for name, tensor in peer.state_dict().items():
        for theirs, mine in names.items():
            name = name.replace(theirs, mine)
        weights["head.modulation" if name == "modulation" else name] = tensor
    ours = Transformer(config, device="meta")
    ours.load_state_dict(weights, assign=True)
    return ours


def peer_of(in_channels: int, out_channels: int) -> WanTransformer3DModel:
    torch.manual_seed(0)
    peer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=20,
        freq_dim=32,
        ffn_dim=80,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )
    return randomized(peer, torch.Generator().manual_seed(1)).eval()


@pytest.mark.parametrize(("in_channels", "out_channels"), [(16, 16), (32, 16), (48, 48)])
def test_equals_diffusers_when_all_frames_see_one_another(in_channels, out_channels, rng):
    peer = peer_of(in_channels, out_channels)
    shapes = {name: tuple(t.shape) for name, t in peer.state_dict().items()}
    assert shapes["patch_embedding.weight"][1] == in_channels
    config = TransformerConfig(
        dim=48,
        ffn_dim=80,
        heads=2,
        layers=2,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=20,
        text_rows=6,
        freq_dim=32,
    )
    ours = ours_from(peer, config)
    x = torch.randn(2, in_channels, 3, 8, 12, generator=rng)
    text = torch.randn(2, 6, 20, generator=rng)
    text[:, 4:] = 0
    with torch.no_grad():
        theirs = peer(x, torch.tensor([700.0, 120.0]), text, return_dict=False)[0]
        memory = bidirectional(Size(4, 6), 3, ours.encode_context(text))
        mine = ours(x, torch.tensor([[0.7] * 3, [0.12] * 3]), memory)
    assert distance(mine, theirs) < 1e-5


@pytest.mark.parametrize("config", [WAN_1_3B, WAN_14B, WAN_5B, SMALL])
def test_config_is_read_off_the_shapes(config):
    model = Transformer(config, device="meta")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    heads = {} if config is not SMALL else {"heads": 2}
    known = {"text_rows": config.text_rows, **heads}
    assert TransformerConfig.infer(shapes, **known) == config


@pytest.mark.parametrize(
    ("config", "billions"), [(WAN_1_3B, 1.42), (WAN_14B, 14.29), (WAN_5B, 5.0)]
)
def test_the_known_sizes_have_their_known_number_of_parameters(config, billions):
    model = Transformer(config, device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_image_to_video_and_control_models_are_refused():
    with pytest.raises(WeightsError, match="36 channels and gives 16"):
        TransformerConfig(dim=64, ffn_dim=64, heads=2, layers=1, in_channels=36, out_channels=16)


def test_each_latent_frame_has_its_own_noise_level(rng):
    model = randomized(Transformer(SMALL), rng)
    x, text = torch.randn(1, 8, 3, 4, 4, generator=rng), torch.randn(1, 6, 20, generator=rng)
    with torch.no_grad():
        memory = bidirectional(Size(2, 2), 3, model.encode_context(text))
        same = model(x, torch.full((1, 3), 0.5), memory)
        last = model(x, torch.tensor([[0.5, 0.5, 0.9]]), memory)
    assert not torch.allclose(same[:, :, 2], last[:, :, 2], rtol=1e-2)


def test_a_reference_stands_before_the_video_clean(rng):
    model = randomized(Transformer(SMALL), rng)
    x, text = torch.randn(1, 8, 2, 4, 4, generator=rng), torch.randn(1, 6, 20, generator=rng)
    references = torch.randn(2, 1, 4, 1, 4, 4, generator=rng)
    context = model.encode_context(text)
    sigma = torch.full((1, 2), 0.8)
    outs = [model(x, sigma, bidirectional(Size(2, 2), 3, context), ref) for ref in references]
    assert outs[0].shape == (1, 4, 2, 4, 4)
    assert not torch.allclose(*outs, rtol=1e-2)


def test_padding_rows_of_a_prompt_are_attended(rng):
    model = randomized(Transformer(SMALL), rng)
    x, text = torch.randn(1, 8, 1, 4, 4, generator=rng), torch.randn(1, 3, 20, generator=rng)
    padded = torch.cat([text, torch.zeros(1, 3, 20)], dim=1)

    def velocity(context: Tensor) -> Tensor:
        memory = bidirectional(Size(2, 2), 1, model.encode_context(context))
        return model(x, torch.full((1, 1), 0.5), memory)

    assert not torch.allclose(velocity(text), velocity(padded), rtol=1e-2)


def test_a_host_brings_its_own_layers(rng):
    seen = []

    class Linear(nn.Linear):
        def forward(self, x):
            seen.append("linear")
            return super().forward(x)

    class Host:
        LayerNorm, RMSNorm, Conv3d = nn.LayerNorm, nn.RMSNorm, nn.Conv3d

    Host.Linear = Linear
    model = randomized(Transformer(SMALL, operations=Host), rng)
    plain = Transformer(SMALL)
    plain.load_state_dict(model.state_dict())
    x, text = torch.randn(1, 8, 1, 4, 4, generator=rng), torch.randn(1, 6, 20, generator=rng)

    def velocity(model: Transformer) -> Tensor:
        memory = bidirectional(Size(2, 2), 1, model.encode_context(text))
        return model(x, torch.full((1, 1), 0.5), memory)

    assert torch.equal(velocity(model), velocity(plain))
    others = [m for m in model.modules() if isinstance(m, nn.Linear) and type(m) is not Linear]
    assert seen and not others


def test_weights_hold_no_state(rng):
    model = randomized(Transformer(SMALL), rng)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, text = torch.randn(1, 8, 2, 4, 4, generator=rng), torch.randn(1, 6, 20, generator=rng)
    model(x, torch.full((1, 2), 0.5), bidirectional(Size(2, 2), 2, model.encode_context(text)))
    assert not list(model.buffers())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
