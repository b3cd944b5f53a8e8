"""Prompts for what no one has named: a local vision-language model tells the style of a picture.

rtr train data CORPUS VAE PAIRS --maker neural references=PICTURES --describe MODEL
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import StyleError, WeightsError
from ..stylizer import checked_device
from .makers import Maker, Pair

QUESTION = (
    "Name the artistic style of this picture in at most ten words: its medium, lines and colours. "
    "Say nothing of what it shows."
)
MOST_TOKENS = 32  # of an answer
LONGEST = 200  # characters of a prompt


class Describer:
    """Any model of transformers that answers in text to a picture, from a folder on disk."""

    def __init__(self, folder: Path, device: str | None = None):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{folder} is not a vision-language model that transformers can load: give the "
                f"folder of one that is on this disk, with config.json, its weights and its "
                f"processor. It said: {str(error).splitlines()[0]}"
            ) from error
        self.model = model.to(checked_device(device)).eval()
        self._one = threading.Lock()  # pairs are made in threads

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray) -> str:
        """The style of `[h w 3]` uint8 in words, on one line; always the same of the same."""
        asked = [
            {"type": "image", "image": Image.fromarray(picture)},
            {"type": "text", "text": QUESTION},
        ]
        with self._one:
            given = self.processor.apply_chat_template(
                [{"role": "user", "content": asked}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            ).to(self.model.device)
            said = self.model.generate(**given, max_new_tokens=MOST_TOKENS, do_sample=False)
        answer = said[:, given["input_ids"].shape[1] :]
        (words,) = self.processor.batch_decode(answer, skip_special_tokens=True)
        return tidied(words)


def tidied(words: str) -> str:
    """One line, without quotes; a semicolon would begin another phrasing."""
    line = " ".join(words.replace(";", ",").split()).strip("\"'. ")
    return line if len(line) <= LONGEST else line[:LONGEST].rsplit(" ", 1)[0]


@dataclass(frozen=True)
class Described:
    """Another maker's pairs, of which a share of those that have no prompt is given one."""

    maker: Maker
    describe: Callable[[np.ndarray], str]
    share: float = 0.5
    _known: dict[Any, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise StyleError(f"The share to be described is above 0, at most 1; not {self.share}.")

    def make(self, source: np.ndarray, rng: np.random.Generator) -> Pair:
        pair = self.maker.make(source, rng)
        if pair.prompt or rng.random() >= self.share:
            return pair
        return replace(pair, prompt=self._told(pair))

    def _told(self, pair: Pair) -> str:
        """A look that other frames can be given as well is told once."""
        picture = pair.target[len(pair.target) // 2]
        if pair.look is None:
            return self.describe(picture)
        if pair.look not in self._known:
            self._known[pair.look] = self.describe(picture)
        return self._known[pair.look]
