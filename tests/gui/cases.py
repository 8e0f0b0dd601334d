"""The programs that the tests run, each in a process of its own: ``python -m tests.gui.cases TOOLKIT CASE``.

A case prints what the test expects, line by line, and asserts the rest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

import whorl.gui
from tests.event_loop.support import PATIENCE
from tests.gui.toolkits import TOOLKITS, Toolkit

CASES: dict[str, Callable[[Toolkit], object]] = {}


def case(function: Callable[[Toolkit], object]) -> Callable[[Toolkit], object]:
    CASES[function.__name__] = function
    return function


def say(*words: object) -> None:
    print(*words, flush=True)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def ticking(ticks: list[None]) -> None:
    while True:
        ticks.append(None)
        await asyncio.sleep(0.001)


async def ticked(ticks: list[None], more: int = 5) -> None:
    """Wait until the ticking task has continued."""
    wanted = len(ticks) + more
    while len(ticks) < wanted:
        await asyncio.sleep(0.001)


# -- what a program does -------------------------------------------------------------------------------------


@case
def results(toolkit: Toolkit) -> None:
    """Several runs in one process, what they return and raise, and what is left of them."""

    async def returns() -> int:
        await asyncio.sleep(0.001)
        return 42

    async def raises() -> None:
        await asyncio.sleep(0.001)
        raise LookupError("this one")

    seen: list[str] = []

    async def leaves() -> None:
        async def background() -> None:
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                seen.append("task")

        async def generator() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                seen.append("generator")

        tasks.append(asyncio.create_task(background()))
        generators.append(generator())
        async for _ in generators[0]:
            break
        await asyncio.to_thread(seen.append, "thread")

    tasks: list[asyncio.Task[None]] = []
    generators: list[AsyncIterator[int]] = []
    assert whorl.gui.run(returns(), toolkit.host) == 42
    assert asyncio._get_running_loop() is None
    with pytest.raises(LookupError, match="this one"):
        whorl.gui.run(raises(), toolkit.host)
    whorl.gui.run(leaves(), toolkit.host)
    assert sorted(seen) == ["generator", "task", "thread"], seen
    assert threading.active_count() == 1
    # The host is found.
    assert whorl.gui.run(returns()) == 42
    say("ok")


@case
def freed(toolkit: Toolkit) -> None:
    """A loop that is closed is freed without the collector, and with it the memory that it reads into."""

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.sleep(0)

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    gc.collect()
    gc.disable()
    whorl.gui.run(main(), toolkit.host)
    whorl.gui.start(main(), toolkit.host, done=lambda _: toolkit.after(1, toolkit.end_main_loop))
    toolkit.main_loop()
    with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
        runner.run(main())
    del runner
    # Qt's objects are deleted by the next turn of a main loop.
    toolkit.after(1, toolkit.end_main_loop)
    toolkit.main_loop()
    assert [loop() for loop in loops] == [None] * 3
    say("ok")


@case
def network(toolkit: Toolkit) -> None:
    """Streams, TLS, children, threads and whorl's client."""
    from tests.gui.network import main

    assert whorl.gui.run(main(), toolkit.host) == "all"
    say("ok")


@case
def handlers(toolkit: Toolkit) -> None:
    """Handlers of the toolkit make tasks; so do slots, methods among them."""
    seen: list[object] = []

    class Window:
        @whorl.gui.slot
        async def method(self) -> None:
            await asyncio.sleep(0.001)
            seen.append(self)

        @whorl.gui.slot(one_at_a_time=True)
        async def single(self) -> None:
            started.append(self)
            await asyncio.sleep(0.01)

    started: list[Window] = []
    one, two = Window(), Window()

    @whorl.gui.slot
    async def function() -> None:
        await asyncio.sleep(0.001)
        seen.append("function")

    @whorl.gui.slot
    async def failing() -> None:
        raise LookupError("of a handler")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))

        async def wait_for(condition: Callable[[], object]) -> None:
            while not condition():
                await asyncio.sleep(0.001)

        made = loop.create_future()
        toolkit.after(1, lambda: loop.create_task(complete(made)))
        await made
        # From the toolkit, and from a task.
        for click in (toolkit.button(function), toolkit.button(one.method)):
            seen.clear()
            toolkit.after(1, click)
            await wait_for(lambda: seen)
            click()
            await wait_for(lambda: len(seen) == 2)
        assert seen == [one, one]
        for window in (one, one, two, one):
            window.single()
        await wait_for(lambda: len(started) == 2)
        assert started == [one, two]
        toolkit.after(1, toolkit.button(failing))
        await wait_for(lambda: reported)
        assert isinstance(reported[0]["exception"], LookupError)
        assert "failing" in reported[0]["message"]

    async def complete(future: asyncio.Future[None]) -> None:
        await asyncio.sleep(0.001)
        future.set_result(None)

    whorl.gui.run(main(), toolkit.host)
    with pytest.raises(RuntimeError, match=r"whorl\.gui\.run"):
        function()
    say("ok")


@case
def started(toolkit: Toolkit) -> None:
    """The program runs the main loop itself."""

    async def main() -> int:
        await asyncio.sleep(0.001)
        return 7

    ended: list[Any] = []

    def done(guest: Any) -> None:
        ended.append(guest)
        # The main loop continues.
        toolkit.after(1, toolkit.end_main_loop)

    guest = whorl.gui.start(main(), toolkit.host, done=done)
    toolkit.main_loop()
    assert ended == [guest]
    assert guest.result() == 7
    # The main loop ends first.
    cancelled: list[None] = []

    async def waits() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            cancelled.append(None)

    with whorl.gui.start(waits(), toolkit.host) as second:
        toolkit.after(5, toolkit.end_main_loop)
        toolkit.main_loop()
        assert not second.done
    assert cancelled
    assert second.done
    say("ok")


@case
def runner(toolkit: Toolkit) -> None:
    """A loop of which ``run_forever()`` is the toolkit's main loop."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        toolkit.after(1, lambda: made.set_result(3))
        return await made

    with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
        assert runner.run(main()) == 3
        assert runner.run(main()) == 3
        loop = runner.get_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        toolkit.after(1, toolkit.host.quit)
        with pytest.raises(RuntimeError, match="stopped before"):
            runner.run(forever())
    say("ok")


# -- dialogs -------------------------------------------------------------------------------------------------


@case
def modal(toolkit: Toolkit) -> None:
    """All tasks continue while a dialog is open, however it is opened."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ticks: list[None] = []
        ticker = loop.create_task(ticking(ticks))

        async def closing(close: Callable[[], object]) -> None:
            await ticked(ticks)
            close()

        async def in_a_task() -> None:
            run, close = toolkit.dialog()
            closer = loop.create_task(closing(close))
            run()
            await closer

        async def by_the_host() -> None:
            run, close = toolkit.dialog()
            closer = loop.create_task(closing(close))
            await toolkit.host.modal(run)
            await closer

        def by_a_handler() -> None:
            run, close = toolkit.dialog()
            closers.append(loop.create_task(closing(close)))
            run()
            handled.set_result(None)

        closers: list[asyncio.Task[None]] = []
        handled = loop.create_future()
        for way in (in_a_task, by_the_host, in_a_task):
            before = time.process_time()
            await way()
            # The host does not call turn after turn for nothing meanwhile.
            assert time.process_time() - before < 1
        toolkit.after(1, by_a_handler)
        await handled
        await closers[0]

        def raises() -> None:
            raise LookupError("of a dialog")

        with pytest.raises(LookupError, match="of a dialog"):
            await toolkit.host.modal(raises)
        ticker.cancel()

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def events_in_tasks(toolkit: Toolkit) -> None:
    """Tasks handle the toolkit's events while others are busy: it ends, and none is within the other."""
    depth = deepest = 0

    async def busy() -> None:
        while True:
            await asyncio.sleep(0)

    async def handles() -> None:
        nonlocal depth, deepest
        for _ in range(3):
            depth += 1
            deepest = max(depth, deepest)
            toolkit.handle_events()
            depth -= 1
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(busy())
        await asyncio.gather(*(handles() for _ in range(300)))
        other.cancel()
        # One is in the other where it takes longer than a dialog is waited for.
        assert deepest < 30, deepest

    whorl.gui.run(main(), toolkit.host)
    say("ok")


# -- exceptions and the end ----------------------------------------------------------------------------------


@case
def ctrl_c(toolkit: Toolkit) -> None:
    """The coroutine is cancelled, and may still await."""

    async def main() -> None:
        try:
            say("ready")
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled")

    try:
        whorl.gui.run(main(), toolkit.host)
    except KeyboardInterrupt:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        say("interrupted")


@case
def ctrl_c_twice(toolkit: Toolkit) -> None:
    """The second one ends a coroutine that does not react to its cancellation."""

    async def main() -> None:
        say("ready")
        for number in range(2):
            try:
                await forever()
            except asyncio.CancelledError:
                if number == 0:
                    say("ready")
                else:
                    raise

    try:
        whorl.gui.run(main(), toolkit.host)
    except KeyboardInterrupt:
        say("interrupted")


@case
def ctrl_c_started(toolkit: Toolkit) -> None:
    """In a main loop that the program runs itself."""

    async def main() -> None:
        try:
            say("ready")
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled")

    with whorl.gui.start(main(), toolkit.host) as guest:
        toolkit.main_loop()
    with pytest.raises(KeyboardInterrupt):
        guest.result()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    say("interrupted")


@case
def ctrl_c_often(toolkit: Toolkit) -> None:
    """Signals that come at any moment, between turns and within, in a run and in ``run_forever()``."""

    async def main(number: int) -> None:
        timer.start()
        while number % 2:
            await asyncio.sleep(0)
        await forever()

    for number in range(24):
        seconds = number / 1000
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            whorl.gui.run(main(number), toolkit.host)
        timer.join()
        loop = whorl.gui.new_event_loop(toolkit.host)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        loop.call_soon(timer.start)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        timer.join()
        loop.close()
    say("ok")


@case
def exits_in_a_task(toolkit: Toolkit) -> None:
    """SystemExit leaves the toolkit's main loop, whatever the toolkit does with exceptions."""
    _exits(toolkit, lambda loop, leave: loop.create_task(leave()))


@case
def exits_in_a_callback(toolkit: Toolkit) -> None:
    _exits(toolkit, lambda loop, leave: loop.call_later(0.001, sys.exit, 3))


@case
def exits_within_a_dialog(toolkit: Toolkit) -> None:
    """A turn within a turn: the dialog ends, and then the main loop."""

    def schedule(loop: asyncio.AbstractEventLoop, leave: Any) -> object:
        async def opens() -> None:
            run, close = toolkit.dialog()
            loop.call_later(0.001, sys.exit, 3)
            toolkit.after(100, close)
            run()

        return loop.create_task(opens())

    _exits(toolkit, schedule)


def _exits(
    toolkit: Toolkit,
    schedule: Callable[[asyncio.AbstractEventLoop, Callable[[], Coroutine[Any, Any, None]]], object],
) -> None:
    async def leave() -> None:
        await asyncio.sleep(0.001)
        sys.exit(3)

    async def main() -> None:
        kept = schedule(asyncio.get_running_loop(), leave)
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled", kept is not None)

    try:
        whorl.gui.run(main(), toolkit.host)
    except SystemExit as error:
        say("exit", error.code)


@case
def window_closed(toolkit: Toolkit) -> None:
    """The coroutine is cancelled, and ``run`` waits for it."""

    async def main() -> None:
        toolkit.after(5, toolkit.close_window)
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled")

    assert whorl.gui.run(main(), toolkit.host) is None

    assert asyncio._get_running_loop() is None
    say("ok")


@case
def window_closed_by_a_task(toolkit: Toolkit) -> None:
    """A task closes the window within its turn, and the coroutine has a result all the same."""

    async def main() -> str:
        toolkit.close_window()
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
        return "result"

    assert whorl.gui.run(main(), toolkit.host) == "result"
    if toolkit.name == "tk":
        # Nothing is left to run in.
        with pytest.raises(RuntimeError, match="Tk has ended"):
            whorl.gui.run(forever(), toolkit.host)
        with asyncio.Runner(loop_factory=lambda: whorl.gui.new_event_loop(toolkit.host)) as runner:
            runner.run(asyncio.sleep(0))
    say("ok")


# -- what one toolkit has ------------------------------------------------------------------------------------


@case
def qt_decorated(toolkit: Toolkit) -> None:
    """Qt's own decorator above ``slot``, a method of a QObject, and a signal from another thread."""
    core = toolkit.core  # type: ignore[attr-defined]
    signal_class = core.Signal if toolkit.name == "PySide6" else core.pyqtSignal
    decorator = core.Slot if toolkit.name == "PySide6" else core.pyqtSlot
    seen: list[str] = []

    class Receiver(core.QObject):  # type: ignore[misc]
        sent = signal_class(str, int)

        @decorator(str, int)  # type: ignore[untyped-decorator]
        @whorl.gui.slot
        async def both(self, text: str, number: int) -> None:
            await asyncio.sleep(0.001)
            seen.append(f"{text} {number}")

        @whorl.gui.slot
        async def first(self, text: str) -> None:
            seen.append(text)

    async def main() -> None:
        receiver = Receiver()
        receiver.sent.connect(receiver.both)
        receiver.sent.connect(receiver.first)
        receiver.sent.emit("here", 1)
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(receiver.sent.emit, "there", 2)
        while len(seen) < 4:
            await asyncio.sleep(0.001)

    whorl.gui.run(main(), toolkit.host)
    assert sorted(seen) == ["here", "here 1", "there", "there 2"], seen
    say("ok")


@case
def qt_closed_in_nested_dialogs(toolkit: Toolkit) -> None:
    """The last window is closed while tasks open dialogs and handle events on top of each other."""
    core, widgets, app = toolkit.core, toolkit.widgets, toolkit.app  # type: ignore[attr-defined]
    toolkit.close_window()
    chosen = random.Random(1)

    async def act(window: Any) -> None:
        def dialog() -> None:
            made = widgets.QDialog(window)
            core.QTimer.singleShot(chosen.randrange(30), made.reject)
            made.exec()
            made.deleteLater()

        while window.isVisible():
            what = chosen.randrange(4)
            if what == 0:
                dialog()
            elif what == 1:
                # The main loop may have ended meanwhile.
                with suppress(RuntimeError):
                    await toolkit.host.modal(dialog)
            elif what == 2:
                app.processEvents()
            await asyncio.sleep(chosen.random() * 0.005)
        await forever()

    async def main(window: Any) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(act(window))
            asyncio.get_running_loop().call_later(chosen.random() * 0.06, window.close)

    for _ in range(20):
        window = widgets.QWidget()
        window.show()
        assert whorl.gui.run(main(window), toolkit.host) is None
        window.deleteLater()
    say("ok")


@case
def gtk_awaitables(toolkit: Toolkit) -> None:
    """PyGObject's own awaitables, which want a running loop of their main context."""
    from gi.repository import Gio  # type: ignore[import-untyped]

    async def main() -> None:
        file = Gio.File.new_for_path(__file__)
        information = await file.query_info_async("standard::size", Gio.FileQueryInfoFlags.NONE, 0)
        assert information.get_size() == os.path.getsize(__file__)

    whorl.gui.run(main(), toolkit.host)

    async def within() -> None:
        """Iterations of the main context by the program itself."""
        ticks: list[None] = []
        ticker = asyncio.create_task(ticking(ticks))
        while len(ticks) < 5:
            toolkit.glib.MainContext.default().iteration(True)  # type: ignore[attr-defined]
            # Iterations without a turn of this task's: the ticking task continues all the same.
        ticker.cancel()

    whorl.gui.run(within(), toolkit.host)
    say("ok")


@case
def gtk_application(toolkit: Toolkit) -> None:
    """``Gtk.Application``: the main loop of its ``run()`` ends with its last window."""
    from gi.repository import Gio

    gtk = toolkit.gtk  # type: ignore[attr-defined]
    windows: list[Any] = []

    def application() -> Any:
        made = gtk.Application(flags=Gio.ApplicationFlags.NON_UNIQUE)
        made.connect("activate", activated)
        return made

    def activated(application: Any) -> None:
        windows.append(gtk.ApplicationWindow(application=application))
        windows[-1].present()

    async def returns() -> int:
        while not windows:
            await asyncio.sleep(0.001)
        return 5

    async def closes() -> None:
        await returns()
        windows[-1].close()
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("cancelled")

    assert whorl.gui.run(returns(), whorl.gui.glib(application=application())) == 5
    windows.clear()
    assert whorl.gui.run(closes(), whorl.gui.glib(application=application())) is None
    # The program runs the application itself.
    windows.clear()
    app = application()
    guest = whorl.gui.start(returns(), whorl.gui.glib(application=app), done=lambda _: app.quit())
    app.run(None)
    assert guest.result() == 5
    say("ok")


@case
def gtk_signals(toolkit: Toolkit) -> None:
    """A signal handler of the loop is called in a dialog, and in a main loop of the program's own."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            received: asyncio.Future[None] = loop.create_future()
            loop.add_signal_handler(signal.SIGUSR1, received.set_result, None)
            run, close = toolkit.dialog()
            received.add_done_callback(lambda _, close=close: close())
            loop.call_later(0.001, os.kill, os.getpid(), signal.SIGUSR1)
            await toolkit.host.modal(run)
            assert received.done()
        loop.remove_signal_handler(signal.SIGUSR1)

    whorl.gui.run(main(), toolkit.host)
    main_loop, end = toolkit.main_loop, toolkit.end_main_loop
    if toolkit.name == "gtk3":
        gtk = toolkit.gtk  # type: ignore[attr-defined]
        main_loop, end = gtk.main, gtk.main_quit
    guest = whorl.gui.start(main(), toolkit.host, done=lambda _: end())
    main_loop()
    guest.result()
    assert signal.set_wakeup_fd(-1) == -1
    say("ok")


@case
def gtk_second_instance(toolkit: Toolkit) -> None:
    """The second process of an application ends at once, once it has reached the first."""
    from gi.repository import Gio

    def application() -> Any:
        made = toolkit.gtk.Application(application_id="org.example.Whorl", flags=Gio.ApplicationFlags(0))  # type: ignore[attr-defined]
        made.connect("activate", lambda application: say("activated"))
        return made

    async def first() -> None:
        await asyncio.sleep(0)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.gui.cases", toolkit.name, "gtk_second_instance", "second"
        )
        try:
            async with asyncio.timeout(PATIENCE):
                assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    if sys.argv[3:] == ["second"]:
        result = whorl.gui.run(forever(), whorl.gui.glib(application=application()))
        say("second", result)
    else:
        whorl.gui.run(first(), whorl.gui.glib(application=application()))
        say("ok")


@case
def tk_many_descriptors(toolkit: Toolkit) -> None:
    """``select()`` would end the process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    main = forever()
    try:
        whorl.gui.run(main, toolkit.host)
    except OSError as error:
        say(str(error).partition(":")[0][:44])
    assert main.cr_frame is None, "not closed"
    assert asyncio._get_running_loop() is None
    for fd in files:
        os.close(fd)
    whorl.gui.run(asyncio.sleep(0.001), toolkit.host)
    say("ok")


# -- shares of the time --------------------------------------------------------------------------------------


@case
def busy(toolkit: Toolkit) -> None:
    """A loop that always has something to do leaves the toolkit its redraws and its timers."""
    calls: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def spin() -> None:
            if not done.done():
                loop.call_soon(spin)

        def idle() -> None:
            calls.append("idle")
            again()

        def timer() -> None:
            calls.append("timer")
            again()

        def again() -> None:
            if calls.count("idle") >= 20 and calls.count("timer") >= 20:
                done.done() or done.set_result(None)
            elif calls[-1] == "idle":
                toolkit.when_idle(idle)
            else:
                toolkit.after(1, timer)

        # One that is always ready to be read from as well, so that each poll finds something.
        reading, writing = os.pipe()
        os.write(writing, b"x")
        loop.add_reader(reading, lambda: None)
        spin()
        toolkit.when_idle(idle)
        toolkit.after(1, timer)
        await done
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def busy_toolkit(toolkit: Toolkit) -> None:
    """A toolkit that is never idle leaves a loop its turns, a busy loop's as well."""

    async def main() -> None:
        running = True

        def redraw() -> None:
            if running:
                toolkit.when_idle(redraw)

        redraw()
        loop = asyncio.get_running_loop()
        for _ in range(20):
            end = loop.time() + 0.005
            while loop.time() < end:
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        running = False

    whorl.gui.run(main(), toolkit.host)
    say("ok")


@case
def idle(toolkit: Toolkit) -> None:
    """A loop with nothing to do takes no turns."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        turns = 0

        def count(*args: Any) -> Any:
            nonlocal turns
            turns += 1
            return original(*args)

        from whorl.turns import Turns

        original = Turns.run
        Turns.run = count  # type: ignore[method-assign]
        before = time.process_time()
        await asyncio.sleep(2)
        Turns.run = original  # type: ignore[method-assign]
        say("turns", turns)
        assert time.process_time() - before < 0.2, "a busy wait"
        assert loop.is_running()

    whorl.gui.run(main(), toolkit.host)


if __name__ == "__main__":
    CASES[sys.argv[2]](TOOLKITS[sys.argv[1]]())
