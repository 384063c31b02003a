"""What can be done to an item before it is answered: hide image tokens, or change the image.

`AttentionMask` and `EmbeddingReplacement` act inside the model, on a batch that is prepared once;
`grey_patches` and `blank_image` make another image. Edits of the residual stream are in
`vrp.vlm.residual`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.dropped_tokens import without_tokens
from vrp.vlm.model import VLM
from vrp.vlm.prefill import Prepared

MID_GREY = (128, 128, 128)


@dataclass(frozen=True)
class AttentionMask:
    """Image tokens that no query but their own may attend to, in all layers and decode steps."""

    keep: Sequence[np.ndarray]
    """Per item of the batch (S_i,) boolean, True where the token stays visible."""

    def part(self, rows: slice) -> "AttentionMask":
        """Return the same for some items of the batch."""
        return AttentionMask(self.keep[rows])

    def dropped(
        self, vlm: VLM, prepared: Prepared, *, read: bool
    ) -> "tuple[Prepared, AttentionMask | None]":
        """Return the batch without the hidden tokens, where that can be, and what is left to hide.

        Args:
            vlm: the model.
            prepared: the batch.
            read: whether something is read of image tokens, hidden ones included.
        """
        _check(self.keep, prepared)
        if all(map(np.all, self.keep)):
            return prepared, None
        if read or not vlm.family.drops_tokens(vlm.model):
            return prepared, self
        return without_tokens(vlm, prepared, self.keep), None

    def columns(self, prepared: Prepared) -> torch.Tensor:
        """Return (B, T), False at the hidden positions of the padded prompts."""
        _check(self.keep, prepared)
        columns = torch.ones_like(prepared.input_ids, dtype=torch.bool)
        for row, (keep, grid) in enumerate(zip(self.keep, prepared.grids, strict=True)):
            index = prepared.image_index[row, : grid.n_tokens]
            columns[row, index] = torch.as_tensor(keep, dtype=torch.bool, device=index.device)
        return columns


@dataclass(frozen=True)
class EmbeddingReplacement:
    """Image tokens whose embedding another one stands in for, before the language model."""

    keep: Sequence[np.ndarray]
    """Per item of the batch (S_i,) boolean, True where the token keeps its own embedding."""
    embedding: np.ndarray
    """(d_model,) what stands in, such as the study's mean image embedding."""

    def part(self, rows: slice) -> "EmbeddingReplacement":
        """Return the same for some items of the batch."""
        return EmbeddingReplacement(self.keep[rows], self.embedding)

    def features(self, prepared: Prepared) -> list[torch.Tensor]:
        """Return the batch's image embeddings with the replacements made."""
        _check(self.keep, prepared)
        replaced = []
        for keep, feature in zip(self.keep, prepared.features, strict=True):
            if np.shape(self.embedding) != (feature.shape[1],):
                raise InputError(
                    f"the embedding to put in has shape {np.shape(self.embedding)}, "
                    f"but image embeddings are {feature.shape[1]} wide"
                )
            own = torch.as_tensor(keep, dtype=torch.bool, device=feature.device)[:, None]
            stand_in = torch.as_tensor(self.embedding, device=feature.device).to(feature.dtype)
            replaced.append(torch.where(own, feature, stand_in))
        return replaced


def _check(keep: Sequence[np.ndarray], prepared: Prepared) -> None:
    if len(keep) != prepared.n_items:
        raise InputError(f"{len(keep)} keep-masks are given for {prepared.n_items} items")
    for item, mask, grid in zip(prepared.inputs, keep, prepared.grids, strict=True):
        if np.shape(mask) != (grid.n_tokens,):
            raise InputError(
                f"item {item.item_id!r}: its keep-mask has shape {np.shape(mask)}, "
                f"but it has {grid.n_tokens} image tokens"
            )


def image_embedding_sum(prepared: Prepared) -> tuple[np.ndarray, int]:
    """Return the sum (d_model,) of a batch's image embeddings in float64, and how many they are.

    Every item counts, so that the mean over a study weighs images by their questions.
    """
    total = torch.stack([feature.double().sum(0) for feature in prepared.features]).sum(0)
    return total.cpu().numpy(), sum(grid.n_tokens for grid in prepared.grids)


def blank_image(size: ImageSize) -> Image.Image:
    """Return an image of one mid-grey, of the same size and so with the same grid."""
    return Image.new("RGB", size, MID_GREY)


def grey_patches(image: Image.Image, boxes: np.ndarray, keep: np.ndarray) -> Image.Image:
    """Return a copy of the image with the boxes of hidden tokens painted grey.

    Args:
        image: the original image.
        boxes: (S, 4) boxes x0, y0, x1, y1 in its pixels, as from `VLM.patch_boxes`; what lies
            outside the image is left out.
        keep: (S,) boolean, False where the box is painted.
    """
    painted = image.convert("RGB")  # a copy, also where the mode is RGB already
    painter = ImageDraw.Draw(painted)
    bounds = np.array([image.width, image.height, image.width, image.height])
    # Shared edges round alike, so neighbouring boxes neither overlap nor leave a gap.
    corners = np.clip(np.rint(boxes[~np.asarray(keep, dtype=bool)]), 0, bounds).astype(int)
    for x0, y0, x1, y1 in corners.tolist():
        if x1 > x0 and y1 > y0:
            painter.rectangle((x0, y0, x1 - 1, y1 - 1), fill=MID_GREY)
    return painted
