"""Resolvers, and the cache of what they find."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest

from whorl.http.abc import AbstractResolver, ResolveResult
from whorl.http.connect.dns_cache import DNSCache
from whorl.http.connect.resolver import AsyncResolver, DefaultResolver, ThreadedResolver
from whorl.http.exceptions import ClientConnectionError, InvalidUrlClientError
from whorl.http.hooks.tracing import Trace, TraceConfig


async def test_the_default_resolver_finds_what_the_system_knows() -> None:
    resolver = DefaultResolver()
    (result,) = await resolver.resolve("127.0.0.1", 80)
    assert result == {
        "hostname": "127.0.0.1",
        "host": "127.0.0.1",
        "port": 80,
        "family": socket.AF_INET,
        "proto": socket.IPPROTO_TCP,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }
    with pytest.raises(socket.gaierror):
        await resolver.resolve("no such host.invalid")
    await resolver.close()


class FakeLoop:
    """An event loop whose lookups are known."""

    def __init__(self, *found: tuple[Any, ...]) -> None:
        self.found = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> list[Any]:
        return self.found

    async def getnameinfo(self, address: tuple[Any, ...], flags: int) -> tuple[str, str]:
        return f"{address[0]}%eth{address[3]}", str(address[1])


async def test_a_link_local_address_keeps_its_scope() -> None:
    loop: Any = FakeLoop(
        (socket.AF_INET6, ("fe80::1", 80, 0, 3)),
        (socket.AF_INET6, ("2001:db8::1", 80, 0, 0)),
        (socket.AF_INET6, (10, b"without IPv6")),
        (socket.AF_INET, ("192.0.2.1", 80)),
    )
    results = await ThreadedResolver(loop).resolve("host.example", 80, socket.AF_UNSPEC)
    assert [(result["host"], result["port"], result["family"]) for result in results] == [
        ("fe80::1%eth3", 80, socket.AF_INET6),
        ("2001:db8::1", 80, socket.AF_INET6),
        ("192.0.2.1", 80, socket.AF_INET),
    ]
    assert {result["hostname"] for result in results} == {"host.example"}


async def test_the_async_resolver_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiodns", None)
    with pytest.raises(RuntimeError, match="pip install aiodns"):
        AsyncResolver()


# The cache.


class FakeResolver(AbstractResolver):
    """Returns on demand, and counts."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts
        self.calls: list[tuple[str, int, int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.cancelled = 0
        self.error: Exception | None = None

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.calls.append((host, port, family))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
            for address in self.hosts
        ]

    async def close(self) -> None: ...


def hosts(results: list[ResolveResult] | None) -> list[str] | None:
    return None if results is None else [result["host"] for result in results]


@pytest.mark.jumping_clock
async def test_a_cached_result_holds_for_its_time() -> None:
    resolver = FakeResolver("192.0.2.1")
    cache = DNSCache(resolver, ttl=10)
    assert cache.get("h", 80) is None
    assert hosts(await cache.resolve("h", 80)) == ["192.0.2.1"]
    await asyncio.sleep(9.9)
    assert hosts(cache.get("h", 80)) == ["192.0.2.1"]
    assert cache.get("h", 81) is None
    await asyncio.sleep(0.2)
    assert cache.get("h", 80) is None
    await cache.resolve("h", 80)
    assert resolver.calls == [("h", 80, socket.AF_UNSPEC)] * 2


@pytest.mark.jumping_clock
async def test_without_end_and_not_at_all() -> None:
    resolver = FakeResolver("192.0.2.1")
    forever, never = DNSCache(resolver, ttl=None), DNSCache(resolver, use_cache=False)
    for cache, calls in ((forever, 1), (never, 2)):
        resolver.calls.clear()
        await cache.resolve("h", 80)
        await asyncio.sleep(9)
        await cache.resolve("h", 80)
        assert len(resolver.calls) == calls


async def test_connections_begin_with_another_address_each_time() -> None:
    cache = DNSCache(FakeResolver("a", "b", "c"))
    assert [hosts(await cache.resolve("h", 80)) for _ in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


async def test_clearing() -> None:
    cache = DNSCache(FakeResolver("a"))
    for port in (1, 2, 3):
        await cache.resolve("h", port)
    cache.clear("h", 1)
    assert [port for port in (1, 2, 3) if cache.get("h", port)] == [2, 3]
    with pytest.raises(ValueError, match="both host and port"):
        cache.clear("h")
    cache.clear()
    assert cache.get("h", 2) is None


async def test_what_was_not_used_for_longest_is_forgotten() -> None:
    cache = DNSCache(FakeResolver("a"), max_size=2)
    await cache.resolve("one", 1)
    await cache.resolve("two", 1)
    cache.get("one", 1)
    await cache.resolve("three", 1)
    assert [name for name in ("one", "two", "three") if cache.get(name, 1)] == ["one", "three"]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_lookup_for_all_requests_meanwhile() -> None:
    resolver = FakeResolver("a", "b")
    resolver.go.clear()
    cache = DNSCache(resolver)
    tasks = [asyncio.create_task(cache.resolve("h", 80)) for _ in range(5)]
    await turns()
    resolver.go.set()
    assert sorted(results[0]["host"] for results in await asyncio.gather(*tasks)) == ["a", "a", "a", "b", "b"]
    assert len(resolver.calls) == 1


@pytest.mark.parametrize("first", [True, False])
async def test_cancelling_one_leaves_the_others_alone(first: bool) -> None:
    resolver = FakeResolver("a")
    resolver.go.clear()
    cache = DNSCache(resolver)
    tasks = [asyncio.create_task(cache.resolve("h", 80)) for _ in range(3)]
    await turns()
    cancelled = tasks.pop(0 if first else 1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    resolver.go.set()
    assert [hosts(results) for results in await asyncio.gather(*tasks)] == [["a"], ["a"]]
    assert len(resolver.calls) == 1


async def left_by_all_waiters(resolver: FakeResolver) -> DNSCache:
    """A cache whose lookup of ``h`` has ended when no task waited for it any longer."""
    resolver.go.clear()
    cache = DNSCache(resolver)
    task = asyncio.create_task(cache.resolve("h", 80))
    await turns()
    task.cancel()
    await asyncio.wait([task])
    resolver.go.set()
    await turns()
    return cache


async def test_a_lookup_that_all_waiters_have_left_is_of_use_to_the_next() -> None:
    resolver = FakeResolver("a")
    cache = await left_by_all_waiters(resolver)
    assert hosts(cache.get("h", 80)) == ["a"]
    assert resolver.cancelled == 0


async def test_a_failure_is_everyones_and_is_not_remembered() -> None:
    resolver = FakeResolver("a")
    resolver.error = socket.gaierror(socket.EAI_NONAME, "not known")
    cache = DNSCache(resolver)
    results = await asyncio.gather(*(cache.resolve("h", 80) for _ in range(3)), return_exceptions=True)
    assert results == [resolver.error] * 3
    resolver.error = None
    assert hosts(await cache.resolve("h", 80)) == ["a"]


async def test_a_failure_without_a_waiter_is_no_noise() -> None:
    cache = await left_by_all_waiters(FakeResolver())
    # The loop's exception handler would fail the test.
    assert cache.get("h", 80) is None


async def test_a_resolver_without_a_result_is_an_error() -> None:
    with pytest.raises(OSError, match="FakeResolver has no address for 'h'"):
        await DNSCache(FakeResolver()).resolve("h", 80)


async def test_closing_ends_the_lookups() -> None:
    resolver = FakeResolver("a")
    resolver.go.clear()
    cache = DNSCache(resolver)
    task = asyncio.create_task(cache.resolve("h", 80))
    await turns()
    cache.close()
    with pytest.raises(ClientConnectionError, match="closed"):
        await task
    assert resolver.cancelled == 1
    with pytest.raises(ClientConnectionError, match="closed"):
        await cache.resolve("h", 80)


async def test_addresses_are_not_looked_up() -> None:
    resolver = FakeResolver("a")
    cache = DNSCache(resolver)
    assert hosts(await cache.resolve("192.0.2.1", 80)) == hosts(cache.get("192.0.2.1", 80)) == ["192.0.2.1"]
    (result,) = await cache.resolve("::1", 80)
    assert (result["host"], result["family"], result["port"]) == ("::1", socket.AF_INET6, 80)
    assert not resolver.calls


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "256.0.0.1", "1.2.3.4."])
async def test_odd_forms_of_addresses_are_refused(host: str) -> None:
    with pytest.raises(InvalidUrlClientError, match="not a canonical IPv4 address"):
        await DNSCache(FakeResolver("a")).resolve(host, 80)


def traced(events: list[str]) -> Trace:
    config = TraceConfig()
    for name in ("dns_cache_hit", "dns_cache_miss", "dns_resolvehost_start", "dns_resolvehost_end"):

        async def note(session: Any, context: Any, params: Any, name: str = name) -> None:
            events.append(f"{name} {params.host}")

        getattr(config, f"on_{name}").append(note)
    config.freeze()
    return Trace(None, config, None)


async def test_signals() -> None:
    cache = DNSCache(FakeResolver("a"))
    first: list[str] = []
    second: list[str] = []
    await asyncio.gather(cache.resolve("h", 80, [traced(first)]), cache.resolve("h", 80, [traced(second)]))
    assert first == ["dns_cache_miss h", "dns_resolvehost_start h", "dns_resolvehost_end h"]
    assert second == ["dns_cache_hit h"]
    uncached: list[str] = []
    await DNSCache(FakeResolver("a"), use_cache=False).resolve("h", 80, [traced(uncached)])
    assert uncached == ["dns_resolvehost_start h", "dns_resolvehost_end h"]


async def test_a_receiver_that_raises_fails_its_own_request_alone() -> None:
    config = TraceConfig()

    @config.on_dns_cache_miss
    async def fail(*args: Any) -> None:
        raise LookupError("mine")

    config.freeze()
    resolver = FakeResolver("a")
    resolver.go.clear()
    cache = DNSCache(resolver)
    bad = asyncio.create_task(cache.resolve("h", 80, [Trace(None, config, None)]))
    good = asyncio.create_task(cache.resolve("h", 80))
    await turns()
    resolver.go.set()
    with pytest.raises(LookupError, match="mine"):
        await bad
    assert hosts(await good) == ["a"]
