"""Labels stay probabilities, and Adam is Adam."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeldistill.methods.optimizers import adam, adam_init, adam_update, clip, optimizer, to_distribution
from labeldistill.training.training_set import smoothed_labels, uniform_labels

SEEDS = st.integers(0, 2**31)


def random_labels(count, classes, spread, seed):
    "Labels around the uniform ones that reach beyond 0 and 1, every row with one entry that is positive."
    rng = torch.Generator().manual_seed(seed)
    labels = 1 / classes + spread * torch.randn(count, classes, generator=rng)
    return labels.scatter(1, torch.randint(classes, (count, 1), generator=rng), 0.5)


@given(count=st.integers(1, 20), classes=st.integers(2, 200), spread=st.floats(0, 10), seed=SEEDS)
def test_constrained_labels_are_probabilities(count, classes, spread, seed):
    labels = to_distribution(random_labels(count, classes, spread, seed))
    assert (labels >= 0).all() and (labels <= 1).all()
    assert torch.allclose(labels.sum(1), torch.ones(count), atol=1e-5)


@given(count=st.integers(1, 8), classes=st.integers(2, 30), seed=SEEDS)
def test_probabilities_are_left_as_they_are_by_the_constraint(count, classes, seed):
    labels = torch.rand(count, classes, generator=torch.Generator().manual_seed(seed)) + 0.01
    labels /= labels.sum(1, keepdim=True)
    assert torch.allclose(to_distribution(labels), labels, atol=1e-6)


def test_the_constraint_clamps_and_then_divides_by_the_sum():
    labels = to_distribution(torch.tensor([[-0.5, 0.25, 0.25], [3.0, 1.0, 0.0]]))
    assert torch.allclose(labels, torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.5, 0.0]]))


def test_a_row_without_a_positive_entry_becomes_nan_and_no_other_row_does():
    labels = to_distribution(torch.tensor([[-1.0, 0.0], [0.2, 0.2]]))
    assert labels[0].isnan().all() and labels[1].tolist() == [0.5, 0.5]


def test_the_constraint_leaves_its_argument_alone():
    labels = torch.tensor([[-1.0, 2.0]])
    to_distribution(labels)
    assert labels.tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (10, 10), (7, 49)])
def test_labels_start_uniform(count, classes):
    labels = uniform_labels(count, classes)
    assert labels.shape == (count, classes) and labels.dtype == torch.float32
    assert torch.allclose(labels, torch.tensor(1 / classes))


@given(
    classes=st.integers(2, 30),
    smoothing=st.floats(0, 0.9),
    true=st.lists(st.integers(0, 1000), min_size=1, max_size=20),
)
def test_smoothed_labels_keep_one_minus_the_smoothing_for_the_true_class(classes, smoothing, true):
    true = torch.tensor(true) % classes
    labels = smoothed_labels(true, classes, smoothing)
    expected = torch.full((len(true), classes), smoothing / classes)
    expected[torch.arange(len(true)), true] += 1 - smoothing
    assert labels.dtype == torch.float32 and torch.allclose(labels, expected, atol=1e-6)


def test_without_smoothing_true_labels_are_exactly_one_hot():
    assert smoothed_labels(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


@given(
    shape=st.sampled_from([(), (5,), (3, 4)]),
    steps=st.integers(1, 30),
    lr=st.floats(1e-4, 1e-1),
    betas=st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)]),
    eps=st.sampled_from([1e-8, 1e-3]),
    size=st.floats(1e-6, 1e3),
    differentiable=st.booleans(),
    seed=SEEDS,
)
def test_adam_takes_the_steps_of_torchs_adam(shape, steps, lr, betas, eps, size, differentiable, seed):
    rng = torch.Generator().manual_seed(seed)
    ours = torch.randn(shape, generator=rng, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    reference, state = torch.optim.Adam([theirs], lr=lr, betas=betas, eps=eps), adam_init(ours)
    for _ in range(steps):
        gradient = size * torch.randn(shape, generator=rng, dtype=torch.float64)
        theirs.grad = gradient
        reference.step()
        step, state = adam_update(gradient, state, lr, betas, eps, differentiable)
        ours = ours + step
    assert torch.allclose(ours, theirs.detach(), rtol=0, atol=3e-4 * lr * steps)


def test_an_optimizers_step_leaves_its_arguments_alone():
    x, gradient = torch.full((2, 2), 0.5), torch.ones(2, 2)
    own = optimizer(adam(), project=to_distribution)
    state = own.init(x)
    own.update(gradient, state, x)
    assert x.eq(0.5).all() and gradient.eq(1).all() and all(tensor.eq(0).all() for tensor in state[0])


def test_gradients_are_at_most_twice_as_long_as_usual():
    direction, lengths = torch.tensor([0.6, 0.8], dtype=torch.float64), [1.0, 1.5, 10.0, 0.5, 100.0, 0.0, 3.0]
    usual = torch.zeros((), dtype=torch.float64)
    shrunk = []
    for length in lengths:
        gradient, usual = clip(length * direction, usual)
        torch.testing.assert_close(gradient, gradient.norm() * direction)
        shrunk.append(float(gradient.norm()))
    known, expected = lengths[0], [lengths[0]]  # the first is taken as it is
    for length in lengths[1:]:
        expected.append(min(length, 2 * known))
        known = 0.95 * known + 0.05 * expected[-1]
    assert shrunk == pytest.approx(expected) and float(usual) == pytest.approx(known)
    assert [a < b for a, b in zip(shrunk, lengths, strict=True)] == [False, False, True, False, True, False, True]
