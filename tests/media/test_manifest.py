"""What a job remembers of itself."""

from pathlib import Path

import pytest

from rtr_core.errors import ClipError
from rtr_core.media.manifest import NAME, Manifest, Piece, Segment

FACTS = {"source": "a1b2", "size": (48, 64), "seed": 0}


def job_folder(parent: Path) -> Path:
    (parent / "job").mkdir(exist_ok=True)
    return parent / "job"


def put_files(job: Manifest) -> None:
    for one in job.segments:
        job.path(one.name).write_bytes(b"film")
        job.path(one.session or "").touch()


def segment(n: int) -> Segment:
    return Segment(
        name=f"{n}.mov",
        first=8 * n,
        frames=8,
        bytes=4,
        time=80 * n,
        last_time=80 * n + 70,
        cue=0,
        session=f"{n}.safetensors",
    )


def test_a_job_goes_on_where_it_was(tmp_path):
    first = Manifest.open(job_folder(tmp_path), FACTS)
    put_files(first.changed(segments=(segment(0), segment(1))))
    again = Manifest.open(job_folder(tmp_path), FACTS)
    assert again.segments == (segment(0), segment(1)) and again.frames == 16


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("lost", ["1.mov", "a part of 1.mov", "1.mov, 0.safetensors"])
def test_what_is_missing_or_cut_and_all_behind_it_is_made_again(tmp_path, ended, lost):
    job = Manifest.open(tmp_path, FACTS)
    job = job.changed(segments=tuple(map(segment, range(3))), source_ended=ended)
    put_files(job)
    assert Manifest.open(tmp_path, FACTS) == job
    (tmp_path / "1.mov").write_bytes(b"fi") if "part" in lost else (tmp_path / "1.mov").unlink()
    if "0" in lost:
        (tmp_path / "0.safetensors").unlink()
    left = Manifest.open(tmp_path, FACTS)
    assert left.segments == (() if "0" in lost else (segment(0),)) and not left.source_ended
    assert Manifest.read(tmp_path) == left


def test_of_a_job_that_goes_on_the_newest_session_must_be_there(tmp_path):
    job = Manifest.open(tmp_path, FACTS).changed(segments=tuple(map(segment, range(3))))
    put_files(job)
    (tmp_path / "2.safetensors").unlink()
    assert Manifest.open(tmp_path, FACTS).segments == job.segments[:2]


def test_only_a_finished_job_gives_way_to_another_when_that_is_asked(tmp_path):
    job = Manifest.open(tmp_path, FACTS)
    with pytest.raises(ClipError, match="an unfinished job with other options"):
        Manifest.open(tmp_path, FACTS | {"seed": 7}, anew=True)
    job.changed(source_ended=True, segments=(segment(0),))
    with pytest.raises(ClipError, match=r"a finished job with other options.*--force"):
        Manifest.open(tmp_path, FACTS | {"seed": 7})
    assert Manifest.open(tmp_path, FACTS | {"seed": 7}, anew=True).segments == ()


def test_a_film_can_be_cut_into_pieces_of_pieces(tmp_path):
    film = (Piece("a.mov", 0, 5), Piece("b.mov", 10, 4), Piece("a.mov", 9, 7))
    job = Manifest(facts={}, folder=tmp_path, film=film)
    frames = [(p.name, p.skip + n) for p in film for n in range(p.frames)]
    for first in range(17):
        for end in range(first, 17):
            pieces = job.cut(first, end)
            assert [(p.name, p.skip + n) for p in pieces for n in range(p.frames)] == frames[
                first:end
            ]


def test_changed_options_are_refused_by_name(tmp_path):
    Manifest.open(job_folder(tmp_path), FACTS)
    with pytest.raises(
        ClipError, match=r"seed was 0 and is 7; size was \[48, 64\] and is \[8, 8\]"
    ):
        Manifest.open(job_folder(tmp_path), FACTS | {"seed": 7, "size": (8, 8)})


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
    job = Manifest.open(job_folder(tmp_path), FACTS)
    (tmp_path / "job" / NAME).unlink()
    (tmp_path / "job").rmdir()
    with pytest.raises(ClipError, match="run the same command again"):
        job.changed(source_ended=True)
