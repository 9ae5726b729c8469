#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "index/kmeans.h"
#include "index/vector_index.h"

#include <cblas.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

enum { CROWD = 4000, OPERATIONS = 40000, SEARCHERS = 2 };

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

static sight look(crowd *c, uint32_t docno)
{
    sight s;
    s.since = atomic_load(&c->since[docno]);
    s.exists = atomic_load(&c->exists[docno]);
    return s;
}

static void search_once(crowd *c, random_state *random, sight *before, const uint64_t *all)
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

static void *searcher(void *context)
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

static void *trainer(void *context)
{
    crowd *c = context;
    sem_error error;
    while (!atomic_load(&c->finished)) {
        if (!vector_index_wants_training(c->w.index)) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        if (vector_index_train(c->w.index, &c->finished, NULL, &error) == SEM_OK)
            atomic_fetch_add(&c->trainings, 1);
        else if (error.code != SEM_CANCELLED)
            atomic_fetch_add(&c->failed, 1);
    }
    return NULL;
}

static void write_once(crowd *c, uint64_t operation)
{
    sem_error error;
    uint32_t docno = (uint32_t)random_below(&c->w.random, CROWD);
    bool removes = c->exists[docno] && random_below(&c->w.random, 3) == 0;
    atomic_store(&c->since[docno], 0);
    if (removes)
        vector_index_remove(c->w.index, docno);
    else
        ck_ok(vector_index_put(c->w.index, docno, c->w.vectors + (size_t)docno * DIM, &error));
    atomic_store(&c->exists[docno], !removes);
    atomic_store(&c->since[docno], operation);
}

START_TEST(writing_searching_and_training_go_on_at_once)
{
    vector_index_options options = usual;
    options.exact_below = 500;
    crowd *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    c->w = make_world(&options, 0);
    for (uint32_t d = 0; d < CROWD; d++) {
        random_vector(&c->w, d % TOPICS, c->w.vectors + (size_t)d * DIM);
        c->since[d] = 1;
    }
    pthread_t threads[SEARCHERS + 1];
    for (int i = 0; i < SEARCHERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, searcher, c), 0);
    ck_assert_int_eq(pthread_create(&threads[SEARCHERS], NULL, trainer, c), 0);
    /* Enough of everything, however slow the machine or the sanitizer. */
    for (uint64_t i = 2; i < OPERATIONS || c->trainings < 3 || c->searches < 200; i++) {
        write_once(c, i);
        if (i >= OPERATIONS)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
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
END_TEST

/* --- a training that is held up */

static sem_t inside, go;
static atomic_bool held; /* the next k-means is to wait */

sem_status __real_kmeans_train(const kmeans_options *o, const float *points, size_t n, float *centroids,
                               const atomic_bool *cancel, sem_error *err);
sem_status __wrap_kmeans_train(const kmeans_options *o, const float *points, size_t n, float *centroids,
                               const atomic_bool *cancel, sem_error *err);

sem_status __wrap_kmeans_train(const kmeans_options *o, const float *points, size_t n, float *centroids,
                               const atomic_bool *cancel, sem_error *err)
{
    if (atomic_exchange(&held, false)) {
        sem_post(&inside);
        sem_wait(&go);
    }
    return __real_kmeans_train(o, points, n, centroids, cancel, err);
}

static void *train_once(void *context)
{
    world *w = context;
    sem_error error;
    return vector_index_train(w->index, NULL, NULL, &error) == SEM_OK ? w : NULL;
}

/* The training does not end before the searches, so none of them can have waited for it. */
static void work_beside_a_training(world *w)
{
    pthread_t thread;
    void *trained;
    uint64_t allowed[N / 64 + 1];
    memset(allowed, 0xff, sizeof allowed);
    ck_assert(vector_index_wants_training(w->index));
    atomic_store(&held, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, train_once, w), 0);
    sem_wait(&inside);
    for (uint32_t d = 0; d < 200; d++) {
        drop(w, d);
        put_random(w, CROWD + d, 0, TOPICS);
    }
    mean_recall(w, (vector_query){.k = K, .recall = 0.9}, 0, TOPICS, NULL);
    mean_recall(w, (vector_query){.k = K, .recall = 0.9, .allowed = allowed, .allowed_bits = N}, 0, TOPICS, NULL);
    ck_assert_double_eq(mean_recall(w, (vector_query){.k = K, .exact = true}, 0, TOPICS, NULL), 1.0);
    sem_post(&go);
    pthread_join(thread, &trained);
    ck_assert_ptr_nonnull(trained);
    ck_assert_double_eq(mean_recall(w, (vector_query){.k = K, .exact = true}, 0, TOPICS, NULL), 1.0);
}

START_TEST(retraining_never_blocks_a_reader)
{
    vector_index_options options = usual;
    options.exact_below = 500;
    sem_init(&inside, 0, 0);
    sem_init(&go, 0, 0);
    world w = make_world(&options, 2000);
    work_beside_a_training(&w); /* of the first lists */
    ck_assert_str_eq(kind_of(&w), "ivf");
    train(&w);
    for (uint32_t d = 8000; d < N; d++) /* growth: k-means anew */
        put_random(&w, d, 0, TOPICS);
    work_beside_a_training(&w);
    free_world(&w);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("vector_threads");
    TCase *tc = tcase_create("vector_threads");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, writing_searching_and_training_go_on_at_once);
    tcase_add_test(tc, retraining_never_blocks_a_reader);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
