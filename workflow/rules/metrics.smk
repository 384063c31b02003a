"""
This part of the workflow computes every signal and how well it tells right from wrong.

REQUIRED INPUTS:

    items       = <results>/items.parquet
    extraction  = <results>/{model}/extraction.json, the list of shards: it reads answers,
                  attention and lens
    consistency = <results>/{model}/consistency.json, the list of shards

OUTPUTS:

    signals     = <results>/{model}/signals.parquet
    heads       = <results>/{model}/heads.parquet
    metrics     = <results>/{model}/metrics.parquet
"""


rule metrics:
    """Compute one model's signals, per-head signals and their agreement with correctness."""
    input:
        item_table="<results>/items.parquet",
        extraction="<results>/{model}/extraction.json",
        consistency="<results>/{model}/consistency.json",
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
        *causes_of("metrics"),
        study=SNAPSHOT,
    shell:
        """
        vrp metrics \
            --config {params.study} \
            --model {wildcards.model} \
            --items {input.item_table} \
            --extraction {input.extraction} \
            --consistency {input.consistency} \
            --signals {output.signals} \
            --heads {output.heads} \
            --output {output.metrics} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
