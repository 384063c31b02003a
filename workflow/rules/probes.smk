"""
This part of the workflow probes hidden states for correctness, layer by layer.

REQUIRED INPUTS:

    items        = <results>/items.parquet
    signals      = <results>/{model}/signals.parquet
    extraction   = <results>/{model}/extraction.json, the list of shards: it reads answers,
                   attention, hidden and lens
    blind        = <results>/{model}/blind.json, the list of shards, where `extract.blind` is true

OUTPUTS:

    predictions  = <results>/{model}/predictions.parquet
    neurons      = <results>/{model}/neurons.parquet
    probes       = <results>/{model}/probes.parquet
"""


rule probes:
    """Fit one model's probes with image-grouped cross-validation."""
    input:
        item_table="<results>/items.parquet",
        signals="<results>/{model}/signals.parquet",
        extraction="<results>/{model}/extraction.json",
        blind=["<results>/{model}/blind.json"] if STUDY.extract.blind else [],
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
        *causes_of("probes"),
        study=SNAPSHOT,
    shell:
        """
        vrp probes \
            --config {params.study} \
            --model {wildcards.model} \
            --items {input.item_table} \
            --signals {input.signals} \
            --extraction {input.extraction} \
            --blind {input.blind} \
            --predictions {output.predictions} \
            --neurons {output.neurons} \
            --output {output.probes} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
