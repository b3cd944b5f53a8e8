"""umT5 against transformers, in every layout its weights come in."""

import io
import time
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from rtr_core.errors import WeightsError
from rtr_core.model.text import PromptCut
from rtr_core.model.umt5 import NarrowLinear, infer, load
from rtr_core.weights.load import load_text
from rtr_core.weights.text_keys import canonical

ROWS = 48
FILE = Path("umt5_small.safetensors")
PROMPTS = [
    "a watercolor painting of a quiet village by the sea",
    "oil painting, thick brush strokes, warm evening light",
    "a cartoon cat runs over the roof, flat colors, black outlines",
    "ink drawing on old paper, fine lines, no colors",
    "anime style, bright sky, soft clouds, detailed background",
]
LAYERS = {  # a layer of block 1: its name in transformers, its name in Wan's own file
    "shared": "token_embedding",
    "encoder.final_layer_norm": "norm",
    "encoder.block.1.layer.0.layer_norm": "blocks.1.norm1",
    "encoder.block.1.layer.0.SelfAttention.q": "blocks.1.attn.q",
    "encoder.block.1.layer.0.SelfAttention.k": "blocks.1.attn.k",
    "encoder.block.1.layer.0.SelfAttention.v": "blocks.1.attn.v",
    "encoder.block.1.layer.0.SelfAttention.o": "blocks.1.attn.o",
    "encoder.block.1.layer.0.SelfAttention.relative_attention_bias": (
        "blocks.1.pos_embedding.embedding"
    ),
    "encoder.block.1.layer.1.layer_norm": "blocks.1.norm2",
    "encoder.block.1.layer.1.DenseReluDense.wi_0": "blocks.1.ffn.gate.0",
    "encoder.block.1.layer.1.DenseReluDense.wi_1": "blocks.1.ffn.fc1",
    "encoder.block.1.layer.1.DenseReluDense.wo": "blocks.1.ffn.fc2",
}


@pytest.fixture(scope="module")
def spiece():
    """A sentencepiece model with umT5's special tokens, trained on the prompts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS * 3),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def theirs(spiece):
    """T5's tokenizer of transformers with the same pieces."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=spiece)
    scores = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    return T5Tokenizer(vocab=scores, extra_ids=0)


@pytest.fixture(scope="module")
def reference(theirs):
    """A small random umT5 as transformers makes it."""
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=len(theirs) + 6, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
    )
    return UMT5EncoderModel(config).eval()


@pytest.fixture(scope="module")
def tensors(reference, spiece):
    """The reference as a file in canonical names, tokenizer inside."""
    weights = reference.state_dict()
    del weights["encoder.embed_tokens.weight"]
    return {**weights, "spiece_model": torch.frombuffer(bytearray(spiece), dtype=torch.uint8)}


@pytest.fixture
def encoder(tensors):
    return load(tensors, FILE, rows=ROWS, dtype=torch.float32)


def wan_named(tensors):
    """The same tensors, of block 0 and block 1, under the names of Wan's own file."""
    layers = {
        hf.replace("block.1", f"block.{block}"): wan.replace("blocks.1", f"blocks.{block}")
        for hf, wan in LAYERS.items()
        for block in "01"
    }
    renamed = {}
    for name, tensor in tensors.items():
        layer, dot, leaf = name.rpartition(".")
        renamed[f"{layers.get(layer, layer)}{dot}{leaf}"] = tensor
    return renamed


def is_linear(name):
    return "SelfAttention" in name or "DenseReluDense" in name


def scaled_fp8(tensors):
    """As ComfyUI stores it: linear weights in fp8, a scale for each, a marker."""
    quantized = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        quantized[name] = tensor
        if is_linear(name) and "bias" not in name:
            scale = tensor.abs().max() / 448
            quantized[name] = (tensor / scale).to(torch.float8_e4m3fn)
            quantized[name.replace("weight", "scale_weight")] = scale
    return quantized


def encode_all(encoder):
    return torch.stack([encoder.encode(prompt) for prompt in PROMPTS])


@torch.no_grad()
def test_it_equals_transformers_on_padded_masked_text(encoder, reference, theirs):
    for prompt in PROMPTS:
        padded = theirs(prompt, padding="max_length", max_length=ROWS, return_tensors="pt")
        expected = reference(**padded).last_hidden_state * padded.attention_mask[..., None]
        torch.testing.assert_close(encoder.encode(prompt), expected[0])


def test_rows_past_the_text_are_exact_zeros(encoder):
    context = encoder.encode("a cat")
    length = len(encoder.tokens("a cat"))
    assert context.shape == (encoder.rows, encoder.dim) == (ROWS, 32)
    assert context[:length].any(dim=1).all()
    assert not context[length:].any()


def test_an_empty_prompt_is_one_row(encoder):
    assert encoder.encode(" ").any(dim=1).tolist() == [True] + [False] * (ROWS - 1)


def test_the_original_names_are_the_same_encoder(encoder, tensors):
    original = canonical(wan_named(tensors))
    assert set(wan_named(tensors)) & set(tensors) == {"spiece_model"}
    assert original.keys() == tensors.keys()
    assert torch.equal(
        encode_all(load(original, FILE, rows=ROWS, dtype=torch.float32)), encode_all(encoder)
    )


@pytest.mark.parametrize("prefix", ["text_encoders.umt5xxl.transformer.", "model.", ""])
@pytest.mark.parametrize("layout", [dict, wan_named])
def test_names_are_found_behind_any_prefix(tensors, layout, prefix):
    inside = {f"{prefix}{name}": tensor for name, tensor in layout(tensors).items()}
    others = {"diffusion_model.blocks.0.self_attn.q.weight": torch.ones(2), "decoder.x": None}
    assert canonical({**inside, **others}).keys() == tensors.keys()


def test_the_second_name_of_the_embedding_is_understood(tensors):
    renamed = {name.replace("shared", "encoder.embed_tokens"): t for name, t in tensors.items()}
    assert canonical(renamed).keys() == tensors.keys()


@pytest.mark.parametrize("scale_name", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("layout", [dict, wan_named])
def test_scaled_fp8_equals_its_widened_weights(tensors, layout, scale_name):
    stored = canonical(scaled_fp8(tensors))
    widened = {
        name: tensor.float() * stored.get(name.replace("weight", "scale_weight"), 1.0)
        for name, tensor in stored.items()
        if "scale" not in name and name != "spiece_model"
    }
    widened["spiece_model"] = tensors["spiece_model"]
    file = {
        name.replace("scale_weight", scale_name): tensor
        for name, tensor in layout(scaled_fp8(tensors)).items()
    }
    ours = load(canonical(file), FILE, rows=ROWS, dtype=torch.float32)
    expected = load(widened, FILE, rows=ROWS, dtype=torch.float32)
    assert torch.equal(encode_all(ours), encode_all(expected))


def test_scaled_fp8_is_close_to_what_it_was_made_from_and_stays_small(encoder, tensors):
    ours = load(canonical(scaled_fp8(tensors)), FILE, rows=ROWS, dtype=torch.float32)
    exact = encode_all(encoder)
    assert (encode_all(ours) - exact).norm() < 0.1 * exact.norm()
    layers = [layer for layer in ours.modules() if isinstance(layer, NarrowLinear)]
    assert len(layers) == 2 * 7
    assert all(layer.stored.dtype == torch.float8_e4m3fn for layer in layers)
    assert not any(isinstance(layer, nn.Linear) for layer in ours.modules())


def test_fp8_without_scales_loads(tensors):
    file = {
        name: tensor.to(torch.float8_e5m2) if is_linear(name) else tensor
        for name, tensor in wan_named(tensors).items()
    }
    assert load(canonical(file), FILE, rows=ROWS).encode("a cat").isfinite().all()


def test_weights_are_taken_not_copied(encoder, tensors):
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    assert encoder.transformer.get_parameter(name).data_ptr() == tensors[name].data_ptr()
    embedding = encoder.transformer.encoder.embed_tokens.weight
    assert embedding.data_ptr() == tensors["shared.weight"].data_ptr()


def test_bf16_is_the_default_and_close(encoder, tensors):
    context = encode_all(load(tensors, FILE, rows=ROWS))
    assert context.dtype == torch.bfloat16
    exact = encode_all(encoder)
    assert (context - exact).norm() < 0.03 * exact.norm()


def test_weights_in_bf16_stay_so_where_it_computes_in_fp32(tensors):
    stored = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}
    widened = {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
    ours, wide = (load(w, FILE, rows=ROWS, dtype=torch.float32) for w in (stored, widened))
    assert torch.equal(encode_all(ours), encode_all(wide))
    kept = {name: t for name, t in ours.transformer.state_dict().items() if t.numel() > 500}
    assert kept and {t.dtype for t in kept.values()} == {torch.bfloat16}
    embedding = ours.transformer.encoder.embed_tokens.weight
    assert embedding.data_ptr() == stored["shared.weight"].data_ptr()


@pytest.mark.parametrize(
    ("can", "dtype"), [(True, torch.bfloat16), (False, torch.float32)], ids=["bf16", "none"]
)
def test_a_device_that_does_not_multiply_in_bf16_is_given_fp32(
    tensors, tmp_path, monkeypatch, can, dtype
):
    monkeypatch.setattr("rtr_core.weights.load.has_bf16", lambda device: can)
    save_file(tensors, tmp_path / "umt5.safetensors")
    assert load_text(tmp_path / "umt5.safetensors").encode("a cat").dtype == dtype


def test_the_size_is_read_from_shapes():
    block = "encoder.block.{}.layer"
    shapes = {"shared": (256384, 4096)}
    for layer in range(24):
        shapes[block.format(layer) + ".0.SelfAttention.relative_attention_bias"] = (32, 64)
        shapes[block.format(layer) + ".0.SelfAttention.q"] = (4096, 4096)
        shapes[block.format(layer) + ".1.DenseReluDense.wi_0"] = (10240, 4096)
    xxl = infer({f"{k}.weight": torch.empty(s, device="meta") for k, s in shapes.items()}, FILE)
    assert (xxl.vocab_size, xxl.d_model, xxl.d_kv, xxl.d_ff) == (256384, 4096, 64, 10240)
    assert (xxl.num_layers, xxl.num_heads, xxl.relative_attention_num_buckets) == (24, 64, 32)
    assert xxl.dense_act_fn == "gelu_new" and xxl.is_gated_act


def test_token_ids_are_those_of_transformers(encoder, theirs):
    for prompt in [*PROMPTS, "A watercolor   cat, wörld!", ""]:
        assert encoder.tokens(prompt) == theirs(prompt).input_ids


def test_a_prompt_that_just_fits_is_not_cut(tensors):
    length = len(load(tensors, FILE).tokens(PROMPTS[0]))
    encoder = load(tensors, FILE, rows=length, dtype=torch.float32)
    assert encoder.encode(PROMPTS[0]).any(dim=1).all()


def test_one_token_more_is_cut_and_the_end_kept(tensors):
    whole = load(tensors, FILE).tokens(PROMPTS[0])
    shorter = load(tensors, FILE, rows=len(whole) - 1)
    kept = len(whole) - 2
    with pytest.warns(PromptCut, match=f"has {kept + 1} tokens.*first {kept} are kept") as caught:
        shorter.encode(PROMPTS[0])
    assert caught[0].filename == __file__
    with pytest.warns(PromptCut):
        assert shorter.tokens(PROMPTS[0]) == [*whole[:kept], 1]


def test_ten_thousand_words_are_quick(tensors):
    encoder = load(tensors, FILE)
    start = time.perf_counter()
    with pytest.warns(PromptCut):
        context = encoder.encode("watercolor village " * 5000)
    assert time.perf_counter() - start < 2
    assert context.shape == (512, 32) and context.any(dim=1).all()


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json"])
@pytest.mark.parametrize("place", ["next to the file", "in Wan's folder", "folder", "path"])
def test_the_tokenizer_may_lie_outside_the_file(tmp_path, tensors, spiece, theirs, name, place):
    folder = tmp_path / "google" / "umt5-xxl" if place == "in Wan's folder" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    json = theirs.backend_tokenizer.to_str().encode()
    (folder / name).write_bytes(json if name == "tokenizer.json" else spiece)
    given = {"folder": folder, "path": folder / name}.get(place)
    weights = {key: tensor for key, tensor in tensors.items() if key != "spiece_model"}
    file = FILE if given else tmp_path / FILE
    assert load(weights, file, tokenizer=given).tokens(PROMPTS[1]) == theirs(PROMPTS[1]).input_ids


def test_a_missing_tokenizer_says_where_to_put_it(tmp_path, tensors):
    weights = {key: tensor for key, tensor in tensors.items() if key != "spiece_model"}
    expected = r"(?s)umt5_small\.safetensors holds no tokenizer.*spiece\.model.*`tokenizer` arg"
    with pytest.raises(WeightsError, match=expected):
        load(weights, tmp_path / FILE)
    with pytest.raises(WeightsError, match="nowhere"):
        load(tensors, FILE, tokenizer=tmp_path / "nowhere")


def test_the_tokenizer_of_another_model_is_refused(tensors):
    larger = {**tensors, "shared.weight": torch.zeros(1000, 32)}
    with pytest.raises(WeightsError, match=r"knows .* tokens, the weights know 1000"):
        load(larger, FILE)


@pytest.mark.parametrize("damage", [b"{broken", b"broken", b""])
def test_a_damaged_tokenizer_is_named(tensors, damage):
    piece = torch.frombuffer(bytearray(damage), dtype=torch.uint8) if damage else torch.empty(0)
    with pytest.raises(WeightsError, match=r"tokenizer in umt5_small.safetensors cannot be read"):
        load({**tensors, "spiece_model": piece}, FILE)


def test_another_kind_of_file_is_refused():
    with pytest.raises(WeightsError, match=r"vae\.pth holds no umT5"):
        canonical({"decoder.conv1.weight": torch.ones(1)}, "vae.pth")


def test_a_t5_with_one_relative_bias_for_all_layers_is_refused(tensors):
    bias = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    weights = {key: tensor for key, tensor in tensors.items() if key != bias}
    with pytest.raises(WeightsError, match=r"(?s)umt5_small.*block\.1.*relative_attention_bias"):
        load(weights, FILE)


@pytest.mark.parametrize("damage", [torch.ones(32, 32).to(torch.int8), torch.ones(7, 32)])
def test_weights_that_do_not_fit_are_refused(tensors, damage):
    weights = {**tensors, "encoder.block.1.layer.0.SelfAttention.k.weight": damage}
    with pytest.raises(
        WeightsError, match=r"(?s)umt5_small\.safetensors cannot be loaded.*SelfAtt"
    ):
        load(weights, FILE)


def test_the_fingerprint_follows_weights_scales_rows_and_tokenizer(tensors):
    file = canonical(scaled_fp8(tensors))
    scale = "encoder.block.1.layer.1.DenseReluDense.wo.scale_weight"
    prints = [
        load(tensors, FILE).fingerprint(),
        load(tensors, FILE, rows=ROWS).fingerprint(),
        load(tensors, FILE, dtype=torch.float32).fingerprint(),
        load(file, FILE).fingerprint(),
        load({**file, scale: 2 * file[scale]}, FILE).fingerprint(),
    ]
    assert len(set(prints)) == 5
    assert load(canonical(wan_named(tensors)), FILE).fingerprint() == prints[0]
