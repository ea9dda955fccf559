/* The quickstart: a hub with one kind of children, which count what they are sent.
 *
 *     cc quickstart.c $(pkg-config --cflags --libs process_hub) -o quickstart && ./quickstart
 */
#include <process_hub.h>
#include <stdio.h>
#include <stdlib.h>

/* A shopping cart: how many items it holds. */
typedef struct {
    int items;
} cart;

static ph_status cart_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    (void)user_data, (void)context, (void)args;
    *child = calloc(1, sizeof(cart));
    return *child != NULL ? PH_OK : ph_reply_fail(reply, 0, "no memory");
}

static ph_status cart_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    char items[16];
    (void)context, (void)message;
    snprintf(items, sizeof items, "%d", ++((cart *)child)->items);
    return ph_reply_json(reply, items);
}

/* The state moves with the child when nodes come and go. */
static ph_status cart_prepare(void *child, ph_context *context, ph_reply *reply) {
    (void)context;
    return ph_reply_value(reply, ph_bytes(&((cart *)child)->items, sizeof(int)));
}

static ph_status cart_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    (void)context;
    if (state.len != sizeof(int)) {
        return ph_reply_fail(reply, 0, "this is no cart");
    }
    ((cart *)child)->items = *(const int *)(const void *)state.data;
    return PH_OK;
}

/* Prints what went wrong and ends. */
static void check(ph_status status, ph_error **error) {
    if (status != PH_OK) {
        fprintf(stderr, "%s: %s\n", ph_error_kind(*error), ph_error_message(*error));
        exit(EXIT_FAILURE);
    }
}

int main(void) {
    const char *config = "{\"hub_id\": \"orders\", \"node\": {}, \"migration\": {\"type\": \"hot_swap\", \"handover\": true}}";
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = NULL;
    ph_future *started = NULL;
    ph_error *error = NULL;
    ph_value reply;
    int sent;

    callbacks.start = cart_start;
    callbacks.handle = cart_handle;
    callbacks.prepare_handover_state = cart_prepare;
    callbacks.alter_handover_state = cart_alter;
    callbacks.drop = free;

    check(ph_hub_new(config, &hub, &error), &error);
    check(ph_hub_register_kind(hub, "cart", &callbacks, NULL, NULL, &error), &error);
    check(ph_hub_start(hub, &error), &error);

    check(ph_hub_start_child(hub, "{\"id\": \"cart:42\", \"kind\": \"cart\"}", NULL, &started, &error), &error);
    check(ph_future_wait(started, 5000, NULL, &error), &error);
    ph_future_free(&started);

    for (sent = 0; sent < 2; sent++) {
        check(ph_hub_call(hub, "cart:42", ph_json("\"sku1\""), 1000, &reply, &error), &error);
        printf("%s\n", reply.data); /* 1, then 2 */
        ph_value_free(&reply);
    }

    check(ph_hub_stop(hub, 20000, NULL, &error), &error);
    ph_hub_free(&hub);
    return EXIT_SUCCESS;
}
