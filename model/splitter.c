#include "model/splitter.h"

#include "base/buffer.h"
#include "base/utf8.h"
#include "model/characters.h"
#include "model/splitter_steps.h"

#include <stdlib.h>
#include <string.h>

typedef struct split_run {
    const splitter *s;
    const token_sink *sink;
    splitter_put *put;
    void *context;
    buffer *work; /* [steps] of each step: a piece that it has changed */
} split_run;

static bool descend(split_run *r, size_t step, const char *text, size_t length, bool first);

/* --- splitting at matches */

/* Pieces of one text as they are found, handed on once it is clear that they grow no more. */
typedef struct pieces {
    split_run *r;
    size_t step;
    const char *text;
    bool first;
    split_behavior behavior;
    bool waiting; /* [from, to) */
    size_t from, to;
    bool match; /* the last piece was one */
} pieces;

static bool flush(pieces *p)
{
    bool ok = !p->waiting || descend(p->r, p->step + 1, p->text + p->from, p->to - p->from, p->first && p->from == 0);
    p->waiting = false;
    return ok;
}

static bool add_piece(pieces *p, size_t from, size_t to, bool match)
{
    if (from == to)
        return true;
    bool joins = false;
    switch (p->behavior) {
    case SPLIT_REMOVED:
        if (match)
            return true;
        break;
    case SPLIT_ISOLATED: break;
    case SPLIT_MERGED_WITH_PREVIOUS: joins = match && !p->match; break;
    case SPLIT_MERGED_WITH_NEXT: joins = !match && p->match; break;
    case SPLIT_CONTIGUOUS: joins = match == p->match; break;
    }
    p->match = match;
    if (joins && p->waiting) {
        p->to = to;
        return true;
    }
    bool ok = flush(p);
    p->waiting = true;
    p->from = from;
    p->to = to;
    return ok;
}

static bool find_match(const splitter_step *s, const char *text, size_t length, size_t i, size_t *from, size_t *to)
{
    if (s->kind == SPLIT_CHARS)
        return char_pattern_find(&s->chars, text, length, i, from, to);
    if (s->kind == SPLIT_WORDS) {
        *from = i;
        *to = word_pattern_end(&s->words, text, length, i);
        return true;
    }
    const char *found = memmem(text + i, length - i, s->text, strlen(s->text));
    if (found == NULL)
        return false;
    *from = (size_t)(found - text);
    *to = *from + strlen(s->text);
    return true;
}

static bool split_at_matches(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    const splitter_step *s = &r->s->steps[step];
    pieces p = {.r = r, .step = step, .text = text, .first = first, .behavior = s->behavior};
    size_t i = 0, from, to;
    bool ok = true;
    while (ok && i < length && !token_sink_full(r->sink) && find_match(s, text, length, i, &from, &to)) {
        ok = add_piece(&p, i, from, s->invert) && add_piece(&p, from, to, !s->invert);
        i = to;
    }
    if (token_sink_full(r->sink))
        return ok;
    return ok && add_piece(&p, i, length, s->invert) && flush(&p);
}

/* \w+|[^\w\s]+ */
static bool split_whitespace(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    enum { SPACE, WORD, OTHER } last = SPACE;
    size_t start = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < length && !token_sink_full(r->sink);) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        int now = char_is_word(code) ? WORD : char_is_white_space(code) ? SPACE : OTHER;
        if (now != (int)last) {
            ok = last == SPACE || descend(r, step + 1, text + start, i - start, first && start == 0);
            start = i;
            last = now;
        }
        i += n;
    }
    return ok && (last == SPACE || descend(r, step + 1, text + start, length - start, first && start == 0));
}

/* --- steps that change the text */

static bool split_words(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    const splitter_step *s = &r->s->steps[step];
    bool ok = true;
    for (size_t i = 0; ok && i < length && !token_sink_full(r->sink);) {
        size_t end = s->use_words ? word_pattern_end(&s->words, text, length, i) : length;
        ok = descend(r, step + 1, text + i, end - i, first && i == 0);
        i = end;
    }
    return ok;
}

static bool split_bytes(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    const splitter_step *s = &r->s->steps[step];
    if (!s->add_prefix_space || text[0] == ' ')
        return split_words(r, step, text, length, first);
    buffer *spaced = &r->work[step];
    spaced->size = 0;
    return buffer_append(spaced, " ", 1) && buffer_append(spaced, text, length) &&
           split_words(r, step, (const char *)spaced->data, spaced->size, first);
}

static bool hand_on(split_run *r, size_t step, bool *first)
{
    buffer *word = &r->work[step];
    bool ok = word->size == 0 || descend(r, step + 1, (const char *)word->data, word->size, *first);
    *first = *first && word->size == 0;
    word->size = 0;
    return ok;
}

/* Spaces become marks, a marker goes in front, and every marker begins a word. */
static bool split_metaspace(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    const splitter_step *s = &r->s->steps[step];
    const char *marker = s->text;
    const size_t bytes = strlen(marker);
    buffer *word = &r->work[step];
    word->size = 0;
    bool marked = text[0] == ' ' || (length >= bytes && memcmp(text, marker, bytes) == 0);
    bool prepend = !marked && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first));
    bool ok = !prepend || buffer_append(word, marker, bytes);
    for (size_t i = 0; ok && i < length && !token_sink_full(r->sink);) {
        bool space = text[i] == ' ';
        if (space || (length - i >= bytes && memcmp(text + i, marker, bytes) == 0)) {
            ok = (!s->split || hand_on(r, step, &first)) && buffer_append(word, marker, bytes);
            i += space ? 1 : bytes;
            continue;
        }
        size_t end = i + 1;
        while (end < length && text[end] != ' ' && text[end] != marker[0])
            end++;
        ok = buffer_append(word, text + i, end - i);
        i = end;
    }
    return ok && hand_on(r, step, &first);
}

static bool descend(split_run *r, size_t step, const char *text, size_t length, bool first)
{
    if (length == 0 || token_sink_full(r->sink))
        return true;
    if (step == r->s->count)
        return r->put(r->context, text, length);
    switch (r->s->steps[step].kind) {
    case SPLIT_CHARS:
    case SPLIT_TEXT:
    case SPLIT_WORDS: return split_at_matches(r, step, text, length, first);
    case SPLIT_WHITESPACE: return split_whitespace(r, step, text, length, first);
    case SPLIT_BYTES: return split_bytes(r, step, text, length, first);
    case SPLIT_METASPACE: break;
    }
    return split_metaspace(r, step, text, length, first);
}

bool splitter_run(const splitter *s, const char *text, size_t length, bool first, const token_sink *sink,
                  splitter_put *put, void *context)
{
    buffer *work = &sink->scratch->buffers[TEXT_SPLIT];
    split_run r = {.s = s, .sink = sink, .put = put, .context = context, .work = work};
    return descend(&r, 0, text, length, first);
}

/* Metaspace begins a word at every space; all expressions of words (word_pattern.h) let
 * a letter's word end before a space and take the space to the letter behind it; so does
 * not everything else, of which only removed white space before Metaspace is known. */
bool splitter_is_local(const splitter *s)
{
    if (s->count == 0 || s->count > 2)
        return false;
    const splitter_step *first = &s->steps[0], *last = &s->steps[s->count - 1];
    bool marks = last->kind == SPLIT_METASPACE && last->split, bytes = last->kind == SPLIT_BYTES;
    if (s->count == 1)
        return marks || (bytes && last->use_words);
    if (first->kind == SPLIT_WORDS)
        return bytes && first->behavior == SPLIT_ISOLATED && !first->invert;
    bool removed = first->kind == SPLIT_CHARS && first->behavior == SPLIT_REMOVED && !first->invert &&
                   char_pattern_has(&first->chars, ' ');
    for (uint32_t c = 'A'; removed && c <= 'z'; c++)
        removed = (c > 'Z' && c < 'a') || !char_pattern_has(&first->chars, c);
    return marks && removed;
}
