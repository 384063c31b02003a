"""
This part of the workflow samples the study's items, exactly as many as asked for.
"""


rule sample:
    """Sample the items: stratified, seeded, independent of the files' order."""
    input:
        **RULES.inputs("sample"),
    output:
        **RULES.outputs("sample"),
    log:
        RULES.log("sample"),
    benchmark:
        RULES.benchmark("sample")
    priority: RULES.priority("sample")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("sample"),
    params:
        *RULES.rerun_params("sample"),
        study=SNAPSHOT,
    shell:
        RULES.command("sample")
