"""
This part of the workflow asks the same questions with a blank image.

REQUIRED INPUTS:

    manifest = <results>/models/{model}.json
    items    = <results>/items.parquet

OUTPUTS:

    answers  = <results>/{model}/blind/answers/{shard}.parquet
    hidden   = <results>/{model}/blind/hidden/{shard}.parquet

It runs where `extract.blind` is true: the probes then ask for its hidden states.
"""


rule blind:
    """Keep answers and hidden states of one shard, with a blank image."""
    input:
        manifest="<results>/models/{model}.json",
        item_table="<results>/items.parquet",
    output:
        answers="<results>/{model}/blind/answers/{shard}.parquet",
        hidden="<results>/{model}/blind/hidden/{shard}.parquet",
    log:
        "<logs>/blind/{model}/{shard}.log",
    benchmark:
        "<benchmarks>/blind/{model}/{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("blind"),
        runtime=runtime("blind"),
        gpu=gpus("blind"),
    params:
        *causes_of("blind"),
        study=SNAPSHOT,
    shell:
        """
        HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} vrp blind \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --answers {output.answers} \
            --hidden {output.hidden} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
