"Labels learned through a window of the student's training: the naive form, the student's way, runs, and what is refused."

from dataclasses import replace

import pytest
import torch
import user_networks
from helpers import CPU, as_double, check_pure, run_epochs, tiny_task
from measure import peak_bytes
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from labeldistill import Expert, Ridge, Schedule, Student, Task, Unrolled, distill, evaluate, load_distilled
from labeldistill.methods import expert_selection, loop
from labeldistill.methods.cuda_graph import CudaGraphStep
from labeldistill.methods.distiller import Batch, TrainState
from labeldistill.methods.loop import BatchIndices, epoch_indices, make_batch, network_seed, start
from labeldistill.methods.optimizers import recorder
from labeldistill.methods.trees import named_tensors
from labeldistill.methods.unrolled import max_steps, to_logits
from labeldistill.networks.functional import flat_parameters
from labeldistill.training.heads import LinearHead
from labeldistill.training.trainer import Trainer
from labeldistill.training.training_set import are_probabilities, smoothed_labels, uniform_labels
from labeldistill.utils import InputError

COUNT, CLASSES, WINDOW = 6, 3, 4
pytestmark = pytest.mark.usefixtures("few_steps")


def make(bars, network=user_networks.plain, schedule=Schedule(iterations=9, outer_batch=30), **options):
    "A task of six bars and a distiller whose windows have four steps."
    return tiny_task(bars, COUNT, Unrolled(**{"window": WINDOW} | options), schedule, network=network)


# Iterations, beside naive ones


class Naive:
    "Graphs of everything; a logit under a PyTorch optimizer; a student that goes on from window to window."

    def __init__(self, module, optimizer, space="probabilities"):
        self.module, self.optimizer, self.space, self.done = module.double(), optimizer, space, 0
        self.parameters = {name: p.detach() for name, p in module.named_parameters()}
        self.moments = {name: [torch.zeros_like(p)] * 2 for name, p in self.parameters.items()}

    def window(self, logits, batch):
        "The gradient of the outer loss."
        logits = logits.clone().requires_grad_()
        parameters = {name: p.clone().requires_grad_() for name, p in self.parameters.items()}
        for picked, seen in zip(batch.rows, batch.images, strict=True):
            outputs = functional_call(self.module, parameters, (seen,))
            if self.space == "real":
                loss = 0.5 * sum(((output - label) ** 2).sum() for output, label in zip(outputs, logits[picked], strict=True)) / 4
            else:
                loss = cross_entropy(outputs, logits.softmax(1)[picked])
            gradients = torch.autograd.grad(loss, parameters.values(), create_graph=True)
            self.done += 1
            parameters = {name: self.step(name, p, g) for (name, p), g in zip(parameters.items(), gradients, strict=True)}
        factor = 5.0 if self.space == "real" else 1.0
        outer_loss = cross_entropy(factor * functional_call(self.module, parameters, (batch.outer_images,)), batch.targets)
        (gradient,) = torch.autograd.grad(outer_loss, logits)
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


@pytest.mark.parametrize(("optimizer", "space"), [("adam", None), ("sgd", None), ("adam", "real"), ("sgd", "real")])
def test_ten_windows_give_the_labels_of_the_naive_form(bars, optimizer, space):
    (task, distiller), rng = make(bars, inner_optimizer=optimizer, label_space=space), torch.Generator().manual_seed(0)
    distiller.lr = torch.full((WINDOW,), {"adam": 1e-3, "sgd": 1e-2}[optimizer], dtype=torch.float64)
    state, images = as_double(start(task, distiller, 5).state), task.base_images.double()
    naive, first = Naive(task.network.build(network_seed(5)), optimizer, space), state.params
    logits = torch.nn.Parameter(first.clone())
    adam, norm_ema = torch.optim.Adam([logits], lr=0.05), None
    for _ in range(10):
        rows = torch.rand(WINDOW, COUNT, generator=rng).argsort(1)[:, :4]
        outer, targets = torch.randn(16, 1, 16, 16, generator=rng).double(), torch.randint(0, CLASSES, (16,), generator=rng)
        batch = Batch(rows, images[rows], outer, targets)
        state, _ = distiller.step(state, batch, distiller.optimizer.update)
        gradient = naive.window(logits.detach(), batch)
        norm = gradient.norm()
        kept = norm if norm_ema is None else min(norm, 2 * norm_ema)
        norm_ema = kept if norm_ema is None else 0.95 * norm_ema + 0.05 * kept
        logits.grad = gradient * kept / norm
        adam.step()
    torch.testing.assert_close(state.params, logits.detach(), rtol=0, atol=1e-6)
    assert (state.params - first).abs().max() > 0.1
    assert state.train_state.aux.steps == 10 * WINDOW and naive.done == 10 * WINDOW


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_student_takes_the_steps_that_evaluation_takes(bars, optimizer):
    task, distiller = make(bars, inner_optimizer=optimizer)
    state = start(task, distiller, 5).state
    student = Trainer(LinearHead(task.network), optimizer, network_seed(5))
    for indices in epoch_indices(task, 5, 0, 4, WINDOW):
        labels = state.params.softmax(1)
        for rows in indices.rows:
            student.step(task.base_images[rows], labels[rows])
        state, _ = distiller.step(state, make_batch(task, indices), distiller.optimizer.update)
    torch.testing.assert_close(state.train_state.theta, student.trained["theta"], rtol=0, atol=1e-6)


def test_an_iteration_gets_a_minibatch_for_each_step_of_the_window(bars):
    task, _ = make(bars)
    one, many = (epoch_indices(task, 3, 0, 4, steps) for steps in (None, WINDOW))
    assert {indices.rows.shape for indices in many} == {(WINDOW, 4)} and one[0].rows.shape == (4,)
    assert all(torch.equal(a.outer_rows, b.outer_rows) for a, b in zip(one, many, strict=True))
    assert all(len(set(rows.tolist())) == 4 for indices in many for rows in indices.rows)


@pytest.mark.parametrize("network", [user_networks.normed, user_networks.dropping], ids=["normed", "dropping"])
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(network, bars):
    task, distiller = make(bars, network)
    rows = torch.arange(WINDOW * 3).view(WINDOW, 3) % COUNT
    check_pure(distiller, start(task, distiller, 5).state, make_batch(task, BatchIndices(rows, torch.arange(30))))


def test_iterations_in_fixed_places_are_the_plain_ones_bit_for_bit(bars):
    plain, fixed = run_epochs(*make(bars)), run_epochs(*make(bars), CudaGraphStep)
    assert all(torch.equal(x, named_tensors(fixed)[name]) for name, x in named_tensors(plain).items())


def test_a_student_goes_on_to_its_horizon_and_the_next_one_begins(bars):
    (task, distiller), seen = make(bars, window=100, schedule=Schedule(iterations=12, outer_batch=30)), []
    step = distiller.step

    def watched(state, *arguments):
        seen.append(state.train_state)
        return step(state, *arguments)

    distiller.step = watched
    progress = run_epochs(task, distiller)
    assert {float(student.aux.horizon) for student in seen} <= {100.0 * (1 + i) for i in range(max_steps(COUNT) // 100)}
    ends = [student.aux.steps + 100 == student.aux.horizon for student in seen]
    assert progress.resets.tolist() == [number for number, end in enumerate(ends, 1) if end] and 0 < sum(ends) < 12
    for before, after, end in zip(seen, seen[1:], ends, strict=False):
        assert after.aux.steps == (0 if end else before.aux.steps + 100)
    firsts = [student.theta for student in seen if student.aux.steps == 0]
    assert all(torch.equal(x, distiller.init_state(network_seed(5, i)).theta) for i, x in enumerate(firsts))


def test_horizons_are_whole_windows_up_to_the_longest_training(bars):
    _, distiller = make(bars, window=250)
    assert {float(distiller.init_state(seed).aux.horizon) for seed in range(40)} == {250, 500, 750, 1000}


def test_memory_grows_by_the_students_states_only(bars):
    peaks = []
    for window in (5, 10, 20):
        task, distiller = make(bars, "lenet", window=window)
        state, rows = start(task, distiller, 5).state, torch.arange(window * 3).view(window, 3) % COUNT
        given = state, make_batch(task, BatchIndices(rows, torch.arange(30))), distiller.optimizer.update
        distiller.step(*given)
        peaks.append(peak_bytes(lambda step=distiller.step, given=given: step(*given)))
    state_bytes = 3 * 4 * flat_parameters(task.network.build(0)).numel()
    assert peaks[2] - peaks[1] < 10 * state_bytes * 1.2 and peaks[1] - peaks[0] < 5 * state_bytes * 1.2


# Labels


def test_labels_begin_as_told_and_zeros_become_small(bars):
    hard = smoothed_labels(torch.tensor([0, 2]), 3)
    assert (to_logits(hard).softmax(1) - hard).abs().max() < 3e-3
    many = smoothed_labels(torch.tensor([1]), 1000, 0.1)
    assert (to_logits(many).softmax(1) - many).abs().max() < 0.02
    soft = torch.tensor([[0.2, 0.3, 0.5]])
    torch.testing.assert_close(to_logits(soft).softmax(1), soft)
    given = smoothed_labels(torch.arange(6) % 3, 3, 0.3)
    task, distiller = make(bars, init=given)
    torch.testing.assert_close(distiller.init_params(task, 0).softmax(1), given)


# Runs


def quick(target, source=None, base_seed=None, seed=7, iterations=6, outer_batch=32, validate_every=None, **options):
    "Labels of a short run; other options that `distill` has are its own, the rest are the method's."
    own = {name: options.pop(name) for name in ("checkpoint", "resume", "callback", "student") if name in options}
    task = Task(target, COUNT, source=source, base_seed=base_seed, network=user_networks.plain)
    method = Unrolled(**{"window": WINDOW} | options)
    schedule = Schedule(iterations=iterations, outer_batch=outer_batch, validate_every=validate_every)
    return distill(task, method, schedule=schedule, seed=seed, compute=CPU, progress=False, **own)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_labels_learned_through_windows_teach_the_bars(bars, tmp_path, optimizer):
    learned = quick(bars, iterations=60, inner_optimizer=optimizer)
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(read.labels, learned.labels) and read.student.optimizer == optimizer and read.student.steps in (10, 30, 60)
    assert read.method["unrolled"]["window"] == WINDOW and read.method["unrolled"]["inner_optimizer"] == optimizer
    torch.testing.assert_close(read.labels.sum(1), torch.ones(COUNT))
    one = {"network": read.network, "compute": CPU, "progress": False}
    found = evaluate(read, bars, models=2, **one)
    assert found.optimizer == optimizer and found.accuracy_mean > 60
    other = evaluate(read, bars, student=Student(optimizer="adamw"), models=1, **one)
    assert other.optimizer == "adamw"


def test_the_same_seed_gives_the_same_labels_and_another_seed_others(bars, random_states):
    before = random_states()
    first, second = quick(bars), quick(bars)
    assert random_states() == before and torch.equal(first.labels, second.labels) and torch.equal(first.curve, second.curve)
    assert not torch.equal(first.labels, quick(bars, seed=8).labels)


def test_true_classes_are_not_looked_at(bars):
    source = replace(bars, name="source")
    clean = quick(bars, source=source)
    hidden = quick(bars, source=replace(source, labels=(bars.labels + 1) % 3))
    assert torch.equal(clean.labels, hidden.labels)


EXPERT = Expert(iterations=10, temperature=2.0)


def test_labels_begin_where_experts_end(bars):
    expert = distill(Task(bars, COUNT, network=user_networks.plain), EXPERT, seed=7, compute=CPU, progress=False)
    begun = quick(bars, iterations=1, init=EXPERT)
    assert (begun.labels - expert.labels).abs().max() < 0.03 < (begun.labels - 1 / 3).abs().max()
    assert begun.settings["stopping point"] == 10 and begun.settings["temperature"] == 2
    told = quick(bars, iterations=1, init=expert.labels)
    assert torch.equal(told.labels, begun.labels) and begun.method["unrolled"]["init"]["expert"]["iterations"] == 10


def test_a_window_counts_as_its_steps_when_validations_are_spaced(bars):
    seen = []
    quick(bars, iterations=15, outer_batch=42, window=25, student=Student(steps=5), callback=seen.append)  # two an epoch
    assert [event.iteration for event in seen] == [4, 8, 12, 15]


@pytest.mark.parametrize("init", ["uniform", "one-hot"])
def test_labels_that_say_something_are_validated_before_they_change(init, bars, monkeypatch):
    seen, validate = [], loop.validate

    def decline(task, distiller, seed, progress):
        seen.append(len(progress.curve))
        found, event = validate(task, distiller, seed, progress)
        best = found.best._replace(accuracy=torch.tensor(90.0 - len(seen)).double())  # the first is the best
        return found._replace(best=best) if len(seen) == 1 else progress, event

    monkeypatch.setattr(loop, "validate", decline)
    learned = quick(bars, iterations=12, outer_batch=84, init=init)
    assert seen[0] == (0 if init == "one-hot" else 12) and learned.settings["best iteration"] == seen[0]
    if init == "one-hot":
        assert torch.equal(learned.labels.argmax(1), learned.base_labels) and learned.labels.amin() < 2e-3


def test_labels_move_as_fast_as_they_are_told(bars):
    slow, plain, fast = (quick(bars, iterations=1, label_lr=lr) for lr in (0.01, None, 0.1))
    logits = [learned.labels.log() for learned in (slow, plain, fast)]
    moved = [float((x - x.mean(1, keepdim=True)).abs().max()) for x in logits]
    assert moved[1] == pytest.approx(5 * moved[0], rel=0.05) and moved[2] == pytest.approx(2 * moved[1], rel=0.05)
    informed = quick(bars, iterations=1, init="one-hot")
    assert [learned.settings["label lr"] for learned in (slow, plain, informed)] == [0.01, 0.05, 0.01]


def test_labels_that_are_no_probabilities_are_refused(bars):
    short = uniform_labels(COUNT, CLASSES)
    short[2, 0] = 0.1
    for init in (short, torch.tensor([[1.5, -0.5, 0.0]]).repeat(COUNT, 1), Expert(top_k=2)):
        with pytest.raises(InputError, match="labels must be probabilities"):
            quick(bars, init=init)


# Several students side by side, and the mean of labels

MIX = [user_networks.dropping, "mlp"]


def test_several_students_give_the_mean_of_their_gradients(bars):
    (task, both), (_, alone) = make(bars, students="mlp,user_networks:plain"), make(bars)
    state = start(task, both, 5).state
    batch = make_batch(task, epoch_indices(task, 5, 0, both.inner_batch, WINDOW)[0])
    after, metrics = both.step(state._replace(opt_state=recorder().init(state.params)), batch, recorder().update)
    labels = alone.space.labels(state.params)
    (thetas, memories, progress), found = state.train_state, []
    for network, theta, memory in zip(("mlp", user_networks.plain), thetas, memories, strict=True):
        _, other = make(bars, network)
        found.append(other.look_back(other.unroll, TrainState(theta, memory, progress), labels, batch))
    expected = both.optimizer.update(sum(gradient for gradient, _, _ in found) / 2, state.opt_state, state.params)
    assert torch.equal(both.optimizer.update(after.opt_state, state.opt_state, state.params)[0], expected[0])
    assert torch.equal(metrics, (found[0][2] + found[1][2]) / 2)
    assert all(torch.equal(theta, student.theta) for theta, (_, student, _) in zip(after.train_state.theta, found, strict=True))


def test_students_of_one_network_begin_apart_and_end_together(bars):
    task, distiller = make(bars, students="mlp,mlp", horizon=8)
    first, second = (distiller.init_state(seed) for seed in (0, 1))
    assert len({float(theta.sum()) for student in (first, second) for theta in student.theta}) == 4
    progress = run_epochs(task, distiller)
    assert len(progress.resets) > 1 and progress.state.train_state.aux.steps.shape == ()


def test_the_mean_of_labels_is_what_is_kept_and_tested(bars):
    (task, distiller), means = make(bars, label_ema=0.75), []
    progress = start(task, distiller, 5)
    state, kept = progress.state, progress.state.params.now
    for number, indices in enumerate(epoch_indices(task, 5, 0, distiller.inner_batch, WINDOW) * 4, 1):
        state, _ = distiller.step(state, make_batch(task, indices), distiller.optimizer.update)
        share = min(0.75, (1 + number) / (10 + number))
        kept = share * kept + (1 - share) * state.params.now
        means.append(state.params.mean)
    torch.testing.assert_close(state.params.mean, kept)
    assert not torch.equal(means[0], means[-1]) and not torch.equal(state.params.now, state.params.mean)
    assert torch.equal(distiller.training_set(state.params).labels, state.params.mean.softmax(1))
    _, plain = make(bars)
    step = plain.step(start(task, plain, 5).state, make_batch(task, indices), plain.optimizer.update)[0].params
    mean = distiller.step(progress.state, make_batch(task, indices), distiller.optimizer.update)[0].params
    assert torch.equal(mean.now, step)  # the mean does not change where labels go


@pytest.mark.parametrize("options", [{"students": MIX}, {"label_ema": 0.9}], ids=["students", "label-ema"])
def test_iterations_with_more_state_repeat_themselves_and_resume(bars, tmp_path, options):
    (task, distiller), asked = make(bars, **options), options
    rows = torch.arange(WINDOW * 3).view(WINDOW, 3) % COUNT
    check_pure(distiller, start(task, distiller, 5).state, make_batch(task, BatchIndices(rows, torch.arange(30))))
    options = {"iterations": 8, "outer_batch": 84, "validate_every": 2, **options}
    whole = quick(bars, **options)
    with pytest.raises(Stop):
        quick(bars, checkpoint=tmp_path / "kept", callback=stop_at(3), **options)
    resumed = quick(bars, checkpoint=tmp_path / "kept", resume=True, **options)
    assert torch.equal(resumed.labels, whole.labels) and are_probabilities(whole.labels)
    assert whole.network == "user_networks:plain"  # the task's: for whom labels are validated
    told = {"students": ["user_networks:dropping", "mlp"]} if "students" in asked else asked
    assert whole.method["unrolled"].items() >= told.items()


# Real numbers, learned by squared error


REAL = {"iterations": 12, "outer_batch": 84, "label_space": "real", "init": "one-hot"}


def test_real_labels_are_saved_loaded_and_tested_by_squared_error(bars, tmp_path):
    learned = quick(bars, **REAL)
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(read.labels, learned.labels) and (read.labels < 0).any() and read.student.loss == "mse"
    network = {"network": user_networks.plain, "target": bars, "source": bars, "compute": CPU, "progress": False}
    tested = evaluate(read, models=3, **network)
    assert tested.loss == "mse" and tested.accuracy_mean > 60 and "mse" in str(tested)
    with pytest.raises(InputError, match=r"--loss cross-entropy: the labels are real numbers, .*; expected mse$"):
        evaluate(read, student=Student(loss="cross-entropy"), models=1, **network)
    with pytest.raises(InputError, match=r"--loss mse: the ridge head learns by cross-entropy; expected --head linear$"):
        evaluate(read, student=Student(head="ridge"), models=1, **network)
    begun = quick(bars, **REAL | {"iterations": 1, "init": read.labels})
    assert (begun.labels - read.labels).abs().max() <= 0.011


def test_the_students_loss_and_the_space_of_labels_say_each_other(bars):
    by_space, by_loss = quick(bars, **REAL), quick(bars, **REAL | {"label_space": None}, student=Student(loss="mse"))
    assert torch.equal(by_space.labels, by_loss.labels) and by_space.student == by_loss.student
    mixed = quick(bars, **REAL | {"label_space": "probabilities"}, student=Student(loss="mse"))
    assert are_probabilities(mixed.labels) and mixed.student.loss == "mse"
    crossed = evaluate(mixed, student=Student(loss="cross-entropy"), models=1, compute=CPU, progress=False)
    assert crossed.loss == "cross-entropy"


def test_probabilities_become_real_numbers_of_which_they_are_the_softmax(bars):
    begun = quick(bars, **REAL | {"iterations": 1, "outer_scale": 2.0, "label_lr": 1e-9})
    expected = smoothed_labels(begun.base_labels, CLASSES).clamp(min=1e-3)
    torch.testing.assert_close((2 * begun.labels).softmax(1), expected / expected.sum(1, keepdim=True), rtol=0, atol=1e-6)


def test_students_go_no_further_than_the_horizon_in_learning_and_in_validation(bars):
    _, distiller = make(bars, horizon=8)
    assert {int(distiller.init_state(seed).aux.horizon) for seed in range(30)} == {4, 8}
    assert quick(bars, iterations=12, outer_batch=84, horizon=8).student.steps == 8


class Stop(Exception):
    "The run is killed."


def stop_at(number):
    "A callback that kills the run at its n-th validation, or later."

    def callback(event, seen=[]):  # noqa: B006
        seen.append(event)
        if len(seen) >= number:
            raise Stop

    return callback


def test_a_resumed_run_ends_like_an_uninterrupted_one(bars, tmp_path):
    options = {"iterations": 8, "outer_batch": 84, "validate_every": 2}
    whole = quick(bars, **options)
    with pytest.raises(Stop):
        quick(bars, checkpoint=tmp_path / "kept", callback=stop_at(3), **options)
    resumed = quick(bars, checkpoint=tmp_path / "kept", resume=True, **options)
    assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings
    with pytest.raises(InputError, match=r"window = 4, not 3"):
        quick(bars, checkpoint=tmp_path / "kept", resume=True, **(options | {"window": 3}))


def test_a_resumed_run_begins_with_the_experts_labels_that_were_kept(bars, tmp_path, monkeypatch):
    options, kept = {"iterations": 30, "outer_batch": 84, "init": EXPERT}, tmp_path / "kept"
    whole = quick(bars, **options)
    with pytest.raises(Stop):
        quick(bars, checkpoint=kept, callback=stop_at(1), **options)
    assert {file.name for file in kept.iterdir()} == {"traces.safetensors", "experts.safetensors"}
    with pytest.raises(InputError, match="holds a checkpoint"):
        quick(bars, checkpoint=kept, **options)
    monkeypatch.setattr("labeldistill.methods.experts.train_on_real", None)  # no expert is trained any more
    for _ in range(2):  # continued; then found finished
        resumed = quick(bars, checkpoint=kept, resume=True, **options)
        assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings
    with pytest.raises(InputError, match=r"expert.temperature = 2.0, not 3.0"):
        quick(bars, checkpoint=kept, resume=True, **(options | {"init": replace(EXPERT, temperature=3.0)}))


def test_a_checkpoint_asks_for_the_settings_of_the_experts_not_for_what_came_of_them(bars, tmp_path, monkeypatch):
    options = {"init": EXPERT, "checkpoint": tmp_path}
    first = quick(bars, **options)
    (tmp_path / "experts.safetensors").unlink()
    select = expert_selection.select_expert_labels

    def elsewhere(*arguments):
        found = select(*arguments)
        return found._replace(labels=found.labels + 1e-7)

    monkeypatch.setattr("labeldistill.methods.labels.select_expert_labels", elsewhere)
    assert torch.equal(quick(bars, resume=True, **options).labels, first.labels)


def test_experts_labels_for_students_by_sgd_are_chosen_by_students_by_sgd(bars, monkeypatch):
    seen, mean_validation_curve = [], expert_selection.mean_validation_curve

    def watched(head, optimizer, *arguments):
        seen.append(optimizer)
        return mean_validation_curve(head, optimizer, *arguments)

    monkeypatch.setattr(expert_selection, "mean_validation_curve", watched)
    learned = quick(bars, init=Expert(iterations=10), inner_optimizer="sgd")
    assert set(seen) == {"sgd"} and learned.student.optimizer == "sgd"


def test_a_choice_for_one_optimizer_does_not_serve_another(bars, tmp_path):
    options = {"init": EXPERT, "checkpoint": tmp_path}
    with pytest.raises(Stop):
        quick(bars, callback=stop_at(1), **options)
    with pytest.raises(InputError, match="was made with optimizer = adam, not sgd"):
        quick(bars, resume=True, inner_optimizer="sgd", **options)


def test_no_expert_is_trained_beside_another_runs_checkpoint(bars, tmp_path, monkeypatch):
    task, common = Task(bars, COUNT, network=user_networks.plain), {"checkpoint": tmp_path, "compute": CPU, "progress": False}
    distill(task, Ridge(), schedule=Schedule(iterations=2), **common)
    monkeypatch.setattr("labeldistill.methods.experts.train_on_real", None)
    for method in (Unrolled(init=Expert()), Expert()):
        with pytest.raises(InputError, match="was made with method"):
            distill(task, method, resume=True, **common)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_labels_to_begin_with_must_be_of_the_same_images(bars, tmp_path):
    first = quick(bars)
    first.save(tmp_path / "labels.safetensors")
    again = quick(bars, init=tmp_path / "labels.safetensors", iterations=1)
    assert torch.equal(again.rows, first.rows)
    with pytest.raises(InputError, match="of other images; expected labels of these base examples"):
        quick(bars, init=tmp_path / "labels.safetensors", base_seed=1)
