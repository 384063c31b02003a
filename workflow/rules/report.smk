"""
This part of the workflow writes the report and the summary from the tables.
"""


rule report:
    """Write one self-contained HTML report, and its numbers as JSON."""
    input:
        **RULES.inputs("report"),
    output:
        summary=report(
            RULES.outputs("report")["summary"],
            caption="../report/summary.rst",
            category="Summary",
        ),
        report=report(
            RULES.outputs("report")["report"],
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        RULES.log("report"),
    benchmark:
        RULES.benchmark("report")
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        **RULES.resources("report"),
    params:
        *RULES.rerun_params("report"),
        study=SNAPSHOT,
    shell:
        RULES.command("report")
