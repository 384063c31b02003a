"""
This part of the workflow probes hidden states for correctness, layer by layer.
"""


rule probes:
    """Fit one model's probes with image-grouped cross-validation."""
    input:
        **RULES.inputs("probes"),
    output:
        **RULES.outputs("probes"),
    log:
        RULES.log("probes"),
    benchmark:
        RULES.benchmark("probes")
    priority: RULES.priority("probes")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("probes"),
    params:
        *RULES.rerun_params("probes"),
        study=SNAPSHOT,
    shell:
        RULES.command("probes")
