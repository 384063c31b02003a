"""
This part of the workflow lists the shards of one stage and model, for every stage that needs all
of them.

Later stages wait for these few files and not for all shards: planning thousands of shards then
takes a time that grows with their number, not with its square. The interventions' shards are
listed by a rule of its own, so that `--until gather` stops before them. Where `extraction_from`
is set, the shards may be another study's, and the two studies' items must be equal.
"""


rule gather:
    """List the shards of one stage and model with their checksums, once they fit together."""
    input:
        shards=RULES.listed_shards,
        item_tables=RULES.compared_items(),
    output:
        list=RULES.list_pattern(),
    log:
        RULES.log("gather"),
    benchmark:
        RULES.benchmark("gather")
    wildcard_constraints:
        stage=RULES.lists_of("gather"),
    priority: RULES.priority("gather")
    localrule: True
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("gather"),
    params:
        *RULES.rerun_params("gather"),
        study=SNAPSHOT,
        folder=RULES.listed_folder,
    shell:
        RULES.command("gather")


use rule gather as gather_interventions with:
    log:
        RULES.log("gather_interventions"),
    benchmark:
        RULES.benchmark("gather_interventions")
    wildcard_constraints:
        stage=RULES.lists_of("gather_interventions"),
