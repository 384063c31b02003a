"""Labels of probes, baselines and guards in figures and report."""

from typing import Final

PROBE_LABELS: Final = {
    "linear": "linear probe",
    "linear_best": "linear probe, best layer",
    "linear_last_layers": "linear probe, last layers",
    "sparse": "sparse probe (L1), best layer",
    "mlp": "MLP probe, best layer",
    "answer_end_linear": "linear probe at the answer's end",
    "margin_only": "decision margins of all layers",
    "fusion": "fusion of all deployable signals",
    "fusion_with_probe": "fusion with the linear probe",
    "attention_trees": "tree ensemble on attention features",
    "attention_mlp": "MLP on attention maps",
    "task_only": "task only",
    "question_only": "question only",
    "answer_only": "answer only",
    "blind_linear_best": "linear probe, blank image",
    "permuted_linear_best": "linear probe, permuted labels",
}
"""In the order in which they are shown."""
