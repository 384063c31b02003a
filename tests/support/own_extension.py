"""One of everything that an extension can add, as a user's file would."""

import json

import numpy as np
from matplotlib.figure import Figure

from vrp.data.dataset import Dataset
from vrp.data.datasets import register_dataset
from vrp.data.item import Question, Reading
from vrp.interventions.conditions import register_condition
from vrp.interventions.masking import MaskKind
from vrp.plots.figures import FigureSpec, register_figure
from vrp.signals.registry import Signal, register_signal
from vrp.signals.structural import token_count
from vrp.tables.signals import signal_table
from vrp.vlm.families import get_family, register_family


def answer_count(inputs):
    return np.array([len(set(answers)) for answers in inputs["consistency.normalised"]], float)


register_signal(
    Signal(
        name="answer_count", label="distinct answers D", kind="behavioural",
        reliable_when="low", deployable=True, unit="answers",
        description="number of distinct answers among K samples",
        needs=("consistency.normalised",), compute=answer_count,
    )
)  # fmt: skip

DISTINCT = signal_table().only("answer_count")


def draw(study):
    figure = Figure()
    axes = figure.subplots()
    for model in study.models:
        axes.hist(model.table(DISTINCT)["answer_count"], label=model.name)
    axes.set_title("How many answers there are")
    return figure


register_figure(
    FigureSpec(
        name="answer_counts", order=200, title="Distinct answers",
        caption="Number of distinct answers of every item.", tables=(DISTINCT,), draw=draw,
    )
)  # fmt: skip


def read_colours(places, images, splits):
    readings = {}
    for split, task in splits.items():
        rows = json.loads(places.path("colours", split).read_text())
        questions = tuple(
            Question("colours", split, task, str(i), images.find(name), "What color is it?",
                     [colour], colour)
            for i, (name, colour) in enumerate(rows)
        )  # fmt: skip
        readings[split] = Reading("colours", split, len(rows), questions)
    return readings


register_dataset(
    Dataset(
        name="colours", tasks=("colour",), splits=("all",),
        files={"colours": "colours_{split}.json"}, images="colours", read=read_colours,
    )
)  # fmt: skip


def upper_half(image, share):
    return np.arange(token_count(image.grid_h * image.grid_w, share))


register_condition(MaskKind("upper", "uppermost", hides=upper_half, control="random"))


class Polite(get_family("llava")):
    """LLaVA, asked politely."""

    name = "polite"


register_family(Polite)
