"""What a job remembers of itself."""

import pytest

from rtr_core.errors import ClipError
from rtr_core.media.manifest import NAME, Manifest, Segment

FACTS = {"source": "a1b2", "size": (48, 64), "seed": 0}


def segment(n: int) -> Segment:
    return Segment(
        name=f"{n}.mov",
        first=8 * n,
        frames=8,
        time=80 * n,
        last_time=80 * n + 70,
        cue=0,
        session=f"{n}.safetensors",
    )


def test_a_job_goes_on_where_it_was(tmp_path):
    first = Manifest.open(tmp_path / "job", FACTS)
    first.changed(segments=(segment(0), segment(1)))
    again = Manifest.open(tmp_path / "job", FACTS)
    assert again.segments == (segment(0), segment(1)) and again.frames == 16


def test_changed_options_are_refused_by_name(tmp_path):
    Manifest.open(tmp_path / "job", FACTS)
    with pytest.raises(
        ClipError, match=r"seed was 0 and is 7; size was \[48, 64\] and is \[8, 8\]"
    ):
        Manifest.open(tmp_path / "job", FACTS | {"seed": 7, "size": (8, 8)})


def test_only_what_the_manifest_names_survives_a_sweep(tmp_path):
    job = Manifest.open(tmp_path, FACTS).changed(segments=(segment(0),))
    for name in ("0.mov", "0.safetensors", "1.mov", "1.mov.unfinished"):
        (tmp_path / name).touch()
    job.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {NAME, "0.mov", "0.safetensors"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "rtr-job-0"}', "\x00"])
def test_a_broken_manifest_is_refused_by_name(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ClipError, match="Delete"):
        Manifest.open(tmp_path, FACTS)


def test_a_folder_that_vanished_says_that_nothing_is_lost(tmp_path):
    job = Manifest.open(tmp_path / "job", FACTS)
    (tmp_path / "job" / NAME).unlink()
    (tmp_path / "job").rmdir()
    with pytest.raises(ClipError, match="run the same command again"):
        job.changed(source_ended=True)
