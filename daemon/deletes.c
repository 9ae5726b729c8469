#include "daemon/deletes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* A delete by filter notes 10,000 at a time (STEP_DOCUMENTS). */
enum { KEPT = 1 << 14 };

typedef struct noted {
    uint32_t collection, docno;
    bool all; /* of the collection */
} noted;

struct deletes {
    pthread_rwlock_t lock;      /* guards last; rank 0: an answer is sent under it */
    atomic_uint_fast64_t count; /* changes under the lock */
    noted last[KEPT];           /* number n, from 0, lies at n % KEPT */
};

sem_status deletes_create(deletes **out, sem_error *err)
{
    pthread_rwlockattr_t attributes;
    deletes *d = calloc(1, sizeof *d);
    if (d == NULL)
        return sem_fail_memory(err, "the list of deletes");
    /* Else a steady load of searches could keep the writer waiting. */
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&d->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    *out = d;
    return SEM_OK;
}

void deletes_destroy(deletes *d)
{
    if (d == NULL)
        return;
    pthread_rwlock_destroy(&d->lock);
    free(d);
}

void deletes_note(deletes *d, uint32_t collection, const uint32_t *docnos, size_t count)
{
    pthread_rwlock_wrlock(&d->lock);
    uint64_t at = atomic_load(&d->count);
    size_t first = count > KEPT ? count - KEPT : 0;
    for (size_t i = first; i < count; i++)
        d->last[(at + i) % KEPT] = (noted){.collection = collection, .docno = docnos[i]};
    atomic_store(&d->count, at + count);
    pthread_rwlock_unlock(&d->lock);
}

void deletes_note_drop(deletes *d, uint32_t collection)
{
    pthread_rwlock_wrlock(&d->lock);
    uint64_t at = atomic_load(&d->count);
    d->last[at % KEPT] = (noted){.collection = collection, .all = true};
    atomic_store(&d->count, at + 1);
    pthread_rwlock_unlock(&d->lock);
}

uint64_t deletes_count(const deletes *d)
{
    return atomic_load(&d->count);
}

static bool is_among(uint32_t docno, const uint32_t *docnos, size_t count)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (docnos[middle] < docno)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && docnos[low] == docno;
}

deletes_verdict deletes_enter(deletes *d, uint64_t seen, uint32_t collection, const uint32_t *docnos, size_t count)
{
    deletes_verdict verdict = DELETES_NONE;
    pthread_rwlock_rdlock(&d->lock);
    uint64_t now = atomic_load(&d->count);
    if (now - seen > KEPT)
        verdict = DELETES_UNKNOWN;
    for (uint64_t n = seen; n < now && verdict == DELETES_NONE; n++) {
        const noted *one = &d->last[n % KEPT];
        if (one->collection == collection && (one->all || is_among(one->docno, docnos, count)))
            verdict = DELETES_SOME;
    }
    if (verdict != DELETES_NONE)
        pthread_rwlock_unlock(&d->lock);
    return verdict;
}

void deletes_leave(deletes *d)
{
    pthread_rwlock_unlock(&d->lock);
}
