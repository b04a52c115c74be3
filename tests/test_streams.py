"""Names of random streams: what each purpose draws is fixed, and no stream appears or is renamed unnoticed."""

import ast
import json
from pathlib import Path

import pytest
import torch

import labeldistill
from labeldistill.data.streams import generator, random_layers, stream

STREAMS = {  # purpose: seed of its stream where the run's seed is 1234
    ("augmentation", 0): 4417750807388619405,
    ("augmentation",): 1791243473809312248,
    ("base",): 152311822374242703,
    ("canaries",): 2324448071744075690,
    ("curve", 0): 53614285293908792,
    ("expert batches", 0): 6332060165268094988,
    ("expert students",): 4406781802515108316,
    ("expert views",): 8546429598458238034,
    ("expert", 0): 1630975553982736619,
    ("figure",): 8115011308317588978,
    ("full network",): 7185844335355872408,
    ("full order", 0): 3349088927785253795,
    ("gradient variance",): 1817376687375658501,
    ("horizon",): 8779996557759316080,
    ("inner", 0): 6096032714828340104,
    ("network", 0): 8248807324662625318,
    ("noise images",): 2218200112564902805,
    ("outer", 0): 3793920187102272451,
    ("path batches", 0): 1478689779730736016,
    ("path", 0): 8154611199928341110,
    ("search expert batches", 0): 6341397406037675189,
    ("search expert", 0): 4363747581548361994,
    ("search set", 0): 3468324525350992193,
    ("search student batches", 0): 9180166914765261026,
    ("search student", 0): 6341815669314136381,
    ("search swaps", 0): 4249718415317512824,
    ("search trial", 0): 316731270115332092,
    ("search validation",): 2151594306275408445,
    ("segment",): 6726467176163255665,
    ("selection batches",): 5040313142846181449,
    ("selection network",): 8574516910060516057,
    ("set network", 0): 2972481352906188872,
    ("set", 0): 6420704198354707073,
    ("solve batches", 0): 8515536697264496056,
    ("solve network", 0): 6348588535633731092,
    ("split",): 3129772183532389555,
    ("start labels",): 8293434863039453843,
    ("steps network",): 7346163855282611613,
    ("steps",): 1402717696073954084,
    ("student batches", 0): 4351870259287361271,
    ("student beside", 0): 2122470230480646414,
    ("student", 0): 6793036015847825786,
    ("students of the choice",): 962493829166182978,
    ("trace",): 5889602928188588488,
    ("validation batches", 0): 3053973499003160601,
    ("validation network", 0): 6147382016450472274,
}
LAYERS = {  # the same for blocks of `random_layers`, whose purposes begin with "layers"
    ("layers", "epoch", 0): 8592105150578208182,
    ("layers", "full"): 2572488039028782988,
    ("layers", "real"): 2637459940061349041,
    ("layers", "search", 0): 7838765108050535090,
    ("layers", "search swaps", 0): 992284128430196719,
    ("layers", "steps"): 8511212941881062710,
    ("layers", "students"): 969721128626100327,
    ("layers", "validation", 0): 7897941370768561897,
}
FURTHER = {  # later members of some families
    ("network", 7): 6914079780390145029,
    ("outer", 3): 6289067834239569036,
    ("student", 19): 8206268464555656636,
}


@pytest.mark.parametrize(("purpose", "value"), (STREAMS | LAYERS | FURTHER).items(), ids=str)
def test_every_purpose_has_the_stream_it_always_had(purpose, value):
    assert stream(1234, *purpose) == value


def test_streams_depend_on_the_seed_and_are_all_different():
    values = [*(STREAMS | LAYERS | FURTHER).values()]
    assert len({*values}) == len(values) and not {stream(1235, *purpose) for purpose in STREAMS} & {*values}


def test_generators_begin_at_their_stream():
    assert generator(1234, "outer", 3).initial_seed() == FURTHER["outer", 3]
    with random_layers(1234, "epoch", 0):
        assert torch.initial_seed() == LAYERS["layers", "epoch", 0]
    drawn = torch.randperm(8, generator=generator(1234, "base")).tolist()
    assert drawn == [3, 1, 5, 6, 2, 7, 0, 4]


def calls(tree):
    "Name and purpose of each call that opens a random stream; CUDA's streams are others."
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        called = ast.unparse(node.func)
        if called.split(".")[-1] in ("stream", "generator", "random_layers") and "cuda" not in called:
            given = [*node.args, *(ast.Starred(word.value) if word.arg is None else word.value for word in node.keywords)]
            yield called.split(".")[-1], given[1:]


def test_no_other_stream_is_opened_and_none_has_gone():
    found, package = set(), Path(labeldistill.__file__).parent
    sources = [(path, path.read_text(encoding="utf-8")) for path in package.rglob("*.py") if path.name != "_modidx.py"]
    for path in (package.parent / "nbs" / "results").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        sources += [(path, text) for text in code if not text.lstrip().startswith("%")]
    for path, source in sources:
        for called, purpose in calls(ast.parse(source)):
            if purpose and isinstance(purpose[0], ast.Starred):  # a purpose that is handed on
                continue
            assert purpose and isinstance(purpose[0], ast.Constant), f"{path}: {called} of a purpose without a name"
            numbers = purpose[1:]
            assert not any(isinstance(number, ast.Constant) for number in numbers), f"{path}: {purpose[0].value} of one number"
            layers = ["layers"] if called == "random_layers" else []
            found.add((*layers, purpose[0].value, *(0 for _ in numbers)))
    handed_on = {("layers", 0)}  # in `random_layers` itself
    assert found - handed_on == {*STREAMS, *LAYERS}
