"""The event loop in the main loops of GUI toolkits, against other such loops: rows, targets and peers."""

from __future__ import annotations

from typing import Any

from bench.peers import Peer
from bench.suite import Limit, Method, Ratio, Row, Suite, Target, Unit

_KIB = 1024

#: A loop without a toolkit: what the main loop adds to a callback, and to an echo.
_CALLBACKS = (Ratio("whorl-loop", 1 / 1.2),)
_ECHO = (Ratio("whorl-loop", 1 / 1.15),)
_SLEEP = (Limit(0.1, "under 0.1 ms"),)
#: A turn's.
_FRAMES = (Limit(4.5, "the budget of 4 ms, and its end"),)
_IDLE = (Limit(0.6, "none"),)

_REFERENCES = ("whorl-loop", "asyncio")
#: What each toolkit is called in the tables, and the peers that run in its main loop.
_TOOLKITS = {
    "tk": ("Tk", ("async-tkinter-loop",)),
    "PySide6": ("PySide6", ("qasync", "qtinter")),
    "PyQt6": ("PyQt6", ()),
    "gtk3": ("GTK 3", ("gi.events",)),
}


def _rows(
    name: str,
    title: str,
    workload: str,
    *,
    targets: tuple[Target, ...] = (),
    references: tuple[str, ...] = _REFERENCES,
    **options: Any,
) -> list[Row]:
    """A row for each toolkit."""
    return [
        Row(
            f"{name}-{toolkit.lower()}",
            f"{shown}: {title}",
            workload,
            targets=targets,
            toolkit=toolkit,
            references=references,
            peers=peers,
            **options,
        )
        for toolkit, (shown, peers) in _TOOLKITS.items()
    ]


def _readings(name: str, title: str, workload: str, **options: Any) -> list[Row]:
    return _rows(name, title, workload, method=Method.READING, **options)


def _operations() -> list[Row]:
    return [
        *_rows(
            "call-soon-chain",
            "call_soon, each callback scheduling the next",
            "call_soon_chain",
            targets=_CALLBACKS,
        ),
        *_rows("sleep-0", "await asyncio.sleep(0)", "sleep_zero", targets=_CALLBACKS),
        *_rows(
            "call-threadsafe-await",
            "a future resolved by call_soon_threadsafe from another thread",
            "threadsafe_await",
        ),
        *_rows("echo-own", "TCP echo, 1 KiB, both ends on the loop", "echo_own", size=_KIB, targets=_ECHO),
        *_rows(
            "echo-load",
            "TCP echo, 1 KiB, clients in another process",
            "echo_protocol",
            method=Method.LOADED,
            load="tcp",
            size=_KIB,
            targets=_ECHO,
        ),
    ]


def _times() -> list[Row]:
    late: dict[str, Any] = {"unit": Unit.MS}
    return [
        *_readings(
            "sleep-1ms", "how far from 1 ms sleep(1 ms) ends, median", "sleep_median", targets=_SLEEP, **late
        ),
        *_readings("sleep-1ms-most", "how far from 1 ms sleep(1 ms) ends, at most", "sleep_greatest", **late),
        *_readings(
            "frames",
            "how late the toolkit's own timer comes while the loop is busy, at most of 60 frames",
            "frame_lateness",
            references=(),
            targets=_FRAMES,
            **late,
        ),
        *_readings(
            "frames-missed",
            "redraws that have not come a frame later while the loop is busy, of 60",
            "frames_missed",
            references=(),
            unit=Unit.COUNT,
        ),
    ]


def _idle() -> list[Row]:
    return [
        *_readings(
            "idle-wake-ups",
            "wake-ups in a second with nothing to do",
            "idle_wake_ups",
            references=(),
            unit=Unit.COUNT,
            targets=_IDLE,
        ),
        *_readings(
            "idle-cpu",
            "CPU time of a second with nothing to do",
            "idle_cpu",
            references=(),
        ),
    ]


_PEERS = (
    Peer("whorl", ("whorl.gui",), loop="whorl.gui", distributions=("PySide6_Essentials", "PyQt6")),
    Peer("whorl-loop", ("whorl",), loop="whorl", reference=True),
    Peer("asyncio", (), reference=True),
    Peer("qasync", ("qasync",)),
    Peer("qtinter", ("qtinter",)),
    Peer("gi.events", ("gi.events",), distributions=("PyGObject",)),
    Peer("async-tkinter-loop", ("async_tkinter_loop",)),
)

GUI = Suite(
    "gui",
    "the event loop in the main loops of GUI toolkits, against other such loops",
    (*_operations(), *_times(), *_idle()),
    {peer.name: peer for peer in _PEERS},
    quick_rounds=1,
)
