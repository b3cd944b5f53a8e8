"""What a file holds in fp8 stays as it is, what it holds wider is narrowed while it is read."""

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.model.fp8 import in_fp8, matrices, narrow_rows
from rtr_core.model.offload import HostBlocks
from rtr_core.weights.load import load_transformer
from tests.weights.test_quantized import quantized

FP8 = torch.float8_e4m3fn


def layers_of(model):
    return {name: model.get_submodule(name) for name in matrices(transformer_like(model))}


def transformer_like(model):
    """A plain one of the same shape, to ask which layers there are to narrow."""
    with torch.device("meta"):
        return type(model)(model.config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_wide_file_is_narrowed_by_rows(transformer, save, dtype):
    loaded = load_transformer(save(transformer.state_dict()), dtype=dtype, weights="fp8")
    for name, layer in layers_of(loaded).items():
        weight, factor = narrow_rows(transformer.get_submodule(name).weight)
        assert torch.equal(layer.weight.float(), weight.float()), name
        assert torch.equal(layer.weight_scale, factor), name
        assert layer.bias.dtype == dtype
    assert loaded.head.head.weight.dtype == dtype


@pytest.mark.parametrize("stored", [FP8, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("scale_name", ["scale_weight", "weight_scale"])
def test_scaled_fp8_stays_to_the_bit_and_is_what_dequantizing_gives(
    transformer, save, stored, scale_name
):
    tensors, _ = quantized(transformer.state_dict(), stored, scale_name)
    file = save(tensors)
    for dtype in (torch.float32, torch.bfloat16):
        kept, wide = (load_transformer(file, dtype=dtype, weights=w) for w in ("fp8", None))
        for name, layer in layers_of(kept).items():
            assert layer.weight.dtype == stored
            assert torch.equal(layer.weight.float(), tensors[f"{name}.weight"].float())
            assert torch.equal(layer.widened(dtype), wide.get_submodule(name).weight), name


def test_plain_fp8_stays_to_the_bit(transformer, save):
    file = save({name: tensor.to(FP8) for name, tensor in transformer.state_dict().items()})
    kept, wide = (load_transformer(file, weights=w) for w in ("fp8", None))
    for name, layer in layers_of(kept).items():
        assert torch.equal(layer.widened(torch.float32), wide.get_submodule(name).weight)
        assert (layer.weight_scale == 1).all()


def test_what_was_loaded_in_fp8_can_be_saved_and_loaded_in_any_way(transformer, save):
    kept = load_transformer(save(transformer.state_dict()), weights="fp8")
    file = save(kept.state_dict())
    again, wide = (load_transformer(file, weights=w) for w in ("fp8", None))
    for name, tensor in kept.state_dict().items():
        assert torch.equal(again.state_dict()[name].float(), tensor.float()), name
    for name, layer in layers_of(kept).items():
        assert torch.equal(wide.get_submodule(name).weight, layer.widened(torch.float32))


def test_loading_in_fp8_is_narrowing_what_was_loaded(transformer, save):
    file = save(transformer.state_dict())
    loaded, narrowed = load_transformer(file, weights="fp8"), in_fp8(load_transformer(file))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor.float(), narrowed.state_dict()[name].float()), name


def test_blocks_stay_in_host_memory_where_that_is_asked_for(transformer, save):
    loaded = load_transformer(save(transformer.state_dict()), weights="fp8", offload=True)
    assert isinstance(loaded.blocks, HostBlocks)


def test_a_file_that_does_not_fit_and_nan_are_still_refused(transformer, save):
    state = dict(transformer.state_dict())
    name = "blocks.1.ffn.2.weight"
    with pytest.raises(WeightsError, match="1 missing"):
        load_transformer(save({n: t for n, t in state.items() if n != name}), weights="fp8")
    state[name] = state[name].clone()
    state[name][0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"blocks\.1\.ffn\.2\.weight"):
        load_transformer(save(state), weights="fp8")
