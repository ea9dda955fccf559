/* The C agent (tests/agents/README.md): what its parts share. JSON is jansson's. */
#ifndef AGENT_H
#define AGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <jansson.h>
#include <process_hub.h>

/* --- lines.c: lines of JSON on stdout ------------------------------------------------------------------------------ */

/* Writes an object as one line; takes the reference. Any thread. */
void write_line(json_t *object);

/* --- values.c: values of the hub as JSON and back ------------------------------------------------------------------ */

/* The JSON in a value, or NULL if it is none. */
json_t *json_of(ph_value value);
/* A value as the protocol shows it: its JSON, or `{"content_type", "base64"}`. */
json_t *shown(ph_value value);
/* The text of a document, for a function that takes one; freed by `free`. */
char *text_of(const json_t *document);
/* What a `{"content_type", "base64"}` stands for: false if it is none. `*bytes` is freed by `free`; the content type lives as
 * long as the payload. */
bool given(const json_t *payload, ph_value *value, char **bytes);

/* --- probe.c: the kind ---------------------------------------------------------------------------------------------- */

/* The callbacks of the probe. */
ph_child_callbacks probe_callbacks(void);

/* --- commands.c ------------------------------------------------------------------------------------------------------ */

/* What a request is answered: `ok` or `error` is set, and the caller's. */
typedef struct answer {
    json_t *ok;
    json_t *error;
} answer;

/* The answer of a request that makes no sense. */
answer bad(const char *format, ...);
/* Carries out a request. Any thread. */
answer perform(json_t *request);
/* Stops every hub, gracefully, all at once. */
void close_agent(void);

#endif
