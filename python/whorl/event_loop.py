"""The event loop: a native core under asyncio's own Unix loop.

:class:`EventLoop` derives from the native ``_core.EventLoop``, which has the hot paths (turns,
callbacks, timers, descriptors, streams), and then from :class:`asyncio.SelectorEventLoop`, so that rare paths
(connecting, name resolution, Unix servers, executors, subprocess bookkeeping, debug plumbing) are the running
interpreter's own and follow its version.

It derives from the selector loop and not from ``BaseEventLoop``, as that has more that is rare and depends
on the version (Unix servers and clients, the signal table, ``sock_sendfile`` by the kernel, ``sock_*`` for
classes derived from ``socket.socket``), and libraries that check ``isinstance(loop,
asyncio.SelectorEventLoop)`` before they use ``add_reader`` accept it. Its ``__init__`` is not
called: there is no selector, and ``_selector``, ``_ready`` and ``_scheduled`` are empty. Where a subclass
overrides one of the hooks that asyncio's loops call (``_make_socket_transport`` and so on), the override is
called here as well.

==================  ====================================================================================
native              turns, ``call_*``, ``create_task``, ``create_future``, ``time``, ``stop``,
                    ``add_reader`` and the three like it, streams, listeners, datagrams, pipes, TLS,
                    ``sock_*``
ours in Python      ``run_forever``, ``close``, the wake-up descriptor, ``getaddrinfo`` for addresses in
                    digits, ``_make_…_transport``, ``start_tls``, ``_start_serving``, ``sendfile``'s native
                    half, the watching of children
asyncio's           ``run_until_complete``, ``create_connection`` (happy eyeballs), ``create_server`` and the
                    ``Server``, ``create_datagram_endpoint``, executors, names, exception handler, async
                    generators, ``Popen`` and the subprocess transport, ``sock_sendfile``
==================  ====================================================================================

**Signals.** While the loop runs in the main thread, and while it has signal handlers,
``signal.set_wakeup_fd`` points to the loop's socket pair, so that a signal cannot come unnoticed between two
polls; the descriptor that was there before is put back. Handlers are asyncio's ``add_signal_handler``, and
run as callbacks. After each wait Python's own handlers run at once, outside any callback, so Ctrl-C works in
every phase. If other code closes the socket pair, the loop stops watching it instead of spinning.

**Fork.** A child shares the parent's epoll: changing it there would change it for the parent. The module
counts forks, a loop remembers the count it was made under, and every method that would touch the poller
raises :exc:`RuntimeError` in a child. ``close()`` works there, and leaves the epoll alone. The wake-up
descriptor of signals is taken back in the child.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
import weakref
from asyncio import constants, events, sslproto
from typing import TYPE_CHECKING, Any, TypeVarTuple, cast

from whorl import _core
from whorl.asyncio_private import base_events, unix_events
from whorl.asyncio_server import with_clients
from whorl.patches import handle_run_is_replaced, nesting_hint
from whorl.process import watch_child
from whorl.sock import SocketMethods

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

__all__ = ["EventLoop"]

_Ts = TypeVarTuple("_Ts")

#: The descriptors by which signals wake loops of this process.
_wakeup_fds: set[int] = set()


def _after_fork_in_child() -> None:
    # The pipe is the parent's: a signal to the child must not wake the parent's loop.
    if _wakeup_fds and threading.current_thread() is threading.main_thread():
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, *_wakeup_fds):
            signal.set_wakeup_fd(current)
    _wakeup_fds.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


class EventLoop(_core.EventLoop, SocketMethods):
    """A drop-in replacement for asyncio's event loop on Unix.

    Use it through :func:`whorl.run`, or ``asyncio.Runner(loop_factory=whorl.new_event_loop)``. It has all
    methods of :class:`asyncio.loop`, as asyncio documents them. In addition:

    - ``sleep`` and timers have the resolution of the clock (1 ns) and are never early;
    - the first write to a transport in a turn of the loop is sent at once, and those that follow it in the
      same turn leave in one system call.

    A method called on a thread other than the one that runs the loop raises :exc:`RuntimeError`, but for
    :meth:`call_soon_threadsafe` and the few others that asyncio documents as safe; :meth:`call_soon`,
    :meth:`call_later` and :meth:`call_at` do so in debug mode, and are handed over to the loop otherwise.
    :meth:`add_reader`, :meth:`add_writer`, :meth:`remove_reader` and :meth:`remove_writer` are handed over in
    either mode.
    """

    #: Has ``nest_asyncio`` leave the class as it is (see :mod:`whorl.patches`).
    _nest_patched = True

    #: Read by ``__del__`` of a loop whose construction failed.
    _thread_id: int | None = None
    _ssock: Any = None
    _csock: Any = None

    #: Whether another main loop calls its turns (:class:`whorl.turns.Turns`).
    _runs_by_turns: bool = False

    def __init__(self) -> None:
        # Not SelectorEventLoop's: it would make a selector, which the native poller stands for.
        base_events.BaseEventLoop.__init__(self)
        self._selector = None
        self._internal_fds = 0
        self._signal_handlers = {}
        self._unix_server_sockets: dict[socket.socket, int] = {}
        self._listeners: dict[int, _core.Listener] = {}
        self._transports = weakref.WeakValueDictionary()
        self._wakeup_claims: set[str] = set()
        self._previous_wakeup_fd = -1
        self._set_clock_replaced(self._has_own_time())
        self._make_self_pipe()

    def __repr__(self) -> str:
        state = f"running={self.is_running()} closed={self.is_closed()} debug={self.get_debug()}"
        return f"<whorl.EventLoop {state}>"

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "time":
            # A test turns the clock by hand: timers follow it, as they do in asyncio.
            self._set_clock_replaced(True)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        if name == "time":
            self._set_clock_replaced(self._has_own_time())

    @classmethod
    def _has_own_time(cls) -> bool:
        """Whether a subclass has put another clock in place of ours."""
        return cls.time is not _core.EventLoop.time

    # -- running ---------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until :meth:`stop` is called.

        Raises :exc:`RuntimeError` if the loop is closed, runs already, another loop runs in this thread, or
        the loop was made by the parent of this process. Source: :meth:`asyncio.loop.run_forever`.
        """
        self._check_closed()
        self._check_running()
        self._set_native_handle_run_replaced(handle_run_is_replaced())
        self._set_coroutine_origin_tracking(self._debug)
        old_hooks = sys.get_asyncgen_hooks()
        self._claim_wakeup_fd("run")
        try:
            self._thread_id = threading.get_ident()
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
            )
            events._set_running_loop(self)
            self._run_turns()
        finally:
            self._thread_id = None
            events._set_running_loop(None)
            self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*old_hooks)
            self._release_wakeup_fd("run")

    def _check_running(self) -> None:
        try:
            super()._check_running()
        except RuntimeError as error:
            raise RuntimeError(f"{error}{nesting_hint()}") from None

    def _claim_wakeup_fd(self, reason: str) -> None:
        """Have signals write to our pipe, so that none goes unnoticed between the check and the wait.

        It does so while the loop runs, and while it has signal handlers. Only the main thread gets signals.
        """
        if self._csock is None or threading.current_thread() is not threading.main_thread():
            return
        try:
            previous = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        except ValueError:
            # The main thread of a subinterpreter is not the one that gets signals.
            return
        if not self._wakeup_claims:
            self._previous_wakeup_fd = previous
            _wakeup_fds.add(self._csock.fileno())
        self._wakeup_claims.add(reason)

    def _release_wakeup_fd(self, reason: str) -> None:
        """Put back the descriptor that was there before the first claim, with the last one."""
        if reason not in self._wakeup_claims:
            return
        self._wakeup_claims.discard(reason)
        own = self._csock.fileno()
        current = signal.set_wakeup_fd(-1)
        if self._wakeup_claims:
            wanted = own
        else:
            _wakeup_fds.discard(own)
            # -1: asyncio's remove_signal_handler was called. Any other: the user's code has set one.
            wanted = self._previous_wakeup_fd if current in (own, -1) else current
        try:
            signal.set_wakeup_fd(wanted, warn_on_full_buffer=False)
        except (ValueError, OSError):
            # The descriptor that was there before has been closed by its owner.
            base_events.logger.debug("wake-up descriptor %d is gone and was not restored", wanted)

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        """Call ``callback(*args)`` on the loop when the process gets signal ``sig``.

        Raises :exc:`ValueError` or :exc:`RuntimeError` for a signal that cannot be caught, and outside the
        main thread. Source: :meth:`asyncio.loop.add_signal_handler`.
        """
        self._claim_wakeup_fd("handlers")
        try:
            super().add_signal_handler(sig, callback, *args)
        finally:
            if not self._signal_handlers:
                self._release_wakeup_fd("handlers")

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of ``sig``; True if there was one.

        Source: :meth:`asyncio.loop.remove_signal_handler`.
        """
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers:
            self._release_wakeup_fd("handlers")
        return removed

    def close(self) -> None:
        """Close the loop: nothing that is scheduled runs any more, and its descriptors are closed.

        Raises :exc:`RuntimeError` while it runs. Closing twice does nothing. Source:
        :meth:`asyncio.loop.close`.
        """
        if self.is_running() and not self._belongs_to_parent():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if not sys.is_finalizing():
            for signum in list(self._signal_handlers):
                self.remove_signal_handler(signum)
            if threading.current_thread() is threading.main_thread():
                # A child of the process that closes the loop it runs in, before the run has ended.
                for reason in list(self._wakeup_claims):
                    self._release_wakeup_fd(reason)
        if self._ssock is not None:
            self._remove_reader(self._ssock.fileno())
            self._ssock.close()
            self._csock.close()
            self._ssock = self._csock = None
            self._internal_fds -= 1
        self._close_native()
        self._thread_id = None
        base_events.BaseEventLoop.close(self)

    def _read_from_self(self) -> None:
        while True:
            try:
                data = self._ssock.recv(4096)
            except InterruptedError:
                continue
            except BlockingIOError:
                return
            if not data:
                # Foreign code has closed the other end: without this the loop would spin.
                self._remove_reader(self._ssock.fileno())
                return
            self._process_self_data(data)

    def _add_callback_signalsafe(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            self.call_soon_threadsafe(cast("Any", handle)._run)

    # -- debugging -------------------------------------------------------------------------------------------

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode: slow callbacks are reported, threads are checked, handles know their origin."""
        base_events.BaseEventLoop.set_debug(self, enabled)
        self._set_native_debug(bool(enabled))

    def set_task_factory(self, factory: Any) -> None:
        """Set the factory that :meth:`create_task` uses; None for :class:`asyncio.Task`."""
        base_events.BaseEventLoop.set_task_factory(self, factory)
        self._set_native_task_factory(factory is not None)

    def _report_slow_callback(self, handle: Any, seconds: float) -> None:
        task = getattr(getattr(handle, "_callback", None), "__self__", None)
        what = repr(task) if isinstance(task, asyncio.Task) else repr(handle)
        base_events.logger.warning("Executing %s took %.3f seconds", what, seconds)

    def _log_transport_error(self, transport: object, exc: BaseException, message: str) -> None:
        base_events.logger.debug("%r: %s", transport, message, exc_info=exc)

    # -- names -----------------------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve a name in a thread of the default executor; numeric addresses take none.

        Raises :exc:`socket.gaierror`. Source: :meth:`asyncio.loop.getaddrinfo`.
        """
        if _is_numeric(host, port):
            numeric = flags | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            try:
                return socket.getaddrinfo(host, port, family, type, proto, numeric)
            except socket.gaierror:
                # It only looked numeric: the resolver decides, and raises the error.
                pass
        return await base_events.BaseEventLoop.getaddrinfo(
            self, host, port, family=family, type=type, proto=proto, flags=flags
        )

    # -- transports ------------------------------------------------------------------------------------------

    def _create_connection_transport(
        self, sock: socket.socket, protocol_factory: Callable[[], Any], *args: Any, **kwargs: Any
    ) -> Any:
        def factory() -> Any:
            try:
                return protocol_factory()
            except BaseException:
                # The socket has no owner yet: without this it would be left to the garbage collector.
                sock.close()
                raise

        # No coroutine of its own: its frame would keep the arguments alive in the traceback of a failed
        # handshake.
        return super()._create_connection_transport(sock, factory, *args, **kwargs)

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: Context | None = None,
    ) -> Any:
        # asyncio leaves out protocol 0, which is TCP as well, and which a user's socket mostly has.
        if (
            sock.family in (socket.AF_INET, socket.AF_INET6)
            and sock.type == socket.SOCK_STREAM
            and sock.proto in (0, socket.IPPROTO_TCP)
        ):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _core.StreamTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: ssl.SSLContext | None,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        call_connection_made: bool = True,
        context: Context | None = None,
    ) -> Any:
        try:
            tls = _core.TlsProtocol(
                self,
                protocol,
                sslcontext or sslproto._create_transport_context(server_side, server_hostname),
                waiter,
                server_side,
                server_hostname,
                call_connection_made,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
            )
        except BaseException:
            # No other code has the socket yet.
            rawsock.close()
            raise
        transport = tls._app_transport
        self._make_socket_transport(rawsock, tls, extra=extra, server=server)
        return transport

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade a connection to TLS and return the transport to use from now on.

        Raises :exc:`TypeError` for another type than ``SSLContext`` or a transport that cannot be upgraded,
        and the handshake's error; the connection is closed then. Source: :meth:`asyncio.loop.start_tls`.
        """
        if type(transport) is not _core.StreamTransport or not isinstance(sslcontext, ssl.SSLContext):
            # Another transport, as a second TLS within the first, by asyncio's own method; it also raises
            # the errors.
            return await base_events.BaseEventLoop.start_tls(
                self,
                transport,
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        waiter: asyncio.Future[None] | None = self.create_future()
        tls = _core.TlsProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            False,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        upgraded = tls._app_transport
        # Nothing is to reach the protocol before connection_made() has.
        transport.pause_reading()
        reader = getattr(protocol, "_stream_reader", None) if server_side else None
        if isinstance(protocol, asyncio.StreamReaderProtocol) and reader is not None and reader._buffer:
            # The client's first message came together with the last line before it (cpython #142352).
            tls._feed(reader._buffer)
            reader._buffer.clear()
        transport.set_protocol(cast("asyncio.BaseProtocol", tls))
        made = self.call_soon(tls.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await cast("asyncio.Future[None]", waiter)
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            # The exception it holds refers to this frame.
            waiter = None
            raise
        return upgraded

    def _make_datagram_transport(
        self, sock: socket.socket, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> Any:
        return _core.DatagramTransport(self, sock, protocol, address, waiter, extra)

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> Any:
        return _core.ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> Any:
        return _core.WritePipeTransport(self, pipe, protocol, waiter, extra)

    # -- servers ---------------------------------------------------------------------------------------------

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen on a TCP address. Source: :meth:`asyncio.loop.create_server`."""
        server = await super().create_server(*args, **kwargs)
        return with_clients(server)

    async def create_unix_server(self, *args: Any, **kwargs: Any) -> Any:
        """Listen on a Unix-domain path. From Python 3.13 on the path is removed when the server closes.

        Source: :meth:`asyncio.loop.create_unix_server`.
        """
        return with_clients(await super().create_unix_server(*args, **kwargs))

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: Context | None = None,
    ) -> None:
        self._listeners[sock.fileno()] = _core.Listener(
            self, sock, protocol_factory, server, sslcontext, ssl_handshake_timeout, ssl_shutdown_timeout
        )

    def _stop_serving(self, sock: socket.socket) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()
        inode = self._unix_server_sockets.pop(sock, None)
        if inode is not None:
            path = sock.getsockname()
            try:
                # Only if it is still the same socket: another server may have taken the path since.
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as exc:
                base_events.logger.error("Unable to clean up listening UNIX socket %r: %s", path, exc)
        sock.close()

    # -- sendfile --------------------------------------------------------------------------------------------

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        # An error while another sendfile() is in progress, which nothing below may disturb.
        empty = transp._make_empty_waiter()
        resume_reading = transp.is_reading()
        transp.pause_reading()
        try:
            await empty
            transp._leave_poller()
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            transp._enter_poller()
            if resume_reading:
                transp.resume_reading()

    # -- subprocesses ----------------------------------------------------------------------------------------

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        watch_child(self, transport.get_pid(), transport._process_exited)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport


def _is_numeric(host: Any, port: Any) -> bool:
    """Whether resolving needs no service: no host, or an address in digits, and a port that is a number."""
    if isinstance(port, (str, bytes)):
        if not port.isdigit():
            return False
    elif port is not None and not isinstance(port, int):
        return False
    if host is None:
        return True
    if isinstance(host, bytes):
        host = host.decode("latin-1")
    if not isinstance(host, str) or "%" in host:
        return False
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False
