"""The direction of dependency: ``python/whorl`` on ``whorl._core`` on ``whorl-core``, and never back."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house import ROOT
from tests.house.rust_paths import crate_paths, module_of
from tests.house.sources import files, name, rust_code, rust_strings, without_tests

CORE = ROOT / "crates" / "core" / "src"

# What each module of the core may use of the others. A new module has to take its place here first.
MAY_USE: dict[str, set[str]] = {
    # Mechanism: these know no protocol.
    "reactor": set(),
    "sched": {"reactor"},
    "net": {"reactor", "sched"},
    # Memory that is being filled.
    "output": set(),
    # Protocols: bytes in, events and bytes out. No socket, no clock.
    "http1": set(),
    "websocket": set(),
    "http2": set(),
    # Policy over them: the client and the server never import each other.
    "client": {"http1", "http2", "output", "websocket"},
    "server": {"http1", "http2", "websocket"},
    "parallel": set(),
    "trace": set(),
}
BINDING = ROOT / "crates" / "python" / "src"

# The layers of the binding, from the bottom: each may use those before it in its row's set, and itself.
C_API = {"errors", "fd", "ffi", "buffer", "interpreter", "reference_tracer"}
BINDING_MAY_USE: dict[str, set[str]] = {
    # The callers of the C API: one layer.
    **dict.fromkeys(C_API, C_API),
    "event_loop": C_API,
    "transport": C_API | {"event_loop"},
    "http": C_API | {"event_loop", "transport"},
}
SANS_IO = {"output", "http1", "websocket", "http2", "client"}


def core_modules() -> set[str]:
    """The modules that the core's ``lib.rs`` declares."""
    code = rust_code((CORE / "lib.rs").read_text())
    return set(re.findall(r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*[;{]", without_tests(code), re.M))


def module_files(module: str) -> list[Path]:
    """The files of one module of the core."""
    flat = CORE / f"{module}.rs"
    return [*([flat] if flat.exists() else []), *files(".rs", under=f"crates/core/src/{module}")]


def used_beyond(allowed: set[str], paths: list[Path], root: Path) -> set[tuple[str, str]]:
    """The files that use a module of their crate which is not ``allowed``, and that module or item."""
    used = {
        (name(path), found[0] if found else "the crate's root")
        for path in paths
        for found in crate_paths(path.read_text(), module_of(path, root))
    }
    return {(path, other) for path, other in used if other not in allowed}


def cargo_tree(package: str) -> set[str]:
    """Every crate that ``package`` is built from, itself included; what only its tests use is left out."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not on this machine")
    command = ["cargo", "tree", "--package", package, "--edges", "normal,build", "--target", "all"]
    done = subprocess.run(
        [*command, "--prefix", "none", "--format", "{p}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def manifests() -> dict[str, dict[str, Any]]:
    """The manifests of the crates that are shipped, by crate name."""
    loaded = [tomllib.loads(path.read_text()) for path in sorted((ROOT / "crates").glob("*/Cargo.toml"))]
    return {manifest["package"]["name"]: manifest for manifest in loaded}


def direct_dependencies(manifest: dict[str, Any]) -> set[str]:
    """Everything that a manifest requires, tests and single platforms included."""
    kinds = ("dependencies", "dev-dependencies", "build-dependencies")
    tables = [manifest, *manifest.get("target", {}).values()]
    return {crate for table in tables for kind in kinds for crate in table.get(kind, {})}


def test_the_core_has_no_python_in_it() -> None:
    found = {
        crate for crate in cargo_tree("whorl-core") if crate.startswith(("pyo3", "cpython", "python3-sys"))
    }
    assert not found
    # The control: the same question about the extension finds it.
    assert "pyo3" in cargo_tree("whorl-python")


def test_the_core_does_not_depend_on_the_extension() -> None:
    assert "whorl-python" not in cargo_tree("whorl-core")


def test_every_module_of_the_core_has_its_place() -> None:
    modules = core_modules()
    assert {"reactor", "sched", "net"} <= modules
    assert modules <= MAY_USE.keys(), "say in MAY_USE what the new module may use"


@pytest.mark.parametrize("module", sorted(MAY_USE))
def test_modules_of_the_core_use_only_what_they_may(module: str) -> None:
    assert not used_beyond(MAY_USE[module] | {module}, module_files(module), CORE)


@pytest.mark.parametrize("module", sorted(SANS_IO))
def test_protocols_and_policy_touch_no_socket_and_no_clock(module: str) -> None:
    outside = r"\b(rustix|libc|std::net|std::os::fd|std::fs|Instant::now|SystemTime::now)\b"
    touched = {
        (name(path), word)
        for path in module_files(module)
        for word in re.findall(outside, without_tests(rust_code(path.read_text())))
    }
    assert not touched


def binding_files(module: str) -> list[Path]:
    """The files of one module of the binding."""
    flat = BINDING / f"{module}.rs"
    return [*([flat] if flat.exists() else []), *files(".rs", under=f"crates/python/src/{module}")]


def test_every_module_of_the_binding_has_its_place() -> None:
    code = rust_code((BINDING / "lib.rs").read_text())
    modules = set(re.findall(r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*[;{]", code, re.M))
    assert modules == BINDING_MAY_USE.keys(), "say in BINDING_MAY_USE what the new module may use"


@pytest.mark.parametrize("module", sorted(BINDING_MAY_USE))
def test_modules_of_the_binding_use_only_what_they_may(module: str) -> None:
    paths = binding_files(module)
    assert paths
    assert not used_beyond(BINDING_MAY_USE[module] | {module}, paths, BINDING)


def modules_of_the_package(text: str) -> set[str]:
    """The modules of ``whorl`` that Rust names in strings: by themselves, or in an import of Python."""
    strings = rust_strings(text)
    alone = {one for one in strings if re.fullmatch(r"whorl(?:\.\w+)*", one)}
    imported = (re.findall(r"(?:\\n|\b)(?:import|from)\s+(whorl(?:\.\w+)*)", one) for one in strings)
    return alone.union(*imported)


def test_the_binding_imports_nothing_of_the_package() -> None:
    named = {
        (name(path), found)
        for path in files(".rs", under="crates/python/src")
        for found in modules_of_the_package(path.read_text())
        if found != "whorl._core"
    }
    # The name of OpenSSL's method for whorl's BIOs.
    named -= {("crates/python/src/transport/tls/libssl.rs", "whorl")}
    assert not named, "what the extension uses of the package, the package gives it"


@pytest.mark.parametrize(
    ("text", "module", "paths"),
    [
        ("use crate::http::pool::Pool;", "", ["http::pool::Pool"]),
        ("pub(crate) use crate::{ffi, http::b};", "", ["ffi", "http::b"]),
        ("use crate::{\n    a::{self, b::{C, D}},\n    e,\n};", "", ["a", "a::b::C", "a::b::D", "e"]),
        ("use crate::http as transport;", "", ["http"]),
        ("use crate::{http as transport, ffi as _};", "", ["http", "ffi"]),
        ("use crate::*; use crate::a::{b::*};", "", ["*", "a::b::*"]),
        ("use crate as whole; use crate::{self as all};", "", [""]),
        ("use super::x::Y;", "a::b", ["a::x::Y"]),
        ("use super::super::http::X;", "a::b", ["http::X"]),
        ("use super::super::{http::X, super::top};", "a::b::c", ["a::http::X", "top"]),
        ("use self::super::super::http;", "a::b", ["http"]),
        ("use self::inner::X;", "a", ["a::inner::X"]),
        ("mod tests { use super::super::super::http; } use super::x;", "a::b", ["http", "a::x"]),
        (
            "if x { crate::ffi::call() } else { super::super::http::g::<u8>(1) }",
            "a::b",
            ["ffi::call", "http::g"],
        ),
        (
            "let x: &crate::ffi::T = <crate::http::S as super::super::ffi::U>::new();",
            "a::b",
            ["ffi::T", "ffi::U", "http::S"],
        ),
        ("macro_rules! m { () => { $crate::http::f!() } }", "", ["http::f"]),
        ("fn f() { use crate::{http}; }", "", ["http"]),
        ("use ::http::X; use std::{fmt, io}; use whorl_core::crate_of::X;", "", []),
        ("pub(super) fn f(&self) -> impl Fn() + use<'_> { self.x.super_x(Self::Y) }", "a", []),
        ('// use crate::http;\nlet s = "crate::http::X"; /* crate::http */', "", []),
    ],
)
def test_the_reader_of_paths_sees_each_form(text: str, module: str, paths: list[str]) -> None:
    found = crate_paths(text, tuple(module.split("::")) if module else ())
    assert {"::".join(one) for one in found} == set(paths)


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ('py.import("whorl")?', {"whorl"}),
        ('py.import(intern!(py, "whorl.http.call"))?', {"whorl.http.call"}),
        ('py.run(c"from whorl.http import x\\nimport whorl", None, None)', {"whorl.http", "whorl"}),
        ('let x = r#"whorl"#; let y = br"whorl.sock";', {"whorl", "whorl.sock"}),
        ('// import("whorl")\nnew_err("whorl.http is not imported: import it first")', set()),
        ("let life: &'a str = 'w'; use whorl_core::net;", set()),
    ],
)
def test_the_reader_of_imports_sees_each_form(text: str, modules: set[str]) -> None:
    assert modules_of_the_package(text) == modules


def test_every_crate_that_is_used_is_argued_for() -> None:
    own = set(manifests())
    text = (ROOT / "docs" / "dependencies.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", text))
    used = {crate for manifest in manifests().values() for crate in direct_dependencies(manifest)} - own
    assert used
    assert not used - named, "say in docs/dependencies.md what it does, and why this one"


def test_python_imports_the_standard_library_whorl_and_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in project.get("dependencies", [])}
    known = sys.stdlib_module_names | {"whorl"} | declared
    # The plugin is imported by pytest alone.
    of_hosts = {("python/whorl/testing/pytest_plugin.py", "pytest")}
    # Every type checker brings these; at run time no module imports them.
    for_type_checkers = {"_typeshed", "typing_extensions"}
    strange: set[tuple[str, str]] = set()
    for path in files(".py", ".pyi", under="python/whorl"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            allowed = known | for_type_checkers if path.suffix == ".pyi" else known
            strange |= {(name(path), module) for module in names if module.split(".")[0] not in allowed}
    assert strange <= of_hosts


def test_the_only_compiled_module_is_core() -> None:
    compiled = {path.name.split(".")[0] for path in (ROOT / "python" / "whorl").rglob("*.so")}
    assert compiled <= {"_core"}
