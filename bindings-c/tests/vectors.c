/* The vectors that every language loads: configurations to accept and refuse, the table of errors, where children belong,
 * what anybody may send to a port, and the shapes of results. Run from the root of the repository. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/time.h>

static json_t *load(const char *path) {
    json_error_t error;
    json_t *document = json_load_file(path, 0, &error);
    if (document == NULL) {
        fprintf(stderr, "%s:%d: %s\n", path, error.line, error.text);
        exit(70);
    }
    return document;
}

/* Makes what the document says, and frees it again. */
typedef ph_status (*make)(const char *config, ph_error **error);

static ph_status make_hub(const char *config, ph_error **error) {
    ph_hub *hub = NULL;
    ph_status status = ph_hub_new(config, &hub, error);
    CHECK((hub != NULL) == (status == PH_OK));
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    return status;
}

static ph_status make_node(const char *config, ph_error **error) {
    ph_node *node = NULL;
    ph_status status = ph_node_new(config, &node, error);
    CHECK((node != NULL) == (status == PH_OK));
    ph_node_free(&node);
    return status;
}

static void check_configurations(const json_t *accept, const json_t *reject, make make) {
    const json_t *row, *path;
    size_t index, place;
    json_array_foreach(accept, index, row) {
        char *config = json_dumps(json_object_get(row, "doc"), JSON_ENCODE_ANY);
        CHECK_OK(make(config, &error));
        free(config);
    }
    CHECK(index > 2);
    json_array_foreach(reject, index, row) {
        char *config = json_dumps(json_object_get(row, "doc"), JSON_ENCODE_ANY);
        const json_t *paths = json_object_get(row, "paths");
        ph_error *error = NULL;
        CHECK_STATUS(PH_ERR_INVALID_CONFIG, make(config, &error));
        CHECK(json_array_size(paths) > 0);
        json_array_foreach(paths, place, path) {
            char wanted[128];
            snprintf(wanted, sizeof wanted, "%s: ", json_string_value(path));
            if (strstr(ph_error_message(error), wanted) == NULL) {
                fprintf(stderr, "%s: %s is not in: %s\n", json_string_value(json_object_get(row, "name")), wanted,
                        ph_error_message(error));
                exit(70);
            }
        }
        ph_error_free(&error);
        free(config);
    }
    CHECK(index > 5);
}

static void configurations(void) {
    json_t *vectors = load("tests/vectors/config.json");
    check_configurations(json_object_get(vectors, "accept"), json_object_get(vectors, "reject"), make_hub);
    check_configurations(json_object_get(vectors, "accept_node"), json_object_get(vectors, "reject_node"), make_node);
    json_decref(vectors);
}

static void errors(void) {
    json_t *vectors = load("tests/vectors/errors.json"), *row;
    size_t index;
    json_array_foreach(json_object_get(vectors, "errors"), index, row) {
        ph_status number = (ph_status)json_integer_value(json_object_get(row, "number"));
        const char *kind = json_string_value(json_object_get(row, "kind"));
        CHECK(ph_kind_name(number) != NULL && strcmp(ph_kind_name(number), kind) == 0);
        CHECK(ph_kind_meaning(number) != NULL && strlen(ph_kind_meaning(number)) > 10);
    }
    CHECK(index > 30);
    CHECK(ph_kind_name(0) == NULL && ph_kind_name(1) == NULL && ph_kind_name(9999) == NULL);
    json_decref(vectors);
}

static json_t *answer_of(ph_future **future) {
    ph_value value = wait_for(future);
    json_t *document = json_loads(value.data, JSON_DECODE_ANY, NULL);
    CHECK(document != NULL);
    ph_value_free(&value);
    return document;
}

/* A hub whose members would be the nodes of a vector: what does not stay with it goes where the vector says. */
static void check_placement(json_t *vector) {
    const char *kind = json_string_value(json_object_get(vector, "kind"));
    ph_child_callbacks callbacks = counter_callbacks();
    ph_hub *hub = new_hub("hub of the test", NULL, NULL);
    json_t *specs = json_array(), *joins = json_array(), *row, *owners, *expected = json_object_get(vector, "expected");
    json_t *result, *moves;
    char *text;
    const char *id;
    size_t index, owned = 0;
    ph_future *future = NULL;
    CHECK_OK(ph_hub_register_kind(hub, kind, &callbacks, NULL, NULL, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    json_object_foreach(expected, id, owners) {
        json_array_append_new(specs, json_pack("{ssss}", "id", id, "kind", kind));
        owned += json_array_size(owners);
    }
    text = json_dumps(specs, 0);
    CHECK_OK(ph_hub_start_children(hub, text, NULL, &future, &error));
    free(text);
    result = answer_of(&future);
    CHECK(json_array_size(json_object_get(result, "errors")) == 0);
    json_decref(result);
    json_array_foreach(json_object_get(vector, "nodes"), index, row) {
        double weight = json_number_value(json_object_get(row, "weight")) / 1000;
        json_array_append_new(joins, json_pack("{sOsOsf}", "name", json_object_get(row, "name"), "kinds",
                                               json_object_get(row, "kinds"), "weight", weight));
    }
    row = json_pack("{sO}", "join", joins);
    text = json_dumps(row, 0);
    CHECK_OK(ph_hub_plan(hub, text, &future, &error));
    free(text);
    json_decref(row);
    result = answer_of(&future);
    moves = json_object_get(result, "moves");
    CHECK(json_array_size(moves) > 0 || owned == 0);
    json_array_foreach(moves, index, row) {
        owners = json_object_get(expected, json_string_value(json_object_get(row, "id")));
        CHECK(json_equal(json_object_get(row, "to"), json_array_get(owners, 0)));
    }
    json_decref(result), json_decref(specs), json_decref(joins);
    end_hub(&hub);
}

static void placement(void) {
    json_t *vectors = load("tests/vectors/placement.json"), *vector;
    size_t index, checked = 0;
    json_array_foreach(json_object_get(vectors, "vectors"), index, vector) {
        /* The plan of a hub has one instance per child and no labels. */
        int is_plain = json_integer_value(json_object_get(vector, "factor")) == 1;
        if (is_plain && json_object_size(json_object_get(vector, "require")) == 0) {
            check_placement(vector);
            checked++;
        }
    }
    CHECK(checked > 5);
    json_decref(vectors);
}

static size_t from_hex(const char *hex, unsigned char *bytes, size_t size) {
    size_t length = strlen(hex) / 2, index;
    unsigned value;
    CHECK(length <= size);
    for (index = 0; index < length; index++) {
        CHECK(sscanf(hex + 2 * index, "%2x", &value) == 1);
        bytes[index] = (unsigned char)value;
    }
    return length;
}

/* Sends bytes to the hub's port and reads until `enough` came or the connection ends; says how much came. */
static size_t exchange(ph_hub *hub, const unsigned char *bytes, size_t length, unsigned char *answer, size_t enough) {
    struct sockaddr_in address = {0};
    struct timeval patience = {15 * slowness(), 0};
    char host[64];
    int port, peer = socket(AF_INET, SOCK_STREAM, 0);
    size_t got = 0;
    ssize_t part = 1;
    CHECK(sscanf(ph_hub_address(hub), "%63[^:]:%d", host, &port) == 2);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    CHECK(inet_pton(AF_INET, host, &address.sin_addr) == 1);
    CHECK(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    CHECK(connect(peer, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(send(peer, bytes, length, MSG_NOSIGNAL) == (ssize_t)length);
    while (got < enough && (part = recv(peer, answer + got, enough - got, 0)) > 0) {
        got += (size_t)part;
    }
    /* A reset is an end, too: bytes of ours were left unread. */
    CHECK(part >= 0 || errno == ECONNRESET);
    close(peer);
    return got;
}

static void frames(void) {
    json_t *vectors = load("tests/vectors/frames.json"), *row;
    unsigned char begin[64], bytes[2048], answer[2048];
    size_t reply = from_hex(json_string_value(json_object_get(vectors, "reply")), begin, sizeof begin), index;
    ph_hub *hub = counter_hub("port", NULL, NULL);
    json_array_foreach(json_object_get(vectors, "cases"), index, row) {
        size_t length = from_hex(json_string_value(json_object_get(row, "bytes")), bytes, sizeof bytes), got;
        if (strcmp(json_string_value(json_object_get(row, "then")), "answers") == 0) {
            got = exchange(hub, bytes, length, answer, reply);
            CHECK(got == reply && memcmp(answer, begin, reply) == 0);
        } else {
            got = exchange(hub, bytes, length, answer, sizeof answer);
            CHECK(got == 0 || (got >= 8 && memcmp(answer, begin, 8) == 0));
        }
    }
    CHECK(index > 10);
    start_child(hub, "c", "counter");
    check_call(hub, "c", "null", "1");
    end_hub(&hub);
    json_decref(vectors);
}

/* --- shapes ---------------------------------------------------------------------------------------------------------- */

static bool has_shape(const json_t *shapes, const json_t *shape, const json_t *value);

/* A name, or "a | b". */
static bool has_named_shape(const json_t *shapes, const char *name, const json_t *value) {
    const char *bar = strstr(name, " | ");
    char first[64];
    if (bar != NULL) {
        snprintf(first, sizeof first, "%.*s", (int)(bar - name), name);
        return has_named_shape(shapes, first, value) || has_named_shape(shapes, bar + 3, value);
    }
    if (strcmp(name, "any") == 0) {
        return true;
    }
    if (strcmp(name, "text") == 0) {
        return json_is_string(value);
    }
    if (strcmp(name, "number") == 0) {
        return json_is_number(value);
    }
    if (strcmp(name, "boolean") == 0) {
        return json_is_boolean(value);
    }
    if (strcmp(name, "null") == 0) {
        return json_is_null(value);
    }
    CHECK(json_object_get(shapes, name) != NULL);
    return has_shape(shapes, json_object_get(shapes, name), value);
}

static bool has_shape(const json_t *shapes, const json_t *shape, const json_t *value) {
    const char *key;
    json_t *item, *of_any = json_object_get(shape, "*");
    size_t index;
    if (json_is_string(shape)) {
        return has_named_shape(shapes, json_string_value(shape), value);
    }
    if (json_is_array(shape)) {
        json_array_foreach(value, index, item) {
            if (!has_shape(shapes, json_array_get(shape, 0), item)) {
                return false;
            }
        }
        return json_is_array(value);
    }
    if (of_any == NULL && json_object_size(shape) != json_object_size(value)) {
        return false;
    }
    json_object_foreach((json_t *)value, key, item) {
        json_t *wanted = of_any != NULL ? of_any : json_object_get(shape, key);
        if (wanted == NULL || !has_shape(shapes, wanted, item)) {
            return false;
        }
    }
    return json_is_object(value);
}

static void check_shape(const json_t *vectors, const char *name, ph_value *value) {
    json_t *document = json_loads(value->data, JSON_DECODE_ANY, NULL);
    if (document == NULL || !has_named_shape(json_object_get(vectors, "shapes"), name, document)) {
        fprintf(stderr, "this is no %s: %s\n", name, value->data);
        exit(70);
    }
    json_decref(document);
    ph_value_free(value);
}

static void results(void) {
    json_t *vectors = load("tests/vectors/results.json");
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_error *error = NULL;
    ph_value value;
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"c\", \"kind\": \"counter\"}", NULL, &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "Started", &value);
    CHECK_OK(ph_hub_start_children(hub, "[{\"id\": \"c\", \"kind\": \"counter\"}, {\"id\": \"d\"}, {\"id\": \"e\", \"kind\": \"counter\"}]",
                                   NULL, &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "StartResult", &value);
    CHECK_OK(ph_hub_child_lookup(hub, "c", &value, &error));
    check_shape(vectors, "Row", &value);
    CHECK_OK(ph_hub_process_registry(hub, &value, &error));
    check_shape(vectors, "Registry", &value);
    CHECK_OK(ph_hub_tag_query(hub, "t", &value, &error));
    check_shape(vectors, "Rows", &value);
    CHECK_OK(ph_hub_which_children(hub, "global", 5000, &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "Children", &value);
    CHECK_OK(ph_hub_where(hub, "c", &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "Where", &value);
    CHECK_OK(ph_hub_plan(hub, "{\"leave\": [\"a\"]}", &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "Plan", &value);
    CHECK_OK(ph_hub_debug_stats(hub, &value, &error));
    check_shape(vectors, "DebugStats", &value);
    CHECK_OK(ph_hub_stop_children(hub, "[\"c\", \"nobody\"]", 5000, &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "StopResult", &value);
    CHECK_OK(ph_hub_stop_child(hub, "e", 5000, &future, &error));
    value = wait_for(&future);
    check_shape(vectors, "Stopped", &value);
    CHECK_STATUS(PH_ERR_NOT_FOUND, ph_hub_call(hub, "c", ph_json("1"), 5000, NULL, &error));
    {
        json_t *document = json_loads(ph_error_json(error), 0, NULL);
        CHECK(has_named_shape(json_object_get(vectors, "shapes"), "Error", document));
        json_decref(document);
        ph_error_free(&error);
    }
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, &value, &error));
    check_shape(vectors, "DrainReport", &value);
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    json_decref(vectors);
}

static const test_case CASES[] = {
    {"configurations", configurations, 0, 20, ""},
    {"errors", errors, 0, 20, ""},
    {"placement", placement, 0, 60, ""},
    {"results", results, 0, 30, ""},
    {"frames", frames, 0, 60, ""},
};

MAIN(CASES)
