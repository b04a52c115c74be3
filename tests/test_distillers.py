"""Distillation runs: pure iterations, reproducible, resumable, blind to the test part, and kind to user-made networks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import user_networks
from hypothesis import given
from hypothesis import strategies as st

from labeldistill import baseline, distill, distillers, evaluate
from labeldistill.data import InputError, split
from labeldistill.distillers import METHODS, Batch, Checkpoint, Schedule, State, distill_labels, epochs_between_validations
from labeldistill.labels import adam_start
from labeldistill.monitor import monitor_start
from labeldistill.networks import make_network
from labeldistill.runs import Opening, Scene

NETWORKS = {name: getattr(user_networks, name) for name in ("plain", "normed", "dropping")}
METHOD_NAMES = list(METHODS)


@pytest.fixture(params=METHOD_NAMES)
def method_name(request):
    return request.param


@pytest.fixture
def scene(bars):
    return lambda network="lenet", base=6: Scene(bars, base, None, None, network, None, 1, "cpu", Opening(None))


@pytest.fixture
def steps_done(monkeypatch):
    "The iterations really computed, of either method."
    calls = []
    for method in METHODS.values():

        def counted(self, state, batch, step=method.step):
            calls.append(batch)
            return step(self, state, batch)

        monkeypatch.setattr(method, "step", counted)
    return calls


def quick(target, method="ridge", iterations=6, network=user_networks.plain, base=6, **options):
    options = {"outer_batch": 32, "device": "cpu", "show_progress": False, "seed": 7} | options
    return distill(target, base, method, network=network, iterations=iterations, **options)


def flat(tree):
    return distillers.named_tensors(tree, "x")


# One iteration


@pytest.mark.parametrize("network", ["lenet", *NETWORKS.values()], ids=["lenet", *NETWORKS])
def test_an_iteration_changes_nothing_it_is_given_and_repeats_itself(method_name, network, make_dataset):
    data = make_dataset()
    method = METHODS[method_name](make_network(network, 1, 16, 3))
    labels = torch.full((6, 3), 1 / 3)
    state = State(labels, adam_start(labels), method.start(5), monitor_start(50))
    images = data.images.float() / 255
    batch = Batch(torch.tensor([4, 0, 2, 5]), images[:4], images[10:42], data.labels[10:42])
    before = {name: tensor.clone() for name, tensor in flat(state).items()}, [tensor.clone() for tensor in batch]
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(method.step(state, batch))
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in flat(state).items())
    assert all(torch.equal(a, b) for a, b in zip(batch, before[1], strict=True))
    (one, seen), (two, seen_again) = results
    assert torch.equal(seen, seen_again)
    assert all(torch.equal(tensor, flat(two)[name]) for name, tensor in flat(one).items())
    assert not torch.equal(one.learned, labels) and not any(tensor.requires_grad for tensor in flat(one).values())


def test_labels_stay_probabilities_and_the_absent_rows_start_unmoved(method_name, scene):
    problem, method = scene().problem(), METHODS[method_name](scene().network)
    progress = distillers.start(problem, method, 1)
    batches = [distillers.make_batch(problem, draw) for draw in distillers.epoch_draws(problem, Schedule(30, 16, 4), 1, 0)]
    state = progress.state
    for number, batch in enumerate(batches):
        state, _ = method.step(state, batch)
        assert torch.allclose(state.learned.sum(1), torch.ones(6), atol=1e-5) and (state.learned >= 0).all()
        if number == 0:
            moved = (state.learned != progress.state.learned).any(1)
            assert moved.nonzero().flatten().tolist() == sorted(batch.rows.tolist())


def test_an_epoch_sees_every_training_image_once_and_inner_batches_without_repetition(scene):
    problem = scene().problem()
    batches = [distillers.make_batch(problem, draw) for draw in distillers.epoch_draws(problem, Schedule(99, 32, 4), 3, 0)]
    assert [len(batch.targets) for batch in batches] == [32, 32, 20]
    seen = torch.cat([batch.outer_images for batch in batches]).flatten(1).sum(1).sort().values
    assert torch.allclose(seen, problem.normalise(problem.images).flatten(1).sum(1).sort().values)
    assert all(len(set(batch.rows.tolist())) == 4 for batch in batches)
    assert len({tuple(batch.rows.tolist()) for batch in batches}) > 1


# Runs


@pytest.mark.parametrize("network", ["lenet", *NETWORKS.values()], ids=["lenet", *NETWORKS])
def test_the_same_seed_gives_the_same_result_and_leaves_global_randomness_alone(bars, method_name, network, random_states):
    torch.manual_seed(1)
    first = quick(bars, method_name, network=network)
    torch.manual_seed(2)
    before = random_states()
    second = quick(bars, method_name, network=network)
    assert random_states() == before
    assert torch.equal(first.labels, second.labels) and torch.equal(first.curve, second.curve)
    assert first.validation_accuracy == second.validation_accuracy and first.steps == second.steps
    assert first.labels.isfinite().all() and torch.allclose(first.labels.sum(1), torch.ones(6), atol=1e-5)
    assert not torch.equal(first.labels, quick(bars, method_name, network=network, seed=8).labels)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_test_and_leaves_global_randomness_alone(distilled, network, random_states):
    options = {"network": NETWORKS[network], "head": "linear", "models": 3, "steps": 2, "device": "cpu", "show_progress": False}
    torch.manual_seed(1)
    first = evaluate(distilled, **options)
    torch.manual_seed(2)
    before = random_states()
    assert evaluate(distilled, **options) == first
    assert random_states() == before
    assert evaluate(distilled, seed=5, **options).accuracies != first.accuracies


def test_more_models_do_not_change_the_first_ones(distilled):
    options = {"network": user_networks.plain, "steps": 5, "device": "cpu", "show_progress": False}
    assert evaluate(distilled, models=4, **options).accuracies[:2] == evaluate(distilled, models=2, **options).accuracies


def test_labels_learned_on_bars_say_what_the_bars_are(bars, method_name):
    learned = quick(bars, method_name, iterations=600)
    assert (learned.labels.argmax(1) == learned.base_labels).all()
    assert evaluate(learned, bars, models=2, device="cpu", show_progress=False).accuracy_mean > 90


@pytest.mark.parametrize("official", [False, True], ids=["drawn test part", "official test part"])
def test_distillation_never_looks_at_the_test_part(bars, method_name, official):
    data = replace(bars, test_size=30) if official else bars
    test = split(data).test
    images, labels = data.images.clone(), data.labels.clone()
    images[test] = 255 - images[test].flip(0)
    if official:
        labels[test] = labels[test].flip(0)
    poisoned = replace(data, images=images, labels=labels)
    assert poisoned.sha256 != data.sha256
    clean, other = (quick(each, method_name, iterations=20) for each in (data, poisoned))
    assert torch.equal(clean.labels, other.labels) and torch.equal(clean.curve, other.curve)
    assert clean.normalisation == other.normalisation
    assert (clean.steps, clean.validation_accuracy) == (other.steps, other.validation_accuracy)


def test_true_labels_of_base_examples_play_no_part_in_distillation(bars):
    "Class-blind base examples whose own labels are hidden from the run give the same labels."
    source = replace(bars, name="source")
    hidden = replace(source, labels=(source.labels + 1) % 3)
    first, second = (quick(bars, source=each, base=5) for each in (source, hidden))
    assert torch.equal(first.rows, second.rows) and torch.equal(first.labels, second.labels)


@pytest.fixture
def validations(monkeypatch):
    "The iterations after which labels are validated."
    seen, validate = [], distillers.validate

    def watched(problem, method, schedule, seed, progress):
        seen.append(len(progress.curve))
        return validate(problem, method, schedule, seed, progress)

    monkeypatch.setattr(distillers, "validate", watched)
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
    problem, per_epoch = SimpleNamespace(images=range(50_000)), -(-50_000 // outer_batch)
    for epochs in (40, 100, 400):
        schedule = Schedule(epochs * per_epoch, outer_batch, 10)
        assert epochs_between_validations(problem, schedule, inner_steps) == 5


def test_a_wish_for_more_or_fewer_validations_is_met(bars, validations):
    learned = quick(bars, iterations=30, outer_batch=21, base=3, validate_every=2)  # four iterations an epoch
    assert validations == [8, 16, 24, 30] and learned.settings["validate every"] == 2
    with pytest.raises(InputError, match="--validate-every 0: must be at least 1"):
        quick(bars, validate_every=0)
    with pytest.raises(InputError, match="--validate-every: only with"):
        distill(bars, 3, "expert", validate_every=2)


@given(st.integers(8, 1000), st.integers(1, 300), st.integers(1, 60))
def test_runs_of_any_length_are_validated_at_least_eight_times_unless_that_is_too_often(epochs, per_epoch, inner_steps):
    problem, schedule = SimpleNamespace(images=range(per_epoch)), Schedule(epochs * per_epoch, 1, 10)
    every = epochs_between_validations(problem, schedule, inner_steps)
    assert epochs // every >= 8 or (every - 1) * per_epoch * inner_steps < 100 <= every * per_epoch * inner_steps


def test_the_labels_with_the_best_validation_are_kept(bars, monkeypatch):
    scores, kept = iter([40.0, 80.0, 60.0]), {}

    def accuracy(self, module, batch=1000):
        return next(scores)

    def remember(problem, method, schedule, seed, progress, validate=distillers.validate):
        kept[len(progress.curve)] = progress.state.learned.clone()
        return validate(problem, method, schedule, seed, progress)

    monkeypatch.setattr(distillers.Exam, "accuracy", accuracy)
    monkeypatch.setattr(distillers, "validate", remember)
    learned = quick(bars, iterations=300, outer_batch=84)
    assert learned.validation_accuracy == 80.0 and learned.settings["best iteration"] == 200
    assert torch.equal(learned.labels, kept[200])


def test_epochs_are_counted_over_the_training_part(bars, steps_done):
    learned = quick(bars, iterations=None, epochs=3, outer_batch=32)  # 84 training images
    assert len(steps_done) == 9 and learned.settings["iterations"] == 9


def test_a_network_that_overfits_is_replaced_and_labels_and_their_adam_go_on(scene, monkeypatch):
    place = scene(user_networks.plain)
    problem, method, schedule = place.problem(), METHODS["ridge"](place.network), Schedule(120, 84, 6)
    monkeypatch.setattr(distillers, "top1_error", lambda logits, targets: torch.tensor(50.0))  # never an improvement
    seen, step = [], method.step

    def watched(state, batch):
        seen.append(state)
        return step(state, batch)

    method.step = watched
    progress = distill_labels(problem, method, schedule, 7, show_progress=False)
    assert progress.resets.tolist() == [101]  # a window of fifty is full at 50, then 51 steps without a new minimum
    after = seen[101]
    assert torch.equal(after.learner.theta, distillers.fresh_learner(method, 7, 1).theta)
    assert not torch.equal(after.learner.theta, seen[0].learner.theta)
    assert after.learner.adam.step == 0 and after.learner.weights.eq(0).all() and after.learner.scale == 1
    assert after.adam.step == 101 and not torch.equal(after.learned, seen[0].learned)
    assert progress.best.steps == 50


# Numbers that stop being numbers


@pytest.mark.parametrize("bad", [1, 5])
def test_nan_is_reported_with_its_iteration(scene, method_name, bad):
    place = scene(user_networks.plain)
    method = METHODS[method_name](place.network)
    count, step = 0, method.step

    def poisoned(state, batch):
        nonlocal count
        count += 1
        if count == bad:
            state = state._replace(learner=state.learner._replace(theta=state.learner.theta * torch.nan))
        return step(state, batch)

    method.step = poisoned
    with pytest.raises(InputError, match=rf"NaN or infinite at iteration {bad}\b"):
        distill_labels(place.problem(), method, Schedule(10, 16, 6), 1, show_progress=False)


def test_a_label_row_that_becomes_nan_is_reported_with_its_iteration(scene, method_name, monkeypatch):
    place, count, constrain = scene(user_networks.plain), 0, distillers.to_distribution

    def emptied(labels):
        nonlocal count
        count += 1
        return constrain(labels - 9 if count == 4 else labels)

    monkeypatch.setattr(distillers, "to_distribution", emptied)
    with pytest.raises(InputError, match=r"labels or loss became NaN or infinite at iteration 4\b"):
        distill_labels(place.problem(), METHODS[method_name](place.network), Schedule(10, 16, 6), 1, show_progress=False)


# Checkpoints


class Stop(Exception):
    "The run is killed."


def stopped_run(bars, folder, method, network, at, monkeypatch, **options):
    "A run that dies in iteration `at`, with a checkpoint from the validation before."
    count, step = 0, METHODS[method].step

    def mortal(self, state, batch):
        nonlocal count
        count += 1
        if count == at:
            raise Stop
        return step(self, state, batch)

    with monkeypatch.context() as patch:
        patch.setattr(METHODS[method], "step", mortal)
        with pytest.raises(Stop):
            quick(bars, method, network=network, checkpoint=folder, **options)


@pytest.mark.parametrize("network", [user_networks.plain, user_networks.dropping], ids=["plain", "dropping"])
def test_a_resumed_run_ends_like_an_uninterrupted_one_and_repeats_nothing(
    bars, tmp_path, monkeypatch, steps_done, method_name, network
):
    monkeypatch.setattr(distillers, "window_size", lambda count, classes: 3)  # so that there are resets before and after
    options = {"iterations": 240, "outer_batch": 84}
    whole = quick(bars, method_name, network=network, **options)
    stopped_run(bars, tmp_path / "kept", method_name, network, 150, monkeypatch, **options)
    steps_done.clear()
    torch.manual_seed(99)
    resumed = quick(bars, method_name, network=network, checkpoint=tmp_path / "kept", resume=True, **options)
    assert len(steps_done) == 140  # validated and kept at 100
    assert torch.equal(resumed.labels, whole.labels) and torch.equal(resumed.curve, whole.curve)
    assert resumed.resets == whole.resets and whole.resets[0] < 100 < whole.resets[-1]
    assert (resumed.steps, resumed.validation_accuracy) == (whole.steps, whole.validation_accuracy)
    assert resumed.settings == whole.settings


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
        ({"iterations": 7}, "iterations = 6, not 7"),
        ({"outer_batch": 16}, "outer batch = 32, not 16"),
        ({"method": "second-order"}, "method = ridge, not second-order"),
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


def strip(path):
    "The right settings, but half of the tensors."
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        names, metadata = sorted(file.keys()), file.metadata()
        tensors = {name: file.get_tensor(name) for name in names[::2]}
    save_file(tensors, path, metadata)


def without_settings(path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, path, {"settings": json.dumps(None)})


@pytest.mark.parametrize("damage", [cut, overwrite, strip, without_settings])
def test_a_damaged_checkpoint_is_refused(bars, tmp_path, damage):
    quick(bars, checkpoint=tmp_path)
    damage(tmp_path / "checkpoint.safetensors")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        quick(bars, checkpoint=tmp_path, resume=True)


def test_a_failing_checkpoint_leaves_the_one_before(scene, tmp_path, monkeypatch, snapshot):
    place = scene(user_networks.plain)
    problem, method = place.problem(), METHODS["ridge"](place.network)
    progress = distillers.start(problem, method, 1)
    checkpoint = Checkpoint(tmp_path, {"seed": 1}, resume=False)
    checkpoint.save(progress)
    before = snapshot(tmp_path)

    def failing(tensors, part, metadata):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(distillers, "save_file", failing)
    with pytest.raises(InputError, match="No space left"):
        checkpoint.save(progress)
    assert snapshot(tmp_path) == before


# The baseline


@pytest.mark.parametrize("head", ["linear", "ridge"])
def test_a_baseline_is_reproducible_and_learns_the_bars(bars, head):
    options = {"head": head, "network": user_networks.plain, "models": 2, "device": "cpu", "show_progress": False}
    first = baseline(bars, 6, label_smoothing=0.1, **options)
    assert first == baseline(bars, 6, label_smoothing=0.1, **options)
    assert first.accuracy_mean > 80 and len(first.accuracies) == 2 and first.steps in range(10, 1001)
