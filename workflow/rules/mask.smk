"""
This part of the workflow hides the most attended image tokens, and controls.

REQUIRED INPUTS:

    manifest  = <results>/models/{model}.json
    items     = <results>/items.parquet
    answers   = <results>/{model}/answers/{shard}.parquet, all shards
    attention = <results>/{model}/attention/{shard}.parquet, all shards

OUTPUTS:

    mask      = <results>/{model}/mask/{shard}.parquet

`mask.shards` in the config says how many shards; they need not be those of the extraction.
"""


rule mask:
    """Answer one shard's questions with image tokens hidden: top, random, bottom, all."""
    input:
        manifest="<results>/models/{model}.json",
        item_table="<results>/items.parquet",
        answers=expand("<results>/{{model}}/answers/{shard}.parquet", shard=SHARDS),
        attention=expand("<results>/{{model}}/attention/{shard}.parquet", shard=SHARDS),
    output:
        mask="<results>/{model}/mask/{shard}.parquet",
    log:
        "<logs>/mask/{model}/{shard}.log",
    benchmark:
        "<benchmarks>/mask/{model}/{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1800 * attempt,
        runtime=120,
    params:
        **causes_of("mask"),
        study=SNAPSHOT,
        code_mask=code_of("mask"),
        config_mask=config_of("mask"),
    shell:
        """
        HF_HUB_OFFLINE=1 vrp mask \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --answers {input.answers} \
            --attention {input.attention} \
            --output {output.mask} \
            2>&1 | tee -i {log} >&2
        """
