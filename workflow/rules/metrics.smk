"""
This part of the workflow computes every signal and how well it tells right from wrong.

REQUIRED INPUTS:

    items       = <results>/items.parquet
    answers     = <results>/{model}/answers/{shard}.parquet, all shards
    attention   = <results>/{model}/attention/{shard}.parquet, all shards
    lens        = <results>/{model}/lens/{shard}.parquet, all shards
    consistency = <results>/{model}/consistency/{shard}.parquet, all shards

OUTPUTS:

    signals     = <results>/{model}/signals.parquet
    heads       = <results>/{model}/heads.parquet
    metrics     = <results>/{model}/metrics.parquet
"""


rule metrics:
    """Compute one model's signals, per-head signals and their agreement with correctness."""
    input:
        item_table="<results>/items.parquet",
        answers=expand("<results>/{{model}}/answers/{shard}.parquet", shard=SHARDS),
        attention=expand("<results>/{{model}}/attention/{shard}.parquet", shard=SHARDS),
        lens=expand("<results>/{{model}}/lens/{shard}.parquet", shard=SHARDS),
        consistency=expand(
            "<results>/{{model}}/consistency/{shard}.parquet", shard=SHARDS
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
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=60,
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
