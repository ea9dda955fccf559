/* Bad input of every sort is an error with a message, never a crash: null, stale, foreign and made-up handles in every
 * function, texts and values that are none, wrong callbacks. */
#include "check.h"

/* Fails unless `call`, whose last argument is &error, gives `wanted` and an error object whose message holds `says`. */
#define REFUSED(wanted, says, call)                                                                  \
    do {                                                                                             \
        ph_error *error = NULL;                                                                      \
        CHECK_STATUS(wanted, call);                                                                  \
        CHECK(ph_error_number(error) == (wanted));                                                   \
        if (strstr(ph_error_message(error), says) == NULL) {                                         \
            fprintf(stderr, "%s:%d: %s is not in: %s\n", __FILE__, __LINE__, says, ph_error_message(error)); \
            exit(70);                                                                                \
        }                                                                                            \
        ph_error_free(&error);                                                                       \
    } while (0)

static atomic_int drops;

static void count_drop(void *user_data) {
    (void)user_data;
    atomic_fetch_add(&drops, 1);
}

static ph_status never(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message, (void)reply;
    abort();
}

static void never_hook(void *user_data, const char *hook, const char *payload) {
    (void)user_data, (void)hook, (void)payload;
    abort();
}

static ph_status never_intercept(void *user_data, const char *spec, const char *nodes, ph_reply *reply) {
    (void)user_data, (void)spec, (void)nodes, (void)reply;
    abort();
}

static void never_done(void *user_data, ph_future *future) {
    (void)user_data, (void)future;
    abort();
}

/* Every function that takes a hub, with one that is none. */
static void hub_is_none(ph_hub *hub, ph_status wanted) {
    ph_child_callbacks callbacks = counter_callbacks();
    ph_future *future = NULL;
    ph_value value = {NULL, 0, NULL, 0};
    ph_hub *copy;
    bool found = true;
    int fd = -1;
    int before = atomic_load(&drops);

    CHECK_STATUS(wanted, ph_hub_register_kind(hub, "k", &callbacks, NULL, count_drop, NULL));
    CHECK_STATUS(wanted, ph_hub_on(hub, "state_lost", "x", 0, never_hook, NULL, count_drop, NULL));
    CHECK_STATUS(wanted, ph_hub_intercept(hub, "child_data_alter", "x", 0, never_intercept, NULL, count_drop, NULL));
    /* Data is dropped where the call fails, too. */
    CHECK(atomic_load(&drops) == before + 3);
    CHECK_STATUS(wanted, ph_hub_off(hub, "state_lost", "x", &found, NULL));
    CHECK(found);
    CHECK_STATUS(wanted, ph_hub_set_polled(hub, NULL));
    CHECK_STATUS(wanted, ph_hub_event_fd(hub, &fd, NULL));
    CHECK(fd == -1);
    CHECK_STATUS(wanted, ph_hub_start(hub, NULL));
    CHECK_STATUS(wanted, ph_hub_poll(hub, 0));
    CHECK_STATUS(wanted, ph_hub_stop(hub, 0, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_start_child(hub, "{\"id\": \"a\", \"kind\": \"b\"}", NULL, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_start_child_with(hub, "{\"id\": \"a\", \"kind\": \"b\"}", ph_json("1"), NULL, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_start_children(hub, "[]", NULL, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_stop_child(hub, "a", 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_stop_children(hub, "[]", 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_call(hub, "a", ph_json("1"), 0, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_call_on(hub, "a", "n", ph_json("1"), 0, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_call_begin(hub, "a", NULL, ph_json("1"), 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_send(hub, "a", NULL, false, ph_json("1"), NULL));
    CHECK_STATUS(wanted, ph_hub_drain(hub, 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_where(hub, "a", &future, NULL));
    CHECK_STATUS(wanted, ph_hub_plan(hub, "{\"leave\": []}", &future, NULL));
    CHECK_STATUS(wanted, ph_hub_sync(hub, 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_acknowledge_loss(hub, "a", &future, NULL));
    CHECK_STATUS(wanted, ph_hub_which_children(hub, "local", 0, &future, NULL));
    CHECK_STATUS(wanted, ph_hub_child_lookup(hub, "a", &value, NULL));
    CHECK_STATUS(wanted, ph_hub_process_registry(hub, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_tag_query(hub, "a", &value, NULL));
    CHECK_STATUS(wanted, ph_hub_metadata_query(hub, "a", &value, NULL));
    CHECK_STATUS(wanted, ph_hub_nodes(hub, true, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_metrics_text(hub, &value, NULL));
    CHECK_STATUS(wanted, ph_hub_debug_stats(hub, &value, NULL));
    CHECK(ph_hub_node_name(hub) == NULL && ph_hub_address(hub) == NULL);
    CHECK(!ph_hub_is_alive(hub) && !ph_hub_is_locked(hub) && !ph_hub_is_partitioned(hub));
    CHECK(future == NULL && value.data == NULL);
    copy = hub;
    CHECK_STATUS(hub == NULL ? PH_OK : wanted, ph_hub_free(&copy));
}

/* Every function that takes another handle, with one that is none. */
static void others_are_none(void *handle) {
    const ph_status wanted = PH_ERR_INVALID_ARGUMENT;
    ph_future *future = (ph_future *)handle;
    ph_context *context = (ph_context *)handle;
    ph_reply *reply = (ph_reply *)handle;
    ph_error *error = (ph_error *)handle;
    ph_node *node = (ph_node *)handle;
    ph_hub *hub = NULL;
    ph_value value = {NULL, 0, NULL, 0};
    int before = atomic_load(&drops);

    CHECK_STATUS(wanted, ph_future_wait(future, 0, &value, NULL));
    CHECK(!ph_future_is_done(future));
    CHECK_STATUS(wanted, ph_future_on_done(future, never_done, NULL, count_drop, NULL));
    CHECK(atomic_load(&drops) == before + 1);
    CHECK_STATUS(wanted, ph_future_cancel(future, NULL));
    ph_future_free(&future);
    CHECK(future == NULL);

    CHECK(ph_context_child_id(context) == NULL && ph_context_kind(context) == NULL && ph_context_hub_id(context) == NULL);
    CHECK(ph_context_node(context) == NULL && ph_context_metadata(context) == NULL && ph_context_hub(context) == NULL);
    CHECK(ph_context_epoch(context) == 0 && ph_context_mode(context) == 0 && ph_context_start_reason(context) == 0);
    /* A body that lost its instance shall return. */
    CHECK(ph_context_is_cancelled(context) && ph_context_wait_cancelled(context, 1000000));
    CHECK_STATUS(wanted, ph_context_retention_handled(context));
    CHECK_STATUS(wanted, ph_context_exit(context, NULL));
    CHECK_STATUS(wanted, ph_context_stop_self(context));
    CHECK_STATUS(wanted, ph_context_call(context, "a", ph_json("1"), 0, &value, NULL));

    CHECK_STATUS(wanted, ph_reply_value(reply, ph_json("1")));
    CHECK_STATUS(wanted, ph_reply_json(reply, "1"));
    CHECK_STATUS(wanted, ph_reply_done(reply));
    CHECK_STATUS(wanted, ph_reply_fail(reply, 0, "no"));

    CHECK(ph_error_number(error) == 0 && ph_error_kind(error) == NULL && ph_error_operation(error) == NULL);
    CHECK(ph_error_message(error) == NULL && ph_error_child_id(error) == NULL && ph_error_node(error) == NULL);
    CHECK(ph_error_trace(error) == NULL && ph_error_json(error) == NULL && !ph_error_maybe_executed(error));
    ph_error_free(&error);
    CHECK(error == NULL);

    CHECK(ph_node_name(node) == NULL && ph_node_address(node) == NULL);
    CHECK_STATUS(wanted, ph_node_stop(node, 0, NULL));
    CHECK_STATUS(wanted, ph_hub_new_on_node("{\"hub_id\": \"x\"}", node, &hub, NULL));
    ph_node_free(&node);
    CHECK(node == NULL && hub == NULL && value.data == NULL);
}

static void handles_are_null(void) {
    hub_is_none(NULL, PH_ERR_INVALID_ARGUMENT);
    others_are_none(NULL);
    CHECK_STATUS(PH_OK, ph_hub_free(NULL));
    ph_future_free(NULL);
    ph_error_free(NULL);
    ph_node_free(NULL);
    ph_value_free(NULL);
}

static void handles_are_freed(void) {
    ph_hub *hub = new_hub("a", NULL, NULL), *stale = hub;
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    hub_is_none(stale, PH_ERR_INVALID_ARGUMENT);
    REFUSED(PH_ERR_INVALID_ARGUMENT, "freed", ph_hub_start(stale, &error));
}

static void handles_are_of_another_type(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_error *error = NULL;
    CHECK_OK(ph_hub_sync(hub, 5000, &future, &error));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_where(hub, NULL, NULL, &error));
    hub_is_none((ph_hub *)(void *)future, PH_ERR_INVALID_ARGUMENT);
    hub_is_none((ph_hub *)(void *)error, PH_ERR_INVALID_ARGUMENT);
    others_are_none(hub);
    {
        ph_error *confused = NULL;
        CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_start((ph_hub *)(void *)future, &confused));
        CHECK(strstr(ph_error_message(confused), "a ph_hub is wanted and a ph_future was given") != NULL);
        ph_error_free(&confused);
    }
    ph_future_free(&future);
    ph_error_free(&error);
    end_hub(&hub);
}

static void handles_are_made_up(void) {
    int here = 0;
    void *heap = malloc(64);
    uintptr_t number;
    hub_is_none((ph_hub *)(void *)&here, PH_ERR_INVALID_ARGUMENT);
    hub_is_none((ph_hub *)heap, PH_ERR_INVALID_ARGUMENT);
    others_are_none(&here);
    others_are_none((void *)(uintptr_t)1);
    others_are_none((void *)~(uintptr_t)0);
    /* Every type, with a place nobody has. */
    for (number = 1; number < 16; number++) {
        others_are_none((void *)(number << 60 | 0xffffff));
    }
    free(heap);
}

/* A value that is freed twice, as one struct and as a copy. */
static void values_are_freed_twice(void) {
    ph_value value, copy, mine = ph_json("1");
    CHECK_OK(ph_debug_stats(&value, &error));
    copy = value;
    ph_value_free(&value);
    ph_value_free(&value);
    ph_value_free(&copy);
    ph_value_free(&mine);
    CHECK(value.data == NULL && mine.data == NULL);
    copy.owner = 12345;
    ph_value_free(&copy);
}

static void texts_are_none(void) {
    const char *broken = "\xff\xfe";
    char long_id[300];
    ph_hub *hub = NULL;
    ph_node *node = NULL;
    ph_value value;
    memset(long_id, 'x', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';

    REFUSED(PH_ERR_INVALID_ARGUMENT, "`config` is NULL", ph_hub_new(NULL, &hub, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "not UTF-8", ph_hub_new(broken, &hub, &error));
    REFUSED(PH_ERR_INVALID_CONFIG, "not JSON", ph_hub_new("{", &hub, &error));
    REFUSED(PH_ERR_INVALID_CONFIG, "hub_id", ph_hub_new("{}", &hub, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "`hub` is NULL", ph_hub_new("{\"hub_id\": \"x\"}", NULL, &error));
    REFUSED(PH_ERR_INVALID_CONFIG, "not JSON", ph_node_new("[", &node, &error));
    CHECK(hub == NULL && node == NULL);

    hub = counter_hub("a", NULL, NULL);
    start_child(hub, "c", "counter");
    REFUSED(PH_ERR_INVALID_ARGUMENT, "`child_id` is NULL", ph_hub_call(hub, NULL, ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "not UTF-8", ph_hub_call(hub, broken, ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "255", ph_hub_call(hub, long_id, ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "255", ph_hub_call(hub, "", ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_NOT_ENCODABLE, "not JSON", ph_hub_call(hub, "c", ph_json("{\"a\":"), 1000, NULL, &error));
    REFUSED(PH_ERR_NOT_ENCODABLE, "not JSON", ph_hub_call(hub, "c", ph_json(NULL), 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "`data` is NULL", ph_hub_call(hub, "c", ph_bytes(NULL, 3), 1000, NULL, &error));
    value = ph_bytes("x", 1);
    value.len = (size_t)-1;
    REFUSED(PH_ERR_INVALID_ARGUMENT, "cannot be", ph_hub_call(hub, "c", value, 1000, NULL, &error));
    value = ph_bytes("x", 1);
    value.content_type = broken;
    REFUSED(PH_ERR_INVALID_ARGUMENT, "content_type", ph_hub_call(hub, "c", value, 1000, NULL, &error));
    {
        size_t size = (1 << 20) + 1;
        char *large = (char *)calloc(size, 1);
        REFUSED(PH_ERR_PAYLOAD_TOO_LARGE, "1048577", ph_hub_call(hub, "c", ph_bytes(large, size), 1000, NULL, &error));
        free(large);
    }
    REFUSED(PH_ERR_INVALID_ARGUMENT, "exclude each other", ph_hub_send(hub, "c", "a", true, ph_json("1"), &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "`spec` is not JSON", ph_hub_start_child(hub, "x", NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "needs `kind`", ph_hub_start_child(hub, "{\"id\": \"x\"}", NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "timeout", ph_hub_start_child(hub, "{\"id\": \"x\", \"kind\": \"counter\"}", "{\"timeout\": 1}", NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "array", ph_hub_start_children(hub, "{}", NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "array", ph_hub_stop_children(hub, "[1]", 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "change", ph_hub_plan(hub, "{\"grow\": 1}", NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "scope", ph_hub_which_children(hub, "mine", 1000, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "no hook named", ph_hub_on(hub, "rain", "x", 0, never_hook, NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "callback is NULL", ph_hub_on(hub, "state_lost", "x", 0, NULL, NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "only be observed", ph_hub_intercept(hub, "state_lost", "x", 0, never_intercept, NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "level", ph_log_set(6, NULL, NULL, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "callback is NULL", ph_log_set(PH_LOG_INFO, NULL, NULL, NULL, &error));
    /* The hub is as it was. */
    check_call(hub, "c", "null", "1");
    end_hub(&hub);
}

static void callbacks_are_wrong(void) {
    struct {
        ph_child_callbacks ours;
        void (*later)(void);
        void (*much_later)(void);
    } newer = {PH_CHILD_CALLBACKS_INIT, NULL, NULL};
    size_t older[2] = {2 * sizeof(size_t), 0};
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = new_hub("a", NULL, NULL);
    int before = atomic_load(&drops);

    REFUSED(PH_ERR_INVALID_ARGUMENT, "NULL", ph_hub_register_kind(hub, "k", NULL, NULL, count_drop, &error));
    callbacks.struct_size = 0;
    REFUSED(PH_ERR_INVALID_ARGUMENT, "struct_size", ph_hub_register_kind(hub, "k", &callbacks, NULL, count_drop, &error));
    callbacks.struct_size = 12345678;
    REFUSED(PH_ERR_INVALID_ARGUMENT, "struct_size", ph_hub_register_kind(hub, "k", &callbacks, NULL, count_drop, &error));
    callbacks = counter_callbacks();
    REFUSED(PH_ERR_INVALID_ARGUMENT, "`kind` is NULL", ph_hub_register_kind(hub, NULL, &callbacks, NULL, count_drop, &error));
    CHECK(atomic_load(&drops) == before + 4);
    /* A program built with an older header, and with a newer one that uses nothing new. */
    CHECK_OK(ph_hub_register_kind(hub, "older", (const ph_child_callbacks *)(const void *)older, NULL, NULL, &error));
    newer.ours.struct_size = sizeof newer;
    newer.ours.handle = never;
    CHECK_OK(ph_hub_register_kind(hub, "newer", &newer.ours, NULL, NULL, &error));
    newer.much_later = abort;
    REFUSED(PH_ERR_INVALID_ARGUMENT, "does not know", ph_hub_register_kind(hub, "newer", &newer.ours, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    start_child(hub, "c", "older");
    CHECK_STATUS(PH_ERR_CHILD_FAILED, ph_hub_call(hub, "c", ph_json("1"), 5000, NULL, NULL));
    end_hub(&hub);
}

static void too_early_and_too_late(void) {
    ph_hub *hub = new_hub("a", NULL, NULL);
    ph_value report, again;
    int fd;
    REFUSED(PH_ERR_NOT_STARTED, "not started", ph_hub_call(hub, "c", ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_NOT_STARTED, "not started", ph_hub_stop(hub, 1000, NULL, &error));
    CHECK(!ph_hub_is_alive(hub));
    CHECK_OK(ph_hub_start(hub, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "runs already", ph_hub_start(hub, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "started already", ph_hub_set_polled(hub, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "started already", ph_hub_event_fd(hub, &fd, &error));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_poll(hub, 0));
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, &report, &error));
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, &again, &error));
    CHECK(strcmp(report.data, again.data) == 0);
    ph_value_free(&report);
    ph_value_free(&again);
    REFUSED(PH_ERR_CLOSED, "stopped", ph_hub_call(hub, "c", ph_json("1"), 1000, NULL, &error));
    REFUSED(PH_ERR_CLOSED, "stopped", ph_hub_nodes(hub, true, NULL, &error));
    REFUSED(PH_ERR_CLOSED, "stopped", ph_hub_which_children(hub, "local", 0, NULL, &error));
    REFUSED(PH_ERR_INVALID_ARGUMENT, "was stopped already", ph_hub_start(hub, &error));
    CHECK(!ph_hub_is_alive(hub));
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
}

static void errors_tell_the_facts(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_error *error = NULL;
    CHECK_STATUS(PH_ERR_NOT_FOUND, ph_hub_call(hub, "nobody", ph_json("1"), 5000, NULL, &error));
    CHECK(ph_error_number(error) == PH_ERR_NOT_FOUND && strcmp(ph_error_kind(error), "not_found") == 0);
    CHECK(strcmp(ph_error_operation(error), "call") == 0);
    CHECK(strcmp(ph_error_child_id(error), "nobody") == 0);
    CHECK(strstr(ph_error_json(error), "\"code\":4002") != NULL);
    CHECK(!ph_error_maybe_executed(error) && ph_error_trace(error) == NULL);
    /* On success the place is set to NULL. */
    {
        ph_error *before = error;
        ph_value names;
        CHECK_STATUS(PH_OK, ph_hub_nodes(hub, true, &names, &error));
        CHECK(error == NULL);
        ph_value_free(&names);
        ph_error_free(&before);
    }
    end_hub(&hub);
}

static const test_case CASES[] = {
    {"handles_are_null", handles_are_null, 0, 20, ""},
    {"handles_are_freed", handles_are_freed, 0, 20, ""},
    {"handles_are_of_another_type", handles_are_of_another_type, 0, 20, ""},
    {"handles_are_made_up", handles_are_made_up, 0, 20, ""},
    {"values_are_freed_twice", values_are_freed_twice, 0, 20, ""},
    {"texts_are_none", texts_are_none, 0, 30, ""},
    {"callbacks_are_wrong", callbacks_are_wrong, 0, 30, ""},
    {"too_early_and_too_late", too_early_and_too_late, 0, 30, ""},
    {"errors_tell_the_facts", errors_tell_the_facts, 0, 20, ""},
};

MAIN(CASES)
