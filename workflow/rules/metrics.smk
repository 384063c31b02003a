"""
This part of the workflow computes every signal and how well it tells right from wrong.
"""


rule metrics:
    """Compute one model's signals, per-head signals and their agreement with correctness."""
    input:
        **RULES.inputs("metrics"),
    output:
        **RULES.outputs("metrics"),
    log:
        RULES.log("metrics"),
    benchmark:
        RULES.benchmark("metrics")
    priority: RULES.priority("metrics")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("metrics"),
    params:
        *RULES.rerun_params("metrics"),
        study=SNAPSHOT,
    shell:
        RULES.command("metrics")
