"""What a file is, from names and shapes alone: no numbers, and no file either."""

from dataclasses import replace

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.model.config import WAN_1_3B, WAN_5B, WAN_14B, TransformerConfig
from rtr_core.model.words import WordEncoderConfig
from rtr_core.vae.tiny_config import TAEW2_1, TAEW2_2
from rtr_core.vae.wan_config import WAN_2_1, WAN_2_2
from rtr_core.weights.fit import module_on_meta
from rtr_core.weights.identify import identify
from rtr_core.weights.load import load_text, load_transformer, load_vae

RTR_1_3B = replace(WAN_1_3B, in_channels=32, adapter_dim=384)
RTR_5B = replace(WAN_5B, in_channels=96)

OURS = {
    "Wan text-to-video transformer 1.3B, 16 latent channels": WAN_1_3B,
    "Wan text-to-video transformer 14B, 16 latent channels": WAN_14B,
    "Wan text-to-video transformer 5B, 48 latent channels": WAN_5B,
    "RTR transformer 1.3B, 16 latent channels with reference adapter": RTR_1_3B,
    "RTR transformer 5B, 48 latent channels": RTR_5B,
    "Wan 2.1 VAE": WAN_2_1,
    "Wan 2.2 VAE": WAN_2_2,
    "taew2_1": TAEW2_1,
    "taew2_2": TAEW2_2,
    "words text encoder": WordEncoderConfig(),
}


def meta_of(config):
    return module_on_meta(config).state_dict()


def names(*them):
    return {name: torch.empty(4, 4, device="meta") for name in them}


@pytest.mark.parametrize("label", OURS)
def test_shapes_tell_what_a_model_is(label):
    kind = identify(meta_of(OURS[label]))
    assert str(kind) == label
    assert kind.parts[0].config == OURS[label]


@pytest.mark.parametrize("label", OURS)
@pytest.mark.parametrize("prefix", ["model.", "model.diffusion_model.", "first_stage_model."])
def test_a_prefix_hides_nothing(prefix, label):
    kind = identify({prefix + name: tensor for name, tensor in meta_of(OURS[label]).items()})
    assert str(kind) == label
    assert kind.parts[0].layout.prefix == prefix


def test_a_checkpoint_of_three_parts_has_three(save):
    parts = {
        "model.diffusion_model.": WAN_1_3B,
        "vae.": WAN_2_1,
        "text_encoders.words.": WordEncoderConfig(),
    }
    meta = {p + n: t for p, config in parts.items() for n, t in meta_of(config).items()}
    kind = identify(meta)
    assert [part.role for part in kind.parts] == ["transformer", "vae", "text"]
    assert [part.config for part in kind.parts] == list(parts.values())
    assert not kind.is_bundle


def test_a_bundle_is_known_by_its_prefixes():
    parts = {"transformer.": RTR_1_3B, "vae.": TAEW2_1}
    meta = {p + n: t for p, config in parts.items() for n, t in meta_of(config).items()}
    assert str(identify(meta)).startswith("RTR bundle: RTR transformer 1.3B")


UMT5 = (
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
)
WAN_UMT5 = ("blocks.0.attn.q.weight", "blocks.0.pos_embedding.embedding.weight")


@pytest.mark.parametrize("marks", [UMT5, WAN_UMT5])
def test_umt5_is_known_under_both_of_its_namings(marks):
    assert str(identify(names(*marks))) == "umt5 text encoder"


FOREIGN = {
    "image-to-video": ["head.modulation", "patch_embedding.weight", "img_emb.proj.0.bias"],
    "VACE": ["head.modulation", "vace_patch_embedding.weight"],
    "Stable Diffusion XL": [
        "model.diffusion_model.input_blocks.0.0.weight",
        "conditioner.embedders.1.model.ln_final.weight",
    ],
    "Stable Diffusion checkpoint": ["model.diffusion_model.input_blocks.0.0.weight"],
    "Flux": ["double_blocks.0.img_attn.norm.key_norm.scale"],
    "HunyuanVideo": [
        "double_blocks.0.img_attn.norm.key_norm.scale",
        "txt_in.individual_token_refiner.blocks.0.norm1.weight",
    ],
    "T5 text encoder that is not umT5": [
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    ],
    "CLIP text": ["text_model.encoder.layers.0.mlp.fc1.weight"],
    "LoRA": ["diffusion_model.blocks.0.self_attn.q.lora_A.weight"],
    "a LoRA": ["lora_unet_blocks_0_self_attn_q.lora_down.weight"],
    "LoRA, which": ["transformer.blocks.0.attn1.to_q.lora_B.default.weight"],
    "which adds": ["diffusion_model.blocks.0.norm3.diff", "diffusion_model.head.head.diff_b"],
    "nothing that is known": ["a", "b.weight"],
}


@pytest.mark.parametrize("expected", FOREIGN)
def test_a_file_of_another_family_is_refused_with_what_it_seems_to_be(expected, save):
    file = save({name: torch.zeros(4, 4) for name in FOREIGN[expected]})
    for load in (load_transformer, load_vae, load_text):
        with pytest.raises(WeightsError, match=expected) as caught:
            load(file)
        assert "model.safetensors" in str(caught.value)


def test_an_image_to_video_transformer_without_its_image_names_is_told_by_its_channels():
    shapes = {name: t.clone() for name, t in meta_of(WAN_1_3B).items()}
    shapes["patch_embedding.weight"] = torch.empty(1536, 36, 1, 2, 2, device="meta")
    (part,) = identify(shapes).parts
    assert part.config is None
    assert "image-to-video" in part.misfit


def test_a_vae_is_no_transformer(save):
    config = replace(WAN_2_1, dim=4, decoder_dim=4, depth=1)
    state = {name: torch.zeros(t.shape) for name, t in meta_of(config).items()}
    with pytest.raises(
        WeightsError, match=r"model\.safetensors.*no transformer.*autoencoder of 16"
    ):
        load_transformer(save(state))


def test_a_config_is_no_guess():
    known = TransformerConfig(
        dim=192, ffn_dim=64, heads=3, layers=1, in_channels=8, out_channels=4, text_dim=16,
        freq_dim=32, text_rows=512,
    )  # fmt: skip
    assert identify(meta_of(known)).parts[0].config == known
