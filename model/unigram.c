#include "model/unigram.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES_MAX = 4096 }; /* bounds the work at every byte of a text; the longest in use have a few dozen */

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
        size_t length = text == NULL ? 0 : strlen(text);
        if (length > PIECE_BYTES_MAX)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.vocab[%zu] has %zu bytes, at most %d are taken",
                              where, i, length, PIECE_BYTES_MAX);
        while (u->window <= length)
            u->window *= 2;
        if (length > 0)
            keys[used++] = (trie_key){text, length, (int32_t)i};
    }
    u->unknown_score = least - UNKNOWN_PENALTY;
    if (status == SEM_OK)
        status = trie_create(&u->pieces, keys, used, err);
    free(keys);
    return status;
}

sem_status unigram_create(unigram *out, const json_t *model, const char *where, sem_error *err)
{
    unigram u = {.window = 8};
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

/* A word and the best ways into it as far as they are known. */
typedef struct lattice {
    const unigram *u;
    unigram_node *nodes;
    double *scores; /* [window] of the bytes that are within reach, each at its place modulo the window */
    const char *word;
    size_t length;
} lattice;

static inline void offer(const lattice *w, size_t end, double score, size_t length, int32_t id)
{
    double *best = &w->scores[end & (w->u->window - 1)];
    if (w->nodes[end].length != 0 && score <= *best)
        return;
    *best = score;
    w->nodes[end] = (unigram_node){(uint32_t)length, id};
}

/* All pieces that begin at i, a character of `width` bytes. */
static void extend(const lattice *w, size_t i, size_t width)
{
    const trie *pieces = &w->u->pieces;
    double here = i == 0 ? 0 : w->scores[i & (w->u->window - 1)];
    bool alone = false; /* there is a piece of just this character */
    uint32_t node = TRIE_ROOT;
    for (size_t j = i; j < w->length;) {
        node = trie_step(pieces, node, (unsigned char)w->word[j++]);
        if (node == TRIE_NONE)
            break;
        int32_t id = pieces->units[node].value;
        if (id < 0)
            continue;
        offer(w, j, here + w->u->scores[id], j - i, id);
        alone = alone || j - i == width;
    }
    if (!alone)
        offer(w, i + width, here + w->u->unknown_score, width, w->u->unknown);
}

bool unigram_word(const unigram *u, const char *word, size_t length, token_sink *sink)
{
    if (length >= UINT32_MAX)
        return false;
    unigram_node *nodes = text_scratch_room(sink->scratch, TEXT_LINKS, (length + 1) * sizeof *nodes);
    double *scores = text_scratch_room(sink->scratch, TEXT_SCORES, u->window * sizeof *scores);
    if (nodes == NULL || scores == NULL)
        return false;
    const lattice w = {u, nodes, scores, word, length};
    memset(nodes, 0, (length + 1) * sizeof *nodes);
    for (size_t i = 0; i < length;) {
        uint32_t code;
        size_t width = utf8_decode(word + i, length - i, &code);
        extend(&w, i, width);
        i += width;
    }
    /* Backwards from the end, turning the links around; then forwards. */
    size_t count = 0;
    uint32_t after = 0; /* length of the piece behind the one at hand */
    for (size_t end = length; end > 0;) {
        uint32_t bytes = nodes[end].length;
        if (after == 0 || nodes[end].id != u->unknown || nodes[end + after].id != u->unknown)
            count++;
        nodes[end].length = after;
        after = bytes;
        end -= bytes;
    }
    if (!token_sink_reserve(sink, count))
        return false;
    int32_t last = -1;
    for (size_t end = after; after != 0 && !token_sink_full(sink); end += after) {
        if (nodes[end].id != u->unknown || last != u->unknown)
            token_sink_put(sink, nodes[end].id);
        last = nodes[end].id;
        after = nodes[end].length;
    }
    return true;
}
