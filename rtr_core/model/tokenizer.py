"""Text to token ids for umT5, from a sentencepiece model or a tokenizer.json; never the network."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import sentencepiece
import tokenizers

from ..errors import WeightsError

END = "</s>"
FILE_NAMES = ("tokenizer.json", "spiece.model")
WAN_FOLDER = Path("google", "umt5-xxl")  # where Wan's own download keeps them


class Tokenizer(NamedTuple):
    """What is left of a tokenizer file: its text to ids, and what identifies it."""

    ids: Callable[[str], list[int]]  # neither begins nor ends with a special token
    end: int  # the id that closes every prompt
    size: int  # every id is below
    digest: str  # of the bytes it was made from


def read_tokenizer(source: bytes, file: Path | str) -> Tokenizer:
    """A tokenizer from the bytes of a tokenizer.json or of a sentencepiece model."""
    read = _from_json if source.lstrip()[:1] == b"{" else _from_sentencepiece
    try:
        return read(source)
    except Exception as error:  # both libraries raise plain Exceptions of many kinds
        raise WeightsError(
            f"The tokenizer in {file} cannot be read ({error}). It must be the tokenizer.json or "
            f"the spiece.model of umT5; download it again from google/umt5-xxl."
        ) from error


def find_tokenizer(file: Path, given: Path | None = None) -> Tokenizer:
    """The tokenizer at `given`, a file or a folder; without it, the one next to `file`."""
    places = [given] if given else [file.parent, file.parent / WAN_FOLDER]
    for path in (place / name for place in places for name in ("", *FILE_NAMES)):
        if path.is_file():
            return read_tokenizer(path.read_bytes(), path)
    raise WeightsError(
        f"{file.name} holds no tokenizer, and there is none in {given or file.parent}. "
        f"Put spiece.model or tokenizer.json of google/umt5-xxl next to {file.name}, or name its "
        f"folder in the `tokenizer` argument. Files such as umt5_xxl_fp8_e4m3fn_scaled.safetensors "
        f"have it inside."
    )


def _from_sentencepiece(source: bytes) -> Tokenizer:
    pieces = sentencepiece.SentencePieceProcessor(model_proto=source)
    return Tokenizer(
        ids=pieces.encode,
        end=_known(pieces.eos_id()),
        size=pieces.get_piece_size(),
        digest=hashlib.sha256(source).hexdigest(),
    )


def _from_json(source: bytes) -> Tokenizer:
    pieces = tokenizers.Tokenizer.from_buffer(source)
    pieces.no_truncation()
    pieces.no_padding()
    return Tokenizer(
        ids=lambda text: pieces.encode(text, add_special_tokens=False).ids,
        end=_known(pieces.token_to_id(END)),
        size=pieces.get_vocab_size(),
        digest=hashlib.sha256(source).hexdigest(),
    )


def _known(end: int | None) -> int:
    if end is None or end < 0:
        raise ValueError(f"it has no end token {END}")
    return end
