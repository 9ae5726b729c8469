#include "model/bert_text.h"

#include "base/utf8.h"
#include "model/bert_chars.h"
#include "model/json.h"
#include "model/marks.h"
#include "model/wordpiece.h"

#include <stdlib.h>
#include <string.h>

typedef struct bert_text {
    bert_chars chars;      /* normalizes and splits */
    bert_chars normalized; /* only splits: for text that is normalized already */
    wordpiece words;
} bert_text;

/* One pass over one text. */
typedef struct walk {
    const bert_chars *chars;
    const wordpiece *words;
    token_sink *sink;   /* where words go, or */
    buffer *collected;  /* where normalized characters go */
    size_t word_length; /* bytes */
    size_t word_chars;  /* counted on when the word is too long to be kept */
    mark_run marks;     /* waits for its end */
    char word[WORDPIECE_CHARS_MAX * 4];
} walk;

/* False when memory is out. */
static bool end_word(walk *w)
{
    size_t chars = w->word_chars;
    if (chars == 0)
        return true;
    bool too_long = chars > w->words->word_chars_max;
    size_t length = w->word_length;
    w->word_chars = w->word_length = 0;
    if (!token_sink_reserve(w->sink, too_long ? 1 : length))
        return false;
    if (too_long)
        token_sink_put(w->sink, w->words->unknown);
    else
        wordpiece_word(w->words, w->word, length, w->sink);
    return true;
}

static inline void word_add(walk *w, uint32_t code)
{
    if (w->word_chars < w->words->word_chars_max)
        w->word_length += utf8_encode(code, w->word + w->word_length);
    w->word_chars++;
}

/* One character of normalized text. */
static bool put(walk *w, uint32_t code, bert_kind kind)
{
    if (w->collected != NULL) {
        char bytes[4];
        return buffer_append(w->collected, bytes, utf8_encode(code, bytes));
    }
    if (kind == BERT_WORD) {
        word_add(w, code);
        return true;
    }
    if (!end_word(w))
        return false;
    if (kind == BERT_SPACE)
        return true;
    word_add(w, code);
    return end_word(w);
}

static bool end_marks(walk *w)
{
    size_t count = w->marks.count;
    if (count == 0)
        return true;
    const mark *sorted = mark_run_sort(&w->marks);
    w->marks.count = 0;
    for (size_t i = 0; i < count; i++)
        if (!put(w, mark_char(sorted[i]), bert_split_kind(mark_char(sorted[i]))))
            return false;
    return true;
}

static bool put_expansion(walk *w, uint32_t code)
{
    bert_expansion e;
    bert_expand(&w->chars->rules, code, &e);
    for (uint32_t i = 0; i < e.count; i++) {
        if (e.combining[i] != 0) {
            if (!mark_run_add(&w->marks, e.code[i], e.combining[i]))
                return false;
            continue;
        }
        if (!end_marks(w))
            return false;
        if (e.code[i] != BERT_REMOVED && !put(w, e.code[i], bert_split_kind(e.code[i])))
            return false;
    }
    return true;
}

static bool put_entry(walk *w, uint32_t code, bert_entry entry)
{
    bert_kind kind = bert_entry_kind(entry);
    if (kind == BERT_DROP)
        return true;
    if (kind == BERT_SEQUENCE)
        return put_expansion(w, code);
    if (!end_marks(w))
        return false;
    if (kind == BERT_DROP_MARK)
        return true;
    uint32_t out = bert_entry_char(entry);
    if (kind != BERT_CJK)
        return put(w, out, kind);
    return put(w, ' ', BERT_SPACE) && put(w, out, BERT_WORD) && put(w, ' ', BERT_SPACE);
}

/* The letters and digits of ASCII that follow; no mark waits. Returns the position after them. */
static size_t add_ascii_word(walk *w, const char *text, size_t length, size_t i)
{
    const bert_entry *table = w->chars->bmp;
    size_t max = w->words->word_chars_max;
    for (; i < length && (unsigned char)text[i] < 0x80; i++) {
        bert_entry entry = table[(unsigned char)text[i]];
        if (bert_entry_kind(entry) != BERT_WORD)
            break;
        if (w->word_chars < max)
            w->word[w->word_length++] = (char)bert_entry_char(entry);
        w->word_chars++;
    }
    return i;
}

/* True once a further token than are kept is certain: a word that has begun is at least one. */
static bool is_cut(const walk *w)
{
    return w->sink->count + (w->word_chars > 0) > w->sink->limit;
}

static bool walk_text(walk *w, text_scratch *scratch, const char *text, size_t length)
{
    bool ok = true;
    w->marks = text_scratch_take_marks(scratch);
    for (size_t i = 0; ok && i < length;) {
        if (w->sink != NULL && is_cut(w))
            break;
        if (w->sink != NULL && w->marks.count == 0 && w->sink->count < w->sink->limit) {
            i = add_ascii_word(w, text, length, i);
            if (i == length)
                break;
        }
        uint32_t code;
        i += utf8_decode(text + i, length - i, &code);
        ok = put_entry(w, code, bert_lookup(w->chars, code));
    }
    ok = ok && end_marks(w) && (w->sink == NULL || end_word(w));
    text_scratch_give_marks(scratch, w->marks);
    return ok;
}

static sem_status encode_with(const bert_text *t, const bert_chars *chars, const char *text, size_t length,
                              token_sink *sink, sem_error *err)
{
    walk w;
    w.chars = chars;
    w.words = &t->words;
    w.sink = sink;
    w.collected = NULL;
    w.word_length = w.word_chars = 0;
    return walk_text(&w, sink->scratch, text, length) ? SEM_OK : sem_fail_memory(err, "the tokens of a text");
}

static sem_status encode(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                         sem_error *err)
{
    (void)first;
    const bert_text *t = state;
    return encode_with(t, &t->chars, text, length, sink, err);
}

static sem_status encode_normalized(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                                    sem_error *err)
{
    (void)first;
    const bert_text *t = state;
    return encode_with(t, &t->normalized, text, length, sink, err);
}

bool bert_normalize(const bert_chars *chars, const char *text, size_t length, text_scratch *scratch, buffer *out)
{
    walk w = {.chars = chars, .collected = out};
    return walk_text(&w, scratch, text, length);
}

static sem_status normalize(const void *state, const char *text, size_t length, text_scratch *scratch, buffer *out,
                            bool *first, sem_error *err)
{
    (void)first;
    const bert_text *t = state;
    return bert_normalize(&t->chars, text, length, scratch, out) ? SEM_OK : sem_fail_memory(err, "a normalized text");
}

static void destroy(void *state)
{
    bert_text *t = state;
    if (t == NULL)
        return;
    bert_chars_free(&t->chars);
    bert_chars_free(&t->normalized);
    wordpiece_free(&t->words);
    free(t);
}

/* strip_accents null means: as lowercase says. */
sem_status bert_rules_read(bert_rules *out, const json_t *normalizer, const char *where, sem_error *err)
{
    bert_rules rules = {true, true, true, true};
    sem_status status = json_get_bool(normalizer, where, "clean_text", false, &rules.clean_text, err);
    if (status == SEM_OK)
        status = json_get_bool(normalizer, where, "handle_chinese_chars", false, &rules.handle_chinese_chars, err);
    if (status == SEM_OK)
        status = json_get_bool(normalizer, where, "lowercase", false, &rules.lowercase, err);
    rules.strip_accents = rules.lowercase;
    if (status == SEM_OK)
        status = json_get_bool(normalizer, where, "strip_accents", false, &rules.strip_accents, err);
    if (status == SEM_OK)
        *out = rules;
    return status;
}

static bool has_type(const json_t *object, const char *type)
{
    const char *found = json_string_value(json_object_get(object, "type"));
    return found != NULL && strcmp(found, type) == 0;
}

bool bert_text_fits(const json_t *root)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    bool normal = normalizer == NULL || json_is_null(normalizer) || has_type(normalizer, "BertNormalizer");
    return normal && has_type(json_object_get(root, "pre_tokenizer"), "BertPreTokenizer");
}

sem_status bert_text_create(token_model *out, const json_t *root, const char *where, sem_error *err)
{
    const bert_rules none = {false, false, false, false};
    bert_rules rules = none;
    const json_t *normalizer = json_object_get(root, "normalizer");
    bert_text *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a tokenizer");
    sem_status status = SEM_OK;
    if (normalizer != NULL && !json_is_null(normalizer))
        status = bert_rules_read(&rules, normalizer, where, err);
    if (status == SEM_OK)
        status = bert_chars_create(&t->chars, &rules, err);
    if (status == SEM_OK)
        status = bert_chars_create(&t->normalized, &none, err);
    if (status == SEM_OK)
        status = wordpiece_create(&t->words, json_object_get(root, "model"), where, err);
    if (status != SEM_OK) {
        destroy(t);
        return status;
    }
    *out = (token_model){t, encode, normalize, encode_normalized, destroy};
    return SEM_OK;
}
