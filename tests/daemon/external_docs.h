/* An upsert into an external collection, as parameters: vectors cannot be written in the
 * text form of box_call. */
#ifndef SEM_TESTS_DAEMON_EXTERNAL_DOCS_H
#define SEM_TESTS_DAEMON_EXTERNAL_DOCS_H

#include "tests/daemon/blackbox.h"

typedef struct external_docs {
    const char *collection;
    const char *text; /* of each; NULL: an empty one */
    unsigned first, count;
    size_t dim;
    const float *vectors;                 /* of the document `first` */
    size_t stride;                        /* floats from one document's vector to the next; 0: all have the same */
    void (*meta)(packer *p, unsigned id); /* packs one field's name and value; NULL: no meta */
} external_docs;

/* buffer_free() is the caller's. */
static inline buffer external_docs_pack(const external_docs *d)
{
    buffer out = {0};
    packer p = box_begin_upsert(&out, d->collection, d->count);
    for (unsigned i = 0; i < d->count; i++) {
        pack_map(&p, d->meta != NULL ? 4 : 3);
        pack_str(&p, "id");
        pack_uint(&p, d->first + i);
        pack_str(&p, "text");
        pack_str(&p, d->text != NULL ? d->text : "");
        pack_str(&p, "vector");
        pack_bin(&p, d->vectors + i * d->stride, d->dim * sizeof *d->vectors);
        if (d->meta == NULL)
            continue;
        pack_str(&p, "meta");
        pack_map(&p, 1);
        d->meta(&p, d->first + i);
    }
    ck_assert(!p.failed);
    return out;
}

#endif
