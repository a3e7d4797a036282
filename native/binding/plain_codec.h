/*
 * The plain codec: the exact bytes of plain data, and back, in less time than a
 * pickle takes. Plain are dict, list, tuple, str, bytes, int, float, bool, None,
 * date, datetime, time, timedelta, Decimal and UUID, of exactly these types.
 *
 * Locking: every function needs the GIL.
 *
 * Law: what it writes, it reads as an equal object of equal types. Whatever it
 * could not promise that for it does not write.
 */
#ifndef PMEMCACHE_PLAIN_CODEC_H
#define PMEMCACHE_PLAIN_CODEC_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030a0000
#endif
#include <Python.h>

#include <stdint.h>

#define PLAIN_KNOWN_KEYS 1024u
#define PLAIN_KNOWN_KEY_BYTES 32u

/* The str of a short key, kept so that the next dict with it need not make it. */
struct plain_known_key {
    PyObject *text; /* NULL: free */
    uint8_t size;
    char bytes[PLAIN_KNOWN_KEY_BYTES];
};

/* What an interpreter's codec knows; all references are owned. */
struct plain_codec {
    PyObject *date;
    PyObject *datetime;
    PyObject *time;
    PyObject *timedelta;
    PyObject *utc;
    PyObject *decimal;
    PyObject *uuid;
    PyObject *safe_unknown; /* uuid.SafeUUID.unknown */
    PyObject *pickle_loads;
    struct plain_known_key known_keys[PLAIN_KNOWN_KEYS];
};

/* 0, or -1 with an exception. The codec begins as zeroed memory. */
int plain_codec_open(struct plain_codec *codec);

/* Give back all references. */
void plain_codec_clear(struct plain_codec *codec);

/* For the garbage collector. */
int plain_codec_traverse(struct plain_codec *codec, visitproc visit, void *arg);

/* The bytes of value; None where it is not plain; NULL with an exception. */
PyObject *plain_dumps(struct plain_codec *codec, PyObject *value);

/* The value of bytes that plain_dumps() or pickle wrote; NULL with an exception,
 * for any bytes that nobody wrote too. */
PyObject *plain_loads(struct plain_codec *codec, PyObject *payload);

#endif
