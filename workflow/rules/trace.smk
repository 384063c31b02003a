"""
This part of the workflow traces where the picture enters the answer, layer by layer.

It runs where `trace.enabled` is true; `trace.shards` in the config says how many shards; they need
not be those of the extraction.
"""


rule trace:
    """Run one shard's prompts under knockouts by layer window, and patches by layer."""
    input:
        **RULES.inputs("trace"),
    output:
        **RULES.outputs("trace"),
    log:
        RULES.log("trace"),
    benchmark:
        RULES.benchmark("trace")
    priority: RULES.priority("trace")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("trace"),
    params:
        *RULES.rerun_params("trace"),
        study=SNAPSHOT,
    shell:
        RULES.command("trace")
