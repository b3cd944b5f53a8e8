"""What is counted beforehand is what a session then takes."""

from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from rtr_core import Style, Stylizer, untrained
from rtr_core.footprint import Model, Savings, counted, measured, working_bytes
from rtr_core.model.fp8 import in_fp8
from rtr_core.model.offload import offloaded
from rtr_core.settings import Settings
from rtr_core.shapes import Size
from rtr_core.vae.paired import PairedVae
from rtr_core.vae.tiny_config import TinyVaeConfig
from rtr_core.vae.wan_config import WanVaeConfig

CPU, META = torch.device("cpu"), torch.device("meta")
SIZE = Size(48, 64)
WIDE = Savings(dtype=torch.float32)
ON = {
    "nothing": WIDE,
    "fp8 cache": replace(WIDE, cache="fp8"),
    "tiny autoencoder": replace(WIDE, tiny="both", weights="fp8"),
    "all": Savings(weights="fp8", cache="fp8", tiny="decodes", offload=True),
}
MODEL = Model(
    name="small",
    transformer=replace(untrained.TRANSFORMER, layers=3, in_channels=16, out_channels=16),
    vae=WanVaeConfig(dim=16, decoder_dim=16, multipliers=(1, 1, 2, 2), depth=1),
    recipe=untrained.RECIPE.override(chunk=3, timesteps=(1000, 500)),
    tiny=TinyVaeConfig(encoder_widths=(16,) * 4, decoder_widths=(16,) * 4, depth=1),
)


@pytest.mark.parametrize("savings", ON.values(), ids=ON)
def test_networks_counted_apart_take_what_a_whole_session_takes(savings):
    whole, _ = measured(MODEL, SIZE, savings, META)
    apart = counted(MODEL, SIZE, savings)
    assert apart.cache == whole.cache and apart.on_host == whole.on_host
    assert apart.weights == pytest.approx(whole.weights, rel=0.01)
    assert apart.peak == pytest.approx(whole.peak, rel=0.03)


@pytest.mark.parametrize("savings", ON.values(), ids=ON)
def test_without_numbers_it_takes_what_it_takes_with_them(savings):
    """Attention aside: on this CPU its kernel takes a little for itself."""
    real, imagined = (measured(MODEL, SIZE, savings, place)[0] for place in (CPU, META))
    assert (imagined.weights, imagined.cache) == (real.weights, real.cache)
    assert imagined.kept == pytest.approx(real.kept, rel=0.001)
    for phase, taken in real.passing.items():
        assert imagined.passing[phase] == pytest.approx(taken, rel=0.05), phase


def test_tiles_are_counted_too():
    size = Size(480, 16)
    real, imagined = (
        measured(MODEL, size, replace(WIDE, tiled=True), place)[0] for place in (CPU, META)
    )
    assert imagined.peak == pytest.approx(real.peak, rel=0.01)


def test_an_allocator_gives_out_an_eighth_more_at_most():
    """By torch's own profiler, which sees what convolutions take for themselves too."""
    size = Size(128, 192)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        stylizer = Stylizer.of(untrained.parts())
        session = stylizer.session(Style(prompt="ink"), size)
        for count in (5, 8, 8, 8, 8):
            list(session.push(torch.zeros(count, *size, 3, dtype=torch.uint8)))
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = watched.profiler.kineto_results.events()
    now = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    planned = counted(Model.of(stylizer), size, Savings.of(stylizer)).peak
    assert 0.85 * peak < planned + stylizer.parts.text_bytes <= peak


def test_what_is_on_is_seen_in_a_loaded_stylizer():
    parts = untrained.parts(dtype=torch.bfloat16)
    network = offloaded(in_fp8(parts.transformer), CPU)
    vae = PairedVae(parts.vae, parts.vae)
    changed = replace(parts, transformer=network, vae=vae)
    stylizer = replace(Stylizer.of(changed), cache="fp8").tiled()
    assert Savings.of(stylizer) == Savings(
        weights="fp8", cache="fp8", tiled=True, tiny="decodes", offload=True
    )
    assert Model.of(stylizer).tiny == Model.of(stylizer).vae == untrained.VAE


def test_the_cache_is_as_large_as_that_of_a_session():
    for cache in (None, "fp8"):
        stylizer = replace(Stylizer.of(untrained.parts()), cache=cache)
        settings = Settings(size=SIZE, recipe=stylizer.recipe, cache=cache)
        taken = counted(Model.of(stylizer), SIZE, Savings.of(stylizer)).cache
        assert taken == stylizer.parts.cache_bytes(settings)
        session = stylizer.session(Style(prompt="ink"), SIZE)
        list(session.push(torch.zeros(29, *SIZE, 3)))
        assert taken == session.memory.nbytes
    assert working_bytes(stylizer, settings) > 0
