import math

import pytest
import torch
from torch import nn

from models.optimisers import adam_with_cosine


def test_learning_rates_follow_a_cosine_to_zero_over_the_exact_number_of_steps():
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    built = adam_with_cosine(
        [
            {"params": layers[0].parameters(), "lr": 5e-4},
            {"params": layers[1].parameters(), "lr": 1e-3},
        ],
        1e-4,
        20,
    )
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.defaults["weight_decay"] == 1e-4
    assert built["lr_scheduler"]["interval"] == "step"
    for step in range(21):
        share = (1 + math.cos(math.pi * step / 20)) / 2
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [5e-4 * share, 1e-3 * share], abs=1e-12
        )
        optimizer.step()
        schedule.step()


def test_frozen_parameters_are_left_out():
    layers = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)
    built = adam_with_cosine(
        [{"params": list(layer.parameters()), "lr": 1e-3} for layer in layers], 0.0, 1
    )
    assert [len(group["params"]) for group in built["optimizer"].param_groups] == [2]
