"""The commands of `rtr train`, as functions that yield what to tell the user."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..families import RTR
from ..model.structure import with_structure
from ..model.text import fingerprint
from ..shapes import Stride, frames_of
from ..stylizer import checked_device, file_of
from ..vae.stream import Vae
from ..vae.tiny import TinyVae
from ..weights.bundle import read_about
from ..weights.load import load_vae
from ..weights.read import open_weights
from . import looks, network, prompts, ranks, vae
from .data import DataConfig, make_shards
from .describe import Described, Describer
from .distill import Distillation, DistillStage
from .finish import Finish, FinishStage
from .flow_stage import FlowStage
from .loop import Schedule, Stage, Trainer
from .makers import Procedural
from .material import Material, MaterialConfig, read_material
from .mixed import maker_of
from .ode import OdeStage
from .pairs import Pairs
from .reshape import reshaped, with_channels
from .student import Student
from .teacher import Teacher

STYLE_PROMPTS = tuple(prompts.plain(style) for style in looks.STYLES)
FITTED_ON = 600  # windows that the first linear map of an autoencoder is fitted on
CODES = (Stride(4, 8, 8), Stride(4, 16, 16), Stride(2, 8, 8), Stride(4, 4, 4))
CHANNELS = (16, 24, 32, 48, 64)


def train_vae(
    corpus: Path,
    folder: Path,
    schedule: Schedule,
    *,
    begin: Path | None = None,
    encoder: Path | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """An autoencoder from clips and stills, or from the one of a file; or a decoder to the encoder
    of a file."""
    material = yield from gathered(corpus)
    training = vae.VaeTraining()
    if begin is None:
        fitted_on = fitting_windows(material, training, vae.TINY_VAE.stride, seed)
        learner = vae.begun(vae.TINY_VAE, fitted_on, seed)
        if encoder is not None:
            vae.take_encoder(learner, tiny_vae(encoder))
            vae.fit_back(learner, fitted_on)
    else:
        learner = tiny_vae(begin).float().requires_grad_(True).train()
        if encoder is not None:
            vae.take_encoder(learner, tiny_vae(encoder))
    yield from trained(vae.VaeStage(learner, material, training), schedule, folder)


def fitting_windows(
    material: Material, training: vae.VaeTraining, stride: Stride, seed: int
) -> Tensor:
    """Windows that linear maps are fitted on."""
    rngs = [np.random.default_rng((seed, number)) for number in range(FITTED_ON)]
    return vae.windows(material, training, frames_of(training.latents, stride), rngs)


def reshape(
    corpus: Path,
    model: Path,
    out: Path,
    *,
    channels: int | None = None,
    patch: int | None = None,
    adapter: int | None = None,
    vae_file: Path | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """A model in another shape, to be trained on; with the autoencoder of another file, if one is
    given that has learned on from what a reshaping made."""
    learned, parts = network.opened(model)
    if not isinstance(autoencoder := parts.vae, TinyVae):
        raise WeightsError(f"The autoencoder of {model} is not of the tiny family.")
    had = learned.transformer.config
    sides = had.patch if patch is None else had.patch._replace(height=patch, width=patch)
    count, units = channels or had.out_channels, adapter or had.adapter_dim
    learned.transformer = reshaped(learned.transformer, count, sides, units)
    if vae_file is not None:
        autoencoder = tiny_vae(vae_file).float()
        if autoencoder.channels != count:
            raise WeightsError(
                f"{vae_file} has {autoencoder.channels} channels, not {count}: give --channels."
            )
    elif count > autoencoder.channels:
        material = yield from gathered(corpus)
        fitted_on = fitting_windows(material, vae.VaeTraining(), autoencoder.stride, seed)
        autoencoder = with_channels(autoencoder, count, fitted_on)
    about = read_about(open_weights(file_of(model)))
    styles, card = (about.styles, about.card) if about else ((), {})
    recipe = parts.recipe or network.TINY_RECIPE
    network.Result(vae=autoencoder, recipe=recipe, styles=styles, card=card).write(out, learned)
    parameters = sum(p.numel() for p in learned.parameters())
    yield f"wrote {out}: {parameters / 1e6:.2f} million parameters to be trained on"


def compare_codes(corpus: Path, *, seed: int = 0) -> Iterator[str]:
    """A table of what autoencoders of several strides and channels have to go on."""
    material = yield from gathered(corpus)
    training = vae.VaeTraining()
    frames = frames_of(training.latents, CODES[0])
    fitted_on, pixels = (
        vae.windows(material, training, frames, [np.random.default_rng((seed, n)) for n in numbers])
        for numbers in (range(FITTED_ON // 2), range(FITTED_ON // 2, FITTED_ON))
    )
    yield "| stride | " + " | ".join(f"{n} channels" for n in CHANNELS) + " |"
    yield "| --- |" + " --- |" * len(CHANNELS)
    for stride in CODES:
        values = vae.linear_psnr(fitted_on, pixels, stride, CHANNELS)
        name = f"{stride.time} frames, {stride.height}x{stride.width}"
        yield f"| {name} | " + " | ".join(f"{value:.1f} dB" for value in values) + " |"


def train_teacher(
    pairs: Path,
    folder: Path,
    schedule: Schedule,
    *,
    vae_file: Path,
    begin: Sequence[Path] = (),
    tokenizer: Path | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """A teacher from pairs: a small one from its first step on, or of the weights of a Wan and of
    its text encoder."""
    autoencoder = load_vae(file_of(vae_file))
    if begin:
        learner, parts = network.opened([*begin, vae_file], tokenizer)
        recipe = parts.recipe or RTR
    else:
        learner, recipe = network.begun(network.TINY, network.TINY_TEXT, seed), network.TINY_RECIPE
    rows = Pairs(pairs, fingerprint_of(autoencoder))
    yield from described(rows)
    result = network.Result(vae=autoencoder, recipe=recipe, styles=styles_of(rows), card={})
    if rows.structure:
        learner.transformer = with_structure(learner.transformer)
    yield from trained(FlowStage(learner, rows, result, Teacher()), schedule, folder)


def train_student(
    pairs: Path,
    folder: Path,
    schedule: Schedule,
    *,
    teacher: Sequence[Path],
    tokenizer: Path | None = None,
    ode: int = 0,
    partitions: Sequence[int] = (),
    **recipe: Any,
) -> Iterator[str]:
    """A causal student that begins with its teacher's weights: on the pairs' own targets, or on
    the ends of the teacher's flow in `ode` steps."""
    learner, parts = network.opened(teacher, tokenizer)
    rows = rows_for(learner, parts.vae, pairs)
    yield from described(rows)
    own = (parts.recipe or network.TINY_RECIPE).override(**recipe)
    result = network.Result(vae=parts.vae, recipe=own, styles=styles_of(rows, teacher), card={})
    way = Student(recipe=own, partitions=tuple(partitions))
    if ode:
        leader, _ = network.opened(teacher, tokenizer)
        stage = OdeStage(learner, leader, rows, result, way, ode)
    else:
        stage = FlowStage(learner, rows, result, way)
    yield from trained(stage, schedule, folder)


def distill(
    pairs: Path,
    folder: Path,
    schedule: Schedule,
    *,
    student: Sequence[Path],
    teacher: Sequence[Path],
    tokenizer: Path | None = None,
) -> Iterator[str]:
    """The student after its post-training, by the teacher's score and its own critics."""
    learner, parts = network.opened(student, tokenizer)
    scorer, _ = network.opened(teacher, tokenizer)
    rows = [rows_for(each, parts.vae, pairs) for each in (scorer, learner)][-1]
    yield from described(rows)
    recipe = parts.recipe or network.TINY_RECIPE
    result = network.Result(vae=parts.vae, recipe=recipe, styles=styles_of(rows, student), card={})
    stage = DistillStage(learner, scorer, rows, result, Distillation(recipe=recipe))
    yield from trained(stage, schedule, folder)


def finish(
    corpus: Path, folder: Path, schedule: Schedule, *, student: Path, vae_file: Path | None = None
) -> Iterator[str]:
    """Student and decoder after their last stage, by what is seen; with another decoder than the
    student's own, if a file of one is given."""
    painter, parts = network.opened(student)
    shown_by = tiny_vae(student if vae_file is None else vae_file).float()
    if fingerprint_of(shown_by) != fingerprint_of(parts.vae):
        raise WeightsError(
            f"{vae_file} encodes otherwise than the autoencoder of {student}: train a decoder to "
            f"that one's encoder, with `rtr train vae --encoder`."
        )
    material = yield from gathered(corpus)
    recipe = parts.recipe or network.TINY_RECIPE
    styles = tuple(dict.fromkeys((*styles_of(None, [student]), *STYLE_PROMPTS)))
    result = network.Result(vae=shown_by, recipe=recipe, styles=styles, card={})
    stage = FinishStage(painter, material, result, Finish())
    yield from trained(stage, schedule, folder)


def make_data(
    corpus: Path,
    vae_file: Path,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    config: DataConfig | None = None,
    makers: Sequence[Sequence[str]] = (),
    describe: Path | None = None,
) -> Iterator[str]:
    """Pairs in shards, by looks drawn by rule or by the makers told, perhaps with the outlines of
    their sources; what has no prompt may be described by a vision-language model."""
    maker = maker_of(makers) if makers else Procedural()
    if describe is not None:
        maker = Described(maker, Describer(describe))
    config = config or DataConfig()
    material = yield from gathered(corpus, MaterialConfig.around(config.side))
    autoencoder = load_vae(file_of(vae_file), device=checked_device(None))
    place = folder, fingerprint_of(autoencoder)
    yield from make_shards(material, autoencoder, maker, config, place, count, seed)


def release(
    model: Path,
    out: Path,
    *,
    card: Path | None,
    towards: Path | None = None,
    share: float = 0.5,
    student: bool = True,
    **recipe: Any,
) -> Iterator[str]:
    """A trained model as it is given away: in bf16, with its card, its recipe settled. Or what lies
    a share of the way towards one it was trained from, or its autoencoder does, not its student."""
    learned, parts = network.opened(model)
    if towards is not None:
        other, others = network.opened(towards)
        both = [(learned, other), (parts.vae, others.vae)]
        network.mix(both if student else both[1:], share)
    about = read_about(open_weights(model))
    told = dict(about.card) if about else {}
    told |= json.loads(card.read_text(encoding="utf-8")) if card else {}
    own = (parts.recipe or network.TINY_RECIPE).override(**recipe)
    styles = about.styles if about else ()
    result = network.Result(vae=parts.vae, recipe=own, styles=styles, card=told)
    result.write(out, learned, torch.bfloat16)
    yield f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB"


def gathered(corpus: Path, config: MaterialConfig | None = None) -> Generator[str, None, Material]:
    """Read the material, telling how far it is."""
    material, config = Material(), config or MaterialConfig()
    for number, _ in enumerate(read_material(corpus, config, material), start=1):
        if number % 50 == 0:
            yield f"read {number} files"
    runs = sum(map(len, material.runs))
    yield f"{runs} frames of clips and {len(material.stills)} stills in {corpus}"
    for reason in material.refused:
        yield f"left out: {reason}"
    return material


def described(rows: Pairs) -> Iterator[str]:
    yield f"{len(rows.rows)} pairs in {rows.folder}, {len(rows.prompted)} of them with a prompt"
    for reason in rows.refused:
        yield f"left out: {reason}"


def rows_for(learner: network.Network, autoencoder: Vae, pairs: Path) -> Pairs:
    """Pairs that an autoencoder made, such as the learner can be told of."""
    rows = Pairs(pairs, fingerprint_of(autoencoder))
    if learner.transformer.config.structure != rows.structure:
        has, lack = ("are", "is not") if rows.structure else ("are not", "is")
        raise WeightsError(
            f"The pairs in {pairs} {has} with the structure of their sources, and the model "
            f"{lack} told of it: make others with `rtr train data`, with --structure or without."
        )
    return rows


def styles_of(rows: Pairs | None, files: Sequence[Path] = ()) -> tuple[str, ...]:
    """One prompt for each style that files know, or that pairs can be asked for."""
    told = [read_about(open_weights(file_of(file))) for file in files]
    known = [style for about in told if about for style in about.styles]
    asked = rows.styles.items() if rows else ()
    plain = (prompts.plain(style) if style in looks.STYLES else short for style, short in asked)
    return tuple(dict.fromkeys((*known, *plain)))


def tiny_vae(file: Path) -> TinyVae:
    autoencoder = load_vae(file_of(file))
    if not isinstance(autoencoder, TinyVae):
        raise WeightsError(f"The autoencoder in {file} is not of the tiny family.")
    return autoencoder


def fingerprint_of(autoencoder: Vae) -> str:
    """Of what makes latents; a decoder may be trained on while pairs stay good."""
    assert isinstance(autoencoder, nn.Module), "as all that are loaded from files"
    state = autoencoder.state_dict()
    return fingerprint({name: state[name] for name in state if name.startswith("encoder")})[:16]


def trained(stage: Stage, schedule: Schedule, folder: Path) -> Iterator[str]:
    """Run a stage to its end, a line for each set of figures."""
    ranks.join()
    trainer = Trainer(stage, schedule, folder)
    if trainer.step:
        yield f"going on from step {trainer.step}"
    parameters = sum(p.numel() for module in stage.players.values() for p in module.parameters())
    yield f"{parameters / 1e6:.2f} million, {trainer.dtype}, {torch.get_num_threads()} threads"
    for facts in trainer.run():
        if ranks.is_first():
            yield told(stage, schedule, facts)


def told(stage: Stage, schedule: Schedule, facts: Mapping[str, float]) -> str:
    left = (schedule.steps - facts["step"]) * facts["seconds"] / 60
    rest = "  ".join(f"{n} {v:.4g}" for n, v in facts.items() if n not in ("step", "seconds"))
    return (
        f"{stage.name} {facts['step']:.0f}/{schedule.steps}  {rest}  "
        f"{facts['seconds']:.2f} s a step, {left:.0f} min left"
    )
