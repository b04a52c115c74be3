"Learned images: the naive forms step by step, runs, files, trainings, and what is refused."

from dataclasses import replace

import pytest
import torch
import user_networks
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softplus

from labeldistill import distill, distillers, evaluate, load, load_distilled
from labeldistill.data import InputError, Normalisation, split
from labeldistill.distillers import Batch, Draw, InPlace, Loop, Problem, Schedule, distill_labels, make_batch, start
from labeldistill.evaluation import Exam, TrainingSet, passes, visits
from labeldistill.images import (
    LABEL_INITS,
    DatasetDistillation,
    Plan,
    RidgeImages,
    SecondOrderImages,
    classes_in_turn,
    noise_images,
    start_labels,
)
from labeldistill.labels import smoothed_labels
from labeldistill.networks import PLAIN, make_network

NORMALISE = Normalisation((0.2,), (0.4,))
WAYS = [("images", "second-order"), ("images", "ridge"), ("images", "dd"), ("both", "dd"), ("labels", "dd")]
CLASSES, COUNT = 3, 6


def quick(target, learn="images", method="dd", base=COUNT, **options):
    options = {"iterations": 6, "outer_batch": 32, "device": "cpu", "show_progress": False, "seed": 7} | options
    return distill(target, base, method, learn=learn, **({"network": user_networks.plain} | options))


def doubled(tree):
    return distillers.map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)


def make_method(name, network, labels):
    common = make_network(network, 1, 16, CLASSES), None, "cpu", PLAIN, labels
    methods = {"second-order": SecondOrderImages, "ridge": RidgeImages}
    if name in methods:
        return methods[name](*common, NORMALISE)
    learn, fixed_start = name
    return DatasetDistillation(*common, Plan(learn, batch=3, passes=2, rate=0.1, decay_every=2, fixed_start=fixed_start))


def make_problem(data, images):
    exam = Exam(data.images[:20], data.labels[:20], NORMALISE)
    return Problem(images, data.images[20:], data.labels[20:], NORMALISE, exam, CLASSES)


@pytest.fixture
def labels():
    return smoothed_labels(classes_in_turn(COUNT, CLASSES), CLASSES)


@pytest.fixture
def problem(bars):
    return make_problem(bars, noise_images((COUNT, 1, 16, 16), 3, NORMALISE))


@pytest.mark.parametrize("rate", [1e-6, 0.02, 1e4])
def test_step_sizes_begin_as_they_are_asked_for(problem, labels, rate):
    network = make_network(user_networks.plain, 1, 16, CLASSES)
    method = DatasetDistillation(network, None, "cpu", PLAIN, labels, Plan("images", batch=3, rate=rate))
    assert torch.nn.functional.softplus(method.begin(problem).raw_rates).tolist() == pytest.approx([rate] * 6, rel=1e-4)


# Iterations, beside naive ones


class Naive:
    "Both of the paper's methods as their authors' code has them: graphs of everything, pixels under a PyTorch optimiser."

    def __init__(self, module, pixels, labels):
        self.module, self.labels, self.pixels = module.double(), labels.double(), nn.Parameter(pixels.double().clone())
        self.adams = [torch.optim.Adam([self.pixels]), torch.optim.Adam(self.module.parameters())]

    def move(self, adam, loss, retain=False):
        adam.zero_grad()
        loss.backward(retain_graph=retain)
        adam.step()

    def images(self, rows):
        return (self.pixels[rows] - 0.2) / 0.4


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
    def __init__(self, module, pixels, labels):
        super().__init__(module[:-1], pixels, labels)
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
def test_twenty_iterations_give_the_images_and_the_network_of_the_naive_form(name, naive, problem, labels):
    method, rng = make_method(name, user_networks.plain, labels), torch.Generator().manual_seed(0)
    method.mean, method.std = method.mean.double(), method.std.double()
    method.labels = method.labels.double()
    problem = replace(problem, base_images=problem.base_images.double())
    state = doubled(start(problem, method, 5).state)
    reference = naive(method.network.build(distillers.first_seed(5)), state.learned, labels)
    first = state.learned
    for _ in range(20):
        rows = torch.randperm(COUNT, generator=rng)[:4]
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        state, _ = method.step(state, Batch(rows, problem.base_images[rows], outer, targets))
        reference.learn(rows, outer, targets)
    assert (state.learned - first).abs().max() > 5e-3
    torch.testing.assert_close(state.learned, reference.pixels.detach(), rtol=0, atol=1e-6)
    theirs = torch.cat([p.detach().flatten() for p in reference.module.parameters()])
    torch.testing.assert_close(state.learner.theta, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("learn", ["labels", "images", "both"])
def test_five_iterations_of_dataset_distillation_are_those_of_the_naive_form(learn, problem, labels):
    method = make_method((learn, True), user_networks.plain, labels)
    state, rng = doubled(start(problem, method, 5).state), torch.Generator().manual_seed(0)
    images, soft, raw = (x.clone().requires_grad_() for x in state.learned)
    moving = [raw] + [x for x, moves in ((images, learn != "labels"), (soft, learn != "images")) if moves]
    adam = torch.optim.Adam(moving, lr=0.01, betas=(0.5, 0.999))
    halve = torch.optim.lr_scheduler.StepLR(adam, 2, 0.5)
    module = method.network.build(distillers.first_seed(5)).double()
    for _ in range(5):
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        state, (loss, _) = method.step(state, Batch(torch.arange(3), problem.base_images[:3], outer, targets))
        parameters = dict(module.named_parameters())
        for t, rate in enumerate(softplus(raw)):
            rows = slice(3 * (t % 2), 3 * (t % 2) + 3)
            inner = cross_entropy(functional_call(module, parameters, (images[rows],)), soft[rows])
            gradients = torch.autograd.grad(inner, parameters.values(), create_graph=True)
            parameters = {name: p - rate * g for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        expected = cross_entropy(functional_call(module, parameters, (outer,)), targets)
        adam.zero_grad()
        expected.backward()
        adam.step()
        halve.step()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for ours, theirs in zip(state.learned, (images, soft, raw), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-7)
    assert torch.equal(state.learned.images, problem.base_images.double()) == (learn == "labels")
    assert torch.equal(state.learned.labels, labels.double()) == (learn == "images")


@pytest.mark.parametrize("network", ["lenet", user_networks.normed, user_networks.dropping], ids=["lenet", "normed", "dropping"])
@pytest.mark.parametrize("name", ["second-order", "ridge", ("both", False)], ids=str)
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(name, network, problem, labels):
    method = make_method(name, network, labels)
    state, batch = start(problem, method, 5).state, make_batch(problem, Draw(torch.tensor([4, 0, 2]), torch.arange(30)))
    before = {key: x.clone() for key, x in distillers.named_tensors(state, "x").items()}
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(distillers.named_tensors(method.step(state, batch)[0], "x"))
    assert all(torch.equal(x, before[key]) for key, x in distillers.named_tensors(state, "x").items())
    assert all(torch.equal(x, results[1][key]) and not x.requires_grad for key, x in results[0].items())


@pytest.mark.parametrize("name", ["second-order", "ridge"])
def test_pixels_stay_between_black_and_white_and_the_absent_images_start_unmoved(name, problem, labels):
    method = make_method(name, user_networks.plain, labels)
    state = first = start(problem, method, 1).state
    for number in range(30):
        state, _ = method.step(state, make_batch(problem, Draw(torch.tensor([4, 0, 2]), torch.arange(30))))
        assert state.learned.min() >= 0 and state.learned.max() <= 1
        if number == 0:
            moved = (state.learned != first.learned).flatten(1).any(1)
            assert moved.nonzero().flatten().tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", ["second-order", "ridge"])
def test_images_move_so_that_the_network_of_the_moment_does_better_on_real_data(name, problem, labels):
    method = make_method(name, user_networks.plain, labels)
    state, losses, batch = start(problem, method, 1).state, [], make_batch(problem, Draw(torch.arange(6), torch.arange(100)))
    learner = state.learner
    for _ in range(40):
        state, (loss, _) = method.step(state._replace(learner=learner), batch)
        losses.append(loss.item())
    assert losses[-1] < losses[10] < losses[0]


class Silent:
    def update(self):
        pass


@pytest.mark.parametrize("name", ["second-order", "ridge", ("both", False), ("images", True)], ids=str)
def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit(name, problem, labels):
    runs = []
    for wrap in (lambda iterate: iterate, InPlace):
        method = make_method(name, user_networks.plain, labels)
        loop, progress = Loop(problem, method, Schedule(7, 30, 3), 5), start(problem, method, 5)
        loop.iterate = wrap(loop.iterate)
        while len(progress.curve) < 7:
            progress = loop.run_epoch(progress, Silent())
        runs.append(distillers.named_tensors(progress._replace(best=progress.state.learned), "x"))
    assert all(torch.equal(x, runs[1][key]) for key, x in runs[0].items())


@pytest.mark.parametrize("fixed_start", [False, True])
def test_dataset_distillation_trains_a_fresh_network_each_iteration_or_always_the_same(fixed_start, problem, labels):
    method, seen = make_method(("images", fixed_start), user_networks.plain, labels), []
    step = method.step

    def watched(state, batch):
        seen.append(state.learner.theta.clone())
        return step(state, batch)

    method.step = watched
    distill_labels(problem, method, Schedule(6, 50, 3), 5, show_progress=False)
    expected = [method.start(distillers.first_seed(5, 0 if fixed_start else number)).theta for number in range(6)]
    assert len(seen) == 6 and all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert len({theta.sum().item() for theta in seen}) == (1 if fixed_start else 6)


# Runs


@pytest.mark.parametrize(("learn", "method"), WAYS)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(bars, learn, method, random_states):
    first, before = quick(bars, learn, method), random_states()
    second = quick(bars, learn, method)
    assert random_states() == before
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)
    assert first.rates == second.rates and torch.equal(first.curve, second.curve)
    other = quick(bars, learn, method, seed=8)
    assert not torch.equal(first.inputs, other.inputs) and not torch.equal(first.curve, other.curve)


@pytest.mark.parametrize(("learn", "method"), WAYS)
def test_no_method_looks_at_the_test_part(bars, learn, method):
    test, images = split(bars).test, bars.images.clone()
    images[test] = 255 - images[test].flip(0)
    clean, other = (quick(data, learn, method) for data in (bars, replace(bars, images=images)))
    assert torch.equal(clean.inputs, other.inputs) and torch.equal(clean.curve, other.curve)
    assert clean.validation_accuracy == other.validation_accuracy


class Stop(Exception):
    "The run is killed."


@pytest.mark.parametrize(("learn", "method"), [("images", "ridge"), ("both", "dd")])
def test_a_resumed_run_ends_like_an_uninterrupted_one(bars, tmp_path, monkeypatch, learn, method):
    options = {"iterations": 110, "outer_batch": 84, "base": 3}
    whole, count, step = quick(bars, learn, method, **options), 0, Loop.iterate

    def mortal(self, *arguments):
        nonlocal count
        count += 1
        if count == 105:
            raise Stop
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "iterate", mortal)
        with pytest.raises(Stop):
            quick(bars, learn, method, checkpoint=tmp_path / "kept", **options)
    resumed = quick(bars, learn, method, checkpoint=tmp_path / "kept", resume=True, **options)
    assert torch.equal(resumed.inputs, whole.inputs) and torch.equal(resumed.labels, whole.labels)
    assert (resumed.rates, resumed.settings) == (whole.rates, whole.settings)
    with pytest.raises(InputError, match="was made with"):
        other = {"learn": "images", "method": "second-order"} if method == "ridge" else {"passes": 2}
        quick(bars, **({"learn": learn, "method": method, "checkpoint": tmp_path / "kept", "resume": True} | options | other))


def test_images_that_become_nan_are_reported_with_their_iteration(problem, labels):
    method = make_method("ridge", user_networks.plain, labels)
    step, count = method.step, 0

    def poisoned(state, batch):
        nonlocal count
        count += 1
        return step(state._replace(learned=state.learned * torch.nan) if count == 3 else state, batch)

    method.step = poisoned
    with pytest.raises(InputError, match="images or loss became NaN or infinite at iteration 3"):
        distill_labels(problem, method, Schedule(5, 50, 3), 5, show_progress=False)


@pytest.mark.parametrize("learn", ["images", "both", "labels"])
def test_dataset_distillation_for_a_fixed_start_teaches_the_bars(bars, learn):
    learned = quick(bars, learn, iterations=120, fixed_start=True, step_size=0.1)
    found = evaluate(learned, bars, models=2, device="cpu", show_progress=False)
    assert found.accuracies[0] == found.accuracies[1] > 90
    fixed, fresh = (
        evaluate(one, bars, models=4, steps=1, device="cpu", show_progress=False)
        for one in (learned, replace(learned, fixed_start=None))
    )
    assert len(set(fixed.accuracies)) == 1 < len(set(fresh.accuracies))


# What is learned, and where it begins


def test_frozen_images_are_real_ones_and_labels_of_any_size_are_learned_for_them(bars):
    learned = quick(bars, "labels", iterations=40, step_size=0.5)
    assert learned.learned_images is None and torch.equal(learned.images, bars.images[learned.rows])
    assert len(learned.rates) == 6 and (learned.labels.sum(1) - 1).abs().max() > 0.01


def test_fewer_images_than_classes_are_enough_where_labels_are_learned(bars):
    learned = quick(bars, "both", base=2)
    assert learned.labels.shape == (2, 3) and learned.inner_batch == 2 and learned.steps == 3


def test_labels_begin_as_told(bars, tmp_path):
    classes = torch.tensor([0, 2])
    begun = {name: start_labels(name, classes, 3, 0) for name in LABEL_INITS}
    assert begun["one-hot"].tolist() == [[1, 0, 0], [0, 0, 1]]
    torch.testing.assert_close(begun["smoothed"][0], torch.tensor([1 - 0.2 / 3, 0.1 / 3, 0.1 / 3]))
    assert (begun["uniform"] == 1 / 3).all() and begun["random"].min() < 0
    assert torch.equal(begun["random"], start_labels("random", classes, 3, 0))
    first = quick(bars, "both", iterations=1, label_init="random")
    first.save(tmp_path / "labels.safetensors")
    given = [quick(bars, "both", iterations=1, label_init=x) for x in (first.labels, tmp_path / "labels.safetensors")]
    assert torch.equal(given[0].labels, given[1].labels) and given[0].settings == given[1].settings
    assert (given[0].labels - first.labels).abs().max() <= 0.0101  # one step of Adam


def test_true_classes_of_base_examples_are_known_only_to_labels_that_begin_there(bars):
    hidden = replace(bars, name="source", labels=(bars.labels + 1) % 3)
    options = {"base": 5, "inner_steps": 1}
    uniform = [quick(bars, "labels", source=source, **options).labels for source in (hidden, replace(bars, name="source"))]
    assert torch.equal(*uniform)
    told = quick(bars, "labels", source=hidden, label_init="one-hot", **options)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(told.base_labels.tolist()))}
    assert told.labels.argmax(1).tolist() == [numbers[label] for label in told.base_labels.tolist()]


# Files


@pytest.fixture(scope="module")
def images_run(bars_npz):
    "Images learned for bars by dataset distillation. Not to be changed."
    return quick(bars_npz, "both", iterations=10)


@pytest.fixture
def images_file(images_run, tmp_path):
    images_run.save(tmp_path / "images.safetensors")
    return tmp_path / "images.safetensors"


def test_a_file_of_learned_images_holds_them_to_the_last_bit(images_run, images_file):
    read = load_distilled(images_file)
    assert torch.equal(read.inputs, images_run.inputs) and torch.equal(read.labels, images_run.labels)
    assert (read.rates, read.steps, read.init) == (images_run.rates, 6, "xavier") and read.method == "dd"
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
def test_a_damaged_file_of_images_is_refused(images_run, tmp_path, change):
    replace(images_run, **change).save(tmp_path / "damaged.safetensors")
    with pytest.raises(InputError, match="is damaged"):
        load_distilled(tmp_path / "damaged.safetensors")


# Training on it


@pytest.mark.parametrize("order", ["learned", "within", "across"])
def test_every_order_visits_every_place_once(order):
    places = passes(order, 4, 12, torch.Generator().manual_seed(0))
    assert sorted(places) == list(range(12))
    assert [sorted(places[i : i + 4]) == list(range(i, i + 4)) for i in (0, 4, 8)] == [order != "across"] * 3
    assert (places == list(range(12))) == (order == "learned")
    assert len(passes(order, 4, 10, torch.Generator().manual_seed(0))) == 10


def test_step_sizes_go_with_their_minibatch_and_their_mean_follows():
    data = TrainingSet(torch.zeros(4, 1, 2, 2), torch.zeros(4, 2), 2, "learned", (0.1, 0.2, 0.3, 0.4))
    seen = [(rows.tolist(), rate) for rows, rate in visits(data, 6, torch.Generator())]
    assert seen[:4] == [([0, 1], 0.1), ([2, 3], 0.2), ([0, 1], 0.3), ([2, 3], 0.4)]
    assert seen[4:] == [([0, 1], 0.25), ([2, 3], 0.25)]
    mixed = visits(replace(data, order="across"), 4, torch.Generator().manual_seed(1))
    shuffled = [(rows.tolist(), rate) for rows, rate in mixed]
    assert sorted(shuffled) == sorted(seen[:4]) and shuffled != seen[:4]


def test_its_own_training_is_gradient_descent_with_the_learned_step_sizes(images_run):
    found = evaluate(images_run, models=1, device="cpu", show_progress=False)
    network = replace(make_network(user_networks.plain, 1, 16, 3), init="xavier")
    module = network.build(distillers.stream(1234, "student", 0))
    for t, rate in enumerate(images_run.rates):
        rows = slice(3 * (t % 2), 3 * (t % 2) + 3)
        gradients = torch.autograd.grad(
            cross_entropy(module(images_run.inputs[rows]), images_run.labels[rows]), tuple(module.parameters())
        )
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    bars = load(images_run.target.name)
    test = split(bars).test
    exam = Exam(bars.images[test], bars.labels[test], images_run.normalisation)
    assert found.accuracies[0] == pytest.approx(exam.accuracy(module))
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
    found = evaluate(images_run, models=2, device="cpu", show_progress=False, **options)
    assert (found.optimizer, found.order, found.steps) == expected and len(found.accuracies) == 2
    assert found == evaluate(images_run, models=2, device="cpu", show_progress=False, **options)
    assert found.as_dict()["order"] == expected[1]


# The command line

QUICK = ("--network", "user_networks:plain", "--iterations", 3, "--outer-batch", 32, "--device", "cpu")


@pytest.mark.parametrize(("learn", "method"), WAYS)
def test_every_way_runs_from_the_command_line(command, bars_npz, tmp_path, learn, method):
    out = tmp_path / "learned.safetensors"
    done = command(
        "distill", "--target", bars_npz, "--base-examples", 6, "--learn", learn, "--method", method, "--out", out, *QUICK
    )
    assert done.status == 0, done.err
    assert f"6 {'labels' if learn == 'labels' else 'images'}" in done.out
    order = ("--order", "within", "--optimizer", "average") if method == "dd" else ()
    assert command("evaluate", out, "--models", 1, "--device", "cpu", *order).status == 0
    assert command("show", out, "--out", tmp_path / "learned.png").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--learn pixels", "--learn 'pixels': wanted labels, images, both"),
        ("--learn both --method ridge", "--method 'ridge': with --learn both wanted dd"),
        ("--learn images --method nonsense", "--method 'nonsense': with --learn images wanted ridge, second-order, dd"),
        ("--learn images --selection herding", "--selection: only with --learn labels"),
        ("--learn images --base-seed 3", "--base-seed: only with --learn labels"),
        ("--learn images --class-blind", "--balanced: only with --learn labels"),
        ("--label-init random", "--label-init: only with --method dd"),
        ("--fixed-start", "--fixed-start: only with --method dd"),
        ("--step-size 0.1", "--step-size: only with --method dd"),
        ("--method dd --step-size 0", "--step-size 0.0: must be above 0"),
        ("--method dd --step-size nan", "--step-size nan: must be above 0"),
        ("--method dd --passes 0", "--passes 0: must be at least 1"),
        ("--method dd --inner-steps 0", "--inner-steps 0: must be at least 1"),
        ("--method dd --inner-steps 4", "--base-examples 6: must be a multiple of --inner-steps 4"),
        ("--method dd --label-init nowhere", "--label-init 'nowhere': wanted one-hot, smoothed, uniform, random, expert"),
        ("--method dd --learn both --base-examples 7", "--base-examples 7: must be a multiple of the 3 classes"),
        ("--method dd --learn images --base-examples 2", "--base-examples 2: fewer than the 3 classes"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(command, bars_npz, tmp_path, options, message):
    out = tmp_path / "learned.safetensors"
    done = command("distill", "--target", bars_npz, "--base-examples", 6, *options.split(), "--out", out, *QUICK)
    assert (done.status, done.out) == (2, "") and not out.exists()
    assert done.err.startswith(f"error: {message}") and done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--optimizer own", "--optimizer own: no step sizes were learned here; wanted adam, sgd, adamw"),
        ("--optimizer nonsense", "--optimizer 'nonsense': wanted adam, sgd, adamw"),
        ("--order sorted", "--order 'sorted': wanted random, learned, within, across"),
    ],
)
def test_a_training_that_labels_do_not_have_is_refused(command, labels_file, options, message):
    done = command("evaluate", labels_file, "--models", 1, "--device", "cpu", *options.split())
    assert (done.status, done.out) == (2, "") and done.err.startswith(f"error: {message}") and done.err.count("\n") == 1


def test_labels_of_the_wrong_shape_are_refused(bars):
    with pytest.raises(InputError, match=r"--label-init: labels are \(6, 2\); wanted: finite numbers, \(6, 3\)"):
        quick(bars, "both", label_init=torch.zeros(6, 2))
