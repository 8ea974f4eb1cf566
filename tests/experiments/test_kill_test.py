"""The kill test in its short form: a few real SIGKILLs."""

import json

from tests.experiments.command import run


def test_runs_killed_anywhere_end_as_the_one_that_was_not(tmp_path):
    workdir = tmp_path / "runs"
    arguments = ["--kills=2", "--steps=40", "--seed=1", f"--workdir={workdir}"]
    answer = run("kill_test", *arguments, cwd=tmp_path)
    assert answer.code == 0, answer.err
    done = json.loads(answer.out)
    assert (done["kills"], done["runs_that_differ"]) == (2, 0)
    assert done["runs"] >= 1
    assert (workdir / "run_0" / "result.json").exists()
