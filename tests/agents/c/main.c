/* The C agent: one JSON object a line in, one a line out. */
#include "agent.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reply(const json_t *request, answer answer) {
    json_t *id = json_object_get(request, "id");
    json_t *line = json_pack("{s:o}", "id", id != NULL ? json_incref(id) : json_null());
    json_object_set_new(line, answer.error != NULL ? "error" : "ok", answer.error != NULL ? answer.error : answer.ok);
    write_line(line);
}

static void *serve(void *argument) {
    json_t *request = (json_t *)argument;
    const char *command = json_string_value(json_object_get(request, "cmd"));
    if (command != NULL && strcmp(command, "exit") == 0) {
        answer done = {json_null(), NULL};
        close_agent();
        reply(request, done);
        exit(EXIT_SUCCESS);
    }
    reply(request, perform(request));
    json_decref(request);
    return NULL;
}

/* A thread for each request: a slow one holds up nobody. */
static void begin(json_t *request) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, request) != 0) {
        reply(request, bad("no thread could be started"));
        json_decref(request);
        return;
    }
    pthread_detach(thread);
}

static void tell_log(void *user_data, int32_t level, const char *target, const char *message) {
    (void)user_data, (void)level;
    fprintf(stderr, "%s: %s\n", target, message);
}

int main(void) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    /* A reader of stdout that went away is no reason to die before the hubs are stopped. */
    signal(SIGPIPE, SIG_IGN);
    ph_log_set(PH_LOG_WARN, tell_log, NULL, NULL, NULL);
    while ((length = getline(&line, &capacity, stdin)) != -1) {
        json_error_t error;
        json_t *request;
        if (line[strspn(line, " \t\r\n")] == '\0') {
            continue;
        }
        request = json_loadb(line, (size_t)length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
        if (request == NULL) {
            reply(NULL, bad("no JSON: %s", error.text));
        } else if (!json_is_object(request)) {
            reply(NULL, bad("a request must be an object"));
            json_decref(request);
        } else {
            begin(request);
        }
    }
    free(line);
    close_agent();
    return EXIT_SUCCESS;
}
