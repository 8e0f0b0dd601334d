"""What ``whorl.gui`` promises of any host, with one of ``select()``; and its errors."""

from __future__ import annotations

import asyncio
import functools
import gc
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

import whorl.gui
from tests.event_loop.support import PATIENCE
from whorl.gui.driver import Driver
from whorl.gui.host import Host, Watch
from whorl.turns import BUDGET


class SelectWatch(Watch):
    def __init__(self, host: SelectHost, fd: int, function: Callable[[], None]) -> None:
        self.host = host
        self.fd = fd
        self.function = function
        self.resume()

    def let_others_go_first(self) -> None:
        del self.host.readers[self.fd]
        self.host.order.append("others")
        self.host.posted.append(self.function)

    def pause(self) -> None:
        del self.host.readers[self.fd]
        self.host.order.append("pause")
        self.host.posted.append(self.function)

    def resume(self) -> None:
        self.host.readers[self.fd] = self.function

    def close(self) -> None:
        self.host.readers.pop(self.fd, None)


class SelectHost(Host):
    """A main loop of ``select()``, which calls what was posted when nothing is readable."""

    toolkit = "select"

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, Callable[[], None]] = {}
        self.posted: list[Callable[[], None]] = []
        self.order: list[str] = []
        self.quitting = False

    def run(self) -> None:
        self.quitting = False
        while not self.quitting:
            readable, _, _ = select.select([*self.readers], [], [], 0 if self.posted else PATIENCE)
            assert readable or self.posted, "nothing has come"
            for fd in readable:
                self.readers.get(fd, lambda: None)()
            if not readable:
                self.posted.pop(0)()

    def quit(self) -> None:
        self.quitting = True

    def watch(self, fd: int, function: Callable[[], None]) -> Watch:
        return SelectWatch(self, fd, function)

    def post(self, function: Callable[[], None]) -> None:
        self.posted.append(function)

    @property
    def has_ended(self) -> bool:
        return False


@pytest.fixture
def host() -> SelectHost:
    return SelectHost()


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


# -- the host's share ----------------------------------------------------------------------------------------


def test_others_go_first_after_a_budget_of_turns(host: SelectHost) -> None:
    """Whether one turn takes it or many do together."""
    now = 0.0

    def turn() -> None:
        nonlocal now
        host.order.append("turn")
        now += BUDGET / 2

    reading, writing = _readable_pipe()
    driver = Driver(host, reading, turn, pytest.fail, lambda: now)
    host.post(lambda: host.order.append("redraw"))
    for _ in range(3):
        _once(host)
    assert host.order == ["turn", "turn", "others", "redraw"]
    _once(host)
    assert host.order[4:] == ["turn"]
    assert host.readers, "the watch has not been resumed"
    driver.close()
    assert not host.readers
    reading.close()
    writing.close()


def test_a_turn_within_a_rest_is_watched(host: SelectHost) -> None:
    """The turn after others have gone first may run a dialog, whose main loop calls further turns."""
    now = 0.0
    watched: list[bool] = []

    def turn() -> None:
        nonlocal now
        watched.append(bool(host.readers))
        now += BUDGET

    reading, writing = _readable_pipe()
    driver = Driver(host, reading, turn, pytest.fail, lambda: now)
    for _ in range(4):
        _once(host)
    assert watched == [True] * 4
    driver.close()
    reading.close()
    writing.close()


def test_turns_within_a_turn_begin_after_a_pause(host: SelectHost) -> None:
    """A main loop that handles what there is and returns has ended by then; a dialog's lasts."""
    depth = rounds = 0

    def turn() -> None:
        nonlocal depth
        depth += 1
        host.order.append(f"turn {depth}")
        if depth == 1:
            for _ in range(rounds):
                _once(host)
        depth -= 1

    reading, writing = _readable_pipe()
    driver = Driver(host, reading, turn, pytest.fail, lambda: 0.0)
    for each in (1, 3):
        rounds = each
        _once(host)
        assert host.readers, "the watch has not been resumed"
        host.posted.clear()
    assert host.order == ["turn 1", "pause", "turn 1", "pause", "turn 2", "turn 2"]
    driver.close()
    reading.close()
    writing.close()


def test_what_a_turn_raises_does_not_reach_the_host(host: SelectHost) -> None:
    errors: list[BaseException] = []

    def turn() -> None:
        raise SystemExit(3)

    reading, writing = _readable_pipe()
    driver = Driver(host, reading, turn, errors.append, lambda: 0.0)
    _once(host)
    assert [type(error) for error in errors] == [SystemExit]
    driver.close()
    reading.close()
    writing.close()


def _readable_pipe() -> tuple[Any, Any]:
    import socket

    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    return ours, theirs


def _once(host: SelectHost) -> None:
    readable, _, _ = select.select([*host.readers], [], [], 0)
    for fd in readable:
        host.readers[fd]()
    if not readable and host.posted:
        host.posted.pop(0)()


# -- programs ------------------------------------------------------------------------------------------------


def test_run_returns_the_result(host: SelectHost) -> None:
    assert whorl.gui.run(asyncio.sleep(0.001, "result"), host) == "result"


def test_a_host_that_ends_first(host: SelectHost) -> None:
    async def main() -> str:
        host.post(host.quit)
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
        return "not reached"

    assert whorl.gui.run(main(), host) is None


def test_a_main_that_is_cancelled_by_itself(host: SelectHost) -> None:
    """That is no end of the host's."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await forever()

    with pytest.raises(asyncio.CancelledError):
        whorl.gui.run(main(), host)


def test_what_done_raises(host: SelectHost, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported, and the main loop continues; SystemExit ends the main loop."""

    async def fails() -> None:
        raise LookupError("of main")

    continued: list[None] = []

    def done(guest: Any) -> None:
        host.post(lambda: continued.append(None))
        host.post(host.quit)
        guest.result()

    guest = whorl.gui.start(fails(), host, done=done)
    host.run()
    assert continued
    (record,) = caplog.records
    assert "done" in record.message
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    with pytest.raises(LookupError, match="of main"):
        guest.result()

    guest = whorl.gui.start(asyncio.sleep(0), host, done=lambda guest: sys.exit(3))
    host.run()
    with pytest.raises(SystemExit):
        guest.result()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("first", ["window", "ctrl_c"])
def test_ctrl_c_at_the_end(host: SelectHost, first: str) -> None:
    """A window that is closed and Ctrl-C, in either order: the run was interrupted."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends = [lambda: host.post(host.quit), lambda: signal.raise_signal(signal.SIGINT)]
        if first == "ctrl_c":
            ends.reverse()
        ends.pop(0)()
        try:
            await forever()
        finally:
            loop.call_soon(ends.pop())
            await forever()

    with pytest.raises(KeyboardInterrupt):
        whorl.gui.run(main(), host)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_before_the_main_loop(times: int) -> None:
    """Its handler is there already, and the main loop cannot be ended yet."""

    class Interrupted(SelectHost):
        def run(self) -> None:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            super().run()

    with pytest.raises(KeyboardInterrupt):
        whorl.gui.run(forever(), Interrupted())
    if times == 1:
        loop = whorl.gui.new_event_loop(Interrupted())
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.close()


def test_the_second_ctrl_c_after_the_main_loop(host: SelectHost, caplog: pytest.LogCaptureFixture) -> None:
    """It does not wait for a coroutine that continues."""
    seen: list[str] = []

    async def main() -> None:
        host.post(host.quit)
        for number in range(5):
            try:
                await forever()
            except asyncio.CancelledError:
                seen.append(f"cancelled {number}")
                asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        whorl.gui.run(main(), host)
    assert seen == ["cancelled 0", "cancelled 1"]
    gc.collect()
    # Of main and no other task, as on asyncio.
    (record,) = (record for record in caplog.records if "destroyed" in record.message)
    assert "main()" in record.message


def test_modal_when_cancelled(host: SelectHost) -> None:
    called: list[int] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await host.modal(called.append, 1)
        await host.modal(called.append, 2)

        def stops() -> None:
            raise StopIteration(5)

        with pytest.raises(RuntimeError, match="StopIteration"):
            await host.modal(stops)

    whorl.gui.run(main(), host)
    assert called == [2]


@pytest.mark.parametrize("way", ["run", "start"])
def test_a_dialog_after_the_main_loop_has_ended(host: SelectHost, way: str) -> None:
    """It runs a main loop, which is not to call turns: the loop runs by itself to its end."""
    watched: list[bool] = []

    async def main() -> None:
        host.post(host.quit)
        try:
            await forever()
        finally:
            # So that there is something to do.
            reading, writing = _readable_pipe()
            asyncio.get_running_loop().add_reader(reading, lambda: None)
            for _ in range(2):
                _once(host)
            watched.append(bool(host.readers))
            asyncio.get_running_loop().remove_reader(reading)
            reading.close()
            writing.close()

    if way == "run":
        assert whorl.gui.run(main(), host) is None
    else:
        with whorl.gui.start(main(), host) as guest:
            host.run()
        with pytest.raises(asyncio.CancelledError):
            guest.result()
    assert watched == [False]


def test_modal_by_another_object_of_the_same_main_loop() -> None:
    """As ``whorl.gui.qt()`` in a task makes one."""

    async def main() -> str:
        host = SelectHost()
        with pytest.raises(RuntimeError, match="main loop of select"):
            await OtherHost().modal(str)
        # What it posts goes to the main loop that runs.
        host.posted = running.posted
        return await host.modal(str, "result")

    class OtherHost(SelectHost):
        pass

    running = SelectHost()
    assert whorl.gui.run(main(), running) == "result"
    with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(running)) as runner:
        assert runner.run(main()) == "result"


def test_modal_after_the_main_loop_has_ended(host: SelectHost) -> None:
    """Nothing would call the function."""
    errors: list[str] = []

    async def main() -> None:
        host.post(host.quit)
        try:
            await forever()
        finally:
            try:
                async with asyncio.timeout(PATIENCE):
                    await host.modal(print)
            except RuntimeError as error:
                errors.append(str(error))

    whorl.gui.run(main(), host)
    guest = whorl.gui.start(main(), host)
    host.run()
    guest.close()
    assert errors == ["the main loop of select has ended: call the function itself"] * 2


def test_arguments_that_a_slot_has_no_parameter_for(host: SelectHost) -> None:
    seen: list[Any] = []

    @whorl.gui.slot
    async def none() -> None:
        seen.append(())

    @whorl.gui.slot
    async def one(first: int, *, named: int = 0) -> None:
        seen.append((first, named))

    @whorl.gui.slot
    async def all_of_them(*args: int) -> None:
        seen.append(args)

    async def main() -> None:
        none(1, 2)
        one(1, 2, named=3)
        all_of_them(1, 2)
        await asyncio.sleep(0)

    whorl.gui.run(main(), host)
    assert seen == [(), (1, 3), (1, 2)]
    assert none.__name__ == "none"


def test_a_handler_whose_task_has_just_ended(host: SelectHost) -> None:
    """What it has woken may call it again at once, before the callbacks of the task's end have run."""
    started: list[asyncio.Future[None]] = []

    @whorl.gui.slot(one_at_a_time=True)
    async def clicked(ended: asyncio.Future[None]) -> None:
        started.append(ended)
        ended.set_result(None)

    async def main() -> None:
        for _ in range(3):
            ended = asyncio.get_running_loop().create_future()
            clicked(ended)
            await ended

    whorl.gui.run(main(), host)
    assert len(started) == 3


def test_a_slot_of_equal_objects(host: SelectHost) -> None:
    """Objects that are equal, or cannot be hashed, are different ones all the same."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        @whorl.gui.slot(one_at_a_time=True)
        async def clicked(self) -> None:
            started.append(id(self))
            await forever()

    started: list[int] = []
    one, two = Equal(), Equal()

    async def main() -> None:
        for each in (one, two, one):
            each.clicked()
        await asyncio.sleep(0)

    whorl.gui.run(main(), host)
    assert started == [id(one), id(two)]


def test_a_slot_of_any_coroutine_function(host: SelectHost) -> None:
    """Of a partial function, a bound method, a static and a class method; each is one handler."""
    started: list[object] = []

    class Window:
        async def bound(self, *args: object) -> None:
            await start("bound")

        @staticmethod
        @whorl.gui.slot(one_at_a_time=True)
        async def static(*args: object) -> None:
            await start("static")

        @classmethod
        @whorl.gui.slot(one_at_a_time=True)
        async def of_class(cls, *args: object) -> None:
            await start("of class")

    async def start(name: object, *args: object) -> None:
        started.append(name)
        await forever()

    one_at_a_time = whorl.gui.slot(one_at_a_time=True)

    async def main() -> None:
        window = Window()
        handlers = [
            one_at_a_time(functools.partial(start, "partial")),
            one_at_a_time(functools.partial(window.bound, "partial")),
            one_at_a_time(window.bound),
            window.static,
            window.of_class,
        ]
        for handler in handlers:
            # Arguments as toolkits give them, of which each is another object.
            handler(object())
            handler(object())
        await asyncio.sleep(0)

    whorl.gui.run(main(), host)
    assert started == ["partial", "bound", "bound", "static", "of class"]


def test_a_slot_that_is_called_wrongly(host: SelectHost) -> None:
    """A call that fails does not count as one that is being worked on."""
    started: list[int] = []

    @whorl.gui.slot(one_at_a_time=True)
    async def handler(number: int) -> None:
        started.append(number)

    async def main() -> None:
        with pytest.raises(TypeError, match="number"):
            handler()
        handler(1)
        await asyncio.sleep(0)

    whorl.gui.run(main(), host)
    assert started == [1]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
def test_an_eager_slot_that_calls_itself(host: SelectHost) -> None:
    """Its task runs before there is one to wait for."""
    started: list[None] = []

    @whorl.gui.slot(one_at_a_time=True)
    async def handler() -> None:
        started.append(None)
        if len(started) < 3:
            handler()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        handler()

    whorl.gui.run(main(), host)
    assert len(started) == 1


# -- errors --------------------------------------------------------------------------------------------------


def test_what_is_no_coroutine(host: SelectHost) -> None:
    with pytest.raises(ValueError, match="a coroutine was expected"):
        whorl.gui.run(forever, host)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a coroutine function"):
        whorl.gui.slot(print)  # type: ignore[arg-type]


def test_what_is_no_host() -> None:
    main = forever()
    with pytest.raises(TypeError, match="host is to be whorl.gui.tk"):
        whorl.gui.run(main, "tk")  # type: ignore[arg-type]
    assert main.cr_frame is None, "not closed"


def test_a_run_within_a_loop(host: SelectHost) -> None:
    async def main() -> None:
        inner = forever()
        with pytest.raises(RuntimeError, match="within a running event loop"):
            whorl.gui.run(inner, host)
        assert inner.cr_frame is None, "not closed"

    whorl.gui.run(main(), host)
    asyncio.run(main())


def test_another_thread(host: SelectHost) -> None:
    errors: list[str] = []
    loop = whorl.gui.new_event_loop(host)

    async def modal() -> None:
        await host.modal(print)

    def elsewhere() -> None:
        for attempt in (
            lambda: whorl.gui.run(forever(), host),
            loop.run_forever,
            lambda: asyncio.run(modal()),
        ):
            try:
                attempt()
            except RuntimeError as error:
                errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    loop.close()
    assert errors == ["the main loop of select belongs to another thread"] * 3


def test_modal_on_another_loop(host: SelectHost) -> None:
    with pytest.raises(RuntimeError, match="main loop of select"):
        asyncio.run(host.modal(print))


NONE = "no toolkit that is imported has an application"
TWO = """
import sys, tkinter, types
tkinter._default_root = object()
sys.modules["PyQt6.QtCore"] = types.SimpleNamespace(QCoreApplication=types.SimpleNamespace(instance=object))
"""


@pytest.mark.parametrize(
    ("imports", "message"),
    [("", NONE), ("import tkinter", NONE), (TWO, "more than one toolkit has an application")],
    ids=["none", "no application", "two"],
)
def test_the_host_is_not_found(imports: str, message: str) -> None:
    if "tkinter" in imports:
        pytest.importorskip("tkinter", reason="this interpreter has no Tk")
    program = f"{imports}\nimport asyncio, whorl.gui\nmain = asyncio.sleep(0)\nwhorl.gui.run(main)\n"
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert "never awaited" not in ran.stderr
