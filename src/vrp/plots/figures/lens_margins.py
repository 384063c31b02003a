"""Truth and decision margin of the logit lens, by layer."""

import numpy as np
from matplotlib.figure import Figure

from vrp.plots.layer_values import (
    by_layer,
    counts_note,
    draw_right_and_wrong,
    right_and_wrong_keys,
)
from vrp.plots.panels import (
    absence,
    add_key,
    layer_axis,
    model_panels,
    not_run,
    note,
    zero_line,
)
from vrp.plots.table_rows import ANSWERED, answered_rows
from vrp.study.results import StudyResults
from vrp.tables.lens import LENS

ORDER = 70
TITLE = "How the answer forms, layer by layer (logit lens)"
CAPTION = (
    "Above: truth margin, the reference answer's logit minus the best other one; above zero the "
    "layer would answer right (a diagnostic, it holds the label). Below: decision margin, the top "
    "answer's lead over its runner-up, which needs no label. Means over items, 95% "
    "image-clustered intervals."
)

_ROWS = (("truth_margin", "truth margin, logits"), ("decision_margin", "decision margin, logits"))
_LENS = LENS.only(*(name for name, _ in _ROWS))
TABLES = (_LENS, *ANSWERED)


def draw(study: StudyResults) -> Figure:
    """Draw truth and decision margin by layer, right answers against wrong ones."""
    figure, columns = model_panels(
        study, TITLE, heights=[2.5, 2.3], y_labels=[label for _, label in _ROWS]
    )
    for model, column in columns:
        frame = answered_rows(study, model, model.table(_LENS))
        right, groups = frame["answered_right"].to_numpy(), frame["group"].to_numpy()
        for row, (ax, (name, _)) in enumerate(zip(column, _ROWS, strict=True)):
            if reason := absence(frame, name):
                not_run(ax, reason)
                continue
            margins = by_layer(frame[name])
            draw_right_and_wrong(ax, margins, right, groups)
            zero_line(ax)
            layer_axis(ax, margins.shape[1], label=row == len(_ROWS) - 1)
            if row == 0 or not np.isfinite(margins).all():
                note(ax, counts_note(margins, right))
    add_key(figure, right_and_wrong_keys())
    return figure
