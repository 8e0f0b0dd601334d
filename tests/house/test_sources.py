"""What holds for each source file: its size, no panics outside tests, and nothing unpinned."""

import re
import tomllib
from importlib import metadata

import pytest

from tests.house import ROOT
from tests.house.sources import files, name, rust_code, without_tests

MOST_LINES = 700


def lines_of_code(text: str, comment: str) -> int:
    """Lines that are neither blank nor only a comment."""
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith(comment))


def test_no_file_outgrows_the_limit() -> None:
    counts = {
        name(path): lines_of_code(path.read_text(), "//" if path.suffix == ".rs" else "#")
        for path in files(".rs", ".py", ".pyi", ".sh")
    }
    assert len(counts) > 20
    too_long = {path: count for path, count in counts.items() if count >= MOST_LINES}
    assert not too_long, "split it by subject"


def test_rust_outside_tests_does_not_panic_on_what_it_meets() -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in files(".rs", under="crates")
        if "tests" not in path.parts and path.stem != "tests"
        for number, line in enumerate(without_tests(rust_code(path.read_text())).splitlines(), 1)
        if re.search(r"\.(unwrap|expect|unwrap_err|expect_err)\s*\(", line)
    ]
    assert not found


def test_the_reader_of_rust_sees_code_only() -> None:
    text = """
    let a = "x.unwrap()"; // y.expect("z")
    /* b.unwrap() */ let q = '"'; let life: &'a str = c.unwrap();
    let raw = r#"d".unwrap()"#;
    #[cfg(test)]
    mod tests { fn t() { e.unwrap(); } }
    fn after() { f.expect("why"); }
    """
    found = re.findall(r"(\w)\.(?:unwrap|expect)\(", without_tests(rust_code(text)))
    assert found == ["c", "f"]


def test_every_requirement_is_pinned() -> None:
    paths = sorted((ROOT / "requirements").glob("*.txt"))
    assert paths
    loose = [
        f"{name(path)}: {line}"
        for path in paths
        for line in path.read_text().splitlines()
        if line.strip() and not re.match(r"#|-r \w|[\w.-]+(\[\w+\])?==[\w.]+(;|$)", line)
    ]
    assert not loose


def test_a_package_has_one_pin_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        for package, version in re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", path.read_text(), re.M):
            pins.setdefault(package.lower().replace("_", "-"), set()).add(version)
    assert not {package: versions for package, versions in pins.items() if len(versions) > 1}


def test_the_version_has_one_source() -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    for manifest in (ROOT / "crates").glob("*/Cargo.toml"):
        assert tomllib.loads(manifest.read_text())["package"]["version"] == {"workspace": True}, name(
            manifest
        )
    assert metadata.version("whorl") == version


@pytest.mark.parametrize("licence", ["LICENSE-MIT", "LICENSE-APACHE"])
def test_both_licences_are_here(licence: str) -> None:
    assert (ROOT / licence).read_text().strip()


def test_the_package_keeps_time_by_the_loop() -> None:
    """``loop.time()``, which a clock for tests moves; ``time.time()`` is for dates that a server has sent."""
    machine_clock = re.compile(r"\b(?:monotonic|perf_counter)(?:_ns)?\b")
    paths = [path for path in files(".py") if name(path).startswith("python/whorl/")]
    assert len(paths) > 50
    assert not [name(path) for path in paths if machine_clock.search(path.read_text())]


def test_unsafe_code_is_where_the_map_says() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    paragraph = text.partition("`unsafe` is in these places")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([a-z_/0-9]+(?:\.rs|/))`", paragraph))
    assert len(listed) > 20
    sources = {name(path).partition("/src/")[2]: path for path in files(".rs") if "crates/" in name(path)}
    unsafe = {
        short
        for short, path in sources.items()
        if short and re.search(r"\bunsafe\b", without_tests(rust_code(path.read_text())))
    }
    covered = {place: {short for short in unsafe if short.startswith(place)} for place in listed}
    assert not unsafe - set().union(*covered.values()), "not in ARCHITECTURE.md"
    assert not [place for place, there in covered.items() if not there], "listed, and without unsafe code"


def test_numbers_become_descriptors_in_one_place() -> None:
    """Where it is argued what holds of a descriptor that a program may close."""
    made = re.compile(r"\b(?:borrow_raw|from_raw_fd)\b")
    assert [
        name(path)
        for path in files(".rs", under="crates")
        if made.search(without_tests(rust_code(path.read_text())))
    ] == ["crates/python/src/fd.rs"]
