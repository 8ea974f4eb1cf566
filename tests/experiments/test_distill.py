"""The study that the README names, end to end in a shrunken form."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.data.normalization import to_unit
from cnn_jax.training.predictor import load_predictor
from experiments.distill import divergence, with_logits_of
from tests.experiments.command import run, run_all


def test_the_divergence_is_that_of_the_softened_softmaxes():
    teacher, student = (3 * jax.random.normal(jax.random.key(i), (4, 5)) for i in (0, 1))
    q, p = (np.exp(np.asarray(x, np.float64) / 2.5) for x in (teacher, student))
    q, p = (x / x.sum(axis=1, keepdims=True) for x in (q, p))
    expected = 2.5**2 * (q * np.log(q / p)).sum(axis=1)
    np.testing.assert_allclose(divergence(teacher, student, temperature=2.5), expected, rtol=1e-4)
    gradient = jax.grad(lambda s: divergence(teacher, s, temperature=2.5).sum())(student)
    np.testing.assert_allclose(gradient, 2.5 * (p - q), atol=1e-5)
    assert jnp.all(divergence(teacher, teacher, temperature=1.0) == 0)


def test_the_teacher_sees_images_by_its_own_constants(untrained):
    teacher = load_predictor(untrained)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    batch = {"image": jnp.full((3, 8, 8, 1), jnp.nan), "pixels": to_unit(jnp.asarray(pixels))}
    added = jax.jit(with_logits_of(teacher))(jax.random.key(0), batch)
    expected = jax.jit(teacher.logits)(teacher.variables, pixels)
    np.testing.assert_allclose(added["teacher"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(added["image"], batch["image"])


def test_a_student_learns_from_a_finished_run(finished, tmp_path):
    teacher, _ = finished
    common = ["--config=lenet_digits", f"--teacher={teacher}", "--weight=1", "--workdir=student"]
    steps = ["--config.train.steps=150", "--config.model.width=1", "--config.train.pictures=false"]
    flat = ["--config.data.name=synthetic", "--config.data.synthetic.image_shape=8,8"]
    unit = ["--config.data.normalization=unit"]
    right, wrong, other, resumed, *refused, normalised = run_all(
        "distill",
        [
            [*common, *steps],
            [*common, *steps, "--temperature=2"],
            [*common, *steps, "--config.data.name=mnist", "--workdir=other"],
            [*common, *steps],
            [*common, *steps, "--config.train.class_weights=balanced", "--workdir=other"],
            [*common, *steps, "--temperature=nan", "--workdir=other"],
            [*common, *steps, "--weight=nan", "--workdir=other"],
            [*common, *steps, *flat, "--workdir=other"],
            [*common, *steps, *unit, "--config.train.steps=2", "--workdir=unit"],
        ],
        cwd=tmp_path,
    )
    assert right.code == 0, right.err
    result = json.loads((tmp_path / "student" / "result.json").read_text())
    assert "distilled from" in result["config"] and "T=4, weight 1" in result["config"]
    assert result["test_accuracy"] > 0.6  # of labels it was shown none
    assert wrong.code == 2 and "holds another run" in wrong.err
    assert other.code == 2 and "is of other images" in other.err
    assert normalised.code == 0, normalised.err
    assert resumed.code == 0 and "holds a finished run" in resumed.err
    assert [answer.code for answer in refused] == [2, 2, 2, 2]
    assert "leave train.class_weights out" in refused[0].err
    assert "image_shape is (8, 8)" in refused[3].err
    for answer, flag in zip(refused[1:3], ("--temperature=nan", "--weight=nan"), strict=True):
        assert flag in answer.err and "finite" in answer.err
    (plain,) = run_all("train", [["--config=student/config.json"]], cwd=tmp_path)
    assert plain.code == 2 and "go on with experiments.distill" in plain.err
    assert not (tmp_path / "other").exists()


def test_a_teacher_with_a_sigmoid_for_each_class_is_refused(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path / "teacher")
    config = json.loads((untrained / "config.json").read_text())
    config["train"]["loss"] = "binary"
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    student = ["--config=lenet_digits", "--teacher=teacher", "--workdir=student"]
    answer = run("distill", *student, "--config.train.steps=1", cwd=tmp_path)
    assert answer.code == 2 and answer.err.count("\n") == 1, answer.err
    assert "teacher has a sigmoid for each class" in answer.err
    assert not (tmp_path / "student").exists()
