"""Child processes: streams, signals, every Popen keyword, and children that other code waits for."""

from __future__ import annotations

import asyncio
import asyncio.subprocess
import contextlib
import errno
import grp
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from .conftest import LoopErrors, LoopFactory, Script
from .support import PATIENCE, control_xfail, open_fds, turns, until

Loop = asyncio.AbstractEventLoop
PIPE = asyncio.subprocess.PIPE
DEVNULL = asyncio.subprocess.DEVNULL
STDOUT = asyncio.subprocess.STDOUT

# Python 3.11 waits for children by way of a policy's child watcher, whose creation warns from 3.12 on.
pytestmark = pytest.mark.filterwarnings("ignore:.*child watcher.*:DeprecationWarning")


async def output(*command: str, **options: Any) -> tuple[int | None, bytes]:
    """Runs a command to its end; returns its status and its standard output."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    data, _ = await process.communicate()
    return process.returncode, data


async def python(code: str, *arguments: str, **options: Any) -> tuple[int | None, bytes]:
    return await output(sys.executable, "-S", "-E", "-c", code, *arguments, **options)


async def test_exit_statuses(loop: Loop) -> None:
    for status in (0, 1, 42, 255):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {status}")
        assert process.returncode is None or process.returncode == status
        assert await process.wait() == status
        assert process.returncode == status
        assert await process.wait() == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1])
async def test_children_killed_by_signals(loop: Loop, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.send_signal(number)
    assert await process.wait() == -number


async def test_kill_and_terminate(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    process = await asyncio.create_subprocess_exec("sleep", "3600")
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_signals_to_a_child_that_has_ended(loop: Loop) -> None:
    """Refused, or from Python 3.13 on ignored until the transport is closed; no process gets the signal."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    # A child that ended before it was waited for: the transport drops it in the turn after.
    await turns()
    refusal = pytest.raises if sys.version_info < (3, 13) else contextlib.suppress
    for call in (process.kill, process.terminate, lambda: process.send_signal(signal.SIGTERM)):
        with refusal(ProcessLookupError):
            call()
    assert process.returncode == 0


async def test_a_child_that_kills_itself(loop: Loop) -> None:
    assert await output("sh", "-c", "echo before; kill -9 $$") == (-9, b"before\n")


async def test_communicate_with_much_data(loop: Loop) -> None:
    data = bytes(range(256)) * 8000
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    out, err = await process.communicate(data)
    assert out == data
    assert err is None
    assert process.returncode == 0


async def test_standard_error_apart_and_together(loop: Loop) -> None:
    process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
    assert await process.communicate() == (b"out\n", b"err\n")
    process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=STDOUT)
    assert await process.communicate() == (b"out\nerr\n", None)
    process = await asyncio.create_subprocess_shell(
        "echo out; cat", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
    )
    assert await process.communicate() == (None, None)


async def test_talking_with_a_child(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(50):
        process.stdin.write(b"%d\n" % number)
        await process.stdin.drain()
        assert await process.stdout.readline() == b"%d\n" % number
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_a_child_that_closes_its_standard_input(loop: Loop) -> None:
    """``communicate`` ignores the broken pipe; ``drain`` reports it."""
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    await process.communicate(b"x" * 1_000_000)
    assert process.returncode == 0

    process = await asyncio.create_subprocess_shell(
        "exec 0<&-; sleep 3600", stdin=PIPE, start_new_session=True
    )
    assert process.stdin is not None
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            process.stdin.write(b"x" * 65536)
            await process.stdin.drain()
            await asyncio.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


async def test_output_after_the_child_has_ended(loop: Loop) -> None:
    """What a grandchild still writes is read, and ``wait`` does not wait for it."""
    process = await asyncio.create_subprocess_shell("(sleep 0.1; echo late) & echo early", stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.read() == b"early\nlate\n"
    assert await process.wait() == 0


async def test_waiting_together(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
    waiting = [asyncio.ensure_future(process.wait()) for _ in range(5)]
    await turns()
    process.kill()
    assert await asyncio.gather(*waiting) == [-9] * 5


async def test_cancelling_a_wait_leaves_the_child(loop: Loop) -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    waiting = asyncio.ensure_future(process.wait())
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert process.returncode is None
    process.kill()
    assert await process.wait() == -9
    await process.communicate()


async def test_many_children_at_once(loop: Loop) -> None:
    async def one(number: int) -> None:
        assert await output("sh", "-c", f"echo {number}; exit {number}") == (number, b"%d\n" % number)

    await asyncio.gather(*(one(number) for number in range(25)))


# Protocol and transport


class ProcessRecorder(asyncio.SubprocessProtocol):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.data: dict[int, bytes] = {1: b"", 2: b""}
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.events.append(f"pipe {fd} lost")

    def process_exited(self) -> None:
        self.events.append("exited")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


async def test_the_protocol(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(ProcessRecorder, "sh", "-c", "cat; echo err >&2; exit 3")
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_returncode() is None
    assert transport.get_pid() > 0
    stdin: Any = transport.get_pipe_transport(0)
    assert isinstance(stdin, asyncio.WriteTransport)
    assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
    assert transport.get_pipe_transport(3) is None
    stdin.write(b"hello")
    stdin.close()
    assert await protocol.lost is None
    assert protocol.data == {1: b"hello", 2: b"err\n"}
    assert protocol.events[0] == "made"
    assert protocol.events[-1] == "lost"
    assert sorted(protocol.events[1:-1]) == ["exited", "pipe 0 lost", "pipe 1 lost", "pipe 2 lost"]
    assert transport.get_returncode() == 3
    transport.close()


async def test_closing_the_transport_kills_the_child(loop: Loop) -> None:
    transport, protocol = await loop.subprocess_exec(ProcessRecorder, "sleep", "3600")
    transport.close()
    assert transport.is_closing()
    await protocol.lost
    assert transport.get_returncode() in (-signal.SIGKILL, None)
    with contextlib.suppress(ProcessLookupError):
        await until(lambda: not is_running(transport.get_pid()))


def is_running(pid: int | None) -> bool:
    """False for a process that is gone or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_protocol_that_raises_is_reported(loop: Loop, loop_errors: LoopErrors) -> None:
    class Fails(ProcessRecorder):
        def process_exited(self) -> None:
            super().process_exited()
            raise ZeroDivisionError

    transport, protocol = await loop.subprocess_exec(Fails, "true")
    await protocol.lost
    assert isinstance(loop_errors.take()["exception"], ZeroDivisionError)
    assert transport.get_returncode() == 0
    transport.close()


# Popen keywords


async def test_cwd_env_and_executable(loop: Loop, tmp_path: Path) -> None:
    assert await output("pwd", cwd=tmp_path) == (0, os.fsencode(tmp_path.resolve()) + b"\n")
    assert await output("/bin/sh", "-c", "echo $WHORL_TEST", env={"WHORL_TEST": "x"}) == (0, b"x\n")
    status, text = await output("another name", "-c", "echo $0", executable="/bin/sh")
    assert (status, text) == (0, b"another name\n")


async def test_start_new_session_and_process_group(loop: Loop) -> None:
    status, text = await python("import os; print(os.getsid(0) == os.getpid())", start_new_session=True)
    assert (status, text) == (0, b"True\n")
    status, text = await python("import os; print(os.getpgid(0) == os.getpid())", process_group=0)
    assert (status, text) == (0, b"True\n")


async def test_umask_and_preexec_fn(loop: Loop) -> None:
    status, text = await python("import os; print(oct(os.umask(0)))", umask=0o027)
    assert (status, text) == (0, b"0o27\n")
    status, text = await python(
        "import os; print(os.environ.get('x'), os.getpriority(os.PRIO_PROCESS, 0))",
        preexec_fn=lambda: os.nice(3) and None,
    )
    assert text.split()[1] == b"%d" % min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change user and groups")
async def test_user_group_and_extra_groups(loop: Loop) -> None:
    group = min(entry.gr_gid for entry in grp.getgrall() if entry.gr_gid)
    # A statically known program: the interpreter may live where that user cannot read.
    status, text = await output("/usr/bin/id", "-u", user=65534, cwd="/")
    assert (status, text) == (0, b"65534\n")
    status, text = await output("/usr/bin/id", "-g", group=group, cwd="/")
    assert (status, text) == (0, b"%d\n" % group)
    status, text = await output("/usr/bin/id", "-G", extra_groups=[group], cwd="/")
    assert status == 0
    assert b"%d" % group in text.split()


async def test_pass_fds_and_close_fds(loop: Loop) -> None:
    read, write = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), b'from the child')"
    status, _ = await python(code, str(write), pass_fds=[write])
    assert status == 0
    assert os.read(read, 100) == b"from the child"
    status, _ = await python(code, str(write), stderr=DEVNULL)
    assert status == 1
    os.set_inheritable(write, True)
    status, _ = await python(code, str(write), close_fds=False)
    assert status == 0
    os.close(read)
    os.close(write)


async def test_restore_signals(loop: Loop) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGPIPE))"
    # Python itself ignores SIGPIPE at its start: ask the shell, which does not.
    probe = "grep SigIgn /proc/self/status"
    restored = int((await output("sh", "-c", probe))[1].split()[1], 16)
    kept = int((await output("sh", "-c", probe, restore_signals=False))[1].split()[1], 16)
    bit = 1 << (signal.SIGPIPE - 1)
    assert not restored & bit
    assert kept & bit
    assert code


async def test_descriptors_as_streams(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"input")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        process = await asyncio.create_subprocess_exec("cat", stdin=source, stdout=sink.fileno())
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b"input"


@pytest.mark.parametrize(
    "options",
    [{"text": True}, {"universal_newlines": True}, {"bufsize": 1}, {"encoding": "utf-8"},
     {"errors": "strict"}, {"shell": True}],
)  # fmt: skip
async def test_keywords_that_cannot_be_honoured_are_refused(loop: Loop, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="."):
        await loop.subprocess_exec(ProcessRecorder, "true", **options)


async def test_an_unknown_keyword_is_refused(loop: Loop) -> None:
    with pytest.raises(TypeError):
        await loop.subprocess_exec(ProcessRecorder, "true", no_such_keyword=1)
    await turns()


async def test_commands_of_the_wrong_type_are_refused(loop: Loop) -> None:
    with pytest.raises(ValueError, match="cmd"):
        await loop.subprocess_shell(ProcessRecorder, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await loop.subprocess_exec(ProcessRecorder, 1)  # type: ignore[arg-type]
    await turns()


async def test_programs_that_cannot_be_run(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "not executable").write_text("")
    for program, error in (
        (tmp_path / "nothing", FileNotFoundError),
        (tmp_path / "not executable", PermissionError),
    ):
        before = set(open_fds().items())
        for _ in range(5):
            with pytest.raises(error):
                await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        await turns(5)
        assert set(open_fds().items()) <= before
    with pytest.raises(FileNotFoundError):
        await asyncio.create_subprocess_exec("true", cwd=tmp_path / "nothing")
    assert await output("echo", "alive") == (0, b"alive\n")


# Descriptors and waiting


@pytest.mark.parametrize("close_fds", [True, False])
async def test_no_descriptors_leak_to_children(loop: Loop, close_fds: bool) -> None:
    """Sockets, pipes and the loop's own descriptors stay here, whatever ``close_fds`` says."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    other = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    inherited = {fd for fd in map(int, os.listdir("/proc/self/fd")) if is_inheritable(fd)} - {0, 1, 2}
    code = "import os; print(*sorted(int(fd) for fd in os.listdir('/proc/self/fd')))"
    status, text = await python(code, close_fds=close_fds)
    assert status == 0
    fds = set(map(int, text.split()))
    assert {0, 1, 2} <= fds
    # One more is the listing itself; what the test's own parent left inheritable is not ours.
    assert len(fds - {0, 1, 2} - (inherited if not close_fds else set())) <= 1
    other.kill()
    await other.communicate()
    server.close()
    await server.wait_closed()


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False


@control_xfail(
    "asyncio's pidfd watcher fails when the child is gone before it watches", since=(3, 12), strict=False
)
def test_children_reaped_by_the_kernel(script: Script) -> None:
    """Someone ignores SIGCHLD: there is nothing left to wait for, which is no reason to hang."""
    body = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        pipe = asyncio.subprocess.PIPE

        async def main():
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7", stdout=pipe)
            await process.communicate()
            assert process.returncode in (7, 255), process.returncode
            process = await asyncio.create_subprocess_exec("sleep", "3600")
            process.kill()
            assert await process.wait() in (-9, 255), process.returncode
            print("done")

        run(main())
    """
    assert script.run(body, flags=()).stdout == "done\n"


def test_a_wait_stolen_by_someone_else(script: Script) -> None:
    """Another part of the program waits for any child."""
    body = """
        pipe = asyncio.subprocess.PIPE

        async def main():
            process = await asyncio.create_subprocess_exec("sh", "-c", "read x; exit 7", stdin=pipe)
            stolen = []

            def steal():
                try:
                    stolen.append(os.waitpid(process.pid, 0))
                except ChildProcessError:
                    pass

            thread = threading.Thread(target=steal)
            thread.start()
            process.stdin.write(b"go\\n")
            assert await process.wait() in (7, 255), process.returncode
            process.stdin.close()
            thread.join()
            print("done")

        run(main())
    """
    assert script.run(body, flags=()).stdout == "done\n"


def test_a_sigchld_handler_of_the_users_own_is_kept(script: Script) -> None:
    body = """
        calls = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGCHLD, calls.append, 1)
            process = await asyncio.create_subprocess_exec("sh", "-c", "exit 7")
            assert await process.wait() == 7
            while not calls:
                await asyncio.sleep(0.01)
            print("done")

        run(main())
    """
    assert script.run(body, flags=()).stdout == "done\n"


def test_a_loop_in_another_thread_has_children(loop_factory: LoopFactory) -> None:
    results: list[Any] = []

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                results.append(runner.run(output("sh", "-c", "echo hello; exit 5")))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert results == [(5, b"hello\n")]


def test_a_program_that_ends_before_its_child(script: Script) -> None:
    body = """
        null = asyncio.subprocess.DEVNULL

        async def main():
            process = await asyncio.create_subprocess_exec("sleep", "3600", stdout=null, stderr=null)
            print(process.pid, flush=True)

        run(main())
    """
    process = script.run(body, flags=("-W", "ignore"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(process.stdout), signal.SIGKILL)
