#include "agent.h"

#include <stdlib.h>
#include <string.h>

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *json_of(ph_value value) {
    if (value.content_type == NULL || strcmp(value.content_type, "application/json") != 0) {
        return NULL;
    }
    return json_loadb(value.data, value.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static char *base64_of(const unsigned char *data, size_t len) {
    char *text = (char *)malloc((len + 2) / 3 * 4 + 1), *at = text;
    size_t i;
    for (i = 0; i < len; i += 3) {
        unsigned long bits = (unsigned long)data[i] << 16;
        bits |= i + 1 < len ? (unsigned long)data[i + 1] << 8 : 0;
        bits |= i + 2 < len ? data[i + 2] : 0;
        *at++ = DIGITS[bits >> 18];
        *at++ = DIGITS[bits >> 12 & 63];
        *at++ = i + 1 < len ? DIGITS[bits >> 6 & 63] : '=';
        *at++ = i + 2 < len ? DIGITS[bits & 63] : '=';
    }
    *at = '\0';
    return text;
}

/* The bytes, or NULL if the text is no base64. */
static char *bytes_of(const char *text, size_t *len) {
    size_t digits = strlen(text), i;
    char *data, *at;
    unsigned long bits = 0;
    int count = 0;
    if (digits % 4 != 0) {
        return NULL;
    }
    while (digits > 0 && text[digits - 1] == '=') {
        digits--;
    }
    data = at = (char *)malloc(digits + 1);
    for (i = 0; i < digits; i++) {
        const char *digit = strchr(DIGITS, text[i]);
        if (digit == NULL) {
            free(data);
            return NULL;
        }
        bits = bits << 6 | (unsigned long)(digit - DIGITS);
        if (++count * 6 % 8 < 6 && count > 1) {
            *at++ = (char)(bits >> count * 6 % 8 & 255);
        }
        count %= 4;
    }
    *len = (size_t)(at - data);
    return data;
}

json_t *shown(ph_value value) {
    json_t *document = json_of(value);
    char *text;
    if (document != NULL) {
        return document;
    }
    text = base64_of((const unsigned char *)value.data, value.len);
    document = json_pack("{s:s, s:s}", "content_type", value.content_type, "base64", text);
    free(text);
    return document;
}

char *text_of(const json_t *document) {
    return json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);
}

bool given(const json_t *payload, ph_value *value, char **bytes) {
    const char *content_type = json_string_value(json_object_get(payload, "content_type"));
    const char *text = json_string_value(json_object_get(payload, "base64"));
    size_t len = 0;
    if (content_type == NULL || text == NULL || (*bytes = bytes_of(text, &len)) == NULL) {
        return false;
    }
    *value = ph_bytes(*bytes, len);
    value->content_type = content_type;
    return true;
}
