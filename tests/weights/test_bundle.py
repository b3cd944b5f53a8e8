"""RTR's own file: what is written comes back, and a write never destroys anything."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtr_core import untrained
from rtr_core.errors import WeightsError
from rtr_core.families import RTR, SELF_FORCING
from rtr_core.vae.wan_config import WAN_2_2, LatentStatistics
from rtr_core.weights.bundle import (
    KEY,
    About,
    about_from_json,
    about_to_json,
    read_about,
    write_bundle,
)
from rtr_core.weights.configs import Umt5Config
from rtr_core.weights.load import load_parts, load_text, load_transformer, load_vae
from rtr_core.weights.read import open_weights

ABOUT = About(
    transformer=untrained.TRANSFORMER,
    vae=untrained.VAE,
    text=untrained.TEXT,
    recipe=untrained.RECIPE,
    styles=("ink wash painting", "墨"),
    card={"licence": "Apache-2.0", "steps": 10, "data": {"clips": ["a", "b"]}},
)


@pytest.fixture
def parts():
    return untrained.parts()


@pytest.fixture
def states(parts):
    return {role: getattr(parts, role).state_dict() for role in ("transformer", "vae", "text")}


@pytest.fixture
def bundle(states, tmp_path):
    path = tmp_path / "bundle.safetensors"
    write_bundle(path, states, ABOUT)
    return path


def test_tensors_and_words_come_back(bundle, states):
    file = open_weights(bundle)
    assert read_about(file) == ABOUT
    read = load_file(bundle)  # the safetensors library agrees
    assert set(read) == set(file.tensors)
    for role, state in states.items():
        for name, tensor in state.items():
            assert torch.equal(read[f"{role}.{name}"], tensor)
            assert torch.equal(file.tensors[f"{role}.{name}"], tensor)


def test_the_same_content_makes_the_same_bytes(bundle, states, tmp_path):
    write_bundle(tmp_path / "again.safetensors", states, ABOUT)
    assert (tmp_path / "again.safetensors").read_bytes() == bundle.read_bytes()


def test_a_stylizer_can_be_put_together_from_one_file(bundle, parts, states):
    loaded = load_parts([bundle])
    assert loaded.recipe == untrained.RECIPE
    for role, state in states.items():
        module = getattr(loaded, role)
        assert module.config == getattr(parts, role).config
        assert all(torch.equal(module.state_dict()[name], t) for name, t in state.items())
    assert torch.equal(loaded.text.encode("ink wash"), parts.text.encode("ink wash"))
    latent = torch.linspace(-1, 1, 8 * 4 * 4).reshape(1, 8, 1, 4, 4)
    assert torch.equal(loaded.vae.decode_latent(latent, {}), parts.vae.decode_latent(latent, {}))


def test_a_stylizer_can_be_put_together_from_files_of_one_part(states, tmp_path):
    files = []
    for role, state in states.items():
        files.append(tmp_path / f"{role}.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, files[-1])
    loaded = load_parts(files)
    assert loaded.text is not None and loaded.recipe == RTR
    assert load_parts(files[:2]).text is None
    with pytest.raises(WeightsError, match=r"transformer\.safetensors: no vae"):
        load_parts(files[:1])
    with pytest.raises(WeightsError, match=r"Both .*vae\.safetensors and .* hold a vae"):
        load_parts([*files, files[1]])


def test_each_part_loads_alone(bundle, parts):
    assert load_transformer(bundle).config == parts.transformer.config
    assert load_vae(bundle).config == parts.vae.config
    assert load_text(bundle).rows == parts.text.rows


@pytest.mark.parametrize(
    "about",
    [
        ABOUT,
        About(),
        About(recipe=SELF_FORCING),
        About(text=Umt5Config()),
        About(vae=WAN_2_2),
        About(vae=replace(WAN_2_2, channels=1, statistics=LatentStatistics((0.1,), (1e-30,)))),
        About(transformer=replace(untrained.TRANSFORMER, eps=1 / 3)),
    ],
)
def test_what_a_file_says_of_itself_survives_json_exactly(about):
    back = about_from_json(about_to_json(about))
    assert back == about
    assert about_to_json(back) == about_to_json(about)
    if about.transformer:
        assert back.transformer.patch.height == about.transformer.patch.height


def changed(change):
    values = json.loads(about_to_json(ABOUT))
    change(values)
    return json.dumps(values)


BROKEN = {
    "no JSON": "{",
    "a list": "[]",
    "no format": changed(lambda v: v.pop("format")),
    "a later format": changed(lambda v: v.update(format="rtr-2")),
    "an unknown entry": changed(lambda v: v.update(lora={})),
    "an unknown field": changed(lambda v: v["transformer"].update(depth=3)),
    "an unknown field of the recipe": changed(lambda v: v["recipe"].update(cfg=3)),
    "an unknown family": changed(lambda v: v["vae"].update(family="vq")),
    "a family that is a list": changed(lambda v: v["vae"].update(family=[])),
    "a missing field": changed(lambda v: v["transformer"].pop("dim")),
    "a text for a count": changed(lambda v: v["transformer"].update(layers="2")),
    "a fraction for a count": changed(lambda v: v["transformer"].update(layers=2.0)),
    "a truth for a count": changed(lambda v: v["transformer"].update(heads=True)),
    "a negative count": changed(lambda v: v["transformer"].update(heads=-2)),
    "no heads": changed(lambda v: v["transformer"].update(heads=0)),
    "a patch of two axes": changed(lambda v: v["transformer"].update(patch=[1, 2])),
    "a count for a list": changed(lambda v: v["vae"].update(encoder_widths=3)),
    "a part that is a text": changed(lambda v: v.update(vae="tiny")),
    "a recipe that is a list": changed(lambda v: v.update(recipe=[])),
    "a recipe without steps": changed(lambda v: v["recipe"].update(timesteps=[])),
    "a recipe with an unknown start": changed(lambda v: v["recipe"].update(start="middle")),
    "styles that are a count": changed(lambda v: v.update(styles=3)),
    "styles of numbers": changed(lambda v: v.update(styles=[3])),
    "a card that is a text": changed(lambda v: v.update(card="free")),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_words_are_refused_by_name(broken, states, tmp_path):
    path = tmp_path / "broken.safetensors"
    state = {f"transformer.{name}": t for name, t in states["transformer"].items()}
    save_file(state, path, {KEY: BROKEN[broken]})
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        load_transformer(path)


LIES = {
    "dim": (256, r"patch_embedding\.weight"),
    "ffn_dim": (512, r"blocks\.0\.ffn\.0\.weight"),
    "layers": (10**9, "layers"),
    "in_channels": (8, r"patch_embedding\.weight"),
    "text_dim": (32, r"text_embedding\.0\.weight"),
    "freq_dim": (32, r"time_embedding\.0\.weight"),
    "adapter_dim": (0, r"reference_adapter\.gate\.weight"),
}


@pytest.mark.parametrize("field", LIES)
def test_a_config_that_disagrees_with_the_tensors_is_refused_naming_one(field, states, tmp_path):
    value, witness = LIES[field]
    lie = replace(untrained.TRANSFORMER, **{field: value})
    path = tmp_path / "lie.safetensors"
    write_bundle(path, states, replace(ABOUT, transformer=lie))
    with pytest.raises(WeightsError, match=witness) as caught:
        load_transformer(path)
    assert "lie.safetensors" in str(caught.value)


def test_a_lie_about_the_other_parts_is_refused_too(states, tmp_path):
    path = tmp_path / "lie.safetensors"
    for role in ("vae", "text"):
        lie = {"vae": {"patch": 2}, "text": {"buckets": 7}}[role]
        write_bundle(path, states, replace(ABOUT, **{role: replace(getattr(ABOUT, role), **lie)}))
        with pytest.raises(WeightsError, match=r"lie\.safetensors.*Its config says"):
            load_parts([path])


def test_a_write_that_fails_leaves_what_was_there(bundle, states, tmp_path):
    before = bundle.read_bytes()

    class Breaking(dict):
        def __getitem__(self, name):
            raise OSError("no room")

    with pytest.raises(WeightsError, match=r"bundle\.safetensors cannot be written.*no room"):
        write_bundle(bundle, {"transformer": Breaking(states["transformer"])}, ABOUT)
    assert bundle.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_a_folder_that_is_not_there_is_said(states, tmp_path):
    with pytest.raises(WeightsError, match=r"new\.safetensors cannot be written"):
        write_bundle(tmp_path / "nowhere" / "new.safetensors", states, ABOUT)


def test_a_part_that_no_bundle_has_is_refused(states, tmp_path):
    with pytest.raises(WeightsError, match=r"new\.safetensors.*lora"):
        write_bundle(tmp_path / "new.safetensors", {"lora": states["vae"]}, ABOUT)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float8_e4m3fn])
def test_tensors_of_any_size_and_dtype_come_back(dtype, tmp_path):
    values = torch.tensor([1, 0, 1, 1, 0]).to(dtype)
    state = {"odd": values, "none": values[:0], "one": values[0], "wide": torch.ones(3).double()}
    write_bundle(tmp_path / "any.safetensors", {"vae": state}, About())
    read = open_weights(tmp_path / "any.safetensors").tensors
    for name, tensor in state.items():
        found = read[f"vae.{name}"]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found.float(), tensor.float())


def test_config_fields_are_all_in_the_json():
    values = json.loads(about_to_json(ABOUT))
    assert set(values["transformer"]) == {"family", *asdict(untrained.TRANSFORMER)}
    assert values["vae"]["family"] == "tiny"
    assert values["text"]["family"] == "words"
    assert values["format"] == "rtr-1"
