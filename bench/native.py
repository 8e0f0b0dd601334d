"""Where the native load client, the servers and the reference client are, and how they get built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "whorl-bench-native"


@dataclass(frozen=True)
class Native:
    """The three programs."""

    load: Path
    serve: Path
    client: Path

    def write_certificate(self, directory: Path) -> None:
        """Makes authority.pem, certificate.pem and key.pem for the TLS rows."""
        subprocess.run([self.serve, "certificate", directory], check=True)

    def versions(self) -> dict[str, str]:
        """The versions of the libraries that the references are linked with and that are no crates."""
        done = subprocess.run([self.client, "versions"], check=True, capture_output=True, text=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found


def _has_openssl() -> bool:
    """Whether the headers of OpenSSL are here, without which its references cannot be built."""
    if shutil.which("pkg-config") is None:
        return False
    return subprocess.run(["pkg-config", "--exists", "openssl"], check=False).returncode == 0


def find_or_build() -> Native:
    """The programs, built first if cargo finds that needed. Raises RuntimeError where that cannot be done.

    `WHORL_BENCH_NATIVE` names a directory that has them already.
    """
    given = os.environ.get("WHORL_BENCH_NATIVE")
    if given:
        directory = Path(given)
    else:
        if shutil.which("cargo") is None:
            raise RuntimeError(
                "cargo is not installed; the load client is a Rust program (see https://rustup.rs)"
            )
        command = ["cargo", "build", "--quiet", "--release", "--package", PACKAGE]
        command += ["--features", "openssl"] if _has_openssl() else []
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise RuntimeError(f"cannot build the load client: {' '.join(command)}")
        directory = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    native = Native(*(directory / f"whorl-bench-{name}" for name in ("load", "serve", "client")))
    for program in (native.load, native.serve, native.client):
        if not program.is_file():
            raise RuntimeError(f"{program} does not exist")
    return native
