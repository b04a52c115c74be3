"""Labels that lead students along experts' trajectories."""

from dataclasses import replace

import pytest
import torch
import user_networks
from helpers import CPU, tiny_task

from labeldistill import Schedule, Student, Task, TrajectoryMatching, distill
from labeldistill.data.datasets import split
from labeldistill.data.streams import generator
from labeldistill.methods import matching
from labeldistill.methods.distiller import State
from labeldistill.methods.loop import epoch_indices, learn, make_batch, start
from labeldistill.methods.matching import expert_trajectories
from labeldistill.methods.optimizers import recorder
from labeldistill.methods.unroll import Minibatch, rollout
from labeldistill.training.training_set import smoothed_labels
from labeldistill.utils import InputError

METHOD = TrajectoryMatching(experts=2, trajectory_iterations=30, trajectory_every=10, segment=2, batch_size=32, student_steps=4)
SCHEDULE = Schedule(iterations=12, outer_batch=32)
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def task():
    return tiny_task("digits", 10, METHOD, SCHEDULE)[0]


@pytest.fixture(scope="module")
def trajectories(task):
    "Not to be changed."
    return expert_trajectories(METHOD, task, 0)


@pytest.fixture
def make(task, trajectories, monkeypatch):
    "Makes distillers that have these trajectories, without training experts again."
    monkeypatch.setattr(matching, "expert_trajectories", lambda config, task, seed: trajectories)
    return lambda **options: replace(METHOD, **options).build(task)


def test_trajectories_are_of_different_experts_and_repeat(trajectories, task):
    assert trajectories.shape == (2, 4, 3, sum(x.numel() for x in task.network.build(0).parameters()))
    assert (trajectories[:, 1:] != trajectories[:, :-1]).any(-1).all() and not trajectories[:, 0, 1:].any()
    assert not torch.equal(*trajectories) and torch.equal(trajectories, expert_trajectories(METHOD, task, 0))


def test_students_begin_on_a_trajectory_and_their_goal_lies_ahead_on_it(make, trajectories, task):
    distiller, seen = make(), set()
    distiller.init_params(task, 0)
    for seed in range(40):
        theta, moments, segment = distiller.init_state(seed)
        state = torch.stack([theta, *moments])
        ((expert, first),) = [(e, t) for e in range(2) for t in range(2) if torch.equal(trajectories[e, t], state)]
        assert torch.equal(segment.goal, trajectories[expert, first + 2, 0]) and segment.steps == 10 * first
        seen.add((expert, first))
    assert len(seen) == 4


def test_a_student_that_sees_what_the_expert_saw_goes_its_way(make, trajectories, task):
    distiller, (theta, *moments), goal = make(), trajectories[1, 1], trajectories[1, 2, 0]
    order = torch.randperm(len(task.train.images), generator=generator(0, "path batches", 1))
    rows = torch.stack(order.split(32)[10:20])  # of the second expert's eleventh to twentieth step
    images, labels = task.train.normalise(task.train.images[rows.flatten()]), torch.eye(10)[task.train.labels[rows]]
    minibatches = Minibatch(images.unflatten(0, rows.shape), labels, torch.full((10,), METHOD.step_size))
    ends = [rollout(distiller.unroll, theta, minibatches, tuple(moments), done).theta for done in (10, 0)]
    missed = [(end - goal).norm() / (goal - theta).norm() for end in ends]
    assert missed[0] < 0.01 and missed[1] > 0.1  # the number of steps belongs to Adam's state


def test_students_of_trajectories_train_as_experts_do(task):
    with pytest.raises(InputError, match="--optimizer sgd: students here train by adam, as the experts do"):
        METHOD.build(replace(task, student=Student(optimizer="sgd")))


def test_trajectories_shorter_than_a_segment_are_refused(task):
    with pytest.raises(InputError, match="iterations 19: must be at least 20, a segment"):
        expert_trajectories(replace(METHOD, trajectory_iterations=19), task, 0)


def test_the_gradient_is_that_of_the_distance_left(make, trajectories, task):
    distiller, record = make(), recorder()
    params = distiller.init_params(task, 0)
    distiller.trajectories = trajectories[:, 1:]  # Adam's first steps are all but signs of gradients, no good for differences
    batch = make_batch(task, epoch_indices(task, 0, 0, distiller.inner_batch, distiller.inner_steps)[0])
    state = State(params, record.init(params), distiller.init_state(0), ())
    after, _ = distiller.step(state, batch, record.update)
    (gradient,) = torch.func.vjp(lambda logits: logits.softmax(1), params)[1](after.opt_state)

    def left(logits):
        return distiller.step(state._replace(params=logits), batch, record.update)[1][0]

    for entry in gradient.abs().flatten().topk(3).indices.tolist():
        nudge = torch.zeros(100).index_fill(0, torch.tensor([entry]), 0.002).reshape(10, 10)
        slope = (left(params + nudge) - left(params - nudge)) / 0.004
        assert float(slope) == pytest.approx(float(gradient.flatten()[entry]), rel=0.1)


def test_every_iteration_takes_another_segment(make, task):
    distiller = make()
    progress = learn(task, distiller, 0)
    assert progress.resets.tolist() == list(range(1, 13))
    assert progress.curve.shape == (12, 2) and progress.best.accuracy > 0
    assert not torch.equal(progress.state.params, distiller.init_params(task, 0))


def test_true_labels_go_a_part_of_the_way_and_labels_that_say_nothing_do_not(make, task):
    batch = make_batch(task, epoch_indices(task, 0, 0, 10, 10)[0])
    distillers = [make(student_steps=10, init=init) for init in (smoothed_labels(task.base.labels, 10, 0.02), "uniform")]
    left = []
    for distiller in distillers:
        state = start(task, distiller, 0).state
        left.append(float(distiller.step(state, batch, distiller.optimizer.update)[1][0]))
    assert left[0] < 1 < left[1]


# Runs


def quick(target="digits", base=10, iterations=4, outer_batch=256, method=METHOD, **options):
    task, schedule = Task(target, base, network=user_networks.plain), Schedule(iterations=iterations, outer_batch=outer_batch)
    return distill(task, method, schedule=schedule, seed=7, compute=CPU, progress=False, **options)


def test_labels_are_those_that_they_always_were():
    method = replace(METHOD, trajectory_iterations=20, segment=1, batch_size=64, student_steps=3)
    learned = quick(method=method)
    assert learned.resets == (), "each iteration has a student of its own"
    expected = [0.10955, 0.08281, 0.08328, 0.09831, 0.11293, 0.08249, 0.11884, 0.11361, 0.08480, 0.11337]
    assert learned.labels[0].tolist() == pytest.approx(expected, abs=2e-4)
    assert learned.curve[:, 1].tolist() == pytest.approx([0.7097, 0.6940, 0.5766, 1.0002], abs=1e-3)


def test_the_same_seed_gives_the_same_labels_and_leaves_the_global_state(bars, random_states):
    before = random_states()
    first, second = (quick(bars, 6, outer_batch=32) for _ in range(2))
    assert torch.equal(first.labels, second.labels) and first.settings == second.settings and random_states() == before


def test_the_test_part_is_not_looked_at(bars):
    test, images = split(bars).test, bars.images.clone()
    images[test] = 255 - images[test].flip(0)
    clean, other = (quick(data, 6, outer_batch=32) for data in (bars, replace(bars, images=images)))
    assert torch.equal(clean.labels, other.labels) and clean.validation_accuracy == other.validation_accuracy


class Stop(Exception):
    "The run is killed."


def test_a_resumed_run_ends_like_an_uninterrupted_one(bars, tmp_path):
    options = {"iterations": 60, "outer_batch": 84, "checkpoint": tmp_path / "kept", "student": Student(steps=5)}
    whole, seen = quick(bars, 6, **(options | {"checkpoint": None})), []

    def mortal(event):
        seen.append(event.iteration)
        if len(seen) == 2:
            raise Stop

    with pytest.raises(Stop):
        quick(bars, 6, callback=mortal, **options)
    resumed = quick(bars, 6, resume=True, callback=lambda event: seen.append(event.iteration), **options)
    assert seen == [25, 50, 60]  # the checkpoint is written before the callback is called
    assert torch.equal(resumed.labels, whole.labels) and torch.equal(resumed.curve, whole.curve)
    assert resumed.settings == whole.settings and resumed.student == whole.student
    with pytest.raises(InputError, match="student_steps = 4, not 5"):
        quick(bars, 6, method=replace(METHOD, student_steps=5), resume=True, **options)
