/* A station of the example in examples/mixed: runs sensors, children that take readings and report each of them to the
 * summary of their site, a child in Python.
 *
 *     station NAME [SEED]
 *
 * Prints its address, runs sensors until its input ends, gives them away, and prints what became of them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <process_hub.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAUSE_MS = 20, CALL_MS = 2000, STOP_MS = 30000 };

static void check(const char *what, ph_status status, ph_error **error) {
    if (status != PH_OK) {
        fprintf(stderr, "%s: %s\n", what, *error != NULL ? ph_error_message(*error) : ph_kind_name(status));
        exit(EXIT_FAILURE);
    }
}

/* Which reading comes next, and which is the last, or -1: what a sensor takes along when it moves. */
typedef struct {
    pthread_mutex_t lock;
    long next, last;
} sensor;

/* The temperature that sensor `number` reads at its n-th reading, in tenths of a degree. */
static long reading(long number, long n) {
    return 200 + 10 * number + (n * 7919 + number * 104729) % 101 - 50;
}

static ph_status sensor_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    sensor *self = (sensor *)malloc(sizeof *self);
    (void)user_data, (void)context, (void)args;
    if (self == NULL) {
        return ph_reply_fail(reply, 0, "no memory");
    }
    pthread_mutex_init(&self->lock, NULL);
    self->next = 0;
    self->last = -1;
    *child = self;
    return PH_OK;
}

/* Tells a summary until it has heard; says whether it has, or else the sensor is to stop or to move. What was told
 * twice counts once: a reading bears its number. */
static bool tell(ph_context *context, const char *summary, const char *message) {
    while (!ph_context_is_cancelled(context)) {
        ph_error *error = NULL;
        ph_status status = ph_context_call(context, summary, ph_json(message), CALL_MS, NULL, &error);
        if (status == PH_OK) {
            return true;
        }
        fprintf(stderr, "%s, told again: %s\n", summary, ph_error_message(error));
        ph_error_free(&error);
        ph_context_wait_cancelled(context, PAUSE_MS);
    }
    return false;
}

/* One reading after the other, up to the last; the body then returns, which ends the child. */
static ph_status sensor_run(void *child, ph_context *context, ph_reply *reply) {
    sensor *self = (sensor *)child;
    const char *id = ph_context_child_id(context);
    char site[16], summary[32], message[96];
    long number;

    if (id == NULL || sscanf(id, "sensor:%15[a-z]:%ld", site, &number) != 2) {
        return ph_reply_fail(reply, 0, "a sensor is called sensor:SITE:NUMBER");
    }
    snprintf(summary, sizeof summary, "summary:%s", site);
    do {
        long n;
        bool is_done;
        pthread_mutex_lock(&self->lock);
        n = self->next;
        is_done = self->last >= 0 && n > self->last;
        pthread_mutex_unlock(&self->lock);
        if (is_done) {
            snprintf(message, sizeof message, "{\"sensor\": %ld, \"done\": true}", number);
            tell(context, summary, message);
            return PH_OK;
        }
        snprintf(message, sizeof message, "{\"sensor\": %ld, \"n\": %ld, \"value\": %ld}", number, n, reading(number, n));
        if (tell(context, summary, message)) {
            pthread_mutex_lock(&self->lock);
            self->next = n + 1;
            pthread_mutex_unlock(&self->lock);
        }
    } while (!ph_context_wait_cancelled(context, PAUSE_MS));
    return PH_OK;
}

/* Any message means: the reading that comes next is the last. Answers how many there are then. */
static ph_status sensor_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    sensor *self = (sensor *)child;
    char text[32];
    (void)context, (void)message;
    pthread_mutex_lock(&self->lock);
    if (self->last < 0) {
        self->last = self->next;
    }
    snprintf(text, sizeof text, "%ld", self->last + 1);
    pthread_mutex_unlock(&self->lock);
    return ph_reply_json(reply, text);
}

static ph_status sensor_prepare(void *child, ph_context *context, ph_reply *reply) {
    const sensor *self = (const sensor *)child;
    char text[64];
    (void)context;
    snprintf(text, sizeof text, "[%ld, %ld]", self->next, self->last);
    return ph_reply_json(reply, text);
}

static ph_status sensor_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    sensor *self = (sensor *)child;
    (void)context;
    if (sscanf(state.data, " [ %ld , %ld ]", &self->next, &self->last) != 2) {
        return ph_reply_fail(reply, 0, "this is no state of a sensor");
    }
    return PH_OK;
}

static void sensor_drop(void *child) {
    pthread_mutex_destroy(&((sensor *)child)->lock);
    free(child);
}

int main(int argc, char **argv) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = NULL;
    ph_error *error = NULL;
    ph_value report;
    char config[512], seeds[128] = "";

    if (argc < 2) {
        fprintf(stderr, "usage: station NAME [SEED]\n");
        return 2;
    }
    if (argc > 2) {
        snprintf(seeds, sizeof seeds, "\"%s\"", argv[2]);
    }
    snprintf(config, sizeof config,
             "{\"hub_id\": \"weather\", \"profile\": \"fast\", \"migration\": {\"type\": \"hot_swap\", \"handover\": true},"
             " \"node\": {\"name\": \"%s\", \"seeds\": [%s]}}",
             argv[1], seeds);
    check("ph_hub_new", ph_hub_new(config, &hub, &error), &error);
    callbacks.start = sensor_start;
    callbacks.run = sensor_run;
    callbacks.handle = sensor_handle;
    callbacks.prepare_handover_state = sensor_prepare;
    callbacks.alter_handover_state = sensor_alter;
    callbacks.drop = sensor_drop;
    check("ph_hub_register_kind", ph_hub_register_kind(hub, "sensor", &callbacks, NULL, NULL, &error), &error);
    check("ph_hub_start", ph_hub_start(hub, &error), &error);
    printf("{\"address\": \"%s\"}\n", ph_hub_address(hub));
    fflush(stdout);
    while (getchar() != EOF) {
    }
    check("ph_hub_stop", ph_hub_stop(hub, STOP_MS, &report, &error), &error);
    printf("%s\n", report.data);
    ph_value_free(&report);
    ph_hub_free(&hub);
    return EXIT_SUCCESS;
}
