"""Every native class that holds Python objects shows them to the garbage collector."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.house import ROOT
from tests.house.sources import files, rust_code, without_tests

SOURCES = ROOT / "crates/python/src"

#: Classes without a `__traverse__`, and why.
UNSEEN = {
    "Ready": "its value is a bytes object or None",
    "TimerHandle": "a handle, which is; its own field is the loop's timers, which the loop shows and drains",
}

#: Classes without a `__clear__`, and why.
UNCLEARED = {"PoolSlot": "its state is the core's permit, which is a number"}

#: Fields and variants that the collector does not see, and why.
UNNAMED = {
    "LoopState.recycled": "handles that have run hold nothing",
    "EventLoop.injection_queue": "it is empty while the loop rests, and a loop that runs is alive",
    "LoopTimers.injection_queue": "the loop's",
    "InFlight.record": "shared by an Arc: visited by each owner, one reference would count as several",
    "AnyEngine::NativeEngine": "the macro that calls either engine shows it",
    "AnyEngine::ObjectEngine": "as above",
}

#: What a field says that holds a reference by itself: a buffer's view is one to the object that lends it.
REFERENCE = re.compile(
    r"\bPy<|\bPy_buffer\b|\bPyBuffer\b|\bPyErr\b|\bPyBacked(?:Str|Bytes)\b|\*(?:mut|const) ffi::PyObject\b"
)

#: Objects that refer to no others.
LEAVES = re.compile(r"\bPy<Py(?:Bytes|String)>")

#: What a class may hold that changes after it was made.
CHANGING = re.compile(r"\b(IoTransport|OwnerCell|Guarded|Mutex|RwLock|RefCell|PyOnceLock|UnsafeCell)\b")


@dataclass
class Type:
    """A struct or an enum of ours, with what its fields are."""

    name: str
    path: Path
    fields: list[str] = field(default_factory=list)
    pyclass: str | None = None
    is_enum: bool = False


def block(code: str, start: int) -> str:
    """What stands between the brace or parenthesis at ``start`` and its partner."""
    pairs = {"{": "}", "(": ")"}
    opening, closing = code[start], pairs[code[start]]
    depth = 0
    for index in range(start, len(code)):
        depth += (code[index] == opening) - (code[index] == closing)
        if depth == 0:
            return code[start + 1 : index]
    raise AssertionError("no end of the block")


def types_of(path: Path, text: str) -> Iterator[Type]:
    """The structs and enums of a source file."""
    code = without_tests(rust_code(text))
    pattern = r"((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?(struct|enum)\s+(\w+)[^;{(]*([{(;])"
    for found in re.finditer(pattern, code):
        attributes, kind, name, opening = found.groups()
        pyclass = re.search(r"#\[pyclass\b([^\]]*)", attributes)
        body = "" if opening == ";" else block(code, found.end() - 1)
        yield Type(name, path, [body], None if pyclass is None else pyclass[1], kind == "enum")


def named(type_: Type, everything: list[Type]) -> Iterator[Type]:
    """The types of ours that the fields of one name: those of its own file first, where names are alike."""
    for name in set(re.findall(r"\b[A-Z]\w*", " ".join(type_.fields))):
        alike = [other for other in everything if other.name == name]
        near = [other for other in alike if other.path.parent == type_.path.parent]
        here = [other for other in alike if other.path == type_.path]
        yield from here or near or alike


def holders(everything: list[Type]) -> set[int]:
    """Those that hold a reference, themselves or by what they are made of; by identity."""
    found = {id(type_) for type_ in everything if REFERENCE.search(" ".join(type_.fields))}
    while more := {
        id(type_)
        for type_ in everything
        if id(type_) not in found and any(id(part) in found for part in named(type_, everything))
    }:
        found |= more
    return found


def methods(name: str, code: str) -> set[str]:
    """The names of the methods in every `impl name` block, and in the macros that write one for it."""
    found: set[str] = set()
    for start in re.finditer(rf"\bimpl\s+{name}\s*\{{", code):
        found |= set(re.findall(r"\bfn\s+(\w+)", block(code, start.end() - 1)))
    for macro in re.finditer(r"\bmacro_rules!\s+(\w+)\s*\{", code):
        if re.search(rf"\b{macro[1]}!\s*\([^)]*\b{name}\b", code):
            found |= set(re.findall(r"\bfn\s+(\w+)", block(code, macro.end() - 1)))
    return found


def fields_of(type_: Type) -> Iterator[tuple[str, str]]:
    """The named fields of a struct: the name, and the text of its type."""
    before = r"(?:^|[,\n])\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?"
    pattern = before + r"([a-z_]\w*)\s*:(?!:)(.*?)(?=,\s*\n|,?\s*$)"
    for found in re.finditer(pattern, type_.fields[0], re.DOTALL):
        yield found[1], found[2]


def variants_of(type_: Type) -> Iterator[tuple[str, str]]:
    """The variants of an enum that have content: the name, and the text of what is in it."""
    text = re.sub(r"#\[[^\]]*\]", "", type_.fields[0])
    if type_.is_enum:
        index = 0
        while found := re.compile(r"\b([A-Z]\w*)\s*([({])").search(text, index):
            content = block(text, found.end() - 1)
            index = found.end() + len(content)
            yield found[1], content


def kept(everything: list[Type], holding: set[int]) -> Iterator[Type]:
    """The classes that hold references, and the types of ours that they are made of."""
    seen: set[int] = set()
    left = [type_ for type_ in everything if type_.pyclass is not None]
    while left:
        type_ = left.pop()
        if id(type_) in holding and id(type_) not in seen:
            seen.add(id(type_))
            left += named(type_, everything)
            yield type_


def visiting(code: str) -> str:
    """The bodies of all methods that show something to the collector."""
    starts = re.finditer(r"\bfn\s+(?:__traverse__|visit\w*|parts)\b[^{;]*\{", code)
    return "\n".join(block(code, start.end() - 1) for start in starts)


def unseen_fields(everything: list[Type], code: str) -> Iterator[str]:
    """The fields with references that no visiting method names."""
    everything = [
        replace(type_, fields=[LEAVES.sub("", text) for text in type_.fields]) for type_ in everything
    ]
    holding, shown = holders(everything), visiting(code)
    for type_ in kept(everything, holding):
        for name, text in fields_of(type_):
            parts = named(Type("", type_.path, [text]), everything)
            holds = REFERENCE.search(text) or any(id(part) in holding for part in parts)
            if holds and not re.search(rf"\b{name}\b", shown):
                yield f"{type_.name}.{name}"
        for name, text in variants_of(type_):
            parts = named(Type("", type_.path, [text]), everything)
            holds = REFERENCE.search(text) or any(id(part) in holding for part in parts)
            # Named is not enough: `Self::Variant(_)` shows nothing.
            bound = rf"\b{name}\s*[({{][^)}}]*(?<![\w:])[a-z]\w*\b(?!\s*:\s*_)"
            if holds and not re.search(bound, shown):
                yield f"{type_.name}::{name}"


def read(under: Path) -> tuple[list[Type], str]:
    texts = {path: path.read_text() for path in files(".rs", under=str(under.relative_to(ROOT)))}
    everything = [type_ for path, text in texts.items() for type_ in types_of(path, text)]
    return everything, "\n".join(without_tests(rust_code(text)) for text in texts.values())


def faults(everything: list[Type], code: str) -> Iterator[str]:
    holding = holders(everything)
    for type_ in everything:
        if type_.pyclass is None or type_.name in UNSEEN or id(type_) not in holding:
            continue
        has = methods(type_.name, code)
        if "__traverse__" not in has:
            yield f"{type_.name} holds Python objects and has no __traverse__"
        # What never changes is part of a cycle only with something that does, which breaks it: a tuple has
        # none either.
        changing = [part for part in re.split(r",\s*\n", type_.fields[0]) if CHANGING.search(part)]
        part = Type("", type_.path, changing)
        holds = any(REFERENCE.search(text) for text in changing) or any(
            id(other) in holding for other in named(part, everything)
        )
        if holds and "__clear__" not in has and type_.name not in UNCLEARED:
            yield f"{type_.name} holds Python objects that change and has no __clear__"


def test_every_class_that_holds_python_objects_is_visible_to_the_collector() -> None:
    everything, code = read(SOURCES)
    classes = [type_ for type_ in everything if type_.pyclass is not None]
    assert len(classes) > 20
    assert list(faults(everything, code)) == []
    gone = (UNSEEN.keys() | UNCLEARED.keys()) - {type_.name for type_ in classes}
    assert not gone, "an exemption for a class that is gone"


def test_every_field_that_holds_python_objects_is_visited() -> None:
    unseen = set(unseen_fields(*read(SOURCES)))
    assert unseen == set(UNNAMED), "a field or a variant to visit, or an exemption for none"


def test_the_reader_of_fields_finds_what_is_missing() -> None:
    text = """
    #[pyclass(frozen)]
    struct Class {
        shown: Py<PyAny>,
        /// Not shown.
        pub(super) hidden: Option<Py<PyAny>>,
        name: Py<PyString>,
        state: OwnerCell<State>,
    }
    struct State {
        waiters: Vec<Py<PyAny>>,
        count: u32,
        forgotten: Inner,
    }
    enum Inner {
        None,
        Some(Py<PyAny>),
        Ignored(u32, Lent),
        Named { number: u32, object: Py<PyAny> },
        Shown(Lent),
        Text(Py<PyString>),
    }
    struct Lent { view: Box<ffi::Py_buffer> }
    struct Unrelated { object: Py<PyAny> }
    impl Class {
        fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
            visit.call(&self.shown)?;
            self.state.visit(|state| state.waiters)
        }
        fn visit(&self) {
            match self {
                Inner::Shown(lent) => Ok(()),
                Self::Ignored(_, _) | Self::Named { number: _, object: _ } | Self::Some(..) => Ok(()),
            }
        }
        fn other(&self) { self.hidden }
    }
    """
    code = rust_code(text)
    everything = list(types_of(SOURCES / "example.rs", text))
    assert sorted(unseen_fields(everything, code)) == [
        "Class.hidden",
        "Inner::Ignored",
        "Inner::Named",
        "Inner::Some",
        "Lent.view",
        "State.forgotten",
    ]


def test_the_reader_of_classes_finds_what_is_missing() -> None:
    text = """
    #[pyclass(frozen)]
    struct Seen { a: Py<PyAny> }
    #[pymethods]
    impl Seen { fn __traverse__(&self) {} }
    #[pyclass]
    #[derive(Debug)]
    pub struct Bare { a: u32 }
    #[pyclass]
    struct Hidden { a: Vec<Inner> }
    enum Inner { None, Some(Deep) }
    struct Deep(Option<Py<PyAny>>);
    #[pyclass]
    struct Kept { a: u32, b: OwnerCell<Deep> }
    impl Kept { fn __traverse__(&self) { if x { } } }
    macro_rules! shown { ($($class:ident),+) => {$( impl $class { fn __traverse__(&self) {} } )+} }
    #[pyclass]
    struct Written { a: IoTransport<Deep> }
    shown!(Seen, Written);
    """
    everything = list(types_of(SOURCES / "example.rs", text))
    assert list(faults(everything, rust_code(text))) == [
        "Hidden holds Python objects and has no __traverse__",
        "Kept holds Python objects that change and has no __clear__",
        "Written holds Python objects that change and has no __clear__",
    ]
