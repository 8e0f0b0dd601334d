"""What one toolkit has."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import whorl.gui
from tests.event_loop.support import PATIENCE
from tests.gui.cases.registry import case, forever, say, ticking
from tools.toolkits import Gtk, Qt, Toolkit


@case
def qt_decorated(toolkit: Qt) -> None:
    """Qt's own decorator above ``slot``, a method of a QObject, and a signal from another thread."""
    core = toolkit.core
    signal_class = core.Signal if toolkit.name == "PySide6" else core.pyqtSignal
    decorator = core.Slot if toolkit.name == "PySide6" else core.pyqtSlot
    seen: list[str] = []

    base: Any = core.QObject

    class Receiver(base):
        sent = signal_class(str, int)

        @decorator(str, int)
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
def qt_closed_in_nested_dialogs(toolkit: Qt) -> None:
    """The last window is closed while tasks open dialogs and handle events on top of each other."""
    core, widgets, app = toolkit.core, toolkit.widgets, toolkit.app
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
def gtk_awaitables(toolkit: Gtk) -> None:
    """PyGObject's own awaitables, which want a running loop of their main context."""
    gio = import_module("gi.repository.Gio")

    async def main() -> None:
        file = gio.File.new_for_path(__file__)
        information = await file.query_info_async("standard::size", gio.FileQueryInfoFlags.NONE, 0)
        assert information.get_size() == os.path.getsize(__file__)

    whorl.gui.run(main(), toolkit.host)

    async def within() -> None:
        """Iterations of the main context by the program itself."""
        ticks: list[None] = []
        ticker = asyncio.create_task(ticking(ticks))
        while len(ticks) < 5:
            toolkit.glib.MainContext.default().iteration(True)
            # Iterations without a turn of this task's: the ticking task continues all the same.
        ticker.cancel()

    whorl.gui.run(within(), toolkit.host)
    say("ok")


@case
def gtk_application(toolkit: Gtk) -> None:
    """``Gtk.Application``: the main loop of its ``run()`` ends with its last window."""
    gio = import_module("gi.repository.Gio")

    gtk = toolkit.gtk
    windows: list[Any] = []

    def application() -> Any:
        made = gtk.Application(flags=gio.ApplicationFlags.NON_UNIQUE)
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
def gtk_signals(toolkit: Gtk) -> None:
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
        gtk = toolkit.gtk
        main_loop, end = gtk.main, gtk.main_quit
    guest = whorl.gui.start(main(), toolkit.host, done=lambda _: end())
    main_loop()
    guest.result()
    assert signal.set_wakeup_fd(-1) == -1
    say("ok")


@case
def gtk_second_instance(toolkit: Gtk) -> None:
    """The second process of an application ends at once, once it has reached the first."""
    gio = import_module("gi.repository.Gio")

    def application() -> Any:
        made = toolkit.gtk.Application(application_id="org.example.Whorl", flags=gio.ApplicationFlags(0))
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
