/* Jobs: JSON texts by number. What stands in them is the daemon's affair. */
#include "index/store_internal.h"

#include <stdlib.h>

enum { JOB_MAX = 1 << 20 /* bytes of JSON */ };

sem_status store_job_next(store_write *w, uint32_t *number, sem_error *err)
{
    MDB_txn *txn;
    uint64_t value = 0;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&w->s->main, txn, "next_job", UINT32_MAX, &value, err);
    status = operation_end(w, status, err);
    if (status == SEM_OK)
        *number = (uint32_t)value;
    return status;
}

sem_status store_job_put(store_write *w, uint32_t number, const char *json, sem_error *err)
{
    unsigned char key[4];
    MDB_txn *txn;
    size_t size = strlen(json);
    if (number == 0 || size == 0 || size > JOB_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "job %u has a record of %zu bytes; numbers start at 1, a record has 1 "
                        "to %d bytes",
                        number, size, JOB_MAX);
    put_u32(key, number);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_put(&w->s->main, txn, w->s->jobs, key, sizeof key, json, size, err);
    return operation_end(w, status, err);
}

sem_status store_job_get(store_read *r, uint32_t number, uint32_t *found_number, char **json, bool *found,
                         sem_error *err)
{
    unsigned char wanted[4];
    MDB_txn *txn;
    MDB_cursor *cursor;
    put_u32(wanted, number);
    *found = false;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->jobs, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->main, "read a job", rc, err);
    MDB_val key = as_value(wanted, sizeof wanted), value;
    rc = mdb_cursor_get(cursor, &key, &value, number == 0 ? MDB_LAST : MDB_SET_KEY);
    mdb_cursor_close(cursor);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&r->s->main, "read a job", rc, err);
    if (key.mv_size != 4)
        return environment_damaged(&r->s->main, "a job's number", err);
    char *text = malloc(value.mv_size + 1);
    if (text == NULL)
        return sem_fail_memory(err, "a job's record");
    memcpy(text, value.mv_data, value.mv_size);
    text[value.mv_size] = '\0';
    *json = text;
    *found_number = get_u32(key.mv_data);
    *found = true;
    return SEM_OK;
}
