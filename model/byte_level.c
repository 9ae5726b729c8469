#include "model/byte_level.h"

#include "base/utf8.h"
#include "model/bpe.h"
#include "model/characters.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

typedef enum split_class { SPLIT_LETTER, SPLIT_NUMBER, SPLIT_SPACE, SPLIT_OTHER } split_class;

typedef struct byte_level {
    bpe merges;
    bool add_prefix_space;
    unsigned char classes[0x10000]; /* split_class of the Basic Multilingual Plane */
} byte_level;

static split_class classify(uint32_t code)
{
    return char_is_white_space(code) ? SPLIT_SPACE
           : char_is_letter(code)    ? SPLIT_LETTER
           : char_is_number(code)    ? SPLIT_NUMBER
                                     : SPLIT_OTHER;
}

/* The class of the character at i; *end is where it ends. */
static inline split_class class_at(const byte_level *t, const char *text, size_t length, size_t i, size_t *end)
{
    uint32_t code;
    *end = i + utf8_decode(text + i, length - i, &code);
    return code < 0x10000 ? (split_class)t->classes[code] : classify(code);
}

/* 's 't 're 've 'm 'll 'd: the length at text, or 0. */
static size_t contraction(const char *text, size_t length)
{
    if (length >= 2 && memchr("stmd", text[1], 4) != NULL)
        return 2;
    if (length >= 3 && ((text[1] == 'r' && text[2] == 'e') || (text[1] == 'v' && text[2] == 'e') ||
                        (text[1] == 'l' && text[2] == 'l')))
        return 3;
    return 0;
}

/* White space from i: all of it at the end of the text, else without its last
 * character (which begins the next word), but at least one character. */
static size_t space_end(const byte_level *t, const char *text, size_t length, size_t i)
{
    size_t last = i, end = i, next;
    while (end < length && class_at(t, text, length, end, &next) == SPLIT_SPACE) {
        last = end;
        end = next;
    }
    return end == length || last == i ? end : last;
}

/* Where the word that begins at i ends. The pattern is
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t word_end(const byte_level *t, const char *text, size_t length, size_t i)
{
    if (text[i] == '\'') {
        size_t n = contraction(text + i, length - i);
        if (n > 0)
            return i + n;
    }
    size_t end;
    split_class class = class_at(t, text, length, i, &end);
    if (text[i] == ' ' && end < length) {
        size_t after;
        split_class following = class_at(t, text, length, end, &after);
        if (following != SPLIT_SPACE) {
            class = following;
            end = after;
        }
    }
    if (class == SPLIT_SPACE)
        return space_end(t, text, length, i);
    size_t next;
    while (end < length && class_at(t, text, length, end, &next) == class)
        end = next;
    return end;
}

static sem_status encode_words(const byte_level *t, const char *text, size_t length, token_sink *sink, sem_error *err)
{
    for (size_t i = 0; i < length && !token_sink_full(sink);) {
        size_t end = word_end(t, text, length, i);
        if (!bpe_word(&t->merges, text + i, end - i, sink))
            return sem_fail_memory(err, "the tokens of a text");
        i = end;
    }
    return SEM_OK;
}

static sem_status encode(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                         sem_error *err)
{
    (void)first; /* the space goes before every piece, not only before the first */
    const byte_level *t = state;
    if (!t->add_prefix_space || text[0] == ' ')
        return encode_words(t, text, length, sink, err);
    char *spaced = malloc(length + 1);
    if (spaced == NULL)
        return sem_fail_memory(err, "a text");
    spaced[0] = ' ';
    memcpy(spaced + 1, text, length);
    sem_status status = encode_words(t, spaced, length + 1, sink, err);
    free(spaced);
    return status;
}

static sem_status normalize(const void *state, const char *text, size_t length, buffer *out, sem_error *err)
{
    (void)state;
    return buffer_append(out, text, length) ? SEM_OK : sem_fail_memory(err, "a text");
}

static void destroy(void *state)
{
    byte_level *t = state;
    if (t == NULL)
        return;
    bpe_free(&t->merges);
    free(t);
}

static sem_status read_options(byte_level *t, const json_t *root, const char *where, sem_error *err)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (normalizer != NULL && !json_is_null(normalizer)) {
        const char *type = "of no type";
        sem_status status = json_get_string(normalizer, where, "type", false, &type, err);
        return status != SEM_OK ? status
                                : sem_fail(err, SEM_INVALID_ARGUMENT,
                                           "%s: normalizer %s is not supported with BPE; null is", where, type);
    }
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    const char *type = NULL;
    bool use_regex = true;
    t->add_prefix_space = true;
    sem_status status = json_get_string(pre, where, "type", true, &type, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "pre_tokenizer");
    if (strcmp(type, "ByteLevel") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer %s is not supported with BPE; ByteLevel is",
                        where, type);
    status = json_get_bool(pre, where, "add_prefix_space", false, &t->add_prefix_space, err);
    if (status == SEM_OK)
        status = json_get_bool(pre, where, "use_regex", false, &use_regex, err);
    if (status == SEM_OK && !use_regex)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer ByteLevel without use_regex is not supported",
                          where);
    return status;
}

sem_status byte_level_create(token_model *out, const json_t *root, const char *where, sem_error *err)
{
    byte_level *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a tokenizer");
    for (uint32_t code = 0; code < 0x10000; code++)
        t->classes[code] = (unsigned char)classify(code);
    sem_status status = read_options(t, root, where, err);
    if (status == SEM_OK)
        status = bpe_create(&t->merges, json_object_get(root, "model"), where, err);
    if (status != SEM_OK) {
        destroy(t);
        return status;
    }
    *out = (token_model){t, encode, normalize, encode, destroy};
    return SEM_OK;
}
