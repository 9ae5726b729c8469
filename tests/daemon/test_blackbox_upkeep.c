/* What the daemon does about lists in the background: a topic that grows has its cells split, and
 * no index waits at a start for what is made for another. */
#include "tests/daemon/blackbox.h"
#include "tests/daemon/external_docs.h"
#include "tests/index/clustered.h"

#include <unistd.h>

enum { DIM = 16, DOCUMENTS = 3000, BATCH = 500, CROWD = 300, PATIENCE = 3000, TOPICS = 60 };

static box b;

static void insert(const char *collection, const float *vectors, unsigned first, unsigned count)
{
    for (unsigned at = first; at < first + count; at += BATCH) {
        unsigned left = first + count - at;
        buffer params = external_docs_pack(&(external_docs){.collection = collection,
                                                            .first = at,
                                                            .count = left < BATCH ? left : BATCH,
                                                            .dim = DIM,
                                                            .vectors = vectors + (size_t)at * DIM,
                                                            .stride = DIM});
        box_call_packed(&b, "upsert", &params);
    }
}

typedef struct told {
    uint64_t trained_at, nlist, splits, merges;
} told;

static told tell(const char *collection)
{
    const msgpack_object *index = object_get(box_collection(&b, collection), "index");
    return (told){.trained_at = object_uint(object_get(index, "trained_at"), 0),
                  .nlist = object_uint(object_get(index, "nlist"), 0),
                  .splits = object_uint(object_get(index, "splits"), UINT64_MAX),
                  .merges = object_uint(object_get(index, "merges"), UINT64_MAX)};
}

/* Asks until the index is trained and so many cells were split. */
static told wait_for(const char *collection, uint64_t splits)
{
    told now = tell(collection);
    for (int tries = 0; tries < PATIENCE && (now.trained_at == 0 || now.splits < splits); tries++) {
        usleep(10000);
        now = tell(collection);
    }
    ck_assert_uint_gt(now.trained_at, 0);
    ck_assert_uint_ge(now.splits, splits);
    return now;
}

/* The newest are like document 0 and each other: each one's neighbours are the others. */
static void expect_crowd(void)
{
    for (unsigned i = 0; i < 20; i++) {
        const msgpack_object *hits = object_get(
            box_call(&b, "search", "{'collection': 'outside', 'like': %u, 'k': 10}", DOCUMENTS + i * 7), "hits");
        ck_assert_uint_eq(box_count(hits), 10);
        for (size_t h = 0; h < 10; h++) {
            uint64_t id = object_uint(object_get(box_at(hits, h), "id"), UINT64_MAX);
            ck_assert(id == 0 || (id >= DOCUMENTS && id < DOCUMENTS + CROWD));
        }
    }
}

/* A daemon that makes lists of few documents; false where there is no model for it. */
static bool begin(random_state *random)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    b.options[0] = "index.exact_below=500";
    box_start(&b);
    random_seed(random, testing_seed());
    return true;
}

START_TEST(a_topic_that_grows_has_its_cells_split)
{
    random_state random;
    if (!begin(&random))
        return;
    float *vectors = clustered_points(&random, DOCUMENTS + CROWD, DIM, TOPICS, 0.9f);
    ck_assert_ptr_nonnull(vectors);
    for (size_t i = DOCUMENTS; i < DOCUMENTS + CROWD; i++)
        clustered_point(&random, vectors, DIM, 0.05f, vectors + i * DIM);
    box_call(&b, "collection.create", "{'name': 'outside', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    insert("outside", vectors, 0, DOCUMENTS);
    told before = wait_for("outside", 0);
    ck_assert_uint_eq(before.splits, 0);
    ck_assert_uint_eq(before.merges, 0);
    insert("outside", vectors, DOCUMENTS, CROWD);
    expect_crowd();
    told now = wait_for("outside", 1);
    ck_assert_uint_eq(now.trained_at, before.trained_at);
    ck_assert_uint_gt(now.nlist, before.nlist);
    expect_crowd();
    box_stop(&b);
    box_start(&b);
    told again = wait_for("outside", 0);
    ck_assert_uint_eq(again.trained_at, before.trained_at);
    ck_assert_uint_eq(again.nlist, now.nlist);
    expect_crowd();
    box_stop(&b);
    free(vectors);
}
END_TEST

/* Both have lists; those of the one that comes first in order are lost. */
START_TEST(saved_lists_are_loaded_before_others_are_made)
{
    static const char *const names[] = {"outside", "other"};
    enum { LOG_MAX = 1 << 20 /* bytes */ };
    char path[FILES_PATH_MAX], *log;
    size_t size;
    sem_error error;
    random_state random;
    if (!begin(&random))
        return;
    float *vectors = clustered_points(&random, DOCUMENTS, DIM, TOPICS, 0.9f);
    ck_assert_ptr_nonnull(vectors);
    for (int i = 0; i < 2; i++) {
        box_call(&b, "collection.create", "{'name': '%s', 'options': {'vectors': 'external', 'dim': %d}}", names[i],
                 DIM);
        insert(names[i], vectors, 0, DOCUMENTS);
    }
    uint64_t lost = wait_for("outside", 0).trained_at, kept = wait_for("other", 0).trained_at;
    box_stop(&b);
    snprintf(path, sizeof path, "%s/data/cache/space-0-2.lists", testing_folder());
    ck_assert_int_eq(unlink(path), 0);
    snprintf(b.log, sizeof b.log, "%s/log-of-another-start", testing_folder());
    box_start(&b);
    ck_assert_uint_gt(wait_for("outside", 0).trained_at, lost);
    ck_assert_uint_eq(wait_for("other", 0).trained_at, kept);
    box_stop(&b);
    ck_ok(files_read(b.log, LOG_MAX, &log, &size, &error));
    const char *loaded = strstr(log, "event=lists_loaded"), *made = strstr(log, "event=lists ");
    ck_assert_ptr_nonnull(loaded);
    ck_assert_ptr_nonnull(made);
    ck_assert_msg(loaded < made, "lists were made before others were loaded:\n%s", log);
    free(log);
    free(vectors);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("upkeep");
    TCase *t = tcase_create("upkeep");
    tcase_set_timeout(t, 200);
    tcase_add_test(t, a_topic_that_grows_has_its_cells_split);
    tcase_add_test(t, saved_lists_are_loaded_before_others_are_made);
    suite_add_tcase(s, t);
    return testing_run(s);
}
