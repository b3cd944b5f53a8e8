"""From files to frames: what people have on disk gives the pictures it should."""

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rtr_core import Style, StyleError, Stylizer, WeightsError, untrained
from rtr_core.cli import main
from rtr_core.demo import CAPTION
from rtr_core.media.source import open_source
from rtr_core.model.config import TransformerConfig
from rtr_core.stylizer import file_of, prompt_folder
from rtr_core.weights.bundle import About, write_bundle
from tests.bundles import bundled

SIZE = (32, 48)
STYLE = Style(prompt="ink wash painting")


def rendered(stylizer: Stylizer, style: Style = STYLE) -> Tensor:
    frames = torch.rand(9, *SIZE, 3, generator=torch.Generator().manual_seed(1))
    session = stylizer.session(style, SIZE)
    return torch.cat([*session.push(frames), *session.flush()])


@pytest.fixture(scope="module")
def parts():
    return untrained.parts()


@pytest.fixture
def bundle(parts, tmp_path):
    """All parts in one RTR file."""
    return bundled(parts, tmp_path / "mine.safetensors")


def test_one_file_brings_all_and_gives_the_same_frames(parts, bundle):
    loaded = Stylizer.load(bundle, device="cpu")
    assert loaded.recipe == untrained.RECIPE and loaded.parts.name == "mine"
    assert torch.equal(rendered(loaded), rendered(Stylizer.of(parts)))


def test_parts_in_several_files_are_put_together(parts, tmp_path):
    for role in ("transformer", "vae", "text"):
        save_file(getattr(parts, role).state_dict(), tmp_path / f"{role}.safetensors")
    files = [tmp_path / f"{role}.safetensors" for role in ("vae", "text", "transformer")]
    # bare files say neither how wide heads are nor how many rows a prompt has
    with pytest.raises(WeightsError, match="no vae is in it"):
        Stylizer.load(files[2], device="cpu")
    loaded = Stylizer.load(*files, device="cpu", **recipe_fields())
    assert loaded.parts.transformer.config == replace(untrained.TRANSFORMER, text_rows=512)
    assert rendered(loaded).isfinite().all()


def recipe_fields() -> dict:
    fields = asdict(untrained.RECIPE)
    return {name: value for name, value in fields.items() if name != "name"}


def test_fields_of_a_recipe_are_overridden_one_at_a_time(bundle):
    loaded = Stylizer.load(bundle, device="cpu", window=6, positions="absolute")
    assert loaded.recipe == untrained.RECIPE.override(window=6, positions="absolute")


def test_bf16_is_near_fp32(bundle):
    wide, narrow = (
        rendered(Stylizer.load(bundle, device="cpu", dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0 < (wide - narrow).abs().mean() < 0.05


def test_a_file_without_a_text_encoder_takes_embeddings_and_says_so(parts, tmp_path):
    tensors = {role: getattr(parts, role).state_dict() for role in ("transformer", "vae")}
    about = About(transformer=untrained.TRANSFORMER, vae=untrained.VAE, recipe=untrained.RECIPE)
    write_bundle(tmp_path / "mute.safetensors", tensors, about)
    mute = Stylizer.load(tmp_path / "mute.safetensors", device="cpu")
    with pytest.raises(StyleError, match="came without a text encoder"):
        rendered(mute)
    embedding = parts.text.encode(STYLE.prompt)
    assert torch.equal(rendered(mute, Style(embedding=embedding)), rendered(Stylizer.of(parts)))


def test_a_prompt_is_encoded_once_and_kept(bundle, parts, monkeypatch, tmp_path):
    monkeypatch.setenv("RTR_CACHE", str(tmp_path / "kept"))
    first = rendered(Stylizer.load(bundle, device="cpu"))
    assert len(list(prompt_folder().glob("*.safetensors"))) == 1
    monkeypatch.setattr(type(parts.text), "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(rendered(Stylizer.load(bundle, device="cpu")), first)


def test_a_model_without_source_channels_starts_from_the_noised_source(parts):
    config = TransformerConfig(**(vars(untrained.TRANSFORMER) | {"in_channels": 8}))
    plain = untrained.parts(transformer=config)
    stylizer = Stylizer.of(replace(plain, recipe=None), chunk=2)
    assert stylizer.recipe.strength < 1
    assert rendered(stylizer).isfinite().all()


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_the_command_line_reads_and_writes_files(bundle, tmp_path, capsys, command):
    words = {
        "inspect": ["inspect", str(bundle)],
        "convert": ["convert", "--dtype", "bf16", str(bundle), str(tmp_path / "out.safetensors")],
    }[command]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "untrained" in capsys.readouterr().out
    if command == "convert":
        converted = Stylizer.load(tmp_path / "out.safetensors", device="cpu")
        assert converted.recipe == untrained.RECIPE


def test_an_error_on_the_command_line_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inspect", str(tmp_path / "nothing.safetensors")])
    said = capsys.readouterr()
    assert stop.value.code == 1 and not said.out
    assert "nothing.safetensors" in said.err and "Traceback" not in said.err


def test_the_demo_writes_source_and_result_side_by_side(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["demo", str(tmp_path)])
    assert stop.value.code == 0 and "112 frames of 448x256" in capsys.readouterr().out
    with open_source(tmp_path / "demo.mp4") as clip:
        sizes = {tuple(frame.pixels.shape) for frame in clip.frames()}
    assert sizes == {(256 + CAPTION, 2 * 448, 3)}
    assert (tmp_path / "demo.png").stat().st_size > 100_000


def test_the_built_in_model_lists_its_styles_one_prompt_a_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["styles"])
    listed = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and len(listed) >= 10 and "ink wash painting" in listed


def test_the_built_in_model_fits_in_16_megabytes():
    assert file_of("rtr-tiny").stat().st_size <= 16_000_000
