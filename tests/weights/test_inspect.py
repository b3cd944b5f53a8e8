"""`rtr inspect` says what a file is without loading it."""

import json
import time
from dataclasses import replace

import pytest
import torch

from rtr_core import untrained
from rtr_core.families import RTR, SELF_FORCING
from rtr_core.model.config import WAN_14B
from rtr_core.vae.wan_config import WAN_2_1
from rtr_core.weights import lazy, read
from rtr_core.weights.bundle import About, write_bundle
from rtr_core.weights.fit import module_on_meta
from rtr_core.weights.inspect import inspect
from rtr_core.weights.write import header_bytes


def sparse(path, meta, metadata):
    """A file with a true header and a hole where the numbers would be."""
    names = list(meta)
    header = header_bytes(meta, names, metadata)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(tensor.nbytes for tensor in meta.values()))
    return path


def test_a_file_of_28_gb_is_inspected_at_once_and_never_read(tmp_path, monkeypatch):
    state = module_on_meta(WAN_14B).state_dict()
    meta = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    file = sparse(tmp_path / "wan_14b.safetensors", meta, {})
    assert file.stat().st_size > 28e9

    def refuse(*_):
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(lazy.LazyTensors, "__getitem__", refuse)
    monkeypatch.setattr(read, "safe_open", refuse)
    start = time.perf_counter()
    report = inspect(file)
    assert time.perf_counter() - start < 5
    assert report.is_sound
    assert report.parameters == sum(tensor.numel() for tensor in meta.values())
    assert report.parts[0].config == WAN_14B
    assert "14B" in str(report) and "bfloat16" in str(report)


def test_a_report_names_layout_config_and_recipe(transformer, wan, save):
    state = {f"model.{name}": tensor for name, tensor in transformer.state_dict().items()}
    report = inspect(save({"generator": state, "generator_ema": state}, "both.pt"))
    text = str(report)
    assert report.recipe == RTR
    assert report.others == len(state)
    for said in ("RTR transformer of 2 layers", "'generator_ema.model.'", "'generator.model.'"):
        assert said in text
    assert "dim 128" in text and "convert" in text
    assert inspect(save(wan.state_dict())).recipe == SELF_FORCING


def test_the_recipe_and_the_words_of_a_bundle_are_shown(tmp_path):
    parts = untrained.parts()
    path = tmp_path / "b.safetensors"
    about = About(recipe=untrained.RECIPE, styles=("ink wash",), card={"licence": "Apache-2.0"})
    write_bundle(path, {"transformer": parts.transformer.state_dict()}, about)
    report = inspect(path)
    assert report.recipe == untrained.RECIPE
    assert report.kind.is_bundle and report.is_sound
    assert "recipe stored in it" in str(report)
    assert "style: ink wash" in str(report) and "licence: Apache-2.0" in str(report)


def test_missing_and_unexpected_tensors_are_told(transformer, save):
    state = dict(transformer.state_dict())
    del state["blocks.0.norm3.bias"]
    report = inspect(save(state | {"blocks.0.more": torch.zeros(1)}))
    (part,) = report.parts
    assert part.fit.missing == ("blocks.0.norm3.bias",)
    assert part.fit.unexpected == ("blocks.0.more",)
    assert not report.is_sound
    assert "1 missing: blocks.0.norm3.bias" in str(report)


def test_a_foreign_file_gets_a_report_and_no_error(save):
    file = save({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)})
    report = inspect(file)
    assert "Flux" in str(report) and "cannot be used" in str(report)
    assert not report.is_sound


def test_a_model_that_does_not_fit_gets_a_report_and_no_error(transformer, save):
    state = dict(transformer.state_dict())
    state["patch_embedding.weight"] = torch.zeros(128, 36, 1, 2, 2)
    report = inspect(save(state))
    assert not report.is_sound
    assert "image-to-video" in str(report)


def test_an_autoencoder_gets_a_report(save):
    config = replace(WAN_2_1, dim=4, decoder_dim=4, depth=1)
    state = {n: torch.zeros(t.shape) for n, t in module_on_meta(config).state_dict().items()}
    report = inspect(save(state), values=True)
    assert report.is_sound and report.parts[0].config == config
    assert "values: finite" in str(report)


@pytest.mark.parametrize("stated", [{"num_heads": 5}, {"num_heads": -2}, {"num_heads": "2"}])
def test_a_config_that_makes_no_sense_is_told_or_ignored(stated, transformer, save):
    report = inspect(save(transformer.state_dict(), metadata={"config": json.dumps(stated)}))
    assert report.is_sound == (stated["num_heads"] != 5)
    assert report.is_sound or "does not divide into 5 heads" in str(report)
