"""
This part of the workflow samples the study's items, exactly as many as asked for.

REQUIRED INPUTS:

    data   = <results>/data.json

OUTPUTS:

    items  = <results>/items.parquet
    report = <results>/sampling.json
"""


rule sample:
    """Sample the items: stratified, seeded, independent of the files' order."""
    input:
        data="<results>/data.json",
    output:
        item_table="<results>/items.parquet",
        report="<results>/sampling.json",
    log:
        "<logs>/sample.log",
    benchmark:
        "<benchmarks>/sample.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("sample"),
        runtime=runtime("sample"),
    params:
        *causes_of("sample"),
        study=SNAPSHOT,
    shell:
        """
        vrp sample \
            --config {params.study} \
            --data {input.data} \
            --output {output.item_table} \
            --report {output.report} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
