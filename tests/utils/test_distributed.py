"""Two processes compute what one computes on the same global batch: loss and every gradient."""

import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from models.class_weights import weighted_cross_entropy
from tests.modules import small_classifier, small_pretraining
from utils.distributed import gather_by_event

WEIGHTS = torch.tensor([0.0, 1.0, 3.0])


class Pretraining(nn.Module):
    """The SSL loss, on an encoder without BatchNorm (PyTorch synchronises it on GPUs only)."""

    def __init__(self):
        super().__init__()
        self.module = small_pretraining(proj_hid=32, proj_out=32)
        self.module.encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 128), nn.Tanh())

    def forward(self, batch):
        torch.manual_seed(1)  # as SeedEveryStep: dropout is the same in every process
        return self.module.losses(batch)["loss"]


class RealPretraining(nn.Module):
    """The SSL step of a real encoder, with BatchNorm in evaluation mode (see above)."""

    def __init__(self):
        super().__init__()
        # float64: in float32 rounding changes this gradient by 2e-4
        self.module = small_pretraining(proj_hid=32, proj_out=32).double()
        self.module.encoder.eval()

    def forward(self, batch):
        torch.manual_seed(1)
        return self.module.losses(batch)["loss"]


class RealClassification(nn.Module):
    """The supervised network, with fixed statistics of BatchNorm (``freeze_bn_stat_train``)."""

    def __init__(self):
        super().__init__()
        self.module = small_classifier(freeze_bn_stat_train=True).double()

    def forward(self, batch):
        images, labels = batch
        return weighted_cross_entropy(self.module(images.unsqueeze(1)), labels, WEIGHTS, 0.1)


class Classification(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.module = nn.Linear(48, 3)

    def forward(self, batch):
        images, labels = batch
        return weighted_cross_entropy(self.module(images.flatten(1)), labels, WEIGHTS, 0.1)


def batch_of(kind):
    generator = torch.Generator().manual_seed(2)
    size, dtype = (
        ((40, 40), torch.float64) if kind.__name__.startswith("Real") else ((6, 8), torch.float32)
    )
    if kind.__name__.endswith("Pretraining"):
        return torch.rand(8, 3, *size, generator=generator, dtype=dtype)
    return torch.rand(8, *size, generator=generator, dtype=dtype), torch.tensor(
        [0, 1, 2, 1, 1, 2, 2, 0]
    )


def share(batch, rank, world):
    return (
        batch[rank::world]
        if isinstance(batch, torch.Tensor)
        else tuple(part[rank::world] for part in batch)
    )


def loss_and_gradients(model, batch):
    loss = model(batch)
    loss.backward()
    return loss.detach(), {
        name.removeprefix("module."): p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


KINDS = (Pretraining, Classification, RealPretraining, RealClassification)


def _one_of_two(rank, port, folder):
    """Compute all kinds, one after the other: PyTorch is imported once for all."""
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    torch.set_num_threads(1)
    for kind in KINDS:
        loss, gradients = loss_and_gradients(
            DistributedDataParallel(kind()), share(batch_of(kind), rank, 2)
        )
        distributed.all_reduce(loss)
        if rank == 0:
            torch.save({"loss": loss / 2, "gradients": gradients}, folder / f"{kind.__name__}.pt")
    events = (
        [torch.tensor([4, 1]), torch.tensor([3])]
        if rank
        else [torch.tensor([0, 2]), torch.tensor([4])]
    )
    gathered = gather_by_event(events, [10 * e for e in events])
    if rank == 0:
        torch.save([torch.from_numpy(g) for g in gathered], folder / "gathered.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # both are forks of one new process that has imported this file, and with it PyTorch
    multiprocessing.set_forkserver_preload([__name__])
    multiprocessing.start_processes(
        _one_of_two, args=(port, folder), nprocs=2, start_method="forkserver"
    )
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(kind, two_processes):
    two = torch.load(two_processes / f"{kind.__name__}.pt", weights_only=True)
    loss, gradients = loss_and_gradients(kind(), batch_of(kind))
    torch.testing.assert_close(two["loss"], loss, rtol=1e-5, atol=1e-6)
    two_gradients = {name.removeprefix("module."): g for name, g in two["gradients"].items()}
    assert two_gradients.keys() == {name.removeprefix("module.") for name in gradients}
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            two_gradients[name.removeprefix("module.")], gradient, rtol=1e-5, atol=1e-5, msg=name
        )


def test_two_processes_gather_in_the_order_of_events(two_processes):
    events, values = torch.load(two_processes / "gathered.pt", weights_only=True)
    assert events.tolist() == [0, 1, 2, 3, 4] and values.tolist() == [0, 10, 20, 30, 40]
