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

/* --- strategies.c ---------------------------------------------------------------------------------------------------- */

/* Whether these are manners by family and name. */
bool are_strategies(json_t *families);
/* Registers them; NULL is none. */
ph_status register_strategies(ph_hub *hub, const char *hub_id, json_t *families, ph_error **error);

/* --- arguments.c: answers, and the arguments of requests ------------------------------------------------------------ */

/* What a request is answered: `ok` or `error` is set, and the caller's. */
typedef struct answer {
    json_t *ok;
    json_t *error;
} answer;

/* What went wrong while arguments were read; the first counts. */
typedef struct reading {
    const json_t *arguments;
    answer problem;
} reading;

answer answered(json_t *ok);
answer failed(ph_error *error);
/* The answer of a request that makes no sense. */
answer bad(const char *format, ...);
/* The answer of a function that gives a value. */
answer from_value(ph_status status, ph_value *value, ph_error *error);
/* The answer of a function that gives a future, waited for. */
answer from_future(ph_status status, ph_future *future, uint64_t timeout_ms, ph_error *error);
answer from_status(ph_status status, ph_error *error);

/* An argument of a type, or NULL if it is left out. */
json_t *optional(reading *reading, const char *key, json_type type);
json_t *wanted(reading *reading, const char *key, json_type type);
const char *wanted_text(reading *reading, const char *key);
uint64_t number(reading *reading, const char *key, json_int_t usual);
bool flag(reading *reading, const char *key, bool usual);

#define READ_OR_RETURN(reading)          \
    do {                                 \
        if ((reading)->problem.error) {  \
            return (reading)->problem;   \
        }                                \
    } while (0)

/* --- hubs.c ---------------------------------------------------------------------------------------------------------- */

/* The hub of an id, running or not; NULL if there never was one. */
ph_hub *hub_of(const char *id);
answer start_hub(reading *reading);
answer stop_hub_of(const char *id, uint64_t timeout_ms);
/* Stops every hub, gracefully, all at once. */
void close_agent(void);

/* --- commands.c ------------------------------------------------------------------------------------------------------ */

/* Carries out a request. Any thread. */
answer perform(json_t *request);

#endif
