/*
 * Bytes into plain data. See plain_codec.h.
 *
 * Locking: the GIL.
 *
 * Law: bytes are input. Each is checked before it is believed: a size against what
 * is left, so nothing is allocated for bytes that are not there; a date against the
 * calendar; the depth. What cannot be read is a ValueError, or whatever a
 * constructor raises.
 */
#include "plain_codec.h"

#include <stdbool.h>
#include <string.h>

#include "plain_format.h"

struct reader {
    struct plain_codec *codec;
    const uint8_t *next;
    const uint8_t *end;
    unsigned key_count;
    PyObject *keys[KEY_REFS_MAX]; /* owned: a dict keeps only one of equal keys */
};

static PyObject *read_value(struct reader *reader, unsigned depth);

static PyObject *
refuse_bytes(const char *why)
{
    PyErr_Format(PyExc_ValueError, "not the bytes of plain data: %s", why);
    return NULL;
}

/* ---- bytes ---- */

/* The next *size* bytes, or NULL with an exception. */
static const uint8_t *
take(struct reader *reader, size_t size)
{
    if ((size_t)(reader->end - reader->next) < size) {
        refuse_bytes("cut short");
        return NULL;
    }
    const uint8_t *bytes = reader->next;
    reader->next += size;
    return bytes;
}

/* A size of things of at least a byte each, so never more than bytes are left. */
static bool
take_size(struct reader *reader, size_t *size_out)
{
    uint64_t size = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *digit = take(reader, 1);
        if (digit == NULL)
            return false;
        size |= (uint64_t)(*digit & 0x7f) << shift;
        if (*digit & 0x80)
            continue;
        if (size > (uint64_t)(reader->end - reader->next))
            break;
        *size_out = (size_t)size;
        return true;
    }
    refuse_bytes("a size is too large");
    return false;
}

/* The bytes behind a size. */
static const char *
take_sized(struct reader *reader, size_t *size_out)
{
    return take_size(reader, size_out) ? (const char *)take(reader, *size_out) : NULL;
}

/* ---- text and numbers ---- */

static PyObject *
read_text(const uint8_t *bytes, size_t size)
{
    if (bytes == NULL)
        return NULL;
    return PyUnicode_FromStringAndSize((const char *)bytes, (Py_ssize_t)size);
}

static PyObject *
read_str(struct reader *reader)
{
    size_t size = 0;
    const char *bytes = take_sized(reader, &size);
    return read_text((const uint8_t *)bytes, size);
}

static PyObject *
read_bytes(struct reader *reader)
{
    size_t size = 0;
    const char *bytes = take_sized(reader, &size);
    return bytes == NULL ? NULL : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)size);
}

static PyObject *
read_big_int(struct reader *reader)
{
    size_t size = 0;
    const char *bytes = take_sized(reader, &size);
    PyObject *text = read_text((const uint8_t *)bytes, size);
    if (text == NULL)
        return NULL;
    PyObject *number = PyObject_CallFunction((PyObject *)&PyLong_Type, "Oi", text, 16);
    Py_DECREF(text);
    return number;
}

static PyObject *
read_int8(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 1);
    return bytes == NULL ? NULL : PyLong_FromLong((int8_t)*bytes);
}

static PyObject *
read_int32(struct reader *reader)
{
    int32_t number = 0;
    const uint8_t *bytes = take(reader, sizeof number);
    if (bytes == NULL)
        return NULL;
    memcpy(&number, bytes, sizeof number);
    return PyLong_FromLong(number);
}

static PyObject *
read_int64(struct reader *reader)
{
    int64_t number = 0;
    const uint8_t *bytes = take(reader, sizeof number);
    if (bytes == NULL)
        return NULL;
    memcpy(&number, bytes, sizeof number);
    return PyLong_FromLongLong(number);
}

static PyObject *
read_float(struct reader *reader)
{
    double number = 0;
    const uint8_t *bytes = take(reader, sizeof number);
    if (bytes == NULL)
        return NULL;
    memcpy(&number, bytes, sizeof number);
    return PyFloat_FromDouble(number);
}

/* ---- dates, Decimal and UUID ---- */

static bool
is_date(const uint8_t *date, unsigned month)
{
    static const uint8_t days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year = date[0] * 256u + date[1];
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1 || year > 9999 || month < 1 || month > 12 || date[3] < 1)
        return false;
    return date[3] <= days[month - 1] && (month != 2 || is_leap || date[3] <= 28);
}

static bool
is_time(const uint8_t *time, unsigned hour)
{
    unsigned microsecond = time[3] * 65536u + time[4] * 256u + time[5];
    return hour < 24 && time[1] < 60 && time[2] < 60 && microsecond < 1000000;
}

/* An object of a type that is made of its state of *size* bytes, and a zone. */
static PyObject *
make_moment(PyObject *type, const uint8_t *state, Py_ssize_t size, PyObject *zone)
{
    if (zone == NULL)
        return PyObject_CallFunction(type, "y#", (const char *)state, size);
    return PyObject_CallFunction(type, "y#O", (const char *)state, size, zone);
}

static PyObject *
read_date(struct reader *reader)
{
    const uint8_t *state = take(reader, 4);
    if (state == NULL)
        return NULL;
    if (!is_date(state, state[2]))
        return refuse_bytes("no such day");
    return make_moment(reader->codec->date, state, 4, NULL);
}

static PyObject *
read_datetime(struct reader *reader, PyObject *zone)
{
    const uint8_t *state = take(reader, 10);
    if (state == NULL)
        return NULL;
    if (!is_date(state, state[2] & 0x7fu) || !is_time(state + 4, state[4]))
        return refuse_bytes("no such moment");
    return make_moment(reader->codec->datetime, state, 10, zone);
}

static PyObject *
read_time(struct reader *reader)
{
    const uint8_t *state = take(reader, 6);
    if (state == NULL)
        return NULL;
    if (!is_time(state, state[0] & 0x7fu))
        return refuse_bytes("no such time");
    return make_moment(reader->codec->time, state, 6, NULL);
}

static PyObject *
read_timedelta(struct reader *reader)
{
    int32_t parts[3];
    const uint8_t *bytes = take(reader, sizeof parts);
    if (bytes == NULL)
        return NULL;
    memcpy(parts, bytes, sizeof parts);
    return PyObject_CallFunction(reader->codec->timedelta, "iii", (int)parts[0],
                                 (int)parts[1], (int)parts[2]);
}

static PyObject *
read_decimal(struct reader *reader)
{
    PyObject *text = read_str(reader);
    if (text == NULL)
        return NULL;
    PyObject *number = PyObject_CallFunctionObjArgs(reader->codec->decimal, text, NULL);
    Py_DECREF(text);
    return number;
}

static PyObject *
read_uuid(struct reader *reader)
{
    const uint8_t *bytes = take(reader, 16);
    if (bytes == NULL)
        return NULL;
    return PyObject_CallFunction(reader->codec->uuid, "Oy#", Py_None,
                                 (const char *)bytes, (Py_ssize_t)16);
}

/* ---- containers ---- */

static PyObject *
read_list(struct reader *reader, size_t count, unsigned depth)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = read_value(reader, depth);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *
read_tuple(struct reader *reader, size_t count, unsigned depth)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = read_value(reader, depth);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SetItem(tuple, (Py_ssize_t)i, item);
    }
    return tuple;
}

/* Where a key would be known. */
static struct plain_known_key *
known_key(struct plain_codec *codec, const uint8_t *bytes, size_t size)
{
    uint64_t hash = size;
    for (size_t done = 0; done < size; done += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + done, size - done < 8 ? size - done : 8);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return &codec->known_keys[hash % PLAIN_KNOWN_KEYS];
}

/* A short str that is a key: most likely it was made before. */
static PyObject *
read_known_key(struct reader *reader, size_t size)
{
    const uint8_t *bytes = take(reader, size);
    if (bytes == NULL || size > PLAIN_KNOWN_KEY_BYTES)
        return read_text(bytes, size);
    struct plain_known_key *known = known_key(reader->codec, bytes, size);
    if (known->text == NULL || known->size != size ||
        memcmp(known->bytes, bytes, size) != 0) {
        PyObject *text = read_text(bytes, size);
        if (text == NULL)
            return NULL;
        Py_XDECREF(known->text);
        known->text = text;
        known->size = (uint8_t)size;
        memcpy(known->bytes, bytes, size);
    }
    Py_INCREF(known->text);
    return known->text;
}

static PyObject *
read_key(struct reader *reader, unsigned depth)
{
    if (reader->next == reader->end)
        return refuse_bytes("cut short");
    uint8_t kind = *reader->next;
    if (kind == KIND_KEY_REF) {
        const uint8_t *bytes = take(reader, 2);
        if (bytes == NULL || bytes[1] >= reader->key_count)
            return bytes == NULL ? NULL : refuse_bytes("no such key");
        Py_INCREF(reader->keys[bytes[1]]);
        return reader->keys[bytes[1]];
    }
    if (kind < KIND_SHORT_STR)
        return read_value(reader, depth);
    reader->next++;
    PyObject *key = read_known_key(reader, kind & SHORT_STR_MAX);
    if (key != NULL && reader->key_count < KEY_REFS_MAX) {
        Py_INCREF(key);
        reader->keys[reader->key_count++] = key;
    }
    return key;
}

static PyObject *
read_dict(struct reader *reader, size_t count, unsigned depth)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < count; i++) {
        PyObject *key = read_key(reader, depth);
        PyObject *value = key == NULL ? NULL : read_value(reader, depth);
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

/* ---- values ---- */

static PyObject *
read_sized_container(struct reader *reader, uint8_t kind, unsigned depth)
{
    size_t count = 0;
    if (!take_size(reader, &count))
        return NULL;
    if (kind == KIND_LIST)
        return read_list(reader, count, depth);
    if (kind == KIND_TUPLE)
        return read_tuple(reader, count, depth);
    return read_dict(reader, count, depth);
}

static PyObject *
read_container(struct reader *reader, uint8_t kind, unsigned depth)
{
    if (depth == DEPTH_MAX)
        return refuse_bytes("too deep");
    size_t count = kind & SHORT_MAX;
    if (kind >= KIND_SHORT_DICT)
        return read_dict(reader, count, depth + 1);
    if (kind >= KIND_SHORT_TUPLE)
        return read_tuple(reader, count, depth + 1);
    if (kind >= KIND_SHORT_LIST)
        return read_list(reader, count, depth + 1);
    return read_sized_container(reader, kind, depth + 1);
}

static PyObject *
read_object(struct reader *reader, uint8_t kind)
{
    switch (kind) {
    case KIND_BIG_INT:
        return read_big_int(reader);
    case KIND_DATE:
        return read_date(reader);
    case KIND_DATETIME:
        return read_datetime(reader, NULL);
    case KIND_DATETIME_UTC:
        return read_datetime(reader, reader->codec->utc);
    case KIND_TIME:
        return read_time(reader);
    case KIND_TIMEDELTA:
        return read_timedelta(reader);
    case KIND_DECIMAL:
        return read_decimal(reader);
    case KIND_UUID:
        return read_uuid(reader);
    default:
        return refuse_bytes("no such kind");
    }
}

static PyObject *
read_value(struct reader *reader, unsigned depth)
{
    if (reader->next == reader->end)
        return refuse_bytes("cut short");
    uint8_t kind = *reader->next++;
    if (kind >= KIND_SHORT_STR)
        return read_text(take(reader, kind & SHORT_STR_MAX), kind & SHORT_STR_MAX);
    if (kind >= KIND_SHORT_LIST)
        return read_container(reader, kind, depth);
    switch (kind) {
    case KIND_NONE:
        Py_RETURN_NONE;
    case KIND_TRUE:
        Py_RETURN_TRUE;
    case KIND_FALSE:
        Py_RETURN_FALSE;
    case KIND_INT8:
        return read_int8(reader);
    case KIND_INT32:
        return read_int32(reader);
    case KIND_INT64:
        return read_int64(reader);
    case KIND_FLOAT:
        return read_float(reader);
    case KIND_STR:
        return read_str(reader);
    case KIND_BYTES:
        return read_bytes(reader);
    case KIND_LIST:
    case KIND_TUPLE:
    case KIND_DICT:
        return read_container(reader, kind, depth);
    default:
        return read_object(reader, kind);
    }
}

static PyObject *
read_payload(struct plain_codec *codec, const uint8_t *bytes, size_t size)
{
    struct reader reader;
    reader.codec = codec;
    reader.next = bytes + 1;
    reader.end = bytes + size;
    reader.key_count = 0;
    PyObject *value = read_value(&reader, 0);
    if (value != NULL && reader.next != reader.end) {
        Py_CLEAR(value);
        refuse_bytes("more than one value");
    }
    for (unsigned i = 0; i < reader.key_count; i++)
        Py_DECREF(reader.keys[i]);
    return value;
}

PyObject *
plain_loads(struct plain_codec *codec, PyObject *payload)
{
    if (!PyBytes_Check(payload)) {
        PyErr_SetString(PyExc_TypeError, "plain_loads() takes bytes");
        return NULL;
    }
    const uint8_t *bytes = (const uint8_t *)PyBytes_AsString(payload);
    size_t size = (size_t)PyBytes_Size(payload);
    if (size != 0 && bytes[0] == PICKLE_FIRST)
        return PyObject_CallFunctionObjArgs(codec->pickle_loads, payload, NULL);
    if (size == 0 || bytes[0] != FORMAT_VERSION)
        return refuse_bytes("another version");
    return read_payload(codec, bytes, size);
}
