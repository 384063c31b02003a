"""
The study's configuration, checked, and what the rules ask of it. No rules here.
"""

import gc
import os
import re
import sys
from pathlib import Path

import vrp
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.report.in_short import report_in_short, unfinished_in_short
from vrp.study.graph import STAGES
from vrp.workflow.changed_code import log_changed_code
from vrp.workflow.clearing import remove_finished_batches, remove_partial_files
from vrp.workflow.gpu_count import require_gpu_count
from vrp.workflow.outdated_outputs import plan_outdated_outputs
from vrp.workflow.job_messages import shorten_job_messages
from vrp.workflow.last_report import mark_kept_outputs
from vrp.workflow.lock import acquire_results_lock
from vrp.workflow.misread_input import refuse_misread_input
from vrp.workflow.orphaned_jobs import refuse_beside_slurm_jobs
from vrp.workflow.orphaned_outputs import recover_orphaned_outputs
from vrp.workflow.rules import StudyRules
from vrp.workflow.shell_quoting import quote_job_commands
from vrp.workflow.snapshot import pass_on_snapshot, snapshot_in_use, write_snapshot
from vrp.workflow.targets import refuse_too_few_items, refuse_unknown_targets
from vrp.workflow.watched_files import (
    checkpoint_files,
    embedded_digest,
    instances_digest,
    question_files,
)

# Planning makes many objects and drops few: looking through all of them for garbage as often as
# Python does by itself takes a sixth of the time.
gc.set_threshold(200_000, 20, 100)

for place in (workflow.basedir, vrp.__path__[0]):
    if set("{}") & set(str(place)):
        sys.exit(
            f"Error: {place}: Snakemake reads braces as wildcards; use a folder without any"
        )

files = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
overrides = " with --config" if workflow.config_settings.config else ""

try:
    # A job on a cluster, where `~` and variables may mean another folder, reads what is meant.
    STUDY = None if workflow.is_main_process else snapshot_in_use()
    if STUDY is None:
        refuse_misread_input(workflow, sys.argv[1:])
        STUDY = study_from_mapping(
            config,
            where=f"{files}{overrides}",
            beside=[Path(path).parent for path in workflow.configfiles],
        )
    RULES = StudyRules(STUDY)
except InputError as error:
    # One line and no traceback: the message says what to mend.
    sys.exit(f"Error in the configuration: {error}")

RESULTS = Path(STUDY.results, STUDY.study)

# The configuration as merged and checked. `vrp` reads it; it is an input of no rule, since each
# rule reruns by the keys that its stage reads.
SNAPSHOT = f"{RESULTS}/config.yaml"

if STUDY.extraction_from is not None and workflow.is_main_process:
    for stage, reason in RULES.layout.shared.own.items():
        logger.info(f"The stage {stage} is the study's own: {reason}.")
    if "enabled" not in config.get("ablate", {}):
        logger.info(
            "The ablation is left out, since the extraction is another study's and an ablation asks "
            "for the model again; `ablate: {enabled: true}` runs it."
        )

# For the stages: who runs them, so that none outlives a workflow that was killed; and that the
# workflow itself clears finished batches away, since it deletes tables that it has not recorded.
os.environ.update(VRP_RUN_BY=str(os.getpid()), VRP_KEEP_BATCHES="1")
pass_on_snapshot(Path(SNAPSHOT))

quote_job_commands()
orphaned = recover_orphaned_outputs(workflow, STUDY)
plan_outdated_outputs(workflow, RULES, exclude=orphaned)
log_changed_code(workflow, RULES)
