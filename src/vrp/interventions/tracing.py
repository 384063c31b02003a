"""Conditions of the causal tracing: knockouts by layer window, patches by layer."""

from collections.abc import Mapping
from typing import NamedTuple

CLEAN, BLANK = "clean", "blank"
"""Kinds of the runs without an edit: with the image, and with a blank one."""
KNOCKOUT_IMAGE, KNOCKOUT_TEXT, PATCH = "knockout_image", "knockout_text", "patch"
KINDS: Mapping[str, str] = {
    KNOCKOUT_IMAGE: "no attention to the image",
    KNOCKOUT_TEXT: "no attention to the question",
    PATCH: "state patched into the run with a blank image",
}
"""Kind of edit → what it does, in words."""


class TraceCondition(NamedTuple):
    """One run of the prompt's last token."""

    kind: str
    """`clean`, `blank`, or one of `KINDS`."""
    layer: int = -1
    """First decoder layer that is changed; -1 where none is."""
    last_layer: int = -1
    """Last one of a knockout's window; of a patch, its layer."""

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute: a patch stands in for a layer's output."""
        return self.layer + 1 if self.kind == PATCH else self.layer


def window_length(window: int | None, n_layers: int) -> int:
    """Return the layers of a knockout's window.

    Args:
        window: `trace.window`.
        n_layers: decoder layers of the model.
    """
    return max(1, round(n_layers / 5)) if window is None else window


def trace_conditions(window: int | None, n_layers: int) -> list[TraceCondition]:
    """Return the edits of an item, in the order in which they run.

    Args:
        window: `trace.window`; the window moves by one layer at a time.
        n_layers: decoder layers of the model.
    """
    length = window_length(window, n_layers)
    windows = [(first, first + length - 1) for first in range(n_layers - length + 1)]
    found = [
        TraceCondition(kind, *layers)
        for kind in (KNOCKOUT_IMAGE, KNOCKOUT_TEXT)
        for layers in windows
    ]
    return found + [TraceCondition(PATCH, layer, layer) for layer in range(n_layers)]
