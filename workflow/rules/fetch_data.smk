"""
This part of the workflow puts images and question files into the data folder.

REQUIRED INPUTS:

    questions = question files in the data folder, where `data.origin` is `local`

OUTPUTS:

    manifest  = <results>/data.json

The images and question files themselves are no outputs: Snakemake deletes outputs before it
makes them anew, and the data folder may be the user's own.
"""


rule fetch_data:
    """Draw scenes, fetch official archives or data sets on the hub, or check local files."""
    input:
        questions=lambda wildcards: question_files(STUDY),
    output:
        manifest="<results>/data.json",
    log:
        "<logs>/fetch_data.log",
    benchmark:
        "<benchmarks>/fetch_data.tsv"
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("fetch_data"),
        runtime=runtime("fetch_data"),
    params:
        *causes_of("fetch_data"),
        study=SNAPSHOT,
    shell:
        """
        vrp fetch-data \
            --config {params.study} \
            --output {output.manifest} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """
