"""``whorl.run``, ``new_event_loop``, ``install``, ``EventLoopPolicy`` and what ``import whorl`` costs."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import whorl as package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run, Script


async def running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_run_returns_the_result_and_closes_the_loop() -> None:
    loop = package.run(running_loop())
    assert isinstance(loop, package.EventLoop)
    assert loop.is_closed()


@pytest.mark.parametrize("debug", [True, False])
def test_run_sets_debug_mode(debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert package.run(main(), debug=debug) is debug


def test_run_leaves_debug_mode_to_the_environment(run_python: Run, script: Script) -> None:
    script(
        "program.py",
        """
        import asyncio, whorl

        async def main():
            return asyncio.get_running_loop().get_debug()

        print(whorl.run(main()))
        """,
    )
    assert run_python("program.py").stdout == "False\n"
    assert run_python("program.py", python=("-X", "dev")).stdout == "True\n"


def test_run_raises_what_the_program_raises() -> None:
    async def main() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        package.run(main())


def test_run_cancels_the_tasks_that_are_left_and_closes_generators() -> None:
    ended: list[str] = []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def main() -> None:
        task = asyncio.create_task(left())
        await asyncio.sleep(0)
        assert not task.done()

    package.run(main())
    assert ended == ["task"]


def test_run_inside_a_running_loop_is_refused() -> None:
    async def inner() -> None:
        raise AssertionError("must not run")

    async def main() -> None:
        coroutine = inner()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            package.run(coroutine)
        coroutine.close()

    package.run(main())


def test_run_inside_a_running_loop_names_nest_asyncio_where_that_was_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)

    async def inner() -> None:
        raise AssertionError("must not run")

    async def main() -> None:
        coroutine = inner()
        for run in (package.run, asyncio.get_running_loop().run_until_complete):
            with pytest.raises(RuntimeError, match="nest_asyncio does not work on whorl's loop"):
                run(coroutine)
        coroutine.close()

    package.run(main())


def test_run_of_what_is_not_a_coroutine_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        package.run(42)  # type: ignore[arg-type]


def test_new_event_loop_is_a_loop_factory() -> None:
    with asyncio.Runner(loop_factory=package.new_event_loop) as runner:
        assert isinstance(runner.run(running_loop()), package.EventLoop)


@pytest.fixture
def default_policy() -> Iterator[None]:
    """Put the default policy back after the test."""
    yield
    if hasattr(asyncio, "set_event_loop_policy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(None)


@pytest.mark.usefixtures("default_policy")
def test_install_is_quiet_and_reaches_asyncio_run() -> None:
    # Warnings are errors in this test run, so that a deprecation warning would fail it.
    package.install()
    assert isinstance(asyncio.run(running_loop()), package.EventLoop)


@pytest.mark.usefixtures("default_policy")
def test_install_where_a_loop_runs_already_says_that_it_has_no_effect_there() -> None:
    """As in a Jupyter notebook, whose cells run on the kernel's loop."""

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="no effect on the loop that runs here already") as warned:
            package.install()
        assert warned[0].filename == __file__

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())
    # Later ones are whorl's all the same.
    assert isinstance(asyncio.run(running_loop()), package.EventLoop)


@pytest.mark.usefixtures("default_policy")
def test_install_on_a_loop_of_whorls_is_quiet() -> None:
    async def main() -> None:
        package.install()

    package.run(main())


def test_dir_shows_the_public_names_and_nothing_else(run_python: Run) -> None:
    """In a new interpreter, as this one has imported more than a user has, and before and after use."""
    code = """
        import whorl
        before = dir(whorl)
        import whorl.cli, whorl.policy
        whorl.http.ClientSession, whorl.guest.Guest, whorl.gui.run, whorl.testing.EventLoop
        public = [*whorl.__all__, "guest", "gui", "http", "testing"]
        assert dir(whorl) == before == sorted(public), dir(whorl)
        import whorl.http
        assert dir(whorl.http) == sorted(whorl.http.__all__), dir(whorl.http)
    """
    result = run_python("-c", textwrap.dedent(code))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python 3.16 has no event loop policies")
@pytest.mark.usefixtures("default_policy")
def test_the_policy_makes_whorls_loops() -> None:
    policy = package.EventLoopPolicy()
    loop = policy.new_event_loop()
    assert isinstance(loop, package.EventLoop)
    loop.close()


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python 3.16 has no event loop policies")
def test_naming_the_policy_does_not_warn(run_python: Run) -> None:
    result = run_python(
        "-c", "import whorl; whorl.EventLoopPolicy; whorl.EventLoopPolicy()", python=("-W", "error")
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_public_names() -> None:
    assert package.__version__ == version("whorl")
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        (
            "whorl",
            ["argparse", "importlib.metadata", "email", "multiprocessing", "typing_extensions", "whorl.cli"],
        ),
        ("whorl.http", ["datetime", "email", "http.client", "netrc", "pickle", "tempfile", "uuid"]),
    ],
)
def test_import_brings_in_nothing_slow(run_python: Run, module: str, slow: list[str]) -> None:
    # Time itself is measured by the benchmarks. These are the modules that would cost most of the budget.
    program = f"""
import asyncio, sys
before = set(sys.modules)
import {module}
print(sorted((set(sys.modules) - before) & set({slow})))
"""
    result = run_python("-c", program)
    assert result.stdout == "[]\n"
