"""
This part of the workflow writes the explorer, a page of every answer, and the files that it loads.

It runs where `explorer.enabled` is true; `explorer.items_per_file` in the config says how many
items are in a file.
"""


rule explorer:
    """Write a page on which every answer can be looked at, from the disk and without a server."""
    input:
        **RULES.inputs("explorer"),
    output:
        **RULES.outputs("explorer"),
    log:
        RULES.log("explorer"),
    benchmark:
        RULES.benchmark("explorer")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("explorer"),
    params:
        *RULES.rerun_params("explorer"),
        study=SNAPSHOT,
    shell:
        RULES.command("explorer")
