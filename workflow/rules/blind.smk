"""
This part of the workflow asks the same questions with a blank image.

It runs where `extract.blind` is true: the probes then ask for its hidden states.
"""


rule blind:
    """Keep answers and hidden states of one shard, with a blank image."""
    input:
        **RULES.inputs("blind"),
    output:
        **RULES.outputs("blind"),
    log:
        RULES.log("blind"),
    benchmark:
        RULES.benchmark("blind")
    priority: RULES.priority("blind")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("blind"),
    params:
        *RULES.rerun_params("blind"),
        study=SNAPSHOT,
    shell:
        RULES.command("blind")
