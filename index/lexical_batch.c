#include "index/lexical_batch.h"

#include "base/checked.h"

#include <stdlib.h>

enum {
    BATCH_DOCUMENTS = 2000, /* in one transaction; a search may have to wait for one */
    BATCH_BYTES = 4 << 20   /* of texts */
};

void lexical_batch_free(lexical_batch *b)
{
    free(b->changes);
    free(b->old);
    *b = (lexical_batch){0};
}

static bool is_full(const lexical_batch *b)
{
    return b->count >= BATCH_DOCUMENTS || b->bytes >= BATCH_BYTES;
}

static bool append(lexical_batch *b, const lexical_change *change)
{
    if (b->count == b->capacity) {
        size_t capacity = b->capacity == 0 ? 64 : b->capacity * 2;
        lexical_change *grown = checked_realloc(b->changes, capacity, sizeof *grown);
        if (grown == NULL) {
            b->failed = true;
            return false;
        }
        b->changes = grown;
        b->capacity = capacity;
    }
    b->changes[b->count++] = *change;
    b->bytes += change->length;
    return true;
}

static int compare_changes(const void *a, const void *b)
{
    const lexical_change *x = a, *y = b;
    if (x->collection != y->collection)
        return x->collection < y->collection ? -1 : 1;
    if (x->docno != y->docno)
        return x->docno < y->docno ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* Of each document the last change stays. */
static void sort_changes(lexical_batch *b)
{
    size_t kept = 0;
    if (b->count == 0)
        return;
    qsort(b->changes, b->count, sizeof *b->changes, compare_changes);
    for (size_t i = 0; i < b->count; i++) {
        if (i + 1 < b->count && b->changes[i].collection == b->changes[i + 1].collection &&
            b->changes[i].docno == b->changes[i + 1].docno)
            continue;
        b->changes[kept++] = b->changes[i];
    }
    b->count = kept;
}

/* --- the log */

static bool is_wanted(lexical_batch *b, uint32_t collection)
{
    store_collection c;
    if (b->looked_at != collection)
        b->wanted = store_collection_at(b->read, collection, &c, NULL) == SEM_OK && c.lexical;
    b->looked_at = collection;
    return b->wanted;
}

static bool add_logged(void *context, uint64_t seq, uint32_t collection, uint32_t docno, bool removed)
{
    lexical_batch *b = context;
    if (seq != b->upto && is_full(b)) {
        b->more = true;
        return false;
    }
    b->upto = seq;
    if (!is_wanted(b, collection))
        return true;
    lexical_change change = {.collection = collection, .docno = docno, .seq = seq, .removed = removed};
    store_document doc;
    if (store_document_by_number(b->read, collection, docno, &doc, &change.exists, NULL) != SEM_OK) {
        b->failed = true;
        return false;
    }
    if (change.exists) {
        change.version = doc.text_version;
        change.text = doc.text;
        change.length = doc.text_length;
    }
    return append(b, &change);
}

sem_status lexical_batch_read(lexical_batch *b, store_read *r, uint64_t after, sem_error *err)
{
    b->read = r;
    b->upto = after;
    sem_status status = store_log_walk(r, after, add_logged, b, err);
    if (status == SEM_OK && b->failed)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot gather a batch for the lexical index");
    if (!b->more) /* the last requests may have touched nothing */
        b->upto = store_last_seq(r);
    sort_changes(b);
    return status;
}

static bool add_old(void *context, const store_old_text *old)
{
    lexical_batch *b = context;
    if (b->old_count == b->old_capacity) {
        size_t capacity = b->old_capacity == 0 ? 64 : b->old_capacity * 2;
        store_old_text *grown = checked_realloc(b->old, capacity, sizeof *grown);
        if (grown == NULL) {
            b->failed = true;
            return false;
        }
        b->old = grown;
        b->old_capacity = capacity;
    }
    b->old[b->old_count++] = *old;
    b->bytes += old->length;
    return true;
}

static int compare_old(const void *a, const void *b)
{
    const store_old_text *x = a, *y = b;
    if (x->collection != y->collection)
        return x->collection < y->collection ? -1 : 1;
    if (x->docno != y->docno)
        return x->docno < y->docno ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

sem_status lexical_batch_add_old(lexical_batch *b, store_read *r, uint64_t after, sem_error *err)
{
    sem_status status = store_old_texts_walk(r, after, b->upto, add_old, b, err);
    if (status == SEM_OK && b->failed)
        status = sem_fail_memory(err, "old texts");
    if (status == SEM_OK && b->old_count > 0)
        qsort(b->old, b->old_count, sizeof *b->old, compare_old);
    return status;
}

/* --- a walk */

static bool add_walked(void *context, const store_document *doc)
{
    lexical_batch *b = context;
    if (is_full(b)) {
        b->more = true;
        return false;
    }
    lexical_change change = {.docno = doc->docno,
                             .exists = true,
                             .version = doc->text_version,
                             .text = doc->text,
                             .length = doc->text_length};
    b->last_length = docid_to_key(&doc->id, b->last);
    return append(b, &change);
}

sem_status lexical_batch_walk(lexical_batch *b, store_read *r, uint32_t collection, const unsigned char *after,
                              size_t after_length, sem_error *err)
{
    sem_status status =
        store_document_walk(r, collection, after_length > 0 ? after : NULL, after_length, add_walked, b, err);
    if (status == SEM_OK && b->failed)
        status = sem_fail_memory(err, "a batch for the lexical index");
    sort_changes(b);
    return status;
}
