"""
This part of the workflow hides the most attended image tokens, and controls.

REQUIRED INPUTS:

    manifest   = <extraction>/models/{model}.json
    items      = <results>/items.parquet
    extraction = <results>/{model}/extraction.json, the list of answers and attention shards

OUTPUTS:

    mask       = <results>/{model}/mask/{shard}.parquet

It runs where `mask.enabled` is true, which takes `attention` in `extract.capture`;
`mask.shards` in the config says how many shards; they need not be those of the extraction.
"""


rule mask:
    """Answer one shard's questions with image tokens hidden: top, random, bottom, all."""
    input:
        manifest="<extraction>/models/{model}.json",
        item_table="<results>/items.parquet",
        extraction="<results>/{model}/extraction.json",
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
        mem_mb=mem_mb("mask"),
        runtime=runtime("mask"),
        gpu=gpus("mask"),
    params:
        *causes_of("mask"),
        study=SNAPSHOT,
    shell:
        """
        HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} vrp mask \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --extraction {input.extraction} \
            --output {output.mask} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
