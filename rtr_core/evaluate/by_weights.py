"""The paper's metrics: CLIP-T, CLIP-F, CSD score, VBench's aesthetic and imaging quality; depth.

Each needs weights that a person names, and says in its name which they were. Without them it has no
value and the reason why; nothing else ever stands under its name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import RtrError, WeightsError
from ..model.depth import load_depth
from ..stylizer import checked_device
from ..weights.read import open_weights
from .bars import Bar
from .clip_model import ClipModel
from .csd import CsdModel
from .depth import DepthKept
from .gauges import FrameGauge
from .musiq import MusiqModel
from .passages import Pair
from .showings import Showing

# Which option brings what a metric needs.
NEEDS = {
    "CLIP-T": ("clip",),
    "CLIP-F": ("clip",),
    "CSD": ("csd",),
    "aesthetic": ("clip", "aesthetic"),
    "imaging": ("musiq",),
    "depth": ("depth_model",),
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Files and folders on this machine."""

    clip: Path | None = None
    aesthetic: Path | None = None
    csd: Path | None = None
    musiq: Path | None = None
    depth_model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Seers:
    """What was loaded of them, and why the rest was not."""

    loaded: Mapping[str, Any]
    refused: Mapping[str, str]
    every: int = 1  # so manyth frame is looked at

    @classmethod
    def load(cls, weights: Weights, device: str = "cpu", every: int = 1) -> "Seers":
        makers: dict[str, Callable[[Path, str], Any]] = {
            "clip": ClipModel,
            "csd": CsdModel,
            "musiq": MusiqModel,
            "depth_model": load_depth,
        }
        loaded, refused = {}, {}
        for name, make in makers.items():
            if (path := getattr(weights, name)) is not None:
                try:
                    loaded[name] = make(path, str(checked_device(device)))
                except (RtrError, OSError, RuntimeError) as error:
                    refused[name] = str(error)
        if weights.aesthetic is not None:
            try:
                loaded["aesthetic"] = linear_head(weights.aesthetic, loaded.get("clip"))
            except (RtrError, OSError) as error:
                refused["aesthetic"] = str(error)
        return cls(loaded=loaded, refused=refused, every=every)

    def missing(self, metric: str) -> str | None:
        """Why a metric cannot be measured of any clip."""
        for need in NEEDS[metric]:
            if need in self.refused:
                return self.refused[need]
            if need not in self.loaded:
                return f"no weights were named: --{need.replace('_', '-')}"
        return None

    def gauges(self, showing: Showing) -> list[FrameGauge]:
        """For one clip."""
        loaded, every = self.loaded, self.every
        found: list[FrameGauge] = []
        if clip := loaded.get("clip"):
            found.append(ClipSeen(clip, showing, every))
            if (head := loaded.get("aesthetic")) is not None:
                found.append(Aesthetic(clip, head, every))
        if csd := loaded.get("csd"):
            found.append(StyleKept(csd, showing, every))
        if musiq := loaded.get("musiq"):
            found.append(Imaging(musiq, every))
        if depth := loaded.get("depth_model"):
            found.append(DepthKept(depth, every))
        return found

    def absent(self) -> dict[str, Bar]:
        reasons = {metric: self.missing(metric) for metric in NEEDS}
        return {
            metric: Bar(claim=metric, value=None, reason=reason)
            for metric, reason in reasons.items()
            if reason
        }


def linear_head(path: Path, clip: ClipModel | None) -> tuple[Tensor, Tensor]:
    """LAION's linear layer over CLIP's vectors of pictures."""
    tensors = open_weights(path).tensors
    if clip is None:
        raise WeightsError("An aesthetic head needs CLIP: name its folder with --clip.")
    if "weight" not in tensors or "bias" not in tensors:
        raise WeightsError(f"{path} is no linear head: it needs a weight and a bias.")
    weight, bias = tensors["weight"].float(), tensors["bias"].float()
    if weight.shape != (1, clip.width) or bias.shape != (1,):
        raise WeightsError(
            f"{path} is a head over vectors of {weight.shape[-1]}; {clip.name} gives "
            f"{clip.width}. LAION's sa_0_4_vit_l_14_linear.pth goes with ViT-L/14."
        )
    return weight, bias


class ClipSeen:
    """CLIP-T and CLIP-F: frames against the prompt, and against the frame before."""

    def __init__(self, clip: ClipModel, showing: Showing, every: int):
        self.clip, self.every = clip, every
        self.prompt = None if showing.prompt is None else clip.text(showing.prompt)
        self.unasked = showing.unasked if showing.reference is None else "no prompt, a reference"
        self._before: Tensor | None = None
        self._told: list[float] = []
        self._steady: list[float] = []

    def see(self, number: int, pair: Pair) -> None:
        if number % self.every:
            return
        seen = self.clip.image(pair.output)
        if self.prompt is not None:
            self._told.append(float(seen @ self.prompt))
        if self._before is not None:
            self._steady.append(float(seen @ self._before))
        self._before = seen

    def bars(self) -> dict[str, Bar]:
        steps = "next frame" if self.every == 1 else f"frame {self.every} later"
        return {
            "CLIP-T": _bar(
                f"CLIP-T, {self.clip.name}, cosine to the prompt", self._told, self.unasked
            ),
            "CLIP-F": _bar(
                f"CLIP-F, {self.clip.name}, cosine to the {steps}",
                self._steady,
                "a single frame was seen",
            ),
        }


class Aesthetic:
    """As VBench has it: LAION's head on CLIP's unit vectors, a tenth of its mean."""

    def __init__(self, clip: ClipModel, head: tuple[Tensor, Tensor], every: int):
        self.clip, self.head, self.every = clip, head, every
        self._scores: list[float] = []

    def see(self, number: int, pair: Pair) -> None:
        if number % self.every:
            return
        vector = self.clip.image(pair.output, antialias=False).cpu()  # as VBench resizes
        self._scores.append(float(F.linear(vector, *self.head)) / 10)

    def bars(self) -> dict[str, Bar]:
        claim = f"VBench aesthetic quality, LAION head on {self.clip.name}, 0..1"
        return {"aesthetic": _bar(claim, self._scores, "no frame was seen")}


class StyleKept:
    """CSD score: the style of frames against the reference's."""

    def __init__(self, csd: CsdModel, showing: Showing, every: int):
        self.csd, self.every = csd, every
        self.wanted = None if showing.reference is None else csd.style(showing.reference)
        self._scores: list[float] = []

    def see(self, number: int, pair: Pair) -> None:
        if self.wanted is not None and number % self.every == 0:
            self._scores.append(float(self.csd.style(pair.output) @ self.wanted))

    def bars(self) -> dict[str, Bar]:
        claim = f"CSD score, {self.csd.name}, cosine to the reference"
        return {"CSD": _bar(claim, self._scores, "no reference")}


class Imaging:
    """As VBench has it: MUSIQ's mean, a hundredth of it."""

    def __init__(self, musiq: MusiqModel, every: int):
        self.musiq, self.every = musiq, every
        self._scores: list[float] = []

    def see(self, number: int, pair: Pair) -> None:
        if number % self.every == 0:
            self._scores.append(self.musiq.score(pair.output) / 100)

    def bars(self) -> dict[str, Bar]:
        claim = f"VBench imaging quality, {self.musiq.name}, 0..1"
        return {"imaging": _bar(claim, self._scores, "no frame was seen")}


def _bar(claim: str, values: list[float], reason: str) -> Bar:
    value = fmean(values) if values else None
    if value is not None and not torch.isfinite(torch.tensor(value)):
        return Bar(claim=claim, value=None, reason="the model gave a number that is not finite")
    return Bar(claim=claim, value=value, reason=reason)
