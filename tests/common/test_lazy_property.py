from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from airflow_allma.common.lazy_property import lazy_property

BOTH = Barrier(2)


class Slow:
    calls = 0

    @lazy_property
    def value(self):
        self.calls += 1
        BOTH.wait(10)
        return self.calls


def test_two_objects_compute_at_the_same_time_and_each_once():
    objects = [Slow(), Slow()]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda one: one.value, objects)) == [1, 1]
    assert [one.value for one in objects] == [1, 1]
