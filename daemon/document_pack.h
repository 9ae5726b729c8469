/* What answers of search, get and scroll say of a document where that is asked for: entries of the
 * map that it is there. A packer that is out of memory remembers it. */
#ifndef SEM_DAEMON_DOCUMENT_PACK_H
#define SEM_DAEMON_DOCUMENT_PACK_H

#include "index/store.h"
#include "proto/pack.h"

#include <stddef.h>

/* A document, and how much of it was asked for. */
typedef struct document_parts {
    const store_document *doc;
    unsigned with;       /* WITH_TEXT and WITH_META, as in the request */
    const float *vector; /* [dim] its vector; NULL: the answer has none */
    size_t dim;
} document_parts;

/* The entries that document_pack() makes. */
size_t document_entries(const document_parts *d);
/* Text, meta and vector. */
void document_pack(packer *p, const document_parts *d);
/* The entry that says which part of a text a passage is. */
void document_pack_passage(packer *p, store_range range);

#endif
