"""
This part of the workflow writes the explorer, a page of every answer, and the files that it loads.

It runs where `explorer.enabled` is true; `explorer.items_per_file` in the config says how many
items are in a file. The last one stays until the new one is whole (`update`: Snakemake does not
delete it first).
"""


rule explorer:
    """Write a page on which every answer can be looked at, from the disk and without a server."""
    input:
        **RULES.inputs("explorer"),
    output:
        **{name: update(paths) for name, paths in RULES.outputs("explorer").items()},
    log:
        RULES.log("explorer"),
    benchmark:
        RULES.benchmark("explorer")
    priority: RULES.priority("explorer")
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
