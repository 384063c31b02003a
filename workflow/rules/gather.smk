"""
This part of the workflow lists one model's shards, for every stage that needs all of them.

REQUIRED INPUTS:

    shards = <extraction>/{model}/{table}/{shard}.parquet, all shards of all tables of the run
             (those of mask and ablate are under <results>; where `extraction_from` is set and the
             other study has made the very same masking, its)
    items  = <results>/items.parquet and <extraction>/items.parquet, where `extraction_from` is
             set: they must be equal

OUTPUTS:

    list   = <results>/{model}/{run}.json of each run:
             extraction  (tables answers, attention, hidden, lens)
             consistency (table consistency)
             blind       (tables blind/answers and blind/hidden), where `extract.blind` is true
             and, by a rule of its own, so that `--until gather` stops before the interventions,
             mask        (table mask), where `mask.enabled` is true
             ablate      (table ablate), where `ablate.enabled` is true

Later stages wait for these few files and not for all shards: planning thousands of shards then
takes a time that grows with their number, not with its square.
"""


rule gather:
    """List the shards of one run of a model with their checksums, once they fit together."""
    input:
        shards=shards_of_run,
        item_tables=SHARED_ITEMS,
    output:
        list="<results>/{model}/{run}.json",
    log:
        "<logs>/gather/{model}/{run}.log",
    benchmark:
        "<benchmarks>/gather/{model}/{run}.tsv"
    wildcard_constraints:
        run="extraction|consistency|blind",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb("gather"),
        runtime=runtime("gather"),
    params:
        *causes_of("gather"),
        study=SNAPSHOT,
        folder=folder_of_run,
        tables=lambda wildcards: RUNS[wildcards.run].tables,
        n_shards=lambda wildcards: len(RUNS[wildcards.run].shards),
    shell:
        """
        vrp gather \
            --config {params.study} \
            --folder {params.folder} \
            --tables {params.tables} \
            --shards {params.n_shards} \
            --items {input.item_tables} \
            --output {output.list} \
            2>&1 | (trap '' INT TERM && exec tee {log} >&2)
        """


use rule gather as gather_interventions with:
    log:
        "<logs>/gather_interventions/{model}/{run}.log",
    benchmark:
        "<benchmarks>/gather_interventions/{model}/{run}.tsv"
    wildcard_constraints:
        run="mask|ablate",
