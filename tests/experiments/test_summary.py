import contextlib
import json
import os

import pytest

from tests.experiments.command import finish, run, run_all, start

MNIST = ["--config=lenet_digits", "--config.data.name=mnist"]
MNIST += ["--config.model.name=lenet", "--config.model.width=1"]
LINES = [
    [*MNIST, "--format=json"],
    ["--config=vgg_cifar", "--format=json"],
    [*MNIST, "--format=json", "--config.model.pooling=avg"],
    MNIST,
    ["--config=mnist_convnet"],
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return run_all("summary", LINES, cwd=tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("index", "config", "parameters", "layers"),
    [(0, "lenet_digits", 61_706, 13), (1, "vgg_cifar", 14_724_042, 13 * 3 + 5 + 2)],
)
def test_json_has_every_layer_and_the_total(answers, index, config, parameters, layers):
    assert answers[index].code == 0, answers[index].err
    summary = json.loads(answers[index].out)
    assert summary["config"] == config
    assert summary["total"]["parameters"] == parameters
    assert sum(row["parameters"] for row in summary["layers"]) == parameters
    assert len(summary["layers"]) == layers
    fields = {"name", "kind", "output_shape", "parameters", "flops", "receptive_field"}
    assert all(fields <= row.keys() for row in summary["layers"])


def test_fields_of_the_command_line_count(answers):
    kinds = [row["kind"] for row in json.loads(answers[2].out)["layers"]]
    assert "AvgPool" in kinds and "MaxPool" not in kinds


def test_the_table_is_for_people(answers):
    assert answers[3].code == 0, answers[3].err
    lines = answers[3].out.splitlines()
    (row,) = (line for line in lines if line.split()[:2] == ["conv1", "Conv"])
    assert "28×28×6" in row and "5×5" in row and "156" in row
    assert any("61,706 parameters are trained" in line for line in lines)


def test_the_table_says_what_the_logits_depend_on_where_that_is_not_all(answers):
    assert "The logits depend on 26×26×1 of the input" in answers[4].out
    assert "depend" not in answers[3].out
    assert json.loads(answers[0].out)["seen_shape"] == [28, 28, 1]


def test_a_narrow_terminal_cuts_no_number(tmp_path):
    controller, terminal = os.openpty()
    process = start("summary", *MNIST, cwd=tmp_path, stdout=terminal)  # of 80 columns
    os.close(terminal)
    said = b""
    with contextlib.suppress(OSError), open(controller, "rb", buffering=0) as file:
        while part := file.read(4096):
            said += part
    assert finish(process).code == 0
    assert "…" not in said.decode() and b" 48,120 " in said and b" 18.4 KiB " in said


def test_the_command_itself_needs_no_data(tmp_path):
    answer = run("summary", "--config=vgg_cifar", "--format=json", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["image_shape"] == [32, 32, 3]
    assert list(tmp_path.iterdir()) == []
