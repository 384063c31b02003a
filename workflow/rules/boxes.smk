"""
This part of the workflow finds the boxes of the objects that the study's questions ask for.

It runs where the image's annotations are known: for drawn scenes, and where `boxes.instances`
names an annotation file in COCO's format.
"""


rule boxes:
    """Look up, for each question for an object, where the image has such objects."""
    input:
        **RULES.inputs("boxes"),
    output:
        **RULES.outputs("boxes"),
    log:
        RULES.log("boxes"),
    benchmark:
        RULES.benchmark("boxes")
    priority: RULES.priority("boxes")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("boxes"),
    params:
        *RULES.rerun_params("boxes"),
        study=SNAPSHOT,
        instances=lambda wildcards: instances_digest(STUDY),
    shell:
        RULES.command("boxes")
