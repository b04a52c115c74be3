"Labels in closed form: the naive form, what is chosen, as a start, and what is refused."

from dataclasses import replace

import pytest
import torch
import user_networks
from helpers import CPU

from labeldistill import Expert, LabelSolve, Schedule, SecondOrder, Student, Task, Unrolled, distill, evaluate, load_distilled
from labeldistill.api import prepare
from labeldistill.config import method_from_json, to_json
from labeldistill.methods.expert_selection import HIGH_TEMPERATURES, TEMPERATURES, search_pairs
from labeldistill.methods.label_solve import LAMBDAS, RESCALINGS, see_along, solve_labels, solve_points
from labeldistill.training.training_set import are_probabilities
from labeldistill.utils import InputError

COUNT, CLASSES = 6, 3
FIXED = LabelSolve(networks=2, lam=0.01, scale=2.0)
MSE = Student(loss="mse")
pytestmark = pytest.mark.usefixtures("few_steps")


def solve(bars, method=FIXED, student=Student(), seed=7, **options):
    task = Task(bars, COUNT, network=user_networks.plain)
    return distill(task, method, student=student, seed=seed, compute=CPU, progress=False, **options)


@pytest.mark.parametrize("lam", [0.001, 1.0])
def test_labels_are_those_of_one_least_squares_problem_over_the_pool(bars, lam):
    task, _ = prepare(Task(bars, COUNT, network=user_networks.plain), LabelSolve(), compute=CPU)
    rows, targets, pool = [], [], []
    for number in range(3):
        (seen,) = see_along(task.network, task, LabelSolve(), 5, number)
        pool.append(seen)
        assert seen.base.shape == (COUNT, task.network.features + 1)
        kernel = seen.base @ seen.base.T
        weights = torch.linalg.inv(kernel + lam * kernel.diagonal().mean() * torch.eye(COUNT)) @ seen.base
        factor = torch.linalg.cholesky(seen.gram + 1e-12 * torch.eye(len(seen.gram)))  # stands for the real images
        rows.append(factor.T @ weights.T)
        targets.append(torch.linalg.solve(factor, seen.targets))
    expected = torch.linalg.lstsq(torch.cat(rows), torch.cat(targets)).solution
    found = solve_labels(pool, lam)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.sum(1), torch.zeros(COUNT), rtol=0, atol=1e-4)


def test_sums_over_real_images_are_those_of_all_of_them_at_once(bars):
    task, _ = prepare(Task(bars, COUNT, network=user_networks.plain), LabelSolve(), compute=CPU)
    (seen,) = see_along(task.network, task, LabelSolve(), 5, 0)
    shares = task.train.labels.bincount().double() / len(task.train.labels)
    torch.testing.assert_close(seen.gram[-1, -1], torch.ones((), dtype=torch.float64))  # of the ones
    torch.testing.assert_close(seen.targets[-1], shares - 1 / CLASSES)


@pytest.mark.parametrize("student", [Student(), MSE], ids=["probabilities", "real"])
def test_solved_labels_teach_the_bars(bars, tmp_path, student):
    learned = solve(bars, LabelSolve(networks=2), student)
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert are_probabilities(read.labels) != (student is MSE) and torch.equal(read.labels, learned.labels)
    assert learned.settings["lambda"] in LAMBDAS and learned.settings["label scale"] in RESCALINGS[student is MSE]
    tested = evaluate(read, bars, source=bars, network=user_networks.plain, models=3, compute=CPU, progress=False)
    assert tested.loss == read.student.loss and tested.accuracy_mean > 60
    assert torch.equal(solve(bars, LabelSolve(networks=2), student).labels, learned.labels)
    assert not torch.equal(solve(bars, LabelSolve(networks=2), student, seed=8).labels, learned.labels)


def test_what_is_given_is_not_chosen(bars):
    real, projected = solve(bars, FIXED, MSE), solve(bars, replace(FIXED, label_space="probabilities"), MSE)
    assert real.settings["lambda"] == 0.01 and real.settings["label scale"] == 2.0
    torch.testing.assert_close(projected.labels, real.labels.softmax(1))
    assert torch.equal(solve(bars, replace(FIXED, label_space="real")).labels, real.labels)


def test_features_may_be_of_several_stopping_points(bars):
    assert [solve_points(LabelSolve(iterations=n, points=p)) for n, p in ((0, 1), (9, 1), (40, 3))] == [[0], [9], [0, 10, 40]]
    task, _ = prepare(Task(bars, COUNT, network=user_networks.plain), LabelSolve(), compute=CPU)
    untrained, trained = see_along(task.network, task, LabelSolve(iterations=10, points=2), 5, 0)
    (fresh,) = see_along(task.network, task, LabelSolve(), 5, 0)
    assert torch.equal(untrained.base, fresh.base) and not torch.equal(trained.base, fresh.base)
    assert torch.equal(trained.base, see_along(task.network, task, LabelSolve(iterations=10), 5, 0)[0].base)


@pytest.mark.parametrize("space", ["probabilities", "real"])
def test_windows_begin_with_what_was_solved(bars, space):
    method = Unrolled(window=4, init=FIXED, label_space=space, label_lr=1e-9)
    begun = solve(bars, method, schedule=Schedule(iterations=1, outer_batch=32))
    solved = solve(bars, FIXED, Student(loss="mse" if space == "real" else "cross-entropy"))
    torch.testing.assert_close(begun.labels, solved.labels, rtol=0, atol=2e-3)  # no probability below a thousandth
    assert begun.settings["lambda"] == 0.01 and begun.method["unrolled"]["init"] == to_json(FIXED)
    assert method_from_json(to_json(method)) == method


def test_what_does_not_go_together_is_refused_before_any_work(bars):
    real = replace(FIXED, label_space="real")
    for method, student, message in (
        (real, Student(loss="cross-entropy"), "--solve-label-space real: students learn these by squared error"),
        (SecondOrder(init=real), Student(), "--solve-label-space real: students learn these by squared error"),
        (
            SecondOrder(init=SecondOrder()),
            Student(),
            "--init second-order: labels begin as those of expert, label-solve; expected",
        ),
        (SecondOrder(learn="images", init=FIXED), Student(), "--init label-solve: needs labels that are learned for base"),
        (replace(FIXED, network="nonsense"), Student(), "--solve-network 'nonsense': expected lenet"),
        (Unrolled(init=replace(FIXED, network="nonsense")), Student(), "--solve-network 'nonsense': expected lenet"),
    ):
        with pytest.raises(InputError, match=message):
            solve(bars, method, student, schedule=Schedule() if method.epochs is None else Schedule(iterations=1))
    with pytest.raises(InputError, match="--solve-lam 1e-300: must be at least 1e-12"):  # equal images would be a singular matrix
        LabelSolve(lam=1e-300)
    with pytest.raises(InputError, match="--solve-points 3: must be at most 2, one for each iteration"):
        LabelSolve(iterations=1, points=3)


def test_experts_may_be_searched_jointly(bars):
    in_turn, joint = (solve(bars, Expert(max_iterations=40, choice=choice)) for choice in ("in turn", "joint"))
    assert torch.equal(in_turn.labels, solve(bars, Expert(max_iterations=40)).labels)
    assert joint.settings["temperature"] in (*TEMPERATURES, *HIGH_TEMPERATURES) and joint.method["expert"]["choice"] == "joint"


def test_a_joint_search_ends_where_no_change_of_one_is_better():
    table = torch.tensor([[3.0, 2, 5, 0], [1, 0, 6, 0], [0, 0, 7, 8], [0, 9, 0, 9]])
    asked = []

    def score(first, second):
        asked.append((first, second))
        return table[first, second].item()

    assert search_pairs(score, range(4), range(4)) == (0, 2)
    assert search_pairs(score, range(4), range(4), joint=True) == (3, 1) and len(asked[7:]) == len(set(asked[7:]))


def test_several_points_end_with_the_last_iteration():
    assert [solve_points(LabelSolve(iterations=500, points=n)) for n in (1, 2, 3)] == [[500], [0, 500], [0, 10, 500]]
