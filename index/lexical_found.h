/* Documents that postings led to, with the best score that each can have got from
 * them: a hash table while it is filled, a heap when it is emptied. Nothing outside
 * index/lexical_*.c includes it. */
#ifndef SEM_INDEX_LEXICAL_FOUND_H
#define SEM_INDEX_LEXICAL_FOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct found_document {
    uint32_t docno;
    float score; /* above 0; 0: no document */
} found_document;

typedef struct lexical_found {
    found_document *slots; /* [size], owned; a power of two */
    size_t size, count;
} lexical_found;

void lexical_found_free(lexical_found *f);
/* Adds to the document's score; false when memory is out. score must be above 0. */
bool lexical_found_add(lexical_found *f, uint32_t docno, float score);
/* Makes a heap of it; nothing can be added any more. */
void lexical_found_order(lexical_found *f);
/* The best that is left; false when there is none. */
bool lexical_found_next(lexical_found *f, found_document *out);

#endif
