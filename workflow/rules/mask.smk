"""
This part of the workflow hides the most attended image tokens, and controls.

It runs where `mask.enabled` is true, which takes `attention` in `extract.capture`;
`mask.shards` in the config says how many shards; they need not be those of the extraction.
"""


rule mask:
    """Answer one shard's questions with image tokens hidden: top, random, bottom, all."""
    input:
        **RULES.inputs("mask"),
    output:
        **RULES.outputs("mask"),
    log:
        RULES.log("mask"),
    benchmark:
        RULES.benchmark("mask")
    priority: RULES.priority("mask")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("mask"),
    params:
        *RULES.rerun_params("mask"),
        study=SNAPSHOT,
    shell:
        RULES.command("mask")
