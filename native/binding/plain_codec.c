/*
 * What the plain codec knows of an interpreter: its types. See plain_codec.h.
 *
 * Locking: the GIL.
 */
#include "plain_codec.h"

#include <string.h>

/* Every reference that is not in the known keys. */
#define FOR_EACH_REFERENCE(codec, action)                                              \
    do {                                                                               \
        action((codec)->date);                                                         \
        action((codec)->datetime);                                                     \
        action((codec)->time);                                                         \
        action((codec)->timedelta);                                                    \
        action((codec)->utc);                                                          \
        action((codec)->decimal);                                                      \
        action((codec)->uuid);                                                         \
        action((codec)->safe_unknown);                                                 \
        action((codec)->pickle_loads);                                                 \
    } while (0)

/* What a module has under this name. A new reference, or NULL. */
static PyObject *
import_name(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL)
        return NULL;
    PyObject *found = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return found;
}

/* An attribute of what import_name() found, whose reference it takes. */
static PyObject *
attribute_of(PyObject *owner, const char *name)
{
    if (owner == NULL)
        return NULL;
    PyObject *found = PyObject_GetAttrString(owner, name);
    Py_DECREF(owner);
    return found;
}

int
plain_codec_open(struct plain_codec *codec)
{
    codec->date = import_name("datetime", "date");
    codec->datetime = import_name("datetime", "datetime");
    codec->time = import_name("datetime", "time");
    codec->timedelta = import_name("datetime", "timedelta");
    codec->utc = attribute_of(import_name("datetime", "timezone"), "utc");
    codec->decimal = import_name("decimal", "Decimal");
    codec->uuid = import_name("uuid", "UUID");
    codec->safe_unknown = attribute_of(import_name("uuid", "SafeUUID"), "unknown");
    codec->pickle_loads = import_name("pickle", "loads");
    return PyErr_Occurred() ? -1 : 0;
}

void
plain_codec_clear(struct plain_codec *codec)
{
    FOR_EACH_REFERENCE(codec, Py_CLEAR);
    for (size_t i = 0; i < PLAIN_KNOWN_KEYS; i++)
        Py_CLEAR(codec->known_keys[i].text);
}

int
plain_codec_traverse(struct plain_codec *codec, visitproc visit, void *arg)
{
    FOR_EACH_REFERENCE(codec, Py_VISIT);
    return 0;
}
