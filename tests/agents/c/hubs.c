/* The hubs and nodes of this process. */
#include "agent.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HUBS = 64, EXIT_MS = 20000 };

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

static hub_entry *entry_of(const char *id) {
    int i;
    for (i = 0; i < MAX_HUBS; i++) {
        if (hubs[i].id != NULL && strcmp(hubs[i].id, id) == 0) {
            return &hubs[i];
        }
    }
    return NULL;
}

ph_hub *hub_of(const char *id) {
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

static ph_status start_on(int place, const json_t *config, json_t *kinds, json_t *strategies, ph_hub **hub, ph_error **error) {
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
    if (status == PH_OK) {
        const char *hub_id = json_string_value(json_object_get(config, "hub_id"));
        status = register_strategies(*hub, hub_id, strategies, error);
    }
    return status == PH_OK ? ph_hub_start(*hub, error) : status;
}

answer start_hub(reading *reading) {
    json_t *config = wanted(reading, "config", JSON_OBJECT), *given_kinds = optional(reading, "kinds", JSON_ARRAY), *kinds;
    json_t *strategies = optional(reading, "strategies", JSON_OBJECT);
    ph_hub *hub = NULL;
    ph_error *error = NULL;
    ph_status status;
    int place = -1;
    char *text;
    answer answer;
    READ_OR_RETURN(reading);
    if (!are_strategies(strategies)) {
        return bad("`strategies` must name manners by family and name");
    }
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
    status = start_on(place, config, kinds, strategies, &hub, &error);
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

answer stop_hub_of(const char *id, uint64_t timeout_ms) {
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
