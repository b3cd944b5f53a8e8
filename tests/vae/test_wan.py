"""The Wan VAEs against the golden file, and against diffusers, which no one here wrote."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rtr_core.errors import WeightsError
from rtr_core.shapes import Stride
from rtr_core.vae.stream import DecoderStream, EncoderStream
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WAN_2_1, WAN_2_2, LatentStatistics, WanVaeConfig
from rtr_core.weights.vae_keys import from_diffusers
from tests.vae.seeded import noise, relative, shapes_of, with_seeded_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "wan_vae.safetensors"
PLAIN = LatentStatistics(mean=(0.0,) * 16, std=(1.0,) * 16)

WAN_2_2_LIKE = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
DIFFUSERS = {
    "2.1": {"base_dim": 8},
    "2.1, three levels": {
        "base_dim": 8,
        "dim_mult": [1, 2, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
    },
    "2.2": {"base_dim": 8, "decoder_base_dim": 16, "z_dim": 48, **WAN_2_2_LIKE},
    "2.2, other levels": {
        "base_dim": 8,
        "z_dim": 48,
        "dim_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [True, False, True],
        **WAN_2_2_LIKE,
    },
}


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


@pytest.fixture(scope="module")
def golden_weights(golden):
    return {name[2:]: tensor for name, tensor in golden.items() if name.startswith("w.")}


@pytest.fixture(scope="module")
def golden_vae(golden, golden_weights):
    own = LatentStatistics(*(tuple(golden[f"latents_{kind}"].tolist()) for kind in ("mean", "std")))
    return loaded(
        replace(WanVaeConfig.infer(shapes_of(golden_weights)), statistics=own), golden_weights
    )


def loaded(config, weights):
    vae = WanVae(config)
    vae.load_state_dict(weights, strict=True)
    return vae.eval().requires_grad_(False)


def on_meta(config):
    with torch.device("meta"):
        return WanVae(config)


def test_latents_are_those_of_the_golden_file(golden, golden_vae):
    latents = EncoderStream(golden_vae).push(golden["in.pixels"])
    assert relative(latents, golden["out.latent_norm"]) < 1e-5


def test_latents_before_normalization_are_those_of_the_golden_file(golden, golden_weights):
    plain = replace(WanVaeConfig.infer(shapes_of(golden_weights)), statistics=PLAIN)
    latents = EncoderStream(loaded(plain, golden_weights)).push(golden["in.pixels"])
    assert relative(latents, golden["out.mu_raw"]) < 1e-5


def test_pixels_are_those_of_the_golden_file(golden, golden_vae):
    pixels = DecoderStream(golden_vae).push(golden["in.latent_norm"])
    assert relative(pixels, golden["out.decoded"]) < 1e-5


@pytest.mark.parametrize("cut", [[1] * 17, [3, 1, 9, 4], [16, 1]])
def test_no_cut_of_the_golden_clip_changes_a_bit(golden, golden_vae, cut):
    pieces, encoder = golden["in.pixels"].split(cut, dim=2), EncoderStream(golden_vae)
    latents = [made for piece in pieces if (made := encoder.push(piece)) is not None]
    whole = EncoderStream(golden_vae).push(golden["in.pixels"])
    assert torch.equal(torch.cat(latents, dim=2), whole)


def test_decoding_one_by_one_gives_the_same_bits(golden, golden_vae):
    decoder, latents = DecoderStream(golden_vae), golden["in.latent_norm"]
    one_by_one = torch.cat([decoder.push(latent) for latent in latents.split(1, dim=2)], dim=2)
    assert torch.equal(one_by_one, DecoderStream(golden_vae).push(latents))


@pytest.mark.parametrize("kind", DIFFUSERS)
def test_both_ways_equal_diffusers(kind):
    diffusers = pytest.importorskip("diffusers")
    theirs = with_seeded_weights(diffusers.AutoencoderKLWan(**DIFFUSERS[kind]).eval())
    weights = from_diffusers(theirs.state_dict())
    vae = loaded(WanVaeConfig.infer(shapes_of(weights)), weights)
    stride = vae.stride
    clip = noise("clip", (2, 3, 9, 2 * stride.height, 3 * stride.width))
    mean, std = (torch.tensor(x)[:, None, None, None] for x in vae.config.latent_statistics)

    latents = EncoderStream(vae).push(clip)
    with torch.no_grad():
        expected = (theirs.encode(clip).latent_dist.mean - mean) / std
        pixels = theirs.decode(latents * std + mean).sample
    assert relative(latents, expected) < 1e-5
    assert relative(DecoderStream(vae).push(latents).clamp(-1, 1), pixels) < 1e-5


@pytest.mark.parametrize(
    ("config", "stride", "tensors"),
    [(WAN_2_1, Stride(4, 8, 8), 194), (WAN_2_2, Stride(4, 16, 16), 196)],
)
def test_the_released_sizes_are_read_off_their_shapes(config, stride, tensors):
    shapes = shapes_of(on_meta(config).state_dict())
    assert len(shapes) == tensors
    assert WanVaeConfig.infer(shapes) == config
    assert config.stride == stride


def test_bf16_stays_close_to_fp32(golden, golden_vae, golden_weights):
    vae = loaded(golden_vae.config, golden_weights).bfloat16()
    latents = EncoderStream(vae).push(golden["in.pixels"].bfloat16())
    pixels = DecoderStream(vae).push(golden["in.latent_norm"].bfloat16())
    assert latents.dtype == pixels.dtype == torch.bfloat16
    assert relative(latents.float(), golden["out.latent_norm"]) < 3e-2
    assert relative(pixels.float(), golden["out.decoded"]) < 3e-2


def test_tensors_of_something_else_are_refused_by_name():
    with pytest.raises(WeightsError, match=r"encoder\.conv1\.weight"):
        WanVaeConfig.infer({"blocks.0.weight": (4, 4)})


def test_an_unknown_number_of_channels_asks_for_statistics():
    with pytest.raises(WeightsError, match="statistics"):
        replace(WAN_2_1, channels=5)
