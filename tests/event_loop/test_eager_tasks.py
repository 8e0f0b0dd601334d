"""Tasks: every keyword passed on, factories honoured, eager starts."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from .support import turns

Loop = asyncio.AbstractEventLoop
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")
eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")


async def observe() -> str:
    return var.get()


async def test_create_task_passes_name_and_context(loop: Loop) -> None:
    context = contextvars.copy_context()
    context.run(var.set, "explicit")
    task = loop.create_task(observe(), name="a name", context=context)
    assert isinstance(task, asyncio.Task)
    assert task.get_name() == "a name"
    assert await task == "explicit"


async def test_create_task_refuses_unknown_keywords(loop: Loop) -> None:
    coroutine = observe()
    with pytest.raises(TypeError):
        loop.create_task(coroutine, no_such_keyword=1)  # type: ignore[call-arg]
    coroutine.close()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start and keywords of factories: Python 3.14")
async def test_create_task_passes_eager_start(loop: Loop) -> None:
    ran: list[str] = []

    async def work() -> None:
        ran.append("ran")

    task = loop.create_task(work(), name="eager", eager_start=True)  # type: ignore[call-arg]
    assert ran == ["ran"]
    assert task.done()
    assert task.get_name() == "eager"
    task = loop.create_task(work(), eager_start=False)  # type: ignore[call-arg]
    assert not task.done()
    await task


async def test_a_task_factory_gets_what_create_task_got(loop: Loop) -> None:
    seen: list[dict[str, Any]] = []

    def factory(loop: Loop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        seen.append(options)
        return asyncio.Task(coroutine, loop=loop, **options)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)  # type: ignore[arg-type]
    assert loop.get_task_factory() is factory
    context = contextvars.copy_context()
    task = loop.create_task(observe(), name="named", context=context)
    loop.set_task_factory(None)
    await task
    assert seen[0]["context"] is context
    assert task.get_name() == "named"
    with pytest.raises(TypeError):
        loop.set_task_factory("factory")  # type: ignore[arg-type]


async def test_futures_are_cpythons_own(loop: Loop) -> None:
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert type(loop.create_task(observe())) is asyncio.Task
    future.cancel()
    await turns()


@eager_tasks
async def test_eager_tasks_run_up_to_their_first_wait(loop: Loop) -> None:
    ran: list[str] = []

    async def work() -> str:
        ran.append("begun")
        assert asyncio.current_task() in asyncio.all_tasks()
        await asyncio.sleep(0)
        ran.append("done")
        return "result"

    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        outer = asyncio.current_task()
        task = asyncio.create_task(work(), name="eager")
        assert ran == ["begun"]
        assert asyncio.current_task() is outer
        assert not task.done()
        assert await task == "result"
        assert asyncio.create_task(observe()).done()
    finally:
        loop.set_task_factory(None)


@eager_tasks
async def test_eager_tasks_that_fail_and_that_do_io(loop: Loop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return data

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        task = asyncio.create_task(fail())
        assert isinstance(task.exception(), ZeroDivisionError)
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        assert await asyncio.gather(*(talk() for _ in range(10))) == [b"hello"] * 10
        server.close()
        await server.wait_closed()
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
    finally:
        loop.set_task_factory(None)
    await turns(5)
