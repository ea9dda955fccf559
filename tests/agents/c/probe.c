/* The child that every agent runs. */
#include "agent.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define MAX_LOG_ENTRIES 1000

/* Holds `data` and tells what happens to it. */
typedef struct probe {
    ph_context *context;
    json_t *args;
    json_t *data;
    /* The body notes too. */
    pthread_mutex_t lock;
    json_t *log;
    char instance[17];
} probe;

/* --- what it tells -------------------------------------------------------------------------------------------------- */

/* Takes the reference of `detail`. */
static void note(probe *self, const char *what, json_t *detail) {
    pthread_mutex_lock(&self->lock);
    if (json_array_size(self->log) == MAX_LOG_ENTRIES) {
        json_array_remove(self->log, 0);
    }
    json_array_append_new(self->log, json_pack("{s:s, s:o}", "what", what, "detail", detail));
    pthread_mutex_unlock(&self->lock);
}

/* Notes it and writes an event; takes the reference of `detail`. */
static void tell(probe *self, const char *what, json_t *detail) {
    ph_context *context = self->context;
    note(self, what, json_deep_copy(detail));
    write_line(json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:o}", "event", "child", "hub_id", ph_context_hub_id(context),
                         "child_id", ph_context_child_id(context), "node", ph_context_node(context), "instance", self->instance,
                         "epoch", (json_int_t)ph_context_epoch(context), "what", what, "detail", detail));
}

static void sleep_ms(json_int_t ms) {
    if (ms > 0) {
        usleep((useconds_t)ms * 1000);
    }
}

static void hang(const probe *self, const char *callback) {
    const char *where = json_string_value(json_object_get(self->args, "hang_in"));
    if (where != NULL && strcmp(where, callback) == 0) {
        sleep_ms(json_integer_value(json_object_get(self->args, "ms")));
    }
}

static const char *mode_name(ph_mode mode) {
    return mode == PH_ACTIVE ? "active" : "passive";
}

static const char *start_reason_name(ph_start_reason reason) {
    static const char *const NAMES[] = {"", "initial", "restart", "migration", "failover"};
    return NAMES[reason];
}

static const char *stop_reason_name(ph_stop_reason reason) {
    static const char *const NAMES[] = {"", "stopped", "migrated", "shutdown", "partitioned", "lost_ownership"};
    return NAMES[reason];
}

/* --- its data -------------------------------------------------------------------------------------------------------- */

static bool has(const json_t *list, const json_t *item) {
    size_t index;
    json_t *other;
    json_array_foreach(list, index, other) {
        if (json_equal(other, item)) {
            return true;
        }
    }
    return false;
}

/* What `merge` makes of the own data and that which comes in. */
static json_t *merged(const json_t *own, const json_t *other, const char *how) {
    bool keeps = strcmp(how, "replace") != 0;
    json_t *result = keeps ? json_deep_copy(own) : json_object(), *value, *item;
    const char *key;
    size_t index;
    json_object_foreach((json_t *)other, key, value) {
        json_t *mine = json_object_get(result, key);
        if (strcmp(how, "max") == 0 && json_is_number(mine) && json_is_number(value)) {
            if (json_number_value(mine) < json_number_value(value)) {
                json_object_set(result, key, value);
            }
        } else if (strcmp(how, "union") == 0 && json_is_array(mine) && json_is_array(value)) {
            json_array_foreach(value, index, item) {
                if (!has(mine, item)) {
                    json_array_append(mine, item);
                }
            }
        } else {
            json_object_set(result, key, value);
        }
    }
    return result;
}

/* The data of a state, or NULL if it is none. */
static json_t *data_of(ph_value state) {
    json_t *document = json_of(state), *data = json_incref(json_object_get(document, "data"));
    json_decref(document);
    if (json_is_object(data)) {
        return data;
    }
    json_decref(data);
    return NULL;
}

/* --- callbacks ------------------------------------------------------------------------------------------------------- */

static ph_status reply_with(ph_reply *reply, json_t *value) {
    char *text = text_of(value);
    ph_status status = ph_reply_json(reply, text);
    free(text);
    json_decref(value);
    return status;
}

static ph_status probe_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    probe *self = (probe *)calloc(1, sizeof *self);
    unsigned char bytes[8] = {0};
    json_t *data;
    const char *fail;
    size_t i;
    (void)user_data;
    *child = self;
    self->context = context;
    self->args = json_of(args);
    data = json_object_get(self->args, "data");
    self->data = json_is_object(data) ? json_deep_copy(data) : json_object();
    pthread_mutex_init(&self->lock, NULL);
    self->log = json_array();
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return ph_reply_fail(reply, 0, "no random bytes");
    }
    for (i = 0; i < sizeof bytes; i++) {
        snprintf(self->instance + 2 * i, 3, "%02x", bytes[i]);
    }
    tell(self, "start", json_string(start_reason_name(ph_context_start_reason(context))));
    sleep_ms(json_integer_value(json_object_get(self->args, "start_delay_ms")));
    fail = json_string_value(json_object_get(self->args, "fail"));
    return fail != NULL ? ph_reply_fail(reply, 0, fail) : PH_OK;
}

static ph_status probe_run(void *child, ph_context *context, ph_reply *reply) {
    probe *self = (probe *)child;
    json_t *wanted = json_object_get(self->args, "run");
    const char *then = json_string_value(json_object_get(wanted, "then"));
    note(self, "run", json_null());
    if (wanted == NULL) {
        while (!ph_context_wait_cancelled(context, 3600000)) {
        }
        return PH_OK;
    }
    if (ph_context_wait_cancelled(context, (uint64_t)json_integer_value(json_object_get(wanted, "ms")))) {
        return PH_OK;
    }
    return then != NULL && strcmp(then, "throw") == 0 ? ph_reply_fail(reply, 0, "the body throws") : PH_OK;
}

static ph_status probe_signal(void *child, ph_context *context, ph_mode mode, ph_reply *reply) {
    (void)context, (void)reply;
    tell((probe *)child, "redundancy_signal", json_string(mode_name(mode)));
    hang((probe *)child, "signal");
    return PH_OK;
}

static ph_status probe_handover_start(void *child, ph_context *context, const ph_handover_target *target, ph_reply *reply) {
    (void)context, (void)reply;
    note((probe *)child, "handover_start", json_string(target->node != NULL ? target->node : target->error));
    return PH_OK;
}

static ph_status probe_prepare(void *child, ph_context *context, ph_reply *reply) {
    probe *self = (probe *)child;
    bool has_state = !json_is_true(json_object_get(self->args, "no_state"));
    json_int_t pad_bytes = json_integer_value(json_object_get(self->args, "pad_bytes"));
    json_t *state;
    (void)context;
    tell(self, "prepare_handover_state", has_state ? json_deep_copy(self->data) : json_null());
    hang(self, "prepare");
    if (!has_state) {
        return PH_OK;
    }
    state = json_pack("{s:O}", "data", self->data);
    if (pad_bytes > 0) {
        char *pad = (char *)malloc((size_t)pad_bytes);
        memset(pad, 'x', (size_t)pad_bytes);
        json_object_set_new(state, "pad", json_stringn(pad, (size_t)pad_bytes));
        free(pad);
    }
    return reply_with(reply, state);
}

/* Makes of the own data and a state what `how` says; keeps the own if it is NULL. */
static void take(probe *self, json_t *data, const char *how) {
    if (how != NULL) {
        json_t *before = self->data;
        self->data = merged(before, data, how);
        json_decref(before);
    }
    json_decref(data);
}

static ph_status probe_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    probe *self = (probe *)child;
    json_t *data = data_of(state);
    const char *how = json_string_value(json_object_get(self->args, "merge"));
    (void)context;
    if (data == NULL) {
        return ph_reply_fail(reply, 0, "the state has no data");
    }
    tell(self, "alter_handover_state", json_deep_copy(data));
    hang(self, "alter");
    take(self, data, how != NULL ? how : "replace");
    return PH_OK;
}

static ph_status probe_resolve(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    probe *self = (probe *)child;
    json_t *data = data_of(state);
    (void)context;
    if (data == NULL) {
        return ph_reply_fail(reply, 0, "the state has no data");
    }
    note(self, "resolve_conflict", json_deep_copy(data));
    take(self, data, json_string_value(json_object_get(self->args, "merge")));
    return PH_OK;
}

static ph_status probe_stop(void *child, ph_context *context, ph_stop_reason reason, ph_reply *reply) {
    (void)context, (void)reply;
    tell((probe *)child, "stop", json_string(stop_reason_name(reason)));
    hang((probe *)child, "stop");
    return PH_OK;
}

static void probe_drop(void *child) {
    probe *self = (probe *)child;
    json_decref(self->args);
    json_decref(self->data);
    json_decref(self->log);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* --- messages -------------------------------------------------------------------------------------------------------- */

static ph_status ok(ph_reply *reply) {
    return ph_reply_json(reply, "\"ok\"");
}

static json_t *part(const json_t *message, const char *key) {
    return json_object_get(message, key);
}

static ph_status op_put(probe *self, const json_t *message, ph_reply *reply) {
    json_object_set(self->data, json_string_value(part(message, "key")), part(message, "value"));
    return ok(reply);
}

static ph_status op_add(probe *self, const json_t *message, ph_reply *reply) {
    const char *key = json_string_value(part(message, "key"));
    const json_t *before = json_object_get(self->data, key), *n = part(message, "n");
    bool is_whole = json_is_integer(n) && (before == NULL || json_is_integer(before));
    json_t *sum = is_whole ? json_integer(json_integer_value(before) + json_integer_value(n))
                           : json_real(json_number_value(before) + json_number_value(n));
    json_object_set(self->data, key, sum);
    return reply_with(reply, sum);
}

static ph_status op_get(probe *self, const json_t *message, ph_reply *reply) {
    json_t *value = json_object_get(self->data, json_string_value(part(message, "key")));
    return reply_with(reply, value != NULL ? json_incref(value) : json_null());
}

static ph_status op_state(probe *self, const json_t *message, ph_reply *reply) {
    (void)message;
    return reply_with(reply, json_incref(self->data));
}

static ph_status op_who(probe *self, const json_t *message, ph_reply *reply) {
    ph_context *context = self->context;
    (void)message;
    return reply_with(reply, json_pack("{s:s, s:s, s:i, s:I, s:s, s:s, s:s}", "node", ph_context_node(context), "language", "c",
                                       "pid", (int)getpid(), "epoch", (json_int_t)ph_context_epoch(context), "mode",
                                       mode_name(ph_context_mode(context)), "start_reason",
                                       start_reason_name(ph_context_start_reason(context)), "instance", self->instance));
}

static ph_status op_log(probe *self, const json_t *message, ph_reply *reply) {
    json_t *copy;
    (void)message;
    pthread_mutex_lock(&self->lock);
    copy = json_copy(self->log);
    pthread_mutex_unlock(&self->lock);
    return reply_with(reply, copy);
}

static ph_status op_throw(probe *self, const json_t *message, ph_reply *reply) {
    const char *text = json_string_value(part(message, "text"));
    (void)self;
    return ph_reply_fail(reply, 0, text != NULL ? text : "thrown");
}

static ph_status op_crash(probe *self, const json_t *message, ph_reply *reply) {
    (void)message;
    ph_context_exit(self->context, "the probe crashes");
    return ok(reply);
}

static ph_status op_exit_process(probe *self, const json_t *message, ph_reply *reply) {
    (void)self, (void)message, (void)reply;
    _exit(1);
}

static ph_status op_sleep(probe *self, const json_t *message, ph_reply *reply) {
    (void)self;
    sleep_ms(json_integer_value(part(message, "ms")));
    return ok(reply);
}

static ph_status op_stop_self(probe *self, const json_t *message, ph_reply *reply) {
    (void)message;
    ph_context_stop_self(self->context);
    return ok(reply);
}

static ph_status op_echo(probe *self, const json_t *message, ph_reply *reply) {
    json_t *value = part(message, "value");
    (void)self;
    return reply_with(reply, value != NULL ? json_incref(value) : json_null());
}

static ph_status op_call(probe *self, const json_t *message, ph_reply *reply) {
    json_t *inner = part(message, "message"), *timeout = part(message, "timeout_ms");
    char *text = text_of(inner != NULL ? inner : json_null());
    uint64_t timeout_ms = json_is_integer(timeout) ? (uint64_t)json_integer_value(timeout) : 5000;
    ph_error *error = NULL;
    ph_value value;
    ph_status status = ph_context_call(self->context, json_string_value(part(message, "child_id")), ph_json(text), timeout_ms,
                                       &value, &error);
    free(text);
    if (status == PH_OK) {
        status = ph_reply_value(reply, value);
        ph_value_free(&value);
    } else {
        char told[1024];
        snprintf(told, sizeof told, "%s: %s", ph_error_kind(error), ph_error_message(error));
        status = ph_reply_fail(reply, 0, told);
        ph_error_free(&error);
    }
    return status;
}

typedef struct operation {
    const char *name;
    ph_status (*run)(probe *self, const json_t *message, ph_reply *reply);
} operation;

static const operation OPERATIONS[] = {
    {"put", op_put},
    {"add", op_add},
    {"get", op_get},
    {"state", op_state},
    {"who", op_who},
    {"log", op_log},
    {"throw", op_throw},
    {"crash", op_crash},
    {"exit_process", op_exit_process},
    {"sleep", op_sleep},
    {"stop_self", op_stop_self},
    {"echo", op_echo},
    {"call", op_call},
    /* What is held up is this thread. */
    {"block", op_sleep},
};

static ph_status perform_message(probe *self, const json_t *message, ph_reply *reply) {
    const char *op = json_string_value(part(message, "op"));
    char *text, told[256];
    size_t i;
    for (i = 0; op != NULL && i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++) {
        if (strcmp(op, OPERATIONS[i].name) == 0) {
            return OPERATIONS[i].run(self, message, reply);
        }
    }
    text = text_of(message);
    snprintf(told, sizeof told, "no such op: %s", text);
    free(text);
    return ph_reply_fail(reply, 0, told);
}

static ph_status probe_handle(void *child, ph_context *context, ph_value value, ph_reply *reply) {
    probe *self = (probe *)child;
    json_t *message = json_of(value), *op = json_object_get(message, "op");
    ph_status status;
    (void)context;
    note(self, "handle", op != NULL ? json_incref(op) : json_null());
    if (message == NULL) {
        return ph_reply_value(reply, value);
    }
    status = perform_message(self, message, reply);
    json_decref(message);
    return status;
}

ph_child_callbacks probe_callbacks(void) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    callbacks.start = probe_start;
    callbacks.run = probe_run;
    callbacks.handle = probe_handle;
    callbacks.redundancy_signal = probe_signal;
    callbacks.handover_start = probe_handover_start;
    callbacks.prepare_handover_state = probe_prepare;
    callbacks.alter_handover_state = probe_alter;
    callbacks.resolve_conflict = probe_resolve;
    callbacks.stop = probe_stop;
    callbacks.drop = probe_drop;
    return callbacks;
}
