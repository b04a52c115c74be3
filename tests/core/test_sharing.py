"""Labels in other people's formats: arrays, parquet, DD-Ranking's files, the hub; and as a data set of PyTorch's."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import labeldistill as ld
from labeldistill import sharing
from labeldistill.data.datasets import Normalisation
from labeldistill.plots import _spread, draw_distilled
from labeldistill.training.evaluation import Evaluation
from labeldistill.utils import InputError

TESTED = Evaluation((80.0, 84.0), (80.0, 84.0), steps=8, head="ridge", network="lenet", optimizer="adam", seed=0)


@pytest.fixture(scope="module")
def learned_images(distilled):
    "Six learned images, made by hand."
    images = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    facts = {"rows": torch.zeros(0, dtype=torch.int64), "base_images": None, "rates": (0.2, 0.1), "source": distilled.target}
    return replace(distilled, learned_images=images, **facts)


# A data set of PyTorch's


def test_a_picture_has_a_learning_curve_where_there_was_learning(distilled):
    for curve, panels in ((torch.tensor([[1.0, 0.5, 40.0], [2.0, 0.4, 30.0]]), 2), (torch.zeros(0, 3), 1)):
        _, bottom = draw_distilled(replace(distilled, curve=curve)).subfigs
        assert len([axis for axis in bottom.axes if axis.get_xlabel()]) == panels


def test_examples_are_counted_as_in_a_list(distilled):
    image, label = distilled[-1]
    assert torch.equal(image, distilled.inputs[5]) and torch.equal(label, distilled.labels[5])
    assert len([*distilled]) == len(distilled) == 6
    for index in (np.int64(2), torch.tensor(2), np.uint8(2)):
        assert torch.equal(distilled[index][1], distilled.labels[2])
    for index in (6, -7):
        with pytest.raises(IndexError):
            distilled[index]
    for index in (1.0, "1", [1, 2], None):
        with pytest.raises(TypeError):
            distilled[index]


def test_a_slice_is_a_batch_with_every_image_transformed(distilled):
    images, labels = distilled.with_transform(torch.sum)[4:1:-2]
    assert images.tolist() == [distilled.inputs[i].sum().item() for i in (4, 2)] and torch.equal(labels, distilled.labels[[4, 2]])
    with pytest.raises(IndexError):
        distilled[9:]


def test_a_transform_that_works_in_place_changes_no_image(distilled):
    before = distilled.inputs.clone()
    zeroed = distilled.with_transform(torch.zero_)
    assert not zeroed[0][0].any() and torch.equal(zeroed.inputs, before)


def test_hard_labels_are_the_largest(distilled):
    hard = distilled.with_transform(torch.sum).hard()
    assert hard.targets == [hard[i][1] for i in range(6)] == distilled.labels.argmax(1).tolist()
    assert type(hard[0][1]) is int and hard.classes == distilled.classes and torch.equal(hard[1][0], distilled.inputs[1].sum())
    images, classes = next(iter(DataLoader(distilled.hard(), 6)))
    assert classes.dtype == torch.int64 and torch.equal(images, distilled.inputs)
    assert torch.equal(distilled.hard()[1:4][1], classes[1:4])
    with pytest.raises(IndexError):
        hard[6]


def test_a_transform_can_be_given_when_a_file_is_read(distilled, labels_file, bars_npz):
    loaded = ld.load_distilled(labels_file, transform=torch.sum).with_images(bars_npz)
    assert loaded[0][0].item() == distilled.inputs[0].sum().item()
    with pytest.raises(InputError, match=r"transform: is a int; expected a function"):
        ld.load_distilled(labels_file, transform=3)


def test_a_pickled_data_set_is_the_same(distilled):
    for original in (distilled, distilled.hard()):
        again = pickle.loads(pickle.dumps(original))
        assert torch.equal(again[3][0], original[3][0]) and len(again) == 6


@pytest.mark.slow
def test_workers_that_start_afresh_load_it(distilled):
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(distilled, batch_size=2, num_workers=2, multiprocessing_context=context)
    assert torch.equal(torch.cat([labels for _, labels in loader]), distilled.labels)


# Arrays


def test_arrays_are_what_the_labels_are(distilled, learned_images, tmp_path):
    distilled.to_npz(tmp_path / "a.npz")
    learned_images.to_npz(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as file, np.load(tmp_path / "b.npz") as other:  # without pickle
        assert np.array_equal(file["images"], distilled.images.permute(0, 2, 3, 1).numpy()) and file["images"].dtype == np.uint8
        assert np.array_equal(file["labels"], distilled.labels.numpy()) and file["classes"].tolist() == list(distilled.classes)
        assert (file["mean"], file["std"]) == distilled.normalisation
        assert "inputs" not in file
        assert np.array_equal(other["inputs"], learned_images.inputs.permute(0, 2, 3, 1).numpy())
    with pytest.raises(InputError, match=r"expected a name that ends in \.npz"):
        distilled.to_npz(tmp_path / "a.npy")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz"]


# DD-Ranking


def read_three(folder):
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("images", "labels", "lr")]


def test_ddranking_gets_sorted_images_and_logarithms(distilled, tmp_path):
    shuffled = replace(distilled, base_labels=torch.tensor([2, 0, 1, 0, 2, 1]), labels=torch.eye(3).repeat(2, 1))
    shuffled.to_ddranking(tmp_path / "three")
    images, logits, lr = read_three(tmp_path / "three")
    order = [1, 3, 2, 5, 0, 4]
    assert torch.equal(images, shuffled.inputs[order]) and lr.item() == pytest.approx(1e-3)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.softmax(1), shuffled.labels[order])
    assert {file.name for file in (tmp_path / "three").iterdir()} == {"images.pt", "labels.pt", "lr.pt"}


def test_ddranking_normalises_cifar_its_own_way(learned_images, make_dataset, tmp_path):
    pixels = make_dataset(6, channels=3, size=32).images
    norm, theirs = Normalisation((0.4,) * 3, (0.2,) * 3), sharing.DDRANKING_NORMALISATION["cifar10"]
    target = replace(learned_images.target, name="cifar10")
    images = replace(
        learned_images, learned_images=norm(pixels), normalisation=norm, target=target, base_labels=torch.arange(6) // 2
    )
    images.to_ddranking(tmp_path / "learned")
    base = replace(images, learned_images=None, base_images=pixels)
    base.to_ddranking(tmp_path / "base")
    learned, _, lr = read_three(tmp_path / "learned")
    assert lr.item() == pytest.approx(0.15)  # mean of the learned step sizes
    assert torch.equal(read_three(tmp_path / "base")[0], theirs(pixels))
    torch.testing.assert_close(learned, theirs(pixels), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_labels": torch.tensor([0, 0, 0, 1, 1, 2])}, "equally many images of each class; here are 1 to 3"),
        ({"base_labels": torch.tensor([0, 0, 0, 1, 1, 1])}, "equally many images of each class; here are 0 to 3"),
        ({"labels": torch.full((6, 3), -1.0)}, "labels that are probabilities"),
        ({"labels": torch.full((6, 3), 0.5)}, "labels that are probabilities"),
    ],
)
def test_what_ddranking_cannot_use_is_refused(distilled, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        replace(distilled, **changes).to_ddranking(tmp_path / "three")
    other = replace(distilled, source=replace(distilled.source, classes=("x", "y", "z")))
    with pytest.raises(InputError, match="expected source and target with the same"):
        other.to_ddranking(tmp_path / "three")
    assert list(tmp_path.iterdir()) == []


# A folder for `datasets`


@pytest.fixture
def exported(distilled, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("huggingface_hub")
    distilled.export(tmp_path / "shared", TESTED)
    return tmp_path / "shared"


def test_the_real_datasets_library_reads_an_export(exported, distilled, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(exported), cache_dir=str(tmp_path / "cache"))["train"]
    assert rows["label"] == distilled.labels.tolist()
    assert isinstance(rows.features["image"], datasets.Image) and rows.column_names == ["image", "label"]
    assert np.array_equal(np.stack([np.asarray(image) for image in rows["image"]]), distilled.images.squeeze(1).numpy())


def test_a_table_holds_colored_pictures(learned_images, make_dataset):
    pytest.importorskip("pyarrow")
    pixels = make_dataset(6, channels=3).images
    table = sharing.as_table(replace(learned_images, learned_images=None, base_images=pixels))
    picture = Image.open(BytesIO(table["image"][2].as_py()["bytes"]))
    assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), pixels[2].permute(1, 2, 0).numpy())


def test_an_export_holds_the_labels_with_their_images(exported, distilled):
    loaded = ld.load_distilled(exported / "labels.safetensors")
    assert torch.equal(loaded.labels, distilled.labels) and torch.equal(loaded.images, distilled.images)


def facts_in(card):
    return json.loads(card.text.split("```json\n")[1].split("\n```")[0])


def test_the_card_says_what_the_hub_looks_for(exported, distilled):
    cards = pytest.importorskip("huggingface_hub.repocard")
    card = cards.DatasetCard.load(exported / "README.md")
    about = card.data.to_dict()
    assert (about["license"], about["task_categories"]) == ("unknown", ["image-classification"])
    assert {"dataset-distillation", "label-distillation", "arxiv:2006.08572"} <= set(about["tags"])
    [table] = about["configs"]
    assert all((exported / part["path"]).is_file() for part in table["data_files"])
    assert about["labeldistill"]["source"]["sha256"] == distilled.source.sha256
    validation, test = about["model-index"][0]["results"]
    assert (validation["dataset"]["split"], test["dataset"]["split"]) == ("validation", "test")
    assert validation["metrics"][0]["value"] == round(distilled.validation_accuracy, 2)
    assert test["metrics"][0] == {"type": "accuracy", "value": 82.0, "name": "accuracy (%), mean of 2 x lenet, deviation 2.83"}
    facts = facts_in(card)
    assert facts["method"] == distilled.method and facts["target"]["classes"] == list(distilled.classes)


def test_a_card_says_what_it_takes_to_test_and_publishes_no_other_test(exported, distilled, tmp_path):
    text = (exported / "README.md").read_text()
    assert "the classes of a data set that is not public" in text and "ld.evaluate(labels, target=...)" in text
    found = Evaluation((50.0,), (50.0,), 10, "linear", "lenet", "adam", 1, tested_on="other data: digits")
    with pytest.raises(InputError, match="evaluation: on other data: digits; expected one on what the labels are for"):
        distilled.export(tmp_path / "other", found)
    assert not (tmp_path / "other").exists()


def test_the_card_of_known_images_names_their_licence_and_origin(tmp_path):
    pytest.importorskip("pyarrow")
    cards = pytest.importorskip("huggingface_hub.repocard")
    ld.true_labels("digits").export(tmp_path / "digits")
    card = cards.DatasetCard.load(tmp_path / "digits" / "README.md")
    assert card.data.license == "cc-by-4.0" and "Alpaydin and Kaynak (1998)" in card.text and "the classes of digits" in card.text
    assert "model-index" not in card.data.to_dict()


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
@pytest.mark.parametrize("kind", ["real-valued", "soft"])
def test_a_card_says_what_the_labels_are_and_which_loss_they_are_for(distilled, tmp_path, kind, loss):
    pytest.importorskip("pyarrow")
    pytest.importorskip("huggingface_hub")
    numbers = torch.eye(3)[distilled.base_labels]
    student = ld.Student("linear", "adam", "random", steps=10, loss=loss)
    replace(distilled, labels=numbers - float(kind != "soft"), student=student).export(tmp_path / "shared")
    text = (tmp_path / "shared" / "README.md").read_text().split("```json")[0]
    other = {"real-valued": "soft", "soft": "real-valued"}[kind]
    assert f"# {kind.capitalize()} labels for 6 images\n" in text and f"with these {kind} labels, and on" in text
    assert f"(image, {kind} label)" in text and f"{other} label" not in text.lower()
    assert ("torch.nn.MSELoss" in text) == (loss == "mse")
    assert ("learn nothing from them by cross-entropy" in text) == ((kind, loss) == ("real-valued", "mse"))
    intro = text.split("```python")[0].split("labels for 6 images")[1].strip().splitlines()
    assert len(intro) == 2 + (loss == "mse") and intro[-1].startswith("Made by ") and "{" not in text


def test_names_in_a_card_cannot_break_out(distilled, tmp_path):
    pytest.importorskip("pyarrow")
    cards = pytest.importorskip("huggingface_hub.repocard")
    strange = "a: b --- ```<script>{load}"
    named = replace(distilled, target=replace(distilled.target, name=strange), source=replace(distilled.source, name=strange))
    with pytest.raises(InputError, match=r"labels: cannot be saved .a word that is too long, or cannot be printed"):
        replace(named, target=replace(distilled.target, name=f"{strange}\n---\n")).export(tmp_path / "broken")
    named.export(tmp_path / "strange")
    card = cards.DatasetCard.load(tmp_path / "strange" / "README.md")
    assert card.data.to_dict()["labeldistill"]["source"]["name"] == strange
    facts, broken = facts_in(card), f"{strange}\n---\n"
    again = cards.DatasetCard(sharing._card(facts | {"source": facts["source"] | {"name": broken}}, named.labels, None, "load"))
    assert again.data.to_dict()["labeldistill"]["source"]["name"] == broken
    assert facts["target"]["name"] == strange and "<script>" not in card.text.split("```json")[0]


def test_a_folder_that_is_there_is_left_alone(exported, distilled):
    before = {file.name: file.read_bytes() for file in exported.iterdir()}
    with pytest.raises(InputError, match="is there already; expected the name of a new folder"):
        distilled.export(exported)
    assert {file.name: file.read_bytes() for file in exported.iterdir()} == before


def test_nothing_is_left_of_an_export_that_fails(distilled, tmp_path):
    pytest.importorskip("pyarrow")
    lost = replace(distilled, base_images=None, from_file=True)
    with pytest.raises(InputError, match="a place that a file names is not opened"):
        lost.export(tmp_path / "new")
    with pytest.raises(InputError, match=r"nowhere/new' cannot be written"):
        distilled.export(tmp_path / "nowhere" / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["pyarrow", "huggingface_hub"])
def test_a_missing_extra_is_named_in_one_line(distilled, tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    line = rf"^sharing needs {missing}; install with pip install 'labeldistill\[hub\]'$"
    for share in (lambda: distilled.export(tmp_path / "new"), lambda: distilled.push_to_hub("me/labels")):
        if missing == "huggingface_hub":
            pytest.importorskip("pyarrow")
        with pytest.raises(InputError, match=line):
            share()
    assert list(tmp_path.iterdir()) == []


# The hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    "A stand-in for the hub, for the real client."
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("pyarrow")
    from hub import standing_in

    with standing_in(monkeypatch, tmp_path / "cache") as server:
        yield server


TOKEN = "hf_right"  # that the stand-in takes


def test_the_real_datasets_library_reads_what_was_pushed_by_its_name(hub, distilled):
    pytest.importorskip("datasets")
    distilled.push_to_hub("me/bars-6", token=TOKEN)
    script = "import datasets; rows = datasets.load_dataset('me/bars-6', split='train'); print(rows['label'][:])"
    command = [sys.executable, "-c", script]  # a process, because the library reads its settings once
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == distilled.labels.tolist()


def test_labels_that_were_pushed_are_read_back(hub, distilled, capsys):
    address = distilled.push_to_hub("me/bars-6", TESTED, token=TOKEN, private=True)
    assert address == f"{hub.address}/datasets/me/bars-6" and hub.visibility == {"me/bars-6": "private"}
    assert hub.commits == [["header", "file", "lfsFile", "lfsFile"]]  # all in one
    assert hub.repos["me/bars-6"].keys() == {"README.md", "labels.parquet", "labels.safetensors"}
    assert 'labels = ld.from_hub("me/bars-6")' in hub.repos["me/bars-6"]["README.md"].decode()
    loaded = ld.from_hub("me/bars-6", token=TOKEN)
    for name in ("labels", "rows", "base_labels", "images", "curve"):
        assert torch.equal(getattr(loaded, name), getattr(distilled, name)), name
    assert loaded.source.sha256 == distilled.source.sha256 and loaded.method == distilled.method and loaded.from_file
    distilled.push_to_hub("me/bars-6", token=TOKEN)  # a repository that is there gets a second commit
    assert "82.0" not in hub.repos["me/bars-6"]["README.md"].decode()


def test_the_token_may_come_from_the_environment(hub, distilled, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    distilled.push_to_hub("me/bars-6")
    assert ld.from_hub("me/bars-6", "main", transform=torch.sum)[0][0].shape == ()


def test_only_the_labels_are_fetched(hub, distilled):
    distilled.push_to_hub("me/bars-6", token=TOKEN)
    hub.asked.clear()
    ld.from_hub("me/bars-6")
    assert {line.rpartition("/")[2] for line in hub.asked} == {"labels.safetensors"}


def refusals_of_from_hub():
    return [
        pytest.param(
            "me/nothing", {}, "there is no such data set on the hub, or your token does not open it", id="no repository"
        ),
        pytest.param("me/nothing", {"token": TOKEN}, "there is no such data set on the hub", id="no repository, with a token"),
        pytest.param("me/bars-6", {"token": "hf_wrong"}, "the hub refuses your token", id="wrong token"),
        pytest.param("me/bars-6", {"revision": "v9"}, "has no such revision", id="no revision"),
        pytest.param("me/others", {}, r"has no labels\.safetensors; expected a data set that labels\.push_to_hub", id="not ours"),
        pytest.param("me/foreign", {}, "was not written by labeldistill", id="tensors of somebody else"),
        pytest.param("me/damaged", {}, r"is not a \.safetensors file", id="damaged"),
        pytest.param("bars-6", {}, "is no name on the hub; expected OWNER/NAME", id="no owner"),
        pytest.param("a/b/c", {}, "is no name on the hub; expected OWNER/NAME", id="no name"),
        pytest.param("../../etc", {}, "is no name on the hub; expected OWNER/NAME", id="a path"),
    ]


@pytest.mark.parametrize(("repo", "options", "message"), refusals_of_from_hub())
def test_what_cannot_be_read_from_the_hub_is_refused_in_one_line(hub, labels_file, repo, options, message):
    from safetensors.torch import save

    ours = labels_file.read_bytes()
    files = {"bars-6": ours, "others": None, "foreign": save({"labels": torch.eye(3)}), "damaged": ours[:500]}
    hub.repos |= {f"me/{name}": {"labels.safetensors": content} if content else {} for name, content in files.items()}
    with pytest.raises(InputError, match=rf"^[^\n]*{message}[^\n]*$"):
        ld.from_hub(repo, **options)


def test_a_file_that_is_too_large_is_not_fetched(hub, labels_file):
    hub.repos["me/large"] = {"labels.safetensors": labels_file.read_bytes()}
    hub.claimed_size = 2**31
    with pytest.raises(InputError, match=r"labels\.safetensors has 2147483648 bytes; expected at most 1073741824"):
        ld.from_hub("me/large")
    assert not [line for line in hub.asked if line.startswith("GET")]


def test_names_in_a_file_from_the_hub_open_nothing(hub, damaged_copy, bars_npz):
    hub.repos["me/bars"] = {"labels.safetensors": damaged_copy().read_bytes()}  # names a file that is there, without its images
    loaded = ld.from_hub("me/bars")
    with pytest.raises(InputError, match="a place that a file names is not opened"):
        loaded.images  # noqa: B018
    assert torch.equal(loaded.with_images(bars_npz).images, ld.load(bars_npz).images[loaded.rows])


def test_what_was_fetched_once_needs_no_network(hub, labels_file, monkeypatch):
    hub.repos["me/bars-6"] = {"labels.safetensors": labels_file.read_bytes()}
    first = ld.from_hub("me/bars-6")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(ld.from_hub("me/bars-6").labels, first.labels)
    with pytest.raises(InputError, match=r"^'me/other': the hub at http://127.0.0.1:\d+ cannot be used \([^\n]+\)$"):
        ld.from_hub("me/other")


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_nobody_pushes_without_a_token(hub, distilled, token):
    with pytest.raises(InputError, match=r"^'me/bars-6': the hub refuses your token; expected one that may do this, [^\n]+$"):
        distilled.push_to_hub("me/bars-6", token=token)
    assert hub.repos == {} and hub.commits == []


def test_a_push_without_network_is_one_line(hub, distilled, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"^'me/bars-6': the hub at http://127.0.0.1:9 cannot be used \([^\n]*refused\)$"):
        distilled.push_to_hub("me/bars-6", token=TOKEN)


@pytest.mark.parametrize("repo", ["bars-6", "a/b/c", "", 3])
def test_a_push_needs_an_owner_and_a_name(hub, distilled, repo):
    with pytest.raises(InputError, match="is no name on the hub; expected OWNER/NAME"):
        distilled.push_to_hub(repo)
    assert hub.asked == []


# What a notebook shows


def test_a_notebook_shows_images_that_are_at_hand(distilled, learned_images, labels_file):
    for labels in (distilled, learned_images, ld.true_labels("digits")):
        with Image.open(BytesIO(labels._repr_png_())) as picture:
            assert picture.format == "PNG" and picture.width <= 1000
    assert repr(distilled).startswith("DistilledDataset(6 labels for ")


def test_names_are_drawn_as_they_are_written(distilled):
    names = ("$a^$", "b$", "c")
    target, source = (replace(part, name="$p^$", classes=names) for part in (distilled.target, distilled.source))
    written = replace(distilled, target=target, source=source)
    assert written._repr_png_()
    draw_distilled(written).canvas.draw()


def test_images_that_are_shown_are_of_all_classes(distilled):
    assert distilled.base_labels[_spread(distilled, 4)].tolist() == [0, 0, 1, 2]
    assert _spread(distilled, 10).sort().values.tolist() == [*range(6)]


def test_a_look_opens_no_place_and_downloads_nothing(labels_file, monkeypatch, no_network):
    loaded = ld.load_distilled(labels_file)
    monkeypatch.setattr("labeldistill.data.known._read_torchvision", lambda *args, **options: pytest.fail("it was opened"))
    for name in ("mnist", "imagenet64", loaded.source.name):
        assert replace(loaded, source=replace(loaded.source, name=name))._repr_png_() is None


def test_a_look_at_changed_data_shows_the_line(labels_file):
    loaded = ld.load_distilled(labels_file)
    assert replace(loaded, source=replace(loaded.source, name="digits"))._repr_png_() is None  # another SHA-256


def test_an_evaluation_shows_a_line_with_a_bar():
    shown = replace(TESTED, network="<b>")._repr_html_()
    assert shown == '<meter max="100" value="82.0"></meter> 82.0 ± 2.8 % (2 x &lt;b&gt;, adam, 8 steps, ridge head)'
    assert repr(TESTED).startswith("Evaluation(accuracies=(80.0, 84.0)")
