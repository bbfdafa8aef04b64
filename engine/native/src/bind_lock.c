/* How long the interpreter's lock takes. */
#include "bindings.h"

#include <time.h>

/* Timed here because Python cannot see the moment before it waits for the lock: a sleep that it times ends only once
 * the lock was taken back, some time after the processor was. */
PyObject *lock_wait(PyObject *self, PyObject *argument) {
    (void)self;
    long long pause_ns = PyLong_AsLongLong(argument);
    if (pause_ns < 0) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a pause is at least 0 ns");
        return NULL;
    }
    struct timespec pause = {.tv_sec = (time_t)(pause_ns / 1000000000), .tv_nsec = (long)(pause_ns % 1000000000)};
    struct timespec before, after;
    PyThreadState *thread = PyEval_SaveThread();
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &before);
    PyEval_RestoreThread(thread);
    clock_gettime(CLOCK_MONOTONIC, &after);
    return PyLong_FromLongLong((after.tv_sec - before.tv_sec) * 1000000000LL + (after.tv_nsec - before.tv_nsec));
}
