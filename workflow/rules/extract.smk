"""
This part of the workflow asks the models and keeps what the signals are computed from.

`extract.shards` in the config says how many shards a model's items are cut into.
"""


rule extract:
    """Keep answers, attention, hidden states and lens of one shard, in one pass."""
    input:
        **RULES.inputs("extract"),
    output:
        **RULES.outputs("extract"),
    log:
        RULES.log("extract"),
    benchmark:
        RULES.benchmark("extract")
    priority: RULES.priority("extract")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("extract"),
    params:
        *RULES.rerun_params("extract"),
        study=SNAPSHOT,
    shell:
        RULES.command("extract")
