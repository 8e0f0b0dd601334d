"""The documents are short, and name links, files and targets that exist."""

import itertools
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bench.suites import SUITES
from tests.house import ROOT
from tests.house.sources import files, name

DOCUMENTS = [path for path in files(".md") if name(path) != "CHANGELOG.md"]
EVERY_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=map(name, DOCUMENTS))
#: Where the paths begin that a document may name from the repository's root.
TOP = ("bench", "crates", "docs", "examples", "fuzz", "python", "requirements", "tests", "tools")
#: What a command makes.
MADE = {"bench/results/partial.json"}


def prose(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY_DOCUMENT
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        if not to.exists() or (anchor and anchor not in anchors(to.read_text())):
            dead.append(target)
    assert not dead


@EVERY_DOCUMENT
def test_named_files_exist(path: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(TOP)})/[\w./*-]*)`", path.read_text())
    missing = [one for one in named if one not in MADE and not list(ROOT.glob(one.rstrip("/")))]
    assert not missing


@EVERY_DOCUMENT
def test_named_targets_exist(path: Path) -> None:
    text = path.read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.M))
    code = "\n".join(re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    named = set(re.findall(r"^make ([a-z][a-z-]*)", code, re.M))
    assert not named - targets


@pytest.mark.parametrize(("document", "most"), [("ARCHITECTURE.md", 250), ("README.md", 150)])
def test_a_document_stays_short(document: str, most: int) -> None:
    assert len((ROOT / document).read_text().splitlines()) <= most


def test_the_modules_named_in_commands_exist() -> None:
    commands = {
        module
        for path in DOCUMENTS
        for module in re.findall(r"python3? -m ((?:bench|tests|examples)[\w.]*)", path.read_text())
    }
    assert commands
    for module in commands:
        at = ROOT.joinpath(*module.split("."))
        assert at.with_suffix(".py").exists() or (at / "__main__.py").exists(), module


def test_the_rows_and_peers_named_in_commands_exist() -> None:
    named = 0
    for path in DOCUMENTS:
        for suite, options in re.findall(r"python3? -m bench (\w+) ([^`\n#]*)", path.read_text()):
            if suite not in SUITES:
                continue
            words = shlex.split(options)
            for option, value in itertools.pairwise(words):
                if option in ("--rows", "--profile-row"):
                    assert SUITES[suite].matching(value)
                    named += 1
                elif option == "--peers":
                    assert SUITES[suite].named(value)
    assert named > 2


def test_the_tools_named_in_commands_say_how_they_are_used() -> None:
    tools = {tool for path in DOCUMENTS for tool in re.findall(r"python3? (tools/\w+\.py)", path.read_text())}
    assert tools
    for tool in tools:
        subprocess.run(["python3", tool, "--help"], cwd=ROOT, check=True, capture_output=True)
