"Changed images, falling step sizes, averaged weights: in students, in windows, in the test; and what is refused."

from dataclasses import replace

import pytest
import torch
import user_networks
from helpers import CPU, run_epochs, tiny_task

from labeldistill import Expert, Ridge, Schedule, Student, Task, Unrolled, distill, evaluate, load_distilled
from labeldistill.config import to_json
from labeldistill.methods.cuda_graph import CudaGraphStep
from labeldistill.methods.loop import epoch_indices, make_batch, start
from labeldistill.methods.trees import named_tensors
from labeldistill.methods.unroll import DIFFERENTIABLE, Minibatch, TrainingStep, Unroll, backward, grad, outer_gradient, rollout
from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.network import make_network
from labeldistill.training.evaluation import ImageSet, _cohort_size, evaluate_students
from labeldistill.training.heads import LinearHead
from labeldistill.training.trainer import Cohort, Trainer, ema_share, train, train_together
from labeldistill.training.training_set import AUGMENTATIONS, TrainingSet, cosine_share, images_seen, minibatches, shift
from labeldistill.utils import InputError

COUNT, CLASSES, WINDOW = 6, 3, 4
pytestmark = pytest.mark.usefixtures("few_steps")
FULL = Student(augment="shift", lr_schedule="cosine", ema=0.9, steps=12)


@pytest.fixture
def data():
    images = torch.randn(COUNT, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return TrainingSet(images, torch.eye(CLASSES).repeat(2, 1), 4)


@pytest.fixture
def head():
    return LinearHead(make_network(user_networks.plain, 1, 16, CLASSES))


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


# Images


@pytest.mark.parametrize(("channels", "size", "most"), [(1, 28, 2), (1, 32, 2), (1, 8, 1), (3, 32, 4), (3, 8, 1)])
def test_a_shift_moves_every_image_by_itself_and_repeats_its_border(channels, size, most):
    images = torch.arange(float(size * size * channels)).view(1, channels, size, size).repeat(200, 1, 1, 1)
    moved = shift(images, torch.rand(200, 2, generator=rng()))
    middle = moved[:, 0, size // 2, size // 2] - images[0, 0, size // 2, size // 2]
    down = (middle / size).round()
    right = middle - size * down
    assert {*down.tolist()} == {*right.tolist()} == {float(x) for x in range(-most, most + 1)}
    for image, by in zip(moved, torch.stack([down, right], 1).long().tolist(), strict=True):
        rows, columns = ((torch.arange(size) + step).clamp(0, size - 1) for step in by)
        assert torch.equal(image, images[0][:, rows][:, :, columns])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_changes_are_finite_keep_their_shape_and_repeat_themselves(name, channels):
    change, count = AUGMENTATIONS[name]
    images, seen = torch.randn(5, channels, 16, 16), set()
    for numbers in torch.rand(40, 5, count, generator=rng()):
        changed = change(images, numbers)
        assert changed.shape == images.shape and changed.isfinite().all() and torch.equal(changed, change(images, numbers))
        seen.add(round(changed.sum().item(), 3))
    assert len(seen) > 20


# Students


def test_a_recipe_is_five_lines_of_pytorch(data, head):
    recipe = data.for_student(FULL)
    trainer = train(Trainer(head, "adam", 1), recipe, 12, rng())
    module, seen = head.network.build(1), images_seen(recipe, rng().initial_seed())
    adam, mean = torch.optim.Adam(module.parameters(), 1e-3), None
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 12)
    for step, rows in enumerate(minibatches(COUNT, 4, 12, rng()), 1):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(module(seen(rows)), data.labels[rows]).backward()
        adam.step()
        schedule.step()
        theta, share = flat_parameters(module), min(0.9, (1 + step) / (10 + step))
        mean = theta if mean is None else share * mean + (1 - share) * theta
    torch.testing.assert_close(trainer.trained["theta"], flat_parameters(module), rtol=0, atol=1e-5)
    torch.testing.assert_close(trainer.tested["theta"], mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(flat_parameters(trainer.classifier()), mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(trainer.classify(data.images), trainer.classifier().eval()(data.images))


def test_a_student_without_a_recipe_is_as_it_was(data, head):
    plain = data.for_student(Student(augment="none", lr_schedule="constant", ema=0.0))
    one, other = (train(Trainer(head, "adam", 1), x, 9, rng()) for x in (data, plain))
    assert torch.equal(one.trained["theta"], other.trained["theta"]) and other.mean is None


def test_students_train_side_by_side_unless_they_take_learned_steps(data, head):
    compiled = LinearHead(head.network)
    compiled.computation = compiled.computation._replace(precision="bf16", compile=True)
    sizes = {student: _cohort_size(compiled, "adam", data.for_student(student), 5) for student in (Student(), FULL)}
    assert {*sizes.values()} == {5}
    for more in ({"order": "within"}, {"rates": (0.1,)}):
        assert _cohort_size(compiled, "adam", replace(data, **more), 5) == 1


@pytest.mark.parametrize("augment", ["none", *AUGMENTATIONS])
def test_students_side_by_side_learn_what_each_learns_alone(augment, data, head):
    recipe = data.for_student(replace(FULL, augment=augment))
    cohort = train_together(Cohort(head, "adam", [3, 4]), recipe, 12, [rng(5), rng(6)])
    for i, classify in enumerate(cohort.classifiers()):
        alone = train(Trainer(head, "adam", 3 + i), recipe, 12, rng(5 + i))
        torch.testing.assert_close(cohort.tested["theta"][i], alone.tested["theta"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(classify(data.images), alone.classify(data.images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_tests_repeat_themselves_whatever_the_number_of_threads(augment, data, head, bars):
    images = ImageSet((255 * torch.rand(30, 1, 16, 16)).byte(), torch.arange(30) % 3, lambda x: x.float() / 255)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(evaluate_students(head, "adam", data.for_student(Student(augment=augment)), images, 5, 4, 7, False))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


# Windows


@pytest.mark.parametrize("optimizer", DIFFERENTIABLE)
def test_gradients_through_an_averaged_run_are_those_of_one_graph(optimizer):
    network = make_network(user_networks.plain, 1, 16, CLASSES)
    function, theta = Functional(network.build(0).double()), flat_parameters(network.build(0)).double()
    noise = torch.randn(5, 4, 1, 16, 16, generator=rng()).double(), torch.randn(5, 4, CLASSES, generator=rng()).double()
    minibatches = Minibatch(*noise, torch.full((5,), 0.01).double())
    images, classes = torch.randn(9, 1, 16, 16, generator=rng()).double(), torch.arange(9) % CLASSES
    batch = type("Batch", (), {"outer_images": images, "targets": classes})
    engine = Unroll(function, optimizer, ("labels",), ema=0.8)
    run = rollout(engine, theta, minibatches)
    ours = backward(engine, run, outer_gradient(function, run.tested, batch)[0])["labels"]
    labels, step = minibatches.labels.clone().requires_grad_(), TrainingStep(function, DIFFERENTIABLE[optimizer])
    state, mean = (theta.clone().requires_grad_(), *step.optimizer.init(theta)), 0
    for t in range(5):
        seen = minibatches.at(t)._replace(labels=labels[t])
        state = step.move(state, grad(lambda x, seen=seen: step.loss(x, seen), state[0]), seen.lr, torch.tensor(t + 1.0).double())
        share = min(0.8, (2 + t) / (11 + t)) if t else 0.0
        mean = share * mean + (1 - share) * state[0]
    torch.testing.assert_close(run.tested, mean.detach(), rtol=0, atol=1e-12)
    (theirs,) = torch.autograd.grad(torch.nn.functional.cross_entropy(function(mean, images), classes), labels)
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-8


def make(bars, student=FULL, schedule=Schedule(iterations=9, outer_batch=30), **options):
    task, distiller = tiny_task(bars, COUNT, Unrolled(window=WINDOW), schedule, network=user_networks.plain)
    task = replace(task, student=student)
    return task, type(distiller)(Unrolled(window=WINDOW, **options), task)


def test_a_window_takes_the_steps_that_the_students_recipe_has(bars):
    task, distiller = make(bars)
    state = start(task, distiller, 5).state
    student = Trainer(LinearHead(task.network), "adam", 0)
    student.trained["theta"].copy_(state.train_state.theta)
    for indices in epoch_indices(task, 5, 0, 4, WINDOW, "shift")[:3]:
        labels = state.params.softmax(1)
        for rows, numbers in zip(indices.rows, indices.changes, strict=True):
            rate = 1e-3 * float(cosine_share(student.done, 12))
            student.step(shift(task.base_images[rows], numbers), labels[rows], rate)
            student.average(0.9)
        state, _ = distiller.step(state, make_batch(task, indices), distiller.optimizer.update)
    torch.testing.assert_close(state.train_state.theta, student.trained["theta"], rtol=0, atol=1e-6)
    torch.testing.assert_close(state.train_state.opt_state[-1], student.mean, rtol=0, atol=1e-6)
    assert ema_share(5, 0.99) == ema_share(torch.tensor(5.0), 0.99)


def test_changes_in_fixed_places_are_the_plain_ones_bit_for_bit(bars):
    plain, fixed = run_epochs(*make(bars)), run_epochs(*make(bars), CudaGraphStep)
    assert all(torch.equal(x, named_tensors(fixed)[name]) for name, x in named_tensors(plain).items())


def quick(target, student=FULL, iterations=8, **options):
    own = {name: options.pop(name) for name in ("checkpoint", "resume", "callback") if name in options}
    task, method = Task(target, COUNT, network=user_networks.plain), options.pop("method", Unrolled(window=WINDOW))
    schedule = Schedule(iterations=iterations, outer_batch=84, validate_every=2) if method.epochs else Schedule()
    return distill(task, method, student=student, schedule=schedule, seed=7, compute=CPU, progress=False, **own)


class Stop(Exception):
    "The run is killed."


def stop(event):
    if event.iteration >= 4:
        raise Stop


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_a_resumed_run_ends_like_an_uninterrupted_one(augment, bars, tmp_path):
    student = replace(FULL, augment=augment)
    whole = quick(bars, student)
    with pytest.raises(Stop):
        quick(bars, student, checkpoint=tmp_path / "kept", callback=stop)
    resumed = quick(bars, student, checkpoint=tmp_path / "kept", resume=True)
    assert torch.equal(resumed.labels, whole.labels) and resumed.validation_accuracy == whole.validation_accuracy
    with pytest.raises(InputError, match=r"student\.augment = .*, not none"):
        quick(bars, replace(student, augment="none"), checkpoint=tmp_path / "kept", resume=True)


def test_labels_carry_the_recipe_and_tests_follow_it(bars, tmp_path):
    learned = quick(bars)
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert read.student == learned.student == replace(FULL, head="linear", optimizer="adam", order="random", loss="cross-entropy")
    given = {"target": bars, "source": bars, "network": user_networks.plain, "models": 3, "compute": CPU, "progress": False}
    own, same = evaluate(read, **given), evaluate(read, student=FULL, **given)
    plain = evaluate(read, student=Student(augment="none", lr_schedule="constant", ema=0), **given)
    assert own.accuracies == same.accuracies != plain.accuracies
    assert not torch.equal(learned.labels, quick(bars, Student(steps=12)).labels)
    assert to_json(learned.student)["augment"] == "shift"


# Experts' labels of changed images


def test_experts_labels_are_averaged_over_views(bars):
    expert, student = Expert(iterations=20, temperature=2.0), Student(augment="shift", steps=10)
    plain, one, many = (quick(bars, student, method=replace(expert, views=views)).labels for views in (None, 1, 30))
    assert not torch.equal(plain, one) and (plain - many).abs().mean() < (plain - one).abs().mean()
    assert torch.equal(one, quick(bars, student, method=replace(expert, views=1)).labels)


# Refused


@pytest.mark.parametrize(
    ("student", "method", "message"),
    [
        (Student(lr_schedule="cosine"), Unrolled(), "--lr-schedule cosine: step sizes fall to zero at the last step; expected"),
        (Student(lr_schedule="cosine", steps=30), Unrolled(horizon=40), "--horizon 40: must be at most --steps 30, where"),
        (Student(ema=0.9), Ridge(), "--ema 0.9: the ridge head's last layer is solved for, not averaged; expected --head linear"),
        (Student(), Expert(views=3), "--expert-views 3: students see images as they are; expected --augment shift or another"),
        (Student(augment="none"), Unrolled(init=Expert(views=3)), "--expert-views 3: students see images as they are; expected"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(student, method, message, bars):
    with pytest.raises(InputError, match=message):
        quick(bars, student, method=method)


class NoStepSize(torch.optim.Optimizer):
    "An optimizer without `lr`."

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self):
        pass


def test_a_cosine_of_an_optimizer_without_a_step_size_is_refused(data, head):
    falling = data.for_student(Student(lr_schedule="cosine", steps=5))
    with pytest.raises(InputError, match=r"--lr-schedule cosine: this optimizer has no step size \(lr\); expected constant"):
        train(Trainer(head, NoStepSize, 0), falling, 5, rng())
    assert train(Trainer(head, NoStepSize, 0), data, 1, rng()).done == 1


def test_a_cosine_lowers_the_step_sizes_of_all_groups(data, head):
    def two_groups(parameters):
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": others, "lr": 0.01}])

    trainer = train(Trainer(head, two_groups, 0), data.for_student(Student(lr_schedule="cosine", steps=10)), 10, rng())
    share = float(cosine_share(9, 10))
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.1 * share, 0.01 * share]


def test_a_cosine_of_learned_step_sizes_is_refused():
    with pytest.raises(InputError, match="--lr-schedule cosine: --optimizer own has learned step sizes; expected constant"):
        Student(optimizer="own", lr_schedule="cosine", steps=5)
