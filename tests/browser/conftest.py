"""Chromium, where it is installed: pages are opened from disk, and what they ask for is seen."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@dataclass
class Opened:
    """A page, and what happened in it."""

    page: Any
    """Playwright's page."""
    errors: list[str] = field(default_factory=list)
    """What it said in the console as a warning or an error, and what its scripts threw."""
    requests: list[str] = field(default_factory=list)
    """What it asked for that is not on the disk."""

    def serious(self) -> list[str]:
        """Findings of axe-core that are serious or worse: rule, and the first place."""
        from axe_playwright_python.base import AXE_SCRIPT

        # Evaluated and not added as a script, which the page's policy would forbid.
        self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, one a session."""
    if os.environ.get("VRP_BROWSER_TESTS") != "required":
        pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
        if CHROMIUM is None:
            pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs rights that a container may lack; the pages are our own.
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file in a window of its own: `open_page(path, color_scheme="dark")`."""
    contexts = []

    def opened(path: Path, fragment: str = "", **options: Any) -> Opened:
        plain = {"viewport": {"width": 1100, "height": 900}, "reduced_motion": "reduce"}
        options = {**plain, **options}
        contexts.append(browser.new_context(**options))
        found = Opened(contexts[-1].new_page())
        found.page.on(
            "console",
            lambda message: (
                found.errors.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on(
            "request",
            lambda request: (
                found.requests.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        found.page.goto(f"{path.as_uri()}{fragment}")
        return found

    yield opened
    for context in contexts:
        context.close()
