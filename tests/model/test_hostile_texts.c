/* No text, however hostile, takes more than linear time or memory. Asserted on counts,
 * never on the clock: a step is a basic block of the tokenizers' code (it is compiled
 * with a call in each, see mk/tests.mk) or a byte that the C library is asked to copy,
 * fill, compare or search; memory is what is asked of malloc(), where realloc() counts
 * with the old and the new block at once. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "base/utf8.h"
#include "model/passages.h"
#include "model/tokenizer.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;
static tokenizer *tok;
static token_batch batch;

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { MEMORY_IS_COUNTED = false }; /* sanitizers put blocks in other sizes */
#else
enum { MEMORY_IS_COUNTED = true };
#endif

/* --- counting */

static size_t steps;
static ptrdiff_t live, peak; /* bytes */

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    steps++;
}

static void grow(ptrdiff_t bytes)
{
    live += bytes;
    peak = live > peak ? live : peak;
}

#define WRAPPED(type, name, ...)                                                                                       \
    type __real_##name(__VA_ARGS__);                                                                                   \
    type __wrap_##name(__VA_ARGS__);                                                                                   \
    type __wrap_##name(__VA_ARGS__)

WRAPPED(void, free, void *p)
{
    live -= (ptrdiff_t)malloc_usable_size(p);
    __real_free(p);
}

WRAPPED(void *, malloc, size_t size)
{
    void *p = __real_malloc(size);
    grow((ptrdiff_t)malloc_usable_size(p));
    return p;
}

WRAPPED(void *, calloc, size_t count, size_t size)
{
    void *p = __real_calloc(count, size);
    grow((ptrdiff_t)malloc_usable_size(p));
    steps += count * size;
    return p;
}

WRAPPED(void *, realloc, void *old, size_t size)
{
    ptrdiff_t before = (ptrdiff_t)malloc_usable_size(old);
    void *p = __real_realloc(old, size);
    if (p == NULL)
        return NULL;
    grow((ptrdiff_t)malloc_usable_size(p));
    live -= before;
    steps += (size_t)before;
    return p;
}

WRAPPED(void *, memcpy, void *to, const void *from, size_t n)
{
    steps += n;
    return __real_memcpy(to, from, n);
}

WRAPPED(void *, memmove, void *to, const void *from, size_t n)
{
    steps += n;
    return __real_memmove(to, from, n);
}

WRAPPED(void *, memset, void *to, int value, size_t n)
{
    steps += n;
    return __real_memset(to, value, n);
}

WRAPPED(int, memcmp, const void *a, const void *b, size_t n)
{
    steps += n;
    return __real_memcmp(a, b, n);
}

WRAPPED(void *, memchr, const void *text, int c, size_t n)
{
    const char *found = __real_memchr(text, c, n);
    steps += found != NULL ? (size_t)(found - (const char *)text) : n;
    return (void *)found;
}

WRAPPED(void *, memmem, const void *text, size_t n, const void *what, size_t size)
{
    const char *found = __real_memmem(text, n, what, size);
    steps += found != NULL ? (size_t)(found - (const char *)text) + size : n;
    return (void *)found;
}

/* --- tokenizers */

static void close_all(void)
{
    tokenizer_close(tok);
    tok = NULL;
    token_batch_free(&batch);
}

static bool open_folder(const char *dir, size_t vocab)
{
    if (dir != NULL)
        ck_ok(tokenizer_open(&tok, dir, vocab, &error));
    return dir != NULL;
}

static bool open_json(const char *json)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/tokenizer.json", testing_folder()));
    ck_ok(files_write(path, json, strlen(json), &error));
    return open_folder(testing_folder(), 1000);
}

static bool open_minilm(void)
{
    return open_folder(testing_minilm(), 30522);
}

static bool open_roberta(void)
{
    return open_folder(testing_shared("golden/tiny-roberta"), 1500);
}

static bool open_xlmr(void)
{
    return open_folder(testing_shared("golden/tiny-xlmr"), 4002);
}

#define WORDPIECE                                                                                                      \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"max_input_chars_per_word\":100,\"vocab\":{"           \
    "\"[UNK]\":0,\"[MASK]\":1,\"a\":2,\"##a\":3,\"##aaaaaaaa\":4,\"##aaaaaaaaaaaaaaab\":5,\"[\":6,\"]\":7,\"mas\":8}}"
#define ADDED(normalized)                                                                                              \
    "\"added_tokens\":[{\"id\":1,\"content\":\"[MASK]\",\"normalized\":" normalized                                    \
    "},{\"id\":9,\"content\":\"<mask>\",\"lstrip\":true,\"rstrip\":true,\"single_word\":true}],"

/* Marks that are kept and put in order, in the single pass and with normalized added tokens. */
static bool open_wordpiece(void)
{
    return open_json("{" ADDED("false") "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
                                        "\"BertPreTokenizer\"}," WORDPIECE "}");
}

static bool open_wordpiece_two_steps(void)
{
    return open_json("{" ADDED("true") "\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":"
                                       "\"BertPreTokenizer\"}," WORDPIECE "}");
}

/* Every kind of normalizer and splitter that looks further than one character. */
static bool open_wordpiece_steps(void)
{
    return open_json("{" ADDED(
        "true") "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"NFC\"},"
                "{\"type\":\"Strip\"},{\"type\":\"Lowercase\"},"
                "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},"
                "{\"type\":\"Replace\",\"pattern\":{\"String\":\"aaaaaaab\"},\"content\":\"b\"}]},"
                "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"behavior\":\"MergedWithNext\",\"invert\":"
                "false},"
                "{\"type\":\"Split\",\"pattern\":{\"String\":\"[MAS\"},\"behavior\":\"MergedWithPrevious\",\"invert\":"
                "false},"
                "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}]}," WORDPIECE "}");
}

static bool open_unigram(void)
{
    return open_json("{" ADDED("false") "\"normalizer\":{\"type\":\"NFKC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\","
                                        "\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\"},\"model\":{"
                                        "\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"[MASK]\",-9],"
                                        "[\"\\u2581a\",-1],[\"a\",-2],[\"aaaaaaaa\",-3],[\"aaaaaaaaaaaaaaab\",-4]]}}");
}

/* The 256 bytes and these merges. */
static bool open_bytes(const char *vocab, const char *merges)
{
    static char json[1 << 14];
    char *p = json;
    uint32_t spare = 0x100;
    p += sprintf(p, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},\"model\":{\"vocab\":{");
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        p += sprintf(p, "%s\"\\u%04x\":%u", byte > 0 ? "," : "", printable ? byte : spare++, byte);
    }
    sprintf(p, "%s},\"merges\":%s}}", vocab, merges);
    return open_json(json);
}

static bool open_bpe(void)
{
    return open_bytes(",\"aa\":256,\"aaaa\":257", "[\"a a\",\"aa aa\"]");
}

/* "aaaa" comes before "aa", which no training does: the heap's way. */
static bool open_bpe_out_of_order(void)
{
    return open_bytes(",\"aa\":256,\"aaaa\":257", "[\"aa aa\",\"a a\"]");
}

static const struct {
    const char *name;
    bool (*open)(void);
} KINDS[] = {{"MiniLM", open_minilm},
             {"tiny-roberta", open_roberta},
             {"tiny-xlmr", open_xlmr},
             {"WordPiece", open_wordpiece},
             {"WordPiece, normalized added tokens", open_wordpiece_two_steps},
             {"WordPiece in steps", open_wordpiece_steps},
             {"Unigram", open_unigram},
             {"BPE", open_bpe},
             {"BPE out of order", open_bpe_out_of_order}};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

/* --- texts */

#define EXPANDING      "\xEF\xB7\xBA" /* one character that NFKC makes 18 of, in four words */
#define EXPANDING_WORD "\xE3\x8C\x96" /* one that it makes a word of six */

static const char *const UNITS[] = {
    "a",
    "a ",
    "etaoinshrdlu",
    "[MASK]",
    "[MAS",
    "<mask>",
    "<mas",
    " ",
    " \n",
    "1",
    ".",
    "'s",
    "\xCC\x81",                 /* acute: removed */
    "\xCC\x96\xCC\x81",         /* classes 220 and 230 in turn */
    "\xCC\x81\xCC\x96",         /* and the other way round: all change places */
    "\xE3\x80\xAE\xE1\xAF\xB2", /* marks that are kept */
    "\xEA\xB0\x80",             /* Hangul, which decomposes */
    EXPANDING,
    EXPANDING_WORD,
    "\xE3\x80\x80",                /* white space of three bytes */
    "\xE2\x96\x81",                /* the mark of Metaspace */
    "\xF0\x9F\x91\xA8\xE2\x80\x8D" /* one grapheme cluster */
};

typedef struct cost {
    size_t steps;
    size_t bytes; /* at the peak */
    size_t tokens;
    bool cut;
} cost;

static cost measure(const char *unit, size_t length, size_t max_tokens)
{
    size_t n = strlen(unit), count = length / n;
    char *text = malloc(count * n + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++)
        __real_memcpy(text + i * n, unit, n);
    token_batch_free(&batch);
    cost c;
    ptrdiff_t before = peak = live;
    steps = 0;
    ck_ok(tokenizer_encode(tok, text, count * n, max_tokens, &batch, &c.cut, &error));
    c.steps = steps;
    c.bytes = (size_t)(peak - before);
    c.tokens = batch.tokens;
    free(text);
    return c;
}

enum {
    KIB = 1 << 10,
    STEPS_MOST = 250,       /* a byte of text; the most that was seen is 180 */
    BYTES_MOST = 40,        /* at the peak, a byte of text; the most that was seen is 32 */
    EXPANDED_STEPS = 1500,  /* both of a text that its normalizer makes 11 times as long; */
    EXPANDED_BYTES = 128,   /*     its copy may be twice as large again, and is made anew as it grows */
    CUT_STEPS_MOST = 20000, /* a byte, of cutting into passages */
    CONSTANT = 16 * KIB     /* what the shortest text takes: the lists of the merges, first buffers */
};

static void expect_bounds(const char *kind, const char *unit, size_t length, const cost *c)
{
    bool expanded = strcmp(unit, EXPANDING) == 0 || strcmp(unit, EXPANDING_WORD) == 0;
    size_t steps_most = (expanded ? EXPANDED_STEPS : STEPS_MOST) * length + CONSTANT;
    size_t bytes_most = (expanded ? EXPANDED_BYTES : BYTES_MOST) * length + CONSTANT;
    ck_assert_msg(c->steps <= steps_most, "%s: %zu bytes of \"%s\" took %zu steps, expected at most %zu", kind, length,
                  unit, c->steps, steps_most);
    if (MEMORY_IS_COUNTED)
        ck_assert_msg(c->bytes <= bytes_most, "%s: %zu bytes of \"%s\" took %zu bytes, expected at most %zu", kind,
                      length, unit, c->bytes, bytes_most);
}

/* Each text is twice as long as the one before, and adds twice the steps that that one
 * added: what a text takes whatever its length is out of it. A quarter
 * more is for the tokens' block, which now and then is copied to a larger one, and for the
 * heap, which has one level more of 16. */
static void expect_linear(const char *kind, const char *unit, size_t first, size_t max_tokens)
{
    size_t taken[3];
    for (size_t i = 0; i < 3; i++) {
        cost c = measure(unit, first << i, max_tokens);
        ck_assert(max_tokens < SIZE_MAX || !c.cut);
        expect_bounds(kind, unit, first << i, &c);
        taken[i] = c.steps;
    }
    ck_assert_uint_ge(taken[1], taken[0]);
    size_t added = taken[1] - taken[0], most = taken[1] + 2 * added + added / 4 + CONSTANT;
    ck_assert_msg(taken[2] <= most, "%s: %zu, %zu and %zu bytes of \"%s\" took %zu, %zu and %zu steps", kind, first,
                  2 * first, 4 * first, unit, taken[0], taken[1], taken[2]);
}

START_TEST(hostile_texts_take_linear_steps_and_memory)
{
    if (!KINDS[_i].open())
        return;
    for (size_t u = 0; u < sizeof UNITS / sizeof UNITS[0]; u++) {
        expect_linear(KINDS[_i].name, UNITS[u], 24 * KIB, SIZE_MAX);
        expect_linear(KINDS[_i].name, UNITS[u], 24 * KIB, 256);
    }
}
END_TEST

/* Models of our own stand in where the real ones are missing. */
static const struct {
    bool (*open)(void), (*instead)(void);
    const char *name, *mask;
} LARGE[] = {{open_minilm, open_wordpiece, "WordPiece", "[MASK]"},
             {open_roberta, open_bpe, "BPE", "<mask>"},
             {open_xlmr, open_unigram, "Unigram", "<mask>"}};

START_TEST(megabytes_take_linear_steps_and_memory)
{
    if (!LARGE[_i].open())
        LARGE[_i].instead();
    const char *const units[] = {"a", "\xCC\x96\xCC\x81", LARGE[_i].mask};
    for (size_t u = 0; u < 3; u++) {
        cost whole = measure(units[u], 10 * KIB * KIB, u < 2 ? 256 : SIZE_MAX);
        expect_bounds(LARGE[_i].name, units[u], 10 * KIB * KIB, &whole);
    }
    expect_linear(LARGE[_i].name, "a", KIB * KIB, SIZE_MAX);
}
END_TEST

/* Two measurements may differ by some bytes in what does not grow with the text. */
static void expect_one_look(const cost *once, const cost *twice)
{
    enum { CONSTANT_PART = 256 };
    ck_assert_uint_ge(twice->steps + CONSTANT_PART, once->steps + KIB * KIB);
    ck_assert_uint_le(twice->steps, once->steps + KIB * KIB + CONSTANT_PART);
}

/* All that grows with the text is memchr(), which looks for added tokens. */
START_TEST(bert_stops_when_a_further_token_is_certain)
{
    open_json("{\"added_tokens\":[{\"id\":1,\"content\":\"[MASK]\"}],\"normalizer\":{\"type\":\"BertNormalizer\"},"
              "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," WORDPIECE "}");
    measure("a ", KIB * KIB, 256); /* takes the buffers that are kept */
    cost once = measure("a ", KIB * KIB, 256), twice = measure("a ", 2 * KIB * KIB, 256);
    ck_assert(once.cut && once.tokens == 256);
    expect_one_look(&once, &twice);
    once = measure("a", KIB * KIB, 0); /* a word that need not be read to its end */
    twice = measure("a", 2 * KIB * KIB, 0);
    ck_assert(once.cut && once.tokens == 0);
    expect_one_look(&once, &twice);
    cost fits = measure("a", KIB * KIB, 1);
    ck_assert(!fits.cut && fits.tokens == 1);
}
END_TEST

/* Those whose steps look no further than a word: they take a text in pieces. */
START_TEST(pipelines_stop_within_a_piece)
{
    static bool (*const open[])(void) = {open_roberta, open_xlmr, open_unigram, open_bpe};
    if (!open[_i]())
        return;
    cost once = measure("wood would ", KIB * KIB, 256), twice = measure("wood would ", 2 * KIB * KIB, 256);
    ck_assert(once.cut && once.tokens == 256);
    ck_assert_uint_le(twice.steps - once.steps, 12 * KIB * KIB); /* of looking for added tokens */
    if (MEMORY_IS_COUNTED)
        ck_assert_uint_le(twice.bytes, once.bytes + 4 * KIB);
    cost all = measure("wood would ", KIB * KIB, SIZE_MAX);
    ck_assert(!all.cut && all.tokens > 256);
}
END_TEST

/* --- passages */

/* Steps of cutting a text, all tries and the tokenizer's included. */
static size_t measure_cut(const char *unit, size_t length)
{
    size_t n = strlen(unit), count = length / n;
    char *text = malloc(count * n + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++)
        __real_memcpy(text + i * n, unit, n);
    passage_cutter cutter = {0};
    passage_limits limits = {.tokens = 128, .overlap = 32, .max_tokens = 256};
    steps = 0;
    ck_ok(passages_cut(&cutter, tok, "passage: ", &limits, text, count * n, &error));
    size_t taken = steps;
    passage_cutter_free(&cutter);
    free(text);
    return taken;
}

/* Half as much again is for buffers that are copied as they grow, and for passages that end elsewhere. */
START_TEST(hostile_texts_are_cut_in_linear_steps)
{
    static const char *const more[] = {". ", "\n", "\n\n", "A. ", "\"", "\xE3\x80\x82", "? a", "Mr. ", "a. "};
    enum { MORE = sizeof more / sizeof more[0], ALL = MORE + sizeof UNITS / sizeof UNITS[0] };
    if (!KINDS[_i].open())
        return;
    for (size_t u = 0; u < ALL; u++) {
        const char *unit = u < MORE ? more[u] : UNITS[u - MORE];
        size_t once = measure_cut(unit, 12 * KIB), twice = measure_cut(unit, 24 * KIB);
        ck_assert_msg(twice <= 2 * once + once / 2, "%s: \"%s\" took %zu steps, twice as many took %zu", KINDS[_i].name,
                      unit, once, twice);
        ck_assert_msg(once <= (size_t)CUT_STEPS_MOST * 12 * KIB, "%s: \"%s\" took %zu steps a byte", KINDS[_i].name,
                      unit, once / (12 * KIB));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hostile_texts");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, NULL, close_all);
    tcase_add_loop_test(c, hostile_texts_take_linear_steps_and_memory, 0, KIND_COUNT);
    tcase_add_loop_test(c, megabytes_take_linear_steps_and_memory, 0, sizeof LARGE / sizeof LARGE[0]);
    tcase_add_test(c, bert_stops_when_a_further_token_is_certain);
    tcase_add_loop_test(c, pipelines_stop_within_a_piece, 0, 4);
    suite_add_tcase(s, c);
    c = tcase_create("passages");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, NULL, close_all);
    tcase_add_loop_test(c, hostile_texts_are_cut_in_linear_steps, 0, KIND_COUNT);
    suite_add_tcase(s, c);
    return testing_run(s);
}
