/* How hubs and programs end: closed twice, in callbacks, not at all, by exit, by signals, after a fork, loaded twice. */
#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static gate entered = GATE_INIT, leave = GATE_INIT, dropped = GATE_INIT;
static ph_hub *the_hub;

static void open_gate(void *user_data) {
    gate_open((gate *)user_data);
}

/* Says that it is in a callback, and stays there until it may leave. */
static ph_status waiting_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message;
    gate_open(&entered);
    gate_wait(&leave, 1);
    return ph_reply_json(reply, "1");
}

static ph_status closing_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    ph_hub *hub = ph_context_hub(context);
    ph_error *error = NULL;
    (void)child, (void)message;
    CHECK(hub == the_hub);
    CHECK_STATUS(PH_ERR_WOULD_DEADLOCK, ph_hub_stop(hub, 1000, NULL, &error));
    CHECK(strstr(ph_error_message(error), "callback") != NULL);
    ph_error_free(&error);
    CHECK_STATUS(PH_ERR_WOULD_DEADLOCK, ph_hub_free(&hub));
    CHECK(hub == the_hub && ph_hub_is_alive(hub));
    CHECK_STATUS(PH_ERR_WOULD_DEADLOCK, ph_hub_poll(hub, 0));
    return ph_reply_json(reply, "\"refused\"");
}

static ph_status exiting_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message, (void)reply;
    exit(7);
}

static ph_hub *hub_with(const char *name, ph_status (*handle)(void *, ph_context *, ph_value, ph_reply *), const char *more) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = new_hub(name, NULL, more);
    callbacks.handle = handle;
    CHECK_OK(ph_hub_register_kind(hub, "kind", &callbacks, &dropped, open_gate, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    start_child(hub, "one", "kind");
    return hub;
}

static void closed_twice(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL), *copy = hub;
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, NULL, &error));
    CHECK_OK(ph_hub_stop(hub, PATIENCE_MS, NULL, &error));
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    CHECK_STATUS(PH_ERR_INVALID_ARGUMENT, ph_hub_free(&copy));
}

static void freed_without_stop(void) {
    ph_hub *hub = hub_with("a", closing_handle, NULL);
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    CHECK(hub == NULL && gate_count(&dropped) == 1);
}

static void freed_without_start(void) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = new_hub("a", NULL, NULL);
    CHECK_OK(ph_hub_register_kind(hub, "kind", &callbacks, &dropped, open_gate, &error));
    CHECK_OK(ph_hub_register_kind(hub, "kind", &callbacks, &dropped, open_gate, &error));
    CHECK(gate_count(&dropped) == 1);
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    CHECK(gate_count(&dropped) == 2);
}

static void closed_in_a_callback(void) {
    the_hub = hub_with("a", closing_handle, NULL);
    check_call(the_hub, "one", "1", "\"refused\"");
    end_hub(&the_hub);
    CHECK(gate_count(&dropped) == 1);
}

/* Another hub may be stopped in a callback. */
static ph_hub *other_hub;

static ph_status closing_other_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message;
    CHECK_OK(ph_hub_stop(other_hub, PATIENCE_MS, NULL, &error));
    CHECK_STATUS(PH_OK, ph_hub_free(&other_hub));
    return ph_reply_json(reply, "\"closed\"");
}

static void other_hub_closed_in_a_callback(void) {
    the_hub = hub_with("a", closing_other_handle, NULL);
    other_hub = counter_hub("b", NULL, NULL);
    check_call(the_hub, "one", "1", "\"closed\"");
    end_hub(&the_hub);
}

static void never_closed(void) {
    ph_hub *hub = counter_hub("a", NULL, NULL);
    start_child(hub, "one", "counter");
    check_call(hub, "one", "1", "1");
}

static void exit_with_calls_in_flight(void) {
    ph_hub *hub = hub_with("a", waiting_handle, NULL);
    ph_future *future = NULL;
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), 20000, &future, &error));
    gate_wait(&entered, 1);
    exit(3);
}

static void exit_in_a_callback(void) {
    ph_hub *hub = hub_with("a", exiting_handle, NULL);
    (void)ph_hub_call(hub, "one", ph_json("1"), PATIENCE_MS, NULL, NULL);
    abort();
}

static void *call_until_closed(void *ended) {
    for (;;) {
        ph_status status = ph_hub_call(the_hub, "one", ph_json("1"), 5000, NULL, NULL);
        if (status != PH_OK) {
            /* Closed, or freed already. */
            CHECK(status == PH_ERR_CLOSED || status == PH_ERR_INVALID_ARGUMENT || status == PH_ERR_NOT_FOUND ||
                  status == PH_ERR_LEAVING || status == PH_ERR_NOT_ACTIVE || status == PH_ERR_UNREACHABLE);
            if (status == PH_ERR_CLOSED || status == PH_ERR_INVALID_ARGUMENT) {
                gate_open((gate *)ended);
                return NULL;
            }
        } else {
            gate_open(&entered);
        }
    }
}

static void freed_while_others_call(void) {
    pthread_t threads[8];
    gate ended = GATE_INIT;
    ph_hub *copy;
    size_t i;
    the_hub = counter_hub("a", NULL, NULL);
    copy = the_hub;
    start_child(the_hub, "one", "counter");
    for (i = 0; i < 8; i++) {
        CHECK(pthread_create(&threads[i], NULL, call_until_closed, &ended) == 0);
    }
    gate_wait(&entered, 20);
    CHECK_STATUS(PH_OK, ph_hub_free(&copy));
    gate_wait(&ended, 8);
    for (i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void two_hubs_in_any_order(void) {
    int order;
    for (order = 0; order < 2; order++) {
        ph_hub *first = counter_hub("a", NULL, NULL), *second = counter_hub("b", NULL, NULL);
        start_child(first, "one", "counter");
        start_child(second, "one", "counter");
        end_hub(order ? &first : &second);
        check_call(order ? second : first, "one", "1", "1");
        end_hub(order ? &second : &first);
    }
}

/* --- signals ------------------------------------------------------------------------------------------------------- */

static void *interrupt(void *nothing) {
    (void)nothing;
    gate_wait(&entered, 1);
    /* The wait that is meant has begun, or begins within this time; either way the signal ends the process. */
    usleep(50000);
    kill(getpid(), SIGINT);
    return NULL;
}

static void interrupt_soon(void) {
    pthread_t thread;
    signal(SIGINT, SIG_DFL);
    CHECK(pthread_create(&thread, NULL, interrupt, NULL) == 0);
}

static void sigint_in_call(void) {
    ph_hub *hub = hub_with("a", waiting_handle, NULL);
    interrupt_soon();
    (void)ph_hub_call(hub, "one", ph_json("1"), PATIENCE_MS, NULL, NULL);
    abort();
}

static void sigint_in_future_wait(void) {
    ph_hub *hub = hub_with("a", waiting_handle, NULL);
    ph_future *future = NULL;
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), PATIENCE_MS, &future, &error));
    interrupt_soon();
    (void)ph_future_wait(future, PATIENCE_MS, NULL, NULL);
    abort();
}

static void sigint_in_stop(void) {
    ph_hub *hub = hub_with("a", waiting_handle, NULL);
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), PATIENCE_MS, NULL, &error));
    gate_wait(&entered, 1);
    interrupt_soon();
    (void)ph_hub_stop(hub, PATIENCE_MS, NULL, NULL);
    abort();
}

static void sigint_in_poll(void) {
    ph_hub *hub = new_hub("a", NULL, NULL);
    CHECK_OK(ph_hub_set_polled(hub, &error));
    CHECK_OK(ph_hub_start(hub, &error));
    gate_open(&entered);
    interrupt_soon();
    while (ph_hub_poll(hub, PATIENCE_MS) == PH_OK) {
    }
    abort();
}

static void sigint_in_start(void) {
    /* The seed takes the connection and never answers, so the start waits for its verdict. */
    char seed[64], config[256];
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ph_hub *hub = NULL;
    CHECK(listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    snprintf(seed, sizeof seed, "127.0.0.1:%d",
             ((unsigned char *)&address)[2] * 256 + ((unsigned char *)&address)[3]);
    snprintf(config, sizeof config, "{\"hub_id\": \"x\", \"node\": {\"seeds\": [\"%s\"], \"security\": {\"mode\": \"insecure_plaintext\"}}}", seed);
    CHECK_OK(ph_hub_new(config, &hub, &error));
    gate_open(&entered);
    interrupt_soon();
    (void)ph_hub_start(hub, NULL);
    pause();
}

/* A program with a handler of its own ends as it likes: the wait goes on, a thread of the program cancels it. */
static void *cancel_when_interrupted(void *future) {
    sigset_t signals;
    int signal;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    gate_open(&leave);
    CHECK(sigwait(&signals, &signal) == 0 && signal == SIGINT);
    CHECK_OK(ph_future_cancel((ph_future *)future, &error));
    return NULL;
}

static ph_status keeping_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    (void)child, (void)context, (void)message, (void)reply;
    gate_open(&entered);
    return PH_LATER;
}

static void sigint_cancels_a_wait(void) {
    sigset_t signals;
    pthread_t thread;
    ph_future *future = NULL;
    ph_hub *hub;
    struct sigaction before, after;
    CHECK(sigaction(SIGINT, NULL, &before) == 0);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    hub = hub_with("a", keeping_handle, ", \"shutdown_timeout_ms\": 2000");
    CHECK_OK(ph_hub_call_begin(hub, "one", NULL, ph_json("1"), PATIENCE_MS, &future, &error));
    gate_wait(&entered, 1);
    CHECK(pthread_create(&thread, NULL, cancel_when_interrupted, future) == 0);
    gate_wait(&leave, 1);
    kill(getpid(), SIGINT);
    CHECK_STATUS(PH_ERR_CANCELLED, ph_future_wait(future, PATIENCE_MS, NULL, NULL));
    pthread_join(thread, NULL);
    ph_future_free(&future);
    ph_hub_free(&hub);
    /* The library leaves the dispositions of signals alone. */
    CHECK(sigaction(SIGINT, NULL, &after) == 0 && before.sa_handler == after.sa_handler);
}

/* --- fork ---------------------------------------------------------------------------------------------------------- */

/* Runs `body` in a fork and wants it to end with status 0. */
static void in_a_fork(void (*body)(void)) {
    int status = 0;
    pid_t child;
    fflush(NULL);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static ph_future *the_future;
static ph_error *the_error;

static void use_handles_of_the_parent(void) {
    ph_hub *copy = the_hub;
    ph_error *error = NULL;
    ph_value value;
    CHECK_STATUS(PH_ERR_FORKED, ph_hub_call(the_hub, "one", ph_json("1"), 5000, NULL, &error));
    CHECK(strcmp(ph_error_kind(error), "forked") == 0 && strstr(ph_error_message(error), "fork") != NULL);
    ph_error_free(&error);
    CHECK_STATUS(PH_ERR_FORKED, ph_hub_nodes(the_hub, true, &value, NULL));
    CHECK_STATUS(PH_ERR_FORKED, ph_hub_stop(the_hub, 1000, NULL, NULL));
    CHECK_STATUS(PH_ERR_FORKED, ph_future_wait(the_future, 1000, NULL, NULL));
    CHECK_STATUS(PH_ERR_FORKED, ph_hub_free(&copy));
    CHECK(!ph_hub_is_alive(the_hub) && ph_hub_node_name(the_hub) == NULL);
    CHECK(ph_error_number(the_error) == 0);
    ph_error_free(&the_error);
    ph_future_free(&the_future);
    /* A hub of its own works. */
    copy = counter_hub("b", NULL, NULL);
    start_child(copy, "one", "counter");
    check_call(copy, "one", "1", "1");
    end_hub(&copy);
}

/* The sockets that this process has open. */
static int count_sockets(void) {
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while ((entry = readdir(folder)) != NULL) {
        char target[64] = "";
        CHECK(readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1) >= -1);
        count += strncmp(target, "socket:", 7) == 0;
    }
    closedir(folder);
    return count;
}

static int sockets_before;

static void one_socket_is_left(void) {
    CHECK(count_sockets() == sockets_before + 1);
}

static void sockets_are_closed(void) {
    CHECK(count_sockets() == sockets_before);
    /* Numbers that are used again here are left alone by the next fork. */
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    in_a_fork(one_socket_is_left);
}

/* A forked process keeps no socket of its parent's hubs: neither the port, nor connections that peers rely on. */
static void forked_sockets(void) {
    ph_hub *other;
    sockets_before = count_sockets();
    the_hub = counter_hub("a", NULL, NULL);
    other = counter_hub("b", ph_hub_address(the_hub), NULL);
    wait_members(the_hub, 2);
    wait_members(other, 2);
    CHECK(count_sockets() > sockets_before + 2);
    in_a_fork(sockets_are_closed);
    start_child(the_hub, "one", "counter");
    check_call(other, "one", "1", "1");
    end_hub(&other);
    end_hub(&the_hub);
}

static void forked(void) {
    the_hub = counter_hub("a", NULL, NULL);
    start_child(the_hub, "one", "counter");
    CHECK_OK(ph_hub_sync(the_hub, 5000, &the_future, &error));
    CHECK_OK(ph_future_wait(the_future, PATIENCE_MS, NULL, &error));
    CHECK_STATUS(PH_ERR_NOT_FOUND, ph_hub_call(the_hub, "nobody", ph_json("1"), 5000, NULL, &the_error));
    in_a_fork(use_handles_of_the_parent);
    /* The parent is as it was. */
    check_call(the_hub, "one", "1", "1");
    ph_future_free(&the_future);
    ph_error_free(&the_error);
    end_hub(&the_hub);
}

/* Forks while other threads are in the library, whose locks the child must not touch. */
static void fork_while_others_call(void) {
    pthread_t threads[4];
    gate ended = GATE_INIT;
    ph_hub *hub;
    int i;
    the_hub = counter_hub("a", NULL, NULL);
    start_child(the_hub, "one", "counter");
    for (i = 0; i < 4; i++) {
        CHECK(pthread_create(&threads[i], NULL, call_until_closed, &ended) == 0);
    }
    gate_wait(&entered, 20);
    for (i = 0; i < 20; i++) {
        int status = 0;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(ph_hub_call(the_hub, "one", ph_json("1"), 1000, NULL, NULL) == PH_ERR_FORKED ? 0 : 1);
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    hub = the_hub;
    CHECK_STATUS(PH_OK, ph_hub_free(&hub));
    gate_wait(&ended, 4);
    for (i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* --- dlopen -------------------------------------------------------------------------------------------------------- */

/* The library by its file, as a plug-in host loads it: another copy than the one this program is linked with. */
static void loaded_twice(void) {
    Dl_info info;
    int i;
    CHECK(dladdr((void *)(uintptr_t)&ph_version_string, &info) != 0);
    for (i = 0; i < 2; i++) {
        void *library = dlopen(info.dli_fname, RTLD_NOW | RTLD_LOCAL);
        const char *(*version)(void);
        CHECK(library != NULL);
        *(void **)&version = dlsym(library, "ph_version_string");
        CHECK(version != NULL && strcmp(version(), PH_VERSION) == 0);
        {
            ph_hub *hub = counter_hub("a", NULL, NULL);
            CHECK(dlclose(library) == 0);
            start_child(hub, "one", "counter");
            check_call(hub, "one", "1", "1");
            end_hub(&hub);
        }
    }
    CHECK(strcmp(ph_version_string(), PH_VERSION) == 0);
}

static const test_case CASES[] = {
    {"closed_twice", closed_twice, 0, 20, ""},
    {"freed_without_stop", freed_without_stop, 0, 20, ""},
    {"freed_without_start", freed_without_start, 0, 20, ""},
    {"closed_in_a_callback", closed_in_a_callback, 0, 20, ""},
    {"other_hub_closed_in_a_callback", other_hub_closed_in_a_callback, 0, 30, ""},
    /* What a program leaves when it exits is no leak of the library's. */
    {"never_closed", never_closed, 0, 20, "no-asan no-valgrind"},
    {"exit_with_calls_in_flight", exit_with_calls_in_flight, 3, 20, "no-asan no-valgrind"},
    {"exit_in_a_callback", exit_in_a_callback, 7, 20, "no-asan no-valgrind"},
    {"freed_while_others_call", freed_while_others_call, 0, 30, ""},
    {"two_hubs_in_any_order", two_hubs_in_any_order, 0, 30, ""},
    {"sigint_in_call", sigint_in_call, 128 + SIGINT, 20, "no-valgrind"},
    {"sigint_in_future_wait", sigint_in_future_wait, 128 + SIGINT, 20, "no-valgrind"},
    {"sigint_in_stop", sigint_in_stop, 128 + SIGINT, 20, "no-valgrind"},
    {"sigint_in_poll", sigint_in_poll, 128 + SIGINT, 20, "no-valgrind"},
    {"sigint_in_start", sigint_in_start, 128 + SIGINT, 20, "no-valgrind"},
    {"sigint_cancels_a_wait", sigint_cancels_a_wait, 0, 20, ""},
    {"forked", forked, 0, 30, "no-asan no-valgrind"},
    {"forked_sockets", forked_sockets, 0, 30, "no-asan no-valgrind"},
    {"fork_while_others_call", fork_while_others_call, 0, 30, "no-asan no-valgrind"},
    {"loaded_twice", loaded_twice, 0, 30, "no-asan"},
};

MAIN(CASES)
