"""The items of the host queue: tuples that begin with one of these numbers.

The native module makes them; calls have the numbers of
the core's ``HostRequest``, and the others those of ``src/items.rs``.
"""

from typing import Final

NOTHING: Final = 0
START: Final = 1
RUN: Final = 2
CANCEL_RUN: Final = 3
HANDLE: Final = 4
PREPARE_STATE: Final = 5
ALTER_STATE: Final = 6
RESOLVE_CONFLICT: Final = 7
REDUNDANCY_SIGNAL: Final = 8
HANDOVER_START: Final = 9
SET_ROLE: Final = 10
STOP: Final = 11
DISCARD: Final = 12
ALTER_SPEC: Final = 13
COMPLETED: Final = 14
ADD_THREAD: Final = 15
CLOSED: Final = 16
DECIDE: Final = 17
