"""
This part of the workflow silences neurons that the probe reads, and random ones.

It runs where `ablate.enabled` is true; `ablate.shards` in the config says how many shards; they
need not be those of the extraction.
"""


rule ablate:
    """Answer one shard's questions with dimensions of the residual stream silenced."""
    input:
        **RULES.inputs("ablate"),
    output:
        **RULES.outputs("ablate"),
    log:
        RULES.log("ablate"),
    benchmark:
        RULES.benchmark("ablate")
    priority: RULES.priority("ablate")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("ablate"),
    params:
        *RULES.rerun_params("ablate"),
        study=SNAPSHOT,
    shell:
        RULES.command("ablate")
