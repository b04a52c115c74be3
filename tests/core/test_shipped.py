"""Label sets that ship with the package: found by name, true to their cards, true to their records."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from labeldistill import Student, evaluate, load_distilled, show
from labeldistill.artifact import SHIPPED, labels_file
from labeldistill.cli import main
from labeldistill.config import to_json
from labeldistill.data.known import KNOWN
from labeldistill.reproduce.exhibits import Setting, exhibit_runs
from labeldistill.reproduce.records import read_record, write_json
from labeldistill.reproduce.sets import SETS, recipe, ship, spread
from labeldistill.shipped import Verification, card_text, set_line, sets, verify
from labeldistill.training.evaluation import Evaluation
from labeldistill.training.training_set import are_probabilities
from labeldistill.utils import InputError

ACROSS = "letters-digits-10-lenet"  # of built-in data


@pytest.fixture(scope="module")
def cards():
    return {card["name"]: card for card in sets()}


def test_there_are_sets_of_all_sizes_in_order(cards):
    assert set(cards) == set(SETS) and len(cards) >= 8
    of_mnist = [card["count"] for name, card in cards.items() if name.startswith("mnist-")]
    assert of_mnist == sorted(of_mnist)


def test_each_set_loads_by_name_and_is_what_its_card_says(cards):
    for name, card in cards.items():
        labels = load_distilled(name)
        data = [labels.target.name] if labels.source == labels.target else [labels.source.name, labels.target.name]
        assert name == "-".join([*data, str(len(labels)), labels.network])
        assert (card["count"], card["network"], card["validation_accuracy"]) == (
            len(labels),
            labels.network,
            labels.validation_accuracy,
        )
        assert card["test"]["steps"] == labels.student.steps and card["test"]["n"] == 20 and {*data} <= {*KNOWN}
        assert labels.from_file and not labels.keeps_images and labels_file(name).stat().st_size < 100_000


def test_files_and_cards_are_those_of_the_records(cards, repository, tmp_path):
    results = repository / "papermill_runs" / "results"
    assert ship(results, tmp_path) == [name for name in SETS if name in cards]
    made, shipped = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in (tmp_path, SHIPPED))
    assert made == shipped


def test_a_card_states_what_its_records_found(cards, repository):
    for name, card in cards.items():
        labels, rest = (read_record(repository / "papermill_runs" / "results" / folder).results for folder in card["records"])
        assert card["test"]["mean"] == pytest.approx(sum(labels["accuracy"]["values"]) / 20)
        assert card["canaries"] == rest["canaries"] and len(card["others"]) == len(rest["others"]) == 3
        assert card["recipe"] == recipe(SETS[name].spec, f"{name}.safetensors")


def test_no_set_holds_a_place_of_the_machine_it_was_made_on():
    for file in SHIPPED.iterdir():
        assert not re.search(rb"/(home|root|work|tmp|Users)/", file.read_bytes()), file.name


def test_the_recipe_is_a_command_that_makes_the_same_run(cards, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr("labeldistill.api.distill", lambda task, method, **how: asked.update(how, task=task, method=method))
    monkeypatch.setattr("labeldistill.cli._save", lambda *given: None)
    for name, run in SETS.items():
        words = recipe(run.spec, str(tmp_path / "labels.safetensors")).split()
        main(words[1:])
        assert vars(asked["task"]) == run.spec["task"] | {"data_root": None}, name
        assert {part: to_json(asked[part]) for part in ("method", "student", "schedule", "seed")}.items() <= run.spec.items(), (
            name
        )


def test_the_spread_of_a_card_is_over_finished_runs_of_its_own_network(tmp_path):
    spec = SETS["mnist-100-lenet"].spec
    runs = {at: exhibit_runs("tableA1", "paper", Setting("mnist", at, 10)) for at in ("lenet", "convnet")}
    for at, there in runs.items():
        for seed in (0, 465):
            run = there["Unrolled from expert", 100, seed]
            run.folder(tmp_path).mkdir(parents=True)
            write_json(run.folder(tmp_path) / "run.json", run.spec)
            results = {"tests": {"none": {"accuracy": {"mean": 90.0 + (at == "convnet")}}}}
            facts = {"results": results, "seconds": 1.0, "peak_memory_mb": 1.0, "device": "cpu"}
            write_json(run.folder(tmp_path) / "result.json", facts)
    assert (found := spread(spec, tmp_path))["mean"] == 90 and found["n"] == 2
    (runs["lenet"]["Unrolled from expert", 100, 0].folder(tmp_path) / "result.json").unlink()
    assert spread(spec, tmp_path) is None  # one is no spread


def test_names_are_taken_wherever_a_labels_file_is(tmp_path, capsys):
    assert show(ACROSS, tmp_path / "labels.png") and (tmp_path / "labels.png").stat().st_size > 1000
    tested = evaluate(ACROSS, models=1, student=Student(steps=20), progress=False)
    main(["evaluate", ACROSS, "--models", "1", "--steps", "20", "--quiet", "--json"])
    assert json.loads(capsys.readouterr().out)["accuracies"] == list(tested.accuracies)
    out = str(tmp_path / "more.safetensors")
    task = ["--target", "digits", "--source", "letters", "--base-examples", "10"]
    main(
        ["distill", "second-order", *task, "--iterations", "1", "--outer-batch", "16", "--init", ACROSS, "--out", out, "--quiet"]
    )
    assert (load_distilled(out).rows == load_distilled(ACROSS).rows).all()


def test_a_path_is_no_name_of_a_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ACROSS).mkdir()
    for path in (Path(ACROSS), f"./{ACROSS}"):
        with pytest.raises(InputError, match=f"'{ACROSS}' is a folder; expected"):
            load_distilled(path)
    with pytest.raises(SystemExit):
        main(["evaluate", f"./{ACROSS}"])
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mnist-100", "../sets/mnist-10-lenet", "mnist-10-lenet.json", "MNIST-10-lenet"])
def test_other_names_are_files_that_are_not_there(name):
    with pytest.raises(InputError, match=r"is not there; expected .* the name of a set that ships"):
        load_distilled(name)


def test_a_set_is_one_line_with_its_name_first(cards, capsys):
    main(["sets"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(cards) and lines == [set_line(card) for card in cards.values()]
    main(["sets", "--json"])
    assert json.loads(capsys.readouterr().out)["sets"] == list(cards.values())


def test_cards_are_shown_by_name(cards, capsys):
    main(["sets", "mnist-100-lenet", ACROSS])
    assert capsys.readouterr().out == card_text(cards["mnist-100-lenet"]) + "\n" + card_text(cards[ACROSS]) + "\n"
    with pytest.raises(SystemExit):
        main(["sets", "mnist-7-lenet"])
    assert capsys.readouterr().err.startswith("error: label set 'mnist-7-lenet': expected one of fashion_mnist-10-lenet, ")


def test_a_card_reads_as_text(cards):
    for card in cards.values():
        text = card_text(card)
        assert text.startswith(f"# {card['name']}\n") and card["recipe"] in text
        assert "wrong classes" in text and "None" not in text
        assert f"{card['test']['mean']:.1f} ± {card['test']['std']:.1f} %" in text


def test_cards_and_lines_say_which_labels_are_real_numbers(cards):
    real = {name for name in cards if not are_probabilities(load_distilled(name).labels)}
    assert {"mnist-10-lenet", "mnist-50-lenet"} <= real < {*cards} and ACROSS not in real
    for name, card in cards.items():
        text, line = card_text(card), set_line(card)
        assert (load_distilled(name).student.loss == "mse") == (name in real)
        assert f"{card['count']} {'real-valued' if name in real else 'soft'} labels: images of" in text
        assert ("torch.nn.MSELoss" in text) == ("; unrolled, real-valued labels; images" in line) == (name in real)


def an_evaluation(*accuracies):
    return Evaluation(accuracies, accuracies, 10, "linear", "lenet", "adam", 1)


def test_a_claim_holds_unless_chance_hardly_brings_such_a_difference():
    claim = {"mean": 80.0, "std": 2.0, "n": 16}
    test = an_evaluation(78.0, 78.0, 76.0, 76.0)  # mean 77, variance 4 / 3
    pooled = (15 * 2.0**2 + 3 * 4 / 3) / 18
    found = Verification("some", claim, test)
    assert found.p_value == pytest.approx(2 * stats.t.sf(3 / (pooled * (1 / 16 + 1 / 4)) ** 0.5, 18)) and found.holds
    assert not Verification("some", claim | {"mean": 82.0}, test).holds
    assert Verification("some", claim | {"std": 0.0}, an_evaluation(80.0, 80.0)).holds
    sure = Verification("some", claim | {"std": 0.0}, an_evaluation(79.0, 79.0))
    assert not sure.holds and json.loads(json.dumps(sure.as_dict(), allow_nan=False))["p_value"] == 0


@pytest.mark.parametrize("models", [2, 5, 20])
def test_a_true_claim_is_hardly_ever_doubted(models):
    rng, doubted = np.random.default_rng(0), 0
    for theirs, ours in zip(rng.normal(80, 2, (1000, 20)), rng.normal(80, 2, (1000, models)), strict=True):
        claim = {"mean": theirs.mean(), "std": theirs.std(ddof=1), "n": 20}
        doubted += not Verification("some", claim, an_evaluation(*ours)).holds
    assert doubted <= 10


def test_verify_trains_other_students_than_the_claim(cards):
    [found] = verify([ACROSS], models=2, progress=False)
    assert found.holds and found.test.seed != cards[ACROSS]["test"]["seed"]
    with pytest.raises(InputError, match="--seed 1234: is that of a claim's own students"):
        list(verify([ACROSS], seed=1234))


def test_a_false_claim_ends_with_status_1(monkeypatch, capsys, cards):
    false = cards[ACROSS] | {"test": cards[ACROSS]["test"] | {"mean": 99.0}}
    monkeypatch.setattr("labeldistill.shipped.sets", lambda: [false])
    monkeypatch.setattr("labeldistill.shipped.evaluate", partial(evaluate, student=Student(steps=20)))  # quicker
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--quick", "--quiet"])
    assert stop.value.code == 1
    assert re.search(rf"^{ACROSS} .*does NOT hold\n0 of 1 claims hold\n$", capsys.readouterr().out)


def test_data_that_cannot_be_had_are_named_or_left_out(monkeypatch, capsys, cards, tmp_path):
    def missing(reference, root=None, *more):
        raise InputError(f"'{reference.name}' could not be downloaded")

    monkeypatch.setattr("labeldistill.shipped.resolve", missing)
    with pytest.raises(SystemExit) as stop:
        main(["verify", ACROSS, "--quiet"])
    assert stop.value.code == 2 and "error: 'digits' could not be downloaded" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--quiet"])
    said = capsys.readouterr()
    assert stop.value.code == 1
    assert said.out == "0 of 0 claims hold\n" and said.err.count("not tested") == len(cards)


def test_unknown_sets_and_seeds_are_refused(capsys):
    for words, message in ((["nope"], "label set 'nope': expected one of"), ([ACROSS, "--seed", "x"], "--seed")):
        with pytest.raises(SystemExit) as stop:
            main(["verify", *words])
        assert stop.value.code == 2 and message in capsys.readouterr().err
