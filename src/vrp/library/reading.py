"""What was read for one answer: the rows that a study's tables hold for an item, and figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from vrp.data.item import Item
from vrp.errors import InputError
from vrp.signals.structural import average_layers
from vrp.tables.arrays import as_matrices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BY_LAYER = (
    "decision_margin", "truth_margin", "attention_contribution", "mlp_contribution",
    "residual_update",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Reading:
    """One answer and what was read with it; returned by `Model.read`."""

    item: Item
    """The question and what is known of its answer."""
    image: Image.Image
    """The image."""
    tables: Mapping[str, pl.DataFrame]
    """Table → its row (in `hidden`, one row per position), as in a study's files."""
    signals: Mapping[str, float]
    """Signal → value, as in `signals.parquet`; NaN where it is missing."""
    image_policy: str
    """How the image was resized or cropped."""

    def __repr__(self) -> str:
        """Show question, answer and the signal that costs nothing."""
        confidence = self.signals.get("token_confidence", float("nan"))
        return (
            f"Reading({self.item.question!r} → {self.answer!r}, correct={self.correct}, "
            f"token_confidence={confidence:.4f})"
        )

    @property
    def answer(self) -> str:
        """The greedy answer."""
        return str(self.tables["answers"]["answer"][0])

    @property
    def parsed(self) -> str | None:
        """The parsed answer: yes or no, or the normalised answer; None: unparsed."""
        found = self.tables["answers"]["parsed"][0]
        return None if found is None else str(found)

    @property
    def correct(self) -> bool | None:
        """Whether the answer is right; None: not known."""
        found = self.tables["answers"]["correct"][0]
        return None if found is None else bool(found)

    @property
    def token_logprobs(self) -> NDArray[np.float32]:
        """(n,) log-probabilities of the answer's tokens, nats."""
        return self.tables["answers"]["token_logprobs"][0].to_numpy()

    @property
    def attention(self) -> NDArray[np.float32] | None:
        """(n_layers, grid_h, grid_w) attention to the image tokens, which sums to 1 in each layer;
        None: not captured."""
        row = self.tables["attention"]
        if row["maps"].null_count():
            return None
        (maps,) = as_matrices(row["maps"])
        return maps.reshape(len(maps), row["grid_h"][0], row["grid_w"][0])

    @property
    def lens(self) -> pl.DataFrame:
        """One row a decoder layer: margins, contributions and residual update, in logits but for
        the update; without what was not captured."""
        row = self.tables["lens"].select(_BY_LAYER)
        known = [name for name in _BY_LAYER if not row[name].null_count()]
        return row.select(known).explode(known).with_row_index("layer")

    @property
    def hidden(self) -> NDArray[np.floating]:
        """(n_layers + 1, d_model) residual stream at the prompt's end: embedding, then every
        layer."""
        row = self.tables["hidden"].filter(position="prompt_end")
        return np.vstack([row[name].to_numpy() for name in row.columns[2:]])

    @property
    def samples(self) -> tuple[str, ...]:
        """Sampled answers, in the order in which they were drawn; empty: none were."""
        row = self.tables.get("consistency")
        return () if row is None else tuple(row["answers"][0])

    @property
    def distribution(self) -> dict[str, float]:
        """Normalised answer → its exact probability under the sampling, largest first; what is
        missing to 1 is unresolved. Empty: not followed."""
        row = self.tables.get("consistency")
        if row is None or row["exact_answers"].null_count():
            return {}
        return dict(zip(row["exact_answers"][0], row["exact_probabilities"][0], strict=True))

    def to_frame(self) -> pl.DataFrame:
        """One row: the item, its answer and every signal."""
        known = {"item_id": self.item.item_id, "question": self.item.question}
        given = {"answer": self.answer, "parsed": self.parsed, "correct": self.correct}
        return pl.DataFrame([known | given | dict(self.signals)])

    def plot_attention(self, layer: int | None = None) -> "Figure":
        """Draw the attention of a decoder layer, or the mean of all, on the image.

        Raises:
            InputError: attention was not captured, is undefined, or there is no such layer.
        """
        from vrp.plots.reading import draw_attention
        from vrp.report.overlays import attention_on_image, fitted
        from vrp.signals.boxes import grid_window

        maps = self.attention
        if maps is None:
            raise InputError("attention was not captured: add it to capture")
        if layer is not None and not 0 <= layer < len(maps):
            raise InputError(f"layer {layer}: the model has layers 0 to {len(maps) - 1}")
        flat = average_layers(maps.reshape(1, len(maps), -1).astype(np.float64))[0]
        grid = maps[layer] if layer is not None else flat.reshape(maps.shape[1:])
        if not (np.isfinite(grid).all() and grid.max() > 0):
            raise InputError(f"the attention is undefined: {self.tables['attention']['note'][0]}")
        window = grid_window(self.image.size, self.image_policy)
        attended = attention_on_image(self.image, np.asarray(grid, dtype=np.float64), window)
        which = "mean over layers" if layer is None else f"layer {layer}"
        return draw_attention(fitted(self.image), attended, self._title, which)

    def plot_lens(self) -> "Figure":
        """Draw the margins of the logit lens and the contributions of attention and MLPs by layer.

        Raises:
            InputError: neither was captured.
        """
        from vrp.plots.reading import draw_lens

        lens = self.lens
        if not set(_BY_LAYER[:4]) & set(lens.columns):
            raise InputError("the lens was not captured: add lens or contributions to capture")
        return draw_lens(lens, self._title)

    @property
    def _title(self) -> str:
        return f"{self.item.question} → {self.answer}"
