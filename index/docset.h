/* Sets of document numbers as CRoaring's bitmaps, and the ways in and out of
 * them in whole blocks of 65,536 documents: through Roaring's portable format,
 * which is specified (roaringbitmap.org, RoaringFormatSpec), where its
 * structures in memory differ from release to release. */
#ifndef SEM_INDEX_DOCSET_H
#define SEM_INDEX_DOCSET_H

#include "base/buffer.h"
#include "base/status.h"

#include <roaring/roaring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DOCSET_BLOCK = 65536, /* documents of one Roaring container */
    DOCSET_WORDS = DOCSET_BLOCK / 64,
    DOCSET_LIST_MAX = 4096 /* documents of a block up to which Roaring keeps a list */
};

typedef roaring_bitmap_t docset;

/* Accepts NULL. */
void docset_free(docset *s);

/* Blocks are added in ascending order; a zeroed struct is an empty builder. */
typedef struct docset_builder {
    buffer heads, bodies;
    size_t count;
    bool failed; /* memory is out */
} docset_builder;

/* The documents of a block by their low 16 bits, ascending and distinct; count may be 0. */
void docset_add_list(docset_builder *b, uint32_t block, const uint16_t *lows, size_t count);
/* count must be the number of bits that are set. */
void docset_add_bits(docset_builder *b, uint32_t block, const uint64_t bits[DOCSET_WORDS], size_t count);
/* The bits that are set, as an ascending list; lows has room for all of them. */
size_t docset_list_bits(const uint64_t bits[DOCSET_WORDS], uint16_t *lows);
/* The set, to be freed; NULL when memory is out. Leaves the builder empty either way. */
docset *docset_finish(docset_builder *b);

/* As a plain bitmap, malloc'd: *bits of them, a multiple of 64 above the highest
 * document. An empty set has some too. */
sem_status docset_to_bits(const docset *s, uint64_t **words, size_t *bits, sem_error *err);
/* As an ascending array, malloc'd. */
sem_status docset_to_array(const docset *s, uint32_t **documents, size_t *count, sem_error *err);

#endif
