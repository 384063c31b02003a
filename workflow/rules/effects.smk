"""
This part of the workflow estimates every intervention's paired effect on accuracy.

REQUIRED INPUTS:

    items   = <results>/items.parquet
    answers = <extraction>/{model}/answers/{shard}.parquet, all models and shards
    mask    = <results>/{model}/mask/{shard}.parquet, all models and shards,
              where `mask.enabled` is true
    ablate  = <results>/{model}/ablate/{shard}.parquet, all models and shards

OUTPUTS:

    effects = <results>/effects.parquet
"""


rule effects:
    """Estimate paired effects with intervals, of all models together."""
    input:
        item_table="<results>/items.parquet",
        answers=TABLES["answers"],
        mask=expand(
            "<results>/{model}/mask/{shard}.parquet", model=MODELS, shard=MASK_SHARDS
        ),
        ablate=expand(
            "<results>/{model}/ablate/{shard}.parquet",
            model=MODELS,
            shard=ABLATE_SHARDS,
        ),
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
    shell:
        """
        vrp effects \
            --config {params.study} \
            --items {input.item_table} \
            --answers {input.answers} \
            --mask {input.mask} \
            --ablate {input.ablate} \
            --output {output.effects} \
            2>&1 | tee -i {log} >&2
        """
