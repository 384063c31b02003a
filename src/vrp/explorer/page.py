"""The explorer's page: filters, list and card, and what they need to know of the study."""

import json
from importlib import resources
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vrp.data.datasets import tasks_in_order
from vrp.data.item import EXISTENCE
from vrp.estimates.predictors import SYMBOL, predictor_label
from vrp.explorer.answers import ModelAnswers
from vrp.explorer.attention import MAP_STEPS
from vrp.explorer.rules import RULES
from vrp.interventions.conditions import StudyConditions
from vrp.interventions.masking import MaskCondition
from vrp.report.page_templates import script_source
from vrp.signals.registry import SIGNALS
from vrp.study.explorer_files import ExplorerFiles, cut_points

_COLOURS = "inferno"


class PageFacts(NamedTuple):
    """What the page is told; all else it loads."""

    study: str
    """Name of the study."""
    items: pl.DataFrame
    """Items in the explorer's order."""
    answers: list[ModelAnswers]
    """Of each model."""
    conditions: StudyConditions
    """Conditions of the interventions."""
    masking: MaskCondition
    """The masking whose tokens are shown."""
    policies: dict[str, str]
    """Model → how it makes images fit."""
    files: ExplorerFiles
    """Names of the explorer's files."""
    folder: str
    """Their folder, relative to the page."""
    stamps: dict[str, str]
    """File → its stamp."""
    vqa_threshold: float
    """VQA accuracy at which an answer is right."""


def render_explorer(facts: PageFacts) -> str:
    """Return the page; every text that comes from data is escaped.

    It loads no file but its own, and no script but its own runs.
    """
    environment = Environment(
        loader=PackageLoader("vrp.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates = resources.files("vrp.explorer") / "templates"
    script = (templates / "explorer.js").read_text(encoding="utf-8")
    style = (resources.files("vrp.report") / "templates/style.css").read_text(encoding="utf-8")
    style += (templates / "explorer.css").read_text(encoding="utf-8")
    facts_json = json.dumps(_facts(facts), separators=(",", ":"), ensure_ascii=True)
    return environment.get_template("explorer.html.j2").render(
        study=facts.study,
        n_items=len(facts.items),
        models=[one.name for one in facts.answers],
        first_rule=RULES[0].label,
        script=Markup(script),
        script_hash=script_source(script),
        style=Markup(style),
        # No text of the data can end the element that holds it.
        facts=Markup(facts_json.replace("<", "\\u003c").replace(">", "\\u003e")),
    )


def _facts(facts: PageFacts) -> dict[str, Any]:
    items, files = facts.items, facts.files
    n_images = items["picture"].n_unique()
    return {
        "study": facts.study,
        "folder": facts.folder,
        "stamps": facts.stamps,
        "items": _cuts(files.items, len(items)),
        "images": _cuts(files.images, n_images),
        "models": [_model_facts(facts, one) for one in facts.answers],
        "tasks": tasks_in_order(items["task"], items["dataset"]),
        "signals": {
            name: {
                "label": one.label,
                "way": one.reliable_when or "",
                "description": one.description,
            }
            for name, one in SIGNALS.items()
        },
        "probes": {name: predictor_label(name) for one in facts.answers for name in one.probes},
        "conditions": {
            table: [[name, one.label] for name, one in facts.conditions.of(table).items()]
            for table in ("mask", "ablate")
        },
        "masking": facts.masking.label,
        "yesNoTask": EXISTENCE,
        "vqaThreshold": facts.vqa_threshold,
        "symbol": SYMBOL.pattern,
        "rules": [[rule.name, rule.label, rule.description] for rule in RULES],
        "mapSteps": MAP_STEPS,
        "colours": _colours(),
    }


def _model_facts(facts: PageFacts, answers: ModelAnswers) -> dict[str, Any]:
    name, n_items = answers.name, len(facts.items)
    return {
        "name": name,
        "policy": facts.policies[name],
        "answers": _cuts(facts.files.answers[name], n_items),
        "details": _cuts(facts.files.details[name], n_items),
        "signals": answers.signals,
        "probes": answers.probes,
    }


def _cuts(names: list[str], n_rows: int) -> dict[str, Any]:
    return {"files": names, "starts": cut_points(n_rows, len(names))}


def _colours() -> list[list[int]]:
    """Colour of each of a map's steps, as in the report's overlays."""
    share = np.arange(MAP_STEPS + 1) / MAP_STEPS
    colours = mpl.colormaps[_COLOURS](0.3 + 0.7 * share)[:, :3]
    rounded: list[list[int]] = np.rint(255 * colours).astype(int).tolist()
    return rounded
