"""The papers' numbers, to print beside ours: data, not targets.

Sources: arXiv 2605.08200 (*Where Reliability Lives in Vision-Language Models*) and arXiv
2606.17389 (*Visuals Lie, Consistency Speaks*), which report the same study.
"""

from typing import NamedTuple

CHECKPOINTS = {
    "llava": "LLaVA-1.5-7B",
    "paligemma": "PaliGemma-3B",
    "qwen2_vl": "Qwen2-VL-7B",
}
"""Family → the checkpoint that the papers ran."""

POOLED = "pooled"
"""Stands for a family where the papers report all models together, over 3,090 items."""

ATTENTION_AND_PROBES = "arXiv 2605.08200"
BOTH = "arXiv 2605.08200, arXiv 2606.17389"


class Published(NamedTuple):
    """One published number."""

    row: str
    """Key of the row that it stands in."""
    family: str
    """Family, or `POOLED`."""
    value: float
    """The value as printed in the paper."""
    text: str
    """The value as the report prints it."""
    detail: str = ""
    """The interval, layer or p-value that the paper gives with it."""
    source: str = ATTENTION_AND_PROBES
    """The paper."""


def _three(row: str, *cells: tuple[float, str] | tuple[float, str, str] | None) -> list[Published]:
    """One row over the three families; None where the papers give nothing."""
    return [
        Published(row, family, *cell)
        for family, cell in zip(CHECKPOINTS, cells, strict=True)
        if cell is not None
    ]


PUBLISHED: tuple[Published, ...] = (
    *_three("accuracy", (67.6, "67.6%"), (78.6, "78.6%"), (28.8, "28.8%")),
    *_three("head_r2", (0.008, "0.008"), (0.080, "0.080"), (0.007, "0.007")),
    *_three("supervised_attention", (53, "53%"), (55, "55%"), (52, "52%")),
    *_three("auroc_attention", (0.50, "0.50"), (0.50, "0.50"), (0.50, "0.50")),
    *_three("auroc_logit_entropy", (0.50, "0.50"), (0.52, "0.52"), (0.51, "0.51")),
    *_three("auroc_confidence", (0.54, "0.54"), (0.55, "0.55"), (0.53, "0.53")),
    *_three("auroc_margin_only", (0.72, "0.72"), (0.70, "0.70"), (0.63, "0.63")),
    *_three(
        "auroc_probe", (0.956, "0.956", "layer 21"), (0.738, "0.738", "layer 10"),
        (0.971, "0.971", "layer 18"),
    ),
    *_three("auroc_last_layers", (0.956, "0.956"), (0.738, "0.738"), (0.970, "0.970")),
    *_three("auroc_self_consistency", (0.78, "0.78"), (0.81, "0.81"), (0.79, "0.79")),
    *_three("vqa_output", (0.559, "0.559"), (0.892, "0.892"), (0.892, "0.892")),
    *_three("vqa_probe", (0.745, "0.745"), (0.795, "0.795"), (0.778, "0.778")),
    *_three("textvqa_output", (0.563, "0.563"), (0.859, "0.859"), (0.774, "0.774")),
    *_three("textvqa_probe", (0.721, "0.721"), (0.806, "0.806"), (0.852, "0.852")),
    *_three("peak_layer", (24, "24"), (14, "14"), (27, "27")),
    *_three("peak_margin", (9.20, "+9.20", "layer 31"), (10.85, "+10.85"), (8.40, "+8.40")),
    *_three("mlp_share", (82.1, "82.1%"), (47.6, "47.6%"), (68.2, "68.2%")),
    *_three("masking_top", (-8.2, "−8.2 pp", "p<0.001"), (-11.3, "−11.3 pp", "p<0.001"), None),
    *_three("ablation_layer", (31, "31"), (15, "15"), (25, "25")),
    *_three(
        "ablation_baseline", (54.5, "54.5%", "object id. 100%"), (97.0, "97.0%"),
        (55.0, "55.0%"),
    ),
    *_three("ablation_top_5", (-2.0, "−2.0 pp"), None, None),
    *_three("ablation_top_5_objects", (-8.3, "−8.3 pp"), None, None),
    *_three("ablation_top_10", None, (-0.7, "−0.7 pp"), None),
    *_three("ablation_random_5", (0.0, "0.0 pp"), None, None),
    *_three("ablation_random_500", None, (0.0, "0.0 pp"), (3.0, "+3.0 pp")),
    *_three("ablation_random_1000", None, (-1.0, "−1.0 pp"), (1.0, "+1.0 pp")),
    *_three("ablation_random_2000", None, None, (2.0, "+2.0 pp")),
    *_three("ablation_mlp", None, None, (5.0, "+5.0 pp")),
    *_three("sparse_share", (5.0, "4–6%"), None, None),
    *_three("sparse_accuracy", (88.0, "88.0%", "layer 21"), None, None),
    *_three("auroc_attention_trees", (0.725, "0.725"), None, None),
    *_three("auroc_last_state", (0.620, "0.620"), None, None),
    *_three("entropy_drop", (-2.5, "about −2.5", "layer 2"), None, None),
    Published("r_clusters", POOLED, 0.001, "0.001", "[−0.034, 0.036]", BOTH),
    Published("r_entropy", POOLED, -0.012, "−0.012", "[−0.047, 0.024]"),
    Published("r_self_consistency", POOLED, 0.429, "0.429", "", BOTH),
    Published("precision_unanimous", POOLED, 90.8, "90.8%", "[88.4, 92.8]"),
)  # fmt: skip


def published(row: str, family: str) -> Published | None:
    """The papers' number for a row, or None where they give none."""
    found = [number for number in PUBLISHED if (number.row, number.family) == (row, family)]
    return found[0] if found else None
