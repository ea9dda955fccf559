/* Strategies of the program's own: asked in C, replaced by the built-in. */
#include "check.h"

#define MORE ", \"migration\": {\"type\": \"custom\", \"name\": \"mine\", \"base\": {\"type\": \"hot_swap\", \"handover\": true}}"
#define CHILDREN 20

static gate asked = GATE_INIT, told = GATE_INIT, dropped = GATE_INIT;
static char why[512];
static ph_reply *kept;

static void open_gate(void *user_data) {
    (void)user_data;
    gate_open(&dropped);
}

static void fallback(void *user_data, const char *hook, const char *payload) {
    (void)user_data;
    CHECK(strcmp(hook, "strategy_fallback") == 0);
    snprintf(why, sizeof why, "%s", payload);
    gate_open(&told);
}

/* Writes the ids of the question as a list, the last one first; without the first `left_out` of that order. */
static void backwards(const char *question, char *answer, size_t size, int left_out) {
    const char *ids[CHILDREN];
    int count = 0;
    for (const char *at = question; (at = strstr(at, "\"id\":\"")) != NULL && count < CHILDREN; count++) {
        at += strlen("\"id\":\"");
        ids[count] = at;
    }
    snprintf(answer, size, "[");
    for (int n = count - 1 - left_out; n >= 0; n--) {
        size_t length = strcspn(ids[n], "\"");
        snprintf(answer + strlen(answer), size - strlen(answer), "\"%.*s\"%s", (int)length, ids[n], n > 0 ? "," : "");
    }
    snprintf(answer + strlen(answer), size - strlen(answer), "]");
}

static ph_status good(void *user_data, const char *question, ph_reply *reply) {
    char answer[2048];
    CHECK(user_data == &asked);
    CHECK(strstr(question, "\"from\":\"a\"") != NULL && strstr(question, "\"to\":\"b\"") != NULL);
    gate_open(&asked);
    backwards(question, answer, sizeof answer, 0);
    return ph_reply_json(reply, answer);
}

static ph_status leaves_out(void *user_data, const char *question, ph_reply *reply) {
    char answer[2048];
    (void)user_data;
    backwards(question, answer, sizeof answer, 1);
    return ph_reply_json(reply, answer);
}

static ph_status fails(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question;
    return ph_reply_fail(reply, 0, "no idea");
}

static ph_status returns_a_number(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question, (void)reply;
    return 77;
}

static ph_status answers_nothing(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question, (void)reply;
    return PH_OK;
}

static ph_status answers_bytes(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question;
    return ph_reply_value(reply, ph_bytes("c1", 2));
}

static ph_status answers_text(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question;
    return ph_reply_json(reply, "\"c1\"");
}

static ph_status keeps_the_reply(void *user_data, const char *question, ph_reply *reply) {
    (void)user_data, (void)question;
    kept = reply;
    gate_open(&asked);
    return PH_LATER;
}

static void *answer_later(void *text) {
    gate_wait(&asked, 1);
    CHECK_OK(ph_reply_json(kept, (const char *)text));
    return NULL;
}

static ph_hub *join_a(ph_strategy_callback callback) {
    char id[16];
    ph_hub *hub = new_hub("a", NULL, MORE);
    register_counter(hub);
    CHECK_OK(ph_hub_register_strategy(hub, "migration", "mine", callback, &asked, open_gate, &error));
    CHECK_OK(ph_hub_on(hub, "strategy_fallback", "test", 0, fallback, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    for (int n = 0; n < CHILDREN; n++) {
        snprintf(id, sizeof id, "c%d", n);
        start_child(hub, id, "counter");
        check_call(hub, id, "null", "1");
    }
    return hub;
}

/* Has a second hub join one whose strategy this is: every child is there afterwards. */
static void moves(ph_strategy_callback callback, const char *expected) {
    char id[16];
    ph_hub *a = join_a(callback), *b = NULL;
    b = new_hub("b", ph_hub_address(a), MORE);
    register_counter(b);
    CHECK_OK(ph_hub_register_strategy(b, "migration", "mine", answers_nothing, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(b, &error));
    wait_members(a, 2);
    if (expected == NULL) {
        gate_wait(&asked, 1);
    } else {
        gate_wait(&told, 1);
        CHECK(strstr(why, "\"strategy\":\"mine\"") != NULL);
        if (strstr(why, expected) == NULL) {
            fprintf(stderr, "%s is not in %s\n", expected, why);
            exit(70);
        }
    }
    for (int n = 0; n < CHILDREN; n++) {
        snprintf(id, sizeof id, "c%d", n);
        check_call(b, id, "null", "2");
    }
    end_hub(&b);
    end_hub(&a);
    CHECK(gate_count(&dropped) == 1);
    CHECK(gate_count(&told) == (expected == NULL ? 0 : 1));
}

static void good_order(void) { moves(good, NULL); }

static void order_without_a_child(void) { moves(leaves_out, "the answer leaves out c"); }

static void failure(void) { moves(fails, "no idea"); }

static void status_of_no_error(void) { moves(returns_a_number, "the callback returned 77"); }

static void no_answer(void) { moves(answers_nothing, "the answer is empty"); }

static void bytes(void) { moves(answers_bytes, "the answer is not JSON"); }

static void no_list(void) { moves(answers_text, "the answer is not a list of the moves' ids"); }

static void wrong_answer_later(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer_later, (void *)"[]") == 0);
    moves(keeps_the_reply, "the answer leaves out c");
    pthread_join(thread, NULL);
}

/* The reply is freed with the hub. */
static void never_answered(void) {
    moves(keeps_the_reply, "`decide` did not end in time");
    CHECK(ph_reply_done(kept) == PH_ERR_INVALID_ARGUMENT);
}

static void refused(void) {
    ph_error *error = NULL;
    ph_hub *hub = new_hub("a", NULL, MORE);
    register_counter(hub);
    CHECK_STATUS(PH_ERR_INVALID_CONFIG, ph_hub_start(hub, &error));
    CHECK(strstr(ph_error_message(error), "no strategy of the name mine is registered") != NULL);
    ph_error_free(&error);
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_register_strategy(hub, "moves", "mine", good, NULL, open_gate, &error));
    ph_error_free(&error);
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_register_strategy(hub, "migration", "mine", NULL, NULL, open_gate, &error));
    ph_error_free(&error);
    CHECK(gate_count(&dropped) == 2);
    CHECK_OK(ph_hub_register_strategy(hub, "migration", "mine", good, &asked, open_gate, &error));
    CHECK_OK(ph_hub_register_strategy(hub, "migration", "mine", good, &asked, open_gate, &error));
    CHECK(gate_count(&dropped) == 3);
    CHECK_OK(ph_hub_start(hub, &error));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_register_strategy(hub, "migration", "late", good, NULL, NULL, &error));
    ph_error_free(&error);
    end_hub(&hub);
    CHECK(gate_count(&dropped) == 4);
}

static const test_case CASES[] = {
    {"good_order", good_order, 0, 30, ""},
    {"order_without_a_child", order_without_a_child, 0, 30, ""},
    {"failure", failure, 0, 30, ""},
    {"status_of_no_error", status_of_no_error, 0, 30, ""},
    {"no_answer", no_answer, 0, 30, ""},
    {"bytes", bytes, 0, 30, ""},
    {"no_list", no_list, 0, 30, ""},
    {"wrong_answer_later", wrong_answer_later, 0, 30, ""},
    {"never_answered", never_answered, 0, 30, ""},
    {"refused", refused, 0, 30, ""},
};

MAIN(CASES)
