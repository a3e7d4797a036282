/*
 * Plain data into bytes. See plain_codec.h.
 *
 * Locking: the GIL. Another thread may run while a Decimal or a date is asked for
 * its form, and change what is being written; then it counts as not plain.
 *
 * Law: an object that is reached twice is not plain, or two equal ones would come
 * back. One that only its container refers to cannot be reached twice.
 */
#include "plain_codec.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "plain_format.h"

/* More than this is not worth a second copy. */
#define PAYLOAD_MAX ((size_t)64 * 1024 * 1024)
#define INLINE_BYTES 4096u

/* Containers that something else refers to as well. */
#define SEEN_SLOTS 512u
#define SEEN_MAX 256u

#define KEY_SLOTS 256u

/* The references to a container that is reached once: its place's and ours. */
#define OWN_REFERENCES 2

enum outcome { WRITTEN, NOT_PLAIN, FAILED };

struct writer {
    const struct plain_codec *codec;
    char *data;
    size_t size;
    size_t capacity;
    unsigned key_count;
    unsigned seen_count;
    PyObject *keys[KEY_REFS_MAX]; /* owned: an address must not be given anew */
    uint8_t key_slots[KEY_SLOTS]; /* 1 + place in keys; 0: free */
    PyObject *seen[SEEN_SLOTS];
    char inline_data[INLINE_BYTES];
};

static enum outcome write_value(struct writer *writer, PyObject *value, unsigned depth);

static size_t
address_hash(const void *address)
{
    return (size_t)(((uint64_t)(uintptr_t)address >> 4) *
                        UINT64_C(0x9e3779b97f4a7c15) >>
                    32);
}

/* ---- bytes ---- */

static bool
writer_grow(struct writer *writer, size_t more)
{
    size_t capacity = writer->capacity * 2;
    while (capacity < writer->size + more)
        capacity *= 2;
    char *held = writer->data == writer->inline_data ? NULL : writer->data;
    char *data = PyMem_Realloc(held, capacity);
    if (data == NULL) {
        PyErr_NoMemory();
        return false;
    }
    if (held == NULL)
        memcpy(data, writer->inline_data, writer->size);
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

/* Room for so many bytes more, or NULL with *outcome_out set. */
static char *
writer_room(struct writer *writer, size_t more, enum outcome *outcome_out)
{
    if (more > PAYLOAD_MAX || writer->size + more > PAYLOAD_MAX) {
        *outcome_out = NOT_PLAIN;
        return NULL;
    }
    if (writer->size + more > writer->capacity && !writer_grow(writer, more)) {
        *outcome_out = FAILED;
        return NULL;
    }
    char *room = writer->data + writer->size;
    writer->size += more;
    return room;
}

static enum outcome
write_bytes(struct writer *writer, uint8_t kind, const void *bytes, size_t size)
{
    enum outcome outcome = WRITTEN;
    char *room = writer_room(writer, 1 + size, &outcome);
    if (room == NULL)
        return outcome;
    *room = (char)kind;
    if (size != 0)
        memcpy(room + 1, bytes, size);
    return WRITTEN;
}

/* A kind and a size, the short one where there is one (not 0) and the size fits. */
static enum outcome
write_head(struct writer *writer, uint8_t kind, uint8_t short_kind, size_t short_max,
           size_t size)
{
    uint8_t digits[10];
    size_t count = 0;
    if (short_kind != 0 && size <= short_max)
        return write_bytes(writer, (uint8_t)(short_kind | size), NULL, 0);
    for (; size >= 0x80; size >>= 7)
        digits[count++] = (uint8_t)(size | 0x80);
    digits[count++] = (uint8_t)size;
    return write_bytes(writer, kind, digits, count);
}

static enum outcome
write_sized(struct writer *writer, uint8_t kind, const char *bytes, size_t size)
{
    uint8_t short_kind = kind == KIND_STR ? KIND_SHORT_STR : 0;
    enum outcome outcome = write_head(writer, kind, short_kind, SHORT_STR_MAX, size);
    if (outcome != WRITTEN)
        return outcome;
    char *room = writer_room(writer, size, &outcome);
    if (room == NULL)
        return outcome;
    memcpy(room, bytes, size);
    return WRITTEN;
}

/* ---- text and numbers ---- */

static enum outcome
write_str(struct writer *writer, uint8_t kind, PyObject *text)
{
    Py_ssize_t size = 0;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes != NULL)
        return write_sized(writer, kind, bytes, (size_t)size);
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return FAILED;
    PyErr_Clear(); /* a lone surrogate has no UTF-8 */
    return NOT_PLAIN;
}

static enum outcome
write_big_int(struct writer *writer, PyObject *number)
{
    PyObject *text = PyNumber_ToBase(number, 16);
    if (text == NULL)
        return FAILED;
    enum outcome outcome = write_str(writer, KIND_BIG_INT, text);
    Py_DECREF(text);
    return outcome;
}

static enum outcome
write_int(struct writer *writer, PyObject *number)
{
    int overflow = 0;
    int64_t wide = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow != 0)
        return write_big_int(writer, number);
    if (wide >= INT8_MIN && wide <= INT8_MAX) {
        int8_t narrow = (int8_t)wide;
        return write_bytes(writer, KIND_INT8, &narrow, sizeof narrow);
    }
    if (wide >= INT32_MIN && wide <= INT32_MAX) {
        int32_t narrow = (int32_t)wide;
        return write_bytes(writer, KIND_INT32, &narrow, sizeof narrow);
    }
    return write_bytes(writer, KIND_INT64, &wide, sizeof wide);
}

static enum outcome
write_float(struct writer *writer, PyObject *number)
{
    double wide = PyFloat_AsDouble(number);
    return write_bytes(writer, KIND_FLOAT, &wide, sizeof wide);
}

/* ---- dates, Decimal and UUID: what their own pickles hold ---- */

/* The arguments that value.__reduce_ex__(4) makes it anew of, or NULL. */
static PyObject *
arguments_of(PyObject *value)
{
    PyObject *reduced = PyObject_CallMethod(value, "__reduce_ex__", "i", 4);
    if (reduced == NULL)
        return NULL;
    PyObject *arguments = PyTuple_Check(reduced) && PyTuple_Size(reduced) >= 2
                              ? PyTuple_GetItem(reduced, 1)
                              : NULL;
    if (arguments == NULL || !PyTuple_Check(arguments)) {
        PyErr_Clear();
        arguments = Py_None;
    }
    Py_INCREF(arguments);
    Py_DECREF(reduced);
    return arguments;
}

/* The state of a date or time, of exactly *size* bytes; a zone other than none or
 * UTC is not plain. */
static enum outcome
write_moment(struct writer *writer, PyObject *value, uint8_t kind, size_t size)
{
    PyObject *arguments = arguments_of(value);
    if (arguments == NULL)
        return FAILED;
    enum outcome outcome = NOT_PLAIN;
    Py_ssize_t count = arguments == Py_None ? 0 : PyTuple_Size(arguments);
    PyObject *state = count >= 1 ? PyTuple_GetItem(arguments, 0) : NULL;
    if (count == 2 && kind == KIND_DATETIME &&
        PyTuple_GetItem(arguments, 1) == writer->codec->utc)
        kind = KIND_DATETIME_UTC;
    else if (count != 1)
        state = NULL;
    if (state != NULL && PyBytes_Check(state) && (size_t)PyBytes_Size(state) == size)
        outcome = write_bytes(writer, kind, PyBytes_AsString(state), size);
    Py_DECREF(arguments);
    return outcome;
}

static enum outcome
write_timedelta(struct writer *writer, PyObject *value)
{
    int32_t parts[3] = {0, 0, 0};
    PyObject *arguments = arguments_of(value);
    if (arguments == NULL)
        return FAILED;
    bool is_known = arguments != Py_None && PyTuple_Size(arguments) == 3;
    for (Py_ssize_t i = 0; is_known && i < 3; i++)
        parts[i] = (int32_t)PyLong_AsLong(PyTuple_GetItem(arguments, i));
    Py_DECREF(arguments);
    if (PyErr_Occurred())
        return FAILED;
    return is_known ? write_bytes(writer, KIND_TIMEDELTA, parts, sizeof parts)
                    : NOT_PLAIN;
}

static enum outcome
write_decimal(struct writer *writer, PyObject *value)
{
    PyObject *text = PyObject_Str(value);
    if (text == NULL)
        return FAILED;
    enum outcome outcome = write_str(writer, KIND_DECIMAL, text);
    Py_DECREF(text);
    return outcome;
}

static enum outcome
write_uuid(struct writer *writer, PyObject *value)
{
    PyObject *safety = PyObject_GetAttrString(value, "is_safe");
    if (safety == NULL)
        return FAILED;
    Py_DECREF(safety);
    if (safety != writer->codec->safe_unknown)
        return NOT_PLAIN;
    PyObject *bytes = PyObject_GetAttrString(value, "bytes");
    if (bytes == NULL)
        return FAILED;
    enum outcome outcome = NOT_PLAIN;
    if (PyBytes_Check(bytes) && PyBytes_Size(bytes) == 16)
        outcome = write_bytes(writer, KIND_UUID, PyBytes_AsString(bytes), 16);
    Py_DECREF(bytes);
    return outcome;
}

static enum outcome
write_object(struct writer *writer, PyObject *value)
{
    const struct plain_codec *codec = writer->codec;
    PyObject *type = (PyObject *)Py_TYPE(value);
    if (type == codec->datetime)
        return write_moment(writer, value, KIND_DATETIME, 10);
    if (type == codec->date)
        return write_moment(writer, value, KIND_DATE, 4);
    if (type == codec->time)
        return write_moment(writer, value, KIND_TIME, 6);
    if (type == codec->timedelta)
        return write_timedelta(writer, value);
    if (type == codec->decimal)
        return write_decimal(writer, value);
    if (type == codec->uuid)
        return write_uuid(writer, value);
    return NOT_PLAIN;
}

/* ---- containers ---- */

/* Whether a container is reached for the first time; errs only towards no. */
static bool
is_first_visit(struct writer *writer, PyObject *container)
{
    if (writer->seen_count == SEEN_MAX)
        return false;
    if (writer->seen_count == 0)
        memset(writer->seen, 0, sizeof writer->seen);
    size_t slot = address_hash(container) % SEEN_SLOTS;
    while (writer->seen[slot] != NULL) {
        if (writer->seen[slot] == container)
            return false;
        slot = (slot + 1) % SEEN_SLOTS;
    }
    writer->seen[slot] = container;
    writer->seen_count++;
    return true;
}

/* Write what a container holds; ours for as long as it takes. */
static enum outcome
write_member(struct writer *writer, PyObject *value, unsigned depth)
{
    Py_INCREF(value);
    enum outcome outcome = write_value(writer, value, depth);
    Py_DECREF(value);
    return outcome;
}

static enum outcome
write_list(struct writer *writer, PyObject *list, unsigned depth)
{
    Py_ssize_t count = PyList_Size(list);
    enum outcome outcome =
        write_head(writer, KIND_LIST, KIND_SHORT_LIST, SHORT_MAX, (size_t)count);
    for (Py_ssize_t i = 0; outcome == WRITTEN && i < count; i++) {
        if (PyList_Size(list) != count)
            return NOT_PLAIN;
        outcome = write_member(writer, PyList_GetItem(list, i), depth);
    }
    return outcome == WRITTEN && PyList_Size(list) != count ? NOT_PLAIN : outcome;
}

static enum outcome
write_tuple(struct writer *writer, PyObject *tuple, unsigned depth)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    enum outcome outcome =
        write_head(writer, KIND_TUPLE, KIND_SHORT_TUPLE, SHORT_MAX, (size_t)count);
    for (Py_ssize_t i = 0; outcome == WRITTEN && i < count; i++)
        outcome = write_member(writer, PyTuple_GetItem(tuple, i), depth);
    return outcome;
}

/* The n-th short key of what is being written, or an address to note it at. */
static uint8_t *
key_slot(struct writer *writer, PyObject *key)
{
    if (writer->key_count == 0)
        memset(writer->key_slots, 0, sizeof writer->key_slots);
    size_t slot = address_hash(key) % KEY_SLOTS;
    while (writer->key_slots[slot] != 0 &&
           writer->keys[writer->key_slots[slot] - 1] != key)
        slot = (slot + 1) % KEY_SLOTS;
    return &writer->key_slots[slot];
}

/* A str that is a key: the same object again is a reference to the first. */
static enum outcome
write_key(struct writer *writer, PyObject *key)
{
    uint8_t *slot = key_slot(writer, key);
    if (*slot != 0) {
        uint8_t place = (uint8_t)(*slot - 1);
        return write_bytes(writer, KIND_KEY_REF, &place, 1);
    }
    size_t before = writer->size;
    enum outcome outcome = write_str(writer, KIND_STR, key);
    /* The reader counts the keys it finds in their short form. */
    bool is_short =
        outcome == WRITTEN && (uint8_t)writer->data[before] >= KIND_SHORT_STR;
    if (is_short && writer->key_count < KEY_REFS_MAX) {
        Py_INCREF(key);
        writer->keys[writer->key_count++] = key;
        *slot = (uint8_t)writer->key_count;
    }
    return outcome;
}

static enum outcome
write_item(struct writer *writer, PyObject *key, PyObject *value, unsigned depth)
{
    Py_INCREF(value); /* or writing the key might lose it */
    enum outcome outcome = PyUnicode_CheckExact(key) ? write_key(writer, key)
                                                     : write_member(writer, key, depth);
    if (outcome == WRITTEN)
        outcome = write_value(writer, value, depth);
    Py_DECREF(value);
    return outcome;
}

static enum outcome
write_dict(struct writer *writer, PyObject *dict, unsigned depth)
{
    PyObject *key = NULL;
    PyObject *value = NULL;
    Py_ssize_t position = 0;
    Py_ssize_t count = PyDict_Size(dict);
    Py_ssize_t written = 0;
    enum outcome outcome =
        write_head(writer, KIND_DICT, KIND_SHORT_DICT, SHORT_MAX, (size_t)count);
    while (outcome == WRITTEN && PyDict_Next(dict, &position, &key, &value)) {
        outcome = write_item(writer, key, value, depth);
        written++;
        if (outcome == WRITTEN && PyDict_Size(dict) != count)
            return NOT_PLAIN;
    }
    return outcome == WRITTEN && written != count ? NOT_PLAIN : outcome;
}

static enum outcome
write_container(struct writer *writer, PyObject *value, unsigned depth)
{
    if (depth == DEPTH_MAX)
        return NOT_PLAIN;
    if (depth > 0 && Py_REFCNT(value) != OWN_REFERENCES &&
        !is_first_visit(writer, value))
        return NOT_PLAIN;
    if (PyDict_CheckExact(value))
        return write_dict(writer, value, depth + 1);
    if (PyList_CheckExact(value))
        return write_list(writer, value, depth + 1);
    return write_tuple(writer, value, depth + 1);
}

static enum outcome
write_value(struct writer *writer, PyObject *value, unsigned depth)
{
    if (PyUnicode_CheckExact(value))
        return write_str(writer, KIND_STR, value);
    if (PyLong_CheckExact(value))
        return write_int(writer, value);
    if (value == Py_None)
        return write_bytes(writer, KIND_NONE, NULL, 0);
    if (value == Py_True)
        return write_bytes(writer, KIND_TRUE, NULL, 0);
    if (value == Py_False)
        return write_bytes(writer, KIND_FALSE, NULL, 0);
    if (PyFloat_CheckExact(value))
        return write_float(writer, value);
    if (PyTuple_CheckExact(value) && PyTuple_Size(value) == 0) /* there is one only */
        return write_bytes(writer, KIND_SHORT_TUPLE, NULL, 0);
    if (PyDict_CheckExact(value) || PyList_CheckExact(value) ||
        PyTuple_CheckExact(value))
        return write_container(writer, value, depth);
    if (PyBytes_CheckExact(value))
        return write_sized(writer, KIND_BYTES, PyBytes_AsString(value),
                           (size_t)PyBytes_Size(value));
    return write_object(writer, value);
}

PyObject *
plain_dumps(struct plain_codec *codec, PyObject *value)
{
    struct writer writer;
    writer.codec = codec;
    writer.data = writer.inline_data;
    writer.size = 0;
    writer.capacity = INLINE_BYTES;
    writer.key_count = 0;
    writer.seen_count = 0;
    enum outcome outcome = write_bytes(&writer, FORMAT_VERSION, NULL, 0);
    if (outcome == WRITTEN)
        outcome = write_value(&writer, value, 0);
    PyObject *payload = NULL;
    if (outcome == WRITTEN)
        payload = PyBytes_FromStringAndSize(writer.data, (Py_ssize_t)writer.size);
    else if (outcome == NOT_PLAIN)
        payload = Py_NewRef(Py_None);
    for (unsigned i = 0; i < writer.key_count; i++)
        Py_DECREF(writer.keys[i]);
    if (writer.data != writer.inline_data)
        PyMem_Free(writer.data);
    return payload;
}
