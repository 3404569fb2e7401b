import pytest

from preprocessing.traces import seg2_problem
from tests.preprocessing.fuzzing import seg2_bytes, with_fields


@pytest.mark.parametrize("order", ["<", ">"])
def test_traces_lie_behind_one_another(tmp_path, order):
    path, whole = tmp_path / "e.dat", seg2_bytes(3, order=order)
    path.write_bytes(whole)
    assert seg2_problem(path) == ""
    path.write_bytes(
        with_fields(whole, (36, whole[32:36]))
    )  # the second pointer names the first trace
    assert "no trace 2" in seg2_problem(path)
    path.write_bytes(whole[:-1])
    assert "trace 3 would end" in seg2_problem(path)
