#include "model/wordpiece.h"

#include "base/checked.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

static sem_status build_vocabulary(wordpiece *w, const json_t *vocab, sem_error *err)
{
    size_t count = json_object_size(vocab);
    trie_key *keys = checked_realloc(NULL, count + 1, sizeof *keys);
    if (keys == NULL)
        return sem_fail_memory(err, "the vocabulary");
    size_t used = 0;
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocab, text, id)
    {
        size_t length = strlen(text);
        if (length > 0)
            keys[used++] = (trie_key){text, length, (int32_t)json_integer_value(id)};
    }
    sem_status status = trie_create(&w->vocabulary, keys, used, err);
    free(keys);
    return status;
}

sem_status wordpiece_create(wordpiece *out, const json_t *model, const char *where, sem_error *err)
{
    const char *unknown = "[UNK]", *prefix = "##";
    size_t chars = 100;
    wordpiece w = {0};
    sem_status status = json_get_string(model, where, "unk_token", false, &unknown, err);
    if (status == SEM_OK)
        status = json_get_string(model, where, "continuing_subword_prefix", false, &prefix, err);
    if (status == SEM_OK)
        status = json_get_size(model, where, "max_input_chars_per_word", false, 1, WORDPIECE_CHARS_MAX, &chars, err);
    if (status == SEM_OK)
        status = build_vocabulary(&w, json_object_get(model, "vocab"), err);
    if (status != SEM_OK)
        return status;
    w.word_chars_max = chars;
    w.unknown = trie_find(&w.vocabulary, unknown, strlen(unknown));
    if (w.unknown < 0) {
        trie_free(&w.vocabulary);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model.unk_token \"%s\" is not in model.vocab", where, unknown);
    }
    w.continuing = trie_walk(&w.vocabulary, TRIE_ROOT, prefix, strlen(prefix));
    *out = w;
    return SEM_OK;
}

void wordpiece_free(wordpiece *w)
{
    trie_free(&w->vocabulary);
}

void wordpiece_word(const wordpiece *w, const char *word, size_t length, token_sink *sink)
{
    size_t before = sink->count;
    uint32_t from = TRIE_ROOT;
    for (size_t i = 0; i < length;) {
        size_t matched = 0;
        int32_t id = from == TRIE_NONE ? -1 : trie_longest(&w->vocabulary, from, word + i, length - i, &matched);
        if (id < 0) {
            sink->count = before;
            token_sink_put(sink, w->unknown);
            return;
        }
        token_sink_put(sink, id);
        i += matched;
        from = w->continuing;
    }
}
