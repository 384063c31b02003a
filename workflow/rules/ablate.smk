"""
This part of the workflow silences neurons that the probe reads, and random ones.

REQUIRED INPUTS:

    manifest    = <extraction>/models/{model}.json
    items       = <results>/items.parquet
    (extraction = <results>/{model}/extraction.json, the list of answers shards: the probes wait
                  for it)
    predictions = <results>/{model}/predictions.parquet
    neurons     = <results>/{model}/neurons.parquet

OUTPUTS:

    ablate      = <results>/{model}/ablate/{shard}.parquet

It runs where `ablate.enabled` is true; `ablate.shards` in the config says how many shards; they
need not be those of the extraction.
"""


rule ablate:
    """Answer one shard's questions with dimensions of the residual stream silenced."""
    input:
        manifest="<extraction>/models/{model}.json",
        item_table="<results>/items.parquet",
        predictions="<results>/{model}/predictions.parquet",
        neurons="<results>/{model}/neurons.parquet",
    output:
        ablate="<results>/{model}/ablate/{shard}.parquet",
    log:
        "<logs>/ablate/{model}/{shard}.log",
    benchmark:
        "<benchmarks>/ablate/{model}/{shard}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("ablate"),
        runtime=runtime("ablate"),
        gpu=gpus("ablate"),
    params:
        *causes_of("ablate"),
        study=SNAPSHOT,
        extraction=f"{RESULTS}/{{model}}/extraction.json",
    shell:
        """
        HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} vrp ablate \
            --config {params.study} \
            --model {wildcards.model} \
            --shard {wildcards.shard} \
            --manifest {input.manifest} \
            --items {input.item_table} \
            --extraction {params.extraction} \
            --predictions {input.predictions} \
            --neurons {input.neurons} \
            --output {output.ablate} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
