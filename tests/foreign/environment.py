"""The environments and the tests of suites: what pip fetches and installs into ``.build/foreign``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from tests.foreign.suite import REPOSITORY, Suite, SuiteError

#: What runs the tests, in an environment that no file of requirements is for.
PYTEST = ("pytest==9.2.0", "pytest-timeout==2.4.0", "pytest-xdist")
TAG = f"{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}"


def _pip(python: Path | str, *arguments: str | Path) -> None:
    command = [python, "-m", "pip", *arguments[:1], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    if subprocess.run(command, check=False).returncode:
        raise SuiteError(f"pip {arguments[0]} failed, see above")


def requirement_files(suite: Suite) -> list[Path]:
    """The files that the suite's environment is made from, those that they include among them."""
    wanted = [REPOSITORY / "requirements" / suite.requirements]
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        wanted.append(REPOSITORY / "requirements" / "programs-gil.txt")
    for path in wanted:  # grows as it goes
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("-r "):
                wanted.append(path.parent / line.removeprefix("-r ").strip())
    return wanted


def make_environment(name: str, suite: Suite, work: Path) -> Path:
    """A virtual environment with the suite's packages, in which whorl can be imported; returns its Python."""
    if suite.own:
        return Path(sys.executable)
    if suite.requirements:
        home = work / f"{Path(suite.requirements).stem}-{TAG}" / "venv"
        files = requirement_files(suite)
        stamp = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    else:
        home, files, stamp = work / f"{name}-{TAG}" / "venv", [], "ready"
    python, ready = home / "bin" / "python", home / f".{stamp}"
    if not ready.exists():
        print(f"  making the virtual environment {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        if files:
            _pip(python, "install", *(part for path in files for part in ("-r", path)))
        else:
            _pip(python, "install", suite.package, *PYTEST)
        for (
            need
        ) in suite.needs:  # one by one: what has no wheel here costs the tests which use it, and no more
            try:
                _pip(python, "install", "--only-binary=:all:", need)
            except SuiteError:
                print(f"  no wheel of {need} for this interpreter", flush=True)
        ready.touch()
    _show_whorl(home)
    return python


def _show_whorl(home: Path) -> None:
    """Let the environment import the whorl that this interpreter has."""
    spec = importlib.util.find_spec("whorl")
    if spec is not None and spec.submodule_search_locations:
        version = f"python{sysconfig.get_python_version()}{sys.abiflags}"
        source = Path(next(iter(spec.submodule_search_locations))).parent
        path = home / "lib" / version / "site-packages" / "whorl-under-test.pth"
        path.write_text(f"{source}\n", encoding="utf-8")


def fetch_tests(suite: Suite, python: Path, work: Path) -> Path:
    """Put the suite's tests into a directory of their own; returns the directory to run pytest in."""
    if suite.own:
        return REPOSITORY
    if suite.installed:
        package = suite.tests.split("/")[0]
        code = f"import {package} as p, os; print(os.path.dirname(os.path.dirname(p.__file__)))"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())
    directory = work / "sources" / suite.package.replace("==", "-").partition("[")[0]
    if directory.exists():
        return directory
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    print(f"  fetching the source distribution of {suite.package}: it may take minutes, once", flush=True)
    wanted = partial / "wanted.txt"
    digest = f" --hash=sha256:{suite.sha256}" if suite.sha256 else ""
    wanted.write_text(f"{suite.package}{digest}\n", encoding="utf-8")
    _pip(python, "download", "--no-deps", "--no-binary=:all:", "--dest", partial, "-r", wanted)
    with tarfile.open(next(partial.glob("*.tar.gz"))) as archive:
        archive.extractall(partial, filter="data")
    root = next(path for path in partial.iterdir() if path.is_dir())
    chosen = partial / "chosen"
    chosen.mkdir()
    for name in (*suite.keep, suite.tests):
        if (root / name).exists():
            shutil.move(str(root / name), chosen / name)
    if not (chosen / suite.tests).is_dir():
        raise SuiteError(f"{suite.package}: its source distribution has no directory {suite.tests}")
    chosen.rename(directory)
    shutil.rmtree(partial)
    return directory


def install_packages(names: tuple[str, ...]) -> None:
    """Install what the machine lacks of the packages; without root or apt an error names them."""
    if shutil.which("dpkg-query") is None:
        return  # the servers' set-up names the program that it does not find
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}"]
    missing = [
        name
        for name in names
        if subprocess.run([*query, name], capture_output=True, check=False).stdout != b"installed"
    ]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SuiteError(f"not installed: run 'apt-get install {' '.join(missing)}'")
    print(f"  installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update",), ("install", "-y", "--no-install-recommends", *missing)):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise SuiteError(f"apt-get {' '.join(command)} failed, see above")
