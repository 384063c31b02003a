"""
This part of the workflow fetches checkpoints and records exactly what they are.

A hub checkpoint goes to the hub's cache, here, where there is a network: model runs are offline.
"""


rule fetch_model:
    """Fetch one checkpoint at its pinned revision and list the digests of its files."""
    input:
        files=lambda wildcards: checkpoint_files(STUDY, wildcards.model),
    output:
        **RULES.outputs("fetch_model"),
    log:
        RULES.log("fetch_model"),
    benchmark:
        RULES.benchmark("fetch_model")
    priority: RULES.priority("fetch_model")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("fetch_model"),
    params:
        *RULES.rerun_params("fetch_model"),
        study=SNAPSHOT,
        embedded=lambda wildcards: embedded_digest(STUDY, wildcards.model),
    shell:
        RULES.command("fetch_model")
