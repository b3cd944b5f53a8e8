"""`rtr bench`: stages that add up, work that is counted, reports that come back, and refusals."""

import json
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rtr_core import Style, Stylizer, untrained
from rtr_core.cli import main
from rtr_core.cli.weights import FAILED
from rtr_core.errors import ClipError, NumericsError, OutOfMemory, StyleError, WeightsError
from rtr_core.evaluate import bench, sizes, twins
from rtr_core.evaluate.bench import Options, Stream, accelerated, measured
from rtr_core.evaluate.bench_report import Bench, compared
from rtr_core.evaluate.meter import COMMIT, DECODE, ENCODE, REST, Meter, observe, place_of
from rtr_core.evaluate.roofline import FlopCounter, Machine, Traffic, Work, counted
from rtr_core.evaluate.sizes import Wanted
from rtr_core.shapes import Size
from rtr_core.vae.tiny import TinyVae
from rtr_core.vae.tiny_config import TAEW2_1
from tests.bundles import bundled

SIZE = Size(32, 32)
CPU = torch.device("cpu")
SMALL = replace(untrained.TRANSFORMER, in_channels=16, out_channels=16, adapter_dim=0)


@pytest.fixture(scope="module")
def report() -> Bench:
    torch.set_num_threads(1)
    return measured(Stylizer.of(untrained.parts()), SIZE, Options(chunks=2, weights="random"))


@pytest.fixture
def no_machine(monkeypatch):
    """A small product and copy in place of large ones."""
    monkeypatch.setattr("rtr_core.evaluate.roofline.SIDE", 64)
    monkeypatch.setattr("rtr_core.evaluate.roofline.PLATE", 2**16)


# ---- time ----


def test_nested_stages_add_up_to_the_whole():
    read = 0.0

    def spend(amount: float) -> None:
        nonlocal read
        read += amount

    meter = Meter(lambda: read)

    def outer() -> None:
        spend(1)
        meter.run("inner", lambda: spend(5))
        spend(2)
        meter.run("inner", lambda: spend(7))

    meter.run("outer", outer)
    assert meter.lap() == {"outer": 3, "inner": 12} and not meter.spent


def test_stages_of_a_chunk_add_up_to_it_and_leave_little_over(stylizer):
    stream = Stream(stylizer, Size(128, 128))
    stream.fill()
    began = time.perf_counter()
    spent = stream.metered()
    whole = time.perf_counter() - began
    assert 0.8 * whole < sum(spent.values()) <= whole
    assert spent[REST] < 0.3 * whole
    steps = [stage for stage in spent if stage.startswith("step")]
    assert steps == ["step 1", "step 2"] and spent[ENCODE] * spent[DECODE] * spent[COMMIT] > 0


def test_a_session_that_is_observed_gives_the_same_frames(stylizer):
    frames = torch.rand(21, *SIZE, 3, generator=torch.Generator().manual_seed(0))
    plain, seen = (stylizer.session(Style(prompt="ink"), SIZE) for _ in range(2))
    observe(seen, Meter(time.perf_counter))
    expected, came = ([*s.push(frames), *s.flush()] for s in (plain, seen))
    assert torch.equal(torch.cat(came), torch.cat(expected))


def test_stages_stand_in_the_order_of_a_frames_way():
    stages = [REST, "step 10", DECODE, "step 2", ENCODE, COMMIT]
    assert sorted(stages, key=place_of) == [ENCODE, "step 2", "step 10", DECODE, COMMIT, REST]


# ---- work ----


def test_operations_of_a_linear_layer_are_two_for_each_product():
    m, k, n = 6, 10, 14
    with FlopCounter() as counter, torch.no_grad():
        nn.Linear(k, n)(torch.zeros(m, k))
    assert counter.get_total_flops() == 2 * m * n * k


def test_attention_is_counted_on_the_cpu_too():
    heads, queries, keys, width = 2, 8, 12, 16
    q, k = torch.zeros(1, heads, queries, width), torch.zeros(1, heads, keys, width)
    with FlopCounter() as counter, torch.no_grad():
        nn.functional.scaled_dot_product_attention(q, k, k)
    assert counter.get_total_flops() == 2 * (2 * heads * queries * keys * width)


def test_a_weight_counts_once_a_pass_and_a_view_not_at_all():
    matrix, x = torch.zeros(8, 8), torch.zeros(4, 8)
    with Traffic([matrix]) as traffic:
        traffic.begin([])
        (x @ matrix).view(8, 4).t()
        assert traffic.weights == matrix.nbytes
        assert traffic.moved == 2 * x.nbytes + matrix.nbytes
        x @ matrix
        assert traffic.weights == matrix.nbytes
        traffic.begin([])
        x @ matrix
    assert traffic.weights == 2 * matrix.nbytes


def test_the_past_counts_where_it_is_read_and_written():
    cache, new = torch.zeros(16, 4), torch.ones(2, 4)
    with Traffic([]) as traffic:
        traffic.begin([cache])
        cache[4:6].copy_(new)
        assert traffic.past == new.nbytes
        cache[:6] + 1
    assert traffic.past == new.nbytes + cache[:6].nbytes


def test_a_step_reads_all_weights_of_the_blocks_and_its_flops_grow_with_the_picture(stylizer):
    work = []
    for side in (32, 64):
        stream = Stream(stylizer, Size(side, side))
        stream.fill()
        work.append(counted(stream.session, stream.chunk)["step 1"])
    blocks = sum(p.nbytes for p in stylizer.parts.transformer.blocks.parameters())
    text = sum(  # keys and values of the prompt are there already
        p.nbytes
        for block in stylizer.parts.transformer.blocks
        for part in (block.cross_attn.k, block.cross_attn.v, block.cross_attn.norm_k)
        for p in part.parameters()
    )
    assert blocks - text < work[0].weights == work[1].weights
    assert 4 < work[1].flops / work[0].flops < 16  # tokens, and what each of them sees


def test_the_least_time_is_that_of_arithmetic_or_of_bytes(no_machine):
    machine = Machine(torch.zeros(1))
    machine.sample()
    arithmetic, copying = Work(flops=10**12), Work(weights=10**12)
    assert machine.least(arithmetic) == pytest.approx(10**12 / machine.matmul)
    assert machine.least(copying) == pytest.approx(10**12 / machine.bandwidth)
    assert machine.is_bound_by_bytes(copying) and not machine.is_bound_by_bytes(arithmetic)


# ---- the report ----


def test_a_report_says_what_was_asked(report):
    figures = report.figures
    assert figures["frames a second"] > 0 and figures["share of the roofline"] > 0
    assert figures["latency of a chunk, worst, s"] >= figures["latency of a chunk, median, s"]
    assert figures["KV cache, bytes"] > 0 and figures["weights, bytes"] > 0
    assert sum(stage.flops for stage in report.stages) == figures["FLOP a chunk"] > 0
    assert report.stages[-1].name == REST
    assert "share of the roofline" in str(report) and "step 2" in str(report)


def test_a_report_comes_back_from_json(report):
    assert Bench.from_json(report.to_json()) == report


def test_two_reports_are_compared_as_ratios(report):
    figures = {name: 2 * value for name, value in report.figures.items()}
    other = replace(report, figures=figures, about={**report.about, "size": "64x64"})
    lines = list(compared(report, other))
    assert lines[0] == "size: 32x32 -> 64x64"
    row = next(line for line in lines if line.startswith("frames a second  "))
    assert row.endswith("2.000")
    assert next(line for line in lines if line.startswith("step 1")).endswith("1.000")


def test_what_is_no_report_is_refused(tmp_path):
    for name, text in (("a.json", "{}"), ("b.json", "no json"), ("c.json", '{"format": "x"}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ClipError, match=f"{name} is no report of `rtr bench"):
            Bench.read(tmp_path / name)


# ---- what may be switched on ----


def test_without_a_compiler_it_goes_on_and_says_so(stylizer, monkeypatch):
    monkeypatch.setattr(bench, "no_compiler", lambda device: "no C++ compiler")
    same, note = accelerated(stylizer)
    assert same is stylizer and "no C++ compiler" in note


def test_a_compiled_model_that_differs_is_refused(stylizer, monkeypatch):
    monkeypatch.setattr(bench, "no_compiler", lambda device: None)
    other = untrained.parts(seed=1).transformer
    monkeypatch.setattr(bench, "compiled", lambda transformer: other)
    with pytest.raises(NumericsError, match="differs from the eager one"):
        accelerated(stylizer)


def test_diffusers_without_a_cache_does_the_same_work_beside_ours(stylizer, no_machine):
    pytest.importorskip("diffusers")
    report = measured(stylizer, SIZE, Options(chunks=1, against=True))
    assert report.figures["diffusers without a cache / ours"] > 0
    assert report.figures["diffusers / ours, FLOP"] > 1


def test_without_diffusers_it_goes_on_and_says_so(stylizer, no_machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers.models.transformers.transformer_wan", None)
    report = measured(stylizer, SIZE, Options(chunks=1, against=True))
    assert any("not installed" in note for note in report.notes)


# ---- models ----


def test_a_known_size_runs_on_random_weights(monkeypatch, no_machine):
    monkeypatch.setitem(sizes.SIZES, "1.3b", SMALL)
    wanted = Wanted(model="1.3b", vae="tiny", size=SIZE, steps=2, window=3, device=CPU)
    stylizer = wanted.opened()
    assert stylizer.recipe.timesteps == (1000, 500) and stylizer.recipe.window == 3
    assert {p.device for p in stylizer.parts.transformer.parameters()} == {CPU}
    report = measured(stylizer, SIZE, Options(chunks=1))
    assert [stage.name for stage in report.stages if "step" in stage.name] == ["step 1", "step 2"]


@pytest.mark.parametrize("model", list(sizes.SIZES))
def test_a_model_that_does_not_fit_is_refused_before_it_is_made(model, monkeypatch):
    monkeypatch.setattr(sizes, "free_memory", lambda device: 2**30)
    monkeypatch.setattr(sizes, "filled", lambda *_: pytest.fail("it was made"))
    with pytest.raises(OutOfMemory, match=f"^{model} at 832x480 needs .* GiB at least"):
        Wanted(model=model, device=CPU).opened()


def test_models_and_autoencoders_that_do_not_go_together_are_refused(tmp_path):
    vae = tmp_path / "other.safetensors"
    save_file(TinyVae(TAEW2_1).state_dict(), vae)
    with pytest.raises(WeightsError, match=r"There is no file 2b.*tiny, 1\.3b, 5b, 14b"):
        Wanted(model="2b", device=CPU).opened()
    with pytest.raises(WeightsError, match=r"other\.safetensors: There is no transformer"):
        Wanted(model=str(vae), device=CPU).opened()
    small = bundled(untrained.parts(), tmp_path / "small.safetensors")
    with pytest.raises(WeightsError, match=r"latents of 8 channels.* have 16 and 48"):
        Wanted(model=str(small), vae="wan", device=CPU).opened()
    with pytest.raises(WeightsError, match=r"have 16 channels, the transformer takes 48"):
        Wanted(model="5b", vae=str(vae), device=CPU).opened()
    with pytest.raises(StyleError, match="timesteps"):
        Wanted(steps=0, device=CPU).opened()


# ---- the command ----


def test_the_command_prints_a_table_and_writes_a_report(tmp_path, capsys):
    out = tmp_path / "a.json"
    words = ["bench", "--model", "tiny", "--size", "64x64", "--chunks", "1", "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json", str(out)])
    assert not ended.value.code
    assert "share of the roofline" in capsys.readouterr().out
    assert json.loads(out.read_text())["about"]["model"] == "rtr-tiny"
    with pytest.raises(SystemExit):
        main(["bench", "--compare", str(out), str(out)])
    assert "1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda"], "torch cannot run on 'cuda' here"),
        (["--model", "nothing.safetensors"], "There is no file nothing.safetensors"),
        (["--chunks", "0", "--device", "cpu"], "At least 1 chunk"),
        (["--json", "nowhere/a.json"], "There is no folder nowhere"),
        (["--size", "large", "--device", "cpu"], "--size is a width and a height"),
    ],
)
def test_the_command_says_in_a_line_what_cannot_be(words, said, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words])
    assert ended.value.code == FAILED and said in capsys.readouterr().err


# ---- slow twins ----


def test_every_fast_path_is_compared_with_its_slow_twin_and_its_gain_is_a_figure(
    stylizer, no_machine
):
    report = measured(stylizer, SIZE, Options(chunks=1, twins=True))
    names = [name for name in report.figures if name.startswith("without ")]
    assert len(names) == 9 and all(report.figures[name] > 0 for name in names)
    for fast in ("streamed encoder", "streamed decoder", "prompt kept", "ring of keys and values"):
        assert (
            f"{fast}: the fast path equals the slow one to 0.0e+00 (relative L2)." in report.notes
        )
    assert report.figures["without streamed decoder / with"] > 1


def test_a_fast_path_that_differs_from_its_slow_twin_is_refused(stylizer, monkeypatch):
    monkeypatch.setattr(twins.ChunkCausal, "commit", lambda twin, count: twin.extend(count))
    with pytest.raises(NumericsError, match="KV cache: the fast path differs"):
        twins.gains(stylizer, SIZE)
