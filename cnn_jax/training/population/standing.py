"""How the members of a population stand: who has ended and why, and who is to end."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import PyTree

from cnn_jax.config import Config
from cnn_jax.errors import InputError
from cnn_jax.training.setup import Experiment

FINISHED, PATIENCE, HALVING, DIVERGED = "finished", "patience", "halving", "diverged"
_PROGRESS = ("ended", "last_step", "skipped", "seated", "best", "sums")


def cut_short(result: Mapping[str, Any]) -> bool:
    """Tells whether a population ended a run before its time, so that no mean counts its result.

    >>> cut_short({"ended": "halving"}), cut_short({"ended": "patience"}), cut_short({})
    (True, False, False)
    """
    return result.get("ended") in (HALVING, DIVERGED)


@dataclasses.dataclass
class Member:
    """One run of a population, as the host knows it; states are trees of NumPy arrays."""

    number: int
    experiment: Experiment
    ended: str = ""  # why it takes no more steps
    last_step: int = 0
    skipped: int = 0  # of its steps, those with a gradient that was not finite
    seated: bool = True  # whether the program computes it
    sums: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # since the last row
    best: tuple[int, float] | None = None  # step and validation accuracy
    best_state: PyTree = None
    state: PyTree = None  # the last it had, once it has ended

    @property
    def config(self) -> Config:
        """The config of the run alone."""
        return self.experiment.config

    def progress(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of it beside its states: written while it goes on."""
        return {name: copy.copy(getattr(self, name)) for name in _PROGRESS}

    def recall(self, progress: Mapping[str, Any], last: PyTree, best: PyTree) -> None:
        """Takes up what a checkpoint held."""
        for name, value in progress.items():
            setattr(self, name, value)
        self.best = self.best and tuple(self.best)
        self.state = last if self.ended else None
        self.best_state = best if self.best else None

    def improves(self, step: int, accuracy: float, *, min_change: float) -> bool:
        """Notes an accuracy; tells whether it is better than all by over `min_change`."""
        if self.best is not None and not accuracy > self.best[1] + min_change:
            return False
        self.best = (step, accuracy)
        return True

    def checkpoints(self) -> dict[int, tuple[PyTree, dict[str, float] | None]]:
        """Returns the states to keep, by step: the last, and the best with its accuracy."""
        states = {self.last_step: (self.state, None)}
        if self.best:
            states[self.best[0]] = (self.best_state, {"accuracy": self.best[1]})
        return states

    def to_test(self) -> PyTree:
        """Returns the state to be tested: with patience the best there was, as of a run alone."""
        best = self.experiment.config.train.patience and self.best
        return self.best_state if best else self.state


def rungs(shares: Sequence[float], steps: int, every: int) -> list[int]:
    """Returns the steps after which a population is halved: evaluations, with `every` steps each.

    >>> rungs((0.25, 0.5), 100, 10)
    [30, 50]
    """
    return [math.ceil(share * steps / every) * every for share in shares]


def check_rungs(shares: Sequence[float], steps: int, every: int) -> None:
    """Raises InputError where evaluations are too rare to halve a population as it is asked for."""
    shares, at = sorted(set(shares)), rungs(shares, steps, every)
    if len({*at, steps}) <= len(shares):
        gap = min(b - a for a, b in itertools.pairwise([*shares, 1.0]))
        raise InputError(
            f"population.halving={','.join(map(str, shares))} of {steps} steps falls on steps "
            f"{', '.join(map(str, at))}, with an evaluation every {every} steps; set "
            f"train.eval_every to at most {max(1, int(gap * steps))}"
        )


def endings(
    going: Sequence[Member],
    step: int,
    accuracies: Mapping[int, float],
    *,
    patience: int,
    halvings: Sequence[int],
    members: int,
) -> dict[int, tuple[str, str]]:
    """Returns who ends at a step, by number: why, and that in words.

    Args:
      going: those that have not ended.
      step: the last they took.
      accuracies: on the validation split, by number.
      patience: steps without improvement after which one ends; 0: none does.
      halvings: the steps after which the weaker half ends.
      members: how many the population had at first.
    """
    ends = {
        member.number: (PATIENCE, f"no improvement since step {member.best[0]}")
        for member in going
        if patience and member.best and step - member.best[0] >= patience
    }
    if step in halvings:
        places = math.ceil(members / 2 ** sum(at <= step for at in halvings))
        left = {number: accuracies[number] for number in accuracies if number not in ends}
        text = f"not among the best {places}"
        ends |= {number: (HALVING, text) for number in weakest(left, places)}
    return ends


def weakest(accuracies: Mapping[int, float], places: int) -> list[int]:
    """Returns who gets none of the places: of equals, those of a higher number.

    >>> weakest({0: 0.5, 1: 0.9, 2: 0.5, 3: 0.7}, places=3)
    [2]
    """
    ranked = sorted(accuracies, key=lambda number: (-accuracies[number], number))
    return ranked[places:]
