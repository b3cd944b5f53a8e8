"""A reference no one here wrote: LoRAs that PEFT and diffusers write, run and convert."""

import pytest
import torch
from diffusers.loaders import lora_conversion_utils as conversion
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from rtr_core.loras import LoraFile
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.lora import under_loras
from rtr_core.shapes import Size
from rtr_core.weights.load import load_transformer
from rtr_core.weights.lora import plan_lora
from tests.weights.theirs import small_wan

from ..loras import WRITERS, random_halves
from ..near import distance

TOLERANCE = 1e-5
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2", "proj_out"]


@pytest.fixture
def theirs():
    model = small_wan(layers=2)
    return model.eval().requires_grad_(False)


@pytest.fixture
def ours(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "model")
    return load_transformer(tmp_path / "model")


@pytest.fixture
def both():
    """What their model and ours say of the same latents and the same text."""
    rng = torch.Generator().manual_seed(5)
    x, text = torch.randn(1, 16, 3, 8, 12, generator=rng), torch.randn(1, 20, 32, generator=rng)

    def both(theirs, ours):
        memory = bidirectional(Size(4, 6), frames=3, context=ours.encode_context(text))
        with torch.no_grad():
            expected = theirs(x, torch.tensor([400.0]), text, return_dict=False)[0]
            return ours(x, torch.full((1, 3), 0.4), memory), expected

    return both


def trained(theirs, **config) -> None:
    """An adapter of theirs as a training leaves it: not at nothing."""
    theirs.add_adapter(LoraConfig(r=4, target_modules=TARGETS, **config), "klimt")
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            if "lora_B" in name or "lora_A" in name:
                tensor.normal_(0, 0.1, generator=rng)


CONFIGS = {
    "alpha is the rank": {"lora_alpha": 4},
    "alpha of its own": {"lora_alpha": 10},
    "RS-LoRA": {"lora_alpha": 6, "use_rslora": True},
    "biases of the upper halves": {"lora_alpha": 8, "lora_bias": True},
    "alphas of layers": {"lora_alpha": 4, "alpha_pattern": {"ffn.net.2": 12}},
}


@pytest.mark.filterwarnings("ignore:.*have invalid shape")  # PEFT takes biases for cut matrices
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_lora_that_diffusers_saved_does_here_what_it_does_there(
    config, theirs, ours, both, tmp_path
):
    bare, _ = both(theirs, ours)
    trained(theirs, **config)
    theirs.save_lora_adapter(tmp_path, "klimt")
    (file,) = tmp_path.glob("*.safetensors")
    lora = plan_lora(LoraFile.of(file), ours.config).read(torch.empty(0))
    assert lora.keys and not lora.unmatched
    found, expected = both(theirs, under_loras(ours, {lora: 1.0}))
    assert distance(found, expected) < TOLERANCE < 0.01 < distance(bare, expected)


def test_a_strength_is_diffusers_strength(theirs, ours, both, tmp_path):
    trained(theirs, lora_alpha=10)
    theirs.save_lora_adapter(tmp_path, "klimt")
    theirs.set_adapters(["klimt"], weights=[-0.6])
    (file,) = tmp_path.glob("*.safetensors")
    lora = plan_lora(LoraFile.of(file), ours.config).read(torch.empty(0))
    found, expected = both(theirs, under_loras(ours, {lora: -0.6}))
    assert distance(found, expected) < TOLERANCE


def test_pefts_own_names_are_read(theirs, ours, both, save):
    trained(theirs, lora_alpha=4)
    raw = get_peft_model_state_dict(theirs, adapter_name="klimt")
    path = save({"generator_lora": {f"base_model.model.{k}": t for k, t in raw.items()}}, "lora.pt")
    lora = plan_lora(LoraFile.of(path), ours.config).read(torch.empty(0))
    assert lora.keys == len(raw) and not lora.unmatched
    found, expected = both(theirs, under_loras(ours, {lora: 1.0}))
    assert distance(found, expected) < TOLERANCE


CONVERTERS = {
    "ComfyUI, A and B": conversion._convert_non_diffusers_wan_lora_to_diffusers,
    "ComfyUI, down and up": conversion._convert_non_diffusers_wan_lora_to_diffusers,
    "kohya and musubi": conversion._convert_musubi_wan_lora_to_diffusers,
}


@pytest.mark.parametrize(("naming", "convert"), CONVERTERS.items(), ids=CONVERTERS)
def test_namings_that_diffusers_converts_mean_the_same_here(
    naming, convert, theirs, ours, both, save
):
    halves = {n: pair for n, pair in random_halves(ours).items() if n.startswith("blocks.")}
    tensors = WRITERS[naming].write(halves)
    path = save(tensors)  # before the conversion writes into them
    theirs.load_lora_adapter(convert(dict(tensors)), prefix="transformer", adapter_name="klimt")
    lora = plan_lora(LoraFile.of(path), ours.config).read(torch.empty(0))
    found, expected = both(theirs, under_loras(ours, {lora: 1.0}))
    assert distance(found, expected) < TOLERANCE
