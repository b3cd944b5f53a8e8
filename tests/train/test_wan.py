"""A Wan goes the same road by the same commands: text-to-video weights become an RTR teacher."""

import shlex

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rtr_core import Stylizer
from rtr_core.cli import main
from rtr_core.errors import WeightsError
from rtr_core.families import RTR
from rtr_core.model.chunk_causal import bidirectional
from rtr_core.shapes import Size
from rtr_core.style import Style
from rtr_core.train.network import Remembered, opened
from rtr_core.train.pairs import Pairs
from rtr_core.weights.load import load_transformer
from rtr_core.weights.read import open_weights
from tests.train.scenes import scene
from tests.weights.conftest import save as save
from tests.weights.conftest import wan as wan
from tests.weights.test_convert import umt5 as umt5
from tests.weights.test_convert import vae_folder as vae_folder


@pytest.fixture
def public(wan, vae_folder, umt5, tmp_path):
    """The three files that people have: transformer, autoencoder, text encoder."""
    save_file(wan.state_dict(), tmp_path / "wan.safetensors")
    return tmp_path / "wan.safetensors", vae_folder, umt5


def test_a_text_to_video_model_is_what_it_was_until_its_new_channels_are_trained(public, wan):
    network, parts = opened(public)
    assert isinstance(network.text, Remembered) and parts.recipe == RTR
    told, rng = network.transformer, torch.Generator().manual_seed(0)
    noisy, source = (torch.randn(2, 16, 2, 4, 6, generator=rng) for _ in range(2))
    sigma = torch.tensor([[0.7, 0.7], [0.3, 0.3]])
    rows = network.text(["ink wash", "a village by the sea"])

    def said(transformer, x):
        memory = bidirectional(Size(2, 3), 2, transformer.encode_context(rows))
        with torch.no_grad():
            return transformer(x, sigma, memory)

    before = said(wan, noisy)
    torch.testing.assert_close(said(told, torch.cat([noisy, source], 1)), before)
    adapter = told.reference_adapter
    tokens = told.patch_embedding(torch.cat([noisy, source], 1)).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(adapter(noisy), tokens)  # a reference is seen like a frame


def test_its_text_encoder_reads_a_prompt_once_and_is_no_part_of_what_is_trained(public):
    network, parts = opened(public)
    asked, encode = [], parts.text.encode
    parts.text.encode = lambda prompt: asked.append(prompt) or encode(prompt)
    one, two = (network.text(["ink wash", "by the sea"]) for _ in range(2))
    assert one.equal(two) and asked == ["ink wash", "by the sea"]
    assert not any(name.startswith("text") for name in network.state_dict())


def told(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main(shlex.split(" ".join(map(str, words))))
    assert end.value.code == 0


def test_it_goes_from_clips_to_a_stylizer_by_the_commands_of_the_small_one(public, tmp_path):
    transformer, vae, text = public
    corpus, pairs = tmp_path / "corpus", tmp_path / "pairs"
    corpus.mkdir()
    Image.fromarray(scene(400, 400)).save(corpus / "still.png")
    size = "--steps 2 --batch 2 --save-every 2 --device cpu"
    told("train data", corpus, vae, pairs, "--count 8 --side 160 --latents 2")
    assert len(Pairs(pairs).rows) == 8 and Pairs(pairs).shape == (16, 2, 20, 20)
    told("train teacher", pairs, tmp_path / "t", "--vae", vae, "--begin", transformer, text, size)
    beside = f"{vae} {text}"
    teacher, student = (tmp_path / name / "model.safetensors" for name in "ts")
    told("train student", pairs, tmp_path / "s", "--teacher", teacher, beside, size)
    asked = "--student", student, beside, "--teacher", teacher, beside
    told("train distill", pairs, tmp_path / "d", *asked, size)
    assert sorted(tmp_path.glob("?/strip-000002-reference.png"))
    made = tmp_path / "d" / "model.safetensors"
    assert all(name.startswith("transformer.") for name in open_weights(made).tensors.shapes)
    before, after = load_transformer(transformer), load_transformer(made)
    moved = after.blocks[0].ffn[0].weight - before.blocks[0].ffn[0].weight
    assert 0 < moved.abs().max() < 0.1
    stylizer = Stylizer.load(made, vae, text, device="cpu")
    session = stylizer.session(Style(prompt="ink wash painting"), Size(32, 32), seed=0)
    frames = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    out = [f for chunk in (*session.push(frames), *session.flush()) for f in chunk]
    assert len(out) == 5 and torch.stack(out).isfinite().all()


def test_training_without_a_text_encoder_or_a_transformer_says_which_is_missing(public):
    transformer, vae, text = public
    with pytest.raises(WeightsError, match="no text encoder"):
        opened([transformer, vae])
    with pytest.raises(WeightsError, match="no transformer in"):
        opened([vae, text])
