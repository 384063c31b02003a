"""A batch without the image tokens that no other token may attend to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vrp.vlm.model import VLM
from vrp.vlm.prefill import Prepared
from vrp.vlm.prompt_layout import Layout, arranged, image_index, shared_by


def without_tokens(vlm: VLM, prepared: Prepared, keep: Sequence[np.ndarray]) -> Prepared:
    """Return a batch without some of its image tokens; the others keep their positions.

    It gives the answers that the whole batch gives where no token may attend to the missing ones.
    What prompts begin with before the image is run once for all that have it.

    Args:
        vlm: the model, whose family may drop tokens.
        prepared: the batch.
        keep: per item (S_i,) boolean, False for the tokens to leave out.
    """
    present = prepared.attention_mask.bool().cpu()
    index = prepared.image_index.cpu()
    kept = [np.asarray(mask, dtype=bool) for mask in keep]
    for row, (mask, grid) in enumerate(zip(kept, prepared.grids, strict=True)):
        present[row, index[row, : grid.n_tokens][torch.as_tensor(~mask)]] = False
    own = [row.nonzero()[:, 0] for row in present]
    whole = Layout(prepared.input_ids, prepared.attention_mask, prepared.positions, None)
    n_first = [0] * len(own)
    shared = None
    if vlm.family.shares_prefixes(vlm.model):
        n_first = [
            int((columns < first).sum()) for columns, first in zip(own, index[:, 0], strict=True)
        ]
        frames = [
            tuple(prepared.input_ids[row, columns[:n].to(prepared.input_ids.device)].tolist())
            for row, (columns, n) in enumerate(zip(own, n_first, strict=True))
        ]
        shared = shared_by(frames, max(n_first), hold_image=False) if max(n_first) else None
    layout = arranged(vlm, whole, own, n_first)
    features = tuple(
        feature[torch.as_tensor(mask, device=feature.device)]
        for feature, mask in zip(prepared.features, kept, strict=True)
    )
    return replace(
        prepared,
        input_ids=layout.input_ids,
        attention_mask=layout.attention_mask,
        positions=layout.positions,
        features=features,
        image_index=image_index(vlm, layout.input_ids, [len(feature) for feature in features]),
        shared=shared,
    )
