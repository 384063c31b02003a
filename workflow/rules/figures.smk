"""
This part of the workflow draws every figure from the tables.

REQUIRED INPUTS:

    items   = <results>/items.parquet
    effects = <results>/effects.parquet
    extraction, consistency, mask (where it is enabled) = lists of all models' shards: it reads
              answers, attention, lens, consistency and mask
    signals, heads, metrics, probes, predictions, neurons = tables of all models

OUTPUTS:

    figures = <results>/figures/{name}.{format}, all figures in all formats of the config
"""


rule figures:
    """Draw the figures."""
    input:
        **MODEL_TABLES,
        item_table="<results>/items.parquet",
        effects="<results>/effects.parquet",
    output:
        figures=report(FIGURES, caption="../report/figures.rst", category="Figures"),
    log:
        "<logs>/figures.log",
    benchmark:
        "<benchmarks>/figures.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("figures"),
        runtime=runtime("figures"),
    params:
        *causes_of("figures"),
        study=SNAPSHOT,
        folder=subpath(output[0], parent=True),
    shell:
        """
        vrp figures \
            --config {params.study} \
            --items {input.item_table} \
            --effects {input.effects} \
            --extraction {input.extraction} \
            --consistency {input.consistency} \
            --signals {input.signals} \
            --heads {input.heads} \
            --metrics {input.metrics} \
            --probes {input.probes} \
            --predictions {input.predictions} \
            --neurons {input.neurons} \
            --mask {input.mask} \
            --output {params.folder} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
