#include "tests/common/testing.h"
#include "tests/index/crowd.h"

#include "index/kmeans.h"
#include "index/vector_index.h"

#include <cblas.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum { OPERATIONS = 40000 };

START_TEST(writing_searching_and_training_go_on_at_once)
{
    vector_index_options options = usual;
    pthread_t threads[SEARCHERS + 1];
    options.exact_below = 500;
    crowd *c = crowd_begin(&options, CROWD, threads);
    /* Enough of everything, however slow the machine or the sanitizer. */
    for (uint64_t i = 2; i < OPERATIONS || c->trainings < 3 || c->searches < 200; i++) {
        change_any(c, i);
        if (i >= OPERATIONS)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    check_crowd(c, threads);
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
    return vector_index_train(w->index, NULL, &error) == SEM_OK ? w : NULL;
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

/* --- fewer documents than are asked for */

enum { FEW = 60, FEW_SEARCHES = 20000, FRESH = 300, COMPACT_AFTER = 1500 };

static void *replace_few(void *context)
{
    crowd *c = context;
    sem_error error;
    for (uint32_t i = 0; !atomic_load(&c->finished); i++) {
        sem_status status = vector_index_put(c->w.index, i % FEW, c->w.vectors + (size_t)(i % FEW) * DIM, &error);
        if (status == SEM_OK && i % COMPACT_AFTER == 0)
            status = vector_index_train(c->w.index, NULL, &error);
        if (status != SEM_OK)
            atomic_fetch_add(&c->failed, 1);
    }
    return NULL;
}

START_TEST(search_finds_all_documents_while_each_is_replaced)
{
    crowd *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    pthread_t thread;
    c->w = make_world(&usual, FEW);
    ck_assert_int_eq(pthread_create(&thread, NULL, replace_few, c), 0);
    size_t missing = 0;
    for (int i = 0; i < FEW_SEARCHES; i++) {
        sem_error error;
        vector_hit hits[2 * FEW];
        size_t count;
        vector_query q = {.vector = c->w.vectors, .k = 2 * FEW, .exact = true};
        ck_ok(vector_index_search(c->w.index, &q, hits, &count, NULL, &error));
        missing += count != FEW;
    }
    atomic_store(&c->finished, true);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(missing, 0);
    ck_assert_uint_eq(atomic_load(&c->failed), 0);
    free_world(&c->w);
    free(c);
}
END_TEST

static void *put_cut_document(void *context)
{
    crowd *c = context;
    sem_error error;
    if (vector_index_put_passages(c->w.index, FEW, NULL, c->w.vectors, 3, &error) != SEM_OK)
        atomic_fetch_add(&c->failed, 1);
    atomic_store(&c->finished, true);
    return NULL;
}

START_TEST(no_document_is_a_hit_twice_while_the_first_of_several_passages_comes)
{
    for (int i = 0; i < FRESH; i++) {
        crowd *c = calloc(1, sizeof *c);
        ck_assert_ptr_nonnull(c);
        pthread_t thread;
        c->w = make_world(&usual, FEW);
        ck_assert_int_eq(pthread_create(&thread, NULL, put_cut_document, c), 0);
        for (bool last = false; !last;) {
            sem_error error;
            vector_hit hits[2 * FEW];
            size_t count;
            vector_query q = {.vector = c->w.vectors, .k = 2 * FEW, .exact = true};
            last = atomic_load(&c->finished);
            ck_ok(vector_index_search(c->w.index, &q, hits, &count, NULL, &error));
            ck_assert_uint_le(count, FEW + 1);
            if (last)
                ck_assert_uint_eq(count, FEW + 1);
        }
        pthread_join(thread, NULL);
        ck_assert_uint_eq(atomic_load(&c->failed), 0);
        free_world(&c->w);
        free(c);
    }
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
    tcase_add_test(tc, search_finds_all_documents_while_each_is_replaced);
    tcase_add_test(tc, no_document_is_a_hit_twice_while_the_first_of_several_passages_comes);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
