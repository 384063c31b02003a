"""Labels of probes, baselines and guards in figures and report."""

from typing import Final

LINEAR: Final = "linear"
"""The probe of every single layer."""
LINEAR_BEST: Final = "linear_best"
"""The probe of the layer picked on each fold's training items: the study's main probe."""
BLIND_LINEAR_BEST: Final = "blind_linear_best"
"""The same of a run that saw no image."""
PERMUTED_LINEAR_BEST: Final = "permuted_linear_best"
"""The same fitted to permuted labels."""
OUTPUT_FUSION: Final = "output_fusion"
"""Fusion of what the output alone says: the behavioural signals and the decision margin."""
OUTPUT_FUSION_WITH_PROBE: Final = "output_fusion_with_probe"
"""The same with the best layer's probe: what it gains is beyond the output."""
DISTILLED: Final = "distilled_consistency"
"""Self-consistency as the hidden state of the greedy pass predicts it."""
MAHALANOBIS: Final = "mahalanobis"
"""Closeness of the hidden state to those of the training items."""
ANSWER_END: Final = "answer_end_linear"
"""The best layer's probe, read at the last token of the answer."""
RANDOM_FEATURES: Final = "random_features_only"
"""A probe of noise as wide as the hidden state."""
TRANSFER: Final = "linear_from_"
"""Begins the names of probes that learnt from one split alone; the split follows."""

PROBE_LABELS: Final = {
    LINEAR: "linear probe",
    LINEAR_BEST: "linear probe, best layer",
    "linear_last_layers": "linear probe, last layers",
    "sparse": "sparse probe (L1), best layer",
    "mlp": "MLP probe, best layer",
    ANSWER_END: "linear probe, best layer, at the answer's end",
    DISTILLED: "self-consistency predicted from the hidden state",
    MAHALANOBIS: "closeness to training states (Mahalanobis)",
    "margin_only": "decision margins of all layers",
    OUTPUT_FUSION: "fusion of output signals",
    OUTPUT_FUSION_WITH_PROBE: "fusion of output signals and linear probe",
    "fusion": "fusion of all deployable signals",
    "fusion_with_probe": "fusion with the linear probe",
    "attention_trees": "tree ensemble on attention features",
    "attention_mlp": "MLP on attention maps",
    RANDOM_FEATURES: "linear probe of random features",
    "task_only": "task only",
    "question_only": "question only",
    "answer_only": "answer only",
    BLIND_LINEAR_BEST: "linear probe, blank image",
    PERMUTED_LINEAR_BEST: "linear probe, permuted labels",
}
"""In the order in which they are shown."""
