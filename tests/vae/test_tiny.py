"""The tiny autoencoder against TAEHV, whose outputs were recorded with the same seeded weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rtr_core.errors import WeightsError
from rtr_core.shapes import Stride
from rtr_core.vae.stream import DecoderStream, EncoderStream
from rtr_core.vae.tiny import TinyVae
from rtr_core.vae.tiny_config import TAEW2_1, TAEW2_2, TinyVaeConfig
from tests.vae.conftest import SMALL_TINY
from tests.vae.seeded import noise, relative, shapes_of, with_seeded_weights

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module", params=[("taew2_1", TAEW2_1), ("taew2_2", TAEW2_2)])
def recorded(request):
    name, config = request.param
    vae = with_seeded_weights(TinyVae(config)).eval().requires_grad_(False)
    return vae, load_file(GOLDEN / f"{name}.safetensors")


def test_latents_are_those_of_taehv_fed_its_first_frame_four_times(recorded):
    vae, golden = recorded
    latents = EncoderStream(vae).push(golden["in.pixels"].float() / 127.5 - 1)
    assert relative(latents, golden["out.latent"]) < 1e-5


def test_pixels_are_those_of_taehv(recorded):
    vae, golden = recorded
    pixels = DecoderStream(vae).push(golden["in.latent"])
    assert relative(pixels / 2 + 0.5, golden["out.decoded"]) < 1e-5


@pytest.mark.parametrize(
    ("config", "stride"),
    [
        (TAEW2_1, Stride(4, 8, 8)),
        (TAEW2_2, Stride(4, 16, 16)),
        (SMALL_TINY, Stride(4, 8, 8)),
        (
            replace(TAEW2_1, depth=1, encoder_time=(1, 1, 1), decoder_time=(1, 1, 1)),
            Stride(1, 8, 8),
        ),
        (replace(TAEW2_1, encoder_time=(2, 1, 1), decoder_time=(1, 1, 2)), Stride(2, 8, 8)),
    ],
)
def test_configs_are_read_off_their_shapes(config, stride):
    with torch.device("meta"):
        vae = TinyVae(config)
    assert TinyVaeConfig.infer(shapes_of(vae.state_dict())) == config
    assert vae.stride == stride


def test_every_weight_learns_through_encoding_and_decoding_a_clip(clip):
    vae = with_seeded_weights(TinyVae(SMALL_TINY))
    latents = EncoderStream(vae).push(clip[:, :, :9])
    DecoderStream(vae).push(latents).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in vae.parameters())


def test_gradients_reach_back_to_the_first_frame(clip):
    vae = with_seeded_weights(TinyVae(SMALL_TINY))
    clip = clip[:, :, :9].clone().requires_grad_()
    EncoderStream(vae).push(clip)[:, :, -1].sum().backward()
    assert clip.grad[:, :, 0].any()


def test_bf16_stays_close_to_fp32(clip):
    vae = with_seeded_weights(TinyVae(SMALL_TINY)).requires_grad_(False)
    expected = EncoderStream(vae).push(clip)
    latents = EncoderStream(vae.bfloat16()).push(clip.bfloat16())
    assert relative(latents.float(), expected) < 3e-2


def test_latents_out_of_range_are_held_within_it():
    vae = with_seeded_weights(TinyVae(SMALL_TINY)).requires_grad_(False)
    latent = noise("latent", (1, 4, 1, 4, 4)) * 1e6
    assert torch.equal(
        DecoderStream(vae).push(latent), DecoderStream(vae).push(latent.sign() * 1e5)
    )


def test_encoder_and_decoder_must_agree_about_time():
    with pytest.raises(WeightsError, match="gives 2 back"):
        replace(TAEW2_1, decoder_time=(1, 1, 2))


def test_tensors_of_something_else_are_refused():
    with pytest.raises(WeightsError, match="taew2_1"):
        TinyVaeConfig.infer({"blocks.0.weight": (4, 4)})
