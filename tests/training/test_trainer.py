import pytest
import torch

from training import trainer as training
from utils.errors import UserError


def test_devices(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert training._devices((0,)) == ("cpu", 1) and caplog.text.count("no GPU") == 1
    assert training._devices(()) == ("cpu", 1) and caplog.text.count("no GPU") == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training._devices((0, 1)) == ("gpu", [0, 1]) and training._devices(()) == ("cpu", 1)
    with pytest.raises(UserError, match=r"found \[2\].*GPUs 0 to 1"):
        training._devices((2,))
