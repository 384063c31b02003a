"""
When can a vision-language model's answer be trusted, and where in the model can that be read?

    fetch_data, fetch_model -> sample -> extract, blind, consistency -> metrics -> probes
                            -> mask, ablate -> effects -> figures -> report
                                          -> explorer

One file per stage in workflow/rules; a rule has its stage's name, so that `--until metrics` and
`--forcerun probes` mean what they say (gather has two: the other is gather_interventions). Each
rule is one `vrp <stage>` command that also runs by hand. All results of a study are under
results/<study>.

    snakemake --cores 2                                      config/demo.yaml, the default
    snakemake --cores 2 --configfile config/ci.yaml          another study
    snakemake --cores 2 --config study=seed-1 seed=1         one key changed, beside the demo
    snakemake --profile slurm                                config/paper.yaml on a cluster
"""

from snakemake.utils import min_version

min_version("9.27")


# The default applies only where no other study was given: Snakemake would merge the two, and
# the default's models would join the other study's.
if not workflow.configfiles:

    configfile: "config/demo.yaml"


include: "workflow/study.smk"


wildcard_constraints:
    model="|".join(map(re.escape, STUDY.models)),
    shard=r"\d+",


report: "workflow/report/workflow.rst"


# Used with `--sdm apptainer` only; envs/vrp.def builds it.
container: "envs/vrp.sif"


# One file a stage, in the order in which data flows.
for stage in STAGES:

    include: f"workflow/rules/{stage.name}.smk"


rule all:
    """Everything that a study yields for people: the report, its numbers, figures and tables."""
    default_target: True
    input:
        list(map(str, RULES.layout.final_files())),


if workflow.is_main_process:
    try:
        refuse_unknown_targets(
            sys.argv[1:], [rule.name for rule in workflow.rules], RULES.layout
        )
        refuse_too_few_items(sys.argv[1:], STUDY)
    except InputError as error:
        sys.exit(f"Error: {error}")


onstart:
    require_gpu_count(workflow)
    acquire_results_lock(RESULTS)
    refuse_beside_slurm_jobs(workflow, STUDY)
    write_snapshot(STUDY, Path(SNAPSHOT))
    shorten_job_messages(workflow)


onsuccess:
    remove_finished_batches(RESULTS)
    remove_partial_files(RESULTS)
    for line in report_in_short(RESULTS):
        logger.info(line)


onerror:
    mark_kept_outputs(workflow)
    for line in unfinished_in_short(RESULTS):
        logger.error(line)
