/* What the test programs share: cases, checks, and hubs to try things on.
 *
 * A program lists its cases when it has no argument, one a line: name, expected exit status (128 + the signal for a death
 * by signal), seconds it may take, tags. With the name of a case it runs it. `cargo xtask test --only c` runs them all.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <process_hub.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Longer than anything that works takes; a test that waits so long has failed. */
#define PATIENCE_MS 30000

#define CHECK(claim)                                                                      \
    do {                                                                                  \
        if (!(claim)) {                                                                   \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #claim);           \
            exit(70);                                                                     \
        }                                                                                 \
    } while (0)

#define CHECK_STATUS(wanted, call) check_status(__FILE__, __LINE__, #call, (wanted), (call))
/* Like CHECK_STATUS(PH_OK, ...), for a call whose last argument is &error: tells the error. */
#define CHECK_OK(call)                                                                    \
    do {                                                                                  \
        ph_error *error = NULL;                                                           \
        ph_status got_status = (call);                                                    \
        if (got_status != PH_OK) {                                                        \
            fprintf(stderr, "%s:%d: %s: %d, %s\n", __FILE__, __LINE__, #call, got_status, \
                    error ? ph_error_json(error) : "(no error object)");                  \
            exit(70);                                                                     \
        }                                                                                 \
    } while (0)

static inline void check_status(const char *file, int line, const char *call, ph_status wanted, ph_status got) {
    if (wanted != got) {
        fprintf(stderr, "%s:%d: %s: %d (%s), wanted %d\n", file, line, call, got, got ? ph_kind_name(got) : "ok", wanted);
        exit(70);
    }
}

typedef struct test_case {
    const char *name;
    void (*run)(void);
    int expected;
    int seconds;
    const char *tags;
} test_case;

static inline int run_cases(const test_case *cases, size_t count, int argc, char **argv) {
    size_t i;
    for (i = 0; i < count; i++) {
        if (argc < 2) {
            printf("%s %d %d %s\n", cases[i].name, cases[i].expected, cases[i].seconds, cases[i].tags);
        } else if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            return 0;
        }
    }
    if (argc >= 2) {
        fprintf(stderr, "there is no case %s\n", argv[1]);
    }
    return argc < 2 ? 0 : 71;
}

#define MAIN(cases)                                                          \
    int main(int argc, char **argv) {                                        \
        return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); \
    }

/* How much slower everything is, under valgrind and the like. */
static inline int slowness(void) {
    const char *text = getenv("PROCESS_HUB_SLOWNESS");
    return text ? atoi(text) : 1;
}

static inline double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Something that happens, and is waited for. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
} gate;

#define GATE_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

static inline void gate_open(gate *gate) {
    pthread_mutex_lock(&gate->lock);
    gate->count++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static inline int gate_count(gate *gate) {
    int count;
    pthread_mutex_lock(&gate->lock);
    count = gate->count;
    pthread_mutex_unlock(&gate->lock);
    return count;
}

/* Waits until it happened so often. */
static inline void gate_wait(gate *gate, int count) {
    struct timespec until;
    int result = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000 * slowness();
    pthread_mutex_lock(&gate->lock);
    while (gate->count < count && result == 0) {
        result = pthread_cond_timedwait(&gate->changed, &gate->lock, &until);
    }
    pthread_mutex_unlock(&gate->lock);
    CHECK(result == 0);
}

/* A hub on the loopback interface; `more` are further options, each with a comma before it. */
static inline ph_hub *new_hub(const char *name, const char *seed, const char *more) {
    char config[1024];
    ph_hub *hub = NULL;
    char seeds[128] = "";
    if (seed) {
        snprintf(seeds, sizeof seeds, "\"%s\"", seed);
    }
    snprintf(config, sizeof config,
             "{\"hub_id\": \"orders\", \"profile\": \"fast\", \"hubs_discover_interval_ms\": 200,"
             " \"node\": {\"name\": \"%s\", \"seeds\": [%s], \"security\": {\"mode\": \"insecure_plaintext\"}}%s}",
             name, seeds, more ? more : "");
    CHECK_OK(ph_hub_new(config, &hub, &error));
    return hub;
}

/* Appends what it is sent, counts, and moves with its items. */
typedef struct counter {
    int count;
} counter;

static inline ph_status counter_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    counter *made = (counter *)calloc(1, sizeof *made);
    char text[16] = "";
    (void)user_data, (void)context, (void)reply;
    *child = made;
    /* Bytes do not end with a NUL. */
    if (args.len > 0 && args.len < sizeof text && args.data[0] >= '0' && args.data[0] <= '9') {
        memcpy(text, args.data, args.len);
        made->count = atoi(text);
    }
    return PH_OK;
}

static inline ph_status counter_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    char text[32];
    (void)context, (void)message;
    snprintf(text, sizeof text, "%d", ++((counter *)child)->count);
    return ph_reply_json(reply, text);
}

static inline ph_status counter_prepare(void *child, ph_context *context, ph_reply *reply) {
    char text[32];
    (void)context;
    snprintf(text, sizeof text, "%d", ((counter *)child)->count);
    return ph_reply_json(reply, text);
}

static inline ph_status counter_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    (void)context, (void)reply;
    ((counter *)child)->count = atoi(state.data);
    return PH_OK;
}

static inline ph_child_callbacks counter_callbacks(void) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    callbacks.start = counter_start;
    callbacks.handle = counter_handle;
    callbacks.prepare_handover_state = counter_prepare;
    callbacks.alter_handover_state = counter_alter;
    callbacks.drop = free;
    return callbacks;
}

static inline void register_counter(ph_hub *hub) {
    ph_child_callbacks callbacks = counter_callbacks();
    CHECK_OK(ph_hub_register_kind(hub, "counter", &callbacks, NULL, NULL, &error));
}

/* A started hub with the kind "counter". */
static inline ph_hub *counter_hub(const char *name, const char *seed, const char *more) {
    ph_hub *hub = new_hub(name, seed, more);
    register_counter(hub);
    CHECK_OK(ph_hub_start(hub, &error));
    return hub;
}

/* The answer of a future, which is freed. */
static inline ph_value wait_for(ph_future **future) {
    ph_value value;
    CHECK_OK(ph_future_wait(*future, PATIENCE_MS, &value, &error));
    ph_future_free(future);
    CHECK(*future == NULL);
    return value;
}

/* The error of a future that fails, which is freed. */
static inline ph_status failure_of(ph_future **future) {
    ph_status status = ph_future_wait(*future, PATIENCE_MS, NULL, NULL);
    CHECK(status != PH_OK);
    ph_future_free(future);
    return status;
}

static inline void start_child(ph_hub *hub, const char *id, const char *kind) {
    char spec[256];
    ph_future *future = NULL;
    ph_value started;
    snprintf(spec, sizeof spec, "{\"id\": \"%s\", \"kind\": \"%s\"}", id, kind);
    CHECK_OK(ph_hub_start_child(hub, spec, "{\"timeout_ms\": 20000}", &future, &error));
    started = wait_for(&future);
    CHECK(strstr(started.data, id) != NULL);
    ph_value_free(&started);
}

/* Calls a child and compares its reply. */
static inline void check_call(ph_hub *hub, const char *id, const char *message, const char *wanted) {
    ph_value reply;
    CHECK_OK(ph_hub_call(hub, id, ph_json(message), PATIENCE_MS, &reply, &error));
    if (strcmp(reply.data, wanted) != 0) {
        fprintf(stderr, "%s answered %s and not %s\n", id, reply.data, wanted);
        exit(70);
    }
    ph_value_free(&reply);
}

/* Stops and frees. */
static inline void end_hub(ph_hub **hub) {
    CHECK_OK(ph_hub_stop(*hub, PATIENCE_MS, NULL, &error));
    CHECK_STATUS(PH_OK, ph_hub_free(hub));
    CHECK(*hub == NULL);
}

/* Waits until the hub has so many members. Asked again at each change of membership would need a hook; a poll does here. */
static inline void wait_members(ph_hub *hub, int count) {
    double until = now_seconds() + PATIENCE_MS / 1000.0 * slowness();
    for (;;) {
        ph_value names;
        int commas = 0;
        const char *at;
        CHECK_OK(ph_hub_nodes(hub, true, &names, &error));
        for (at = names.data; *at; at++) {
            commas += *at == ',';
        }
        ph_value_free(&names);
        if (commas + 1 == count) {
            return;
        }
        CHECK(now_seconds() < until);
        usleep(5000);
    }
}

#endif
