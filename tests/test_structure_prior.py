"""The structure prior: a transformer may be told what of the source is to stay."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rtr_core import SessionError, Style, StyleError, Stylizer, WeightsError, cli, untrained
from rtr_core.flight import Flight
from rtr_core.flow import add_noise
from rtr_core.intake import Waiting
from rtr_core.media.source import open_source
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.model.config import TransformerConfig
from rtr_core.model.kv_cache import KVCache
from rtr_core.model.structure import with_structure
from rtr_core.parts import Parts
from rtr_core.placing import moved
from rtr_core.recipes import Recipe
from rtr_core.sampling import SeededNoise, beside, denoiser, few_step
from rtr_core.shapes import Size
from rtr_core.structure import DRIFT, StructureStream, evened, outline, slopes
from rtr_core.stylizer import ASSETS
from rtr_core.weights import load
from rtr_core.weights.bundle import About, write_bundle
from rtr_core.weights.convert import convert
from rtr_core.weights.inspect import inspect

SIZE = (32, 48)
INK = Style(prompt="ink wash painting")
FOUR = {"name": "mine", "timesteps": (1000, 750, 500, 250), "shift": 5.0, "chunk": 2, "window": 4}
APART = {"buffer": 4, "flight": "apart", "commit": "last step", "chunk": 1}
WAYS = {
    "one by one": {},
    "last step": {"commit": "last step"},
    "buffer": {"buffer": 2},
    "stream batch after a warm-up": {"first": 4, "anchor": 4} | APART,
    "recompute": {"commit": "recompute"},
    "guidance": {"guidance": 3.0},
}
KINDS = {
    "source beside": untrained.TRANSFORMER,
    "source under noise": replace(untrained.TRANSFORMER, in_channels=8, adapter_dim=0),
}


def recipe_of(way: str, kind: str) -> Recipe:
    start = {} if kind == "source beside" else {"strength": 0.7}
    return Recipe(**FOUR | start | WAYS[way])


def told(parts: Parts, seed: int = 5, scale: float = 0.1) -> Parts:
    """The parts with a structure projection that says something."""
    transformer = with_structure(parts.transformer)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        transformer.structure_embedding.weight.normal_(0, scale, generator=rng)
    return replace(parts, transformer=transformer)


@pytest.fixture(scope="module")
def networks() -> dict[str, Parts]:
    return {kind: untrained.parts(transformer=config) for kind, config in KINDS.items()}


@pytest.fixture(scope="module")
def told_networks(networks) -> dict[str, Parts]:
    return {kind: told(parts) for kind, parts in networks.items()}


@pytest.fixture
def stylizers(told_networks):
    return lambda way="one by one", kind="source beside": Stylizer(
        parts=told_networks[kind], recipe=recipe_of(way, kind)
    )


@pytest.fixture(scope="module")
def sample() -> Tensor:
    """Frames of the clip that comes along, `[t h w 3]` uint8."""
    with open_source(ASSETS / "sample.mp4") as source:
        frames = source.frames()
        return torch.stack([next(frames).pixels for _ in range(24)])


def clip(frames: int, seed: int = 1) -> Tensor:
    return torch.rand(frames, *SIZE, 3, generator=torch.Generator().manual_seed(seed))


def rendered(session, frames: Tensor, cuts=()) -> Tensor:
    parts = frames.split(list(cuts) or len(frames))
    return torch.cat([*(out for part in parts for out in session.push(part)), *session.flush()])


def latents(seed: int, frames: int = 2) -> Tensor:
    return torch.randn(1, 8, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


# ---- zeros say nothing ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_projection_that_was_not_trained_changes_no_bit(networks, way, kind):
    parts, recipe = networks[kind], recipe_of(way, kind)
    twin = replace(parts, transformer=with_structure(parts.transformer))
    outs = [
        rendered(Stylizer(parts=p, recipe=recipe).session(INK, SIZE), clip(25))
        for p in (parts, twin)
    ]
    assert torch.equal(*outs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_structure_of_zeros_is_none_whatever_the_projection(networks, told_networks, kind):
    without, model = networks[kind].transformer, told_networks[kind].transformer
    channels = without.config.in_channels
    x = torch.randn(2, channels, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    sigma, context = torch.full((2, 3), 0.5), without.encode_context(torch.zeros(2, 16, 64))
    memory = partial(bidirectional, Size(2, 3), 3, context)
    with torch.no_grad():
        plain = without(x, sigma, memory())
        zeros = model(torch.cat([x, torch.zeros_like(x[:, :8])], dim=1), sigma, memory())
        ones = model(torch.cat([x, torch.ones_like(x[:, :8])], dim=1), sigma, memory())
    assert torch.equal(plain, zeros) and not torch.allclose(plain, ones, atol=1e-2)


def test_a_projection_is_added_from_outside_over_the_very_weights(networks):
    transformer = networks["source beside"].transformer
    twin = with_structure(transformer)
    assert not transformer.config.structure and not hasattr(transformer, "structure_embedding")
    assert twin.config == replace(transformer.config, structure=True)
    own = dict(twin.named_parameters())
    assert all(own[name] is weight for name, weight in transformer.named_parameters())
    assert set(own) - set(transformer.state_dict()) == {"structure_embedding.weight"}
    assert with_structure(twin) is twin


@pytest.mark.parametrize("options", [{"weights": "fp8"}, {"offload": True}], ids=str)
def test_a_projection_goes_with_what_takes_less_memory(networks, tmp_path, options):
    file = saved(networks["source beside"], tmp_path / "plain.safetensors")
    stylizer = Stylizer.load(file, device="cpu", **options)
    parts = replace(stylizer.parts, transformer=with_structure(stylizer.parts.transformer))
    outs = [
        rendered(replace(stylizer, parts=p).session(INK, SIZE), clip(13))
        for p in (stylizer.parts, parts)
    ]
    assert torch.equal(*outs)
    twin = Stylizer.load(saved(told(networks["source beside"]), file), device="cpu", **options)
    assert not torch.allclose(rendered(twin.session(INK, SIZE), clip(13)), outs[0], atol=1e-3)


def test_a_model_without_a_projection_never_looks_at_the_structure(networks, monkeypatch):
    monkeypatch.setattr("rtr_core.structure.outline", lambda picture: 1 / 0)
    parts = networks["source beside"]
    session = Stylizer(parts=parts, recipe=recipe_of("one by one", "source beside")).session(
        INK, SIZE
    )
    assert len(rendered(session, clip(9))) == 9 and session.intake.structure is None


# ---- what it is told of reaches it ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("commit", ["clean", "last step"])
def test_a_chunk_and_its_past_are_told_of_the_structure(told_networks, kind, commit):
    """Against a plain loop, to the bit."""
    parts, recipe = told_networks[kind], recipe_of("one by one", kind).override(commit=commit)
    model, flight = parts.transformer, Flight(parts, recipe, Size(2, 3), seed=0)
    context = model.encode_context(torch.zeros(1, 16, 64))
    flight.past.memory.reset_context(context)
    memory, noise = KVCache(Size(2, 3), recipe.memory, context), SeededNoise(0)
    sigmas = [sigma * recipe.strength for sigma in recipe.sigmas]
    with torch.no_grad():
        for n in range(4):
            source, structure = latents(n), latents(n + 10)
            others = [source, structure] if model.config.takes_source else [structure]
            flight.set_out(Waiting(source, 8, 0.0, structure))
            landed = flight.move_on(lambda: None)
            flight.remember(lambda: None)
            flight.past.commit()
            x = add_noise(source, noise.like(source), sigmas[0])
            clean = few_step(denoiser(model, memory, torch.cat(others, dim=1)), x, sigmas, noise)
            if commit == "clean":
                model.remember(beside(clean, *others), memory)
            memory.commit()
            assert landed is not None and torch.equal(landed.x, clean)


def test_the_result_follows_the_structure(stylizers):
    """More, the more the projection says."""
    parts, recipe = stylizers().parts, stylizers().recipe
    frames, outs = clip(17), []
    for scale in (0.0, 0.03, 0.3):
        stylizer = Stylizer(parts=told(parts, scale=scale), recipe=recipe)
        outs.append(rendered(stylizer.session(INK, SIZE), frames))
    near, far = (float((out - outs[0]).square().mean()) for out in outs[1:])
    assert 0 < near < far


def test_an_intake_gives_the_latents_of_source_and_structure_pictures(stylizers):
    stylizer, frames = stylizers(), clip(13)
    session = stylizer.session(INK, SIZE)
    session._take_in(frames)
    pixels = (frames * 2 - 1).permute(3, 0, 1, 2)[None]
    pictures = torch.stack([outline(one) for one in pixels[0].unbind(1)], dim=1)[None]
    waiting = session.intake.next_chunk()
    assert waiting is not None and waiting.structure is not None
    assert waiting.structure.shape == waiting.source.shape
    vae, trail = stylizer.parts.vae, {}
    with torch.no_grad():
        expected = [vae.encode_group(pictures[:, :, s], trail) for s in (slice(0, 1), slice(1, 5))]
    assert_close(waiting.structure, torch.cat(expected, dim=2))


# ---- every promise of a session ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_each_frame_comes_back_and_no_cut_changes_a_bit(stylizers, way, kind):
    stylizer = stylizers(way, kind)
    whole = rendered(stylizer.session(INK, (30, 45)), clip(26))
    assert whole.shape == (26, 30, 45, 3) and whole.isfinite().all()
    session = stylizer.session(INK, (30, 45))
    assert torch.equal(rendered(session, clip(26), (1, 2, 9, 4, 1, 9)), whole)
    assert torch.equal(rendered(session, clip(26)), whole)  # and the next clip begins alike


@pytest.mark.parametrize("way", WAYS)
def test_it_is_saved_forked_moved_and_switched_in_mid_flight(stylizers, way, tmp_path):
    stylizer = stylizers(way, "source under noise")
    new = Style(prompt="oil", reference=clip(1, seed=8)[0])
    whole, cut = (stylizer.session(INK, SIZE) for _ in range(2))
    expected = list(whole.push(clip(30)))
    whole.switch(new, fade=12)
    expected += [*whole.push(clip(40)[30:]), *whole.flush()]
    outs = list(cut.push(clip(30)))
    cut.switch(new, fade=12)
    cut.save(tmp_path / "session.safetensors")
    loaded = stylizer.load_session(tmp_path / "session.safetensors")
    outs += loaded.push(clip(40)[30:36])
    _, (intake, *_), *_ = moved(loaded.mark(), torch.device("meta"))
    assert intake["structure.encoder.pending"].is_meta
    loaded.move(torch.device("cpu"))
    twin = loaded.fork()
    outs += [*twin.push(clip(40)[36:]), *twin.flush()]
    assert torch.equal(torch.cat(outs), torch.cat(expected))


def test_a_push_that_fails_takes_nothing_in(stylizers, monkeypatch):
    stylizer, frames = stylizers(), clip(21)
    whole = rendered(stylizer.session(INK, SIZE), frames)
    session = stylizer.session(INK, SIZE)
    outs = list(session.push(frames[:6]))
    with monkeypatch.context() as broken:
        broken.setattr(StructureStream, "push", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.push(frames[6:])
    assert session.frames_in == 6
    assert torch.equal(torch.cat([*outs, *session.push(frames[6:]), *session.flush()]), whole)


def test_what_has_no_source_has_no_structure(networks, stylizers):
    """Frames made of the prompt, frames that are followed, references: all as without a prior."""
    kind = "source under noise"
    without = Stylizer(parts=networks[kind], recipe=recipe_of("one by one", kind))
    style, outs = Style(prompt="oil", reference=clip(1, seed=8)[0]), []
    for stylizer in (without, stylizers("one by one", kind)):
        session = stylizer.session(style, SIZE)
        session.follow(clip(5))
        outs.append(torch.cat([*session.imagine(16), *session.flush()]))
    assert torch.equal(*outs)


# ---- the outline ----


def test_slopes_are_those_of_opencv(sample):
    gray = cv2.cvtColor(sample[0].numpy(), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    for axes, ours in zip(((1, 0), (0, 1)), slopes(torch.from_numpy(gray)), strict=True):
        theirs = cv2.Scharr(gray, cv2.CV_32F, *axes, borderType=cv2.BORDER_REPLICATE) / 32
        assert_close(ours, torch.from_numpy(theirs), rtol=1e-4, atol=1e-6)


def pictures_of(frames: Tensor) -> Tensor:
    """Outlines `[t 3 h w]` of frames in 0..255."""
    return torch.stack([outline(one.permute(2, 0, 1).float() / 127.5 - 1) for one in frames])


def lines_of_opencv(frames: Tensor) -> Tensor:
    found = [cv2.Canny(one.byte().numpy(), 100, 200).astype(np.float32) for one in frames]
    return torch.from_numpy(np.stack(found))[:, None]


def flicker(pictures: Tensor) -> float:
    """Change from frame to frame by what there is to change."""
    return float(pictures.diff(dim=0).square().mean().sqrt() / pictures.std())


def test_the_outline_is_stable_in_time(sample):
    """Of a still under a sensor's noise, and of a real clip that moves, against Canny's lines."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(8, *sample.shape[1:], generator=rng)
    still = (sample[:1] + 2 * noise).clamp(0, 255).round()
    assert flicker(pictures_of(still)) < 0.07 and flicker(lines_of_opencv(still)) > 0.4
    assert flicker(pictures_of(sample)) < 0.6 and flicker(lines_of_opencv(sample)) > 1


def test_the_outline_hardly_depends_on_the_light(sample):
    luminance = sample[0].float().mean(-1) / 255
    bright, dim = evened(luminance), evened(luminance * 0.6)
    assert (bright - dim).abs().mean() < 0.15 * bright.abs().mean()  # of 40 % less light
    picture = pictures_of(sample[:1])
    assert picture.abs().max() <= 1 and picture.std() > 0.3


# ---- depth ----


@pytest.fixture
def file(told_networks, tmp_path) -> Path:
    return saved(told_networks["source beside"], tmp_path / "told.safetensors")


def saved(parts: Parts, path: Path) -> Path:
    about = About(
        transformer=parts.transformer.config,
        vae=parts.vae.config,
        text=parts.text.config,
        recipe=parts.recipe,
    )
    tensors = {role: getattr(parts, role).state_dict() for role in ("transformer", "vae", "text")}
    write_bundle(path, tensors, about)
    return path


def test_a_session_is_told_of_depth_by_a_local_model(file, depth_folder, tmp_path):
    frames, stylizer = clip(21), Stylizer.load(file, depth=depth_folder, device="cpu")
    assert stylizer.recipe.structure == "depth"
    whole = rendered(stylizer.session(INK, SIZE), frames)
    assert not torch.equal(
        whole, rendered(Stylizer.load(file, device="cpu").session(INK, SIZE), frames)
    )
    session = stylizer.session(INK, SIZE)
    outs = [out for part in frames[:11].split([1, 4, 6]) for out in session.push(part)]
    session.save(tmp_path / "session.safetensors")
    session = stylizer.load_session(tmp_path / "session.safetensors")
    outs += [*session.push(frames[11:12]), *session.push(frames[12:]), *session.flush()]
    assert torch.equal(torch.cat(outs), whole)


def seen_by_the_model(picture: Tensor) -> Tensor:
    """Less the mean of ImageNet's pictures, by their deviation."""
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    return ((picture - mean[:, None, None]) / deviation[:, None, None])[None]


def test_depth_is_what_transformers_makes_of_the_picture(depth_folder):
    from transformers import AutoModelForDepthEstimation

    depth = load.load_depth(depth_folder)
    peer = AutoModelForDepthEstimation.from_pretrained(depth_folder)
    picture = torch.rand(3, 42, 56, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = peer(pixel_values=seen_by_the_model(picture)).predicted_depth[0]
        assert expected.std() > 0.01
        assert_close(depth(picture), expected, rtol=1e-4, atol=1e-5)
        assert depth(torch.rand(3, 50, 70)).shape == (56, 70)  # whole patches


def test_a_model_that_tells_distances_shows_how_near_things_are(depth_folder, tmp_path):
    """Their weights are alike; only the config says what comes out of them."""
    folder = tmp_path / "metric"
    folder.mkdir()
    config = json.loads((depth_folder / "config.json").read_text())
    config |= {"depth_estimation_type": "metric", "max_depth": 20}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((depth_folder / "model.safetensors").read_bytes())
    depth, picture = load.load_depth(folder), torch.rand(3, 42, 56)
    with torch.no_grad():
        near = depth(picture)
        distance = depth.network(pixel_values=seen_by_the_model(picture)).predicted_depth[0]
    assert distance.max() - 0.1 > distance.min() > 0.1
    assert near.flatten().argmax() == distance.flatten().argmin()
    assert_close(near, 1 / distance)


def test_the_range_of_depth_moves_slowly(told_networks):
    """A frame that is all at once twice as near whitens, and does not set the scale of the next."""
    nearness = [torch.linspace(0, 1, 64).view(8, 8) * scale for scale in (1.0, 2.0, 1.0)]
    waiting = iter(nearness)
    stream = StructureStream(told_networks["source beside"].vae, lambda picture: next(waiting))
    first, flash, after = (stream._picture(torch.zeros(3, 8, 8)) for _ in nearness)
    assert (after - first).abs().max() < 2 * DRIFT and flash.mean() > first.mean() + 0.4
    assert stream.range is not None and stream.range[1] < 1 + DRIFT


def test_a_session_goes_on_only_under_the_depth_model_that_it_began_with(file, depth_folder):
    with_depth, without = (Stylizer.load(file, depth=d, device="cpu") for d in (depth_folder, None))
    assert with_depth.parts.fingerprint != without.parts.fingerprint
    assert with_depth.parts.beside_bytes > without.parts.beside_bytes
    with pytest.raises(SessionError, match="other weights"):
        without.lend(with_depth.session(INK, SIZE))


# ---- what is refused, before anything is loaded ----


def no_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


BAD_FOLDERS = {
    "is missing": (no_folder, "There is no depth model at"),
    "is empty": (lambda f: [p.unlink() for p in f.iterdir()], r"no config\.json that can be read"),
    "is broken": (lambda f: (f / "config.json").write_text("{"), r"no config\.json that can be"),
    "is a list": (lambda f: (f / "config.json").write_text("[]"), r"no config\.json that can be"),
    "is of another kind": (
        lambda f: (f / "config.json").write_text('{"model_type": "umt5"}'),
        "holds a model of the kind 'umt5'",
    ),
    "has no weights": (lambda f: (f / "model.safetensors").unlink(), "a config and no weights"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_folder_without_a_depth_model_is_one_sentence_before_anything_is_loaded(
    file, depth_folder, tmp_path, monkeypatch, capsys, case
):
    spoil, words = BAD_FOLDERS[case]
    folder = tmp_path / "depth"
    folder.mkdir()
    for path in depth_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    spoil(folder)
    monkeypatch.setattr(load, "find_parts", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(WeightsError, match=words):
        Stylizer.load(file, depth=folder, device="cpu")
    out = tmp_path / "out.mp4"
    words = [
        "stylize",
        ASSETS / "sample.mp4",
        out,
        "--style",
        "ink",
        "--model",
        file,
        "--depth",
        folder,
    ]
    with pytest.raises(SystemExit) as left:
        cli.main([*map(str, words), "--device", "cpu"])
    said = capsys.readouterr().err
    assert left.value.code == cli.FAILED and not out.exists()
    assert said.startswith("rtr: ") and said.count("\n") == 1 and "Depth-Anything" in said
    assert ". " not in said.replace(str(tmp_path), "")  # one sentence


def test_a_depth_model_that_is_not_whole_is_refused(file, depth_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "depth"
    folder.mkdir()
    (folder / "config.json").write_bytes((depth_folder / "config.json").read_bytes())
    weights = load_file(depth_folder / "model.safetensors")
    del weights["head.conv1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 tensors, such as 'head\.conv1\.weight'"):
        Stylizer.load(file, depth=folder, device="cpu")
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Stylizer.load(file, depth=folder, device="cpu")


def test_depth_that_nothing_asks_for_and_depth_without_a_model_are_refused(
    networks, file, depth_folder, tmp_path, monkeypatch
):
    plain = saved(networks["source beside"], tmp_path / "plain.safetensors")
    monkeypatch.setattr(load, "load_transformer", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(StyleError, match="has no structure projection, so a depth model"):
        Stylizer.load(plain, depth=depth_folder, device="cpu")
    with pytest.raises(StyleError, match="shows the outline, so a depth model"):
        Stylizer.load(file, depth=depth_folder, structure="outline", device="cpu")
    with pytest.raises(StyleError, match="no depth model is there: name the folder"):
        Stylizer.load(file, structure="depth", device="cpu")
    with pytest.raises(StyleError, match="structure must be one of 'outline', 'depth'"):
        Stylizer.load(file, structure="edges", device="cpu")


def test_a_session_of_its_own_recipe_is_held_to_the_same(stylizers):
    stylizer = stylizers()
    with pytest.raises(StyleError, match="no depth model is there"):
        stylizer.session(INK, SIZE, recipe=stylizer.recipe.override(structure="depth"))


# ---- files ----


def test_a_bundle_holds_the_projection_and_what_it_is_told_of(told_networks, tmp_path):
    parts = told_networks["source beside"]
    recipe = parts.recipe.override(structure="outline", window=3)
    path = saved(replace(parts, recipe=recipe), tmp_path / "told.safetensors")
    stylizer = Stylizer.load(path, device="cpu")
    assert stylizer.recipe == recipe and stylizer.parts.transformer.config.structure
    outs = [
        rendered(each.session(INK, SIZE), clip(13))
        for each in (stylizer, Stylizer(parts=parts, recipe=recipe))
    ]
    assert torch.equal(*outs)


def test_a_file_is_named_for_its_projection_and_converted_with_it(told_networks, tmp_path):
    parts = told_networks["source under noise"]
    path = saved(parts, tmp_path / "told.safetensors")
    report = inspect(path)
    assert report.is_sound and "latent channels with structure projection" in str(report)
    assert "structure True" in str(report)
    convert(path, tmp_path / "again.safetensors")
    twin = load.load_transformer(tmp_path / "again.safetensors")
    assert torch.equal(
        twin.structure_embedding.weight, parts.transformer.structure_embedding.weight
    )


def test_a_projection_is_told_by_its_tensor_alone(told_networks):
    for kind, config in KINDS.items():
        state = told_networks[kind].transformer.state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        assert TransformerConfig.infer(shapes, text_rows=16) == replace(config, structure=True)


def test_a_model_that_is_told_of_the_structure_may_begin_with_noise_alone(networks, told_networks):
    kind = "source under noise"
    assert Stylizer.of(told_networks[kind], strength=1).recipe.strength == 1
    with pytest.raises(StyleError, match="which would be lost"):
        Stylizer.of(networks[kind], strength=1)
