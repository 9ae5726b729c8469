#include "model/bpe.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "model/bpe_long.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT_WORD = 64,       /* symbols; up to this the best pair is looked for one by one */
    BYTE_TOKEN_MAX = 1024, /* bytes of a token's text */
    NO_RANK = INT32_MAX
};

/* --- merges */

static int32_t find_rank(const bpe *b, int32_t left, int32_t right)
{
    const bpe_merge *m = bpe_find_merge(b, left, right);
    return m == NULL ? NO_RANK : m->rank;
}

/* Of a pair that is listed twice the last one counts. */
static void add_merge(bpe *b, bpe_merge merge)
{
    size_t i = bpe_hash_pair(merge.left, merge.right) & b->mask;
    while (b->merges[i].left >= 0 && !(b->merges[i].left == merge.left && b->merges[i].right == merge.right))
        i = (i + 1) & b->mask;
    b->merges[i] = merge;
}

/* --- one word */

static bool put_short(const bpe *b, const char *word, size_t length, token_sink *sink)
{
    int32_t ids[SHORT_WORD], ranks[SHORT_WORD];
    size_t n = length;
    for (size_t i = 0; i < n; i++)
        ids[i] = b->bytes[(unsigned char)word[i]];
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = find_rank(b, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == NO_RANK)
            break;
        ids[best] = bpe_find_merge(b, ids[best], ids[best + 1])->result;
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 2) * sizeof ids[0]);
        memmove(&ranks[best], &ranks[best + 1], (n - best - 2) * sizeof ranks[0]);
        n--;
        if (best + 1 < n)
            ranks[best] = find_rank(b, ids[best], ids[best + 1]);
        if (best > 0)
            ranks[best - 1] = find_rank(b, ids[best - 1], ids[best]);
    }
    if (!token_sink_reserve(sink, n))
        return false;
    for (size_t i = 0; i < n; i++)
        token_sink_put(sink, ids[i]);
    return true;
}

bool bpe_word(const bpe *b, const char *word, size_t length, token_sink *sink)
{
    int32_t whole = trie_find(&b->words, word, length);
    if (whole < 0)
        return length <= SHORT_WORD ? put_short(b, word, length, sink) : bpe_long_word(b, word, length, sink, NULL);
    if (!token_sink_reserve(sink, 1))
        return false;
    token_sink_put(sink, whole);
    return true;
}

/* --- reading */

/* The character by which a byte is written in the vocabulary: printable ones
 * stand for themselves, the rest for U+0100 and up, in order. */
static void byte_characters(uint32_t out[256])
{
    uint32_t spare = 0x100;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        out[byte] = printable ? byte : spare++;
    }
}

/* The bytes that a token of the vocabulary stands for; 0 where it holds a character that stands for none. */
static size_t token_bytes(const uint32_t characters[256], const char *text, char *out)
{
    size_t length = strlen(text), count = 0;
    if (length > BYTE_TOKEN_MAX)
        return 0;
    for (size_t i = 0; i < length;) {
        uint32_t code, byte = 0;
        i += utf8_decode(text + i, length - i, &code);
        while (byte < 256 && characters[byte] != code)
            byte++;
        if (byte == 256)
            return 0;
        out[count++] = (char)byte;
    }
    return count;
}

static int32_t find_id(const json_t *vocab, const char *text)
{
    const json_t *id = json_object_get(vocab, text);
    return id == NULL ? -1 : (int32_t)json_integer_value(id);
}

static sem_status read_bytes(bpe *b, const json_t *vocab, const uint32_t characters[256], const char *where,
                             sem_error *err)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[5] = {0};
        utf8_encode(characters[byte], text);
        b->bytes[byte] = find_id(vocab, text);
        if (b->bytes[byte] < 0)
            return sem_fail(
                err, SEM_INVALID_ARGUMENT,
                "%s: model.vocab has no token for byte %u, written \"%s\": only byte-level BPE is supported", where,
                byte, text);
    }
    return SEM_OK;
}

/* The halves of a merge, ["a", "b"] or "a b", copied one behind the other into
 * pair; *right is where the second begins. */
static bool split_merge(const json_t *item, char pair[2 * BYTE_TOKEN_MAX + 2], char **right)
{
    const char *first = json_string_value(json_is_array(item) ? json_array_get(item, 0) : item);
    const char *second = json_is_array(item) ? json_string_value(json_array_get(item, 1)) : NULL;
    if (json_is_array(item) && (json_array_size(item) != 2 || second == NULL))
        return false;
    if (first == NULL)
        return false;
    size_t n = strlen(first);
    if (second == NULL) {
        const char *space = strchr(first, ' ');
        if (space == NULL)
            return false;
        n = (size_t)(space - first);
        second = space + 1;
    }
    if (n > BYTE_TOKEN_MAX || strlen(second) > BYTE_TOKEN_MAX)
        return false;
    memcpy(pair, first, n);
    pair[n] = '\0';
    *right = pair + n + 1;
    memcpy(*right, second, strlen(second) + 1);
    return true;
}

static sem_status read_merge(bpe *b, const json_t *vocab, const json_t *item, size_t rank, const char *where,
                             sem_error *err)
{
    char pair[2 * BYTE_TOKEN_MAX + 2], joined[2 * BYTE_TOKEN_MAX + 2];
    char *right;
    if (!split_merge(item, pair, &right))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: merge %zu is %s, expected two tokens of at most %d bytes",
                        where, rank, json_type_name(item), BYTE_TOKEN_MAX);
    size_t n = strlen(pair);
    memcpy(joined, pair, n);
    memcpy(joined + n, right, strlen(right) + 1);
    bpe_merge m = {find_id(vocab, pair), find_id(vocab, right), (int32_t)rank, find_id(vocab, joined)};
    if (m.left < 0 || m.right < 0 || m.result < 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: merge %zu joins \"%.64s\" and \"%.64s\", but model.vocab does not have both and \"%.64s\"",
                        where, rank, pair, right, joined);
    add_merge(b, m);
    return SEM_OK;
}

static sem_status read_merges(bpe *b, const json_t *vocab, const json_t *merges, const char *where, sem_error *err)
{
    if (!json_is_array(merges) || json_array_size(merges) >= NO_RANK)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.merges is %s, expected an array", where,
                        json_type_name(merges));
    size_t entries = 16;
    while (entries < 2 * json_array_size(merges) + 2)
        entries *= 2;
    b->mask = entries - 1;
    b->ranks = json_array_size(merges);
    b->merges = checked_realloc(NULL, entries, sizeof *b->merges);
    if (b->merges == NULL)
        return sem_fail_memory(err, "the merges");
    for (size_t i = 0; i < entries; i++)
        b->merges[i] = (bpe_merge){-1, -1, 0, 0};
    for (size_t i = 0; i < json_array_size(merges); i++) {
        sem_status status = read_merge(b, vocab, json_array_get(merges, i), i, where, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* A pair that a merge brings about must come later than that merge. */
static sem_status check_order(bpe *b, sem_error *err)
{
    int32_t last = 0;
    for (size_t i = 0; i <= b->mask; i++) {
        const bpe_merge *m = &b->merges[i];
        last = m->left > last ? m->left : last;
        last = m->right > last ? m->right : last;
        last = m->result > last ? m->result : last;
    }
    int32_t *made = checked_realloc(NULL, (size_t)last + 1, sizeof *made); /* rank of the last merge to a token */
    if (made == NULL)
        return sem_fail_memory(err, "the merges");
    for (int32_t i = 0; i <= last; i++)
        made[i] = -1;
    for (size_t i = 0; i <= b->mask; i++) {
        const bpe_merge *m = &b->merges[i];
        if (m->left >= 0 && m->rank > made[m->result])
            made[m->result] = m->rank;
    }
    b->in_order = true;
    for (size_t i = 0; i <= b->mask; i++) {
        const bpe_merge *m = &b->merges[i];
        b->in_order = b->in_order && (m->left < 0 || (made[m->left] < m->rank && made[m->right] < m->rank));
    }
    free(made);
    return SEM_OK;
}

/* Nearly every token of a trained vocabulary comes out whole when its own bytes
 * are encoded. Those are found by one walk of the trie instead of by merging. */
static sem_status build_words(bpe *b, const json_t *vocab, const uint32_t characters[256], sem_error *err)
{
    size_t count = json_object_size(vocab), used = 0, room = 0, filled = 0;
    char raw[BYTE_TOKEN_MAX];
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocab, text, id) room += strlen(text);
    trie_key *keys = checked_realloc(NULL, count + 1, sizeof *keys);
    char *bytes = malloc(room + 1);
    text_scratch scratch = {.marks = {0}};
    token_sink sink = {.limit = 1, .scratch = &scratch};
    sem_status status = keys == NULL || bytes == NULL ? sem_fail_memory(err, "the vocabulary") : SEM_OK;
    json_object_foreach((json_t *)vocab, text, id)
    {
        size_t n = status == SEM_OK ? token_bytes(characters, text, raw) : 0;
        sink.count = 0;
        if (n == 0)
            continue;
        if (n <= SHORT_WORD ? !put_short(b, raw, n, &sink) : !bpe_long_word(b, raw, n, &sink, NULL))
            status = sem_fail_memory(err, "the vocabulary");
        if (status != SEM_OK || sink.count != 1 || sink.ids[0] != json_integer_value(id))
            continue;
        memcpy(bytes + filled, raw, n);
        keys[used++] = (trie_key){bytes + filled, n, (int32_t)json_integer_value(id)};
        filled += n;
    }
    if (status == SEM_OK)
        status = trie_create(&b->words, keys, used, err);
    text_scratch_free(&scratch);
    free(sink.ids);
    free(bytes);
    free(keys);
    return status;
}

/* Options of other kinds of BPE. */
static sem_status refuse_options(const json_t *model, const char *where, sem_error *err)
{
    static const char *const TEXTS[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const FLAGS[] = {"byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof TEXTS[0]; i++) {
        const char *text = "";
        sem_status status = json_get_string(model, where, TEXTS[i], false, &text, err);
        if (status != SEM_OK)
            return status;
        if (text[0] != '\0')
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.%s \"%.32s\" is not supported with BPE", where,
                            TEXTS[i], text);
    }
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++) {
        bool set = false;
        sem_status status = json_get_bool(model, where, FLAGS[i], false, &set, err);
        if (status != SEM_OK)
            return status;
        if (set)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.%s is not supported with BPE", where, FLAGS[i]);
    }
    double dropout = 0;
    sem_status status = json_get_double(model, where, "dropout", false, &dropout, err);
    if (status == SEM_OK && dropout != 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.dropout %g is not supported", where, dropout);
    return status;
}

sem_status bpe_create(bpe *out, const json_t *model, const char *where, sem_error *err)
{
    uint32_t characters[256];
    bpe b = {.mask = 0};
    const json_t *vocab = json_object_get(model, "vocab");
    byte_characters(characters);
    sem_status status = refuse_options(model, where, err);
    if (status == SEM_OK)
        status = read_bytes(&b, vocab, characters, where, err);
    if (status == SEM_OK)
        status = read_merges(&b, vocab, json_object_get(model, "merges"), where, err);
    if (status == SEM_OK)
        status = check_order(&b, err);
    if (status == SEM_OK)
        status = build_words(&b, vocab, characters, err);
    if (status != SEM_OK) {
        bpe_free(&b);
        return status;
    }
    *out = b;
    return SEM_OK;
}

void bpe_free(bpe *b)
{
    free(b->merges);
    trie_free(&b->words);
    b->merges = NULL;
}
