/* Whether the disk has room for a document's vector more of each document, before a job
 * makes them: one that ended in a full disk would have kept the machine busy in vain. */
#include "base/checked.h"
#include "daemon/job.h"

#include <stdlib.h>

enum {
    ROW_FLOATS = 16,  /* a row of the store is as wide as a multiple of so many */
    PLACE_BYTES = 64, /* of a place in main with its key, and in an index's file */
    CODE_EIGHTHS = 6, /* bits of a number that lists have: four, one, and at most one again */
    SPARE_SHARE = 16  /* one part in so many more, for what LMDB leaves empty */
};

sem_status job_room_vectors(core *c, uint64_t *out, sem_error *err)
{
    space_index **all;
    size_t count;
    serving *now = serving_slot_acquire(&c->current);
    sem_status status = space_acquire_all(now->space, &all, &count, err);
    *out = 0;
    for (size_t i = 0; status == SEM_OK && i < count; i++) {
        *out += vector_index_passages(all[i]->index);
        space_index_release(all[i]);
    }
    if (status == SEM_OK)
        free(all);
    serving_release(now);
    return status;
}

sem_status job_room_check(const job *j, size_t dim, sem_error *err)
{
    uint64_t vectors;
    sem_status status = job_room_vectors(j->core, &vectors, err);
    if (status != SEM_OK)
        return status;
    const uint64_t width = (dim + ROW_FLOATS - 1) / ROW_FLOATS * ROW_FLOATS;
    uint64_t each = width * sizeof(float) + PLACE_BYTES;
    if (vectors >= j->core->settings.index.exact_below)
        each += dim * CODE_EIGHTHS / 8;
    size_t need;
    if (!checked_mul(vectors, each + each / SPARE_SHARE, &need))
        return sem_fail_memory(err, "the size of the vectors");
    status = store_room(j->core->store, 1, need, err);
    return status != SEM_RESOURCE_EXHAUSTED
               ? status
               : sem_error_prefix(err,
                                  "re-embedding makes %llu vectors of %zu floats, about %zu bytes with their lists",
                                  (unsigned long long)vectors, dim, need);
}
