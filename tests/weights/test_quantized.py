"""Scaled fp8 files, old and new, are widened to what their numbers stand for."""

import json

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.weights.inspect import inspect
from rtr_core.weights.load import load_transformer

FORMATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


def quantized(state, dtype, scale_name):
    """Every matrix in fp8 with a scale that fills its range, and what that stands for."""
    stored, reference = {}, {}
    for name, tensor in state.items():
        if not name.endswith(".weight") or tensor.ndim != 2:
            stored[name] = reference[name] = tensor
            continue
        scale = tensor.abs().max() / torch.finfo(dtype).max
        stored[name] = (tensor / scale).to(dtype)
        stored[name.removesuffix("weight") + scale_name] = scale
        reference[name] = stored[name].float() * scale
    return stored, reference


def assert_loads_as(reference, file, dtype=torch.float32):
    state = load_transformer(file, dtype=dtype).state_dict()
    assert set(state) == set(reference)
    for name, tensor in reference.items():
        assert torch.equal(state[name], tensor.to(dtype)), name


@pytest.mark.parametrize("dtype", FORMATS.values(), ids=str)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_the_older_format_is_widened(prefix, dtype, transformer, save):
    stored, reference = quantized(transformer.state_dict(), dtype, "scale_weight")
    stored["scaled_fp8"] = torch.empty(0, dtype=dtype)
    for name in [name for name in stored if name.endswith(".scale_weight")]:
        stored[name.replace("scale_weight", "scale_input")] = torch.ones(1)
    file = save({prefix + name: tensor for name, tensor in stored.items()})
    assert_loads_as(reference, file)
    assert_loads_as(reference, file, torch.bfloat16)


@pytest.mark.parametrize("name", FORMATS)
def test_the_newer_format_is_widened(name, transformer, save):
    stored, reference = quantized(transformer.state_dict(), FORMATS[name], "weight_scale")
    note = torch.tensor(list(json.dumps({"format": name}).encode()), dtype=torch.uint8)
    for layer in [key for key in stored if key.endswith(".weight_scale")]:
        stored[layer.replace("weight_scale", "comfy_quant")] = note.clone()
        stored[layer.replace("weight_scale", "input_scale")] = torch.ones(())
    file = save(stored)
    assert_loads_as(reference, file)
    report = inspect(file)
    assert report.is_sound
    assert any("fp8" in hint for hint in report.hints)


def test_a_scale_per_row_is_applied_to_rows(transformer, save):
    state = dict(transformer.state_dict())
    name = "blocks.0.ffn.0.weight"
    rows = state[name].abs().amax(1) / 448
    stored = state | {name: (state[name] / rows[:, None]).to(torch.float8_e4m3fn)}
    expected = stored[name].float() * rows[:, None]
    file = save(stored | {"blocks.0.ffn.0.weight_scale": rows})
    assert torch.equal(load_transformer(file).state_dict()[name], expected)


def test_fp8_without_scales_is_cast(transformer, save):
    state = {name: t.to(torch.float8_e4m3fn) for name, t in transformer.state_dict().items()}
    assert_loads_as({name: tensor.float() for name, tensor in state.items()}, save(state))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_other_quantizations_are_refused_by_name(dtype, transformer, save):
    state = dict(transformer.state_dict())
    state["blocks.0.ffn.0.weight"] = state["blocks.0.ffn.0.weight"].to(dtype)
    file = save(state)
    with pytest.raises(WeightsError, match=r"model\.safetensors.*blocks\.0\.ffn\.0\.weight"):
        load_transformer(file)
    assert "quantized" in str(inspect(file))


def test_a_scale_that_fits_no_row_is_refused(transformer, save):
    state = dict(transformer.state_dict()) | {"blocks.0.ffn.0.scale_weight": torch.ones(7)}
    with pytest.raises(WeightsError, match=r"model\.safetensors.*scale of 'blocks\.0\.ffn\.0"):
        load_transformer(save(state))


def test_nan_in_fp8_is_found(transformer, save):
    state = {name: t.to(torch.float8_e5m2) for name, t in transformer.state_dict().items()}
    state["head.head.bias"].view(torch.uint8)[0] = 0x7F
    file = save(state)
    assert inspect(file, values=True).not_finite == {"head.head.bias": 1}
    with pytest.raises(WeightsError, match=r"head\.head\.bias"):
        load_transformer(file)
