/* The Python module gen_engine.engine.native._core: arguments are checked here, and the lock is released here.
 *
 * It uses the limited API of CPython 3.11, so one build serves every later version.
 */
#include "bindings.h"
#include "checksums.h"
#include "core.h"
#include "cpu.h"

static PyObject *set_simd(PyObject *self, PyObject *enabled) {
    (void)self;
    int on = PyObject_IsTrue(enabled);
    if (on < 0) return NULL;
    detect_cpu(on);
    Py_RETURN_NONE;
}

static PyObject *features(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyObject *names = PyList_New(0);
    if (names == NULL) return NULL;
    const struct { bool present; const char *name; } known[] = {
        {cpu.avx2, "avx2"}, {cpu.sse42, "sse4.2"}, {cpu.pclmul, "pclmul"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!known[i].present) continue;
        PyObject *name = PyUnicode_FromString(known[i].name);
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_XDECREF(name);
            Py_DECREF(names);
            return NULL;
        }
        Py_DECREF(name);
    }
    return names;
}

int is_aligned(const Py_buffer *buffer, const char *name, size_t alignment) {
    if ((uintptr_t)buffer->buf % alignment == 0) return 1;
    PyErr_Format(PyExc_ValueError, "%s is not aligned to %zu bytes", name, alignment);
    return 0;
}

static PyMethodDef methods[] = {
    {"features", features, METH_NOARGS, "Return the names of the processor's features that are used."},
    {"lock_wait", lock_wait, METH_O,
     "Sleep without the interpreter's lock, and return how long it took to take it back; both in nanoseconds."},
    {"set_simd", set_simd, METH_O, "Use the processor's features, or only what every processor has; for tests."},
    {"crc32c", crc32c, METH_VARARGS, "Return the CRC-32C of bytes."},
    {"csv_lines", csv_lines, METH_VARARGS, "Return a batch's lines of CSV."},
    {"draw_latents", py_draw_latents, METH_VARARGS, "Draw the latents of consecutive samples."},
    {"encode_png", encode_png, METH_VARARGS, "Write the PNG files of a batch of images."},
    {"philox_words", py_philox_words, METH_VARARGS, "Return words of Philox4x64-10."},
    {"png_bound", png_bound_of, METH_VARARGS, "Return the most bytes that the PNG file of an image takes."},
    {"mds_records", mds_records, METH_VARARGS, "Return a batch's samples as an MDS shard has them."},
    {"tar_records", tar_records, METH_VARARGS, "Return a batch's members of a tar."},
    {"tfrecord_records", tfrecord_records, METH_VARARGS, "Return a batch's TFRecords of Examples."},
    {"unfilter_png", unfilter_png, METH_VARARGS, "Undo the row filters of a PNG image."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module) {
    detect_cpu(true);
    init_checksums();
    return PyModule_AddStringConstant(module, "BUILD", GEN_ENGINE_BUILD);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The compiled core of the sampling engine.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
