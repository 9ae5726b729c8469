#include "model/vocab_extend.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/utf8.h"
#include "model/bert_text.h"
#include "model/json.h"
#include "model/unigram.h"
#include "model/wordpiece.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char WORD_BEGINS[] = "\xe2\x96\x81"; /* U+2581 */
enum { MARK_BYTES = sizeof WORD_BEGINS - 1, PIECE_MOST = 256 /* bytes of a new piece */ };

/* A vocabulary that grows. */
typedef struct growing {
    const char *where;
    json_t *vocab;      /* of the file: an object, or for Unigram an array */
    json_t *added;      /* set of the pieces that are there, by text, where vocab is an array */
    const char *prefix; /* WordPiece: of what continues a word */
    bool signs_apart;   /* words end before a sign: none continues one */
    wordpiece words;    /* of the pieces that were there */
    unigram scored;
    text_scratch scratch;
    token_sink cut; /* the last piece, in old ones */
    double least;   /* Unigram: lowest score of a piece that was there */
    vocab_extension *out;
    size_t source_count, source_room;
} growing;

void vocab_extension_free(vocab_extension *e)
{
    free(e->sources);
    free(e->starts);
    *e = (vocab_extension){0};
}

static void growing_free(growing *g)
{
    wordpiece_free(&g->words);
    unigram_free(&g->scored);
    text_scratch_free(&g->scratch);
    free(g->cut.ids);
    json_decref(g->added);
}

/* Notes the new piece with the old ones that are now in g->cut. */
static sem_status note(growing *g, sem_error *err)
{
    vocab_extension *e = g->out;
    const size_t needed = g->source_count + g->cut.count;
    if (needed > g->source_room) {
        int32_t *grown = checked_realloc(e->sources, 2 * needed, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the new pieces");
        e->sources = grown;
        g->source_room = 2 * needed;
    }
    if (e->count % 1024 == 0) {
        size_t *grown = checked_realloc(e->starts, e->count + 1025, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the new pieces");
        e->starts = grown;
        e->starts[0] = 0;
    }
    memcpy(e->sources + g->source_count, g->cut.ids, g->cut.count * sizeof *e->sources);
    g->source_count = needed;
    e->starts[++e->count] = needed;
    return SEM_OK;
}

/* Room for the pieces of a text of so many bytes. */
static sem_status begin_cut(growing *g, size_t bytes, sem_error *err)
{
    g->cut.count = g->cut.start = 0;
    g->cut.limit = bytes + 1;
    g->cut.scratch = &g->scratch;
    return token_sink_reserve(&g->cut, bytes + 1) ? SEM_OK : sem_fail_memory(err, "the new pieces");
}

/* --- WordPiece */

/* Adds the piece, which is written as the vocabulary has it, if it is not there. */
static sem_status add_word(growing *g, const char *text, bool *was_there, sem_error *err)
{
    const size_t length = strlen(text), prefix = strlen(g->prefix);
    const bool sign = length == prefix + 1 && strncmp(text, g->prefix, prefix) == 0 &&
                      ispunct((unsigned char)text[prefix]);
    *was_there = json_object_get(g->vocab, text) != NULL || (sign && g->signs_apart);
    if (*was_there)
        return SEM_OK;
    sem_status status = begin_cut(g, length, err);
    if (status != SEM_OK)
        return status;
    /* What continues a word is found from the root too: its pieces are written with their prefix. */
    wordpiece_word(&g->words, text, length, &g->cut);
    size_t matched = 0;
    if (strncmp(text, g->prefix, prefix) == 0 && length > prefix &&
        (trie_longest(&g->words.vocabulary, TRIE_ROOT, text, length, &matched) < 0 || matched <= prefix)) {
        g->cut.count = 0;
        token_sink_put(&g->cut, g->words.unknown);
    }
    if (json_object_set_new(g->vocab, text, json_integer((json_int_t)g->out->first + (json_int_t)g->out->count)) != 0)
        return sem_fail_memory(err, "the new pieces");
    return note(g, err);
}

/* The piece as WordPiece writes it; false: it is none. */
static bool write_word(const growing *g, const char *text, char out[PIECE_MOST])
{
    const bool begins = strncmp(text, WORD_BEGINS, MARK_BYTES) == 0;
    const char *rest = begins ? text + MARK_BYTES : text;
    /* Of a mark within it the word would be cut there. */
    if (rest[0] == '\0' || strstr(rest, WORD_BEGINS) != NULL)
        return false;
    const int length = snprintf(out, PIECE_MOST, "%s%s", begins ? "" : g->prefix, rest);
    return length > 0 && length < PIECE_MOST;
}

/* Each character of the piece, as one that continues a word. */
static sem_status add_characters(growing *g, const char *piece, sem_error *err)
{
    char text[PIECE_MOST];
    bool known;
    sem_status status = SEM_OK;
    const size_t length = strlen(piece);
    for (size_t i = 0; i < length && status == SEM_OK;) {
        uint32_t code;
        const size_t width = utf8_decode(piece + i, length - i, &code);
        snprintf(text, sizeof text, "%s%.*s", g->prefix, (int)width, piece + i);
        status = add_word(g, text, &known, err);
        i += width;
    }
    return status;
}

static bool is_special(const json_t *root, const char *text)
{
    size_t i;
    json_t *token;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        if (content != NULL && strcmp(content, text) == 0)
            return true;
    }
    return false;
}

/* All that the vocabulary is written with: what a word holds that was whole before must
 * be possible behind a new piece. */
static sem_status close_alphabet(growing *g, const json_t *root, sem_error *err)
{
    const size_t count = json_object_size(g->vocab), prefix = strlen(g->prefix);
    const char **texts = checked_realloc(NULL, count + 1, sizeof(const char *)), *text;
    if (texts == NULL)
        return sem_fail_memory(err, "the new pieces");
    size_t used = 0;
    json_t *id;
    sem_status status = SEM_OK;
    json_object_foreach(g->vocab, text, id) texts[used++] = text;
    for (size_t i = 0; i < used && status == SEM_OK; i++) {
        const bool continues = strncmp(texts[i], g->prefix, prefix) == 0 && texts[i][prefix] != '\0';
        if (!is_special(root, texts[i]))
            status = add_characters(g, continues ? texts[i] + prefix : texts[i], err);
    }
    free(texts);
    return status;
}

static sem_status extend_words(growing *g, json_t *root, const json_t *model, const vocab_piece *pieces, size_t count,
                               sem_error *err)
{
    int64_t last = -1;
    const char *key;
    json_t *id, *token;
    size_t i;
    g->prefix = "##";
    g->signs_apart = bert_text_fits(root);
    sem_status status = wordpiece_create(&g->words, model, g->where, err);
    if (status == SEM_OK)
        status = json_get_string(model, g->where, "continuing_subword_prefix", false, &g->prefix, err);
    if (status != SEM_OK)
        return status;
    json_object_foreach(g->vocab, key, id) last = json_integer_value(id) > last ? json_integer_value(id) : last;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        const int64_t taken = json_integer_value(json_object_get(token, "id"));
        last = taken > last ? taken : last;
    }
    g->out->first = (size_t)(last + 1);
    for (i = 0; i < count && status == SEM_OK; i++) {
        char text[PIECE_MOST];
        bool known = true;
        if (write_word(g, pieces[i].text, text))
            status = add_word(g, text, &known, err);
        g->out->known += known;
    }
    return status == SEM_OK ? close_alphabet(g, root, err) : status;
}

/* --- Unigram */

/* The sum of the scores of the piece's best way in old pieces, which is left in g->cut. */
static sem_status score_of_old(growing *g, const char *text, double *score, sem_error *err)
{
    const size_t length = strlen(text);
    sem_status status = begin_cut(g, length, err);
    if (status != SEM_OK)
        return status;
    if (!unigram_word(&g->scored, text, length, &g->cut))
        return sem_fail_memory(err, "the new pieces");
    *score = 0;
    for (size_t i = 0; i < g->cut.count; i++)
        *score += g->cut.ids[i] == g->scored.unknown ? g->scored.unknown_score : g->scored.scores[g->cut.ids[i]];
    return SEM_OK;
}

static sem_status extend_scored(growing *g, const json_t *root, const json_t *model, const vocab_piece *pieces,
                                size_t count, sem_error *err)
{
    size_t i;
    json_t *entry, *token;
    g->out->first = json_array_size(g->vocab);
    g->added = json_object();
    sem_status status = g->added == NULL ? sem_fail_memory(err, "the vocabulary")
                                         : unigram_create(&g->scored, model, g->where, err);
    if (status != SEM_OK)
        return status;
    json_array_foreach(json_object_get(root, "added_tokens"), i, token)
    {
        if (json_integer_value(json_object_get(token, "id")) >= (json_int_t)g->out->first)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: the added token %s lies behind the vocabulary, where its new pieces would be",
                            g->where, json_string_value(json_object_get(token, "content")));
    }
    json_array_foreach(g->vocab, i, entry)
    {
        const double score = json_number_value(json_array_get(entry, 1));
        g->least = i == 0 || score < g->least ? score : g->least;
        if (json_object_set_new(g->added, json_string_value(json_array_get(entry, 0)), json_true()) != 0)
            return sem_fail_memory(err, "the vocabulary");
    }
    for (i = 0; i < count && status == SEM_OK; i++) {
        /* Below the least one, and the score of unknown characters would change. */
        const double score = pieces[i].score > g->least ? pieces[i].score : g->least;
        double old = 0;
        const char *text = pieces[i].text;
        status = score_of_old(g, text, &old, err);
        const bool known = text[0] == '\0' || strlen(text) >= PIECE_MOST || json_object_get(g->added, text) != NULL ||
                           score <= old;
        g->out->known += known;
        if (status != SEM_OK || known)
            continue;
        if (json_object_set_new(g->added, text, json_true()) != 0 ||
            json_array_append_new(g->vocab, json_pack("[s, f]", text, score)) != 0)
            return sem_fail_memory(err, "the new pieces");
        status = note(g, err);
    }
    return status;
}

/* --- both */

sem_status vocab_extend(json_t *root, const vocab_piece *pieces, size_t count, const char *where, vocab_extension *out,
                        sem_error *err)
{
    *out = (vocab_extension){0};
    json_t *model = json_object_get(root, "model"), *old = json_deep_copy(model);
    growing g = {.where = where, .vocab = json_object_get(model, "vocab"), .out = out};
    const char *type = json_string_value(json_object_get(model, "type"));
    sem_status status;
    if (old == NULL)
        return sem_fail_memory(err, "the vocabulary");
    if (json_is_array(g.vocab))
        status = extend_scored(&g, root, old, pieces, count, err);
    else if (json_is_object(g.vocab) && json_object_get(model, "merges") == NULL)
        status = extend_words(&g, root, old, pieces, count, err);
    else
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: a vocabulary of type %s cannot be extended; WordPiece and Unigram can", where,
                          type != NULL ? type : "unknown");
    growing_free(&g);
    json_decref(old);
    return status;
}
