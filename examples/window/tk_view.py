"""The window in Tk."""

import math
import tkinter
from pathlib import Path
from tkinter import ttk

import whorl.gui
from examples.window.screenshot import save_window
from examples.window.work import PICTURE, Work

_COLOUR = "#4a6984"
_COLUMNS = {"status": ("Status", 70, "e"), "size": ("Bytes", 100, "e"), "url": ("Page", 500, "w")}


class TkView:
    """A window that shows *work*."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._root = root = tkinter.Tk()
        self.host = whorl.gui.tk(root)
        root.title("whorl in Tk")
        style = ttk.Style()
        style.theme_use("clam")
        style.configure("TProgressbar", background=_COLOUR)
        frame = ttk.Frame(root, padding=16)
        frame.pack(fill="both", expand=True)
        frame.columnconfigure(1, weight=1)
        frame.rowconfigure(4, weight=1)

        top = ttk.Frame(frame)
        top.grid(row=0, column=0, columnspan=3, sticky="ew", pady=(0, 12))
        ttk.Label(top, text=PICTURE, wraplength=700, justify="left").pack(side="left")
        background = style.lookup("TFrame", "background")
        self._clock = tkinter.Canvas(top, width=80, height=80, highlightthickness=0, background=background)
        self._clock.pack(side="right")
        self._clock.create_oval(3, 3, 77, 77, fill="white", outline=_COLOUR, width=2)
        self._hand = self._clock.create_line(40, 40, 40, 8, fill=_COLOUR, width=4, capstyle="round")

        self._fetch, self._fetched, self._pages_bar = self._row(frame, 1, "Fetch", work.fetch)
        self._compute, self._computed, self._steps_bar = self._row(frame, 2, "Compute", work.compute)
        self._pages_bar["maximum"] = len(work.urls)
        self._steps_bar["maximum"] = work.steps
        ttk.Button(frame, text="Cancel", command=work.cancel).grid(row=3, column=0, sticky="w", pady=4)
        self._frames = ttk.Label(frame)
        self._frames.grid(row=3, column=1, columnspan=2, sticky="w", padx=(12, 0))

        self._table = ttk.Treeview(frame, columns=list(_COLUMNS), show="headings", height=14)
        for name, (title, width, anchor) in _COLUMNS.items():
            self._table.heading(name, text=title, anchor=anchor)
            self._table.column(name, width=width, anchor=anchor, stretch=name == "url")
        self._table.grid(row=4, column=0, columnspan=3, sticky="nsew", pady=(12, 0))
        #: Those in the table, and how many of them.
        self._pages = work.pages
        self._shown = 0
        # The first frame is one of a window that is there.
        root.update()
        self._frame()

    @staticmethod
    def _row(
        frame: ttk.Frame, row: int, text: str, command: object
    ) -> tuple[ttk.Button, ttk.Label, ttk.Progressbar]:
        """A button, how far its work is, and that in words."""
        button = ttk.Button(frame, text=text, command=command)
        button.grid(row=row, column=0, sticky="w", pady=4)
        bar = ttk.Progressbar(frame)
        bar.grid(row=row, column=1, sticky="ew", padx=12)
        label = ttk.Label(frame, width=44)
        label.grid(row=row, column=2, sticky="w")
        return button, label, bar

    def _frame(self) -> None:
        """Draw one frame, and have Tk's timer call for the next."""
        work = self._work
        self._root.after(work.frames.begin(), self._frame)
        x, y = 40 + 30 * math.sin(work.frames.hand), 40 - 30 * math.cos(work.frames.hand)
        self._clock.coords(self._hand, 40, 40, x, y)
        self._frames["text"] = work.frames.text
        self._fetched["text"], self._pages_bar["value"] = work.fetched, len(work.pages)
        self._computed["text"], self._steps_bar["value"] = work.computed, work.steps_done
        if self._pages is not work.pages:
            self._pages, self._shown = work.pages, 0
            self._table.delete(*self._table.get_children())
        for page in self._pages[self._shown :]:
            status = page.status if page.error is None else "failed"
            self._table.insert("", "end", values=(status, f"{page.size:,}", page.error or page.url))
            self._table.yview_moveto(1)
        self._shown = len(self._pages)

    def click(self) -> None:
        """Click both buttons."""
        self._fetch.invoke()
        self._compute.invoke()

    def save(self, path: Path) -> None:
        """Write a picture of the window. Raises ScreenshotError where that cannot be done."""
        self._root.update_idletasks()
        save_window(self._root.winfo_id(), self._root.winfo_width(), self._root.winfo_height(), path)

    def close(self) -> None:
        """Close the window, as its user does."""
        self._root.destroy()
