"""aiohttp's tests as its source distribution carries them: fetched by pip, checked, unpacked, not edited."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

#: Where what was fetched is kept.
CACHE = REPOSITORY / ".build" / "compat"

#: The digest of the source distribution, for the version that requirements/examples.txt pins.
SHA256 = "5558a7f5a05af9ecf744af91e5baefc436f93c9333e656c27ec253f9a6bbe178"


class SourceError(Exception):
    """The tests cannot be had; the message says why, and what to do."""


def pinned_version() -> str:
    """Return the version of aiohttp in requirements/examples.txt."""
    path = REPOSITORY / "requirements" / "examples.txt"
    match = re.search(r"^aiohttp==(\S+)$", path.read_text(encoding="utf-8"), re.M)
    if match is None:
        raise SourceError(f"{path}: has no line aiohttp==…")
    return match[1]


def installed_version() -> str:
    """Return the version of aiohttp that is installed, whose server the tests run against.

    Raises SourceError if that is not the one whose tests are run.
    """
    wanted = pinned_version()
    try:
        version = metadata.version("aiohttp")
    except metadata.PackageNotFoundError:
        version = "no aiohttp"
    if version != wanted:
        raise SourceError(f"aiohttp {wanted} has to be installed, found {version}: run `make compat`")
    return version


def tests() -> Path:
    """Return the directory of the suite, which has the tests in ``tests``; fetched at the first call."""
    version = pinned_version()
    directory = CACHE / f"aiohttp-{version}"
    if not directory.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            archive = _download(version, Path(scratch))
            _check(archive, version)
            _unpack(archive, version, Path(scratch)).rename(directory)
    return directory


def _download(version: str, directory: Path) -> Path:
    print(f"fetching the source distribution of aiohttp {version}", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary=:all:", f"--dest={directory}", f"aiohttp=={version}"]
    if subprocess.run(command, check=False).returncode:
        raise SourceError(f"pip could not fetch the source distribution of aiohttp {version}: see above")
    return next(directory.glob("*.tar.gz"))


def _check(archive: Path, version: str) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SourceError(
            f"{archive.name} has the SHA-256 {digest}, expected {SHA256}: if requirements/examples.txt has a "
            f"new version, put the digest that the package index gives for {version} into {__file__}"
        )


def _unpack(archive: Path, version: str, directory: Path) -> Path:
    """Unpack the tests, and what they read; next to them the package's source would be what they import."""
    with tarfile.open(archive) as tar:
        tar.extractall(directory / "all", filter="data")
    chosen = directory / "chosen"
    chosen.mkdir()
    for name in ("tests", "README.rst"):
        shutil.move(str(directory / "all" / f"aiohttp-{version}" / name), chosen / name)
    return chosen
