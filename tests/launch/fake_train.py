"""Stands in for experiments.train in tests of scheduling: the same files, in milliseconds.

`model.name` says how a run goes: well, fails, dies (killed at its start, then goes on), mortal
(killed at every start), waits (until it is stopped, and ends well when it is started again) or
straggles (waits, a step later, if its learning rate is 0.9); ends75 stops by itself once. In a
population a member that diverges does so if its learning rate is 0.9, and loners are refused.
"""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

FIELDS = {
    "seed": 0,
    "optim.learning_rate": 0.1,
    "optim.momentum": 0.9,
    "model.name": "well",
    "train.steps": 3,
    "data.name": "digits",
    "data.dir": "",
    "data.validation_fraction": 0.1,
    "data.validation_split": "",
    "population.seeds": 0,
    "population.values": "",
    "population.combine": "product",
    "parallel": "jit",
}
VARIABLE = ["optim.learning_rate", "optim.momentum"]


def wrong(text, code=2):
    print(f"some lines\nerror: {text}", file=sys.stderr)
    sys.exit(code)


def read(arguments):
    values, own = dict(FIELDS), {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not name.startswith("--config"):
            own[name] = [*own.get(name, []), value]
        elif name == "--config":
            values["name"] = value
        elif name.removeprefix("--config.") not in FIELDS:
            wrong(f"unknown config field '{name.removeprefix('--config.')}'")
        else:
            default = FIELDS[name.removeprefix("--config.")]
            values[name.removeprefix("--config.")] = type(default)(value)
    if values["optim.learning_rate"] <= 0:
        wrong(f"optim.learning_rate is {values['optim.learning_rate']}; it must be above 0")
    return values, own


def nested(values):
    config = {}
    for name, value in values.items():
        group, _, last = name.rpartition(".")
        (config.setdefault(group, {}) if group else config)[last] = value
    return config


def accuracy(values, step):
    gap = abs(values["optim.learning_rate"] - 0.3)
    return 1 - gap - 0.1 / step - 0.01 * values["seed"]


def waits(values):
    late = values["optim.learning_rate"] == 0.9
    return values["model.name"] == "waits" or (values["model.name"] == "straggles" and late)


def members_of(values):
    """Returns each member's fields; of a single run, none."""
    if not (values["population.seeds"] or values["population.values"]):
        return []
    parts = values["population.values"].split(";") if values["population.values"] else []
    lists = [(n.strip(), map(float, v.split(","))) for n, _, v in (p.partition("=") for p in parts)]
    assert values["population.combine"] == "zip" or not lists
    combinations = list(zip(*(each for _, each in lists), strict=True)) or [()]
    return [
        values | dict(zip((n for n, _ in lists), numbers, strict=True)) | {"seed": seed}
        for numbers in combinations
        for seed in range(values["seed"], values["seed"] + max(1, values["population.seeds"]))
    ]


def leave_member(member, number, workdir):
    """Leaves what the run alone would have left, on the way."""
    own = workdir / "members" / f"{number:03d}"
    own.mkdir(parents=True)
    alone = member | {name: FIELDS[name] for name in FIELDS if name.startswith("population.")}
    (own / "config.json").write_text(json.dumps(nested(alone)))
    diverges = member["model.name"] == "diverges" and member["optim.learning_rate"] == 0.9
    rows = [] if diverges else [metrics(member, i) for i in range(1, member["train.steps"] + 1)]
    (own / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = "diverged" if diverges else "finished"
    (own / "result.json").write_text(json.dumps(result_of(member, 0) | {"ended": ended}))


def metrics(values, step):
    return {"step": step, "epoch": step, "validation_accuracy": accuracy(values, step)}


def result_of(values, first):
    return {
        "seed": values["seed"],
        "steps": values["train.steps"],
        "resumed_from_step": first,
        "test_accuracy": accuracy(values, 3) - 0.05,
        "parameters": 100 + int(100 * values["optim.momentum"]),
        "train_seconds": 1.0,
        "seconds": {"train": 1.0},
    }


def train(values, workdir):
    members = members_of(values)
    if members and values["model.name"] == "loner":
        wrong("loners can't be trained together")
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(nested(values)))
    with open(workdir / "starts", "a") as file:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        file.write(" ".join(map(str, sorted(cores))) + "\n")
    again = (workdir / "metrics.jsonl").exists()
    first = len((workdir / "metrics.jsonl").read_text().splitlines()) if again else 0
    name = values["model.name"]
    if name == "fails" and not Path("mended").exists():
        wrong(f"there is no data in {workdir}", code=1)
    with open(workdir / "metrics.jsonl", "a") as file:
        for step in range(first + 1, values["train.steps"] + 1):
            row = metrics(values, step)
            if members:
                row["members"] = [metrics(member, step) for member in members]
            print(json.dumps(row), file=file, flush=True)
            if name == "mortal" or (name == "dies" and not again):
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "ends75" and not again:
                sys.exit(75)
            if waits(values) and not again and step == (2 if name == "straggles" else 1):
                signal.sigwait([signal.SIGTERM, signal.SIGINT])
                sys.exit(75)
    for number, member in enumerate(members):
        leave_member(member, number, workdir)
    (workdir / "result.json").write_text(json.dumps(result_of(values, first)))


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    given, own = read(sys.argv[1:])
    if "--check" in own:
        for extra in ("", *own.get("--also", [])):
            print(json.dumps(nested(read([*sys.argv[1:], *shlex.split(extra)])[0])))
        print(json.dumps({"variable": VARIABLE, "all_or_none": ["optim.momentum"]}))
    else:
        if not waits(given):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        train(given, Path(own["--workdir"][0]))
