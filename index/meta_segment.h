/* The meta of a block of 65,536 documents as columns: for each field its values
 * in order, and for each value the documents that have it. Made once and never
 * changed, so any thread reads it without a lock; newer meta is merged into a
 * new one. A document is named by the low 16 bits of its number.
 *
 * A unique number takes 10 bytes a document (8 for itself, 2 for the document),
 * a unique string 6 and its bytes. Where documents are many, bitmaps of the
 * documents of neighbouring values come to it, 2 bytes a document at most. */
#ifndef SEM_INDEX_META_SEGMENT_H
#define SEM_INDEX_META_SEGMENT_H

#include "base/status.h"
#include "index/docset.h"
#include "index/meta_reader.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { META_RUN_MIN = 4096 /* postings of a run at least, the number that a bitmap is smaller than */ };

/* Documents of a block: a list while they are few, else a bitmap. */
typedef struct meta_set {
    size_t count;
    uint16_t *list; /* owned; ascending; NULL when bits has them, or count is 0 */
    uint64_t *bits; /* owned; [DOCSET_WORDS] */
} meta_set;

/* The documents of neighbouring values as a bitmap. */
typedef struct meta_run {
    uint32_t from, to; /* keys */
    uint64_t bits[DOCSET_WORDS];
} meta_run;

/* Keys are the distinct values in the order of value_compare: nil, false, true,
 * numbers, strings. Arrays count by their elements. */
typedef struct meta_field {
    char *name; /* owned, as all below */
    size_t name_length;
    uint32_t keys;
    uint32_t nils, bools[2]; /* keys of these kinds: 0 or 1 each */
    uint32_t numbers, strings;
    uint64_t *number_bits;  /* [numbers] the uint64, int64 or double */
    uint8_t *number_types;  /* [numbers] value_type; NULL: all are number_type */
    value_type number_type; /* of all */
    uint32_t *string_ends;  /* [strings] */
    char *string_bytes;
    uint32_t *starts; /* [keys + 1] into postings; NULL: key i has posting i alone */
    uint32_t postings_count;
    bool single;        /* no document has two postings: these are as many as their documents */
    uint16_t *postings; /* by key, then ascending */
    meta_set present;   /* documents that have the field, an empty array included */
    meta_run *runs;     /* ascending, apart from each other */
    size_t run_count;
} meta_field;

typedef struct meta_segment {
    atomic_size_t references;
    meta_set live; /* documents, with meta or without */
    meta_field *fields;
    size_t field_count; /* in the order of their names */
    size_t bytes;       /* of memory, all in all */
} meta_segment;

void meta_segment_share(meta_segment *s);
void meta_segment_release(meta_segment *s); /* frees with the last owner; accepts NULL */

/* Newer meta of a document; bytes are borrowed. */
typedef struct meta_source {
    uint16_t low;
    bool removed;
    const unsigned char *meta; /* a flat map as a request brings it; length 0: none */
    size_t length;
} meta_source;

/* A new segment: `old` (NULL: nothing) with the documents of sources replaced,
 * added or removed. sources are in ascending order of low, each low once. */
sem_status meta_segment_merge(meta_segment **out, const meta_segment *old, const meta_source *sources, size_t count,
                              sem_error *err);

/* NULL: no document of the block has it. */
const meta_field *meta_segment_field(const meta_segment *s, const char *name, size_t length);
/* The value of a key; a string is borrowed. */
void meta_field_key(const meta_field *f, uint32_t key, value *out);
/* The first key from `from` on that is not below v; with after, that is above v. */
uint32_t meta_field_search(const meta_field *f, uint32_t from, const value *v, bool after);
static inline uint32_t meta_field_start(const meta_field *f, uint32_t key)
{
    return f->starts != NULL ? f->starts[key] : key;
}

/* --- for meta_merge.c */

/* Adds the documents to a bitmap. */
void meta_set_spread(const meta_set *s, uint64_t bits[DOCSET_WORDS]);
/* From a bitmap; false when memory is out. */
bool meta_set_make(meta_set *out, const uint64_t bits[DOCSET_WORDS]);

#endif
