/*
 * The short door: the calls of a cache that are over in less time than it takes
 * to give the GIL away and get it back. A CPython extension in the limited API;
 * it does not contain the engine but is given its table of functions.
 *
 * Locking: every call begins and ends with the GIL. It is released in between
 * only for LARGE_BYTES or more, and by a writer that must wait for a lock.
 *
 * Law: a status that is not an answer becomes an exception in one place, the
 * Python function raise_status(status, key_size, value_size) given at creation.
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

#include <math.h>
#include <string.h>

#include "door_table.h"
#include "plain_codec.h"

/* Copying this much takes longer than giving the GIL away and getting it back. */
#define LARGE_BYTES ((size_t)64 * 1024)

/* Beyond this many milliseconds (285,000 years) a time to live has no end. */
#define TTL_MAX_MS 9.0e15

struct door {
    PyObject_HEAD const struct pmc_door_table *engine;
    struct pmc_handle *handle;
    PyObject *owner;        /* of the handle's memory */
    PyObject *raise_status; /* (status, key_size, value_size), always raises */
    PyObject *refuse;       /* (argument's name, what was given), always raises */
    bool closed;
};

struct span {
    const char *data;
    size_t size;
};

/* ---- errors ---- */

/* NULL with the exception for a status, or with the one already set. */
static PyObject *
fail(const struct door *door, enum pmc_status status, size_t key_size,
     size_t value_size)
{
    if (PyErr_Occurred())
        return NULL;
    PyObject *nothing =
        PyObject_CallFunction(door->raise_status, "inn", (int)status,
                              (Py_ssize_t)key_size, (Py_ssize_t)value_size);
    if (nothing != NULL) {
        Py_DECREF(nothing);
        PyErr_SetString(PyExc_SystemError, "raise_status() did not raise");
    }
    return NULL;
}

/* False with the exception that tells why an argument is wrong. */
static bool
refuse(const struct door *door, const char *name, PyObject *given)
{
    PyErr_Clear();
    PyObject *nothing = PyObject_CallFunction(door->refuse, "sO", name, given);
    if (nothing != NULL) {
        Py_DECREF(nothing);
        PyErr_SetString(PyExc_SystemError, "refuse() did not raise");
    }
    return false;
}

/* True, and door_leave() must follow; or false with an exception set. */
static bool
door_enter(const struct door *door)
{
    if (!door->closed && handle_enter(door->handle))
        return true;
    fail(door, PMC_ECLOSED, 0, 0);
    return false;
}

static void
door_leave(const struct door *door)
{
    handle_leave(door->handle);
}

/* ---- arguments ---- */

static bool
read_count(const char *method, Py_ssize_t given, Py_ssize_t expected)
{
    if (given == expected)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, got %zd", method, expected,
                 given);
    return false;
}

/* A key is bytes, or str as UTF-8. The span lives as long as the object. */
static bool
read_key(const struct door *door, PyObject *key, struct span *span_out)
{
    Py_ssize_t size = 0;
    if (PyBytes_Check(key)) {
        span_out->data = PyBytes_AsString(key);
        span_out->size = (size_t)PyBytes_Size(key);
        return true;
    }
    if (PyUnicode_Check(key)) {
        span_out->data = PyUnicode_AsUTF8AndSize(key, &size);
        span_out->size = (size_t)size;
        if (span_out->data != NULL)
            return true;
    }
    return refuse(door, "key", key);
}

/*
 * A value is bytes, or anything with a buffer, which is then copied because the
 * limited API has no buffers. *keep_out is a new reference that keeps the span.
 */
static bool
read_value(const struct door *door, PyObject *value, struct span *span_out,
           PyObject **keep_out)
{
    PyObject *bytes = NULL;
    if (PyBytes_Check(value)) {
        bytes = value;
        Py_INCREF(bytes);
    } else {
        PyObject *view = PyMemoryView_FromObject(value);
        if (view == NULL)
            return refuse(door, "value", value);
        bytes = PyBytes_FromObject(view);
        Py_DECREF(view);
        if (bytes == NULL)
            return false;
    }
    span_out->data = PyBytes_AsString(bytes);
    span_out->size = (size_t)PyBytes_Size(bytes);
    *keep_out = bytes;
    return true;
}

/* Seconds to milliseconds, rounded up: none is 0 that was not. */
static bool
read_ttl(const struct door *door, PyObject *seconds, int64_t *ttl_ms_out)
{
    *ttl_ms_out = PMC_TTL_NONE;
    if (seconds == Py_None)
        return true;
    double ms = 0;
    if (PyFloat_Check(seconds)) {
        ms = ceil(PyFloat_AsDouble(seconds) * 1000.0 - 1e-6);
    } else if (PyLong_Check(seconds) && !PyBool_Check(seconds)) {
        int overflow = 0;
        long long whole = PyLong_AsLongLongAndOverflow(seconds, &overflow);
        ms = overflow != 0 ? overflow * TTL_MAX_MS : (double)whole * 1000.0;
    } else {
        return refuse(door, "ttl_seconds", seconds);
    }
    if (!isfinite(ms))
        return refuse(door, "ttl_seconds", seconds);
    if (ms <= 0)
        *ttl_ms_out = 0;
    else if (ms < TTL_MAX_MS)
        *ttl_ms_out = (int64_t)ms;
    return true;
}

static bool
read_int64(const struct door *door, const char *name, PyObject *number,
           int64_t *number_out)
{
    if (!PyLong_Check(number) || PyBool_Check(number))
        return refuse(door, name, number);
    int overflow = 0;
    long long wide = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow != 0)
        return refuse(door, name, number);
    *number_out = wide;
    return true;
}

static bool
read_tag(const struct door *door, PyObject *tag, uint8_t *tag_out)
{
    if (!PyLong_Check(tag) || PyBool_Check(tag))
        return refuse(door, "tag", tag);
    int overflow = 0;
    long long wide = PyLong_AsLongLongAndOverflow(tag, &overflow);
    if (overflow != 0 || wide < 0 || wide > UINT8_MAX)
        return refuse(door, "tag", tag);
    *tag_out = (uint8_t)wide;
    return true;
}

/* only_if is None, "absent", "present", or a generation that info() gave. */
static bool
read_condition(const struct door *door, PyObject *only_if,
               struct pmc_put_options *options)
{
    if (only_if == Py_None) {
        options->condition = PMC_ALWAYS;
    } else if (PyUnicode_Check(only_if) &&
               PyUnicode_CompareWithASCIIString(only_if, "absent") == 0) {
        options->condition = PMC_IF_ABSENT;
    } else if (PyUnicode_Check(only_if) &&
               PyUnicode_CompareWithASCIIString(only_if, "present") == 0) {
        options->condition = PMC_IF_PRESENT;
    } else if (PyLong_Check(only_if) && !PyBool_Check(only_if)) {
        options->condition = PMC_IF_GENERATION;
        options->generation = PyLong_AsUnsignedLongLong(only_if);
        if (PyErr_Occurred())
            return refuse(door, "only_if", only_if);
    } else {
        return refuse(door, "only_if", only_if);
    }
    return true;
}

/* ---- reading ---- */

/* Where a read puts its value. */
struct room {
    PyObject *bytes;
    PyThreadState *released; /* not NULL: the GIL is released */
};

static void
room_take_gil(struct room *room)
{
    if (room->released != NULL) {
        PyEval_RestoreThread(room->released);
        room->released = NULL;
    }
}

/* Make *bytes_slot a bytes object of this size, to be filled in place. */
static void *
room_fit(struct room *room, PyObject **bytes_slot, size_t value_size)
{
    room_take_gil(room);
    Py_CLEAR(*bytes_slot);
    if (PyErr_Occurred()) /* an earlier item of the batch had no memory */
        return NULL;
    *bytes_slot = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)value_size);
    if (*bytes_slot == NULL)
        return NULL;
    char *data = PyBytes_AsString(*bytes_slot);
    if (value_size >= LARGE_BYTES)
        room->released = PyEval_SaveThread();
    return data;
}

static void *
room_reserve(void *context, size_t value_size)
{
    struct room *room = context;
    return room_fit(room, &room->bytes, value_size);
}

/* True with a new reference, or NULL on a miss; false with an exception. */
static bool
read_entry(const struct door *door, PyObject *key, struct pmc_found *found_out,
           PyObject **bytes_out)
{
    struct span span;
    struct room room = {NULL, NULL};
    if (!read_key(door, key, &span) || !door_enter(door))
        return false;
    enum pmc_status status = door->engine->get_reserve(
        door->handle->cache, span.data, span.size, room_reserve, &room, found_out);
    room_take_gil(&room);
    door_leave(door);
    if (status == PMC_OK) {
        *bytes_out = room.bytes;
        return true;
    }
    Py_CLEAR(room.bytes);
    *bytes_out = NULL;
    if (status == PMC_MISS)
        return true;
    fail(door, status, span.size, 0);
    return false;
}

PyDoc_STRVAR(get_doc, "get(key, default, /)\n--\n\n"
                      "The value of key as bytes, or default.");

static PyObject *
door_get(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct pmc_found found;
    PyObject *bytes = NULL;
    if (!read_count("get", count, 2) ||
        !read_entry((struct door *)self, args[0], &found, &bytes))
        return NULL;
    if (bytes != NULL)
        return bytes;
    Py_INCREF(args[1]);
    return args[1];
}

/* A new (bytes, tag). Takes the reference to bytes, also on failure. */
static PyObject *
tagged(PyObject *bytes, uint8_t tag)
{
    PyObject *number = PyLong_FromLong(tag);
    PyObject *pair = number == NULL ? NULL : PyTuple_Pack(2, bytes, number);
    Py_XDECREF(number);
    Py_DECREF(bytes);
    return pair;
}

PyDoc_STRVAR(get_tagged_doc, "get_tagged(key, /)\n--\n\n"
                             "(value, tag) of key, or None.");

static PyObject *
door_get_tagged(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct pmc_found found;
    PyObject *bytes = NULL;
    if (!read_count("get_tagged", count, 1) ||
        !read_entry((struct door *)self, args[0], &found, &bytes))
        return NULL;
    if (bytes != NULL)
        return tagged(bytes, found.tag);
    Py_RETURN_NONE;
}

static bool
read_uint64(const struct door *door, const char *name, PyObject *number,
            uint64_t *number_out)
{
    if (!PyLong_Check(number) || PyBool_Check(number))
        return refuse(door, name, number);
    *number_out = PyLong_AsUnsignedLongLong(number);
    return !PyErr_Occurred() || refuse(door, name, number);
}

/* The answer of get_versioned(). Takes the reference to bytes. */
static PyObject *
versioned_answer(PyObject *bytes, const struct pmc_versioned *versioned)
{
    PyObject *value = bytes != NULL ? bytes : Py_NewRef(Py_None);
    const struct pmc_found *found = &versioned->found;
    Py_ssize_t index = (Py_ssize_t)versioned->version_index;
    unsigned long long version = versioned->version;
    unsigned long long generation = found->generation;
    if (versioned->ttl_ms == PMC_TTL_NONE)
        return Py_BuildValue("(NinKOK)", value, (int)found->tag, index, version,
                             Py_None, generation);
    return Py_BuildValue("(NinKLK)", value, (int)found->tag, index, version,
                         (long long)versioned->ttl_ms, generation);
}

PyDoc_STRVAR(
    get_versioned_doc,
    "get_versioned(key, known, /)\n--\n\n"
    "(value, tag, version_index, version, ttl_ms, generation) of key; on a miss\n"
    "the value is None and the generation 0, ttl_ms is None where there is no\n"
    "deadline. The value is None too when the generation is known.");

static PyObject *
door_get_versioned(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct pmc_versioned versioned = {.ttl_ms = PMC_TTL_NONE};
    struct room room = {NULL, NULL};
    struct span key;
    uint64_t known;
    if (!read_count("get_versioned", count, 2) || !read_key(door, args[0], &key) ||
        !read_uint64(door, "known", args[1], &known) || !door_enter(door))
        return NULL;
    enum pmc_status status =
        door->engine->get_versioned(door->handle->cache, key.data, key.size, known,
                                    room_reserve, &room, &versioned);
    room_take_gil(&room);
    door_leave(door);
    if (status != PMC_OK || (known != 0 && versioned.found.generation == known))
        Py_CLEAR(room.bytes);
    if (status != PMC_OK && status != PMC_MISS)
        return fail(door, status, key.size, 0);
    return versioned_answer(room.bytes, &versioned);
}

PyDoc_STRVAR(bump_doc, "bump(key, /)\n--\n\nMark key as used now.");

static PyObject *
door_bump(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct span key;
    if (!read_count("bump", count, 1) || !read_key(door, args[0], &key) ||
        !door_enter(door))
        return NULL;
    enum pmc_status status =
        door->engine->bump(door->handle->cache, key.data, key.size);
    door_leave(door);
    if (status < 0)
        return fail(door, status, key.size, 0);
    return PyBool_FromLong(status == PMC_OK);
}

PyDoc_STRVAR(exists_doc, "exists(key, /)\n--\n\nWhether key is present.");

static PyObject *
door_exists(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct span key;
    if (!read_count("exists", count, 1) || !read_key(door, args[0], &key) ||
        !door_enter(door))
        return NULL;
    enum pmc_status status =
        door->engine->exists(door->handle->cache, key.data, key.size);
    door_leave(door);
    if (status < 0)
        return fail(door, status, key.size, 0);
    return PyBool_FromLong(status == PMC_OK);
}

/* ---- writing ---- */

/*
 * Call a writer of the engine with the GIL and PMC_NOWAIT; when it would have
 * to wait, or the work is large, without either.
 */
#define CALL_WRITER(status, flags, large, call)                                        \
    do {                                                                               \
        (status) = PMC_BUSY;                                                           \
        if (!(large)) {                                                                \
            (flags) = PMC_NOWAIT;                                                      \
            (status) = (call);                                                         \
        }                                                                              \
        if ((status) == PMC_BUSY) {                                                    \
            (flags) = 0;                                                               \
            Py_BEGIN_ALLOW_THREADS(status) = (call);                                   \
            Py_END_ALLOW_THREADS                                                       \
        }                                                                              \
    } while (0)

/* Whether a put that came back like this is False and no error. */
static bool
is_not_stored(enum pmc_status status)
{
    return status == PMC_UNMET || status == PMC_DROPPED || status == PMC_ETIMEDOUT;
}

/* Store a value; false with an exception set. */
static bool
write_value(struct door *door, PyObject *key_object, PyObject *value_object,
            struct pmc_put_options *options, enum pmc_status *status_out)
{
    struct span key;
    struct span value;
    PyObject *keep = NULL;
    if (!read_key(door, key_object, &key) ||
        !read_value(door, value_object, &value, &keep))
        return false;
    if (!door_enter(door)) {
        Py_DECREF(keep);
        return false;
    }
    CALL_WRITER(*status_out, options->flags, value.size >= LARGE_BYTES,
                door->engine->put(door->handle->cache, key.data, key.size, value.data,
                                  value.size, options));
    door_leave(door);
    Py_DECREF(keep);
    if (*status_out == PMC_OK || is_not_stored(*status_out))
        return true;
    fail(door, *status_out, key.size, value.size);
    return false;
}

PyDoc_STRVAR(put_doc, "put(key, value, ttl_seconds, only_if, tag, /)\n--\n\n"
                      "Store value under key. True when stored.");

static PyObject *
door_put(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct pmc_put_options options = {0};
    enum pmc_status status;
    if (!read_count("put", count, 5) || !read_ttl(door, args[2], &options.ttl_ms) ||
        !read_condition(door, args[3], &options) ||
        !read_tag(door, args[4], &options.tag) ||
        !write_value(door, args[0], args[1], &options, &status))
        return NULL;
    return PyBool_FromLong(status == PMC_OK);
}

PyDoc_STRVAR(put_versioned_doc,
             "put_versioned(key, value, ttl_seconds, tag, /)\n--\n\n"
             "Store value under key. (version_index, version, generation) that a copy\n"
             "is good under; None when it was not stored.");

static PyObject *
door_put_versioned(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct pmc_written written = {.version = 1}; /* odd: of a put that stored nothing */
    struct pmc_put_options options = {.written_out = &written};
    enum pmc_status status;
    if (!read_count("put_versioned", count, 4) ||
        !read_ttl(door, args[2], &options.ttl_ms) ||
        !read_tag(door, args[3], &options.tag) ||
        !write_value(door, args[0], args[1], &options, &status))
        return NULL;
    if (status != PMC_OK)
        Py_RETURN_NONE;
    return Py_BuildValue("(nKK)", (Py_ssize_t)written.version_index,
                         (unsigned long long)written.version,
                         (unsigned long long)written.generation);
}

PyDoc_STRVAR(delete_doc, "delete(key, /)\n--\n\n"
                         "Remove key. True when it was there.");

static PyObject *
door_delete(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct span key;
    if (!read_count("delete", count, 1) || !read_key(door, args[0], &key) ||
        !door_enter(door))
        return NULL;
    enum pmc_status status;
    uint32_t flags;
    CALL_WRITER(status, flags, false,
                door->engine->delete_(door->handle->cache, key.data, key.size, flags));
    door_leave(door);
    if (status < 0)
        return fail(door, status, key.size, 0);
    return PyBool_FromLong(status == PMC_OK);
}

PyDoc_STRVAR(touch_doc, "touch(key, ttl_seconds, /)\n--\n\n"
                        "Give key a new time to live. True when it was there.");

static PyObject *
door_touch(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct span key;
    int64_t ttl_ms;
    if (!read_count("touch", count, 2) || !read_key(door, args[0], &key) ||
        !read_ttl(door, args[1], &ttl_ms) || !door_enter(door))
        return NULL;
    enum pmc_status status;
    uint32_t flags;
    CALL_WRITER(
        status, flags, false,
        door->engine->touch(door->handle->cache, key.data, key.size, ttl_ms, flags));
    door_leave(door);
    if (status < 0)
        return fail(door, status, key.size, 0);
    return PyBool_FromLong(status == PMC_OK);
}

PyDoc_STRVAR(incr_doc, "incr(key, delta, initial, ttl_seconds, tag, /)\n--\n\n"
                       "Add delta to an integer. The sum, or None.");

static PyObject *
door_incr(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct pmc_incr_options options = {0};
    struct span key;
    int64_t delta;
    int64_t sum = 0;
    if (!read_count("incr", count, 5) || !read_key(door, args[0], &key) ||
        !read_int64(door, "delta", args[1], &delta) ||
        !read_ttl(door, args[3], &options.ttl_ms) ||
        !read_tag(door, args[4], &options.tag))
        return NULL;
    options.create = args[2] != Py_None;
    if ((options.create && !read_int64(door, "initial", args[2], &options.initial)) ||
        !door_enter(door))
        return NULL;
    enum pmc_status status;
    CALL_WRITER(status, options.flags, false,
                door->engine->incr(door->handle->cache, key.data, key.size, delta,
                                   &options, &sum));
    door_leave(door);
    if (status == PMC_OK)
        return PyLong_FromLongLong(sum);
    if (status == PMC_MISS || status == PMC_DROPPED)
        Py_RETURN_NONE;
    return fail(door, status, key.size, 0);
}

/* ---- batches ---- */

/* The arguments of a batch, held so that no other thread can free them. */
struct batch {
    struct door *door;
    PyObject *keys; /* tuple of keys, or list of (key, value) */
    struct pmc_item *items;
    PyObject **bytes; /* a reference or NULL for each item */
    size_t count;
    size_t value_bytes; /* of a put: all together */
    struct room room;
};

static void
batch_drop(struct batch *batch)
{
    for (size_t i = 0; batch->bytes != NULL && i < batch->count; i++)
        Py_XDECREF(batch->bytes[i]);
    PyMem_Free(batch->bytes);
    PyMem_Free(batch->items);
    Py_XDECREF(batch->keys);
}

/* Room for count items. Takes the reference to keys, also on failure. */
static bool
batch_make(struct batch *batch, struct door *door, PyObject *keys, Py_ssize_t count)
{
    memset(batch, 0, sizeof *batch);
    batch->door = door;
    batch->keys = keys;
    if (count < 0)
        return false;
    batch->count = (size_t)count;
    batch->items = PyMem_Calloc(batch->count, sizeof *batch->items);
    batch->bytes = PyMem_Calloc(batch->count, sizeof(PyObject *));
    if (batch->items == NULL || batch->bytes == NULL) {
        PyErr_NoMemory();
        return false;
    }
    return true;
}

static bool
batch_read_key(struct batch *batch, size_t index, PyObject *key)
{
    struct span span;
    if (!read_key(batch->door, key, &span))
        return false;
    batch->items[index].key = span.data;
    batch->items[index].key_size = span.size;
    return true;
}

/* A batch of keys from any iterable but a str or bytes, which is one key. */
static bool
batch_from_keys(struct batch *batch, struct door *door, PyObject *iterable)
{
    memset(batch, 0, sizeof *batch);
    if (PyUnicode_Check(iterable) || PyBytes_Check(iterable))
        return refuse(door, "keys", iterable);
    PyObject *keys = PySequence_Tuple(iterable);
    if (keys == NULL)
        return false;
    if (!batch_make(batch, door, keys, PyTuple_Size(keys)))
        return false;
    for (size_t i = 0; i < batch->count; i++)
        if (!batch_read_key(batch, i, PyTuple_GetItem(keys, (Py_ssize_t)i)))
            return false;
    return true;
}

/* A value of a batch: bytes-like, or (bytes-like, tag). */
static bool
batch_read_value(struct batch *batch, size_t index, PyObject *value)
{
    struct pmc_item *item = &batch->items[index];
    struct span span;
    if (PyTuple_Check(value) && PyTuple_Size(value) == 2) {
        if (!read_tag(batch->door, PyTuple_GetItem(value, 1), &item->tag))
            return false;
        value = PyTuple_GetItem(value, 0);
    }
    if (!read_value(batch->door, value, &span, &batch->bytes[index]))
        return false;
    item->value = span.data;
    item->value_size = span.size;
    batch->value_bytes += span.size;
    return true;
}

static bool
batch_from_mapping(struct batch *batch, struct door *door, PyObject *mapping)
{
    memset(batch, 0, sizeof *batch);
    PyObject *pairs = PyMapping_Items(mapping);
    if (pairs == NULL)
        return refuse(door, "mapping", mapping);
    if (!batch_make(batch, door, pairs, PyList_Size(pairs)))
        return false;
    for (size_t i = 0; i < batch->count; i++) {
        PyObject *pair = PyList_GetItem(pairs, (Py_ssize_t)i);
        if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2)
            return refuse(door, "mapping", mapping);
        if (!batch_read_key(batch, i, PyTuple_GetItem(pair, 0)) ||
            !batch_read_value(batch, i, PyTuple_GetItem(pair, 1)))
            return false;
    }
    return true;
}

/* True when no item failed; false with the exception of the first that did. */
static bool
batch_succeeded(const struct batch *batch)
{
    if (PyErr_Occurred())
        return false;
    for (size_t i = 0; i < batch->count; i++) {
        const struct pmc_item *item = &batch->items[i];
        if (item->status < 0 && item->status != PMC_ETIMEDOUT) {
            fail(batch->door, item->status, item->key_size, item->value_size);
            return false;
        }
    }
    return true;
}

static void *
batch_reserve(void *context, size_t index, size_t value_size)
{
    struct batch *batch = context;
    return room_fit(&batch->room, &batch->bytes[index], value_size);
}

/* {key: bytes} or {key: (bytes, tag)} of the items found. */
static PyObject *
batch_found(struct batch *batch, bool with_tags)
{
    PyObject *found = PyDict_New();
    for (size_t i = 0; found != NULL && i < batch->count; i++) {
        if (batch->items[i].status != PMC_OK)
            continue;
        PyObject *value = batch->bytes[i];
        batch->bytes[i] = NULL;
        if (with_tags)
            value = tagged(value, batch->items[i].found.tag);
        PyObject *key = PyTuple_GetItem(batch->keys, (Py_ssize_t)i);
        if (value == NULL || PyDict_SetItem(found, key, value) < 0)
            Py_CLEAR(found);
        Py_XDECREF(value);
    }
    return found;
}

static PyObject *
read_many(struct door *door, PyObject *keys, bool with_tags)
{
    struct batch batch;
    PyObject *found = NULL;
    if (batch_from_keys(&batch, door, keys) && door_enter(door)) {
        door->engine->get_many(door->handle->cache, batch.items, batch.count,
                               batch_reserve, &batch);
        room_take_gil(&batch.room);
        door_leave(door);
        if (batch_succeeded(&batch))
            found = batch_found(&batch, with_tags);
    }
    batch_drop(&batch);
    return found;
}

PyDoc_STRVAR(get_many_doc, "get_many(keys, /)\n--\n\n"
                           "{key: value} of those found.");

static PyObject *
door_get_many(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!read_count("get_many", count, 1))
        return NULL;
    return read_many((struct door *)self, args[0], false);
}

PyDoc_STRVAR(get_many_tagged_doc, "get_many_tagged(keys, /)\n--\n\n"
                                  "{key: (value, tag)} of those found.");

static PyObject *
door_get_many_tagged(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!read_count("get_many_tagged", count, 1))
        return NULL;
    return read_many((struct door *)self, args[0], true);
}

/* The flags for the next item. */
static uint32_t
wait_once(struct pmc_item *item, uint32_t flags)
{
    if (item->status == PMC_BUSY)
        item->status = PMC_ETIMEDOUT;
    return item->status == PMC_ETIMEDOUT ? PMC_NOWAIT : flags;
}

/* Store one after the other, waiting, what the batch found busy. Who has waited in vain
 * once takes what is free, as pmc_put_many() does. */
static void
batch_put_busy(struct batch *batch, struct pmc_put_options *options)
{
    const struct door *door = batch->door;
    options->flags = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct pmc_item *item = &batch->items[i];
        if (item->status != PMC_BUSY)
            continue;
        options->tag = item->tag;
        Py_BEGIN_ALLOW_THREADS item->status =
            door->engine->put(door->handle->cache, item->key, item->key_size,
                              item->value, item->value_size, options);
        Py_END_ALLOW_THREADS options->flags = wait_once(item, options->flags);
    }
}

static void
batch_put(struct batch *batch, struct pmc_put_options *options)
{
    const struct door *door = batch->door;
    if (batch->value_bytes < LARGE_BYTES) {
        options->flags = PMC_NOWAIT;
        door->engine->put_many(door->handle->cache, batch->items, batch->count,
                               options);
        batch_put_busy(batch, options);
    } else {
        Py_BEGIN_ALLOW_THREADS door->engine->put_many(door->handle->cache, batch->items,
                                                      batch->count, options);
        Py_END_ALLOW_THREADS
    }
}

/* The keys that were not stored. */
static PyObject *
batch_not_stored(const struct batch *batch)
{
    PyObject *keys = PyList_New(0);
    for (size_t i = 0; keys != NULL && i < batch->count; i++) {
        if (batch->items[i].status == PMC_OK)
            continue;
        PyObject *pair = PyList_GetItem(batch->keys, (Py_ssize_t)i);
        if (PyList_Append(keys, PyTuple_GetItem(pair, 0)) < 0)
            Py_CLEAR(keys);
    }
    return keys;
}

PyDoc_STRVAR(put_many_doc, "put_many(mapping, ttl_seconds, /)\n--\n\n"
                           "Store every value. The keys not stored.");

static PyObject *
door_put_many(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct pmc_put_options options = {0};
    struct batch batch;
    PyObject *not_stored = NULL;
    if (!read_count("put_many", count, 2) || !read_ttl(door, args[1], &options.ttl_ms))
        return NULL;
    if (batch_from_mapping(&batch, door, args[0]) && door_enter(door)) {
        batch_put(&batch, &options);
        door_leave(door);
        if (batch_succeeded(&batch))
            not_stored = batch_not_stored(&batch);
    }
    batch_drop(&batch);
    return not_stored;
}

/* Remove one after the other, waiting, what the batch found busy. */
static void
batch_delete_busy(struct batch *batch)
{
    const struct door *door = batch->door;
    uint32_t flags = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct pmc_item *item = &batch->items[i];
        if (item->status != PMC_BUSY)
            continue;
        Py_BEGIN_ALLOW_THREADS item->status = door->engine->delete_(
            door->handle->cache, item->key, item->key_size, flags);
        Py_END_ALLOW_THREADS flags = wait_once(item, flags);
    }
}

/* How many were there, or NULL when one may still be. */
static PyObject *
batch_deleted(const struct batch *batch)
{
    long deleted = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->items[i].status == PMC_ETIMEDOUT)
            return fail(batch->door, PMC_ETIMEDOUT, batch->items[i].key_size, 0);
        deleted += batch->items[i].status == PMC_OK;
    }
    return PyLong_FromLong(deleted);
}

PyDoc_STRVAR(delete_many_doc, "delete_many(keys, /)\n--\n\n"
                              "Remove every key. How many were there.");

static PyObject *
door_delete_many(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct door *door = (struct door *)self;
    struct batch batch;
    PyObject *deleted = NULL;
    if (!read_count("delete_many", count, 1))
        return NULL;
    if (batch_from_keys(&batch, door, args[0]) && door_enter(door)) {
        door->engine->delete_many(door->handle->cache, batch.items, batch.count,
                                  PMC_NOWAIT);
        batch_delete_busy(&batch);
        door_leave(door);
        if (batch_succeeded(&batch))
            deleted = batch_deleted(&batch);
    }
    batch_drop(&batch);
    return deleted;
}

/* ---- waiting ---- */

PyDoc_STRVAR(thread_waits_doc, "thread_waits(waits, /)\n--\n\n"
                               "Whether calls of this thread may wait.");

static PyObject *
door_thread_waits(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (!read_count("thread_waits", count, 1))
        return NULL;
    ((struct door *)self)->engine->thread_waits(args[0] == Py_True);
    Py_RETURN_NONE;
}

/* ---- the type and the module ---- */

PyDoc_STRVAR(close_doc, "close()\n--\n\n"
                        "Refuse every later call of this door.");

static PyObject *
door_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((struct door *)self)->closed = true;
    Py_RETURN_NONE;
}

static PyObject *
door_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    unsigned long long table_address = 0;
    unsigned long long handle_address = 0;
    PyObject *owner = NULL;
    PyObject *raise_status = NULL;
    PyObject *refuse_argument = NULL;
    if (!PyArg_ParseTuple(args, "KKOOO", &table_address, &handle_address, &owner,
                          &raise_status, &refuse_argument))
        return NULL;
    const struct pmc_door_table *engine =
        (const struct pmc_door_table *)(uintptr_t)table_address;
    if (engine == NULL || handle_address == 0 ||
        engine->version != PMC_DOOR_TABLE_VERSION ||
        engine->size_bytes != sizeof *engine) {
        PyErr_SetString(PyExc_ImportError,
                        "pmemcache._short and pmemcache._engine are of "
                        "different versions; reinstall pmemcache");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct door *door = (struct door *)allocate(type, 0);
    if (door == NULL)
        return NULL;
    door->engine = engine;
    door->handle = (struct pmc_handle *)(uintptr_t)handle_address;
    Py_INCREF(owner);
    door->owner = owner;
    Py_INCREF(raise_status);
    door->raise_status = raise_status;
    Py_INCREF(refuse_argument);
    door->refuse = refuse_argument;
    return (PyObject *)door;
}

static void
door_dealloc(PyObject *self)
{
    struct door *door = (struct door *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    Py_XDECREF(door->owner);
    Py_XDECREF(door->raise_status);
    Py_XDECREF(door->refuse);
    release(self);
    Py_DECREF(type);
}

/* A METH_FASTCALL function has another type than the table's field. */
#define FAST(name)                                                                     \
    {#name, (PyCFunction)(void (*)(void))door_##name, METH_FASTCALL, name##_doc}

static PyMethodDef door_methods[] = {
    FAST(get),
    FAST(get_tagged),
    FAST(get_versioned),
    FAST(bump),
    FAST(put),
    FAST(put_versioned),
    FAST(delete),
    FAST(exists),
    FAST(touch),
    FAST(incr),
    FAST(get_many),
    FAST(get_many_tagged),
    FAST(put_many),
    FAST(delete_many),
    FAST(thread_waits),
    {"close", door_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(door_doc, "ShortDoor(table_address, handle_address, owner, raise_status, "
                       "refuse, /)\n--\n\n"
                       "Short calls on one cache, made without releasing the GIL.");

static PyType_Slot door_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)door_doc},
    {Py_tp_new, (void *)(uintptr_t)door_new},
    {Py_tp_dealloc, (void *)(uintptr_t)door_dealloc},
    {Py_tp_methods, door_methods},
    {0, NULL},
};

static PyType_Spec door_spec = {
    .name = "pmemcache._short.ShortDoor",
    .basicsize = sizeof(struct door),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = door_slots,
};

/* ---- the plain codec; see plain_codec.h ---- */

PyDoc_STRVAR(plain_dumps_doc, "plain_dumps(value, /)\n--\n\n"
                              "The bytes of plain data; None where value is none.");

static PyObject *
module_plain_dumps(PyObject *module, PyObject *value)
{
    return plain_dumps(PyModule_GetState(module), value);
}

PyDoc_STRVAR(plain_loads_doc,
             "plain_loads(payload, /)\n--\n\n"
             "The value that plain_dumps() or pickle.dumps() made payload of.");

static PyObject *
module_plain_loads(PyObject *module, PyObject *payload)
{
    return plain_loads(PyModule_GetState(module), payload);
}

static PyMethodDef module_methods[] = {
    {"plain_dumps", module_plain_dumps, METH_O, plain_dumps_doc},
    {"plain_loads", module_plain_loads, METH_O, plain_loads_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    if (plain_codec_open(PyModule_GetState(module)) < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &door_spec, NULL);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    return plain_codec_traverse(PyModule_GetState(module), visit, arg);
}

static int
module_clear(PyObject *module)
{
    plain_codec_clear(PyModule_GetState(module));
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pmemcache._short",
    .m_doc = "The short door to the engine; see pmemcache.binding.",
    .m_size = sizeof(struct plain_codec),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__short(void);

PyMODINIT_FUNC
PyInit__short(void)
{
    return PyModuleDef_Init(&module_definition);
}
