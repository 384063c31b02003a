"""
This part of the workflow lists one model's extraction shards, for the interventions.

REQUIRED INPUTS:

    answers    = <extraction>/{model}/answers/{shard}.parquet, all shards
    attention  = <extraction>/{model}/attention/{shard}.parquet, all shards
    items      = <results>/items.parquet and <extraction>/items.parquet, where `extraction_from`
                 is set: they must be equal

OUTPUTS:

    extraction = <results>/{model}/extraction.json

Each job of the interventions needs answers and attention from any shard. That it waits for this
one file, and not for all shards, keeps the planning of thousands of them quick.
"""


rule gather:
    """List one model's extraction shards with their checksums, once they fit together."""
    input:
        answers=expand("<extraction>/{{model}}/answers/{shard}.parquet", shard=SHARDS),
        attention=expand(
            "<extraction>/{{model}}/attention/{shard}.parquet", shard=SHARDS
        ),
        item_tables=SHARED_ITEMS,
    output:
        extraction="<results>/{model}/extraction.json",
    log:
        "<logs>/gather/{model}.log",
    benchmark:
        "<benchmarks>/gather/{model}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("gather"),
        runtime=runtime("gather"),
    params:
        **causes_of("gather"),
        study=SNAPSHOT,
        code_gather=code_of("gather"),
        config_gather=config_of("gather"),
    shell:
        """
        vrp gather \
            --config {params.study} \
            --answers {input.answers} \
            --attention {input.attention} \
            --items {input.item_tables} \
            --output {output.extraction} \
            2>&1 | tee -i {log} >&2
        """
