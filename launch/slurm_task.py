"""One task on a Slurm cluster: a command that is stopped in time, and requeued to go on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from submitit.helpers import DelayedSubmission

from launch.command_line import STOPPED

_POLL = 0.2  # seconds


class Task:
    """A command that submitit runs as a job; exit code 75 puts it into the queue again.

    Shortly before the job's time is over, and when it is preempted, the command gets SIGTERM, upon
    which it saves a checkpoint and ends; the requeued job runs it again, and it goes on.
    """

    def __init__(self, command: Sequence[str]):
        self.command = list(command)

    def __call__(self) -> None:
        """Runs the command to its end; what it says is in the job's own logs.

        Raises:
          RuntimeError: it has failed.
        """
        while (code := self._run()) == STOPPED:
            if "SLURM_JOB_ID" in os.environ:  # elsewhere nobody would start it again
                subprocess.run(["scontrol", "requeue", _job_id()], check=False)
                sys.exit(STOPPED)  # without leaving a result: the job isn't over
        if code:
            raise RuntimeError(f"{' '.join(self.command)} ended with code {code}")

    def _run(self) -> int:
        python, *words = self.command
        process = subprocess.Popen([sys.executable if python == "python" else python, *words])
        self._pid = process.pid
        while (code := process.poll()) is None:
            time.sleep(_POLL)
        return code

    def checkpoint(self) -> DelayedSubmission:
        """Stops the command; submitit's signal handler calls it when the job's time is over."""
        os.kill(self._pid, signal.SIGTERM)
        # Waits without asking the Popen object, which may have been interrupted holding its lock.
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.command))


def _job_id() -> str:
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{index}" if array else os.environ["SLURM_JOB_ID"]
