#include "model/bert_chars.h"
#include "model/json.h"
#include "model/splitter_steps.h"

#include <stdlib.h>
#include <string.h>

enum { NESTING_MAX = 8 };

/* U+2581, which stands for a space. */
static const char MARK[] = "\xE2\x96\x81";

static const char EXPECTED[] = "BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, Metaspace, Punctuation, "
                               "Split, Whitespace, WhitespaceSplit and a Sequence of them are";

typedef struct reading {
    splitter *s;
    const char *where;
    sem_error *err;
} reading;

static sem_status add_step(reading *r, splitter_step **out)
{
    if (r->s->count == SPLITTER_STEPS_MAX)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer has more than %d steps", r->where,
                        SPLITTER_STEPS_MAX);
    if (r->s->byte_level)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer has a step behind ByteLevel", r->where);
    *out = &r->s->steps[r->s->count++];
    **out = (splitter_step){.kind = SPLIT_CHARS};
    return SEM_OK;
}

static sem_status add_class(reading *r, unsigned classes, split_behavior behavior)
{
    splitter_step *s;
    sem_status status = add_step(r, &s);
    if (status != SEM_OK)
        return status;
    s->behavior = behavior;
    s->chars = (char_pattern){.classes = classes, .least = 1};
    char_pattern_finish(&s->chars);
    return SEM_OK;
}

static sem_status read_behavior(reading *r, const json_t *object, split_behavior *out)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = "Isolated";
    sem_status status = json_get_string(object, r->where, "behavior", false, &name, r->err);
    for (size_t i = 0; status == SEM_OK && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (split_behavior)i;
            return SEM_OK;
        }
    }
    return status != SEM_OK ? status
                            : sem_fail(r->err, SEM_INVALID_ARGUMENT,
                                       "%s: pre_tokenizer: behavior %.32s is not supported; Removed, Isolated, "
                                       "MergedWithPrevious, MergedWithNext and Contiguous are",
                                       r->where, name);
}

static sem_status read_whitespace_split(reading *r, const json_t *object)
{
    (void)object;
    return add_class(r, CHAR_SPACE, SPLIT_REMOVED);
}

static sem_status read_whitespace(reading *r, const json_t *object)
{
    (void)object;
    splitter_step *s;
    sem_status status = add_step(r, &s);
    if (status == SEM_OK)
        s->kind = SPLIT_WHITESPACE;
    return status;
}

static sem_status read_bert(reading *r, const json_t *object)
{
    (void)object;
    sem_status status = add_class(r, CHAR_SPACE, SPLIT_REMOVED);
    return status != SEM_OK ? status : add_class(r, CHAR_PUNCTUATION, SPLIT_ISOLATED);
}

static sem_status read_punctuation(reading *r, const json_t *object)
{
    split_behavior behavior = SPLIT_ISOLATED;
    sem_status status = read_behavior(r, object, &behavior);
    return status != SEM_OK ? status : add_class(r, CHAR_PUNCTUATION, behavior);
}

static sem_status read_digits(reading *r, const json_t *object)
{
    bool individual = false;
    sem_status status = json_get_bool(object, r->where, "individual_digits", false, &individual, r->err);
    return status != SEM_OK ? status : add_class(r, CHAR_NUMERIC, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS);
}

static sem_status add_text(reading *r, const char *text, split_behavior behavior, bool invert)
{
    splitter_step *s;
    sem_status status = add_step(r, &s);
    if (status != SEM_OK)
        return status;
    s->kind = SPLIT_TEXT;
    s->behavior = behavior;
    s->invert = invert;
    s->text = strdup(text);
    return s->text == NULL ? sem_fail_memory(r->err, "a pre-tokenizer") : SEM_OK;
}

static sem_status read_delimiter(reading *r, const json_t *object)
{
    const char *text = NULL;
    sem_status status = json_get_string(object, r->where, "delimiter", true, &text, r->err);
    if (status == SEM_OK && text[0] == '\0')
        status = sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: delimiter is empty, expected a character", r->where);
    return status != SEM_OK ? sem_error_prefix(r->err, "pre_tokenizer") : add_text(r, text, SPLIT_REMOVED, false);
}

static sem_status read_expression(reading *r, const char *expression, split_behavior behavior, bool invert)
{
    splitter_step *s;
    word_pattern_kind kind;
    sem_status status = add_step(r, &s);
    if (status != SEM_OK)
        return status;
    s->behavior = behavior;
    s->invert = invert;
    if (word_pattern_find(expression, &kind)) {
        s->kind = SPLIT_WORDS;
        return word_pattern_create(&s->words, kind, r->err);
    }
    if (char_pattern_parse(&s->chars, expression))
        return SEM_OK;
    return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                    "%s: pre_tokenizer Split at \"%.200s\" is not supported; the expressions of GPT-2, GPT-4 and Qwen "
                    "and those of one class of characters such as \\s+ or [0-9] are",
                    r->where, expression);
}

static sem_status read_split(reading *r, const json_t *object)
{
    const json_t *pattern = json_object_get(object, "pattern");
    const char *text = json_string_value(json_object_get(pattern, "String"));
    const char *expression = json_string_value(json_object_get(pattern, "Regex"));
    split_behavior behavior = SPLIT_ISOLATED;
    bool invert = false;
    sem_status status = read_behavior(r, object, &behavior);
    if (status == SEM_OK)
        status = json_get_bool(object, r->where, "invert", false, &invert, r->err);
    if (status != SEM_OK)
        return status;
    if (expression != NULL)
        return read_expression(r, expression, behavior, invert);
    if (text == NULL || text[0] == '\0')
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: pre_tokenizer Split: pattern is %s, expected a String or a Regex", r->where,
                        text != NULL ? "empty" : json_type_name(pattern));
    return add_text(r, text, behavior, invert);
}

static sem_status read_byte_level(reading *r, const json_t *object)
{
    splitter_step *s;
    sem_status status = add_step(r, &s);
    if (status != SEM_OK)
        return status;
    s->kind = SPLIT_BYTES;
    s->add_prefix_space = s->use_words = true;
    status = json_get_bool(object, r->where, "add_prefix_space", false, &s->add_prefix_space, r->err);
    if (status == SEM_OK)
        status = json_get_bool(object, r->where, "use_regex", false, &s->use_words, r->err);
    if (status == SEM_OK && s->use_words)
        status = word_pattern_create(&s->words, WORDS_GPT2, r->err);
    r->s->byte_level = true;
    return status;
}

static sem_status read_prepend(reading *r, const json_t *object, split_prepend *out)
{
    const char *scheme = NULL;
    bool add_prefix_space = true;
    sem_status status = json_get_string(object, r->where, "prepend_scheme", false, &scheme, r->err);
    if (status == SEM_OK)
        status = json_get_bool(object, r->where, "add_prefix_space", false, &add_prefix_space, r->err);
    if (status != SEM_OK)
        return status;
    if (scheme == NULL)
        scheme = add_prefix_space ? "always" : "never";
    *out = strcmp(scheme, "always") == 0  ? PREPEND_ALWAYS
           : strcmp(scheme, "first") == 0 ? PREPEND_FIRST
                                          : PREPEND_NEVER;
    if (*out == PREPEND_NEVER && strcmp(scheme, "never") != 0)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: pre_tokenizer Metaspace: prepend_scheme %.32s is not supported; always, first and never "
                        "are",
                        r->where, scheme);
    r->s->uses_first = r->s->uses_first || *out == PREPEND_FIRST;
    return SEM_OK;
}

static sem_status read_metaspace(reading *r, const json_t *object)
{
    const char *marker = MARK;
    splitter_step *s;
    sem_status status = add_step(r, &s);
    if (status != SEM_OK)
        return status;
    s->kind = SPLIT_METASPACE;
    s->split = true;
    status = json_get_string(object, r->where, "replacement", false, &marker, r->err);
    if (status == SEM_OK)
        status = json_get_bool(object, r->where, "split", false, &s->split, r->err);
    if (status == SEM_OK)
        status = read_prepend(r, object, &s->prepend);
    if (status == SEM_OK && (marker[0] == '\0' || marker[0] == ' '))
        status = sem_fail(r->err, SEM_INVALID_ARGUMENT,
                          "%s: pre_tokenizer Metaspace: replacement \"%.16s\" is not supported; a character but the "
                          "space is",
                          r->where, marker);
    if (status != SEM_OK)
        return status;
    s->text = strdup(marker);
    return s->text == NULL ? sem_fail_memory(r->err, "a pre-tokenizer") : SEM_OK;
}

static const struct {
    const char *type;
    sem_status (*read)(reading *r, const json_t *object);
} KINDS[] = {
    {"BertPreTokenizer", read_bert}, {"ByteLevel", read_byte_level},  {"CharDelimiterSplit", read_delimiter},
    {"Digits", read_digits},         {"Metaspace", read_metaspace},   {"Punctuation", read_punctuation},
    {"Split", read_split},           {"Whitespace", read_whitespace}, {"WhitespaceSplit", read_whitespace_split},
};

static sem_status read_steps(reading *r, const json_t *object, unsigned depth)
{
    const char *type = NULL;
    sem_status status = json_get_string(object, r->where, "type", true, &type, r->err);
    if (status != SEM_OK)
        return sem_error_prefix(r->err, "pre_tokenizer");
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(object, "pretokenizers");
        if (!json_is_array(list) || depth == NESTING_MAX)
            return sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer.pretokenizers is %s, expected an array%s",
                            r->where, json_type_name(list), depth == NESTING_MAX ? " in fewer others" : "");
        for (size_t i = 0; status == SEM_OK && i < json_array_size(list); i++)
            status = read_steps(r, json_array_get(list, i), depth + 1);
        return status;
    }
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strcmp(type, KINDS[i].type) == 0)
            return KINDS[i].read(r, object);
    return sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: pre_tokenizer %.64s is not supported; %s", r->where, type,
                    EXPECTED);
}

sem_status splitter_create(splitter *out, const json_t *object, const char *where, sem_error *err)
{
    splitter s = {.count = 0};
    reading r = {&s, where, err};
    if (object == NULL || json_is_null(object)) {
        *out = s;
        return SEM_OK;
    }
    s.steps = calloc(SPLITTER_STEPS_MAX, sizeof *s.steps);
    sem_status status = s.steps == NULL ? sem_fail_memory(err, "a pre-tokenizer") : read_steps(&r, object, 0);
    if (status != SEM_OK) {
        splitter_free(&s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

void splitter_free(splitter *s)
{
    for (size_t i = 0; i < s->count; i++) {
        word_pattern_free(&s->steps[i].words);
        free(s->steps[i].text);
    }
    free(s->steps);
    *s = (splitter){.count = 0};
}
