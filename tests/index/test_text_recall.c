/* The promises about recall on embeddings of real texts: customers' questions to a bank
 * and questions about health, out of ../shared/data, by all-MiniLM-L6-v2, with questions
 * that are not among the documents. Where one of them is missing, made-up vectors stand
 * in, and a line says so. */
#define WORLD_SIZE 4000
#define WORLD_DIM  384
#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "model/model.h"

#include <cblas.h>
#include <jansson.h>

enum {
    BANK = 2500, /* documents, and from there on the others */
    BANK_ASKED = 250,
    HEALTH_ASKED = 200,
    ASKED = BANK_ASKED + HEALTH_ASKED,
    LOGGED = 250,  /* other questions about health, of which an index may know */
    HELD_OUT = 10, /* of so many questions about health, one is asked and the others are documents */
    AT_ONCE = 32,
    TOKENS_MAX = 64
};

/* Made once, before the tests' processes part from this one. */
static float *documents; /* [N, DIM] the bank's first */
static float *asked;     /* [ASKED, DIM] the same, then [LOGGED, DIM] */

/* --- texts */

/* Outside of any test. */
#define need(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) != SEM_OK) {                                                                                        \
            fprintf(stderr, "%s: %s\n", #call, error.message);                                                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

typedef struct text_list {
    char **texts; /* [count], owned, as they are */
    size_t count;
} text_list;

static void free_texts(text_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->texts[i]);
    free(l->texts);
}

/* A field of the file's lines, at most `most`: of those that are held out, or of the others. */
static bool read_texts(const char *name, const char *field, size_t most, bool held_out, bool all, text_list *out)
{
    const char *path = testing_shared(name);
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    char *line = NULL;
    size_t room = 0;
    *out = (text_list){.texts = calloc(most, sizeof(char *))};
    if (file == NULL || out->texts == NULL)
        return false;
    for (size_t n = 0; out->count < most && getline(&line, &room, file) > 0; n++) {
        json_t *object = json_loads(line, 0, NULL);
        const char *text = json_string_value(json_object_get(object, field));
        if (text != NULL && (all || (n % HELD_OUT == 0) == held_out))
            out->texts[out->count++] = strdup(text);
        json_decref(object);
    }
    free(line);
    fclose(file);
    return out->count == most;
}

static void encode(model *m, encoder_scratch *scratch, const text_list *l, float *out)
{
    sem_error error;
    token_batch tokens = {0};
    for (size_t from = 0; from < l->count; from += AT_ONCE) {
        size_t count = l->count - from < AT_ONCE ? l->count - from : AT_ONCE;
        token_batch_clear(&tokens);
        for (size_t i = 0; i < count; i++)
            need(tokenizer_encode(model_get_tokenizer(m), l->texts[from + i], strlen(l->texts[from + i]), TOKENS_MAX,
                                  &tokens, NULL, &error));
        need(encoder_forward(model_get_encoder(m), scratch, tokens.ids, tokens.lengths, count, out + from * DIM,
                             &error));
    }
    token_batch_free(&tokens);
}

/* Neighbours in the file are about one disease: what is asked is to be like what is logged. */
static void mix(float *rows, size_t count)
{
    float kept[DIM];
    random_state random;
    random_seed(&random, 3);
    for (size_t i = count; i > 1; i--) {
        float *last = rows + (i - 1) * DIM, *other = rows + random_below(&random, i) * DIM;
        memcpy(kept, last, sizeof kept);
        memmove(last, other, sizeof kept);
        memcpy(other, kept, sizeof kept);
    }
}

static bool embed_texts(void)
{
    sem_error error;
    model *m;
    encoder_scratch *scratch;
    text_list lists[4];
    float *to[4] = {documents, documents + (size_t)BANK * DIM, asked, asked + (size_t)BANK_ASKED * DIM};
    const char *dir = testing_minilm();
    bool whole = dir != NULL;
    whole &= read_texts("data/banking77/train.jsonl", "text", BANK, false, true, &lists[0]);
    whole &= read_texts("data/medquad/pairs.jsonl", "question", N - BANK, false, false, &lists[1]);
    whole &= read_texts("data/banking77/test.jsonl", "text", BANK_ASKED, false, true, &lists[2]);
    whole &= read_texts("data/medquad/pairs.jsonl", "question", HEALTH_ASKED + LOGGED, true, false, &lists[3]);
    if (whole) {
        need(model_open(&m, dir, NULL, NULL, &error));
        need(model_set_precision(m, "int8", 0, NULL, &error));
        need(encoder_scratch_create(&scratch, model_get_encoder(m), AT_ONCE * TOKENS_MAX, &error));
        for (int i = 0; i < 4; i++)
            encode(m, scratch, &lists[i], to[i]);
        encoder_scratch_destroy(scratch);
        model_close(m);
        mix(to[3], HEALTH_ASKED + LOGGED);
    }
    for (int i = 0; i < 4; i++)
        free_texts(&lists[i]);
    return whole;
}

/* Two mixtures of different topics in the place of the two subjects. */
static void make_up(void)
{
    random_state random;
    random_seed(&random, 1);
    float *centres = clustered_centres(&random, 2 * TOPICS, DIM);
    if (centres == NULL)
        exit(1);
    for (size_t i = 0; i < N; i++)
        clustered_point(&random, centres + (random_below(&random, TOPICS) + (i < BANK ? 0 : TOPICS)) * DIM, DIM, SPREAD,
                        documents + i * DIM);
    for (size_t i = 0; i < ASKED + LOGGED; i++)
        clustered_point(&random, centres + (random_below(&random, TOPICS) + (i < BANK_ASKED ? 0 : TOPICS)) * DIM, DIM,
                        SPREAD, asked + i * DIM);
    free(centres);
    printf("made-up vectors, not those of texts: the model or ../shared/data is missing\n");
}

/* --- what is promised */

static world start(void)
{
    vector_index_options options = usual;
    options.dim = DIM;
    return make_world(&options, 0);
}

static void put_documents(world *w, uint32_t from, uint32_t to)
{
    for (uint32_t d = from; d < to; d++)
        put(w, d, documents + (size_t)d * DIM);
}

static const double targets[] = {0.80, 0.90, 0.95, 0.99};
enum { TARGETS = sizeof targets / sizeof *targets };

/* One search, of which the best are known; its recall. */
static double recall_of(world *w, const vector_query *q, const vector_hit *best, size_t expected, vector_plan *plan)
{
    sem_error error;
    vector_hit hits[K];
    size_t count = 0, found = 0;
    ck_ok(vector_index_search(w->index, q, hits, &count, plan, &error));
    ck_assert_uint_eq(count, expected);
    for (size_t i = 0; i < count; i++) {
        ck_assert(matches(w, q, hits[i].docno));
        ck_assert_double_eq_tol(similarity(w, hits[i].docno, q->vector), (double)hits[i].score, 2e-5);
        found += hits[i].score >= best[expected - 1].score - 1e-6f;
    }
    return expected == 0 ? 1.0 : (double)found / (double)expected;
}

/* Each target is reached, less 0.01 and less what chance does to so few queries (two
 * standard errors), by what was asked from `from` to `to`; filter: of q. */
static void expect_recall_of_asked(world *w, vector_query q, size_t from, size_t to, const char *name)
{
    vector_plan plans[TARGETS] = {0};
    double sums[TARGETS] = {0}, squares[TARGETS] = {0}, n = (double)(to - from);
    vector_hit best[K];
    q.k = K;
    for (size_t i = from; i < to; i++) {
        q.vector = asked + i * DIM;
        size_t expected = brute_force(w, &q, best);
        for (size_t t = 0; t < TARGETS; t++) {
            q.recall = targets[t];
            double recall = recall_of(w, &q, best, expected, &plans[t]);
            sums[t] += recall;
            squares[t] += recall * recall;
        }
    }
    for (size_t t = 0; t < TARGETS; t++) {
        double mean = sums[t] / n, noise = 2 * sqrt(fmax(0.0, squares[t] / n - mean * mean) / n);
        printf("%s: recall %.2f reached %.4f +- %.4f (last: %s, %zu of %zu cells, %zu rows)\n", name, targets[t], mean,
               noise, plans[t].kind, plans[t].probed, plans[t].lists, plans[t].scanned);
        ck_assert_msg(mean >= targets[t] - 0.01 - noise, "%s: recall %g instead of %g", name, mean, targets[t]);
    }
}

static void expect_all_recalls(world *w, const char *name)
{
    expect_recall_of_asked(w, (vector_query){0}, 0, ASKED, name);
}

START_TEST(recall_holds_for_unseen_queries)
{
    world w = start();
    put_documents(&w, 0, N);
    train(&w);
    ck_assert_str_eq(kind_of(&w), "ivf");
    expect_all_recalls(&w, "trained");
    free_world(&w);
}
END_TEST

static size_t give_logged(void *context, float **out)
{
    (void)context;
    *out = malloc((size_t)LOGGED * DIM * sizeof **out);
    ck_assert_ptr_nonnull(*out);
    memcpy(*out, asked + (size_t)ASKED * DIM, (size_t)LOGGED * DIM * sizeof **out);
    return LOGGED;
}

/* Documents that stand in for queries say what holds for all subjects together. Who is
 * asked about one of them alone, and has logged that, keeps the promise for it. */
START_TEST(recall_holds_for_queries_like_those_logged)
{
    vector_index_stats stats;
    world w = start();
    put_documents(&w, 0, N);
    train_with(&w, &(vector_training){.queries = give_logged});
    vector_index_describe(w.index, &stats);
    ck_assert_uint_eq(stats.logged, LOGGED);
    expect_recall_of_asked(&w, (vector_query){0}, BANK_ASKED, ASKED, "logged and asked about health");
    free_world(&w);
}
END_TEST

START_TEST(filter_never_lowers_recall)
{
    static const double shares[] = {1.0, 0.1, 0.01, 0.001, 0.0001};
    world w = start();
    random_state random;
    random_seed(&random, 7);
    put_documents(&w, 0, N);
    train(&w);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        uint64_t bits[N / 64 + 1] = {0};
        size_t left = 0;
        for (uint32_t d = 0; d < N; d++)
            if (random_unit(&random) < shares[i] || (left == 0 && d + 1 == N)) {
                bits[d / 64] |= UINT64_C(1) << d % 64;
                left++;
            }
        char name[48];
        snprintf(name, sizeof name, "filter %g%% (%zu documents)", 100 * shares[i], left);
        expect_recall_of_asked(&w, (vector_query){.allowed = bits, .allowed_bits = N}, 0, ASKED, name);
    }
    /* What the filter leaves lies far from what is asked. */
    uint64_t bank[N / 64 + 1] = {0};
    for (uint32_t d = 0; d < BANK; d++)
        bank[d / 64] |= UINT64_C(1) << d % 64;
    expect_recall_of_asked(&w, (vector_query){.allowed = bank, .allowed_bits = N}, BANK_ASKED, ASKED,
                           "only the bank's, asked about health");
    free_world(&w);
}
END_TEST

START_TEST(recall_holds_after_drift)
{
    world w = start();
    put_documents(&w, 0, BANK);
    train(&w);
    put_documents(&w, BANK, N);
    expect_all_recalls(&w, "before training");
    train(&w);
    expect_all_recalls(&w, "trained anew");
    free_world(&w);
}
END_TEST

START_TEST(recall_holds_after_heavy_deletes)
{
    world w = start();
    put_documents(&w, 0, N);
    train(&w);
    for (uint32_t d = 0; d < N; d++)
        if (d % 4 != 0)
            drop(&w, d);
    expect_all_recalls(&w, "three of four deleted");
    train(&w);
    expect_all_recalls(&w, "compacted");
    free_world(&w);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    documents = calloc((size_t)N * DIM, sizeof *documents);
    asked = calloc((size_t)(ASKED + LOGGED) * DIM, sizeof *asked);
    if (documents == NULL || asked == NULL)
        return 1;
    if (!embed_texts())
        make_up();
    Suite *suite = suite_create("text_recall");
    TCase *tc = tcase_create("text_recall");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, recall_holds_for_unseen_queries);
    tcase_add_test(tc, recall_holds_for_queries_like_those_logged);
    tcase_add_test(tc, filter_never_lowers_recall);
    tcase_add_test(tc, recall_holds_after_drift);
    tcase_add_test(tc, recall_holds_after_heavy_deletes);
    suite_add_tcase(suite, tc);
    int result = testing_run(suite);
    free(documents);
    free(asked);
    return result;
}
