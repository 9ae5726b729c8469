/* Long documents: each is cut into passages, and a hit is the document by its best one. */
#include "tests/daemon/passages_box.h"

enum { DOCUMENTS = 40, LONG = 60 };

static box b;

static bool start_with(const char *model, const char *metric)
{
    if (!box_create(&b, model))
        return false;
    box_start(&b);
    box_call(&b, "collection.create",
             "{'name': 'long', 'options': {'passage_tokens': %d, 'passage_overlap': %d, 'metric': '%s'}}", TOKENS,
             OVERLAP, metric);
    return true;
}

static bool start(const char *model)
{
    return start_with(model, "cosine");
}

static void put(unsigned id, unsigned seed, unsigned sentences, buffer *text)
{
    passages_text(text, seed, sentences);
    passages_upsert(&b, "long", id, (const char *)text->data, text->size);
}

/* Of the hit that has this id; SIZE_MAX where there is none. */
static void range_of(const msgpack_object *hits, unsigned id, size_t *from, size_t *to)
{
    *from = *to = SIZE_MAX;
    for (size_t i = 0; i < box_count(hits); i++) {
        const msgpack_object *hit = box_at(hits, i), *range = object_get(hit, "passage");
        ck_assert_uint_eq(box_count(range), 2);
        if (object_uint(object_get(hit, "id"), SIZE_MAX) != id)
            continue;
        *from = object_uint(box_at(range, 0), SIZE_MAX);
        *to = object_uint(box_at(range, 1), SIZE_MAX);
    }
}

START_TEST(a_fact_at_the_end_of_a_long_text_is_found_with_its_bytes)
{
    static const char fact[] = "The keeper of the lighthouse hid the brass key under the third step — für später.";
    const char *minilm = testing_minilm();
    if (minilm == NULL || !box_create(&b, "golden/tiny-bert"))
        return;
    snprintf(b.model, sizeof b.model, "model.path=%s", minilm);
    box_start(&b);
    box_call(&b, "collection.create", "{'name': 'long', 'options': {'passage_tokens': 64, 'passage_overlap': 16}}");
    buffer text = {0};
    for (unsigned i = 0; i < 8; i++) {
        passages_text(&text, i, LONG / 2);
        if (i == 7)
            ck_assert(buffer_append(&text, fact, sizeof fact - 1));
        passages_upsert(&b, "long", i, (const char *)text.data, text.size);
        if (i == 7)
            passages_upsert(&b, "default", i, (const char *)text.data, text.size);
    }
    static const char *const modes[] = {"dense", "hybrid", "lexical"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        const msgpack_object *hits = object_get(
            box_call(&b, "search",
                     "{'collection': 'long', 'query': 'where is the key of the lighthouse', 'k': 3, 'mode': '%s', "
                     "'with': ['text']}",
                     modes[i]),
            "hits");
        const msgpack_object *hit = box_at(hits, 0), *body = object_get(hit, "text");
        size_t from, to;
        ck_assert_uint_eq(object_uint(object_get(hit, "id"), 0), 7);
        range_of(hits, 7, &from, &to);
        ck_assert(from < to && to == body->via.str.size && from > to / 2);
        ck_assert_ptr_nonnull(memmem(body->via.str.ptr + from, to - from, fact, sizeof fact - 1));
    }
    /* Without passages nothing is said of them. */
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'query': 'lighthouse'}"), "hits");
    ck_assert_ptr_null(object_get(box_at(hits, 0), "passage"));
    buffer_free(&text);
    box_stop(&b);
}
END_TEST

/* The best passage of a document, by the vectors that get answers with. */
static size_t best_of(const cut_document *d, const float *query, float *score)
{
    size_t best = 0;
    *score = -2;
    for (size_t i = 0; i < d->count; i++) {
        float dot = 0;
        for (size_t k = 0; k < d->dim; k++)
            dot += query[k] * d->vectors[i * d->dim + k];
        if (dot > *score) {
            *score = dot;
            best = i;
        }
    }
    return best;
}

/* The number of the passage that has this range. */
static size_t passage_at(const cut_document *d, const msgpack_object *range)
{
    const uint64_t from = object_uint(box_at(range, 0), UINT64_MAX), to = object_uint(box_at(range, 1), UINT64_MAX);
    for (size_t i = 0; i < d->count; i++)
        if (d->ranges[i].from == from && d->ranges[i].to == to)
            return i;
    ck_abort_msg("no passage has the bytes %llu to %llu", (unsigned long long)from, (unsigned long long)to);
}

static const msgpack_object *search_vector(const float *query, size_t dim, size_t k, bool exact)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 5);
    pack_str(&p, "collection");
    pack_str(&p, "long");
    pack_str(&p, "vector");
    pack_bin(&p, query, dim * sizeof(float));
    pack_str(&p, "k");
    pack_uint(&p, k);
    pack_str(&p, "exact");
    pack_bool(&p, exact);
    pack_str(&p, "with");
    pack_array(&p, 1);
    pack_str(&p, "vector");
    return object_get(box_call_packed(&b, "search", &params), "hits");
}

/* Documents of 1 to `most` sentences, and how they were cut; free_all() is the caller's. */
static void put_all(unsigned seed, unsigned most, cut_document all[DOCUMENTS])
{
    buffer text = {0};
    size_t passages = 0;
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        put(i, seed + i, 1 + i % most, &text);
        all[i] = passages_get(&b, "long", i);
        ck_assert_uint_eq(passages_expect_right(&b, "long", i, (const char *)text.data, TOKENS + SPECIAL),
                          all[i].count);
        passages += all[i].count;
    }
    ck_assert_uint_eq(passages_count(&b, "long"), passages);
    buffer_free(&text);
}

static void free_all(cut_document all[DOCUMENTS])
{
    for (unsigned i = 0; i < DOCUMENTS; i++)
        cut_document_free(&all[i]);
}

/* The hits are all documents, each with the score, the vector and the bytes of its best passage. */
static void expect_best_passages(const cut_document all[DOCUMENTS], const msgpack_object *hits, const float *query,
                                 double tolerance)
{
    ck_assert_uint_eq(box_count(hits), DOCUMENTS);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        const msgpack_object *hit = box_at(hits, i), *vector = object_get(hit, "vector");
        const cut_document *d = &all[object_uint(object_get(hit, "id"), 0)];
        float score;
        /* Equal passages of one document are equally good. */
        size_t best = best_of(d, query, &score), named = passage_at(d, object_get(hit, "passage"));
        ck_assert_double_eq_tol(object_double(object_get(hit, "score"), -2), (double)score, tolerance);
        ck_assert_uint_eq(vector->via.bin.size, d->dim * sizeof(float));
        ck_assert_mem_eq(vector->via.bin.ptr, d->vectors + best * d->dim, d->dim * sizeof(float));
        ck_assert_mem_eq(d->vectors + named * d->dim, d->vectors + best * d->dim, d->dim * sizeof(float));
    }
}

START_TEST(every_hit_is_its_best_passage_and_k_counts_documents)
{
    if (!start("golden/tiny-bert"))
        return;
    cut_document all[DOCUMENTS];
    put_all(0, DOCUMENTS, all);
    ck_assert_uint_gt(all[DOCUMENTS - 1].count, 5);
    for (unsigned q = 0; q < DOCUMENTS; q++) {
        const float *query = all[q].vectors + (all[q].count - 1) * all[q].dim;
        expect_best_passages(all, search_vector(query, all[q].dim, DOCUMENTS + 10, q % 2 == 0), query, 1e-5);
    }
    free_all(all);
    box_stop(&b);
}
END_TEST

/* Models give vectors of unit length, queries are as they come. */
START_TEST(metric_dot_ranks_alike_and_scores_by_the_querys_length)
{
    enum { FACTOR = 3 };
    if (!start_with("golden/tiny-bert", "dot"))
        return;
    cut_document all[DOCUMENTS];
    put_all(0, 12, all);
    for (unsigned q = 0; q < DOCUMENTS; q += 5) {
        float query[1024];
        ck_assert_uint_le(all[q].dim, sizeof query / sizeof *query);
        for (size_t i = 0; i < all[q].dim; i++)
            query[i] = FACTOR * all[q].vectors[i];
        const msgpack_object *hits = search_vector(query, all[q].dim, DOCUMENTS, q % 2 == 0);
        expect_best_passages(all, hits, query, 1e-4);
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, 0), "score"), -2), FACTOR, 1e-4);
    }
    free_all(all);
    box_stop(&b);
}
END_TEST

START_TEST(like_goes_by_the_best_pair_of_passages)
{
    if (!start("golden/tiny-bert"))
        return;
    cut_document all[DOCUMENTS];
    put_all(100, 12, all);
    for (unsigned q = 0; q < DOCUMENTS; q += 7) {
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'collection': 'long', 'like': %u, 'k': 5, 'exact': true}", q), "hits");
        ck_assert_uint_eq(box_count(hits), 5);
        double last = 2;
        for (size_t i = 0; i < 5; i++) {
            const msgpack_object *hit = box_at(hits, i), *range = object_get(hit, "passage");
            unsigned id = (unsigned)object_uint(object_get(hit, "id"), 0);
            double score = object_double(object_get(hit, "score"), -2), best = -2, there = -2;
            ck_assert_uint_ne(id, q);
            for (size_t k = 0; k < all[q].count; k++) {
                float one;
                size_t at = best_of(&all[id], all[q].vectors + k * all[q].dim, &one);
                best = one > best ? (double)one : best;
                there = all[id].ranges[at].from == object_uint(box_at(range, 0), SIZE_MAX) && one > there ? (double)one
                                                                                                          : there;
            }
            ck_assert_double_eq_tol(score, best, 1e-5);
            ck_assert_double_eq_tol(score, there, 1e-5);
            ck_assert(score <= last);
            last = score;
        }
        /* Nobody who was left out is nearer than the last. */
        for (unsigned id = 0; id < DOCUMENTS; id++) {
            size_t from, to;
            float one;
            range_of(hits, id, &from, &to);
            for (size_t k = 0; from == SIZE_MAX && id != q && k < all[q].count; k++) {
                best_of(&all[id], all[q].vectors + k * all[q].dim, &one);
                ck_assert((double)one <= last + 1e-5);
            }
        }
    }
    free_all(all);
    box_fails(&b, "NOT_FOUND", "search", "{'collection': 'long', 'like': 999}");
    box_stop(&b);
}
END_TEST

START_TEST(what_matches_a_filter_is_found_by_its_passages)
{
    if (!start("golden/tiny-bert"))
        return;
    buffer text = {0};
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        put(i, i, 1 + i % 20, &text);
        text.size = 0;
    }
    box_call(&b, "upsert",
             "{'collection': 'long', 'docs': [{'id': 50, 'text': 'snow. water in the bank.', 'meta': {'kind': 1}},"
             "{'id': 51, 'text': 'cash and a fee. the king has a tree.', 'meta': {'kind': 1}}]}");
    const msgpack_object *hits = object_get(
        box_call(&b, "search", "{'collection': 'long', 'query': 'snow', 'filter': {'field': 'kind', 'eq': 1}, 'k': 5}"),
        "hits");
    ck_assert_uint_eq(box_count(hits), 2);
    for (size_t i = 0; i < 2; i++) {
        size_t from, to;
        range_of(hits, 50 + (unsigned)i, &from, &to);
        ck_assert(from == 0 && to == (i == 0 ? 24u : 36u));
    }
    const msgpack_object *r =
        box_call(&b, "explain", "{'collection': 'long', 'query': 'snow', 'k': 3, 'mode': 'hybrid'}");
    hits = object_get(r, "hits");
    ck_assert_uint_eq(box_count(hits), 3);
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(box_count(object_get(box_at(hits, i), "passage")), 2);
    ck_assert_uint_eq(object_uint(object_get(object_get(r, "plan"), "documents"), 0), DOCUMENTS + 2);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{'collection': 'long'}"), "count"), 0),
                      DOCUMENTS + 2);
    r = box_call(&b, "scroll", "{'collection': 'long', 'limit': 100, 'with': ['vector']}");
    ck_assert_uint_eq(box_count(object_get(r, "docs")), DOCUMENTS + 2);
    size_t passages = 0;
    for (size_t i = 0; i < DOCUMENTS + 2; i++)
        passages += box_count(object_get(box_at(object_get(r, "docs"), i), "passages"));
    ck_assert_uint_eq(passages_count(&b, "long"), passages);
    buffer_free(&text);
    box_stop(&b);
}
END_TEST

START_TEST(an_update_grows_and_shrinks_a_document)
{
    if (!start("golden/tiny-bert"))
        return;
    buffer text = {0};
    static const unsigned sizes[] = {1, LONG, 3, 2 * LONG, 1, LONG};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        put(1, i, sizes[i], &text);
        size_t count = passages_expect_right(&b, "long", 1, (const char *)text.data, TOKENS + SPECIAL);
        ck_assert_uint_eq(passages_count(&b, "long"), count);
        ck_assert(sizes[i] == 1 ? count <= 2 : count > sizes[i] / 10);
        /* The same text again changes nothing. */
        passages_upsert(&b, "long", 1, (const char *)text.data, text.size);
        ck_assert_uint_eq(passages_expect_right(&b, "long", 1, (const char *)text.data, TOKENS + SPECIAL), count);
        ck_assert_uint_eq(passages_count(&b, "long"), count);
    }
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'collection': 'long', 'query': 'snow', 'k': 9}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    put(2, 77, LONG, &text);
    box_call(&b, "delete", "{'collection': 'long', 'ids': [1]}");
    ck_assert_uint_eq(passages_count(&b, "long"),
                      passages_expect_right(&b, "long", 2, (const char *)text.data, TOKENS + SPECIAL));
    hits = object_get(box_call(&b, "search", "{'collection': 'long', 'query': 'snow', 'k': 9}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert_uint_eq(object_uint(object_get(box_at(hits, 0), "id"), 0), 2);
    buffer_free(&text);
    box_stop(&b);
}
END_TEST

/* A document whose text is `times` times a piece. */
static size_t put_repeated(unsigned id, const char *piece, size_t times, buffer *text)
{
    text->size = 0;
    for (size_t i = 0; i < times; i++)
        ck_assert(buffer_append(text, piece, strlen(piece)));
    passages_upsert(&b, "long", id, (const char *)text->data, text->size);
    cut_document d = passages_get(&b, "long", id);
    ck_assert_uint_eq(d.length, text->size);
    passages_expect_whole(&d);
    size_t count = d.count;
    cut_document_free(&d);
    return count;
}

START_TEST(texts_of_any_form_are_cut)
{
    if (!start("golden/tiny-bert"))
        return;
    buffer text = {0};
    ck_assert_uint_eq(put_repeated(1, "", 0, &text), 1);
    ck_assert_uint_eq(put_repeated(2, " \n", 1000, &text), 1);
    ck_assert_uint_eq(put_repeated(3, "x", 1, &text), 1);
    ck_assert_uint_gt(put_repeated(4, "money ", 100000 / 6, &text), 100); /* no stop in 100 kB */
    ck_assert_uint_gt(put_repeated(5, "日本", 100000 / 6, &text), 100);   /* nor white space */
    ck_assert_uint_ge(put_repeated(6, "x", 100000, &text), 1); /* one word, of which this model makes one token */
    ck_assert_uint_gt(put_repeated(7, "the king has a card in the bank. ", (1 << 20) / 33, &text), 1000);
    /* The whole daemon is still there. */
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'collection': 'long', 'query': 'the king', 'k': 10}"), "hits");
    ck_assert_uint_eq(box_count(hits), 7);
    hits = object_get(box_call(&b, "search", "{'collection': 'long', 'like': 7, 'k': 3}"), "hits");
    ck_assert_uint_eq(box_count(hits), 3);
    hits = object_get(box_call(&b, "search", "{'collection': 'long', 'query': 'bank', 'mode': 'lexical'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    buffer_free(&text);
    box_stop(&b);
}
END_TEST

START_TEST(what_does_not_fit_together_is_refused)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "limits.passages=20";
    box_start(&b);
    const char *message =
        box_fails(&b, "INVALID_ARGUMENT", "collection.create", "{'name': 'c', 'options': {'passage_tokens': 1000}}");
    ck_assert_ptr_nonnull(strstr(message, "options.passage_tokens: 1000, the model takes at most"));
    box_call(&b, "collection.create", "{'name': 'c', 'options': {'passage_tokens': 24, 'passage_overlap': 8}}");
    box_fails(&b, "ALREADY_EXISTS", "collection.create", "{'name': 'c', 'options': {'passage_tokens': 24}}");
    const msgpack_object *r =
        box_call(&b, "collection.create", "{'name': 'c', 'options': {'passage_tokens': 24, 'passage_overlap': 8}}");
    ck_assert(!object_get(r, "created")->via.boolean);
    buffer text = {0};
    passages_text(&text, 1, 3);
    passages_upsert(&b, "c", 1, (const char *)text.data, text.size);
    text.size = 0;
    for (int i = 0; i < 100; i++)
        ck_assert(buffer_append(&text, "the bank has a limit. ", 22));
    ck_assert(buffer_append(&text, "", 1));
    message = box_fails(&b, "INVALID_ARGUMENT", "upsert", "{'collection': 'c', 'docs': [{'id': 2, 'text': '%s'}]}",
                        (const char *)text.data);
    ck_assert_ptr_nonnull(strstr(message, "at most 20 (limits.passages)"));
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{'collection': 'c'}"), "count"), 0), 1);
    buffer_free(&text);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_passages");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, a_fact_at_the_end_of_a_long_text_is_found_with_its_bytes);
    tcase_add_test(c, every_hit_is_its_best_passage_and_k_counts_documents);
    tcase_add_test(c, metric_dot_ranks_alike_and_scores_by_the_querys_length);
    tcase_add_test(c, like_goes_by_the_best_pair_of_passages);
    tcase_add_test(c, what_matches_a_filter_is_found_by_its_passages);
    tcase_add_test(c, an_update_grows_and_shrinks_a_document);
    tcase_add_test(c, texts_of_any_form_are_cut);
    tcase_add_test(c, what_does_not_fit_together_is_refused);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
