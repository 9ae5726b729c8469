/* Threads that search and train beside one that writes, and what must be true of every answer.
 * Includer: CROWD documents, fewer than WORLD_SIZE. */
#ifndef SEM_TESTS_INDEX_CROWD_H
#define SEM_TESTS_INDEX_CROWD_H

#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "index/vector_index.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef CROWD /* a test may say before it includes this */
#define CROWD 4000
#endif

enum { SEARCHERS = 2 };

/* A document's vector never changes here, so where it is known to have been
 * there all the time it must be found with it. since is the number of the
 * operation that made the document as it is, 0 while one is under way. */
typedef struct crowd {
    world w;
    _Atomic uint64_t since[CROWD];
    _Atomic bool exists[CROWD];
    atomic_bool finished;
    atomic_size_t searches, trainings, wrong_ghosts, wrong_missing, failed;
} crowd;

typedef struct sight {
    uint64_t since;
    bool exists;
} sight;

static inline sight look(crowd *c, uint32_t docno)
{
    sight s;
    s.since = atomic_load(&c->since[docno]);
    s.exists = atomic_load(&c->exists[docno]);
    return s;
}

static inline void search_once(crowd *c, random_state *random, sight *before, const uint64_t *all)
{
    sem_error error;
    vector_hit hits[K];
    size_t count;
    uint32_t wanted = (uint32_t)random_below(random, CROWD);
    vector_query q = {.vector = c->w.vectors + (size_t)wanted * DIM, .k = K};
    uint64_t way = random_below(random, 4);
    q.exact = way == 0;
    q.nprobe = way == 1 ? 1 : 0;
    q.recall = 0.9;
    if (way == 3) {
        q.allowed = all;
        q.allowed_bits = CROWD;
    }
    for (uint32_t d = 0; d < CROWD; d++)
        before[d] = look(c, d);
    if (vector_index_search(c->w.index, &q, hits, &count, NULL, &error) != SEM_OK) {
        atomic_fetch_add(&c->failed, 1);
        return;
    }
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found |= hits[i].docno == wanted;
        sight b = before[hits[i].docno], now = look(c, hits[i].docno);
        if (b.since != 0 && b.since == now.since && !b.exists)
            atomic_fetch_add(&c->wrong_ghosts, 1);
    }
    sight b = before[wanted], now = look(c, wanted);
    if (!found && b.since != 0 && b.since == now.since && b.exists)
        atomic_fetch_add(&c->wrong_missing, 1);
    atomic_fetch_add(&c->searches, 1);
}

static inline void *searcher(void *context)
{
    crowd *c = context;
    random_state random;
    random_seed(&random, testing_seed() + (uint64_t)(size_t)&random);
    sight *before = malloc(CROWD * sizeof *before);
    uint64_t all[CROWD / 64 + 1];
    memset(all, 0xff, sizeof all);
    while (before != NULL && !atomic_load(&c->finished))
        search_once(c, &random, before, all);
    free(before);
    return NULL;
}

static inline void *trainer(void *context)
{
    crowd *c = context;
    sem_error error;
    while (!atomic_load(&c->finished)) {
        if (!vector_index_wants_training(c->w.index)) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        if (vector_index_train(c->w.index, &(vector_training){.cancel = &c->finished}, &error) == SEM_OK)
            atomic_fetch_add(&c->trainings, 1);
        else if (error.code != SEM_CANCELLED)
            atomic_fetch_add(&c->failed, 1);
    }
    return NULL;
}

/* Puts or removes a document; operation: a number above 0, another each time. */
static inline void change(crowd *c, uint32_t docno, bool removes, uint64_t operation)
{
    sem_error error;
    atomic_store(&c->since[docno], 0);
    if (removes)
        vector_index_remove(c->w.index, docno);
    else
        ck_ok(vector_index_put(c->w.index, docno, c->w.vectors + (size_t)docno * DIM, &error));
    atomic_store(&c->exists[docno], !removes);
    atomic_store(&c->since[docno], operation);
}

static inline void change_any(crowd *c, uint64_t operation)
{
    uint32_t docno = (uint32_t)random_below(&c->w.random, CROWD);
    change(c, docno, c->exists[docno] && random_below(&c->w.random, 3) == 0, operation);
}

/* CROWD vectors of topics that follow each other, from `same` on all of one; none is put yet.
 * Threads begin. */
static inline crowd *crowd_begin(const vector_index_options *options, uint32_t same, pthread_t threads[SEARCHERS + 1])
{
    crowd *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    c->w = make_world(options, 0);
    for (uint32_t d = 0; d < CROWD; d++) {
        random_vector(&c->w, d < same ? d % TOPICS : 0, c->w.vectors + (size_t)d * DIM);
        c->since[d] = 1;
    }
    for (int i = 0; i < SEARCHERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, searcher, c), 0);
    ck_assert_int_eq(pthread_create(&threads[SEARCHERS], NULL, trainer, c), 0);
    return c;
}

/* Ends the threads. Nothing was wrong, and all that is left is found. */
static inline void check_crowd(crowd *c, pthread_t threads[SEARCHERS + 1])
{
    atomic_store(&c->finished, true);
    for (int i = 0; i <= SEARCHERS; i++)
        pthread_join(threads[i], NULL);

    printf("%zu searches, %zu trainings\n", c->searches, c->trainings);
    ck_assert_uint_eq(c->failed, 0);
    ck_assert_uint_eq(c->wrong_ghosts, 0);
    ck_assert_uint_eq(c->wrong_missing, 0);
    size_t live = 0;
    for (uint32_t d = 0; d < CROWD; d++) {
        c->w.live[d] = c->exists[d];
        live += c->exists[d];
    }
    ck_assert_uint_eq(vector_index_count(c->w.index), live);
    train(&c->w);
    ck_assert_double_eq(mean_recall(&c->w, (vector_query){.k = 100, .exact = true}, 0, TOPICS, NULL), 1.0);
    free_world(&c->w);
    free(c);
}

#endif
