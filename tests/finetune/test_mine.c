/* Hard negatives: what may be drawn, what may never be, and that it is repeatable. */
#include "tests/finetune/data_files.h"

#include "base/random.h"
#include "finetune/exact_search.h"
#include "finetune/mine.h"
#include "finetune/mine_words.h"

#include <math.h>

static sem_error error;

enum { PAIRS = 400, ROUNDS = 6, WORDS = 12, TEXT = 160 };

/* What came out of mining, written down. */
typedef struct mined_text {
    char *text;
    size_t size, used, pairs, negatives;
    const char *const *lines; /* what went in, to look for known positives in; may be NULL */
    size_t line_count;
    size_t most; /* negatives of a pair */
} mined_text;

static void write_text(mined_text *t, data_text text)
{
    if (t->used + text.length + 64 > t->size) {
        t->size = 2 * (t->used + text.length + 64);
        t->text = realloc(t->text, t->size);
        ck_assert_ptr_nonnull(t->text);
    }
    memcpy(t->text + t->used, text.bytes, text.length);
    t->used += text.length;
    t->text[t->used++] = '|';
    t->text[t->used] = '\0';
}

/* No line that went in has this anchor and this text as its positive. */
static void ck_no_positive(const mined_text *t, data_text anchor, data_text negative)
{
    char line[2 * TEXT + 64];
    snprintf(line, sizeof line, "[\"%.*s\", \"%.*s\"]", (int)anchor.length, anchor.bytes, (int)negative.length,
             negative.bytes);
    for (size_t i = 0; i < t->line_count; i++)
        ck_assert_str_ne(t->lines[i], line);
}

static sem_status take(void *context, const mined *m, sem_error *err)
{
    (void)err;
    mined_text *t = context;
    t->pairs++;
    t->negatives += m->count;
    write_text(t, m->anchor);
    write_text(t, m->positive);
    ck_assert_uint_le(m->count, t->most);
    for (size_t i = 0; i < m->count; i++) {
        const mined_negative *n = &m->negatives[i];
        ck_assert(n->word_rank != MINE_NO_RANK || n->model_rank != MINE_NO_RANK);
        ck_assert(!data_text_equal(n->text, m->positive));
        for (size_t j = 0; j < i; j++)
            ck_assert(!data_text_equal(n->text, m->negatives[j].text));
        ck_no_positive(t, m->anchor, n->text);
        write_text(t, n->text);
    }
    return SEM_OK;
}

static data_options options_of(const char *const *file)
{
    data_options o = data_options_defaults();
    o.name = "test";
    o.files = file;
    o.file_count = 1;
    return o;
}

static void mine_file(const char *file, const mine_options *options, const data_fields *fields, mined_text *out,
                      mine_report *report)
{
    data_options data = options_of(&file);
    if (fields != NULL)
        data.fields = *fields;
    out->most = options->negatives;
    const mine_control control = {.sink = take, .context = out};
    ck_ok(mine_negatives(&data, options, &control, report, &error));
}

/* Pairs of few words, so that texts meet again and again, many anchors more than once. */
static void random_lines(random_state *r, char **lines)
{
    for (size_t i = 0; i < PAIRS; i++) {
        char sides[2][TEXT] = {"", ""};
        for (size_t side = 0; side < 2; side++)
            for (size_t n = 1 + (size_t)random_below(r, 3); n > 0; n--) {
                char word[16];
                snprintf(word, sizeof word, "%sw%d", sides[side][0] != '\0' ? " " : "", (int)random_below(r, WORDS));
                strcat(sides[side], word);
            }
        lines[i] = malloc(2 * TEXT + 64);
        snprintf(lines[i], 2 * TEXT + 64, "[\"%s\", \"%s\"]", sides[0], sides[1]);
    }
}

/* By words, by a model, by both; with a guide and without. */
static void ck_never_positive(const model *m, uint64_t seed)
{
    random_state r;
    char *lines[PAIRS], *all = malloc(PAIRS * (2 * TEXT + 64)), *at = all;
    random_seed(&r, seed);
    random_lines(&r, lines);
    for (size_t i = 0; i < PAIRS; i++)
        at += sprintf(at, "%s\n", lines[i]);
    const char *file = data_file("random.jsonl", all);
    for (size_t way = 0; way < ROUNDS; way++) {
        mine_options o = mine_defaults();
        mine_report report;
        mined_text out = {.lines = (const char *const *)lines, .line_count = PAIRS};
        o.by_words = m == NULL || way % 3 != 1;
        o.by_model = m != NULL && way % 3 != 0;
        o.model = m;
        o.guide = way >= 3 ? m : NULL;
        o.guide_ratio = 1; /* random weights find all texts alike */
        o.top = 20;
        o.negatives = 1 + way;
        o.seed = seed + way;
        o.keep_same_text = way % 2 == 1;
        mine_file(file, &o, NULL, &out, &report);
        ck_assert_uint_eq(out.pairs, PAIRS);
        ck_assert_uint_eq(report.pairs, PAIRS);
        ck_assert_uint_eq(report.drawn, out.negatives);
        ck_assert_uint_gt(report.known, 0);
        ck_assert_uint_gt(out.negatives, PAIRS / 8);
        free(out.text);
    }
    for (size_t i = 0; i < PAIRS; i++)
        free(lines[i]);
    free(all);
}

START_TEST(a_known_positive_is_never_drawn)
{
    const uint64_t seed = testing_seed();
    for (uint64_t round = 0; round < 4; round++)
        ck_never_positive(NULL, seed + round);
}
END_TEST

START_TEST(a_known_positive_is_never_drawn_by_a_model_either)
{
    const char *dir = testing_shared("golden/tiny-bert");
    model *m;
    if (dir == NULL)
        return;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_never_positive(m, testing_seed());
    model_close(m);
}
END_TEST

START_TEST(the_same_seed_draws_the_same_and_another_others)
{
    const char *file =
        data_file_of("same.jsonl", "[\"what is number #\", \"number # is a number like all numbers\"]", 200);
    mine_options o = mine_defaults();
    mined_text first = {0}, second = {0}, other = {0};
    mine_report report;
    mine_file(file, &o, NULL, &first, &report);
    mine_file(file, &o, NULL, &second, &report);
    o.seed = 2;
    mine_file(file, &o, NULL, &other, &report);
    ck_assert_int_eq(strcmp(first.text, second.text), 0);
    ck_assert_int_ne(strcmp(first.text, other.text), 0);
    ck_assert_uint_eq(first.negatives, 200 * o.negatives);
    free(first.text);
    free(second.text);
    free(other.text);
}
END_TEST

static const char LABELLED[] = "{\"q\": \"red apple\", \"a\": \"apple fruit one\", \"l\": \"fruit\"}\n"
                               "{\"q\": \"green apple\", \"a\": \"apple fruit two\", \"l\": \"fruit\"}\n"
                               "{\"q\": \"fast apple\", \"a\": \"apple computer\", \"l\": \"machine\"}\n"
                               "{\"q\": \"old apple\", \"a\": \"APPLE  Computer\", \"l\": \"other\"}\n";

START_TEST(texts_of_the_same_label_or_form_are_left_out_unless_they_are_kept)
{
    const data_fields fields = {.anchor = "q", .positive = "a", .label = "l"};
    const char *file = data_file("labelled.jsonl", LABELLED);
    mine_options o = mine_defaults();
    mined_text out = {0};
    mine_report report;
    mine_file(file, &o, &fields, &out, &report);
    /* One fruit has two computers; a computer has two fruits, and not the other one. */
    ck_assert_uint_eq(report.drawn, 8);
    ck_assert_uint_eq(report.same_label, 2);
    ck_assert_uint_eq(report.same_text, 2);
    ck_assert_uint_eq(report.known, 4);
    o.keep_same_label = true;
    mine_file(file, &o, &fields, &out, &report);
    ck_assert_uint_eq(report.drawn, 10);
    o.keep_same_text = true;
    mine_file(file, &o, &fields, &out, &report);
    ck_assert_uint_eq(report.drawn, 12);
    free(out.text);
}
END_TEST

START_TEST(two_ids_of_one_text_share_their_positives)
{
    const data_fields fields = {.anchor = "q", .positive = "a", .id = "i"};
    const char *file = data_file("ids.jsonl", "{\"i\": 1, \"q\": \"red apple\", \"a\": \"apple one\"}\n"
                                              "{\"i\": 2, \"q\": \"Red apple\", \"a\": \"apple two\"}\n"
                                              "{\"i\": 2, \"q\": \"what else\", \"a\": \"apple three\"}\n"
                                              "{\"i\": 3, \"q\": \"an apple\", \"a\": \"apple four\"}\n");
    mine_options o = mine_defaults();
    mined_text out = {0};
    mine_report report;
    mine_file(file, &o, &fields, &out, &report);
    ck_assert_ptr_nonnull(strstr(out.text, "red apple|apple one|"));
    const char *first = strstr(out.text, "red apple|apple one|") + strlen("red apple|apple one|");
    ck_assert_int_ne(strncmp(first, "apple two", 9), 0);
    ck_assert_uint_eq(report.drawn, 2 + 1 + 2 + 3);
    free(out.text);
}
END_TEST

/* The guide's own scores decide: nothing above the ratio times the positive's. */
typedef struct guided {
    double ratio;
    size_t negatives;
} guided;

static sem_status check_scores(void *context, const mined *m, sem_error *err)
{
    (void)err;
    guided *g = context;
    for (size_t i = 0; i < m->count; i++)
        ck_assert_double_le((double)m->negatives[i].guide_score, m->positive_guide_score > 0
                                                                     ? g->ratio * (double)m->positive_guide_score
                                                                     : (double)m->positive_guide_score);
    g->negatives += m->count;
    return SEM_OK;
}

START_TEST(nothing_scores_above_the_guides_limit)
{
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    model *m;
    size_t before = 0;
    const char *file = data_file_of("guide.jsonl", "[\"what is number #\", \"number # is a number\"]", 120);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    for (size_t i = 0; i < 3; i++) {
        guided g = {.ratio = (double[]){0.9, 0.95, 2}[i]};
        data_options data = options_of(&file);
        mine_options o = mine_defaults();
        mine_report report;
        o.by_model = true;
        o.model = o.guide = m;
        o.guide_ratio = g.ratio;
        o.negatives = 50;
        const mine_control control = {.sink = check_scores, .context = &g};
        ck_ok(mine_negatives(&data, &o, &control, &report, &error));
        ck_assert_uint_eq(report.drawn, g.negatives);
        ck_assert_uint_ge(g.negatives, before);
        ck_assert(i == 2 || report.by_guide > 0);
        before = g.negatives;
    }
    ck_assert_uint_gt(before, 0);
    model_close(m);
}
END_TEST

START_TEST(words_find_what_a_reader_would)
{
    static const char *const texts[] = {"The cat sat on the mat.", "A dog \"barks\" at AND OR NOT NEAR cats",
                                        "Caf\xc3\xa9 au lait", "nothing of the sort", "cat cat cat"};
    data_text list[5];
    mine_words *w;
    mine_word_hit hits[5];
    size_t count;
    for (size_t i = 0; i < 5; i++)
        list[i] = (data_text){texts[i], strlen(texts[i])};
    ck_ok(mine_words_create(&w, list, 5, &error));
    const data_text cat = {"cat, \"cat\" (cat*) -cat:", 23};
    ck_ok(mine_words_search(w, cat, 5, hits, &count, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(hits[0].document, 4);
    ck_assert_uint_eq(hits[1].document, 0);
    ck_assert(hits[0].score > hits[1].score && hits[1].score > 0);
    const data_text cafe = {"CAFE NOT", 8};
    ck_ok(mine_words_search(w, cafe, 5, hits, &count, &error));
    ck_assert_uint_eq(count, 2);
    const data_text none = {"!? ...", 6};
    ck_ok(mine_words_search(w, none, 5, hits, &count, &error));
    ck_assert_uint_eq(count, 0);
    mine_words_destroy(w);
}
END_TEST

static int compare_scores(const void *a, const void *b)
{
    const vector_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->docno < y->docno ? -1 : 1;
}

START_TEST(exact_search_equals_sorting_all)
{
    enum { QUERIES = 70, DOCUMENTS = 2500, DIM = 20, K = 33 };
    random_state r;
    float *all = malloc((QUERIES + DOCUMENTS) * DIM * sizeof *all);
    vector_hit *hits = malloc(QUERIES * K * sizeof *hits), *same = malloc(QUERIES * K * sizeof *hits);
    vector_hit *expected = malloc(DOCUMENTS * sizeof *expected);
    size_t found;
    random_seed(&r, 3);
    for (size_t i = 0; i < (QUERIES + DOCUMENTS) * DIM; i++)
        all[i] = (float)(int)random_below(&r, 5) - 2; /* whole numbers: many ties, exact sums */
    exact_job job = {.g = &gemm_portable,
                     .queries = all,
                     .query_count = QUERIES,
                     .documents = all + QUERIES * DIM,
                     .document_count = DOCUMENTS,
                     .dim = DIM,
                     .k = K,
                     .threads = 1};
    ck_ok(exact_search(&job, hits, &found, &error));
    ck_assert_uint_eq(found, K);
    for (size_t q = 0; q < QUERIES; q++) {
        for (size_t d = 0; d < DOCUMENTS; d++) {
            expected[d] = (vector_hit){.docno = (uint32_t)d};
            for (size_t i = 0; i < DIM; i++)
                expected[d].score += all[q * DIM + i] * all[(QUERIES + d) * DIM + i];
        }
        qsort(expected, DOCUMENTS, sizeof *expected, compare_scores);
        ck_assert_mem_eq(hits + q * K, expected, K * sizeof *expected);
    }
    job.threads = 2;
    ck_ok(exact_search(&job, same, &found, &error));
    ck_assert_mem_eq(hits, same, QUERIES * K * sizeof *hits);
    job.document_count = 5;
    ck_ok(exact_search(&job, hits, &found, &error));
    ck_assert_uint_eq(found, 5);
    free(all);
    free(hits);
    free(same);
    free(expected);
}
END_TEST

START_TEST(what_cannot_be_mined_is_refused)
{
    const char *file = data_file("refused.tsv", "a\tx\n");
    data_options data = options_of(&file);
    mine_options o = mine_defaults();
    mine_report report;
    const mine_control control = {.sink = take};
    data.form = DATA_LABELLED;
    ck_fails(mine_negatives(&data, &o, &control, &report, &error), SEM_INVALID_ARGUMENT);
    o.by_words = false;
    ck_fails(mine_negatives(&data, &o, &control, &report, &error), SEM_INVALID_ARGUMENT);
    o.by_model = true;
    ck_fails(mine_negatives(&data, &o, &control, &report, &error), SEM_INVALID_ARGUMENT);
    o = mine_defaults();
    o.top = 0;
    ck_fails(mine_negatives(&data, &o, &control, &report, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mine");
    TCase *tests = tcase_create("negatives");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_known_positive_is_never_drawn);
    tcase_add_test(tests, a_known_positive_is_never_drawn_by_a_model_either);
    tcase_add_test(tests, the_same_seed_draws_the_same_and_another_others);
    tcase_add_test(tests, texts_of_the_same_label_or_form_are_left_out_unless_they_are_kept);
    tcase_add_test(tests, two_ids_of_one_text_share_their_positives);
    tcase_add_test(tests, nothing_scores_above_the_guides_limit);
    tcase_add_test(tests, words_find_what_a_reader_would);
    tcase_add_test(tests, exact_search_equals_sorting_all);
    tcase_add_test(tests, what_cannot_be_mined_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
