/* The normalization forms of Unicode (Standard Annex 15), as the libraries have
 * them that vocabularies are used with: decompositions, compositions and combining
 * classes are those of Unicode 10, whatever utf8proc knows. */
#ifndef SEM_MODEL_TEXT_FORM_H
#define SEM_MODEL_TEXT_FORM_H

#include "base/buffer.h"
#include "base/status.h"
#include "model/text_scratch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct text_pair {
    uint32_t first, second, composite; /* composite 0: the entry is free */
} text_pair;

typedef struct text_form {
    bool compatible;       /* NFKC, NFKD */
    bool composed;         /* NFC, NFKC */
    unsigned char *stable; /* a bit a character below U+20000, owned: it stays, and joins nothing before it */
    text_pair *pairs;      /* what composes to what: hash table with open addressing, owned */
} text_form;

/* Immutable after creation. name is "NFC", "NFD", "NFKC" or "NFKD"; others are refused. */
sem_status text_form_create(text_form *out, const char *name, sem_error *err);
void text_form_free(text_form *form);

/* Appends the text in this form; linear in length. False when memory is out. */
bool text_form_apply(const text_form *form, const char *text, size_t length, text_scratch *scratch, buffer *out);

enum { TEXT_PARTS_MAX = 32 }; /* the longest decomposition has 18 characters */

/* The full decomposition of one character; returns its length. */
size_t text_decompose(uint32_t code, bool compatible, uint32_t parts[TEXT_PARTS_MAX]);
/* Canonical combining class; 0 ends a run of marks. */
uint8_t text_combining_class(uint32_t code);

#endif
