"""
This part of the workflow samples several answers to every question.

It has a prefill of its own, so that another number of samples redoes no extraction.
"""


rule consistency:
    """Sample K answers an item of one shard, from one prefill."""
    input:
        **RULES.inputs("consistency"),
    output:
        **RULES.outputs("consistency"),
    log:
        RULES.log("consistency"),
    benchmark:
        RULES.benchmark("consistency")
    priority: RULES.priority("consistency")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("consistency"),
    params:
        *RULES.rerun_params("consistency"),
        study=SNAPSHOT,
    shell:
        RULES.command("consistency")
