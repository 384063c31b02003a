"""
This part of the workflow puts images and question files into the data folder.

The images and question files themselves are no outputs: Snakemake deletes outputs before it
makes them anew, and the data folder may be the user's own.
"""


rule fetch_data:
    """Draw scenes, fetch official archives or data sets on the hub, or check local files."""
    input:
        questions=lambda wildcards: question_files(STUDY),
    output:
        **RULES.outputs("fetch_data"),
    log:
        RULES.log("fetch_data"),
    benchmark:
        RULES.benchmark("fetch_data")
    priority: RULES.priority("fetch_data")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("fetch_data"),
    params:
        *RULES.rerun_params("fetch_data"),
        study=SNAPSHOT,
    shell:
        RULES.command("fetch_data")
