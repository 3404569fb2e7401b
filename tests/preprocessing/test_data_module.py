import numpy as np
import pytest
import torch

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.data_module import EpochBatches, EventDataModule
from preprocessing.dataset import EventDataset
from preprocessing.event_archive import EventArchive
from utils.errors import UserError

N_EVENTS, N_SAMPLES = 40, 200


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Events of 1 to 4 sensors; sensor 1 is dead; sample 0 of sensor s of event e is 100 e + s."""
    path = tmp_path_factory.mktemp("archive") / "a"
    with ArchiveWriter(path, 100.0) as writer:
        for event in range(N_EVENTS):
            block = np.random.default_rng(event).normal(size=(1 + event % 4, N_SAMPLES))
            block[:, 0] = 100 * event + np.arange(len(block))
            if len(block) > 1:
                block[1] = 100 * event + 1
            writer.add(f"e{event}", block, category=("A", "B", "Unlabeled")[event % 3])
    return EventArchive(path)


class Trainer:
    current_epoch = 0

    class strategy:
        root_device = torch.device("cpu")


def module(archive, sensors="one", **options):
    events = np.arange(N_EVENTS)
    options = {
        "class_names": archive.class_names,
        "batch_size": 8,
        "sensors_train": sensors,
        "seed": 3,
    } | options
    data = EventDataModule(archive, events[:32], events[32:], **options)
    data.trainer = Trainer()
    data.setup("fit")
    return data


def batches(loader, data):
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def epoch_of(data, epoch):
    data.trainer.current_epoch = epoch
    return batches(data.train_dataloader(), data)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, other in zip(a, b) for x, y in zip(one, other)
    )


@pytest.mark.parametrize("sensors", ["one", "pair", "all"])
def test_only_live_sensors_are_served_and_they_are_the_right_ones(archive, sensors):
    for batch in epoch_of(module(archive, sensors), 0):
        first = batch.waveforms[..., 0]
        expected = 100 * batch.events[:, None] + batch.sensors
        assert torch.equal(first[batch.mask].long(), expected[batch.mask])
        assert not batch.waveforms[~batch.mask].any() and (batch.sensors[batch.mask] != 1).all()
        for event, mask in zip(batch.events, batch.mask):
            n_live = int(archive.live[event].sum())
            assert mask.sum() == {"one": 1, "pair": 2, "all": n_live}[sensors]


def test_labels_and_order(archive):
    data = module(archive)
    first, second = epoch_of(data, 0), epoch_of(data, 1)
    events = [torch.cat([b.events for b in epoch]).tolist() for epoch in (first, second)]
    assert sorted(events[0]) == sorted(events[1]) == list(range(32)) and events[0] != events[1]
    labels = torch.cat([b.labels for b in first])
    assert labels.tolist() == [
        {"A": 0, "B": 1, "Unlabeled": -1}[archive.labels[e]] for e in events[0]
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"preload": "ram"},
        {"preload": "device"},
        {"preload": "ram", "num_workers": 2},
    ],
)
def test_workers_and_preloading_change_nothing(archive, options):
    plain, other = module(archive, "all"), module(archive, "all", **options)
    for epoch in (0, 5):
        assert same(epoch_of(plain, epoch), epoch_of(other, epoch))
    assert same(batches(plain.test_dataloader(), plain), batches(other.test_dataloader(), other))


def test_memory_is_pinned_for_a_gpu_only(archive, monkeypatch):
    """Another program may need the GPU that a training on the CPU leaves alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = module(archive)
    assert not data.train_dataloader().pin_memory
    monkeypatch.setattr(Trainer.strategy, "root_device", torch.device("cuda", 0))
    assert data.train_dataloader().pin_memory


def test_seed_and_epoch_decide(archive):
    assert same(epoch_of(module(archive, "pair"), 2), epoch_of(module(archive, "pair"), 2))
    assert not same(
        epoch_of(module(archive, "pair"), 2), epoch_of(module(archive, "pair", seed=4), 2)
    )
    data = module(archive, "pair")
    assert same(batches(data.val_dataloader(), data), batches(data.val_dataloader(), data))


def test_sensors_are_drawn_uniformly(archive):
    dataset = EventDataset(archive, np.zeros(N_EVENTS, dtype=np.int64), "pair", seed=0)
    drawn = np.concatenate(
        [dataset.__getitems__([(epoch, 3)]).sensors.numpy() for epoch in range(600)]
    )
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    # three live sensors, drawn with replacement
    assert len(counts) == 9 and counts.min() > 600 / 9 * 0.6


def test_incomplete_batches(archive):
    events = np.arange(21)
    kept = EpochBatches(events, 8, 0, None, drop_last=False)
    assert len(kept) == 3 and [len(b) for b in kept] == [8, 8, 5]
    dropped = EpochBatches(events, 8, 0, lambda: 0, drop_last=True)
    assert len(dropped) == 2 and [len(b) for b in dropped] == [8, 8]
    assert len(module(archive, "pair").train_dataloader()) == 4


@pytest.mark.parametrize("sensors", ["one", "pair", "all"])
def test_test_events_are_watched_with_all_sensors_and_in_pretraining_with_pairs(archive, sensors):
    data = module(archive, sensors, batch_size=16)  # more than the 8 held-out events
    (batch,) = batches(data.val_dataloader(), data)
    assert batch.waveforms.shape[:2] == (8, {"one": 3, "pair": 2, "all": 3}[sensors])
    one = module(archive, sensors, batch_size=16, sensors_test="one")
    (batch,) = batches(one.val_dataloader(), one)
    assert batch.waveforms.shape[1] == (2 if sensors == "pair" else 1)


def test_processes_share_every_batch(monkeypatch):
    events, whole, shares = np.arange(21), [], []
    sampler = EpochBatches(events, 8, 0, lambda: 2, drop_last=False)
    whole = list(sampler)
    for rank in range(2):
        monkeypatch.setattr(
            "preprocessing.data_module.rank_and_world_size", lambda rank=rank: (rank, 2)
        )
        shares.append(list(sampler))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(first + second)


def test_pretraining_refuses_batches_that_cannot_be_filled(archive):
    with pytest.raises(UserError, match="batch_size is 33, but there are only 32 training events"):
        module(archive, "pair", batch_size=33)


@pytest.mark.parametrize("sensors", ["one", "all"])
def test_fewer_training_events_than_a_batch_are_one_batch(archive, sensors):
    data = module(archive, sensors, batch_size=33)
    (batch,) = data.train_dataloader()
    assert sorted(batch.events.tolist()) == sorted(data.train_events.tolist())


@pytest.mark.parametrize("options", [{}, {"preload": "device"}])
def test_labelled_batches_hold_each_labelled_event_once_with_the_same_sensor(archive, options):
    data = module(archive, "pair", **options)
    for training, expected in ((True, range(32)), (False, range(32, N_EVENTS))):
        epochs = [list(data.labelled_batches(training, torch.device("cpu"))) for _ in range(2)]
        assert same(*epochs)
        events = torch.cat([batch.events for batch in epochs[0]])
        assert events.tolist() == [e for e in expected if archive.labels[e] != "Unlabeled"]
        assert events.tolist() == data.labelled_events(training).tolist()
        for batch in epochs[0]:
            assert batch.waveforms.shape == (len(batch.events), 1, N_SAMPLES)
            found = batch.waveforms[:, 0, 0].long()
            assert torch.equal(found, 100 * batch.events + batch.sensors[:, 0])


def test_names_and_size_of_events(archive):
    data = module(archive)
    assert data.n_sensors == 4 and data.event_names(torch.tensor([7, 2])) == ["e7", "e2"]


def test_too_many_waveforms_for_a_gpu_are_refused(archive, monkeypatch):
    def refuse(shape, device):
        raise torch.OutOfMemoryError(f"{shape} on {device}")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(UserError, match=r"dataset.preload: .* GB, more than is free on the GPU"):
        module(archive, preload="device")
