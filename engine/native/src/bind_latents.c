#include <stdbool.h>

#include "bindings.h"
#include "latents.h"

/* An integer, or one of NumPy's. */
static bool is_uint64(PyObject *object, const char *name, uint64_t *value) {
    PyObject *number = PyNumber_Index(object);
    if (number == NULL) return false;
    *value = PyLong_AsUnsignedLongLong(number);
    bool valid = *value != (uint64_t)-1 || !PyErr_Occurred();
    if (!valid && PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(PyExc_ValueError, "%s %S: it must be between 0 and 2**64 - 1", name, number);
    Py_DECREF(number);
    return valid;
}

/* What a buffer tells of its dtype without its format. */
static bool has_items(const Py_buffer *buffer, const char *name, size_t size) {
    if (buffer->itemsize == (Py_ssize_t)size && (uintptr_t)buffer->buf % size == 0) return true;
    PyErr_Format(PyExc_ValueError, "%s has items of %zd bytes: %zu are due, aligned to as many", name, buffer->itemsize,
                 size);
    return false;
}

PyObject *py_philox_words(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *seed_number, *stream_number, *first_number;
    Py_buffer out;
    uint64_t seed, stream, first;
    if (!PyArg_ParseTuple(args, "OOOw*", &seed_number, &stream_number, &first_number, &out)) return NULL;
    size_t blocks = (size_t)out.len / (BLOCK_WORDS * sizeof(uint64_t));
    bool valid = is_uint64(seed_number, "seed", &seed) && is_uint64(stream_number, "stream", &stream) &&
                 is_uint64(first_number, "block", &first) && has_items(&out, "out", sizeof(uint64_t));
    if (valid && (size_t)out.len != blocks * BLOCK_WORDS * sizeof(uint64_t)) {
        PyErr_Format(PyExc_ValueError, "out has %zd bytes: blocks of 32 are due", out.len);
        valid = false;
    }
    if (valid && blocks > 0 && first > UINT64_MAX - (blocks - 1)) {
        PyErr_Format(PyExc_ValueError, "%zu blocks from %S on: they must be below 2**64", blocks, first_number);
        valid = false;
    }
    if (valid) {
        Py_BEGIN_ALLOW_THREADS;
        philox_words(seed, stream, first, blocks, out.buf);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&out);
    if (!valid) return NULL;
    Py_RETURN_NONE;
}

static bool in_range(uint64_t first, Py_ssize_t samples, Py_ssize_t dim, const Py_buffer *lines, const Py_buffer *out) {
    if (dim < 1 || samples < 0 || samples > PY_SSIZE_T_MAX / 4 / dim) {
        PyErr_Format(PyExc_ValueError, "%zd samples of %zd latents", samples, dim);
        return false;
    }
    uint64_t blocks = ((uint64_t)dim + BLOCK_LATENTS - 1) / BLOCK_LATENTS;
    if (first > UINT64_MAX / blocks - (uint64_t)samples) {
        PyErr_SetString(PyExc_ValueError, "samples whose blocks are 2**64 and above");
        return false;
    }
    if (lines->len != (Py_ssize_t)(SEGMENTS * 2 * sizeof(float)) || out->len < samples * dim * (Py_ssize_t)sizeof(float)) {
        PyErr_Format(PyExc_ValueError, "lines has %zd bytes and out has %zd: %zu and %zd are due", lines->len, out->len,
                     SEGMENTS * 2 * sizeof(float), samples * dim * (Py_ssize_t)sizeof(float));
        return false;
    }
    return has_items(lines, "lines", sizeof(float)) && has_items(out, "out", sizeof(float));
}

PyObject *py_draw_latents(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *seed_number, *stream_number, *first_number;
    Py_ssize_t samples, dim;
    Py_buffer lines, out;
    uint64_t seed, stream, first;
    if (!PyArg_ParseTuple(args, "OOOnny*w*", &seed_number, &stream_number, &first_number, &samples, &dim, &lines, &out))
        return NULL;
    bool valid = is_uint64(seed_number, "seed", &seed) && is_uint64(stream_number, "stream", &stream) &&
                 is_uint64(first_number, "sample", &first) && in_range(first, samples, dim, &lines, &out);
    if (valid) {
        Py_BEGIN_ALLOW_THREADS;
        draw_latents(seed, stream, first, (size_t)samples, (size_t)dim, lines.buf, out.buf);
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&lines), PyBuffer_Release(&out);
    if (!valid) return NULL;
    Py_RETURN_NONE;
}
