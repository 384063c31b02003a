"""Norms of the values of image tokens: what attention to a token can move at all.

A token whose value vector is short changes little, however much attention it draws (Kobayashi et
al. 2020); attention sinks are such tokens.
"""

import numpy as np
import torch

from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, Prepared


@torch.inference_mode()
def value_norms(vlm: VLM, prepared: Prepared) -> list[np.ndarray]:
    """Return, per item of a batch, (L, S) norms of its image tokens' values, mean over key heads.

    It takes a prefill.
    """
    decoder = Decoder(vlm, prepared)
    decoder.prefill()
    index, layers = prepared.image_index, []
    for layer in decoder.cache.layers:
        # (B, H_kv, T, d) → (B, T)
        norms = torch.linalg.vector_norm(layer.values, dim=-1, dtype=torch.float32).mean(1)
        layers.append(norms.gather(1, index.to(norms.device)).cpu())
    of_batch = torch.stack(layers, dim=1).numpy()  # (B, L, S_max)
    return [of_batch[row, :, : grid.n_tokens] for row, grid in enumerate(prepared.grids)]
