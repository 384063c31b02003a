"""The site builds without a warning, and its pages load nothing from elsewhere."""

import os
import re
import subprocess
import sys

import pytest
from documents import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site's tools are not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "VRP_DEMO": str(folder / "none"), "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe|link)[^>]+(?:src|href)=[\"']?(https?:[^\s\"'>]+)",
            page.read_text(),
        )
        assert not loaded, page.name


def test_code_stylesheets_and_search_name_no_other_server(site):
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", path.read_text()), path.name
    assert "frame-worker.js" in (site / "index.html").read_text()
    assert (site / "assets" / "frame-worker.js").is_file()
    assert (site / "search" / "search_index.js").is_file()


def test_without_a_demo_the_gallery_says_how_to_make_one(site):
    text = (site / "gallery.html").read_text()
    assert "make demo" in text
    assert "gallery/" not in re.sub(r"<nav.*?</nav>", "", text, flags=re.DOTALL)
