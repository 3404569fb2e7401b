import pytest

from training import loggers
from training.loggers import MetricsTable
from utils.errors import UserError


def test_metrics_table_has_one_row_per_epoch_and_goes_on(tmp_path):
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"val/loss": 2.0, "epoch": 0}, step=5)
    table.log_metrics({"train/loss": 3.0, "epoch": 0}, step=5)
    table.log_metrics({"train/loss": 1.0, "epoch": 1}, step=10)
    table.log_metrics({"test/ensemble/accuracy": 1.0, "epoch": 2}, step=10)
    table.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,val/loss,train/loss",
        "0,2.0,3.0",
        "1,,1.0",
    ]
    resumed = MetricsTable(tmp_path / "metrics.csv")
    resumed.forget_after(1)
    resumed.log_metrics({"train/loss": 0.5, "epoch": 1}, step=10)
    resumed.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,val/loss,train/loss",
        "0,2.0,3.0",
        "1,,0.5",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"train/loss\n1\n",
        b"epoch\nx\n",
        b"",
        b"epoch,a\n1," + b"x" * 200_000,
        b"epoch\n\n1,2\n,\n",
    ],
)
def test_a_damaged_table_is_one_message(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    try:
        MetricsTable(tmp_path / "metrics.csv").save()
    except UserError as error:
        assert "metrics.csv: damaged" in str(error) and "delete it" in str(error)
    else:
        assert content == b""


def test_wandb_goes_online_only_for_who_is_logged_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not loggers._logged_in_to_wandb()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert loggers._logged_in_to_wandb()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert loggers._logged_in_to_wandb()
