"""A kind of mask condition as a user's extension file would register it."""

import numpy as np

from vrp.interventions.conditions import register_condition
from vrp.interventions.masking import MaskableImage, MaskKind
from vrp.signals.structural import token_count


def central_tokens(image: MaskableImage, share: float) -> np.ndarray:
    """The tokens nearest to the middle of the image."""
    rows, columns = np.indices((image.grid_h, image.grid_w))
    middle_row, middle_column = (image.grid_h - 1) / 2, (image.grid_w - 1) / 2
    distance = (rows - middle_row) ** 2 + (columns - middle_column) ** 2
    order = np.argsort(distance.ravel(), kind="stable")
    return order[: token_count(distance.size, share)]


CENTRE = MaskKind("centre", "central", hides=central_tokens, control="random")
register_condition(CENTRE)
