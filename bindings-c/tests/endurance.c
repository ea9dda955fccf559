/* What a long life shows: a thousand hubs leave nothing behind, and a callback that never returns harms nobody else. */
#include "check.h"

static int stat_of(ph_value stats, const char *name) {
    char key[32];
    const char *at;
    snprintf(key, sizeof key, "\"%s\":", name);
    at = strstr(stats.data, key);
    CHECK(at != NULL);
    return atoi(at + strlen(key));
}

typedef struct figures {
    int handles, threads, descriptors;
} figures;

static figures read_figures(void) {
    ph_value stats;
    figures figures;
    CHECK_OK(ph_debug_stats(&stats, &error));
    figures.handles = stat_of(stats, "handles");
    figures.threads = stat_of(stats, "threads");
    figures.descriptors = stat_of(stats, "descriptors");
    ph_value_free(&stats);
    return figures;
}

/* One hub's whole life: start, call, fail, stop, free. */
static void cycle(int number) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_error *error = NULL;
    ph_future *future = NULL;
    start_child(hub, "one", "counter");
    check_call(hub, "one", "1", "1");
    CHECK_STATUS(PH_ERR_NOT_FOUND, ph_hub_call(hub, "nobody", ph_json("1"), 5000, NULL, &error));
    ph_error_free(&error);
    CHECK_OK(ph_hub_sync(hub, 5000, &future, &error));
    ph_future_free(&future);
    if (number % 2 == 0) {
        CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, NULL, &error));
    }
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
}

static void cycles(int count) {
    figures before, after;
    double until;
    int i;
    cycle(0);
    cycle(1);
    before = read_figures();
    CHECK(before.handles == 0);
    for (i = 0; i < count; i++) {
        cycle(i);
    }
    /* A thread that has ended may still be listed for a moment. */
    until = now_seconds() + 10 * slowness();
    do {
        after = read_figures();
    } while ((after.threads > 0 || after.descriptors > before.descriptors) && now_seconds() < until);
    printf("handles %d, threads %d, descriptors %d\n", after.handles, after.threads, after.descriptors);
    CHECK(after.handles == 0 && after.threads == 0 && after.descriptors <= before.descriptors);
}

static void a_thousand_hubs(void) {
    cycles(1000);
}

static void twenty_hubs(void) {
    cycles(20);
}

static gate stuck = GATE_INIT, told = GATE_INIT, dropped = GATE_INIT, release = GATE_INIT;
static atomic_int blocked_ms, blocked_ms_before;

static ph_status stuck_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    (void)user_data, (void)context, (void)args, (void)child, (void)reply;
    gate_open(&stuck);
    gate_wait(&release, 1);
    return PH_OK;
}

static void open_gate(void *user_data) {
    gate_open((gate *)user_data);
}

static void unresponsive(void *user_data, const char *hook, const char *payload) {
    const char *at = strstr(payload, "\"blocked_ms\":");
    (void)user_data, (void)hook;
    CHECK(at != NULL);
    blocked_ms_before = blocked_ms;
    blocked_ms = atoi(at + strlen("\"blocked_ms\":"));
    gate_open(&told);
}

/* One callback of a node never returns: the node stays a member, the hook tells how long, and neither its other children nor
 * its neighbour's are disturbed. */
static void a_callback_never_returns(void) {
    ph_hub *hub = new_hub("a", NULL, ", \"host_threads\": 2"), *neighbour;
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_future *future = NULL;
    char id[16], wanted[16];
    int i, round = 0;
    callbacks.start = stuck_start;
    register_counter(hub);
    CHECK_OK(ph_hub_register_kind(hub, "stuck", &callbacks, &dropped, open_gate, &error));
    CHECK_OK(ph_hub_on(hub, "host_unresponsive", "x", 0, unresponsive, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    neighbour = counter_hub("b", ph_hub_address(hub), ", \"host_threads\": 2");
    wait_members(hub, 2);
    wait_members(neighbour, 2);
    for (i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        start_child(hub, id, "counter");
    }
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"s\", \"kind\": \"stuck\"}", "{\"timeout_ms\": 1000}", &future, &error));
    gate_wait(&stuck, 1);
    /* Told when it is overdue, and again each time that doubled. */
    while (gate_count(&told) < 3) {
        round++;
        snprintf(wanted, sizeof wanted, "%d", round);
        for (i = 0; i < 8; i++) {
            snprintf(id, sizeof id, "c:%d", i);
            check_call(i % 2 ? hub : neighbour, id, "1", wanted);
        }
        wait_members(hub, 2);
        wait_members(neighbour, 2);
    }
    CHECK(blocked_ms_before >= 200 && blocked_ms >= 2 * blocked_ms_before);
    CHECK(failure_of(&future) != PH_OK);
    /* The hub ends while the callback hangs; what belongs to it is dropped when it returns. */
    (void)ph_hub_stop(hub, 4000, NULL, NULL);
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    CHECK(gate_count(&dropped) == 0);
    for (i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        CHECK_OK(ph_hub_call(neighbour, id, ph_json("1"), PATIENCE_MS, NULL, &error));
    }
    gate_open(&release);
    gate_wait(&dropped, 1);
    end_hub(&neighbour);
}

static const test_case CASES[] = {
    {"a_thousand_hubs", a_thousand_hubs, 0, 240, "no-asan no-valgrind"},
    {"twenty_hubs", twenty_hubs, 0, 60, ""},
    {"a_callback_never_returns", a_callback_never_returns, 0, 60, "no-valgrind"},
};

MAIN(CASES)
