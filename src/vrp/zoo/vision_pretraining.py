"""Scenes as the towers see them, and the dense targets that teach a tower what is where.

Every image token (a cell of the processed image) learns to name the object it shows, its
colour, its own row and column, and how the object continues around it. The projection learns
to say the same in the decoder's words: a cell's embedding nears the embedding of its noun and
its colour, plus codes of row, column and object centre.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.masking_utils import eager_mask

from vrp.data.scenes.draw import CATEGORIES, Scene, draw_scene, scene_seed
from vrp.data.scenes.icons import COLORS
from vrp.data.scenes.questions import plural
from vrp.zoo.architectures import CELL, D_MODEL, IMAGE_SIDE, Family, VisionParts
from vrp.zoo.tokenizer import word_id
from vrp.zoo.training_phase import StepOutcome

MAX_GRID: Final = 16
_ENCODED_AT_ONCE: Final = 64  # images
_MIN_SHARE: Final = 0.2
"""Share of a cell that an object must fill for the cell to be named after it."""


def cell_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Full attention among an image's patches, in bfloat16 throughout under autocast.

    Equal to eager attention without a mask, and faster on a CPU, since the softmax is not
    computed in float32. All inputs are (B, heads, L, d).
    """
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else query.dtype
    with torch.autocast("cpu", enabled=False):
        scores = (query * scaling).to(dtype) @ key.to(dtype).transpose(2, 3)
        out = scores.softmax(-1) @ value.to(dtype)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("vrp_cells", cell_attention)
AttentionMaskInterface.register("vrp_cells", eager_mask)


def image_inputs(
    processor: ProcessorMixin, images: Sequence[Image.Image]
) -> list[dict[str, Tensor]]:
    """Run a processor's image half; one dict of tensors per image, ready for `collate_images`."""
    out = processor.image_processor(images=list(images), return_tensors="pt")
    pixels = out["pixel_values"]
    if "image_grid_thw" not in out:
        return [{"pixel_values": p} for p in pixels]
    grids = out["image_grid_thw"]
    parts = pixels.split(grids.prod(-1).tolist())
    return [{"pixel_values": p, "image_grid_thw": g} for p, g in zip(parts, grids, strict=True)]


def collate_images(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join images into one batch, as a family's vision tower takes them."""
    if "image_grid_thw" not in rows[0]:
        return {"pixel_values": torch.stack([r["pixel_values"].float() for r in rows])}
    return {
        "pixel_values": torch.cat([r["pixel_values"].float() for r in rows]),
        "image_grid_thw": torch.stack([r["image_grid_thw"] for r in rows]),
    }


def _as_processed(family: Family, instance_map: NDArray[np.int16]) -> NDArray[np.int16]:
    """Pad or warp an instance map the way the family's processor does with the image."""
    height, width = instance_map.shape
    if family == "qwen2_vl":
        return instance_map
    if family == "llava":
        side = max(height, width)
        square = np.full((side, side), -1, np.int16)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = instance_map
        instance_map = square
    rows = (np.arange(IMAGE_SIDE) + 0.5) * instance_map.shape[0] / IMAGE_SIDE
    columns = (np.arange(IMAGE_SIDE) + 0.5) * instance_map.shape[1] / IMAGE_SIDE
    return instance_map[np.ix_(rows.astype(int), columns.astype(int))]


class CellTargets(NamedTuple):
    """What each cell of one or many images shows; every field has one row per cell."""

    category: Tensor
    """Index into `CATEGORIES`, or their number for background."""
    color: Tensor
    """Index into `COLORS`, −100 for background."""
    row: Tensor
    column: Tensor
    place: Tensor
    """(n, 2) row and column scaled to −1 … 1."""
    centre: Tensor
    """1 where the cell holds the centre of what is seen of an object, else 0."""
    offset: Tensor
    """(n, 2) from the cell to the centre of its object, in cells; 0 for background."""
    extent: Tensor
    """log2 of the number of cells that the object fills; 0 for background."""


def cell_targets(family: Family, scene: Scene) -> CellTargets:
    """Return the dense targets of a scene, cells in row-major order."""
    seen = _as_processed(family, scene.instance_map)
    n_rows, n_columns = seen.shape[0] // CELL, seen.shape[1] // CELL
    n_objects = len(scene.objects)
    cells = seen.reshape(n_rows, CELL, n_columns, CELL).swapaxes(1, 2).reshape(-1, CELL * CELL)
    shares = np.stack([(cells == k).mean(1) for k in range(n_objects)], axis=1)
    owner = np.where(shares.max(1) >= _MIN_SHARE, shares.argmax(1), -1)
    rows, columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    centre = np.zeros(len(owner))
    offset = np.zeros((len(owner), 2))
    extent = np.zeros(len(owner))
    for k in range(n_objects):
        ys, xs = np.nonzero(seen == k)
        y, x = ys.mean() / CELL, xs.mean() / CELL
        centre[int(y) * n_columns + int(x)] = 1
        mine = owner == k
        offset[mine] = np.stack([y - rows[mine] - 0.5, x - columns[mine] - 0.5], axis=1)
        extent[mine] = np.log2(max(len(ys) / CELL**2, 0.5)) + 1
    names = [CATEGORIES.index(o.category) for o in scene.objects] + [len(CATEGORIES)]
    colors = [list(COLORS).index(o.color) for o in scene.objects] + [-100]
    place = np.stack([rows / (n_rows - 1), columns / (n_columns - 1)], axis=1) * 2 - 1
    return CellTargets(
        category=torch.tensor(names)[owner],
        color=torch.tensor(colors)[owner],
        row=torch.from_numpy(rows),
        column=torch.from_numpy(columns),
        place=torch.from_numpy(place).float(),
        centre=torch.from_numpy(centre).float(),
        offset=torch.from_numpy(offset).float(),
        extent=torch.from_numpy(extent).float(),
    )


def join_targets(targets: Sequence[CellTargets]) -> CellTargets:
    """Return the targets of many images, one after the other."""
    return CellTargets(*(torch.cat(parts) for parts in zip(*targets, strict=True)))


class SceneBank:
    """Scenes of a namespace, processed for one family and kept in memory."""

    def __init__(
        self, family: Family, processor: ProcessorMixin, namespace: str, indices: Sequence[int]
    ) -> None:
        self.scenes: list[Scene] = []
        self.inputs: list[dict[str, Tensor]] = []
        self.targets: list[CellTargets] = []
        for index in tqdm(indices, desc="scenes", mininterval=5):
            scene = draw_scene(scene_seed(namespace, index))
            (row,) = image_inputs(processor, [scene.image])
            row["pixel_values"] = row["pixel_values"].half()
            self.scenes.append(scene)
            self.inputs.append(row)
            self.targets.append(cell_targets(family, scene))


class CellHeads(nn.Module):
    """Linear read-outs of one cell's features; thrown away after the pretraining."""

    def __init__(self, d_vision: int) -> None:
        super().__init__()
        self.sizes = (len(CATEGORIES) + 1, len(COLORS), MAX_GRID, MAX_GRID, 1, 2, 1)
        self.norm = nn.LayerNorm(d_vision)
        self.linear = nn.Linear(d_vision, sum(self.sizes))

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the logits or values of each target, (n_cells, its size)."""
        return self.linear(self.norm(features)).float().split(self.sizes, dim=-1)


@torch.no_grad()
def tie_plurals(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Start every form of a noun or colour near one embedding; return the ids of the main forms.

    The main form is the word after a space, as it stands within a question.
    """
    weight = model.get_input_embeddings().weight
    main = [word_id(tokenizer, w) for w in (*CATEGORIES, *COLORS)]
    for word, source in zip((*CATEGORIES, *COLORS), main, strict=True):
        forms = {word_id(tokenizer, word, after_space=False)}
        if word in CATEGORIES:
            forms |= {word_id(tokenizer, plural(word), after_space=s) for s in (True, False)}
        for form in forms - {source}:
            weight[form] = 0.9 * weight[source] + 0.3 * weight[form]
    return main


class WordTargets:
    """The embedding that a cell should have in the decoder's space, from its dense targets."""

    def __init__(self, model: PreTrainedModel, word_ids: list[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            words = model.get_input_embeddings()(torch.tensor(word_ids)).clone()
        self.scale = float(words.norm(dim=-1).mean())
        codes = torch.linalg.qr(torch.randn(D_MODEL, 5, generator=generator)).Q.T * self.scale
        background, self.row_code, self.column_code, self.centre_code, self.extent_code = codes
        self.nouns = torch.cat([words[: len(CATEGORIES)], background[None]])
        self.colors = torch.cat([words[len(CATEGORIES) :], torch.zeros(1, D_MODEL)])

    def __call__(self, t: CellTargets) -> Tensor:
        """Return (n_cells, d_model)."""
        return (
            self.nouns[t.category]
            + 0.7 * self.colors[t.color.clamp(min=-1)]
            + 0.7 * t.place[:, :1] * self.row_code
            + 0.7 * t.place[:, 1:] * self.column_code
            + 0.7 * t.centre[:, None] * self.centre_code
            + 0.15 * t.extent[:, None] * self.extent_code
        )


def vision_loss(
    features: Tensor, embeddings: Tensor, heads: CellHeads, words: WordTargets, t: CellTargets
) -> StepOutcome:
    """Return the dense loss of a batch.

    Args:
        features: (n_cells, d_vision), before projection.
        embeddings: (n_cells, d_model), after projection.
        heads: the linear read-outs.
        words: the target embeddings.
        t: the targets of the same cells.
    """
    category, color, row, column, centre, offset, extent = heads(features)
    shown = t.category < len(CATEGORIES)
    weight = torch.where(shown, 1.0, 0.3)
    naming = (functional.cross_entropy(category, t.category, reduction="none") * weight).mean()
    coloring = functional.cross_entropy(color, t.color, ignore_index=-100)
    placing = functional.cross_entropy(row, t.row) + functional.cross_entropy(column, t.column)
    centring = functional.binary_cross_entropy_with_logits(
        centre[:, 0], t.centre, pos_weight=torch.tensor(4.0)
    )
    shape = functional.smooth_l1_loss(offset[shown], t.offset[shown]) + functional.smooth_l1_loss(
        extent[shown, 0], t.extent[shown]
    )
    error = (embeddings.float() - words(t)).square().sum(-1) / words.scale**2
    speaking = (error * weight).mean()
    loss = 2 * naming + 0.7 * coloring + 0.3 * placing + 0.5 * centring + 0.5 * shape + speaking
    with torch.no_grad():
        right = category.argmax(-1) == t.category
        figures = {
            "category_accuracy": right[shown].float().mean().item(),
            "background_accuracy": right[~shown].float().mean().item(),
            "color_accuracy": (color.argmax(-1) == t.color)[shown].float().mean().item(),
            "row_accuracy": (row.argmax(-1) == t.row).float().mean().item(),
            "column_accuracy": (column.argmax(-1) == t.column).float().mean().item(),
            "centre_recall": (centre[t.centre > 0, 0] > 0).float().mean().item(),
            "centre_precision": t.centre[centre[:, 0] > 0].mean().item(),
            "word_error": speaking.item(),
        }
    return StepOutcome(loss, figures)


@torch.no_grad()
def encode_images(parts: VisionParts, inputs: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """Return each image's features before projection, float16 (n_cells, d_vision)."""
    features: list[Tensor] = []
    for start in tqdm(range(0, len(inputs), _ENCODED_AT_ONCE), desc="encoding", mininterval=5):
        with torch.autocast("cpu", torch.bfloat16):
            out = parts.encode(collate_images(inputs[start : start + _ENCODED_AT_ONCE]))
        features += [f.half() for f in out]
    return features
