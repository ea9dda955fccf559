/* What commands answer, and the arguments of requests. */
#include "agent.h"

#include <stdarg.h>
#include <stdlib.h>

enum { GRACE_MS = 5000 };

/* --- answers --------------------------------------------------------------------------------------------------------- */

answer answered(json_t *ok) {
    answer answer = {ok, NULL};
    return answer;
}

answer failed(ph_error *error) {
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

answer from_value(ph_status status, ph_value *value, ph_error *error) {
    answer answer;
    if (status != PH_OK) {
        return failed(error);
    }
    answer = answered(shown(*value));
    ph_value_free(value);
    return answer;
}

answer from_future(ph_status status, ph_future *future, uint64_t timeout_ms, ph_error *error) {
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

answer from_status(ph_status status, ph_error *error) {
    return status == PH_OK ? answered(json_null()) : failed(error);
}

/* --- arguments ------------------------------------------------------------------------------------------------------- */

static const char *type_name(json_type type) {
    static const char *const NAMES[] = {"object", "array", "text", "whole number", "number", "boolean", "boolean", "null"};
    return NAMES[type];
}

json_t *optional(reading *reading, const char *key, json_type type) {
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

json_t *wanted(reading *reading, const char *key, json_type type) {
    json_t *value = optional(reading, key, type);
    if (value == NULL && reading->problem.error == NULL) {
        reading->problem = bad("`%s` is missing", key);
    }
    return value;
}

const char *wanted_text(reading *reading, const char *key) {
    return json_string_value(wanted(reading, key, JSON_STRING));
}

uint64_t number(reading *reading, const char *key, json_int_t usual) {
    json_t *value = optional(reading, key, JSON_INTEGER);
    json_int_t number = value != NULL ? json_integer_value(value) : usual;
    if (number < 0 && reading->problem.error == NULL) {
        reading->problem = bad("`%s` must not be negative", key);
    }
    return number < 0 ? 0 : (uint64_t)number;
}

bool flag(reading *reading, const char *key, bool usual) {
    json_t *value = optional(reading, key, JSON_TRUE);
    return value != NULL ? json_is_true(value) : usual;
}
