"""What a reader, and a browser, find in a page of the report."""

import re
from typing import Any

from markupsafe import Markup


def text_of(html: str) -> str:
    """The page's words without its markup, styles and embedded images."""
    without = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(str(Markup(re.sub(r"<[^>]*>", " ", without)).unescape()).split())


def external_references(html: str) -> list[str]:
    """Everything in the page that a browser would fetch, or that is on the network; must be empty.

    What a reader may follow to a file beside the page is not fetched.
    """
    html = re.sub(r"""<a href="(?![a-z]+:|//)[^"]*">""", "<a>", html)
    found: list[Any] = re.findall(r"(?:src|href|srcset|poster|data)\s*=\s*[\"']([^\"']*)", html)
    found += re.findall(r"url\(\s*[\"']?([^\"')]*)", html)
    return [link for link in found if not link.startswith(("#", "data:"))]
