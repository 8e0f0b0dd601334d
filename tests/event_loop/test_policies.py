"""``whorl.install()`` and ``EventLoopPolicy``, for code that still uses policies. Whorl's own: there is no
control."""

from __future__ import annotations

import pytest

from .conftest import Script

pytestmark = pytest.mark.whorl_only

IS_WHORL = """
import whorl

async def kind():
    return type(asyncio.get_running_loop()) is whorl.EventLoop
"""


def test_install_makes_every_new_loop_whorls(script: Script) -> None:
    process = script.run(
        IS_WHORL
        + """
whorl.install()
assert asyncio.run(kind())
with asyncio.Runner() as runner:
    assert runner.run(kind())
loop = asyncio.new_event_loop()
assert type(loop) is whorl.EventLoop
assert loop.run_until_complete(kind())
loop.close()
whorl.install()
print("fine")
"""
    )
    assert process.stdout == "fine\n"
    assert process.stderr == ""


def test_install_in_other_threads(script: Script) -> None:
    process = script.run(
        IS_WHORL
        + """
whorl.install()
thread = threading.Thread(target=lambda: print(asyncio.run(kind())))
thread.start()
thread.join()
"""
    )
    assert process.stdout == "True\n"


def test_importing_and_installing_warns_of_nothing(script: Script) -> None:
    """On 3.14 every touch of a policy warns; that noise is not our users' to see."""
    process = script.run("""
import whorl
whorl.install()
policy = whorl.EventLoopPolicy()
loop = policy.new_event_loop()
loop.close()
asyncio.run(asyncio.sleep(0))
whorl.run(asyncio.sleep(0))
print("fine")
""", flags=("-W", "error"))  # fmt: skip
    assert process.stdout == "fine\n"
    assert process.stderr == ""


def test_the_policy_class(script: Script) -> None:
    process = script.run(
        IS_WHORL
        + """
import warnings
with warnings.catch_warnings():
    # Setting a policy is deprecated from 3.14 on, for any policy.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(whorl.EventLoopPolicy())
    assert isinstance(asyncio.get_event_loop_policy(), whorl.EventLoopPolicy)
assert asyncio.run(kind())
loop = asyncio.new_event_loop()
assert isinstance(loop, whorl.EventLoop)
asyncio.set_event_loop(loop)
assert asyncio.get_event_loop() is loop
loop.close()
asyncio.set_event_loop(None)

def other():
    try:
        asyncio.get_event_loop()
    except RuntimeError:
        print("no loop in another thread")

thread = threading.Thread(target=other)
thread.start()
thread.join()
"""
    )
    assert process.stdout == "no loop in another thread\n"


def test_children_under_the_policy(script: Script) -> None:
    process = script.run(
        IS_WHORL
        + """
whorl.install()

async def main():
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
    return await process.wait()

print(asyncio.run(main()))
"""
    )
    assert process.stdout == "3\n"


def test_without_install_asyncio_is_left_alone(script: Script) -> None:
    process = script.run(
        IS_WHORL
        + """
assert not asyncio.run(kind())
assert whorl.run(kind())
assert not asyncio.run(kind())
print("fine")
"""
    )
    assert process.stdout == "fine\n"
