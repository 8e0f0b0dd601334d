"""Private PostgreSQL, MariaDB and Redis servers for tests and measurements, from the distribution's packages.

Each is one child process on a loopback port and a unix socket of its own, with its data in a directory that
is removed afterwards. It is stopped by its pid; should the process that started it be killed, the kernel
stops it (`setpriv --pdeathsig`).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trustme

# Removed from the children's environment: these would point the programs at another server.
_FOREIGN_SETTINGS = ("PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")


class ServiceMissingError(RuntimeError):
    """This machine lacks a server's programs, or an account to run them as; the text says which."""


@dataclass(frozen=True)
class Postgres:
    """A running server. If it was given an authority, TLS is on, with a certificate of it for ``localhost``.

    Attributes:
        port: its port on 127.0.0.1, also the suffix of its unix socket.
        socket_dir: the directory of its unix socket.
        user: a superuser who needs no password.
        database: an empty database.
        version: of the server.
    """

    port: int
    socket_dir: str
    version: str
    user: str = "whorl"
    database: str = "postgres"


@dataclass(frozen=True)
class MariaDb:
    """A running server. TLS is on, with a certificate of the test authority for ``localhost``.

    Attributes:
        port: its port on 127.0.0.1.
        socket_path: its unix socket.
        user: may do everything, with the password.
        password: of the user.
        database: an empty database.
    """

    port: int
    socket_path: str
    user: str = "whorl"
    password: str = "pass word"
    database: str = "whorl"


@dataclass(frozen=True)
class Redis:
    """A running server: its port on 127.0.0.1, its unix socket's path, and its version."""

    port: int
    socket_path: str
    version: str


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that was free a moment ago, for a process which cannot be handed a bound socket."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, alive: Callable[[], bool], limit: float = 60.0) -> bool:
    """Wait until 127.0.0.1:`port` accepts; false when `alive` turns false or `limit` seconds pass first."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            if not alive():
                return False
            time.sleep(0.02)
    return False


def _version(program: str | Path) -> str:
    """The first thing like a version in what the program says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(?:\.\d+)+", said)
    if found is None:
        raise RuntimeError(f"{program} --version says no version: {said}")
    return found[0]


def _bound_to_us(command: Sequence[str], stop: str) -> list[str]:
    """The command, made to receive the signal `stop` should this process die without stopping it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", stop, *command] if setpriv else list(command)


def _stop(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def newest_postgres_programs() -> Path:
    """The directory of the newest server's programs, the distribution's before whatever the PATH holds."""
    installed = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")),
        key=lambda path: float(path.parent.name) if path.parent.name.replace(".", "").isdigit() else 0.0,
    )
    if installed:
        return installed[-1]
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    raise ServiceMissingError("PostgreSQL server programs not found (Debian: apt-get install postgresql)")


def unprivileged_account() -> pwd.struct_passwd | None:
    """Whom to run PostgreSQL as: it refuses root. None: we are not root, so as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceMissingError(
        "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody"
    )


@contextmanager
def running_postgres(authority: trustme.CA | None = None) -> Iterator[Postgres]:
    """Start a server on a new data directory; stop it and remove the directory afterwards.

    Raises ServiceMissingError where this machine cannot run one.
    """
    programs = newest_postgres_programs()
    account = unprivileged_account()
    # Not pytest's temporary directory: that is closed to the account the server runs as. And short: the
    # path of a unix socket has at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="whorl-pg-", dir="/tmp"))
    try:
        data = home / "data"
        tls = _tls_settings(authority, home) if authority is not None else {}
        if account is not None:
            for path in (home, *home.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        user = account.pw_uid if account is not None else None
        group = account.pw_gid if account is not None else None
        groups = [account.pw_gid] if account is not None else None
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN_SETTINGS}
        made = subprocess.run(
            [str(programs / "initdb"), "-D", str(data), "-U", Postgres.user, "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"],
            cwd=home, env=environment, user=user, group=group, extra_groups=groups,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout.decode(errors='replace')}")
        for _ in range(3):  # another process may take the port between our check and the server's bind
            port = free_port()
            log = home / "log"
            settings = {
                "fsync": "off", "max_connections": "50", "shared_buffers": "16MB", "port": str(port),
                "listen_addresses": "127.0.0.1", "unix_socket_directories": str(home), **tls,
            }  # fmt: skip
            command = [str(programs / "postgres"), "-D", str(data)]
            command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
            with log.open("wb") as output:
                server = subprocess.Popen(
                    _bound_to_us(command, "INT"), cwd=home, env=environment, user=user, group=group,
                    extra_groups=groups, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    start_new_session=True,
                )  # fmt: skip
            try:
                if _accepts_queries(server, home, port):
                    yield Postgres(port, str(home), _version(programs / "postgres"))
                    return
            finally:
                _stop(server, signal.SIGINT)  # "fast shutdown": sessions are ended
        raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _tls_settings(authority: trustme.CA, home: Path) -> dict[str, str]:
    """Write a certificate for ``localhost``; returns the settings that name it."""
    pem = home / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    pem.chmod(0o600)
    return {"ssl": "on", "ssl_cert_file": str(pem), "ssl_key_file": str(pem)}


def _accepts_queries(server: subprocess.Popen[bytes], home: Path, port: int) -> bool:
    """Wait until the server answers to a start-up packet; false when it ends or does not get there."""
    # A start-up packet, protocol 3.0. While it recovers, the server answers 'E' (an error) and hangs up.
    body = b"\x00\x03\x00\x00" + b"user\0" + Postgres.user.encode() + b"\0database\0postgres\0\0"
    packet = (len(body) + 4).to_bytes(4, "big") + body
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(home / f".s.PGSQL.{port}"))
                client.sendall(packet)
                if client.recv(1) == b"R":
                    return True
            except OSError:
                pass
        time.sleep(0.05)
    return False


#: Small files that nothing waits for: the server is to start quickly, and its data is thrown away.
_MARIADB_SETTINGS = (
    "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M", "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--aria-log-file-size=8M", "--sync-frm=0",
)  # fmt: skip


@contextmanager
def running_mariadb(authority: trustme.CA) -> Iterator[MariaDb]:
    """Start a server on a new data directory; stop it and remove the directory afterwards.

    Raises ServiceMissingError where this machine cannot run one.
    """
    install, program = shutil.which("mariadb-install-db"), shutil.which("mariadbd", path=_with_sbin())
    if install is None or program is None:
        raise ServiceMissingError(
            "MariaDB server programs not found (Debian: apt-get install mariadb-server)"
        )
    with tempfile.TemporaryDirectory(prefix="whorl-mariadb-", dir="/tmp") as home:
        data, log, path = f"{home}/data", Path(home, "log"), f"{home}/server.sock"
        issued = authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(f"{home}/server.pem")
        accounts = [f"'{MariaDb.user}'@'{host}'" for host in ("localhost", "127.0.0.1")]
        Path(home, "init.sql").write_text(
            f"CREATE DATABASE {MariaDb.database};\n"
            + "".join(
                f"CREATE USER {account} IDENTIFIED BY '{MariaDb.password}';\nGRANT ALL ON *.* TO {account};\n"
                for account in accounts
            )
        )
        common = ["--no-defaults", f"--datadir={data}", *_MARIADB_SETTINGS]
        if os.geteuid() == 0:
            common.append("--user=root")  # without it, the server refuses root
        made = subprocess.run(
            [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], cwd=home,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{made.stdout.decode(errors='replace')}")
        for _ in range(3):
            port = free_port()
            command = [
                program, *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={path}",
                f"--pid-file={home}/pid", f"--init-file={home}/init.sql", "--skip-name-resolve",
                "--max-allowed-packet=64M", f"--ssl-cert={home}/server.pem", f"--ssl-key={home}/server.pem",
            ]  # fmt: skip
            with log.open("wb") as output:
                server = subprocess.Popen(
                    _bound_to_us(command, "TERM"), cwd=home, stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            try:
                # It listens after the init file has run.
                if wait_for_port(port, lambda server=server: server.poll() is None):  # type: ignore[misc]
                    yield MariaDb(port, path)
                    return
            finally:
                _stop(server, signal.SIGTERM)
        raise RuntimeError(f"MariaDB did not start:\n{log.read_text(errors='replace')}")


def _with_sbin() -> str:
    """The PATH with the directory of the distribution's servers, which is root's alone."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


@contextmanager
def running_redis(more: Mapping[str, str] = MappingProxyType({})) -> Iterator[Redis]:
    """Start a server which keeps nothing on disk, with `more` settings; stop it afterwards.

    Raises ServiceMissingError where this machine cannot run one.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise ServiceMissingError("redis-server not found (Debian: apt-get install redis-server)")
    with tempfile.TemporaryDirectory(prefix="whorl-redis-", dir="/tmp") as home:
        output = b""
        for _ in range(3):
            port = free_port()
            path = f"{home}/redis.sock"
            settings = {
                "port": str(port), "bind": "127.0.0.1", "unixsocket": path, "dir": home,
                "logfile": f"{home}/log", "save": "", "appendonly": "no", "daemonize": "no",
                **more,
            }  # fmt: skip
            command = [program, *(part for key, value in settings.items() for part in (f"--{key}", value))]
            server = subprocess.Popen(
                _bound_to_us(command, "TERM"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            try:
                if wait_for_port(port, lambda server=server: server.poll() is None) and os.path.exists(path):  # type: ignore[misc]
                    yield Redis(port, path, _version(program))
                    return
            finally:
                _stop(server, signal.SIGTERM)
            if os.path.exists(f"{home}/log"):
                output = Path(home, "log").read_bytes()
        raise RuntimeError(f"redis-server did not start:\n{output.decode(errors='replace')}")
