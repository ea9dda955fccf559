/** What the native half asks for: calls by the numbers of the core's `HostRequest`, others by those of `src/items.rs`. */

/** Cells of one item: operation, number of the call or request, instance, and two that belong to the operation. */
export const WIDTH = 5;

export const NOTHING = 0;
export const START = 1;
export const RUN = 2;
export const CANCEL_RUN = 3;
export const HANDLE = 4;
export const PREPARE_STATE = 5;
export const ALTER_STATE = 6;
export const RESOLVE_CONFLICT = 7;
export const REDUNDANCY_SIGNAL = 8;
export const HANDOVER_START = 9;
export const SET_ROLE = 10;
export const STOP = 11;
export const DISCARD = 12;
export const ALTER_SPEC = 13;
/** The operations up to here are calls, to be completed by their number. */
export const LAST_CALL = ALTER_SPEC;
export const COMPLETED = 14;
export const HOOK = 15;
export const CLOSED = 16;
export const DECIDE = 17;
