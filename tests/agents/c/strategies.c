/* The strategies of this agent (tests/agents/README.md). */
#include "agent.h"

#include <stdlib.h>
#include <string.h>

/* A strategy: its manner, and what its events say. */
typedef struct strategy {
    const char *manner;
    json_t *told;
} strategy;

static const char *const MANNERS[] = {"backwards", "throw", "nonsense", "never"};

static void drop_strategy(void *data) {
    strategy *dropped = (strategy *)data;
    json_decref(dropped->told);
    free(dropped);
}

static ph_status answer_backwards(json_t *question, ph_reply *reply) {
    json_t *moves = json_object_get(question, "moves"), *ids = json_array(), *move;
    ph_status status;
    size_t index;
    char *text;
    json_array_foreach(moves, index, move) {
        json_array_insert(ids, 0, json_object_get(move, "id"));
    }
    text = text_of(ids);
    json_decref(ids);
    status = ph_reply_json(reply, text);
    free(text);
    return status;
}

static ph_status decide(void *data, const char *text, ph_reply *reply) {
    const strategy *asked = (const strategy *)data;
    json_t *question = json_loads(text, 0, NULL), *event = json_copy(asked->told);
    ph_status status = PH_LATER;
    json_object_set(event, "question", question);
    write_line(event);
    if (strcmp(asked->manner, "backwards") == 0) {
        status = answer_backwards(question, reply);
    } else if (strcmp(asked->manner, "throw") == 0) {
        status = ph_reply_fail(reply, 0, "no idea");
    } else if (strcmp(asked->manner, "nonsense") == 0) {
        status = ph_reply_json(reply, "7");
    }
    json_decref(question);
    return status;
}

static const char *known_manner(const char *manner) {
    size_t i;
    for (i = 0; manner != NULL && i < sizeof MANNERS / sizeof *MANNERS; i++) {
        if (strcmp(manner, MANNERS[i]) == 0) {
            return MANNERS[i];
        }
    }
    return NULL;
}

bool are_strategies(json_t *families) {
    const char *family, *name;
    json_t *named, *manner;
    json_object_foreach(families, family, named) {
        if (!json_is_object(named)) {
            return false;
        }
        json_object_foreach(named, name, manner) {
            if (known_manner(json_string_value(manner)) == NULL) {
                return false;
            }
        }
    }
    return true;
}

ph_status register_strategies(ph_hub *hub, const char *hub_id, json_t *families, ph_error **error) {
    const char *family, *name;
    json_t *named, *manner;
    json_object_foreach(families, family, named) {
        json_object_foreach(named, name, manner) {
            strategy *made = (strategy *)malloc(sizeof *made);
            ph_status status;
            made->manner = known_manner(json_string_value(manner));
            made->told = json_pack("{s:s, s:s, s:s, s:s}", "event", "decide", "hub_id", hub_id, "family", family, "strategy", name);
            status = ph_hub_register_strategy(hub, family, name, decide, made, drop_strategy, error);
            if (status != PH_OK) {
                return status;
            }
        }
    }
    return PH_OK;
}
