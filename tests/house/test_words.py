"""The replaced words of the glossary in CONTRIBUTING.md stay out of the sources."""

import re

from tests.house import ROOT
from tests.house.sources import files, name

SUFFIXES = (".md", ".py", ".pyi", ".rs", ".sh", ".toml")
# The glossary names the words, and the change log has the history.
EXEMPT = {"CONTRIBUTING.md", "CHANGELOG.md"}


def replaced_words(text: str) -> set[str]:
    """The words that have left the sources: what is `code` in the columns of replaced words."""
    return {word for cell in replaced_cells(text) for word in re.findall(r"`([^`]+)`", cell)}


def replaced_cells(text: str) -> list[str]:
    """The cells of the columns of replaced words."""
    section = text.partition("\n## Words\n")[2].partition("\n## ")[0]
    found_cells: list[str] = []
    column = None
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            column = None
        elif column is None:
            column = next(number for number, cell in enumerate(cells) if cell in ("replaces", "avoid"))
        else:
            found_cells.append(cells[column])
    return found_cells


def as_words(text: str) -> str:
    """Text as lower-case words: identifiers taken apart, comment marks and line ends as spaces."""
    text = re.sub(r"^[ \t]*(?:///?!?|#:?|\*)", " ", text, flags=re.M)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.sub(r"[\s_]+", " ", text).lower()


def found(words: set[str], text: str) -> set[str]:
    """Which of ``words`` the words of ``text`` (from `as_words`) have, in the singular or the plural."""
    either = "|".join(map(re.escape, sorted(words)))
    return set(re.findall(rf"\b({either})s?\b", text))


def test_replaced_words_do_not_come_back() -> None:
    words = replaced_words((ROOT / "CONTRIBUTING.md").read_text())
    assert words
    paths = [path for path in files(*SUFFIXES) if name(path) not in EXEMPT]
    assert len(paths) > 100
    back = {name(path): there for path in paths if (there := found(words, as_words(path.read_text())))}
    assert not back, "the glossary in CONTRIBUTING.md has the word to use"


def test_no_replaced_word_is_only_announced() -> None:
    """A word in italics would be one that nothing keeps out."""
    cells = replaced_cells((ROOT / "CONTRIBUTING.md").read_text())
    assert cells
    assert not [cell for cell in cells if re.sub(r"`[^`]+`", "", cell).count("*")]


def test_the_glossary_is_read() -> None:
    table = "| term | meaning | replaces |\n|---|---|---|\n| a | `b` | `old word`, other |\n"
    text = f"`no`\n## Words\n\n{table}\nnor `this`\n\n## Next\n{table.replace('old', 'other')}"
    assert replaced_words(text) == {"old word"}


def test_words_are_found_in_identifiers_and_across_lines() -> None:
    for text in ("struct OldWords;", "fn old_word()", "/// an old\n    /// word", "# the Old\n# word."):
        assert found({"old word", "none"}, as_words(text)) == {"old word"}, text
    assert not found({"old word"}, as_words("the older wordy thing, olds word"))
