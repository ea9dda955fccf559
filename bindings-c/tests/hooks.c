/* Hooks: observers, interceptors, their order and their ends; the log. */
#include "check.h"

static gate told = GATE_INIT, dropped = GATE_INIT;
static char order[64];
static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *what) {
    pthread_mutex_lock(&order_lock);
    strncat(order, what, sizeof order - strlen(order) - 1);
    pthread_mutex_unlock(&order_lock);
    gate_open(&told);
}

static void open_gate(void *user_data) {
    (void)user_data;
    gate_open(&dropped);
}

static void observe(void *user_data, const char *hook, const char *payload) {
    CHECK(strcmp(hook, "post_children_start") == 0);
    CHECK(strstr(payload, "\"children\"") != NULL);
    note((const char *)user_data);
}

static void observers(void) {
    ph_hub *hub = new_hub("a", NULL, NULL);
    bool found = false;
    register_counter(hub);
    CHECK_OK(ph_hub_on(hub, "post_children_start", "low", -1, observe, (void *)"l", open_gate, &error));
    CHECK_OK(ph_hub_on(hub, "post_children_start", "old", 5, observe, (void *)"o", open_gate, &error));
    CHECK_OK(ph_hub_on(hub, "post_children_start", "old", 5, observe, (void *)"h", open_gate, &error));
    CHECK(gate_count(&dropped) == 1);
    CHECK_OK(ph_hub_start(hub, &error));
    CHECK_OK(ph_hub_on(hub, "post_children_start", "late", 0, observe, (void *)"m", open_gate, &error));
    start_child(hub, "one", "counter");
    gate_wait(&told, 3);
    CHECK(strcmp(order, "hml") == 0);
    CHECK_OK(ph_hub_off(hub, "post_children_start", "late", &found, &error));
    CHECK(found);
    CHECK_OK(ph_hub_off(hub, "post_children_start", "late", &found, &error));
    CHECK(!found);
    gate_wait(&dropped, 2);
    start_child(hub, "two", "counter");
    gate_wait(&told, 5);
    CHECK(strcmp(order, "hmlhl") == 0);
    end_hub(&hub);
    CHECK(gate_count(&dropped) == 4);
}

static ph_status intercept(void *user_data, const char *spec, const char *nodes, ph_reply *reply) {
    CHECK(strcmp(nodes, "[\"a\"]") == 0);
    (void)user_data;
    if (strstr(spec, "\"id\":\"refused\"") != NULL) {
        return ph_reply_fail(reply, 0, "not this one");
    }
    if (strstr(spec, "\"id\":\"broken\"") != NULL) {
        return ph_reply_json(reply, "[]");
    }
    if (strstr(spec, "\"id\":\"late\"") != NULL) {
        return PH_LATER;
    }
    if (strstr(spec, "\"id\":\"changed\"") != NULL) {
        return ph_reply_json(reply, "{\"id\": \"changed\", \"kind\": \"counter\", \"args\": 10, \"metadata\": {\"tag\": \"seen\"}}");
    }
    return PH_OK;
}

static void observe_spec(void *user_data, const char *hook, const char *payload) {
    CHECK(user_data == &told && strcmp(hook, "child_data_alter") == 0);
    CHECK(strstr(payload, "\"nodes\":[\"a\"]") != NULL && strstr(payload, "\"args\":null") != NULL);
    note("s");
}

/* An observer of the hook that can be intercepted is told of the spec as it was asked for. */
static void observed_specs(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    CHECK_OK(ph_hub_on(hub, "child_data_alter", "x", 0, observe_spec, &told, open_gate, &error));
    CHECK_OK(ph_hub_intercept(hub, "child_data_alter", "y", 0, intercept, NULL, NULL, &error));
    start_child(hub, "changed", "counter");
    check_call(hub, "changed", "1", "11");
    gate_wait(&told, 1);
    end_hub(&hub);
    CHECK(strcmp(order, "s") == 0 && gate_count(&dropped) == 1);
}

static void failed(void *user_data, const char *hook, const char *payload) {
    (void)user_data, (void)hook;
    CHECK(strstr(payload, "\"callback\":\"child_data_alter\"") != NULL);
    gate_open(&told);
}

static void interceptors(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_value value;
    CHECK_OK(ph_hub_intercept(hub, "child_data_alter", "x", 0, intercept, NULL, open_gate, &error));
    start_child(hub, "same", "counter");
    check_call(hub, "same", "1", "1");
    start_child(hub, "changed", "counter");
    check_call(hub, "changed", "1", "11");
    CHECK_OK(ph_hub_tag_query(hub, "seen", &value, &error));
    CHECK(strstr(value.data, "\"changed\"") != NULL);
    ph_value_free(&value);
    /* Arguments that are no JSON show as null and stay. */
    CHECK_OK(ph_hub_start_child_with(hub, "{\"id\": \"bytes\", \"kind\": \"counter\"}", ph_bytes("20", 2), NULL, &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    check_call(hub, "bytes", "1", "21");
    /* Where it fails the spec stays, and a hook tells. */
    CHECK_OK(ph_hub_on(hub, "child_failed", "x", 0, failed, NULL, NULL, &error));
    start_child(hub, "refused", "counter");
    start_child(hub, "broken", "counter");
    start_child(hub, "late", "counter");
    gate_wait(&told, 3);
    check_call(hub, "late", "1", "1");
    end_hub(&hub);
    CHECK(gate_count(&dropped) == 1);
}

static void crowd(void *user_data, const char *hook, const char *payload) {
    (void)user_data, (void)hook, (void)payload;
    gate_open(&told);
    gate_wait(&dropped, 1);
}

/* A slow observer holds up no child. */
static void a_slow_observer(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    int i;
    CHECK_OK(ph_hub_on(hub, "post_children_start", "slow", 0, crowd, NULL, NULL, &error));
    start_child(hub, "one", "counter");
    gate_wait(&told, 1);
    for (i = 1; i <= 100; i++) {
        char wanted[16];
        snprintf(wanted, sizeof wanted, "%d", i);
        check_call(hub, "one", "1", wanted);
    }
    gate_open(&dropped);
    end_hub(&hub);
}

static void log_record(void *user_data, int32_t level, const char *target, const char *message) {
    CHECK(user_data == &told);
    CHECK(level >= PH_LOG_ERROR && level <= PH_LOG_DEBUG);
    CHECK(strncmp(target, "process_hub", 11) == 0);
    CHECK_STATUS(PH_ERR_WOULD_DEADLOCK, ph_log_set(PH_LOG_OFF, NULL, NULL, NULL, NULL));
    if (strstr(message, "handover") != NULL && strstr(message, "prepare_handover_state") != NULL) {
        gate_open(&told);
    }
}

static void logs(void) {
    ph_hub *hub;
    CHECK_OK(ph_log_set(PH_LOG_DEBUG, log_record, &told, open_gate, &error));
    /* A kind whose hand-over callbacks are never called is warned of. */
    hub = counter_hub("a", NULL, NULL);
    gate_wait(&told, 1);
    CHECK_OK(ph_log_set(PH_LOG_OFF, NULL, NULL, NULL, &error));
    CHECK(gate_count(&dropped) == 1);
    end_hub(&hub);
    hub = new_hub("a", NULL, ", \"migration\": {\"type\": \"hot_swap\", \"handover\": true}");
    CHECK_OK(ph_log_set(PH_LOG_WARN, log_record, &told, open_gate, &error));
    register_counter(hub);
    CHECK_OK(ph_log_set(PH_LOG_OFF, NULL, NULL, NULL, &error));
    CHECK(gate_count(&told) == 1 && gate_count(&dropped) == 2);
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
}

static const test_case CASES[] = {
    {"observers", observers, 0, 30, ""},
    {"interceptors", interceptors, 0, 30, ""},
    {"observed_specs", observed_specs, 0, 30, ""},
    {"a_slow_observer", a_slow_observer, 0, 30, ""},
    {"logs", logs, 0, 30, ""},
};

MAIN(CASES)
