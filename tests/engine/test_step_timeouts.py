"""Steps that hang, and steps that are only slow."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.http import HttpResponse
from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from airflow_allma.engine.threads import CallThreads
from airflow_allma.storage import Pointer
from airflow_allma.storage.memory import MemoryStore
from tests.support.engine import Fakes, Json, call, fork, run
from tests.support.faulty_store import FaultyStore

SHORT = EngineSettings(step_timeout_seconds=0.5)
ITEM_URL = "https://api.test/{{currentItem}}"


class SlowApi(FakeHttpClient):
    """Waits before the first ``slow_replies`` replies to a path, if ``seconds`` has a delay for it."""

    def __init__(self, **seconds: float) -> None:
        super().__init__()
        self.route("GET", "https://api.test/*", lambda request: json_response({"url": request.url}))
        self._seconds = seconds
        self.slow_replies = 1000
        self.calls: Counter[str] = Counter()

    async def request(self, method: str, url: str, **options) -> HttpResponse:
        path = url.rpartition("/")[2]
        self.calls[path] += 1
        if self.calls[path] <= self.slow_replies:
            await asyncio.sleep(self._seconds.get(path, 0))
        return await super().request(method, url, **options)


class HangingStore(FaultyStore):
    """Never responds to a request for the object ``hang``, until the test ends."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), self._hang_at)
        self.over = threading.Event()
        self.hanging = 0

    def _hang_at(self, _: str, pointer: Pointer, __: int) -> None:
        if pointer.key == "hang":
            self.hanging += 1
            self.over.wait(10)
            self.hanging -= 1


@pytest.fixture
def hanging_store() -> Iterator[HangingStore]:
    store = HangingStore()
    store.write(Pointer("b", "fine"), b'"content"')
    yield store
    store.over.set()


def run_fork_of_calls(api: SlowApi, items: list[str], settings: EngineSettings = SHORT, **step: object):
    """Run a fork that calls the API for each item."""
    config = {"failOnBranchError": False}
    steps = {"fan": fork(config=config), "work": call(ITEM_URL, **step)}
    return run(steps, {"items": items}, fakes=Fakes(http=api), settings=settings)


def errors(ran) -> list[Json | None]:
    return [one.get("error") for one in ran.outputs["fan"]["aggregatedData"]]


def test_a_hanging_step_fails_only_its_item_and_says_how_long_it_waited():
    api = SlowApi(hang=10)
    ran = run_fork_of_calls(api, ["a", "hang", "b", "c"])
    assert ran.status == "COMPLETED"
    first, hung, *others = errors(ran)
    assert [first, *others] == [None, None, None]
    assert hung["errorName"] == "StepTimeoutError"
    assert hung["isRetryable"] is True
    assert hung["errorMessage"] == (
        "Step work timed out after 0.5 s. Find out what it waits for, or set [allma] step_timeout_seconds "
        "higher; 0 means no limit."
    )
    details = {"timeoutSeconds": 0.5, "failedStepInstanceId": "work", "branchId": "b", "itemIndex": 1}
    assert hung["errorDetails"] == details
    # No retries as for a lost connection: each of them would take as long again.
    assert api.calls["hang"] == 1


@pytest.mark.parametrize(
    ("names", "calls"), [(None, 2), (["StepTimeoutError"], 2), (["TransientStepError"], 1)]
)
def test_a_hanging_step_is_retried_if_the_flow_says_so(names, calls):
    api = SlowApi(hang=10)
    api.slow_replies = 1
    retries = {"count": 2, "intervalSeconds": 1, **({"errorEquals": names} if names else {})}
    ran = run_fork_of_calls(api, ["hang"], onError={"retries": retries})
    assert api.calls["hang"] == calls
    assert (errors(ran) == [None]) == (calls == 2)


def test_hanging_modules_do_not_block_other_items_or_the_end_of_the_run(hanging_store):
    step = {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/s3-data-loader",
        "customConfig": {"sourceS3Uri": "s3://b/{{currentItem}}"},
    }
    steps = {"fan": fork(config={"failOnBranchError": False}), "work": step}
    items = ["hang", "hang", *["fine"] * 6]
    # Both threads hang at once; the other items get a slot only after their calls are abandoned.
    ran = run(steps, {"items": items}, store=hanging_store, settings=SHORT, threads=CallThreads(2))
    assert hanging_store.hanging == 2
    names = [error and error["errorName"] for error in errors(ran)]
    assert names == ["StepTimeoutError", "StepTimeoutError", *[None] * 6]


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        (EngineSettings(step_timeout_seconds=0), {}),
        (EngineSettings(step_timeout_seconds=0.1), {"customConfig": {"timeoutMs": 5000}}),
    ],
)
def test_a_step_may_take_long_without_a_limit_or_with_its_own_limit(settings, step):
    ran = run_fork_of_calls(SlowApi(slow=0.4), ["slow"], settings, **step)
    assert errors(ran) == [None]


def test_a_fork_may_take_longer_than_each_of_its_steps():
    config = {"failOnBranchError": False, "maxConcurrency": 1}
    api = SlowApi(slow=0.3)
    steps = {"fan": fork(config=config), "work": call(ITEM_URL)}
    settings = EngineSettings(step_timeout_seconds=1)
    ran = run(steps, {"items": ["slow"] * 5}, fakes=Fakes(http=api), settings=settings)
    assert ran.status == "COMPLETED"
    assert errors(ran) == [None] * 5


def test_a_timeout_of_the_handler_is_not_a_step_timeout():
    def late(_):
        raise TimeoutError("its own")

    api = SlowApi()
    api.route("GET", "https://other.test/x", late)
    ran = run({"work": call("https://other.test/x")}, fakes=Fakes(http=api))
    assert ran.error["errorName"] == "PermanentStepError"
    assert "its own" in ran.error["errorMessage"]
