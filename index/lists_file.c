#include "index/lists_file.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "base/files.h"
#include "base/pages.h"
#include "index/lists_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_VERSION = 7, PART_ALIGN = 4096, PARTS = 11, READ_PARTS = 9 /* the others are mapped */ };

static const char MAGIC[8] = {'s', 'e', 'm', 'd', 'l', 'i', 's', 't'};

/* A part of the file, in the order in which they lie. Those that are mapped have their checksums
 * in parts of their own. */
typedef struct part {
    uint64_t bytes, checksum;
} part;

/* The first page, as the processor has it: the file never leaves its machine's store. */
typedef struct head {
    char magic[8];
    uint64_t version, dim, nlist, dot, rows, blocks, entries, seconds, curve_bytes;
    int64_t trained_at_ms;
    uint64_t trained_rows, measured_rows, moved;
    float typical, longest, stranger_below, came;
    recall_curve curve;
    part parts[PARTS];
    uint64_t checksum; /* of all before it */
} head;

_Static_assert(sizeof(head) <= 16 * PART_ALIGN, "the head is small");

/* What lies where in memory: the same list for saving and loading. */
typedef struct piece {
    void *data;
    size_t bytes;
} piece;

/* Cells as the file has them. */
typedef struct saved_cell {
    uint32_t first, blocks, count, made_with;
    float spread; /* 0 for the strangers */
} saved_cell;

/* Of the sections of what is mapped. */
typedef struct section_sums {
    uint64_t *blocks, *rows;
} section_sums;

/* blocks: in all cells. */
static void list_pieces(const lists *l, const lists_file *f, size_t blocks, saved_cell *cells, const section_sums *sums,
                        piece out[PARTS])
{
    size_t extras = l->centroid_extras == NULL ? 0 : l->nlist * sizeof *l->centroid_extras;
    const piece all[PARTS] = {{f->docnos, f->rows * sizeof *f->docnos},
                              {f->slots, f->rows * sizeof *f->slots},
                              {l->centroids, l->nlist * l->width},
                              {l->centroid_scales, l->nlist * sizeof *l->centroid_scales},
                              {l->centroid_shares, l->nlist * sizeof *l->centroid_shares},
                              {l->centroid_extras, extras},
                              {cells, (l->nlist + 1) * sizeof *cells},
                              {sums->blocks, lists_saved_sections(blocks, SAVED_BLOCKS) * sizeof *sums->blocks},
                              {sums->rows, lists_saved_sections(f->rows, SAVED_ROWS) * sizeof *sums->rows},
                              {l->blocks, blocks * codes_block_size(l->lines)},
                              {l->nibbles, f->rows * l->nibbles_width}};
    memcpy(out, all, sizeof all);
}

/* --- saving */

static bool write_all(int fd, const void *data, size_t bytes)
{
    static const char zeros[PART_ALIGN];
    const char *p = data;
    size_t pad = (PART_ALIGN - bytes % PART_ALIGN) % PART_ALIGN;
    for (size_t left = bytes + pad; left > 0;) {
        size_t n = left > pad ? left - pad : left;
        ssize_t done = write(fd, left > pad ? p : zeros, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            errno = done == 0 ? ENOSPC : errno;
            return false;
        }
        p += left > pad ? done : 0;
        left -= (size_t)done;
    }
    return true;
}

/* What is noted while nobody changes the lists. Later rows go into blocks of their own, or into
 * lanes behind those in use: of a block that has some left, what it held is here. */
struct lists_saving {
    const lists *lists;
    head *head;
    saved_cell *cells;
    section_sums sums;
    lists_file file;
    uint32_t *end_blocks; /* [ends_count] growing */
    uint8_t *ends;        /* [ends_count] blocks */
    size_t ends_count;
};

static void fill_head(head *h, const lists *l, uint32_t count)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, MAGIC, sizeof MAGIC);
    h->version = FILE_VERSION;
    h->dim = l->dim;
    h->nlist = l->nlist;
    h->dot = l->centroid_extras != NULL;
    h->rows = count;
    h->blocks = l->taken;
    h->entries = atomic_load_explicit(&l->entries, memory_order_relaxed);
    h->seconds = atomic_load_explicit(&l->seconds, memory_order_relaxed);
    h->curve_bytes = sizeof h->curve;
    h->trained_at_ms = l->trained_at_ms;
    h->trained_rows = l->trained_rows;
    h->measured_rows = l->measured_rows;
    h->moved = l->moved;
    h->came = (float)atomic_load_explicit(&l->came, memory_order_relaxed);
    h->typical = l->typical;
    h->longest = l->longest;
    h->stranger_below = l->stranger_below;
    h->curve = l->curve;
}

static void sum_parts(head *h, const piece pieces[PARTS])
{
    for (size_t i = 0; i < PARTS; i++)
        h->parts[i] = (part){.bytes = pieces[i].bytes,
                             .checksum = i < READ_PARTS ? checksum_of(pieces[i].data, pieces[i].bytes) : 0};
    h->checksum = checksum_of(h, offsetof(head, checksum));
}

static void note_cells(lists_saving *v)
{
    const lists *l = v->lists;
    size_t size = codes_block_size(l->lines);
    for (size_t c = 0; c <= l->nlist; c++) {
        const list_extent *e = &l->cells[c].head;
        uint32_t count = (uint32_t)atomic_load_explicit(&l->cells[c].count, memory_order_relaxed);
        float spread = c < l->nlist ? atomic_load_explicit(&l->spreads[c], memory_order_relaxed) : 0.0f;
        v->cells[c] = (saved_cell){.first = e->first,
                                   .blocks = e->blocks,
                                   .count = count,
                                   .made_with = l->cells[c].made_with,
                                   .spread = spread};
        if (count % CODES_LANES == 0)
            continue;
        uint32_t last = e->first + e->blocks - 1;
        v->end_blocks[v->ends_count] = last;
        memcpy(v->ends + v->ends_count * size, l->blocks + last * size, size);
        v->ends_count++;
    }
}

sem_status lists_saving_start(lists_saving **out, const lists *l, const rows *r, sem_error *err)
{
    lists_saving *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "a file of lists");
    v->lists = l;
    v->head = malloc(sizeof *v->head);
    v->cells = checked_realloc(NULL, l->nlist + 1, sizeof *v->cells);
    v->end_blocks = checked_realloc(NULL, l->nlist + 1, sizeof *v->end_blocks);
    v->ends = checked_realloc(NULL, l->nlist + 1, codes_block_size(l->lines));
    if (v->head == NULL || v->cells == NULL || v->end_blocks == NULL || v->ends == NULL ||
        lists_file_reserve(&v->file, lists_covered(l), err) != SEM_OK) {
        lists_saving_end(v);
        return sem_fail_memory(err, "a file of lists");
    }
    for (uint32_t row = 0; row < v->file.rows; row++) {
        v->file.docnos[row] = rows_docno(r, row);
        v->file.slots[row] = rows_slot(r, row);
    }
    note_cells(v);
    fill_head(v->head, l, v->file.rows);
    *out = v;
    return SEM_OK;
}

uint64_t lists_saving_bytes(const lists_saving *v)
{
    const lists *l = v->lists;
    const uint64_t row = l->nibbles_width + sizeof *v->file.docnos + sizeof *v->file.slots;
    const uint64_t cell = codes_width(l->dim) + sizeof *v->cells;
    return sizeof *v->head + v->head->rows * row + v->head->nlist * cell +
           v->head->blocks * codes_block_size(l->lines) + PARTS * (uint64_t)PART_ALIGN;
}

void lists_saving_end(lists_saving *v)
{
    if (v == NULL)
        return;
    free(v->head);
    free(v->cells);
    free(v->end_blocks);
    free(v->ends);
    free(v->sums.blocks);
    free(v->sums.rows);
    lists_file_free(&v->file);
    free(v);
}

/* Calls f with one section of blocks after the other, as they were noted. */
typedef bool section_fn(void *context, size_t section, const uint8_t *blocks, size_t bytes);

static sem_status each_section(const lists_saving *v, section_fn *f, void *context, bool *well, sem_error *err)
{
    size_t size = codes_block_size(v->lists->lines), end = 0;
    uint8_t *buffer = checked_realloc(NULL, SAVED_BLOCKS, size);
    if (buffer == NULL)
        return sem_fail_memory(err, "a section of a file of lists");
    *well = true;
    for (size_t from = 0; from < v->head->blocks && *well; from += SAVED_BLOCKS) {
        size_t count = v->head->blocks - from < SAVED_BLOCKS ? v->head->blocks - from : SAVED_BLOCKS;
        for (size_t i = 0; i < count; i++) {
            bool noted = end < v->ends_count && v->end_blocks[end] == from + i;
            memcpy(buffer + i * size, noted ? v->ends + end * size : v->lists->blocks + (from + i) * size, size);
            end += noted;
        }
        *well = f(context, from / SAVED_BLOCKS, buffer, count * size);
    }
    free(buffer);
    return SEM_OK;
}

static bool sum_section(void *context, size_t section, const uint8_t *blocks, size_t bytes)
{
    ((lists_saving *)context)->sums.blocks[section] = checksum_of(blocks, bytes);
    return true;
}

static bool write_section(void *context, size_t section, const uint8_t *blocks, size_t bytes)
{
    (void)section;
    return write_all(*(const int *)context, blocks, bytes);
}

static sem_status sum_sections(lists_saving *v, sem_error *err)
{
    const lists *l = v->lists;
    bool well;
    v->sums.blocks = calloc(lists_saved_sections(v->head->blocks, SAVED_BLOCKS) + 1, sizeof *v->sums.blocks);
    v->sums.rows = lists_saved_sums(l->nibbles, v->file.rows, l->nibbles_width, SAVED_ROWS);
    if (v->sums.blocks == NULL || v->sums.rows == NULL)
        return sem_fail_memory(err, "a file of lists");
    return each_section(v, sum_section, v, &well, err);
}

static sem_status write_file(const lists_saving *v, const char *path, const piece pieces[PARTS], sem_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return files_fail(err, "create", path);
    sem_status status = SEM_OK;
    bool well = write_all(fd, v->head, sizeof *v->head);
    for (size_t i = 0; i < PARTS && well && status == SEM_OK; i++)
        if (i == READ_PARTS)
            status = each_section(v, write_section, &fd, &well, err);
        else
            well = write_all(fd, pieces[i].data, pieces[i].bytes);
    if (status == SEM_OK && !(well && fsync(fd) == 0))
        status = files_fail(err, "write", path);
    close(fd);
    if (status != SEM_OK)
        unlink(path);
    return status;
}

sem_status lists_saving_write(lists_saving *v, const char *path, sem_error *err)
{
    char beside[FILES_PATH_MAX];
    piece pieces[PARTS];
    sem_status status = sum_sections(v, err);
    if (status == SEM_OK)
        status = files_join(beside, err, "%s.new", path);
    if (status == SEM_OK) {
        list_pieces(v->lists, &v->file, v->head->blocks, v->cells, &v->sums, pieces);
        sum_parts(v->head, pieces);
        status = write_file(v, beside, pieces, err);
    }
    if (status == SEM_OK && rename(beside, path) != 0) {
        status = files_fail(err, "rename to", path);
        unlink(beside);
    }
    return status;
}

/* --- loading */

static bool read_all(int fd, void *data, size_t bytes)
{
    char rest[PART_ALIGN];
    char *p = data;
    size_t pad = (PART_ALIGN - bytes % PART_ALIGN) % PART_ALIGN;
    for (size_t left = bytes + pad; left > 0;) {
        size_t n = left > pad ? left - pad : left;
        ssize_t done = read(fd, left > pad ? p : rest, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += left > pad ? done : 0;
        left -= (size_t)done;
    }
    return true;
}

/* What is larger than the file takes no memory. */
static bool numbers_fit(const head *h, uint64_t file_bytes)
{
    return h->nlist > 0 && h->nlist <= file_bytes / codes_width(h->dim) && h->rows <= file_bytes / sizeof(uint32_t) &&
           h->blocks <= file_bytes / codes_block_size(codes_lines(h->dim)) && h->curve.points > 0 &&
           h->curve.points <= CURVE_POINTS_MAX && h->curve.at[h->curve.points - 1].nprobe <= h->nlist;
}

static sem_status check_head(const head *h, const char *path, uint64_t file_bytes, size_t dim, bool dot, sem_error *err)
{
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return lists_file_refuse(path, "it holds no lists", err);
    if (h->version != FILE_VERSION || h->curve_bytes != sizeof h->curve)
        return lists_file_refuse(path, "another version of semd wrote it", err);
    if (h->checksum != checksum_of(h, offsetof(head, checksum)))
        return lists_file_refuse(path, "the checksum of its head is wrong", err);
    if (h->dim != dim || (h->dot != 0) != dot || h->nlist == 0 || h->rows > LISTS_SECOND || h->blocks > UINT32_MAX)
        return lists_file_refuse(path, "it is of other vectors", err);
    if (!numbers_fit(h, file_bytes))
        return lists_file_refuse(path, "its numbers do not fit its size", err);
    return SEM_OK;
}

/* Cells lie one behind the other, as lists_reserve lays them out. */
static bool cells_agree(const lists *l, const saved_cell *cells)
{
    for (size_t c = 0; c <= l->nlist; c++)
        if (cells[c].first != l->cells[c].head.first || cells[c].blocks != l->cells[c].head.blocks)
            return false;
    return true;
}

static size_t padded(uint64_t bytes)
{
    return (size_t)(bytes + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

static sem_status read_parts(int fd, const head *h, const char *path, const piece pieces[PARTS], sem_error *err)
{
    for (size_t i = 0; i < READ_PARTS; i++) {
        if (!read_all(fd, pieces[i].data, pieces[i].bytes))
            return lists_file_refuse(path, "it is too short", err);
        if (checksum_of(pieces[i].data, pieces[i].bytes) != h->parts[i].checksum)
            return lists_file_refuse(path, "the checksum of a part is wrong", err);
    }
    return SEM_OK;
}

static sem_status map_parts(int fd, const head *h, const char *path, const lists *l, sem_error *err)
{
    size_t at = padded(sizeof *h);
    for (size_t i = 0; i < READ_PARTS; i++)
        at += padded(h->parts[i].bytes);
    if (!pages_map_file(l->blocks, fd, at, h->parts[READ_PARTS].bytes) ||
        !pages_map_file(l->nibbles, fd, at + padded(h->parts[READ_PARTS].bytes), h->parts[READ_PARTS + 1].bytes))
        return files_fail(err, "map", path);
    return SEM_OK;
}

static sem_status make_room(const head *h, const char *path, lists_file *f, const saved_cell *cells, sem_error *err)
{
    size_t *counts = checked_realloc(NULL, h->nlist + 1, sizeof *counts);
    if (counts == NULL)
        return sem_fail_memory(err, "inverted lists");
    uint64_t total = 0;
    for (size_t c = 0; c <= h->nlist; c++)
        total += counts[c] = cells[c].count;
    sem_status status = SEM_OK;
    if (h->seconds > total || h->entries != total - h->seconds)
        status = lists_file_refuse(path, "its cells do not hold as many rows as its head says", err);
    if (status == SEM_OK)
        status = lists_reserve_rows(f->lists, h->rows, err);
    if (status == SEM_OK)
        status = lists_lay_out(f->lists, counts, h->seconds, err);
    free(counts);
    for (size_t c = 0; status == SEM_OK && c <= h->nlist; c++)
        f->lists->cells[c].made_with = cells[c].made_with;
    for (size_t c = 0; status == SEM_OK && c < h->nlist; c++)
        atomic_init(&f->lists->spreads[c], cells[c].spread);
    if (status == SEM_OK && (f->lists->taken != h->blocks || !cells_agree(f->lists, cells)))
        status = lists_file_refuse(path, "its cells do not fit together", err);
    return status;
}

static void take_numbers(lists *l, const head *h)
{
    l->trained_at_ms = h->trained_at_ms;
    l->trained_rows = h->trained_rows;
    l->measured_rows = h->measured_rows;
    l->moved = h->moved;
    atomic_init(&l->came, h->came > 0 ? (size_t)fminf(h->came, (float)h->rows) : 0);
    l->typical = h->typical;
    l->longest = h->longest;
    l->stranger_below = h->stranger_below;
    l->curve = h->curve;
    atomic_store_explicit(&l->covered, (uint32_t)h->rows, memory_order_release);
}

/* Memory for what is read. */
static sem_status loading_start(const head *h, lists_file *f, saved_cell **cells, section_sums *sums, sem_error *err)
{
    *cells = checked_realloc(NULL, h->nlist + 1, sizeof **cells);
    sums->blocks = calloc(lists_saved_sections(h->blocks, SAVED_BLOCKS) + 1, sizeof *sums->blocks);
    sums->rows = calloc(lists_saved_sections(h->rows, SAVED_ROWS) + 1, sizeof *sums->rows);
    sem_status status = lists_file_reserve(f, (uint32_t)h->rows, err);
    if (status == SEM_OK)
        status = lists_create(&f->lists, h->nlist, h->dim, h->dot != 0, err);
    if (status == SEM_OK && (*cells == NULL || sums->blocks == NULL || sums->rows == NULL))
        status = sem_fail_memory(err, "inverted lists");
    return status;
}

/* Whether the parts are as large as the head's numbers make them, and the file as large as they are. */
static sem_status check_sizes(const head *h, const char *path, const piece pieces[PARTS], size_t file_bytes,
                              sem_error *err)
{
    size_t bytes = padded(sizeof *h);
    for (size_t i = 0; i < PARTS; i++) {
        if (pieces[i].bytes != h->parts[i].bytes)
            return lists_file_refuse(path, "a part has another size than it should", err);
        bytes += padded(pieces[i].bytes);
    }
    return file_bytes < bytes ? lists_file_refuse(path, "it is too short", err) : SEM_OK;
}

static sem_status load(int fd, const char *path, const head *h, size_t file_bytes, lists_file *f, sem_error *err)
{
    saved_cell *cells = NULL;
    section_sums sums = {0};
    piece pieces[PARTS];
    sem_status status = loading_start(h, f, &cells, &sums, err);
    if (status == SEM_OK) {
        list_pieces(f->lists, f, h->blocks, cells, &sums, pieces);
        status = check_sizes(h, path, pieces, file_bytes, err);
    }
    if (status == SEM_OK)
        status = read_parts(fd, h, path, pieces, err);
    if (status == SEM_OK)
        status = make_room(h, path, f, cells, err);
    if (status == SEM_OK)
        status = map_parts(fd, h, path, f->lists, err);
    if (status == SEM_OK) {
        status = lists_saved_create(&f->lists->saved, h->blocks, codes_block_size(f->lists->lines), sums.blocks,
                                    h->rows, f->lists->nibbles_width, sums.rows, err);
        sums = (section_sums){0};
    }
    if (status == SEM_OK)
        status = lists_finish_centroids(f->lists, err);
    if (status == SEM_OK)
        take_numbers(f->lists, h);
    free(sums.blocks);
    free(sums.rows);
    free(cells);
    return status;
}

sem_status lists_file_load(const char *path, size_t dim, bool dot, lists_file *out, sem_error *err)
{
    *out = (lists_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return files_fail(err, "open", path);
    head *h = malloc(sizeof *h);
    struct stat st;
    sem_status status = h == NULL ? sem_fail_memory(err, "a file of lists") : SEM_OK;
    if (status == SEM_OK && (fstat(fd, &st) != 0 || (size_t)st.st_size < sizeof *h || !read_all(fd, h, sizeof *h)))
        status = lists_file_refuse(path, "it is too short", err);
    if (status == SEM_OK)
        status = check_head(h, path, (uint64_t)st.st_size, dim, dot, err);
    /* No part is larger than the file: what is damaged does not take memory. */
    for (size_t i = 0; status == SEM_OK && i < PARTS; i++)
        if (h->parts[i].bytes > (uint64_t)st.st_size)
            status = lists_file_refuse(path, "it is too short", err);
    if (status == SEM_OK)
        status = load(fd, path, h, (size_t)st.st_size, out, err);
    close(fd);
    free(h);
    if (status != SEM_OK)
        lists_file_free(out);
    return status;
}

sem_status lists_file_reserve(lists_file *f, uint32_t count, sem_error *err)
{
    f->rows = count;
    f->docnos = checked_realloc(NULL, (size_t)count + 1, sizeof *f->docnos);
    f->slots = checked_realloc(NULL, (size_t)count + 1, sizeof *f->slots);
    return f->docnos == NULL || f->slots == NULL ? sem_fail_memory(err, "the rows of a file of lists") : SEM_OK;
}

sem_status lists_file_refuse(const char *path, const char *why, sem_error *err)
{
    return sem_fail(err, SEM_INTERNAL, "%s is not to be used: %s", path, why);
}

void lists_file_free(lists_file *f)
{
    lists_free(f->lists);
    free(f->docnos);
    free(f->slots);
    *f = (lists_file){0};
}

/* --- rows */

/* Whether a row with this slot is the next passage of the document that r's newest rows are of. */
static bool goes_on(const rows *r, const rows *from, uint32_t docno, uint32_t slot)
{
    uint32_t first = rows_row_of(r, docno), now = rows_row_of(from, docno);
    if (first == ROW_NONE || now == ROW_NONE)
        return false;
    uint32_t known = rows_passages(r, first);
    return first + known == rows_count(r) && known < rows_passages(from, now) && rows_slot(from, now + known) == slot;
}

static sem_status put_row(const lists_file *f, const rows *from, uint32_t seen, rows *r, uint32_t i, sem_error *err)
{
    uint32_t docno = f->docnos[i], slot = f->slots[i], now = rows_row_of(from, docno);
    bool known = now != ROW_NONE && now < seen;
    if (known && rows_slot(from, now) == slot && rows_row_of(r, docno) == ROW_NONE)
        return rows_put_slot(r, docno, slot, NULL, err);
    return known && goes_on(r, from, docno, slot) ? rows_extend_slot(r, docno, slot, NULL, err)
                                                  : rows_put_dead(r, docno, slot, err);
}

/* The file may end within a document. */
static sem_status complete_last(const rows *from, rows *r, sem_error *err)
{
    uint32_t count = rows_count(r), docno = count == 0 ? 0 : rows_docno(r, count - 1);
    uint32_t first = rows_row_of(r, docno), now = rows_row_of(from, docno);
    if (count == 0 || first == ROW_NONE || now == ROW_NONE || first + rows_passages(r, first) != count)
        return SEM_OK;
    sem_status status = SEM_OK;
    for (uint32_t i = rows_passages(r, first); i < rows_passages(from, now) && status == SEM_OK; i++)
        status = rows_extend_slot(r, docno, rows_slot(from, now + i), NULL, err);
    return status;
}

sem_status lists_file_rows(const lists_file *f, const rows *from, rows **out, uint32_t *seen, sem_error *err)
{
    rows *r;
    *seen = rows_count(from);
    sem_status status = rows_create_like(&r, from, err);
    if (status != SEM_OK)
        return status;
    for (uint32_t i = 0; i < f->rows && status == SEM_OK; i++)
        status = put_row(f, from, *seen, r, i, err);
    if (status == SEM_OK)
        status = complete_last(from, r, err);
    for (uint32_t row = 0; row < *seen && status == SEM_OK; row++) {
        uint32_t docno = rows_docno(from, row), slot = rows_slot(from, row);
        if (!rows_alive(from, row, *seen))
            continue;
        if (rows_row_of(r, docno) == ROW_NONE)
            status = rows_put_slot(r, docno, slot, NULL, err);
        else if (rows_passages(from, row) == 0 && goes_on(r, from, docno, slot))
            status = rows_extend_slot(r, docno, slot, NULL, err);
    }
    if (status != SEM_OK) {
        rows_release(r);
        return status;
    }
    *out = r;
    return SEM_OK;
}
