"""Choosing base examples: sets of the right make, nested, repeatable, of the training part only."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeldistill.data.base import choose_base
from labeldistill.data.catalog import load
from labeldistill.data.datasets import split
from labeldistill.networks.network import make_network
from labeldistill.training.search import SELECTIONS, select_rows
from labeldistill.training.selection import Pool, best_of_random, by_loss, herding, k_center, outputs
from labeldistill.utils import InputError

CPU = torch.device("cpu")
OF_ONE_SET = ("optimised", "searched")  # that are not nested, and are slow
NESTED = [name for name in SELECTIONS if name not in OF_ONE_SET]
BY_CLASS = [name for name in NESTED if name != "expert-balanced"]  # true classes count


@pytest.fixture(scope="module", autouse=True)
def experts_of_few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labeldistill.training.search.EXPERT_STOPS", (4, 8, 16))
        yield


def make_pool(balanced=True, seed=3, dataset="digits"):
    data = load(dataset)
    return Pool(data, split(data), balanced, seed, "lenet", None, CPU, steps=20)


@pytest.fixture(scope="module", params=[True, False], ids=["balanced", "class-blind"])
def pool(request):
    return make_pool(request.param)


@pytest.mark.parametrize("name", NESTED)
def test_sets_are_nested_distinct_and_of_the_training_part(pool, name):
    small, large = (select_rows(name, pool, count) for count in (20, 50))
    assert torch.equal(small, large[:20])
    assert len(large.unique()) == 50
    assert set(large.tolist()) <= set(pool.parts.train.tolist())


@pytest.mark.parametrize("name", BY_CLASS)
def test_balanced_sets_have_the_same_number_of_every_class(name):
    pool = make_pool()
    assert pool.dataset.labels[select_rows(name, pool, 30)].bincount(minlength=10).tolist() == [3] * 10


@pytest.mark.parametrize("name", NESTED)
def test_a_seed_gives_one_set_and_leaves_the_global_random_state(name):
    before = torch.get_rng_state()
    first, second = (select_rows(name, make_pool(balanced=False), 20) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_random_is_the_draw_of_the_base_notebook(pool):
    drawn = choose_base(pool.dataset, 20, pool.balanced, pool.seed).rows
    assert torch.equal(select_rows("random", pool, 20), drawn)


def test_hard_examples_have_larger_losses_than_easy_ones():
    pool = make_pool()
    real = pool.image_set(pool.parts.train)
    losses = torch.nn.functional.cross_entropy(outputs(pool.trained, real), pool.labels, reduction="none")
    loss_of = dict(zip(pool.parts.train.tolist(), losses.tolist(), strict=True))
    for c in range(10):
        easy, hard = (
            [loss_of[r] for r in by_loss(pool, 50, hard).tolist() if pool.dataset.labels[r] == c] for hard in (False, True)
        )
        assert max(easy) < min(hard)


def test_a_quantile_that_is_too_small_is_refused():
    pool = make_pool(balanced=False)
    with pytest.raises(InputError, match=r"--base-examples 200: must be 1 to 126, drawn from 10% of the training part"):
        select_rows("easy", pool, 200)


def test_the_optimised_set_is_the_best_of_the_random_ones(monkeypatch):
    pool = make_pool()
    curves = {}

    def curve(pool, rows, validation, run):
        key = tuple(rows.tolist())
        curves.setdefault(key, torch.rand(3, 5, generator=torch.Generator().manual_seed(sum(key))))
        return curves[key][run]

    monkeypatch.setattr("labeldistill.training.selection._learning_curve", curve)
    chosen = best_of_random(pool, 20, sets=6, runs=3)
    assert len(curves) == 6
    assert tuple(chosen.tolist()) == max(curves, key=lambda key: curves[key].mean(0).max())


def test_the_optimised_set_is_chosen_on_the_validation_part(monkeypatch):
    pool, seen = make_pool(), []
    monkeypatch.setattr(
        "labeldistill.training.selection._learning_curve",
        lambda pool, rows, validation, run: seen.append(validation) or torch.zeros(1),
    )
    best_of_random(pool, 10, sets=2, runs=1)
    assert len(seen) == 2 and all(torch.equal(real.images, pool.dataset.images[pool.parts.valid]) for real in seen)


def test_the_optimised_set_trains_real_networks(monkeypatch):
    monkeypatch.setattr("labeldistill.training.evaluation.candidate_steps", lambda count: [2, 4])
    pool = make_pool()
    chosen = best_of_random(pool, 10, sets=2, runs=2)
    assert pool.dataset.labels[chosen].sort().values.tolist() == list(range(10))


@pytest.mark.parametrize(("count", "message"), [(11, "multiple of the 10 classes"), (0, "must be 1 to"), (99999, "must be 1 to")])
@pytest.mark.parametrize("name", SELECTIONS)
def test_impossible_counts_are_refused_before_any_training(name, count, message):
    with pytest.raises(InputError, match=message):
        select_rows(name, make_pool(), count)


def test_an_unknown_selection_is_refused():
    with pytest.raises(InputError, match="--selection 'best': expected random, optimised"):
        select_rows("best", make_pool(), 10)


@pytest.mark.parametrize("name", NESTED)
def test_the_test_part_is_never_looked_at(name):
    pool = make_pool()
    chosen = select_rows(name, pool, 20)
    blanked = make_pool()
    blanked.dataset.images[pool.parts.test] = 0
    assert torch.equal(chosen, select_rows(name, blanked, 20))


def test_the_network_that_is_asked_is_left_as_it_was():
    pool = make_pool()
    select_rows("k-center", pool, 10)
    assert pool.trained.fc3.out_features == 10
    assert make_network("lenet", 1, 28, 10) == pool.recipe


clouds = st.tuples(st.integers(2, 30), st.integers(1, 5), st.integers(0, 999))


def cloud(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(clouds, st.data())
def test_k_center_is_nested_and_at_most_twice_the_optimum(shape, data):
    features = cloud(*shape)
    count = data.draw(st.integers(1, len(features)))
    rows = k_center(features, count)
    assert len(rows.unique()) == count
    assert torch.equal(rows, k_center(features, len(features))[:count])
    # distances between centres are at least the radius: the usual certificate of the factor two
    radius = torch.cdist(features, features[rows]).min(1).values.max()
    between = torch.cdist(features[rows], features[rows]) + torch.diag(torch.full((count,), torch.inf, dtype=torch.float64))
    assert between.min() >= radius - 1e-9


@given(clouds)
def test_herding_takes_everything_in_the_end_and_each_step_is_the_best_one(shape):
    features = cloud(*shape)
    rows = herding(features, len(features))
    assert rows.sort().values.tolist() == list(range(len(features)))
    unit, order = torch.nn.functional.normalize(features), rows.tolist()
    for k in range(1, len(order)):
        errors = [(unit[[*order[: k - 1], r]].mean(0) - unit.mean(0)).norm() for r in order[k - 1 :]]
        assert errors[0] <= min(errors) + 1e-9


def test_copies_are_still_distinct_rows():
    same = torch.ones(6, 3)
    for choose in (k_center, herding):
        assert choose(same, 6).sort().values.tolist() == list(range(6))
