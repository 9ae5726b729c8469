#include "index/faiss_file.h"

#include "base/checksum.h"
#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_VERSION = 1 };

static const char MAGIC[8] = {'s', 'e', 'm', 'd', 'f', 'a', 'i', 's'};

/* What the file begins with, as the processor has it: it never leaves its machine's store. */
typedef struct head {
    char magic[8];
    uint64_t version, dim, nlist, type, rows, entries, strangers, curve_bytes;
    int64_t trained_at_ms;
    uint64_t trained_rows, measured_rows;
    float longest, stranger_below;
    recall_curve curve;
    uint64_t bytes, checksum; /* of what comes behind */
    uint64_t head_checksum;   /* of all before it */
} head;

/* --- saving */

/* Maps the file to sum what lies behind its head. */
static sem_status sum_rest(FILE *file, const char *path, uint64_t *bytes, uint64_t *sum, sem_error *err)
{
    struct stat st;
    if (fstat(fileno(file), &st) != 0)
        return files_fail(err, "stat", path);
    if ((size_t)st.st_size <= sizeof(head))
        return lists_file_refuse(path, "it is too short", err);
    char *all = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (all == MAP_FAILED)
        return files_fail(err, "map", path);
    *bytes = (uint64_t)st.st_size - sizeof(head);
    *sum = checksum_of(all + sizeof(head), (size_t)*bytes);
    munmap(all, (size_t)st.st_size);
    return SEM_OK;
}

static void fill_head(head *h, const faiss_cells *f, uint32_t count)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, MAGIC, sizeof MAGIC);
    h->version = FILE_VERSION;
    h->dim = f->dim;
    h->nlist = f->nlist;
    h->type = faiss_ivf_type(f->ivf);
    h->rows = count;
    h->entries = atomic_load_explicit(&f->entries, memory_order_relaxed);
    h->strangers = atomic_load_explicit(&f->strangers_count, memory_order_relaxed);
    h->curve_bytes = sizeof h->curve;
    h->trained_at_ms = f->trained_at_ms;
    h->trained_rows = f->trained_rows;
    h->measured_rows = f->measured_rows;
    h->longest = f->longest;
    h->stranger_below = f->stranger_below;
    h->curve = f->curve;
}

static bool write_rows(FILE *to, const rows *r, uint32_t count)
{
    bool well = true;
    for (uint32_t row = 0; row < count && well; row++) {
        const uint32_t pair[2] = {rows_docno(r, row), rows_slot(r, row)};
        well = fwrite(pair, sizeof pair, 1, to) == 1;
    }
    return well;
}

static sem_status write_file(FILE *to, const char *path, head *h, faiss_cells *f, const rows *r, sem_error *err)
{
    if (fwrite(h, sizeof *h, 1, to) != 1 || !write_rows(to, r, (uint32_t)h->rows) ||
        fwrite(f->strangers, sizeof *f->strangers, h->strangers, to) != h->strangers)
        return files_fail(err, "write", path);
    sem_status status = faiss_ivf_save(f->ivf, to, err);
    if (status != SEM_OK)
        return status;
    if (fflush(to) != 0)
        return files_fail(err, "write", path);
    status = sum_rest(to, path, &h->bytes, &h->checksum, err);
    if (status != SEM_OK)
        return status;
    h->head_checksum = checksum_of(h, offsetof(head, head_checksum));
    if (fseek(to, 0, SEEK_SET) != 0 || fwrite(h, sizeof *h, 1, to) != 1 || fflush(to) != 0 || fsync(fileno(to)) != 0)
        return files_fail(err, "write", path);
    return SEM_OK;
}

sem_status faiss_file_save(const char *path, faiss_cells *f, const rows *r, sem_error *err)
{
    char beside[FILES_PATH_MAX];
    head h;
    sem_status status = files_join(beside, err, "%s.new", path);
    if (status != SEM_OK)
        return status;
    FILE *to = fopen(beside, "w+be");
    if (to == NULL)
        return files_fail(err, "create", beside);
    fill_head(&h, f, faiss_cells_covered(f));
    status = write_file(to, beside, &h, f, r, err);
    if (fclose(to) != 0 && status == SEM_OK)
        status = files_fail(err, "close", beside);
    if (status == SEM_OK && rename(beside, path) != 0)
        status = files_fail(err, "rename to", path);
    if (status != SEM_OK)
        unlink(beside);
    return status;
}

/* --- loading */

static sem_status check_head(const head *h, const char *path, const vector_index_options *o, sem_error *err)
{
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return lists_file_refuse(path, "it holds no lists of FAISS", err);
    if (h->version != FILE_VERSION || h->curve_bytes != sizeof h->curve)
        return lists_file_refuse(path, "another version of semd wrote it", err);
    if (h->head_checksum != checksum_of(h, offsetof(head, head_checksum)))
        return lists_file_refuse(path, "the checksum of its head is wrong", err);
    if (h->dim != o->dim || (h->longest > 0) != (o->metric == METRIC_DOT))
        return lists_file_refuse(path, "it is of other vectors", err);
    if (h->type != o->faiss_type)
        return lists_file_refuse(path, "index.faiss_type was another", err);
    return SEM_OK;
}

static sem_status check_rest(FILE *from, const head *h, const char *path, sem_error *err)
{
    uint64_t bytes, sum;
    sem_status status = sum_rest(from, path, &bytes, &sum, err);
    if (status != SEM_OK)
        return status;
    if (bytes != h->bytes)
        return lists_file_refuse(path, "it has another size than it should", err);
    return sum == h->checksum ? SEM_OK : lists_file_refuse(path, "its checksum is wrong", err);
}

static sem_status read_rows(FILE *from, const head *h, const char *path, lists_file *known, sem_error *err)
{
    sem_status status = lists_file_reserve(known, (uint32_t)h->rows, err);
    if (status != SEM_OK)
        return status;
    for (uint32_t row = 0; row < known->rows; row++) {
        uint32_t pair[2];
        if (fread(pair, sizeof pair, 1, from) != 1)
            return lists_file_refuse(path, "it is too short", err);
        known->docnos[row] = pair[0];
        known->slots[row] = pair[1];
    }
    return SEM_OK;
}

static sem_status read_cells(FILE *from, const head *h, const char *path, faiss_cells *f, sem_error *err)
{
    f->dim = (size_t)h->dim;
    f->nlist = (size_t)h->nlist;
    f->longest = h->longest;
    f->stranger_below = h->stranger_below;
    f->trained_at_ms = h->trained_at_ms;
    f->trained_rows = (size_t)h->trained_rows;
    f->measured_rows = (size_t)h->measured_rows;
    f->curve = h->curve;
    sem_status status = faiss_cells_reserve_strangers(f, h->strangers + h->rows / 4, err);
    if (status != SEM_OK)
        return status;
    if (fread(f->strangers, sizeof *f->strangers, h->strangers, from) != h->strangers)
        return lists_file_refuse(path, "it is too short", err);
    const faiss_ivf_options options = {
        .dim = f->dim, .type = (vector_faiss_type)h->type, .nlist = f->nlist, .longest = f->longest};
    status = faiss_ivf_load(&f->ivf, &options, from, err);
    atomic_store_explicit(&f->entries, h->entries, memory_order_relaxed);
    atomic_store_explicit(&f->strangers_count, h->strangers, memory_order_relaxed);
    atomic_store_explicit(&f->covered, (uint32_t)h->rows, memory_order_release);
    return status;
}

static sem_status load(FILE *from, const char *path, const vector_index_options *o, faiss_cells *f, lists_file *known,
                       sem_error *err)
{
    head h;
    if (fread(&h, sizeof h, 1, from) != 1)
        return lists_file_refuse(path, "it is too short", err);
    sem_status status = check_head(&h, path, o, err);
    if (status == SEM_OK)
        status = check_rest(from, &h, path, err);
    if (status == SEM_OK)
        status = read_rows(from, &h, path, known, err);
    return status == SEM_OK ? read_cells(from, &h, path, f, err) : status;
}

sem_status faiss_file_load(const char *path, const vector_index_options *options, faiss_cells **out, lists_file *known,
                           sem_error *err)
{
    *known = (lists_file){0};
    FILE *from = fopen(path, "rbe");
    if (from == NULL)
        return files_fail(err, "open", path);
    faiss_cells *f = calloc(1, sizeof *f);
    sem_status status = f == NULL ? sem_fail_memory(err, "FAISS's cells") : load(from, path, options, f, known, err);
    fclose(from);
    if (status == SEM_OK) {
        *out = f;
        return SEM_OK;
    }
    faiss_cells_free(f);
    lists_file_free(known);
    return status;
}
