/* The vectors that every language loads: configurations to accept and refuse, the table of errors, the shapes of results, and
 * what the port may be sent. Run from the root of the repository. */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <sys/socket.h>

static json_t *load(const char *path) {
    json_error_t error;
    json_t *document = json_load_file(path, 0, &error);
    if (document == NULL) {
        fprintf(stderr, "%s:%d: %s\n", path, error.line, error.text);
        exit(70);
    }
    return document;
}

static void configurations(void) {
    json_t *vectors = load("tests/vectors/config.json"), *row, *path;
    size_t index, place;
    json_array_foreach(json_object_get(vectors, "accept"), index, row) {
        char *config = json_dumps(json_object_get(row, "doc"), JSON_ENCODE_ANY);
        ph_hub *hub = NULL;
        CHECK_OK(ph_hub_new(config, &hub, &error));
        CHECK_STATUS(PH_OK, ph_hub_free(&hub));
        free(config);
    }
    CHECK(index > 5);
    json_array_foreach(json_object_get(vectors, "reject"), index, row) {
        char *config = json_dumps(json_object_get(row, "doc"), JSON_ENCODE_ANY);
        json_t *paths = json_object_get(row, "paths");
        ph_hub *hub = NULL;
        ph_error *error = NULL;
        CHECK_STATUS(PH_ERR_INVALID_CONFIG, ph_hub_new(config, &hub, &error));
        CHECK(hub == NULL && json_array_size(paths) > 0);
        json_array_foreach(paths, place, path) {
            if (strstr(ph_error_message(error), json_string_value(path)) == NULL) {
                fprintf(stderr, "%s: %s is not in: %s\n", json_string_value(json_object_get(row, "name")),
                        json_string_value(path), ph_error_message(error));
                exit(70);
            }
        }
        ph_error_free(&error);
        free(config);
    }
    CHECK(index > 5);
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

/* --- what the port may be sent ---------------------------------------------------------------------------------------- */

static size_t bytes_of(const char *hex, unsigned char *bytes, size_t capacity) {
    size_t count = strlen(hex) / 2, i;
    CHECK(count <= capacity);
    for (i = 0; i < count; i++) {
        unsigned byte;
        CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        bytes[i] = (unsigned char)byte;
    }
    return count;
}

static void frames(void) {
    json_t *vectors = load("tests/vectors/frames.json"), *row;
    ph_hub *hub = counter_hub("a", NULL, NULL);
    unsigned char reply[64], sent[1 << 16], got[4096];
    size_t reply_size = bytes_of(json_string_value(json_object_get(vectors, "reply")), reply, sizeof reply), index;
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)atoi(strchr(ph_hub_address(hub), ':') + 1));
    start_child(hub, "c", "counter");
    json_array_foreach(json_object_get(vectors, "cases"), index, row) {
        size_t size = bytes_of(json_string_value(json_object_get(row, "bytes")), sent, sizeof sent), have = 0;
        bool answers = strcmp(json_string_value(json_object_get(row, "then")), "answers") == 0;
        struct timeval patience = {PATIENCE_MS / 1000, 0};
        int stream = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(stream, (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
        CHECK(send(stream, sent, size, MSG_NOSIGNAL) == (ssize_t)size);
        for (;;) {
            ssize_t count = recv(stream, got + have, sizeof got - have, 0);
            /* Closed, orderly or not; a time-out is neither. */
            if (count <= 0) {
                CHECK(!answers && (count == 0 || errno == ECONNRESET));
                break;
            }
            have += (size_t)count;
            if (answers && have >= reply_size) {
                CHECK(memcmp(got, reply, reply_size) == 0);
                break;
            }
        }
        close(stream);
    }
    CHECK(index > 5);
    check_call(hub, "c", "1", "1");
    end_hub(&hub);
    json_decref(vectors);
}

static const test_case CASES[] = {
    {"configurations", configurations, 0, 20, ""},
    {"errors", errors, 0, 20, ""},
    {"results", results, 0, 30, ""},
    {"frames", frames, 0, 60, ""},
};

MAIN(CASES)
