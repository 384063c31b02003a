"""
This part of the workflow writes the report and the summary from the tables.

The last ones stay until the new ones are whole (`update`: Snakemake does not delete them first).
"""


rule report:
    """Write one self-contained HTML report, and its numbers as JSON."""
    input:
        **RULES.inputs("report"),
    output:
        summary=update(
            report(
                RULES.outputs("report")["summary"],
                caption="../report/summary.rst",
                category="Report",
                labels={"file": "summary.json: the numbers, for programs"},
            )
        ),
        report=update(
            report(
                RULES.outputs("report")["report"],
                caption="../report/report.rst",
                category="Report",
                labels={"file": "report.html: the page"},
            )
        ),
    log:
        RULES.log("report"),
    benchmark:
        RULES.benchmark("report")
    priority: RULES.priority("report")
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
