"""The window in Qt (PySide6)."""

import math
from pathlib import Path

from PySide6.QtCore import QPointF, Qt, QTimer
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QApplication,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)

import whorl.gui
from examples.window.screenshot import ScreenshotError
from examples.window.work import PICTURE, Work

_COLOUR = QColor("#4a6984")


class _Clock(QWidget):
    """A clock with one hand."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(80, 80)
        self.hand = 0.0

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(Qt.GlobalColor.white)
        painter.setPen(QPen(_COLOUR, 2))
        centre = QPointF(40, 40)
        painter.drawEllipse(centre, 37, 37)
        painter.setPen(QPen(_COLOUR, 4, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
        painter.drawLine(centre, centre + 30 * QPointF(math.sin(self.hand), -math.cos(self.hand)))


class QtView:
    """A window that shows *work*."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._app = QApplication([])
        self.host = whorl.gui.qt(self._app)
        self._window = QWidget()
        self._window.setWindowTitle("whorl in Qt")
        grid = QGridLayout(self._window)
        grid.setContentsMargins(16, 16, 16, 16)
        grid.setColumnStretch(1, 1)

        picture = QLabel(PICTURE)
        picture.setWordWrap(True)
        self._clock = _Clock()
        top = QHBoxLayout()
        top.addWidget(picture, 1)
        top.addWidget(self._clock)
        grid.addLayout(top, 0, 0, 1, 3)

        self._fetch, self._fetched, self._pages_bar = self._row(grid, 1, "Fetch", work.fetch)
        self._compute, self._computed, self._steps_bar = self._row(grid, 2, "Compute", work.compute)
        self._pages_bar.setMaximum(len(work.urls))
        self._steps_bar.setMaximum(work.steps)
        cancel = QPushButton("Cancel")
        cancel.clicked.connect(work.cancel)
        grid.addWidget(cancel, 3, 0)
        self._frames = QLabel()
        grid.addWidget(self._frames, 3, 1, 1, 2)

        self._table = QTreeWidget()
        self._table.setHeaderLabels(["Status", "Bytes", "Page"])
        self._table.setRootIsDecorated(False)
        self._table.setUniformRowHeights(True)
        self._table.headerItem().setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
        grid.addWidget(self._table, 4, 0, 1, 3)
        #: Those in the table, and how many of them.
        self._pages = work.pages
        self._shown = 0

        self._timer = QTimer(self._window)
        self._timer.setSingleShot(True)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._frame)
        self._window.resize(760, 520)
        self._window.show()
        # The first frame is one of a window that is there.
        self._app.processEvents()
        self._frame()

    @staticmethod
    def _row(
        grid: QGridLayout, row: int, text: str, clicked: object
    ) -> tuple[QPushButton, QLabel, QProgressBar]:
        """A button, how far its work is, and that in words."""
        button, bar, label = QPushButton(text), QProgressBar(), QLabel()
        button.clicked.connect(clicked)
        bar.setTextVisible(False)
        label.setMinimumWidth(300)
        for column, widget in enumerate((button, bar, label)):
            grid.addWidget(widget, row, column)
        return button, label, bar

    def _frame(self) -> None:
        """Draw one frame, and have Qt's timer call for the next."""
        work = self._work
        self._timer.start(work.frames.begin())
        self._clock.hand = work.frames.hand
        self._clock.update()
        self._frames.setText(work.frames.text)
        self._fetched.setText(work.fetched)
        self._pages_bar.setValue(len(work.pages))
        self._computed.setText(work.computed)
        self._steps_bar.setValue(work.steps_done)
        if self._pages is not work.pages:
            self._pages, self._shown = work.pages, 0
            self._table.clear()
        for page in self._pages[self._shown :]:
            status = str(page.status) if page.error is None else "failed"
            item = QTreeWidgetItem([status, f"{page.size:,}", page.error or page.url])
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight)
            self._table.addTopLevelItem(item)
            self._table.scrollToItem(item)
        self._shown = len(self._pages)

    def click(self) -> None:
        """Click both buttons."""
        self._fetch.click()
        self._compute.click()

    def save(self, path: Path) -> None:
        """Write a picture of the window. Raises ScreenshotError where that cannot be done."""
        if not self._window.grab().save(str(path)):
            raise ScreenshotError(f"Qt cannot write {path}")

    def close(self) -> None:
        """Close the window, as its user does."""
        self._window.close()
