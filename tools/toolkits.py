"""Toolkits for tests and measurements: an application with a window, a button, a dialog, a timer."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import whorl.gui


class Toolkit(ABC):
    """A toolkit with a window on the screen."""

    #: What ``python -m tests.gui.cases`` takes.
    name: str
    host: whorl.gui.Host

    @abstractmethod
    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        """Have the toolkit call the function once, by its own timer."""

    @abstractmethod
    def when_idle(self, function: Callable[[], object]) -> None:
        """Have the toolkit call the function once when it has nothing else to do, as it calls its redraws."""

    @abstractmethod
    def button(self, handler: Callable[..., object]) -> Callable[[], object]:
        """Make a button with a handler; returns what clicks it."""

    @abstractmethod
    def dialog(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Make a dialog; returns what runs it by a main loop of its own, and what closes it."""

    @abstractmethod
    def handle_events(self) -> None:
        """Handle the events that there are, and return."""

    @abstractmethod
    def close_window(self) -> None:
        """Close the only window, as its user does."""

    @abstractmethod
    def main_loop(self) -> None:
        """Run the main loop as a program without whorl does."""

    @abstractmethod
    def end_main_loop(self) -> None:
        """End that main loop as such a program does."""


class Tk(Toolkit):
    name = "tk"

    def __init__(self) -> None:
        import tkinter

        self.tkinter = tkinter
        self.root = tkinter.Tk()
        self.host = whorl.gui.tk(self.root)

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self.root.after(milliseconds, function)

    def when_idle(self, function: Callable[[], object]) -> None:
        # From within such a callback it is to be done by a timer: Tcl 8.6 would call nothing else any more.
        self.root.after(0, self.root.after_idle, function)

    def button(self, handler: Callable[..., object]) -> Callable[[], object]:
        button = self.tkinter.Button(self.root, text="click", command=handler)
        button.pack()
        return button.invoke

    def dialog(self) -> tuple[Callable[[], object], Callable[[], object]]:
        window = self.tkinter.Toplevel(self.root)

        def run() -> None:
            window.wait_window()

        return run, window.destroy

    def handle_events(self) -> None:
        self.root.update()

    def close_window(self) -> None:
        self.root.destroy()

    def main_loop(self) -> None:
        self.root.mainloop()

    def end_main_loop(self) -> None:
        self.root.quit()


class Qt(Toolkit):
    def __init__(self, binding: str) -> None:
        self.name = binding
        self.core: Any = importlib.import_module(f"{binding}.QtCore")
        self.widgets: Any = importlib.import_module(f"{binding}.QtWidgets")
        self.app = self.widgets.QApplication([])
        self.window = self.widgets.QWidget()
        self.layout = self.widgets.QVBoxLayout(self.window)
        self.window.show()
        self.host = whorl.gui.qt(self.app)

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        # Not QTimer.singleShot(), whose timers are coarse.
        timer = self.core.QTimer(self.app)
        timer.setSingleShot(True)
        timer.setTimerType(self.core.Qt.TimerType.PreciseTimer)
        timer.timeout.connect(function)
        timer.timeout.connect(timer.deleteLater)
        timer.start(milliseconds)

    def when_idle(self, function: Callable[[], object]) -> None:
        self.after(0, function)

    def button(self, handler: Callable[..., object]) -> Callable[[], object]:
        button = self.widgets.QPushButton("click")
        self.layout.addWidget(button)
        button.clicked.connect(handler)
        click: Callable[[], object] = button.click
        return click

    def dialog(self) -> tuple[Callable[[], object], Callable[[], object]]:
        dialog = self.widgets.QDialog(self.window)
        return dialog.exec, dialog.accept

    def handle_events(self) -> None:
        self.app.processEvents()

    def close_window(self) -> None:
        self.window.close()

    def main_loop(self) -> None:
        self.app.exec()

    def end_main_loop(self) -> None:
        self.app.quit()


class Gtk(Toolkit):
    def __init__(self, version: str) -> None:
        import gi

        self.name = f"gtk{version[0]}"
        gi.require_version("Gtk", version)
        self.gtk: Any = importlib.import_module("gi.repository.Gtk")
        self.glib: Any = importlib.import_module("gi.repository.GLib")
        if version == "4.0":
            self.gtk.init()
            self.box = self.gtk.Box()
            self.window = self.gtk.Window()
            self.window.set_child(self.box)
            self.window.present()
            self.window.connect("close-request", self._closed)
        else:
            self.box = self.gtk.Box()
            self.window = self.gtk.Window()
            self.window.add(self.box)
            self.window.show_all()
            self.window.connect("delete-event", self._closed)
        self.host = whorl.gui.glib()
        self.loop = self.glib.MainLoop()

    def _closed(self, *args: object) -> bool:
        self.host.quit()
        return False

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self.glib.timeout_add(milliseconds, lambda: function() and False)

    def when_idle(self, function: Callable[[], object]) -> None:
        # At the priority of GDK's redraws.
        self.glib.idle_add(lambda: function() and False, priority=120)

    def button(self, handler: Callable[..., object]) -> Callable[[], object]:
        button = self.gtk.Button(label="click")
        if self.name == "gtk4":
            self.box.append(button)
        else:
            self.box.add(button)
        button.connect("clicked", handler)
        return lambda: button.emit("clicked")

    def dialog(self) -> tuple[Callable[[], object], Callable[[], object]]:
        if self.name == "gtk4":
            # It has no dialogs that run a main loop; programs run one.
            loop = self.glib.MainLoop()
            return loop.run, loop.quit
        dialog = self.gtk.Dialog(transient_for=self.window, modal=True)

        def run() -> None:
            dialog.run()
            dialog.destroy()

        return run, lambda: dialog.response(1)

    def handle_events(self) -> None:
        context = self.glib.MainContext.default()
        while context.pending():
            context.iteration(False)

    def close_window(self) -> None:
        self.window.close()

    def main_loop(self) -> None:
        self.loop.run()

    def end_main_loop(self) -> None:
        self.loop.quit()


#: What makes each toolkit, by the name that the cases are run with.
TOOLKITS: dict[str, Callable[[], Toolkit]] = {
    "tk": Tk,
    "PySide6": lambda: Qt("PySide6"),
    "PyQt6": lambda: Qt("PyQt6"),
    "gtk3": lambda: Gtk("3.0"),
    "gtk4": lambda: Gtk("4.0"),
}

#: The package that each is in.
PACKAGES = {"tk": "tkinter", "PySide6": "PySide6", "PyQt6": "PyQt6", "gtk3": "gi", "gtk4": "gi"}

#: What each package needs.
NEEDED = {
    "tkinter": "a Python that was built with Tk (Debian: python3-tk, or tk-dev before it is built)",
    "PySide6": "requirements/gui.txt, and Debian's libegl1 libgl1 libxkbcommon-x11-0 and others (.ci/run)",
    "PyQt6": "requirements/gui.txt, and Debian's libegl1 libgl1 libxkbcommon-x11-0 and others (.ci/run)",
    "gi": "requirements/gui-glib.txt, and Debian's gir1.2-gtk-3.0 gir1.2-gtk-4.0",
    "pygame": "requirements/gui.txt",
}
