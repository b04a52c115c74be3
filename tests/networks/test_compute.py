"""The choice of device and computation where Apple's GPU is there, as far as a machine without it can tell."""

import pytest
import torch

from labeldistill.networks.compute import COMPILE_FROM, PLAIN, bfloat16_is_native, can_compile, choose_computation, select_device
from labeldistill.networks.network import make_network
from labeldistill.utils import InputError

MPS = torch.device("mps")


@pytest.fixture(scope="module")
def lenet():
    return make_network("lenet", 1, 28, 10)


@pytest.mark.parametrize("there", [True, False])
def test_mps_is_accepted_where_pytorch_has_it_and_never_chosen(monkeypatch, there):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    assert select_device("auto").type in ("cpu", "cuda")
    if there:
        assert select_device("mps") == select_device(MPS) == MPS
    else:
        with pytest.raises(InputError, match=r"^--device 'mps': expected auto, cpu[^\n]*$"):
            select_device("mps")


def test_on_mps_networks_are_computed_in_plain_float32(lenet):
    assert not bfloat16_is_native(MPS) and not can_compile(MPS)
    for calls in (1, COMPILE_FROM, 10**6):
        assert choose_computation(lenet, MPS, calls) == choose_computation(lenet, MPS, calls, "fp32", False) == PLAIN


@pytest.mark.parametrize(
    ("precision", "compile", "message"),
    [
        ("bf16", None, "--precision bf16: not on mps; expected --precision fp32 --no-compile"),
        ("auto", True, "--compile: not on mps; expected --precision fp32 --no-compile"),
    ],
)
def test_bfloat16_and_the_compiler_are_refused_on_mps(lenet, precision, compile, message):
    with pytest.raises(InputError) as caught:
        choose_computation(lenet, MPS, 10**6, precision, compile)
    assert str(caught.value) == message
