"""Starts Python programs that have their libraries imported: tests start hundreds of them.

A server imports the libraries when it is first asked, and forks for each program. A program is
started by a small client, whose working directory, environment, standard streams and signals
become the program's; it ends with the program's status, and the program with it. The package `vrp`
is not imported ahead: each program finds the copy that its own environment names.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "snakemake.cli", "snakemake.executors.local", "snakemake_executor_plugin_slurm", "pandas",
    "pydantic", "yaml", "jinja2", "pyarrow.parquet", "PIL.Image",
    "scipy.stats", "scipy.optimize", "sklearn.linear_model", "sklearn.isotonic",
    "sklearn.neural_network", "sklearn.model_selection", "sklearn.pipeline",
    "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg",
    "torch", "torch.utils.flop_counter", "transformers", "transformers.modeling_utils",
    "transformers.models.llava.modeling_llava", "transformers.models.llava.processing_llava",
    "transformers.models.paligemma.modeling_paligemma",
    "transformers.models.paligemma.processing_paligemma",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "transformers.models.qwen2_vl.processing_qwen2_vl",
    "transformers.models.clip.modeling_clip", "transformers.models.llama.modeling_llama",
    "transformers.models.siglip.modeling_siglip", "transformers.models.gemma.modeling_gemma",
)  # fmt: skip
"""Not polars: it starts threads, which a fork would lose."""
_ADDRESS = "VRP_TESTS_WARM_PYTHON"
_ENVIRONMENT = {
    # Read when a library is imported; else it starts threads, or asks a hub.
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false", "HF_HUB_OFFLINE": "1",
}  # fmt: skip
_STREAMS = 3


def start_server(folder: Path) -> None:
    """Start a server that ends with this process; processes that this one starts find it."""
    import subprocess

    address = str(folder / "warm")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        alive, _held = os.pipe()  # never closed here: it ends with this process
        given = (listening.fileno(), alive)
        subprocess.Popen(
            [sys.executable, __file__, *map(str, given)],
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=given,
        )
    os.close(alive)
    os.environ[_ADDRESS] = address


def warm(program: Path) -> list[str]:
    """Return the command that starts a Python program; arguments may follow."""
    return [sys.executable, "-I", "-S", __file__, os.environ[_ADDRESS], str(program)]


# The client


def ask(address: str, arguments: list[str]) -> NoReturn:
    """Have the server run a program as this process would, and end as it does."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    socket.send_fds(connection, [b"!"], range(_STREAMS))
    connection.sendall(json.dumps(request).encode() + b"\n")
    with connection.makefile() as answers:
        program = int(answers.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(program, number))
        status = int(answers.readline() or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


# The server


def serve(listening: socket.socket, alive: int) -> None:
    """Fork for every request until nobody holds the other end of `alive`.

    Returns in each program's process, once it has become that program's.
    """
    import gc
    import select

    ready, _, _ = select.select([listening, alive], [], [])
    if alive in ready:
        os._exit(0)
    _import_libraries()
    gc.freeze()  # shared pages stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listening, alive], [], [])
        if alive in ready:
            os._exit(0)
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            os.close(alive)
            _attend(connection)
            return
        connection.close()


def _import_libraries() -> None:
    import importlib

    for library in LIBRARIES:
        importlib.import_module(library)
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    assert n_threads == 1, f"{n_threads} threads: a library that starts some cannot be shared"


def _attend(connection: socket.socket) -> None:
    """Start the program that is asked for, and report to its client; return in the program."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, _STREAMS)
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    program = os.fork()
    if program == 0:
        connection.close()
        _become(request, streams)
        return
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{program}\n".encode())
    ended = os.pidfd_open(program)
    ready, _, _ = select.select([connection, ended], [], [])
    if ended not in ready:  # the client is gone
        os.kill(program, signal.SIGKILL)
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]
    own = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = [str(Path(sys.argv[0]).parent), *filter(None, own.split(os.pathsep))]


def _run_program() -> NoReturn:
    """Run the program that this process has become, and end as an interpreter does, without its
    last step: to take every library apart."""
    import atexit
    import runpy
    import threading

    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ending:
        if isinstance(ending.code, int):
            status = ending.code
        elif ending.code is not None:
            print(ending.code, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
        _run_program()
    ask(sys.argv[1], sys.argv[2:])
