"""Every link of the documents leads to a file or a heading that there is."""

import re
from pathlib import Path

import pytest
from documents import HAND_WRITTEN, ROOT

GENERATED = {
    "capabilities.md", "commands.md", "gallery.md", "performance.md", "signals.md",
    "simulations.md", "tables.md",
}  # fmt: skip
"""Pages that are made while the site is built, which checks links to them."""
INCLUDED = {
    "architecture.md", "changelog.md", "configuration.md", "contributing.md", "profiles.md",
}  # fmt: skip
"""Pages of the site that stand elsewhere in the repository."""
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"\s", "-", heading) for heading in plain}


def leads_nowhere(page: Path, link: str) -> bool:
    place, _, anchor = link.partition("#")
    target = (page.parent / place).resolve() if place else page
    if (ROOT / "docs") in target.parents and target.name in GENERATED:
        return target.parent != ROOT / "docs"
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [link for link in LINK.findall(text) if leads_nowhere(page, link)]


def test_generated_pages_are_those_of_the_hook():
    pytest.importorskip("mkdocs", reason="the site's tools are not installed")
    from site_pages import generated_pages

    made = set(generated_pages())
    assert {address for address in made if "/" not in address} == GENERATED | INCLUDED
    assert all("/" not in one or one.startswith("stages/") for one in made)
    assert all(text.startswith(("# ", "## ")) for text in generated_pages().values())


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[:-] ([\w/-]+\.md)$", text, flags=re.MULTILINE))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert named == pages | GENERATED | INCLUDED
