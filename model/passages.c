#include "model/passages.h"

#include "base/checked.h"
#include "model/sentences.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A unit has at least so many bytes, so that a text of full stops alone does not ask the
 * tokenizer for each of them. */
enum { UNIT_BYTES = 24 };

/* A sentence that is too long is cut into so many parts a passage: the fewer, the less
 * exactly passages are filled and overlap. The first try takes so many bytes a token. */
enum { PARTS = 8, BYTES_A_TOKEN = 4 };

/* With less room than this beside prompt and special tokens passages would be crumbs. */
enum { ROOM_MIN = 8 };

/* Half a millisecond's work or so: what waits for a pause has waited longer for the network. */
enum { PAUSE_BYTES = 16 << 10 };

/* A sentence (or several short ones, or a part of a long one), with the white space before it. */
typedef struct passage_unit {
    uint32_t from, to;
    uint32_t tokens;
} unit;

typedef struct cutting {
    passage_cutter *c;
    const tokenizer *tokens;
    const char *prompt;
    const char *text;
    size_t length;
    size_t special; /* tokens */
    size_t before;  /* tokens of the prompt */
    size_t limit;   /* tokens of a passage's text */
    size_t overlap;
    const passage_limits *limits; /* as they were given */
    size_t worked;                /* bytes tokenized since the last one */
} cutting;

void passage_cutter_free(passage_cutter *c)
{
    free(c->passages);
    free(c->units);
    token_batch_free(&c->counted);
    *c = (passage_cutter){0};
}

static sem_status pause_now_and_then(cutting *k, size_t bytes, sem_error *err)
{
    k->worked += bytes;
    if (k->worked < PAUSE_BYTES || k->limits->between == NULL)
        return SEM_OK;
    k->worked = 0;
    return k->limits->between(k->limits->context) ? SEM_OK : sem_fail(err, SEM_CANCELLED, "cutting was cancelled");
}

/* Tokens of text from..to behind a prompt, without special ones; *over: there are more
 * than `limit`, and how many is not told. */
static sem_status count_tokens(cutting *k, const char *prompt, size_t from, size_t to, size_t limit, size_t *count,
                               bool *over, sem_error *err)
{
    token_batch *b = &k->c->counted;
    const char *text = k->text + from;
    size_t length = to - from, before = strlen(prompt);
    sem_status status = pause_now_and_then(k, length, err);
    if (status != SEM_OK)
        return status;
    token_batch_clear(b);
    if (before > 0) {
        char *joined = token_batch_room(b, before + length);
        if (joined == NULL)
            return sem_fail_memory(err, "a passage with its prompt");
        memcpy(joined, prompt, before);
        memcpy(joined + before, text, length);
        text = joined;
        length += before;
    }
    status = tokenizer_encode(k->tokens, text, length, limit + k->special, b, over, err);
    *count = status == SEM_OK ? b->tokens - k->special : 0;
    return status;
}

static bool grow(void *array, size_t *capacity, size_t count, size_t size)
{
    void **place = array;
    if (count < *capacity)
        return true;
    size_t wanted = count < 16 ? 16 : count + count / 2;
    void *grown = checked_realloc(*place, wanted, size);
    if (grown == NULL)
        return false;
    *place = grown;
    *capacity = wanted;
    return true;
}

static sem_status add_unit(cutting *k, size_t from, size_t to, size_t tokens, sem_error *err)
{
    passage_cutter *c = k->c;
    if (!grow(&c->units, &c->unit_capacity, c->unit_count, sizeof *c->units))
        return sem_fail_memory(err, "the sentences of a text");
    c->units[c->unit_count++] = (unit){(uint32_t)from, (uint32_t)to, (uint32_t)tokens};
    return SEM_OK;
}

/* Passages are added in order. One that would only repeat what the last one has is none,
 * and one that has all of the last takes its place: what an overlap added was white space,
 * or what followed it was cut shorter than the overlap. */
static sem_status add_passage(cutting *k, size_t from, size_t to, sem_error *err)
{
    passage_cutter *c = k->c;
    passage *last = c->count > 0 ? &c->passages[c->count - 1] : NULL;
    from = sentence_trim(k->text, from, &to);
    if (from == to || (last != NULL && to <= last->to))
        return SEM_OK;
    if (last != NULL && from <= last->from) {
        last->to = (uint32_t)to;
        return SEM_OK;
    }
    if (!grow(&c->passages, &c->capacity, c->count, sizeof *c->passages))
        return sem_fail_memory(err, "the passages of a text");
    c->passages[c->count++] = (passage){(uint32_t)from, (uint32_t)to};
    return SEM_OK;
}

/* --- units */

/* Parts of a sentence that is longer than a passage. A part that has too many tokens is
 * halved until it has not: all tries together read a few times what the last one does. */
static sem_status add_parts(cutting *k, size_t from, size_t to, sem_error *err)
{
    size_t target = k->limit / PARTS > 0 ? k->limit / PARTS : 1, size = target * BYTES_A_TOKEN;
    while (from < to) {
        size_t end = sentence_cut(k->text, to, from, size), tokens;
        bool over;
        sem_status status = count_tokens(k, "", from, end, target, &tokens, &over, err);
        if (status != SEM_OK)
            return status;
        if (over && size > 1) {
            size /= 2;
            continue;
        }
        status = add_unit(k, from, end, tokens, err);
        if (status != SEM_OK)
            return status;
        from = end;
        size = target * BYTES_A_TOKEN;
    }
    return SEM_OK;
}

static sem_status find_units(cutting *k, sem_error *err)
{
    k->c->unit_count = 0;
    for (size_t from = 0, end; from < k->length; from = end) {
        size_t tokens;
        bool over;
        for (end = from; end < k->length && end - from < UNIT_BYTES;)
            end = sentence_end(k->text, k->length, end);
        sem_status status = count_tokens(k, "", from, end, k->limit, &tokens, &over, err);
        if (status == SEM_OK)
            status = over ? add_parts(k, from, end, err) : add_unit(k, from, end, tokens, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* --- passages */

/* Whether a passage of these bytes is short enough indeed: the tokens of a whole are not
 * always the sum of its parts'. */
static sem_status check_fit(cutting *k, size_t from, size_t to, bool *fits, sem_error *err)
{
    size_t count;
    bool over = false;
    from = sentence_trim(k->text, from, &to);
    sem_status status = count_tokens(k, k->prompt, from, to, k->before + k->limit, &count, &over, err);
    *fits = !over;
    return status;
}

/* One unit alone does not fit: a part of it that does becomes a passage, the unit keeps the rest. */
static sem_status split_unit(cutting *k, unit *u, sem_error *err)
{
    bool fits = false;
    size_t end = u->to;
    for (size_t size = u->to - u->from; !fits && size > 1;) {
        size /= 2;
        end = sentence_cut(k->text, u->to, u->from, size);
        sem_status status = check_fit(k, u->from, end, &fits, err);
        if (status != SEM_OK)
            return status;
    }
    sem_status status = add_passage(k, u->from, end, err);
    u->from = (uint32_t)end;
    return status;
}

/* The end of the units from `first` on that fit into a passage by their sum. */
static size_t fill(const cutting *k, size_t first)
{
    const unit *u = k->c->units;
    size_t sum = u[first].tokens, end = first + 1;
    while (end < k->c->unit_count && sum + u[end].tokens <= k->limit)
        sum += u[end++].tokens;
    return end;
}

/* Where the passage after one that ended at `end` begins: as many units back as the
 * overlap allows, but with room for the unit at `end`. */
static size_t step_back(const cutting *k, size_t first, size_t end)
{
    const unit *u = k->c->units;
    size_t sum = 0, back = end;
    while (back > first + 1 && sum + u[back - 1].tokens <= k->overlap &&
           sum + u[back - 1].tokens + u[end].tokens <= k->limit)
        sum += u[--back].tokens;
    return back;
}

static size_t share(size_t units)
{
    return (units + PARTS - 1) / PARTS;
}

/* Makes a passage of units from *first on that ends beyond *covered, and sets both for the next. */
static sem_status make_passage(cutting *k, size_t *first, size_t *covered, sem_error *err)
{
    unit *u = k->c->units;
    size_t end = fill(k, *first);
    bool fits = false;
    for (;;) {
        sem_status status = check_fit(k, u[*first].from, u[end - 1].to, &fits, err);
        if (status != SEM_OK)
            return status;
        if (fits)
            break;
        /* The overlap gives way before the last unit that is new does. An eighth at a time, so
         * that a tokenizer to which sums mean nothing is not asked for each unit. */
        if (end - 1 > *covered)
            end -= share(end - 1 - *covered);
        else if (*first < *covered)
            *first += share(*covered - *first);
        else
            return split_unit(k, &u[*first], err);
    }
    sem_status status = add_passage(k, u[*first].from, u[end - 1].to, err);
    *covered = end;
    *first = end < k->c->unit_count ? step_back(k, *first, end) : end;
    return status;
}

static sem_status measure(cutting *k, sem_error *err)
{
    const passage_limits *limits = k->limits;
    bool over;
    token_batch_clear(&k->c->counted);
    /* The special tokens are those of an empty text. */
    sem_status status = tokenizer_encode(k->tokens, "", 0, SIZE_MAX, &k->c->counted, NULL, err);
    if (status != SEM_OK)
        return status;
    k->special = k->c->counted.tokens;
    status = count_tokens(k, k->prompt, 0, 0, limits->max_tokens, &k->before, &over, err);
    if (status != SEM_OK)
        return status;
    size_t used = k->special + k->before;
    if (used + ROOM_MIN > limits->max_tokens)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "the model takes %zu tokens, of which prompt and special tokens are %zu; a passage needs %d",
                        limits->max_tokens, used, ROOM_MIN);
    size_t room = limits->max_tokens - used;
    k->limit = limits->tokens < room ? limits->tokens : room;
    k->overlap = limits->overlap < k->limit / 2 ? limits->overlap : k->limit / 2;
    return SEM_OK;
}

sem_status passages_cut(passage_cutter *c, const tokenizer *t, const char *prompt, const passage_limits *limits,
                        const char *text, size_t length, sem_error *err)
{
    cutting k = {
        .c = c, .tokens = t, .prompt = prompt != NULL ? prompt : "", .text = text, .length = length, .limits = limits};
    bool whole = false;
    c->count = 0;
    if (length > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a text of %zu bytes; passages are cut of at most %u", length,
                        UINT32_MAX);
    sem_status status = measure(&k, err);
    if (status == SEM_OK)
        status = check_fit(&k, 0, length, &whole, err);
    if (status == SEM_OK && whole)
        status = add_passage(&k, 0, length, err);
    else if (status == SEM_OK)
        status = find_units(&k, err);
    for (size_t first = 0, covered = 0; status == SEM_OK && !whole && first < c->unit_count;)
        status = make_passage(&k, &first, &covered, err);
    if (status != SEM_OK || c->count > 0)
        return status;
    if (!grow(&c->passages, &c->capacity, 0, sizeof *c->passages))
        return sem_fail_memory(err, "the passages of a text");
    c->passages[c->count++] = (passage){0, 0};
    return SEM_OK;
}
