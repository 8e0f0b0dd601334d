"""The examples as ``make run`` and ``make database`` run them, with fewer pages and queries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from examples.database import DatabaseError, check, price

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
FETCH = REPOSITORY / "examples" / "fetch.py"
DATABASE = REPOSITORY / "examples" / "database.py"
SITE = REPOSITORY / "examples" / "site.py"

pytest.importorskip("aiohttp", reason="the examples need aiohttp, which is not installed")
pytest.importorskip("rich", reason="the examples need rich, which is not installed")
pytest.importorskip("aiosqlite", reason="the examples need aiosqlite, which is not installed")
pytest.importorskip("asyncpg", reason="the examples need asyncpg, which is not installed")

#: What comes before a program on Python's command line.
EACH_LOOP = pytest.mark.parametrize("start", [(), ("-m", "whorl", "run")], ids=["python", "whorl run"])


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses connections: it is bound, so that no other process gets it, and does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def site(environment: dict[str, str]) -> Iterator[list[str]]:
    """The URLs of a local site of three pages."""
    command = [sys.executable, str(SITE), "--pages", "3", "--delay", "0.01", "--stop-with-stdin"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["pages"]
        finally:
            process.terminate()


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("program", [FETCH, DATABASE], ids=lambda program: program.name)
def test_the_program_knows_nothing_of_whorl(program: Path) -> None:
    source = program.read_text()
    assert "whorl" not in source.lower()
    assert "asyncio.run(main(" in source


def test_the_program_is_a_classic() -> None:
    source = FETCH.read_text()
    for classic in (
        "async def fetch_data(url",
        "aiohttp.ClientSession(",
        "session.get(url)",
        "await response.text(",
        "asyncio.gather(*tasks)",
    ):
        assert classic in source


@pytest.mark.parametrize(
    "way",
    [(), ("--one-by-one",), ("--connections=2",), ("--at-once=2",)],
    ids=["all together", "one by one", "over two connections", "two at once"],
)
@pytest.mark.parametrize(
    "start",
    [(), ("-m", "whorl", "run"), ("-m", "whorl", "run", "--drop-in")],
    ids=["python", "whorl run", "whorl run --drop-in"],
)
def test_fetch(
    environment: dict[str, str], site: list[str], way: tuple[str, ...], start: tuple[str, ...]
) -> None:
    result = run(environment, *start, str(FETCH), *way, *site)
    assert result.returncode == 0, result.stderr
    *lines, total = result.stdout.splitlines()
    for line, url in zip(lines, site, strict=True):
        assert re.fullmatch(rf" +200 +[1-9][\d,]* bytes  {re.escape(url)}", line)
    assert total.startswith("3 of 3 pages, ")
    assert result.stderr == ""


def test_fetch_prints_json(environment: dict[str, str], site: list[str]) -> None:
    result = run(environment, "-m", "whorl", "run", str(FETCH), "--json", *site)
    answer: dict[str, Any] = json.loads(result.stdout)
    assert [page["url"] for page in answer["pages"]] == site
    assert all(
        page["status"] == 200 and page["size"] > 1000 and page["error"] is None for page in answer["pages"]
    )


def test_fetch_shows_progress_with_the_option(environment: dict[str, str], site: list[str]) -> None:
    result = run(environment, "-m", "whorl", "run", str(FETCH), "--progress", *site)
    assert "3/3" in result.stderr


def test_what_cannot_be_fetched_is_reported_with_the_others(
    environment: dict[str, str], site: list[str], free_port: int
) -> None:
    missing = site[0].replace(".html", ".none")
    unreachable = f"http://127.0.0.1:{free_port}/"
    bad = {
        unreachable: "Connection refused",
        "http://[::1": "malformed",
        "nonsense": "malformed",
        "ftp://a/": "not an",
    }
    result = run(environment, "-m", "whorl", "run", str(FETCH), "--json", *site, missing, *bad)
    assert result.returncode == 1
    pages = {page["url"]: page for page in json.loads(result.stdout)["pages"]}
    assert all(pages[url]["status"] == 200 for url in site)
    assert pages[missing]["status"] == 404
    for url, cause in bad.items():
        assert pages[url]["status"] is None
        assert cause in pages[url]["error"]
    assert result.stderr == ""


def test_demo(environment: dict[str, str]) -> None:
    result = run(environment, "-m", "examples.demo", "--pages", "4", "--small", "50")
    assert result.returncode == 0, result.stderr
    assert (
        len(re.findall(r"^ +200 +[1-9][\d,]* bytes  http://127\.0\.0\.1:", result.stdout, re.MULTILINE)) == 4
    )
    assert re.search(r"^one by one: +4 of 4 pages, [\d,]+ bytes in \d+\.\d\d s$", result.stdout, re.MULTILINE)
    assert re.search(r"^all together: 4 of 4 pages, ", result.stdout, re.MULTILINE)
    assert re.search(r"^speed-up: +\d+\.\d times$", result.stdout, re.MULTILINE)
    assert "50 small pages" in result.stdout
    assert "with a session each" in result.stdout
    for way in ("aiohttp on asyncio", "aiohttp on whorl's loop", "whorl.http on whorl's loop"):
        cpu_time = r" +[\d,]+ µs \( *\d+\.\dx\)"
        measured = r"\d+\.\d\d s +\d+\.\d\d s \( *\d+\.\dx\)" + cpu_time * 2
        assert re.search(rf"^{way} +{measured}$", result.stdout, re.MULTILINE)


def test_demo_with_urls(environment: dict[str, str], site: list[str], free_port: int) -> None:
    unreachable = f"http://127.0.0.1:{free_port}/"
    result = run(environment, "-m", "examples.demo", site[0], unreachable, "nonsense")
    assert result.returncode == 1
    assert site[0] in result.stdout
    assert f"failed {unreachable!r}: cannot connect: Connection refused" in result.stdout
    assert "failed 'nonsense': malformed URL" in result.stdout
    assert "1 of 3 pages" in result.stdout
    assert re.search(r"^whorl.http on whorl's loop +\d+\.\d\d s$", result.stdout, re.MULTILINE)


@contextlib.contextmanager
def demo_under_way(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo until it fetches; yields it and the mark in the environment of it and its children."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("this system has no /proc, where the test looks for the demo's children")
    mark = f"MARK_OF_THIS_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    with subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--pages", "40"],
        cwd=REPOSITORY,
        env=environment | {name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            while "whorl run" not in (line := process.stdout.readline()):
                assert line, "the demo ended early"
            wait_until(lambda: len(marked(mark)) == 3)
            yield process, mark
        finally:
            for pid in marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Return the processes, zombies apart, that have *mark* in their environment."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return found


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited for 60 seconds in vain"
        time.sleep(0.05)


def test_an_interrupt_ends_everything(environment: dict[str, str]) -> None:
    with demo_under_way(environment) as (process, mark):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 130
        assert marked(mark) == []
    assert "Exception ignored" not in output


def test_termination_ends_everything(environment: dict[str, str]) -> None:
    with demo_under_way(environment) as (process, mark):
        process.terminate()
        process.communicate(timeout=100)
        assert process.returncode == 128 + signal.SIGTERM
        assert marked(mark) == []


def test_the_site_does_not_outlive_a_demo_that_was_killed(environment: dict[str, str]) -> None:
    with demo_under_way(environment) as (process, mark):
        process.kill()
        wait_until(lambda: marked(mark) == [])


@EACH_LOOP
def test_database(environment: dict[str, str], start: tuple[str, ...]) -> None:
    result = run(environment, *start, str(DATABASE), "--queries", "40", "--connections", "3")
    assert (result.returncode, result.stderr) == (0, "")
    heading, *ways = result.stdout.partition("\n\n")[0].splitlines()
    assert heading == "SQLite, in a temporary file: 40 queries, every result checked"
    measured = r" +\d+\.\d{3} s +[\d,]+ queries/s +\d+ µs of CPU time each"
    for way, line in zip(
        ("one by one", "together on one connection", "through a pool of 3"), ways, strict=True
    ):
        assert re.fullmatch(re.escape(way) + measured, line)


def test_database_checks_each_result() -> None:
    async def wrong(item: int) -> int:
        return price(item) + (item == 7)

    async def main() -> None:
        for item in range(7):
            await check(wrong, item)
        with pytest.raises(DatabaseError, match="the price of item 7 is 50, not 51"):
            await check(wrong, 7)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("mysql://host/shop", 2, "the scheme is 'mysql'; use postgresql://user@host/database, or no URL"),
        ("postgresql://[::1", 2, "malformed URL: "),
        ("postgresql://ada:secret@127.0.0.1:{port}/shop", 1, "database.py: 127.0.0.1/shop cannot be used: "),
        ("postgresql://127.0.0.1:none/shop", 1, "database.py: 127.0.0.1/shop cannot be used: "),
    ],
    ids=["scheme", "malformed", "unreachable", "port"],
)
def test_database_says_what_is_wrong_with_a_url(
    environment: dict[str, str], free_port: int, url: str, status: int, message: str
) -> None:
    result = run(environment, str(DATABASE), url.format(port=free_port))
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("driver", "arguments"), [("aiosqlite", ()), ("asyncpg", ("postgresql://127.0.0.1/",))]
)
def test_database_names_the_driver_to_install(
    environment: dict[str, str], tmp_path: Path, driver: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / f"{driver}.py").write_text("raise ImportError\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), environment.get("PYTHONPATH"))))
    result = run(environment | {"PYTHONPATH": path}, str(DATABASE), *arguments)
    assert result.returncode == 1
    assert result.stderr == f"database.py: {driver} is not installed: pip install {driver}\n"


def test_database_demo(environment: dict[str, str]) -> None:
    result = run(environment, "-m", "examples.database_demo", "--queries", "40", "--connections", "3")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("SQLite, in a temporary file: 40 queries, every result checked")
    assert re.search(r"^ +on asyncio +on whorl$", result.stdout, re.MULTILINE)
    measured = r" +\d+\.\d{3} s +[\d,]+ queries/s +\d+ µs CPU"
    for way in ("one by one", "together on one connection", "through a pool of 3"):
        assert re.search(rf"^{way}{measured}{measured}$", result.stdout, re.MULTILINE)


def test_database_demo_ends_as_a_run_that_failed(environment: dict[str, str], free_port: int) -> None:
    result = run(environment, "-m", "examples.database_demo", f"postgresql://127.0.0.1:{free_port}/shop")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("database.py: 127.0.0.1/shop cannot be used: ")
