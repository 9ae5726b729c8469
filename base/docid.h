/* Document ids: an unsigned integer or a non-empty UTF-8 string of at most 480
 * bytes; 7 and "7" are different. Their key form sorts in id order (integers
 * before strings, integers by value, strings by bytes), so that LMDB's own
 * order and memcmp() are the order that users see. */
#ifndef SEM_BASE_DOCID_H
#define SEM_BASE_DOCID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DOCID_STRING_MAX = 480,              /* bytes */
    DOCID_KEY_MAX = 1 + DOCID_STRING_MAX /* bytes of the key form */
};

typedef struct docid {
    bool is_integer;
    uint64_t integer;   /* if is_integer */
    const char *string; /* else: borrowed, not NUL-terminated */
    size_t length;      /* bytes of string */
} docid;

/* Writes the key form: 0x01 and 8 bytes big-endian, or 0x02 and the bytes.
 * Returns its length, at most DOCID_KEY_MAX. The id must be valid. */
size_t docid_to_key(const docid *id, unsigned char key[DOCID_KEY_MAX]);

/* Reads a key form; out->string points into key. False if it is none. */
bool docid_from_key(const void *key, size_t length, docid *out);

/* Compares two key forms in id order: <0, 0, >0. */
int docid_key_compare(const void *a, size_t a_length, const void *b, size_t b_length);

#endif
