import os

import pytest

from utils.parallel import map_in_order


def work(number: int) -> tuple[int, int]:
    if number == 77:
        raise ValueError("seventy-seven")
    return number, os.getpid()


def test_results_come_in_order_from_several_processes():
    results = list(map_in_order(work, range(60), n_workers=2))
    assert [number for number, _ in results] == list(range(60))
    assert os.getpid() not in {process for _, process in results} and len({process for _, process in results}) == 2


@pytest.mark.parametrize(("n", "n_workers"), [(3, 2), (60, 1), (0, 2)])
def test_few_items_stay_in_this_process(n, n_workers):
    assert {process for _, process in map_in_order(work, range(n), n_workers)} <= {os.getpid()}


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="seventy-seven"):
        list(map_in_order(work, range(100), n_workers=2))
