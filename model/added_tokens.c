#include "model/added_tokens.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "model/characters.h"
#include "model/json.h"

#include <stdlib.h>
#include <string.h>

enum { ADDED_BYTES_MAX = 1024 }; /* of one token: bounds the work at every byte of a text */

/* The character that ends before position (> 0); *start is where it begins. */
static uint32_t char_before(const char *text, size_t position, size_t *start)
{
    size_t i = position - 1;
    while (i > 0 && ((unsigned char)text[i] & 0xC0) == 0x80)
        i--;
    uint32_t code;
    utf8_decode(text + i, position - i, &code);
    *start = i;
    return code;
}

static sem_status read_token(added_token *out, const json_t *object, const char *where, sem_error *err)
{
    const char *content = NULL;
    size_t id = 0;
    sem_status status = json_get_string(object, where, "content", true, &content, err);
    if (status == SEM_OK)
        status = json_get_size(object, where, "id", true, 0, INT32_MAX, &id, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "single_word", false, &out->single_word, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "lstrip", false, &out->lstrip, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "rstrip", false, &out->rstrip, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "normalized", false, &out->normalized, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "added_tokens");
    if (strlen(content) > ADDED_BYTES_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: added token %zu has %zu bytes, at most %d are taken", where, id,
                        strlen(content), ADDED_BYTES_MAX);
    out->id = (int32_t)id;
    out->content = strdup(content);
    return out->content == NULL ? sem_fail_memory(err, "an added token") : SEM_OK;
}

static sem_status build_trie(trie *out, const added_tokens *a, bool normalized, const token_model *model,
                             sem_error *err)
{
    trie_key *keys = checked_realloc(NULL, a->count + 1, sizeof *keys);
    buffer *contents = calloc(a->count + 1, sizeof *contents);
    sem_status status = keys == NULL || contents == NULL ? sem_fail_memory(err, "added tokens") : SEM_OK;
    text_scratch scratch = {.marks = {0}};
    size_t used = 0;
    for (size_t i = 0; status == SEM_OK && i < a->count; i++) {
        const added_token *token = &a->tokens[i];
        bool first = false;
        if (token->normalized != normalized)
            continue;
        if (normalized)
            status = model->normalize(model->state, token->content, strlen(token->content), &scratch, &contents[i],
                                      &first, err);
        else if (!buffer_append(&contents[i], token->content, strlen(token->content)))
            status = sem_fail_memory(err, "added tokens");
        if (status == SEM_OK && contents[i].size > 0) /* the first of equal ones has the largest value */
            keys[used++] = (trie_key){(const char *)contents[i].data, contents[i].size, (int32_t)(a->count - 1 - i)};
    }
    if (status == SEM_OK)
        status = trie_create(out, keys, used, err);
    for (size_t i = 0; contents != NULL && i < a->count; i++)
        buffer_free(&contents[i]);
    text_scratch_free(&scratch);
    free(contents);
    free(keys);
    return status;
}

static int find_only_first_byte(const added_tokens *a)
{
    int first = -1;
    for (size_t i = 0; i < a->count; i++) {
        int byte = (unsigned char)a->tokens[i].content[0];
        if (a->tokens[i].normalized || byte == 0)
            continue;
        if (first >= 0 && byte != first)
            return -1;
        first = byte;
    }
    return first;
}

sem_status added_tokens_create(added_tokens *out, const json_t *array, const char *where, const token_model *model,
                               sem_error *err)
{
    if (array != NULL && !json_is_null(array) && !json_is_array(array))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: added_tokens is %s, expected an array", where,
                        json_type_name(array));
    size_t count = json_array_size(array);
    added_tokens a = {.tokens = calloc(count + 1, sizeof *a.tokens)};
    sem_status status = a.tokens == NULL ? sem_fail_memory(err, "added tokens") : SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < count; i++) {
        status = read_token(&a.tokens[i], json_array_get(array, i), where, err);
        if (status == SEM_OK) {
            a.count = i + 1;
            a.any_normalized = a.any_normalized || a.tokens[i].normalized;
        }
    }
    if (status == SEM_OK)
        status = build_trie(&a.raw, &a, false, model, err);
    a.only_first_byte = find_only_first_byte(&a);
    if (status == SEM_OK)
        status = build_trie(&a.normalized, &a, true, model, err);
    if (status != SEM_OK) {
        added_tokens_free(&a);
        return status;
    }
    *out = a;
    return SEM_OK;
}

void added_tokens_free(added_tokens *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->tokens[i].content);
    free(a->tokens);
    trie_free(&a->raw);
    trie_free(&a->normalized);
    *a = (added_tokens){0};
}

static bool stands_alone(const char *text, size_t length, size_t start, size_t stop)
{
    size_t before;
    if (start > 0 && char_is_word(char_before(text, start, &before)))
        return false;
    if (stop == length)
        return true;
    uint32_t code;
    utf8_decode(text + stop, length - stop, &code);
    return !char_is_word(code);
}

/* White space that ends at `start` begins where? Never before `from`. */
static size_t space_begin(const char *text, size_t from, size_t start)
{
    size_t before;
    while (start > from && char_is_white_space(char_before(text, start, &before)))
        start = before;
    return start < from ? from : start;
}

static size_t space_end(const char *text, size_t length, size_t stop)
{
    while (stop < length) {
        uint32_t code;
        size_t n = utf8_decode(text + stop, length - stop, &code);
        if (!char_is_white_space(code))
            break;
        stop += n;
    }
    return stop;
}

bool added_tokens_next(const added_tokens *a, bool normalized, const char *text, size_t length, added_scan *scan,
                       added_piece *out)
{
    const trie *t = normalized ? &a->normalized : &a->raw;
    size_t i = scan->scanned;
    int first = normalized ? -1 : a->only_first_byte;
    while (i < length) {
        const char *skip = first < 0 ? text + i : memchr(text + i, first, length - i);
        if (skip == NULL)
            break;
        i = (size_t)(skip - text);
        size_t matched = 0;
        int32_t value = trie_longest(t, TRIE_ROOT, text + i, length - i, &matched);
        if (value < 0) {
            i++;
            continue;
        }
        size_t start = i, stop = i + matched;
        i = stop;
        const added_token *token = &a->tokens[a->count - 1 - (size_t)value];
        if (token->single_word && !stands_alone(text, length, start, stop))
            continue;
        if (token->lstrip)
            start = space_begin(text, scan->start, start);
        if (token->rstrip)
            stop = space_end(text, length, stop > scan->start ? stop : scan->start); /* seen already up to there */
        *out = (added_piece){scan->start, start > scan->start ? start : scan->start, token->id};
        *scan = (added_scan){i, stop};
        return true;
    }
    if (scan->start >= length)
        return false;
    *out = (added_piece){scan->start, length, -1};
    *scan = (added_scan){length, length};
    return true;
}
