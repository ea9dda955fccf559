/* Sensors spread over three processes, which find each other by a seed. Each sensor is a child that keeps its history; one
 * process leaves while readings come in, and no reading is lost.
 *
 *     cc sensors.c $(pkg-config --cflags --libs process_hub) -o sensors && ./sensors
 *
 * The program starts itself three times as a station (`sensors station NAME SEED`), which runs sensors, and is itself the
 * desk: a member of the hub that runs none, sends the readings and checks what became of them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <process_hub.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATIONS = 3, SENSORS = 12, ROUNDS = 60, LEAVES_AT = 20, PATIENCE_MS = 20000 };

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

static void check(const char *what, ph_status status, ph_error **error) {
    if (status != PH_OK) {
        fail("%s: %s: %s", what, ph_error_kind(*error), ph_error_message(*error));
    }
}

/* --- a sensor ------------------------------------------------------------------------------------------------------ */

typedef struct {
    double *readings;
    size_t count;
} sensor;

static ph_status sensor_start(void *user_data, ph_context *context, ph_value args, void **child, ph_reply *reply) {
    (void)user_data, (void)context, (void)args;
    *child = calloc(1, sizeof(sensor));
    return *child != NULL ? PH_OK : ph_reply_fail(reply, 0, "no memory");
}

/* Keeps a number; says how many there are, and their sum, when it is asked for its history. */
static ph_status sensor_handle(void *child, ph_context *context, ph_value message, ph_reply *reply) {
    sensor *self = (sensor *)child;
    double *grown, sum = 0;
    char text[96];
    size_t i;

    if (strcmp(message.data, "\"history\"") == 0) {
        for (i = 0; i < self->count; i++) {
            sum += self->readings[i];
        }
        snprintf(text, sizeof text, "{\"count\": %zu, \"sum\": %.1f, \"node\": \"%s\"}", self->count, sum, ph_context_node(context));
        return ph_reply_json(reply, text);
    }
    grown = (double *)realloc(self->readings, (self->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return ph_reply_fail(reply, 0, "no memory");
    }
    self->readings = grown;
    self->readings[self->count++] = strtod(message.data, NULL);
    return PH_OK;
}

static ph_status sensor_prepare(void *child, ph_context *context, ph_reply *reply) {
    const sensor *self = (const sensor *)child;
    (void)context;
    return ph_reply_value(reply, ph_bytes(self->readings, self->count * sizeof *self->readings));
}

static ph_status sensor_alter(void *child, ph_context *context, ph_value state, ph_reply *reply) {
    sensor *self = (sensor *)child;
    double *readings = (double *)malloc(state.len + 1);
    (void)context;
    if (readings == NULL || state.len % sizeof *readings != 0) {
        free(readings);
        return ph_reply_fail(reply, 0, "this is no history");
    }
    memcpy(readings, state.data, state.len);
    free(self->readings);
    self->readings = readings;
    self->count = state.len / sizeof *readings;
    return PH_OK;
}

static void sensor_drop(void *child) {
    free(((sensor *)child)->readings);
    free(child);
}

/* --- a hub --------------------------------------------------------------------------------------------------------- */

static ph_hub *join(const char *name, const char *seed, int runs_sensors) {
    ph_child_callbacks callbacks = PH_CHILD_CALLBACKS_INIT;
    ph_hub *hub = NULL;
    ph_error *error = NULL;
    char config[512], seeds[128] = "";

    if (seed != NULL) {
        snprintf(seeds, sizeof seeds, "\"%s\"", seed);
    }
    snprintf(config, sizeof config,
             "{\"hub_id\": \"sensors\", \"profile\": \"fast\", \"hubs_discover_interval_ms\": 200,"
             " \"migration\": {\"type\": \"hot_swap\", \"handover\": true},"
             " \"node\": {\"name\": \"%s\", \"seeds\": [%s]}}",
             name, seeds);
    check("ph_hub_new", ph_hub_new(config, &hub, &error), &error);
    if (runs_sensors) {
        callbacks.start = sensor_start;
        callbacks.handle = sensor_handle;
        callbacks.prepare_handover_state = sensor_prepare;
        callbacks.alter_handover_state = sensor_alter;
        callbacks.drop = sensor_drop;
        check("ph_hub_register_kind", ph_hub_register_kind(hub, "sensor", &callbacks, NULL, NULL, &error), &error);
    }
    check("ph_hub_start", ph_hub_start(hub, &error), &error);
    return hub;
}

static void leave(ph_hub **hub) {
    ph_error *error = NULL;
    check("ph_hub_stop", ph_hub_stop(*hub, PATIENCE_MS, NULL, &error), &error);
    ph_hub_free(hub);
}

/* --- a station: runs sensors until its input ends ------------------------------------------------------------------ */

static int run_station(const char *name, const char *seed) {
    ph_hub *hub = join(name, seed, 1);
    printf("%s\n", ph_hub_address(hub));
    fflush(stdout);
    while (getchar() != EOF) {
    }
    leave(&hub);
    return EXIT_SUCCESS;
}

typedef struct {
    pid_t process;
    int input;
    char address[64];
} station;

static void start_station(station *station, const char *program, const char *name, const char *seed) {
    int input[2], output[2];
    ssize_t length;

    if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) {
        fail("no pipe");
    }
    station->process = fork();
    if (station->process < 0) {
        fail("no process");
    }
    if (station->process == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        execl(program, program, "station", name, seed, (char *)NULL);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    station->input = input[1];
    length = read(output[0], station->address, sizeof station->address - 1);
    if (length <= 1) {
        fail("station %s did not start", name);
    }
    station->address[length - 1] = '\0';
    close(output[0]);
}

static void stop_station(station *station) {
    int status = 0;
    close(station->input);
    if (waitpid(station->process, &status, 0) != station->process || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail("a station ended badly");
    }
}

/* --- the desk ------------------------------------------------------------------------------------------------------ */

static void start_sensors(ph_hub *desk) {
    ph_error *error = NULL;
    int i;
    for (i = 0; i < SENSORS; i++) {
        ph_future *started = NULL;
        char spec[64];
        snprintf(spec, sizeof spec, "{\"id\": \"sensor:%d\", \"kind\": \"sensor\"}", i);
        check("ph_hub_start_child", ph_hub_start_child(desk, spec, "{\"timeout_ms\": 20000}", &started, &error), &error);
        check("ph_future_wait", ph_future_wait(started, PATIENCE_MS, NULL, &error), &error);
        ph_future_free(&started);
    }
}

static void send_readings(ph_hub *desk, int round) {
    ph_error *error = NULL;
    int i;
    for (i = 0; i < SENSORS; i++) {
        char id[32], reading[32];
        snprintf(id, sizeof id, "sensor:%d", i);
        snprintf(reading, sizeof reading, "%.1f", 20.0 + i + round / 2.0);
        check(id, ph_hub_call(desk, id, ph_json(reading), PATIENCE_MS, NULL, &error), &error);
    }
}

/* Asks every sensor, and compares with what was sent. */
static void check_histories(ph_hub *desk) {
    ph_error *error = NULL;
    int i;
    for (i = 0; i < SENSORS; i++) {
        char id[32], wanted[64];
        ph_value history;
        double sum = ROUNDS * (20.0 + i) + ROUNDS * (ROUNDS - 1) / 4.0;
        snprintf(id, sizeof id, "sensor:%d", i);
        check(id, ph_hub_call(desk, id, ph_json("\"history\""), PATIENCE_MS, &history, &error), &error);
        snprintf(wanted, sizeof wanted, "{\"count\": %d, \"sum\": %.1f,", (int)ROUNDS, sum);
        printf("%-10s %s\n", id, history.data);
        if (strncmp(history.data, wanted, strlen(wanted)) != 0) {
            fail("%s has %s and not %s", id, history.data, wanted);
        }
        ph_value_free(&history);
    }
}

static void wait_for_members(ph_hub *desk, int count) {
    int tries;
    for (tries = 0; tries < PATIENCE_MS / 10; tries++) {
        ph_error *error = NULL;
        ph_value names;
        int found = 1;
        const char *at;
        check("ph_hub_nodes", ph_hub_nodes(desk, true, &names, &error), &error);
        for (at = names.data; *at != '\0'; at++) {
            found += *at == ',';
        }
        ph_value_free(&names);
        if (found == count) {
            return;
        }
        usleep(10000);
    }
    fail("the hub did not come to have %d members", count);
}

int main(int argc, char **argv) {
    station stations[STATIONS];
    ph_hub *desk;
    int i, round;

    if (argc == 4 && strcmp(argv[1], "station") == 0) {
        return run_station(argv[2], argv[3][0] != '\0' ? argv[3] : NULL);
    }
    /* The stations first: a hub belongs to the process that started it, so forks come before. */
    for (i = 0; i < STATIONS; i++) {
        char name[16];
        snprintf(name, sizeof name, "station-%d", i);
        start_station(&stations[i], argv[0], name, i == 0 ? "" : stations[0].address);
    }
    desk = join("desk", stations[0].address, 0);
    wait_for_members(desk, STATIONS + 1);
    start_sensors(desk);
    for (round = 0; round < ROUNDS; round++) {
        if (round == LEAVES_AT) {
            /* Its input ends: it gives its sensors away while the readings go on. */
            close(stations[1].input);
        }
        send_readings(desk, round);
    }
    wait_for_members(desk, STATIONS);
    check_histories(desk);
    leave(&desk);
    stations[1].input = -1;
    for (i = 0; i < STATIONS; i++) {
        stop_station(&stations[i]);
    }
    printf("%d sensors kept %d readings while one of %d processes left\n", (int)SENSORS, SENSORS * ROUNDS, (int)STATIONS);
    return EXIT_SUCCESS;
}
