/* Byte-pair encoding against its definition, on random vocabularies: whatever way
 * a word takes, its tokens are those of merging the best pair again and again. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "base/utf8.h"
#include "model/bpe.h"
#include "model/bpe_long.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = 400, TOKEN_BYTES = 60, WORD_MAX = 3000 };

static sem_error error;
static bpe b;
static bool created;
static text_scratch scratch;
static token_sink sink = {.limit = SIZE_MAX, .scratch = &scratch};
static random_state r;

/* The texts of the tokens; ids 0 to 255 are the bytes. */
static char texts[TOKENS_MAX][TOKEN_BYTES + 1];
static int32_t count;

static void setup(void)
{
    random_seed(&r, testing_seed());
}

static void close_all(void)
{
    if (created)
        bpe_free(&b);
    created = false;
    free(sink.ids);
    text_scratch_free(&scratch);
    sink = (token_sink){.limit = SIZE_MAX, .scratch = &scratch};
}

static json_t *bytes_vocabulary(void)
{
    json_t *vocab = json_object();
    uint32_t spare = 0x100;
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[5] = {0};
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        utf8_encode(printable ? byte : spare++, text);
        json_object_set_new(vocab, text, json_integer(byte));
        snprintf(texts[byte], sizeof texts[byte], "%s", text);
    }
    count = 256;
    return vocab;
}

static int32_t find_text(const char *text)
{
    for (int32_t i = 0; i < count; i++)
        if (strcmp(texts[i], text) == 0)
            return i;
    return -1;
}

/* A random token of the first letters and of what they were merged to. */
static int32_t any_token(uint64_t letters)
{
    int32_t merged = count - 256;
    return random_below(&r, 3) == 0 || merged == 0 ? 'a' + (int32_t)random_below(&r, letters)
                                                   : 256 + (int32_t)random_below(&r, (uint64_t)merged);
}

/* Merges of random pairs: as training makes them, with tokens that several pairs
 * make, or in an order that no training has. */
typedef enum merge_kind { MERGES_TRAINED, MERGES_REPEATED, MERGES_SHUFFLED } merge_kind;

static void create_random(size_t merges, uint64_t letters, merge_kind kind)
{
    json_t *vocab = bytes_vocabulary(), *list = json_array(), *model = json_object();
    for (size_t i = 0; i < merges; i++) {
        int32_t left = any_token(letters), right = random_below(&r, 4) == 0 ? left : any_token(letters);
        char joined[2 * TOKEN_BYTES + 1];
        snprintf(joined, sizeof joined, "%s%s", texts[left], texts[right]);
        bool known = find_text(joined) >= 0;
        if (strlen(joined) > TOKEN_BYTES || (known && kind == MERGES_TRAINED))
            continue;
        if (!known) {
            memcpy(texts[count], joined, strlen(joined) + 1);
            json_object_set_new(vocab, joined, json_integer(count++));
        }
        json_array_append_new(list, json_pack("[s, s]", texts[left], texts[right]));
    }
    for (size_t i = json_array_size(list); kind == MERGES_SHUFFLED && i > 1; i--) {
        size_t j = (size_t)random_below(&r, i);
        json_t *a = json_incref(json_array_get(list, i - 1)), *c = json_incref(json_array_get(list, j));
        json_array_set_new(list, i - 1, c);
        json_array_set_new(list, j, a);
    }
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", list);
    ck_ok(bpe_create(&b, model, "model", &error));
    created = true;
    json_decref(model);
}

/* The definition: the pair of the lowest rank, the leftmost of equal ones. */
static size_t merge_plainly(const char *word, size_t length, int32_t *ids)
{
    for (size_t i = 0; i < length; i++)
        ids[i] = b.bytes[(unsigned char)word[i]];
    for (;;) {
        const bpe_merge *best = NULL;
        size_t place = 0;
        for (size_t i = 0; i + 1 < length; i++) {
            const bpe_merge *m = bpe_find_merge(&b, ids[i], ids[i + 1]);
            if (m != NULL && (best == NULL || m->rank < best->rank)) {
                best = m;
                place = i;
            }
        }
        if (best == NULL)
            return length;
        ids[place] = best->result;
        memmove(&ids[place + 1], &ids[place + 2], (length - place - 2) * sizeof *ids);
        length--;
    }
}

static size_t random_word(char *word, size_t longest, uint64_t letters)
{
    size_t length = 1 + (size_t)random_below(&r, longest), unit = 1 + (size_t)random_below(&r, 7);
    bool periodic = random_below(&r, 3) == 0;
    for (size_t i = 0; i < length; i++)
        word[i] = periodic && i >= unit ? word[i - unit] : (char)('a' + random_below(&r, letters));
    return length;
}

static void expect_plain(const char *word, size_t length, const char *way)
{
    static int32_t ids[WORD_MAX];
    size_t expected = merge_plainly(word, length, ids);
    ck_assert_msg(sink.count == expected, "%s: %zu tokens of \"%.*s\", expected %zu", way, sink.count, (int)length,
                  word, expected);
    ck_assert_mem_eq(sink.ids, ids, expected * sizeof *ids);
    sink.count = 0;
}

START_TEST(every_way_merges_the_best_pair_first)
{
    char word[WORD_MAX];
    size_t in_order = 0;
    for (size_t round = 0; round < 400; round++) {
        uint64_t letters = 1 + random_below(&r, 4);
        create_random((size_t)random_below(&r, 100), letters,
                      round % 4 < 2 ? MERGES_TRAINED : (merge_kind)(round % 4 - 1));
        in_order += b.in_order;
        for (size_t i = 0; i < 12; i++) {
            size_t length = random_word(word, i < 8 ? 90 : 600, letters);
            ck_assert(bpe_word(&b, word, length, &sink));
            expect_plain(word, length, "word");
            bpe at_once = b; /* the two ways of long words, whatever the length */
            at_once.in_order = false;
            ck_assert(bpe_long_word(&at_once, word, length, &sink, NULL));
            expect_plain(word, length, "heap");
            ck_assert(bpe_long_word(&b, word, length, &sink, NULL));
            expect_plain(word, length, b.in_order ? "lists" : "heap");
        }
        close_all();
    }
    ck_assert_uint_ge(in_order, 200); /* these went through the lists */
    ck_assert_uint_lt(in_order, 400);
}
END_TEST

static const char *const UNITS[] = {"a", "ab", "aab", "abcd", "aaaabaaab", "dcba"};

/* Twice the word takes at most twice the steps, up to those that depend on the vocabulary alone. */
START_TEST(steps_of_a_long_word_double_with_its_length)
{
    for (size_t round = 0; round < 20; round++) {
        create_random(120, 4, MERGES_TRAINED);
        ck_assert(b.in_order);
        const char *unit = UNITS[_i];
        size_t n = strlen(unit), longest = 1 << 18, before = 0;
        char *word = malloc(longest);
        ck_assert_ptr_nonnull(word);
        for (size_t i = 0; i < longest; i++)
            word[i] = unit[i % n];
        for (size_t length = 1 << 12; length <= longest; length *= 2) {
            size_t steps = 0;
            sink.count = 0;
            ck_assert(bpe_long_word(&b, word, length, &sink, &steps));
            ck_assert_msg(steps <= 6 * length + b.ranks, "%zu bytes took %zu steps", length, steps);
            ck_assert_msg(before == 0 || steps <= 2 * before + 1000, "%zu bytes took %zu steps, half of them %zu",
                          length, steps, before);
            before = steps;
        }
        free(word);
        close_all();
    }
}
END_TEST

START_TEST(merges_out_of_order_are_noticed)
{
    json_error_t e;
    json_t *vocab = bytes_vocabulary();
    json_object_set_new(vocab, "ab", json_integer(256));
    json_object_set_new(vocab, "abc", json_integer(257));
    json_t *model = json_pack_ex(&e, 0, "{s:O, s:[[ss][ss]]}", "vocab", vocab, "merges", "ab", "c", "a", "b");
    ck_assert_msg(model != NULL, "%s", e.text);
    ck_ok(bpe_create(&b, model, "model", &error));
    created = true;
    ck_assert(!b.in_order);
    ck_assert(bpe_long_word(&b, "abcab", 5, &sink, NULL));
    ck_assert_uint_eq(sink.count, 2);
    ck_assert_mem_eq(sink.ids, ((const int32_t[]){257, 256}), 8);
    json_decref(model);
    json_decref(vocab);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bpe");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, setup, close_all);
    tcase_add_test(c, every_way_merges_the_best_pair_first);
    tcase_add_loop_test(c, steps_of_a_long_word_double_with_its_length, 0, sizeof UNITS / sizeof UNITS[0]);
    tcase_add_test(c, merges_out_of_order_are_noticed);
    suite_add_tcase(s, c);
    return testing_run(s);
}
