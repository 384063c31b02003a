"""Accuracy by task, with parse rate and yes-rate."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.data.datasets import tasks_in_order
from vrp.data.item import EXISTENCE
from vrp.plots.panels import add_key, dot_key, interval_dot, line_key, not_run, panels
from vrp.plots.style import DARK_GREY, model_colour
from vrp.study.results import StudyResults
from vrp.tables.estimates import METRICS
from vrp.tables.items import DISTINGUISHED_BY, ITEMS, asked_items

ORDER = 10
TITLE = "How often each model is right, and how it answers"
CAPTION = (
    "Dots are shares of items with 95% image-clustered intervals. A low parse rate, a yes-rate "
    "far from the share of questions whose answer is yes (dotted), or accuracy that depends on the "
    "answer given would mean that accuracy measures the answer's form rather than what was seen."
)
_ITEMS = ITEMS.only("reference", *DISTINGUISHED_BY)
TABLES = (_ITEMS, METRICS)

_EXISTENCE_ROWS = (
    ("yes_rate", "existence", "says yes"),
    ("accuracy", "answer_yes", "right when yes"),
    ("accuracy", "answer_no", "right when no"),
)
_SPREAD = 0.5  # of the distance between two rows, over which models are spread


def draw(study: StudyResults) -> Figure:
    """Draw accuracy, parse rate and the existence answers, models side by side."""
    figure, ((accuracy, parsed, existence),) = panels(
        TITLE, heights=[2.9], n_columns=3, widths=[1, 1, 1]
    )
    items = asked_items(study.table(_ITEMS))
    tasks = tasks_in_order(items["task"], items["dataset"])
    by_task = [(task, task) for task in tasks] + [("pooled", "all items")]
    titles = ("accuracy", "answers that could be parsed", "existence questions")
    rows = (
        [("accuracy", scope, label) for scope, label in by_task],
        [("parse_rate", scope, label) for scope, label in by_task],
        list(_EXISTENCE_ROWS),
    )
    for ax, title, wanted in zip((accuracy, parsed, existence), titles, rows, strict=True):
        ax.set_title(title)
        _draw_shares(ax, study, wanted)
    parsed.tick_params(labelleft=False)
    truth = items.filter(task=EXISTENCE)["reference"].drop_nulls()
    keys = [dot_key(model.name, model_colour(i)) for i, model in enumerate(study.models)]
    if len(truth) and keys:
        share = float((truth == "yes").to_numpy().mean())
        existence.vlines(share, -0.4, 0.4, color=DARK_GREY, linestyle=":", linewidth=1.5)
        keys.append(line_key("questions whose answer is yes", DARK_GREY, linestyle=":"))
    add_key(figure, keys)
    return figure


def _draw_shares(ax: Axes, study: StudyResults, rows: list[tuple[str, str, str]]) -> None:
    """One row of dots for each (metric, scope, label), models below each other within it."""
    drawn = 0
    for index, model in enumerate(study.models):
        offset = _SPREAD * ((index + 0.5) / len(study.models) - 0.5)
        shares = model.table(METRICS).filter(predictor="model")
        for place, (metric, scope, _) in enumerate(rows):
            found = shares.filter(metric=metric, scope=scope)
            for row in found.iter_rows(named=True):
                interval_dot(
                    ax, place + offset, row["value"], row["low"], row["high"],
                    colour=model_colour(index),
                )  # fmt: skip
                drawn += 1
    if not drawn:
        not_run(ax)
        return
    ax.set_yticks(range(len(rows)), [label for _, _, label in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1.03)
    ax.set_xlabel("share of items")
    ax.grid(visible=False, axis="y")
