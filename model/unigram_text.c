#include "model/unigram_text.h"

#include "base/utf8.h"
#include "model/characters.h"
#include "model/charsmap.h"
#include "model/json.h"
#include "model/unigram.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 8 };

/* U+2581, which stands for a space. */
static const char MARK[] = "\xE2\x96\x81";
enum { MARK_BYTES = 3 };

typedef enum step_kind { STEP_CHARSMAP, STEP_STRIP, STEP_SPACES } step_kind;

typedef struct step {
    step_kind kind;
    charsmap map;     /* STEP_CHARSMAP */
    bool left, right; /* STEP_STRIP: at which end white space goes */
    char *content;    /* STEP_SPACES: what two or more spaces become, owned */
} step;

typedef struct unigram_text {
    step steps[STEPS_MAX];
    size_t step_count;
    bool split_white_space; /* words end at any white space, which is removed */
    bool prepend;           /* a mark goes before what has none */
    bool split_marks;       /* words begin at marks */
    unigram pieces;
} unigram_text;

/* --- normalization */

static bool strip(const step *s, const char *text, size_t length, buffer *out)
{
    size_t from = 0, to = length;
    uint32_t code;
    while (s->left && from < to) {
        size_t n = utf8_decode(text + from, to - from, &code);
        if (!char_is_white_space(code))
            break;
        from += n;
    }
    while (s->right && to > from) {
        size_t last = to - 1;
        while (last > from && ((unsigned char)text[last] & 0xC0) == 0x80)
            last--;
        utf8_decode(text + last, to - last, &code);
        if (!char_is_white_space(code))
            break;
        to = last;
    }
    return buffer_append(out, text + from, to - from);
}

static bool replace_spaces(const step *s, const char *text, size_t length, buffer *out)
{
    bool ok = true;
    for (size_t i = 0; ok && i < length;) {
        const char *space = memchr(text + i, ' ', length - i);
        size_t end = space == NULL ? length : (size_t)(space - text);
        size_t after = end;
        while (after < length && text[after] == ' ')
            after++;
        ok = buffer_append(out, text + i, end - i);
        if (ok && after - end >= 2)
            ok = buffer_append(out, s->content, strlen(s->content));
        else if (ok && after > end)
            ok = buffer_append(out, " ", 1);
        i = after;
    }
    return ok;
}

static sem_status normalize(const void *state, const char *text, size_t length, buffer *out, sem_error *err)
{
    const unigram_text *t = state;
    buffer now = {0}, next = {0};
    bool ok = buffer_append(&now, text, length);
    sem_status status = SEM_OK;
    for (size_t i = 0; ok && status == SEM_OK && i < t->step_count; i++) {
        const step *s = &t->steps[i];
        const char *data = now.size > 0 ? (const char *)now.data : "";
        next.size = 0;
        if (s->kind == STEP_CHARSMAP)
            status = charsmap_apply(&s->map, data, now.size, &next, err);
        else
            ok = s->kind == STEP_STRIP ? strip(s, data, now.size, &next) : replace_spaces(s, data, now.size, &next);
        buffer swap = now;
        now = next;
        next = swap;
    }
    ok = ok && status == SEM_OK && buffer_append(out, now.data, now.size);
    buffer_free(&now);
    buffer_free(&next);
    return status != SEM_OK ? status : ok ? SEM_OK : sem_fail_memory(err, "a normalized text");
}

/* --- words */

typedef struct walk {
    const unigram_text *t;
    token_sink *sink;
    buffer word;
    unigram_scratch scratch;
} walk;

static bool end_word(walk *w)
{
    bool ok = w->word.size == 0 ||
              unigram_word(&w->t->pieces, &w->scratch, (const char *)w->word.data, w->word.size, w->sink);
    w->word.size = 0;
    return ok;
}

/* Spaces become marks, a mark goes in front, and every mark begins a word. */
static bool mark_words(walk *w, const char *text, size_t length)
{
    bool starts_marked = length > 0 &&
                         (text[0] == ' ' || (length >= MARK_BYTES && memcmp(text, MARK, MARK_BYTES) == 0));
    bool ok = !w->t->prepend || starts_marked || buffer_append(&w->word, MARK, MARK_BYTES);
    for (size_t i = 0; ok && i < length && !token_sink_full(w->sink);) {
        bool space = text[i] == ' ';
        bool mark = space || (length - i >= MARK_BYTES && memcmp(text + i, MARK, MARK_BYTES) == 0);
        if (mark && w->t->split_marks)
            ok = end_word(w);
        if (mark) {
            ok = ok && buffer_append(&w->word, MARK, MARK_BYTES);
            i += space ? 1 : MARK_BYTES;
            continue;
        }
        size_t end = i + 1;
        while (end < length && text[end] != ' ' && text[end] != MARK[0])
            end++;
        ok = buffer_append(&w->word, text + i, end - i);
        i = end;
    }
    return ok && end_word(w);
}

static bool split_words(walk *w, const char *text, size_t length)
{
    bool ok = true;
    size_t start = 0;
    for (size_t i = 0; ok && i < length && !token_sink_full(w->sink);) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        if (char_is_white_space(code)) {
            ok = i == start || mark_words(w, text + start, i - start);
            start = i + n;
        }
        i += n;
    }
    return ok && (start == length || token_sink_full(w->sink) || mark_words(w, text + start, length - start));
}

static sem_status encode_normalized(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                                    sem_error *err)
{
    (void)first;
    const unigram_text *t = state;
    walk w = {.t = t, .sink = sink};
    bool ok = t->split_white_space ? split_words(&w, text, length) : mark_words(&w, text, length);
    buffer_free(&w.word);
    unigram_scratch_free(&w.scratch);
    return ok ? SEM_OK : sem_fail_memory(err, "the tokens of a text");
}

static sem_status encode(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                         sem_error *err)
{
    buffer normal = {0};
    sem_status status = normalize(state, text, length, &normal, err);
    if (status == SEM_OK && normal.size > 0)
        status = encode_normalized(state, (const char *)normal.data, normal.size, first, sink, err);
    buffer_free(&normal);
    return status;
}

static void destroy(void *state)
{
    unigram_text *t = state;
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->step_count; i++) {
        charsmap_free(&t->steps[i].map);
        free(t->steps[i].content);
    }
    unigram_free(&t->pieces);
    free(t);
}

/* --- reading */

static sem_status read_replace(step *s, const json_t *object, const char *where, sem_error *err)
{
    const char *pattern = json_string_value(json_object_get(json_object_get(object, "pattern"), "Regex"));
    const char *content = NULL;
    if (pattern == NULL || strcmp(pattern, " {2,}") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: normalizer Replace of \"%.64s\" is not supported; Regex \" {2,}\" is", where,
                        pattern != NULL ? pattern : "something that is no Regex");
    sem_status status = json_get_string(object, where, "content", true, &content, err);
    if (status != SEM_OK)
        return status;
    s->kind = STEP_SPACES;
    s->content = strdup(content);
    return s->content == NULL ? sem_fail_memory(err, "a normalizer") : SEM_OK;
}

static sem_status read_strip(step *s, const json_t *object, const char *where, sem_error *err)
{
    s->kind = STEP_STRIP;
    s->left = s->right = true;
    sem_status status = json_get_bool(object, where, "strip_left", false, &s->left, err);
    return status != SEM_OK ? status : json_get_bool(object, where, "strip_right", false, &s->right, err);
}

static sem_status read_step(unigram_text *t, const json_t *object, const char *where, sem_error *err)
{
    const char *type = NULL, *map = NULL;
    sem_status status = json_get_string(object, where, "type", true, &type, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "normalizer");
    if (t->step_count == STEPS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: more than %d normalizers", where, STEPS_MAX);
    step *s = &t->steps[t->step_count++];
    if (strcmp(type, "Replace") == 0)
        return read_replace(s, object, where, err);
    if (strcmp(type, "Strip") == 0)
        return read_strip(s, object, where, err);
    if (strcmp(type, "Precompiled") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: normalizer %s is not supported with Unigram; Precompiled, Strip and Replace are", where,
                        type);
    s->kind = STEP_CHARSMAP;
    status = json_get_string(object, where, "precompiled_charsmap", true, &map, err);
    return status != SEM_OK ? status : charsmap_create(&s->map, map, where, err);
}

/* One normalizer, a Sequence of them, or none. */
static sem_status read_steps(unigram_text *t, const json_t *normalizer, const char *where, sem_error *err)
{
    if (normalizer == NULL || json_is_null(normalizer))
        return SEM_OK;
    const json_t *list = json_object_get(normalizer, "normalizers");
    if (list == NULL)
        return read_step(t, normalizer, where, err);
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < json_array_size(list); i++)
        status = read_step(t, json_array_get(list, i), where, err);
    return status;
}

static sem_status read_metaspace(unigram_text *t, const json_t *object, const char *where, sem_error *err)
{
    const char *replacement = MARK, *scheme = NULL;
    bool add_prefix_space = true;
    t->split_marks = true;
    sem_status status = json_get_string(object, where, "replacement", false, &replacement, err);
    if (status == SEM_OK)
        status = json_get_string(object, where, "prepend_scheme", false, &scheme, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "add_prefix_space", false, &add_prefix_space, err);
    if (status == SEM_OK)
        status = json_get_bool(object, where, "split", false, &t->split_marks, err);
    if (status != SEM_OK)
        return status;
    if (scheme == NULL)
        scheme = add_prefix_space ? "always" : "never";
    if (strcmp(replacement, MARK) != 0 || (strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0))
        return sem_fail(
            err, SEM_INVALID_ARGUMENT,
            "%s: Metaspace with replacement \"%.16s\" and prepend_scheme %.16s is not supported; \"%s\" with "
            "always or never is",
            where, replacement, scheme, MARK);
    t->prepend = strcmp(scheme, "always") == 0;
    return SEM_OK;
}

/* Metaspace, or WhitespaceSplit and then Metaspace. */
static sem_status read_pre_tokenizer(unigram_text *t, const json_t *pre, const char *where, sem_error *err)
{
    const json_t *list = json_object_get(pre, "pretokenizers");
    size_t count = list != NULL ? json_array_size(list) : 1;
    bool marked = false;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = list != NULL ? json_array_get(list, i) : pre;
        const char *type = NULL;
        sem_status status = json_get_string(one, where, "type", true, &type, err);
        if (status != SEM_OK)
            return sem_error_prefix(err, "pre_tokenizer");
        if (strcmp(type, "WhitespaceSplit") == 0 && !marked)
            t->split_white_space = true;
        else if (strcmp(type, "Metaspace") != 0 || marked)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: pre_tokenizer %s is not supported there with Unigram; Metaspace, or WhitespaceSplit "
                            "and Metaspace, are",
                            where, type);
        else if ((status = read_metaspace(t, one, where, err)) != SEM_OK)
            return status;
        else
            marked = true;
    }
    return marked ? SEM_OK : sem_fail(err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer has no Metaspace", where);
}

sem_status unigram_text_create(token_model *out, const json_t *root, const char *where, sem_error *err)
{
    unigram_text *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a tokenizer");
    sem_status status = read_steps(t, json_object_get(root, "normalizer"), where, err);
    if (status == SEM_OK)
        status = read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), where, err);
    if (status == SEM_OK)
        status = unigram_create(&t->pieces, json_object_get(root, "model"), where, err);
    if (status != SEM_OK) {
        destroy(t);
        return status;
    }
    *out = (token_model){t, encode, normalize, encode_normalized, destroy};
    return SEM_OK;
}
