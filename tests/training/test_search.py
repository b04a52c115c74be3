"""Searched base sets: what is scored by whom, what it costs, small pools, and the parts of the data that are seen."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from labeldistill import Compute, Expert, Student, Task, distill
from labeldistill.data.datasets import normalisation, split
from labeldistill.training import search as module
from labeldistill.training.evaluation import ImageSet
from labeldistill.training.search import (
    Students,
    Teacher,
    best_swaps,
    cut_validation,
    draw_sets,
    halve,
    halving_cost,
    image_gains,
    propose_swaps,
    random_sets_for,
    search,
    select_rows,
    train_experts,
)
from labeldistill.training.selection import Goal, Pool
from labeldistill.utils import InputError

CPU = torch.device("cpu")


def tiny(channels, image_size, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8), nn.Tanh(), nn.Linear(8, classes))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    "Experts and students of few steps."
    monkeypatch.setattr(module, "EXPERT_STOPS", (2, 5))
    monkeypatch.setattr(module, "candidate_steps", lambda count: [80])


@pytest.fixture
def pool(bars):
    return Pool(bars, split(bars), True, 3, tiny, None, CPU, progress=False, students=60)


def record(monkeypatch):
    "Counts the students that are trained, by the sets they see."
    seen, original = Counter(), module.train

    def train(trainer, data, *more):
        seen[tuple(data.images.sum((1, 2, 3)).tolist())] += 1
        return original(trainer, data, *more)

    monkeypatch.setattr(module, "train", train)
    return seen


def test_a_searched_set_is_balanced_distinct_and_of_the_training_part(pool):
    rows = select_rows("searched", pool, 6)
    assert pool.dataset.labels[rows].bincount().tolist() == [2, 2, 2]
    assert len({*rows.tolist()}) == 6 and {*rows.tolist()} <= {*pool.parts.train.tolist()}


def test_a_class_blind_set_need_not_be_balanced(pool):
    rows = select_rows("searched", replace(pool, balanced=False), 4)
    assert len({*rows.tolist()}) == 4 and {*rows.tolist()} <= {*pool.parts.train.tolist()}


def test_a_seed_gives_one_set_and_leaves_the_global_random_state(pool):
    before = torch.get_rng_state()
    first, second, other = search(pool, 6), search(replace(pool), 6), search(replace(pool, seed=4), 6)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_threads_do_not_change_what_is_found(pool):
    threads, alone = torch.get_num_threads(), search(pool, 6)
    torch.set_num_threads(3)
    try:
        assert torch.equal(alone, search(replace(pool), 6)) and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("students", [50, 120])
def test_no_more_students_than_the_budget_are_trained(pool, monkeypatch, students):
    seen = record(monkeypatch)
    search(replace(pool, students=students), 6)
    assert students - 1 - halving_cost(8) - 2 * module.FINAL_STUDENTS < seen.total() <= students


def test_the_test_part_is_never_looked_at(pool):
    found = search(pool, 6)
    blank = replace(pool.dataset, images=pool.dataset.images.index_fill(0, pool.parts.test, 0))
    blank = replace(blank, labels=blank.labels.index_fill(0, pool.parts.test, 0))
    assert torch.equal(found, search(replace(pool, dataset=blank), 6))


def test_the_last_choice_has_images_and_students_of_its_own(pool, monkeypatch):
    scored, original = [], Students.score

    def score(students, sets, models=1):
        scored.append((students.judge, range(students.seeds, students.seeds + models)))
        return original(students, sets, models)

    monkeypatch.setattr(Students, "score", score)
    search(pool, 6)
    *others, (judge, seeds) = scored
    ours, theirs = ({*map(tuple, part.images.flatten(1).tolist())} for part in (judge, others[0][0]))
    assert not ours & theirs and all(part is others[0][0] for part, _ in others)
    used = [number for _, numbers in scored for number in numbers]
    assert len({*used}) == len(used) and len(seeds) == module.FINAL_STUDENTS


def test_the_halves_are_the_validation_part(pool):
    whole = pool.target.validation
    halves = cut_validation(whole, 3)
    assert [len(part.labels) for part in halves] == [9, 9]
    assert sorted(torch.cat([part.images for part in halves]).flatten(1).tolist()) == sorted(whole.images.flatten(1).tolist())


def test_one_validation_example_is_refused(pool):
    one = pool.target.validation
    goal = replace(pool.target, validation=ImageSet(one.images[:1], one.labels[:1], one.normalise))
    with pytest.raises(InputError, match="--selection searched: expected at least two validation examples, not one"):
        search(replace(pool, goal=goal), 6)


def test_a_pool_with_one_set_gives_that_set(pool):
    few = torch.cat([pool.parts.train[pool.labels == c][:2] for c in range(3)])
    small = replace(pool, parts=pool.parts._replace(train=few))
    assert sorted(search(small, 6).tolist()) == sorted(few.tolist())
    with pytest.raises(InputError, match="--base-examples 9: must be 1 to 6"):
        select_rows("searched", small, 9)


def test_halving_keeps_the_best_and_costs_what_it_says():
    calls = []

    def score(candidates, models):
        calls.append((len(candidates), models))
        return torch.tensor([float(x) for x in candidates])

    assert halve([3, 9, 1, 7, 2, 8, 0, 5], score) == 9
    assert calls == [(8, 1), (4, 2), (2, 3)] and halving_cost(8) == 8 + 4 * 2 + 2 * 3
    assert halve(["only"], score) == "only" and halving_cost(1) == 0 and halving_cost(3) == 3


def test_halving_weighs_scores_by_their_students():
    later = iter([torch.tensor([3.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 1.0])])
    assert halve("abcd", lambda candidates, models: next(later)) == "b"  # 3 + 2 * 0 < 2 + 2 * 1


@pytest.mark.parametrize("budget", [50, 51, 113, 400, 5000])
def test_random_sets_take_a_third_of_the_students_at_most(budget):
    sets = random_sets_for(budget)
    assert halving_cost(sets) <= budget // 3 < halving_cost(2 * sets)


def test_random_sets_are_drawn_once_each(pool):
    few = torch.cat([pool.parts.train[pool.labels == c][:2] for c in range(3)])
    drawn = draw_sets(replace(pool, parts=pool.parts._replace(train=few)), 3, 64)
    assert len({tuple(sorted(rows.tolist())) for rows in drawn}) == len(drawn) <= 8


def test_all_sets_meet_the_same_students(pool):
    data = Teacher(pool, train_experts(pool)[5]).training_set(pool.parts.train[:6])
    students = Students(pool, pool.target.validation, 5)
    first, second = students.score([data, data], models=2).tolist()
    assert first == second and students.spent == 4 and students.seeds == 2
    assert students.score([data]).item() != students.score([data]).item() or students.seeds == 4


def test_labels_are_softened_means_of_the_experts_logits(pool):
    teacher, rows = Teacher(pool, train_experts(pool)[5], 2.0), pool.parts.train[:6]
    images, labels = teacher.label(rows)
    torch.testing.assert_close(images, pool.normalise(pool.dataset.images[rows]))
    logits = sum(expert(images) for expert in teacher.experts) / len(teacher.experts)
    torch.testing.assert_close(labels, (logits / 2).softmax(1))


def test_gains_are_products_of_gradients(pool):
    student = Students(pool, pool.target.validation, 5).train(
        Teacher(pool, train_experts(pool)[5]).training_set(torch.arange(6)), 0
    )
    real, images = pool.target.validation, pool.normalise(pool.dataset.images[:4])
    labels, model = torch.rand(4, 3).softmax(1), student.classifier().double()

    def gradient(x, y):
        loss = nn.functional.cross_entropy(model(x.double()), y)
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, [*model.parameters()])])

    shown = real.normalise(real.images), real.labels
    toward = gradient(*shown)
    exact = torch.stack([toward @ gradient(x[None], y[None].double()) for x, y in zip(images, labels, strict=True)])
    exact = exact / toward.norm() * student.trained["theta"].norm()
    torch.testing.assert_close(image_gains(student, shown, images, labels, 1e-3).double(), exact, rtol=0.02, atol=2e-3)


def test_swaps_take_the_best_places_of_the_best_candidates():
    rows, candidates, labels = torch.tensor([10, 11]), torch.tensor([12, 13, 14]), torch.zeros(20, dtype=torch.long)
    labels[[11, 13]] = 1
    gains = torch.tensor([0.5, 0.2, 0.9, 0.3, 0.0])
    swaps = best_swaps(rows, candidates, gains, labels, True, 9)
    assert [new.tolist() for new in swaps] == [[12, 11], [10, 13]]
    assert [new.tolist() for new in best_swaps(rows, candidates, gains, labels, False, 2)] == [[10, 12], [13, 11]]
    labels[12:15] = 2
    assert best_swaps(rows, candidates, gains, labels, True, 9) == []


def test_proposed_swaps_help_a_set_that_lacks_a_class(bars):
    parts = split(bars)
    pool = Pool(bars, parts, False, 3, tiny, None, CPU, progress=False)
    train_labels = bars.labels[parts.train]
    rows = parts.train[train_labels != 2][:6]  # none of the last class
    swaps = propose_swaps(Teacher(pool, train_experts(pool)[5]), Students(pool, pool.target.validation, 20), rows)
    new = [int(bars.labels[swapped[swapped != rows]]) for swapped in swaps]
    assert len(swaps) == 6 and new.count(2) > 3  # a place for each


def test_a_search_for_another_data_set_listens_to_that_one(make_dataset, bars):
    target, parts = make_dataset(seed=7), split(make_dataset(seed=7))
    normalise = normalisation(target, parts.train)
    sets = [ImageSet(target.images[rows], target.labels[rows], normalise) for rows in (parts.train, parts.valid)]
    own = Pool(bars, split(bars), False, 3, tiny, None, CPU, progress=False, students=60)
    pool = replace(own, goal=Goal(*sets, own.recipe))
    teacher = Teacher(pool, train_experts(pool)[5])
    torch.testing.assert_close(teacher.label(torch.arange(3))[0], normalise(bars.images[:3]))
    assert {*search(pool, 6).tolist()} <= {*pool.parts.train.tolist()}


@pytest.mark.parametrize("balanced", [True, False])
def test_sets_balanced_by_experts_have_their_classes_in_turn_and_are_nested(pool, balanced):
    pool = replace(pool, balanced=balanced)
    few, more = (select_rows("expert-balanced", pool, count) for count in (6, 12))
    assert torch.equal(few, more[:6]) and {*more.tolist()} <= {*pool.parts.train.tolist()}
    seen = Teacher(pool, train_experts(pool)[5]).label(pool.parts.train)[1].argmax(1)
    chosen = Teacher(pool, train_experts(pool)[5]).label(more)[1].argmax(1).bincount(minlength=3)
    assert (chosen == chosen.max()).logical_or(chosen == seen.bincount(minlength=3)).all()


def test_labels_are_learned_for_a_searched_set_and_a_resumed_run_does_not_search(bars, tmp_path, monkeypatch):
    task = Task(bars, 6, network=tiny, selection="searched", search_students=50)
    common = {"student": Student(steps=5), "compute": Compute("cpu"), "progress": False, "checkpoint": tmp_path}
    labels = distill(task, Expert(iterations=2, temperature=1.0), **common)
    assert labels.task["selection"] == "searched" and labels.task["search_students"] == 50
    monkeypatch.setitem(module.SELECTIONS, "searched", None)
    again = distill(task, Expert(iterations=2, temperature=1.0), resume=True, **common)
    assert torch.equal(labels.rows, again.rows) and torch.equal(labels.labels, again.labels)
    with pytest.raises(InputError, match=r"was made with task\.search_students = 50, not 60"):
        distill(replace(task, search_students=60), Expert(iterations=2, temperature=1.0), resume=True, **common)


def test_too_few_students_are_refused():
    with pytest.raises(InputError, match="--search-students 49: must be at least 50"):
        Task("digits", 10, selection="searched", search_students=49)
