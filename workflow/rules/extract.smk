"""
This part of the workflow asks the models and keeps what the signals are computed from.

REQUIRED INPUTS:

    manifest  = <results>/models/{model}.json
    items     = <results>/items.parquet

OUTPUTS:

    answers   = <results>/{model}/answers/{shard}.parquet
    attention = <results>/{model}/attention/{shard}.parquet
    hidden    = <results>/{model}/hidden/{shard}.parquet
    lens      = <results>/{model}/lens/{shard}.parquet

`extract.shards` in the config says how many shards a model's items are cut into.
"""


rule extract:
    """Keep answers, attention, hidden states and lens of one shard, in one pass."""
    input:
        manifest="<results>/models/{model}.json",
        item_table="<results>/items.parquet",
    output:
        answers="<results>/{model}/answers/{shard}.parquet",
        attention="<results>/{model}/attention/{shard}.parquet",
        hidden="<results>/{model}/hidden/{shard}.parquet",
        lens="<results>/{model}/lens/{shard}.parquet",
    log:
        "<logs>/extract/{model}/{shard}.log",
    benchmark:
        "<benchmarks>/extract/{model}/{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("extract"),
        runtime=runtime("extract"),
        gpu=gpus("extract"),
    params:
        *causes_of("extract"),
        study=SNAPSHOT,
    shell:
        """
        HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} vrp extract \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --answers {output.answers} \
            --attention {output.attention} \
            --hidden {output.hidden} \
            --lens {output.lens} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
