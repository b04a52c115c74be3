"Labels of experts: traces, what labels are made of, what is chosen and where, runs, and what is refused."

import math
from dataclasses import replace

import pytest
import torch
import user_networks
from scipy.spatial.distance import jensenshannon
from tqdm.auto import tqdm

from labeldistill import distill, evaluate, load_distilled
from labeldistill.data import InputError, generator, normalisation, split, stream
from labeldistill.distillers import Problem, Schedule
from labeldistill.evaluation import (
    Exam,
    LinearHead,
    Student,
    TrainingSet,
    best_steps,
    candidate_steps,
    mean_validation_curve,
    validation_curve,
)
from labeldistill.experts import (
    STOPPING_POINTS,
    TEMPERATURES,
    ExpertPlan,
    Trace,
    choose_labels,
    entropy,
    expert_labels,
    expert_points,
    jensen_shannon,
    keep_top,
    load_trace,
    log_spaced,
    save_trace,
    soften,
    steps_on_labels,
    swap_rank,
    trace_labels,
    train_experts,
)
from labeldistill.networks import make_network
from labeldistill.selection import train_on_real

POINTS, LOOKS = [2, 5, 9], [10, 30, 60]


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    "Students are looked at up to 60 steps, not 1,000."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labeldistill.experts.candidate_steps", lambda count: LOOKS)
        yield


@pytest.fixture(scope="module")
def network():
    return make_network(user_networks.plain, 1, 16, 3)


@pytest.fixture(scope="module")
def problem(make_dataset):
    data = make_dataset()
    parts = split(data)
    norm = normalisation(data, parts.train)
    exam = Exam(data.images[parts.valid], data.labels[parts.valid], norm)
    return Problem(norm(data.images[parts.train[:6]]), data.images[parts.train], data.labels[parts.train], norm, exam, 3)


@pytest.fixture(scope="module")
def trace(network, problem):
    "Two experts, three points. Not to be changed."
    return train_experts(network, problem, POINTS, 2, seed=4, batch=16, show_progress=False)


# Traces


@pytest.mark.parametrize(("first", "last", "count"), [(10, 2000, 12), (1, 6, 12), (7, 7, 5), (1, 1000, 4)])
def test_points_rise_from_the_first_to_the_last_by_about_the_same_factor(first, last, count):
    points = log_spaced(first, last, count)
    assert (points[0], points[-1]) == (first, last) and len(points) <= count
    assert points == sorted(set(points))
    if count == 4:
        assert points == [1, 10, 100, 1000]


def test_an_expert_at_a_point_is_one_that_stopped_there(network, problem, trace):
    real = Exam(problem.images, problem.targets, problem.normalise)
    for number, steps in enumerate(POINTS):
        alone = Student(LinearHead(network), "adam", stream(4, "expert", 1))
        module = train_on_real(alone, real, steps, generator(4, "expert batches", 1), 16)
        with torch.no_grad():
            torch.testing.assert_close(trace.logits[1, number], module(problem.base_images), rtol=0, atol=1e-6)
        assert trace.accuracies[1, number].item() == problem.validation.accuracy(module)
    assert trace.logits.shape == (2, 3, 6, 3) and trace.iterations.tolist() == POINTS
    assert not torch.equal(*trace.logits)


def test_watching_a_training_changes_nothing_and_sees_every_step(network, problem):
    real, seen, networks = Exam(problem.images, problem.targets, problem.normalise), [], []
    for watch in ({}, {"watch": seen.append}):
        networks.append(Student(LinearHead(network), "adam", 1))
        train_on_real(networks[-1], real, 14, generator(0, "x"), 16, **watch)
    assert seen == list(range(1, 15))
    assert torch.equal(networks[0].trained["theta"], networks[1].trained["theta"])


def test_a_trace_comes_back_from_its_file_and_another_file_is_refused(trace, tmp_path, labels_file):
    save_trace(trace, tmp_path / "trace.safetensors")
    assert all(torch.equal(*pair) for pair in zip(trace, load_trace(tmp_path / "trace.safetensors"), strict=True))
    for path in (labels_file, tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError) as caught:
            load_trace(path)
        assert "\n" not in str(caught.value)


# Labels


def test_temperature_one_is_the_softmax_and_heat_makes_labels_more_even():
    logits = torch.randn(5, 10, generator=generator(0, "x"))
    assert torch.equal(soften(logits), logits.softmax(1))
    bits = [entropy(soften(logits, t)).mean().item() for t in (0.1, 0.5, 1, 3, 1e6)]
    assert bits == sorted(bits) and bits[-1] == pytest.approx(math.log2(10), abs=1e-5)


def test_an_ensemble_speaks_with_the_mean_of_its_logits(trace):
    expected = ((trace.logits[0, 1] + trace.logits[1, 1]) / 2 / 3).softmax(1)
    torch.testing.assert_close(trace_labels(trace, 1, 3.0), expected)
    assert torch.equal(trace_labels(trace, 1, 3.0, 1), keep_top(trace_labels(trace, 1, 3.0), 1))


def test_top_k_keeps_the_largest_as_they_are():
    labels = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    assert keep_top(labels, 0).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert torch.equal(keep_top(labels, 1), torch.tensor([[0, 0.6, 0], [0.5, 0, 0]]))
    assert torch.equal(keep_top(labels, 2), torch.tensor([[0, 0.6, 0.3], [0.5, 0, 0.3]]))
    assert torch.equal(keep_top(labels, 3), labels) and torch.equal(keep_top(labels, 9), labels)


def test_the_jensen_shannon_distance_is_scipys():
    a, b = torch.randn(2, 20, 7, generator=generator(0, "x")).double().mul(3).softmax(-1)
    expected = torch.from_numpy(jensenshannon(a.numpy(), b.numpy(), base=2, axis=1))
    torch.testing.assert_close(jensen_shannon(a, b), expected, rtol=1e-9, atol=0)
    assert (jensen_shannon(a, a) < 1e-6).all()


def test_swapping_a_rank_exchanges_it_with_the_smallest():
    labels = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    assert torch.equal(swap_rank(labels, 1), torch.tensor([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3]]))
    assert torch.equal(swap_rank(labels, 2), torch.tensor([[0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]))
    assert torch.equal(swap_rank(labels, 3), labels)
    for rank in (0, 4):
        with pytest.raises(InputError, match="must be 1 to 3"):
            swap_rank(labels, rank)


# What is chosen


def made_up(points):
    "A trace whose labels tell point and temperature: logits log 1, log 2^(1 + point)."
    logits = torch.tensor([[0.0, (1 + point) * math.log(2)] for point in range(points)])
    return Trace(torch.arange(1, points + 1), logits[None, :, None], torch.zeros(1, points))


@pytest.mark.parametrize("wanted", [(1, 1.0), (3, 5.0), (0, 0.5)])
def test_the_search_finds_the_point_and_then_the_temperature(wanted):
    trace, asked = made_up(4), []
    best = trace_labels(trace, *wanted)

    def score(labels):
        asked.append(labels)
        return -(entropy(labels) - entropy(best)).abs().item()

    point, temperature = choose_labels(trace, ExpertPlan(), score, show_progress=False)
    torch.testing.assert_close(entropy(trace_labels(trace, point, temperature)), entropy(best), atol=0.05, rtol=0)
    assert len(asked) == 4 + len(TEMPERATURES) - 1


@pytest.mark.parametrize(
    ("plan", "points", "asked"),
    [
        (ExpertPlan(temperature=2.0), 4, 4),
        (ExpertPlan(iterations=3), 1, len(TEMPERATURES)),
        (ExpertPlan(iterations=3, temperature=2.0), 1, 0),
    ],
)
def test_what_is_given_is_not_searched_for_and_the_bar_fills(plan, points, asked, monkeypatch):
    scores = []

    def score(labels):
        scores.append(labels)
        return float(len(scores) == 2)

    bars = []
    monkeypatch.setattr("labeldistill.experts.tqdm", lambda **named: bars.append(tqdm(**named)) or bars[-1])
    point, temperature = choose_labels(made_up(points), plan, score)
    assert [(bar.n, bar.total) for bar in bars] == ([(asked, asked)] if asked else [])
    assert len(scores) == asked and (plan.temperature is None or temperature == plan.temperature)
    if asked:
        assert torch.equal(trace_labels(made_up(points), point, temperature), scores[1])


def test_points_are_what_is_wished_or_spaced_evenly_by_factors():
    assert expert_points(ExpertPlan(iterations=37), 100) == [37]
    assert expert_points(ExpertPlan(), 4) == [4]
    points = expert_points(ExpertPlan(), 1955)
    assert len(points) == STOPPING_POINTS and (points[0], points[-1]) == (10, 1955)


def test_a_mean_curve_is_the_mean_of_curves_and_the_first_of_equals_is_best(network, problem):
    data = TrainingSet(problem.base_images, torch.eye(3).repeat(2, 1), 4)
    head, steps = LinearHead(network), [2, 4, 7]
    curve = mean_validation_curve(head, "sgd", data, problem.validation, 3, 2, steps)
    own = [stream(3, "curve", i) for i in range(2)]
    one, two = (validation_curve(Student(head, "sgd", s), data, problem.validation, s, False, steps) for s in own)
    assert curve == {step: (one[step] + two[step]) / 2 for step in steps}
    assert best_steps({10: 5.0, 20: 7.0, 30: 7.0}) == (20, 7.0)
    whole = validation_curve(Student(head, "sgd", own[0]), data, problem.validation, own[0], False)
    assert list(whole) == candidate_steps(6)


def test_a_temperature_that_logits_do_not_stand_is_refused():
    with pytest.raises(InputError, match="temperature 1e-40: too low for such logits"):
        trace_labels(made_up(1), 0, temperature=1e-40)


# Runs


def quick(target, base=6, **options):
    options = {"network": user_networks.plain, "iterations": 30, "device": "cpu", "show_progress": False, "seed": 7} | options
    return distill(target, base, "expert", **options)


@pytest.fixture(scope="module")
def labels_of_experts(bars_npz):
    "What two experts say about six bars. Not to be changed."
    return quick(bars_npz, ensemble=2)


def test_experts_labels_are_distilled_data_that_can_be_saved_and_tested(labels_of_experts, tmp_path):
    learned = labels_of_experts
    learned.save(tmp_path / "labels.safetensors")
    read = load_distilled(tmp_path / "labels.safetensors")
    assert torch.equal(read.labels, learned.labels) and read.settings == learned.settings
    assert (read.method, read.head, read.optimizer, read.rates) == ("expert", "linear", "adam", ())
    torch.testing.assert_close(read.labels.sum(1), torch.ones(6))
    found = evaluate(read, models=2, device="cpu", show_progress=False)
    assert found.accuracy_mean > 60 and found.steps == read.steps in LOOKS


def test_experts_may_be_of_another_network_than_their_students(bars_npz, labels_of_experts):
    other = quick(bars_npz, ensemble=2, expert_network="user_networks:normed")
    assert other.settings["expert network"] == "user_networks:normed" and "expert network" not in labels_of_experts.settings
    assert other.network == labels_of_experts.network and not torch.equal(other.labels, labels_of_experts.labels)
    same = quick(bars_npz, ensemble=2, expert_network=user_networks.plain)
    assert torch.equal(same.labels, labels_of_experts.labels)


def test_settings_say_what_was_wished_and_what_was_chosen(labels_of_experts):
    settings = labels_of_experts.settings
    assert settings["expert iterations"] == settings["expert temperature"] == "auto"
    assert (settings["ensemble"], settings["top k"], settings["iterations"]) == (2, None, 30)
    assert settings["stopping point"] in expert_points(ExpertPlan(), 30) and settings["temperature"] in TEMPERATURES
    assert len(settings["expert accuracies"]) == 2


def test_the_choice_is_made_of_the_trace(bars, network):
    given = quick(bars, expert_iterations=20, temperature=2, top_k=2, iterations=None)
    assert given.settings["iterations"] == given.settings["stopping point"] == 20 and given.settings["temperature"] == 2
    assert ((given.labels > 0).sum(1) == 2).all() and (given.labels.sum(1) < 1).all()
    hard = quick(bars, expert_iterations=20, temperature=2, top_k=0)
    assert torch.equal(hard.labels, keep_top(given.labels, 0))
    text = quick(bars, expert_iterations="20", temperature="2.0", top_k=2, iterations=None)
    assert torch.equal(text.labels, given.labels) and text.settings == given.settings


def test_no_expert_looks_at_the_test_part_or_at_true_classes_of_base_examples(bars):
    test, images, source = split(bars).test, bars.images.clone(), replace(bars, name="source")
    images[test] = 255 - images[test].flip(0)
    options = {"expert_iterations": 20, "temperature": 1}
    clean, other = (quick(data, source=source, **options) for data in (bars, replace(bars, images=images)))
    hidden = quick(bars, source=replace(source, labels=(bars.labels + 1) % 3), **options)
    assert torch.equal(clean.labels, other.labels) and clean.validation_accuracy == other.validation_accuracy
    assert torch.equal(clean.labels, hidden.labels)


def test_the_same_seed_gives_the_same_labels_and_leaves_the_global_state(bars, random_states):
    before = random_states()
    first, second = (quick(bars, expert_iterations=10) for _ in range(2))
    assert torch.equal(first.labels, second.labels) and first.settings == second.settings and random_states() == before
    assert not torch.equal(first.labels, quick(bars, expert_iterations=10, seed=8).labels)


def test_a_resumed_run_trains_only_the_experts_that_are_missing(bars, tmp_path, monkeypatch):
    options = {"ensemble": 2, "expert_iterations": 10, "temperature": 1}
    whole, trained = quick(bars, **options), []

    def watched(expert, *arguments):
        trained.append(expert)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_on_real(expert, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("labeldistill.experts.train_on_real", watched)
        with pytest.raises(KeyboardInterrupt):
            quick(bars, checkpoint=tmp_path / "kept", **options)
        resumed = quick(bars, checkpoint=tmp_path / "kept", resume=True, **options)
    assert len(trained) == 3
    assert torch.equal(resumed.labels, whole.labels) and resumed.settings == whole.settings


def test_experts_that_are_there_serve_other_temperatures_and_ensembles(bars, tmp_path, monkeypatch):
    options = {"expert_iterations": 10, "temperature": 1, "checkpoint": tmp_path / "kept"}
    quick(bars, ensemble=2, **options)
    trained = []

    def watched(*arguments):
        trained.append(arguments)
        return train_on_real(*arguments)

    monkeypatch.setattr("labeldistill.experts.train_on_real", watched)
    for ensemble, missing in ((1, 0), (3, 1), (2, 0)):
        other = options | {"temperature": 2, "ensemble": ensemble}
        fresh = quick(bars, **(other | {"checkpoint": None}))
        trained.clear()
        again = quick(bars, resume=True, **other)
        assert torch.equal(again.labels, fresh.labels) and again.settings == fresh.settings and len(trained) == missing
    with pytest.raises(InputError, match=r"was made with points = .10., not .20."):
        quick(bars, resume=True, **(options | {"expert_iterations": 20}))


def test_no_other_method_begins_in_the_folder_of_an_expert(bars, tmp_path):
    quick(bars, expert_iterations=10, temperature=1, checkpoint=tmp_path)
    with pytest.raises(InputError, match="holds a checkpoint: resume it"):
        distill(bars, 6, "ridge", checkpoint=tmp_path, network=user_networks.plain, device="cpu", show_progress=False)


def test_experts_whose_logits_become_nan_are_reported(network, problem):
    normalise = lambda images: images.float() * torch.nan  # noqa: E731
    with pytest.raises(InputError, match="an expert's logits became NaN"):
        train_experts(network, replace(problem, normalise=normalise), [1], 1, 0, show_progress=False)


def test_students_with_a_ridge_head_choose_too(problem, network):
    from labeldistill.evaluation import RidgeHead

    schedule = Schedule(20, 32, 6)
    found = expert_labels(network, RidgeHead(network), problem, schedule, ExpertPlan(20, 1.0), 0, show_progress=False)
    steps, accuracy = steps_on_labels(found.labels, RidgeHead(network), problem, schedule, 0)
    assert steps in LOOKS and accuracy > 50 and found.iterations == 20


# The command line

QUICK = ("--network", "user_networks:plain", "--device", "cpu", "--base-examples", 6)


def test_experts_run_from_the_command_line(command, bars_npz, tmp_path):
    out = tmp_path / "labels.safetensors"
    options = "--method expert --expert-iterations 20 --temperature auto --ensemble 2 --top-k 2".split()
    done = command("distill", "--target", bars_npz, "--out", out, *options, *QUICK)
    assert done.status == 0, done.err
    assert "6 labels" in done.out
    assert command("evaluate", out, "--models", 1, "--device", "cpu").status == 0
    assert command("show", out, "--out", tmp_path / "labels.png").status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--expert-iterations 10", "--expert-iterations: only with --method expert or --label-init expert"),
        ("--temperature auto", "--temperature: only with --method expert or --label-init expert"),
        ("--method unrolled --ensemble 2", "--ensemble: only with --method expert or --label-init expert"),
        ("--method unrolled --label-init expert --top-k 2", "--top-k: only with --method expert"),
        ("--method expert --temperature 0", "--temperature '0': wanted auto or a number above 0"),
        ("--method expert --temperature nan", "--temperature 'nan': wanted auto or a number above 0"),
        ("--method expert --temperature hot", "--temperature 'hot': wanted auto or a number above 0"),
        ("--method expert --expert-iterations 2.5", "--expert-iterations '2.5': wanted auto or a whole number above 0"),
        ("--method expert --expert-iterations 0", "--expert-iterations '0': wanted auto or a whole number above 0"),
        ("--method expert --expert-iterations 9 --iterations 8", "--expert-iterations 9: must be 1 to 8"),
        ("--method expert --ensemble 0", "--ensemble 0: must be at least 1"),
        ("--method expert --top-k -1", "--top-k -1: must be at least 0"),
        ("--method expert --top-k 4", "--top-k 4: must be 0 to 3, the number of classes"),
        ("--method expert --outer-batch 64", "--outer-batch 64: with --method expert it is 128"),
        ("--method expert --outer-batch 0", "--outer-batch 0: must be at least 1"),
        ("--method expert --precision bf16", "--precision: only with methods that learn by iterations"),
        ("--method expert --expert-iterations 100000000000000000000", "--expert-iterations '100000000000000000000': wanted auto"),
        ("--method expert --outer-batch 100000000000000000000", "--outer-batch 100000000000000000000: must be at most"),
        ("--method unrolled --window 1001", "--window 1001: must be at most 1000, the steps of a student"),
        ("--method unrolled --label-lr 0", "--label-lr 0.0: must be above 0"),
        ("--method ridge --label-lr 0.1", "--label-lr: only with --method unrolled"),
        ("--method ridge --expert-network lenet", "--expert-network: only with --method expert or --label-init expert"),
        ("--method expert --window 5", "--window: only with --method unrolled"),
        ("--method expert --expert-network nonsense", "--expert-network 'nonsense': wanted"),
        ("--method expert --label-init uniform", "--label-init: only with --method dd or unrolled"),
        ("--method expert --learn images", "--method 'expert': with --learn images wanted ridge, second-order, dd"),
        ("--method dd --learn both --label-init expert", "--label-init expert: only with --learn labels"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(command, bars_npz, tmp_path, options, message):
    out = tmp_path / "labels.safetensors"
    done = command("distill", "--target", bars_npz, *options.split(), "--out", out, *QUICK)
    assert (done.status, done.out) == (2, "") and not out.exists()
    assert done.err.startswith(f"error: {message}") and done.err.count("\n") == 1
