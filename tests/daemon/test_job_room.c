/* A job that would make vectors for every document knows whether the disk has room for them. */
#include "tests/common/testing.h"

#include "daemon/job.h"

#include <string.h>

enum { DIM = 40, DOCUMENTS = 1000, MAP = 64 << 20 };

static core c;
static job j;
static store_collection collection = {.name = "notes", .metric = METRIC_COSINE};

static void fill_store(void)
{
    sem_error error;
    store_write *w;
    bool created;
    const store_generation g = {
        .number = 1, .state = GENERATION_CURRENT, .space = 1, .dim = DIM, .mode = "seed", .model = "m"};
    ck_ok(store_write_begin(c.store, &w, &error));
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_collection_create(w, &collection, &created, &error));
    ck_ok(store_write_commit(w, &error));
}

static void start(uint64_t max_size)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    memset(&c, 0, sizeof c);
    j = (job){.core = &c};
    c.settings.index.exact_below = 10 * DOCUMENTS;
    ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    store_options options = {.path = path, .map_size = MAP};
    ck_ok(store_open(&c.store, &options, NULL, &error));
    fill_store();
    store_close(c.store);
    options.max_size = max_size;
    ck_ok(store_open(&c.store, &options, NULL, &error));
    const space_options in = {.store = c.store, .number = 1, .dim = DIM, .exact_below = 10 * DOCUMENTS, .threads = 1};
    serving *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    s->references = 1;
    ck_ok(store_space_open(c.store, 1, DIM, &error));
    ck_ok(space_create(&s->space, &in, &error));
    ck_ok(space_add(s->space, &collection, &error));
    space_index *index = space_acquire(s->space, collection.number);
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        ck_ok(vector_index_put_slot(index->index, i, i, (const float[DIM]){1}, &error));
    space_index_release(index);
    serving_slot_init(&c.current);
    serving_slot_swap(&c.current, s);
}

static void stop(void)
{
    serving_release(serving_slot_swap(&c.current, NULL));
    store_close(c.store);
}

START_TEST(vectors_that_have_no_room_are_refused_with_both_numbers)
{
    sem_error error;
    uint64_t vectors;
    start(1 << 20);
    ck_ok(job_room_vectors(&c, &vectors, &error));
    ck_assert_uint_eq(vectors, DOCUMENTS);
    ck_ok(job_room_check(&j, 16, &error));
    ck_assert_int_eq(job_room_check(&j, 4 * 1024, &error), SEM_RESOURCE_EXHAUSTED);
    /* 1,000 rows of 4,096 floats, a sixteenth more, and places */
    ck_assert_msg(strstr(error.message, "1000 vectors of 4096 floats, about 17476000 bytes") != NULL, "%s",
                  error.message);
    ck_assert_msg(strstr(error.message, "storage.max_size is 1048576") != NULL, "%s", error.message);
    c.settings.index.exact_below = 10; /* lists come on top */
    ck_assert_int_eq(job_room_check(&j, 4 * 1024, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_msg(strstr(error.message, "about 20740000 bytes") != NULL, "%s", error.message);
    stop();
}
END_TEST

START_TEST(without_a_limit_the_disk_decides)
{
    sem_error error;
    start(0);
    ck_ok(job_room_check(&j, 384, &error));
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("room for re-embedding");
    TCase *t = tcase_create("room");
    tcase_add_test(t, vectors_that_have_no_room_are_refused_with_both_numbers);
    tcase_add_test(t, without_a_limit_the_disk_decides);
    suite_add_tcase(s, t);
    return testing_run(s);
}
