/* A hub whose callbacks the program runs itself: by ph_hub_poll, by its own event loop, and in its waits. */
#include "check.h"

#include <poll.h>

static pthread_t main_thread;
static int handled, observed, done;

static ph_status handle_here(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message;
    CHECK(pthread_equal(pthread_self(), main_thread));
    CHECK_STATUS(PH_ERR_WOULD_DEADLOCK, ph_hub_poll(ph_context_hub(context), 0));
    handled++;
    return ph_reply_json(reply, "\"here\"");
}

static void observe_here(void *user_data, const char *hook, const char *payload) {
    (void)user_data, (void)hook, (void)payload;
    CHECK(pthread_equal(pthread_self(), main_thread));
    observed++;
}

static void done_here(void *user_data, ph_future *future) {
    (void)user_data;
    CHECK(pthread_equal(pthread_self(), main_thread));
    CHECK_STATUS(PH_OK, ph_future_wait(future, 0, NULL, NULL));
    done++;
}

static ph_hub *polled_hub(int *fd) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = new_hub("a", NULL, NULL);
    main_thread = pthread_self();
    callbacks.handle = handle_here;
    CHECK_OK(ph_hub_register_kind(hub, "here", &callbacks, NULL, NULL, &error));
    CHECK_OK(ph_hub_on(hub, "post_children_start", "x", 0, observe_here, NULL, NULL, &error));
    if (fd) {
        int again = -1;
        CHECK_OK(ph_hub_event_fd(hub, fd, &error));
        CHECK_OK(ph_hub_event_fd(hub, &again, &error));
        CHECK(*fd == again && *fd >= 0);
    } else {
        CHECK_OK(ph_hub_set_polled(hub, &error));
    }
    CHECK_OK(ph_hub_start(hub, &error));
    return hub;
}

/* One thread, which never polls by itself: its waits do. */
static void waits_poll(void) {
    ph_hub *hub = polled_hub(NULL);
    start_child(hub, "one", "here");
    check_call(hub, "one", "1", "\"here\"");
    CHECK_OK(ph_hub_send(hub, "one", NULL, false, ph_json("1"), &error));
    check_call(hub, "one", "1", "\"here\"");
    CHECK(handled == 3);
    end_hub(&hub);
    CHECK(observed == 1);
}

static void by_poll(void) {
    ph_hub *hub = polled_hub(NULL);
    ph_future *future = NULL;
    ph_status status;
    start_child(hub, "one", "here");
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), 20000, &future, &error));
    CHECK_OK(ph_future_on_done(future, done_here, NULL, NULL, &error));
    while (done == 0) {
        status = ph_hub_poll(hub, PATIENCE_MS);
        CHECK(status == PH_OK);
    }
    CHECK(handled == 1 && observed == 1);
    do {
        status = ph_hub_poll(hub, 0);
    } while (status == PH_OK);
    CHECK_STATUS(PH_ERR_TIMEOUT, status);
    ph_future_free(&future);
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, NULL, &error));
    CHECK_STATUS(PH_ERR_CLOSED, ph_hub_poll(hub, PATIENCE_MS));
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
}

static void by_an_event_loop(void) {
    int fd = -1, turns = 0;
    ph_hub *hub = polled_hub(&fd);
    ph_future *future = NULL;
    CHECK_OK(ph_hub_start_child(hub, "{\"id\": \"one\", \"kind\": \"here\"}", "{\"timeout_ms\": 20000}", &future, &error));
    CHECK_OK(ph_future_on_done(future, done_here, NULL, NULL, &error));
    while (done < 2) {
        struct pollfd descriptor = {fd, POLLIN, 0};
        CHECK(poll(&descriptor, 1, PATIENCE_MS * slowness()) == 1);
        while (ph_hub_poll(hub, 0) == PH_OK) {
            turns++;
        }
        if (done == 1 && handled == 0) {
            ph_future_free(&future);
            CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), 20000, &future, &error));
            CHECK_OK(ph_future_on_done(future, done_here, NULL, NULL, &error));
            handled = -1;
        }
    }
    CHECK(turns >= 4 && handled == 0 && observed == 1);
    ph_future_free(&future);
    {
        /* Nothing is left to do, so the descriptor is not readable for ever. */
        struct pollfd descriptor = {fd, POLLIN, 0};
        while (poll(&descriptor, 1, 0) == 1) {
            (void)ph_hub_poll(hub, 0);
        }
    }
    end_hub(&hub);
}

static const test_case CASES[] = {
    {"waits_poll", waits_poll, 0, 30, ""},
    {"by_poll", by_poll, 0, 30, ""},
    {"by_an_event_loop", by_an_event_loop, 0, 30, ""},
};

MAIN(CASES)
