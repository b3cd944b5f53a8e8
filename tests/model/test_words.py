"""The built-in text encoder of small models."""

import time

import pytest
import torch
import torch.nn.functional as F

from rtr_core.errors import WeightsError
from rtr_core.model.text import PromptCut
from rtr_core.model.words import END, WordEncoder, WordEncoderConfig, infer


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return WordEncoder(WordEncoderConfig(rows=6, dim=64, buckets=1024, ffn_dim=64))


def test_the_same_words_are_the_same_tokens_in_every_process(encoder):
    assert encoder.tokens("An ink") == [
        [414, 687, 1009],
        [122, 131, 317, 754, 809, 938],
        [END],
    ]


def test_case_white_space_and_punctuation_make_no_difference(encoder):
    assert encoder.tokens(" Oil\npainting, RED!") == encoder.tokens("oil painting red")


def test_the_default_is_small():
    parameters = sum(weight.numel() for weight in WordEncoder().parameters())
    assert 300_000 < parameters < 600_000


def test_encode_gives_word_rows_and_an_end_then_exact_zeros(encoder):
    context = encoder.encode("a red cat")
    assert context.shape == (encoder.rows, encoder.dim) == (6, 64)
    assert context[:4].any(dim=1).all()
    assert not context[4:].any()
    assert not context.requires_grad


def test_an_empty_prompt_is_its_end(encoder):
    context = encoder.encode("...")
    assert context.isfinite().all()
    assert context[0].any() and not context[1:].any()


def test_a_batch_equals_its_prompts_one_by_one(encoder):
    prompts = ["a red cat", "", "ink on very old paper"]
    apart = torch.stack([encoder.encode(prompt) for prompt in prompts])
    torch.testing.assert_close(encoder(prompts).detach(), apart)


@pytest.mark.parametrize("seed", range(5))
def test_a_form_never_seen_lands_near_its_word(seed):
    torch.manual_seed(seed)
    encoder = WordEncoder()

    def likeness(one, other):
        return F.cosine_similarity(encoder.encode(one)[0], encoder.encode(other)[0], dim=0)

    near = likeness("cartoon", "cartoony")
    assert near > 0.5
    for other in ("watercolor", "photograph", "ink", "village"):
        assert near > likeness("cartoon", other) + 0.2


def test_word_order_matters(encoder):
    assert not torch.allclose(encoder.encode("red cat")[2], encoder.encode("cat red")[2])


def test_gradient_reaches_exactly_the_buckets_of_the_prompt(encoder):
    encoder(["a red cat", "ink"]).square().mul(torch.randn(64)).sum().backward()
    words = [word for prompt in ("a red cat", "ink") for word in encoder.tokens(prompt)]
    moved = encoder.buckets.weight.grad.any(dim=1).nonzero().flatten()
    assert set(moved.tolist()) == {bucket for word in words for bucket in word}
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


def test_it_learns_to_tell_two_prompts_apart(encoder):
    probe = torch.nn.Linear(64, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *probe.parameters()], lr=1e-2)
    target = torch.tensor([1.0, -1.0])
    for _ in range(30):
        loss = F.mse_loss(probe(encoder(["warm oil", "cold ink"])).mean(1).squeeze(1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_words_beyond_the_rows_are_cut_with_a_warning(encoder):
    encoder.encode("one two three four five")
    with pytest.warns(PromptCut, match="has 6 tokens.*the first 5 are kept") as caught:
        context = encoder.encode("one two three four five six")
    assert caught[0].filename == __file__
    assert torch.equal(context, encoder.encode("one two three four five"))


def test_ten_thousand_words_are_quick(encoder):
    start = time.perf_counter()
    with pytest.warns(PromptCut, match="has 10000 tokens"):
        encoder.encode("watercolor village " * 5000)
    assert time.perf_counter() - start < 1


def test_it_works_in_bf16(encoder):
    context = encoder.to(torch.bfloat16).encode("a red cat")
    assert context.dtype == torch.bfloat16
    assert context.isfinite().all() and not context[4:].any()


def test_the_config_is_read_from_shapes(encoder):
    shapes = {name: tuple(weight.shape) for name, weight in encoder.state_dict().items()}
    assert infer(shapes) == encoder.config
    with pytest.raises(WeightsError, match=r"buckets\.weight"):
        infer({"position": (6, 64)})


def test_the_fingerprint_follows_the_weights(encoder):
    before = encoder.fingerprint()
    assert before == encoder.fingerprint()
    with torch.no_grad():
        encoder.buckets.weight[1000, 3] += 1e-3
    assert encoder.fingerprint() != before


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of 32, got 48"):
        WordEncoderConfig(dim=48)
    with pytest.raises(ValueError, match="2 rows"):
        WordEncoderConfig(rows=1)
