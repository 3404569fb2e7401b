import os

import pytest

from utils.parallel import ahead, map_in_order


def work(number: int) -> tuple[int, int]:
    if number == 77:
        raise ValueError("seventy-seven")
    return number, os.getpid()


def test_results_come_in_order_from_several_processes():
    results = list(map_in_order(work, range(60), n_workers=2))
    assert [number for number, _ in results] == list(range(60))
    assert (
        os.getpid() not in {process for _, process in results}
        and len({process for _, process in results}) == 2
    )


@pytest.mark.parametrize(("n", "n_workers"), [(3, 2), (60, 1), (0, 2)])
def test_few_items_stay_in_this_process(n, n_workers):
    assert {process for _, process in map_in_order(work, range(n), n_workers)} <= {os.getpid()}


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="seventy-seven"):
        list(map_in_order(work, range(100), n_workers=2))


def test_ahead_keeps_order_and_passes_errors_on():
    assert list(ahead(iter(range(20)), 3)) == list(range(20)) and list(ahead(iter(()))) == []

    def broken():
        yield 1
        raise ValueError("two")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="two"):
        next(items)
