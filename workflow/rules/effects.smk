"""
This part of the workflow estimates every intervention's paired effect on accuracy.

REQUIRED INPUTS:

    items      = <results>/items.parquet
    extraction = <results>/{model}/extraction.json of all models, lists of the answers shards
    mask       = <results>/{model}/mask/{shard}.parquet, all models and shards, where
                 `mask.enabled` is true (those of the study that `extraction_from` names, where
                 it has made the very same)
    ablate     = <results>/{model}/ablate/{shard}.parquet, all models and shards, where
                 `ablate.enabled` is true

OUTPUTS:

    effects    = <results>/effects.parquet
"""


rule effects:
    """Estimate paired effects with intervals, of all models together."""
    input:
        item_table="<results>/items.parquet",
        extraction=expand("<results>/{model}/extraction.json", model=MODELS),
        mask=MASK_TABLES,
        ablate=ABLATE_TABLES,
    output:
        effects="<results>/effects.parquet",
    log:
        "<logs>/effects.log",
    benchmark:
        "<benchmarks>/effects.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("effects"),
        runtime=runtime("effects"),
    params:
        **causes_of("effects"),
        study=SNAPSHOT,
        code_effects=code_of("effects"),
        config_effects=config_of("effects"),
        answers=SHARD_TABLES["answers"],
    shell:
        """
        vrp effects \
            --config {params.study} \
            --items {input.item_table} \
            --answers {params.answers} \
            --mask {input.mask} \
            --ablate {input.ablate} \
            --output {output.effects} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
