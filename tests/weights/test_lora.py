"""LoRA files: every naming is read as the same LoRA, and what does not fit is refused."""

import json
import math

import pytest
import torch

from rtr_core import untrained
from rtr_core.errors import WeightsError
from rtr_core.loras import LoraFile
from rtr_core.model.lora import under_loras
from rtr_core.weights import load
from rtr_core.weights.inspect import inspect
from rtr_core.weights.load import load_parts
from rtr_core.weights.lora import LoraNotWhole, Shelf, plan_lora

from ..loras import ALPHA, RANK, WRITERS, diffusers_name, merged_by_hand, random_halves, whole
from ..near import distance
from .conftest import SMALL, random_transformer

LIKE = torch.empty(0)
NEAR = 1e-5


def read(path, config=SMALL):
    return plan_lora(LoraFile.of(path), config).read(LIKE)


@pytest.fixture
def halves(wan):
    return random_halves(wan)


@pytest.fixture
def expected(wan, halves, run):
    return run(merged_by_hand(wan, (whole(halves), 0.8)))


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_every_naming_is_read_as_the_same_lora(writer, wan, halves, save, run, expected):
    tensors = writer.write(halves)
    lora = read(save(tensors, "klimt.safetensors"))
    assert str(lora) == f"klimt.safetensors: {len(tensors)} of {len(tensors)} keys matched"
    assert len(lora.changes) == len(halves) and not lora.unmatched
    assert distance(run(under_loras(wan, {lora: 0.8})), expected) < NEAR


def test_a_training_checkpoint_gives_its_generators_lora(wan, halves, save, run, expected):
    """As LongLive's: PEFT in a PyTorch file, with the judge's LoRA beside it."""
    judge = random_halves(wan, seed=9)
    content = {
        f"{who}_lora": WRITERS["PEFT"].write(those)
        for who, those in (("critic", judge), ("generator", halves))
    }
    lora = read(save(content | {"step": 700}, "lora.pt"))
    assert lora.keys == 2 * len(halves) and not lora.unmatched
    assert distance(run(under_loras(wan, {lora: 0.8})), expected) < NEAR


def test_two_loras_in_one_file_are_not_guessed_between(halves, save):
    two = {f"{who}.{key}": t for who in "ab" for key, t in WRITERS["bare"].write(halves).items()}
    with pytest.raises(WeightsError, match="several networks"):
        read(save(two))


@pytest.mark.parametrize(
    ("told", "scale"),
    [
        ({"lora_alpha": 8, "r": RANK}, 8 / RANK),
        ({"lora_alpha": 8, "r": RANK, "use_rslora": True}, 8 / math.sqrt(RANK)),
        ({"lora_alpha": 4, "alpha_pattern": {"ffn.0": 12}}, 12 / RANK),
        ({}, 1.0),
    ],
    ids=["alpha", "RS-LoRA", "alpha of a layer", "nothing said"],
)
@pytest.mark.parametrize("place", ["beside", "folder", "metadata"])
def test_peft_says_alpha_beside_its_tensors(told, scale, place, halves, save, tmp_path):
    name, metadata = "adapter_model.safetensors", None
    if place == "metadata":
        prefixed = {f"transformer.{key}": value for key, value in told.items()}
        name, metadata = "mine.safetensors", {"lora_adapter_metadata": json.dumps(prefixed)}
    else:
        (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    path = save(WRITERS["PEFT"].write(halves), name, metadata)
    lora = read(path.parent if place == "folder" else path)
    assert lora.changes["blocks.1.ffn.0.weight"].scale == pytest.approx(scale)


def test_a_strangers_adapter_config_in_a_folder_of_loras_is_not_believed(halves, save, tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 64}')
    lora = read(save(WRITERS["PEFT"].write(halves), "klimt.safetensors"))
    assert lora.changes["blocks.0.ffn.0.weight"].scale == 1.0


def test_whole_changes_of_weights_biases_norms_and_modulations_are_added(wan, save, run, rng):
    """As the few-step LoRAs carry them beside their thin matrices."""
    state = wan.state_dict()
    keys = {
        "patch_embedding.diff": "patch_embedding.weight",
        "patch_embedding.diff_b": "patch_embedding.bias",
        "blocks.0.self_attn.q.diff": "blocks.0.self_attn.q.weight",
        "blocks.0.self_attn.q.diff_b": "blocks.0.self_attn.q.bias",
        "blocks.1.self_attn.norm_k.diff": "blocks.1.self_attn.norm_k.weight",
        "blocks.1.norm3.diff": "blocks.1.norm3.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm3.bias",
        "blocks.0.diff_m": "blocks.0.modulation",
        "blocks.1.modulation.diff": "blocks.1.modulation",
        "head.diff_m": "head.modulation",
        "time_projection.1.diff_b": "time_projection.1.bias",
    }
    delta = {p: torch.randn(state[p].shape, generator=rng) * 0.1 for p in keys.values()}
    lora = read(save({f"diffusion_model.{k}": delta[p] for k, p in keys.items()}))
    assert lora.keys == len(keys) and not lora.unmatched
    merged = run(merged_by_hand(wan, (delta, -0.5)))
    assert distance(run(under_loras(wan, {lora: -0.5})), merged) < NEAR
    assert distance(merged, run(wan)) > 0.01


def test_diffusers_norms_are_the_norms_that_are_meant(wan, save, run, rng):
    """Its norm2 is our norm3."""
    change = torch.randn(SMALL.dim, generator=rng)
    halves = random_halves(wan)
    tensors = WRITERS["diffusers"].write(halves) | {"transformer.blocks.0.norm2.diff": change}
    merged = merged_by_hand(wan, (whole(halves) | {"blocks.0.norm3.weight": change}, 1.0))
    assert distance(run(under_loras(wan, {read(save(tensors)): 1.0})), run(merged)) < NEAR


def test_a_convolution_and_a_bias_of_the_upper_half_are_lora_as_well(wan, save, run, rng):
    down = torch.randn(RANK, SMALL.in_channels, 1, 2, 2, generator=rng) * 0.1
    up = torch.randn(SMALL.dim, RANK, 1, 1, 1, generator=rng)
    bias = torch.randn(SMALL.dim, generator=rng)
    tensors = {
        "patch_embedding.lora_down.weight": down,
        "patch_embedding.lora_up.weight": up,
        "patch_embedding.lora_up.bias": bias,
        "patch_embedding.alpha": torch.tensor(2.0),
    }
    product = torch.einsum("or,rithw->oithw", up[:, :, 0, 0, 0], down)
    delta = {"patch_embedding.weight": product / 2, "patch_embedding.bias": bias / 2}
    merged = run(merged_by_hand(wan, (delta, 1.0)))
    assert distance(run(under_loras(wan, {read(save(tensors)): 1.0})), merged) < NEAR


def test_keys_of_other_layers_are_counted_and_named(halves, save):
    tensors = WRITERS["ComfyUI, down and up"].write(halves)
    strange = {
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.ones(RANK, 128),
        "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": torch.ones(128, RANK),
        "diffusion_model.blocks.0.cross_attn.k_img.alpha": torch.tensor(ALPHA),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(4, 8),
        "something": torch.ones(1),
    }
    with pytest.warns(
        LoraNotWhole, match=rf"{len(tensors)} of {len(tensors) + 5} keys matched; .*k_img"
    ):
        lora = read(save(tensors | strange))
    assert set(lora.unmatched) == set(strange)


REFUSED = {
    "another width": (
        {"blocks.0.ffn.0.lora_A.weight": (4, 64), "blocks.0.ffn.0.lora_B.weight": (192, 4)},
        r"another model: 'blocks\.0\.ffn\.0\.weight' is \[192, 128\] here and \[192, 64\] there",
    ),
    "another model's layers": (
        {f"diffusion_model.double_blocks.0.img_attn.qkv.lora_{n}.weight": (4, 4) for n in "AB"},
        "None of its 2 keys .* made for a Flux transformer: diffusion_model.double_blocks",
    ),
    "more blocks only": (
        {f"blocks.7.ffn.0.lora_{n}.weight": (4, 4) for n in "AB"},
        "None of its 2 keys belongs to a layer of this model, it was made for another model",
    ),
    "LoHa": ({"blocks.0.ffn.0.hada_w1_a": (4, 4)}, "It is a LoHa .*hada_w1_a.* plain LoRA"),
    "LoKr": ({"lycoris_blocks_0_ffn_0.lokr_w1": (4, 4)}, "It is a LoKr"),
    "DoRA": ({"blocks.0.ffn.0.dora_scale": (4, 1)}, "It is a DoRA"),
    "half of one": ({"blocks.0.ffn.0.lora_A.weight": (4, 128)}, "not the other half"),
    "halves of two": (
        {"blocks.0.ffn.0.lora_A.weight": (4, 128), "blocks.0.ffn.0.lora_B.weight": (192, 8)},
        "do not go together",
    ),
    "no rank": (
        {"blocks.0.ffn.0.lora_A.weight": (0, 128), "blocks.0.ffn.0.lora_B.weight": (192, 0)},
        "do not go together",
    ),
    "no matrix": (
        {"blocks.0.ffn.0.lora_A.weight": (128,), "blocks.0.ffn.0.lora_B.weight": (192, 8)},
        "is a matrix",
    ),
    "two alphas": (
        {
            "blocks.0.ffn.0.lora_A.weight": (4, 128),
            "blocks.0.ffn.0.lora_B.weight": (192, 4),
            "blocks.0.ffn.0.alpha": (2,),
        },
        "not one finite number",
    ),
    "a checkpoint": ({"blocks.0.ffn.0.weight": (192, 128)}, "It is no LoRA; it seems to be"),
}


@pytest.mark.parametrize(("shapes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_that_names_the_file(shapes, message, save):
    path = save({key: torch.ones(shape) for key, shape in shapes.items()}, "klimt.safetensors")
    with pytest.raises(WeightsError, match=rf"klimt\.safetensors.*{message}") as refusal:
        plan_lora(LoraFile.of(path), SMALL)
    assert "\n" not in str(refusal.value)


def test_a_lora_with_nan_is_refused(halves, save):
    tensors = WRITERS["bare"].write(halves)
    tensors["blocks.0.ffn.0.lora_A.weight"][0, 0] = torch.nan
    with pytest.raises(WeightsError, match=r"model\.safetensors.*blocks\.0\.ffn\.0\.lora_A"):
        read(save(tensors))


def test_a_lora_for_another_model_is_refused_before_the_model_is_loaded(
    wan, halves, save, monkeypatch
):
    monkeypatch.setattr(load, "load_transformer", lambda *_, **__: pytest.fail("it was loaded"))
    vae = untrained.parts().vae.state_dict()
    files = [save(wan.state_dict(), "wan.safetensors"), save(vae, "vae.safetensors")]
    narrow = {k: t[:, :7] if "lora_A" in k else t for k, t in WRITERS["bare"].write(halves).items()}
    lora = LoraFile.of(save(narrow, "klimt.safetensors"))
    with pytest.raises(WeightsError, match=r"klimt.* made for another model"):
        load_parts(files, loras={lora: 1.0})


@pytest.mark.parametrize(("base", "recipe"), [("longlive", "longlive"), ("plain", "wan-few-step")])
def test_a_base_and_its_lora_are_loaded_as_what_they_are_together(
    base, recipe, wan, halves, save, run, expected
):
    """LongLive is a checkpoint of training and PEFT's LoRA; a few-step LoRA is for Wan itself."""
    state = wan.state_dict()
    if base == "longlive":
        model = save({"generator": {f"model.{name}": t for name, t in state.items()}}, "base.pt")
        lora = save({"generator_lora": WRITERS["PEFT"].write(halves)}, "lora.pt")
    else:
        model = save(state, "wan.safetensors")
        lora = save(WRITERS["ComfyUI, down and up"].write(halves), "fast.safetensors")
    files = [model, save(untrained.parts().vae.state_dict(), "vae.safetensors")]
    parts = load_parts(files, loras={LoraFile.of(lora): 0.8})
    assert parts.recipe is not None and parts.recipe.name == recipe
    assert distance(run(parts.transformer), expected) < NEAR


def test_a_shelf_reads_a_file_once_and_knows_a_changed_one(halves, save):
    path = save(WRITERS["bare"].write(halves), "klimt.safetensors")
    shelf, file = Shelf(SMALL), LoraFile.of(path)
    assert shelf.read(file, LIKE) is shelf.read(file, LIKE)
    other = save(WRITERS["bare"].write(random_halves(random_transformer(SMALL), 5)), path.name)
    changed = LoraFile.of(other)
    assert changed != file and shelf.read(changed, LIKE) is not shelf.read(file, LIKE)
    with pytest.raises(WeightsError, match=r"klimt.* was changed since"):
        Shelf(SMALL).read(file, LIKE)


def test_a_shelf_lets_go_of_what_was_used_longest_ago(halves, save):
    files = [LoraFile.of(save(WRITERS["bare"].write(halves), f"{n}.safetensors")) for n in "abc"]
    size = Shelf(SMALL).read(files[0], LIKE).nbytes
    shelf = Shelf(SMALL, most=2 * size)
    a, b, _ = (shelf.read(file, LIKE) for file in files)
    assert shelf.read(files[1], LIKE) is b
    assert shelf.read(files[0], LIKE) is not a


def test_inspect_says_who_wrote_a_lora_and_what_it_changes(halves, save):
    tensors = WRITERS["kohya and musubi"].write(halves)
    tensors |= {"lora_unet_blocks_0_norm3.diff": torch.zeros(SMALL.dim)}
    report = inspect(save(tensors, "klimt.safetensors"))
    assert report.is_sound
    said = str(report)
    assert f"LoRA: {len(halves) + 1} layers, {len(halves)} of rank {RANK}" in said
    assert "1 whole weight changes" in said and "names: kohya, prefix 'lora_unet_'" in said
    assert "LoKr" in str(bad := inspect(save({"blocks.0.lokr_w1": torch.ones(1)})))
    assert not bad.is_sound


def test_diffusers_names_are_told_back(halves):
    assert diffusers_name("blocks.1.cross_attn.o") == "blocks.1.attn2.to_out.0"
