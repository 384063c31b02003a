"""What templates of pages share: filters, and the script that sorts and saves tables."""

import base64
import hashlib
import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vrp.estimates.predictors import SYMBOL
from vrp.report.numbers import decimal


def page_environment() -> Environment:
    """Templates that escape all text, with the script and its hash as `script`, `script_hash`."""
    environment = Environment(
        loader=PackageLoader("vrp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["symbols"] = symbols
    environment.filters["slug"] = slug
    environment.filters["multiple"] = lambda value: f"{decimal(value, 1)}×"
    script = _script()
    environment.globals["script"] = Markup(script)
    environment.globals["script_hash"] = script_source(script)
    return environment


def slug(text: str) -> str:
    """Anchor of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _script() -> str:
    """The page's script, which makes tables sortable and saves them as CSV."""
    return (resources.files("vrp.report") / "templates" / "page.js").read_text(encoding="utf-8")


def script_source(script: str) -> str:
    """What names a script in the page's content security policy: no other script can run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def symbols(text: str) -> Markup:
    """Escape a text and set the study's symbols with their index."""
    return Markup(SYMBOL.sub(r"<i>\1</i><sub>\2</sub>", str(escape(text))))
