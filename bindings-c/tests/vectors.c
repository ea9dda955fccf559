/* The vectors that every language loads: configurations to accept and refuse, and the table of errors. Run from the root of
 * the repository. */
#include "check.h"

#include <jansson.h>

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

static const test_case CASES[] = {
    {"configurations", configurations, 0, 20, ""},
    {"errors", errors, 0, 20, ""},
};

MAIN(CASES)
