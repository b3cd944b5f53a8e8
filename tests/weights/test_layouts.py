"""Every layout people have leads to the same tensors and the same output."""

import json

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.weights.load import load_transformer

DIFFUSERS = {  # canonical -> diffusers, written down again so that it can disagree with the room
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    ".modulation": ".scale_shift_table",
    ".ffn.0": ".ffn.net.0.proj",
    ".ffn.2": ".ffn.net.2",
    ".norm3": ".norm2",
}
ATTENTION = {
    ".self_attn.": ".attn1.",
    ".cross_attn.": ".attn2.",
    ".q.": ".to_q.",
    ".k.": ".to_k.",
    ".v.": ".to_v.",
    ".o.": ".to_out.0.",
}


def replaced(name, table):
    for ours, theirs in table.items():
        name = name.replace(ours, theirs)
    return name


def renamed(rename):
    return lambda state: {rename(name): tensor for name, tensor in state.items()}


def prefixed(prefix):
    return renamed(lambda name: prefix + name)


def fragmented(state):
    """As FSDP, activation checkpointing and torch.compile leave names behind."""

    def rename(name):
        name = name.replace("blocks.", "blocks._fsdp_wrapped_module.", 1)
        return "_orig_mod.module." + name.replace(".ffn.", "._checkpoint_wrapped_module.ffn.")

    return renamed(rename)(state)


FLAT = {
    "original names": dict,
    "model.": prefixed("model."),
    "model.diffusion_model.": prefixed("model.diffusion_model."),
    "diffusion_model.": prefixed("diffusion_model."),
    "net.": prefixed("net."),
    "fragments": fragmented,
    "diffusers": renamed(lambda name: replaced(name, DIFFUSERS | ATTENTION)),
    "early diffusers": renamed(lambda name: replaced(name, DIFFUSERS)),
    "diffusers below a prefix": renamed(
        lambda name: "transformer." + replaced(name, DIFFUSERS | ATTENTION)
    ),
}
NESTED = {
    "generator": lambda state: {"generator": prefixed("model.")(state), "step": 600},
    "generator and critic": lambda state: {
        "generator": prefixed("model.")(state),
        "critic": {f"model.{name}": torch.zeros_like(t) for name, t in state.items()},
    },
    "generator_ema with fragments": lambda state: {
        "generator_ema": prefixed("model.")(fragmented(state))
    },
    "model": lambda state: {"model": state},
    "state_dict": lambda state: {"state_dict": prefixed("model.")(state), "epoch": 3},
    "module": lambda state: {"module": state, "optimizer": {"state": {0: torch.zeros(3)}}},
    "parameters": lambda state: {k: torch.nn.Parameter(v) for k, v in state.items()},
}


def assert_same(loaded, transformer, run):
    state = loaded.state_dict()
    for name, tensor in transformer.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert torch.equal(run(loaded), run(transformer))


@pytest.mark.parametrize("layout", FLAT)
def test_a_safetensors_layout_loads_as_the_same_model(layout, transformer, run, save):
    file = save(FLAT[layout](transformer.state_dict()))
    assert_same(load_transformer(file), transformer, run)


@pytest.mark.parametrize("layout", NESTED)
def test_a_nested_checkpoint_loads_as_the_same_model(layout, transformer, run, save):
    file = save(NESTED[layout](transformer.state_dict()), "model.pt")
    assert_same(load_transformer(file), transformer, run)


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin"])
def test_the_suffix_of_a_pytorch_file_does_not_matter(suffix, transformer, run, save):
    file = save(transformer.state_dict(), "model" + suffix)
    assert_same(load_transformer(file), transformer, run)


def test_a_checkpoint_from_before_zip_files_loads(transformer, run, tmp_path):
    file = tmp_path / "old.pt"
    torch.save(transformer.state_dict(), file, _use_new_zipfile_serialization=False)
    assert_same(load_transformer(file), transformer, run)


def test_a_model_without_source_and_adapter_loads(wan, run, save):
    assert_same(load_transformer(save(wan.state_dict())), wan, run)


def test_shards_of_a_folder_are_one_model(transformer, run, save, tmp_path):
    state = transformer.state_dict()
    names = sorted(state)
    halves = {"a-1-of-2.safetensors": names[::2], "a-2-of-2.safetensors": names[1::2]}
    for shard, inside in halves.items():
        save({name: state[name] for name in inside}, shard)
    index = tmp_path / "a.safetensors.index.json"
    shard_of = {name: shard for shard, inside in halves.items() for name in inside}
    index.write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    assert_same(load_transformer(tmp_path), transformer, run)
    assert_same(load_transformer(index), transformer, run)


@pytest.mark.parametrize(("ema", "expected"), [(None, 2.0), (True, 2.0), (False, 1.0)])
def test_the_averaged_weights_are_taken_unless_told_otherwise(ema, expected, transformer, save):
    state = transformer.state_dict()
    twice = {
        "generator": {f"model.{name}": torch.full_like(t, 1.0) for name, t in state.items()},
        "generator_ema": {f"model.{name}": torch.full_like(t, 2.0) for name, t in state.items()},
    }
    loaded = load_transformer(save(twice, "both.pt"), ema=ema)
    assert {tensor.unique().item() for tensor in loaded.state_dict().values()} == {expected}


def test_asking_for_averaged_weights_that_are_not_there_is_refused(transformer, save):
    file = save({"generator": transformer.state_dict()}, "last.pt")
    with pytest.raises(WeightsError, match=r"last\.pt.*No averaged"):
        load_transformer(file, ema=True)
    file = save({"generator_ema": transformer.state_dict()}, "averaged.pt")
    with pytest.raises(WeightsError, match=r"averaged\.pt.*Only averaged"):
        load_transformer(file, ema=False)


def test_two_networks_of_equal_rank_are_refused(transformer, save):
    state = transformer.state_dict()
    low = {name: tensor.clone() for name, tensor in state.items()}
    file = save(prefixed("high.")(state) | prefixed("low.")(low))
    with pytest.raises(WeightsError, match=r"model\.safetensors.*'high\.', 'low\.'"):
        load_transformer(file)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_arrive_in_the_dtype_asked_for(dtype, transformer, save):
    loaded = load_transformer(save(transformer.state_dict()), dtype=dtype)
    for name, tensor in transformer.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype))


def test_a_config_in_the_file_decides_what_shapes_do_not_tell(transformer, save):
    config = json.dumps({"num_heads": 4, "text_len": 77, "dim": 128})
    file = save(transformer.state_dict(), metadata={"config": config})
    assert load_transformer(file).config.heads == 4
    assert load_transformer(file).config.text_rows == 77
    assert load_transformer(file, heads=2).config.heads == 2


def test_a_host_gives_the_layers(transformer, run, save):
    class Host:
        Linear = type("HostLinear", (torch.nn.Linear,), {})
        LayerNorm, RMSNorm, Conv3d = torch.nn.LayerNorm, torch.nn.RMSNorm, torch.nn.Conv3d

    loaded = load_transformer(save(transformer.state_dict()), operations=Host)
    assert isinstance(loaded.head.head, Host.Linear)
    assert_same(loaded, transformer, run)


def test_a_changed_file_does_not_change_what_was_loaded_from_it(transformer, run, save):
    file = save(transformer.state_dict())
    loaded = load_transformer(file)
    with file.open("r+b") as opened:
        opened.write(bytes(file.stat().st_size))
    assert_same(loaded, transformer, run)
