/* Texts to vectors without taking memory, once each kind of text was seen. The linker
 * puts the __wrap_ functions in the place of the allocator's (mk/tests.mk). */
#include "tests/common/testing.h"

#include "base/files.h"
#include "model/model.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static sem_error error;
static size_t allocations;
static bool counts; /* not while the test's own library works */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
    allocations += counts;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations += counts;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    allocations += counts;
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    allocations += counts;
    return __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    allocations += counts;
    return __real_strdup(text);
}

void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    allocations += counts;
    return __real_mmap(at, length, protection, flags, fd, offset);
}

enum { LONG_WORD = 5000, LONG_TEXT = 60000, MARKS = 200 };

static char long_word[LONG_WORD + 1], long_text[LONG_TEXT + 1], many_marks[2 * MARKS + 2];

static const char *const TEXTS[] = {
    "How do I top up my card?",
    "a",
    "Cr\u00E8me br\u00FBl\u00E9e, \u00C5ngstr\u00F6m",
    "e\u0301\u0323 o\u0302\u0323\u0301 \u1E69 s\u0323\u0307 \u0344",
    "\u6771\u4EAC\u90FD \uFF21\uFF22 \uD55C\uAD6D\uC5B4 \uFB01sh \u2460",
    "[MASK] of [MASK] <mask> in a text <s> </s>",
    "   white \t space \n ",
    many_marks,
    long_word,
    long_text,
};
enum { TEXT_COUNT = sizeof TEXTS / sizeof *TEXTS, WIDTH_MAX = 1024 };

static void write_texts(void)
{
    static const char PHRASE[] = "the pipe's na\u00EFve flow (1,204 kg) e\u0301 ";
    memset(long_word, 'x', LONG_WORD);
    for (size_t i = 0; i < LONG_WORD; i += 3)
        long_word[i] = (char)('a' + i % 26);
    for (size_t i = 0; i + sizeof PHRASE <= LONG_TEXT; i += sizeof PHRASE - 1)
        memcpy(long_text + i, PHRASE, sizeof PHRASE);
    many_marks[0] = 'e';
    for (size_t i = 0; i < MARKS; i++)
        memcpy(many_marks + 1 + 2 * i, i % 2 == 0 ? "\u0301" : "\u0323", 2);
}

/* What a worker keeps. */
typedef struct serving_memory {
    const model *m;
    token_batch batch;
    encoder_scratch *scratch;
    float out[TEXT_COUNT * WIDTH_MAX];
} serving_memory;

static void tokenize(serving_memory *s, size_t text, const char *prompt)
{
    bool cut;
    counts = true;
    sem_status status = model_tokenize(s->m, prompt, TEXTS[text], strlen(TEXTS[text]), &s->batch, &cut, &error);
    counts = false;
    ck_ok(status);
}

static void encode(serving_memory *s)
{
    counts = true;
    sem_status status = encoder_forward(model_get_encoder(s->m), s->scratch, s->batch.ids, s->batch.lengths,
                                        s->batch.texts, s->out, &error);
    token_batch_clear(&s->batch);
    counts = false;
    ck_ok(status);
}

/* Every text alone, with and without a prompt, then all together, from the last on
 * where backwards: nothing may depend on who came first. */
static void serve_all(serving_memory *s, bool backwards)
{
    static const char *const PROMPTS[] = {NULL, "query: "};
    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < TEXT_COUNT; i++) {
            tokenize(s, backwards ? TEXT_COUNT - 1 - i : i, PROMPTS[p]);
            encode(s);
        }
        for (size_t i = 0; i < TEXT_COUNT; i++)
            tokenize(s, backwards ? TEXT_COUNT - 1 - i : i, PROMPTS[p]);
        encode(s);
    }
}

static void ck_allocates_nothing(const char *dir, const char *precision)
{
    static serving_memory s;
    model *m;
    write_texts();
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    if (precision != NULL)
        ck_ok(model_set_precision(m, precision, 0.9, NULL, &error));
    ck_assert_uint_le(encoder_width(model_get_encoder(m)), WIDTH_MAX);
    s = (serving_memory){.m = m};
    ck_ok(encoder_scratch_create(&s.scratch, model_get_encoder(m), 1024, &error));
    serve_all(&s, false);
    const size_t before = allocations;
    ck_assert_uint_gt(before, 0); /* the counter counts */
    serve_all(&s, true);
    ck_assert_msg(allocations == before, "%s: %zu allocations", dir, allocations - before);
    encoder_scratch_destroy(s.scratch);
    token_batch_free(&s.batch);
    model_close(m);
}

static const char *const NAMES[] = {
    "golden/tiny-bert",
    "golden/tiny-mpnet",
    "golden/tiny-roberta",
    "golden/tiny-xlmr",
    "golden/family-bert-cased-sqrt-f16-prompts",
    "golden/family-distilbert-max-nonorm",
    "golden/family-roberta-lasttoken",
    "golden/family-xlmr-dense-tanh",
};
enum { MODELS = sizeof NAMES / sizeof *NAMES };

START_TEST(models_of_every_tokenizer_allocate_nothing)
{
    const char *dir = testing_shared(NAMES[_i]);
    if (dir != NULL)
        ck_allocates_nothing(dir, NULL);
}
END_TEST

START_TEST(minilm_allocates_nothing_in_any_precision)
{
    static const char *const PRECISIONS[] = {"float32", "bfloat16", "int8"};
    const char *dir = testing_minilm();
    if (dir != NULL)
        ck_allocates_nothing(dir, PRECISIONS[_i]);
}
END_TEST

/* Then text is normalized into memory before it is split. */
START_TEST(normalized_added_tokens_allocate_nothing)
{
    char dir[FILES_PATH_MAX], path[FILES_PATH_MAX];
    json_error_t e;
    const char *from = testing_shared(_i == 0 ? "golden/tiny-bert" : "golden/tiny-xlmr");
    if (from == NULL)
        return;
    snprintf(dir, sizeof dir, "%s/model", testing_folder());
    ck_ok(files_copy_folder(from, dir, &error));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", dir));
    json_t *root = json_load_file(path, 0, &e);
    ck_assert_ptr_nonnull(root);
    json_t *added = json_object_get(root, "added_tokens");
    ck_assert_uint_gt(json_array_size(added), 0);
    for (size_t i = 0; i < json_array_size(added); i++)
        ck_assert_int_eq(json_object_set_new(json_array_get(added, i), "normalized", json_true()), 0);
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    json_decref(root);
    ck_allocates_nothing(dir, NULL);
}
END_TEST

/* A text of megabytes may take memory, which does not stay. */
START_TEST(memory_of_a_huge_text_is_given_back)
{
    const size_t length = 20 << 20;
    const char *dir = testing_shared("golden/tiny-xlmr");
    if (dir == NULL)
        return;
    token_batch batch = {0};
    model *m;
    bool cut;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    char *text = malloc(length);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', length);
    ck_ok(model_tokenize(m, "p", text, length, &batch, &cut, &error));
    ck_assert(cut);
    counts = true;
    sem_status status = model_tokenize(m, "p", text, 100, &batch, &cut, &error);
    counts = false;
    ck_ok(status);
    ck_assert_uint_gt(allocations, 0);
    free(text);
    token_batch_free(&batch);
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("no_allocation");
    TCase *tests = tcase_create("encoding");
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, models_of_every_tokenizer_allocate_nothing, 0, MODELS);
    tcase_add_loop_test(tests, minilm_allocates_nothing_in_any_precision, 0, 3);
    tcase_add_loop_test(tests, normalized_added_tokens_allocate_nothing, 0, 2);
    tcase_add_test(tests, memory_of_a_huge_text_is_given_back);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
