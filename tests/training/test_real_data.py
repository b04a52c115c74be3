"""Training on real data is a plain PyTorch loop, bit for bit."""

import pytest
import torch
import user_networks
from torch.nn.functional import cross_entropy

from labeldistill.data.datasets import normalisation, split
from labeldistill.data.streams import generator, random_layers, stream
from labeldistill.networks.functional import flat_parameters
from labeldistill.networks.network import make_network
from labeldistill.training.evaluation import ImageSet
from labeldistill.training.heads import LinearHead
from labeldistill.training.real_data import train_epochs, train_on_real
from labeldistill.training.trainer import Trainer


@pytest.fixture(scope="module")
def real(make_dataset):
    data = make_dataset(count=700)
    return ImageSet(data.images, data.labels, normalisation(data, split(data).train))


def frozen(channels, image_size, classes):
    "Its first layer stays as it was drawn."
    module = user_networks.normed(channels, image_size, classes)
    module[1].requires_grad_(False)
    return module


@pytest.mark.parametrize("factory", ["lenet", "resnet14", user_networks.dropping, frozen], ids=str)
def test_full_training_is_the_textbook_loop(real, factory, epochs=2, seed=3):
    network = make_network(factory, 1, 16, 3)
    full = train_epochs(network, real, real, epochs, seed, show_progress=False)
    module, losses = network.build(stream(seed, "full network")), []
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * 3)
    with random_layers(seed, "full"):
        for epoch in range(epochs):
            for rows in torch.randperm(700, generator=generator(seed, "full order", epoch)).split(256):
                optimizer.zero_grad()
                loss = cross_entropy(module.train()(real.normalise(real.images[rows])), real.labels[rows])
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
    assert full.losses == tuple(losses) and full.accuracies[-1] == real.accuracy(module)
    assert all(torch.equal(a, b) for a, b in zip(full.module.state_dict().values(), module.state_dict().values(), strict=True))


def test_a_number_of_steps_is_as_many_steps_of_the_same_epochs(real, batch=256):
    head, seen = LinearHead(make_network("lenet", 1, 16, 3)), []
    module = train_on_real(Trainer(head, "adam", 1), real, 5, generator(2, "order"), batch, seen.append)
    again, rng = Trainer(head, "adam", 1), generator(2, "order")
    orders = [torch.randperm(700, generator=rng) for _ in range(2)]
    for rows in [rows for order in orders for rows in order.split(batch)][:5]:
        again.step(real.normalise(real.images[rows]), real.labels[rows])
    assert torch.equal(flat_parameters(module), again.trained["theta"]) and seen == [1, 2, 3, 4, 5]
