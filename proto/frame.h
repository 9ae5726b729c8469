/* Finds the end of a MessagePack value in a byte stream and checks it before
 * msgpack-c sees a byte: depth, counts, sizes, types. Resumes where it stopped,
 * so a frame that arrives in many pieces costs linear time. */
#ifndef SEM_PROTO_FRAME_H
#define SEM_PROTO_FRAME_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_DEPTH_MAX = 32 };

typedef struct frame_limits {
    size_t bytes; /* of a frame */
    size_t depth; /* containers inside each other, the outer array included; at most FRAME_DEPTH_MAX */
    bool replies; /* the client's side: [1, msgid, error, result], and [2, method, params] of what it watches */
} frame_limits;

typedef struct frame_scanner {
    frame_limits limits;
    size_t position; /* bytes scanned */
    size_t skip;     /* bytes of a str, bin or ext still to pass over */
    size_t depth;
    uint64_t remaining[FRAME_DEPTH_MAX + 1]; /* values left at each level */
    uint64_t pending;                        /* their sum: each needs a byte at least */
    /* What the error answer needs, read on the way: */
    bool is_request;      /* the frame began as [0, ... with four elements */
    bool is_notification; /* it began as [2, ... with three */
    bool has_msgid;
    uint32_t msgid;
    /* internal */
    unsigned stage;
    uint64_t elements; /* of the outer array */
} frame_scanner;

void frame_scanner_init(frame_scanner *s, const frame_limits *limits);

/* data holds the frame from its first byte, size bytes so far. SEM_OK with
 * *length > 0: a whole frame of that length; *length == 0: more is needed. An
 * error: the stream is broken and the connection must be closed after one error
 * response (s->msgid where has_msgid, else 0): the frame is too large or nested
 * too deep, claims more elements than bytes can follow, holds an invalid byte,
 * is no array of RPC form or has a bad msgid. */
sem_status frame_scan(frame_scanner *s, const unsigned char *data, size_t size, size_t *length, sem_error *err);

/* The msgid of an answer [1, msgid, error, result] as semd packs it; false for anything else. */
bool frame_reply_msgid(const unsigned char *p, size_t size, uint32_t *msgid);

#endif
