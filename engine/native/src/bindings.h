/* Python's side of the compiled core: each file bind_*.c checks the arguments of some functions, and releases the lock. */
#ifndef GEN_ENGINE_BINDINGS_H
#define GEN_ENGINE_BINDINGS_H

#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Whether a buffer's numbers can be read in place; otherwise a ValueError is set. */
int is_aligned(const Py_buffer *buffer, const char *name, size_t alignment);

/* bind_latents.c */
PyObject *py_draw_latents(PyObject *self, PyObject *args);
PyObject *py_philox_words(PyObject *self, PyObject *args);
/* bind_lock.c */
PyObject *lock_wait(PyObject *self, PyObject *argument);

/* bind_png.c */
PyObject *encode_png(PyObject *self, PyObject *args);
PyObject *png_bound_of(PyObject *self, PyObject *args);
PyObject *unfilter_png(PyObject *self, PyObject *args);

/* bind_records.c */
PyObject *crc32c(PyObject *self, PyObject *args);
PyObject *csv_lines(PyObject *self, PyObject *args);
PyObject *mds_records(PyObject *self, PyObject *args);
PyObject *tar_records(PyObject *self, PyObject *args);
PyObject *tfrecord_records(PyObject *self, PyObject *args);

#endif
