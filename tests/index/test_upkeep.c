/* Between trainings full cells are split and empty ones given up, and nothing else changes. */
#include "tests/common/testing.h"
#include "tests/index/lists_check.h"
#include "tests/index/world.h"

#include "base/files.h"
#include "index/dot.h"
#include "index/lists_file.h"
#include "index/training.h"
#include "index/upkeep.h"
#include "index/vector_index.h"

#include <cblas.h>

enum { CROWDED = 5 /* a topic */ };

static vector_index_stats stats_of(world *w)
{
    vector_index_stats stats;
    vector_index_describe(w->index, &stats);
    ck_assert_str_eq(stats.kind, "ivf");
    return stats;
}

/* --- the index */

/* Queries that are about what documents are about: so many of `all` are of one topic. */
static void expect_recall_of_documents(world *w, size_t crowd, size_t all)
{
    static const double targets[] = {0.80, 0.90, 0.95, 0.99};
    float query[DIM];
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
        vector_query q = {.vector = query, .k = K, .recall = targets[t]};
        vector_plan plan;
        measured m = {0};
        for (size_t i = 0; i < QUERIES; i++) {
            bool of_crowd = random_below(&w->random, all) < crowd;
            random_vector(w, of_crowd ? CROWDED : random_below(&w->random, TOPICS), query);
            measured_add(&m, w, &q, &plan);
        }
        m = measured_end(m);
        printf("recall %.2f reached %.4f +- %.4f\n", targets[t], m.mean, m.noise);
        ck_assert_double_ge(m.mean, targets[t] - 0.01 - m.noise);
    }
}

/* Cells that a whole training makes of the same documents find no more where as many rows are compared:
 * they may be fewer and larger. */
static void expect_cells_as_good_as_trained(world *w, const vector_index_options *options)
{
    sem_error error;
    world trained = *w;
    vector_query q = {.k = K, .nprobe = 8};
    ck_ok(vector_index_create(&trained.index, options, &error));
    for (uint32_t d = 0; d < N; d++)
        if (w->live[d])
            ck_ok(vector_index_put(trained.index, d, w->vectors + (size_t)d * DIM, &error));
    train(&trained);
    measured whole = measure(&trained, q, CROWDED, 1, NULL), split;
    do
        split = measure(w, q, CROWDED, 1, NULL);
    while (split.rows < whole.rows && q.nprobe++ < N);
    printf("the crowded topic, %.0f rows in %zu cells: %.4f; %.0f rows in 8 after a whole training: %.4f\n", split.rows,
           q.nprobe, split.mean, whole.rows, whole.mean);
    ck_assert_double_ge(split.mean, whole.mean - 0.07);
    vector_index_destroy(trained.index);
}

/* Counts how often it is called, and has none. */
static size_t count_asking(void *context, float **out)
{
    (*(size_t *)context)++;
    *out = NULL;
    return 0;
}

/* After a training its topic's few cells get twenty times their share. */
static void expect_split(world *w, const vector_index_options *options, float longest)
{
    train(w);
    vector_index_stats before = stats_of(w), now;
    size_t asked = 0;
    for (uint32_t d = 10000; d < 11000; d++)
        put_of_length(w, d, CROWDED, 1.0f + (float)(d % 7) / 6 * (longest - 1.0f));
    ck_assert(vector_index_wants_training(w->index));
    train_with(w, &(vector_training){.queries = count_asking, .context = &asked});
    ck_assert_uint_ge(asked, 1); /* much has moved */
    now = stats_of(w);
    printf("%zu splits, %zu merges, %zu cells instead of %zu\n", now.splits, now.merges, now.nlist, before.nlist);
    ck_assert_int_eq(now.trained_at_ms, before.trained_at_ms);
    ck_assert_uint_ge(now.splits, 1);
    ck_assert_uint_ge(now.nlist, before.nlist + 20);
    expect_recall(w, (vector_query){.k = K}, 0, TOPICS, "all topics");
    expect_recall_of_documents(w, 1000, 11000);
    expect_cells_as_good_as_trained(w, options);
}

START_TEST(a_crowded_cell_is_split_without_training)
{
    world w = make_world(&usual, 10000);
    expect_split(&w, &usual, 1.0f);
    free_world(&w);
}
END_TEST

START_TEST(a_crowded_cell_is_split_for_metric_dot)
{
    vector_index_options options;
    world w = make_dot_world(&options, 10000);
    expect_split(&w, &options, 2.0f);
    free_world(&w);
}
END_TEST

/* One cell that is just too full: so little moves that recall is not measured anew. */
START_TEST(recall_holds_where_it_is_not_measured_anew)
{
    setenv("SEMD_TEST_SEED", "1", 1); /* with some others more rows move */
    size_t asked = 0;
    const vector_training how = {.queries = count_asking, .context = &asked};
    world w = make_world(&usual, N - 400);
    train_with(&w, &how);
    ck_assert_uint_eq(asked, 1);
    vector_index_stats before = stats_of(&w);
    float vector[DIM];
    for (uint32_t d = N - 400; d < N && !vector_index_wants_training(w.index); d++) {
        clustered_point(&w.random, w.vectors, DIM, 0.1f, vector);
        put(&w, d, vector);
    }
    ck_assert(vector_index_wants_training(w.index));
    train_with(&w, &how);
    vector_index_stats now = stats_of(&w);
    ck_assert_uint_ge(now.splits, 1);
    ck_assert_uint_eq(asked, 1); /* who gives queries encodes them, for nothing here */
    ck_assert_uint_gt(now.nlist, before.nlist);
    for (size_t i = 0; i + 1 < before.curve_points; i++)
        ck_assert_double_eq(now.curve[i].recall, before.curve[i].recall);
    ck_assert_uint_eq(now.curve[now.curve_points - 1].nprobe, now.nlist);
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "all");
    free_world(&w);
}
END_TEST

START_TEST(cells_that_deletes_empty_are_given_up)
{
    world w = make_world(&usual, 0);
    for (uint32_t d = 0; d < 12000; d++)
        put_random(&w, d, d % TOPICS, 1);
    train(&w);
    vector_index_stats before = stats_of(&w);
    for (uint32_t d = 0; d < 12000; d++)
        if (d % TOPICS < TOPICS / 6)
            drop(&w, d);
    ck_assert(vector_index_wants_training(w.index));
    train(&w);
    vector_index_stats now = stats_of(&w);
    printf("%zu splits, %zu merges, %zu cells instead of %zu\n", now.splits, now.merges, now.nlist, before.nlist);
    ck_assert_int_eq(now.trained_at_ms, before.trained_at_ms);
    ck_assert_uint_ge(now.merges, before.nlist / 12);
    ck_assert_uint_eq(now.nlist, before.nlist - now.merges);
    expect_recall(&w, (vector_query){.k = K}, TOPICS / 6, TOPICS - TOPICS / 6, "what is left");
    mean_recall(&w, (vector_query){.k = K, .recall = 0.95}, 0, TOPICS / 6, NULL); /* finds none of those deleted */
    free_world(&w);
}
END_TEST

/* No centroids tell them apart: trying is left until they are twice as many. */
START_TEST(equal_vectors_are_not_split_for_ever)
{
    setenv("SEMD_TEST_SEED", "1", 1); /* with some others they are told apart from the rest of their cell */
    world w = make_world(&usual, 4000);
    train(&w);
    float vector[DIM];
    memcpy(vector, w.vectors, sizeof vector);
    for (uint32_t d = 5000; d < 5300; d++)
        put(&w, d, vector);
    ck_assert(vector_index_wants_training(w.index));
    train(&w);
    ck_assert_uint_eq(stats_of(&w).splits, 0);
    put(&w, 5300, vector);
    ck_assert(!vector_index_wants_training(w.index));
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "all");
    free_world(&w);
}
END_TEST

START_TEST(upkeep_that_is_cancelled_leaves_all_as_it_was)
{
    sem_error error;
    world w = make_world(&usual, 10000);
    train(&w);
    vector_index_stats before = stats_of(&w);
    for (uint32_t d = 10000; d < 11000; d++)
        put_random(&w, d, CROWDED, 1);
    atomic_bool cancel = true;
    ck_fails(vector_index_train(w.index, &(vector_training){.cancel = &cancel}, &error), SEM_CANCELLED);
    ck_assert_uint_eq(stats_of(&w).nlist, before.nlist);
    ck_assert_uint_eq(stats_of(&w).splits, 0);
    ck_assert(vector_index_wants_training(w.index));
    free_world(&w);
}
END_TEST

/* --- the lists alone, looked at lane by lane */

typedef struct stock {
    rows *rows;
    lists *lists;
    random_state random;
    float *centres;
    bool dot;
} stock;

static sem_error error;

static void make_vector(stock *s, size_t topic, float *out)
{
    clustered_point(&s->random, s->centres + topic * DIM, DIM, SPREAD, out);
    float length = s->dot ? 1.0f + (float)random_unit(&s->random) : 1.0f;
    for (size_t i = 0; i < DIM; i++)
        out[i] *= length;
}

/* As the writer does it. */
static void store_row(stock *s, uint32_t docno, size_t topic)
{
    float vector[DIM];
    make_vector(s, topic, vector);
    if (s->lists != NULL)
        ck_assert(lists_append(s->lists, rows_count(s->rows), vector));
    ck_ok(rows_put(s->rows, docno, vector, &error));
}

static stock make_stock(size_t count, bool dot)
{
    stock s = {.dot = dot};
    rows_view view;
    vector_index_options options = usual;
    options.metric = dot ? METRIC_DOT : METRIC_COSINE;
    random_seed(&s.random, testing_seed());
    s.centres = clustered_centres(&s.random, TOPICS, DIM);
    ck_ok(rows_create(&s.rows, DIM, &error));
    for (uint32_t d = 0; d < count; d++)
        store_row(&s, d, d % TOPICS);
    ck_ok(rows_view_begin(&view, s.rows, NULL, &error));
    const vector_training how = {0};
    training t = {.options = &options, .kernel = dot_choose(), .rows = s.rows, .view = &view, .how = &how};
    ck_ok(training_make_lists(&t, TRAINING_CLUSTER, &s.lists, &error));
    rows_view_end(&view);
    return s;
}

static void free_stock(stock *s)
{
    rows_release(s->rows);
    lists_free(s->lists);
    free(s->centres);
}

static upkeep_done keep_up(stock *s)
{
    upkeep_done done;
    lists *next;
    size_t before = s->lists->nlist;
    upkeep_input in = {.rows = s->rows, .seen = rows_count(s->rows), .old = s->lists, .nlist_max = 4096, .threads = 2};
    ck_ok(upkeep_make(&in, &next, &done, &error));
    lists_free(s->lists);
    s->lists = next;
    lists_check_all(next, s->rows, next->nlist + done.splits + done.merges - before);
    return done;
}

START_TEST(nothing_to_do_is_a_copy_without_dead_lanes)
{
    stock s = make_stock(4000, false);
    size_t nlist = s.lists->nlist, taken = s.lists->taken;
    upkeep_done done = keep_up(&s);
    ck_assert_uint_eq(done.splits + done.merges + done.moved + done.left, 0);
    ck_assert_uint_eq(s.lists->nlist, nlist);
    ck_assert_uint_eq(s.lists->taken, taken);
    for (uint32_t d = 0; d < 4000; d += 2)
        ck_assert(rows_remove(s.rows, d));
    done = keep_up(&s);
    ck_assert_uint_ge(done.left, 2 * 2000 - 100); /* hardly a row has no second lane */
    printf("%zu blocks instead of %zu\n", s.lists->taken, taken);
    ck_assert_uint_lt(s.lists->taken, taken * 4 / 5);
    free_stock(&s);
}
END_TEST

START_TEST(rows_that_came_meanwhile_are_left_to_the_writer)
{
    stock s = make_stock(3000, false);
    upkeep_done done;
    lists *next;
    upkeep_input in = {.rows = s.rows, .seen = rows_count(s.rows), .old = s.lists, .nlist_max = 4096, .threads = 1};
    for (uint32_t d = 2900; d < 3500; d++)
        store_row(&s, d, CROWDED);
    ck_ok(upkeep_make(&in, &next, &done, &error));
    ck_assert_uint_eq(lists_covered(next), 3000);
    rows_view view;
    ck_ok(rows_view_begin(&view, s.rows, NULL, &error));
    for (uint32_t row = 3000; row < rows_count(s.rows); row++)
        ck_assert(lists_append(next, row, rows_vector(&view, row)));
    rows_view_end(&view);
    lists_free(s.lists);
    s.lists = next;
    keep_up(&s);
    free_stock(&s);
}
END_TEST

/* Else cells that had grown, and lanes that had moved, would count for nothing after a start. */
START_TEST(a_start_knows_what_cells_were_made_with_and_what_moved)
{
    stock s = make_stock(3000, false);
    for (uint32_t d = 3000; d < 3800; d++)
        store_row(&s, d, d < 3500 ? CROWDED : d % TOPICS);
    upkeep_done done = keep_up(&s);
    ck_assert_uint_ge(done.splits, 1);
    ck_assert_uint_eq(s.lists->moved, done.moved);
    char path[FILES_PATH_MAX];
    lists_saving *saving;
    lists_file loaded;
    ck_ok(files_join(path, &error, "%s/lists", testing_folder()));
    ck_ok(lists_saving_start(&saving, s.lists, s.rows, &error));
    ck_ok(lists_saving_write(saving, path, &error));
    lists_saving_end(saving);
    ck_ok(lists_file_load(path, DIM, false, &loaded, &error));
    ck_assert_uint_eq(loaded.lists->moved, done.moved);
    size_t grown = 0;
    for (size_t c = 0; c < s.lists->nlist; c++) {
        ck_assert_uint_eq(loaded.lists->cells[c].made_with, s.lists->cells[c].made_with);
        grown += s.lists->cells[c].made_with < atomic_load(&s.lists->cells[c].count);
    }
    ck_assert_uint_gt(grown, 0);
    lists_file_free(&loaded);
    free_stock(&s);
}
END_TEST

/* Whatever is put, replaced and removed, whichever cells that fills and empties. */
static void expect_lanes_kept(bool dot)
{
    enum { DOCUMENTS = 4000, ROUNDS = 12, STEPS = 700 };
    stock s = make_stock(2000, dot);
    upkeep_done all = {0};
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t topic = random_below(&s.random, TOPICS), gone = random_below(&s.random, TOPICS - 20);
        for (size_t i = 0; i < STEPS; i++) {
            uint32_t docno = (uint32_t)random_below(&s.random, DOCUMENTS);
            if (random_below(&s.random, 3) == 0)
                rows_remove(s.rows, docno);
            else
                store_row(&s, docno, random_below(&s.random, 2) == 0 ? topic : docno % TOPICS);
        }
        for (uint32_t docno = 0; docno < DOCUMENTS; docno++)
            if (docno % TOPICS >= gone && docno % TOPICS < gone + 20)
                rows_remove(s.rows, docno);
        upkeep_done done = keep_up(&s);
        all.splits += done.splits;
        all.merges += done.merges;
        all.left += done.left;
        all.moved += done.moved;
    }
    printf("%zu splits, %zu merges, %zu lanes moved, %zu left\n", all.splits, all.merges, all.moved, all.left);
    ck_assert(all.splits > 0 && all.merges > 0 && all.left > 0);
    free_stock(&s);
}

START_TEST(every_living_row_keeps_its_lanes)
{
    expect_lanes_kept(false);
}
END_TEST

START_TEST(every_living_row_keeps_its_lanes_for_metric_dot)
{
    expect_lanes_kept(true);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("upkeep");
    TCase *tc = tcase_create("upkeep");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, a_crowded_cell_is_split_without_training);
    tcase_add_test(tc, a_crowded_cell_is_split_for_metric_dot);
    tcase_add_test(tc, recall_holds_where_it_is_not_measured_anew);
    tcase_add_test(tc, cells_that_deletes_empty_are_given_up);
    tcase_add_test(tc, equal_vectors_are_not_split_for_ever);
    tcase_add_test(tc, upkeep_that_is_cancelled_leaves_all_as_it_was);
    TCase *lanes = tcase_create("lanes");
    tcase_set_timeout(lanes, 300);
    tcase_add_test(lanes, nothing_to_do_is_a_copy_without_dead_lanes);
    tcase_add_test(lanes, rows_that_came_meanwhile_are_left_to_the_writer);
    tcase_add_test(lanes, a_start_knows_what_cells_were_made_with_and_what_moved);
    tcase_add_test(lanes, every_living_row_keeps_its_lanes);
    tcase_add_test(lanes, every_living_row_keeps_its_lanes_for_metric_dot);
    suite_add_tcase(suite, tc);
    suite_add_tcase(suite, lanes);
    return testing_run(suite);
}
