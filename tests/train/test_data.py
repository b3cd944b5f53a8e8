"""Pairs are made of windows and looks, and a run that was stopped makes only what is missing."""

import numpy as np
import pytest
import torch

from rtr_core.errors import ClipError
from rtr_core.train import looks
from rtr_core.train.data import DataConfig, make_shards, samples
from rtr_core.train.makers import Procedural
from rtr_core.train.material import Material, MaterialConfig, filmed, read_material
from rtr_core.train.pairs import Pairs
from tests.train.scenes import scene
from tests.train.toys import make_result

CONFIG = DataConfig(side=32, rows=6, styles=2)


@pytest.fixture(scope="module")
def material():
    return Material(stills=[scene(80, 80, seed) for seed in range(4)])


def made(material, folder, count):
    place = folder, "toy"
    return list(make_shards(material, make_result().vae, Procedural(), CONFIG, place, count))


def test_some_windows_of_clips_move_twice_as_fast(monkeypatch):
    monkeypatch.setattr("rtr_core.train.material.CUT", 0)
    run = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 32, 32, 3))
    paces = [abs(steps_of([run], seed)).max() for seed in range(60)]
    assert set(paces) == {1, 2} and 8 < paces.count(2) < 30
    assert all(abs(steps_of([run[:12]], seed)).max() == 1 for seed in range(30))


def test_in_some_windows_one_scene_ends_and_another_begins():
    dark = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None], (12, 32, 32, 3))
    cuts = [np.flatnonzero(abs(steps_of([dark, 200 + dark], seed)) > 100) for seed in range(300)]
    assert all(len(cut) <= 1 for cut in cuts)
    places = [int(cut[0]) for cut in cuts if len(cut)]
    assert set(places) == set(range(8)) and 10 < len(places) < 45  # of a share, half are seen


def steps_of(runs: list[np.ndarray], seed: int) -> np.ndarray:
    """How the light of a window of a clip changes from frame to frame."""
    window = Material(runs=runs).window(9, 32, np.random.default_rng(seed), stills=0.0)
    return np.diff(window[:, 0, 0, 0].astype(int))


def test_a_window_comes_in_several_styles_and_each_with_a_reference(material):
    one, other = samples(material, Procedural(canonical=0.0), CONFIG, 9, (0, 1))
    assert one.pair.source is other.pair.source
    assert not np.array_equal(one.pair.target, other.pair.target)
    assert one.reference.shape == (32, 32, 3)


def test_a_reference_shows_another_scene_in_the_same_look(material):
    config = DataConfig(side=32, styles=8, own=0.0)
    for sample in samples(
        material, Procedural(styles=("thermal",), canonical=1.0), config, 9, (0, 2)
    ):
        assert not any(np.array_equal(sample.reference, frame) for frame in sample.pair.target)
        assert sample.pair.look == looks.canonical("thermal")


def test_a_second_run_makes_only_what_is_missing(material, tmp_path):
    assert len(made(material, tmp_path, 12)) == 2
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    (tmp_path / "pairs-00001.safetensors").unlink()
    assert made(material, tmp_path, 18) == ["shard 2 of 3: 6 pairs", "shard 3 of 3: 6 pairs"]
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert len(after) == 3 and all(after[name] == data for name, data in before.items())
    pairs = Pairs(tmp_path)
    assert len(pairs.rows) == 18 and 0 < len(pairs.prompted) < 18
    assert torch.isfinite(pairs._tensor("target", pairs.rows)).all()


def test_some_stills_stand_and_some_of_them_under_a_sensors_noise():
    still, rng = scene(80, 80, 0), np.random.default_rng(0)
    changes = [np.diff(filmed(still, 3, rng, 32).astype(int), axis=0).std() for _ in range(80)]
    assert sum(change == 0 for change in changes) > 5  # stands
    assert sum(0 < change < 5 for change in changes) > 5  # stands, and shimmers
    assert sum(change > 5 for change in changes) > 20


def test_what_cannot_be_read_is_left_out_and_told(tmp_path):
    from PIL import Image

    Image.fromarray(scene(64, 64, 0)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "broken.mp4").write_bytes(b"no clip at all" * 20)
    (tmp_path / "notes.txt").write_text("not looked at")
    material = Material()
    looked_at = list(read_material(tmp_path, MaterialConfig(), material))
    assert len(looked_at) == 3 and len(material.stills) == 1
    assert len(material.refused) == 2


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ClipError, match="No clip or picture in"):
        list(read_material(tmp_path, MaterialConfig(), Material()))
