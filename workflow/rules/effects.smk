"""
This part of the workflow estimates every intervention's paired effect on accuracy.
"""


rule effects:
    """Estimate paired effects with intervals, of all models together."""
    input:
        **RULES.inputs("effects"),
    output:
        **RULES.outputs("effects"),
    log:
        RULES.log("effects"),
    benchmark:
        RULES.benchmark("effects")
    priority: RULES.priority("effects")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("effects"),
    params:
        *RULES.rerun_params("effects"),
        study=SNAPSHOT,
    shell:
        RULES.command("effects")
