"""Labels that lead students along experts' paths."""

import pytest
import torch

from labeldistill.data import InputError, generator
from labeldistill.distillers import Schedule, distill_labels, epoch_draws, make_batch, start
from labeldistill.labels import smoothed_labels, uniform_labels
from labeldistill.matching import Matching, PathPlan, record_paths
from labeldistill.networks import PLAIN
from labeldistill.runs import Opening, Scene
from labeldistill.unroll import Lesson
from labeldistill.windows import WindowPlan

PLAN = PathPlan(experts=2, iterations=30, every=10, reach=2, batch=32)
SCHEDULE = Schedule(12, 32, 10)


@pytest.fixture(scope="module")
def problem():
    return Scene("digits", 10, None, None, "lenet", None, 1, "cpu", Opening(None)).problem()


@pytest.fixture(scope="module")
def network():
    return Scene("digits", 10, None, None, "lenet", None, 1, "cpu", Opening(None)).network


@pytest.fixture(scope="module")
def paths(network, problem):
    return record_paths(network, problem, PLAN, 0)


@pytest.fixture
def method(network, paths):
    return Matching(network, None, "cpu", PLAIN, uniform_labels(10, 10), WindowPlan(4), paths, PLAN)


def test_paths_are_of_different_experts_and_repeat(paths, network, problem):
    assert paths.shape == (2, 4, 3, sum(x.numel() for x in network.build(0).parameters()))
    assert (paths[:, 1:] != paths[:, :-1]).any(-1).all() and not paths[:, 0, 1:].any() and not torch.equal(paths[0], paths[1])
    assert torch.equal(paths, record_paths(network, problem, PLAN, 0))


def test_students_begin_on_a_path_and_their_goal_lies_ahead_on_it(method, paths):
    seen = set()
    for seed in range(40):
        segment = method.start(seed)
        ((expert, first),) = [(e, t) for e in range(2) for t in range(2) if torch.equal(paths[e, t], segment.slots)]
        assert torch.equal(segment.goal, paths[expert, first + 2, 0]) and segment.steps == 10 * first
        seen.add((expert, first))
    assert len(seen) == 4


def test_a_student_that_sees_what_the_expert_saw_goes_its_way(network, paths, problem):
    method = Matching(network, None, "cpu", PLAIN, uniform_labels(10, 10), WindowPlan(PLAN.every), paths, PLAN)
    order = torch.randperm(len(problem.images), generator=generator(0, "path batches", 1))
    rows = torch.stack(order.split(PLAN.batch)[PLAN.every : 2 * PLAN.every])  # of the second expert's eleventh to twentieth step
    images, labels = problem.normalise(problem.images[rows.flatten()]), torch.eye(10)[problem.targets[rows]]
    lessons = Lesson(images.unflatten(0, rows.shape), labels, method.rates)
    goal, moved = paths[1, 2, 0], (paths[1, 2, 0] - paths[1, 1, 0]).norm()
    missed = [(method.unroll.proceed(tuple(paths[1, 1]), lessons, done).theta - goal).norm() / moved for done in (PLAN.every, 0)]
    assert missed[0] < 0.01 and missed[1] > 0.1  # the number of steps belongs to Adam's state


def test_students_of_paths_train_as_experts_do(network, paths):
    with pytest.raises(InputError, match="optimizer 'sgd': students that match experts' paths train by adam"):
        Matching(network, None, "cpu", PLAIN, uniform_labels(10, 10), WindowPlan(4, "sgd"), paths, PLAN)


def test_the_gradient_is_that_of_the_distance_left(network, paths, problem):
    later = paths[:, 1:]  # Adam's first steps are all but signs of gradients, which finite differences do not suit
    method = Matching(network, None, "cpu", PLAIN, uniform_labels(10, 10), WindowPlan(4), later, PLAN)
    state = start(problem, method, 0).state
    batch = make_batch(problem, epoch_draws(problem, SCHEDULE, 0, 0, method.inner_steps)[0])
    after, _ = method.step(state, batch)
    gradient = after.adam.adam.mean / 0.1  # the first one is not clipped

    def left(logits):
        return method.step(state._replace(learned=logits), batch)[1][0]

    for entry in gradient.abs().flatten().topk(3).indices.tolist():
        nudge = torch.zeros(100).index_fill(0, torch.tensor([entry]), 0.002).reshape(10, 10)
        slope = (left(state.learned + nudge) - left(state.learned - nudge)) / 0.004
        assert float(slope) == pytest.approx(float(gradient.flatten()[entry]), rel=0.1)


def test_every_iteration_takes_another_stretch(method, problem):
    progress = distill_labels(problem, method, SCHEDULE, 0, show_progress=False)
    assert progress.resets.tolist() == list(range(1, 13))
    assert progress.curve.shape == (12, 2) and progress.best.accuracy > 0
    assert not torch.equal(progress.state.learned, method.begin(problem))


def test_true_labels_go_a_part_of_the_way_and_labels_that_say_nothing_do_not(network, problem, paths):
    batch = make_batch(problem, epoch_draws(problem, SCHEDULE, 0, 0, 10)[0])
    true = smoothed_labels(Scene("digits", 10, None, None, "lenet", None, 1, "cpu", Opening(None)).base.labels, 10, 0.02)
    kinds = (true, uniform_labels(10, 10))
    methods = [Matching(network, None, "cpu", PLAIN, labels, WindowPlan(10), paths, PLAN) for labels in kinds]
    shares = [float(method.step(start(problem, method, 0).state, batch)[1][0]) for method in methods]
    assert shares[0] < 1 < shares[1]
