/* Room. LMDB copies a page before it changes it, so a delete needs free pages too:
 * puts leave it some of the map, of the disk and, since others write to the disk as
 * well, of the file. Each file is allocated beyond its last page by a tail, which puts
 * keep at half its length at least and only deletes use up. What deletes took of the
 * tail comes back as pages of the same file that nothing uses, which count with it. */
#include "index/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RESERVE_SHARE = 16,      /* one part in so many of a map, a disk or a file is for deletes */
    RESERVE_MIN = 256 << 10, /* bytes: some 60 pages, what a small delete may touch */
    RESERVE_MAX = 256 << 20, /* bytes */
    TAIL_MIN = 512 << 10,
    TAIL_MIN_MAIN = 2 << 20, /* a delete changes a dozen trees of main, and two of a space */
    LMDB_PAGE_HEADER = 16,
    WAITING_LEAST = 16,      /* pages: what a commit of nothing gives up itself, several times */
    BLOCK_BYTES = 512,       /* of st_blocks */
    SNAPSHOT_WAIT_MS = 5000, /* a batch of the lexical index on a busy machine takes one or two */
    SNAPSHOT_POLL_MS = 2
};

uint64_t environment_reserve(uint64_t size)
{
    uint64_t part = size / RESERVE_SHARE;
    return part < RESERVE_MIN ? RESERVE_MIN : part > RESERVE_MAX ? RESERVE_MAX : part;
}

uint64_t environment_disk_free(const environment *e, uint64_t *size)
{
    uint64_t left;
    const char *path = e->disk;
    if ((path == NULL && mdb_env_get_path(e->env, &path) != 0) || files_room(path, size, &left, NULL) != SEM_OK) {
        *size = 0;
        return UINT64_MAX; /* unknown is no reason to refuse */
    }
    return left;
}

/* --- pages that LMDB uses again */

typedef struct free_pages {
    uint64_t all;
    uint64_t usable;      /* by the next group: no snapshot has them */
    uint64_t long_enough; /* of those, in runs of so many as a value needs */
} free_pages;

/* A line of LMDB's list of readers ends in the transaction of a snapshot, or in "-". */
static int older_snapshot(const char *line, void *context)
{
    uint64_t *oldest = context;
    const char *last = strrchr(line, ' ');
    char *end;
    if (last == NULL)
        return 0;
    unsigned long long number = strtoull(last + 1, &end, 10);
    if (end != last + 1 && number < *oldest)
        *oldest = number;
    return 0;
}

/* The next group takes pages that were given up before this transaction. */
static uint64_t usable_before(const environment *e)
{
    MDB_envinfo info;
    if (mdb_env_info(e->env, &info) != 0)
        return 0;
    uint64_t oldest = info.me_last_txnid;
    (void)mdb_reader_list(e->env, older_snapshot, &oldest);
    return oldest;
}

/* Marks the pages of an entry of the free list: a count and as many page numbers. */
static void mark_pages(unsigned char *marks, size_t pages, const MDB_val *value, size_t count)
{
    for (size_t i = 1; i <= count && (i + 1) * sizeof(size_t) <= value->mv_size; i++) {
        size_t page;
        memcpy(&page, (const unsigned char *)value->mv_data + i * sizeof page, sizeof page);
        if (page < pages)
            marks[page / 8] |= (unsigned char)(1u << page % 8);
    }
}

/* LMDB takes entries of its free list together until it finds a run, so one may lie across several. */
static uint64_t pages_in_runs(const unsigned char *marks, size_t pages, size_t run)
{
    uint64_t found = 0;
    size_t length = 0;
    for (size_t i = 0; i < pages; i++) {
        bool marked = (marks[i / 8] >> i % 8 & 1) != 0;
        length = marked ? length + 1 : 0;
        if (length == run) {
            found += run;
            length = 0;
        }
    }
    return found;
}

/* LMDB's free list is its database 0: what each transaction gave up. marks: NULL, or a
 * bit for each of `pages` pages. */
static free_pages walk_free(const environment *e, uint64_t before, unsigned char *marks, size_t pages)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    free_pages out = {0};
    if (mdb_txn_begin(e->env, NULL, MDB_RDONLY, &txn) != 0)
        return out;
    if (mdb_cursor_open(txn, 0, &cursor) == 0) {
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            size_t count = 0, number = 0;
            if (value.mv_size < sizeof count || key.mv_size != sizeof number)
                continue;
            memcpy(&count, value.mv_data, sizeof count);
            memcpy(&number, key.mv_data, sizeof number);
            out.all += count;
            out.usable += number < before ? count : 0;
            if (marks != NULL && number < before)
                mark_pages(marks, pages, &value, count);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return out;
}

static free_pages count_usable(const environment *e, uint64_t file_pages, size_t run)
{
    unsigned char *marks = run > 1 ? calloc(file_pages / 8 + 1, 1) : NULL;
    free_pages pages = walk_free(e, usable_before(e), marks, file_pages);
    pages.long_enough = run == 1 ? pages.usable : marks == NULL ? 0 : pages_in_runs(marks, file_pages, run);
    free(marks);
    return pages;
}

uint64_t environment_used(const environment *e, bool exact)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (mdb_env_info(e->env, &info) != 0 || mdb_env_stat(e->env, &stat) != 0)
        return 0;
    uint64_t pages = (uint64_t)info.me_last_pgno + 1, unused = exact ? walk_free(e, 0, NULL, 0).all : 0;
    return (pages > unused ? pages - unused : 0) * stat.ms_psize;
}

bool environment_waits(const environment *e)
{
    MDB_envinfo info;
    const uint64_t before = usable_before(e);
    if (mdb_env_info(e->env, &info) != 0 || before < info.me_last_txnid)
        return false;
    const free_pages pages = walk_free(e, before, NULL, 0);
    return pages.all - pages.usable >= WAITING_LEAST;
}

/* --- the tail of a file */

static uint64_t tail_wanted(const environment *e, uint64_t end)
{
    uint64_t part = environment_reserve(end);
    return part < e->tail_least ? e->tail_least : part;
}

/* Bytes of the tail that there is. */
static uint64_t tail_held(const environment *e, uint64_t end)
{
    uint64_t allocated = e->allocated;
    return allocated > end ? allocated - end : 0;
}

static uint64_t in_map(const environment *e, uint64_t to)
{
    return to < e->map_size ? to : e->map_size;
}

/* Allocates the file's blocks from `from` up to `to`. */
static bool allocate(environment *e, uint64_t from, uint64_t to)
{
    int fd, rc;
    if (to <= from)
        return true;
    if (e->no_tail || mdb_env_get_fd(e->env, &fd) != 0)
        return false;
    do
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        e->allocated = to;
    else
        e->no_tail = errno == EOPNOTSUPP || errno == ENOSYS;
    return rc == 0;
}

void environment_hold_tail(environment *e, bool is_main)
{
    int fd;
    struct stat st;
    e->tail_least = is_main ? TAIL_MIN_MAIN : TAIL_MIN;
    uint64_t end = environment_used(e, false), tail = tail_wanted(e, end);
    /* From the beginning: a copy of a file may have holes. */
    if (allocate(e, 0, in_map(e, end + tail)) || e->no_tail || allocate(e, 0, in_map(e, end + tail / 2)))
        return;
    /* The disk is full, and some file systems ask for room to allocate what is allocated. */
    if (mdb_env_get_fd(e->env, &fd) == 0 && fstat(fd, &st) == 0) {
        uint64_t there = (uint64_t)st.st_blocks * BLOCK_BYTES;
        e->allocated = there < end + tail ? there : end + tail;
    }
}

/* --- the disk */

static uint64_t pending_bytes(const store_write *w)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < w->part_count; i++)
        bytes += w->parts[i].pending;
    return bytes;
}

static void measure_disk(store_write *w)
{
    uint64_t size;
    if (w->disk_known)
        return;
    w->disk_left = environment_disk_free(&w->s->main, &size);
    w->disk_reserve = environment_reserve(size);
    w->disk_known = true;
}

/* Makes the tail end `tail` bytes behind `end`, the file's last page, where that leaves
 * the disk its reserve. Deletes may have made the file longer than it was allocated. */
static bool allocate_fairly(store_write *w, environment *e, uint64_t end, uint64_t tail)
{
    uint64_t from = end + tail_held(e, end), to = in_map(e, end + tail), bytes = to > from ? to - from : 0;
    if (bytes > 0 && (w->disk_left < w->disk_reserve || w->disk_left - w->disk_reserve < bytes))
        return false;
    if (!allocate(e, from, to))
        return false;
    w->disk_left -= w->disk_left == UINT64_MAX ? 0 : bytes;
    return true;
}

/* Whether `more` fits into pages that are used again and into what a tail of `held`
 * bytes has beyond `keep`, so that after it deletes have `keep` bytes as before. */
static bool fits_again(const environment *e, uint64_t more, uint64_t largest, uint64_t held, uint64_t keep)
{
    MDB_stat stat;
    if (mdb_env_stat(e->env, &stat) != 0)
        return false;
    uint64_t page = stat.ms_psize;
    /* A value of more than about half a page has pages of its own. */
    size_t run = largest < page / 2 ? 1 : (size_t)((largest + LMDB_PAGE_HEADER - 1) / page + 1);
    free_pages pages = count_usable(e, environment_used(e, false) / page, run);
    uint64_t spare = held > keep ? held - keep : 0;
    return more <= pages.long_enough * page + spare && more + keep <= pages.usable * page + held;
}

static sem_status check_disk(store_write *w, write_part *part, uint64_t bytes, uint64_t largest, sem_error *err)
{
    environment *e = part->e;
    uint64_t more = part->pending + bytes, end = environment_used(e, false), keep = tail_wanted(e, end) / 2;
    if (!e->no_tail && tail_held(e, end) >= more + keep)
        return SEM_OK;
    measure_disk(w);
    if (!e->no_tail && (allocate_fairly(w, e, end, more + 2 * keep) || allocate_fairly(w, e, end, more + keep)))
        return SEM_OK;
    uint64_t held = tail_held(e, end);
    if (e->no_tail) {
        if (w->disk_left >= w->disk_reserve && w->disk_left - w->disk_reserve >= pending_bytes(w) + bytes)
            return SEM_OK;
        held = w->disk_left;
        keep = w->disk_reserve;
    }
    if (fits_again(e, more, largest, held, keep))
        return SEM_OK;
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                    "the disk is nearly full: %llu bytes are left, of which %llu are kept free; environment %s needs "
                    "about %llu more than deletes may need; delete something or make room on the disk",
                    (unsigned long long)w->disk_left, (unsigned long long)w->disk_reserve, e->name,
                    (unsigned long long)more);
}

/* Whether a group might find no page to copy to, and snapshots end that hold some back. */
static bool snapshots_are_in_the_way(store *s)
{
    MDB_envinfo info;
    MDB_stat stat;
    environment *e = &s->main;
    uint64_t size, end = environment_used(e, false), held = tail_held(e, end), least = tail_wanted(e, end) / 8 * 3;
    if (held >= least || mdb_env_info(e->env, &info) != 0 || mdb_env_stat(e->env, &stat) != 0)
        return false;
    if (oldest_snapshot(s) >= info.me_last_txnid)
        return false;
    uint64_t left = environment_disk_free(e, &size);
    if (left >= least)
        return false;
    return walk_free(e, usable_before(e), NULL, 0).usable * stat.ms_psize + held + left < least;
}

void store_await_pages(store *s)
{
    for (int ms = 0; ms < SNAPSHOT_WAIT_MS && snapshots_are_in_the_way(s); ms += SNAPSHOT_POLL_MS)
        usleep(SNAPSHOT_POLL_MS * 1000);
}

/* --- storage.max_size */

/* A commit of another thread may fall between two looks. */
static uint64_t idle_bytes_of(const environment *e, uint64_t *again)
{
    uint64_t end = environment_used(e, false), used = again != NULL ? environment_used(e, true) : end;
    if (again != NULL && used < end)
        *again += end - used;
    return tail_held(e, end);
}

/* Of all environments: bytes of tails, and with *again (else NULL) of the pages that
 * LMDB would use again before it grows a file. */
static uint64_t idle_bytes(store *s, uint64_t *again)
{
    uint32_t numbers[STORE_SPACES_MAX];
    size_t count = 0;
    events_file *file = events_pin(s);
    const environment events = events_of(s, file);
    uint64_t tails = idle_bytes_of(&s->main, again) + idle_bytes_of(&events, again);
    events_unpin(s, file);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STORE_SPACES_MAX; i++)
        if (s->spaces[i] != NULL)
            numbers[count++] = s->spaces[i]->number;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < count; i++) {
        space *sp = space_pin(s, numbers[i]); /* NULL: it was closed meanwhile */
        if (sp != NULL)
            tails += idle_bytes_of(&sp->in, again);
        space_unpin(s, sp);
    }
    return tails;
}

/* On disk, without tails. */
static uint64_t bytes_without_tails(store *s, uint64_t *again)
{
    uint64_t bytes = store_bytes(s), tails = idle_bytes(s, again);
    return bytes > tails ? bytes - tails : 0;
}

static sem_status check_max_size(store_write *w, uint64_t more, sem_error *err)
{
    store *s = w->s;
    more += pending_bytes(w);
    /* Files grow when a group is committed; within it one measurement will do. */
    if (!w->bytes_known)
        w->bytes = bytes_without_tails(s, NULL);
    w->bytes_known = true;
    if (w->bytes + more <= s->max_size)
        return SEM_OK;
    if (!w->reusable_known)
        (void)idle_bytes(s, &w->reusable);
    w->reusable_known = true;
    if (w->bytes + more <= s->max_size + w->reusable)
        return SEM_OK;
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                    "the store has %llu bytes in use and about %llu to come, storage.max_size is %llu; delete "
                    "something or raise it",
                    (unsigned long long)(w->bytes > w->reusable ? w->bytes - w->reusable : 0), (unsigned long long)more,
                    (unsigned long long)s->max_size);
}

/* --- what is asked */

static sem_status check_room(store_write *w, environment *e, uint64_t bytes, uint64_t largest, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(&w->view, e, &txn, err);
    if (status != SEM_OK)
        return status;
    if (w->s->max_size != 0 && (status = check_max_size(w, bytes, err)) != SEM_OK)
        return status;
    write_part *part = w->parts;
    while (part->e != e)
        part++;
    if ((status = check_disk(w, part, bytes, largest, err)) != SEM_OK)
        return status;
    uint64_t need = part->pending + bytes + environment_reserve(e->map_size);
    if (environment_used(e, false) + need > e->map_size && environment_used(e, true) + need > e->map_size)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "environment %s is nearly full: its map size is %llu bytes, of which %llu are kept for "
                        "deletes; delete something or raise storage.map_size",
                        e->name, (unsigned long long)e->map_size, (unsigned long long)environment_reserve(e->map_size));
    part->pending += bytes;
    return SEM_OK;
}

sem_status operation_room(store_write *w, environment *e, uint64_t bytes, uint64_t largest, sem_error *err)
{
    sem_status status = check_room(w, e, bytes, largest, err);
    e->refused = status == SEM_RESOURCE_EXHAUSTED;
    return status;
}

sem_status store_room(store *s, unsigned reserves, uint64_t bytes, sem_error *err)
{
    uint64_t size, left = environment_disk_free(&s->main, &size), need = bytes + reserves * environment_reserve(size);
    if (left < need)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "the disk is nearly full: %llu bytes are left, about %llu are needed; make room on it",
                        (unsigned long long)left, (unsigned long long)need);
    if (s->max_size == 0)
        return SEM_OK;
    uint64_t reusable = 0, used = bytes_without_tails(s, &reusable);
    used -= reusable < used ? reusable : used;
    if (used + bytes <= s->max_size)
        return SEM_OK;
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                    "the store has %llu bytes in use and about %llu to come, storage.max_size is %llu; delete "
                    "something or raise it",
                    (unsigned long long)used, (unsigned long long)bytes, (unsigned long long)s->max_size);
}
