/* Every operation, on one hub and on several. */
#include "check.h"

#include <jansson.h>

/* A JSON answer, parsed. */
static json_t *parsed(ph_value *value) {
    json_t *document;
    CHECK(strcmp(value->content_type, "application/json") == 0);
    CHECK(strlen(value->data) == value->len);
    document = json_loads(value->data, JSON_DECODE_ANY, NULL);
    CHECK(document != NULL);
    ph_value_free(value);
    CHECK(value->data == NULL && value->len == 0);
    return document;
}

static json_t *item_of(const json_t *object, const char *key) {
    json_t *item = json_object_get(object, key);
    CHECK(item != NULL);
    return item;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(item_of(object, key));
    CHECK(text != NULL);
    return text;
}

static void start_stop_and_call(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_value value;
    json_t *document;

    CHECK(ph_hub_is_alive(hub) && !ph_hub_is_locked(hub) && !ph_hub_is_partitioned(hub));
    CHECK(strcmp(ph_hub_node_name(hub), "a") == 0);
    CHECK(strncmp(ph_hub_address(hub), "127.0.0.1:", 10) == 0);

    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"c:1\", \"kind\": \"counter\", \"args\": 40, \"metadata\": {\"tag\": \"vip\"}}",
                                NULL, &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(strcmp(text_of(document, "id"), "c:1") == 0);
    CHECK(strcmp(text_of(json_array_get(item_of(document, "instances"), 0), "node"), "a") == 0);
    json_decref(document);

    check_call(hub, "c:1", "null", "41");
    CHECK_OK(ph_hub_call_on(hub, "c:1", "a", ph_json("null"), 5000, &value, &error));
    CHECK(strcmp(value.data, "42") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_call_begin(hub, "c:1", NULL, ph_json("null"), 5000, &future, &error));
    value = wait_for(&future);
    CHECK(strcmp(value.data, "43") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_send(hub, "c:1", NULL, false, ph_json("null"), &error));
    CHECK_OK(ph_hub_send(hub, "c:1", "a", false, ph_json("null"), &error));
    CHECK_OK(ph_hub_send(hub, "c:1", NULL, true, ph_json("null"), &error));
    check_call(hub, "c:1", "null", "47");

    CHECK_OK(ph_hub_stop_child(hub, "c:1", 5000, &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(strcmp(text_of(document, "id"), "c:1") == 0);
    json_decref(document);
    CHECK_STATUS(PH_ERR_NOT_FOUND, ph_hub_call(hub, "c:1", ph_json("null"), 5000, NULL, NULL));
    end_hub(&hub);
}

static void children_by_the_list(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_value value;
    json_t *document;

    /* One known, one bad, one of an unknown kind: the others start. */
    start_child(hub, "known", "counter");
    CHECK_OK(ph_hub_start_children(hub,
                                   "[{\"id\": \"known\", \"kind\": \"counter\"}, {\"id\": \"bad\", \"knd\": 1},"
                                   " {\"id\": \"x\", \"kind\": \"nobody\"}, {\"id\": \"new\", \"kind\": \"counter\"}]",
                                   "{\"metadata\": {\"tag\": \"batch\"}}", &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(strcmp(text_of(document, "status"), "error") == 0);
    CHECK(json_array_size(item_of(document, "started")) == 1);
    CHECK(json_array_size(item_of(document, "errors")) == 3);
    CHECK(strcmp(text_of(json_array_get(item_of(document, "errors"), 0), "id"), "bad") == 0);
    json_decref(document);

    CHECK_OK(ph_hub_start_children(hub, "[{\"id\": \"known\", \"kind\": \"counter\"}]", "{\"if_exists\": \"return\"}",
                                   &future, &error));
    value = wait_for(&future);
    CHECK(strstr(value.data, "\"status\":\"ok\"") != NULL);
    ph_value_free(&value);
    /* All or none. */
    CHECK_OK(ph_hub_start_children(hub, "[{\"id\": \"y\", \"kind\": \"counter\"}, {\"id\": \"known\", \"kind\": \"counter\"}]",
                                   "{\"on_failure\": \"rollback\"}", &future, &error));
    value = wait_for(&future);
    CHECK(strstr(value.data, "\"rollback\":true") != NULL);
    ph_value_free(&value);

    CHECK_OK(ph_hub_tag_query(hub, "batch", &value, &error));
    document = parsed(&value);
    CHECK(json_array_size(document) == 1);
    CHECK(strcmp(text_of(json_array_get(document, 0), "id"), "new") == 0);
    json_decref(document);
    CHECK_OK(ph_hub_metadata_query(hub, "tag", &value, &error));
    document = parsed(&value);
    CHECK(json_array_size(document) == 1);
    json_decref(document);

    CHECK_OK(ph_hub_child_lookup(hub, "new", &value, &error));
    document = parsed(&value);
    CHECK(strcmp(text_of(item_of(document, "metadata"), "tag"), "batch") == 0);
    CHECK(json_is_null(item_of(document, "state_lost")));
    json_decref(document);
    CHECK_OK(ph_hub_child_lookup(hub, "nobody", &value, &error));
    CHECK(strcmp(value.data, "null") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_process_registry(hub, &value, &error));
    document = parsed(&value);
    CHECK(json_object_size(document) == 2 && item_of(document, "known") != NULL);
    json_decref(document);

    CHECK_OK(ph_hub_stop_children(hub, "[\"known\", \"new\", \"nobody\"]", 5000, &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(json_array_size(item_of(document, "stopped")) == 2);
    CHECK(json_array_size(item_of(document, "errors")) == 1);
    json_decref(document);
    end_hub(&hub);
}

static void questions(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    ph_future *future = NULL;
    ph_value value;
    json_t *document;

    start_child(hub, "c:1", "counter");
    CHECK_OK(ph_hub_where(hub, "c:1", &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(strcmp(text_of(document, "owner"), "a") == 0);
    json_decref(document);
    CHECK_OK(ph_hub_plan(hub, "{\"join\": [{\"name\": \"b\", \"kinds\": [\"counter\"]}]}", &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(json_is_array(item_of(document, "moves")));
    json_decref(document);
    CHECK_OK(ph_hub_sync(hub, 5000, &future, &error));
    value = wait_for(&future);
    CHECK(strcmp(value.data, "null") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_which_children(hub, "local", 0, &future, &error));
    value = wait_for(&future);
    CHECK(strcmp(value.data, "{\"a\":[\"c:1\"]}") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_which_children(hub, "global", 5000, &future, &error));
    value = wait_for(&future);
    CHECK(strcmp(value.data, "{\"a\":[\"c:1\"]}") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_acknowledge_loss(hub, "c:1", &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    CHECK_OK(ph_hub_nodes(hub, false, &value, &error));
    CHECK(strcmp(value.data, "[]") == 0);
    ph_value_free(&value);
    CHECK_OK(ph_hub_metrics_text(hub, &value, &error));
    CHECK(strncmp(value.content_type, "text/plain", 10) == 0 && strstr(value.data, "process_hub") != NULL);
    CHECK(strlen(value.data) == value.len);
    ph_value_free(&value);
    CHECK_OK(ph_hub_debug_stats(hub, &value, &error));
    document = parsed(&value);
    CHECK(json_integer_value(item_of(document, "children")) == 1 && json_integer_value(item_of(document, "hubs")) == 1);
    CHECK(json_integer_value(item_of(document, "instances")) == 1);
    json_decref(document);
    CHECK_OK(ph_debug_stats(&value, &error));
    document = parsed(&value);
    CHECK(json_integer_value(item_of(document, "threads")) > 0 && json_integer_value(item_of(document, "handles")) > 0);
    json_decref(document);
    CHECK_OK(ph_hub_drain(hub, 5000, &future, &error));
    value = wait_for(&future);
    document = parsed(&value);
    CHECK(json_is_array(item_of(document, "moved")));
    json_decref(document);
    end_hub(&hub);
}

static void payloads(void) {
    ph_hub *hub = new_hub("a", NULL, NULL);
    ph_value value;
    ph_future *future = NULL;
    const char bytes[4] = {0, 1, (char)0xff, 0};
    register_counter(hub);
    CHECK_OK(ph_hub_start(hub, &error));
    start_child(hub, "c:1", "counter");
    CHECK_OK(ph_hub_start_child_with(hub, "{\"id\": \"c:2\", \"kind\": \"counter\"}", ph_bytes("7", 1), NULL, &future, &error));
    value = wait_for(&future);
    ph_value_free(&value);
    check_call(hub, "c:2", "null", "8");
    /* A message of bytes, and one that is empty. */
    CHECK_OK(ph_hub_call(hub, "c:1", ph_bytes(bytes, sizeof bytes), 5000, NULL, &error));
    CHECK_OK(ph_hub_call(hub, "c:1", ph_bytes(NULL, 0), 5000, NULL, &error));
    check_call(hub, "c:1", "null", "3");
    end_hub(&hub);
}

static void two_hubs_share_children(void) {
    ph_hub *first = counter_hub("a", NULL, ", \"migration\": {\"type\": \"hot_swap\", \"handover\": true}");
    ph_hub *second;
    ph_value value;
    char id[16];
    int i;

    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        start_child(first, id, "counter");
        check_call(first, id, "null", "1");
    }
    second = counter_hub("b", ph_hub_address(first), ", \"migration\": {\"type\": \"hot_swap\", \"handover\": true}");
    wait_members(first, 2);
    wait_members(second, 2);
    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        check_call(second, id, "null", "2");
    }
    /* The first leaves: nothing is lost. */
    CHECK_OK(ph_hub_stop(first, PATIENCE_MS, &value, &error));
    CHECK(strstr(value.data, "\"failed\":[]") != NULL);
    ph_value_free(&value);
    ph_hub_free(&first);
    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        check_call(second, id, "null", "3");
    }
    end_hub(&second);
}

/* How many instances a node has, as a hub knows. */
static int instances_on(ph_hub *hub, const char *node) {
    ph_value value;
    json_t *document, *row, *instance;
    const char *id;
    size_t at;
    int count = 0;
    CHECK_OK(ph_hub_process_registry(hub, &value, &error));
    document = parsed(&value);
    json_object_foreach(document, id, row) {
        json_array_foreach(item_of(row, "instances"), at, instance) {
            count += strcmp(text_of(instance, "node"), node) == 0;
        }
    }
    json_decref(document);
    return count;
}

static void load_is_balanced(void) {
    const char *balanced = ", \"distribution\": {\"type\": \"load_balanced\", \"push_interval_ms\": 60000,"
                           " \"nodeup_redistribution\": true}";
    ph_hub *first = counter_hub("a", NULL, balanced);
    ph_hub *second;
    double until;
    char id[16];
    int i;

    for (i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "c:%d", i);
        start_child(first, id, "counter");
    }
    CHECK(instances_on(first, "a") == 20);
    second = counter_hub("b", ph_hub_address(first), balanced);
    until = now_seconds() + PATIENCE_MS / 1000.0 * slowness();
    /* The node that joins is given its share. */
    while (instances_on(second, "b") != 10 || instances_on(second, "a") != 10) {
        CHECK(now_seconds() < until);
        usleep(5000);
    }
    end_hub(&second);
    end_hub(&first);
}

static void hubs_on_one_node(void) {
    ph_node *node = NULL;
    ph_hub *first = NULL, *second = NULL, *third = NULL;
    CHECK_OK(ph_node_new("{\"name\": \"n\", \"security\": {\"mode\": \"insecure_plaintext\"}, \"profile\": \"fast\"}", &node, &error));
    CHECK(strcmp(ph_node_name(node), "n") == 0);
    CHECK(strncmp(ph_node_address(node), "127.0.0.1:", 10) == 0);
    CHECK_OK(ph_hub_new_on_node("{\"hub_id\": \"one\"}", node, &first, &error));
    CHECK_OK(ph_hub_new_on_node("{\"hub_id\": \"two\"}", node, &second, &error));
    CHECK_OK(ph_hub_new_on_node("{\"hub_id\": \"two\"}", node, &third, &error));
    register_counter(first);
    register_counter(second);
    CHECK_OK(ph_hub_start(first, &error));
    CHECK_OK(ph_hub_start(second, &error));
    CHECK_STATUS(PH_ERR_HUB_EXISTS, ph_hub_start(third, NULL));
    CHECK_STATUS(PH_OK, ph_hub_free(&third));
    start_child(first, "c", "counter");
    start_child(second, "c", "counter");
    check_call(first, "c", "null", "1");
    check_call(second, "c", "null", "1");
    end_hub(&first);
    check_call(second, "c", "null", "2");
    CHECK_OK(ph_node_stop(node, PATIENCE_MS, &error));
    CHECK_STATUS(PH_ERR_CLOSED, ph_hub_call(second, "c", ph_json("null"), 1000, NULL, NULL));
    CHECK_STATUS(PH_OK, ph_hub_free(&second));
    ph_node_free(&node);
    CHECK(node == NULL && ph_node_name(node) == NULL);
}

static void library(void) {
    CHECK(strcmp(ph_version_string(), PH_VERSION) == 0);
    CHECK(ph_abi_version() == PH_ABI_VERSION);
}

static const test_case CASES[] = {
    {"start_stop_and_call", start_stop_and_call, 0, 30, ""},
    {"children_by_the_list", children_by_the_list, 0, 30, ""},
    {"questions", questions, 0, 30, ""},
    {"payloads", payloads, 0, 30, ""},
    {"two_hubs_share_children", two_hubs_share_children, 0, 60, ""},
    {"load_is_balanced", load_is_balanced, 0, 60, ""},
    {"hubs_on_one_node", hubs_on_one_node, 0, 30, ""},
    {"library", library, 0, 10, ""},
};

MAIN(CASES)
