"""Files as users have them: sound, damaged, misnamed, lying or hostile."""

import json
import os
import random
import struct

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.weights.inspect import inspect
from rtr_core.weights.load import load_transformer
from rtr_core.weights.read import open_weights


class Payload:
    """What a hostile pickle does when it is believed."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Plain:
    """A harmless class that is no tensor either."""


def header(entries, numbers=b"", length=None):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


SOUND = header({"a": entry(0, 8), "b": entry(8, 16)}, bytes(16))
DAMAGED = {
    "empty": (b"", "is empty"),
    "three bytes": (b"abc", "too short"),
    "cut in its numbers": (SOUND[:-1], "truncated"),
    "cut in its header": (SOUND[:20], "header claims"),
    "a header beyond the file": (header({}, length=2**60), "header claims"),
    "a header that is no JSON": (header({})[:8] + b"{]", "header cannot be read"),
    "a header that is a list": (header([1, 2]), "header cannot be read"),
    "a header of nested lists": (
        struct.pack("<Q", 200_006) + b'{"a":' + b"[" * 200_000 + b"}",
        "header cannot be read",
    ),
    "metadata that is a number": (header({"__metadata__": 3}), "metadata"),
    "metadata of numbers": (header({"__metadata__": {"a": 3}}), "metadata"),
    "a tensor without offsets": (header({"a": {"dtype": "F32", "shape": [2]}}), "lacks"),
    "a tensor that is a number": (header({"a": 3}), "lacks"),
    "an unknown dtype": (header({"a": entry(0, 8, dtype="F31")}, bytes(8)), "dtype 'F31'"),
    "a dtype that is a list": (header({"a": entry(0, 8, dtype=[])}, bytes(8)), "header|dtype"),
    "a negative shape": (header({"a": entry(0, 8, (-2, -1))}, bytes(8)), "whole numbers"),
    "a shape of fractions": (header({"a": entry(0, 8, (2.0,))}, bytes(8)), "whole numbers"),
    "a shape past all memory": (header({"a": entry(0, 8, (2**40, 2**40))}, bytes(8)), "needs"),
    "offsets beyond the file": (header({"a": entry(0, 800, (200,))}, bytes(8)), "truncated"),
    "offsets that overlap": (header({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "overlaps"),
    "offsets with a hole": (header({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)), "nobody"),
    "offsets the wrong way": (header({"a": entry(8, 0)}, bytes(8)), "needs"),
    "more numbers than tensors": (SOUND + b"more", "nobody owns its last 4"),
    "no tensors": (header({}), "no tensors"),
    "a git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "git lfs pull",
    ),
    "a web page": (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "a web page without a doctype": (b"<html><body>404</body></html>", "web page"),
    "a GGUF file": (b"GGUF\x03\x00\x00\x00" + bytes(64), "not supported yet"),
    "a zip of something else": (b"PK\x03\x04" + bytes(64), "cannot be read as a PyTorch file"),
    "a pickle of nothing": (b"\x80\x02}q\x00.", "PyTorch file|no tensors"),
    "noise": (bytes(range(256)), "header"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_by_name(damage, tmp_path):
    content, expected = DAMAGED[damage]
    file = tmp_path / "broken.safetensors"
    file.write_bytes(content)
    for use in (open_weights, inspect, load_transformer):
        with pytest.raises(WeightsError, match=expected) as caught:
            use(file)
        assert "broken.safetensors" in str(caught.value)


def test_a_sound_file_opens(tmp_path):
    (tmp_path / "sound.sft").write_bytes(SOUND)
    file = open_weights(tmp_path / "sound.sft")
    assert file.tensors.shapes == {"a": (2,), "b": (2,)}
    assert torch.equal(file.tensors["a"], torch.zeros(2))
    with pytest.raises(KeyError):
        file.tensors["c"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_a_payload_is_refused_and_never_run(zipped, tmp_path):
    proof, file = tmp_path / "proof", tmp_path / "hostile.pt"
    content = {"a": torch.zeros(2), "b": Payload(f"touch {proof}")}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"hostile\.pt.*(posix|nt)\.system.*safetensors"):
        load_transformer(file)
    assert not proof.exists()


def test_a_pickle_with_a_foreign_class_says_how_to_convert_it(tmp_path):
    torch.save({"model": {"a": torch.zeros(2)}, "config": Plain()}, tmp_path / "foreign.ckpt")
    with pytest.raises(WeightsError, match=r"foreign\.ckpt.*Plain.*convert it yourself"):
        open_weights(tmp_path / "foreign.ckpt")


def test_a_pickle_that_was_cut_off_is_refused(transformer, tmp_path):
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(transformer.state_dict(), whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"cut\.pt"):
        open_weights(cut)


def test_a_pickle_that_holds_itself_ends(tmp_path):
    endless = {"a": torch.zeros(2)}
    endless["b"] = endless
    torch.save(endless, tmp_path / "endless.pt")
    assert "a" in open_weights(tmp_path / "endless.pt").tensors


def test_a_text_file_is_no_weights_file(tmp_path):
    (tmp_path / "notes.pt").write_text("my notes")
    with pytest.raises(WeightsError, match=r"notes\.pt is no weights file"):
        open_weights(tmp_path / "notes.pt")


def test_a_missing_file_is_told_apart_from_those_near_it(tmp_path):
    (tmp_path / "self_forcing_dmd.pt").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(WeightsError, match=r"self_forcing_dmb\.pt does not.*self_forcing_dmd\.pt"):
        open_weights(tmp_path / "self_forcing_dmb.pt")
    with pytest.raises(WeightsError, match=r"zzz\.pt does not exist"):
        open_weights(tmp_path / "zzz.pt")
    with pytest.raises(WeightsError, match=r"nowhere.*does not exist"):
        open_weights(tmp_path / "nowhere" / "model.pt")


def test_a_folder_without_weights_names_the_folders_in_it(tmp_path):
    with pytest.raises(WeightsError, match=f"{tmp_path.name} holds no weights"):
        open_weights(tmp_path)
    (tmp_path / "transformer").mkdir()
    with pytest.raises(WeightsError, match=r"holds no weights.*transformer"):
        open_weights(tmp_path)


def test_a_folder_with_several_files_asks_which(save, tmp_path):
    save({"a": torch.zeros(2)}, "one.safetensors")
    assert open_weights(tmp_path).path.name == "one.safetensors"
    save({"a": torch.zeros(2)}, "two.safetensors")
    with pytest.raises(WeightsError, match=r"one\.safetensors, two\.safetensors"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("not json", "no index"),
        ('{"weight_map": []}', "no index"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "outside"),
        ('{"weight_map": {"a": 3}}', "outside"),
        ('{"weight_map": {"a": "lost.safetensors"}}', r"lost\.safetensors does not exist"),
        ('{"weight_map": {"z": "one.safetensors"}}', "holds 'z', but it does not"),
    ],
)
def test_an_index_that_lies_is_refused(index, expected, save, tmp_path):
    save({"a": torch.zeros(2)}, "one.safetensors")
    (tmp_path / "m.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=expected) as caught:
        open_weights(tmp_path)
    assert "safetensors" in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_tensor(bad, transformer, save):
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    state["blocks.1.ffn.0.weight"][3, 4:6] = bad
    file = save(state)
    with pytest.raises(WeightsError, match=r"model\.safetensors.*2 of .*'blocks\.1\.ffn\.0\.weig"):
        load_transformer(file)
    assert inspect(file, values=True).not_finite == {"blocks.1.ffn.0.weight": 2}
    assert inspect(file).not_finite is None


def test_numbers_too_large_for_a_dtype_are_refused(transformer, save):
    state = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    state["head.head.bias"][0] = 1e6
    file = save(state)
    load_transformer(file, dtype=torch.bfloat16)
    with pytest.raises(WeightsError, match=r"'head\.head\.bias'.*float16.*bfloat16"):
        load_transformer(file, dtype=torch.float16)


def test_missing_unexpected_and_misshapen_tensors_are_listed(transformer, save):
    state = dict(transformer.state_dict())
    for name in [name for name in state if ".norm_q." in name]:
        del state[name]
    state["blocks.0.extra.weight"] = torch.zeros(2)
    state["blocks.1.ffn.2.weight"] = torch.zeros(128, 3)
    with pytest.raises(WeightsError) as caught:
        load_transformer(save(state))
    for said in (
        "model.safetensors",
        "4 missing: blocks.0.self_attn.norm_q.weight",
        "1 unexpected: blocks.0.extra.weight",
        "blocks.1.ffn.2.weight is [128, 3], not [128, 192]",
    ):
        assert said in str(caught.value)


def test_a_name_that_claims_a_billion_blocks_is_refused(transformer, save):
    state = dict(transformer.state_dict()) | {"blocks.999999999.norm3.bias": torch.zeros(2)}
    with pytest.raises(WeightsError, match=r"model\.safetensors.*no 'blocks\.2'"):
        load_transformer(save(state))


@pytest.mark.parametrize("lost", ["patch_embedding.weight", "head.modulation", "head.head.weight"])
def test_a_model_without_one_of_its_first_tensors_is_refused_by_name(lost, transformer, save):
    state = dict(transformer.state_dict())
    del state[lost]
    with pytest.raises(WeightsError, match=lost) as caught:
        load_transformer(save(state))
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("name", ["patch_embedding.weight", "text_embedding.0.weight"])
def test_a_tensor_with_another_number_of_axes_is_refused(name, transformer, save):
    state = dict(transformer.state_dict()) | {name: torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_transformer(save(state))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_whatever_bytes_are_changed_there_is_a_model_or_an_error_of_ours(name, transformer, save):
    file, rng = save(transformer.state_dict(), name), random.Random(5)
    sound = file.read_bytes()
    start = 8 + int.from_bytes(sound[:8], "little") if name == "model.safetensors" else len(sound)
    for _ in range(100):
        content = bytearray(sound)
        for _ in range(rng.choice([1, 2, 5])):
            content[rng.randrange(start)] = rng.choice([*b'0123456789[]{},":-', rng.randrange(256)])
        file.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        for use in (inspect, load_transformer):
            try:
                use(file)
            except WeightsError as error:
                assert file.name in str(error)
