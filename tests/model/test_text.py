"""The promises around every prompt encoder: cleaning, cutting, padding, remembering."""

import pytest
import torch
from safetensors.torch import load_file, save

from rtr_core.model.text import (
    NotRemembered,
    PromptCut,
    cleaned,
    cut,
    fingerprint,
    padded,
    remembered,
    unpadded,
)

ROWS, DIM = 8, 4


class Letters:
    """A prompt encoder that counts its calls: one row per letter, its code in every column."""

    rows, dim = ROWS, DIM

    def __init__(self, name="letters"):
        self.name = name
        self.calls = 0

    def encode(self, prompt):
        self.calls += 1
        codes = torch.tensor([ord(letter) for letter in cleaned(prompt)], dtype=torch.bfloat16)
        return padded(codes[:, None].expand(-1, DIM), ROWS)

    def fingerprint(self):
        return self.name


def test_a_prompt_is_cleaned_as_wan_cleans_it():
    assert cleaned("  a\n\tcat &amp;amp; a&nbsp;dog ") == "a cat & a dog"
    assert cleaned(" \n") == ""


def test_half_an_emoji_does_not_stop_a_prompt():
    assert cleaned("cat \ud83d").encode() == b"cat ?"


def test_a_prompt_that_fits_is_not_cut():
    assert cut([1, 2, 3], 3) == [1, 2, 3]


def test_a_cut_prompt_says_how_much_is_kept():
    with pytest.warns(PromptCut, match="has 5 tokens.*the first 3 are kept"):
        assert cut([1, 2, 3, 4, 5], 3) == [1, 2, 3]


@pytest.mark.parametrize("filled", [0, 1, ROWS])
def test_unpadded_and_padded_are_inverse(filled):
    context = padded(torch.ones(filled, DIM), ROWS)
    assert len(unpadded(context)) == filled
    assert torch.equal(padded(unpadded(context), ROWS), context)


def test_a_zero_row_inside_a_text_is_kept():
    context = padded(torch.tensor([[1.0], [0.0], [2.0]]), 5)
    assert len(unpadded(context)) == 3


def test_a_remembered_prompt_is_encoded_once(tmp_path):
    letters = Letters()
    encoder = remembered(letters, tmp_path / "contexts")
    first, second = encoder.encode("a cat"), encoder.encode("a cat")
    assert letters.calls == 1
    assert (encoder.rows, encoder.dim, encoder.fingerprint()) == (ROWS, DIM, "letters")
    assert torch.equal(first, second)
    assert torch.equal(first, Letters().encode("a cat"))


def test_what_a_caller_does_to_a_context_is_not_remembered(tmp_path):
    encoder = remembered(Letters(), tmp_path)
    encoder.encode("full row").zero_()
    assert encoder.encode("full row").any()


def test_the_next_process_reads_the_context_from_disk(tmp_path):
    first = remembered(Letters(), tmp_path).encode("a  cat")
    letters = Letters()
    again = remembered(letters, tmp_path).encode("a cat ")
    assert letters.calls == 0
    assert torch.equal(first, again)
    assert again.dtype == torch.bfloat16


def test_other_weights_do_not_find_the_context(tmp_path):
    remembered(Letters("before training"), tmp_path).encode("a cat")
    letters = Letters("after training")
    remembered(letters, tmp_path).encode("a cat")
    assert letters.calls == 1


def test_only_the_rows_of_the_text_are_on_disk(tmp_path):
    remembered(Letters(), tmp_path).encode("cat")
    (file,) = tmp_path.iterdir()
    assert load_file(file)["context"].shape == (3, DIM)


@pytest.mark.parametrize("damage", [b"", b"half a file", "other rows", "other name"])
def test_a_damaged_file_is_encoded_again(tmp_path, damage):
    whole = remembered(Letters(), tmp_path).encode("cat")
    (file,) = tmp_path.iterdir()
    if damage == "other rows":
        damage = save({"context": torch.ones(ROWS + 1, DIM)})
    elif damage == "other name":
        damage = save({"latent": torch.ones(3, DIM)})
    file.write_bytes(damage)
    letters = Letters()
    assert torch.equal(remembered(letters, tmp_path).encode("cat"), whole)
    assert letters.calls == 1
    assert remembered(Letters(), tmp_path).encode("cat").equal(whole)
    assert [file] == list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    encoder = remembered(Letters(), tmp_path / "file" / "contexts")
    with pytest.warns(NotRemembered, match="contexts.*encoded again next time"):
        assert encoder.encode("cat").any()


def test_a_fingerprint_sees_every_element_of_a_small_tensor_and_every_fact():
    tensors = {"a": torch.zeros(3, 5), "b": torch.ones(2).bfloat16()}
    seen = {fingerprint(tensors), fingerprint(tensors, "cpu")}
    seen.add(fingerprint({**tensors, "b": torch.ones(2)}))
    seen.add(fingerprint({**tensors, "a": torch.zeros(5, 3)}))
    for element in range(15):
        changed = torch.zeros(15)
        changed[element] = 1e-3
        seen.add(fingerprint({**tensors, "a": changed.view(3, 5)}))
    assert len(seen) == 19
    assert fingerprint(dict(reversed(tensors.items()))) == fingerprint(tensors)


def test_a_fingerprint_sees_a_changed_column_of_a_large_tensor():
    before = torch.zeros(2048, 1024, dtype=torch.float8_e4m3fn)
    after = before.bfloat16().index_fill(1, torch.tensor([777]), 1).to(before.dtype)
    assert fingerprint({"a": before}) != fingerprint({"a": after})
