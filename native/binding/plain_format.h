/*
 * What plain data look like in bytes: FORMAT_VERSION, and one value. A value is a
 * byte that says what it is, and what is listed here. A size is in base 128,
 * least significant first. Numbers are in the byte order of the machine, as
 * everything in a pool.
 *
 * A pickle of protocol 2 and up begins with PICKLE_FIRST, so both can be told
 * apart by their first byte.
 */
#ifndef PMEMCACHE_PLAIN_FORMAT_H
#define PMEMCACHE_PLAIN_FORMAT_H

#define FORMAT_VERSION 0x01u
#define PICKLE_FIRST 0x80u

enum plain_kind {
    KIND_NONE = 0x00,
    KIND_TRUE = 0x01,
    KIND_FALSE = 0x02,
    KIND_INT8 = 0x03,
    KIND_INT32 = 0x04,
    KIND_INT64 = 0x05,
    KIND_BIG_INT = 0x06, /* size, ASCII in base 16 with a sign and 0x */
    KIND_FLOAT = 0x07,
    KIND_STR = 0x08,   /* size, UTF-8 */
    KIND_BYTES = 0x09, /* size, bytes */
    KIND_LIST = 0x0a,  /* size, values */
    KIND_TUPLE = 0x0b,
    KIND_DICT = 0x0c,         /* size, keys and values by turns */
    KIND_KEY_REF = 0x0d,      /* only as a key: byte n, the n-th short key */
    KIND_DATE = 0x10,         /* 4 bytes, as date.__reduce__() has them */
    KIND_DATETIME = 0x11,     /* 10 bytes, the fold in the month's high bit */
    KIND_DATETIME_UTC = 0x12, /* the same */
    KIND_TIME = 0x13,         /* 6 bytes, the fold in the hour's high bit */
    KIND_TIMEDELTA = 0x14,    /* three int32: days, seconds, microseconds */
    KIND_DECIMAL = 0x15,      /* size, ASCII */
    KIND_UUID = 0x16,         /* 16 bytes */
    /* Short ones: the low five or seven bits are the size. */
    KIND_SHORT_LIST = 0x20,
    KIND_SHORT_TUPLE = 0x40,
    KIND_SHORT_DICT = 0x60,
    KIND_SHORT_STR = 0x80,
};

#define SHORT_MAX 0x1fu
#define SHORT_STR_MAX 0x7fu

/* A key with a short form is short; so many of them can be referred to. */
#define KEY_REFS_MAX 128u

/* Deeper than this nothing is plain. */
#define DEPTH_MAX 64u

#endif
