"""Options of the runs: how base examples are chosen, how much of the target is used, both kinds of accuracy."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labeldistill import baseline, distill, evaluate, runs
from labeldistill.artefact import load_distilled
from labeldistill.catalogue import load
from labeldistill.cli import main
from labeldistill.data import Dataset, InputError, Normalisation, Split, split
from labeldistill.evaluation import Evaluation, Exam
from labeldistill.runs import OUTER_BATCH, Opening, Scene, make_schedule, shorten


def tiny(channels, image_size, classes):
    hidden = nn.Linear(channels * image_size**2, 24)
    return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), nn.Linear(24, classes))


QUICK = {"outer_batch": 64, "device": "cpu", "show_progress": False, "network": tiny}


def quick(base=10, method="ridge", target="digits", iterations=3, **options):
    return distill(target, base, method, **{"iterations": iterations} | QUICK | options)


# Plain and class-balanced accuracy


class Answers(nn.Module):
    "A network that reads its answer off the first pixel."

    def forward(self, images):
        return nn.functional.one_hot((images[:, 0, 0, 0] * 255).round().long(), 10).float()


def exam(answers, labels):
    images = torch.as_tensor(answers, dtype=torch.uint8).view(-1, 1, 1, 1)
    return Exam(images, torch.as_tensor(labels), Normalisation((0.0,), (1.0,)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=50))
def test_accuracies_are_the_share_of_right_answers_and_the_mean_of_those_of_the_classes(pairs):
    answers, labels = zip(*pairs, strict=True)
    asked = exam(answers, labels)
    plain, balanced = asked.accuracies(Answers(), batch=7)
    right = [a == b for a, b in pairs]
    of_class = [[r for r, b in zip(right, labels, strict=True) if b == c] for c in set(labels)]
    assert plain == asked.accuracy(Answers()) == pytest.approx(100 * sum(right) / len(right))
    assert balanced == pytest.approx(100 * sum(sum(c) / len(c) for c in of_class) / len(of_class))


def test_an_evaluation_reports_both():
    record = Evaluation((80.0, 90.0), (50.0, 70.0), 10, "linear", "lenet", "adam", 0).as_dict()
    assert record["accuracy_mean"] == 85 and record["balanced_accuracy_mean"] == 60
    assert record["balanced_accuracy_std"] == pytest.approx(200**0.5)
    assert json.loads(json.dumps(record)) == record


def test_runs_report_both():
    evaluation = evaluate(quick(), models=2, steps=2, show_progress=False)
    assert len(evaluation.accuracies) == len(evaluation.balanced_accuracies) == 2


def test_imbalance_tells_them_apart():
    digits = load("digits")
    rows = torch.cat([(digits.labels == 0).nonzero().flatten()[:150], (digits.labels == 1).nonzero().flatten()[:20]])
    two = Dataset("two", digits.images[rows], digits.labels[rows], ("zero", "one"))
    test = split(two).test
    zeros = Exam(two.images[test], two.labels[test], Normalisation((0.0,), (1.0,)))

    class Zero(nn.Module):
        def forward(self, images):
            return torch.eye(2)[torch.zeros(len(images), dtype=torch.long)]

    plain, balanced = zeros.accuracies(Zero())
    assert plain > 80 and balanced == 50


# The size of the target


@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.data())
def test_a_shorter_split_is_the_beginning_of_the_longer_and_keeps_the_test_part(train, valid, counted, data):
    whole = Split(*torch.arange(train + valid + 5).split([train, valid, 5]))
    low, high = (2, train + valid) if counted else (1, train)
    size = data.draw(st.integers(low, high))
    short = shorten(whole, size, counted)
    assert all(torch.equal(a, b[: len(a)]) for a, b in zip(short, whole, strict=True))
    assert len(short.test) == 5 and len(short.train) > 0 and len(short.valid) > 0
    assert len(short.train) + counted * len(short.valid) == size
    for impossible in (low - 1, high + 1):
        with pytest.raises(InputError, match=f"--target-size {impossible}: must be {low} to {high}"):
            shorten(whole, impossible, counted)


def test_a_smaller_training_part_keeps_the_class_proportions():
    digits = load("digits")
    counts = digits.labels[shorten(split(digits), 100, False).train].bincount(minlength=10)
    assert counts.min() >= 8 and counts.max() <= 12


def test_with_epochs_fewer_examples_mean_fewer_iterations():
    runs = [quick(epochs=2, iterations=None, target_size=size) for size in (None, 256, 64)]
    assert [run.settings["iterations"] for run in runs] == [2 * 20, 2 * 4, 2 * 1]
    assert [run.settings["training examples"] for run in runs] == [1258, 256, 64]
    assert len({run.settings["validation examples"] for run in runs}) == 1


def test_with_iterations_validation_examples_are_counted():
    run = quick(iterations=3, target_size=120)
    assert run.settings["iterations"] == 3
    assert run.settings["training examples"] + run.settings["validation examples"] == run.settings["target size"] == 120


def test_only_the_examples_that_count_are_seen(monkeypatch):
    digits = load("digits")
    run = quick(target=digits, target_size=64, epochs=1, iterations=None)
    seen = {*split(digits).train[:64].tolist(), *split(digits).valid.tolist()}
    assert set(run.rows.tolist()) <= seen
    unseen = torch.tensor(sorted(set(range(len(digits))) - seen))
    digits.images[unseen] = 255 - digits.images[unseen]
    assert torch.equal(quick(target=digits, target_size=64, epochs=1, iterations=None).labels, run.labels)


def test_an_iteration_takes_1024_real_images_unless_told_and_an_expert_takes_its_own():
    assert quick(outer_batch=None, iterations=1).settings["outer batch"] == OUTER_BATCH == 1024
    with pytest.raises(InputError, match="--outer-batch 64: with --method expert it is 128"):
        quick(method="expert")


# Seeds and selection


def test_networks_are_tested_in_float32_however_many_there_are(monkeypatch):
    monkeypatch.setattr("labeldistill.networks.bfloat16_is_native", lambda device: True)
    learned, options = quick(), {"network": tiny, "device": "cpu", "show_progress": False, "compile": False}
    few, many = (evaluate(learned, models=count, steps=1200, **options) for count in (1, 3))
    assert (few.precision, many.precision) == ("fp32", "fp32") and few.accuracies == many.accuracies[:1]
    assert evaluate(learned, models=1, steps=2, precision="bf16", **options).precision == "bf16"
    assert baseline("digits", 10, models=1, marks=(3000,), **options).precision == "fp32"


def test_the_layer_that_was_named_is_remembered():
    learned = quick(last_layer="3")
    assert learned.last_layer == "3"
    seen, build = [], runs.network_for

    def note(*arguments):
        seen.append(arguments)
        return build(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "network_for", note)
        for network, layer in ((None, "3"), (learned.network, "3"), (tiny, "3"), ("lenet", None)):
            evaluate(learned, network=network, models=1, device="cpu", show_progress=False)
            assert seen.pop()[2] == layer


@pytest.mark.parametrize(
    "options, message",
    [
        ({"order": "learned"}, "--order learned: none was learned here; wanted: random"),
        ({"optimizer": lambda parameters: None}, "--optimizer: made a NoneType; wanted"),
        ({"optimizer": torch.optim.LBFGS}, "--optimizer: made a LBFGS; wanted: .* without a closure"),
        ({"seed": "a"}, "--seed 'a': must be a whole number"),
        ({"models": True}, "--models True: must be a whole number"),
        ({"last_layer": "nope"}, r"--last-layer 'nope': linear layers with 10 outputs are \['3'\]$"),
        ({"target": torch.zeros(3)}, "--target: is a Tensor; wanted: a known name"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(options, message, labels):
    with pytest.raises(InputError, match=message):
        evaluate(labels, models=options.pop("models", 1), device="cpu", show_progress=False, **options)


@pytest.fixture(scope="module")
def labels():
    return quick()


def test_labels_of_a_network_without_a_name_say_so():
    learned = quick(network=lambda *size, **sizes: tiny(*size, **sizes))
    with pytest.raises(InputError, match=r"cannot be found by name.* \(which the labels were made with; others"):
        evaluate(learned, models=1, device="cpu", show_progress=False)


@pytest.mark.parametrize("options", [{"seed": 1.5}, {"base_seed": "a"}, {"base_examples": True}])
def test_seeds_and_numbers_are_whole(options):
    with pytest.raises(InputError, match=f"--{next(iter(options)).replace('_', '-')} .*: must be a whole number"):
        distill("digits", **options)


@pytest.mark.parametrize(("method", "least"), [("expert", 1500), ("unrolled", 600), ("ridge", 800)])
def test_few_data_do_not_mean_few_iterations(method, least):
    scene = Scene("digits", 10, None, None, tiny, None, 0, "cpu", Opening(None))
    assert len(scene.split.train) == 1258
    batch = 128 if method == "expert" else 1024
    assert make_schedule(scene, method, 10, outer_batch=batch).iterations == least  # of ridge 400 epochs of two
    assert make_schedule(scene, method, 10, epochs=3, outer_batch=batch).iterations == 3 * -(-1258 // batch)
    assert make_schedule(scene, method, 10, iterations=7, outer_batch=batch).iterations == 7


def test_the_seed_of_the_base_examples_stands_apart():
    one, two, three = (quick(seed=seed, base_seed=base) for seed, base in ((1, None), (2, 1), (1, 5)))
    assert torch.equal(one.rows, two.rows) and not torch.equal(one.labels, two.labels)
    assert not torch.equal(one.rows, three.rows)
    assert [run.settings["base seed"] for run in (one, two, three)] == [1, 1, 5]
    assert [run.seed for run in (one, two, three)] == [1, 2, 1]


@pytest.mark.parametrize("method", ["ridge", "second-order"])
def test_labels_are_learned_for_selected_examples(method, tmp_path):
    file = tmp_path / "labels.safetensors"
    run = quick(10, method, selection="easy")
    run.save(file)
    assert load_distilled(file).settings["selection"] == "easy"
    assert not torch.equal(run.rows, quick(10, method).rows)


def test_a_checkpoint_of_another_selection_is_refused(tmp_path):
    quick(checkpoint=tmp_path, selection="random")
    with pytest.raises(InputError, match="base rows"):
        quick(checkpoint=tmp_path, resume=True, selection="easy")


def test_the_baseline_shares_selected_examples(monkeypatch):
    monkeypatch.setattr("labeldistill.evaluation.candidate_steps", lambda count: [2, 4])
    options = {"models": 1, "device": "cpu", "show_progress": False, "network": tiny}
    random, again, other = (baseline("digits", 10, base_seed=seed, **options) for seed in (1234, None, 5))
    assert random == again and random.accuracies != other.accuracies
    assert baseline("digits", 10, selection="hard", **options).accuracies != random.accuracies


def test_unknown_selections_are_refused():
    for verb in (distill, baseline):
        with pytest.raises(InputError, match="--selection 'best': wanted random"):
            verb("digits", 10, selection="best", device="cpu")


# Fewer examples than classes


@pytest.mark.parametrize("method", ["ridge", "second-order"])
@pytest.mark.parametrize(("count", "network"), [(10, "lenet"), (20, tiny)])
def test_fewer_examples_than_classes(method, count, network):
    run = quick(count, method, "letters", source="digits", iterations=5, network=network)
    assert run.labels.shape == (count, 26)
    assert torch.allclose(run.labels.sum(1), torch.ones(count))
    assert evaluate(run, models=1, steps=5, show_progress=False).accuracies[0] >= 0
    within = quick(count, method, "letters", balanced=False)
    assert within.labels.shape == (count, 26)


def test_fewer_examples_than_classes_learn_more_classes_than_there_are_examples():
    run = quick(10, "ridge", "letters", balanced=False, iterations=150, seed=1)
    chance = 100 / 26
    assert evaluate(run, models=1, show_progress=False).accuracy_mean > 2 * chance


# The command line


def test_the_command_line_passes_the_options_on(tmp_path, capsys):
    out = tmp_path / "labels.safetensors"
    run = ["distill", "--target", "digits", "--out", str(out), "--base-examples", "10", "--iterations", "2"]
    run += ["--network", f"{__name__}:tiny", "--device", "cpu"]
    main([*run, "--target-size", "100", "--base-seed", "5", "--selection", "easy", "--json"])
    json.loads(capsys.readouterr().out)
    settings = load_distilled(out).settings
    assert (settings["target size"], settings["base seed"], settings["selection"]) == (100, 5, "easy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["distill", "--out", "x.safetensors", "--selection", "best"], "--selection 'best': wanted random"),
        (["distill", "--out", "x.safetensors", "--target-size", "0"], "--target-size 0: must be"),
        (["distill", "--out", "x.safetensors", "--target-size", "99999"], "--target-size 99999: must be"),
        (["baseline", "--selection", "best"], "--selection 'best': wanted random"),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([options[0], "--target", "digits", "--base-examples", "10", *options[1:]])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and message in error


def test_a_source_that_is_the_target_by_name_keeps_its_true_classes(bars_npz):
    options = {"balanced": True, "models": 2, "device": "cpu", "show_progress": False}
    assert baseline(bars_npz, 6, bars_npz, **options) == baseline(bars_npz, 6, **options)


def test_labels_for_standard_networks_are_validated_with_them(bars_npz):
    learned = distill(bars_npz, 6, "ridge", head="linear", iterations=4, outer_batch=32, device="cpu", show_progress=False)
    assert learned.head == "linear" and learned.settings["head"] == "linear"


def test_moved_data_given_as_target_supplies_the_base_images_too(bars_npz, tmp_path):
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    here.write_bytes(bars_npz.read_bytes())
    learned = distill(here, 6, iterations=4, outer_batch=32, device="cpu", show_progress=False)
    learned.save(tmp_path / "labels.safetensors")
    here.rename(there)
    options = {"steps": 3, "models": 1, "device": "cpu", "show_progress": False}
    with pytest.raises(InputError, match="--target"):
        evaluate(tmp_path / "labels.safetensors", **options)
    assert evaluate(tmp_path / "labels.safetensors", there, **options) == evaluate(learned, there, **options)


def test_data_below_the_data_root_keep_a_name_that_holds_elsewhere(bars_npz, tmp_path, monkeypatch):
    (tmp_path / "bars.npz").write_bytes(bars_npz.read_bytes())
    monkeypatch.setenv("LABELDISTILL_DATA", str(tmp_path))
    assert load("bars.npz").name == "bars.npz"


def test_grey_and_colour_go_together_when_converted(bars_npz):
    options = {"iterations": 2, "outer_batch": 8, "device": "cpu", "show_progress": False, "image_size": 28}
    learned = distill(bars_npz, 5, source="letters", channels=3, **options)
    assert learned.images.shape == (5, 3, 28, 28) and learned.target.channels == 3


def test_a_shortened_target_named_as_source_lends_no_images_from_outside():
    learned = quick(20, source="digits", target_size=30)
    assert set(learned.rows.tolist()) <= set(split(load("digits")).train[:30].tolist())
