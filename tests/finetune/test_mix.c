/* Batches from several data sets, of one domain or mixed. */
#include "tests/finetune/data_files.h"

#include "finetune/mix.h"
#include "finetune/mix_domains.h"

static sem_error error;

enum { BATCH = 16, SETS_MAX = 3, EXAMPLES_MAX = 4096 };

/* Up to three sets and the mix of them. */
typedef struct mix_case {
    const char *files[SETS_MAX];
    data_options data[SETS_MAX];
    mix_set sets[SETS_MAX];
    size_t count;
    mix_options options;
    mix *mix;
} mix_case;

static void add_set(mix_case *c, const char *name, const char *format, size_t examples)
{
    char file[64];
    const size_t i = c->count++;
    snprintf(file, sizeof file, "%s.jsonl", name);
    c->files[i] = strdup(data_file_of(file, format, examples));
    c->data[i] = data_options_defaults();
    c->data[i].name = name;
    c->data[i].files = &c->files[i];
    c->data[i].file_count = 1;
    c->data[i].window = 400;
    c->sets[i] = (mix_set){.data = &c->data[i], .weight = 1};
}

static void begin(mix_case *c)
{
    if (c->options.batch_size == 0)
        c->options.batch_size = BATCH;
    ck_ok(mix_open(&c->mix, &c->options, c->sets, c->count, &error));
}

static void end(mix_case *c)
{
    mix_close(c->mix);
    for (size_t i = 0; i < c->count; i++)
        free((char *)c->files[i]);
}

static uint64_t place_of(const example *e)
{
    return e->line - 1;
}

START_TEST(a_finite_set_gives_each_example_once_in_a_pass)
{
    mix_case c = {0};
    add_set(&c, "once", "[\"a#\", \"p#\"]", 1003);
    begin(&c);
    for (size_t pass = 0; pass < 3; pass++) {
        bool seen[1003] = {false};
        for (size_t examples = 0; examples < 1003;) {
            mix_batch batch;
            ck_ok(mix_next(c.mix, &batch, &error));
            ck_assert_uint_ge(batch.count, 1);
            ck_assert_uint_le(batch.count, BATCH);
            for (size_t i = 0; i < batch.count; i++) {
                ck_assert(!seen[place_of(batch.items[i])]);
                seen[place_of(batch.items[i])] = true;
            }
            examples += batch.count;
            ck_assert_uint_le(examples, 1003);
        }
    }
    end(&c);
}
END_TEST

static void ck_drawn(const mix_case *c, const size_t *drawn, size_t draws)
{
    double chi_square = 0;
    for (size_t s = 0; s < c->count; s++) {
        const double expected = mix_shares(c->mix)[s] * (double)draws, off = (double)drawn[s] - expected;
        chi_square += off * off / expected;
    }
    /* 2 degrees of freedom: above 13.8 once in a thousand times. */
    ck_assert_double_lt(chi_square, 13.8);
}

START_TEST(batches_come_from_one_set_each_as_often_as_its_share_says)
{
    enum { DRAWS = 4000 };
    mix_case c = {.options = {.weighting = {.method = MIX_TEMPERATURE, .temperature = 2}, .seed = 5}};
    size_t drawn[SETS_MAX] = {0};
    add_set(&c, "small", "[\"small#\", \"p#\"]", 100);
    add_set(&c, "middle", "[\"middle#\", \"p#\", \"n#\"]", 900);
    add_set(&c, "large", "{\"query\": \"large#\", \"pos\": [\"p#\"]}", 2500);
    begin(&c);
    ck_assert_double_eq_tol(mix_shares(c.mix)[0], 10.0 / 90, 1e-12);
    ck_assert_double_eq_tol(mix_shares(c.mix)[1], 30.0 / 90, 1e-12);
    for (size_t i = 0; i < DRAWS; i++) {
        mix_batch batch;
        ck_ok(mix_next(c.mix, &batch, &error));
        ck_assert_uint_eq(batch.step, i);
        drawn[batch.set]++;
        const char *name = c.data[batch.set].name;
        for (size_t j = 0; j < batch.count; j++)
            ck_assert_int_eq(strncmp(batch.items[j]->anchor.bytes, name, strlen(name)), 0);
    }
    ck_drawn(&c, drawn, DRAWS);
    end(&c);
}
END_TEST

START_TEST(a_batch_across_sets_holds_pairs_and_triplets_alike)
{
    enum { STEPS = 500 };
    mix_case c = {.options = {.weighting = {.method = MIX_EXPLICIT}, .cross_dataset = true, .seed = 3}};
    size_t drawn[SETS_MAX] = {0}, both = 0;
    add_set(&c, "pairs", "[\"a#\", \"p#\"]", 300);
    add_set(&c, "triplets", "[\"b#\", \"q#\", \"n#\"]", 450);
    add_set(&c, "more", "[\"c#\", \"r#\", \"n#\", \"m#\"]", 50);
    c.sets[1].weight = 2;
    begin(&c);
    for (size_t i = 0; i < STEPS; i++) {
        mix_batch batch;
        size_t with = 0;
        ck_ok(mix_next(c.mix, &batch, &error));
        ck_assert_int_eq(batch.set, MIX_ALL_SETS);
        ck_assert_uint_eq(batch.count, BATCH);
        for (size_t j = 0; j < batch.count; j++) {
            const example *e = batch.items[j];
            const size_t set = (size_t)(e->anchor.bytes[0] - 'a');
            ck_assert_uint_eq(e->negative_count, set);
            drawn[set]++;
            with += set > 0;
        }
        both += with > 0 && with < batch.count;
    }
    ck_assert_uint_gt(both, STEPS * 9 / 10);
    ck_drawn(&c, drawn, STEPS * BATCH);
    end(&c);
}
END_TEST

/* Writes lines of three domains: A has six of ten, B three, C one. */
static void add_domains(mix_case *c, size_t examples, double mixed_share)
{
    char *text = malloc(examples * 64), *at = text;
    for (size_t i = 0; i < examples; i++)
        at += sprintf(at, "{\"q\": \"q%zu\", \"a\": \"a%zu\", \"site\": \"%c\"}\n", i, i, "AAAAAABBBC"[i % 10]);
    add_set(c, "domains", "", 0);
    free((char *)c->files[0]);
    c->files[0] = strdup(data_file("domains.jsonl", text));
    c->data[0].fields = (data_fields){.anchor = "q", .positive = "a", .domain = "site"};
    c->sets[0].by_domain = true;
    c->sets[0].mixed_share = mixed_share;
    free(text);
}

START_TEST(batches_are_of_one_domain_but_for_the_share_that_is_mixed)
{
    enum { EXAMPLES = 3000 };
    static const size_t all_of[3] = {1800, 900, 300};
    for (size_t fifth = 0; fifth < 4; fifth++) {
        mix_case c = {0};
        size_t mixed_of[3] = {0}, of[3] = {0};
        add_domains(&c, EXAMPLES, (double)fifth / 5);
        c.data[0].window = 1000;
        begin(&c);
        for (size_t examples = 0; examples < EXAMPLES;) {
            mix_batch batch;
            ck_ok(mix_next(c.mix, &batch, &error));
            examples += batch.count;
            for (size_t i = 0; i < batch.count; i++) {
                const data_text domain = batch.items[i]->domain;
                of[domain.bytes[0] - 'A']++;
                mixed_of[domain.bytes[0] - 'A'] += batch.mixed;
                ck_assert(batch.mixed || data_text_equal(domain, batch.items[0]->domain));
            }
            ck_assert(batch.mixed || batch.count >= BATCH / 2);
        }
        /* All domains in proportion: to a batch's worth in each of the three windows. */
        for (size_t d = 0; d < 3; d++) {
            ck_assert_uint_eq(of[d], all_of[d]);
            ck_assert_double_eq_tol((double)mixed_of[d], (double)(of[d] * fifth) / 5, 4);
        }
        end(&c);
    }
}
END_TEST

START_TEST(a_domain_too_small_for_half_a_batch_goes_into_mixed_ones)
{
    mix_case c = {0};
    size_t lonely = 0;
    add_domains(&c, 60, 0);
    begin(&c);
    for (size_t examples = 0; examples < 60;) {
        mix_batch batch;
        ck_ok(mix_next(c.mix, &batch, &error));
        examples += batch.count;
        for (size_t i = 0; i < batch.count; i++)
            lonely += batch.mixed && batch.items[i]->domain.bytes[0] == 'C';
    }
    ck_assert_uint_eq(lonely, 6);
    end(&c);
}
END_TEST

/* The batches from here on, as lines' numbers with marks between. */
static void write_steps(mix *m, size_t steps, uint64_t *out, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < steps; i++) {
        mix_batch batch;
        ck_ok(mix_next(m, &batch, &error));
        out[(*count)++] = 1000000 + (uint64_t)(batch.set + 1) * 10 + batch.mixed;
        for (size_t j = 0; j < batch.count; j++) {
            ck_assert_uint_lt(*count, EXAMPLES_MAX);
            out[(*count)++] = batch.items[j]->line;
        }
    }
}

/* A mix that is saved at every so many steps goes on in another process's place. */
static void ck_goes_on(mix_case *c)
{
    static uint64_t whole[EXAMPLES_MAX], rest[EXAMPLES_MAX], again[EXAMPLES_MAX];
    size_t count, rest_count;
    begin(c);
    for (size_t round = 0; round < 8; round++) {
        buffer saved = {0};
        mix *other;
        write_steps(c->mix, 7, whole, &count);
        ck_ok(mix_save(c->mix, &saved, &error));
        ck_ok(mix_open(&other, &c->options, c->sets, c->count, &error));
        ck_ok(mix_restore(other, (const char *)saved.data, saved.size, &error));
        write_steps(other, 60, rest, &rest_count);
        mix_close(other);
        ck_ok(mix_restore(c->mix, (const char *)saved.data, saved.size, &error));
        write_steps(c->mix, 60, again, &count);
        ck_assert_uint_eq(count, rest_count);
        ck_assert_mem_eq(again, rest, count * sizeof *rest);
        buffer_free(&saved);
    }
    end(c);
}

START_TEST(a_mix_goes_on_from_where_it_was_saved)
{
    mix_case c = {.options = {.weighting = {.method = MIX_PROPORTIONAL}, .seed = 9}};
    add_domains(&c, 700, 0.2);
    add_set(&c, "plain", "[\"a#\", \"p#\"]", 150);
    ck_goes_on(&c);
}
END_TEST

START_TEST(a_mix_across_sets_goes_on_from_where_it_was_saved)
{
    mix_case c = {.options = {.weighting = {.method = MIX_EQUAL}, .cross_dataset = true, .seed = 9}};
    add_set(&c, "one", "[\"a#\", \"p#\"]", 700);
    add_set(&c, "two", "[\"b#\", \"q#\", \"n#\"]", 150);
    ck_goes_on(&c);
}
END_TEST

START_TEST(a_saved_place_of_another_run_is_refused)
{
    mix_case c = {0}, d = {.options = {.batch_size = BATCH + 1}};
    buffer saved = {0};
    add_set(&c, "here", "[\"a#\", \"p#\"]", 100);
    add_set(&d, "here", "[\"a#\", \"p#\"]", 100);
    begin(&c);
    begin(&d);
    ck_ok(mix_save(c.mix, &saved, &error));
    ck_fails(mix_restore(d.mix, (const char *)saved.data, saved.size, &error), SEM_INVALID_ARGUMENT);
    ck_fails(mix_restore(c.mix, (const char *)saved.data, saved.size / 2, &error), SEM_INVALID_ARGUMENT);
    ck_ok(mix_restore(c.mix, (const char *)saved.data, saved.size, &error));
    buffer_free(&saved);
    end(&c);
    end(&d);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_batches_and_another_others)
{
    static uint64_t first[EXAMPLES_MAX], second[EXAMPLES_MAX];
    size_t counts[2], equal = 0;
    mix_case c = {.options = {.seed = 1}}, d = {.options = {.seed = 1}};
    add_set(&c, "s", "[\"a#\", \"p#\"]", 1000);
    add_set(&d, "s", "[\"a#\", \"p#\"]", 1000);
    begin(&c);
    begin(&d);
    write_steps(c.mix, 100, first, &counts[0]);
    write_steps(d.mix, 100, second, &counts[1]);
    ck_assert_uint_eq(counts[0], counts[1]);
    ck_assert_mem_eq(first, second, counts[0] * sizeof *first);
    mix_close(d.mix);
    d.data[0].seed = 2;
    begin(&d);
    write_steps(d.mix, 100, second, &counts[1]);
    for (size_t i = 0; i < counts[0] && i < counts[1]; i++)
        equal += first[i] == second[i] && first[i] < 1000000;
    ck_assert_uint_lt(equal, counts[0] / 20);
    end(&c);
    end(&d);
}
END_TEST

START_TEST(texts_of_one_label_are_kept_apart_while_there_are_batches)
{
    mix_case c = {0};
    add_set(&c, "sets", "{\"set\": [\"a#\", \"b#\", \"c#\", \"d#\"]}", 200);
    begin(&c);
    for (size_t examples = 0; examples < 400;) {
        mix_batch batch;
        ck_ok(mix_next(c.mix, &batch, &error));
        examples += batch.count;
        for (size_t i = 0; i < batch.count; i++)
            for (size_t j = 0; j < i; j++)
                ck_assert_uint_ne(batch.items[i]->label_key, batch.items[j]->label_key);
    }
    end(&c);
}
END_TEST

START_TEST(an_empty_set_is_refused)
{
    mix_case c = {0};
    mix_batch batch;
    add_set(&c, "empty", "[]", 5);
    begin(&c);
    ck_fails(mix_next(c.mix, &batch, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "data set empty holds no example"));
    end(&c);
}
END_TEST

/* Questions to a bank and captions of pictures are told apart without being named. */
START_TEST(domains_are_found_by_their_embeddings)
{
    const char *dir = testing_minilm();
    char captions[512] = "", questions[512] = "";
    const char *path = dir != NULL ? testing_shared("data/multi30k/val.en.txt") : NULL;
    if (path == NULL)
        return;
    snprintf(captions, sizeof captions, "%s", path);
    path = testing_shared("data/banking77/test.jsonl");
    if (path == NULL)
        return;
    snprintf(questions, sizeof questions, "%s", path);

    enum { EACH = 200 };
    char *text = malloc(1 << 20), *at = text, line[1024];
    FILE *a = fopen(captions, "r"), *b = fopen(questions, "r");
    ck_assert(a != NULL && b != NULL);
    for (size_t i = 0; i < EACH; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof line, a));
        line[strcspn(line, "\n\"\\")] = '\0';
        at += sprintf(at, "[\"%s\", \"picture %zu\"]\n", line, i);
        ck_assert_ptr_nonnull(fgets(line, sizeof line, b));
        char *end_of_text = strstr(line, "\", \"label\"");
        ck_assert_ptr_nonnull(end_of_text);
        *end_of_text = '\0';
        at += sprintf(at, "[\"%s\", \"bank %zu\"]\n", line + strlen("{\"text\": \""), i);
    }
    fclose(a);
    fclose(b);
    mix_case c = {0};
    model *m;
    mix_domains *domains;
    add_set(&c, "two", "", 0);
    free((char *)c.files[0]);
    c.files[0] = strdup(data_file("two.jsonl", text));
    free(text);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    const mix_domains_options options = {.model = m, .domains = 2, .threads = 2, .seed = 1};
    ck_ok(mix_domains_train(&domains, &options, &c.data[0], &error));
    c.sets[0].by_domain = true;
    c.sets[0].domains = mix_domains_assign;
    c.sets[0].context = domains;
    begin(&c);
    size_t strangers = 0;
    for (size_t examples = 0; examples < (size_t)2 * EACH;) {
        mix_batch batch;
        size_t pictures = 0;
        ck_ok(mix_next(c.mix, &batch, &error));
        examples += batch.count;
        for (size_t i = 0; i < batch.count; i++)
            pictures += batch.items[i]->positive.bytes[0] == 'p';
        strangers += pictures < batch.count - pictures ? pictures : batch.count - pictures;
    }
    ck_assert_uint_le(strangers, 4);
    end(&c);
    mix_domains_free(domains);
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mix");
    TCase *tests = tcase_create("batches");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_finite_set_gives_each_example_once_in_a_pass);
    tcase_add_test(tests, batches_come_from_one_set_each_as_often_as_its_share_says);
    tcase_add_test(tests, a_batch_across_sets_holds_pairs_and_triplets_alike);
    tcase_add_test(tests, batches_are_of_one_domain_but_for_the_share_that_is_mixed);
    tcase_add_test(tests, a_domain_too_small_for_half_a_batch_goes_into_mixed_ones);
    tcase_add_test(tests, a_mix_goes_on_from_where_it_was_saved);
    tcase_add_test(tests, a_mix_across_sets_goes_on_from_where_it_was_saved);
    tcase_add_test(tests, a_saved_place_of_another_run_is_refused);
    tcase_add_test(tests, the_same_seed_gives_the_same_batches_and_another_others);
    tcase_add_test(tests, texts_of_one_label_are_kept_apart_while_there_are_batches);
    tcase_add_test(tests, an_empty_set_is_refused);
    tcase_add_test(tests, domains_are_found_by_their_embeddings);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
