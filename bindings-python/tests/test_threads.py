"""Which thread of the host gets a call, and that none is left lying."""

import concurrent.futures
import time

import process_hub as ph
import pytest


class Sleeper(ph.Child):
    """Sleeps as long as it is told."""

    def handle(self, message):
        time.sleep(message)
        return message


@pytest.mark.parametrize("seconds", [0.02, 0.3], ids=["soon", "when all is quiet"])
def test_callback_ends_on_a_thread_that_was_overtaken_then_the_next_message_is_not_left(
    hub, seconds
):
    hub.register("sleeper", Sleeper)
    hub.start_child("s", "sleeper").result(5)
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(hub.call, "s", seconds) for _ in range(3)]
        assert [call.result(20) for call in calls] == [seconds] * 3
    # A thread that waits for a call looks again by itself only after seconds.
    assert time.monotonic() - begin < 3 * seconds + 3
