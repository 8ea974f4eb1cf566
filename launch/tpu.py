"""Runs a training or a sweep on a Cloud TPU VM, through gcloud.

    python -m launch.tpu --name=vgg --zone=us-west4-a --type=v5litepod-8 --bucket=gs://mine/runs
        [--spot] [--project=P] [--keep] [--dry_run] -- experiments.train --config=vgg_cifar

--dry_run prints the script and runs nothing. It makes the VM, copies the commit that is checked out
here to it, installs it, and runs the command; the run directory, with the log, is copied to
BUCKET/NAME every minute. A connection that is lost leaves the run going, and the same command
watches it again; of a spot VM that was taken away it makes another, which fetches the bucket's copy
and goes on from its last checkpoint. At the end the VM is deleted, unless --keep; where the bucket
does not take the run the VM stays, with exit code 255, and the same command tries again. The type
must be of a single host (v5litepod-8, v6e-8 and smaller): one process drives all chips. What was
run is in launched/NAME.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from absl import flags

from launch import command_line
from launch.cluster_commands import task_commands
from launch.command_line import STOPPED, LaunchError
from launch.manifest import read_manifest, write_manifest

_NAME = flags.DEFINE_string("name", None, "of the VM and of the directory in the bucket")
_ZONE = flags.DEFINE_string("zone", None, "such as us-west4-a")
_TYPE = flags.DEFINE_string("type", "v5litepod-8", "accelerator type, of one host")
_VERSION = flags.DEFINE_string("version", "v2-alpha-tpuv5-lite", "the VM's software")
_PROJECT = flags.DEFINE_string("project", None, "gcloud's own by default")
_BUCKET = flags.DEFINE_string("bucket", None, "gs://..., where run directories are kept")
_SPOT = flags.DEFINE_boolean("spot", False, "cheaper, and may be taken away")
_KEEP = flags.DEFINE_boolean("keep", False, "leave the VM when the command has ended")
_DRY_RUN = flags.DEFINE_boolean("dry_run", False, "print the script, run nothing")

_ARCHIVE = "cnn_jax.tar.gz"
_HOME = PurePosixPath("run")  # on the VM, in the user's home
_LOG = _HOME / "launch.log"
_LOST = 255  # ssh's code for a connection that failed; a run that can't be copied ends with it too


def main(argv: Sequence[str]) -> int | None:
    """Runs the command."""
    script = render(argv[1:])
    if _DRY_RUN.value:
        print(script, end="")
        return None
    record = Path("launched") / _NAME.value
    read_manifest(record)  # a damaged one is told of before anything is bought
    record.mkdir(parents=True, exist_ok=True)
    (record / "tpu.sh").write_text(script, encoding="utf-8")
    write_manifest(record, sys.argv, tpu=_NAME.value, zone=_ZONE.value, bucket=_BUCKET.value)
    code = subprocess.run(["bash", str(record / "tpu.sh")], check=False).returncode
    print(json.dumps({"tpu": _NAME.value, "runs": _kept(), "code": code}))
    return code


def render(words: Sequence[str]) -> str:
    """Returns the bash script that the command line asks for.

    Raises:
      LaunchError: something is missing or wrong.
    """
    for flag, what in ((_NAME, "the VM's"), (_ZONE, "where it is"), (_BUCKET, "gs://mine/runs")):
        if not flag.value:
            raise LaunchError(f"--{flag.name} is missing: {what}")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,60}[a-z0-9])?", _NAME.value):
        raise LaunchError(f"--name={_NAME.value}: a VM's name has a-z, 0-9 and -, from a letter on")
    if not re.match(r"gs://[a-z0-9]", _BUCKET.value):
        raise LaunchError(
            f"--bucket={_BUCKET.value} is no bucket; it begins with gs://NAME, in small letters"
        )
    (command,) = task_commands(words, _HOME, 1)
    return script(
        name=_NAME.value,
        place=[
            f"--zone={_ZONE.value}",
            *([f"--project={_PROJECT.value}"] if _PROJECT.value else []),
        ],
        machine=[
            f"--accelerator-type={_TYPE.value}",
            f"--version={_VERSION.value}",
            *(["--spot"] if _SPOT.value else []),
        ],
        kept=_kept(),
        command=command,
        delete=not _KEEP.value,
    )


def _kept() -> str:
    return f"{_BUCKET.value.rstrip('/')}/{_NAME.value}"


def script(
    *,
    name: str,
    place: Sequence[str],
    machine: Sequence[str],
    kept: str,
    command: Sequence[str],
    delete: bool,
) -> str:
    """Returns the bash script that makes a VM, runs a command on it and keeps what that leaves."""
    vm, where = "gcloud compute tpus tpu-vm", shlex.join([name, *place])
    create, remove = f"{vm} create {where} {shlex.join(machine)}", f"{vm} delete {where} --quiet"
    lines = [
        "#!/usr/bin/env bash",
        "set -euo pipefail",
        f"root=$(git -C {shlex.quote(str(Path(__file__).parent))} rev-parse --show-toplevel)",
        f"archive=$(mktemp -d)/{_ARCHIVE}",
        'git -C "$root" archive --format=tar.gz --output="$archive" HEAD',
        f"state=$({vm} describe {where} --format='value(state)' 2> /dev/null || true)",
        'case "$state" in',
        "  READY) ;;",
        f"  '') {create} ;;",
        f"  *) {remove}; {create} ;;",  # a spot VM that was taken away
        "esac",
        f'{vm} scp "$archive" {shlex.quote(f"{name}:{_ARCHIVE}")} {shlex.join(place)}',
        "code=0",
        f"{vm} ssh {where} --command={shlex.quote(on_the_vm(command, kept))} || code=$?",
    ]
    if delete:
        lines.append(f'[ "$code" -eq {_LOST} ] || {remove}')
    return "\n".join([*lines, 'exit "$code"', ""])


def on_the_vm(command: Sequence[str], kept: str) -> str:
    """Returns the script for the VM: starts the job unless it runs already, and watches its log.

    The job holds the lock; its exit code is in `code` when it has ended.
    """
    job_script = shlex.quote(job_on_the_vm(command, kept))
    return "\n".join(
        [
            f"set -euo pipefail; mkdir -p {_HOME}; touch {_LOG}; exec 9> lock",
            "if flock --nonblock 9; then",
            f"  rm -f code; nohup setsid bash -c {job_script} >> {_LOG} 2>&1 < /dev/null &",
            "fi",
            f"tail --follow {_LOG} & watching=$!",
            "until [ -e code ]; do sleep 5; done",
            "kill $watching; exit $(cat code)",
        ]
    )


def job_on_the_vm(command: Sequence[str], kept: str) -> str:
    """Returns the job: install, fetch what there is, run until it is done, and keep copying."""
    _, *words = command
    there = shlex.quote(kept)
    copy = f"gcloud storage rsync --recursive {_HOME} {there}"
    return "\n".join(
        [
            "set -euo pipefail; trap 'echo $? > code' EXIT",
            f"mkdir -p cnn_jax && tar -xzf {_ARCHIVE} -C cnn_jax",
            # The VM's own Python may be too old.
            "[ -e ~/.local/bin/uv ] || curl -LsSf https://astral.sh/uv/install.sh | sh",
            "~/.local/bin/uv venv --quiet --clear --python=3.12 venv",
            "~/.local/bin/uv pip install --quiet --python=venv './cnn_jax[tpu]'",
            f'if [ "$(ls {_HOME})" = {_LOG.name} ]; then',
            f"  if found=$(gcloud storage ls {there} 2>&1); then",
            f"    gcloud storage rsync --recursive {there} {_HOME}",
            # A run begun anew would be copied over one that could not be seen.
            "  elif [[ $found != *'matched no objects'* ]]; then",
            '    echo "$found"; exit 1',
            "  fi",
            "fi",
            f"(while sleep 60; do {copy} || true; done) > /dev/null 2>&1 & copying=$!",
            f"code={STOPPED}",
            f"while [ $code -eq {STOPPED} ]; do",
            f"  code=0; venv/bin/python {shlex.join(words)} || code=$?",
            "done",
            f"kill $copying; {copy} || code={_LOST}; exit $code",
        ]
    )


if __name__ == "__main__":
    command_line.run(main)
