#include "agent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

void write_line(json_t *object) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text == NULL) {
        fprintf(stderr, "a line has no JSON form\n");
        return;
    }
    pthread_mutex_lock(&lock);
    printf("%s\n", text);
    fflush(stdout);
    pthread_mutex_unlock(&lock);
    free(text);
}
