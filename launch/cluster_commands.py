"""What a cluster is to run: `experiments.train` or `launch.sweep`, once or as several tasks."""

from collections.abc import Sequence
from pathlib import PurePath

from launch.command_line import LaunchError
from launch.training import check, said_by

COMMANDS = ("experiments.train", "launch.sweep")
EXAMPLE = "-- experiments.train --config=vgg_cifar"


def task_commands(words: Sequence[str], workdir: PurePath, count: int) -> list[list[str]]:
    """Returns the command of each task, a list of words that begins with python.

    Several tasks of `experiments.train` are as many seeds, in the directories where `launch.seeds`
    would have them; several of `launch.sweep` work on one sweep.

    Raises:
      LaunchError: the words are no such command, or the command would refuse them.
    """
    if not words or words[0] not in COMMANDS:
        raise LaunchError(
            f"what to run is missing: end with {EXAMPLE}, or -- launch.sweep ..."
            if not words
            else f"'{words[0]}' is none of {', '.join(COMMANDS)}; end with {EXAMPLE}"
        )
    if any(word.startswith("--workdir") for word in words):
        raise LaunchError("--workdir belongs before the --: it is where the launched runs lie")
    if any(word.startswith("-") and word.strip("-").split("=")[0] == "check" for word in words):
        raise LaunchError("--check trains nothing; leave it out: the command is checked anyway")
    start = ["python", "-m", *words]
    if words[0] == "launch.sweep":
        said_by(*words, f"--workdir={workdir}", "--check")
        return [[*start, f"--workdir={workdir}"]] * count
    first = check(words[1:])["seed"]
    if count == 1:
        return [[*start, f"--workdir={workdir}"]]
    return [
        [*start, f"--config.seed={seed}", f"--workdir={workdir / f'seed_{seed}'}"]
        for seed in range(first, first + count)
    ]
