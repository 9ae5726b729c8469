/* A daemon whose lists are FAISS's: the same answers, through the same requests. */
#include "tests/daemon/faiss_box.h"

/* 0.95 is asked where nothing is; less 0.01, and what chance does to so few queries. */
static const double LEAST_RECALL = 0.93;

/* Mean recall of searches near documents. */
static double recall_of(faiss_box *w, const char *extra, uint64_t value, bool filtered)
{
    enum { QUERIES = 250, STEP = DOCS / QUERIES };
    size_t right = 0;
    for (unsigned i = 0; i < QUERIES; i++) {
        const float *query = w->vectors + (size_t)i * STEP * DIM;
        right += right_hits(w, search(w, "search", query, extra, value, filtered), query, filtered);
    }
    return (double)right / (QUERIES * K);
}

static void expect_all_promises(faiss_box *w)
{
    double recall = recall_of(w, NULL, 0, false);
    printf("recall %.4f\n", recall);
    ck_assert_double_ge(recall, LEAST_RECALL);
    ck_assert_double_eq(recall_of(w, NULL, 0, true), 1.0);
    ck_assert_double_ge(recall_of(w, "nprobe", 100000, false), 0.95); /* what SQ8 leaves */
    const msgpack_object *plan = object_get(search(w, "explain", w->vectors, "nprobe", 7, false), "plan");
    ck_assert(object_is(object_get(plan, "kind"), "faiss"));
    ck_assert(object_is(object_get(plan, "codes"), "IVF,SQ8"));
    plan = object_get(search(w, "explain", w->vectors, "nprobe", 7, true), "plan");
    ck_assert(object_is(object_get(plan, "kind"), "exact"));
}

static uint64_t trained_at(faiss_box *w)
{
    return object_uint(object_get(object_get(box_collection(&w->b, "ext"), "index"), "trained_at"), 0);
}

START_TEST(the_same_requests_are_answered_by_faiss)
{
    static const char *const options[] = {"index.engine=faiss"};
    faiss_box w;
    if (!faiss_box_start(&w, options, 1))
        return;
    for (unsigned i = 0; i < DOCS / 2; i += BATCH)
        upsert(&w, i, BATCH);
    wait_for_lists(&w, "faiss", "IVF,SQ8");
    for (unsigned i = DOCS / 2; i < DOCS; i += BATCH)
        upsert(&w, i, BATCH);
    expect_all_promises(&w);
    delete_some(&w);
    expect_all_promises(&w);
    uint64_t trained = trained_at(&w);
    box_stop(&w.b);
    box_start(&w.b);
    ck_assert_double_ge(recall_of(&w, NULL, 0, false), LEAST_RECALL);
    wait_for_lists(&w, "faiss", "IVF,SQ8");
    ck_assert_uint_eq(trained_at(&w), trained); /* they were saved */
    expect_all_promises(&w);
    box_stop(&w.b);
    free(w.vectors);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_faiss");
    TCase *tc = tcase_create("blackbox_faiss");
    tcase_set_timeout(tc, 280);
    tcase_add_test(tc, the_same_requests_are_answered_by_faiss);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
