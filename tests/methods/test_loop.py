"""Distillation runs: pure iterations, reproducible, resumable, blind to the test part, and kind to user-made networks."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import user_networks
from helpers import CPU, PAPER, tiny_task
from hypothesis import given
from hypothesis import strategies as st

from labeldistill import Expert, Ridge, Schedule, Student, Task, Unrolled, distill, evaluate, true_labels
from labeldistill.data.datasets import split
from labeldistill.methods import loop as loops
from labeldistill.methods import ridge
from labeldistill.methods.loop import (
    epoch_indices,
    epochs_between_validations,
    learn,
    make_batch,
    network_seed,
    start,
    validation_cost,
)
from labeldistill.methods.ridge import RidgeLabels
from labeldistill.methods.second_order import SecondOrderLabels
from labeldistill.methods.trees import map_tensors, named_tensors
from labeldistill.training.evaluation import ImageSet
from labeldistill.utils import InputError

NETWORKS = {name: getattr(user_networks, name) for name in ("plain", "normed", "dropping")}
DISTILLERS = {"ridge": RidgeLabels, "second-order": SecondOrderLabels}


@pytest.fixture(params=PAPER)
def name(request):
    return request.param


def before_each_step(name, monkeypatch, before):
    "Has `before` called with every state, which it may change, before each iteration of a method."
    cls = DISTILLERS[name]
    monkeypatch.setattr(cls, "step", lambda self, state, *rest, step=cls.step: step(self, before(state) or state, *rest))


@pytest.fixture
def steps_done(monkeypatch):
    "The iterations really computed, of either method."
    calls = []
    for name in PAPER:
        before_each_step(name, monkeypatch, calls.append)
    return calls


def quick(target, method=PAPER["ridge"], iterations=6, network=user_networks.plain, base=6, *, source=None, seed=7, **options):
    "Labels of a short run; fields of `Schedule` are options."
    lengths = {name: options.pop(name) for name in ("epochs", "validate_every") if name in options}
    schedule = Schedule(iterations=iterations, outer_batch=options.pop("outer_batch", 32), **lengths)
    task = Task(target, base, source=source, network=network)
    return distill(task, method, schedule=schedule, seed=seed, compute=CPU, progress=False, **options)


def test_on(labels, target=None, **options):
    "Two students on the test part."
    return evaluate(labels, target, **{"models": 2, "compute": CPU, "progress": False} | options)


test_on.__test__ = False


# One iteration


@pytest.mark.parametrize("network", ["lenet", *NETWORKS.values()], ids=["lenet", *NETWORKS])
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(name, network, bars):
    task, distiller = tiny_task(bars, 6, PAPER[name], network=network)
    state, images = start(task, distiller, 5).state, bars.images.float() / 255
    batch = make_batch(task, epoch_indices(task, 5, 0, 4)[0])._replace(images=images[:4])
    before = map_tensors(torch.clone, (state, batch))
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(distiller.step(state, batch, distiller.optimizer.update))
    assert all(map(torch.equal, named_tensors((state, batch)).values(), named_tensors(before).values()))
    assert all(map(torch.equal, named_tensors(results[0]).values(), named_tensors(results[1]).values()))
    after, _ = results[0]
    assert not torch.equal(after.params, state.params)
    assert not any(tensor.requires_grad for tensor in named_tensors(after).values())


def test_labels_stay_probabilities_and_the_absent_rows_start_unmoved(name, bars):
    task, distiller = tiny_task(bars, 6, PAPER[name], Schedule(iterations=30, outer_batch=16))
    first = state = start(task, distiller, 1).state
    for number, indices in enumerate(epoch_indices(task, 1, 0, 4)):
        state, _ = distiller.step(state, make_batch(task, indices), distiller.optimizer.update)
        assert torch.allclose(state.params.sum(1), torch.ones(6), atol=1e-5) and (state.params >= 0).all()
        if number == 0:
            moved = (state.params != first.params).any(1)
            assert moved.nonzero().flatten().tolist() == sorted(indices.rows.tolist())


def test_an_epoch_sees_every_training_image_once_and_inner_batches_without_repetition(bars):
    task, _ = tiny_task(bars, 6, PAPER["ridge"])
    batches = [make_batch(task, indices) for indices in epoch_indices(task, 3, 0, 4)]
    assert [len(batch.targets) for batch in batches] == [32, 32, 20]
    seen = torch.cat([batch.outer_images for batch in batches]).flatten(1).sum(1).sort().values
    assert torch.allclose(seen, task.normalise(task.train.images).flatten(1).sum(1).sort().values)
    assert all(len(set(batch.rows.tolist())) == 4 for batch in batches)
    assert len({tuple(batch.rows.tolist()) for batch in batches}) > 1


# Runs


@pytest.mark.parametrize("network", ["lenet", *NETWORKS.values()], ids=["lenet", *NETWORKS])
def test_the_same_seed_gives_the_same_result_and_leaves_global_randomness_alone(bars, name, network, random_states):
    torch.manual_seed(1)
    first = quick(bars, PAPER[name], network=network)
    torch.manual_seed(2)
    before = random_states()
    second = quick(bars, PAPER[name], network=network)
    assert random_states() == before
    assert torch.equal(first.labels, second.labels) and torch.equal(first.curve, second.curve)
    assert first.validation_accuracy == second.validation_accuracy and first.student == second.student
    assert first.labels.isfinite().all() and torch.allclose(first.labels.sum(1), torch.ones(6), atol=1e-5)
    assert not torch.equal(first.labels, quick(bars, PAPER[name], network=network, seed=8).labels)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_test_and_leaves_global_randomness_alone(distilled, network, random_states):
    options = {"network": NETWORKS[network], "student": Student(head="linear", steps=2), "models": 3}
    torch.manual_seed(1)
    first = test_on(distilled, **options)
    torch.manual_seed(2)
    before = random_states()
    assert test_on(distilled, **options) == first
    assert random_states() == before
    assert test_on(distilled, seed=5, **options).accuracies != first.accuracies


def test_more_models_do_not_change_the_first_ones(distilled):
    options = {"network": user_networks.plain, "student": Student(steps=5)}
    assert test_on(distilled, models=4, **options).accuracies[:2] == test_on(distilled, **options).accuracies


def test_labels_learned_on_bars_say_what_the_bars_are(bars, name):
    learned = quick(bars, PAPER[name], iterations=600)
    assert (learned.labels.argmax(1) == learned.base_labels).all()
    assert test_on(learned, bars).accuracy_mean > 90


def test_distillation_never_looks_at_an_official_test_part(bars, name):
    data = replace(bars, test_size=30)  # a drawn test part: tests/test_guarantees.py
    test = split(data).test
    images, labels = data.images.clone(), data.labels.clone()
    images[test], labels[test] = 255 - images[test].flip(0), labels[test].flip(0)
    poisoned = replace(data, images=images, labels=labels)
    assert poisoned.sha256 != data.sha256
    clean, other = (quick(each, PAPER[name], iterations=20) for each in (data, poisoned))
    assert torch.equal(clean.labels, other.labels) and torch.equal(clean.curve, other.curve)
    assert clean.normalisation == other.normalisation
    assert (clean.student, clean.validation_accuracy) == (other.student, other.validation_accuracy)


def test_true_labels_of_base_examples_play_no_part_in_distillation(bars):
    "Class-blind base examples whose own labels are hidden from the run give the same labels."
    source = replace(bars, name="source")
    hidden = replace(source, labels=(source.labels + 1) % 3)
    first, second = (quick(bars, source=each, base=5) for each in (source, hidden))
    assert torch.equal(first.rows, second.rows) and torch.equal(first.labels, second.labels)


@pytest.fixture
def validations(monkeypatch):
    "The iterations after which labels are validated."
    seen, validate = [], loops.validate

    def watched(task, distiller, seed, progress):
        seen.append(len(progress.curve))
        return validate(task, distiller, seed, progress)

    monkeypatch.setattr(loops, "validate", watched)
    return seen


@pytest.mark.parametrize(
    ("outer_batch", "iterations", "expected"),
    [
        pytest.param(84, 250, [100, 200, 250], id="one iteration an epoch: every hundred, and the end"),
        pytest.param(28, 250, [102, 204, 250], id="three iterations an epoch: whole epochs, at least a hundred iterations"),
        pytest.param(2, 450, [126, 252, 378, 450], id="forty-two iterations an epoch: a short run, a hundred apart"),
        pytest.param(4, 525, [105, 210, 315, 420, 525], id="twenty-five epochs of twenty-one iterations: every five epochs"),
        pytest.param(84, 1, [1], id="a single iteration is validated"),
        pytest.param(84, 100, [100], id="an end that falls on a validation is validated once"),
    ],
)
def test_validation_comes_every_five_epochs_but_a_hundred_iterations_apart_and_at_the_end(
    bars, validations, outer_batch, iterations, expected
):
    learned = quick(bars, iterations=iterations, outer_batch=outer_batch, base=3)
    assert validations == expected
    assert learned.settings["best iteration"] in expected


@pytest.mark.parametrize("outer_batch", [1024, 250])
@pytest.mark.parametrize("inner_steps", [None, 20, 30])
def test_runs_of_the_papers_length_are_validated_every_five_epochs(outer_batch, inner_steps):
    per_epoch = -(-50_000 // outer_batch)
    for epochs in (40, 100, 400):
        schedule = Schedule(iterations=epochs * per_epoch, outer_batch=outer_batch)
        assert epochs_between_validations(schedule, 50_000, inner_steps) == 5


@pytest.mark.parametrize("outer_batch, window", [(21, 2), (84, 10)])
def test_validation_takes_at_most_a_third_of_the_passes(bars, validations, outer_batch, window):
    method = Unrolled(window=window, init="uniform")
    quick(bars, method, iterations=120, outer_batch=outer_batch, base=3)
    task, distiller = tiny_task(bars, 3, method, Schedule(iterations=120, outer_batch=outer_batch))
    cost = validation_cost(task, distiller)
    assert cost > 1 and validations[-1] == 120
    assert all(after - before >= 2 * cost for before, after in pairwise([0, *validations[:-1]]))
    assert validation_cost(*tiny_task(bars, 3, method, student=Student(steps=5))) == 0.0
    costs = [validation_cost(*tiny_task(bars, 3, method, Schedule(iterations=9, outer_batch=size))) for size in (84, 1024)]
    assert costs[0] == costs[1]  # an iteration has no more images than there are
    for name in PAPER:  # T_i is counted on the way
        assert validation_cost(*tiny_task(bars, 3, PAPER[name])) == 0.0


@given(st.floats(0, 1000), st.integers(1, 100))
def test_more_costly_validations_are_rarer(cost, per_epoch):
    every = epochs_between_validations(Schedule(iterations=400 * per_epoch, outer_batch=1), per_epoch, 30, cost)
    assert every * per_epoch >= 2 * cost and (every <= max(5, 100) or (every - 1) * per_epoch < 2 * cost)


def test_more_or_fewer_validations_may_be_asked_for(bars, validations):
    quick(bars, iterations=30, outer_batch=21, base=3, validate_every=2)  # four iterations an epoch
    assert validations == [8, 16, 24, 30]
    with pytest.raises(InputError, match="--validate-every 0: must be at least 1"):
        quick(bars, validate_every=0)
    with pytest.raises(InputError, match="--validate-every: method 'expert' has no outer loop"):
        distill(Task(bars, 3), Expert(), schedule=Schedule(validate_every=2), compute=CPU)


@given(st.integers(8, 1000), st.integers(1, 300), st.integers(1, 60))
def test_runs_of_any_length_are_validated_at_least_eight_times_unless_that_is_too_often(epochs, per_epoch, inner_steps):
    every = epochs_between_validations(Schedule(iterations=epochs * per_epoch, outer_batch=1), per_epoch, inner_steps)
    assert epochs // every >= 8 or (every - 1) * per_epoch * inner_steps < 100 <= every * per_epoch * inner_steps


def test_the_labels_with_the_best_validation_are_kept(bars, monkeypatch):
    scores, kept = iter([40.0, 80.0, 60.0]), {}

    def accuracy(self, module, batch=1000):
        return next(scores)

    def remember(task, distiller, seed, progress, validate=loops.validate):
        kept[len(progress.curve)] = progress.state.params.clone()
        return validate(task, distiller, seed, progress)

    monkeypatch.setattr(ImageSet, "accuracy", accuracy)
    monkeypatch.setattr(loops, "validate", remember)
    learned = quick(bars, iterations=300, outer_batch=84)
    assert learned.validation_accuracy == 80.0 and learned.settings["best iteration"] == 200
    assert torch.equal(learned.labels, kept[200])


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([80.0, 79.999, 79.5, 79.0, 50.0], 1),
        ([50.0, 80.0, 79.01, 80.01, 80.0], 4),
        ([80.0, 70.0, 80.0], 3),
        ([0.0, 0.0], 2),
        ([0.0], 1),
        ([10.0, 10.5, 11.25, 11.5], 4),
    ],
    ids=str,
)
def test_worse_labels_are_never_kept_however_close_and_ties_go_to_the_later(bars, monkeypatch, scores, kept):
    task, distiller = tiny_task(bars, 6, PAPER["ridge"], network=user_networks.plain)
    progress = start(task, distiller, 1)
    first = progress.state.params
    monkeypatch.setattr(loops, "_validate_student", lambda *now: (10 * len(now[-1].curve), scores[len(now[-1].curve) - 1]))
    for i in range(1, len(scores) + 1):
        state = progress.state._replace(params=first + i)
        progress, _ = loops.validate(task, distiller, 1, progress._replace(state=state, curve=torch.zeros(i, 2)))
    best = progress.best
    assert (int(best.iteration), int(best.steps), float(best.accuracy)) == (kept, 10 * kept, max(scores))
    assert torch.equal(best.params, first + kept)


def test_epochs_are_counted_over_the_training_part(bars, steps_done):
    learned = quick(bars, iterations=None, epochs=3, outer_batch=32)  # 84 training images
    assert len(steps_done) == 9 and learned.settings["iterations"] == 9


def test_a_callback_hears_of_each_validation(bars, validations):
    heard = []
    learned = quick(bars, iterations=250, outer_batch=84, callback=heard.append)
    assert [event.iteration for event in heard] == validations == [100, 200, 250]
    assert heard[-1].accuracy == learned.validation_accuracy == max(event.accuracy for event in heard)
    assert all(event.labels.shape == (6, 3) for event in heard)


def test_a_network_that_overfits_is_replaced_and_labels_and_their_adam_go_on(bars, monkeypatch):
    task, distiller = tiny_task(bars, 6, PAPER["ridge"], Schedule(iterations=120, outer_batch=84), network=user_networks.plain)
    monkeypatch.setattr(ridge, "top1_error", lambda logits, targets: torch.tensor(50.0))  # never an improvement
    seen = []
    before_each_step("ridge", monkeypatch, seen.append)
    progress = learn(task, distiller, 7)
    assert progress.resets.tolist() == [101]  # a window of fifty is full at 50, then 51 steps without a new minimum
    network = seen[101].train_state
    assert torch.equal(network.theta, distiller.init_state(network_seed(7, 1)).theta)
    assert not torch.equal(network.theta, seen[0].train_state.theta)
    assert network.opt_state[0].step == 0 and network.aux.weights.eq(0).all() and network.aux.scale == 1
    assert seen[101].opt_state[0].step == 101 and not torch.equal(seen[101].params, seen[0].params)
    assert progress.best.steps == 50


@pytest.mark.parametrize("at", [0, 100, 200])
def test_an_interruption_brings_the_best_labels_along(bars, validations, at):
    def interrupt(event):
        if event.iteration == at:
            raise KeyboardInterrupt

    labels = torch.eye(3)[torch.arange(6) % 3]
    with pytest.raises(KeyboardInterrupt) as caught:
        quick(bars, replace(PAPER["ridge"], init=labels), iterations=250, outer_batch=84, callback=interrupt)
    kept = caught.value.labels
    assert kept.settings["best iteration"] <= at == kept.settings["interrupted at iteration"] == len(kept.curve)
    assert kept.interruption == f", interrupted at iteration {at} of 250" and (at or torch.equal(kept.labels, labels))


def test_what_is_known_at_the_start_survives_an_interruption_of_the_first_iteration(bars, monkeypatch):
    def interrupt(state):
        raise KeyboardInterrupt

    before_each_step("ridge", monkeypatch, interrupt)
    labels = torch.eye(3)[torch.arange(6) % 3]
    with pytest.raises(KeyboardInterrupt) as caught:
        quick(bars, replace(PAPER["ridge"], init=labels), iterations=250, outer_batch=84)
    kept = caught.value.labels
    assert torch.equal(kept.labels, labels) and kept.curve.shape == (0, 3) and kept.settings["interrupted at iteration"] == 0


# Numbers that stop being numbers


@pytest.mark.parametrize("part", ["network", "labels"])
@pytest.mark.parametrize("bad", [1, 5])
def test_nan_is_reported_with_its_iteration(bars, name, bad, part, monkeypatch):
    count = 0

    def poison(state):
        nonlocal count
        count += 1
        if count == bad and part == "labels":
            return state._replace(params=state.params.index_fill(0, torch.tensor(0), -9.0))
        if count == bad:
            return state._replace(train_state=state.train_state._replace(theta=state.train_state.theta * torch.nan))
        return None

    before_each_step(name, monkeypatch, poison)
    with pytest.raises(InputError, match=rf"labels or loss became NaN or infinite at iteration {bad}\b"):
        quick(bars, PAPER[name], iterations=10, outer_batch=16)


# Checkpoints


class Stop(Exception):
    "The run is killed."


def stopped_run(bars, folder, name, method, network, at, monkeypatch, **options):
    "A run that dies in iteration `at`, with a checkpoint from the validation before."
    count = 0

    def mortal(state):
        nonlocal count
        count += 1
        if count == at:
            raise Stop

    with monkeypatch.context() as patch:
        before_each_step(name, patch, mortal)
        with pytest.raises(Stop):
            quick(bars, method, network=network, checkpoint=folder, **options)


@pytest.mark.parametrize("network", [user_networks.plain, user_networks.dropping], ids=["plain", "dropping"])
def test_a_resumed_run_ends_like_an_uninterrupted_one_and_repeats_nothing(bars, tmp_path, monkeypatch, steps_done, name, network):
    method = replace(PAPER[name], monitor_window=3)  # so that there are resets before and after
    options = {"iterations": 240, "outer_batch": 84}
    whole = quick(bars, method, network=network, **options)
    stopped_run(bars, tmp_path / "kept", name, method, network, 150, monkeypatch, **options)
    steps_done.clear()
    torch.manual_seed(99)
    resumed = quick(bars, method, network=network, checkpoint=tmp_path / "kept", resume=True, **options)
    assert len(steps_done) == 140  # validated and kept at 100
    assert torch.equal(resumed.labels, whole.labels) and torch.equal(resumed.curve, whole.curve)
    assert resumed.resets == whole.resets and whole.resets[0] < 100 < whole.resets[-1]
    assert (resumed.student, resumed.validation_accuracy) == (whole.student, whole.validation_accuracy)
    assert resumed.settings == whole.settings


def test_labels_that_were_best_before_the_interruption_are_kept(bars, tmp_path, monkeypatch):
    scores = iter([40.0, 80.0, 60.0])  # after 100 and 200 iterations, then at the end
    monkeypatch.setattr(ImageSet, "accuracy", lambda self, module, batch=1000: next(scores))
    options = {"iterations": 300, "outer_batch": 84}
    stopped_run(bars, tmp_path, "ridge", PAPER["ridge"], user_networks.plain, 250, monkeypatch, **options)
    resumed = quick(bars, checkpoint=tmp_path, resume=True, **options)
    assert resumed.validation_accuracy == 80.0 and resumed.settings["best iteration"] == 200


def test_resuming_a_finished_run_computes_nothing_and_gives_its_labels(bars, tmp_path, steps_done):
    first = quick(bars, checkpoint=tmp_path)
    steps_done.clear()
    again = quick(bars, checkpoint=tmp_path, resume=True)
    assert not steps_done and torch.equal(first.labels, again.labels)


def test_resuming_where_nothing_is_starts_from_the_beginning(bars, tmp_path):
    assert torch.equal(quick(bars, checkpoint=tmp_path / "new", resume=True).labels, quick(bars).labels)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 8}, "base rows|seed"),
        ({"iterations": 7}, "schedule.iterations = 6, not 7"),
        ({"outer_batch": 16}, "schedule.outer_batch = 32, not 16"),
        ({"method": PAPER["second-order"]}, "method = ridge, not second-order"),
        ({"method": Ridge(lam=2.0)}, "method.ridge.lam = 1.0, not 2.0"),
        ({"network": user_networks.normed}, "network = user_networks:plain, not user_networks:normed"),
        ({"base": 3}, "base rows"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_and_kept(bars, tmp_path, snapshot, steps_done, other, named):
    quick(bars, checkpoint=tmp_path)
    before = snapshot(tmp_path)
    steps_done.clear()
    with pytest.raises(InputError, match=rf"checkpoint\.safetensors' was made with ({named})"):
        quick(bars, **({"checkpoint": tmp_path, "resume": True} | other))
    assert snapshot(tmp_path) == before and not steps_done


def test_a_checkpoint_of_another_seed_is_refused_also_where_no_base_examples_tell(bars, tmp_path):
    quick(bars, Ridge(learn="images"), checkpoint=tmp_path)
    with pytest.raises(InputError, match="was made with seed = 7, not 8"):
        quick(bars, Ridge(learn="images"), checkpoint=tmp_path, resume=True, seed=8)


def test_a_checkpoint_of_other_data_is_refused(bars, make_dataset, tmp_path):
    quick(bars, checkpoint=tmp_path)
    with pytest.raises(InputError, match="was made with target"):
        quick(make_dataset(seed=3), checkpoint=tmp_path, resume=True)


def test_a_checkpoint_is_not_overwritten_without_resume(bars, tmp_path, snapshot):
    quick(bars, checkpoint=tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=r"holds a checkpoint: resume it \(--resume\) or choose another folder"):
        quick(bars, checkpoint=tmp_path)
    assert snapshot(tmp_path) == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def overwrite(path):
    path.write_text("nothing")


def rewrite(path, change):
    "The right settings, but other tensors."
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in sorted(file.keys())}
    save_file(change(tensors), path, metadata)


def strip(path):
    rewrite(path, lambda tensors: dict([*tensors.items()][::2]))


def change_a_number(path):
    rewrite(path, lambda tensors: tensors | {"run.curve": tensors["run.curve"] + 1})


def flatten_the_curve(path):
    rewrite(path, lambda tensors: tensors | {"run.curve": tensors["run.curve"].flatten()})


def without_description(path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, path, {"format": "labeldistill-checkpoint/2", "run": json.dumps(None)})


@pytest.mark.parametrize("damage", [cut, overwrite, strip, without_description, change_a_number, flatten_the_curve])
def test_a_damaged_checkpoint_is_refused(bars, tmp_path, damage):
    quick(bars, checkpoint=tmp_path)
    damage(tmp_path / "checkpoint.safetensors")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        quick(bars, checkpoint=tmp_path, resume=True)


def test_tensors_of_something_else_are_no_checkpoint(bars, tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "checkpoint.safetensors", {"settings": json.dumps({"seed": 7})})
    with pytest.raises(InputError, match="is not a checkpoint that can be read"):
        quick(bars, checkpoint=tmp_path, resume=True)


# The baseline


@pytest.mark.parametrize("head", ["linear", "ridge"])
def test_a_baseline_is_reproducible_and_learns_the_bars(bars, head):
    first, second = (
        test_on(true_labels(Task(bars, 6, network=user_networks.plain), 0.1), bars, student=Student(head=head)) for _ in range(2)
    )
    assert first == second
    assert first.accuracy_mean > 80 and len(first.accuracies) == 2 and first.steps in range(10, 1001)


def test_a_folder_of_other_files_is_no_checkpoint_folder(bars, tmp_path, steps_done):
    (tmp_path / "photo.png").touch()
    with pytest.raises(InputError, match=r"--checkpoint '.*': holds other files; expected a new or empty folder"):
        quick(bars, checkpoint=tmp_path)
    (tmp_path / "photo.png").rename(tmp_path / "checkpoint.txt")
    with pytest.raises(InputError, match=r"--checkpoint '.*': holds other files; expected a new or empty folder"):
        quick(bars, checkpoint=tmp_path, resume=True)
    assert steps_done == [] and [path.name for path in tmp_path.iterdir()] == ["checkpoint.txt"]
    (tmp_path / "checkpoint.txt").rename(tmp_path / ".hidden")
    quick(bars, checkpoint=tmp_path)
    (tmp_path / "labels.txt").touch()  # beside a checkpoint
    quick(bars, checkpoint=tmp_path, resume=True)
