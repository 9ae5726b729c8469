#include "proto/pack.h"

#include "base/utf8.h"

#include <msgpack.h>

#include <string.h>

/* Told to a client when whoever ran out of something did not say for how long. */
enum { RETRY_AFTER_MS = 1000 };

enum { TYPE_REQUEST = 0, TYPE_REPLY = 1, TYPE_NOTIFICATION = 2 };

static int write_bytes(void *context, const char *data, size_t size)
{
    packer *p = context;
    if (p->failed || !buffer_append(p->out, data, size))
        p->failed = true;
    return p->failed ? -1 : 0;
}

/* msgpack-c's packer is two pointers: one is made for each value. */
static msgpack_packer *into(msgpack_packer *m, packer *p)
{
    msgpack_packer_init(m, p, write_bytes);
    return m;
}

/* Lengths and counts have 32 bits on the wire. */
static bool fits(packer *p, size_t size)
{
    if (size > UINT32_MAX)
        p->failed = true;
    return !p->failed;
}

void pack_init(packer *p, buffer *out)
{
    *p = (packer){.out = out};
}

void pack_nil(packer *p)
{
    msgpack_packer m;
    msgpack_pack_nil(into(&m, p));
}

void pack_bool(packer *p, bool value)
{
    msgpack_packer m;
    if (value)
        msgpack_pack_true(into(&m, p));
    else
        msgpack_pack_false(into(&m, p));
}

void pack_uint(packer *p, uint64_t value)
{
    msgpack_packer m;
    msgpack_pack_uint64(into(&m, p), value);
}

void pack_int(packer *p, int64_t value)
{
    msgpack_packer m;
    msgpack_pack_int64(into(&m, p), value);
}

void pack_double(packer *p, double value)
{
    msgpack_packer m;
    msgpack_pack_double(into(&m, p), value);
}

void pack_float(packer *p, float value)
{
    msgpack_packer m;
    msgpack_pack_float(into(&m, p), value);
}

void pack_str(packer *p, const char *text)
{
    pack_strn(p, text, strlen(text));
}

void pack_strn(packer *p, const char *text, size_t length)
{
    msgpack_packer m;
    if (!fits(p, length))
        return;
    msgpack_pack_str(into(&m, p), length);
    if (length > 0)
        msgpack_pack_str_body(&m, text, length);
}

void pack_bin(packer *p, const void *data, size_t size)
{
    msgpack_packer m;
    if (!fits(p, size))
        return;
    msgpack_pack_bin(into(&m, p), size);
    if (size > 0)
        msgpack_pack_bin_body(&m, data, size);
}

void pack_array(packer *p, size_t count)
{
    msgpack_packer m;
    if (fits(p, count))
        msgpack_pack_array(into(&m, p), count);
}

void pack_map(packer *p, size_t count)
{
    msgpack_packer m;
    if (fits(p, count))
        msgpack_pack_map(into(&m, p), count);
}

void pack_id(packer *p, const docid *id)
{
    if (id->is_integer)
        pack_uint(p, id->integer);
    else
        pack_strn(p, id->string, id->length);
}

void pack_raw(packer *p, const void *data, size_t size)
{
    write_bytes(p, data, size);
}

void reply_begin(packer *p, uint32_t msgid)
{
    pack_array(p, 4);
    pack_uint(p, TYPE_REPLY);
    pack_uint(p, msgid);
    pack_nil(p);
}

/* A message may quote a path or a library; on the wire a str is always UTF-8. */
static void pack_message(packer *p, const char *message)
{
    char safe[SEM_ERROR_MESSAGE_MAX];
    size_t length = strnlen(message, sizeof safe - 1);
    memcpy(safe, message, length);
    utf8_repair(safe, length);
    pack_strn(p, safe, length);
}

void reply_error(packer *p, uint32_t msgid, const sem_error *err)
{
    sem_status code = err->code;
    if (code == SEM_OK || code == SEM_CANCELLED)
        code = SEM_INTERNAL; /* neither is a code of the wire contract */
    bool retry = code == SEM_RESOURCE_EXHAUSTED;
    pack_array(p, 4);
    pack_uint(p, TYPE_REPLY);
    pack_uint(p, msgid);
    pack_map(p, retry ? 3 : 2);
    pack_str(p, "code");
    pack_str(p, sem_status_name(code));
    pack_str(p, "message");
    pack_message(p, err->message);
    if (retry) {
        pack_str(p, "retry_after_ms");
        pack_uint(p, err->retry_after_ms > 0 ? err->retry_after_ms : RETRY_AFTER_MS);
    }
    pack_nil(p);
}

void request_begin(packer *p, uint32_t msgid, const char *method)
{
    pack_array(p, 4);
    pack_uint(p, TYPE_REQUEST);
    pack_uint(p, msgid);
    pack_str(p, method);
}

void notification_begin(packer *p, const char *method)
{
    pack_array(p, 3);
    pack_uint(p, TYPE_NOTIFICATION);
    pack_str(p, method);
}
