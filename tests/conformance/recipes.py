"""How the chosen event loop gets under the tests, without a line of the tests being changed.

Three means, from the widest to the narrowest:

1. The default event-loop policy makes the chosen loop, so ``asyncio.new_event_loop()``, ``asyncio.run()``,
   ``asyncio.Runner()`` and ``policy.new_event_loop()`` do too, and a test that sets a policy of its own
   still gets it. ``unittest.IsolatedAsyncioTestCase`` is given a ``loop_factory`` where it takes one, and
   ``asyncio.EventLoop`` stands for the chosen class.
2. Where the suite has a mixin with a hook (``create_event_loop``, ``new_loop``) and one concrete class per
   selector, one class with the hook answered by the chosen loop replaces all of those.
3. Where a test case makes a loop of a named class in ``setUp``, a subclass puts the chosen one in its place.

Stock asyncio goes through the same recipes when it is the control.
"""

from __future__ import annotations

import asyncio
import sys
import unittest
from asyncio import events, unix_events
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tests.conformance.loops import LoopFactory

TestClasses = dict[str, type[unittest.TestCase]]


def test_classes(module: ModuleType) -> TestClasses:
    """Return the test cases of ``module`` by name, as unittest's loader would find them."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and value.__module__ == module.__name__
    }


def substitute_default_loop(factory: LoopFactory, module: str) -> None:
    """Make ``factory`` the maker of every loop for which no class is named, before ``module`` is imported.

    ``asyncio.EventLoop`` (3.13) is the name for "the default class", so it is substituted too, except in
    ``test_runners``, where a test is about which class it names.
    """
    if hasattr(asyncio, "EventLoop") and module != "test_runners":
        namespace: Any = asyncio
        namespace.EventLoop = factory
    policy: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
    if policy is not None and hasattr(policy, "_loop_factory"):
        policy._loop_factory = staticmethod(factory)
    else:  # a Python without policies
        patched: list[Any] = [asyncio, events]
        for place in patched:
            place.new_event_loop = factory
    isolated: Any = unittest.IsolatedAsyncioTestCase
    if hasattr(isolated, "loop_factory"):
        isolated.loop_factory = staticmethod(factory)


def derive(base: type[Any], name: str, module: ModuleType, *mixins: type[Any], **members: Any) -> type[Any]:
    """Return a subclass of ``base`` and ``mixins`` that unittest takes for the class ``name`` of ``module``.

    It belongs to ``module`` so that the module's ``setUpModule`` and ``tearDownModule`` run around it.
    """
    namespace = {"__module__": module.__name__, "__qualname__": name, **members}
    return type(name, (base, *mixins), namespace)


def put_in_place_of(
    classes: TestClasses, replaced: type[Any], name: str, case: type[unittest.TestCase]
) -> None:
    """Put ``case`` where the first subclass of ``replaced`` stands in ``classes``; take out all of those.

    The order matters: some classes of the suite leave process-wide state behind.
    """
    items = list(classes.items())
    classes.clear()
    for old_name, old in items:
        if issubclass(old, replaced):
            classes.setdefault(name, case)
        else:
            classes[old_name] = old


class Recipe:
    """One substitution in one test module."""

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        """Change ``classes``, the test cases to be run from ``module``, so that they use ``factory``."""
        raise NotImplementedError


@dataclass(frozen=True)
class Hook(Recipe):
    """One class ``name`` of ``mixins`` whose ``hook`` makes the chosen loop, not one class per selector.

    Every test case of the module that derives from the first mixin is replaced by it.
    """

    name: str
    mixins: tuple[str, ...]
    hook: str

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        mixins = [getattr(module, mixin) for mixin in self.mixins]

        def make_loop(case: unittest.TestCase) -> asyncio.AbstractEventLoop:
            return factory()

        case: Any = unittest.TestCase
        if not hasattr(
            mixins[0], "loop_exception_handler"
        ):  # not one of functional.py's, which bring their own
            case = getattr(module, "test_utils").TestCase  # noqa: B009
        new = derive(mixins[0], self.name, module, *mixins[1:], case, **{self.hook: make_loop})
        put_in_place_of(classes, mixins[0], self.name, new)


@dataclass(frozen=True)
class OwnSetUp(Recipe):
    """One class ``name`` of ``mixin``, which has no hook, with a ``setUp`` that gives it the chosen loop.

    From Python ``until`` on the module's own classes make the default loop, and are left as they are.
    """

    name: str
    mixin: str
    until: tuple[int, int]

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        if sys.version_info >= self.until:
            return
        mixin = getattr(module, self.mixin)
        test_case: Any = getattr(module, "test_utils").TestCase  # noqa: B009

        def set_up(case: Any) -> None:
            test_case.setUp(case)
            case.loop = factory()
            case.set_event_loop(case.loop)

        put_in_place_of(classes, mixin, self.name, derive(mixin, self.name, module, test_case, setUp=set_up))


@dataclass(frozen=True)
class ReplaceLoop(Recipe):
    """After the ``setUp`` of ``case`` and of its subclasses, ``self.loop`` becomes a chosen loop.

    A version of the module without ``case`` is left as it is. The loop that was there is closed by the test
    case's own clean-up.
    """

    case: str
    #: Names of tests that keep the class as it is, because they are about the very loop that its setUp makes.
    keep: frozenset[str] = frozenset()

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        base = getattr(module, self.case, None)
        for name, case in list(classes.items()):
            if base is not None and issubclass(case, base):
                classes[name] = derive(case, name, module, setUp=self._set_up(case, factory))

    def _set_up(self, original: Any, factory: LoopFactory) -> Callable[[Any], None]:
        keep = self.keep

        def set_up(case: Any) -> None:
            original.setUp(case)
            if case._testMethodName not in keep:
                case.loop = factory()
                asyncio.set_event_loop(None)
                case.addCleanup(case.loop.close)

        return set_up


@dataclass(frozen=True)
class RealTime(Recipe):
    """``new_test_loop()`` makes the chosen loop, unless it is given a script of simulated times."""

    #: Names of classes and tests that keep the simulated loop, because they use its private parts.
    keep: frozenset[str] = frozenset()

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        for name, case in list(classes.items()):
            if hasattr(case, "new_test_loop") and name not in self.keep:
                classes[name] = derive(case, name, module, new_test_loop=self._method(case, factory))

    def _method(self, original: Any, factory: LoopFactory) -> Callable[..., asyncio.AbstractEventLoop]:
        keep = self.keep

        def new_test_loop(case: Any, gen: Any = None) -> asyncio.AbstractEventLoop:
            if gen is not None or case._testMethodName in keep:
                simulated: asyncio.AbstractEventLoop = original.new_test_loop(case, gen)
                return simulated
            loop = factory()
            case.set_event_loop(loop)
            return loop

        return new_test_loop


@dataclass(frozen=True)
class RunnerLoops(Recipe):
    """``test_runners``: the policy of its test cases makes chosen loops instead of mocked ones.

    As in the original, the loop records whether its asynchronous generators were shut down.
    """

    def apply(self, classes: TestClasses, module: ModuleType, factory: LoopFactory) -> None:
        def new_loop(case: unittest.TestCase) -> asyncio.AbstractEventLoop:
            loop: Any = factory()
            shutdown_asyncgens = loop.shutdown_asyncgens
            loop.shutdown_ag_run = False

            async def recording() -> None:
                loop.shutdown_ag_run = True
                await shutdown_asyncgens()

            loop.shutdown_asyncgens = recording
            made: asyncio.AbstractEventLoop = loop
            return made

        for name, case in list(classes.items()):
            if hasattr(case, "new_loop"):
                classes[name] = derive(case, name, module, new_loop=new_loop)


#: Tests of test_base_events that steer the mocked selector which their setUp puts into a bare BaseEventLoop.
_MOCKED_SELECTOR = frozenset(
    {
        "test__run_once",
        "test__run_once_cancelled_event_cleanup",
        "test_asyncgen_finalization_by_gc_in_other_thread",
        "test_check_thread",
        "test_custom_run_forever_integration",
        "test_not_implemented",
        "test_run_forever_pre_stopped",
        "test_single_selecter_event_callback_after_stopping",
    }
)
if sys.version_info[:2] == (3, 13):
    _MOCKED_SELECTOR |= {
        "test_shutdown_default_executor_timeout"
    }  # before and after, it does not need the mock

#: What of test_tasks stays on the suite's simulated loop: it uses ``loop._ready`` or ``loop._run_once()``.
_SIMULATED = frozenset({"FutureGatherTests", "CoroutineGatherTests", "test_log_destroyed_pending_task"})

#: Recipes by test module; modules that are not named here need only the default loop (means 1 above).
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "test_base_events": (
        ReplaceLoop("BaseEventLoopTests", keep=_MOCKED_SELECTOR),
        ReplaceLoop("BaseEventLoopWithSelectorTests"),
    ),
    "test_buffered_proto": (Hook("BufferedProtocolTests", ("BaseTestBufferedProtocol",), "new_loop"),),
    "test_events": (
        Hook("EventLoopTests", ("EventLoopTestsMixin", "SubprocessTestsMixin"), "create_event_loop"),
        ReplaceLoop("UnixPipeObjectSupportTests"),
    ),
    "test_futures": (RealTime(),),
    "test_pep492": (ReplaceLoop("BaseTest"),),
    "test_runners": (RunnerLoops(),),
    "test_sendfile": (Hook("SendfileTests", ("SendfileTestsBase",), "create_event_loop"),),
    "test_server": (Hook("StartServerTests", ("BaseStartServer",), "new_loop"),),
    "test_sock_lowlevel": (Hook("SockTests", ("BaseSockTestsMixin",), "create_event_loop"),),
    "test_sslproto": (Hook("StartTLSTests", ("BaseStartTLS",), "new_loop"),),
    "test_subprocess": (OwnSetUp("SubprocessTests", "SubprocessMixin", until=(3, 14)),),
    "test_tasks": (RealTime(keep=_SIMULATED),),
    "test_unix_events": (
        ReplaceLoop("SelectorEventLoopSignalTests"),
        ReplaceLoop("SelectorEventLoopUnixSocketTests"),
    ),
}


def cases_for(module: ModuleType, name: str, factory: LoopFactory) -> Iterator[unittest.TestCase]:
    """Yield the tests to run from ``module`` (``name`` without its package), on loops from ``factory``."""
    classes = test_classes(module)
    for recipe in RECIPES.get(name, ()):
        recipe.apply(classes, module, factory)
    loader = unittest.TestLoader()
    for case in classes.values():
        for method in loader.getTestCaseNames(case):
            yield case(method)
