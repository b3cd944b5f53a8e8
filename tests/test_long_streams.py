"""An hour must look like second ten, and cost what it cost."""

import gc
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rtr_core import Style
from rtr_core.intake import Waiting

SIZE = (16, 16)
PERIOD = 3  # chunks after which source and noise come again


class RoundAndRound:
    """The same few draws of noise, over and over."""

    def __init__(self, draws: int):
        rng = torch.Generator().manual_seed(11)
        seeds = [int(torch.randint(2**31, (), generator=rng)) for _ in range(draws)]
        self.seeds = itertools.cycle(seeds)

    def like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(next(self.seeds)))

    def snapshot(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor], /) -> None: ...


def reference(seed: int) -> Style:
    return Style(reference=torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(seed)))


def live_bytes() -> int:
    """Bytes of all tensors that anything still holds."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor]
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()
    )


@pytest.fixture(scope="module")
def hour(stylizer):
    """1,200 latent frames of a periodic source under periodic noise, pushed as they come."""
    session = stylizer.session(reference(1), SIZE)
    session.flight.noise = RoundAndRound(PERIOD * len(session.recipe.timesteps))
    chunk_frames = session.recipe.chunk * session.parts.vae.stride.time
    rng = torch.Generator().manual_seed(2)
    source = torch.rand(PERIOD, chunk_frames, *SIZE, 3, generator=rng)
    chunks, held = [], []
    for n in range(600):
        for out in session.push(source[n % PERIOD]):
            chunks = [*chunks[-9:], out]
        if n in (50, 599):
            held.append((live_bytes(), session.memory.nbytes))
    return session, torch.stack(chunks), held


def test_1200_latent_frames_stay_finite_in_flat_memory(hour):
    session, chunks, held = hour
    assert session.chunks * session.recipe.chunk >= 1198
    assert chunks.isfinite().all()
    assert held[0][1] == held[1][1]
    assert held[1][0] - held[0][0] < chunks.nbytes


def test_what_repeats_goes_on_repeating(hour):
    """Nothing depends on how long the stream has run."""
    _, chunks, _ = hour
    apart = (chunks[PERIOD:] - chunks[:-PERIOD]).flatten(1).norm(dim=1)
    within = (chunks[1:] - chunks[:-1]).flatten(1).norm(dim=1)
    assert apart.max() < 1e-4 * within.min()


def test_the_reference_is_still_attended_at_the_end(stylizer, hour):
    session, *_ = hour
    source = torch.zeros(1, 8, 2, 2, 2)
    outs = []
    for seed in (1, 1, 2):
        encoded = session.parts.encode(reference(seed), session.geometry)
        session.parts.take_up(encoded, session.memory)
        session.flight.noise = RoundAndRound(2)
        with torch.no_grad():
            session.flight.set_out(Waiting(source, frames=8, motion=0.0))
            landed = session.flight.move_on(session.watch)
            outs.append(landed.x)
    torch.testing.assert_close(outs[0], outs[1])
    assert (outs[0] - outs[2]).norm() > 1e-2 * outs[0].norm()


def test_absolute_positions_run_past_any_table(stylizer):
    recipe = stylizer.recipe.override(positions="absolute")
    session = stylizer.session(Style(prompt="oil"), SIZE, recipe=recipe)
    segments = session.memory.segments
    session.memory.segments = replace(segments, next_index=100_000)  # a day and more
    frames = torch.rand(9, *SIZE, 3, generator=torch.Generator().manual_seed(3))
    out = torch.cat([*session.push(frames), *session.flush()])
    assert out.isfinite().all() and len(out) == 9
