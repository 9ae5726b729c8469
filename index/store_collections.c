#include "index/store_internal.h"

#include <stdlib.h>

enum { FLAG_LEXICAL = 1, FLAG_DOT = 2, FLAG_EXTERNAL = 4, FLAG_WEIGHTS = 8 };

/* Not given is 1. */
static bool has_weights(const store_collection *c)
{
    return c->weight_dense != 1 || c->weight_lexical != 1;
}

static void put_real(unsigned char *p, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u64(p, bits);
}

static double get_real(const unsigned char *p)
{
    double value;
    uint64_t bits = get_u64(p);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t encode_record(const collection_record *record,
                            unsigned char out[COLLECTION_FIXED + COLLECTION_WEIGHTS + STORE_NAME_MAX])
{
    const store_collection *c = &record->c;
    out[0] = (unsigned char)((c->lexical ? FLAG_LEXICAL : 0) | (c->metric == METRIC_DOT ? FLAG_DOT : 0) |
                             (c->external ? FLAG_EXTERNAL : 0) | (has_weights(c) ? FLAG_WEIGHTS : 0));
    put_u32(out + 1, c->passage_tokens);
    put_u32(out + 5, c->passage_overlap);
    put_u32(out + 9, c->dim);
    put_u64(out + 13, c->documents);
    put_u64(out + 21, c->placed);
    put_u64(out + 29, c->bytes);
    put_u64(out + 37, record->next_docno);
    size_t length = strlen(c->name);
    size_t fixed = COLLECTION_FIXED;
    if (has_weights(c)) {
        put_real(out + fixed, c->weight_dense);
        put_real(out + fixed + 8, c->weight_lexical);
        fixed += COLLECTION_WEIGHTS;
    }
    memcpy(out + fixed, c->name, length);
    return fixed + length;
}

static bool decode_record(uint32_t number, const MDB_val *value, collection_record *out)
{
    const unsigned char *p = value->mv_data;
    if (value->mv_size <= COLLECTION_FIXED)
        return false;
    bool weights = (p[0] & FLAG_WEIGHTS) != 0;
    size_t fixed = COLLECTION_FIXED + (weights ? COLLECTION_WEIGHTS : 0);
    if (value->mv_size <= fixed || value->mv_size > fixed + STORE_NAME_MAX)
        return false;
    *out = (collection_record){.c = {.number = number,
                                     .lexical = (p[0] & FLAG_LEXICAL) != 0,
                                     .weight_dense = weights ? get_real(p + COLLECTION_FIXED) : 1,
                                     .weight_lexical = weights ? get_real(p + COLLECTION_FIXED + 8) : 1,
                                     .metric = (p[0] & FLAG_DOT) != 0 ? METRIC_DOT : METRIC_COSINE,
                                     .external = (p[0] & FLAG_EXTERNAL) != 0,
                                     .passage_tokens = get_u32(p + 1),
                                     .passage_overlap = get_u32(p + 5),
                                     .dim = get_u32(p + 9),
                                     .documents = get_u64(p + 13),
                                     .placed = get_u64(p + 21),
                                     .bytes = get_u64(p + 29)},
                               .next_docno = get_u64(p + 37)};
    memcpy(out->c.name, p + fixed, value->mv_size - fixed);
    return true;
}

sem_status collection_load(store_read *r, uint32_t number, collection_record *out, sem_error *err)
{
    const environment *e = &r->s->main;
    unsigned char key[4];
    MDB_val value;
    MDB_txn *txn;
    bool found;
    put_u32(key, number);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(e, txn, r->s->collections, key, sizeof key, &value, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found)
        return sem_fail(err, SEM_NOT_FOUND, "collection number %u does not exist", number);
    return decode_record(number, &value, out) ? SEM_OK : environment_damaged(e, "a collection's record", err);
}

sem_status collection_save(store_read *r, const collection_record *record, sem_error *err)
{
    unsigned char key[4], value[COLLECTION_FIXED + COLLECTION_WEIGHTS + STORE_NAME_MAX];
    MDB_txn *txn;
    put_u32(key, record->c.number);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    size_t size = encode_record(record, value);
    return table_put(&r->s->main, txn, r->s->collections, key, sizeof key, value, size, err);
}

sem_status store_collection_at(store_read *r, uint32_t number, store_collection *out, sem_error *err)
{
    collection_record record;
    sem_status status = collection_load(r, number, &record, err);
    if (status == SEM_OK)
        *out = record.c;
    return status;
}

/* The number behind a name; *found false when there is none. */
static sem_status find_number(store_read *r, const char *name, size_t length, uint32_t *number, bool *found,
                              sem_error *err)
{
    MDB_txn *txn;
    MDB_val value;
    *found = false;
    if (length == 0 || length > STORE_NAME_MAX)
        return SEM_OK;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(&r->s->main, txn, r->s->names, name, length, &value, found, err);
    if (status != SEM_OK || !*found)
        return status;
    if (value.mv_size != 4)
        return environment_damaged(&r->s->main, "a collection's number", err);
    *number = get_u32(value.mv_data);
    return SEM_OK;
}

sem_status store_collection_find(store_read *r, const char *name, size_t length, store_collection *out, sem_error *err)
{
    uint32_t number;
    bool found;
    sem_status status = find_number(r, name, length, &number, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found)
        return sem_fail(err, SEM_NOT_FOUND, "collection \"%.*s\" does not exist",
                        (int)(length < STORE_NAME_MAX ? length : STORE_NAME_MAX), name);
    return store_collection_at(r, number, out, err);
}

sem_status store_collection_list(store_read *r, store_collection **out, size_t *count, sem_error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_stat stat;
    MDB_val key, value;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_stat(txn, r->s->names, &stat);
    if (rc != 0 || (rc = mdb_cursor_open(txn, r->s->names, &cursor)) != 0)
        return environment_fail(&r->s->main, "list collections", rc, err);
    size_t used = 0;
    store_collection *list = calloc(stat.ms_entries + 1, sizeof *list);
    if (list == NULL)
        status = sem_fail_memory(err, "a list of collections");
    while (status == SEM_OK && used < stat.ms_entries && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        if (value.mv_size != 4)
            status = environment_damaged(&r->s->main, "a collection's number", err);
        else
            status = store_collection_at(r, get_u32(value.mv_data), &list[used++], err);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "list collections", rc, err);
    if (status != SEM_OK) {
        free(list);
        return status;
    }
    *out = list;
    *count = used;
    return SEM_OK;
}

/* --- create and drop */

static bool same_options(const store_collection *a, const store_collection *b)
{
    return a->passage_tokens == b->passage_tokens && a->passage_overlap == b->passage_overlap &&
           a->lexical == b->lexical && a->weight_dense == b->weight_dense && a->weight_lexical == b->weight_lexical &&
           a->metric == b->metric && a->external == b->external && (!a->external || a->dim == b->dim);
}

static sem_status check_options(const store_collection *c, sem_error *err)
{
    if (memchr(c->name, '\0', sizeof c->name) == NULL || c->name[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a collection's name has 1 to %d bytes", STORE_NAME_MAX);
    if (!(c->weight_dense >= 0) || !(c->weight_lexical >= 0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the weights of a hybrid search are numbers from 0 on");
    if (c->external && (c->dim == 0 || c->dim > STORE_DIM_MAX))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "dim is %u, a collection of external vectors needs 1 to %d", c->dim,
                        STORE_DIM_MAX);
    return SEM_OK;
}

static sem_status insert_collection(store_write *w, store_collection *options, sem_error *err)
{
    store *s = w->s;
    collection_record record = {.c = *options};
    record.c.documents = record.c.placed = record.c.bytes = 0;
    if (!record.c.external)
        record.c.dim = 0;
    MDB_txn *txn;
    uint64_t number;
    unsigned char bytes[4];
    sem_status status = operation_room(w, &s->main, 4096, 0, err);
    if (status == SEM_OK)
        status = read_txn(&w->view, &s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&s->main, txn, "collection", UINT32_MAX, &number, err);
    if (status != SEM_OK)
        return status;
    record.c.number = (uint32_t)number;
    put_u32(bytes, record.c.number);
    status = table_put(&s->main, txn, s->names, record.c.name, strlen(record.c.name), bytes, sizeof bytes, err);
    if (status == SEM_OK)
        status = collection_save(&w->view, &record, err);
    if (status == SEM_OK)
        *options = record.c;
    return status;
}

sem_status store_collection_create(store_write *w, store_collection *options, bool *created, sem_error *err)
{
    bool exists = false;
    uint32_t number;
    store_collection old;
    *created = false;
    if (options->weight_dense == 0 && options->weight_lexical == 0)
        options->weight_dense = options->weight_lexical = 1;
    sem_status status = check_options(options, err);
    if (status == SEM_OK)
        status = find_number(&w->view, options->name, strlen(options->name), &number, &exists, err);
    if (status == SEM_OK && exists)
        status = store_collection_at(&w->view, number, &old, err);
    if (status != SEM_OK)
        return status;
    if (exists && !same_options(&old, options))
        return sem_fail(err, SEM_ALREADY_EXISTS, "collection \"%s\" exists with other options", options->name);
    if (exists) {
        *options = old;
        return SEM_OK;
    }
    status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = operation_end(w, insert_collection(w, options, err), err);
    *created = status == SEM_OK;
    return status;
}

static sem_status drop_documents(store_write *w, MDB_txn *txn, uint32_t number, sem_error *err)
{
    store *s = w->s;
    unsigned char prefix[4];
    put_u32(prefix, number);
    sem_status status = table_delete_range(&s->main, txn, s->docs, prefix, prefix, sizeof prefix, 0, NULL, err);
    if (status == SEM_OK)
        status = table_delete_range(&s->main, txn, s->docnos, prefix, prefix, sizeof prefix, 0, NULL, err);
    if (status == SEM_OK)
        status = places_drop(w, number, err);
    if (status == SEM_OK)
        status = table_delete(&s->main, txn, s->collections, prefix, sizeof prefix, err);
    return status;
}

sem_status store_collection_drop(store_write *w, uint32_t number, sem_error *err)
{
    store_collection c;
    MDB_txn *txn;
    sem_status status = store_collection_at(&w->view, number, &c, err);
    if (status == SEM_OK)
        status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->names, c.name, strlen(c.name), err);
    if (status == SEM_OK)
        status = drop_documents(w, txn, number, err);
    return operation_end(w, status, err);
}
