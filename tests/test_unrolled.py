"Labels learned through a window of the student's training: the naive form, the student's way, runs, and what is refused."

import sys
from dataclasses import replace

import pytest
import torch
import user_networks
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from labeldistill import distill, distillers, evaluate, load_distilled
from labeldistill.data import InputError, Normalisation, split
from labeldistill.distillers import Draw, InPlace, Loop, Problem, Schedule, epoch_draws, make_batch, start
from labeldistill.evaluation import Exam, LinearHead, Student
from labeldistill.experts import expert_labels, steps_on_labels, train_expert
from labeldistill.labels import smoothed_labels, uniform_labels
from labeldistill.networks import PLAIN, make_network
from labeldistill.windows import Unrolled, WindowPlan, clip, longest_way, to_logits

COUNT, CLASSES, WINDOW = 6, 3, 4


def make_method(network=user_networks.plain, optimizer="adam", window=WINDOW, labels=None):
    labels = uniform_labels(COUNT, CLASSES) if labels is None else labels
    return Unrolled(make_network(network, 1, 16, CLASSES), None, "cpu", PLAIN, labels, WindowPlan(window, optimizer))


def doubled(tree):
    return distillers.map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)


class Silent:
    def update(self):
        pass


@pytest.fixture
def problem(bars):
    norm = Normalisation((0.2,), (0.4,))
    exam = Exam(bars.images[:20], bars.labels[:20], norm)
    return Problem(norm(bars.images[20:26]), bars.images[26:], bars.labels[26:], norm, exam, CLASSES)


# Iterations, beside naive ones


class Naive:
    "Graphs of everything; a logit under a PyTorch optimiser; a student that goes on from window to window."

    def __init__(self, module, optimizer):
        self.module, self.optimizer, self.done = module.double(), optimizer, 0
        self.parameters = {name: p.detach() for name, p in module.named_parameters()}
        self.moments = {name: [torch.zeros_like(p)] * 2 for name, p in self.parameters.items()}

    def window(self, logits, rows, images, outer, targets):
        "The gradient of the outer loss."
        logits = logits.clone().requires_grad_()
        parameters = {name: p.clone().requires_grad_() for name, p in self.parameters.items()}
        for picked, seen in zip(rows, images, strict=True):
            loss = cross_entropy(functional_call(self.module, parameters, (seen,)), logits.softmax(1)[picked])
            gradients = torch.autograd.grad(loss, parameters.values(), create_graph=True)
            self.done += 1
            parameters = {name: self.step(name, p, g) for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        (gradient,) = torch.autograd.grad(cross_entropy(functional_call(self.module, parameters, (outer,)), targets), logits)
        self.parameters = {name: p.detach() for name, p in parameters.items()}
        self.moments = {name: [x.detach() for x in pair] for name, pair in self.moments.items()}
        return gradient

    def step(self, name, parameter, gradient):
        first, second = self.moments[name]
        if self.optimizer == "sgd":
            self.moments[name] = [0.9 * first + gradient, second]
            return parameter - 0.01 * self.moments[name][0]
        self.moments[name] = [0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2]
        mean, square = (x / (1 - b**self.done) for x, b in zip(self.moments[name], (0.9, 0.999), strict=True))
        alive = square > 0
        return parameter - torch.where(alive, 1e-3 * mean / (torch.where(alive, square, 1.0).sqrt() + 1e-8), 0.0)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_ten_windows_give_the_labels_of_the_naive_form(problem, optimizer):
    method, rng = make_method(optimizer=optimizer), torch.Generator().manual_seed(0)
    method.rates = method.rates.double()
    method.rates.fill_({"adam": 1e-3, "sgd": 1e-2}[optimizer])
    problem = replace(problem, base_images=problem.base_images.double())
    state = doubled(start(problem, method, 5).state)
    naive = Naive(method.network.build(distillers.first_seed(5)), optimizer)
    logits = torch.nn.Parameter(state.learned.clone())
    adam, usual = torch.optim.Adam([logits], lr=0.05), None
    for _ in range(10):
        rows = torch.rand(WINDOW, COUNT, generator=rng).argsort(1)[:, :4]
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        batch = distillers.Batch(rows, problem.base_images[rows], outer, targets)
        state, _ = method.step(state, batch)
        gradient = naive.window(logits.detach(), rows, batch.images, outer, targets)
        norm = gradient.norm()
        kept = norm if usual is None else min(norm, 2 * usual)
        usual = kept if usual is None else 0.95 * usual + 0.05 * kept
        logits.grad = gradient * kept / norm
        adam.step()
    torch.testing.assert_close(state.learned, logits.detach(), rtol=0, atol=1e-6)
    assert (state.learned - method.begin(problem)).abs().max() > 0.1
    assert state.learner.steps == 10 * WINDOW and naive.done == 10 * WINDOW


def test_a_student_takes_the_steps_that_evaluation_takes(problem):
    for optimizer in ("adam", "sgd"):
        method = make_method(optimizer=optimizer)
        state = start(problem, method, 5).state
        student = Student(LinearHead(method.network), optimizer, distillers.first_seed(5))
        for draw in epoch_draws(problem, Schedule(3, 40, 4), 5, 0, WINDOW):
            labels = state.learned.softmax(1)
            for rows in draw.rows:
                student.step(problem.base_images[rows], labels[rows])
            state, _ = method.step(state, make_batch(problem, draw))
        torch.testing.assert_close(state.learner.slots[0], student.trained["theta"], rtol=0, atol=1e-6)


def test_draws_hold_a_minibatch_for_each_step_of_the_window(problem):
    schedule = Schedule(9, 40, 4)
    one, many = (epoch_draws(problem, schedule, 3, 0, steps) for steps in (None, WINDOW))
    assert [draw.rows.shape for draw in many] == [(WINDOW, 4)] * 3 and one[0].rows.shape == (4,)
    assert all(torch.equal(a.portion, b.portion) for a, b in zip(one, many, strict=True))
    assert all(len(set(rows.tolist())) == 4 for draw in many for rows in draw.rows)


@pytest.mark.parametrize("network", [user_networks.normed, user_networks.dropping], ids=["normed", "dropping"])
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(network, problem):
    method = make_method(network)
    state, rows = start(problem, method, 5).state, torch.arange(WINDOW * 3).view(WINDOW, 3) % COUNT
    batch = make_batch(problem, Draw(rows, torch.arange(30)))
    before = {key: x.clone() for key, x in distillers.named_tensors(state, "x").items()}
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(distillers.named_tensors(method.step(state, batch)[0], "x"))
    assert all(torch.equal(x, before[key]) for key, x in distillers.named_tensors(state, "x").items())
    assert all(torch.equal(x, results[1][key]) and not x.requires_grad for key, x in results[0].items())


def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit(problem):
    runs = []
    for wrap in (lambda iterate: iterate, InPlace):
        method = make_method()
        loop, progress = Loop(problem, method, Schedule(7, 30, 3), 5), start(problem, method, 5)
        loop.iterate = wrap(loop.iterate)
        while len(progress.curve) < 7:
            progress = loop.run_epoch(progress, Silent())
        runs.append(distillers.named_tensors(progress._replace(best=progress.state.learned), "x"))
    assert all(torch.equal(x, runs[1][key]) for key, x in runs[0].items())


def test_a_student_goes_on_to_its_horizon_and_the_next_one_begins(problem):
    method, seen = make_method(window=100), []
    step = method.step

    def watched(state, batch):
        seen.append(state.learner)
        return step(state, batch)

    method.step = watched
    loop, progress = Loop(problem, method, Schedule(12, 30, 3), 5), start(problem, method, 5)
    while len(progress.curve) < 12:
        progress = loop.run_epoch(progress, Silent())
    assert {float(student.horizon) for student in seen} <= {100.0 * (1 + i) for i in range(longest_way(COUNT) // 100)}
    ends = [student.steps + 100 == student.horizon for student in seen]
    assert progress.resets.tolist() == [number for number, end in enumerate(ends, 1) if end] and 0 < sum(ends) < 12
    for before, after, end in zip(seen, seen[1:], ends, strict=False):
        assert after.steps == (0 if end else before.steps + 100)
    firsts = [student.slots[0] for student in seen if student.steps == 0]
    assert all(torch.equal(x, method.start(distillers.first_seed(5, i)).slots[0]) for i, x in enumerate(firsts))


def test_memory_grows_by_the_students_states_only(problem, repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    from measure import peak_bytes

    sys.path.pop(0)
    network, peaks = make_network("lenet", 1, 16, CLASSES), []
    for window in (5, 10, 20):
        method = make_method("lenet", window=window)
        state, rows = start(problem, method, 5).state, torch.arange(window * 3).view(window, 3) % COUNT
        batch = make_batch(problem, Draw(rows, torch.arange(30)))
        method.step(state, batch)
        peaks.append(peak_bytes(lambda method=method, state=state, batch=batch: method.step(state, batch)))
    state_bytes = 3 * 4 * distillers.flat_parameters(network.build(0)).numel()
    assert peaks[2] - peaks[1] < 10 * state_bytes * 1.2 and peaks[1] - peaks[0] < 5 * state_bytes * 1.2


# Labels


def test_labels_begin_as_told_and_zeros_become_small(bars):
    hard = smoothed_labels(torch.tensor([0, 2]), 3)
    assert (to_logits(hard).softmax(1) - hard).abs().max() < 3e-3
    soft = torch.tensor([[0.2, 0.3, 0.5]])
    torch.testing.assert_close(to_logits(soft).softmax(1), soft)
    begun = make_method(labels=smoothed_labels(torch.arange(6) % 3, 3, 0.3))
    torch.testing.assert_close(begun.begin(None).softmax(1), begun.labels.cpu())


def test_a_long_gradient_is_cut_to_twice_the_usual_and_the_first_is_kept():
    usual = torch.zeros(())
    for length, expected in ((3.0, 3.0), (3.0, 3.0), (100.0, 6.0), (1.0, 1.0)):
        shrunk, usual = clip(torch.tensor([[0.0, length]]), usual)
        assert shrunk.norm().item() == pytest.approx(expected)
    assert usual.item() == pytest.approx(0.95 * (3 + 0.05 * 3) + 0.05)
    shrunk, after = clip(torch.zeros(2, 2), usual)
    assert not shrunk.any() and after < usual


# Runs


def quick(target, base=COUNT, **options):
    common = {"network": user_networks.plain, "iterations": 6, "outer_batch": 32, "window": WINDOW, "seed": 7}
    return distill(target, base, "unrolled", **(common | {"device": "cpu", "show_progress": False} | options))


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    "Validation looks at students up to 60 steps, not 1,000."
    with pytest.MonkeyPatch.context() as patch:
        for module in ("evaluation", "experts"):
            patch.setattr(f"labeldistill.{module}.candidate_steps", lambda count: [10, 30, 60])
        yield


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_labels_learned_through_windows_teach_the_bars(bars, tmp_path, optimizer):
    learned = quick(bars, iterations=60, inner_optimizer=optimizer)
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(read.labels, learned.labels) and read.optimizer == optimizer and read.steps in (10, 30, 60)
    assert read.settings["window"] == WINDOW and read.settings["optimizer"] == optimizer
    torch.testing.assert_close(read.labels.sum(1), torch.ones(COUNT))
    found = evaluate(read, bars, models=2, device="cpu", show_progress=False)
    assert found.optimizer == optimizer and found.accuracy_mean > 60
    assert evaluate(read, bars, optimizer="adamw", models=1, device="cpu", show_progress=False).optimizer == "adamw"


def test_the_same_seed_gives_the_same_labels_and_another_seed_others(bars, random_states):
    before = random_states()
    first, second = quick(bars), quick(bars)
    assert random_states() == before and torch.equal(first.labels, second.labels) and torch.equal(first.curve, second.curve)
    assert not torch.equal(first.labels, quick(bars, seed=8).labels)


def test_neither_test_part_nor_true_classes_are_looked_at(bars):
    test, images, source = split(bars).test, bars.images.clone(), replace(bars, name="source")
    images[test] = 255 - images[test].flip(0)
    clean, other = (quick(data, source=source) for data in (bars, replace(bars, images=images)))
    hidden = quick(bars, source=replace(source, labels=(bars.labels + 1) % 3))
    assert torch.equal(clean.labels, other.labels) and torch.equal(clean.labels, hidden.labels)


def test_labels_begin_where_experts_end(bars):
    options = {"expert_iterations": 20, "temperature": 2}
    expert = distill(bars, COUNT, "expert", **options, network=user_networks.plain, device="cpu", seed=7, show_progress=False)
    begun = quick(bars, iterations=1, label_init="expert", **options)
    assert (begun.labels - expert.labels).abs().max() < 0.03 < (begun.labels - 1 / 3).abs().max()
    assert begun.settings["stopping point"] == 20 and begun.settings["temperature"] == 2
    told = quick(bars, iterations=1, label_init=expert.labels)
    assert torch.equal(told.labels, begun.labels) and begun.settings["label init"] == "expert"


def test_a_window_counts_as_its_steps_when_validations_are_spaced(bars, monkeypatch):
    seen, validate = [], distillers.validate

    def watched(*arguments):
        seen.append(len(arguments[-1].curve))
        return validate(*arguments)

    monkeypatch.setattr(distillers, "validate", watched)
    quick(bars, iterations=15, outer_batch=42, window=25)  # two iterations an epoch
    assert seen == [4, 8, 12, 15]


@pytest.mark.parametrize("init", ["uniform", "one-hot"])
def test_labels_that_say_something_are_validated_before_they_change(init, bars, monkeypatch):
    seen, validate = [], distillers.validate

    def decline(problem, method, schedule, seed, progress):
        seen.append(len(progress.curve))
        found = validate(problem, method, schedule, seed, progress)
        best = found.best._replace(accuracy=torch.tensor(90.0 - len(seen)).double())  # the first is the best
        return found._replace(best=best) if len(seen) == 1 else progress

    monkeypatch.setattr(distillers, "validate", decline)
    learned = quick(bars, iterations=12, outer_batch=84, label_init=init)
    assert seen[0] == (0 if init == "one-hot" else 12) and learned.settings["best iteration"] == seen[0]
    if init == "one-hot":
        assert torch.equal(learned.labels.argmax(1), learned.base_labels) and learned.labels.amin() < 2e-3


def test_labels_move_as_fast_as_they_are_told(bars):
    slow, plain, fast = (quick(bars, iterations=1, label_lr=lr) for lr in (0.01, None, 0.1))
    logits = [learned.labels.log() for learned in (slow, plain, fast)]
    moved = [float((x - x.mean(1, keepdim=True)).abs().max()) for x in logits]
    assert moved[1] == pytest.approx(5 * moved[0], rel=0.05) and moved[2] == pytest.approx(2 * moved[1], rel=0.05)
    informed = quick(bars, iterations=1, label_init="one-hot")
    assert [learned.settings["label_lr"] for learned in (slow, plain, informed)] == [0.01, 0.05, 0.01]


def test_labels_that_are_no_probabilities_are_refused(bars):
    short = uniform_labels(COUNT, CLASSES)
    short[2, 0] = 0.1
    for labels in ("random", short, torch.tensor([[1.5, -0.5, 0.0]]).repeat(COUNT, 1)):
        with pytest.raises(InputError, match="--label-init: with --method unrolled labels must be probabilities"):
            quick(bars, label_init=labels)


class Stop(Exception):
    "The run is killed."


def test_a_resumed_run_ends_like_an_uninterrupted_one(bars, tmp_path, monkeypatch):
    options = {"iterations": 110, "outer_batch": 84}
    whole, count, step = quick(bars, **options), 0, Loop.iterate

    def mortal(self, *arguments):
        nonlocal count
        count += 1
        if count == 105:
            raise Stop
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "iterate", mortal)
        with pytest.raises(Stop):
            quick(bars, checkpoint=tmp_path / "kept", **options)
    resumed = quick(bars, checkpoint=tmp_path / "kept", resume=True, **options)
    assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings
    with pytest.raises(InputError, match="was made with window = 4, not 3"):
        quick(bars, checkpoint=tmp_path / "kept", resume=True, **(options | {"window": 3}))


def test_a_resumed_run_begins_with_the_experts_labels_that_were_kept(bars, tmp_path, monkeypatch):
    options = {"iterations": 30, "outer_batch": 84, "label_init": "expert", "expert_iterations": 10, "temperature": 2}
    whole, kept = quick(bars, **options), tmp_path / "kept"

    def stopped(self, *arguments):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "iterate", stopped)
        with pytest.raises(Stop):
            quick(bars, checkpoint=kept, **options)
    assert {file.name for file in kept.iterdir()} == {"traces.safetensors", "experts.safetensors"}
    with pytest.raises(InputError, match="holds a checkpoint"):
        quick(bars, checkpoint=kept, **options)
    monkeypatch.setattr("labeldistill.experts.train_on_real", stopped)  # no expert is trained any more
    for _ in range(2):  # continued; then found finished
        resumed = quick(bars, checkpoint=kept, resume=True, **options)
        assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings
    with pytest.raises(InputError, match="was made with expert temperature = 2"):
        quick(bars, checkpoint=kept, resume=True, **(options | {"temperature": 3}))


def test_experts_that_were_trained_before_a_kill_are_not_trained_again(bars, tmp_path, monkeypatch):
    options = {"label_init": "expert", "expert_iterations": 10, "temperature": 2, "ensemble": 3}
    whole, trained = quick(bars, **options), []

    def mortal(*arguments):
        if len(trained) == 2:
            raise Stop
        trained.append(arguments)
        return train_expert(*arguments)

    monkeypatch.setattr("labeldistill.experts.train_expert", mortal)
    with pytest.raises(Stop):
        quick(bars, checkpoint=tmp_path, **options)
    trained[:] = trained[:1]  # there is one more to be trained
    assert torch.equal(quick(bars, checkpoint=tmp_path, resume=True, **options).labels, whole.labels) and len(trained) == 2


def test_a_checkpoint_asks_for_the_plan_of_the_experts_not_for_what_came_of_it(bars, tmp_path, monkeypatch):
    options = {"label_init": "expert", "expert_iterations": 10, "temperature": 2, "checkpoint": tmp_path}
    first = quick(bars, **options)
    (tmp_path / "experts.safetensors").unlink()

    def elsewhere(*arguments, **named):
        found = expert_labels(*arguments, **named)
        return found._replace(labels=found.labels + 1e-7)

    monkeypatch.setattr("labeldistill.runs.expert_labels", elsewhere)
    assert torch.equal(quick(bars, resume=True, **options).labels, first.labels)


def test_labels_that_become_nan_are_reported_with_their_iteration(problem):
    method = make_method()
    step, count = method.step, 0

    def poisoned(state, batch):
        nonlocal count
        count += 1
        return step(state._replace(learned=state.learned * torch.nan) if count == 3 else state, batch)

    method.step = poisoned
    with pytest.raises(InputError, match="labels or loss became NaN or infinite at iteration 3"):
        distillers.distill_labels(problem, method, Schedule(5, 50, 3), 5, show_progress=False)


# The command line

QUICK = ("--network", "user_networks:plain", "--device", "cpu", "--base-examples", 6, "--iterations", 3, "--outer-batch", 32)


def test_windows_run_from_the_command_line(command, bars_npz, tmp_path):
    out = tmp_path / "labels.safetensors"
    options = "--method unrolled --window 3 --inner-optimizer sgd --label-init expert --expert-iterations 9 --temperature 1"
    done = command("distill", "--target", bars_npz, "--out", out, *options.split(), *QUICK)
    assert done.status == 0, done.err
    tested = command("evaluate", out, "--models", 1, "--device", "cpu")
    assert tested.status == 0 and "sgd" in tested.out
    assert command("show", out, "--out", tmp_path / "labels.png").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--window 5", "--window: only with --method unrolled"),
        ("--method dd --inner-optimizer adam", "--inner-optimizer: only with --method unrolled"),
        ("--method unrolled --window 0", "--window 0: must be at least 1"),
        ("--method unrolled --inner-optimizer adamw", "--inner-optimizer 'adamw': wanted adam, sgd"),
        ("--method unrolled --passes 2", "--passes: only with --method dd"),
        ("--method unrolled --label-init nowhere", "--label-init 'nowhere': wanted one-hot, smoothed, uniform, expert or a file"),
        ("--method unrolled --learn both", "--method 'unrolled': with --learn both wanted dd"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(command, bars_npz, tmp_path, options, message):
    out = tmp_path / "labels.safetensors"
    done = command("distill", "--target", bars_npz, *options.split(), "--out", out, *QUICK)
    assert (done.status, done.out) == (2, "") and not out.exists()
    assert done.err.startswith(f"error: {message}") and done.err.count("\n") == 1


def test_experts_labels_for_students_by_sgd_are_chosen_by_students_by_sgd(bars, monkeypatch):
    seen = []

    def watched(labels, head, problem, schedule, seed, optimizer, *arguments, **named):
        seen.append(optimizer)
        return steps_on_labels(labels, head, problem, schedule, seed, optimizer, *arguments, **named)

    monkeypatch.setattr("labeldistill.experts.steps_on_labels", watched)
    learned = quick(bars, label_init="expert", expert_iterations=10, inner_optimizer="sgd")
    assert set(seen) == {"sgd"} and learned.optimizer == "sgd"


def test_a_choice_for_one_optimiser_does_not_serve_another(bars, tmp_path, monkeypatch):
    options = {"label_init": "expert", "expert_iterations": 10, "temperature": 1, "checkpoint": tmp_path}

    def stopped(self, *arguments):
        raise Stop

    monkeypatch.setattr(Loop, "iterate", stopped)
    with pytest.raises(Stop):
        quick(bars, **options)
    with pytest.raises(InputError, match="was made with students' optimizer = None, not sgd"):
        quick(bars, resume=True, inner_optimizer="sgd", **options)


def test_no_expert_is_trained_beside_another_runs_checkpoint(bars, tmp_path, monkeypatch):
    common = {"network": user_networks.plain, "iterations": 2, "checkpoint": tmp_path, "device": "cpu", "show_progress": False}
    distill(bars, COUNT, "ridge", **common)
    monkeypatch.setattr("labeldistill.experts.train_on_real", None)
    for method, options in (("unrolled", {"label_init": "expert"}), ("expert", {})):
        with pytest.raises(InputError, match=f"was made with method = ridge, not {method}"):
            distill(bars, COUNT, method, resume=True, **(common | options))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_labels_to_begin_with_must_be_of_the_same_images(bars, tmp_path):
    first = quick(bars)
    first.save(tmp_path / "labels.safetensors")
    again = quick(bars, label_init=tmp_path / "labels.safetensors", iterations=1)
    assert torch.equal(again.rows, first.rows)
    with pytest.raises(InputError, match="of other images; wanted: of these base examples"):
        quick(bars, label_init=tmp_path / "labels.safetensors", base_seed=1)
