"""Files as people download them: each is recognized, gets its family's recipe, and runs."""

from dataclasses import replace

import pytest
import torch

from rtr_core import Style, StyleError, Stylizer, untrained
from rtr_core.families import FAMILIES, Signs, family_of
from rtr_core.model.config import WAN_1_3B, WAN_5B, WAN_14B
from rtr_core.vae.tiny import TinyVae
from rtr_core.weights.inspect import inspect
from tests.weights.conftest import SMALL, SMALL_RTR, random_transformer
from tests.weights.test_layouts import FLAT, NESTED, fragmented, prefixed

STYLE = Style(embedding=torch.randn(8, 32, generator=torch.Generator().manual_seed(1)))


def trained_with(state):
    """As Self-Forcing saves: the generator, its average and the critic."""
    model = prefixed("model.")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    return {
        "generator": model(state),
        "generator_ema": model(fragmented(state)),
        "critic": model(zeros),
    }


FILES = {  # folder and name as they are published, and the layout that is in them
    "self_forcing_dmd.pt": (trained_with, "self-forcing"),
    "checkpoints/model.pt": (trained_with, "self-forcing"),
    "causal_forcing/chunkwise.pt": (trained_with, "causal-forcing"),
    "CausVid/autoregressive_checkpoint/model.pt": (NESTED["generator"], "causvid"),
    "wan_causal_dmd_v2v/model.pt": (NESTED["generator"], "streamdiffusionv2"),
    "StreamDiffusionV2/model.safetensors": (FLAT["model."], "streamdiffusionv2"),
    "longlive_models/models/longlive_base.pt": (NESTED["generator"], "longlive"),
    "krea-realtime-video-14b.safetensors": (FLAT["model."], "krea"),
    "Wan2_1-T2V-1_3B_bf16.safetensors": (FLAT["original names"], "wan"),
    "wan2.1_t2v_1.3B_fp16.safetensors": (FLAT["model.diffusion_model."], "wan"),
    "causal.safetensors": (FLAT["diffusers"], "self-forcing"),
}


@pytest.fixture
def vae(save, tmp_path):
    def make(channels: int):
        network = TinyVae(replace(untrained.VAE, channels=channels))
        untrained.randomized(network, torch.Generator().manual_seed(2))
        return save(network.state_dict(), f"taew-{channels}.safetensors")

    return make


def runs(stylizer: Stylizer) -> bool:
    session = stylizer.session(STYLE, (32, 32))
    frames = torch.rand(30, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    out = torch.cat([*session.push(frames), *session.flush()])
    return out.shape == frames.shape and bool(out.isfinite().all())


@pytest.mark.parametrize("name", FILES)
def test_a_public_checkpoint_is_recognized_and_runs(name, wan, vae, save, tmp_path):
    layout, family = FILES[name]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    file = save(layout(wan.state_dict()), name)
    stylizer = Stylizer.load(file, vae(16), device="cpu")
    assert stylizer.recipe.name == family == inspect(file).recipe.name
    assert runs(stylizer)


def test_wan_2_2_5b_is_known_by_its_48_channels(vae, save):
    wan = random_transformer(replace(SMALL, in_channels=48, out_channels=48))
    stylizer = Stylizer.load(save(wan.state_dict(), "model.safetensors"), vae(48), device="cpu")
    assert stylizer.recipe.name == "longlive-2" and runs(stylizer)


def test_source_channels_make_a_file_one_of_ours_whatever_it_is_called(transformer, vae, save):
    file = save(transformer.state_dict(), "self_forcing_krea.safetensors")
    stylizer = Stylizer.load(file, vae(16), device="cpu")
    assert stylizer.recipe.name == "rtr" and runs(stylizer)


def test_comfyui_s_own_mark_tells_a_causal_model(wan, save):
    mark = {"config": '{"transformer": {"causal_ar": true}}'}
    marked = save(wan.state_dict(), "wan2.1_t2v.safetensors", metadata=mark)
    assert inspect(marked).recipe.name == "self-forcing"


@pytest.mark.parametrize(
    ("signs", "family"),
    [
        (Signs(WAN_14B, prefix="model."), "krea"),
        (Signs(WAN_14B, prefix="generator.model."), "streamdiffusionv2"),
        (Signs(WAN_1_3B, prefix="generator.model."), "streamdiffusionv2"),
        (Signs(WAN_1_3B, prefix="generator.model.", has_loras=True), "longlive"),
        (Signs(WAN_1_3B, prefix="generator_ema.model.", others=("critic.",)), "self-forcing"),
        (Signs(WAN_1_3B, has_loras=True), "wan-few-step"),
        (Signs(WAN_1_3B, name="wan2.1_t2v_1.3B.safetensors", has_loras=True), "wan-few-step"),
        (Signs(WAN_5B), "longlive-2"),
        (Signs(SMALL_RTR), "rtr"),
        (Signs(WAN_1_3B), "self-forcing"),
    ],
)
def test_without_a_telling_name_the_contents_decide(signs, family):
    assert family_of(signs).name == family


def test_a_recipe_is_chosen_by_name_and_changed_field_by_field(wan, vae, save):
    file = save(wan.state_dict(), "mystery.safetensors")
    files = file, vae(16)
    assert Stylizer.load(*files, device="cpu", name="krea").recipe.commit == "recompute"
    changed = Stylizer.load(*files, device="cpu", name="longlive", window=3).recipe
    assert (changed.anchor, changed.window, changed.switch) == (3, 3, "recompute")
    with pytest.raises(StyleError, match=r"no recipe 'crea'.*krea"):
        Stylizer.load(*files, device="cpu", name="crea")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "rtr"}, "no channels for a source"),
        ({"strength": 1}, "choose a strength below 1"),
        ({"buffer": 4, "window": 12}, "24 latent frames seen at once"),
        ({"buffer": 3}, "divides its 4 steps"),
        ({"panes": [2, 8, 8]}, "division of the 3 latent frames"),
    ],
)
def test_a_recipe_that_a_checkpoint_cannot_follow_is_refused_before_weights_are_read(
    fields, message, wan, vae, save, monkeypatch
):
    files = save(wan.state_dict(), "self_forcing.safetensors"), vae(16)
    monkeypatch.setattr("rtr_core.weights.load.filled", lambda *_: pytest.fail("weights are read"))
    with pytest.raises(StyleError, match=message):
        Stylizer.load(*files, device="cpu", **fields)


def test_every_family_says_where_its_numbers_come_from():
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names) and all(len(family.cites) > 40 for family in FAMILIES)
