"""Several processes as one run: how they find each other, agree to stop, and end together.

All of them do the same steps and enter every save; only the first writes files, says lines and
holds the lock. Process i of Slurm, Open MPI or a Cloud TPU knows the others from its launcher.
"""

import collections
import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from cnn_jax.errors import InputError, RunError
from cnn_jax.placement import replicated, sharded

HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as dead
LAG = 4  # steps between a request to stop and the step at which all processes heed it


def join(
    coordinator: str | None = None, process_id: int | None = None, num_processes: int | None = None
) -> bool:
    """Makes this process one of several, if it is; call it before anything is computed.

    Args:
      coordinator: address:port of process 0, which every process can reach.
      process_id: this process's number, from 0.
      num_processes: how many there are. All three or none: the launcher's environment says then.

    Returns whether there are several.

    Raises:
      InputError: the three don't fit together, or the others can't be reached.
    """
    given = (coordinator, process_id, num_processes)
    if any(value is not None for value in given):
        _check(*given)
    elif launcher(os.environ) is None:
        return False
    try:
        jax.distributed.initialize(*_in_order(given), heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes can't reach each other: {_first_line(error)}") from error
    _say_why_it_aborts()
    # Gloo, by which CPUs reduce, tells of its connections on stdout, which is for results.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def _in_order(given: tuple) -> tuple:
    """jax.distributed.initialize takes the number of processes before the process's own."""
    coordinator, process_id, num_processes = given
    return coordinator, num_processes, process_id


def _check(coordinator: str | None, process_id: int | None, num_processes: int | None) -> None:
    if coordinator is None or process_id is None or num_processes is None:
        raise InputError("--coordinator, --process_id and --num_processes go together; set all")
    if not coordinator.rpartition(":")[2].isdigit():
        raise InputError(f"--coordinator is '{coordinator}'; it must be address:port of process 0")
    if not 0 <= process_id < num_processes:
        raise InputError(
            f"--process_id is {process_id} of --num_processes={num_processes}; it must be "
            f"from 0 to {num_processes - 1}"
        )


def launcher(environment: Mapping[str, str]) -> str | None:
    """Returns what started this process as one of several, None if nothing did.

    >>> launcher({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"})
    'Slurm'
    """
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1:
        return "Slurm"
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "," in environment.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_NUM_SLICES" in environment:
        return "Cloud TPU"
    return None


def is_first() -> bool:
    """Whether this is the process that writes files and says lines."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns once every process has called it with this name."""
    multihost_utils.sync_global_devices(name)


def check_alike(known: Mapping[str, Any]) -> None:
    """Raises InputError, in every process, if any of them knows something else under a name."""
    if jax.process_count() == 1:
        return
    text = np.frombuffer(json.dumps(known).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(text)))
    texts = multihost_utils.process_allgather(np.pad(text, (0, sizes.max() - len(text))))
    all_known = [json.loads(row[:size].tobytes()) for row, size in zip(texts, sizes, strict=True)]
    for number, other in enumerate(all_known):
        for name, value in all_known[0].items():
            if other.get(name) != value:
                raise InputError(
                    f"the processes differ: {name} is {value!r} in process 0 and "
                    f"{other.get(name)!r} in process {number}; start all with the same flags"
                )


class Agreement:
    """Lets all processes stop at the same step when any of them is asked to.

    The requests of a step are reduced on the devices, beside the step; their result is read LAG
    steps later, when it has long been there, so nobody waits.
    """

    def __init__(self, mesh: Mesh, reasons: Sequence[str]):
        self._reasons = (None, *reasons)
        self._spread = sharded(mesh)
        self._any = jax.jit(jnp.max, out_shardings=replicated(mesh))
        self._under_way: collections.deque[jax.Array] = collections.deque()

    def __call__(self, reason: str | None) -> str | None:
        """Returns the reason for which all stop now; call it once a step, in every process."""
        if jax.process_count() == 1:
            return reason
        number = np.full(1, self._reasons.index(reason), np.int32)
        size = self._spread.mesh.size
        votes = jax.make_array_from_callback((size,), self._spread, lambda index: number)
        self._under_way.append(self._any(votes))
        if len(self._under_way) <= LAG:
            return None
        return self._reasons[int(self._under_way.popleft())]


def end(error: Exception) -> NoReturn:
    """Ends one of several processes that failed, at once: an orderly end would wait for the others.

    They notice that it is gone, and end too.
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        error = RunError(f"{_LOST.format(who())}: {_first_line(error)}")
    if not isinstance(error, InputError | RunError):
        traceback.print_exception(error)
    print(f"error: {_first_line(error)}", file=sys.stderr, flush=True)
    os._exit(2 if isinstance(error, InputError) else 1)


_LOST = (
    "{} can't go on without the others, of which one is gone; the last checkpoint is kept, "
    "start all processes again"
)


def _say_why_it_aborts() -> None:
    """Adds a line to the page of addresses with which jax, in C++, aborts when others are dead.

    Python's own signal handlers never run there, so this one is set in C.
    """
    message = f"error: {_LOST.format(who())}\n".encode()

    def on_abort(number: int) -> None:
        os.write(2, message)
        os._exit(1)

    global _on_abort  # C keeps the address alone
    _on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


def who() -> str:
    """Returns which of how many processes this is."""
    return f"process {jax.process_index()} of {jax.process_count()}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
