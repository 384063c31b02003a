"""
This part of the workflow probes hidden states for correctness, layer by layer.

REQUIRED INPUTS:

    items        = <results>/items.parquet
    signals      = <results>/{model}/signals.parquet
    answers      = <extraction>/{model}/answers/{shard}.parquet, all shards
    attention    = <extraction>/{model}/attention/{shard}.parquet, all shards
    hidden       = <extraction>/{model}/hidden/{shard}.parquet, all shards
    lens         = <extraction>/{model}/lens/{shard}.parquet, all shards
    blind_hidden = <extraction>/{model}/blind/hidden/{shard}.parquet, all shards,
                   where `extract.blind` is true
    checked    = <results>/{model}/extraction.json, where `extraction_from` is set

OUTPUTS:

    predictions  = <results>/{model}/predictions.parquet
    neurons      = <results>/{model}/neurons.parquet
    probes       = <results>/{model}/probes.parquet
"""


rule probes:
    """Fit one model's probes with image-grouped cross-validation."""
    input:
        checked=CHECKED,
        item_table="<results>/items.parquet",
        signals="<results>/{model}/signals.parquet",
        answers=expand("<extraction>/{{model}}/answers/{shard}.parquet", shard=SHARDS),
        attention=expand(
            "<extraction>/{{model}}/attention/{shard}.parquet", shard=SHARDS
        ),
        hidden=expand("<extraction>/{{model}}/hidden/{shard}.parquet", shard=SHARDS),
        lens=expand("<extraction>/{{model}}/lens/{shard}.parquet", shard=SHARDS),
        blind_hidden=expand(
            "<extraction>/{{model}}/blind/hidden/{shard}.parquet", shard=BLIND_SHARDS
        ),
    output:
        predictions="<results>/{model}/predictions.parquet",
        neurons="<results>/{model}/neurons.parquet",
        probes="<results>/{model}/probes.parquet",
    log:
        "<logs>/probes/{model}.log",
    benchmark:
        "<benchmarks>/probes/{model}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("probes"),
        runtime=runtime("probes"),
    params:
        **causes_of("probes"),
        study=SNAPSHOT,
        code_probes=code_of("probes"),
        config_probes=config_of("probes"),
    shell:
        """
        vrp probes \
            --config {params.study} \
            --model {wildcards.model} \
            --items {input.item_table} \
            --signals {input.signals} \
            --answers {input.answers} \
            --attention {input.attention} \
            --hidden {input.hidden} \
            --lens {input.lens} \
            --blind-hidden {input.blind_hidden} \
            --predictions {output.predictions} \
            --neurons {output.neurons} \
            --output {output.probes} \
            2>&1 | tee -i {log} >&2
        """
