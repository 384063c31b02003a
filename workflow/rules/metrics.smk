"""
This part of the workflow computes every signal and how well it tells right from wrong.

REQUIRED INPUTS:

    items       = <results>/items.parquet
    answers     = <extraction>/{model}/answers/{shard}.parquet, all shards
    attention   = <extraction>/{model}/attention/{shard}.parquet, all shards
    lens        = <extraction>/{model}/lens/{shard}.parquet, all shards
    consistency = <extraction>/{model}/consistency/{shard}.parquet, all shards
    checked    = <results>/{model}/extraction.json, where `extraction_from` is set

OUTPUTS:

    signals     = <results>/{model}/signals.parquet
    heads       = <results>/{model}/heads.parquet
    metrics     = <results>/{model}/metrics.parquet
"""


rule metrics:
    """Compute one model's signals, per-head signals and their agreement with correctness."""
    input:
        checked=CHECKED,
        item_table="<results>/items.parquet",
        answers=expand("<extraction>/{{model}}/answers/{shard}.parquet", shard=SHARDS),
        attention=expand(
            "<extraction>/{{model}}/attention/{shard}.parquet", shard=SHARDS
        ),
        lens=expand("<extraction>/{{model}}/lens/{shard}.parquet", shard=SHARDS),
        consistency=expand(
            "<extraction>/{{model}}/consistency/{shard}.parquet", shard=SHARDS
        ),
    output:
        signals="<results>/{model}/signals.parquet",
        heads="<results>/{model}/heads.parquet",
        metrics="<results>/{model}/metrics.parquet",
    log:
        "<logs>/metrics/{model}.log",
    benchmark:
        "<benchmarks>/metrics/{model}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("metrics"),
        runtime=runtime("metrics"),
    params:
        **causes_of("metrics"),
        study=SNAPSHOT,
        code_metrics=code_of("metrics"),
        config_metrics=config_of("metrics"),
    shell:
        """
        vrp metrics \
            --config {params.study} \
            --model {wildcards.model} \
            --items {input.item_table} \
            --answers {input.answers} \
            --attention {input.attention} \
            --lens {input.lens} \
            --consistency {input.consistency} \
            --signals {output.signals} \
            --heads {output.heads} \
            --output {output.metrics} \
            2>&1 | tee -i {log} >&2
        """
