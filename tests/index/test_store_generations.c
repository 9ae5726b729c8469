#include "tests/index/store_fixture.h"

static void make_folder(const char *below)
{
    sem_error error;
    ck_ok(files_make_folder(below_store(below), &error));
}

static bool exists(const char *below)
{
    return access(below_store(below), F_OK) == 0;
}

static uint32_t put_with_second(store_write *w, uint32_t collection, docid id, uint32_t second_space)
{
    sem_error error;
    uint64_t seq;
    const float v[DIM] = {1};
    store_put put = {.id = id, .text = "t", .text_length = 1, .vector = v, .second = v};
    ck_ok(store_documents_put(w, collection, SPACE, DIM, second_space, DIM, &put, 1, &seq, &error));
    return put.docno;
}

/* A place in a space that is not open is an error. */
static bool has_vector(store *s, uint32_t collection, uint32_t docno, uint32_t space_no)
{
    sem_error error;
    store_read *r;
    float vector[DIM];
    uint64_t version;
    bool found;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_vector_get(r, space_no, collection, docno, vector, DIM, &version, &found, &error));
    store_read_end(r);
    return found;
}

START_TEST(opening_removes_what_no_generation_names)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    store_generation retired = {.number = 3, .state = GENERATION_RETIRED, .space = 3, .dim = DIM, .model = "g3"},
                     back = {.number = 4, .state = GENERATION_ROLLED_BACK, .space = 4, .dim = DIM, .model = "g4"};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_generation_put(w, &retired, &error));
    ck_ok(store_generation_put(w, &back, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_space_open(s, 3, DIM, &error));
    ck_ok(store_space_open(s, 4, DIM, &error));
    ck_ok(store_space_open(s, 9, DIM, &error));
    uint32_t docnos[3], spaces[3] = {3, 4, 9};
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t c = make_collection(w, "default");
    for (size_t i = 0; i < 3; i++)
        docnos[i] = put_with_second(w, c, number_id(i), spaces[i]);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    make_folder("models/g1");
    make_folder("models/g2/deep");
    make_folder("models/g3/deep");
    make_folder("models/g4");
    make_folder("models/half-written");
    make_folder("space-of-my-own");
    static const char *const kept[] = {"cache/space-0-1.lists", "cache/space-1-1.lists", "cache/space-4-1.lists",
                                       "cache/of-my-own"};
    static const char *const gone[] = {"cache/space-0-2.lists", "cache/space-1-2.lists", "cache/space-3-1.lists",
                                       "cache/space-1-1.lists.new"};
    ck_assert_uint_eq(c, 1);
    make_folder("cache");
    for (size_t i = 0; i < 4; i++) {
        ck_ok(files_write(below_store(kept[i]), "", 0, &error));
        ck_ok(files_write(below_store(gone[i]), "", 0, &error));
    }
    s = open_with(MAP, 0);
    for (size_t i = 0; i < 4; i++)
        ck_assert(exists(kept[i]) && !exists(gone[i]));
    ck_assert(exists("space-1") && exists("space-2") && exists("space-4"));
    ck_assert(exists("space-of-my-own"));
    ck_assert(!exists("space-3") && !exists("space-9"));
    ck_assert(exists("models/g1") && exists("models/g2/deep") && exists("models/g4"));
    ck_assert(!exists("models/g3") && !exists("models/half-written"));
    for (size_t i = 0; i < 3; i++) {
        ck_assert(has_vector(s, c, docnos[i], SPACE));
        ck_assert_int_eq(has_vector(s, c, docnos[i], spaces[i]), spaces[i] == 4);
    }
    store_close(s);
}
END_TEST

START_TEST(a_space_whose_folder_was_lost_is_not_taken_for_empty)
{
    sem_error error;
    uint32_t c;
    store_write *w;
    store_options options = {.path = store_folder(), .map_size = MAP};
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(1), "text", 1, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    ck_ok(files_remove_folder(below_store("space-1"), &error));
    ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "space-1"));
}
END_TEST

/* What lies beside it would be removed, since it names nothing. */
START_TEST(a_main_file_that_was_lost_is_not_taken_for_a_new_store)
{
    sem_error error;
    uint32_t c;
    store_write *w;
    store_options options = {.path = store_folder(), .map_size = MAP};
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(1), "text", 1, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    make_folder("models");
    make_folder("models/trained");
    char *main_file;
    size_t size;
    ck_ok(files_read(below_store("main/data.mdb"), MAP, &main_file, &size, &error));
    ck_assert_int_eq(truncate(below_store("main/data.mdb"), 0), 0);
    /* The first try leaves an environment without tables. */
    for (int i = 0; i < 2; i++) {
        ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
        ck_assert_ptr_nonnull(strstr(error.message, "main/data.mdb is empty or was lost"));
    }
    ck_ok(files_remove_folder(below_store("main"), &error));
    ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
    ck_assert(exists("space-1") && exists("models/trained"));
    ck_ok(files_write(below_store("main/data.mdb"), main_file, size, &error));
    free(main_file);
    ck_ok(store_open(&s, &options, NULL, &error));
    store_close(s);
}
END_TEST

START_TEST(a_space_is_removed_when_nobody_reads_it)
{
    sem_error error;
    uint32_t c;
    uint64_t seq, version;
    bool found;
    store_write *w;
    store_read *r;
    float vector[DIM];
    size_t count = 0;
    store *s = store_with_collection(&c);
    const float v[DIM] = {1};
    store_put put = {.id = number_id(1), .text = "t", .text_length = 1, .vector = v, .second = v};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, OTHER_SPACE, DIM, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_gt(store_space_bytes(s, OTHER_SPACE), 0);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_vector_get(r, OTHER_SPACE, c, put.docno, vector, DIM, &version, &found, &error));
    make_folder("cache");
    ck_ok(files_write(below_store("cache/space-2-1.lists"), "", 0, &error));
    ck_ok(files_write(below_store("cache/space-22-1.lists"), "", 0, &error));
    ck_fails(store_space_remove(s, OTHER_SPACE, &error), SEM_FAILED_PRECONDITION);
    ck_ok(store_read_renew(r, &error));
    ck_ok(store_space_remove(s, OTHER_SPACE, &error));
    ck_assert(!exists("space-2") && !exists("cache/space-2-1.lists") && exists("cache/space-22-1.lists"));
    ck_assert_uint_eq(store_space_bytes(s, OTHER_SPACE), 0);
    /* An older snapshot still has the place, but not the vector. */
    ck_fails(store_vector_get(r, OTHER_SPACE, c, put.docno, vector, DIM, &version, &found, &error), SEM_NOT_FOUND);
    ck_ok(store_read_renew(r, &error));
    ck_ok(store_vector_get(r, OTHER_SPACE, c, put.docno, vector, DIM, &version, &found, &error));
    ck_assert(!found);
    ck_ok(store_space_open(s, OTHER_SPACE, 7, &error));
    ck_fails(store_space_open(s, OTHER_SPACE, DIM, &error), SEM_FAILED_PRECONDITION);
    ck_ok(store_vector_walk(r, OTHER_SPACE, c, count_vector, &count, &error));
    ck_assert_uint_eq(count, 0);
    store_read_end(r);
    ck_fails(store_space_remove(s, STORE_SPACE_EXTERNAL, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_space_open(s, STORE_SPACE_EXTERNAL, DIM, &error), SEM_INVALID_ARGUMENT);
    store_close(s);
}
END_TEST

/* The first generation, which is the current one, and a candidate; nothing else is taken. */
static void put_two_generations(store *s, char *metrics)
{
    sem_error error;
    uint32_t generation, space;
    store_write *w;
    store_generation g;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_generation_next(w, &generation, &space, &error));
    ck_assert(generation == 1 && space == 1);
    g = (store_generation){.number = 1,
                           .created_ms = -5,
                           .state = GENERATION_CURRENT,
                           .mode = "seed",
                           .pairs = 1U << 31,
                           .space = SPACE,
                           .dim = DIM,
                           .job = 3,
                           .model = "g1",
                           .metrics = metrics};
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_generation_next(w, &generation, &space, &error));
    g.number = generation;
    g.parent = 1;
    ck_fails(store_generation_put(w, &g, &error), SEM_FAILED_PRECONDITION);
    g.state = GENERATION_CANDIDATE;
    g.metrics = NULL;
    ck_ok(store_generation_put(w, &g, &error));
    g.number = 1;
    ck_fails(store_generation_put(w, &g, &error), SEM_FAILED_PRECONDITION);
    g.number = 3;
    strcpy(g.model, "../up");
    ck_fails(store_generation_put(w, &g, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_generation_remove(w, 1, &error), SEM_FAILED_PRECONDITION);
    ck_ok(store_write_commit(w, &error));
}

static void expect_flipped(store *s, const char *metrics)
{
    sem_error error;
    bool found;
    store_read *r;
    store_generation g, *list;
    size_t count;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_generation_current(r, &g, &found, &error));
    ck_assert(found && g.number == 2 && g.state == GENERATION_CURRENT && g.parent == 1 && g.metrics == NULL);
    ck_ok(store_generation_list(r, &list, &count, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert(list[0].state == GENERATION_PREVIOUS && list[0].created_ms == -5 && list[0].pairs == 1U << 31);
    ck_assert_str_eq(list[0].metrics, metrics);
    ck_assert_str_eq(list[0].mode, "seed");
    store_generations_free(list, count);
    store_read_end(r);
}

START_TEST(a_flip_is_one_step)
{
    sem_error error;
    bool found;
    uint32_t space, again;
    store_write *w;
    store_read *r;
    store_generation g;
    char metrics[] = "{\"heldout\":{\"mrr\":0.5}}";
    store *s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_generation_current(r, &g, &found, &error));
    ck_assert(!found);
    store_read_end(r);
    put_two_generations(s, metrics);
    ck_ok(store_write_begin(s, &w, &error));
    ck_fails(store_generation_flip(w, 7, GENERATION_PREVIOUS, &error), SEM_NOT_FOUND);
    ck_fails(store_generation_flip(w, 2, GENERATION_CURRENT, &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_generation_flip(w, 2, GENERATION_PREVIOUS, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    expect_flipped(s, metrics);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_generation_flip(w, 1, GENERATION_ROLLED_BACK, &error));
    ck_ok(store_generation_remove(w, 2, &error));
    ck_ok(store_generation_get(store_write_view(w), 2, &g, &found, &error));
    ck_assert(!found);
    ck_ok(store_generation_next(w, &again, &space, &error));
    ck_assert_uint_eq(again, 3);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

static void expect_models(store_read *r, uint32_t number, const char *document, const char *query)
{
    sem_error error;
    store_generation g;
    bool found;
    ck_ok(store_generation_get(r, number, &g, &found, &error));
    ck_assert(found);
    ck_assert_str_eq(g.model, document);
    ck_assert_str_eq(store_generation_query_model(&g), query);
    ck_assert_str_eq(g.mode, "query");
    ck_assert_str_eq(g.metrics, "{}");
    store_generation_free(&g);
}

START_TEST(a_query_model_of_its_own_shares_the_space_until_nobody_names_it)
{
    sem_error error;
    uint32_t number;
    store_write *w;
    store_read *r;
    char metrics[] = "{}", longest[STORE_MODEL_MAX + 1];
    memset(longest, 'q', STORE_MODEL_MAX);
    longest[STORE_MODEL_MAX] = '\0';
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    for (number = 0; number < 3;)
        ck_ok(store_generation_next(w, &number, NULL, &error));
    store_generation g = {.number = number,
                          .parent = 1,
                          .state = GENERATION_PREVIOUS,
                          .mode = "query",
                          .space = SPACE,
                          .dim = DIM,
                          .model = "g1",
                          .query_model = "g3",
                          .metrics = metrics};
    ck_ok(store_generation_put(w, &g, &error));
    g.number = 4;
    memcpy(g.query_model, longest, sizeof longest);
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_generation_flip(w, 3, GENERATION_PREVIOUS, &error));
    strcpy(g.query_model, "a/b");
    ck_fails(store_generation_put(w, &g, &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    make_folder("models/g1");
    make_folder("models/g3");
    make_folder("models/g5");
    s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    expect_models(r, 3, "g1", "g3");
    expect_models(r, 4, "g1", longest);
    store_read_end(r);
    ck_assert(exists("models/g1") && exists("models/g3") && !exists("models/g5"));
    ck_ok(store_write_begin(s, &w, &error));
    strcpy(g.query_model, "g3");
    g.state = GENERATION_RETIRED;
    ck_ok(store_generation_put(w, &g, &error));
    g.number = 1;
    strcpy(g.model, "g1");
    g.query_model[0] = '\0';
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0); /* generation 3 alone is left */
    ck_assert(exists("models/g1") && exists("models/g3") && exists("space-1"));
    store_close(s);
}
END_TEST

START_TEST(jobs_are_kept_by_number)
{
    sem_error error;
    bool found;
    uint32_t a, b, number;
    char *json;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    store_read *view = store_write_view(w);
    ck_ok(store_job_get(view, 0, &number, &json, &found, &error));
    ck_assert(!found);
    ck_ok(store_job_next(w, &a, &error));
    ck_ok(store_job_next(w, &b, &error));
    ck_assert(a == 1 && b == 2);
    ck_ok(store_job_put(w, a, "{\"n\":1}", &error));
    ck_ok(store_job_put(w, b, "{\"n\":2}", &error));
    ck_ok(store_job_put(w, b, "{\"n\":22}", &error));
    ck_fails(store_job_put(w, 0, "{}", &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_job_get(view, 0, &number, &json, &found, &error));
    ck_assert(found && number == 2);
    ck_assert_str_eq(json, "{\"n\":22}");
    free(json);
    ck_ok(store_job_get(view, 1, &number, &json, &found, &error));
    ck_assert(found && number == 1);
    free(json);
    ck_ok(store_job_get(view, 3, &number, &json, &found, &error));
    ck_assert(!found);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(an_unfinished_delete_is_noted_until_it_is_ended)
{
    sem_error error;
    store *s = open_with(MAP, 0);
    store_write *w;
    store_read *r;
    store_delete found_one;
    uint64_t a, b;
    bool found;
    const unsigned char first[] = "\x81\xa1", second[] = "\x82";
    ck_ok(store_write_begin(s, &w, &error));
    store_delete d = {.collection = 7, .seq = 99, .filter = first, .filter_size = 2};
    ck_ok(store_delete_begin(w, &d, &a, &error));
    d = (store_delete){.collection = 8, .seq = 100, .filter = second, .filter_size = 1};
    ck_ok(store_delete_begin(w, &d, &b, &error));
    ck_assert_uint_gt(b, a);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_delete_next(r, 0, &found_one, &found, &error));
    ck_assert(found && found_one.number == a && found_one.collection == 7 && found_one.seq == 99);
    ck_assert_uint_eq(found_one.filter_size, 2);
    ck_assert_mem_eq(found_one.filter, first, 2);
    ck_ok(store_delete_next(r, a, &found_one, &found, &error));
    ck_assert(found && found_one.number == b && found_one.collection == 8);
    ck_ok(store_delete_next(r, b, &found_one, &found, &error));
    ck_assert(!found);
    store_read_end(r);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_delete_end(w, a, &error));
    ck_ok(store_delete_end(w, a, &error));
    ck_ok(store_delete_next(store_write_view(w), 0, &found_one, &found, &error));
    ck_assert(found && found_one.number == b);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store generations");
    TCase *tests = tcase_create("store generations");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, opening_removes_what_no_generation_names);
    tcase_add_test(tests, a_space_whose_folder_was_lost_is_not_taken_for_empty);
    tcase_add_test(tests, a_main_file_that_was_lost_is_not_taken_for_a_new_store);
    tcase_add_test(tests, a_space_is_removed_when_nobody_reads_it);
    tcase_add_test(tests, a_flip_is_one_step);
    tcase_add_test(tests, a_query_model_of_its_own_shares_the_space_until_nobody_names_it);
    tcase_add_test(tests, jobs_are_kept_by_number);
    tcase_add_test(tests, an_unfinished_delete_is_noted_until_it_is_ended);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
