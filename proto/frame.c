#include "proto/frame.h"

#include "proto/number.h"
#include "proto/value.h"

#include <inttypes.h>

enum { STAGE_ARRAY, STAGE_TYPE, STAGE_MSGID, STAGE_REST };
enum { TYPE_REQUEST = 0, TYPE_REPLY = 1, TYPE_NOTIFICATION = 2 };

static const char RPC_FORM[] = "a request is [0, msgid, method, params] and a notification [2, method, params]";

void frame_scanner_init(frame_scanner *s, const frame_limits *limits)
{
    *s = (frame_scanner){.limits = *limits, .pending = 1};
    if (s->limits.depth > FRAME_DEPTH_MAX)
        s->limits.depth = FRAME_DEPTH_MAX;
    s->remaining[0] = 1;
}

static sem_status fail_too_large(const frame_scanner *s, sem_error *err)
{
    char limit[NUMBER_TEXT_MAX];
    number_text(limit, s->limits.bytes);
    if (s->limits.replies)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the answer is larger than %s bytes", limit);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "frame: larger than %s bytes (limits.frame_bytes)", limit);
}

static sem_status fail_form(const frame_scanner *s, const char *found, sem_error *err)
{
    if (s->limits.replies)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "an answer is [1, msgid, error, result] and a notification [2, method, params]; found %s",
                        found);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "frame: %s; found %s", RPC_FORM, found);
}

static sem_status check_type(frame_scanner *s, const value_head *head, sem_error *err)
{
    if (head->kind != VALUE_UINT || head->number > TYPE_NOTIFICATION)
        return fail_form(s, "another message type", err);
    uint64_t want = head->number == TYPE_NOTIFICATION ? 3 : 4;
    if (head->number != TYPE_NOTIFICATION && s->limits.replies != (head->number == TYPE_REPLY))
        return fail_form(s, head->number == TYPE_REPLY ? "an answer" : "no answer", err);
    if (s->elements != want)
        return fail_form(s, "an array of another length", err);
    s->is_request = head->number == TYPE_REQUEST;
    s->is_notification = head->number == TYPE_NOTIFICATION;
    s->stage = head->number == TYPE_NOTIFICATION ? STAGE_REST : STAGE_MSGID;
    return SEM_OK;
}

/* The first values of a frame have a form of their own. */
static sem_status check_form(frame_scanner *s, const value_head *head, sem_error *err)
{
    switch (s->stage) {
    case STAGE_ARRAY:
        if (head->kind != VALUE_ARRAY)
            return fail_form(s, value_kind_name(head->kind), err);
        if (head->number != 3 && head->number != 4)
            return fail_form(s, "an array of another length", err);
        s->elements = head->number;
        s->stage = STAGE_TYPE;
        return SEM_OK;
    case STAGE_TYPE: return check_type(s, head, err);
    default:
        if (head->kind != VALUE_UINT || head->number > UINT32_MAX)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "frame: msgid must be an unsigned 32-bit integer; found %s",
                            head->kind == VALUE_UINT ? "a larger one" : value_kind_name(head->kind));
        s->msgid = (uint32_t)head->number;
        s->has_msgid = true;
        s->stage = STAGE_REST;
        return SEM_OK;
    }
}

static sem_status check_claim(const frame_scanner *s, const value_head *head, uint64_t values, sem_error *err)
{
    uint64_t left = s->limits.bytes - s->position;
    if (values <= left && s->pending <= left - values)
        return SEM_OK;
    char count[NUMBER_TEXT_MAX], limit[NUMBER_TEXT_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "frame: %s that claims %s %s can't fit in the %s bytes that a frame may have (limits.frame_bytes)",
                    value_kind_name(head->kind), number_text(count, head->number),
                    head->kind == VALUE_MAP ? "entries" : "elements", number_text(limit, s->limits.bytes));
}

/* Opens an array or map: its elements become the values to read next. */
static sem_status open_container(frame_scanner *s, const value_head *head, sem_error *err)
{
    uint64_t values = head->kind == VALUE_MAP ? 2 * head->number : head->number;
    if (s->depth + 1 > s->limits.depth)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "frame: nested deeper than %zu (limits.depth)", s->limits.depth);
    sem_status status = check_claim(s, head, values, err);
    if (status != SEM_OK || values == 0)
        return status;
    s->depth++;
    s->remaining[s->depth] = values;
    s->pending += values;
    return SEM_OK;
}

/* Accounts for a head that is whole. What holds before and after it:
 * position + skip + pending <= limits.bytes, for every value takes a byte. */
static sem_status take_head(frame_scanner *s, const value_head *head, sem_error *err)
{
    if (head->kind == VALUE_INVALID)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "frame: byte 0xc1 at offset %zu begins no MessagePack value",
                        s->position);
    if (s->stage != STAGE_REST) {
        sem_status status = check_form(s, head, err);
        if (status != SEM_OK)
            return status;
    }
    s->position += head->head_size;
    s->pending--;
    s->remaining[s->depth]--;
    if (head->kind == VALUE_ARRAY || head->kind == VALUE_MAP) {
        sem_status status = open_container(s, head, err);
        if (status != SEM_OK)
            return status;
    } else if (head->kind == VALUE_STR || head->kind == VALUE_BIN || head->kind == VALUE_EXT) {
        uint64_t left = s->limits.bytes - s->position;
        if (head->number > left || s->pending > left - head->number)
            return fail_too_large(s, err);
        s->skip = (size_t)head->number;
    }
    while (s->depth > 0 && s->remaining[s->depth] == 0)
        s->depth--;
    return SEM_OK;
}

/* Bytes of a value whose first byte says all: small integers, nil, bools, short
 * str, empty containers; 0 for any other. */
static size_t small_value_size(unsigned char byte)
{
    if (byte <= 0x7f || byte >= 0xe0 || byte == 0xc0 || (byte & 0xfe) == 0xc2)
        return 1;
    if (byte >= 0xa0 && byte <= 0xbf)
        return 1 + (size_t)(byte & 0x1f);
    return byte == 0x80 || byte == 0x90 ? 1 : 0;
}

/* Passes over a run of small values without the rest of the machinery: they are
 * what a large frame can hold most of. The last one of its level is left, since
 * it may close others, and so is what would break a limit. */
static void pass_small_values(frame_scanner *s, const unsigned char *data, size_t size)
{
    if (s->depth == s->limits.depth)
        return; /* here an empty container is one too deep */
    size_t end = size < s->limits.bytes ? size : s->limits.bytes;
    size_t position = s->position;
    uint64_t pending = s->pending, run = s->remaining[s->depth] - 1, passed = 0;
    for (; passed < run && position < end; passed++) {
        size_t length = small_value_size(data[position]);
        if (length == 0 || length > end - position || pending - passed - 1 > s->limits.bytes - position - length)
            break;
        position += length;
    }
    s->position = position;
    s->pending -= passed;
    s->remaining[s->depth] -= passed;
}

sem_status frame_scan(frame_scanner *s, const unsigned char *data, size_t size, size_t *length, sem_error *err)
{
    *length = 0;
    for (;;) {
        size_t pass = size - s->position < s->skip ? size - s->position : s->skip;
        s->position += pass;
        s->skip -= pass;
        if (s->skip > 0)
            return SEM_OK;
        if (s->pending == 0) {
            *length = s->position;
            return SEM_OK;
        }
        if (s->stage == STAGE_REST && s->depth > 0)
            pass_small_values(s, data, size);
        value_head head;
        value_head_read(data + s->position, size - s->position, &head);
        size_t left = s->limits.bytes - s->position;
        if (head.head_size > left || s->pending - 1 > left - head.head_size)
            return fail_too_large(s, err);
        if (head.kind == VALUE_INCOMPLETE)
            return SEM_OK;
        sem_status status = take_head(s, &head, err);
        if (status != SEM_OK)
            return status;
    }
}

bool frame_reply_msgid(const unsigned char *p, size_t size, uint32_t *msgid)
{
    if (size < 8 || p[0] != 0x94 || p[1] != 0x01)
        return false;
    if (p[2] < 0x80)
        *msgid = p[2];
    else if (p[2] == 0xCC)
        *msgid = p[3];
    else if (p[2] == 0xCD)
        *msgid = (uint32_t)p[3] << 8 | p[4];
    else if (p[2] == 0xCE)
        *msgid = (uint32_t)p[3] << 24 | (uint32_t)p[4] << 16 | (uint32_t)p[5] << 8 | p[6];
    else
        return false;
    return true;
}
