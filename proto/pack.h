/* Writing MessagePack into a buffer. A failure of memory is kept and asked for
 * once, at the end. */
#ifndef SEM_PROTO_PACK_H
#define SEM_PROTO_PACK_H

#include "base/buffer.h"
#include "base/docid.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct packer {
    buffer *out;
    bool failed; /* memory ran out; what is in out is not whole */
} packer;

void pack_init(packer *p, buffer *out);
void pack_nil(packer *p);
void pack_bool(packer *p, bool value);
void pack_uint(packer *p, uint64_t value);
void pack_int(packer *p, int64_t value);
void pack_double(packer *p, double value);
void pack_float(packer *p, float value);
void pack_str(packer *p, const char *text);
void pack_strn(packer *p, const char *text, size_t length);
void pack_bin(packer *p, const void *data, size_t size);
void pack_array(packer *p, size_t count);
void pack_map(packer *p, size_t count);
void pack_id(packer *p, const docid *id);
/* size bytes that are already MessagePack. */
void pack_raw(packer *p, const void *data, size_t size);

/* The head of a successful response: [1, msgid, nil, and then the result follows. */
void reply_begin(packer *p, uint32_t msgid);
/* A whole error response. A code that is not of the wire contract becomes INTERNAL. */
void reply_error(packer *p, uint32_t msgid, const sem_error *err);
/* The head of a request: [0, msgid, method, and then the params follow. */
void request_begin(packer *p, uint32_t msgid, const char *method);
/* The head of a notification: [2, method, and then the params follow. */
void notification_begin(packer *p, const char *method);

#endif
