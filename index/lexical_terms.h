/* A set of terms with what is counted for each: the words of a query, or those of
 * the texts that a batch adds and removes. */
#ifndef SEM_INDEX_LEXICAL_TERMS_H
#define SEM_INDEX_LEXICAL_TERMS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lexical_term {
    const char *bytes; /* not NUL-terminated */
    size_t length;
    uint32_t times;     /* of a query: how often it stands there */
    uint64_t text;      /* number of the text that it was last seen in */
    uint32_t in_text;   /* how often there */
    int64_t change;     /* of a batch: documents that hold it, more or fewer */
    uint64_t documents; /* that hold it */
    double weight;      /* its inverse document frequency, `times` times */
    bool drives;        /* its postings were gone through */
} lexical_term;

typedef struct lexical_terms lexical_terms;

sem_status lexical_terms_create(lexical_terms **out, sem_error *err);
void lexical_terms_free(lexical_terms *t); /* accepts NULL */
/* Forgets all terms. */
void lexical_terms_clear(lexical_terms *t);
size_t lexical_terms_count(const lexical_terms *t);
/* In order of their first occurrence, or as lexical_terms_sort left them. */
lexical_term *lexical_terms_at(lexical_terms *t, size_t i);
/* The term, added if it is new; NULL when memory is out. Valid until the next is added. */
lexical_term *lexical_terms_add(lexical_terms *t, const char *bytes, size_t length);
/* NULL if there is none. */
lexical_term *lexical_terms_find(lexical_terms *t, const char *bytes, size_t length);
/* In a new order; it can still be searched, not added to. */
void lexical_terms_sort(lexical_terms *t, int (*compare)(const lexical_term *a, const lexical_term *b));

#endif
