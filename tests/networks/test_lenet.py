"""LeNet against its textbook form: values, forward mode, parameters."""

import pytest
import torch
from naive import textbook_lenet
from torch.func import jvp

from labeldistill.networks.functional import Functional, flat_parameters
from labeldistill.networks.zoo import LeNet
from labeldistill.utils import InputError

LENET_SHAPES = [(1, 16), (1, 17), (3, 18), (1, 20), (1, 27), (1, 28), (3, 28), (2, 30), (3, 32), (1, 33), (1, 40)]


@pytest.fixture(params=LENET_SHAPES, ids=str)
def lenets(request):
    "LeNet and its textbook form with the same parameters, and images."
    channels, size = request.param
    torch.manual_seed(0)
    ours, textbook = LeNet(channels, size, 10).double(), textbook_lenet(channels, size, 10).double()
    textbook.load_state_dict(dict(zip(textbook.state_dict(), ours.state_dict().values(), strict=True)))
    return ours, textbook, torch.randn(5, channels, size, size, dtype=torch.float64)


def test_lenet_gives_the_logits_of_the_textbook_form(lenets):
    ours, textbook, images = lenets
    assert torch.allclose(ours(images), textbook(images), rtol=0, atol=1e-12)


def test_lenet_has_the_gradients_of_the_textbook_form(lenets):
    *networks, images = lenets
    images.requires_grad_()
    gradients = [torch.autograd.grad(net(images).sin().sum(), [*net.parameters(), images]) for net in networks]
    for ours, textbook in zip(*gradients, strict=True):
        assert torch.allclose(ours, textbook, rtol=1e-9, atol=1e-12)


def test_lenet_forward_mode_is_the_transpose_of_the_textbook_forms_backward(lenets):
    ours, textbook, images = lenets
    function, theta = Functional(ours), flat_parameters(ours)
    direction, cotangent = torch.randn_like(theta), torch.randn(len(images), 10, dtype=torch.float64)
    _, change = jvp(lambda point: function(point, images), (theta,), (direction,))
    gradients = torch.autograd.grad((textbook(images) * cotangent).sum(), textbook.parameters())
    gradient = torch.cat([g.flatten() for g in gradients])
    assert (change * cotangent).sum().item() == pytest.approx((gradient @ direction).item(), rel=1e-9)


@pytest.mark.parametrize(("channels", "size", "parameters"), [(1, 28, 61_706), (3, 32, 62_006)])
def test_lenet_has_as_many_parameters_as_in_the_paper(channels, size, parameters):
    assert sum(p.numel() for p in LeNet(channels, size, 10).parameters()) == parameters


def test_lenet_refuses_images_that_its_pooling_would_use_up():
    with pytest.raises(InputError, match="16 pixels or more, not 15"):
        LeNet(1, 15, 10)
