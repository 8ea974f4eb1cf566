"""A contender in a process of its own, which computes only while it is asked to.

The process is `python -m experiments.contenders.worker`. It reads one JSON object a line from
stdin and answers each with one on stdout: first the task, then {"seconds": S} for each measurement;
at the end of stdin it ends.
"""

import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, TextIO

from cnn_jax.config import from_json, to_json
from cnn_jax.errors import InputError
from cnn_jax.peak_rss import peak_rss
from cnn_jax.training.provenance import version
from experiments.contenders import CONTENDERS
from experiments.contenders.task import WARM_STEPS, Contender, Started, Task

# One device serves several processes; and a cache would hide what compiling costs.
_ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}


class WorkerError(RuntimeError):
    """A contender can't go on; the message says in one line why."""


class Worker:
    """The asking side. Each answer must come within `timeout` seconds.

    `facts` is what the process said of itself when it had taken its first step.
    """

    def __init__(self, task: Task, *, timeout: float):
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        environment = dict(CONTENDERS[task.contender].environment)
        if folder := task.config.data.dir:  # what is remembered of its files goes when they go
            environment["CNN_JAX_CACHE"] = f"{folder}/.cache"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **_ENVIRONMENT, **environment},
        )
        try:
            config = json.loads(to_json(task.config))
            self.facts = self._ask(contender=task.contender, mode=task.mode, config=config)
        except BaseException:
            self.close()
            raise

    def measure(self, seconds: float) -> dict[str, Any]:
        """Returns `steps`, the `seconds` they took, about as many as asked for, and peak memory.

        Raises:
          WorkerError: the process failed, was killed or took too long.
        """
        return self._ask(seconds=seconds)

    def _ask(self, **request: Any) -> dict[str, Any]:
        late = threading.Timer(self._timeout, self._process.kill)
        began = time.monotonic()
        late.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            raise WorkerError(self._why_it_ended(time.monotonic() - began))
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _why_it_ended(self, seconds: float) -> str:
        code = self._process.wait()
        if seconds >= self._timeout:
            return f"gave no answer within {self._timeout:g} seconds"
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"{how}: {said[-1]}" if said else how

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def main() -> None:
    """Serves the requests of one `Worker`."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes where errors go
    try:
        _serve(map(json.loads, sys.stdin), answers)
    except Exception as error:
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        print(json.dumps({"error": " ".join(text.split())[:500]}), file=answers)


def _serve(requests: Iterable[dict[str, Any]], answers: TextIO) -> None:
    first = next(iter(requests))
    task = Task(from_json(json.dumps(first["config"])), first["mode"], first["contender"])
    entry = CONTENDERS[task.contender]
    module = importlib.import_module(f"experiments.contenders.{entry.module}")
    contender: Contender = module.build(task)
    began = time.perf_counter()
    started = contender.start()
    with started.reading():
        started.run(1)
    facts = {
        "compile_seconds": time.perf_counter() - began,
        "parameters": started.parameters,
        "flops": started.flops,
        "device_kind": contender.device_kind,
        "threads": contender.threads,
        "versions": {name: v for name in entry.distributions if (v := version(name))},
    }
    print(json.dumps(facts), file=answers)
    steps = None
    for request in requests:
        steps = steps or _steps_in(request["seconds"], started)
        took, taken = timed(started, steps)
        device = contender.peak_memory()
        memory = {"peak_memory_bytes": peak_rss() if device is None else device}
        memory["peak_memory_of"] = "process" if device is None else "device"
        print(json.dumps({"steps": taken, "seconds": took} | memory), file=answers)


def timed(started: Started, steps: int) -> tuple[float, int]:
    """Returns how long a run took, and how many steps it was.

    Where images are read ahead, steps come first that don't count, until reading is in full swing;
    nothing is read once the run is over, while others are measured.
    """
    with started.reading():
        if started.reading is not nullcontext:
            started.run(WARM_STEPS)
        began = time.perf_counter()
        taken = started.run(steps)
        took = time.perf_counter() - began
    return started.seconds() if started.seconds else took, taken


def _steps_in(seconds: float, started: Started) -> int:
    """Returns how many steps take about that long, found by taking more and more of them."""
    took, taken = timed(started, 1)
    while took < seconds / 2:
        more = min(8.0, seconds / took)
        took, taken = timed(started, math.ceil(taken * more))
    return max(1, round(taken * seconds / took))


if __name__ == "__main__":
    main()
