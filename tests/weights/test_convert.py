"""`rtr convert` makes one clean file of what people have."""

import io
from dataclasses import replace

import pytest
import sentencepiece
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel

from rtr_core.errors import WeightsError
from rtr_core.families import RTR, SELF_FORCING
from rtr_core.vae.wan import WanVae
from rtr_core.weights.bundle import read_about
from rtr_core.weights.convert import convert
from rtr_core.weights.load import load_parts, load_text, load_transformer, load_vae
from rtr_core.weights.read import open_weights


@pytest.fixture
def checkpoint(transformer, save):
    """A training checkpoint as Self-Forcing writes it."""
    state = {f"model.{name}": tensor for name, tensor in transformer.state_dict().items()}
    last = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    return save({"generator": last, "generator_ema": state, "critic": last}, "trained.pt")


@pytest.fixture
def vae_folder(tmp_path):
    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=4, num_res_blocks=1).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def umt5(tmp_path):
    """A small umT5 in scaled fp8 with its tokenizer inside, named as ComfyUI's file."""
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ink wash painting of a village by the sea"] * 9),
        model_writer=pieces,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    torch.manual_seed(0)
    size = len(sentencepiece.SentencePieceProcessor(model_proto=pieces.getvalue()))
    config = UMT5Config(vocab_size=size + 2, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    state = dict(UMT5EncoderModel(config).state_dict())
    state.pop("encoder.embed_tokens.weight")
    for name in [name for name in state if ".SelfAttention.q." in name]:
        state[name] = state[name].to(torch.float8_e4m3fn)
        state[name.replace(".weight", ".scale_weight")] = torch.tensor(0.3)
    state["spiece_model"] = torch.frombuffer(bytearray(pieces.getvalue()), dtype=torch.uint8)
    save_file(state, tmp_path / "umt5_fp8_scaled.safetensors")
    return tmp_path / "umt5_fp8_scaled.safetensors"


def test_a_training_checkpoint_becomes_a_clean_file(checkpoint, transformer, run, tmp_path):
    target = tmp_path / "clean.safetensors"
    report = convert(checkpoint, target, card={"from": "trained.pt"})
    assert report.is_sound and report.recipe == RTR and not report.others
    assert set(load_file(target)) == {f"transformer.{name}" for name in transformer.state_dict()}
    about = read_about(open_weights(target))
    assert about.recipe == RTR and about.card == {"from": "trained.pt"}
    assert torch.equal(run(load_transformer(target)), run(transformer))


def test_last_weights_recipe_and_dtype_can_be_chosen(checkpoint, tmp_path):
    recipe = SELF_FORCING.override(window=9)
    target = tmp_path / "last.safetensors"
    report = convert(
        [checkpoint], target, ema=False, recipe=recipe, dtype=torch.bfloat16, styles=("ink",)
    )
    assert report.dtypes == {"bfloat16": len(open_weights(target).tensors)}
    assert not any(tensor.any() for tensor in load_file(target).values())
    again = convert(target, tmp_path / "again.safetensors")
    assert again.recipe == recipe and again.about.styles == ("ink",)
    assert load_file(again.path).keys() == load_file(target).keys()


def test_files_of_any_layout_become_one_bundle(checkpoint, vae_folder, umt5, tmp_path):
    target = tmp_path / "bundle.safetensors"
    report = convert([checkpoint, vae_folder, umt5], target)
    assert [part.part.role for part in report.parts] == ["transformer", "vae", "text"]
    assert report.is_sound
    one, many = load_parts([target]), load_parts([checkpoint, vae_folder, umt5])
    assert isinstance(one.vae, WanVae) and one.recipe == RTR
    for role in ("transformer", "vae", "text"):
        ours, theirs = getattr(one, role).state_dict(), getattr(many, role).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name].float(), theirs[name].float()) for name in ours)
    assert torch.equal(one.text.encode("ink wash"), many.text.encode("ink wash"))
    assert one.text.encode("ink wash").any()


def test_the_tokenizer_is_found_beside_the_encoder_of_a_whole_checkpoint(umt5, save):
    state = {
        name if name == "spiece_model" else f"text_encoders.umt5xxl.transformer.{name}": tensor
        for name, tensor in load_file(umt5).items()
    }
    state["text_encoders.umt5xxl.spiece_model"] = state.pop("spiece_model")
    text, alone = load_text(save(state)), load_text(umt5)
    assert torch.equal(text.encode("ink wash"), alone.encode("ink wash"))


def test_a_dtype_leaves_scaled_text_weights_alone(umt5, tmp_path):
    report = convert(umt5, tmp_path / "text.safetensors", dtype=torch.float16)
    assert "fp8 e4m3" in report.dtypes


def test_parts_can_be_left_out(checkpoint, vae_folder, tmp_path):
    target = tmp_path / "some.safetensors"
    report = convert([checkpoint, vae_folder], target, parts=["vae"])
    assert [part.part.role for part in report.parts] == ["vae"]
    assert load_vae(target).config == replace(load_vae(vae_folder).config)
    with pytest.raises(WeightsError, match=r"other\.safetensors.*text"):
        convert([checkpoint], tmp_path / "other.safetensors", parts=["transformer", "text"])


def test_a_file_that_exists_is_not_overwritten_without_force(checkpoint, tmp_path):
    target = tmp_path / "mine.safetensors"
    target.write_text("precious")
    with pytest.raises(WeightsError, match=r"mine\.safetensors exists"):
        convert(checkpoint, target)
    assert target.read_text() == "precious"
    assert convert(checkpoint, target, force=True).is_sound
    assert convert(target, target, force=True, dtype=torch.float16).is_sound


def test_only_safetensors_are_written(checkpoint, tmp_path):
    with pytest.raises(WeightsError, match=r"mine\.pt must end in \.safetensors"):
        convert(checkpoint, tmp_path / "mine.pt")


def test_nan_stops_a_conversion_and_leaves_nothing(transformer, save, tmp_path):
    state = dict(transformer.state_dict()) | {"head.head.bias": torch.full((64,), float("nan"))}
    file = save(state, "source.safetensors")
    with pytest.raises(WeightsError, match=r"source\.safetensors.*head\.head\.bias"):
        convert(file, tmp_path / "target.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_model_that_would_not_load_is_not_converted(change, transformer, save, tmp_path):
    state = dict(transformer.state_dict())
    if change == "missing":
        del state["head.modulation"]
    else:
        state["head.more"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=rf"source\.safetensors.*1 {change}: head\.mo"):
        convert(save(state, "source.safetensors"), tmp_path / "target.safetensors")
    assert not (tmp_path / "target.safetensors").exists()


def test_a_foreign_file_is_not_converted(save, tmp_path):
    file = save({"joint_blocks.0.x_block.weight": torch.zeros(2)}, "sd3.safetensors")
    with pytest.raises(WeightsError, match=r"sd3\.safetensors.*Stable Diffusion 3"):
        convert(file, tmp_path / "target.safetensors")


def test_fp8_weights_are_widened_once(transformer, save, tmp_path):
    state = dict(transformer.state_dict())
    name = "blocks.0.ffn.0.weight"
    state[name] = state[name].to(torch.float8_e4m3fn)
    state["blocks.0.ffn.0.scale_weight"] = torch.tensor(2.0)
    source = save(state, "fp8.safetensors")
    report = convert(source, tmp_path / "wide.safetensors")
    assert report.dtypes == {"float32": len(state) - 2, "bfloat16": 1}
    wide, direct = load_transformer(report.path), load_transformer(source, dtype=torch.bfloat16)
    assert torch.equal(wide.state_dict()[name].bfloat16(), direct.state_dict()[name])
