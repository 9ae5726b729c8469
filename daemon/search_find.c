/* From an encoded query to hits, in one snapshot of the store. */
#include "base/clock.h"
#include "daemon/explanation.h"
#include "daemon/search.h"
#include "daemon/worker.h"

enum {
    SNAPSHOT_TRIES = 4, /* documents can come faster than one search takes; then: */
    SPARE_HITS = 256,   /* so many more than k are asked for, and those that the snapshot does not know left out; */
    SPARE_FACTOR = 4    /* where that leaves too few so many times as many, until there are no more */
};

/* Whether that holds for every hit: a document that was written after the
 * snapshot was taken can already be in the index and in the columns. */
static sem_status all_known(search *s, bool *known, sem_error *err)
{
    sem_status status = SEM_OK;
    *known = true;
    for (size_t i = 0; i < s->count && *known && status == SEM_OK; i++)
        status = search_knows(s, s->hits[i].docno, known, err);
    return status;
}

/* After the last try: hits that the snapshot does not know are left out, which
 * the spare ones make up for. One that is taken only now makes it most unlikely that
 * a hit is deleted before the answer goes out. */
static sem_status settle(search *s, sem_error *err)
{
    sem_status status = s->again ? search_renew(s, err) : SEM_OK;
    if (status == SEM_OK)
        status = search_drop_unknown(s, err);
    if (s->count > s->request->u.search.k)
        s->count = s->request->u.search.k;
    return status;
}

/* One try: the snapshot first, so that a document deleted since is still known. */
static sem_status try_once(search *s, const float *encoded, bool *whole, sem_error *err)
{
    sem_status status = s->same_snapshot ? SEM_OK : worker_collection(s->worker, s->task, &s->collection, err);
    if (status != SEM_OK)
        return status;
    uint64_t began = clock_monotonic_ns();
    status = search_apply_filter(s, err);
    if (s->explain != NULL)
        s->explain->ns[STEP_FILTER] += clock_monotonic_ns() - began;
    if (status != SEM_OK)
        return status;
    status = search_vectors(s, encoded, err);
    *whole = s->index != NULL;
    return status == SEM_OK ? all_known(s, whole, err) : status;
}

/* Newer snapshots are taken until one knows all hits, unless same_snapshot. */
static sem_status find_nearest(search *s, const float *encoded, sem_error *err)
{
    const search asked = *s;
    size_t spare = SPARE_HITS;
    for (int tries = 1;; tries++) {
        bool whole = true, last = s->again || tries >= SNAPSHOT_TRIES || (s->same_snapshot && tries > 1);
        s->spare = last ? spare : 0;
        sem_status status = task_check_deadline(s->task, err);
        if (status == SEM_OK)
            status = try_once(s, encoded, &whole, err);
        if (last && status == SEM_OK)
            status = settle(s, err);
        const bool short_of = status == SEM_OK && search_ran_short(s);
        if (last && !short_of)
            return status;
        if (!last && ((status != SEM_OK && status != SEM_NOT_FOUND) || (whole && !short_of)))
            return status;
        spare *= last ? SPARE_FACTOR : 1;
        search_free(s);
        *s = asked;
    }
}

sem_status search_find(search *s, const float *encoded, sem_error *err)
{
    bool dense = s->request->u.search.mode == SEARCH_DENSE;
    return dense ? find_nearest(s, encoded, err) : search_find_words(s, encoded, err);
}
