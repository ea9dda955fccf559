/* The child of bench_worker.c: a number is its state. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <process_hub.h>
#include <stdlib.h>
#include <string.h>

enum { STATE = 42 };

static ph_status worker_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    (void)user_data, (void)context, (void)args;
    *child = calloc(1, sizeof(uint64_t));
    return *child != NULL ? PH_OK : ph_reply_fail(reply, 0, "no memory");
}

static ph_status worker_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)context;
    if (message.len == 3 && memcmp(message.data, "put", 3) == 0) {
        *(uint64_t *)child = STATE;
    }
    return ph_reply_value(reply, ph_bytes(child, sizeof(uint64_t)));
}

static ph_status worker_prepare(void *child, ph_context *context, ph_reply *reply) {
    (void)context;
    return ph_reply_value(reply, ph_bytes(child, sizeof(uint64_t)));
}

static ph_status worker_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    (void)context;
    if (state.len != sizeof(uint64_t)) {
        return ph_reply_fail(reply, 0, "a state of another length");
    }
    memcpy(child, state.data, sizeof(uint64_t));
    return PH_OK;
}

static ph_child_callbacks worker_callbacks(void) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    callbacks.start = worker_start;
    callbacks.handle = worker_handle;
    callbacks.prepare_handover_state = worker_prepare;
    callbacks.alter_handover_state = worker_alter;
    callbacks.drop = free;
    return callbacks;
}

#endif
