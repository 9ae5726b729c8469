#include "model/unigram.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

#define UNREACHED UINT32_MAX

/* An unknown character scores this much less than the least likely piece. */
static const double UNKNOWN_PENALTY = 10.0;

static sem_status read_pieces(unigram *u, const json_t *vocab, const char *where, sem_error *err)
{
    u->count = json_array_size(vocab);
    u->scores = checked_realloc(NULL, u->count + 1, sizeof *u->scores);
    trie_key *keys = checked_realloc(NULL, u->count + 1, sizeof *keys);
    sem_status status = u->scores == NULL || keys == NULL ? sem_fail_memory(err, "the vocabulary") : SEM_OK;
    size_t used = 0;
    double least = 0;
    for (size_t i = 0; status == SEM_OK && i < u->count; i++) {
        const json_t *entry = json_array_get(vocab, i);
        const char *text = json_string_value(json_array_get(entry, 0));
        const json_t *score = json_array_get(entry, 1);
        if (text == NULL || !json_is_number(score))
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.vocab[%zu] is no [piece, score]", where, i);
        u->scores[i] = json_number_value(score);
        if (i == 0 || u->scores[i] < least)
            least = u->scores[i];
        if (text != NULL && text[0] != '\0')
            keys[used++] = (trie_key){text, strlen(text), (int32_t)i};
    }
    u->unknown_score = least - UNKNOWN_PENALTY;
    if (status == SEM_OK)
        status = trie_create(&u->pieces, keys, used, err);
    free(keys);
    return status;
}

sem_status unigram_create(unigram *out, const json_t *model, const char *where, sem_error *err)
{
    unigram u = {.count = 0};
    bool byte_fallback = false;
    size_t unknown = 0;
    const json_t *vocab = json_object_get(model, "vocab");
    size_t count = json_array_size(vocab);
    sem_status status = json_get_bool(model, where, "byte_fallback", false, &byte_fallback, err);
    if (status == SEM_OK && byte_fallback)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.byte_fallback is not supported with Unigram", where);
    if (status == SEM_OK && count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.vocab is empty, expected it to hold unk_id", where);
    if (status == SEM_OK)
        status = json_get_size(model, where, "unk_id", true, 0, count - 1, &unknown, err);
    if (status == SEM_OK)
        status = read_pieces(&u, vocab, where, err);
    if (status != SEM_OK) {
        unigram_free(&u);
        return status;
    }
    u.unknown = (int32_t)unknown;
    *out = u;
    return SEM_OK;
}

void unigram_free(unigram *u)
{
    trie_free(&u->pieces);
    free(u->scores);
    u->scores = NULL;
}

static bool reserve(unigram_scratch *s, size_t nodes)
{
    if (nodes <= s->capacity)
        return true;
    size_t capacity = nodes + nodes / 2;
    unigram_node *grown = checked_realloc(s->nodes, capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    s->nodes = grown;
    s->capacity = capacity;
    return true;
}

static inline void offer(unigram_node *node, double score, size_t start, int32_t id)
{
    if (node->start == UNREACHED || score > node->score)
        *node = (unigram_node){score, (uint32_t)start, id};
}

/* All pieces that begin at i, a character of `width` bytes. */
static void extend(const unigram *u, unigram_node *nodes, const char *word, size_t length, size_t i, size_t width)
{
    double here = i == 0 ? 0 : nodes[i].score;
    bool alone = false; /* there is a piece of just this character */
    uint32_t node = TRIE_ROOT;
    for (size_t j = i; j < length;) {
        node = trie_step(&u->pieces, node, (unsigned char)word[j++]);
        if (node == TRIE_NONE)
            break;
        int32_t id = u->pieces.units[node].value;
        if (id < 0)
            continue;
        offer(&nodes[j], here + u->scores[id], i, id);
        alone = alone || j - i == width;
    }
    if (!alone)
        offer(&nodes[i + width], here + u->unknown_score, i, u->unknown);
}

bool unigram_word(const unigram *u, unigram_scratch *scratch, const char *word, size_t length, token_sink *sink)
{
    if (length >= UNREACHED || !reserve(scratch, length + 1))
        return false;
    unigram_node *nodes = scratch->nodes;
    for (size_t i = 0; i <= length; i++)
        nodes[i].start = UNREACHED;
    for (size_t i = 0; i < length;) {
        uint32_t code;
        size_t width = utf8_decode(word + i, length - i, &code);
        extend(u, nodes, word, length, i, width);
        i += width;
    }
    /* Backwards from the end, turning the links around; then forwards. */
    size_t count = 0;
    uint32_t end = (uint32_t)length, after = UNREACHED;
    while (end > 0) {
        uint32_t start = nodes[end].start;
        int32_t id = nodes[end].id;
        nodes[end].start = after; /* now: the end of the piece that follows */
        if (after == UNREACHED || id != u->unknown || nodes[after].id != u->unknown)
            count++;
        after = end;
        end = start;
    }
    if (!token_sink_reserve(sink, count))
        return false;
    int32_t last = -1;
    for (uint32_t i = after; i != UNREACHED && !token_sink_full(sink); i = nodes[i].start) {
        if (nodes[i].id != u->unknown || last != u->unknown)
            token_sink_put(sink, nodes[i].id);
        last = nodes[i].id;
    }
    return true;
}
