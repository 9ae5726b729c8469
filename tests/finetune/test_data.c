/* Training data from files: every form, every kind of bad line, order and memory. */
#include "tests/finetune/data_files.h"

#include "finetune/data_stream.h"

static sem_error error;

/* What the reports of a reading said. */
typedef struct reports {
    size_t count;
    char first[512];
    char last[512];
} reports;

static void note_report(void *context, const char *file, uint64_t line, const char *why)
{
    reports *r = context;
    char *to = r->count++ == 0 ? r->first : r->last;
    const char *name = strrchr(file, '/');
    snprintf(to, sizeof r->first, "%s:%llu: %s", name != NULL ? name + 1 : file, (unsigned long long)line, why);
}

static data_options options_of(data_form form, const char *const *files, size_t count)
{
    data_options o = data_options_defaults();
    o.name = "test";
    o.form = form;
    o.files = files;
    o.file_count = count;
    return o;
}

/* A pass written down: "anchor|positive|negative,negative|label|domain|score\n", sorted. */
typedef struct written {
    char *lines[4096];
    size_t count;
} written;

static void append(char *to, size_t size, data_text text)
{
    size_t used = strlen(to);
    ck_assert_uint_lt(used + text.length + 1, size);
    memcpy(to + used, text.bytes, text.length);
    to[used + text.length] = '\0';
}

static char *write_example(const example *e)
{
    char text[1024] = "", number[32];
    append(text, sizeof text, e->anchor);
    strcat(text, "|");
    append(text, sizeof text, e->positive);
    strcat(text, "|");
    for (size_t i = 0; i < e->negative_count; i++) {
        strcat(text, i > 0 ? "," : "");
        append(text, sizeof text, e->negatives[i]);
    }
    if (e->label.length > 0 || e->domain.length > 0) {
        strcat(text, "|");
        append(text, sizeof text, e->label);
        strcat(text, "|");
        append(text, sizeof text, e->domain);
    }
    snprintf(number, sizeof number, "|%g", e->score);
    strcat(text, e->has_score ? number : "");
    return strdup(text);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void write_pass(data_stream *s, uint64_t epoch, written *out)
{
    const example *const *items;
    size_t count = 1;
    out->count = 0;
    data_stream_begin(s, epoch);
    while (count > 0) {
        ck_ok(data_stream_window(s, &items, &count, &error));
        for (size_t i = 0; i < count; i++) {
            ck_assert_uint_lt(out->count, sizeof out->lines / sizeof *out->lines);
            out->lines[out->count++] = write_example(items[i]);
        }
    }
}

static void forget(written *w)
{
    for (size_t i = 0; i < w->count; i++)
        free(w->lines[i]);
    w->count = 0;
}

/* All examples of the set in a pass, in sorted order, are these. */
static void ck_gives_lines(const data_options *o, const char *const *expected, size_t count)
{
    data_stream *s;
    written w;
    ck_ok(data_stream_open(&s, o, 0, &error));
    write_pass(s, 0, &w);
    qsort(w.lines, w.count, sizeof *w.lines, compare_text);
    ck_assert_uint_eq(w.count, count);
    for (size_t i = 0; i < count; i++)
        ck_assert_str_eq(w.lines[i], expected[i]);
    forget(&w);
    data_stream_close(s);
}

#define ck_gives(o, ...)                                                                                               \
    do {                                                                                                               \
        const char *const expected_[] = {__VA_ARGS__};                                                                 \
        ck_gives_lines(o, expected_, sizeof expected_ / sizeof *expected_);                                            \
    } while (0)

static const char LINES[] = "[\"a1\", \"b1\"]\n"
                            "[\"a2\", \"p2\", \"n2\", \"m2\"]\r\n"
                            "{\"query\": \"q3\", \"pos\": [\"p3\", \"r3\"], \"neg\": [\"n3\"]}\n"
                            "{\"query\": \"q4\", \"pos\": [\"p4\"]}\n"
                            "{\"set\": [\"s5\", \"s5\"]}";

START_TEST(every_shape_of_a_line_is_read_from_plain_and_gzip_files)
{
    const char *const plain[] = {data_file("lines.jsonl", LINES)};
    const char *const packed[] = {data_file("lines.jsonl.gz", LINES)};
    data_options o = options_of(DATA_PAIRS, plain, 1);
    ck_gives(&o, "a1|b1|", "a2|p2|n2,m2", "q3|p3|n3", "q3|r3|n3", "q4|p4|", "s5|s5|");
    o.files = packed;
    ck_gives(&o, "a1|b1|", "a2|p2|n2,m2", "q3|p3|n3", "q3|r3|n3", "q4|p4|", "s5|s5|");
}
END_TEST

START_TEST(members_are_found_by_the_names_that_the_set_gives)
{
    const char *const files[] = {
        data_file("named.jsonl",
                  "{\"question\": \"q\", \"answer\": \"a\", \"focus\": 7, \"source\": \"GARD\", \"w\": 0.5, "
                  "\"bad\": [\"n1\", \"n2\"], \"other\": {}}\n"
                  "{\"question\": \"r\", \"answer\": [\"b\", \"c\"], \"focus\": 8, \"source\": \"CDC\", \"w\": 2}\n")};
    data_options o = options_of(DATA_PAIRS, files, 1);
    o.fields = (data_fields){.anchor = "question",
                             .positive = "answer",
                             .negative = "bad",
                             .label = "focus",
                             .domain = "source",
                             .weight = "w"};
    ck_gives(&o, "q|a|n1,n2|7|GARD", "r|b||8|CDC", "r|c||8|CDC");
}
END_TEST

START_TEST(texts_of_a_set_are_paired_anew_in_every_pass_and_none_is_left_out)
{
    const char *const files[] = {
        data_file("set.jsonl", "{\"set\": [\"a\", \"b\", \"c\", \"d\", \"e\"]}\n{\"set\": [\"x\", \"y\"]}\n")};
    data_options o = options_of(DATA_PAIRS, files, 1);
    data_stream *s;
    const example *const *items;
    size_t count, differ = 0;
    char first[8] = "";
    ck_ok(data_stream_open(&s, &o, 0, &error));
    for (uint64_t epoch = 0; epoch < 8; epoch++) {
        char seen[16] = "";
        data_stream_begin(s, epoch);
        ck_ok(data_stream_window(s, &items, &count, &error));
        ck_assert_uint_eq(count, 4);
        for (size_t i = 0; i < count; i++) {
            ck_assert(!data_text_equal(items[i]->anchor, items[i]->positive));
            append(seen, sizeof seen, items[i]->anchor);
            append(seen, sizeof seen, items[i]->positive);
            for (size_t j = 0; j < i; j++)
                ck_assert_int_eq(items[i]->label_key == items[j]->label_key, items[i]->line == items[j]->line);
        }
        for (const char *c = "abcdexy"; *c != '\0'; c++)
            ck_assert_ptr_nonnull(strchr(seen, *c));
        if (epoch == 0)
            snprintf(first, sizeof first, "%.7s", seen);
        differ += strncmp(first, seen, 7) != 0;
    }
    ck_assert_uint_gt(differ, 3);
    data_stream_close(s);
}
END_TEST

START_TEST(lines_of_two_files_belong_together)
{
    const char *const files[] = {data_file("x.en", "one\ntwo\n"), data_file("x.de.gz", "eins\nzwei\n"),
                                 data_file("y.en", "three\n"), data_file("y.fr", "trois")};
    data_options o = options_of(DATA_PARALLEL, files, 4);
    ck_gives(&o, "one|eins|", "three|trois|", "two|zwei|");
}
END_TEST

START_TEST(two_files_of_different_length_are_refused)
{
    const char *const files[] = {data_file("long.en", "one\ntwo\nthree\n"), data_file("short.de", "eins\nzwei\n")};
    data_options o = options_of(DATA_PARALLEL, files, 2);
    data_counts counts;
    ck_fails(data_count(&o, UINT64_MAX, &counts, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "short.de ends behind line 2"));
    ck_assert_ptr_nonnull(strstr(error.message, "long.en goes on"));
}
END_TEST

START_TEST(columns_hold_several_languages_of_which_some_may_be_missing)
{
    const char *const files[] = {data_file("talks.tsv", "en\tde\tfr\none\teins\tun\ntwo\t\tdeux\nthree\tdrei\n")};
    data_options o = options_of(DATA_COLUMNS, files, 1);
    o.header = true;
    o.max_malformed = 0;
    ck_gives(&o, "one|eins|", "one|un|", "three|drei|", "two|deux|");
    o.column_count = 2;
    o.columns[0] = 2;
    o.columns[1] = 1;
    ck_gives(&o, "drei|three|", "eins|one|"); /* a line without German is none that is broken */
    o.columns[0] = 1;
    o.columns[1] = 2;
    ck_gives(&o, "one|eins|", "three|drei|");
    data_counts counts;
    o.columns[1] = 3; /* of which the last line has none, not even an empty one */
    ck_fails(data_count(&o, UINT64_MAX, &counts, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "talks.tsv:4: column 3 is missing: it has 2"));
}
END_TEST

START_TEST(texts_of_one_label_become_pairs_and_an_odd_one_is_counted)
{
    const char content[] = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n"
                           "{\"text\": \"c\", \"label\": \"x\"}\n{\"text\": \"d\", \"label\": \"x\"}\n"
                           "{\"text\": \"e\", \"label\": \"y\"}\n{\"text\": \"f\", \"label\": \"z\"}\n";
    const char *const files[] = {data_file("labels.jsonl", content)};
    data_options o = options_of(DATA_LABELLED, files, 1);
    data_stream *s;
    const example *const *items;
    size_t count;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    ck_ok(data_stream_window(s, &items, &count, &error));
    ck_assert_uint_eq(count, 2);
    for (size_t i = 0; i < count; i++) {
        const char *group = items[i]->label.bytes[0] == 'x' ? "acd" : "be";
        ck_assert_ptr_nonnull(strchr(group, items[i]->anchor.bytes[0]));
        ck_assert_ptr_nonnull(strchr(group, items[i]->positive.bytes[0]));
        ck_assert(!data_text_equal(items[i]->anchor, items[i]->positive));
    }
    ck_assert_uint_eq(data_stream_counts(s).unpaired, 2);
    data_stream_close(s);
}
END_TEST

START_TEST(labels_and_scores_are_read_from_columns_too)
{
    const char *const labels[] = {data_file("labels.tsv", "a\tx\nb\tx\n")};
    const char *const scores[] = {data_file("sts.tsv", "a\tb\t2.5\nc\td\t-1e-1\n")};
    const char *const objects[] = {data_file("sts.jsonl", "{\"a\": \"a\", \"b\": \"b\", \"score\": 4}\n")};
    data_options o = options_of(DATA_LABELLED, labels, 1);
    data_counts counts;
    ck_ok(data_count(&o, UINT64_MAX, &counts, &error));
    ck_assert_uint_eq(counts.examples, 1);
    o = options_of(DATA_STS, scores, 1);
    ck_gives(&o, "a|b||2.5", "c|d||-0.1");
    o = options_of(DATA_STS, objects, 1);
    ck_gives(&o, "a|b||4");
}
END_TEST

/* A bad line among good ones, and what must be said of it. */
static const struct bad_line {
    data_form form;
    const char *line, *says;
} BAD_LINES[] = {
    {DATA_PAIRS, "{\"query\": \"q\"", "no JSON"},
    {DATA_PAIRS, "7", "no JSON"},
    {DATA_PAIRS, "", "no JSON"},
    {DATA_PAIRS, "[\"a\"]", "at least 2"},
    {DATA_PAIRS, "[\"a\", 5]", "place 2"},
    {DATA_PAIRS, "[\"a\", \" \\t\"]", "empty"},
    {DATA_PAIRS, "[\"a\", \"\\ud800\"]", "no JSON"},
    {DATA_PAIRS, "[\"a\", \"b\xff\"]", "no JSON"},
    {DATA_PAIRS, "[\"a\", \"b\\u0000\"]", "no JSON"},
    {DATA_PAIRS, "{\"question\": \"q\", \"pos\": [\"p\"]}", "neither \"query\" nor \"set\""},
    {DATA_PAIRS, "{\"query\": \"q\"}", "no \"pos\""},
    {DATA_PAIRS, "{\"query\": \"q\", \"pos\": []}", "empty"},
    {DATA_PAIRS, "{\"query\": [\"q\", \"r\"], \"pos\": [\"p\"]}", "must be one"},
    {DATA_PAIRS, "{\"query\": \"q\", \"pos\": {}}", "neither a string nor an array"},
    {DATA_PAIRS, "{\"query\": \"q\", \"pos\": \"p\", \"neg\": [\"\"]}", "empty"},
    {DATA_PAIRS, "{\"set\": [\"a\"]}", "at least 2"},
    {DATA_PAIRS,
     "[\"a long line, longer than all of the others, and longer than it may be\", \"........................\"]",
     "longer than 96 bytes"},
    {DATA_COLUMNS, "alone", "at least 2"},
    {DATA_COLUMNS, "a\t\t", "no text beside"},
    {DATA_COLUMNS, "\tb", "empty"},
    {DATA_COLUMNS, "a\t\xc3\x28", "UTF-8"},
    {DATA_LABELLED, "{\"text\": \"a\"}", "no \"label\""},
    {DATA_LABELLED, "{\"text\": \"a\", \"label\": \"\"}", "\"label\" is neither"},
    {DATA_STS, "{\"a\": \"a\", \"b\": \"b\"}", "no \"score\""},
    {DATA_STS, "{\"a\": \"a\", \"b\": \"b\", \"score\": \"4\"}", "no number"},
    {DATA_STS, "[\"a\", \"b\"]", "array"},
};

static const char *good_line(data_form form)
{
    switch (form) {
    case DATA_PAIRS: return "[\"a\", \"b\"]";
    case DATA_COLUMNS: return "a\tb";
    case DATA_LABELLED: return "{\"text\": \"a\", \"label\": \"x\"}";
    default: return "{\"a\": \"a\", \"b\": \"b\", \"score\": 1}";
    }
}

START_TEST(a_bad_line_is_reported_with_its_place_and_skipped)
{
    const struct bad_line *bad = &BAD_LINES[_i];
    char content[512], place[32];
    const char *good = good_line(bad->form), *name = bad->form == DATA_COLUMNS ? "bad.tsv" : "bad.jsonl";
    snprintf(content, sizeof content, "%s\n%s\n%s\n", good, bad->line, good);
    const char *const files[] = {data_file(name, content)};
    data_options o = options_of(bad->form, files, 1);
    reports said = {0};
    data_stream *s;
    const example *const *items;
    size_t count;
    o.longest = 96;
    o.report = note_report;
    o.context = &said;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    ck_ok(data_stream_window(s, &items, &count, &error));
    ck_assert_uint_eq(count, bad->form == DATA_LABELLED ? 1 : 2);
    ck_assert_uint_eq(said.count, 1);
    ck_assert_uint_eq(data_stream_counts(s).malformed, 1);
    snprintf(place, sizeof place, "%s:2: ", name);
    ck_assert_msg(strstr(said.first, place) == said.first && strstr(said.first, bad->says) != NULL, "%s", said.first);
    data_stream_close(s);
}
END_TEST

START_TEST(more_bad_lines_than_the_limit_are_an_error_that_names_the_last)
{
    const char *const files[] = {
        data_file("worse.jsonl", "[\"a\", \"b\"]\n[]\n[\"c\", \"d\"]\n[]\n[]\n[\"e\", \"f\"]\n")};
    data_options o = options_of(DATA_PAIRS, files, 1);
    data_counts counts;
    o.max_malformed = 3;
    ck_ok(data_count(&o, UINT64_MAX, &counts, &error));
    ck_assert_uint_eq(counts.examples, 3);
    ck_assert_uint_eq(counts.malformed, 3);
    o.max_malformed = 2;
    ck_fails(data_count(&o, UINT64_MAX, &counts, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "worse.jsonl:5: "));
    ck_assert_ptr_nonnull(strstr(error.message, "max_malformed is 2"));
}
END_TEST

START_TEST(what_a_form_does_not_read_is_refused)
{
    static const struct {
        data_form form;
        data_fields fields;
        bool header;
        const char *says;
    } wrong[] = {
        {DATA_COLUMNS, {.label = "l"}, false, "form columns reads no label ('l')"},
        {DATA_PARALLEL, {.anchor = "a"}, false, "form parallel reads no anchor"},
        {DATA_LABELLED, {.positive = "p"}, false, "form labelled reads no positive"},
        {DATA_PAIRS, {.score = "s"}, false, "form pairs reads no score"},
        {DATA_PAIRS, {.positive = "p"}, false, "one member of anchor and positive"},
        {DATA_PAIRS, {.negative = "n"}, false, "not the anchor's"},
        {DATA_STS, {.domain = "d"}, false, "form sts reads no domain"},
        {DATA_PAIRS, {0}, true, "no header"},
    };
    const char *const files[] = {"one", "two"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        data_options o = options_of(wrong[i].form, files, 2);
        o.fields = wrong[i].fields;
        o.header = wrong[i].header;
        ck_fails(data_options_check(&o, &error), SEM_INVALID_ARGUMENT);
        ck_assert_msg(strstr(error.message, wrong[i].says) != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(a_cut_gzip_file_is_an_error_not_an_end)
{
    char *content = NULL;
    size_t size = 0;
    FILE *in = fopen(data_file_of("whole.jsonl.gz", "[\"anchor # with words\", \"positive #\"]", 2000), "rb");
    ck_assert_ptr_nonnull(in);
    content = malloc(1 << 20);
    size = fread(content, 1, 1 << 20, in);
    fclose(in);
    const char *const files[] = {data_file_write("cut.jsonl", content, size - 20)};
    data_options o = options_of(DATA_PAIRS, files, 1);
    data_counts counts;
    ck_fails(data_count(&o, UINT64_MAX, &counts, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "cut.jsonl"));
    free(content);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    const char *const files[] = {"/nowhere/at/all.jsonl"};
    data_options o = options_of(DATA_PAIRS, files, 1);
    data_counts counts;
    ck_fails(data_count(&o, UINT64_MAX, &counts, &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/at/all.jsonl"));
}
END_TEST

enum { MANY = 3000 };

/* The same examples in both, however they are ordered. */
static void ck_same_examples(written *a, written *b)
{
    qsort(a->lines, a->count, sizeof *a->lines, compare_text);
    qsort(b->lines, b->count, sizeof *b->lines, compare_text);
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        ck_assert_str_eq(a->lines[i], b->lines[i]);
}

static size_t equal_places(const written *a, const written *b)
{
    size_t equal = 0;
    for (size_t i = 0; i < a->count && i < b->count; i++)
        equal += strcmp(a->lines[i], b->lines[i]) == 0;
    return equal;
}

START_TEST(the_seed_alone_decides_the_order_and_every_example_comes_once)
{
    const char *const files[] = {data_file_of("many1.jsonl", "[\"a#\", \"p#\"]", MANY / 2),
                                 data_file_of("many2.jsonl.gz", "[\"b#\", \"q#\"]", MANY / 2)};
    data_options o = options_of(DATA_PAIRS, files, 2);
    static written first, again, next, other;
    data_stream *s, *t;
    o.window = 700;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    write_pass(s, 0, &first);
    write_pass(s, 1, &next);
    write_pass(s, 0, &again);
    o.seed = 2;
    ck_ok(data_stream_open(&t, &o, 0, &error));
    write_pass(t, 0, &other);
    ck_assert_uint_eq(first.count, MANY);
    ck_assert_uint_eq(equal_places(&first, &again), MANY);
    ck_assert_uint_lt(equal_places(&first, &next), MANY / 50);
    ck_assert_uint_lt(equal_places(&first, &other), MANY / 50);
    for (size_t i = 1; i < MANY; i++)
        ck_assert_str_ne(first.lines[i - 1], first.lines[i]);
    ck_same_examples(&first, &next);
    ck_same_examples(&first, &other);
    for (size_t i = 1; i < MANY; i++)
        ck_assert_str_ne(first.lines[i - 1], first.lines[i]);
    forget(&first);
    forget(&again);
    forget(&next);
    forget(&other);
    data_stream_close(s);
    data_stream_close(t);
}
END_TEST

START_TEST(a_stream_goes_on_from_a_place_as_if_it_had_never_stopped)
{
    const char *const files[] = {data_file_of("on1.jsonl", "[\"a#\", \"p#\"]", 500),
                                 data_file_of("on2.jsonl.gz", "[\"b#\", \"q#\"]", 500)};
    data_options o = options_of(DATA_PAIRS, files, 2);
    data_stream *s, *t;
    const example *const *items, *const *same;
    size_t count = 1, same_count;
    o.window = 130;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    data_stream_begin(s, 4);
    while (count > 0) {
        ck_ok(data_stream_window(s, &items, &count, &error));
        const data_place place = data_stream_tell(s);
        ck_ok(data_stream_open(&t, &o, 0, &error));
        ck_ok(data_stream_seek(t, &place, &error));
        ck_ok(data_stream_window(t, &same, &same_count, &error));
        ck_assert_uint_eq(count, same_count);
        for (size_t i = 0; i < count; i++) {
            ck_assert(data_text_equal(items[i]->anchor, same[i]->anchor));
            ck_assert(data_text_equal(items[i]->positive, same[i]->positive));
        }
        data_stream_close(t);
    }
    data_stream_close(s);
}
END_TEST

START_TEST(a_window_holds_no_more_than_its_bounds)
{
    const char *const files[] = {data_file_of("bounds.jsonl", "[\"a#\", \"p#\"]", MANY)};
    data_options o = options_of(DATA_PAIRS, files, 1);
    data_stream *s;
    const example *const *items;
    size_t count = 1, bytes = 0;
    o.window_bytes = 20000;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    while (count > 0) {
        ck_ok(data_stream_window(s, &items, &count, &error));
        bytes = 0;
        for (size_t i = 0; i < count; i++)
            bytes += items[i]->bytes;
        ck_assert_uint_lt(bytes, 20000 + 1000);
    }
    ck_assert_uint_eq(data_stream_counts(s).examples, MANY);
    data_stream_close(s);
}
END_TEST

START_TEST(the_banking_questions_pair_within_their_labels)
{
    const char *path = testing_shared("data/banking77/train.jsonl");
    if (path == NULL)
        return;
    const char *const files[] = {path};
    data_options o = options_of(DATA_LABELLED, files, 1);
    data_counts counts;
    ck_ok(data_count(&o, UINT64_MAX, &counts, &error));
    ck_assert_uint_eq(2 * counts.examples + counts.unpaired, 9992);
    ck_assert_uint_le(counts.unpaired, 77);
    ck_assert_uint_eq(counts.malformed, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data");
    TCase *tests = tcase_create("files");
    tcase_add_test(tests, every_shape_of_a_line_is_read_from_plain_and_gzip_files);
    tcase_add_test(tests, members_are_found_by_the_names_that_the_set_gives);
    tcase_add_test(tests, texts_of_a_set_are_paired_anew_in_every_pass_and_none_is_left_out);
    tcase_add_test(tests, lines_of_two_files_belong_together);
    tcase_add_test(tests, two_files_of_different_length_are_refused);
    tcase_add_test(tests, columns_hold_several_languages_of_which_some_may_be_missing);
    tcase_add_test(tests, texts_of_one_label_become_pairs_and_an_odd_one_is_counted);
    tcase_add_test(tests, labels_and_scores_are_read_from_columns_too);
    tcase_add_loop_test(tests, a_bad_line_is_reported_with_its_place_and_skipped, 0,
                        sizeof BAD_LINES / sizeof *BAD_LINES);
    tcase_add_test(tests, more_bad_lines_than_the_limit_are_an_error_that_names_the_last);
    tcase_add_test(tests, what_a_form_does_not_read_is_refused);
    tcase_add_test(tests, a_cut_gzip_file_is_an_error_not_an_end);
    tcase_add_test(tests, a_missing_file_is_named);
    tcase_add_test(tests, the_seed_alone_decides_the_order_and_every_example_comes_once);
    tcase_add_test(tests, a_stream_goes_on_from_a_place_as_if_it_had_never_stopped);
    tcase_add_test(tests, a_window_holds_no_more_than_its_bounds);
    tcase_add_test(tests, the_banking_questions_pair_within_their_labels);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
