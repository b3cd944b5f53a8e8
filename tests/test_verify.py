"""The public causal Wan code, as it was recorded, through our session."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rtr_core.cli import main
from rtr_core.errors import WeightsError
from rtr_core.verify import verify

FILES = ["causal_full.safetensors", "causal_rolled.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("file", FILES)
def test_every_recorded_case_is_within_tolerance(golden, file, dtype):
    results = verify(golden / file, dtype)
    assert results and all(result.passed for result in results), "\n".join(map(str, results))


@pytest.mark.parametrize(
    ("field", "value"),
    [("clean_pass", False), ("window_frames", -1), ("sink_frames", 0), ("rope", "relative")],
)
def test_a_wrong_implementation_would_be_found(golden, tmp_path, field, value):
    """The recorded cases can fail: run them under another recipe and they do."""
    with safe_open(golden / FILES[1], "pt") as file:
        tensors, about = {n: file.get_tensor(n) for n in file.keys()}, file.metadata()  # noqa: SIM118
    cases = [c for c in json.loads(about["cases"]) if c["name"] == "roll_w9_s3"]
    about["cases"] = json.dumps([case | {field: value} for case in cases])
    save_file(tensors, tmp_path / "wrong.safetensors", metadata=about)
    (result,) = verify(tmp_path / "wrong.safetensors", torch.float32)
    assert not result.passed and result.error > 0.02


def test_the_command_prints_a_line_a_case_and_fails_past_tolerance(golden, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(golden / FILES[0])])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0
    assert [line.split()[0] for line in lines] == ["ok", "ok", "all"]
    with safe_open(golden / FILES[0], "pt") as file:
        tensors, about = {n: file.get_tensor(n) for n in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["w.blocks.1.ffn.2.bias"] = tensors["w.blocks.1.ffn.2.bias"] + 0.1
    save_file(tensors, tmp_path / "moved.safetensors", metadata=about)
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--dtype", "fp32", str(tmp_path / "moved.safetensors")])
    assert stop.value.code == 1 and "FAIL full" in capsys.readouterr().out


def test_a_file_without_golden_tensors_is_refused_by_name(golden, tmp_path):
    with pytest.raises(WeightsError, match="taew2_1"):
        verify(golden / "taew2_1.safetensors", torch.float32)
    (tmp_path / "cut.safetensors").write_bytes((golden / FILES[0]).read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"cut\.safetensors"):
        verify(tmp_path / "cut.safetensors", torch.float32)
