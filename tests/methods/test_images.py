"Learned images: the naive forms step by step, runs, files, trainings, and what is refused."

from dataclasses import replace

import pytest
import torch
import user_networks
from helpers import CPU, as_double, check_pure, run_epochs, tiny_task
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softplus

from labeldistill import (
    DatasetDistillation,
    Ridge,
    Schedule,
    SecondOrder,
    Student,
    Task,
    artifact,
    distill,
    evaluate,
    load_distilled,
)
from labeldistill.data.datasets import split
from labeldistill.data.streams import stream
from labeldistill.methods import images as image_methods
from labeldistill.methods.cuda_graph import CudaGraphStep
from labeldistill.methods.distiller import Batch
from labeldistill.methods.loop import BatchIndices, learn, make_batch, network_seed, start
from labeldistill.methods.trees import named_tensors
from labeldistill.training.evaluation import ImageSet
from labeldistill.training.training_set import TrainingSet, minibatch_order, schedule_minibatches
from labeldistill.utils import InputError

CLASSES, COUNT = 3, 6
METHODS = {
    "second-order": SecondOrder(learn="images"),
    "ridge": Ridge(learn="images"),
    **{f"dd {learn}": DatasetDistillation(learn=learn) for learn in ("images", "both", "labels")},
}


def quick(target, method, base=COUNT, iterations=6, seed=7, outer_batch=32, validate_every=None, **options):
    "What a method learns in a few iterations."
    task = Task(target, base, network=user_networks.plain)
    schedule = Schedule(iterations=iterations, outer_batch=outer_batch, validate_every=validate_every)
    return distill(task, method, schedule=schedule, seed=seed, compute=CPU, progress=False, **options)


def make(bars, name, network=user_networks.plain, fixed_init=False, schedule=Schedule(iterations=7, outer_batch=30)):
    "A task and its distiller; a training run has four steps."
    method = METHODS[name]
    if name.startswith("dd"):
        method = replace(method, inner_epochs=2, step_size=0.1, fixed_init=fixed_init, init="one-hot")
    return tiny_task(bars, COUNT, method, schedule, network=network)


@pytest.mark.parametrize("step_size", [1e-6, 0.02, 1e4])
def test_step_sizes_begin_as_they_are_asked_for(bars, step_size):
    task, distiller = tiny_task(bars, COUNT, DatasetDistillation(step_size=step_size), network=user_networks.plain)
    assert softplus(distiller.init_params(task, 0).raw_lr).tolist() == pytest.approx([step_size] * 6, rel=1e-4)


# Iterations, beside naive ones


class Naive:
    "Both of the paper's methods as their authors' code has them: graphs of everything, pixels under a PyTorch optimizer."

    def __init__(self, module, pixels, distiller):
        self.module, self.labels, self.pixels = module.double(), distiller.labels.double(), nn.Parameter(pixels.double().clone())
        self.mean, self.std = distiller.mean.double(), distiller.std.double()
        self.adams = [torch.optim.Adam([self.pixels]), torch.optim.Adam(self.module.parameters())]

    def move(self, adam, loss, retain=False):
        adam.zero_grad()
        loss.backward(retain_graph=retain)
        adam.step()

    def images(self, rows):
        return (self.pixels[rows] - self.mean) / self.std


class NaiveSecondOrder(Naive):
    def learn(self, rows, outer, targets):
        parameters = dict(self.module.named_parameters())
        inner = cross_entropy(self.module(self.images(rows)), self.labels[rows])
        gradients = torch.autograd.grad(inner, parameters.values(), create_graph=True)
        ahead = {name: p - 0.01 * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        self.move(self.adams[0], cross_entropy(functional_call(self.module, ahead, (outer,)), targets))
        self.pixels.data.clamp_(0, 1)
        self.move(self.adams[1], cross_entropy(self.module(self.images(rows).detach()), self.labels[rows]))


class NaiveRidge(Naive):
    def __init__(self, module, pixels, distiller):
        super().__init__(module[:-1], pixels, distiller)
        self.weights = torch.zeros(module[-1].in_features + 1, CLASSES, dtype=torch.float64)
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.adams.append(torch.optim.Adam([self.scale], lr=0.01))

    def features(self, images):
        z = self.module(images)
        return torch.cat([z, z.new_ones(len(z), 1)], dim=1)

    def solve(self, rows, images):
        z = self.features(images)
        local = z.T @ torch.inverse(z @ z.T + torch.eye(len(z), dtype=z.dtype)) @ self.labels[rows]
        return z, 0.99 * self.weights + 0.01 * local

    def learn(self, rows, outer, targets):
        before = self.images(rows).detach()
        _, weights = self.solve(rows, self.images(rows))
        loss = cross_entropy(self.scale * self.features(outer) @ weights, targets)
        z, seen = self.solve(rows, before)
        own = cross_entropy(self.scale * z @ seen, self.labels[rows])
        gradients = torch.autograd.grad(own, [*self.module.parameters(), self.scale])
        self.move(self.adams[0], loss)
        self.pixels.data.clamp_(0, 1)
        for parameter, gradient in zip([*self.module.parameters(), self.scale], gradients, strict=True):
            parameter.grad = gradient
        self.adams[1].step()
        self.adams[2].step()
        self.weights = weights.detach()


@pytest.mark.parametrize(("name", "naive"), [("second-order", NaiveSecondOrder), ("ridge", NaiveRidge)])
def test_twenty_iterations_give_the_images_and_the_network_of_the_naive_form(name, naive, bars):
    (task, distiller), rng = make(bars, name), torch.Generator().manual_seed(0)
    distiller.mean, distiller.std, distiller.labels = (x.double() for x in (distiller.mean, distiller.std, distiller.labels))
    state = as_double(start(task, distiller, 5).state)
    reference = naive(task.network.build(network_seed(5)), state.params, distiller)
    first = state.params
    for _ in range(20):
        rows = torch.randperm(COUNT, generator=rng)[:4]
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        state, _ = distiller.step(state, Batch(rows, None, outer, targets), distiller.optimizer.update)
        reference.learn(rows, outer, targets)
    assert (state.params - first).abs().max() > 5e-3
    torch.testing.assert_close(state.params, reference.pixels.detach(), rtol=0, atol=1e-6)
    theirs = torch.cat([p.detach().flatten() for p in reference.module.parameters()])
    torch.testing.assert_close(state.train_state.theta, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("learn", ["labels", "images", "both"])
def test_five_iterations_of_dataset_distillation_are_those_of_the_naive_form(learn, bars, monkeypatch):
    monkeypatch.setattr(image_methods, "_DD_DECAY_EPOCHS", 2)  # an epoch is one iteration
    (task, distiller), rng = make(bars, f"dd {learn}", schedule=Schedule(iterations=5, outer_batch=999)), torch.Generator()
    state = first = as_double(start(task, distiller, 5).state)
    images, soft, raw = (x.clone().requires_grad_() for x in state.params)
    moving = [raw] + [x for x, moves in ((images, learn != "labels"), (soft, learn != "images")) if moves]
    adam = torch.optim.Adam(moving, lr=0.01, betas=(0.5, 0.999))
    halve = torch.optim.lr_scheduler.StepLR(adam, 2, 0.5)
    module = task.network.build(network_seed(5)).double()
    for _ in range(5):
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        state, (loss, _) = distiller.step(state, Batch(None, None, outer, targets), distiller.optimizer.update)
        parameters = dict(module.named_parameters())
        for t, lr in enumerate(softplus(raw)):
            rows = slice(3 * (t % 2), 3 * (t % 2) + 3)
            inner = cross_entropy(functional_call(module, parameters, (images[rows],)), soft[rows])
            gradients = torch.autograd.grad(inner, parameters.values(), create_graph=True)
            parameters = {name: p - lr * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        expected = cross_entropy(functional_call(module, parameters, (outer,)), targets)
        adam.zero_grad()
        expected.backward()
        adam.step()
        halve.step()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for ours, theirs in zip(state.params, (images, soft, raw), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-7)
    assert torch.equal(state.params.images, first.params.images) == (learn == "labels")
    assert torch.equal(state.params.labels, first.params.labels) == (learn == "images")


@pytest.mark.parametrize("network", ["lenet", user_networks.normed, user_networks.dropping], ids=["lenet", "normed", "dropping"])
@pytest.mark.parametrize("name", ["second-order", "ridge", "dd both"])
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(name, network, bars):
    task, distiller = make(bars, name, network)
    batch = make_batch(task, BatchIndices(torch.tensor([4, 0, 2]), torch.arange(30)))
    check_pure(distiller, start(task, distiller, 5).state, batch)


@pytest.mark.parametrize("name", ["second-order", "ridge"])
def test_pixels_stay_between_black_and_white_and_the_absent_images_start_unmoved(name, bars):
    task, distiller = make(bars, name)
    state = first = start(task, distiller, 1).state
    batch = make_batch(task, BatchIndices(torch.tensor([4, 0, 2]), torch.arange(30)))
    for number in range(30):
        state, _ = distiller.step(state, batch, distiller.optimizer.update)
        assert state.params.min() >= 0 and state.params.max() <= 1
        if number == 0:
            moved = (state.params != first.params).flatten(1).any(1)
            assert moved.nonzero().flatten().tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", ["second-order", "ridge"])
def test_images_move_so_that_the_network_of_the_moment_does_better_on_real_data(name, bars):
    task, distiller = make(bars, name)
    state, losses = start(task, distiller, 1).state, []
    batch, network = make_batch(task, BatchIndices(torch.arange(6), torch.arange(80))), state.train_state
    for _ in range(40):
        state, (loss, _) = distiller.step(state._replace(train_state=network), batch, distiller.optimizer.update)
        losses.append(loss.item())
    assert losses[-1] < losses[10] < losses[0]


@pytest.mark.parametrize("way", ["second-order", "ridge", "dd both", "dd images, fixed"])
def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit(way, bars):
    name, *fixed_init = way.split(",")
    plain, fixed = (run_epochs(*make(bars, name, fixed_init=bool(fixed_init)), *wrap) for wrap in ((), (CudaGraphStep,)))
    assert all(torch.equal(x, named_tensors(fixed)[name]) for name, x in named_tensors(plain).items())


@pytest.mark.parametrize("fixed_init", [False, True])
def test_dataset_distillation_trains_a_fresh_network_each_iteration_or_always_the_same(fixed_init, bars):
    schedule = Schedule(iterations=6, outer_batch=50)
    (task, distiller), seen = make(bars, "dd images", fixed_init=fixed_init, schedule=schedule), []
    step = distiller.step

    def watched(state, *arguments):
        seen.append(state.train_state.theta.clone())
        return step(state, *arguments)

    distiller.step = watched
    learn(task, distiller, 5)
    expected = [distiller.init_state(network_seed(5, 0 if fixed_init else number)).theta for number in range(6)]
    assert len(seen) == 6 and all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert len({theta.sum().item() for theta in seen}) == (1 if fixed_init else 6)


# Runs


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(bars, name, random_states):
    first, before = quick(bars, METHODS[name]), random_states()
    second = quick(bars, METHODS[name])
    assert random_states() == before
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)
    assert first.rates == second.rates and torch.equal(first.curve, second.curve)
    other = quick(bars, METHODS[name], seed=8)
    assert not torch.equal(first.inputs, other.inputs) and not torch.equal(first.curve, other.curve)


@pytest.mark.parametrize("name", ["second-order", "ridge", "dd images", "dd labels"])
def test_no_method_looks_at_the_test_part(bars, name):
    test, images = split(bars).test, bars.images.clone()
    images[test] = 255 - images[test].flip(0)
    clean, other = (quick(data, METHODS[name]) for data in (bars, replace(bars, images=images)))
    assert torch.equal(clean.inputs, other.inputs) and torch.equal(clean.curve, other.curve)
    assert clean.validation_accuracy == other.validation_accuracy


class Stop(Exception):
    "The run is killed."


@pytest.mark.parametrize(
    ("name", "other"), [("ridge", METHODS["second-order"]), ("dd both", DatasetDistillation(learn="both", inner_epochs=2))]
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(bars, tmp_path, name, other):
    method, options = METHODS[name], {"iterations": 8, "outer_batch": 84, "validate_every": 2, "base": 3}
    whole, seen = quick(bars, method, **options), []

    def mortal(event):
        seen.append(event)
        if len(seen) == 2:
            raise Stop

    with pytest.raises(Stop):
        quick(bars, method, checkpoint=tmp_path / "kept", callback=mortal, **options)
    resumed = quick(bars, method, checkpoint=tmp_path / "kept", resume=True, **options)
    assert torch.equal(resumed.inputs, whole.inputs) and torch.equal(resumed.labels, whole.labels)
    assert (resumed.rates, resumed.settings) == (whole.rates, whole.settings)
    with pytest.raises(InputError, match="was made with"):
        quick(bars, other, checkpoint=tmp_path / "kept", resume=True, **options)


def test_images_that_become_nan_are_reported_with_their_iteration(bars):
    task, distiller = make(bars, "ridge", schedule=Schedule(iterations=5, outer_batch=50))
    step, count = distiller.step, 0

    def poisoned(state, *arguments):
        nonlocal count
        count += 1
        return step(state._replace(params=state.params * torch.nan) if count == 3 else state, *arguments)

    distiller.step = poisoned
    with pytest.raises(InputError, match="images or loss became NaN or infinite at iteration 3"):
        learn(task, distiller, 5)


@pytest.mark.parametrize("learn", ["images", "both", "labels"])
def test_dataset_distillation_for_a_fixed_initialization_teaches_the_bars(bars, learn):
    method = DatasetDistillation(learn=learn, fixed_init=True, step_size=0.1)
    learned = quick(bars, method, iterations=120)
    found = evaluate(learned, bars, models=2, compute=CPU, progress=False)
    assert found.accuracies[0] == found.accuracies[1] > 90
    fixed, fresh = (
        evaluate(one, bars, models=4, student=Student(steps=1), compute=CPU, progress=False)
        for one in (learned, replace(learned, fixed_init=None))
    )
    assert len(set(fixed.accuracies)) == 1 < len(set(fresh.accuracies))


# What is learned, and where it begins


def test_frozen_images_are_real_ones_and_labels_of_any_size_are_learned_for_them(bars):
    learned = quick(bars, DatasetDistillation(learn="labels", step_size=0.5), iterations=40)
    assert learned.learned_images is None and torch.equal(learned.images, bars.images[learned.rows])
    assert len(learned.rates) == 6 and (learned.labels.sum(1) - 1).abs().max() > 0.01


def test_fewer_images_than_classes_are_enough_where_labels_are_learned(bars):
    learned = quick(bars, METHODS["dd both"], base=2)
    assert learned.labels.shape == (2, 3) and learned.inner_batch == 2 and learned.student.steps == 3


def test_a_file_of_images_gives_its_labels_to_other_images(bars, tmp_path):
    first = quick(bars, replace(METHODS["dd both"], init="random"), iterations=1)
    first.save(tmp_path / "labels.safetensors")
    inits = first.labels, tmp_path / "labels.safetensors"
    given = [quick(bars, replace(METHODS["dd both"], init=init), iterations=1) for init in inits]
    assert torch.equal(given[0].labels, given[1].labels) and given[0].settings == given[1].settings
    assert (given[0].labels - first.labels).abs().max() <= 0.0101  # one step of Adam


# Files


@pytest.fixture(scope="module")
def images_run(bars_npz):
    "Images learned for bars by dataset distillation. Not to be changed."
    return quick(bars_npz, METHODS["dd both"], iterations=10)


@pytest.fixture
def images_file(images_run, tmp_path):
    images_run.save(tmp_path / "images.safetensors")
    return tmp_path / "images.safetensors"


def test_a_file_of_learned_images_holds_them_to_the_last_bit(images_run, images_file):
    read = load_distilled(images_file)
    assert torch.equal(read.inputs, images_run.inputs) and torch.equal(read.labels, images_run.labels)
    assert (read.rates, read.student.steps, read.init) == (images_run.rates, 6, "xavier") and read.method_name == "dd"
    assert read.images.dtype == torch.uint8 and read.images.shape == (6, 1, 16, 16) and read.with_images() is read
    image, label = read[2]
    assert torch.equal(image, images_run.inputs[2]) and torch.equal(label, images_run.labels[2])


@pytest.mark.parametrize(
    "change",
    [
        {"learned_images": torch.full((6, 1, 16, 16), torch.nan)},
        {"learned_images": torch.zeros(5, 1, 16, 16)},
        {"learned_images": torch.zeros(6, 1, 16, 16, dtype=torch.float64)},
        {"rows": torch.arange(6)},
        {"rates": (0.1, -0.1)},
        {"rates": (float("inf"),)},
        {"init": "zeros"},
    ],
    ids=str,
)
def test_a_damaged_file_of_images_is_refused(images_run, tmp_path, change, monkeypatch):
    with pytest.raises(InputError, match=r"^labels: cannot be saved"):
        replace(images_run, **change).save(tmp_path / "damaged.safetensors")
    with monkeypatch.context() as patch:
        for check in ("_check", "_check_plain"):
            patch.setattr(artifact, check, lambda *found: None)
        replace(images_run, **change).save(tmp_path / "damaged.safetensors")
    with pytest.raises(InputError, match="is damaged"):
        load_distilled(tmp_path / "damaged.safetensors")


# Training on it


@pytest.mark.parametrize("order", ["learned", "within", "across"])
def test_every_order_visits_every_place_once(order):
    places = minibatch_order(order, 4, 12, torch.Generator().manual_seed(0))
    assert sorted(places) == list(range(12))
    assert [sorted(places[i : i + 4]) == list(range(i, i + 4)) for i in (0, 4, 8)] == [order != "across"] * 3
    assert (places == list(range(12))) == (order == "learned")
    assert len(minibatch_order(order, 4, 10, torch.Generator().manual_seed(0))) == 10


def test_step_sizes_go_with_their_minibatch_and_their_mean_follows():
    data = TrainingSet(torch.zeros(4, 1, 2, 2), torch.zeros(4, 2), 2, "learned", (0.1, 0.2, 0.3, 0.4))
    seen = [(rows.tolist(), rate) for rows, rate in schedule_minibatches(data, 6, torch.Generator())]
    assert seen[:4] == [([0, 1], 0.1), ([2, 3], 0.2), ([0, 1], 0.3), ([2, 3], 0.4)]
    assert seen[4:] == [([0, 1], 0.25), ([2, 3], 0.25)]
    mixed = schedule_minibatches(replace(data, order="across"), 4, torch.Generator().manual_seed(1))
    shuffled = [(rows.tolist(), rate) for rows, rate in mixed]
    assert sorted(shuffled) == sorted(seen[:4]) and shuffled != seen[:4]


def test_its_own_training_is_gradient_descent_with_the_learned_step_sizes(images_run, bars):
    found = evaluate(images_run, models=1, compute=CPU, progress=False)
    module = make(bars, "dd both")[0].network.build(stream(1234, "student", 0))
    for t, rate in enumerate(images_run.rates):
        rows = slice(3 * (t % 2), 3 * (t % 2) + 3)
        gradients = torch.autograd.grad(
            cross_entropy(module(images_run.inputs[rows]), images_run.labels[rows]), tuple(module.parameters())
        )
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    test = split(bars).test
    image_set = ImageSet(bars.images[test], bars.labels[test], images_run.normalisation)
    assert found.accuracies[0] == pytest.approx(image_set.accuracy(module))
    assert (found.optimizer, found.order, found.steps) == ("own", "learned", 6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("own", "learned", 6)),
        ({"optimizer": "average"}, ("average", "learned", 6)),
        ({"optimizer": "adam"}, ("adam", "learned", 6)),
        ({"optimizer": "sgd", "order": "random"}, ("sgd", "random", 6)),
        ({"optimizer": "adamw", "order": "within", "steps": 9}, ("adamw", "within", 9)),
        ({"order": "across", "steps": 4}, ("own", "across", 4)),
        ({"network": "lenet"}, ("own", "learned", 6)),
        ({"head": "ridge"}, ("own", "learned", 6)),
    ],
    ids=str,
)
def test_learned_images_can_be_trained_on_in_other_ways(images_run, options, expected):
    network = {name: options[name] for name in ("network",) if name in options}
    given = network | {"student": Student(**{name: x for name, x in options.items() if name != "network"})}
    found = evaluate(images_run, models=2, compute=CPU, progress=False, **given)
    assert (found.optimizer, found.order, found.steps) == expected and len(found.accuracies) == 2
    assert found == evaluate(images_run, models=2, compute=CPU, progress=False, **given)
    assert found.as_dict()["order"] == expected[1]
