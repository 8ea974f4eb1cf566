"""The report of one run: its figures, and a page that tells all that is known of it."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cnn_jax.analysis import page, plots
from cnn_jax.analysis.calibration import calibration_error, reliability
from cnn_jax.analysis.class_scores import confusion_matrix, per_class, per_label
from cnn_jax.analysis.page import Html, name, tag
from cnn_jax.analysis.predictions import Predictions, Shown, confused_pairs, evenly_spaced
from cnn_jax.analysis.report import (
    CAPTIONS,
    captioned,
    curves,
    duration,
    value_text,
    write_report,
)
from cnn_jax.analysis.run_record import RunRecord
from cnn_jax.analysis.summary import LAYER_COLUMNS, Summary, layer_cells
from cnn_jax.config import Config, flatten
from cnn_jax.training.population.standing import HALVING
from cnn_jax.training.run_directory import CONFIG

_SHOWN, _FEW_CLASSES, _PAIRS = 24, 30, 10


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that a report tells of a run; what could not be had is None, and `missing` says why."""

    record: RunRecord
    summary: Summary | None = None
    predictions: Predictions | None = None  # of the test split
    step: int | None = None  # of the state that made the predictions
    missing: Sequence[str] = ()


def write_run_report(directory: Path, findings: Findings) -> list[Path]:
    """Writes figures as PNG and SVG, and the page that holds them; returns the page's path first.

    Raises:
      OSError: the directory can't be written.
    """
    body = partial(_body, findings)
    return write_report(directory, findings.record.name, _figures(findings), body)


def _figures(findings: Findings) -> dict[str, Figure]:
    record, predictions = findings.record, findings.predictions
    figures = curves([(record.name, [record])])
    if record.result:
        figures["time"] = plots.time_bars(record.result["seconds"])
    if predictions:
        if not predictions.multi_label:
            matrix = confusion_matrix(predictions.logits, predictions.split.labels)
            names = class_names(findings)
            for key, rates in (("confusion_counts", False), ("confusion_rates", True)):
                figures[key] = plots.confusion_heat_map(matrix, names, rates=rates)
        diagram = reliability(*predictions.decisions())
        figures["calibration"] = plots.reliability_diagram(diagram, calibration_error(diagram))
    return figures


def class_names(findings: Findings) -> Sequence[str]:
    """Returns the names of the run's classes; their numbers where they aren't known."""
    if spec := findings.record.spec:
        return spec.class_names
    count = findings.predictions.logits.shape[-1] if findings.predictions else 0
    return [str(i) for i in range(count)]


def _body(findings: Findings, drawn: dict[str, str]) -> Iterable[Html]:
    record = findings.record
    data = record.spec.name if record.spec else record.config.data.name
    yield tag("h1", name(record.name))
    yield tag("p", f"{record.config.model.name} on ", name(data), ", seed ",
              record.config.seed, class_="note")  # fmt: skip
    yield from (tag("p", text, class_="notice") for text in _notices(findings))
    yield page.tiles(_facts(findings))
    yield from _training(drawn)
    if findings.predictions:
        yield from _test(findings, drawn)
    if findings.summary:
        yield from _network(findings.summary)
    yield from _costs(record, drawn)
    yield from _origin(record)


def _notices(findings: Findings) -> Iterable[str]:
    record, result = findings.record, findings.record.result
    if record.spec and record.spec.synthetic:
        yield "Synthetic data: the images are made up, so no accuracy here says anything of a task."
    if result is None:
        yield f"Not finished: the run has no result yet; its last row is of step {record.steps}."
    elif record.cut_short:
        how = "Ended by halving" if result["ended"] == HALVING else "Diverged and frozen"
        of = f" of {record.planned_steps:,}" if record.planned_steps else ""
        yield f"{how} at step {record.steps:,}{of}: no mean over its population counts it."
    elif result.get("stopped_early"):
        yield (
            f"Stopped early at step {result['steps']}: {record.config.train.patience} evaluations "
            "without improvement. What was tested is the best checkpoint."
        )
    if result and result.get("skipped_steps"):
        yield f"{result['skipped_steps']} steps were skipped: their gradients were not finite."
    if result and result.get("skipped_examples"):
        yield f"{len(result['skipped_examples'])} image files could not be read and were left out."
    if record.rows and record.best is None:
        why = "No validation split" if result else "No validation so far"
        yield f"{why}: there are no validation curves and no best evaluation."
    yield from findings.missing


def _facts(findings: Findings) -> dict[str, tuple[str, str]]:
    record, result = findings.record, findings.record.result
    facts = {}
    if result:
        count = result["test_examples"]
        right = round(result["test_accuracy"] * count)
        low, high = wilson_interval(right, count)
        remark = f"{right:,} of {count:,}; 95% interval {low:.1%} to {high:.1%}"
        if (single := result.get("test_label_accuracy")) is not None:
            remark = f"every label right: {remark}; single labels {single:.1%}"
        if (five := result.get("test_top5_accuracy")) is not None:
            remark += f"; among the five best {five:.1%}"
        facts["test accuracy"] = (f"{result['test_accuracy']:.2%}", remark)
        facts["test loss"] = (f"{result['test_loss']:.4g}", "")
    if best := record.best:
        remark = f"epoch {best['epoch']:.3g}, step {best['step']:,}"
        facts["best validation accuracy"] = (f"{best['validation_accuracy']:.2%}", remark)
    if result or findings.summary:
        count = result["parameters"] if result else findings.summary.trainable
        flops = findings.summary and findings.summary.flops
        millions = (flops or 0) / 1e6
        text = f"{millions:,.0f}" if millions > 999.9 else f"{millions:.4g}"
        facts["parameters"] = (f"{count:,}", f"{text} MFLOPs an image" if flops else "")
    if record.rows:
        last = record.rows[-1]
        epochs = record.steps * last["epoch"] / last["step"]
        facts["steps"] = (f"{record.steps:,}", f"{epochs:.4g} epochs")
    if result:
        rate = result.get("images_per_second")
        facts["wall time"] = (
            duration(sum(result["seconds"].values())),
            f"{rate:,.0f} training images/s" if rate else "",
        )
    return facts


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of a share (Wilson, 1927).

    >>> low, high = wilson_interval(294, 297)
    >>> round(low, 4), round(high, 4)
    (0.9707, 0.9966)
    """
    z2 = 1.959964**2
    share, wide = right / count, 1 + z2 / count
    middle = share + z2 / (2 * count)
    half = (z2 * (share * (1 - share) + z2 / (4 * count)) / count) ** 0.5
    return (middle - half) / wide, (middle + half) / wide


def _training(drawn: dict[str, str]) -> Iterable[Html]:
    captions = {
        "accuracy": "Accuracy in training, on augmented images and as the weights move, and in "
        "validation. The circle is the best evaluation.",
        "loss": "Loss: in training that of the objective, with label smoothing where it is on; in "
        "validation the cross-entropy.",
        "learning_rate": CAPTIONS["learning_rate"],
        "train_grad_norm": CAPTIONS["train_grad_norm"],
    }
    if shown := captioned(drawn, captions):
        yield tag("h2", "Training")
        yield page.columns(*shown)


def _test_captions(classes: int) -> dict[str, str]:
    others = ""
    if classes > plots.MOST_CLASSES:
        shown = plots.MOST_CLASSES - 1
        others = f" The {shown} classes of the commonest mistakes; the others are added up."
    return {
        "confusion_counts": f"How often a class (row) was taken for another (column).{others}",
        "confusion_rates": "The same as a share of each true class: the diagonal is the recall."
        + others,
        "calibration": "Calibration: where the bars end at the marks, the network is right as "
        "often as it says. ECE is the mean gap between the two, bins weighted by their examples.",
    }


def _test(findings: Findings, drawn: dict[str, str]) -> Iterable[Html]:
    predictions, names = findings.predictions, class_names(findings)
    yield tag("h2", "On the test split")
    yield tag("p", f"{len(predictions):,} examples, each counted once, by the state of step "
              f"{findings.step:,}.", class_="note")  # fmt: skip
    captions = _test_captions(len(names))
    labels = predictions.split.labels
    if predictions.multi_label:
        yield tag("p", "An image may be of several classes: each has a decision of its own.")
        yield page.columns(*captioned(drawn, captions))
        yield from _class_table(labels.sum(axis=0), per_label(predictions.logits, labels), names)
        return
    matrix = confusion_matrix(predictions.logits, labels)
    yield page.columns(*captioned(drawn, captions), tag("div", *_confused(matrix, names)))
    yield from _class_table(matrix.sum(axis=1), per_class(matrix), names)
    wrong = predictions.mistakes(_SHOWN)
    if len(wrong):
        yield tag("h2", "The most confident mistakes")
        yield _gallery(predictions.shown(wrong), names)
    yield tag("h2", "Examples")
    some = np.array(evenly_spaced(range(len(predictions)), most=_SHOWN))
    yield _gallery(predictions.shown(some), names)


def _confused(matrix: np.ndarray, names: Sequence[str]) -> Iterable[Html]:
    total = matrix.sum(axis=1)
    rows = [
        (name(names[i]), name(names[j]), f"{count:,}", f"{count / total[i]:.1%}")
        for i, j, count in confused_pairs(matrix, most=_PAIRS)
    ]
    if rows:
        yield tag("h3", "Most often confused")
        header = ("true", "taken for", "examples", "of the true class")
        yield page.table(header, rows, numbers=(2, 3))


def _class_table(
    counts: np.ndarray, scores: dict[str, np.ndarray], names: Sequence[str]
) -> Iterable[Html]:
    rows = [
        (i, name(names[i]), f"{count:,}", *map(page.share_bar, values))
        for i, (count, *values) in enumerate(zip(counts, *scores.values(), strict=True))
    ]
    header = ("", "class", "examples", "precision", "recall", "F1")
    everything = page.table(header, rows, numbers=(0, 2, 3, 4, 5))
    yield tag("h3", "Per class")
    if len(rows) <= _FEW_CLASSES:
        yield everything
        return
    present = np.flatnonzero(counts)
    worst = present[np.argsort(scores["f1"][present], kind="stable")[:_PAIRS]]
    yield tag("p", f"The {len(worst)} classes of the lowest F1:", class_="note")
    yield page.table(header, [rows[i] for i in worst], numbers=(0, 2, 3, 4, 5))
    yield tag("details", tag("summary", f"All {len(rows)} classes"), everything)


def _gallery(shown: Iterable[Shown], names: Sequence[str]) -> Html:
    def each(example: Shown) -> Html:
        said, true = names[example.predicted], names[example.label]
        right = example.predicted == example.label
        words = [tag("b", name(said)), f" {example.confidence:.1%}"]
        if not right:
            words = [tag("span", *words, class_="wrong"), tag("br"), "is ", name(true)]
        alternative = f"{said}, {'right' if right else f'in truth {true}'}"
        picture = page.image(example.image, alternative)
        return tag("figure", picture, tag("figcaption", *words))

    return tag("div", *map(each, shown), class_="images")


def _network(summary: Summary) -> Iterable[Html]:
    yield tag("h2", "Network")
    yield page.table(LAYER_COLUMNS, map(layer_cells, summary.rows), numbers=range(2, 9))
    yield tag("p", "For one image in float32; a multiply-add is two FLOPs; “sees” is the "
              "receptive field in pixels.", class_="note")  # fmt: skip


def _costs(record: RunRecord, drawn: dict[str, str]) -> Iterable[Html]:
    captions = {
        "time": "Every second of the process belongs to one stage.",
        "images_per_second": CAPTIONS["images_per_second"],
    }
    if shown := captioned(drawn, captions):
        yield tag("h2", "Time")
        yield page.columns(*shown)
        if record.result and record.result.get("resumed_from_step"):
            step = record.result["resumed_from_step"]
            yield tag("p", f"Resumed at step {step:,}: the times are those since then.",
                      class_="note")  # fmt: skip


def _origin(record: RunRecord) -> Iterable[Html]:
    result = record.result or {}
    yield tag("h2", "How it was made")
    if not record.config.study:  # else its command alone has what makes the run
        config = shlex.quote(f"--config={record.workdir.absolute() / CONFIG}")
        again = f"python -m experiments.train {config} --workdir=NEW_DIRECTORY"
        yield tag("p", "To make it again, from the directory where it was started:", class_="note")
        yield tag("pre", again, class_="command")
    if command := result.get("command"):
        yield tag("p", "It was started as:", class_="note")
        yield tag("pre", command_text(command), class_="command")
    devices = result.get("devices")
    facts = {
        "devices": devices and f"{devices} × {result['device_kind']} ({result['platform']})",
        "processes": result.get("processes"),
        "git commit": result.get("git_commit"),
        **result.get("versions", {}),
    }
    made = [(key, value) for key, value in facts.items() if value is not None]
    default, fields = flatten(Config()), flatten(record.config)
    changed = [(key, value_text(value)) for key, value in fields.items() if value != default[key]]
    yield page.columns(
        page.table(("config, where it is not the default", ""), changed),
        page.table(("hardware and versions", ""), made) if made else Html(),
    )
    complete = json.dumps(dataclasses.asdict(record.config), indent=2, ensure_ascii=False)
    yield tag("details", tag("summary", "The whole config"), tag("pre", complete))


def command_text(command: Sequence[str]) -> str:
    """Returns a command line as it would be typed: a module of ours by its name.

    >>> command_text(["/somewhere/experiments/train.py", "--config=a b"])
    "python -m experiments.train '--config=a b'"
    """
    program, *arguments = command
    path = Path(program)
    ours = path.parent.name == "experiments" and path.suffix == ".py"
    words = ["python", "-m", f"experiments.{path.stem}"] if ours else [program]
    return shlex.join([*words, *arguments])
