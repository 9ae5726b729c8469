#include "model/normalizer.h"

#include "base/utf8.h"
#include "model/bert_chars.h"
#include "model/bert_text.h"
#include "model/char_pattern.h"
#include "model/characters.h"
#include "model/charsmap.h"
#include "model/json.h"
#include "model/text_form.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MAX = 16, NESTING_MAX = 8 };

typedef struct normalizer_kind {
    const char *type;
    sem_status (*read)(normalizer_step *s, const json_t *object, const char *where, sem_error *err);
    /* Appends; clears *first as normalizer_apply() says. False when memory is out. */
    bool (*apply)(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                  bool *first);
} normalizer_kind;

struct normalizer_step {
    const normalizer_kind *kind;
    text_form form;       /* NFC, NFD, NFKC, NFKD */
    charsmap map;         /* Precompiled */
    bert_chars bert;      /* BertNormalizer */
    bool left, right;     /* Strip: at which end white space goes */
    char_pattern pattern; /* Replace of an expression */
    char *find;           /* Replace of a text, owned */
    char *content;        /* Replace, Prepend: what is put there, owned */
};

/* --- steps */

static sem_status read_form(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    (void)object;
    (void)where;
    return text_form_create(&s->form, s->kind->type, err);
}

static bool apply_form(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                       bool *first)
{
    (void)first;
    return text_form_apply(&s->form, text, length, scratch, out);
}

static sem_status read_nothing(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    (void)s;
    (void)object;
    (void)where;
    (void)err;
    return SEM_OK;
}

static bool put_char(buffer *out, uint32_t code)
{
    char bytes[4];
    return buffer_append(out, bytes, utf8_encode(code, bytes));
}

static bool apply_lowercase(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch,
                            buffer *out, bool *first)
{
    (void)scratch;
    (void)s;
    (void)first;
    bool ok = buffer_reserve(out, length + 1);
    for (size_t i = 0; ok && i < length;) {
        uint32_t code;
        i += utf8_decode(text + i, length - i, &code);
        if (code == 0x130) /* the one capital whose small letter is two characters */
            ok = put_char(out, 'i') && put_char(out, 0x307);
        else
            ok = put_char(out, bert_lower(code));
    }
    return ok;
}

static bool apply_strip_accents(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch,
                                buffer *out, bool *first)
{
    (void)scratch;
    (void)s;
    bool ok = buffer_reserve(out, length + 1);
    for (size_t i = 0; ok && i < length;) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        if (code < 0x80 || !char_is_mark(code))
            ok = buffer_append(out, text + i, n);
        else if (i == 0)
            *first = false;
        i += n;
    }
    return ok;
}

static sem_status read_strip(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    s->left = s->right = true;
    sem_status status = json_get_bool(object, where, "strip_left", false, &s->left, err);
    return status != SEM_OK ? status : json_get_bool(object, where, "strip_right", false, &s->right, err);
}

static bool apply_strip(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                        bool *first)
{
    (void)scratch;
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
    *first = *first && from == 0;
    return buffer_append(out, text + from, to - from);
}

static sem_status read_content(normalizer_step *s, const json_t *object, const char *where, const char *key,
                               sem_error *err)
{
    const char *content = NULL;
    sem_status status = json_get_string(object, where, key, true, &content, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "normalizer");
    s->content = strdup(content);
    return s->content == NULL ? sem_fail_memory(err, "a normalizer") : SEM_OK;
}

static sem_status read_replace(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    const json_t *pattern = json_object_get(object, "pattern");
    const char *text = json_string_value(json_object_get(pattern, "String"));
    const char *expression = json_string_value(json_object_get(pattern, "Regex"));
    if (text != NULL && text[0] != '\0') {
        s->find = strdup(text);
        if (s->find == NULL)
            return sem_fail_memory(err, "a normalizer");
    } else if (expression == NULL || !char_pattern_parse(&s->pattern, expression)) {
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: normalizer Replace of \"%.64s\" is not supported; a String, or a Regex of one class of "
                        "characters such as \\s+ or \" {2,}\", is",
                        where,
                        expression != NULL ? expression
                        : text != NULL     ? text
                                           : "something that is no pattern");
    }
    return read_content(s, object, where, "content", err);
}

static bool find_match(const normalizer_step *s, const char *text, size_t length, size_t i, size_t *from, size_t *to)
{
    if (s->find == NULL)
        return char_pattern_find(&s->pattern, text, length, i, from, to);
    const char *found = memmem(text + i, length - i, s->find, strlen(s->find));
    if (found == NULL)
        return false;
    *from = (size_t)(found - text);
    *to = *from + strlen(s->find);
    return true;
}

static bool apply_replace(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                          bool *first)
{
    (void)scratch;
    size_t i = 0, from, to;
    bool ok = buffer_reserve(out, length + 1);
    while (ok && i < length && find_match(s, text, length, i, &from, &to)) {
        *first = *first && (from > 0 || s->content[0] != '\0');
        ok = buffer_append(out, text + i, from - i) && buffer_append(out, s->content, strlen(s->content));
        i = to;
    }
    return ok && buffer_append(out, text + i, length - i);
}

static sem_status read_prepend(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    return read_content(s, object, where, "prepend", err);
}

static bool apply_prepend(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                          bool *first)
{
    (void)scratch;
    (void)first;
    return length == 0 || (buffer_append(out, s->content, strlen(s->content)) && buffer_append(out, text, length));
}

static sem_status read_charsmap(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    const char *base64 = NULL;
    sem_status status = json_get_string(object, where, "precompiled_charsmap", false, &base64, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "normalizer");
    return base64 == NULL ? SEM_OK : charsmap_create(&s->map, base64, where, err);
}

static bool apply_charsmap(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch,
                           buffer *out, bool *first)
{
    (void)scratch;
    (void)first; /* the reference counts what follows removed characters as the beginning */
    return s->map.blob == NULL ? buffer_append(out, text, length) : charsmap_apply(&s->map, text, length, out);
}

static sem_status read_bert(normalizer_step *s, const json_t *object, const char *where, sem_error *err)
{
    bert_rules rules;
    sem_status status = bert_rules_read(&rules, object, where, err);
    return status != SEM_OK ? status : bert_chars_create(&s->bert, &rules, err);
}

static bool apply_bert(const normalizer_step *s, const char *text, size_t length, text_scratch *scratch, buffer *out,
                       bool *first)
{
    uint32_t code;
    if (*first && length > 0) {
        utf8_decode(text, length, &code);
        bert_kind kind = bert_entry_kind(bert_lookup(&s->bert, code));
        *first = kind != BERT_DROP && kind != BERT_DROP_MARK;
    }
    return bert_normalize(&s->bert, text, length, scratch, out);
}

static const normalizer_kind KINDS[] = {
    {"NFC", read_form, apply_form},
    {"NFD", read_form, apply_form},
    {"NFKC", read_form, apply_form},
    {"NFKD", read_form, apply_form},
    {"Lowercase", read_nothing, apply_lowercase},
    {"StripAccents", read_nothing, apply_strip_accents},
    {"Strip", read_strip, apply_strip},
    {"Replace", read_replace, apply_replace},
    {"Prepend", read_prepend, apply_prepend},
    {"Precompiled", read_charsmap, apply_charsmap},
    {"BertNormalizer", read_bert, apply_bert},
};

/* --- reading */

/* May the step remove characters at the beginning? */
static bool removes_first(const normalizer_step *s)
{
    return s->left || s->bert.bmp != NULL || s->kind->apply == apply_strip_accents ||
           (s->kind->apply == apply_replace && s->content[0] == '\0');
}

static sem_status read_step(normalizer *n, const json_t *object, const char *type, const char *where, sem_error *err)
{
    if (n->count == STEPS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: normalizer has more than %d steps", where, STEPS_MAX);
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++) {
        if (strcmp(type, KINDS[i].type) != 0)
            continue;
        normalizer_step *s = &n->steps[n->count++];
        *s = (normalizer_step){.kind = &KINDS[i]};
        sem_status status = KINDS[i].read(s, object, where, err);
        n->hides_first = n->hides_first || (status == SEM_OK && n->count > 1 && removes_first(s));
        return status;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "%s: normalizer %.64s is not supported; NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, "
                    "Replace, Prepend, Precompiled, BertNormalizer and a Sequence of them are",
                    where, type);
}

static sem_status read_steps(normalizer *n, const json_t *object, const char *where, unsigned depth, sem_error *err)
{
    const char *type = NULL;
    sem_status status = json_get_string(object, where, "type", true, &type, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "normalizer");
    if (strcmp(type, "Sequence") != 0)
        return read_step(n, object, type, where, err);
    const json_t *list = json_object_get(object, "normalizers");
    if (!json_is_array(list) || depth == NESTING_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: normalizer.normalizers is %s, expected an array%s", where,
                        json_type_name(list), depth == NESTING_MAX ? " in fewer others" : "");
    for (size_t i = 0; status == SEM_OK && i < json_array_size(list); i++)
        status = read_steps(n, json_array_get(list, i), where, depth + 1, err);
    return status;
}

sem_status normalizer_create(normalizer *out, const json_t *object, const char *where, sem_error *err)
{
    normalizer n = {.count = 0};
    if (object == NULL || json_is_null(object)) {
        *out = n;
        return SEM_OK;
    }
    n.steps = calloc(STEPS_MAX, sizeof *n.steps);
    sem_status status = n.steps == NULL ? sem_fail_memory(err, "a normalizer") : read_steps(&n, object, where, 0, err);
    if (status != SEM_OK) {
        normalizer_free(&n);
        return status;
    }
    *out = n;
    return SEM_OK;
}

void normalizer_free(normalizer *n)
{
    for (size_t i = 0; i < n->count; i++) {
        text_form_free(&n->steps[i].form);
        charsmap_free(&n->steps[i].map);
        bert_chars_free(&n->steps[i].bert);
        free(n->steps[i].find);
        free(n->steps[i].content);
    }
    free(n->steps);
    *n = (normalizer){.count = 0};
}

sem_status normalizer_apply(const normalizer *n, const char *text, size_t length, text_scratch *scratch, buffer *out,
                            bool *first, sem_error *err)
{
    bool ignored = true, ok = n->count > 0 || buffer_append(out, text, length);
    if (first == NULL)
        first = &ignored;
    for (size_t i = 0; ok && i < n->count; i++) {
        const bool last = i + 1 == n->count, odd = i % 2 != 0;
        buffer *to = last ? out : text_scratch_empty(scratch, odd ? TEXT_BETWEEN_ODD : TEXT_BETWEEN_EVEN);
        ok = n->steps[i].kind->apply(&n->steps[i], text, length, scratch, to, first);
        text = to->data != NULL ? (const char *)to->data : "";
        length = to->size;
    }
    return ok ? SEM_OK : sem_fail_memory(err, "a normalized text");
}

static bool is_ascii_letter(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Forms, case, accents and character maps work on a character with its marks, and
 * replaced runs of a class end at what is not of it. A piece ends in a letter, so Strip
 * takes nothing off its right; but its left is a space. Prepend asks for the beginning
 * of the text, and a replaced text may reach over the space. */
static bool step_is_local(const normalizer_step *s)
{
    if ((s->kind->apply == apply_strip && s->left) || s->kind->apply == apply_prepend || s->find != NULL)
        return false;
    buffer out = {0};
    text_scratch scratch = {.marks = {.count = 0}};
    bool local = true, first = true;
    for (unsigned char c = 'A'; local && c <= 'z'; c++) {
        char text[] = {'a', (char)c, ' ', (char)c, 'a'};
        if (!is_ascii_letter(c))
            continue;
        out.size = 0;
        local = s->kind->apply(s, text, sizeof text, &scratch, &out, &first) && out.size == sizeof text &&
                out.data[2] == ' ' && is_ascii_letter(out.data[1]) && is_ascii_letter(out.data[3]);
        if (local && s->kind->apply == apply_replace)
            local = !char_pattern_has(&s->pattern, c);
    }
    buffer_free(&out);
    text_scratch_free(&scratch);
    return local;
}

bool normalizer_is_local(const normalizer *n)
{
    bool local = n->count < NORMALIZER_CONTEXT; /* each step may use one letter up */
    for (size_t i = 0; local && i < n->count; i++)
        local = step_is_local(&n->steps[i]);
    return local;
}
