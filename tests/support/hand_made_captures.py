"""Captures and items made by hand: what a model would give, with every value known."""

from typing import Any

import numpy as np

from vrp.data.item import Item
from vrp.vlm.decode import ItemCapture

N_LAYERS, N_HEADS, GRID = 2, 3, (4, 5)
N_TOKENS = GRID[0] * GRID[1]


def capture(item_id: str = "i", **changes: Any) -> ItemCapture:
    """One item's capture: uniform attention, hidden states that count up."""
    uniform = np.full(N_TOKENS, 0.02, dtype=np.float32)  # image mass 0.4
    values: dict[str, Any] = {
        "item_id": item_id, "answer": "Yes", "token_ids": (7,),
        "token_logprobs": np.array([-0.5]), "finished": True, "flags": (),
        "first_token_entropy": 0.1, "decision_margin": 2.0, "grid_h": GRID[0], "grid_w": GRID[1],
        "close_choices": 0, "n_prompt_tokens": 50,
        "first_token_ids": np.array([7, 9]), "first_token_logprobs": np.array([-0.5, -1.5]),
        "attention": np.broadcast_to(uniform, (N_LAYERS, N_TOKENS)).copy(),
        "head_rows": np.broadcast_to(uniform, (N_LAYERS, N_HEADS, N_TOKENS)).copy(),
        "hidden": {"prompt_end": np.arange(12, dtype=np.float32).reshape(3, 4)},
        "residual_update": np.array([1.0, 2.0]),
        "image_norms": np.arange(N_LAYERS * N_TOKENS, dtype=np.float32).reshape(N_LAYERS, -1),
        "lens_decision_margin": np.array([0.5, 2.0]),
        "lens_truth_margin": np.array([-1.0, 1.0]), "pair": (7, 9), "contribution_embed": 0.25,
        "attention_contribution": np.array([0.5, 0.25]), "mlp_contribution": np.array([0.75, 0.25]),
        "head_contribution": np.zeros((N_LAYERS, N_HEADS)),
    }  # fmt: skip
    return ItemCapture(**(values | changes))


def item(item_id: str = "i", **changes: Any) -> Item:
    values: dict[str, Any] = {
        "item_id": item_id, "dataset": "pope", "split": "random", "task": "existence",
        "group": "g", "image": "a.png", "image_sha256": "g", "question_id": "1",
        "question": "Is there a dog?", "answers": ["yes"], "reference": "yes",
    }  # fmt: skip
    return Item(**(values | changes))
