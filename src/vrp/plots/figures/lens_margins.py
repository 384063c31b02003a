"""How the answer forms, read by the logit lens."""

import numpy as np
from matplotlib.figure import Figure

from vrp.plots.layer_values import (
    counts_note,
    draw_right_and_wrong,
    right_and_wrong_keys,
    stacked,
)
from vrp.plots.panels import (
    MAX_COLUMNS,
    absence,
    add_key,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.study_tables import StudyTables

NAME = "lens_margins"
ORDER = 70
TITLE = "How the answer forms, layer by layer (logit lens)"
CAPTION = (
    "Above: truth margin, the reference answer's logit minus the best other one; above zero the "
    "layer would answer right (a diagnostic, it holds the label). Below: decision margin, the top "
    "answer's lead over its runner-up, which needs no label. Means over items, 95% "
    "image-clustered intervals."
)

_ROWS = (("truth_margin", "truth margin, logits"), ("decision_margin", "decision margin, logits"))


def draw(study: StudyTables) -> Figure:
    """Draw truth and decision margin by layer, right answers against wrong ones."""
    drawn = model_panels(study, TITLE, heights=[2.5, 2.3])
    for place, (model, column) in enumerate(zip(study.models, drawn.columns, strict=True)):
        frame = study.judged(model, model.lens)
        right, groups = frame["answered_right"].to_numpy(), frame["group"].to_numpy()
        for row, (ax, (name, label)) in enumerate(zip(column, _ROWS, strict=True)):
            if reason := absence(frame, name):
                not_run(ax, reason)
                continue
            margins = stacked(frame[name])
            draw_right_and_wrong(ax, margins, right, groups)
            zero_line(ax)
            layer_axis(ax, margins.shape[1], label=row == len(_ROWS) - 1)
            if row == 0 or not np.isfinite(margins).all():
                note(ax, counts_note(margins, right))
            if place % MAX_COLUMNS == 0:
                ax.set_ylabel(label)
    add_key(drawn.figure, right_and_wrong_keys())
    return drawn.figure
