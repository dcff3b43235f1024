"""The pages: links lead somewhere, the reference is complete, each has a place in the navigation, and reads well."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import paco
from tools import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"(?<!\\)\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
#: Phrases that do not read as English.
FOREIGN = re.compile(
    r"\b(whoever|somebody|everybody|for ever|there is such a thing|is told at|that is told|are told by)\b",
    re.IGNORECASE,
)


def prose(page):
    """Return the text of a page without its code."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1\n", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def slugs(page):
    """Return the anchors of a page: of its headings, and of the names that mkdocstrings describes."""
    text = prose(page)
    headings = [re.sub(r"[`*]", "", one).strip() for one in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    made = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in headings}
    return made | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def broken(page):
    """Return the links of a page that lead to no file or to no heading."""
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "`code`", prose(page))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in slugs(there)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page):
    assert list(broken(page)) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](page.md#one) [b](#two) [c](gone.md) [d](https://example.org)\n", "utf-8")
    assert list(broken(page)) == ["#two", "gone.md"]


def test_the_reference_is_as_it_is_generated():
    for path, text in reference.pages().items():
        assert path.read_text("utf-8") == text, "run python -m tools.reference"


def test_the_reference_has_each_public_name_once():
    names = Counter(name for theme in reference.THEMES for name in theme["names"].split() if "." not in name)
    assert dict(names) == dict.fromkeys(set(paco.__all__) - {"__version__"}, 1)


def test_what_the_reference_hides_is_there():
    for theme in reference.THEMES:
        assert all(callable(reference.found(name)) for name in theme.get("hidden", "").split()), theme["page"]


def listed(nav):
    """Return the pages of the navigation."""
    for entry in nav:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else listed(target)


def test_each_page_is_once_in_the_navigation():
    nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    assert sorted(listed(nav)) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_one_title_headings_in_order_and_texts_for_pictures(page):
    levels = [len(one) for one in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert "![](" not in prose(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_no_phrase_that_reads_as_translated(page):
    assert [found[0] for found in FOREIGN.finditer(prose(page))] == []


def test_each_table_has_a_name_for_each_column():
    """Screen readers announce the name of a column with each cell. Tables of measurements name their rows, too."""
    for page in [page for page in PAGES if page.name != "benchmarks.md"]:
        for header in re.findall(r"^(\|.*\|)\n\|[-:| ]+\|$", prose(page), re.MULTILINE):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", header)[1:-1]]
            assert all(cells), f"{page.name}: {header}"


def test_no_page_shows_a_backslash_before_a_bar():
    r"""In code of a table, `\|` is a bar on GitHub and a backslash and a bar on the site; `&#124;` is a bar on both."""
    for page in PAGES:
        assert [row for row in prose(page).splitlines() if row.startswith("|") and "\\|" in row] == [], page.name


def test_the_site_loads_nothing_from_other_servers():
    settings = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    assert settings["theme"]["font"] is False
    assert "http" not in (DOCS / "extra.css").read_text("utf-8")


def test_the_citation_has_the_version():
    assert f"\nversion: {paco.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
