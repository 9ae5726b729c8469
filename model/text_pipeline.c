#include "model/text_pipeline.h"

#include "model/bpe.h"
#include "model/json.h"
#include "model/normalizer.h"
#include "model/splitter.h"
#include "model/unigram.h"
#include "model/wordpiece.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 16 << 10 }; /* a long text is taken in pieces that are hardly longer, if they can be cut */

typedef struct text_pipeline {
    normalizer normal;
    splitter split;
    splitter_put *put; /* of the kind of words */
    wordpiece pieces;
    bpe merges;
    unigram scores;
    bool local; /* a text may be cut between words of ASCII letters */
} text_pipeline;

/* One text on its way. */
typedef struct passage {
    const text_pipeline *t;
    token_sink *sink;
} passage;

static size_t count_chars(const char *word, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)word[i] & 0xC0) != 0x80;
    return count;
}

static bool put_wordpiece(void *context, const char *word, size_t length)
{
    passage *p = context;
    const wordpiece *w = &p->t->pieces;
    bool too_long = length > w->word_chars_max && count_chars(word, length) > w->word_chars_max;
    if (!token_sink_reserve(p->sink, too_long ? 1 : length))
        return false;
    if (too_long)
        token_sink_put(p->sink, w->unknown);
    else
        wordpiece_word(w, word, length, p->sink);
    return true;
}

static bool put_bpe(void *context, const char *word, size_t length)
{
    passage *p = context;
    return bpe_word(&p->t->merges, word, length, p->sink);
}

static bool put_unigram(void *context, const char *word, size_t length)
{
    passage *p = context;
    return unigram_word(&p->t->scores, word, length, p->sink);
}

static sem_status encode_normalized(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                                    sem_error *err)
{
    passage p = {.t = state, .sink = sink};
    bool ok = splitter_run(&p.t->split, text, length, first, sink, p.t->put, &p);
    return ok ? SEM_OK : sem_fail_memory(err, "the tokens of a text");
}

static sem_status normalize(const void *state, const char *text, size_t length, text_scratch *scratch, buffer *out,
                            bool *first, sem_error *err)
{
    const text_pipeline *t = state;
    return normalizer_apply(&t->normal, text, length, scratch, out, first, err);
}

static sem_status encode_piece(const text_pipeline *t, const char *text, size_t length, bool first, token_sink *sink,
                               sem_error *err)
{
    if (t->normal.count == 0)
        return encode_normalized(t, text, length, first, sink, err);
    buffer *normal = text_scratch_empty(sink->scratch, TEXT_NORMAL);
    sem_status status = normalizer_apply(&t->normal, text, length, sink->scratch, normal, &first, err);
    if (status == SEM_OK && normal->size > 0)
        status = encode_normalized(t, (const char *)normal->data, normal->size, first, sink, err);
    return status;
}

/* The next place from i that normalizer_is_local() and splitter_is_local() speak of, else length. */
static size_t find_cut(const char *text, size_t length, size_t i)
{
    size_t letters = 0, space = length, behind = 0;
    for (; i < length; i++) {
        unsigned char small = (unsigned char)text[i] | 0x20;
        if (small >= 'a' && small <= 'z') {
            letters++;
            if (space < length && ++behind == NORMALIZER_CONTEXT)
                return space;
            continue;
        }
        space = text[i] == ' ' && letters >= NORMALIZER_CONTEXT ? i : length;
        letters = behind = 0;
    }
    return length;
}

/* In pieces, so that a long text takes no more room than a piece and is left early. */
static sem_status encode(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                         sem_error *err)
{
    const text_pipeline *t = state;
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < length && !token_sink_full(sink);) {
        size_t end = t->local && length - i > PIECE_BYTES ? find_cut(text, length, i + PIECE_BYTES) : length;
        status = encode_piece(t, text + i, end - i, first && i == 0, sink, err);
        i = end;
    }
    return status;
}

static void destroy(void *state)
{
    text_pipeline *t = state;
    if (t == NULL)
        return;
    normalizer_free(&t->normal);
    splitter_free(&t->split);
    wordpiece_free(&t->pieces);
    bpe_free(&t->merges);
    unigram_free(&t->scores);
    free(t);
}

static sem_status create_words(text_pipeline *t, const json_t *model, const char *type, const char *where,
                               sem_error *err)
{
    bool bytes = strcmp(type, "BPE") == 0;
    if (bytes != t->split.byte_level)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s %s a ByteLevel as the last pre_tokenizer is not supported",
                        where, type, bytes ? "without" : "with");
    if (bytes) {
        t->put = put_bpe;
        return bpe_create(&t->merges, model, where, err);
    }
    if (strcmp(type, "Unigram") == 0) {
        t->put = put_unigram;
        return unigram_create(&t->scores, model, where, err);
    }
    t->put = put_wordpiece;
    return wordpiece_create(&t->pieces, model, where, err);
}

sem_status text_pipeline_create(token_model *out, const json_t *root, const char *type, const char *where,
                                sem_error *err)
{
    text_pipeline *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a tokenizer");
    sem_status status = normalizer_create(&t->normal, json_object_get(root, "normalizer"), where, err);
    if (status == SEM_OK)
        status = splitter_create(&t->split, json_object_get(root, "pre_tokenizer"), where, err);
    if (status == SEM_OK && t->split.uses_first &&
        (t->normal.hides_first || (t->normal.count > 0 && t->split.count > 1)))
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: pre_tokenizer Metaspace with prepend_scheme first is not supported behind a normalizer "
                          "and other steps that may remove the beginning of a text",
                          where);
    if (status == SEM_OK)
        status = create_words(t, json_object_get(root, "model"), type, where, err);
    if (status != SEM_OK) {
        destroy(t);
        return status;
    }
    t->local = normalizer_is_local(&t->normal) && splitter_is_local(&t->split);
    *out = (token_model){t, encode, normalize, encode_normalized, destroy};
    return SEM_OK;
}
