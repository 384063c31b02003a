"""
This part of the workflow draws every figure from the tables.
"""


rule figures:
    """Draw the figures."""
    input:
        **RULES.inputs("figures"),
    output:
        **RULES.outputs("figures"),
    log:
        RULES.log("figures"),
    benchmark:
        RULES.benchmark("figures")
    priority: RULES.priority("figures")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("figures"),
    params:
        *RULES.rerun_params("figures"),
        study=SNAPSHOT,
    shell:
        RULES.command("figures")
