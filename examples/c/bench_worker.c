/* The C side of `cargo xtask bench`: a process with one hub that obeys. It reads one JSON object a line and answers each with
 * one; the orders are those of tests/src/bench/worker.rs. JSON is jansson's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "bench_child.h"

#include <jansson.h>
#include <process_hub.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KIND "w"
enum { PATIENCE_MS = 120000, PIPELINE = 64, ID_BYTES = 24 };

static ph_hub *hub;

/* --- what orders need ----------------------------------------------------------------------------------------------- */

/* What an order is answered: an object, or the text of what went wrong. */
static json_t *failure(const char *text) {
    return json_pack("{s:s}", "error", text);
}

static json_t *failed(ph_error **error) {
    json_t *answer = failure(ph_error_message(*error));
    ph_error_free(error);
    return answer;
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static size_t number_of(const json_t *order, const char *key) {
    return (size_t)json_integer_value(json_object_get(order, key));
}

static void child_id(char *id, size_t index) {
    snprintf(id, ID_BYTES, "c%zu", index);
}

/* Numbers that are the same in every run (xorshift). */
static size_t pick(uint64_t *seed, size_t below) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (size_t)(*seed % below);
}

/* Waits for the answer of a future; the error of its result, if it has one, is an error. */
static json_t *timed_result(ph_status status, ph_future *future, ph_error *error, double before) {
    ph_value value;
    json_t *answer;
    double us;
    if (status != PH_OK) {
        return failed(&error);
    }
    status = ph_future_wait(future, PATIENCE_MS, &value, &error);
    us = now_us() - before;
    ph_future_free(&future);
    if (status != PH_OK) {
        return failed(&error);
    }
    answer = strstr(value.data, "\"status\":\"error\"") == NULL ? json_pack("{s:f}", "us", us) : failure(value.data);
    ph_value_free(&value);
    return answer;
}

typedef bool (*condition)(void *argument);

static json_t *wait_until(condition holds, void *argument) {
    double until = now_us() + PATIENCE_MS * 1e3;
    while (!holds(argument)) {
        if (now_us() > until) {
            return failure("not true in time");
        }
        usleep(1000);
    }
    return json_object();
}

/* Whether a child runs on this node and nowhere else. */
static bool runs_on(const char *id, const char *node) {
    char wanted[300];
    const char *first, *second;
    bool is_there;
    ph_value row;
    if (ph_hub_child_lookup(hub, id, &row, NULL) != PH_OK) {
        return false;
    }
    snprintf(wanted, sizeof wanted, "\"node\":\"%s\"", node);
    first = strstr(row.data, "\"node\":\"");
    second = first != NULL ? strstr(first + 1, "\"node\":\"") : NULL;
    is_there = first != NULL && second == NULL && strncmp(first, wanted, strlen(wanted)) == 0;
    ph_value_free(&row);
    return is_there;
}

/* --- orders --------------------------------------------------------------------------------------------------------- */

static json_t *open_hub(const json_t *order) {
    ph_child_callbacks callbacks = worker_callbacks();
    ph_error *error = NULL;
    json_t *config, *seeds = json_object_get(order, "seeds");
    char *text;
    ph_status status;
    config = json_pack("{s:s, s:{s:s, s:b}, s:{s:O, s:O}}", "hub_id", "bench", "migration", "type", "hot_swap", "handover", 1, "node",
                       "name", json_object_get(order, "name"), "seeds", seeds);
    text = json_dumps(config, 0);
    json_decref(config);
    status = ph_hub_new(text, &hub, &error);
    free(text);
    if (status == PH_OK) {
        status = ph_hub_register_kind(hub, KIND, &callbacks, NULL, NULL, &error);
    }
    if (status == PH_OK) {
        status = ph_hub_start(hub, &error);
    }
    return status == PH_OK ? json_pack("{s:s}", "address", ph_hub_address(hub)) : failed(&error);
}

static json_t *resident_bytes(const json_t *order) {
    char line[128];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    (void)order;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &kib) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return json_pack("{s:I}", "bytes", (json_int_t)kib * 1024);
}

static bool has_members(void *count) {
    size_t found = 1;
    const char *at;
    ph_value names;
    if (ph_hub_nodes(hub, true, &names, NULL) != PH_OK) {
        return false;
    }
    for (at = names.data; *at != '\0'; at++) {
        found += *at == ',';
    }
    ph_value_free(&names);
    return found == *(size_t *)count;
}

static json_t *members(const json_t *order) {
    size_t count = number_of(order, "count");
    return wait_until(has_members, &count);
}

static json_t *warm_up(const json_t *order) {
    char spec[400], id[300];
    ph_error *error = NULL;
    ph_future *future = NULL;
    ph_status status;
    json_t *answer;
    (void)order;
    snprintf(id, sizeof id, "warm_up:%s", ph_hub_node_name(hub));
    snprintf(spec, sizeof spec, "{\"id\": \"%s\", \"kind\": \"" KIND "\"}", id);
    status = ph_hub_start_child(hub, spec, "{\"timeout_ms\": 120000}", &future, &error);
    answer = timed_result(status, future, error, 0);
    if (json_object_get(answer, "error") != NULL) {
        return answer;
    }
    json_decref(answer);
    future = NULL;
    status = ph_hub_stop_child(hub, id, PATIENCE_MS, &future, &error);
    return timed_result(status, future, error, 0);
}

/* A JSON array of `count` items, each made by `format` of its number. */
static char *list_of(size_t count, const char *format) {
    char *text = (char *)malloc(count * 48 + 3), *at = text;
    size_t index;
    *at++ = '[';
    for (index = 0; index < count; index++) {
        at += snprintf(at, 48, format, index > 0 ? "," : "", index);
    }
    strcpy(at, "]");
    return text;
}

static json_t *start(const json_t *order) {
    char *specs = list_of(number_of(order, "count"), "%s{\"id\":\"c%zu\",\"kind\":\"" KIND "\"}");
    ph_error *error = NULL;
    ph_future *future = NULL;
    double before = now_us();
    ph_status status = ph_hub_start_children(hub, specs, "{\"timeout_ms\": 120000}", &future, &error);
    json_t *answer = timed_result(status, future, error, before);
    free(specs);
    return answer;
}

static json_t *stop(const json_t *order) {
    char *ids = list_of(number_of(order, "count"), "%s\"c%zu\"");
    ph_error *error = NULL;
    ph_future *future = NULL;
    double before = now_us();
    ph_status status = ph_hub_stop_children(hub, ids, PATIENCE_MS, &future, &error);
    json_t *answer = timed_result(status, future, error, before);
    free(ids);
    return answer;
}

static bool has_no_children(void *argument) {
    ph_value stats;
    bool is_empty;
    (void)argument;
    if (ph_hub_debug_stats(hub, &stats, NULL) != PH_OK) {
        return false;
    }
    is_empty = strstr(stats.data, "\"children\":0,") != NULL;
    ph_value_free(&stats);
    return is_empty;
}

static json_t *gone(const json_t *order) {
    (void)order;
    return wait_until(has_no_children, NULL);
}

typedef struct expectation {
    const json_t *nodes;
    const char *owners;
    size_t next;
    double check_us;
} expectation;

static bool is_expected(const expectation *expected, size_t index) {
    char id[ID_BYTES];
    child_id(id, index);
    return runs_on(id, json_string_value(json_array_get(expected->nodes, (size_t)(expected->owners[index] - '0'))));
}

/* A child once seen on its owner is not looked at again until all are; then every one is, which is what is timed. */
static bool is_all_expected(void *argument) {
    expectation *expected = (expectation *)argument;
    double before;
    size_t index;
    while (expected->owners[expected->next] != '\0' && is_expected(expected, expected->next)) {
        expected->next++;
    }
    if (expected->owners[expected->next] != '\0') {
        return false;
    }
    before = now_us();
    for (index = 0; expected->owners[index] != '\0'; index++) {
        if (!is_expected(expected, index)) {
            expected->next = index;
            return false;
        }
    }
    expected->check_us = now_us() - before;
    return true;
}

static json_t *expect(const json_t *order) {
    expectation expected = {json_object_get(order, "nodes"), json_string_value(json_object_get(order, "owners")), 0, 0};
    json_t *answer = wait_until(is_all_expected, &expected);
    if (json_object_get(answer, "error") == NULL) {
        json_object_set_new(answer, "check_us", json_real(expected.check_us));
    }
    return answer;
}

/* Calls children, a few at a time, and counts the replies that hold the state. */
static json_t *call_all(const size_t *children, size_t count, const char *message, size_t *kept) {
    ph_future *waiting[PIPELINE] = {NULL};
    ph_error *error = NULL;
    size_t sent, index;
    uint64_t state;
    *kept = 0;
    for (sent = 0; sent < count + PIPELINE; sent++) {
        ph_future **place = &waiting[sent % PIPELINE];
        char id[ID_BYTES];
        if (*place != NULL) {
            ph_value reply;
            if (ph_future_wait(*place, PATIENCE_MS, &reply, &error) != PH_OK) {
                return failed(&error);
            }
            memcpy(&state, reply.data, sizeof state);
            *kept += state == STATE;
            ph_value_free(&reply);
            ph_future_free(place);
        }
        if (sent >= count) {
            continue;
        }
        index = children != NULL ? children[sent] : sent;
        child_id(id, index);
        if (ph_hub_call_begin(hub, id, NULL, ph_bytes(message, strlen(message)), PATIENCE_MS, place, &error) != PH_OK) {
            return failed(&error);
        }
    }
    return NULL;
}

static json_t *call_each(const json_t *order, const char *message) {
    size_t kept;
    json_t *problem = call_all(NULL, number_of(order, "count"), message, &kept);
    return problem != NULL ? problem : json_pack("{s:I}", "kept", (json_int_t)kept);
}

static json_t *put(const json_t *order) {
    return call_each(order, "put");
}

static json_t *states(const json_t *order) {
    return call_each(order, "get");
}

static json_t *lookup(const json_t *order) {
    size_t count = number_of(order, "count"), rounds = number_of(order, "rounds"), round, found = 0;
    char (*ids)[ID_BYTES] = (char (*)[ID_BYTES])malloc(count * ID_BYTES);
    uint64_t seed = 1;
    double before, ns;
    for (round = 0; round < count; round++) {
        child_id(ids[round], round);
    }
    before = now_us();
    for (round = 0; round < rounds; round++) {
        ph_value row;
        if (ph_hub_child_lookup(hub, ids[pick(&seed, count)], &row, NULL) == PH_OK) {
            found += row.len > 4;
            ph_value_free(&row);
        }
    }
    ns = (now_us() - before) * 1e3;
    free(ids);
    return found == rounds ? json_pack("{s:f}", "ns", ns / (double)rounds) : failure("lookups found nothing");
}

/* The numbers of `rounds` random children that run elsewhere, or here. */
static size_t *placed(const json_t *order, bool is_remote, size_t rounds) {
    size_t count = number_of(order, "count"), found = 0, index;
    size_t *here = (size_t *)malloc(count * sizeof *here), *chosen = (size_t *)malloc(rounds * sizeof *chosen);
    uint64_t seed = 1;
    for (index = 0; index < count; index++) {
        char id[ID_BYTES];
        child_id(id, index);
        if (runs_on(id, ph_hub_node_name(hub)) != is_remote) {
            here[found++] = index;
        }
    }
    for (index = 0; index < rounds && found > 0; index++) {
        chosen[index] = here[pick(&seed, found)];
    }
    free(here);
    if (found == 0) {
        free(chosen);
        return NULL;
    }
    return chosen;
}

static int compare(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static json_t *call(const json_t *order) {
    size_t rounds = number_of(order, "rounds"), round;
    size_t *chosen = placed(order, json_is_true(json_object_get(order, "remote")), rounds);
    double *times = (double *)malloc(rounds * sizeof *times);
    ph_error *error = NULL;
    json_t *answer = chosen == NULL ? failure("no child to call") : NULL;
    for (round = 0; round < rounds && answer == NULL; round++) {
        char id[ID_BYTES];
        double before;
        ph_value reply;
        child_id(id, chosen[round]);
        before = now_us();
        if (ph_hub_call(hub, id, ph_bytes("get", 3), PATIENCE_MS, &reply, &error) != PH_OK) {
            answer = failed(&error);
            break;
        }
        times[round] = now_us() - before;
        ph_value_free(&reply);
    }
    if (answer == NULL) {
        qsort(times, rounds, sizeof *times, compare);
        answer = json_pack("{s:f, s:f}", "p50_us", times[(rounds - 1) / 2], "p99_us", times[(rounds - 1) * 99 / 100]);
    }
    free(times);
    free(chosen);
    return answer;
}

static json_t *stream(const json_t *order) {
    size_t rounds = number_of(order, "rounds"), kept;
    size_t *chosen = placed(order, false, rounds);
    double before = now_us();
    json_t *answer = chosen == NULL ? failure("no child to call") : call_all(chosen, rounds, "get", &kept);
    free(chosen);
    return answer != NULL ? answer : json_pack("{s:f}", "us", (now_us() - before) / (double)rounds);
}

static json_t *close_hub(const json_t *order) {
    double before = now_us();
    ph_error *error = NULL;
    ph_value report;
    json_t *document, *answer;
    (void)order;
    if (ph_hub_stop(hub, PATIENCE_MS, &report, &error) != PH_OK) {
        return failed(&error);
    }
    document = json_loads(report.data, 0, NULL);
    answer = json_pack("{s:f, s:I, s:I}", "us", now_us() - before, "moved",
                       (json_int_t)json_array_size(json_object_get(document, "moved")), "not_moved",
                       (json_int_t)(json_array_size(json_object_get(document, "restarted")) +
                                    json_array_size(json_object_get(document, "stopped")) +
                                    json_array_size(json_object_get(document, "failed"))));
    json_decref(document);
    ph_value_free(&report);
    return answer;
}

static const struct {
    const char *name;
    json_t *(*obey)(const json_t *order);
} ORDERS[] = {
    {"open", open_hub}, {"rss", resident_bytes}, {"members", members}, {"warm_up", warm_up}, {"start", start},
    {"stop", stop},     {"gone", gone},          {"expect", expect},   {"put", put},         {"states", states},
    {"lookup", lookup}, {"call", call},          {"stream", stream},   {"close", close_hub},
};

static json_t *obey(const json_t *order) {
    const char *name = json_string_value(json_object_get(order, "op"));
    size_t index;
    for (index = 0; name != NULL && index < sizeof ORDERS / sizeof ORDERS[0]; index++) {
        if (strcmp(name, ORDERS[index].name) == 0) {
            return ORDERS[index].obey(order);
        }
    }
    return failure("there is no such order");
}

int main(void) {
    char *line = NULL;
    size_t capacity = 0;
    printf("{}\n");
    fflush(stdout);
    while (getline(&line, &capacity, stdin) != -1) {
        json_t *order = json_loads(line, 0, NULL), *answer = obey(order);
        char *text = json_dumps(answer, JSON_COMPACT);
        printf("%s\n", text);
        fflush(stdout);
        free(text);
        json_decref(answer);
        json_decref(order);
    }
    free(line);
    ph_hub_free(&hub);
    return EXIT_SUCCESS;
}
