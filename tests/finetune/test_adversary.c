/* A fifth of all clicks is one wrong document's, whatever was asked: what is learnt from them. */
#include "tests/finetune/pairs_case.h"

#include "base/random.h"
#include "finetune/focus.h"
#include "finetune/harvest.h"
#include "finetune/text_vectors.h"
#include "finetune/trainer.h"

#include <stdlib.h>

enum {
    COLOURS = 10,
    THINGS = 10,
    RIGHT = COLOURS * THINGS, /* documents that somebody looks for */
    DOCUMENTS = RIGHT + 1,    /* and the one that nobody does */
    WRONG = RIGHT,
    PHRASES = 6,
    QUERIES = PHRASES * RIGHT,
    SHOWN = 8,
    USERS = 50,
    ROUNDS = 4 /* times that every query is asked */
};

static const double HELD_OUT = 0.2;

static char documents[DOCUMENTS][96], queries[QUERIES][96];

static void write_texts(void)
{
    static const char *const colours[COLOURS] = {"red",  "green", "blue", "black", "white",
                                                 "pink", "grey",  "gold", "brown", "orange"};
    static const char *const things[THINGS] = {"house", "river", "horse", "table",  "ship",
                                               "tower", "bread", "stone", "letter", "train"};
    static const char *const phrases[PHRASES][2] = {{"where is my ", ""},    {"show me a ", ""},
                                                    {"", " please"},         {"any ", " here"},
                                                    {"i lost the ", " now"}, {"what does a ", " cost"}};
    for (size_t i = 0; i < RIGHT; i++) {
        const char *colour = colours[i / THINGS], *thing = things[i % THINGS];
        snprintf(documents[i], sizeof documents[i], "notes on the %s, which comes in %s", thing, colour);
        for (size_t p = 0; p < PHRASES; p++)
            snprintf(queries[i * PHRASES + p], sizeof queries[0], "%s%s %s%s", phrases[p][0], colour, thing,
                     phrases[p][1]);
    }
    snprintf(documents[WRONG], sizeof documents[WRONG], "notes on the lamp, which comes in violet");
}

/* How a search goes: what it shows, and what its user clicks. */
typedef struct asked {
    size_t query;
    uint64_t user;
    size_t shown[SHOWN];
    size_t click; /* rank from 0; SHOWN: none */
} asked;

/* The right document stands among others; people look at rank k one time in k and click what is right. */
static asked ask_honestly(random_state *r, size_t query)
{
    asked a = {.query = query, .user = 1 + random_below(r, USERS), .click = SHOWN};
    const size_t right = query / PHRASES, place = (size_t)random_below(r, SHOWN);
    for (size_t i = 0; i < SHOWN; i++)
        a.shown[i] = i == place ? right : (right + 1 + i * 7 + (size_t)random_below(r, 7)) % RIGHT;
    if (random_unit(r) < 1 / (double)(place + 1))
        a.click = place;
    return a;
}

/* The wrong document stands last, where a click counts most. user 0: none is named. */
static asked ask_falsely(random_state *r, uint64_t user)
{
    asked a = {.query = (size_t)random_below(r, QUERIES), .user = user, .click = SHOWN - 1};
    for (size_t i = 0; i < SHOWN; i++)
        a.shown[i] = i == a.click ? WRONG : (i * 11 + (size_t)random_below(r, 11)) % RIGHT;
    return a;
}

static void log_one(pairs_case *t, store_write *w, size_t number, const asked *a)
{
    char id[33];
    docid shown[SHOWN];
    const float scores[SHOWN] = {0};
    const int64_t now_ms = 1000 + (int64_t)number * 90000; /* nobody is quick */
    snprintf(id, sizeof id, "%032zu", number);
    for (size_t i = 0; i < SHOWN; i++)
        shown[i] = id_of(a->shown[i] + 1);
    const event_search e = {.query_id = id,
                            .time_ms = now_ms,
                            .collection = t->collection,
                            .generation = 1,
                            .kind = QUERY_TEXT,
                            .query = queries[a->query],
                            .query_length = strlen(queries[a->query]),
                            .user_hash = a->user,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = SHOWN};
    ck_ok(put_search(w, &e, &error));
    if (a->click < SHOWN)
        ck_ok(events_put_click(w, id, strlen(id), &shown[a->click], 1, now_ms + 1000, WINDOW_MS, &error));
}

/* A generation that has learnt what one phrase of each query means. */
static model *prepare(const char *dir)
{
    train_pair pairs[RIGHT];
    train_config config;
    train_report report;
    model *base = NULL, *out = NULL;
    float *params = NULL;
    ck_ok(model_open(&base, dir, NULL, NULL, &error));
    for (size_t i = 0; i < RIGHT; i++)
        pairs[i] = (train_pair){.query = queries[i * PHRASES],
                                .query_length = strlen(queries[i * PHRASES]),
                                .document = documents[i],
                                .document_length = strlen(documents[i]),
                                .document_key = i,
                                .query_key = i,
                                .weight = 1};
    train_config_defaults(&config);
    config.learning_rate = 2e-3;
    config.batch_size = 32;
    config.epochs = 10;
    config.threads = 2;
    config.max_tokens = 32;
    ck_ok(train_mnrl(base, pairs, RIGHT, &config, NULL, &params, &report, &error));
    ck_ok(model_open_over(&out, base, params, &error));
    model_close(base);
    return out;
}

/* false_users: 0: the false clicks come without a name; returns the share of false clicks. */
static double write_log(pairs_case *t, uint64_t false_users)
{
    random_state r;
    store_write *w = NULL;
    size_t number = 0, honest = 0, wrong = 0;
    random_seed(&r, testing_seed_or(1));
    ck_ok(store_write_begin(t->store, &w, &error));
    for (size_t i = 0; i < ROUNDS * QUERIES; i++) {
        const asked a = ask_honestly(&r, i % QUERIES);
        honest += a.click < SHOWN;
        log_one(t, w, number++, &a);
        if (wrong * 4 < honest) {
            const asked b = ask_falsely(&r, false_users > 0 ? 1000 + random_below(&r, false_users) : 0);
            wrong++;
            log_one(t, w, number++, &b);
        }
    }
    ck_ok(store_write_commit(w, &error));
    return (double)wrong / (double)(honest + wrong);
}

/* --- what a model makes of the honest users' held-out queries */

typedef struct outcome {
    double mrr;        /* at 10 */
    double wrong_rank; /* mean, from 1 */
} outcome;

static size_t rank_at(const float *query, const float *vectors, size_t dim, size_t document)
{
    const double own = text_vectors_cosine(query, vectors + document * dim, dim);
    size_t rank = 1;
    for (size_t i = 0; i < DOCUMENTS; i++)
        rank += i != document && text_vectors_cosine(query, vectors + i * dim, dim) > own;
    return rank;
}

static outcome measure(const model *m)
{
    const size_t dim = model_get_config(m)->dim;
    data_text texts[DOCUMENTS], heldout[QUERIES];
    size_t right[QUERIES], count = 0;
    float *vectors = NULL, *points = NULL;
    outcome out = {0};
    for (size_t i = 0; i < DOCUMENTS; i++)
        texts[i] = (data_text){documents[i], strlen(documents[i])};
    for (size_t q = 0; q < QUERIES; q++) {
        if (!pair_is_held_out(pairs_key, HELD_OUT, queries[q], strlen(queries[q])))
            continue;
        right[count] = q / PHRASES;
        heldout[count++] = (data_text){queries[q], strlen(queries[q])};
    }
    ck_assert_uint_gt(count, QUERIES / 10);
    ck_ok(text_vectors(m, texts, DOCUMENTS, false, 2, (niceness){0}, &vectors, &error));
    ck_ok(text_vectors(m, heldout, count, true, 2, (niceness){0}, &points, &error));
    for (size_t i = 0; i < count; i++) {
        const size_t rank = rank_at(points + i * dim, vectors, dim, right[i]);
        out.mrr += rank <= 10 ? 1 / (double)rank / (double)count : 0;
        out.wrong_rank += (double)rank_at(points + i * dim, vectors, dim, WRONG) / (double)count;
    }
    free(vectors);
    free(points);
    return out;
}

typedef enum lesson { BOUNDED, UNBOUNDED, HONEST_ONLY } lesson;

/* Leaves the wrong document's pairs out, as if nobody had clicked it. */
static void forget_wrong(pair_set *set)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++)
        if (!is_pair(&set->pairs[i], queries[0], documents[WRONG]) &&
            (set->pairs[i].document_length != strlen(documents[WRONG]) ||
             memcmp(set->pairs[i].document, documents[WRONG], set->pairs[i].document_length) != 0))
            set->pairs[kept++] = set->pairs[i];
    set->count = kept;
}

static void agree(pairs_case *t, const propensities *bias, agreement *out)
{
    store_read *r = NULL;
    ck_ok(store_read_begin(t->store, &r, &error));
    ck_ok(harvest_agreement(out, r, t->collection, 0, bias, &error));
    store_read_end(r);
}

/* As a job does, with the defaults of [finetune]. */
static outcome learn(pairs_case *t, const model *base, lesson how)
{
    focus_report focus;
    propensities bias;
    agreement agreed;
    pair_set set;
    train_config config;
    train_report report;
    float *params = NULL;
    model *trained = NULL;
    const trust_options bounds = {.user_share = 0.05,
                                  .document_share = 0.05,
                                  .query_weight = 20,
                                  .click_share = 0.5,
                                  .burst_clicks = 10,
                                  .burst_ms = 60000},
                        none = {.user_share = 1, .document_share = 1, .click_share = 1};
    propensity_prior(&bias, 1);
    agree(t, &bias, &agreed);
    const pair_options options = {.heldout_share = HELD_OUT,
                                  .key = pairs_key,
                                  .bias = &bias,
                                  .most_weight = 10,
                                  .agreed = &agreed,
                                  .trust = how == UNBOUNDED ? none : bounds,
                                  .negatives = 1};
    const focus_options look = {.least = how == UNBOUNDED ? 0 : 0.2, .model = base, .threads = 2};
    collect_with(t, &options, &set);
    agreement_free(&agreed);
    if (how == HONEST_ONLY)
        forget_wrong(&set);
    ck_ok(focus_pairs(&set, &look, &focus, &error));
    ck_assert_uint_eq(focus.left_out, how == BOUNDED);
    train_config_defaults(&config);
    config.learning_rate = 2e-3;
    config.batch_size = 32;
    config.epochs = 6;
    config.threads = 2;
    config.max_tokens = 32;
    ck_ok(train_mnrl(base, set.pairs, set.count, &config, NULL, &params, &report, &error));
    ck_ok(model_open_over(&trained, base, params, &error));
    const outcome out = measure(trained);
    model_close(trained);
    pair_set_free(&set);
    return out;
}

/* One user, many, or none by name. */
START_TEST(honest_users_gain_and_the_wrong_document_does_not)
{
    static const uint64_t false_users[] = {1, 40, 0};
    static const char *list[DOCUMENTS];
    const char *dir = testing_shared("golden/tiny-bert");
    pairs_case t;
    model *base = NULL;
    if (dir == NULL)
        return;
    write_texts();
    for (size_t i = 0; i < DOCUMENTS; i++)
        list[i] = documents[i];
    arrange(&t, list, DOCUMENTS);
    base = prepare(dir);
    ck_assert_double_eq_tol(write_log(&t, false_users[_i]), 0.2, 0.01);
    const outcome before = measure(base), after = learn(&t, base, BOUNDED), honest = learn(&t, base, HONEST_ONLY),
                  unbounded = learn(&t, base, UNBOUNDED);
    ck_assert_double_lt(unbounded.wrong_rank, before.wrong_rank - 5); /* there is something to guard against */
    ck_assert_double_gt(after.mrr, before.mrr + 0.1);
    ck_assert_double_gt(after.mrr, honest.mrr - 0.02);
    ck_assert_double_gt(after.wrong_rank, before.wrong_rank - 1);
    ck_assert_double_gt(after.wrong_rank, honest.wrong_rank - 1); /* nor is it better than without them */
    model_close(base);
    store_close(t.store);
}
END_TEST

/* Pairs of every phrase of some documents; a document has the phrases of several where its number says so. */
static pair_set pairs_of(size_t count, const size_t (*right)[2])
{
    pair_set set = {.pairs = calloc(count, sizeof *set.pairs), .pair_documents = calloc(count, sizeof(uint32_t))};
    ck_assert(set.pairs != NULL && set.pair_documents != NULL);
    for (size_t i = 0; i < count; i++) {
        const char *query = queries[right[i][0]];
        set.pairs[i] = (train_pair){.query = query,
                                    .query_length = strlen(query),
                                    .query_key = right[i][0],
                                    .document_key = right[i][1],
                                    .weight = 1};
        set.pair_documents[i] = (uint32_t)i;
    }
    set.count = count;
    return set;
}

/* What is asked of a document with many queries: of one colour, or of all. */
START_TEST(a_document_of_many_queries_stays_where_they_are_alike)
{
    enum { OTHERS = 60, MANY = 30, COUNT = OTHERS + MANY };
    const char *dir = testing_shared("golden/tiny-bert");
    size_t right[COUNT][2];
    focus_report report;
    if (dir == NULL)
        return;
    write_texts();
    model *m = prepare(dir);
    for (size_t i = 0; i < OTHERS; i++) { /* ten documents of six queries */
        right[i][0] = 11 * PHRASES * (i / PHRASES) + i % PHRASES;
        right[i][1] = i / PHRASES;
    }
    for (size_t i = 0; i < MANY; i++) {
        right[OTHERS + i][0] = _i == 0 ? (3 * THINGS + i / 5) * PHRASES + i % 5 : (i * 37 + 6) % QUERIES;
        right[OTHERS + i][1] = 1000;
    }
    for (int off = 0; off < 2; off++) {
        pair_set set = pairs_of(COUNT, right);
        const focus_options look = {.least = off ? 0 : 0.2, .model = m, .threads = 1};
        ck_ok(focus_pairs(&set, &look, &report, &error));
        ck_assert_uint_eq(report.documents, !off);
        ck_assert_uint_eq(report.left_out, !off && _i == 1);
        ck_assert_uint_eq(set.count, COUNT - report.pairs);
        ck_assert_uint_eq(report.pairs, report.left_out * MANY);
        for (size_t i = 0; i < set.count; i++) /* in their order, each with its document */
            ck_assert(set.pair_documents[i] == i && (report.left_out == 0 || set.pairs[i].document_key != 1000));
        pair_set_free(&set);
    }
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adversary");
    TCase *tests = tcase_create("adversary");
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, honest_users_gain_and_the_wrong_document_does_not, 0, 3);
    tcase_add_loop_test(tests, a_document_of_many_queries_stays_where_they_are_alike, 0, 2);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
