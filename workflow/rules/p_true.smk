"""
This part of the workflow asks the model whether its own answers are correct.

It runs where `p_true.enabled` is true: the metrics then have P(True) among their signals.
"""


rule p_true:
    """Ask, of the answers of one shard, whether they are correct."""
    input:
        **RULES.inputs("p_true"),
    output:
        **RULES.outputs("p_true"),
    log:
        RULES.log("p_true"),
    benchmark:
        RULES.benchmark("p_true")
    priority: RULES.priority("p_true")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("p_true"),
    params:
        *RULES.rerun_params("p_true"),
        study=SNAPSHOT,
    shell:
        RULES.command("p_true")
