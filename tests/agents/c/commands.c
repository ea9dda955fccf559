/* What this agent does with each command. */
#include "agent.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_HUBS = 64, EXIT_MS = 20000, GRACE_MS = 5000 };

/* A hub of this process; stopped ones stay, and answer `closed`. */
typedef struct hub_entry {
    char *id;
    ph_hub *hub;
    /* The place of its node. */
    int node;
    bool is_running;
} hub_entry;

/* A node, while hubs run on it. */
typedef struct node_entry {
    ph_node *node;
    int hubs;
} node_entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hub_entry hubs[MAX_HUBS];
static node_entry nodes[MAX_HUBS];

/* --- answers --------------------------------------------------------------------------------------------------------- */

static answer answered(json_t *ok) {
    answer answer = {ok, NULL};
    return answer;
}

static answer failed(ph_error *error) {
    answer answer = {NULL, json_loads(ph_error_json(error), 0, NULL)};
    ph_error_free(&error);
    return answer;
}

answer bad(const char *format, ...) {
    char message[1024];
    answer answer = {NULL, NULL};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    answer.error = json_pack("{s:s, s:i, s:s, s:s, s:n, s:n, s:b, s:n}", "kind", "invalid_argument", "code", PH_ERR_INVALID_ARGUMENT,
                             "operation", "agent", "message", message, "child_id", "node", "maybe_executed", 0, "trace");
    return answer;
}

/* The answer of a function that gives a value. */
static answer from_value(ph_status status, ph_value *value, ph_error *error) {
    answer answer;
    if (status != PH_OK) {
        return failed(error);
    }
    answer = answered(shown(*value));
    ph_value_free(value);
    return answer;
}

/* The answer of a function that gives a future, waited for. */
static answer from_future(ph_status status, ph_future *future, uint64_t timeout_ms, ph_error *error) {
    ph_value value;
    answer answer;
    if (status != PH_OK) {
        return failed(error);
    }
    status = ph_future_wait(future, timeout_ms + GRACE_MS, &value, &error);
    answer = from_value(status, &value, error);
    ph_future_free(&future);
    return answer;
}

static answer from_status(ph_status status, ph_error *error) {
    return status == PH_OK ? answered(json_null()) : failed(error);
}

/* --- arguments ------------------------------------------------------------------------------------------------------- */

/* What went wrong while arguments were read; the first counts. */
typedef struct reading {
    const json_t *arguments;
    answer problem;
} reading;

static const char *type_name(json_type type) {
    static const char *const NAMES[] = {"object", "array", "text", "whole number", "number", "boolean", "boolean", "null"};
    return NAMES[type];
}

/* An argument of a type, or NULL if it is left out. */
static json_t *optional(reading *reading, const char *key, json_type type) {
    json_t *value = json_object_get(reading->arguments, key);
    bool is_right;
    if (value == NULL || json_is_null(value)) {
        return NULL;
    }
    is_right = type == JSON_TRUE ? json_is_boolean(value) : json_typeof(value) == type;
    if (is_right) {
        return value;
    }
    if (reading->problem.error == NULL) {
        char *text = text_of(value);
        reading->problem = bad("`%s` must be of the type %s, not %s", key, type_name(type), text);
        free(text);
    }
    return NULL;
}

static json_t *wanted(reading *reading, const char *key, json_type type) {
    json_t *value = optional(reading, key, type);
    if (value == NULL && reading->problem.error == NULL) {
        reading->problem = bad("`%s` is missing", key);
    }
    return value;
}

static const char *wanted_text(reading *reading, const char *key) {
    return json_string_value(wanted(reading, key, JSON_STRING));
}

static uint64_t number(reading *reading, const char *key, json_int_t usual) {
    json_t *value = optional(reading, key, JSON_INTEGER);
    json_int_t number = value != NULL ? json_integer_value(value) : usual;
    if (number < 0 && reading->problem.error == NULL) {
        reading->problem = bad("`%s` must not be negative", key);
    }
    return number < 0 ? 0 : (uint64_t)number;
}

static bool flag(reading *reading, const char *key, bool usual) {
    json_t *value = optional(reading, key, JSON_TRUE);
    return value != NULL ? json_is_true(value) : usual;
}

#define READ_OR_RETURN(reading)          \
    do {                                 \
        if ((reading)->problem.error) {  \
            return (reading)->problem;   \
        }                                \
    } while (0)

/* --- hubs and nodes -------------------------------------------------------------------------------------------------- */

static hub_entry *entry_of(const char *id) {
    int i;
    for (i = 0; i < MAX_HUBS; i++) {
        if (hubs[i].id != NULL && strcmp(hubs[i].id, id) == 0) {
            return &hubs[i];
        }
    }
    return NULL;
}

static ph_hub *hub_of(const char *id) {
    hub_entry *entry;
    ph_hub *hub;
    pthread_mutex_lock(&lock);
    entry = entry_of(id);
    hub = entry != NULL ? entry->hub : NULL;
    pthread_mutex_unlock(&lock);
    return hub;
}

/* A node that runs: the first one, or a place that is free. -1 if there is none. */
static int first_node(bool runs) {
    int i;
    for (i = 0; i < MAX_HUBS; i++) {
        if ((nodes[i].node != NULL) == runs) {
            return i;
        }
    }
    return -1;
}

/* One hub less on a node: the last one stops it. */
static void leave_node(int place) {
    ph_node *node = NULL;
    pthread_mutex_lock(&lock);
    if (--nodes[place].hubs == 0) {
        node = nodes[place].node;
        nodes[place].node = NULL;
    }
    pthread_mutex_unlock(&lock);
    if (node != NULL) {
        ph_node_stop(node, EXIT_MS, NULL);
        ph_node_free(&node);
    }
}

/* Makes a node of a hub's configuration, or takes the first one; gives its place, with a hub counted on it. */
static ph_status node_for(const json_t *config, int *place, ph_error **error) {
    json_t *own = json_object_get(config, "node"), *document, *option;
    const char *const beside[] = {"profile", "hubs_discover_interval_ms"};
    ph_node *node = NULL;
    ph_status status;
    char *text;
    size_t i;
    if (own == NULL || json_is_null(own)) {
        pthread_mutex_lock(&lock);
        *place = first_node(true);
        if (*place >= 0) {
            nodes[*place].hubs++;
        }
        pthread_mutex_unlock(&lock);
        return PH_OK;
    }
    document = json_copy(own);
    for (i = 0; i < 2; i++) {
        if ((option = json_object_get(config, beside[i])) != NULL) {
            json_object_set(document, beside[i], option);
        }
    }
    text = text_of(document);
    json_decref(document);
    status = ph_node_new(text, &node, error);
    free(text);
    if (status == PH_OK) {
        pthread_mutex_lock(&lock);
        *place = first_node(false);
        if (*place >= 0) {
            nodes[*place].node = node;
            nodes[*place].hubs = 1;
        }
        pthread_mutex_unlock(&lock);
        if (*place < 0) {
            ph_node_free(&node);
        }
    }
    return status;
}

static void remember(const char *id, ph_hub *hub, int place) {
    hub_entry *entry;
    ph_hub *before = NULL;
    pthread_mutex_lock(&lock);
    entry = entry_of(id);
    if (entry == NULL) {
        for (entry = hubs; entry->id != NULL; entry++) {
        }
        entry->id = strdup(id);
    } else {
        before = entry->hub;
    }
    entry->hub = hub;
    entry->node = place;
    entry->is_running = true;
    pthread_mutex_unlock(&lock);
    ph_hub_free(&before);
}

static ph_status start_on(int place, const json_t *config, json_t *kinds, ph_hub **hub, ph_error **error) {
    ph_child_callbacks callbacks = probe_callbacks();
    json_t *document = json_copy((json_t *)config), *kind;
    ph_status status;
    size_t index;
    char *text;
    json_object_del(document, "node");
    text = text_of(document);
    json_decref(document);
    status = ph_hub_new_on_node(text, nodes[place].node, hub, error);
    free(text);
    json_array_foreach(kinds, index, kind) {
        if (status == PH_OK) {
            status = ph_hub_register_kind(*hub, json_string_value(kind), &callbacks, NULL, NULL, error);
        }
    }
    return status == PH_OK ? ph_hub_start(*hub, error) : status;
}

static answer start_hub(reading *reading) {
    json_t *config = wanted(reading, "config", JSON_OBJECT), *given_kinds = optional(reading, "kinds", JSON_ARRAY), *kinds;
    ph_hub *hub = NULL;
    ph_error *error = NULL;
    ph_status status;
    int place = -1;
    char *text;
    answer answer;
    READ_OR_RETURN(reading);
    /* Refused as a whole, with all that is wrong with it. */
    text = text_of(config);
    status = ph_hub_new(text, &hub, &error);
    free(text);
    if (status != PH_OK) {
        return failed(error);
    }
    ph_hub_free(&hub);
    status = node_for(config, &place, &error);
    if (status != PH_OK) {
        return failed(error);
    }
    if (place < 0) {
        answer = bad("node: is missing, and this agent has none yet");
        json_object_set_new(answer.error, "kind", json_string("invalid_config"));
        json_object_set_new(answer.error, "code", json_integer(PH_ERR_INVALID_CONFIG));
        return answer;
    }
    kinds = given_kinds != NULL ? json_incref(given_kinds) : json_pack("[s, s]", "probe", "probe_c");
    status = start_on(place, config, kinds, &hub, &error);
    json_decref(kinds);
    if (status != PH_OK) {
        ph_hub_free(&hub);
        leave_node(place);
        return failed(error);
    }
    remember(json_string_value(json_object_get(config, "hub_id")), hub, place);
    return answered(json_pack("{s:O, s:s, s:s}", "hub_id", json_object_get(config, "hub_id"), "node", ph_hub_node_name(hub),
                              "address", ph_hub_address(hub)));
}

static answer stop_hub_of(const char *id, uint64_t timeout_ms) {
    hub_entry *entry;
    ph_hub *hub = NULL;
    ph_error *error = NULL;
    ph_value report;
    ph_status status;
    answer answer;
    int place = -1;
    pthread_mutex_lock(&lock);
    entry = entry_of(id);
    hub = entry->hub;
    if (entry->is_running) {
        place = entry->node;
        entry->is_running = false;
    }
    pthread_mutex_unlock(&lock);
    status = ph_hub_stop(hub, timeout_ms, &report, &error);
    answer = from_value(status, &report, error);
    if (place >= 0) {
        leave_node(place);
    }
    return answer;
}

static void *stop_thread(void *id) {
    answer answer = stop_hub_of((const char *)id, EXIT_MS);
    json_decref(answer.ok);
    json_decref(answer.error);
    return NULL;
}

void close_agent(void) {
    pthread_t threads[MAX_HUBS];
    int count = 0, i;
    for (i = 0; i < MAX_HUBS; i++) {
        if (hubs[i].id != NULL && hubs[i].is_running && pthread_create(&threads[count], NULL, stop_thread, hubs[i].id) == 0) {
            count++;
        }
    }
    for (i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* --- commands of a hub ----------------------------------------------------------------------------------------------- */

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
    (void)hub;
    wanted(reading, "n", JSON_INTEGER);
    READ_OR_RETURN(reading);
    return bad("reset_cluster_size is not available: there is no majority quorum");
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
