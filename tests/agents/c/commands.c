/* What this agent does with each command. */
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static answer start_children(ph_hub *hub, reading *reading) {
    json_t *specs = wanted(reading, "specs", JSON_ARRAY), *options = optional(reading, "options", JSON_OBJECT);
    bool wait = flag(reading, "wait", true);
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    char *specs_text, *options_text;
    READ_OR_RETURN(reading);
    specs_text = text_of(specs);
    options_text = options != NULL ? text_of(options) : NULL;
    status = ph_hub_start_children(hub, specs_text, options_text, wait ? &future : NULL, &error);
    free(specs_text);
    free(options_text);
    if (status == PH_OK && !wait) {
        return answered(json_string("start_initiated"));
    }
    return from_future(status, future, UINT64_MAX / 2, error);
}

static answer stop_children(ph_hub *hub, reading *arguments) {
    json_t *ids = wanted(arguments, "ids", JSON_ARRAY), *options = optional(arguments, "options", JSON_OBJECT), *value;
    bool wait = flag(arguments, "wait", true);
    reading in_options = {options, {NULL, NULL}};
    uint64_t timeout_ms = options != NULL ? number(&in_options, "timeout_ms", 10000) : 10000;
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    const char *key;
    char *text;
    READ_OR_RETURN(arguments);
    READ_OR_RETURN(&in_options);
    json_object_foreach(options, key, value) {
        if (strcmp(key, "timeout_ms") != 0) {
            return bad("unknown options: %s", key);
        }
    }
    text = text_of(ids);
    status = ph_hub_stop_children(hub, text, timeout_ms, wait ? &future : NULL, &error);
    free(text);
    if (status == PH_OK && !wait) {
        return answered(json_string("stop_initiated"));
    }
    return from_future(status, future, timeout_ms, error);
}

typedef ph_status (*keyed_read)(ph_hub *hub, const char *key, ph_value *value, ph_error **error);

static answer read_by_key(ph_hub *hub, reading *reading, const char *argument, keyed_read read) {
    const char *key = wanted_text(reading, argument);
    ph_error *error = NULL;
    ph_value value;
    ph_status status;
    READ_OR_RETURN(reading);
    status = read(hub, key, &value, &error);
    return from_value(status, &value, error);
}

static answer child_lookup(ph_hub *hub, reading *reading) {
    return read_by_key(hub, reading, "child_id", ph_hub_child_lookup);
}

static answer tag_query(ph_hub *hub, reading *reading) {
    return read_by_key(hub, reading, "tag", ph_hub_tag_query);
}

static answer metadata_query(ph_hub *hub, reading *reading) {
    return read_by_key(hub, reading, "key", ph_hub_metadata_query);
}

static answer process_registry(ph_hub *hub, reading *reading) {
    ph_error *error = NULL;
    ph_value value;
    ph_status status = ph_hub_process_registry(hub, &value, &error);
    (void)reading;
    return from_value(status, &value, error);
}

static answer which_children(ph_hub *hub, reading *reading) {
    const char *scope = json_string_value(optional(reading, "scope", JSON_STRING));
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_which_children(hub, scope != NULL ? scope : "local", 5000, &future, &error);
    return from_future(status, future, 5000, error);
}

static answer list_nodes(ph_hub *hub, reading *reading) {
    bool include_local = flag(reading, "include_local", false);
    ph_error *error = NULL;
    ph_value value;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_nodes(hub, include_local, &value, &error);
    return from_value(status, &value, error);
}

static answer is_alive(ph_hub *hub, reading *reading) {
    (void)reading;
    return answered(json_boolean(ph_hub_is_alive(hub)));
}

/* A condition of a hub that runs; others have none. */
static answer condition(ph_hub *hub, bool (*read)(ph_hub *hub)) {
    ph_error *error = NULL;
    ph_status status = ph_hub_nodes(hub, false, NULL, &error);
    return status == PH_OK ? answered(json_boolean(read(hub))) : failed(error);
}

static answer is_locked(ph_hub *hub, reading *reading) {
    (void)reading;
    return condition(hub, ph_hub_is_locked);
}

static answer is_partitioned(ph_hub *hub, reading *reading) {
    (void)reading;
    return condition(hub, ph_hub_is_partitioned);
}

/* The message of `call` and `send`; what it was made of is freed by `free`. */
static ph_value message_of(reading *reading, char **owned) {
    json_t *payload = optional(reading, "payload", JSON_OBJECT), *message = json_object_get(reading->arguments, "message");
    ph_value value = ph_json("null");
    *owned = NULL;
    if (payload == NULL) {
        *owned = text_of(message != NULL ? message : json_null());
        value = ph_json(*owned);
    } else if (!given(payload, &value, owned) && reading->problem.error == NULL) {
        reading->problem = bad("`payload` must be {\"content_type\", \"base64\"}");
    }
    return value;
}

static answer call(ph_hub *hub, reading *reading) {
    const char *child_id = wanted_text(reading, "child_id"), *node = json_string_value(optional(reading, "node", JSON_STRING));
    uint64_t timeout_ms = number(reading, "timeout_ms", 5000);
    char *owned;
    ph_value message = message_of(reading, &owned), reply;
    ph_error *error = NULL;
    answer answer = reading->problem;
    if (answer.error == NULL) {
        ph_status status = ph_hub_call_on(hub, child_id, node, message, timeout_ms, &reply, &error);
        answer = from_value(status, &reply, error);
    }
    free(owned);
    return answer;
}

static answer send_message(ph_hub *hub, reading *reading) {
    const char *child_id = wanted_text(reading, "child_id"), *node = json_string_value(optional(reading, "node", JSON_STRING));
    bool all = flag(reading, "all", false);
    char *owned;
    ph_value message = message_of(reading, &owned);
    ph_error *error = NULL;
    answer answer = reading->problem;
    if (answer.error == NULL) {
        ph_status status = ph_hub_send(hub, child_id, node, all, message, &error);
        answer = from_status(status, error);
    }
    free(owned);
    return answer;
}

static void hook_event(void *hub_id, const char *hook, const char *payload) {
    write_line(json_pack("{s:s, s:s, s:s, s:o}", "event", "hook", "hub_id", (const char *)hub_id, "hook", hook, "payload",
                         json_loads(payload, JSON_DECODE_ANY, NULL)));
}

static answer subscribe(ph_hub *hub, reading *reading) {
    const char *hook = wanted_text(reading, "hook"), *hub_id = wanted_text(reading, "hub_id");
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_on(hub, hook, "agent", 0, hook_event, strdup(hub_id), free, &error);
    return from_status(status, error);
}

static answer drain(ph_hub *hub, reading *reading) {
    uint64_t timeout_ms = number(reading, "timeout_ms", 60000);
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_drain(hub, timeout_ms, &future, &error);
    return from_future(status, future, timeout_ms, error);
}

static answer stop_hub(ph_hub *hub, reading *reading) {
    uint64_t timeout_ms = number(reading, "timeout_ms", 60000);
    (void)hub;
    READ_OR_RETURN(reading);
    return stop_hub_of(wanted_text(reading, "hub_id"), timeout_ms);
}

static answer where(ph_hub *hub, reading *reading) {
    const char *child_id = wanted_text(reading, "child_id");
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_where(hub, child_id, &future, &error);
    return from_future(status, future, 5000, error);
}

static answer plan(ph_hub *hub, reading *reading) {
    json_t *change = json_incref(optional(reading, "change", JSON_OBJECT));
    const char *const keys[] = {"join", "leave"};
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    char *text;
    size_t i;
    READ_OR_RETURN(reading);
    if (change == NULL) {
        change = json_object();
        for (i = 0; i < 2; i++) {
            json_t *value = json_object_get(reading->arguments, keys[i]);
            if (value != NULL && !json_is_null(value)) {
                json_object_set(change, keys[i], value);
            }
        }
    }
    text = text_of(change);
    json_decref(change);
    status = ph_hub_plan(hub, text, &future, &error);
    free(text);
    return from_future(status, future, 5000, error);
}

static answer sync_hub(ph_hub *hub, reading *reading) {
    uint64_t timeout_ms = number(reading, "timeout_ms", 5000);
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_sync(hub, timeout_ms, &future, &error);
    return from_future(status, future, timeout_ms, error);
}

static answer acknowledge_loss(ph_hub *hub, reading *reading) {
    const char *child_id = wanted_text(reading, "child_id");
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_acknowledge_loss(hub, child_id, &future, &error);
    return from_future(status, future, 5000, error);
}

static answer metrics_text(ph_hub *hub, reading *reading) {
    ph_error *error = NULL;
    ph_value text;
    ph_status status = ph_hub_metrics_text(hub, &text, &error);
    answer answer;
    (void)reading;
    if (status != PH_OK) {
        return failed(error);
    }
    answer = answered(json_stringn(text.data, text.len));
    ph_value_free(&text);
    return answer;
}

static answer debug_stats(ph_hub *hub, reading *reading) {
    ph_error *error = NULL;
    ph_value stats;
    ph_status status = ph_hub_debug_stats(hub, &stats, &error);
    (void)reading;
    return from_value(status, &stats, error);
}

static answer reset_cluster_size(ph_hub *hub, reading *reading) {
    json_t *size = wanted(reading, "n", JSON_INTEGER);
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_status status;
    READ_OR_RETURN(reading);
    status = ph_hub_reset_cluster_size(hub, json_integer_value(size), &future, &error);
    return from_future(status, future, 15000, error);
}

typedef struct command {
    const char *name;
    answer (*run)(ph_hub *hub, reading *reading);
} command;

static const command COMMANDS[] = {
    {"start_children", start_children},
    {"stop_children", stop_children},
    {"child_lookup", child_lookup},
    {"process_registry", process_registry},
    {"which_children", which_children},
    {"tag_query", tag_query},
    {"metadata_query", metadata_query},
    {"nodes", list_nodes},
    {"is_alive", is_alive},
    {"is_locked", is_locked},
    {"is_partitioned", is_partitioned},
    {"call", call},
    {"send", send_message},
    {"subscribe", subscribe},
    {"drain", drain},
    {"stop_hub", stop_hub},
    {"where", where},
    {"plan", plan},
    {"sync", sync_hub},
    {"acknowledge_loss", acknowledge_loss},
    {"metrics_text", metrics_text},
    {"debug_stats", debug_stats},
    {"reset_cluster_size", reset_cluster_size},
};

answer perform(json_t *request) {
    reading reading = {request, {NULL, NULL}};
    const char *name = wanted_text(&reading, "cmd"), *hub_id;
    ph_hub *hub;
    size_t i;
    READ_OR_RETURN(&reading);
    if (strcmp(name, "info") == 0) {
        return answered(json_pack("{s:s, s:s, s:i}", "language", "c", "version", ph_version_string(), "pid", (int)getpid()));
    }
    if (strcmp(name, "start_hub") == 0) {
        return start_hub(&reading);
    }
    for (i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (strcmp(name, COMMANDS[i].name) == 0) {
            hub_id = wanted_text(&reading, "hub_id");
            READ_OR_RETURN(&reading);
            hub = hub_of(hub_id);
            return hub != NULL ? COMMANDS[i].run(hub, &reading) : bad("there is no hub \"%s\" here", hub_id);
        }
    }
    return bad("no such cmd: %s", name);
}
