/* What callbacks may do: answer at once, later, from other threads, exactly once; fail in every way; run a body; use their
 * context; call each other. */
#include "check.h"

/* What a child of the kind "probe" does is named by the message. */
typedef struct probe {
    ph_context *context;
    ph_reply *kept;
} probe;

static gate kept_gate = GATE_INIT, stopped_gate = GATE_INIT, dropped_gate = GATE_INIT, user_dropped_gate = GATE_INIT;
static gate body_gate = GATE_INIT, cancelled_gate = GATE_INIT;
static ph_reply *_Atomic kept_reply;
static ph_context *_Atomic last_context;
static atomic_int last_stop_reason;

static ph_status probe_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    probe *made = (probe *)calloc(1, sizeof *made);
    CHECK(user_data == &user_dropped_gate);
    *child = made;
    made->context = context;
    last_context = context;
    if (strcmp(args.data, "\"fail\"") == 0) {
        return ph_reply_fail(reply, 0, "refused on purpose");
    }
    if (strcmp(args.data, "\"later\"") == 0) {
        kept_reply = reply;
        gate_open(&kept_gate);
        return PH_LATER;
    }
    if (strcmp(args.data, "\"number\"") == 0) {
        return PH_ERR_OVERLOADED;
    }
    return PH_OK;
}

static bool is(ph_value message, const char *text) {
    return message.len == strlen(text) && memcmp(message.data, text, message.len) == 0;
}

static void *answer_on_thread(void *reply) {
    CHECK_STATUS(PH_OK, ph_reply_json((ph_reply *)reply, "\"from a thread\""));
    return NULL;
}

static ph_status probe_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    probe *self = (probe *)child;
    CHECK(self->context == context);
    if (is(message, "\"keep\"")) {
        kept_reply = reply;
        gate_open(&kept_gate);
        return PH_LATER;
    }
    if (is(message, "\"thread\"")) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, answer_on_thread, reply) == 0);
        pthread_detach(thread);
        return PH_LATER;
    }
    if (is(message, "\"twice\"")) {
        CHECK_STATUS(PH_OK, ph_reply_json(reply, "1"));
        CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_json(reply, "2"));
        CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_fail(reply, 0, "no"));
        return PH_OK;
    }
    if (is(message, "\"corrected\"")) {
        CHECK_STATUS(PH_ERR_NOT_ENCODABLE, ph_reply_json(reply, "nonsense"));
        CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_fail(reply, 7, "no such error"));
        CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_fail(reply, 0, NULL));
        return ph_reply_json(reply, "\"good\"");
    }
    if (is(message, "\"fail\"")) {
        return ph_reply_fail(reply, 0, "failed on purpose");
    }
    if (is(message, "\"fail with a kind\"")) {
        return ph_reply_fail(reply, PH_ERR_NOT_ACTIVE, "resting");
    }
    if (is(message, "\"number\"")) {
        return PH_ERR_UNREACHABLE;
    }
    if (is(message, "\"odd number\"")) {
        return -5;
    }
    if (is(message, "\"nothing\"")) {
        return PH_OK;
    }
    if (is(message, "\"bytes\"")) {
        return ph_reply_value(reply, ph_bytes("\0\1", 2));
    }
    if (is(message, "\"type\"")) {
        ph_value value = ph_bytes("<a/>", 4);
        value.content_type = "text/xml";
        return ph_reply_value(reply, value);
    }
    if (is(message, "\"crash\"")) {
        return ph_context_exit(context, "crashed on purpose");
    }
    if (is(message, "\"exit\"")) {
        return ph_context_exit(context, NULL);
    }
    if (is(message, "\"stop_self\"")) {
        return ph_context_stop_self(context);
    }
    if (is(message, "\"context\"")) {
        char text[512];
        CHECK(strcmp(ph_context_kind(context), "probe") == 0 && strcmp(ph_context_hub_id(context), "orders") == 0);
        CHECK(strcmp(ph_context_node(context), "a") == 0 && ph_context_hub(context) != NULL);
        CHECK(ph_context_epoch(context) > 0 && ph_context_mode(context) == PH_ACTIVE);
        CHECK(ph_context_start_reason(context) == PH_START_INITIAL && !ph_context_is_cancelled(context));
        CHECK(!ph_context_wait_cancelled(context, 1));
        CHECK_STATUS(PH_OK, ph_context_retention_handled(context));
        snprintf(text, sizeof text, "{\"id\": \"%s\", \"metadata\": %s}", ph_context_child_id(context), ph_context_metadata(context));
        return ph_reply_json(reply, text);
    }
    if (is(message, "\"call other\"") || is(message, "\"call other by its context\"")) {
        ph_value value;
        ph_error *error = NULL;
        ph_status status = is(message, "\"call other\"")
            ? ph_hub_call(ph_context_hub(context), "other", ph_json("\"call one\""), 20000, &value, &error)
            : ph_context_call(context, "other", ph_json("\"nothing\""), 20000, &value, &error);
        if (status != PH_OK) {
            ph_reply_fail(reply, status, ph_error_message(error));
            ph_error_free(&error);
            return PH_OK;
        }
        status = ph_reply_value(reply, value);
        ph_value_free(&value);
        return status;
    }
    if (is(message, "\"call one\"")) {
        ph_error *error = NULL;
        ph_status status = ph_hub_call(ph_context_hub(context), "one", ph_json("\"nothing\""), 20000, NULL, &error);
        CHECK(status == PH_ERR_WOULD_DEADLOCK);
        ph_error_free(&error);
        return ph_reply_json(reply, "\"would deadlock\"");
    }
    return ph_reply_fail(reply, PH_ERR_INVALID_ARGUMENT, "an unknown message");
}

static ph_status probe_stop(void *child, ph_context *context, ph_stop_reason reason, ph_reply *reply) {
    (void)child, (void)context, (void)reply;
    last_stop_reason = reason;
    gate_open(&stopped_gate);
    return PH_OK;
}

static void probe_drop(void *child) {
    free(child);
    gate_open(&dropped_gate);
}

static void open_gate(void *user_data) {
    gate_open((gate *)user_data);
}

static ph_child_callbacks probe_callbacks(void) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    callbacks.start = probe_start;
    callbacks.handle = probe_handle;
    callbacks.stop = probe_stop;
    callbacks.drop = probe_drop;
    return callbacks;
}

static ph_hub *probe_hub(const char *more) {
    ph_child_callbacks callbacks = probe_callbacks();
    ph_hub *hub = new_hub("a", NULL, more);
    CHECK_OK(ph_hub_register_kind(hub, "probe", &callbacks, &user_dropped_gate, open_gate, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    return hub;
}

/* Calls "one" and wants this error, with this in its message. */
static void check_failure(ph_hub *hub, const char *message, ph_status wanted, const char *says) {
    ph_error *error = NULL;
    CHECK_STATUS(wanted, ph_hub_call(hub, "one", ph_json(message), 20000, NULL, &error));
    if (strstr(ph_error_message(error), says) == NULL) {
        fprintf(stderr, "%s is not in: %s\n", says, ph_error_message(error));
        exit(70);
    }
    ph_error_free(&error);
}

static void answers(void) {
    ph_hub *hub = probe_hub(NULL);
    ph_future *future = NULL;
    ph_value value;
    start_child(hub, "one", "probe");
    check_call(hub, "one", "\"nothing\"", "null");
    check_call(hub, "one", "\"twice\"", "1");
    check_call(hub, "one", "\"corrected\"", "\"good\"");
    check_call(hub, "one", "\"thread\"", "\"from a thread\"");
    CHECK_OK(ph_hub_call(hub, "one", ph_json("\"bytes\""), 5000, &value, &error));
    CHECK(value.len == 2 && value.data[1] == 1 && strcmp(value.content_type, "application/octet-stream") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_call(hub, "one", ph_json("\"type\""), 5000, &value, &error));
    CHECK(value.len == 4 && memcmp(value.data, "<a/>", 4) == 0 && strcmp(value.content_type, "text/xml") == 0);
    ph_value_free(&value);
    /* Kept, while another child and the hub go on. */
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("\"keep\""), 20000, &future, &error));
    gate_wait(&kept_gate, 1);
    start_child(hub, "other", "probe");
    check_call(hub, "other", "\"nothing\"", "null");
    CHECK(!ph_future_is_done(future));
    CHECK_STATUS(PH_OK, ph_reply_json(kept_reply, "[1, 2]"));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_json(kept_reply, "3"));
    value = wait_for(&future);
    CHECK(strcmp(value.data, "[1, 2]") == 0);
    ph_value_free(&value);
    end_hub(&hub);
}

static void failures(void) {
    ph_hub *hub = probe_hub(NULL);
    ph_future *future = NULL;
    start_child(hub, "one", "probe");
    check_failure(hub, "\"fail\"", PH_ERR_CHILD_FAILED, "failed on purpose");
    check_failure(hub, "\"fail with a kind\"", PH_ERR_NOT_ACTIVE, "resting");
    check_failure(hub, "\"number\"", PH_ERR_UNREACHABLE, "3001");
    check_failure(hub, "\"odd number\"", PH_ERR_CHILD_FAILED, "-5");
    /* The instance lives on. */
    CHECK(gate_count(&dropped_gate) == 0);
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"f\", \"kind\": \"probe\", \"args\": \"fail\"}", NULL, &future, &error));
    {
        ph_error *error = NULL;
        CHECK_STATUS(PH_ERR_START_FAILED, ph_future_wait(future, PATIENCE_MS, NULL, &error));
        CHECK(strstr(ph_error_message(error), "refused on purpose") != NULL && strcmp(ph_error_child_id(error), "f") == 0);
        ph_error_free(&error);
        ph_future_free(&future);
    }
    /* What a failed start made is dropped. */
    gate_wait(&dropped_gate, 1);
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"f\", \"kind\": \"probe\", \"args\": \"number\"}", NULL, &future, &error));
    CHECK(failure_of(&future) != PH_OK);
    gate_wait(&dropped_gate, 2);
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"f\", \"kind\": \"probe\", \"args\": \"later\"}", NULL, &future, &error));
    gate_wait(&kept_gate, 1);
    CHECK_STATUS(PH_OK, ph_reply_fail(kept_reply, 0, "failed later"));
    CHECK(failure_of(&future) == PH_ERR_START_FAILED);
    gate_wait(&dropped_gate, 3);
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"f\", \"kind\": \"probe\", \"args\": \"later\"}", NULL, &future, &error));
    gate_wait(&kept_gate, 2);
    CHECK_STATUS(PH_OK, ph_reply_done(kept_reply));
    {
        ph_value value = wait_for(&future);
        ph_value_free(&value);
    }
    end_hub(&hub);
    CHECK(gate_count(&dropped_gate) == 5 && gate_count(&user_dropped_gate) == 1);
}

static void a_reply_is_never_given(void) {
    ph_hub *hub = probe_hub(", \"shutdown_timeout_ms\": 3000");
    ph_future *future = NULL;
    start_child(hub, "one", "probe");
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("\"keep\""), 500, &future, &error));
    gate_wait(&kept_gate, 1);
    CHECK(failure_of(&future) == PH_ERR_TIMEOUT);
    /* The hub ends all the same, the instance is dropped, and the reply is worth nothing. */
    ph_hub_free(&hub);
    CHECK(gate_count(&user_dropped_gate) == 1 && gate_count(&dropped_gate) == 1);
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_reply_json(kept_reply, "1"));
}

static void contexts(void) {
    ph_hub *hub = probe_hub(NULL);
    ph_future *future = NULL;
    ph_value value;
    ph_context *context;
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"one\", \"kind\": \"probe\", \"metadata\": {\"tag\": \"vip\"}}", NULL, &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    check_call(hub, "one", "\"context\"", "{\"id\": \"one\", \"metadata\": {\"tag\":\"vip\"}}");
    /* Kept by the program: good as long as the instance lives. */
    context = last_context;
    CHECK(strcmp(ph_context_child_id(context), "one") == 0);
    CHECK_OK(ph_hub_stop_child(hub, "one", 5000, &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    CHECK(last_stop_reason == PH_STOP_STOPPED);
    gate_wait(&dropped_gate, 1);
    CHECK(ph_context_child_id(context) == NULL);
    end_hub(&hub);
}

static void children_call_each_other(void) {
    ph_hub *hub = probe_hub(", \"host_threads\": 1");
    start_child(hub, "one", "probe");
    start_child(hub, "other", "probe");
    check_call(hub, "one", "\"call other by its context\"", "null");
    check_call(hub, "one", "\"call other\"", "\"would deadlock\"");
    end_hub(&hub);
}

static void ends_of_instances(void) {
    ph_hub *hub = probe_hub(NULL);
    ph_value value;
    start_child(hub, "one", "probe");
    /* A crash restarts it; a normal end too, since it is permanent. */
    (void)ph_hub_call(hub, "one", ph_json("\"crash\""), 5000, NULL, NULL);
    gate_wait(&dropped_gate, 1);
    check_call(hub, "one", "\"nothing\"", "null");
    (void)ph_hub_call(hub, "one", ph_json("\"exit\""), 5000, NULL, NULL);
    gate_wait(&dropped_gate, 2);
    check_call(hub, "one", "\"nothing\"", "null");
    (void)ph_hub_call(hub, "one", ph_json("\"stop_self\""), 5000, NULL, NULL);
    gate_wait(&dropped_gate, 3);
    CHECK_OK(ph_hub_child_lookup(hub, "one", &value, &error));
    CHECK(strcmp(value.data, "null") == 0);
    ph_value_free(&value);
    end_hub(&hub);
}

static ph_status body_run(void *child, ph_context *context, ph_reply *reply) {
    (void)child;
    gate_open(&body_gate);
    if (gate_count(&body_gate) == 1) {
        return ph_reply_fail(reply, 0, "the body fails once");
    }
    while (!ph_context_wait_cancelled(context, 60000)) {
    }
    gate_open(&cancelled_gate);
    return PH_OK;
}

static void bodies(void) {
    ph_child_callbacks callbacks = counter_callbacks();
    ph_hub *hub = new_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_value value;
    callbacks.run = body_run;
    CHECK_OK(ph_hub_register_kind(hub, "body", &callbacks, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    start_child(hub, "one", "body");
    /* Failed is crashed: it is restarted, and answers beside its body. */
    gate_wait(&body_gate, 2);
    check_call(hub, "one", "null", "1");
    CHECK(gate_count(&cancelled_gate) == 0);
    CHECK_OK(ph_hub_stop_child(hub, "one", 5000, &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    gate_wait(&cancelled_gate, 1);
    end_hub(&hub);
}

static gate done_gate = GATE_INIT, data_gate = GATE_INIT;

static void on_done(void *user_data, ph_future *future) {
    ph_value value;
    CHECK(user_data == &data_gate);
    CHECK(ph_future_is_done(future));
    CHECK_OK(ph_future_wait(future, 0, &value, &error));
    ph_value_free(&value);
    gate_open(&done_gate);
}

static void futures(void) {
    ph_hub *hub = probe_hub(NULL);
    ph_future *future = NULL, *other = NULL;
    ph_value first, second;
    start_child(hub, "one", "probe");
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("\"keep\""), 20000, &future, &error));
    CHECK_OK(ph_future_on_done(future, on_done, &data_gate, open_gate, &error));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_future_on_done(future, on_done, &data_gate, open_gate, NULL));
    gate_wait(&data_gate, 1);
    gate_wait(&kept_gate, 1);
    CHECK_STATUS(PH_ERR_TIMEOUT, ph_future_wait(future, 0, NULL, NULL));
    CHECK_STATUS(PH_ERR_TIMEOUT, ph_future_wait(future, 10, NULL, NULL));
    CHECK_STATUS(PH_OK, ph_reply_json(kept_reply, "5"));
    gate_wait(&done_gate, 1);
    gate_wait(&data_gate, 2);
    /* Read as often as wanted. */
    CHECK_OK(ph_future_wait(future, 0, &first, &error));
    CHECK_OK(ph_future_wait(future, 0, &second, &error));
    CHECK(strcmp(first.data, "5") == 0 && strcmp(second.data, "5") == 0);
    ph_value_free(&first);
    ph_value_free(&second);
    /* A callback that comes after the answer. */
    CHECK_OK(ph_future_on_done(future, on_done, &data_gate, open_gate, &error));
    gate_wait(&done_gate, 2);
    ph_future_free(&future);
    /* Freed and cancelled before the answer. */
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("\"keep\""), 20000, &future, &error));
    gate_wait(&kept_gate, 2);
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("\"nothing\""), 20000, &other, &error));
    CHECK_OK(ph_future_cancel(other, &error));
    CHECK(failure_of(&other) == PH_ERR_CANCELLED);
    CHECK_OK(ph_future_on_done(future, on_done, &data_gate, open_gate, &error));
    ph_future_free(&future);
    gate_wait(&data_gate, 4);
    CHECK_STATUS(PH_OK, ph_reply_done(kept_reply));
    check_call(hub, "one", "\"nothing\"", "null");
    CHECK(gate_count(&done_gate) == 2);
    /* After the end of the hub: inside the function. */
    CHECK_OK(ph_hub_sync(hub, 5000, &future, &error));
    first = (ph_value){NULL, 0, NULL, 0};
    CHECK_OK(ph_future_wait(future, PATIENCE_MS, &first, &error));
    ph_value_free(&first);
    end_hub(&hub);
    CHECK_OK(ph_future_on_done(future, on_done, &data_gate, open_gate, &error));
    CHECK(gate_count(&done_gate) == 3 && gate_count(&data_gate) == 5);
    ph_future_free(&future);
}

static const test_case CASES[] = {
    {"answers", answers, 0, 30, ""},
    {"failures", failures, 0, 30, ""},
    {"a_reply_is_never_given", a_reply_is_never_given, 0, 30, ""},
    {"contexts", contexts, 0, 30, ""},
    {"children_call_each_other", children_call_each_other, 0, 30, ""},
    {"ends_of_instances", ends_of_instances, 0, 30, ""},
    {"bodies", bodies, 0, 30, ""},
    {"futures", futures, 0, 30, ""},
};

MAIN(CASES)
