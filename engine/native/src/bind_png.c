#include <stdbool.h>

#include "bindings.h"
#include "png.h"

#define MAX_IMAGE_BYTES ((Py_ssize_t)1 << 30) /* filtered: a chunk's length has 31 bits */

static bool set_image(PngImage *image, Py_ssize_t rows, Py_ssize_t row_bytes, Py_ssize_t pixel_bytes) {
    if (rows < 1 || pixel_bytes < 1 || pixel_bytes > MAX_PIXEL_BYTES || row_bytes < pixel_bytes ||
        row_bytes >= MAX_IMAGE_BYTES || row_bytes % pixel_bytes != 0 ||
        rows > MAX_IMAGE_BYTES / (row_bytes + 1)) {
        PyErr_Format(PyExc_ValueError, "an image of %zd rows of %zd bytes with %zd bytes per pixel", rows, row_bytes,
                     pixel_bytes);
        return false;
    }
    *image = (PngImage){(size_t)rows, (size_t)row_bytes, (size_t)pixel_bytes, NULL};
    return true;
}

static bool has_size(const Py_buffer *buffer, const char *name, Py_ssize_t due) {
    if (buffer->len >= due) return true;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes, %zd are due", name, buffer->len, due);
    return false;
}

PyObject *png_bound_of(PyObject *self, PyObject *args) {
    (void)self;
    Py_ssize_t rows, row_bytes;
    PngImage image;
    if (!PyArg_ParseTuple(args, "nn", &rows, &row_bytes) || !set_image(&image, rows, row_bytes, 1)) return NULL;
    return PyLong_FromSize_t(png_bound(&image));
}

static PyObject *encode(const Py_buffer *pixels, Py_ssize_t count, const PngImage *image, const ReadyCodes *codes,
                        Py_buffer *out, Py_buffer *offsets) {
    Py_ssize_t due = (Py_ssize_t)(image->rows * image->row_bytes);
    if (count < 0 || (count > 0 && due > PY_SSIZE_T_MAX / count) ||
        (count > 0 && (Py_ssize_t)png_bound(image) > PY_SSIZE_T_MAX / count)) {
        PyErr_Format(PyExc_ValueError, "%zd images", count);
        return NULL;
    }
    if (!has_size(pixels, "pixels", due * count) || !has_size(out, "out", (Py_ssize_t)png_bound(image) * count) ||
        !has_size(offsets, "offsets", 8 * (count + 1)))
        return NULL;
    uint8_t *scratch = PyMem_Malloc(png_filtered(image));
    if (scratch == NULL) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
    png_encode(pixels->buf, (size_t)count, image, codes, scratch, out->buf, offsets->buf);
    Py_END_ALLOW_THREADS;
    PyMem_Free(scratch);
    Py_RETURN_NONE;
}

PyObject *encode_png(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer pixels, head, entries, heads, head_bits, out, offsets;
    Py_ssize_t count, rows, row_bytes, pixel_bytes;
    if (!PyArg_ParseTuple(args, "y*nnnny*y*y*y*w*w*", &pixels, &count, &rows, &row_bytes, &pixel_bytes, &head, &entries,
                          &heads, &head_bits, &out, &offsets))
        return NULL;
    PyObject *result = NULL;
    PngImage image;
    if (set_image(&image, rows, row_bytes, pixel_bytes) && has_size(&head, "head", PNG_HEAD_BYTES) &&
        has_size(&entries, "entries", READY_CODES * SYMBOLS * 4) &&
        has_size(&heads, "heads", READY_CODES * HEAD_BYTES) && has_size(&head_bits, "head_bits", READY_CODES * 4) &&
        is_aligned(&entries, "entries", 4) && is_aligned(&head_bits, "head_bits", 4) &&
        is_aligned(&offsets, "offsets", 8)) {
        ReadyCodes codes = {entries.buf, heads.buf, head_bits.buf};
        image.head = head.buf;
        if (!valid_codes(&codes))
            PyErr_SetString(PyExc_ValueError, "a symbol or a head of the ready codes is too long");
        else
            result = encode(&pixels, count, &image, &codes, &out, &offsets);
    }
    PyBuffer_Release(&pixels), PyBuffer_Release(&head), PyBuffer_Release(&entries), PyBuffer_Release(&heads);
    PyBuffer_Release(&head_bits), PyBuffer_Release(&out), PyBuffer_Release(&offsets);
    return result;
}

PyObject *unfilter_png(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer filtered, pixels;
    Py_ssize_t rows, row_bytes, pixel_bytes;
    int64_t refused = -1;
    if (!PyArg_ParseTuple(args, "y*nnnw*", &filtered, &rows, &row_bytes, &pixel_bytes, &pixels)) return NULL;
    PngImage image;
    bool valid = set_image(&image, rows, row_bytes, pixel_bytes) &&
                 has_size(&filtered, "filtered", rows * (1 + row_bytes)) && has_size(&pixels, "pixels", rows * row_bytes);
    if (valid) {
        Py_BEGIN_ALLOW_THREADS;
        refused = png_unfilter(filtered.buf, &image, pixels.buf);
        Py_END_ALLOW_THREADS;
        if (refused >= 0)
            PyErr_Format(PyExc_ValueError, "row %lld has filter %d, and PNG defines 0 to 4", (long long)refused,
                         (int)((const uint8_t *)filtered.buf)[refused * (1 + row_bytes)]);
    }
    PyBuffer_Release(&filtered), PyBuffer_Release(&pixels);
    if (!valid || refused >= 0) return NULL;
    Py_RETURN_NONE;
}
