"""Commands that are run for each event."""

import pytest

from prediction.events import Event
from prediction.monitoring.alarms import Alarms
from utils.errors import UserError


def test_a_command_that_hangs_or_is_missing_stops_nothing(caplog):
    event = Event("", "", "now", {}, "", "")
    for command, said in (("sleep 30", "stopped after 0.2 s, event now"), ("/no/x", "cannot be")):
        alarms = Alarms(command, 0.2)
        alarms.announce(event)
        alarms.close()
        assert alarms.n_done == 1 and said in caplog.text
    with pytest.raises(UserError, match="empty"):
        Alarms(" ", 1)


def test_a_shell_is_used_only_if_asked_for(tmp_path, caplog):
    for shell in (False, True):
        alarms = Alarms(f"cat > {tmp_path / 'x'}", 5, shell)
        alarms.announce(Event("", "", "now", {}, "", ""))
        alarms.close()
        assert (tmp_path / "x").exists() == shell
