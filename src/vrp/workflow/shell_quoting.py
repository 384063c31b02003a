"""The command of the Snakemake that runs a job: quoted for the shell that starts it.

Snakemake quotes arguments as Python does, and the interpreter not at all. In a path such as
`it's $(date)`, a shell reads Python's quotes as double ones and runs the command.
"""

import shlex
from typing import Any

from snakemake_interface_executor_plugins import utils
from snakemake_interface_executor_plugins.executors.real import RealExecutor


def quote_job_commands() -> None:
    """Have Snakemake quote for a shell, in this process, whichever executor runs the jobs."""
    as_python, unquoted = utils.format_cli_value, RealExecutor.format_job_exec

    def format_cli_value(value: Any, quote: bool = False, base64_encode: bool = False) -> str:
        if isinstance(value, str) and quote and not base64_encode:
            return shlex.quote(value)
        return str(as_python(value, quote=quote, base64_encode=base64_encode))

    def format_job_exec(self: Any, job: Any) -> str:
        program = self.get_python_executable()
        found = str(unquoted(self, job))
        return found.replace(f"{program} -m", f"{shlex.quote(program)} -m", 1)

    utils.format_cli_value = format_cli_value
    RealExecutor.format_job_exec = format_job_exec
