"""
This part of the workflow estimates every intervention's paired effect on accuracy.

REQUIRED INPUTS:

    items      = <results>/items.parquet
    extraction = <results>/{model}/extraction.json of all models, lists of shards: it reads answers
    mask       = <results>/{model}/mask.json of all models, where `mask.enabled` is true
    ablate     = <results>/{model}/ablate.json of all models, where `ablate.enabled` is true

OUTPUTS:

    effects    = <results>/effects.parquet
"""


rule effects:
    """Estimate paired effects with intervals, of all models together."""
    input:
        item_table="<results>/items.parquet",
        extraction=lists_of("extraction"),
        mask=MASK_LISTS,
        ablate=ABLATE_LISTS,
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
        *causes_of("effects"),
        study=SNAPSHOT,
    shell:
        """
        vrp effects \
            --config {params.study} \
            --items {input.item_table} \
            --extraction {input.extraction} \
            --mask {input.mask} \
            --ablate {input.ablate} \
            --output {output.effects} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
