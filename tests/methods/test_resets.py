"""The reset monitor against sequences worked out by hand and against its description in plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeldistill.methods.resets import (
    every_iteration,
    monitor_init,
    never,
    observe,
    training_steps,
    training_steps_then,
    window_size,
)


def watch(errors, width):
    "The monitor's states after each error."
    state, states = monitor_init(width), []
    for error in errors:
        state = observe(state, torch.tensor(float(error)))
        states.append(state)
    return states


def resets_of(states):
    return [step for step, state in enumerate(states, 1) if state.due]


class PlainMonitor:
    "What the notebook describes, with lists: moving average, patience, the step at which the best window ended, T_i."

    def __init__(self, width):
        self.width, self.records, self.errors = width, [], []
        self.best, self.best_step = None, None

    def observe(self, error):
        self.errors.append(error)
        if len(self.errors) < self.width:
            return False
        average = sum(self.errors[-self.width :]) / self.width
        if self.best is None or average < self.best:
            self.best, self.best_step = average, len(self.errors)
        if len(self.errors) - self.best_step < self.width + 1:
            return False
        self.records.append(self.best_step)
        self.errors, self.best = [], None
        return True

    def training_steps(self):
        last = self.records[-3:]
        return int(sum(last) / len(last)) if last else len(self.errors)


@pytest.mark.parametrize(
    ("errors", "width", "resets", "records"),
    [
        pytest.param([5, 4, 3, 5, 3, 6], 2, [6], [3], id="third step without a new minimum, window of two"),
        pytest.param([9, 9, 9, 9, 9, 9, 9], 3, [7], [3], id="a tie is no improvement: the first full window stays the best"),
        pytest.param([9, 9, 9, 9, 9, 9], 3, [], [], id="as many steps without improvement as the window are borne"),
        pytest.param(range(20, 0, -1), 4, [], [], id="falling errors never bring a reset"),
        pytest.param([1, 9, 9, 9, 8, 9, 9, 9, 9], 2, [5], [2], id="steps before the window is full do not count"),
        pytest.param([5, 4, 6, 6, 2, 9, 9, 9], 2, [8], [5], id="an improvement on the last allowed step starts the wait anew"),
        pytest.param([5, 5, 5], 1, [3], [1], id="a window of one"),
        pytest.param([5, 4, 4, 4, 0, 0, 0], 1, [4, 7], [2, 1], id="after a reset the window and the minimum start afresh"),
    ],
)
def test_a_sequence_worked_out_by_hand(errors, width, resets, records):
    states = watch(errors, width)
    assert resets_of(states) == resets
    assert int(states[-1].count) == len(resets)
    assert states[-1].records.tolist() == [0, 0, 0, *records][-3:]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=120), st.integers(1, 4))
def test_what_it_knew_can_be_told_from_the_resets(errors, width):
    states = watch(errors, width)
    assert [training_steps(state) for state in states] == [
        training_steps_then(resets_of(states), iteration, width) for iteration in range(1, len(states) + 1)
    ]


def test_a_first_window_is_only_judged_when_it_is_full():
    states = watch([1.0] + [50.0] * 9, 5)
    assert all(state.best == torch.inf for state in states[:4])
    assert states[4].best == 201.0


def test_before_any_reset_the_training_steps_are_the_steps_so_far():
    assert [training_steps(state) for state in watch([3, 2, 1, 0], 2)] == [1, 2, 3, 4]


def test_training_steps_are_the_whole_part_of_the_mean_of_the_last_three_records():
    # with a window of one, a network's record is the number of errors that fall before the flat end
    lives = [[9, *[0] * 3], [9, 8, *[0] * 3], [9, 8, 7, 6, *[0] * 3], [9, 8, 7, 6, 5, *[0] * 3]]  # records 2, 3, 5, 6
    errors, ends = [], []
    for life in lives:
        errors += life
        ends.append(len(errors))
    states = watch(errors, 1)
    assert resets_of(states) == ends
    found = [training_steps(states[end - 1]) for end in ends]
    assert found == [2, 2, int((2 + 3 + 5) / 3), int((3 + 5 + 6) / 3)]
    assert states[-1].records.tolist() == [3, 5, 6]


def test_a_reset_starts_the_count_of_steps_afresh_and_is_announced_once():
    states = watch([5, 5, 5, 5], 1)
    assert [bool(state.due) for state in states] == [False, False, True, False]
    assert [int(state.steps) for state in states] == [1, 2, 0, 1]


def test_observing_changes_nothing_in_the_state_it_is_given():
    before = watch([5, 4, 3], 2)[-1]
    copy = [tensor.clone() for tensor in before]
    observe(before, torch.tensor(1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, copy, strict=True))


# Errors are in sixty-fourths of a per cent, so that sums are exact and ties are ties.
SEQUENCES = st.lists(st.integers(0, 60), min_size=1, max_size=150).map(lambda numbers: [n / 64 for n in numbers])


@given(errors=SEQUENCES, width=st.integers(1, 12))
def test_random_sequences_are_judged_as_the_description_says(errors, width):
    plain = PlainMonitor(width)
    for error, state in zip(errors, watch(errors, width), strict=True):
        assert bool(state.due) == plain.observe(error)
        assert training_steps(state) == plain.training_steps()
        assert int(state.count) == len(plain.records)
    assert state.records.tolist() == [0, 0, 0, *plain.records][-3:]


@pytest.mark.parametrize(
    ("count", "classes", "width"), [(10, 10, 50), (100, 10, 50), (101, 10, 200), (500, 26, 200), (100, 100, 100), (500, 49, 100)]
)
def test_the_window_follows_the_papers_rule(count, classes, width):
    assert window_size(count, classes) == width


def test_rules_without_a_monitor_replace_networks_always_or_never():
    for rule, resets in ((every_iteration(), 3), (never(), 0)):
        state = rule.init()
        for _ in range(3):
            state = rule.update(state, torch.tensor(50.0), None)
        assert int(state.count) == resets and rule.fixed == (resets == 0) and rule.training_steps(state) is None
