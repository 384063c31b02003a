"""
This part of the workflow samples several answers to every question.

REQUIRED INPUTS:

    manifest = <results>/models/{model}.json
    items    = <results>/items.parquet

OUTPUTS:

    samples  = <results>/{model}/consistency/{shard}.parquet

It has a prefill of its own, so that another number of samples redoes no extraction.
"""


rule consistency:
    """Sample K answers an item of one shard, from one prefill."""
    input:
        manifest="<results>/models/{model}.json",
        item_table="<results>/items.parquet",
    output:
        samples="<results>/{model}/consistency/{shard}.parquet",
    log:
        "<logs>/consistency/{model}/{shard}.log",
    benchmark:
        "<benchmarks>/consistency/{model}/{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("consistency"),
        runtime=runtime("consistency"),
        gpu=gpus("consistency"),
    params:
        *causes_of("consistency"),
        study=SNAPSHOT,
    shell:
        """
        HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} vrp consistency \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --output {output.samples} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
