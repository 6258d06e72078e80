"""`jal score` on several hosts: a parent that watches the process that works."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

import jax
import typer

# In the environment of the process that does the work of one of several hosts.
CHILD = "JAL_SCORE_CHILD"
# What it exits with if another one was lost, and how JAX words that.
PEER_LOST = 75
LOST = re.compile(r"Gloo|NCCL|[Cc]oordination|by peer|[Hh]eartbeat")


def is_distributed(coordinator, num_processes, process_id) -> bool:
    """Whether there are several hosts; all of the options belong together."""
    options = {
        "--coordinator": coordinator,
        "--num-processes": num_processes,
        "--process-id": process_id,
    }
    absent = [name for name, value in options.items() if value is None]
    if len(absent) == len(options):
        return False
    if absent:
        raise ValueError(f"several hosts also need {' and '.join(absent)}")
    if process_id >= num_processes:
        raise ValueError(
            f"--process-id {process_id}: with --num-processes {num_processes} they are "
            f"0 to {num_processes - 1}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"--coordinator {coordinator!r}; expected HOST:PORT, e.g. 10.0.0.1:1234"
        )
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        raise ValueError(
            f"--coordinator {coordinator}: there is no host {host!r} ({error})"
        ) from error
    if process_id == 0:  # JAX crashes where it cannot listen
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise ValueError(
                f"--coordinator {coordinator}: process 0 cannot listen to port {port} "
                f"({error}); choose another"
            ) from error
    return True


def supervised(command: list[str]) -> int:
    """Runs the command as a child, and says in a line why it ended; the exit code.

    JAX aborts a process when it finds that another one is lost.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closed when this process ends, however it ends
        env={**os.environ, CHILD: "1"},
        start_new_session=True,  # Ctrl-C comes to this process alone
    ) as child:
        try:
            code = child.wait()
        finally:
            child.kill()
    again = "what is scored is kept: run the same command with --resume on all hosts"
    if code in (PEER_LOST, -signal.SIGABRT):
        typer.echo(
            "Error: the job stopped because another process was lost, or did not "
            f"start (the lines above say which); {again}",
            err=True,
        )
        return 1
    if code < 0:
        ended_by = signal.Signals(-code).name
        typer.echo(f"Error: the job was ended by {ended_by}; {again}", err=True)
        return 1
    return code


def join(coordinator, num_processes, process_id, heartbeat_timeout) -> None:
    typer.echo(
        f"process {process_id} waits for all {num_processes} at {coordinator}, for 5 "
        "minutes at most",
        err=True,
    )
    jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        heartbeat_timeout_seconds=heartbeat_timeout,
        initialization_timeout=300,
    )


def work_for_parent(app: Callable[[], object]) -> None:
    """What `main` does in the process that works for one of several hosts."""
    threading.Thread(target=_end_with_parent, args=(0,), daemon=True).start()
    # Gloo writes to the standard output, where the summary belongs.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    code = 1
    try:
        app()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        traceback.print_exc()
        # Whoever ends while the others still join fails them outside of all else.
        if isinstance(error, RuntimeError) and LOST.search(str(error)):
            code = PEER_LOST
    sys.stdout.flush()
    sys.stderr.flush()
    if code != 0:
        # An ordinary exit would wait for the other processes, which wait for this one.
        os._exit(code if isinstance(code, int) else 1)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)


@contextlib.contextmanager
def device_errors(distributed: bool, chunk_size: int) -> Iterator[None]:
    """What the devices and the network between them report, in the user's words."""
    try:
        yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        message = str(error)
        if distributed and LOST.search(message):
            typer.echo(message, err=True)
            raise typer.Exit(PEER_LOST) from error
        if "RESOURCE_EXHAUSTED" in message:
            raise ValueError(
                f"out of memory with --chunk-size {chunk_size}; lower it, or give "
                f"--batch-size ({message.splitlines()[0]})"
            ) from error
        raise
