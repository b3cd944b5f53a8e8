"""`rtr stylize --ranks` writes on rank 0 what one process would have written."""

import sys

import av
import numpy as np
import pytest

from rtr_core import cli
from tests.sample import SAMPLE
from tests.scale.company import ended, started


def words(out) -> list[str]:
    style = ("--style", "ink wash painting", "--size", "128x64", "--device", "cpu")
    return ["stylize", str(SAMPLE), str(out), *style]


def pixels(path) -> np.ndarray:
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


def test_a_clip_on_two_ranks_is_the_clip_of_one(tmp_path):
    running = started("rtr_core", 2, *words(tmp_path / "two.mp4"), "--ranks", "heads")
    with pytest.raises(SystemExit) as done:
        cli.main(words(tmp_path / "one.mp4"))
    assert done.value.code == 0
    first, second = ended(running)
    assert "112 frames" in first and not second.strip()
    one, two = pixels(tmp_path / "one.mp4"), pixels(tmp_path / "two.mp4")
    assert one.shape == two.shape and np.abs(one.astype(int) - two).mean() < 0.1


def test_nothing_of_it_is_imported_by_one_process(monkeypatch, tmp_path):
    for name in [n for n in sys.modules if n.startswith("rtr_core.scale")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as done:
        cli.main(["stylize", str(tmp_path / "none.mp4"), str(tmp_path / "o.mp4"), "--style", "ink"])
    assert done.value.code
    assert not [name for name in sys.modules if name.startswith("rtr_core.scale")]


def test_ranks_without_torchrun_are_told_how(tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main([*words(tmp_path / "out.mp4"), "--ranks", "heads"])
    assert done.value.code and "torchrun --nproc-per-node N" in capsys.readouterr().err
