/* Saved lists: each file is whole, its rows are of documents and slots that there were, and what lives of them
 * is in a cell and has the code of its vector. They are made from the vectors, so whatever is wrong with them is
 * mended by making them anew. */
#include "base/checked.h"
#include "index/lists_file.h"
#include "index/store_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The file of a collection's lists in a space. */
typedef struct saved_file {
    const slot_set *set;
    const store_collection *collection;
    space *sp;
    size_t dim;
    uint64_t next_docno;
    char name[64], path[FILES_PATH_MAX]; /* name: for people */
} saved_file;

static bool slot_is_named(const slot_set *set, uint32_t slot)
{
    return slot < set->counter && (set->named[slot / 8] >> slot % 8 & 1) != 0;
}

/* --- rows */

static void check_numbers(verify *v, const saved_file *s, const lists_file *f)
{
    for (uint32_t i = 0; i < f->rows; i++)
        if (f->docnos[i] >= s->next_docno || f->slots[i] >= s->set->counter) {
            verify_report_cache(v, "%s: row %u is of number %u and slot %u, which were never given out", s->name, i,
                                f->docnos[i], f->slots[i]);
            return;
        }
}

/* Which rows are in a cell. */
typedef struct listing {
    const lists *lists;
    uint32_t rows;
    unsigned char *listed; /* a bit for each row */
    bool strange;          /* a lane is of no row */
} listing;

static void mark_row(void *context, uint32_t cell, uint32_t where)
{
    listing *m = context;
    const uint32_t row = lists_row(m->lists, where);
    (void)cell;
    if (row < m->rows)
        m->listed[row / 8] |= (unsigned char)(1u << row % 8);
    else
        m->strange = true;
}

/* The slot's vector: [dim]; *found false: it is not there, which is reported with the vectors. */
static sem_status take_vector(verify *v, const saved_file *s, uint32_t slot, float *vector, bool *found, sem_error *err)
{
    slot_vector where;
    sem_status status = slot_find(&v->r, s->sp->number, s->collection->number, slot, &where, found, err);
    if (status == SEM_INTERNAL) { /* a damaged block, likewise */
        *found = false;
        return SEM_OK;
    }
    *found = status == SEM_OK && *found && where.floats >= s->dim;
    if (*found)
        memcpy(vector, where.data, s->dim * sizeof *vector);
    return status;
}

static void report_row(verify *v, const saved_file *s, const lists_file *f, uint32_t row, const char *what)
{
    char name[VERIFY_NAME];
    verify_report_cache(v, "%s: row %u, of %s, %s", s->name, row,
                        verify_numbered(v, s->collection->number, f->docnos[row], name), what);
}

/* Nothing but the first row that is wrong: where there is one there are most often many. */
static sem_status check_codes(verify *v, const saved_file *s, const lists_file *f, const unsigned char *listed,
                              float *vector, uint8_t *code, sem_error *err)
{
    const lists *l = f->lists;
    for (uint32_t i = 0; i < f->rows; i++) {
        bool found = false;
        if (!slot_is_named(s->set, f->slots[i]))
            continue;
        if ((listed[i / 8] >> i % 8 & 1) == 0) {
            report_row(v, s, f, i, "is in no list");
            return SEM_OK;
        }
        sem_status status = take_vector(v, s, f->slots[i], vector, &found, err);
        if (status != SEM_OK)
            return status;
        if (!found)
            continue;
        (void)codes_to_nibbles(l->kernel, vector, s->dim, code);
        if (memcmp(code, lists_nibbles(l, i), l->nibbles_width) != 0) {
            report_row(v, s, f, i, "has the code of another vector");
            return SEM_OK;
        }
    }
    return SEM_OK;
}

static sem_status check_rows(verify *v, const saved_file *s, const lists_file *f, sem_error *err)
{
    listing m = {.lists = f->lists, .rows = f->rows, .listed = calloc(f->rows / 8 + 1, 1)};
    float *vector = checked_alloc_aligned(s->dim, sizeof *vector);
    uint8_t *code = checked_alloc_aligned(f->lists->nibbles_width, 1);
    sem_status status = m.listed != NULL && vector != NULL && code != NULL ? SEM_OK : sem_fail_memory(err, "lists");
    if (status == SEM_OK)
        lists_each(f->lists, mark_row, &m);
    if (status == SEM_OK && m.strange)
        verify_report_cache(v, "%s: a list has a row that the file does not know", s->name);
    else if (status == SEM_OK)
        status = check_codes(v, s, f, m.listed, vector, code, err);
    free(m.listed);
    free(vector);
    free(code);
    return status;
}

/* --- files */

static sem_status check_lists(verify *v, const saved_file *s, sem_error *err)
{
    lists_file f;
    sem_error why;
    sem_status status = lists_file_load(s->path, s->dim, s->collection->metric == METRIC_DOT, &f, &why);
    if (status != SEM_OK) {
        verify_report_cache(v, "%s: %s", s->name, why.message);
        return SEM_OK;
    }
    v->result.lists++;
    lists_meet_all(f.lists);
    if (lists_damaged(f.lists))
        verify_report_cache(v, "%s: the checksum of a section is wrong", s->name);
    else
        check_numbers(v, s, &f);
    if (!lists_damaged(f.lists))
        status = check_rows(v, s, &f, err);
    lists_file_free(&f);
    return status;
}

/* What the first bytes of the file say. Reading those takes FAISS, which this is to do without: the daemon compares
 * them with their checksum before it uses them. */
static bool is_of_faiss(const char *path)
{
    char magic[8] = "";
    FILE *file = fopen(path, "re");
    const bool is = file != NULL && fread(magic, sizeof magic, 1, file) == 1 && memcmp(magic, "semdfais", 8) == 0;
    if (file != NULL)
        fclose(file);
    return is;
}

/* Of a space and a collection that there are: other files go at the next start. */
static sem_status check_file(verify *v, const slot_set *set, sem_error *err)
{
    collection_record record;
    saved_file s = {.set = set, .collection = verify_collection(v, set->collection), .sp = space_at(&v->s, set->space)};
    if (s.collection == NULL || s.sp == NULL || s.sp->vectors == 0)
        return SEM_OK;
    s.dim = set->space == STORE_SPACE_EXTERNAL ? s.collection->dim : s.sp->dim;
    snprintf(s.name, sizeof s.name, "cache/space-%u-%u.lists", set->space, set->collection);
    sem_status status = files_join(s.path, err, "%s/%s", v->s.path, s.name);
    if (status != SEM_OK || access(s.path, F_OK) != 0)
        return status;
    status = collection_load(&v->r, set->collection, &record, err);
    if (status != SEM_OK)
        return status;
    s.next_docno = record.next_docno;
    return is_of_faiss(s.path) ? SEM_OK : check_lists(v, &s, err);
}

sem_status verify_lists(verify *v, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < v->slot_count && status == SEM_OK; i++)
        status = check_file(v, &v->slots[i], err);
    return status;
}
