#include "daemon/batch.h"

#include "base/clock.h"

enum {
    SMALL_ENCODE_TEXTS = 8,    /* an encode of at most so many texts, */
    SMALL_ENCODE_TOKENS = 512, /* and of at most about so many tokens, counts as a query */
    TEXT_TOKENS_MAX = 512,     /* longer texts are cut by most models */
    BYTES_PER_TOKEN = 4,       /* in English, as most tokenizers cut it */
    SPECIAL_TOKENS = 2,        /* around each text */
    CLASSES = 16,              /* of length: powers of two */
    OVERDUE = 0,
    NEVER = CLASSES + 1 /* distances; like lengths are at 1 */
};

static size_t text_tokens(const span *text)
{
    size_t tokens = text->size / BYTES_PER_TOKEN + SPECIAL_TOKENS;
    return tokens < TEXT_TOKENS_MAX ? tokens : TEXT_TOKENS_MAX;
}

static uint8_t class_of(size_t tokens)
{
    uint8_t class = 0;
    while (tokens >>= 1)
        class ++;
    return class;
}

void batch_measure(task *t)
{
    const request *r = t->request;
    const span *texts = NULL;
    size_t count = 0, total = 0, longest = 0;
    if (r->method == METHOD_SEARCH && r->u.search.query.data != NULL && r->u.search.mode != SEARCH_LEXICAL) {
        texts = &r->u.search.query;
        count = 1;
    } else if (r->method == METHOD_ENCODE && r->u.encode.count <= SMALL_ENCODE_TEXTS) {
        texts = r->u.encode.texts;
        count = r->u.encode.count;
    }
    for (size_t i = 0; i < count; i++) {
        size_t tokens = text_tokens(&texts[i]);
        total += tokens;
        longest = tokens > longest ? tokens : longest;
    }
    if (total > SMALL_ENCODE_TOKENS)
        total = 0;
    t->batch_tokens = (uint32_t)total;
    t->length_class = class_of(longest);
}

static uint8_t distance(const batch_choice *c, const task *t)
{
    if (t->batch_tokens == 0)
        return NEVER;
    if (t->arrived_ns < c->overdue)
        return OVERDUE;
    int apart = (int)t->length_class - (int)c->first->length_class;
    return (uint8_t)(1 + (apart < 0 ? -apart : apart));
}

void batch_choose(void *context, void *const *items, size_t count, size_t idle, bool *take)
{
    const batch_choice *c = context;
    uint8_t distances[QUEUE_WINDOW];
    size_t first = c->first->batch_tokens, total = first;
    for (size_t i = 0; i < count; i++) {
        const task *t = items[i];
        distances[i] = distance(c, t);
        total += t->batch_tokens;
    }
    size_t share = (total + idle) / (idle + 1), most = share < c->budget ? share : c->budget;
    size_t room = most > first ? most - first : 0;
    for (uint8_t d = OVERDUE; d < NEVER && room > 0; d++)
        for (size_t i = 0; i < count; i++) {
            const task *t = items[i];
            if (distances[i] != d || t->batch_tokens > room)
                continue;
            take[i] = true;
            room -= t->batch_tokens;
        }
}

size_t batch_collect(core *c, task *first, task **tasks)
{
    uint64_t now = clock_monotonic_ns(), patience = c->settings.encode.batch_deadline_ms * 1000000u;
    batch_choice choice = {
        .first = first, .budget = c->settings.encode.token_budget, .overdue = now > patience ? now - patience : 0};
    tasks[0] = first;
    return 1 + queue_take_chosen(c->work, QUEUE_FAST, batch_choose, &choice, (void **)tasks + 1);
}
