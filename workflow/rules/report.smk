"""
This part of the workflow writes the report and the summary from the tables.

REQUIRED INPUTS:

    data     = <results>/data.json
    items    = <results>/items.parquet
    sampling = <results>/sampling.json
    effects  = <results>/effects.parquet
    figures  = <results>/figures/{name}.{format}, all figures
    extraction, consistency, mask (where it is enabled) = lists of all models' shards: it reads
              answers, attention, lens, consistency and mask
    signals, heads, metrics, probes, predictions, neurons = tables of all models

OUTPUTS:

    summary  = <results>/summary.json
    report   = <results>/report.html
"""


rule report:
    """Write one self-contained HTML report, and its numbers as JSON."""
    input:
        **MODEL_TABLES,
        data="<results>/data.json",
        item_table="<results>/items.parquet",
        sampling="<results>/sampling.json",
        effects="<results>/effects.parquet",
        figures=FIGURES,
    output:
        summary=report(
            "<results>/summary.json",
            caption="../report/summary.rst",
            category="Summary",
        ),
        report=report(
            "<results>/report.html", caption="../report/report.rst", category="Report"
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("report"),
        runtime=runtime("report"),
    params:
        *causes_of("report"),
        study=SNAPSHOT,
    shell:
        """
        vrp report \
            --config {params.study} \
            --data {input.data} \
            --items {input.item_table} \
            --sampling {input.sampling} \
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
            --figures {input.figures} \
            --summary {output.summary} \
            --output {output.report} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
