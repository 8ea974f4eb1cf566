"""The benchmark measures contenders in turns, and survives a contender's failure."""

import json

import pytest

from cnn_jax.analysis.summary import summarize
from experiments import contenders
from experiments.contenders import CEILING, OURS, Entry, rounds
from experiments.contenders.task import Task
from experiments.contenders.worker import Worker, WorkerError
from tests.experiments.command import run, run_all
from tests.experiments.tiny_task import tiny

# Turns, and what is made of them.


class Scripted:
    """Stands for a worker: its rate in each round is written down, None being a failure."""

    rates, log = {}, []

    def __init__(self, task, *, timeout):
        self.name, self.left = task.contender, list(self.rates[task.contender])
        parameters = 21_000 if "other" in self.rates.get("network", ()) else None
        if parameters is None or self.name == OURS:
            parameters = summarize(task.model, task.image_shape).trainable
        self.facts = {"parameters": parameters, "flops": 1e9, "compile_seconds": 1.0}

    def measure(self, seconds):
        self.log.append(self.name)
        rate = self.left.pop(0)
        if rate is None:
            raise WorkerError("was ended by signal 9")
        memory = {"peak_memory_bytes": 1, "peak_memory_of": "process"}
        return {"steps": 10, "seconds": 10 / rate} | memory

    def close(self):
        self.log.append(f"closed {self.name}")


def compare(monkeypatch, rates, peers=("flax",), mode="train"):
    """Returns the records by contender, the log of turns and what was said."""
    said = []
    monkeypatch.setattr(Scripted, "rates", {CEILING: [100.0] * 3} | rates)
    monkeypatch.setattr(Scripted, "log", [])
    monkeypatch.setattr(rounds, "Worker", Scripted)
    monkeypatch.setattr(rounds, "_PAUSE", 0)
    options = {"rounds": 3, "seconds": 1.0, "timeout": 1.0, "say": said.append}
    records = rounds.compare(tiny(), mode, peers, **options)
    return {record["contender"]: record for record in records}, Scripted.log, said


def test_turns_alternate_and_every_worker_is_closed(monkeypatch):
    _, log, said = compare(monkeypatch, {OURS: [2, 3, 9], "flax": [1, 2, 3]})
    assert log[:9] == [CEILING, OURS, "flax"] * 3
    assert set(log[9:]) == {f"closed {name}" for name in (CEILING, OURS, "flax")}
    assert said == []


@pytest.mark.parametrize(("mode", "passes"), [("train", 3), ("inference", 1)])
def test_a_record_holds_medians_and_ratios_by_round(monkeypatch, mode, passes):
    records, _, _ = compare(
        monkeypatch, {OURS: [4.0, 2.0, 9.0], "flax": [1.0, 4.0, 3.0]}, mode=mode
    )
    ours, flax = records[OURS], records["flax"]
    fields = ("images_per_second", "images_per_second_min", "images_per_second_max")
    assert [ours[field] for field in fields] == pytest.approx([16, 8, 36])
    assert [flax[field] for field in fields] == pytest.approx([12, 4, 16])
    assert (ours["ours_over_this_min"], ours["ours_over_this_max"]) == (1, 1)
    ratios = ("ours_over_this", "ours_over_this_min", "ours_over_this_max")
    assert [flax[field] for field in ratios] == pytest.approx([3, 0.5, 4])
    flops = summarize(Task(tiny(), mode, OURS).model, (8, 8, 1)).flops
    assert ours["flops_per_image"] == passes * flops
    assert ours["gflops_per_second"] == pytest.approx(16 * passes * flops / 1e9)
    assert ours["ceiling_gflops_per_second"] == pytest.approx(100)
    assert ours["utilization"] == pytest.approx(ours["gflops_per_second"] / 100)


def test_one_that_fails_does_not_take_the_others_down(monkeypatch):
    rates = {OURS: [4, 4, 4], "flax": [2, None], "torch": [1, 1, 1]}
    monkeypatch.setitem(contenders.CONTENDERS, "torch", Entry("pytorch", (), ()))
    records, log, said = compare(monkeypatch, rates, peers=("flax", "torch"))
    assert said == ["flax: was ended by signal 9"]
    assert [records[name]["rounds"] for name in (OURS, "flax", "torch")] == [3, 1, 3]
    assert records["flax"]["ours_over_this"] == pytest.approx(2)
    assert log.count("torch") == 3


def test_peers_are_measured_when_ours_fails(monkeypatch):
    records, _, said = compare(monkeypatch, {OURS: [None], "flax": [1, 1, 1]})
    assert list(records) == ["flax"]
    assert records["flax"]["ours_over_this"] is None
    assert said == [f"{OURS}: was ended by signal 9"]


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    entry = Entry("pytorch", ("jax", "no_such_package"), ())
    monkeypatch.setitem(contenders.CONTENDERS, "torch", entry)
    records, _, said = compare(monkeypatch, {OURS: [1, 1, 1]}, peers=("torch",))
    assert list(records) == [OURS]
    assert said == ["torch: no_such_package not installed: python -m pip install -e '.[peers]'"]


def test_another_network_is_refused(monkeypatch):
    rates = {OURS: [1, 1, 1], "flax": [1, 1, 1], "network": ("other",)}
    records, _, said = compare(monkeypatch, rates)
    assert list(records) == [OURS]
    assert "another network: 21,000 parameters" in said[0]


# Processes.


def test_a_worker_that_is_killed_or_late_is_told_of():
    with pytest.raises(WorkerError, match=r"no answer within 0\.01 seconds"):
        Worker(Task(tiny(), "train", OURS), timeout=0.01)
    worker = Worker(Task(tiny(), "inference", OURS), timeout=300)
    try:
        answer = worker.measure(0.0)
        assert answer["steps"] >= 1 and answer["seconds"] > 0
        assert answer["peak_memory_bytes"] > 2**20
        worker._process.kill()
        with pytest.raises(WorkerError, match="signal 9"):
            worker.measure(0.0)
    finally:
        worker.close()


def test_an_error_in_a_worker_is_one_line():
    config = tiny()
    config.model.name = "no_such_network"
    with pytest.raises(WorkerError, match=r"^unknown network 'no_such_network'.*$"):
        Worker(Task(config, "train", OURS), timeout=300)


def test_the_command_prints_a_json_line_each_and_a_table(tmp_path):
    answer = run(
        "benchmark",
        "--config=lenet_digits",
        "--peers=flax",
        "--mode=train,streaming",
        "--rounds=1",
        "--seconds=0.05",
        "--batch_size=4",
        "--config.model.width=0.5",
        cwd=tmp_path,
    )
    assert answer.code == 0, answer.err
    records = [json.loads(line) for line in answer.out.splitlines()]
    measured = [(record["mode"], record["contender"]) for record in records]
    assert measured == [("train", OURS), ("train", "flax"), ("streaming", OURS)]
    assert "flax: Flax reads no image files" in answer.err
    for record in records:
        assert (record["config"], record["image_shape"]) == ("lenet_digits", [8, 8, 1])
        assert (record["batch_size"], record["rounds"]) == (4, 1)
        assert record["images_per_second"] > 0 and record["compile_seconds"] > 0
        assert record["utilization"] > 0 and record["ours_over_this"] > 0
        assert {"versions", "device_kind", "threads", "peak_memory_bytes", "date"} <= record.keys()
    assert len({record["parameters"] for record in records}) == 1
    assert records[0]["parameters"] < 21_386 / 2
    assert "ours ÷ this" in answer.err and "flax" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_bad_input_names_what_is_known(tmp_path):
    lines = {
        ("--config=lenet_digits", "--peers=troch"): "did you mean 'torch'? Known: flax",
        ("--config=lenet_digits", "--mode=training"): "did you mean 'train'? Known: inference",
        ("--config=lenet_digits,no_such",): "unknown config 'no_such'",
        ("--config=lenet_digits,vgg_cifar", "--config.seed=1"): "a single config",
        ("--config=lenet_digits", "--config.model.name=lenot"): "did you mean 'lenet'",
        ("--config=lenet_digits", "--rounds=0"): "rounds",
        ("--config=lenet_digits", "--mode="): "--mode is empty; it can be train, inference",
        ("--config=lenet_digits", "--seconds=nan"): "--seconds=nan: it must be finite",
        ("--config=lenet_digits", "--config.population.seeds=2"): "benchmark_population",
        (): "--config=NAME is missing",
    }
    for answer, message in zip(
        run_all("benchmark", list(map(list, lines)), cwd=tmp_path), lines.values(), strict=True
    ):
        assert answer.code == 2, answer.err
        assert message in answer.err
        assert len(answer.err.splitlines()) == 1
        assert answer.out == ""
