/* Records of a batch as one bytes object. A column is a tuple of its kind and
 *   ("ragged", data, offsets)  offsets int64 [B + 1], ascending, within the data
 *   ("rows", data, width)      B times `width` bytes
 *   ("same", data)
 *   ("decimal", numbers), ("varint", numbers)   int64 [B]; decimal ones at least 0
 *   ("signed", numbers)        int64 [B]
 *   ("named", data, offsets, ids)   offsets int64 [K + 1] as of ragged ones, ids int64 [B] below K
 */
#include <stdbool.h>
#include <string.h>

#include "bindings.h"
#include "checksums.h"
#include "records.h"

/* Of one batch. Sums of sizes within these cannot overflow. */
#define MAX_SAMPLES ((Py_ssize_t)1 << 24)
#define MAX_WIDTH ((Py_ssize_t)1 << 31)
#define MAX_TOTAL ((size_t)1 << 40)

/* What a call reads, with the buffers that keep it alive. */
typedef struct {
    size_t samples;
    size_t used, room; /* of buffers */
    Py_buffer *buffers;
} Arguments;

static bool begin(Arguments *arguments, Py_ssize_t samples, Py_ssize_t items) {
    *arguments = (Arguments){(size_t)samples, 0, 4 * (size_t)items + 4, NULL};
    if (samples < 0 || samples > MAX_SAMPLES) {
        PyErr_Format(PyExc_ValueError, "%zd samples: a batch has at most %zd", samples, MAX_SAMPLES);
        return false;
    }
    arguments->buffers = PyMem_Calloc(arguments->room, sizeof(Py_buffer));
    if (arguments->buffers == NULL) PyErr_NoMemory();
    return arguments->buffers != NULL;
}

static void release(Arguments *arguments) {
    for (size_t i = 0; i < arguments->used; i++) PyBuffer_Release(&arguments->buffers[i]);
    PyMem_Free(arguments->buffers);
}

static const Py_buffer *buffer_of(Arguments *arguments, PyObject *object) {
    Py_buffer *buffer = &arguments->buffers[arguments->used];
    if (PyObject_GetBuffer(object, buffer, PyBUF_SIMPLE) < 0) return NULL;
    arguments->used++;
    return buffer;
}

static bool has_bytes(const Py_buffer *buffer, size_t count, size_t width, const char *what) {
    if (width == 0 || count <= (size_t)buffer->len / width) return true;
    PyErr_Format(PyExc_ValueError, "%s: %zd bytes, and %zu times %zu are due", what, buffer->len, count, width);
    return false;
}

/* Numbers are read in place: NumPy aligns its arrays, a slice of bytes may not be. */
static const int64_t *numbers_of(Arguments *arguments, PyObject *object, size_t count, const char *what) {
    const Py_buffer *buffer = buffer_of(arguments, object);
    if (buffer == NULL || !has_bytes(buffer, count, sizeof(int64_t), what)) return NULL;
    return is_aligned(buffer, what, sizeof(int64_t)) ? buffer->buf : NULL;
}

/* `count` values, one after the other in the data. */
static bool set_pieces(Arguments *arguments, PyObject *data, PyObject *offsets, size_t count, Column *column) {
    const Py_buffer *values = buffer_of(arguments, data);
    if (values == NULL) return false;
    column->offsets = numbers_of(arguments, offsets, count + 1, "offsets");
    if (column->offsets == NULL) return false;
    for (size_t i = 0; i <= count; i++) {
        int64_t before = i == 0 ? 0 : column->offsets[i - 1];
        if (column->offsets[i] < before || column->offsets[i] > (int64_t)values->len) {
            PyErr_Format(PyExc_ValueError, "offset %zu is %lld after %lld, in %zd bytes", i,
                         (long long)column->offsets[i], (long long)before, values->len);
            return false;
        }
    }
    column->data = values->buf;
    return true;
}

static bool set_ragged(Arguments *arguments, PyObject *data, PyObject *offsets, Column *column) {
    column->kind = RAGGED;
    return set_pieces(arguments, data, offsets, arguments->samples, column);
}

static bool set_named(Arguments *arguments, PyObject *data, PyObject *offsets, PyObject *ids, Column *column) {
    column->kind = NAMED;
    Py_buffer stated;
    if (PyObject_GetBuffer(offsets, &stated, PyBUF_SIMPLE) < 0) return false;
    int64_t names = (int64_t)((size_t)stated.len / sizeof(int64_t)) - 1;
    PyBuffer_Release(&stated);
    if (names < 0) {
        PyErr_SetString(PyExc_ValueError, "offsets: there is none");
        return false;
    }
    if (!set_pieces(arguments, data, offsets, (size_t)names, column)) return false;
    column->ids = numbers_of(arguments, ids, arguments->samples, "ids");
    if (column->ids == NULL) return false;
    for (size_t i = 0; i < arguments->samples; i++) {
        if (column->ids[i] >= names) {
            PyErr_Format(PyExc_ValueError, "id %zu is %lld, of %lld names", i, (long long)column->ids[i],
                         (long long)names);
            return false;
        }
    }
    return true;
}

static bool set_rows(Arguments *arguments, PyObject *data, PyObject *width, Column *column) {
    Py_ssize_t bytes = PyLong_AsSsize_t(width);
    if (bytes < 0 || bytes > MAX_WIDTH) {
        if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "rows of %zd bytes", bytes);
        return false;
    }
    const Py_buffer *values = buffer_of(arguments, data);
    if (values == NULL || !has_bytes(values, arguments->samples, (size_t)bytes, "rows")) return false;
    column->kind = ROWS, column->data = values->buf, column->width = (size_t)bytes;
    return true;
}

static bool set_same(Arguments *arguments, PyObject *data, Column *column) {
    const Py_buffer *values = buffer_of(arguments, data);
    if (values == NULL) return false;
    if (values->len > MAX_WIDTH) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of every sample", values->len);
        return false;
    }
    column->kind = SAME, column->data = values->buf, column->width = (size_t)values->len;
    return true;
}

static bool set_numbers(Arguments *arguments, PyObject *numbers, ColumnKind kind, Column *column) {
    column->kind = kind;
    column->offsets = numbers_of(arguments, numbers, arguments->samples, "numbers");
    if (column->offsets == NULL) return false;
    for (size_t i = 0; kind == DECIMAL && i < arguments->samples; i++) {
        if (column->offsets[i] < 0) {
            PyErr_Format(PyExc_ValueError, "number %zu is %lld", i, (long long)column->offsets[i]);
            return false;
        }
    }
    return true;
}

static bool is_tuple(PyObject *object) {
    if (PyTuple_Check(object)) return true;
    PyErr_SetString(PyExc_TypeError, "a tuple is due");
    return false;
}

static bool set_column(Arguments *arguments, PyObject *tuple, Column *column) {
    const char *kind;
    PyObject *first, *second = NULL, *third = NULL;
    if (!is_tuple(tuple)) return false;
    if (!PyArg_ParseTuple(tuple, "sO|OO", &kind, &first, &second, &third)) return false;
    if (third != NULL) {
        if (strcmp(kind, "named") == 0) return set_named(arguments, first, second, third, column);
    } else if (second != NULL) {
        if (strcmp(kind, "ragged") == 0) return set_ragged(arguments, first, second, column);
        if (strcmp(kind, "rows") == 0) return set_rows(arguments, first, second, column);
    } else {
        if (strcmp(kind, "same") == 0) return set_same(arguments, first, column);
        if (strcmp(kind, "decimal") == 0) return set_numbers(arguments, first, DECIMAL, column);
        if (strcmp(kind, "varint") == 0) return set_numbers(arguments, first, VARINT, column);
        if (strcmp(kind, "signed") == 0) return set_numbers(arguments, first, SIGNED, column);
    }
    PyErr_Format(PyExc_ValueError, "a column of kind %s with %d values", kind,
                 second == NULL ? 1 : third == NULL ? 2 : 3);
    return false;
}

/* Return an array of `size` bytes per item of a list, or NULL with an error set. */
static void *items_for(PyObject *list, size_t size) {
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "a list of columns is due");
        return NULL;
    }
    void *items = PyMem_Calloc((size_t)PyList_Size(list) + 1, size);
    if (items == NULL) PyErr_NoMemory();
    return items;
}

static PyObject *bytes_of(size_t total) {
    if (total > MAX_TOTAL) {
        PyErr_Format(PyExc_ValueError, "a batch of %zu bytes", total);
        return NULL;
    }
    return PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
}

/* ---- tar ----------------------------------------------------------------------------------------------------- */

static bool set_members(Arguments *arguments, PyObject *list, TarMember *members) {
    for (Py_ssize_t m = 0; m < PyList_Size(list); m++) {
        PyObject *header, *column, *member = PyList_GetItem(list, m);
        if (!is_tuple(member) || !PyArg_ParseTuple(member, "OO", &header, &column)) return false;
        const Py_buffer *block = buffer_of(arguments, header);
        if (block == NULL || !has_bytes(block, 1, TAR_BLOCK, "a header")) return false;
        members[m].header = block->buf;
        if (!set_column(arguments, column, &members[m].column)) return false;
    }
    return true;
}

PyObject *tar_records(PyObject *self, PyObject *args) {
    (void)self;
    Py_ssize_t first, samples;
    PyObject *list, *made = NULL;
    Arguments arguments;
    if (!PyArg_ParseTuple(args, "nnO", &first, &samples, &list)) return NULL;
    if (first < 0 || samples < 0 || first > MAX_INDEX - samples)
        return PyErr_Format(PyExc_ValueError, "samples %zd and %zd more: names have twelve digits", first, samples);
    TarMember *members = items_for(list, sizeof *members);
    if (members == NULL) return NULL;
    size_t count = (size_t)PyList_Size(list);
    if (begin(&arguments, samples, (Py_ssize_t)count)) {
        if (set_members(&arguments, list, members))
            made = bytes_of(tar_size(members, count, arguments.samples));
        if (made != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(made);
            Py_BEGIN_ALLOW_THREADS;
            tar_write(members, count, first, arguments.samples, out);
            Py_END_ALLOW_THREADS;
        }
        release(&arguments);
    }
    PyMem_Free(members);
    return made;
}

/* ---- MDS ----------------------------------------------------------------------------------------------------- */

static bool set_columns(Arguments *arguments, PyObject *list, Column *columns) {
    for (Py_ssize_t c = 0; c < PyList_Size(list); c++) {
        if (!set_column(arguments, PyList_GetItem(list, c), &columns[c])) return false;
        if (columns[c].kind != RAGGED && columns[c].kind != ROWS && columns[c].kind != SAME) {
            PyErr_SetString(PyExc_ValueError, "MDS has no numbers as text or varints, and no names");
            return false;
        }
        for (size_t i = 0; columns[c].kind == RAGGED && i < arguments->samples; i++) {
            if (columns[c].offsets[i + 1] - columns[c].offsets[i] > (int64_t)UINT32_MAX) {
                PyErr_Format(PyExc_ValueError, "a value of %lld bytes, and MDS has 32 bits for its size",
                             (long long)(columns[c].offsets[i + 1] - columns[c].offsets[i]));
                return false;
            }
        }
    }
    return true;
}

PyObject *mds_records(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer sizes;
    PyObject *list, *made = NULL;
    Py_ssize_t samples;
    Arguments arguments;
    if (!PyArg_ParseTuple(args, "nOw*", &samples, &list, &sizes)) return NULL;
    Column *columns = items_for(list, sizeof *columns);
    if (columns != NULL && begin(&arguments, samples, PyList_Size(list))) {
        size_t count = (size_t)PyList_Size(list);
        if (has_bytes(&sizes, arguments.samples, sizeof(int64_t), "sizes") &&
            is_aligned(&sizes, "sizes", sizeof(int64_t)) && set_columns(&arguments, list, columns))
            made = bytes_of(mds_size(columns, count, arguments.samples));
        if (made != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(made);
            Py_BEGIN_ALLOW_THREADS;
            mds_write(columns, count, arguments.samples, out, sizes.buf);
            Py_END_ALLOW_THREADS;
        }
        release(&arguments);
    }
    PyMem_Free(columns);
    PyBuffer_Release(&sizes);
    return made;
}

/* ---- TFRecord ------------------------------------------------------------------------------------------------ */

static bool set_features(Arguments *arguments, PyObject *list, Feature *features) {
    for (Py_ssize_t f = 0; f < PyList_Size(list); f++) {
        PyObject *name, *column, *feature = PyList_GetItem(list, f);
        if (!is_tuple(feature) || !PyArg_ParseTuple(feature, "OiO", &name, &features[f].list, &column)) return false;
        if (name != Py_None) {
            const Py_buffer *text = buffer_of(arguments, name);
            if (text == NULL) return false;
            features[f].name = text->buf, features[f].name_size = (size_t)text->len;
            if (features[f].list < 1 || features[f].list > 3) {
                PyErr_Format(PyExc_ValueError, "a list of kind %d: 1, 2 and 3 are known", features[f].list);
                return false;
            }
        }
        if (!set_column(arguments, column, &features[f].column)) return false;
    }
    return true;
}

PyObject *tfrecord_records(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *list, *made = NULL;
    Py_ssize_t samples;
    Arguments arguments;
    if (!PyArg_ParseTuple(args, "nO", &samples, &list)) return NULL;
    Feature *features = items_for(list, sizeof *features);
    if (features == NULL) return NULL;
    size_t count = (size_t)PyList_Size(list);
    if (begin(&arguments, samples, (Py_ssize_t)count)) {
        if (set_features(&arguments, list, features))
            made = bytes_of(tfrecord_size(features, count, arguments.samples));
        if (made != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(made);
            Py_BEGIN_ALLOW_THREADS;
            tfrecord_write(features, count, arguments.samples, out);
            Py_END_ALLOW_THREADS;
        }
        release(&arguments);
    }
    PyMem_Free(features);
    return made;
}

/* ---- CSV ----------------------------------------------------------------------------------------------------- */

PyObject *csv_lines(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *list, *made = NULL;
    Py_ssize_t samples;
    Arguments arguments;
    if (!PyArg_ParseTuple(args, "nO", &samples, &list)) return NULL;
    Column *columns = items_for(list, sizeof *columns);
    if (columns == NULL) return NULL;
    size_t count = (size_t)PyList_Size(list), set = 0;
    if (count == 0) PyErr_SetString(PyExc_ValueError, "a line of no columns");
    if (count > 0 && begin(&arguments, samples, (Py_ssize_t)count)) {
        while (set < count && set_column(&arguments, PyList_GetItem(list, (Py_ssize_t)set), &columns[set])) set++;
        if (set == count) made = bytes_of(csv_size(columns, count, arguments.samples));
        if (made != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(made);
            Py_BEGIN_ALLOW_THREADS;
            csv_write(columns, count, arguments.samples, out);
            Py_END_ALLOW_THREADS;
        }
        release(&arguments);
    }
    PyMem_Free(columns);
    return made;
}

PyObject *crc32c(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer data;
    uint32_t crc;
    if (!PyArg_ParseTuple(args, "y*", &data)) return NULL;
    Py_BEGIN_ALLOW_THREADS;
    crc = crc32c_update(0, data.buf, (size_t)data.len);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(crc);
}
