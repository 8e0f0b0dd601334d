"""Tracing: signals, and what their receivers get."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from whorl.http.hooks import tracing
from whorl.http.hooks.signals import Signal
from whorl.http.hooks.tracing import Trace, TraceConfig, TraceRequestStartParams

SENDERS = sorted(name for name in vars(Trace) if name.startswith("send_"))


def test_there_is_a_sender_for_each_of_the_sixteen_signals() -> None:
    config = TraceConfig()
    signals = {name for name in dir(config) if name[0] != "_" and isinstance(getattr(config, name), Signal)}
    assert len(signals) == 16
    names = {"on_" + name.removeprefix("send_") for name in SENDERS}
    assert {name if name != "on_request_headers" else "on_request_headers_sent" for name in names} == signals


@pytest.mark.parametrize("sender", SENDERS)
async def test_a_receiver_gets_the_session_the_context_and_what_happened(sender: str) -> None:
    config = TraceConfig()
    received: list[tuple[Any, ...]] = []

    async def receiver(*args: Any) -> None:
        received.append(args)

    name = "on_" + sender.removeprefix("send_")
    getattr(config, "on_request_headers_sent" if name == "on_request_headers" else name).append(receiver)
    config.freeze()
    send = getattr(Trace("session", config, config.trace_config_ctx("mine")), sender)
    values = [object() for _ in inspect.signature(send).parameters]
    await send(*values)

    ((session, context, params),) = received
    assert session == "session"
    assert context == SimpleNamespace(trace_request_ctx="mine")
    assert [getattr(params, field) for field in params.__dataclass_fields__] == values
    assert type(params).__name__ in tracing.__all__


async def test_no_parameters_are_made_without_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("made for no listener")

    monkeypatch.setattr(tracing, "TraceRequestStartParams", refuse)
    config = TraceConfig()
    config.freeze()
    await Trace(None, config, None).send_request_start("GET", URL("http://x/"), CIMultiDict())


def test_parameters_are_values() -> None:
    params = TraceRequestStartParams("GET", URL("http://x/"), CIMultiDict())
    assert params == TraceRequestStartParams("GET", URL("http://x/"), CIMultiDict())
    with pytest.raises(AttributeError):
        params.method = "POST"  # type: ignore[misc]


def test_a_signal_is_not_replaced_by_a_receiver() -> None:
    config = TraceConfig()
    with pytest.raises(AttributeError, match="use on_request_end.append"):
        config.on_request_end = print  # type: ignore[assignment]
    assert config.on_request_end is not TraceConfig().on_request_end


def test_the_context_is_made_by_the_factory() -> None:
    assert TraceConfig(trace_config_ctx_factory=dict).trace_config_ctx(7) == {"trace_request_ctx": 7}


async def test_receivers_are_called_in_order_and_one_that_raises_ends_it() -> None:
    signal: Signal[list[int]] = Signal(None)

    @signal
    async def first(calls: list[int]) -> None:
        calls.append(1)

    @signal
    async def second(calls: list[int]) -> None:
        calls.append(2)
        raise LookupError

    @signal
    async def third(calls: list[int]) -> None:
        calls.append(3)

    signal.freeze()
    calls: list[int] = []
    with pytest.raises(LookupError):
        await signal.send(calls)
    assert calls == [1, 2]


async def test_a_signal_is_a_list_until_it_is_frozen() -> None:
    async def one() -> None: ...
    async def two() -> None: ...

    signal: Signal[*tuple[()]] = Signal("owner")
    with pytest.raises(RuntimeError, match="non-frozen"):
        await signal.send()
    signal.extend([one, two])
    assert list(signal) == [one, two]
    assert signal[0] is one
    signal.remove(one)
    assert signal == [two]
    signal.freeze()
    assert signal.frozen
    for change in (lambda: signal.append(one), signal.clear, lambda: signal.insert(0, one)):
        with pytest.raises(RuntimeError, match="Cannot modify frozen"):
            change()
    assert len(signal) == 1
