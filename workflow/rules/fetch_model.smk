"""
This part of the workflow fetches checkpoints and records exactly what they are.

REQUIRED INPUTS:

    files    = the checkpoint's files, where it is a folder or an embedded model

OUTPUTS:

    manifest = <results>/models/{model}.json

A hub checkpoint goes to the hub's cache, here, where there is a network: model runs are offline.
"""


rule fetch_model:
    """Fetch one checkpoint at its pinned revision and list the digests of its files."""
    input:
        files=lambda wildcards: checkpoint_files(STUDY, wildcards.model),
    output:
        manifest="<results>/models/{model}.json",
    log:
        "<logs>/fetch_model/{model}.log",
    benchmark:
        "<benchmarks>/fetch_model/{model}.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("fetch_model"),
        runtime=runtime("fetch_model"),
    params:
        *causes_of("fetch_model"),
        study=SNAPSHOT,
    shell:
        """
        vrp fetch-model \
            --config {params.study} \
            --model {wildcards.model} \
            --output {output.manifest} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
