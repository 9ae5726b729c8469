#include "finetune/mine_set.h"

#include "base/checked.h"
#include "finetune/data_reader.h"

#include <stdlib.h>

void mine_set_free(mine_set *s)
{
    example_list_free(&s->owned);
    free(s->pairs);
    free(s->queries);
    free(s->documents);
    free(s->document_forms);
    free(s->positives);
    free(s->labels);
    *s = (mine_set){0};
}

/* --- numbers for equal things */

typedef struct numbering {
    uint64_t key;
    uint32_t example;
} numbering;

static int compare_numbering(const void *a, const void *b)
{
    const numbering *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->example < y->example ? -1 : x->example > y->example;
}

/* Numbers the examples by a key, and gives the text of the first of each. */
static sem_status number(mine_set *s, bool anchors, data_text **texts, size_t *count, sem_error *err)
{
    const size_t pairs = s->pair_count;
    numbering *all = checked_realloc(NULL, pairs, sizeof *all);
    *texts = checked_realloc(NULL, pairs, sizeof **texts);
    if (all == NULL || *texts == NULL) {
        free(all);
        return sem_fail_memory(err, "the pairs of a set");
    }
    for (size_t i = 0; i < pairs; i++) {
        const example *e = s->pairs[i].example;
        all[i] = (numbering){.key = anchors ? e->anchor_key : e->positive_key, .example = (uint32_t)i};
    }
    qsort(all, pairs, sizeof *all, compare_numbering);
    for (size_t i = 0; i < pairs; i++) {
        mine_pair *p = &s->pairs[all[i].example];
        if (i == 0 || all[i].key != all[i - 1].key)
            (*texts)[(*count)++] = anchors ? p->example->anchor : p->example->positive;
        *(anchors ? &p->query : &p->document) = (uint32_t)(*count - 1);
    }
    free(all);
    return SEM_OK;
}

/* --- facts */

static int compare_facts(const void *a, const void *b)
{
    const mine_fact *x = a, *y = b;
    if (x->of != y->of)
        return x->of < y->of ? -1 : 1;
    return x->is < y->is ? -1 : x->is > y->is;
}

static bool is_fact(const mine_fact *facts, size_t count, mine_fact wanted)
{
    return count > 0 && bsearch(&wanted, facts, count, sizeof wanted, compare_facts) != NULL;
}

bool mine_set_is_positive(const mine_set *s, const example *anchor, uint32_t document)
{
    return is_fact(s->positives, 2 * s->pair_count, (mine_fact){anchor->anchor_key, document}) ||
           is_fact(s->positives, 2 * s->pair_count, (mine_fact){mine_form(anchor->anchor), document});
}

bool mine_set_has_label(const mine_set *s, uint32_t document, uint64_t label)
{
    return is_fact(s->labels, s->label_count, (mine_fact){document, label});
}

uint64_t mine_form(data_text text)
{
    /* FNV-1a (Fowler, Noll and Vo 1991), for it takes bytes one by one. */
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        if (c == ' ' || (c >= '\t' && c <= '\r'))
            continue;
        c = (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        hash = (hash ^ c) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static sem_status find_facts(mine_set *s, sem_error *err)
{
    s->positives = checked_realloc(NULL, s->pair_count, 2 * sizeof *s->positives);
    s->labels = checked_realloc(NULL, s->pair_count, sizeof *s->labels);
    s->document_forms = checked_realloc(NULL, s->document_count, sizeof *s->document_forms);
    if (s->positives == NULL || s->labels == NULL || s->document_forms == NULL)
        return sem_fail_memory(err, "the pairs of a set");
    for (size_t i = 0; i < s->pair_count; i++) {
        const mine_pair *p = &s->pairs[i];
        s->positives[2 * i] = (mine_fact){p->example->anchor_key, p->document};
        s->positives[2 * i + 1] = (mine_fact){mine_form(p->example->anchor), p->document};
        if (p->example->label_key != 0)
            s->labels[s->label_count++] = (mine_fact){p->document, p->example->label_key};
    }
    qsort(s->positives, 2 * s->pair_count, sizeof *s->positives, compare_facts);
    qsort(s->labels, s->label_count, sizeof *s->labels, compare_facts);
    for (size_t i = 0; i < s->document_count; i++)
        s->document_forms[i] = mine_form(s->documents[i]);
    return SEM_OK;
}

static sem_status arrange(mine_set *s, const char *name, sem_error *err)
{
    s->pair_count = s->owned.count;
    if (s->pair_count == 0 || s->pair_count > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s holds %zu pairs (allowed: 1 to %u)", name,
                        s->pair_count, UINT32_MAX);
    s->pairs = checked_realloc(NULL, s->pair_count, sizeof *s->pairs);
    if (s->pairs == NULL)
        return sem_fail_memory(err, "the pairs of a set");
    for (size_t i = 0; i < s->pair_count; i++)
        s->pairs[i] = (mine_pair){.example = s->owned.items[i]};
    sem_status status = number(s, true, &s->queries, &s->query_count, err);
    if (status == SEM_OK)
        status = number(s, false, &s->documents, &s->document_count, err);
    return status == SEM_OK ? find_facts(s, err) : status;
}

sem_status mine_set_load(mine_set *out, const data_options *data, sem_error *err)
{
    *out = (mine_set){0};
    if (data->form == DATA_LABELLED || data->form == DATA_STS)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data set %s: pairs are needed, and form %s has none (allowed: pairs, parallel, columns)",
                        data->name, data_form_name(data->form));
    sem_status status = data_reader_all(data, &out->owned, err);
    if (status == SEM_OK)
        status = arrange(out, data->name, err);
    if (status != SEM_OK)
        mine_set_free(out);
    return status;
}
