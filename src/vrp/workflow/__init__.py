"""What a run of the workflow does beside its rules; `workflow/study.smk` calls it."""
