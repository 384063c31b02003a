"""MkDocs' hook: adds the pages that follow from the code, from records and from other files."""

import re
from collections.abc import Callable
from pathlib import Path

from capability_page import capability_page
from command_page import command_page
from gallery import gallery_page, gallery_pictures
from included_pages import for_the_site, included_pages
from measured_pages import performance_page, simulation_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from signal_page import signal_page
from stage_pages import stage_pages
from table_page import table_page

_PAGES: dict[str, Callable[[], str]] = {
    "tables.md": table_page,
    "signals.md": signal_page,
    "capabilities.md": capability_page,
    "commands.md": command_page,
    "performance.md": performance_page,
    "simulations.md": simulation_page,
    "gallery.md": gallery_page,
}


_ASSETS = Path(__file__).parents[1] / "assets"
_DRAWING = re.compile(r'<img[^>]* src="assets/(\w+\.svg)"[^>]*>')
_SHIM, _SHIM_HERE = "https://unpkg.com/iframe-worker/shim", "assets/frame-worker.js"
_DIALOG = 'data-md-component="search" role="dialog"'


def generated_pages() -> dict[str, str]:
    """Return address → Markdown of every page that is made while the site is built."""
    pages = {address: make() for address, make in _PAGES.items()}
    return {**pages, **stage_pages(), **included_pages()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List one page a stage below the page of all stages."""
    [reference] = [part["Reference"] for part in config.nav if "Reference" in part]
    for place, entry in enumerate(reference):
        if entry == {"Stages": "stages.md"}:
            reference[place] = {"Stages": ["stages.md", *stage_pages()]}
    return config


def on_page_markdown(text: str, page: Page, **_: object) -> str:
    """Lead links to files of the repository to where the site has them."""
    address = page.file.src_uri
    written = page.file.generated_by is None
    return for_the_site(text, f"docs/{address}", address) if written else text


def on_page_content(html: str, **_: object) -> str:
    """Put drawings into the page, where they take its colours."""
    return _DRAWING.sub(lambda drawing: (_ASSETS / drawing[1]).read_text(encoding="utf-8"), html)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Load the script that searches without a server from the site, not from elsewhere; name the
    search for screen readers."""
    output = output.replace(_SHIM, get_relative_url(_SHIM_HERE, page.url))
    return output.replace(_DIALOG, f'{_DIALOG} aria-label="Search"')


def on_post_template(output: str, **_: object) -> str:
    """Do the same for the page that a server shows where there is none."""
    return output.replace(_SHIM, f"/{_SHIM_HERE}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the gallery's pictures."""
    for address, content in generated_pages().items():
        files.append(File.generated(config, address, content=content))
    for address, path in gallery_pictures().items():
        files.append(File.generated(config, address, abs_src_path=str(path)))
    return files
